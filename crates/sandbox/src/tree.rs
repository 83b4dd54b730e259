//! A session's tree of files, looked at from outside while hostile processes may change it.
//!
//! Every step goes by descriptors, from the tree's own root. It never follows a link, never leaves
//! the tree or its file system, and never opens anything but folders and regular files. What it
//! returns is data that was true for a moment.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat},
    io::Errno,
    process::{Gid, Uid},
};

mod remove;

/// Folders inside of folders that are looked into. Each one costs a descriptor while it is.
pub const DEPTH: usize = 64;

/// No step out of what is beneath, not by links, not by the kernel's own links, not by mounts.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A session's tree, held by a descriptor of its root.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

/// How much of a tree is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries of folders, of any kind.
    pub entries: u64,
    /// Time for all of it.
    pub time: Duration,
}

/// A regular file that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the folder that was asked for; bytes as they are.
    pub path: PathBuf,
    /// Bytes that can be read.
    pub size: u64,
    /// When its bytes last changed, in nanoseconds since 1970. Its owner can set it at will.
    pub modified: i128,
    /// When it last changed at all, in nanoseconds since 1970. Nobody can set it.
    pub changed: i128,
    /// Its number in its file system.
    pub inode: u64,
}

/// What was found below a folder.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// In no order that means anything.
    pub files: Vec<Entry>,
    /// Whether a bound ended it, so that there may be more.
    pub cut: bool,
    /// Folders that were not looked into: too deep, closed to us, or gone in between.
    pub skipped: u64,
}

impl Tree {
    /// Opens the tree whose root is at `path`. Its parents are the server's own; its last name has
    /// to be a folder, not a link to one.
    ///
    /// # Errors
    ///
    /// When there is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| named(path, error.into()))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// All regular files below `folder`, which is relative to the root. A folder that does not exist
    /// has none.
    ///
    /// # Errors
    ///
    /// When `folder` is not a path inside, leads over a link, or can't be read.
    pub fn files_below(&self, folder: &Path, bounds: Bounds) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let first = match self.open_folder(folder) {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(error),
        };
        let deadline = Instant::now() + bounds.time;
        let mut path = PathBuf::new();
        let mut seen = 0_u64;
        let walk = walk(first, DEPTH, Closed::Skip, |step| {
            match step {
                Step::Down(name) => path.push(name),
                Step::Up => drop(path.pop()),
                Step::Skipped => listing.skipped += 1,
                Step::Entry(name, found) => {
                    seen += 1;
                    if seen > bounds.entries
                        || (seen.is_multiple_of(64) && Instant::now() > deadline)
                    {
                        listing.cut = true;
                        return false;
                    }
                    if FileType::from_raw_mode(found.st_mode).is_file() {
                        listing.files.push(entry(path.join(name), found));
                    }
                }
            }
            true
        });
        walk.map_err(|error| named(&self.path.join(folder), error))?;
        Ok(listing)
    }

    /// Opens a regular file for reading. `path` is relative to the root.
    ///
    /// A second name of the same file elsewhere in the tree is as good as the first: both are the
    /// session's. It can't be a second name of a file outside, since what a cage sees of its tree
    /// are mounts of their own, and no name reaches over from one mount to another.
    ///
    /// # Errors
    ///
    /// When there is no such file, it is no regular file, or a link is on the way.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        // Looked at before it is opened: opening a FIFO or a device would already act on it. Then
        // opened by the descriptor, so that nothing can be put in its place in between. A file that
        // somebody holds a lease on answers `EAGAIN` instead of making us wait.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let looked = self.resolve(inside(path)?, flags)?;
        if !FileType::from_raw_mode(rustix::fs::fstat(&looked)?.st_mode).is_file() {
            let text = format!("{}: not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(by_descriptor(&looked), flags, Mode::empty())
            .map_err(|error| named(path, error.into()))?;
        Ok(File::from(opened))
    }

    /// Opens a folder. An empty path or `.` is the root itself.
    ///
    /// # Errors
    ///
    /// When there is no such folder, or a link is on the way.
    pub fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = if path.as_os_str().is_empty() { Path::new(".") } else { inside(path)? };
        self.resolve(inside, flags)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // `EAGAIN` says that something was renamed in the tree meanwhile. It can be caused at will,
        // so there is an end to trying again.
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), STRICT) {
                Err(Errno::AGAIN | Errno::INTR) => (),
                Err(error) => return Err(named(&self.path.join(path), error.into())),
                Ok(opened) => return Ok(opened),
            }
        }
        Err(named(&self.path.join(path), Errno::AGAIN.into()))
    }

    /// Makes sure that these folders exist, for the set-up of a cage that does not live yet. What is
    /// in a folder's place is moved aside, as `<name>.moved-<number>`, and never followed. Answers
    /// what was moved, by its new name. `mode` and `owner` are for folders that are made here; those
    /// that exist keep theirs.
    ///
    /// # Errors
    ///
    /// When a path is not inside, or the file system refuses.
    pub fn ensure_folders(
        &self,
        folders: &[&Path],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<Vec<PathBuf>> {
        let made = Made { mode: Mode::from_raw_mode(mode), owner };
        let mut moved = Vec::new();
        for folder in folders {
            let mut at = self.root.try_clone()?;
            let mut done = PathBuf::new();
            for part in inside(folder)?.components() {
                let name = part.as_os_str();
                at = make_folder(&at, name, made, &done, &mut moved)
                    .map_err(|error| named(&self.path.join(folder), error))?;
                done.push(name);
            }
        }
        Ok(moved)
    }

    /// Puts a file there, whole or not at all, in the place of whatever file or link has that name.
    /// Folders on the way are made. `owner` is for everything that is made here; the file can be read
    /// by everybody.
    ///
    /// # Errors
    ///
    /// When the path is not inside, something is in the way of a folder, or the file system refuses.
    pub fn put(&self, path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
        let name = inside(path)?.file_name().unwrap_or_default();
        let put = || -> io::Result<()> {
            let mut folder = self.root.try_clone()?;
            for part in path.parent().into_iter().flat_map(Path::components) {
                let part = CString::new(part.as_os_str().as_bytes())?;
                folder = match open_below(folder.as_fd(), &part) {
                    Err(Errno::NOENT) => make_below(&folder, &part, owner)?,
                    opened => opened?,
                };
            }
            // Its name says whose it is, and nobody waits for one of that name.
            let mut partial = name.to_owned();
            partial.push(".partial");
            let _none = rustix::fs::unlinkat(&folder, &partial, AtFlags::empty());
            // A new file: not one that has another name elsewhere, and no pipe.
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let flags = flags | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let made = rustix::fs::openat2(&folder, &partial, flags, mode, STRICT)?;
            let mut file = File::from(made);
            file.write_all(bytes)?;
            rustix::fs::fchmod(&file, mode | Mode::RGRP | Mode::ROTH)?;
            own(&file, owner)?;
            Ok(rustix::fs::renameat(&folder, &partial, &folder, name)?)
        };
        put().map_err(|error| named(&self.path.join(path), error))
    }

    /// Removes all that is in the tree, and its root. For a tree in which nothing lives: what is
    /// changed meanwhile may be left, and is an error then, but nothing outside is ever touched.
    ///
    /// # Errors
    ///
    /// When something can't be removed. The rest is.
    pub fn remove_all(self) -> io::Result<()> {
        remove::below(&self.root).map_err(|error| named(&self.path, error))?;
        rustix::fs::rmdir(&self.path).map_err(|error| named(&self.path, error.into()))
    }
}

/// What a walk meets.
pub(crate) enum Step<'a> {
    /// An entry of the folder that the walk is in, and what it was. Folders come here as well,
    /// before they are gone into.
    Entry(&'a OsStr, &'a Stat),
    /// Into a folder.
    Down(&'a OsStr),
    /// Out of it.
    Up,
    /// A folder was not gone into.
    Skipped,
}

/// What a walk does about folders that their owner has closed to itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Leaves them out.
    Skip,
    /// Opens them, where they are ours.
    Open,
}

/// Walks everything below a folder, depth first. `visit` answers whether to go on; the walk answers
/// whether it came to its end.
pub(crate) fn walk(
    first: OwnedFd,
    depth: usize,
    closed: Closed,
    mut visit: impl FnMut(Step<'_>) -> bool,
) -> io::Result<bool> {
    let mut open = vec![Folder::new(first)];
    while let Some(folder) = open.last_mut() {
        let Some(name) = folder.next()? else {
            open.pop();
            if !open.is_empty() && !visit(Step::Up) {
                return Ok(false);
            }
            continue;
        };
        // Gone in between is as good as never there.
        let Ok(found) = rustix::fs::statat(&folder.fd, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let shown = OsStr::from_bytes(name.as_bytes());
        if !visit(Step::Entry(shown, &found)) {
            return Ok(false);
        }
        if !FileType::from_raw_mode(found.st_mode).is_dir() {
            continue;
        }
        let child = if open.len() < depth { enter(open.last(), &name, closed) } else { None };
        match child {
            Some(child) => {
                open.push(child);
                if !visit(Step::Down(shown)) {
                    return Ok(false);
                }
            }
            None if !visit(Step::Skipped) => return Ok(false),
            None => (),
        }
    }
    Ok(true)
}

/// Opens a folder that is in the folder that the walk is in. One name alone, so that neither a link
/// nor `..` can be on the way.
fn enter(parent: Option<&Folder>, name: &CString, closed: Closed) -> Option<Folder> {
    let parent = parent?;
    let opened = match open_below(parent.fd.as_fd(), name) {
        Err(Errno::ACCESS) if closed == Closed::Open => {
            unlock(parent.fd.as_fd(), name).ok()?;
            open_below(parent.fd.as_fd(), name)
        }
        other => other,
    };
    Some(Folder::new(opened.ok()?))
}

fn open_below(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..64 {
        match rustix::fs::openat2(parent, name, flags, Mode::empty(), STRICT) {
            Err(Errno::AGAIN | Errno::INTR) => (),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Gives the owner of a folder, who is us, the right to look into it. A server that is not root
/// shares its user with its cages: without, a closed folder would hide what it holds from every
/// measure.
fn unlock(parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat2(parent, name, flags, Mode::empty(), STRICT)?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) | Mode::RWXU;
    // By the descriptor, which `fchmod` takes in this form alone: the name may be another's by now.
    rustix::fs::chmod(by_descriptor(&held), mode)
}

/// A folder that is being read. Names come a buffer at a time, so that a huge folder costs no more
/// than a small one.
struct Folder {
    fd: OwnedFd,
    names: Vec<CString>,
}

impl Folder {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, names: Vec::new() }
    }

    fn next(&mut self) -> io::Result<Option<CString>> {
        if let Some(name) = self.names.pop() {
            return Ok(Some(name));
        }
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        loop {
            let mut entries = RawDir::new(&self.fd, &mut buffer);
            let mut any = false;
            while let Some(entry) = entries.next() {
                let entry = match entry {
                    Ok(entry) => entry,
                    // The folder itself was removed while it was read.
                    Err(Errno::NOENT) => return Ok(self.names.pop()),
                    Err(error) => return Err(error.into()),
                };
                any = true;
                let name = entry.file_name();
                if name.to_bytes() != b"." && name.to_bytes() != b".." {
                    self.names.push(name.to_owned());
                }
                if entries.is_buffer_empty() {
                    break;
                }
            }
            if !any || !self.names.is_empty() {
                return Ok(self.names.pop());
            }
        }
    }
}

/// How a folder is made.
#[derive(Clone, Copy)]
struct Made {
    mode: Mode,
    owner: Option<(u32, u32)>,
}

/// Makes a folder in a tree in which others may be at work.
fn make_below(parent: &OwnedFd, name: &CString, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let made = open_below(parent.as_fd(), name)?;
    // Somebody may have put another folder of theirs there meanwhile, which is as much the
    // session's.
    own(&made, owner)?;
    Ok(made)
}

fn own(made: impl AsFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((user, group)) = owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::fchown(made, Some(user), Some(group))?;
    }
    Ok(())
}

fn make_folder(
    parent: &OwnedFd,
    name: &OsStr,
    made: Made,
    done: &Path,
    moved: &mut Vec<PathBuf>,
) -> io::Result<OwnedFd> {
    let name = CString::new(name.as_bytes())?;
    for number in 0..1000 {
        match open_below(parent.as_fd(), &name) {
            Ok(opened) => {
                // Root opens what its owner has closed to itself, and the cage's user could not.
                let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
                if !mode.contains(Mode::RWXU) {
                    rustix::fs::fchmod(&opened, mode | Mode::RWXU)?;
                }
                return Ok(opened);
            }
            Err(Errno::NOENT) => match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
                Ok(()) => {
                    let opened = open_below(parent.as_fd(), &name)?;
                    own(&opened, made.owner)?;
                    // The server's umask is not asked.
                    rustix::fs::fchmod(&opened, made.mode)?;
                    return Ok(opened);
                }
                Err(Errno::EXIST) => (),
                Err(error) => return Err(error.into()),
            },
            Err(Errno::ACCESS) => unlock(parent.as_fd(), &name)?,
            // A file, or a link, or something else that is no folder.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let shown = OsStr::from_bytes(name.as_bytes());
                let mut aside = shown.to_owned();
                aside.push(format!(".moved-{number}"));
                let flags = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(parent, &name, parent, &aside, flags) {
                    Ok(()) => moved.push(done.join(aside)),
                    Err(Errno::EXIST) => (),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("too many things were moved aside already"))
}

fn entry(path: PathBuf, found: &Stat) -> Entry {
    #[expect(clippy::unnecessary_cast, reason = "their types differ between processors")]
    let nanoseconds = |seconds, part| i128::from(seconds as i64) * 1_000_000_000 + part as i128;
    Entry {
        path,
        size: u64::try_from(found.st_size).unwrap_or(0),
        modified: nanoseconds(found.st_mtime, found.st_mtime_nsec),
        changed: nanoseconds(found.st_ctime, found.st_ctime_nsec),
        inode: found.st_ino,
    }
}

/// A path whose every part is a plain name.
fn inside(path: &Path) -> io::Result<&Path> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !plain {
        let text = format!("{}: not a path inside; relative and without `..` is", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(path)
}

/// The name by which a held descriptor is opened or changed once more, whatever its own name is.
fn by_descriptor(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
