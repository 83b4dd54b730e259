//! The memory, files and rights of one other process, and what is seen of the rest.
//!
//! In a cage the target is the helper. On a bare host it is a process made for the purpose:
//! nobody else's is looked at.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::attempt::{Attempt, Control, Probe};
use crate::files::write_open;
use crate::kernel::{self, call, open_and_close};

pub(crate) fn probes(target: u32) -> Vec<Probe> {
    let mut probes = Vec::new();
    let root = Control::Allowed;
    for name in [
        "mem",
        "environ",
        "maps",
        "smaps",
        "auxv",
        "pagemap",
        "fdinfo",
        "fd",
        "map_files",
        "stack",
        "syscall",
        "personality",
        "timers",
    ] {
        let control = if ["stack", "map_files", "timers", "syscall"].contains(&name) {
            Control::Where("a kernel that has this file")
        } else {
            root
        };
        probes.push(Probe::refused(format!("target_{name}_read"), control, move || {
            read(&format!("/proc/{target}/{name}"))
        }));
        let twice = format!("/proc/{target}/task/{target}/{name}");
        if !["map_files", "timers"].contains(&name) {
            probes.push(Probe::refused(format!("target_task_{name}_read"), control, move || {
                read(&twice)
            }));
        }
    }
    for name in ["mem", "clear_refs", "coredump_filter", "comm", "oom_score_adj", "uid_map"] {
        let control = Control::Where("a kernel that has this file");
        probes.push(Probe::refused(format!("target_{name}_write_open"), control, move || {
            write_open(format!("/proc/{target}/{name}"))
        }));
    }
    for name in ["root", "cwd", "exe"] {
        probes.push(Probe::refused(format!("target_{name}_link"), root, move || {
            Attempt::of(fs::read_link(format!("/proc/{target}/{name}")))
        }));
        probes.push(Probe::refused(format!("target_{name}_open"), root, move || {
            Attempt::of(File::open(format!("/proc/{target}/{name}")))
        }));
    }
    probes.push(Probe::refused("target_exe_write_open", root, move || {
        Attempt::by_permission_of_file(&format!("/proc/{target}/exe"))
    }));
    probes.push(Probe::refused("target_trace", root, move || {
        // Seized, not stopped, and let go of when this child ends.
        Attempt::by_success(call!(libc::SYS_ptrace, i64::from(libc::PTRACE_SEIZE), target, 0, 0))
    }));
    probes.push(Probe::refused("target_attach", root, move || {
        let answer = call!(libc::SYS_ptrace, i64::from(libc::PTRACE_ATTACH), target, 0, 0);
        let attempt = Attempt::by_success(answer);
        if let Attempt::Allowed(_) = attempt {
            let pid = i32::try_from(target).unwrap_or(-1);
            kernel::wait(pid);
            let _ = call!(libc::SYS_ptrace, i64::from(libc::PTRACE_DETACH), target, 0, 0);
        }
        attempt
    }));
    probes.push(Probe::refused("target_memory_read", root, move || {
        memory(libc::SYS_process_vm_readv, target)
    }));
    probes.push(Probe::refused("target_memory_write", root, move || {
        memory(libc::SYS_process_vm_writev, target)
    }));
    probes.push(Probe::refused("target_descriptor_taken", root, move || {
        let handle = match call!(libc::SYS_pidfd_open, target, 0) {
            Ok(handle) => handle,
            Err(error) => return Attempt::refused(&error),
        };
        Attempt::by_permission(open_and_close(call!(libc::SYS_pidfd_getfd, handle, 0, 0)))
    }));
    probes.push(Probe::refused(
        "target_compared",
        Control::Where("a kernel with kcmp"),
        move || {
            const MEMORY: i32 = 1;
            Attempt::by_success(call!(libc::SYS_kcmp, std::process::id(), target, MEMORY, 0, 0))
        },
    ));
    let others = Control::Where("a host where processes of the kernel or of others are seen");
    probes.push(Probe::refused("processes_of_others_seen", others, others_seen));
    probes
}

fn read(path: &str) -> Attempt {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) => return Attempt::refused(&error),
    };
    if about.is_dir() {
        return match fs::read_dir(path).map(|mut entries| entries.next()) {
            Ok(Some(Ok(entry))) => Attempt::Allowed(entry.path().display().to_string()),
            Ok(Some(Err(error))) | Err(error) => Attempt::refused(&error),
            Ok(None) => Attempt::absent("empty"),
        };
    }
    // Some check when they are opened, others when they are read. Memory at 0 is no memory.
    use std::io::Read;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return Attempt::refused(&error),
    };
    match file.read(&mut [0; 64]) {
        Ok(0) => Attempt::absent("empty"),
        answer => Attempt::by_permission(answer.map(|read| read as i64)),
    }
}

/// Asks for a byte at an address where nothing is.
fn memory(call: i64, target: u32) -> Attempt {
    let mut byte = [0_u8; 1];
    let mut own = [0_u8; 16];
    own[..8].copy_from_slice(&(byte.as_mut_ptr() as u64).to_ne_bytes());
    own[8] = 1;
    let mut theirs = [0_u8; 16];
    theirs[..8].copy_from_slice(&8_u64.to_ne_bytes());
    theirs[8] = 1;
    Attempt::by_permission(call!(call, target, &mut own, 1, &mut theirs, 1, 0))
}

/// Processes of another user, or of the kernel.
fn others_seen() -> Attempt {
    let own = fs::metadata("/proc/self").map(|about| about.uid()).unwrap_or_default();
    let mut seen = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        seen += 1;
        let kernel = fs::read(entry.path().join("cmdline")).is_ok_and(|text| text.is_empty())
            && fs::read_to_string(entry.path().join("status"))
                .is_ok_and(|text| text.contains("\nPPid:\t2\n") && !text.contains("State:\tZ"));
        // What can't be traced belongs to root in /proc, so the helper is not told by its owner.
        let stranger = pid != 1
            && fs::read_to_string(entry.path().join("status")).is_ok_and(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("Uid:"));
                let uid = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
                uid.is_some_and(|uid| uid != own)
            });
        if kernel || stranger {
            return Attempt::Allowed(format!("process {pid}"));
        }
    }
    Attempt::absent(format!("{seen} processes, none of others"))
}
