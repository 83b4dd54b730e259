//! The root of a cage: an allowlist of mounts on an empty file system.
//!
//! Runs in the cage's own mount namespace, with capabilities in its own user namespace and none
//! outside. Nothing of the cage runs yet, so the session's tree is quiet while it is mounted.

#![expect(unsafe_code, reason = "mount_setattr and changes of identity have no safe wrapper")]

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
};

use crate::{
    etc::{self, ALTERNATIVES},
    frame::Setup,
    launcher::INSIDE_ID,
};

/// What of the host's root is seen inside, read-only: programs and libraries.
const PROGRAMS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// The devices that a cage has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files of `/proc` that tell of the host, or that nobody in a cage needs to write.
const MASKED_FILES: [&str; 5] = ["keys", "key-users", "timer_list", "sysrq-trigger", "kcore"];
/// Folders of `/proc` that tell of the host.
const MASKED_FOLDERS: [&str; 3] = ["acpi", "scsi", "asound"];
/// Bytes of the root itself, which holds folders and links.
const ROOT_OPTIONS: [&CStr; 2] = [
    c"mode=0755,size=1m,nr_inodes=4k,uid=1000,gid=1000",
    c"mode=0755,size=1m,nr_inodes=4k,uid=0,gid=0",
];
/// Memory is the only place for these; they are small because not every level of limits counts
/// what is in them.
const RUN_OPTIONS: &CStr = c"mode=1777,size=16m,nr_inodes=8k";
const SHARED_OPTIONS: &CStr = c"mode=1777,size=64m,nr_inodes=8k";

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// A step that has failed, and why.
pub(crate) type Failed = (String, io::Error);

/// Names the step that fails.
pub(crate) fn step<T>(name: impl Into<String>, result: io::Result<T>) -> Result<T, Failed> {
    result.map_err(|error| (name.into(), error))
}

/// Builds the root and moves into it. `ranged` says that the cage has a range of user ids.
pub(crate) fn enter(setup: &Setup, ranged: bool, uid: u32, gid: u32) -> Result<(), Failed> {
    // The session's folder is closed to everybody but the server's user, which the next steps
    // are not any more.
    let made_etc = opened(&setup.etc)?;
    let uploads = opened(&setup.uploads)?;
    let certificates = opened(&setup.certificates)?;
    let authorities = open(&setup.authorities, OFlags::empty())?;
    let mut writable = Vec::new();
    for (name, inside) in &setup.writable {
        writable.push((opened(&setup.tree.join(name))?, inside));
    }
    step("making mounts private", private())?;
    let options = Some(ROOT_OPTIONS[usize::from(ranged)]);
    step("mounting the root", mount_new("tmpfs", &setup.root, QUIET, options))?;
    step("entering the root", rustix::process::chdir(&setup.root).map_err(Into::into))?;
    step("becoming the cage's own user", become_own(ranged))?;
    let root = Path::new(".");
    programs(root)?;
    step("mounting /etc", read_only(&place(&made_etc), &folder(root, "etc")?))?;
    if etc::has_alternatives() {
        let target = root.join("etc").join(ALTERNATIVES);
        let mounted = read_only(&Path::new("/etc").join(ALTERNATIVES), &target);
        step("mounting the alternatives", mounted)?;
    }
    let target = root.join("etc").join(etc::certificates::FOLDER);
    step("mounting the certificates", read_only(&place(&certificates), &target))?;
    let target = root.join("etc").join(etc::BUNDLE);
    step("mounting the authorities", read_only(&place(&authorities), &target))?;
    for (source, inside) in &writable {
        let target = folder(root, inside)?;
        step(format!("mounting {}", inside.display()), bind(&place(source), &target, QUIET))?;
    }
    let target = root.join("mnt/session/uploads");
    step("mounting the uploads", read_only(&place(&uploads), &target))?;
    proc(root)?;
    devices(root)?;
    let run = folder(root, "run")?;
    step("mounting /run", mount_new("tmpfs", &run, QUIET, Some(RUN_OPTIONS)))?;
    for link in &setup.unlink {
        unlink(root, link);
    }
    for (link, target) in &setup.links {
        literal(root, link, target, uid, gid);
    }
    step("leaving the host's root", pivot())?;
    step("closing the root", reflag(Path::new("/"), QUIET | MountFlags::RDONLY, false))
}

fn opened(folder: &Path) -> Result<OwnedFd, Failed> {
    open(folder, OFlags::DIRECTORY)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Failed> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    // Paths of the host are nobody's business; the last name tells enough.
    let name = path.file_name().unwrap_or_default().display();
    step(format!("opening {name}"), opened.map_err(Into::into))
}

fn place(opened: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", opened.as_raw_fd()).into()
}

/// From an id of the host, which has no name in the cage, to one of the cage's own: an ordinary
/// user of the host, and the owner of what is made from here on.
fn become_own(ranged: bool) -> io::Result<()> {
    let id = if ranged { 0 } else { INSIDE_ID };
    // SAFETY: the calls take plain numbers, and there is one thread.
    let done = unsafe {
        // Where one id is mapped, groups can't be set; the launcher has left those of root.
        (!ranged || libc::setgroups(0, std::ptr::null()) == 0)
            && libc::setresgid(id, id, id) == 0
            && libc::setresuid(id, id, id) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// The host's programs: folders as mounts, links as the same links.
fn programs(root: &Path) -> Result<(), Failed> {
    let usr = folder(root, "usr")?;
    step("mounting /usr", read_only(Path::new("/usr"), &usr))?;
    for name in PROGRAMS {
        let host = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
        if metadata.is_symlink() {
            let made = fs::read_link(&host).and_then(|to| symlink(to, root.join(name)));
            step(format!("linking /{name}"), made)?;
        } else {
            let target = folder(root, name)?;
            step(format!("mounting /{name}"), read_only(&host, &target))?;
        }
    }
    Ok(())
}

fn proc(root: &Path) -> Result<(), Failed> {
    let proc = folder(root, "proc")?;
    let flags = QUIET | MountFlags::NOEXEC;
    step("mounting /proc", mount_new("proc", &proc, flags, None))?;
    let sys = proc.join("sys");
    step("closing /proc/sys", read_only(&sys, &sys))?;
    for name in MASKED_FILES {
        let path = proc.join(name);
        if path.exists() {
            step(format!("masking /proc/{name}"), bind(Path::new("/dev/null"), &path, flags))?;
        }
    }
    for name in MASKED_FOLDERS {
        let path = proc.join(name);
        if path.exists() {
            let flags = flags | MountFlags::RDONLY;
            let masked = mount_new("tmpfs", &path, flags, Some(c"size=0,nr_inodes=2"));
            step(format!("masking /proc/{name}"), masked)?;
        }
    }
    Ok(())
}

fn devices(root: &Path) -> Result<(), Failed> {
    let dev = folder(root, "dev")?;
    for name in DEVICES {
        let target = dev.join(name);
        step(format!("making /dev/{name}"), File::create(&target).map(drop))?;
        let source = Path::new("/dev").join(name);
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        step(format!("mounting /dev/{name}"), bind(&source, &target, flags))?;
    }
    let pts = folder(&dev, "pts")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = Some(c"newinstance,ptmxmode=0666,mode=0620");
    step("mounting /dev/pts", mount_new("devpts", &pts, flags, options))?;
    let shared = folder(&dev, "shm")?;
    step("mounting /dev/shm", mount_new("tmpfs", &shared, QUIET, Some(SHARED_OPTIONS)))?;
    for (name, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        step(format!("linking /dev/{name}"), symlink(to, dev.join(name)))?;
    }
    Ok(())
}

/// A link at a path of the user's choice. Best effort: what the agent has put there stays.
fn literal(root: &Path, link: &Path, target: &Path, uid: u32, gid: u32) {
    let Ok(relative) = link.strip_prefix("/") else { return };
    let mut folder = root.to_path_buf();
    let Some(parent) = relative.parent() else { return };
    for part in parent.components() {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            // A link on the way is the agent's; it is not followed on the host's root.
            Ok(metadata) if !metadata.is_dir() => return,
            Ok(_) => {}
            Err(_) => {
                if fs::DirBuilder::new().mode(0o755).create(&folder).is_err() {
                    return;
                }
                let _ = std::os::unix::fs::lchown(&folder, Some(uid), Some(gid));
            }
        }
    }
    let place = root.join(relative);
    if is_ours(&place) {
        let _ = fs::remove_file(&place);
    }
    if symlink(target, &place).is_ok() {
        let _ = std::os::unix::fs::lchown(&place, Some(uid), Some(gid));
    }
}

/// Removes such a link, if it is still what it was. Best effort, like making it.
fn unlink(root: &Path, link: &Path) {
    let Ok(relative) = link.strip_prefix("/") else { return };
    let mut place = root.to_path_buf();
    for part in relative.components() {
        // What is below a link is somewhere else.
        if fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
            return;
        }
        place.push(part);
    }
    if is_ours(&place) {
        let _ = fs::remove_file(&place);
    }
}

fn is_ours(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to.starts_with("/mnt/session/uploads"))
}

/// Leaves the host's root behind.
fn pivot() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

fn folder(root: &Path, path: impl AsRef<Path>) -> Result<PathBuf, Failed> {
    let path = path.as_ref();
    let folder = root.join(path.strip_prefix("/").unwrap_or(path));
    let made = fs::DirBuilder::new().mode(0o755).recursive(true).create(&folder);
    step(format!("making /{}", path.display()), made)?;
    Ok(folder)
}

fn mount_new(kind: &str, target: &Path, flags: MountFlags, data: Option<&CStr>) -> io::Result<()> {
    Ok(rustix::mount::mount(kind, target, kind, flags, data)?)
}

fn bind(source: &Path, target: &Path, flags: MountFlags) -> io::Result<()> {
    rustix::mount::mount_bind_recursive(source, target)?;
    reflag(target, flags, true)
}

fn read_only(source: &Path, target: &Path) -> io::Result<()> {
    bind(source, target, QUIET | MountFlags::RDONLY)
}

/// Sets flags on a mount, or on it and all below. Never takes one away, which a user namespace
/// may not.
fn reflag(target: &Path, flags: MountFlags, below: bool) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        namespace: u64,
    }
    let bit = |flag, value| if flags.contains(flag) { value } else { 0 };
    let set = bit(MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY)
        | bit(MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID)
        | bit(MountFlags::NODEV, libc::MOUNT_ATTR_NODEV)
        | bit(MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC);
    let attributes = Attributes { set, clear: 0, propagation: 0, namespace: 0 };
    let path = std::ffi::CString::new(target.as_os_str().as_encoded_bytes())?;
    // SAFETY: path and attributes live through the call; the size is the structure's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            CWD.as_raw_fd(),
            path.as_ptr(),
            if below { libc::AT_RECURSIVE } else { 0 },
            std::ptr::from_ref(&attributes),
            size_of::<Attributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
