//! Which system calls a cage may make: the filter that the helper puts on itself last.
//!
//! The list names what is allowed. What it does not name, a call of a later kernel included,
//! answers `ENOSYS`. Holds rules alone: it never looks at the host, and it closes nothing that a
//! process without capabilities could not reach anyway, but for the doors that have no other lock.

mod list;

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Families that a socket may have, besides netlink: Unix, IPv4 and IPv6.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Flags of `clone` that make a namespace. That of time shares its bit with the exit signal and
/// exists in `clone3` and `unshare` alone, which are closed.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Types of internet sockets that nobody here needs, and whose code is rarely looked at:
/// `SOCK_RDM`, `SOCK_SEQPACKET`, `SOCK_DCCP`, and `SOCK_PACKET`, which is a packet socket in disguise.
const TYPES_CLOSED: [u64; 4] = [4, 5, 6, 10];

/// Protocols of internet sockets that load a module of the kernel when they are asked for: DCCP,
/// L2TP, SCTP and UDP-Lite.
const PROTOCOLS_CLOSED: [u64; 4] = [33, 115, 132, 136];

/// The bits of a socket's type that are its type. The others are flags.
const TYPE_MASK: u64 = 0xf;

/// Personalities that may be asked for: the question itself, plain Linux, 32 bit, an old release
/// number, and all of them with addresses that are not random, as debuggers want them.
const PERSONALITIES: [u64; 9] = [
    0xffff_ffff,
    0,
    0x0008,
    0x0002_0000,
    0x0002_0008,
    0x0004_0000,
    0x0004_0008,
    0x0006_0000,
    0x0006_0008,
];

/// Requests of `ioctl` that type into a terminal as if its user had, steer the console, or load a
/// line discipline: `TIOCSTI`, `TIOCLINUX`, `TIOCSETD`.
const REQUESTS_CLOSED: [u64; 3] = [0x5412, 0x541c, 0x5423];

/// The filter, compiled: once in the launcher, for all that it forks.
#[derive(Debug, Clone)]
pub struct Program {
    /// In the order in which they are installed. Where two refuse a call, the later one's errno is
    /// seen.
    layers: Vec<BpfProgram>,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule can't be said in the kernel's language.
    #[error("the filter of system calls can't be compiled for this processor")]
    Compile(#[source] seccompiler::Error),
    /// This processor has no list.
    #[error("there is no list of system calls for this processor; x86_64 and aarch64 have one")]
    Processor,
}

impl From<seccompiler::BackendError> for Error {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Compile(seccompiler::Error::Backend(error))
    }
}

/// Compiles the filter for this processor.
///
/// # Errors
///
/// When the processor has no list, or a rule is wrong.
pub fn program() -> Result<Program, Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| Error::Processor)?;
    let errno = |number: libc::c_int| SeccompAction::Errno(number.unsigned_abs());
    // `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`.
    let processor = match arch {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => return Err(Error::Processor),
    };
    let allowed = list::filter(&allowed(), processor, libc::ENOSYS.unsigned_abs());
    let allowed = allowed.ok_or(Error::Processor)?;
    let layers = [
        (forbidden()?, SeccompAction::Allow, errno(libc::EPERM)),
        (families()?, SeccompAction::Allow, errno(libc::EAFNOSUPPORT)),
        // It takes any number of bytes at once, between two looks at the disk. Programs write
        // zeros instead, which is as slow as writing is.
        ([(libc::SYS_fallocate, Vec::new())].into(), SeccompAction::Allow, errno(libc::EOPNOTSUPP)),
    ];
    let layers = layers.into_iter().map(|(rules, otherwise, matched)| {
        let filter = SeccompFilter::new(rules, otherwise, matched, arch)?;
        Ok(BpfProgram::try_from(filter)?)
    });
    let layers = std::iter::once(Ok(allowed)).chain(layers).collect::<Result<_, Error>>()?;
    Ok(Program { layers })
}

impl Program {
    /// Puts the filter on the calling thread and everything that it starts from now on. It can't be
    /// taken off.
    ///
    /// # Errors
    ///
    /// When the kernel refuses: without filters, or without `no_new_privs`.
    pub fn install(&self) -> io::Result<()> {
        for layer in &self.layers {
            seccompiler::apply_filter(layer).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Arguments are compared in their low 32 bits everywhere: that is all the kernel itself reads of
/// them, and what stands above is the caller's to fill.
fn when(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn number(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

/// What answers `EPERM`: what programs know to be the administrator's alone, and arguments that are
/// refused of calls that are not.
fn forbidden() -> Result<Rules, Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};

    let mut rules: Rules = ADMINISTRATOR.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm].map(|call| (call, Vec::new())));
    let mut namespaces = Vec::new();
    for flag in NAMESPACES.map(number) {
        namespaces.push(SeccompRule::new(vec![when(0, MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    let mut requests = Vec::new();
    for request in REQUESTS_CLOSED {
        requests.push(SeccompRule::new(vec![when(1, Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    // Limits of others: the helper has the same user inside, and could be starved.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![when(0, Ne, 0)?])?]);
    let others =
        PERSONALITIES.iter().map(|value| when(0, Ne, *value)).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(others)?]);
    Ok(rules)
}

/// What answers `EAFNOSUPPORT`: sockets of all families but the few that are allowed. Network
/// namespaces do not hold all of them back: one of vsock reaches the hypervisor from any.
fn families() -> Result<Rules, Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};

    let netlink = number(libc::AF_NETLINK);
    let mut others = vec![when(0, Ne, netlink)?];
    for family in FAMILIES.map(number) {
        others.push(when(0, Ne, family)?);
    }
    let mut rules = vec![
        SeccompRule::new(others)?,
        SeccompRule::new(vec![when(0, Eq, netlink)?, when(2, Ne, number(libc::NETLINK_ROUTE))?])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6].map(number) {
        for kind in TYPES_CLOSED {
            let kind = when(1, MaskedEq(TYPE_MASK), kind)?;
            rules.push(SeccompRule::new(vec![when(0, Eq, family)?, kind])?);
        }
        for protocol in PROTOCOLS_CLOSED {
            let protocol = when(2, Eq, protocol)?;
            rules.push(SeccompRule::new(vec![when(0, Eq, family)?, protocol])?);
        }
    }
    Ok([(libc::SYS_socket, rules.clone()), (libc::SYS_socketpair, rules)].into())
}

/// The administrator's calls. They are not on the list of the allowed, and would answer `ENOSYS`;
/// `EPERM` is what programs expect of them.
const ADMINISTRATOR: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// All calls that are allowed on this processor.
fn allowed() -> Vec<libc::c_long> {
    let mut all = ALLOWED.to_vec();
    all.extend_from_slice(ALLOWED_LATE);
    #[cfg(target_arch = "x86_64")]
    all.extend_from_slice(ALLOWED_BY_AGE);
    all
}

/// What every processor has.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_get_robust_list,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioctl,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_mremap,
    libc::SYS_mseal,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_personality,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_prlimit64,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pselect6,
    libc::SYS_ptrace,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_remap_file_pages,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_set_robust_list,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_set_tid_address,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Calls that `libc` has no name for on both processors. Late calls have one number everywhere:
/// `cachestat`, `fchmodat2`, `futex_wake`, `futex_wait`, `futex_requeue`, and the four of extended
/// attributes that end in `at`.
const ALLOWED_LATE: &[libc::c_long] = &[451, 452, 454, 455, 456, 463, 464, 465, 466];

/// What x86_64 alone has, from the time before calls took folders and flags.
#[cfg(target_arch = "x86_64")]
const ALLOWED_BY_AGE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
