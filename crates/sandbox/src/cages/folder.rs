//! A session's folder on the host: its files, its uploads, its journal, and the trace of a
//! process that works in it.
//!
//! ```text
//! sandboxes/<session>/tree/{workspace,mnt,tmp,home,root}   what its tools write
//!                    /uploads                              what the user provides, read-only inside
//!                    /journal                              what is known of calls
//!                    /authorities                          whom its cage trusts
//! sandboxes/.live/<session>                                the process of its cage
//! ```
//! What is below `tree` belongs to the session's tools and is only looked at through
//! [`crate::tree`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::Refused;
use crate::{
    launcher,
    settings::{Isolation, Settings},
    tree,
};

/// The folders of a tree, and where each is inside.
pub(super) const WRITABLE: [(&str, &str); 5] = [
    ("workspace", "/workspace"),
    ("mnt", "/mnt"),
    ("tmp", "/tmp"),
    ("home", "/home/agent"),
    ("root", "/root"),
];
/// Folders that are there from the start.
const FOLDERS: [&str; 7] =
    ["workspace", "mnt", "tmp", "home", "root", "mnt/session/uploads", "mnt/session/outputs"];
const UPLOADS: &str = "/mnt/session/uploads";
/// The folder that was made in advance.
const SPARE: &str = ".spare";
/// How long the process of a former life may take to be gone after it was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file that the user provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is inside, below `/mnt/session/uploads`.
    pub path: PathBuf,
    /// Where it is found, too: the path as the user wrote it.
    pub literal: Option<PathBuf>,
    /// Its content on the host, which nobody changes.
    pub source: PathBuf,
}

/// A session's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    live: PathBuf,
    isolation: Isolation,
}

impl Folder {
    /// The folder of a session.
    pub(super) fn of(settings: &Settings, session: &str) -> Result<Self, Refused> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        if session.is_empty() || session.len() > 128 || !session.chars().all(plain) {
            return Err(Refused::NoSession(session.to_owned()));
        }
        let sandboxes = &settings.folder;
        Ok(Self {
            path: sandboxes.join(session),
            live: sandboxes.join(".live").join(session),
            isolation: settings.isolation,
        })
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        match self.isolation {
            Isolation::Namespaces => self.path.join("uploads"),
            // Nothing is mounted there, so they lie where they are to be seen.
            Isolation::None => self.tree().join(UPLOADS.trim_start_matches('/')),
        }
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The file of those whom a cage trusts.
    pub(super) fn authorities(&self) -> PathBuf {
        self.path.join("authorities")
    }

    /// Makes that file, for everybody to read.
    pub(super) fn write_authorities(&self, text: &[u8]) -> io::Result<()> {
        let path = self.authorities();
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
    }

    /// Makes what is missing. True when the session had none before. No cage of it may be alive.
    pub(super) fn make(&self, owner: Option<u32>) -> io::Result<bool> {
        if self.exists() {
            return self.fill(owner).map(|()| false);
        }
        // Complete or not there: what a crash leaves of it is deleted at the next start.
        let mut partial = self.path.clone().into_os_string();
        partial.push(".new.deleted");
        let partial = Self { path: partial.into(), ..self.clone() };
        if partial.exists() {
            fs::remove_dir_all(&partial.path)?;
        }
        // Making folders is slow on some file systems, and one was made in advance.
        match fs::rename(self.spare(), &partial.path) {
            Ok(()) => partial.own(owner)?,
            Err(_) => partial.fill(owner)?,
        }
        fs::rename(&partial.path, &self.path)?;
        Ok(true)
    }

    /// Makes a folder in advance for a session to come, if there is none.
    pub(super) fn make_spare(&self) -> io::Result<()> {
        let spare = self.spare();
        if spare.exists() {
            return Ok(());
        }
        // Complete or not there; two who make one at the same time make it for one of them.
        let partial = spare.with_extension(format!("{:?}.deleted", thread::current().id()));
        Self { path: partial.clone(), ..self.clone() }.fill(None)?;
        match fs::rename(&partial, &spare) {
            Ok(()) => Ok(()),
            Err(_) => fs::remove_dir_all(&partial),
        }
    }

    fn spare(&self) -> PathBuf {
        self.path.with_file_name(SPARE)
    }

    /// Gives a fresh tree to the one whose it is.
    fn own(&self, owner: Option<u32>) -> io::Result<()> {
        let Some(id) = owner else { return Ok(()) };
        let tree = self.tree();
        let parts = FOLDERS.iter().chain(&["mnt/session"]);
        parts
            .copied()
            .try_for_each(|part| std::os::unix::fs::lchown(tree.join(part), Some(id), Some(id)))
    }

    fn fill(&self, owner: Option<u32>) -> io::Result<()> {
        let private = |path: &Path| fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
        private(&self.path)?;
        fs::DirBuilder::new().mode(0o755).recursive(true).create(self.tree())?;
        fs::DirBuilder::new().mode(0o755).recursive(true).create(self.uploads())?;
        // Whatever stands in the place of a folder is the tools' doing, and is not followed.
        let owner = owner.map(|id| (id, id));
        tree::Tree::open(&self.tree())?.ensure_folders(&FOLDERS.map(Path::new), 0o755, owner)?;
        Ok(())
    }

    /// Makes the uploads what they should be. What stays is not touched, so that a file that a
    /// tool has open stays as it is.
    pub(super) fn mount(&self, mounts: &[Mount]) -> io::Result<()> {
        let uploads = self.uploads();
        let wanted: BTreeMap<PathBuf, &Path> = mounts
            .iter()
            .filter_map(|mount| {
                let below = below_uploads(&mount.path)?;
                Some((below, mount.source.as_path()))
            })
            .collect();
        let folders: BTreeSet<&Path> =
            wanted.keys().flat_map(|path| path.ancestors().skip(1)).collect();
        clear(&uploads, Path::new(""), &wanted, &folders)?;
        for (path, source) in &wanted {
            let target = uploads.join(path);
            if target.exists() {
                continue;
            }
            if let Some(parent) = target.parent() {
                fs::DirBuilder::new().mode(0o755).recursive(true).create(parent)?;
            }
            // Complete or not there: a copy takes its name when it is whole.
            if fs::hard_link(source, &target).is_err() {
                let partial = self.path.join("upload.partial");
                fs::copy(source, &partial)?;
                fs::set_permissions(&partial, fs::Permissions::from_mode(0o444))?;
                fs::rename(&partial, &target)?;
            }
        }
        Ok(())
    }

    /// Notes the links that the next cage makes. Returns those of the cage before that nobody
    /// wants any more.
    pub(super) fn replace_links(&self, links: &[Link]) -> io::Result<Vec<PathBuf>> {
        let path = self.path.join("links");
        let before: Vec<Link> = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        if before == links {
            return Ok(Vec::new());
        }
        fs::write(&path, serde_json::to_vec(links)?)?;
        let gone = before.into_iter().map(|(link, _)| link);
        Ok(gone.filter(|link| !links.iter().any(|(wanted, _)| wanted == link)).collect())
    }

    /// Notes the process that works in it.
    pub(super) fn note(&self, pid: u32) -> io::Result<()> {
        if let Some(folder) = self.live.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.live, format!("{pid} {}", born(pid).unwrap_or_default()))
    }

    /// Forgets the process, and whom its cage has trusted.
    pub(super) fn forget(&self) {
        // The next cage has a file of its own.
        let _ = fs::remove_file(self.authorities());
        // What is left is looked at once more at the next start.
        let _ = fs::remove_file(&self.live);
    }

    /// Ends the process of a former life, if there is one, and waits until it is gone.
    pub(super) fn end_former(&self) -> io::Result<()> {
        end(&self.live)
    }

    /// Deletes everything. No cage may be alive.
    pub(super) fn delete(&self) -> io::Result<()> {
        if !self.exists() {
            return Ok(());
        }
        // Half a deletion must not look like a session's folder.
        let mut away = self.path.clone().into_os_string();
        away.push(".deleted");
        let away = PathBuf::from(away);
        fs::rename(&self.path, &away)?;
        tree::Tree::open(&away)?.remove_all()
    }
}

/// Ends every process that a former life of the server has left, and deletes what it was about
/// to delete.
pub(super) fn end_leftovers(sandboxes: &Path) -> io::Result<()> {
    if let Ok(entries) = fs::read_dir(sandboxes.join(".live")) {
        for entry in entries {
            end(&entry?.path())?;
        }
    }
    for entry in fs::read_dir(sandboxes)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deleted") {
            tree::Tree::open(&path)?.remove_all()?;
        }
    }
    Ok(())
}

/// Deletes the folders of sessions that nobody knows any more. No cage may be alive.
pub(super) fn delete_unknown(settings: &Settings, known: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(&settings.folder)? {
        let name = entry?.file_name();
        // What is no session's has a name that none has.
        if let Some(session) = name.to_str()
            && let Ok(folder) = Folder::of(settings, session)
            && !known(session)
        {
            folder.delete()?;
        }
    }
    Ok(())
}

fn end(note: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(note) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut parts = text.split(' ');
    let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
    let born_then = parts.next().map(str::to_owned);
    if let Some(pid) = pid
        && let Some(process) = process(pid)
        && born(pid) == born_then
    {
        let since = Instant::now();
        while !launcher::is_gone(&process) {
            launcher::kill(&process);
            if since.elapsed() > PATIENCE {
                return Err(io::Error::other("an older sandbox of this session does not end"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    fs::remove_file(note)
}

fn process(pid: u32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// When a process was started, in the kernel's ticks: with its id it is a name for ever.
fn born(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; the numbers begin behind its last bracket.
    let (_, numbers) = stat.rsplit_once(')')?;
    numbers.split_whitespace().nth(19).map(str::to_owned)
}

/// A link at a path of the user's choice: where, and to what.
pub(super) type Link = (PathBuf, PathBuf);

/// The links that mounts want.
pub(super) fn links(mounts: &[Mount]) -> Vec<Link> {
    let mut links: Vec<_> = mounts
        .iter()
        .filter_map(|mount| {
            let literal = mount.literal.as_ref().filter(|path| plain(path))?;
            let target = Path::new(UPLOADS).join(below_uploads(&mount.path)?);
            (*literal != target).then(|| (literal.clone(), target))
        })
        .collect();
    links.sort();
    links
}

/// A path below the uploads, relative to them.
fn below_uploads(path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(UPLOADS).ok()?;
    (plain(below) && below.components().next().is_some()).then(|| below.to_path_buf())
}

fn plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir))
}

/// Removes what is not wanted below a folder of the server's own.
fn clear(
    root: &Path,
    below: &Path,
    wanted: &BTreeMap<PathBuf, &Path>,
    folders: &BTreeSet<&Path>,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if folders.contains(path.as_path()) {
                clear(root, &path, wanted, folders)?;
            } else {
                fs::remove_dir_all(root.join(&path))?;
            }
        } else if !wanted.contains_key(&path) {
            fs::remove_file(root.join(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Limits, Start};

    fn settings(folder: &Path) -> Settings {
        Settings {
            isolation: Isolation::Namespaces,
            limits: Limits::default(),
            warm: Duration::ZERO,
            start: Start::Lazy,
            folder: folder.to_path_buf(),
            helper: PathBuf::new(),
            delay: Duration::ZERO,
        }
    }

    #[test]
    fn uploads_become_what_is_wanted_and_nothing_else_is_touched() {
        let data = tempfile::TempDir::new().unwrap();
        let source = data.path().join("blob");
        fs::write(&source, "content").unwrap();
        let folder = Folder::of(&settings(data.path()), "sesn_1").unwrap();
        assert!(folder.make(None).unwrap());
        let mount = |path: &str| Mount {
            path: Path::new(UPLOADS).join(path),
            literal: None,
            source: source.clone(),
        };
        folder.mount(&[mount("a/b.txt"), mount("c.txt"), mount("../escape")]).unwrap();
        let there = |path: &str| folder.uploads().join(path).exists();
        assert!(there("a/b.txt") && there("c.txt"));
        assert!(!folder.path.join("escape").exists());
        folder.mount(&[mount("c.txt"), mount("a")]).unwrap();
        assert!(!there("a/b.txt") && there("a") && there("c.txt"));
        assert!(!folder.make(None).unwrap());
        folder.delete().unwrap();
        assert!(!folder.exists() && source.exists());
    }

    #[test]
    fn a_session_is_a_plain_name() {
        for bad in ["", ".", "..", "a/b", "a\0b", ".live"] {
            assert!(Folder::of(&settings(Path::new("/data")), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_lead_to_uploads_alone() {
        let mount = |path: &str, literal: &str| Mount {
            path: path.into(),
            literal: Some(literal.into()),
            source: "/x".into(),
        };
        let links = links(&[
            mount("/mnt/session/uploads/data.csv", "/data.csv"),
            mount("/mnt/session/uploads/same", "/mnt/session/uploads/same"),
            mount("/etc/passwd", "/x"),
            mount("/mnt/session/uploads/y", "/a/../b"),
        ]);
        assert_eq!(links, [("/data.csv".into(), "/mnt/session/uploads/data.csv".into())]);
    }

    #[test]
    fn a_process_of_a_former_life_is_ended_and_another_of_its_number_is_not() {
        let data = tempfile::TempDir::new().unwrap();
        let folder = Folder::of(&settings(data.path()), "sesn_1").unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        folder.note(child.id()).unwrap();
        let note = fs::read_to_string(&folder.live).unwrap();
        fs::write(&folder.live, format!("{} 1", child.id())).unwrap();
        folder.end_former().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        fs::write(&folder.live, note).unwrap();
        let waiting = thread::spawn(move || child.wait().unwrap());
        folder.end_former().unwrap();
        assert!(!waiting.join().unwrap().success());
        assert!(!folder.live.exists());
    }
}
