//! Removing a tree, whatever its shape: any depth, any number, any mode.
//!
//! Works by single names in folders that are held open, and never asks what a name leads to.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, IFlags, Mode, OFlags, RenameFlags, SeekFrom},
    io::Errno,
};

use super::{Folder, open_below, unlock};

/// Folders that are held open on the way down. What is deeper is brought up first.
const HELD: usize = 32;

/// How often a folder is read once more that should be empty and is not.
const ROUNDS: u32 = 3;

/// Removes everything below `root`. Goes on after an error and tells the first one.
pub(super) fn below(root: &OwnedFd) -> io::Result<()> {
    let mut failed = None;
    let mut number = 0_u64;
    loop {
        let before = number;
        rustix::fs::seek(root, SeekFrom::Start(0))?;
        empty(root, root.try_clone()?, &mut number, &mut failed)?;
        // What was brought up to the root is found when it is read once more.
        if number == before {
            break;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Removes what is below `top`, depth first. Folders deeper than [`HELD`] are renamed into `root`.
fn empty(
    root: &OwnedFd,
    top: OwnedFd,
    number: &mut u64,
    failed: &mut Option<io::Error>,
) -> io::Result<()> {
    // Each folder with its own name in the one above, and how often it was read again.
    let mut open = vec![(Folder::new(top), CString::default(), 0)];
    while let Some((folder, ..)) = open.last_mut() {
        let Some(name) = folder.next()? else {
            let Some((folder, name, round)) = open.pop() else { break };
            let Some((parent, ..)) = open.last() else { break };
            match remove(parent.fd.as_fd(), &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => (),
                // Some file systems lose their place when names go while they are read.
                Err(Errno::NOTEMPTY) if round < ROUNDS => {
                    rustix::fs::seek(&folder.fd, SeekFrom::Start(0))?;
                    open.push((folder, name, round + 1));
                }
                Err(error) => drop(failed.get_or_insert(error.into())),
            }
            continue;
        };
        let parent = folder.fd.as_fd();
        // A file is the most common, and what is no folder is removed at the first try.
        match remove(parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => (),
            Err(error) => {
                failed.get_or_insert(error.into());
                continue;
            }
        }
        if remove(parent, &name, AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        // Without all rights of its owner it can be neither emptied nor moved. Of root's no harm.
        let _ = unlock(parent, &name);
        if open.len() >= HELD {
            let Some((folder, ..)) = open.last() else { break };
            if bring_up(&folder.fd, &name, root, number).is_ok() {
                continue;
            }
            // A disk without a free block can refuse it. Then deeper, as far as descriptors reach.
        }
        let Some((folder, ..)) = open.last() else { break };
        match open_below(folder.fd.as_fd(), &name) {
            Ok(child) => open.push((Folder::new(child), name, 0)),
            Err(error) => drop(failed.get_or_insert(error.into())),
        }
    }
    Ok(())
}

/// Renames a folder into the root, under a name that nothing there has. Whoever has made such names
/// before us pays with entries of its own; none is tried twice.
fn bring_up(
    parent: &OwnedFd,
    name: &CString,
    root: &OwnedFd,
    number: &mut u64,
) -> Result<(), Errno> {
    loop {
        let brought = format!(".posthouse-removed-{number}");
        *number += 1;
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(parent, name, root, brought.as_str(), flags) {
            Err(Errno::EXIST) => (),
            other => return other,
        }
    }
}

fn remove(parent: BorrowedFd<'_>, name: &CString, flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::ACCESS) => {
            // The folder that it is in may lack its owner's right to write.
            let mode = Mode::from_raw_mode(rustix::fs::fstat(parent)?.st_mode) | Mode::RWXU;
            rustix::fs::fchmod(parent, mode)?;
            rustix::fs::unlinkat(parent, name, flags)
        }
        Err(Errno::PERM) => {
            if thaw(parent, name).is_ok() {
                return rustix::fs::unlinkat(parent, name, flags);
            }
            Err(Errno::PERM)
        }
        other => other,
    }
}

/// Takes the marks off that keep even root from removing: "immutable" and "append only", of the
/// entry and of the folder that it is in. No cage can set them; an operator may have.
fn thaw(parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let marks = IFlags::IMMUTABLE | IFlags::APPEND;
    let clear = |fd: BorrowedFd<'_>| -> Result<bool, Errno> {
        let flags = rustix::fs::ioctl_getflags(fd)?;
        if !flags.intersects(marks) {
            return Ok(false);
        }
        rustix::fs::ioctl_setflags(fd, flags - marks).map(|()| true)
    };
    let mut changed = clear(parent)?;
    // Regular files and folders alone have such marks, and nothing else may be opened.
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
    if kind.is_file() || kind.is_dir() {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(parent, name, flags, Mode::empty(), super::STRICT)?;
        changed |= clear(opened.as_fd())?;
    }
    if changed { Ok(()) } else { Err(Errno::PERM) }
}
