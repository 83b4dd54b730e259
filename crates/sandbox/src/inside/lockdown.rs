//! What the helper does to itself right before it serves: gives up every right that it had, in a
//! fixed order, and takes limits on.
//!
//! Runs once, in a process of one thread, after the root has changed. Nothing here can be undone,
//! and nothing that fails is passed over, but for what says so.

#![expect(unsafe_code, reason = "the calls that give rights up are not wrapped by rustix whole")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit, Signal},
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets},
};
use serde::{Deserialize, Serialize};

use super::seccomp::Program;
use crate::{cgroups::ResourceLevel, settings::Limits, tools::program::MOST};

/// Threads and processes that the helper may have beyond those of its tools, so that tools that use
/// up all of theirs can still be answered for and ended: each program beside the tools has a thread
/// and a warden. The limit of a cage's cgroup counts it in.
pub const RESERVE: u32 = 32 + 2 * MOST;

/// Devices of `/dev` that may be written to, and asked with `ioctl`: none leads to hardware, and
/// terminals are not terminals without.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/random",
    "/dev/urandom",
    "/dev/ptmx",
    "/dev/pts",
];

/// The latest of Landlock's versions that was tried. What it knows more than the kernel is left
/// out; what the kernel knows more is not used.
const LANDLOCK: ABI = ABI::V7;

/// `prctl` takes whole registers: an argument that is shorter would leave the rest to chance.
const NIL: libc::c_ulong = 0;

const AMBIENT_IS_SET: libc::c_ulong = libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong;

/// What was done, for the server to report. It comes from the helper before any tool has run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Landlock's version as it is in force. `None` where the kernel has none.
    pub landlock: Option<u32>,
    /// Whether system calls are filtered. Always true: without, there is no helper.
    pub seccomp: bool,
    /// Limits of a process that are lower than was asked for, because the host's own are.
    pub lower: Vec<String>,
}

/// Who the helper becomes.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The user inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
    /// Whether to leave all other groups: only where `setgroups` is permitted, which it is not in a
    /// namespace that an ordinary user made.
    pub drop_groups: bool,
}

/// Gives up all rights. Called in the helper after `pivot_root`, by its only thread, while it has
/// capabilities in its user namespace.
///
/// `writable` are the folders that may be written to, as they are called inside. Everything else
/// can be read where its mode permits it.
///
/// # Errors
///
/// At the first step that fails; its name is in the text. The process must end then.
pub fn lock_down(
    limits: &Limits,
    level: ResourceLevel,
    identity: Identity,
    writable: &[&Path],
    program: &Program,
) -> io::Result<Report> {
    drop_rights(identity)?;
    step("no_new_privs", rustix::thread::set_no_new_privs(true))?;
    let lower = set_limits(limits, level)?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // Both are reset by a change of user, so they come after it.
    let dumpable = DumpableBehavior::NotDumpable;
    step("dumpable", rustix::process::set_dumpable_behavior(dumpable))?;
    let death = Some(Signal::KILL);
    step("death signal", rustix::process::set_parent_process_death_signal(death))?;
    let landlock = restrict_files(writable)
        .map_err(|error| io::Error::other(format!("lock-down: landlock: {error}")))?;
    step("seccomp", program.install())?;
    Ok(Report { landlock, seccomp: true, lower })
}

/// What a tool's process does to itself between `fork` and `exec`: its own limit of processes is
/// lower than the helper's by [`RESERVE`]. Makes one system call and allocates nothing.
///
/// # Errors
///
/// Never but when the kernel refuses to lower a limit.
pub fn narrow_for_tool(limits: &Limits) -> io::Result<()> {
    let wanted = u64::from(limits.processes);
    let hard = rustix::process::getrlimit(Resource::Nproc).maximum;
    let wanted = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    let limit = Rlimit { current: wanted, maximum: wanted };
    Ok(rustix::process::setrlimit(Resource::Nproc, limit)?)
}

fn step<T>(name: &str, result: Result<T, impl Into<io::Error>>) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("lock-down: {name}: {error}"))
    })
}

/// Calls by number whose errors are in `errno`.
fn check(name: &str, answer: libc::c_long) -> io::Result<()> {
    step(name, if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
}

fn drop_rights(identity: Identity) -> io::Result<()> {
    let Identity { uid, gid, drop_groups } = identity;
    if drop_groups {
        // SAFETY: an empty list, whose pointer is not read. By number, since libc's function is one
        // for all threads and there is one only.
        let answer =
            unsafe { libc::syscall(libc::SYS_setgroups, 0_usize, std::ptr::null::<libc::gid_t>()) };
        check("groups", answer)?;
    }
    // Uid 0 and files with capabilities mean nothing from here on, and it stays so. What happens to
    // capabilities when the user changes stays as it is: they go.
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    step("secure bits", rustix::thread::set_capabilities_secure_bits(bits))?;
    for number in 0..64 {
        // SAFETY: takes numbers and returns one.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, NIL, NIL, NIL) } {
            // The kernel has no capability of this number, and none above it.
            answer if answer < 0 => break,
            0 => continue,
            _ => (),
        }
        // SAFETY: as above.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, NIL, NIL, NIL) };
        check("capability bounding set", answer.into())?;
    }
    step("ambient capabilities", rustix::thread::clear_ambient_capability_set())?;
    // SAFETY: takes numbers and returns one.
    check("group", unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check("user", unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    step("capabilities", rustix::thread::set_capabilities(None, sets))?;
    verify(identity)
}

/// Reads back what was given up. A kernel that said yes and did something else is not trusted.
fn verify(identity: Identity) -> io::Result<()> {
    let wrong = |what: &str| Err(io::Error::other(format!("lock-down: {what} did not change")));
    let (mut user, mut group) = ([0_u32; 3], [0_u32; 3]);
    // SAFETY: three places each, that live as long as the call.
    let answers = unsafe {
        [
            libc::getresuid(&raw mut user[0], &raw mut user[1], &raw mut user[2]),
            libc::getresgid(&raw mut group[0], &raw mut group[1], &raw mut group[2]),
        ]
    };
    if answers != [0, 0] || user != [identity.uid; 3] || group != [identity.gid; 3] {
        return wrong("user or group");
    }
    // SAFETY: asks for the count alone.
    if identity.drop_groups && unsafe { libc::getgroups(0, std::ptr::null_mut()) } != 0 {
        return wrong("groups");
    }
    let sets = step("capabilities", rustix::thread::capabilities(None))?;
    if !(sets.effective | sets.permitted | sets.inheritable).is_empty() {
        return wrong("capabilities");
    }
    for number in 0..64 {
        // SAFETY: takes numbers and returns one.
        let (bounding, ambient) = unsafe {
            (
                libc::prctl(libc::PR_CAPBSET_READ, number, NIL, NIL, NIL),
                libc::prctl(libc::PR_CAP_AMBIENT, AMBIENT_IS_SET, number, NIL, NIL),
            )
        };
        if bounding > 0 || ambient > 0 {
            return wrong("capability bounding or ambient set");
        }
    }
    Ok(())
}

/// Sets the limits of a process. None is ever raised: where the host's own is lower, that one
/// stays, and is told.
fn set_limits(limits: &Limits, level: ResourceLevel) -> io::Result<Vec<String>> {
    let processes = u64::from(limits.processes) + u64::from(RESERVE);
    let mut wanted = vec![
        ("processes", Resource::Nproc, processes),
        ("open files", Resource::Nofile, limits.open_files),
        ("file size", Resource::Fsize, limits.file_size),
        // Not 0: a host whose core pattern is a pipe starts its handler as root for 0, with what a
        // hostile process makes of itself. Of 1 the kernel makes no core and starts no handler.
        ("core", Resource::Core, 1),
        ("locked memory", Resource::Memlock, 8 << 20),
        ("message queues", Resource::Msgqueue, 819_200),
        ("pending signals", Resource::Sigpending, 4096),
        ("nice", Resource::Nice, 0),
        ("real-time priority", Resource::Rtprio, 0),
    ];
    // Data, not address space: node and java reserve far more than they ever use.
    if level == ResourceLevel::Rlimits {
        wanted.push(("memory", Resource::Data, limits.memory));
    }
    let mut lower = Vec::new();
    for (name, resource, wanted) in wanted {
        let hard = rustix::process::getrlimit(resource).maximum;
        let value = hard.map_or(wanted, |hard| hard.min(wanted));
        if value < wanted {
            lower.push(format!("{name}: {value} instead of {wanted}"));
        }
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        step(name, rustix::process::setrlimit(resource, limit))?;
    }
    Ok(lower)
}

/// Landlock: everything can be read and executed as far as its mode permits, only `writable` and
/// some devices can be written to. Best effort: what the kernel does not know is left out.
fn restrict_files(writable: &[&Path]) -> Result<Option<u32>, Box<dyn std::error::Error>> {
    let read = AccessFs::from_read(LANDLOCK);
    let all = AccessFs::from_all(LANDLOCK);
    let device = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::IoctlDev;
    // Of `/proc` a process writes its own files: the kernel's rules for whose they are still hold.
    let own: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    rules = add(rules, &open(Path::new("/"))?, read)?;
    for path in writable {
        rules = add(rules, &open(path)?, all & !AccessFs::IoctlDev)?;
    }
    let others = DEVICES.iter().map(|device_path| (*device_path, device));
    let shared = ("/dev/shm", all & !AccessFs::IoctlDev);
    for (path, access) in others.chain([shared, ("/proc", read | own)]) {
        match open(Path::new(path)) {
            Ok(found) => rules = add(rules, &found, access)?,
            // A cage has what its set-up made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error.into()),
        }
    }
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Ok(None);
    }
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => {
            Some((effective_abi as u32).min(LANDLOCK as u32))
        }
        _ => None,
    })
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })
}

/// Rights that make sense for folders alone are refused for a file.
fn add(
    rules: landlock::RulesetCreated,
    found: &OwnedFd,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, Box<dyn std::error::Error>> {
    let folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode).is_dir();
    let access = if folder { access } else { access & AccessFs::from_file(LANDLOCK) };
    Ok(rules.add_rule(PathBeneath::new(found.as_fd(), access))?)
}

#[cfg(test)]
mod tests;
