//! Where the tests put things: programs that both users may execute, folders that vanish with this
//! process, files that no cage may find.
//!
//! Starts nothing but the one small shell that tidies up.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Who runs the server's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Ordinary,
}

/// The ordinary user when the tests run as root: a number that no account has.
const ORDINARY: u32 = 61_234;

impl User {
    /// Whether this process can play that user. Says so if not: nothing is left out silently.
    pub(crate) fn is_possible(self, case: &str) -> bool {
        let possible = self == Self::Ordinary || am_root();
        if !possible {
            println!("{case}: the half that needs root was not run, for these tests are not root");
        }
        possible
    }

    /// The user and group to become, where that is needed.
    pub(crate) fn becomes(self) -> Option<u32> {
        (self == Self::Ordinary && am_root()).then_some(ORDINARY)
    }
}

pub(crate) fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder for this process, which a small shell removes when this process is gone.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("posthouse-attack-").tempdir().unwrap().keep();
        // The other user goes through it.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        // Ends when the pipe does, which is when this process does, however that comes.
        let script = "cat > /dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do \
            chmod -R u+rwX \"$0\" 2> /dev/null; rm -rf \"$0\" && break; sleep 0.3; done";
        let tidy = Command::new("/bin/sh")
            .args(["-c", script])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its end of the pipe has to stay open for as long as this process lives.
        std::mem::forget(tidy);
        folder
    })
}

/// A new folder that belongs to this user.
pub(crate) fn folder(user: User, name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = base().join(format!("{name}-{number}"));
    fs::create_dir(&folder).unwrap();
    if let Some(owner) = user.becomes() {
        chown(&folder, Some(owner), Some(owner)).unwrap();
    }
    folder
}

/// A program that everybody may execute: the folder that it was built in may be closed.
pub(crate) fn program(name: &str) -> PathBuf {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    let folder = PROGRAMS.get_or_init(|| {
        let folder = base().join("programs");
        fs::create_dir(&folder).unwrap();
        let cage = PathBuf::from(env!("CARGO_BIN_EXE_posthouse-cage"));
        let probe = cage.with_file_name("posthouse-probe");
        assert!(
            probe.is_file(),
            "{} is not there; build it with: cargo build -p posthouse-testkit",
            probe.display()
        );
        for program in [cage, probe] {
            let copy = folder.join(program.file_name().unwrap());
            fs::copy(&program, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    });
    folder.join(name)
}

/// A word that is nowhere else on this machine.
pub(crate) fn canary(kind: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("canary-{kind}-{}-{number}", std::process::id())
}

/// A file of the host's with this text, readable by everybody, in a folder of its own.
pub(crate) fn host_file(user: User, text: &str) -> PathBuf {
    let path = folder(user, "host").join("file.txt");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

/// The processes of this machine whose command line holds the word.
pub(crate) fn processes_with(word: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            line.windows(word.len()).any(|part| part == word.as_bytes())
                && !status.contains("State:\tZ")
        })
        .collect()
}

/// The processes that descend from this one, itself not counted.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// Every file and folder below, links not followed.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Asks again until it holds; the text says what was waited for.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < end, "in 20 seconds it never was: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
