//! Mounts, roots and namespaces: making new ones, and entering those of somebody else.
//!
//! On a host that allows it, mounts are made in a mount namespace of this probe's own, and
//! are gone with it.

use std::fs::OpenOptions;
use std::io::Write;

use crate::attempt::{Attempt, Control, Probe};
use crate::kernel::{self, call, open_and_close};

/// The kinds of namespaces, by the name of the file in `/proc/PID/ns`.
const KINDS: [(&str, i32); 8] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", TIME),
];

/// `CLONE_NEWTIME`, which `clone` can't be told: it would be read as a signal.
const TIME: i32 = 0x80;
const FSOPEN_CLOEXEC: i32 = 1;
const OPEN_TREE_CLONE: i32 = 1;

pub(crate) fn probes(target: u32) -> Vec<Probe> {
    let mut probes = Vec::new();
    let root = Control::Allowed;
    let mut add = |name: &str, attempt: fn() -> Attempt| {
        probes.push(Probe::refused(name, root, attempt));
    };
    add("mount_tmpfs", || mount(c"none", c"/tmp", c"tmpfs", 0));
    add("mount_proc", || mount(c"proc", c"/tmp", c"proc", 0));
    add("mount_bind", || mount(c"/", c"/tmp", c"none", libc::MS_BIND));
    add("remount_writable", || mount(c"none", c"/", c"none", libc::MS_REMOUNT | libc::MS_BIND));
    add("umount", || {
        own_mounts();
        // A folder that no mount is on: whoever may unmount is told so.
        Attempt::by_permission(call!(libc::SYS_umount2, c"/proc/self", libc::MNT_DETACH))
    });
    add("pivot_root", || {
        own_mounts();
        let nowhere = c"/posthouse-probe-absent";
        Attempt::by_permission(call!(libc::SYS_pivot_root, nowhere, nowhere))
    });
    add("fsopen", || {
        own_mounts();
        Attempt::by_success(open_and_close(call!(libc::SYS_fsopen, c"tmpfs", FSOPEN_CLOEXEC)))
    });
    add("fsmount", || Attempt::by_permission(call!(libc::SYS_fsmount, -1, 0, 0)));
    add("fspick", || {
        own_mounts();
        let answer = call!(libc::SYS_fspick, libc::AT_FDCWD, c"/", FSOPEN_CLOEXEC);
        Attempt::by_success(open_and_close(answer))
    });
    add("open_tree", || {
        own_mounts();
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
        let answer = call!(libc::SYS_open_tree, libc::AT_FDCWD, c"/", flags);
        Attempt::by_success(open_and_close(answer))
    });
    add("move_mount", || Attempt::by_permission(call!(libc::SYS_move_mount, -1, c"", -1, c"", 0)));
    add("mount_setattr", || {
        own_mounts();
        let mut nothing = [0_u8; 32];
        let size = 32;
        let buffer = &mut nothing;
        let answer = call!(libc::SYS_mount_setattr, libc::AT_FDCWD, c"/", 0, buffer, size);
        Attempt::by_success(answer)
    });
    add("chroot", || Attempt::by_success(call!(libc::SYS_chroot, c"/")));
    add("user_map_write", || {
        if let Err(error) = call!(libc::SYS_unshare, libc::CLONE_NEWUSER) {
            return Attempt::refused(&error);
        }
        let file = OpenOptions::new().write(true).open("/proc/self/uid_map");
        Attempt::of(file.and_then(|mut file| file.write_all(b"0 0 1\n")))
    });
    add("own_user_map_write", || {
        // Of the namespace that it lives in: one that has a map takes no second one.
        let maps = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        match maps.split_whitespace().collect::<Vec<_>>()[..] {
            ["0", "0", _] => Attempt::Allowed("lives in the host's own user namespace".into()),
            [_, "0", _] => Attempt::Allowed("the host's root is in the map".into()),
            _ => Attempt::absent(maps.trim().to_owned()),
        }
    });
    for (name, flag) in KINDS {
        probes.push(Probe::refused(format!("unshare_{name}"), root, move || {
            Attempt::by_success(call!(libc::SYS_unshare, flag))
        }));
        if flag != TIME {
            probes.push(Probe::refused(format!("clone_{name}"), root, move || {
                Attempt::by_success(kernel::clone(flag))
            }));
        }
        probes.push(Probe::refused(format!("clone3_{name}"), root, move || {
            Attempt::by_success(kernel::clone3(u64::try_from(flag).unwrap_or_default()))
        }));
        // Nobody enters the user namespace that he is in: the host says so by EINVAL.
        probes.push(Probe::refused(format!("setns_own_{name}"), root, move || {
            enter("self", name, flag)
        }));
        probes.push(Probe::refused(format!("setns_target_{name}"), root, move || {
            enter(&target.to_string(), name, flag)
        }));
    }
    probes.push(Probe::refused("setns_target_by_pidfd", root, move || {
        let handle = match call!(libc::SYS_pidfd_open, target, 0) {
            Ok(handle) => handle,
            Err(error) => return Attempt::refused(&error),
        };
        Attempt::by_permission(call!(libc::SYS_setns, handle, libc::CLONE_NEWNS))
    }));
    probes
}

/// A mount namespace of this probe's own, where that may be had.
fn own_mounts() {
    if call!(libc::SYS_unshare, libc::CLONE_NEWNS).is_ok() {
        let private = (libc::MS_REC | libc::MS_PRIVATE).cast_signed();
        let _ = call!(libc::SYS_mount, c"none", c"/", c"none", private, 0);
    }
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: u64,
) -> Attempt {
    own_mounts();
    let answer = call!(libc::SYS_mount, source, target, kind, flags.cast_signed(), 0);
    if answer.is_ok() && flags & libc::MS_REMOUNT == 0 {
        let _ = call!(libc::SYS_umount2, target, libc::MNT_DETACH);
    }
    Attempt::by_success(answer)
}

fn enter(process: &str, name: &str, flag: i32) -> Attempt {
    match std::fs::File::open(format!("/proc/{process}/ns/{name}")) {
        Ok(file) => Attempt::by_permission(call!(libc::SYS_setns, kernel::number(&file), flag)),
        Err(error) => Attempt::refused(&error),
    }
}
