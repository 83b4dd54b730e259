//! [`Place`]: opens and replaces files for the file tools.
//!
//! Every path is resolved by the kernel below the place's root, without the links of `/proc`
//! that lead to what this process has open. Nothing here follows a link by itself to a place
//! that the kernel has not been asked for again.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, fchmod,
        fstat, fstatfs, ftruncate, mkdirat, openat, openat2, readlinkat, renameat, statat,
        unlinkat,
    },
    io::Errno,
};

use super::Workplace;

/// Links in a row that a path may go through, as many as the kernel takes.
const LINKS: usize = 40;

/// The kernel asks to try again while others rename folders above a path.
const TRIES: usize = 64;

/// `SYSFS_MAGIC`, `CGROUP_SUPER_MAGIC`, `CGROUP2_SUPER_MAGIC`, `TRACEFS_MAGIC` and
/// `DEBUGFS_MAGIC` of `linux/magic.h`: files there are commands, not contents.
const KERNEL_FILES: [FsWord; 5] = [0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x7472_6163, 0x6462_6720];

/// Where file tools find files.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    tree: Option<PathBuf>,
    directory: PathBuf,
}

impl Place {
    pub(crate) fn new(workplace: &Workplace) -> Self {
        Self { tree: workplace.root.clone(), directory: workplace.directory.clone() }
    }

    /// The path below the root that a path of a tool means.
    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        // Without isolation the shell shows the host's paths, and they mean the same files.
        let inside = self.tree.as_ref().and_then(|tree| path.strip_prefix(tree).ok());
        match inside {
            Some(inside) => Path::new("/").join(inside),
            None => self.directory.join(path),
        }
    }

    /// The same path as this process would have to name it.
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        match &self.tree {
            Some(tree) => tree.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Opens a path below the root. It never blocks and never makes a file.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.tree.as_deref().unwrap_or_else(|| Path::new("/"));
        let root =
            openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut flags = flags | OFlags::CLOEXEC;
        if !flags.contains(OFlags::PATH) {
            flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match openat2(&root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// Opens a regular file for reading. `name` is the path as the model wrote it.
    pub(crate) fn open_file(&self, name: &str) -> Result<(File, Stat), String> {
        let path = self.absolute(name);
        let file = self.open(&path, OFlags::RDONLY).map_err(|error| why(name, error))?;
        let stat = fstat(&file).map_err(|error| why(name, error))?;
        regular(name, &stat)?;
        if is_ours(&file) {
            return Err(format!("{name}: belongs to the sandbox itself and can't be read"));
        }
        Ok((File::from(file), stat))
    }

    /// Opens a folder for listing.
    pub(crate) fn open_folder(&self, name: &str) -> Result<OwnedFd, Errno> {
        self.open(&self.absolute(name), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Puts `bytes` into a file, in one step where that is possible, and makes the folders above
    /// it. A file that was there keeps its mode, and a link stays a link.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let failed = |error| why(name, error);
        if name.ends_with('/') {
            return Err(format!("{name}: names a folder; the path of a file is needed"));
        }
        let mut path = self.absolute(name);
        for _ in 0..LINKS {
            let (Some(parent), Some(file)) = (path.parent(), path.file_name()) else {
                return Err(format!("{name}: names a folder; the path of a file is needed"));
            };
            let folder = match self.open(parent, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => self.make_folders(parent).map_err(failed)?,
                other => other.map_err(failed)?,
            };
            // Before any link is read: those of `/proc` name what this process has open.
            if is_kernel_files(&folder) {
                return Err(format!("{name}: is a file of the kernel and can't be written"));
            }
            match readlinkat(&folder, file, Vec::new()) {
                Ok(target) => {
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                    path = parent.join(target);
                }
                Err(Errno::INVAL | Errno::NOENT) => {
                    return replace_in(&folder, file, name, bytes);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(Errno::LOOP))
    }

    /// Makes a folder and those above it, and opens it.
    pub(crate) fn make_folders(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut made = PathBuf::from("/");
        let mut folder = self.open(&made, flags)?;
        for component in path.components() {
            if component == Component::RootDir {
                continue;
            }
            made.push(component);
            folder = match self.open(&made, flags) {
                Err(Errno::NOENT) => {
                    match mkdirat(&folder, component.as_os_str(), Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => self.open(&made, flags)?,
                        Err(error) => return Err(error),
                    }
                }
                other => other?,
            };
        }
        Ok(folder)
    }
}

/// Replaces a file that is no link in an open folder.
fn replace_in(folder: &OwnedFd, file: &OsStr, name: &str, bytes: &[u8]) -> Result<(), String> {
    let failed = |error| why(name, error);
    let flags =
        OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = match openat(folder, file, flags, Mode::empty()) {
        Ok(old) => {
            let stat = fstat(&old).map_err(failed)?;
            regular(name, &stat)?;
            Some((Mode::from_raw_mode(stat.st_mode & 0o7777), Some(old)))
        }
        Err(Errno::NOENT) => None,
        // A program that runs can't be written, but another may take its name.
        Err(Errno::TXTBSY) => {
            let stat = statat(folder, file, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            regular(name, &stat)?;
            Some((Mode::from_raw_mode(stat.st_mode & 0o7777), None))
        }
        Err(error) => return Err(failed(error)),
    };
    let (temporary, new) = match make_temporary(folder) {
        Ok(made) => made,
        // The folder takes no new file, but this one may be written: it is a mount, or the
        // folder belongs to somebody else.
        Err(error) => match mode {
            Some((_, Some(old))) if error != Errno::NOSPC && error != Errno::DQUOT => {
                return write_over(old, bytes).map_err(|error| why_io(name, &error));
            }
            _ => return Err(failed(error)),
        },
    };
    let written = (|| {
        File::from(new.try_clone()?).write_all(bytes)?;
        if let Some((mode, _)) = &mode {
            fchmod(&new, *mode)?;
        }
        renameat(folder, &temporary, folder, file)?;
        Ok::<_, io::Error>(())
    })();
    let Err(error) = written else { return Ok(()) };
    // It is ours and has no other name; when this fails, too, it stays.
    let _left_behind = unlinkat(folder, &temporary, AtFlags::empty());
    match (error.raw_os_error().map(Errno::from_raw_os_error), mode) {
        (Some(Errno::BUSY | Errno::XDEV), Some((_, Some(old)))) => {
            write_over(old, bytes).map_err(|error| why_io(name, &error))
        }
        _ => Err(why_io(name, &error)),
    }
}

fn write_over(old: OwnedFd, bytes: &[u8]) -> io::Result<()> {
    ftruncate(&old, 0)?;
    File::from(old).write_all(bytes)
}

/// A new file with a name that nobody has.
fn make_temporary(folder: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".posthouse-{}-{number}.new", std::process::id());
        match openat(folder, &name, flags, Mode::from_raw_mode(0o666)) {
            Err(Errno::EXIST) => {}
            other => return other.map(|file| (name, file)),
        }
    }
}

/// Refuses what is no regular file, by its kind.
fn regular(name: &str, stat: &Stat) -> Result<(), String> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => return Err(format!("{name}: is a folder; a file is needed")),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no file",
    };
    Err(format!("{name}: is {kind}; a regular file is needed"))
}

/// Whether a file is one of the kernel's, where writing is a command.
pub(crate) fn is_kernel_files(file: impl AsFd) -> bool {
    // Of an unknown file system nothing speaks against its files.
    fstatfs(file)
        .is_ok_and(|about| about.f_type == PROC_SUPER_MAGIC || KERNEL_FILES.contains(&about.f_type))
}

/// Whether a file of `/proc` tells of this very process: its memory and descriptors are open to
/// itself, and must not be to whoever asks it to read.
fn is_ours(file: &OwnedFd) -> bool {
    if !fstatfs(file).is_ok_and(|about| about.f_type == PROC_SUPER_MAGIC) {
        return false;
    }
    let own = format!("/proc/{}/", std::process::id());
    match readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new()) {
        Ok(path) => path.as_bytes().starts_with(own.as_bytes()),
        Err(_) => true,
    }
}

/// What is wrong with a path, in words.
pub(crate) fn why(name: &str, error: Errno) -> String {
    match error {
        Errno::NOENT => format!("{name}: no such file or folder"),
        Errno::NOTDIR => format!("{name}: a part of this path is a file, not a folder"),
        Errno::ISDIR => format!("{name}: is a folder; a file is needed"),
        Errno::ACCESS | Errno::PERM => format!("{name}: permission denied"),
        Errno::ROFS => format!("{name}: is read-only here"),
        Errno::NXIO => format!("{name}: is no regular file; a regular file is needed"),
        Errno::LOOP => format!("{name}: goes through a loop of links, or a link of /proc"),
        Errno::NOSPC | Errno::DQUOT => format!("{name}: no space is left in the sandbox"),
        Errno::AGAIN => format!("{name}: is held by another process of the sandbox"),
        Errno::NAMETOOLONG => format!("{name}: the path is too long"),
        Errno::NOSYS => format!("{name}: this kernel lacks openat2 (Linux 5.6)"),
        other => format!("{name}: {}", io::Error::from(other)),
    }
}

/// The same for errors that have come through the standard library.
pub(crate) fn why_io(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => why(name, Errno::from_raw_os_error(code)),
        None => format!("{name}: {error}"),
    }
}
