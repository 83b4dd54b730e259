//! Walks over a tree that may be hostile: no links, no mounts of the kernel, no end without end.
//!
//! Each folder is opened through the folder above it, so that nobody can move the walk elsewhere
//! by renaming. Names come in order, so that two walks of one tree agree.

use std::{
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::{Stop, place::is_kernel_files};

/// Where a walk gives up: entries seen, names held at one moment in bytes, folders inside each
/// other, and time.
const MOST_ENTRIES: usize = 2_000_000;
const MOST_HELD: usize = 64 << 20;
const DEEPEST: usize = 200;
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// What a name costs beside its letters.
const NAME_COST: usize = 48;

/// A file or a link that was found.
pub(crate) struct Found<'a> {
    /// The folder that it is in.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a CStr,
    /// Its path from where the walk began.
    pub(crate) path: &'a Path,
    /// Whether it is a link, wherever that leads.
    pub(crate) is_link: bool,
}

/// Whether a walk goes on.
pub(crate) enum Next {
    More,
    Enough,
}

/// Why a walk has not seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The call was stopped.
    Stopped,
    /// There is too much to see.
    TooMuch,
    /// It took too long.
    TooLong,
}

struct Level {
    folder: OwnedFd,
    entries: std::vec::IntoIter<(CString, FileType)>,
    held: usize,
}

/// Shows every file and link below `base` to `visit`, but for folders that `skip` names.
pub(crate) fn walk(
    base: OwnedFd,
    stop: &Stop,
    skip: impl Fn(&OsStr) -> bool,
    mut visit: impl FnMut(&Found<'_>) -> Next,
) -> Result<(), Cut> {
    let deadline = Instant::now() + LONGEST;
    let mut seen = 0;
    let mut held = 0;
    let mut too_deep = false;
    let mut path = PathBuf::new();
    let mut levels = Vec::new();
    levels.extend(list(base, &mut seen, &mut held, stop)?);
    while let Some(level) = levels.last_mut() {
        let Some((name, kind)) = level.entries.next() else {
            held -= level.held;
            levels.pop();
            path.pop();
            continue;
        };
        if stop.is_stopped() {
            return Err(Cut::Stopped);
        }
        if Instant::now() > deadline {
            return Err(Cut::TooLong);
        }
        let letters = OsStr::from_bytes(name.to_bytes());
        let kind = match kind {
            // Some file systems do not say it in the listing.
            FileType::Unknown => statat(&level.folder, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        match kind {
            FileType::Directory if skip(letters) => {}
            FileType::Directory => {
                if levels.len() >= DEEPEST {
                    too_deep = true;
                    continue;
                }
                let flags = OFlags::RDONLY
                    | OFlags::DIRECTORY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC
                    | OFlags::NONBLOCK;
                // What can't be opened, or has gone meanwhile, has nothing to show.
                if let Some(level) = levels.last()
                    && let Ok(folder) = openat(&level.folder, &name, flags, Mode::empty())
                    && !is_kernel_files(&folder)
                    && let Some(below) = list(folder, &mut seen, &mut held, stop)?
                {
                    path.push(letters);
                    levels.push(below);
                }
            }
            FileType::RegularFile | FileType::Symlink => {
                path.push(letters);
                let found = Found {
                    folder: level.folder.as_fd(),
                    name: &name,
                    path: &path,
                    is_link: kind == FileType::Symlink,
                };
                let next = visit(&found);
                path.pop();
                if let Next::Enough = next {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    if too_deep { Err(Cut::TooMuch) } else { Ok(()) }
}

/// The names in a folder, in order. `None` when it can't be listed.
fn list(
    folder: OwnedFd,
    seen: &mut usize,
    held: &mut usize,
    stop: &Stop,
) -> Result<Option<Level>, Cut> {
    let Ok(listing) = Dir::read_from(&folder) else { return Ok(None) };
    let mut entries = Vec::new();
    let mut own = 0;
    for entry in listing {
        let Ok(entry) = entry else { break };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        own += name.to_bytes().len() + NAME_COST;
        *seen += 1;
        if *seen > MOST_ENTRIES || *held + own > MOST_HELD {
            return Err(Cut::TooMuch);
        }
        if seen.is_multiple_of(1024) && stop.is_stopped() {
            return Err(Cut::Stopped);
        }
        entries.push((name.to_owned(), entry.file_type()));
    }
    entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    *held += own;
    Ok(Some(Level { folder, entries: entries.into_iter(), held: own }))
}
