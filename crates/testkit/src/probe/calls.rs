//! System calls that change the whole host, gain rights, or are doors to much of the kernel.
//!
//! Each is made with arguments that can't do anything: wrong magic numbers, names that do not
//! exist, the same value again. A complaint about the arguments tells that permission was given.

use crate::attempt::{Attempt, Control, Probe};
use crate::kernel::{self, call, open_and_close};

const ABSENT: &std::ffi::CStr = c"/posthouse-probe-absent";
const BUILT: Control = Control::Where("a kernel that was built with it, and rights that root has");
const NO_SUCH_CALL: i64 = 4000;

/// By name, what the control says, and the attempt.
type Row = (&'static str, Control, fn() -> Attempt);

const ROWS: &[Row] = &[
    ("io_uring_setup", BUILT, || {
        let mut parameters = [0_u8; 120];
        let answer = call!(libc::SYS_io_uring_setup, 1, &mut parameters);
        Attempt::by_success(open_and_close(answer))
    }),
    ("io_uring_enter", BUILT, || {
        Attempt::by_permission(call!(libc::SYS_io_uring_enter, -1, 0, 0, 0, 0, 0))
    }),
    ("io_uring_register", BUILT, || {
        Attempt::by_permission(call!(libc::SYS_io_uring_register, -1, 0, 0, 0))
    }),
    ("bpf", BUILT, || {
        // BPF_MAP_CREATE of an array with one entry: type 2, keys of 4 bytes, values of 4.
        let mut attributes = [0_u8; 72];
        for (place, value) in [(0, 2), (4, 4), (8, 4), (12, 1)] {
            attributes[place] = value;
        }
        Attempt::by_success(open_and_close(call!(libc::SYS_bpf, 0, &mut attributes, 72)))
    }),
    ("perf_event_open", BUILT, || {
        // A clock in software, of this process, user space only.
        let mut attributes = [0_u8; 64];
        for (place, value) in [(0, 1), (4, 64), (40, 0x60)] {
            attributes[place] = value;
        }
        let answer = call!(libc::SYS_perf_event_open, &mut attributes, 0, -1, -1, 8);
        Attempt::by_success(open_and_close(answer))
    }),
    ("keyctl", BUILT, || {
        const GET_KEYRING_ID: i32 = 0;
        const SESSION: i32 = -3;
        Attempt::by_permission(call!(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0))
    }),
    ("add_key", BUILT, || {
        // The keyring of this process, which goes with it.
        const PROCESS: i32 = -2;
        let (kind, name, value) = (c"user", c"posthouse-probe", c"x");
        Attempt::by_success(call!(libc::SYS_add_key, kind, name, value, 1, PROCESS))
    }),
    ("request_key", BUILT, || {
        let (kind, name) = (c"user", c"posthouse-probe-absent");
        Attempt::by_permission(call!(libc::SYS_request_key, kind, name, 0, 0))
    }),
    ("userfaultfd", BUILT, || {
        const USER_MODE_ONLY: i32 = 1;
        let flags = libc::O_CLOEXEC | USER_MODE_ONLY;
        Attempt::by_success(open_and_close(call!(libc::SYS_userfaultfd, flags)))
    }),
    ("name_to_handle_at", Control::Allowed, || {
        let mut handle = empty_handle();
        let mut mount = [0_u8; 4];
        Attempt::by_success(call!(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            c"/tmp",
            &mut handle,
            &mut mount,
            0
        ))
    }),
    ("open_by_handle_at", Control::Allowed, || {
        let mut handle = empty_handle();
        let mut mount = [0_u8; 4];
        let _ =
            call!(libc::SYS_name_to_handle_at, libc::AT_FDCWD, c"/", &mut handle, &mut mount, 0);
        let root = match std::fs::File::open("/") {
            Ok(root) => root,
            Err(error) => return Attempt::refused(&error),
        };
        let answer = call!(
            libc::SYS_open_by_handle_at,
            kernel::number(&root),
            &mut handle,
            libc::O_PATH | libc::O_CLOEXEC
        );
        Attempt::by_permission(open_and_close(answer))
    }),
    ("fanotify_init", BUILT, || {
        Attempt::by_success(open_and_close(call!(libc::SYS_fanotify_init, 1, 0)))
    }),
    ("fanotify_init_without_rights", BUILT, || {
        const REPORT_FID: i32 = 0x200;
        Attempt::by_success(open_and_close(call!(libc::SYS_fanotify_init, REPORT_FID, 0)))
    }),
    // More segments than there may be, and flags that nobody knows: nothing is loaded or unloaded.
    ("kexec_load", BUILT, || {
        Attempt::by_permission(call!(libc::SYS_kexec_load, 0, 9999, 0, 0x0fff))
    }),
    ("kexec_file_load", BUILT, || {
        Attempt::by_permission(call!(SYS_KEXEC_FILE_LOAD, -1, -1, 0, 0, 0x0fff))
    }),
    ("init_module", BUILT, || Attempt::by_permission(call!(libc::SYS_init_module, 0, 0, c""))),
    ("finit_module", BUILT, || Attempt::by_permission(call!(libc::SYS_finit_module, -1, c"", 0))),
    ("delete_module", BUILT, || {
        let name = c"posthouse_probe_absent";
        Attempt::by_permission(call!(libc::SYS_delete_module, name, libc::O_NONBLOCK))
    }),
    ("quotactl", BUILT, || {
        // "How is the quota of a disk that does not exist": Q_GETFMT of users.
        let command = 0x0080_0004_i64 << 8;
        Attempt::by_permission(call!(libc::SYS_quotactl, command, ABSENT, 0, 0))
    }),
    ("quotactl_fd", BUILT, || {
        Attempt::by_permission(call!(SYS_QUOTACTL_FD, -1, 0x0080_0004_i64 << 8, 0, 0))
    }),
    ("swapon", BUILT, || Attempt::by_permission(call!(libc::SYS_swapon, ABSENT, 0))),
    ("swapoff", BUILT, || Attempt::by_permission(call!(libc::SYS_swapoff, ABSENT))),
    // The magic numbers are wrong: whoever may reboot is told so, and nothing happens.
    ("reboot", BUILT, || Attempt::by_permission(call!(libc::SYS_reboot, 1, 2, 3, 0))),
    // Neither a time nor a zone: nothing is set.
    ("settimeofday", BUILT, || Attempt::by_permission(call!(libc::SYS_settimeofday, 0, 0))),
    ("clock_settime", BUILT, || Attempt::by_permission(call!(libc::SYS_clock_settime, 0, 0))),
    ("clock_adjtime", BUILT, || Attempt::by_permission(call!(libc::SYS_clock_adjtime, 99, 0))),
    ("acct", BUILT, || Attempt::by_permission(call!(libc::SYS_acct, ABSENT))),
    ("lookup_dcookie", Control::Nowhere("gone from kernels since 6.8"), || {
        Attempt::by_permission(call!(SYS_LOOKUP_DCOOKIE, 0, 0, 0))
    }),
    ("memfd_secret", BUILT, || {
        Attempt::by_success(open_and_close(call!(SYS_MEMFD_SECRET, libc::O_CLOEXEC)))
    }),
    ("syslog", BUILT, || {
        // The size of the buffer: needs the same right as reading it.
        Attempt::by_success(call!(libc::SYS_syslog, 10, 0, 0))
    }),
    ("personality_read_implies_exec", Control::Allowed, || {
        Attempt::by_success(call!(libc::SYS_personality, 0x0040_0000))
    }),
    ("set_host_name", Control::Allowed, || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim_end();
        let mut bytes = name.as_bytes().to_vec();
        let size = i64::try_from(bytes.len()).unwrap_or_default();
        Attempt::by_success(call!(libc::SYS_sethostname, &mut bytes, size))
    }),
    ("set_domain_name", Control::Allowed, || {
        let name = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap_or_default();
        let mut bytes = name.trim_end().as_bytes().to_vec();
        let size = i64::try_from(bytes.len()).unwrap_or_default();
        Attempt::by_success(call!(libc::SYS_setdomainname, &mut bytes, size))
    }),
    ("become_root", Control::Allowed, || Attempt::by_success(call!(libc::SYS_setresuid, 0, 0, 0))),
    ("become_root_group", Control::Allowed, || {
        Attempt::by_success(call!(libc::SYS_setresgid, 0, 0, 0))
    }),
    ("become_somebody_else", Control::Allowed, || {
        Attempt::by_success(call!(libc::SYS_setresuid, 4711, 4711, 4711))
    }),
    ("set_groups", Control::Allowed, || Attempt::by_success(call!(libc::SYS_setgroups, 0, 0))),
    ("file_system_user", Control::Allowed, || {
        // Answers the former one, whatever was asked: the second question shows what is.
        let _ = call!(libc::SYS_setfsuid, 0);
        match call!(libc::SYS_setfsuid, -1) {
            Ok(0) => Attempt::Allowed("files are opened as root".into()),
            other => Attempt::absent(format!("files are opened as {other:?}")),
        }
    }),
    ("capset", Control::Allowed, || {
        // Version 3, this process; CAP_CHOWN effective, permitted, inheritable.
        let mut header = [0_u8; 8];
        header[..4].copy_from_slice(&0x2008_0522_u32.to_ne_bytes());
        let mut sets = [0_u8; 24];
        for place in [0, 4, 8] {
            sets[place] = 1;
        }
        Attempt::by_success(call!(libc::SYS_capset, &mut header, &mut sets))
    }),
    ("capabilities_held", Control::Allowed, || any_capability(&["CapPrm", "CapEff", "CapInh"])),
    ("capabilities_to_be_had", Control::Allowed, || any_capability(&["CapBnd", "CapAmb"])),
    ("new_privileges", Control::Allowed, || match kernel::status("NoNewPrivs").as_deref() {
        Some("1") => Attempt::absent("none are given"),
        other => Attempt::Allowed(format!("{other:?}")),
    }),
    ("without_a_filter", Control::Allowed, || match kernel::status("Seccomp").as_deref() {
        Some("2") => Attempt::absent("system calls are filtered"),
        other => Attempt::Allowed(format!("{other:?}")),
    }),
    ("lower_nice_value", Control::Allowed, || {
        Attempt::by_success(call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -5))
    }),
    ("lower_own_oom_score", BUILT, || {
        Attempt::of(std::fs::write("/proc/self/oom_score_adj", "-1000"))
    }),
    ("change_a_route", BUILT, change_a_route),
    ("real_time_priority", BUILT, || {
        const ROUND_ROBIN: i32 = 2;
        let mut priority = [1_u8, 0, 0, 0];
        Attempt::by_success(call!(libc::SYS_sched_setscheduler, 0, ROUND_ROBIN, &mut priority))
    }),
    ("raise_process_limit", Control::Where("limits that root may raise"), || raise_limits()),
    // On a pipe: whoever may ask is told that it is no terminal.
    ("terminal_input", Control::Allowed, || on_a_pipe(0x5412)),
    ("terminal_input_upper_bits", Control::Allowed, || on_a_pipe(0x5412 | 1 << 32)),
    ("console_ioctl", Control::Allowed, || on_a_pipe(0x541C)),
    ("line_discipline", Control::Allowed, || on_a_pipe(0x5423)),
    ("unknown_call", Control::Nowhere("no kernel has this number"), || match call!(NO_SUCH_CALL) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Attempt::refused(&error),
        Err(error) => Attempt::Allowed(format!("programs would not fall back: {error}")),
        Ok(value) => Attempt::Allowed(value.to_string()),
    }),
];

const SYS_KEXEC_FILE_LOAD: i64 = if cfg!(target_arch = "x86_64") { 320 } else { 294 };
const SYS_LOOKUP_DCOOKIE: i64 = if cfg!(target_arch = "x86_64") { 212 } else { 18 };
const SYS_QUOTACTL_FD: i64 = 443;
const SYS_MEMFD_SECRET: i64 = 447;

pub(crate) fn probes() -> Vec<Probe> {
    let rows = ROWS.iter().map(|(name, control, attempt)| Probe::refused(*name, *control, attempt));
    let mut probes: Vec<Probe> = rows.collect();
    probes.extend(of_this_processor());
    probes
}

#[cfg(target_arch = "x86_64")]
fn of_this_processor() -> Vec<Probe> {
    const X32: i64 = 0x4000_0000;
    vec![
        // In this child alone, and it does not touch a port.
        Probe::refused("iopl", BUILT, || Attempt::by_success(call!(libc::SYS_iopl, 3))),
        Probe::refused("ioperm", BUILT, || {
            Attempt::by_success(call!(libc::SYS_ioperm, 0x80, 1, 1))
        }),
        Probe::refused("modify_ldt", BUILT, || {
            let mut table = [0_u8; 64];
            Attempt::by_success(call!(libc::SYS_modify_ldt, 0, &mut table, 64))
        }),
        Probe::refused("calls_of_32_bits", BUILT, || match kernel::call_of_32_bits() {
            pid if pid > 0 => Attempt::Allowed(format!("answered {pid}")),
            error => Attempt::Refused(i32::try_from(-error).ok(), "refused".into()),
        }),
        Probe::refused("calls_of_x32", Control::Where("a kernel with x32"), || {
            Attempt::by_success(call!(X32 | libc::SYS_getpid))
        }),
        Probe::refused("calls_of_x32_unshare", Control::Where("a kernel with x32"), || {
            Attempt::by_success(call!(X32 | libc::SYS_unshare, libc::CLONE_NEWUSER))
        }),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn of_this_processor() -> Vec<Probe> {
    Vec::new()
}

/// A `file_handle` with room for what any file system puts in.
fn empty_handle() -> [u8; 136] {
    let mut handle = [0_u8; 136];
    handle[0] = 128;
    handle
}

fn any_capability(sets: &[&str]) -> Attempt {
    for set in sets {
        match kernel::status(set) {
            Some(held) if held.trim_start_matches('0').is_empty() => {}
            held => return Attempt::Allowed(format!("{set}: {held:?}")),
        }
    }
    Attempt::absent(format!("none in {}", sets.join(", ")))
}

fn on_a_pipe(request: i64) -> Attempt {
    match std::io::pipe() {
        Ok((_, to)) => {
            let mut letter = [b'x', 0, 0, 0];
            Attempt::by_permission(call!(
                libc::SYS_ioctl,
                kernel::number(&to),
                request,
                &mut letter
            ))
        }
        Err(error) => Attempt::refused(&error),
    }
}

/// Asks for a route of an address for documentation to be taken away, which is not there.
fn change_a_route() -> Attempt {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    let socket = match call!(libc::SYS_socket, libc::AF_NETLINK, kind, 0) {
        Ok(socket) => socket,
        Err(error) => return Attempt::refused(&error),
    };
    // Header (length 36, RTM_DELROUTE, request and acknowledge), route (IPv4, /32, main table),
    // and one attribute: the destination 192.0.2.77.
    let mut message = [0_u8; 36];
    for (place, value) in [(0, 36), (4, 25), (6, 5), (16, 2), (17, 32), (20, 254), (28, 8), (30, 1)]
    {
        message[place] = value;
    }
    message[32..].copy_from_slice(&[192, 0, 2, 77]);
    if let Err(error) = call!(libc::SYS_sendto, socket, &mut message, 36, 0, 0, 0) {
        return Attempt::refused(&error);
    }
    let mut answer = [0_u8; 128];
    if let Err(error) = call!(libc::SYS_recvfrom, socket, &mut answer, 128, 0, 0, 0) {
        return Attempt::refused(&error);
    }
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    Attempt::by_permission(Err(std::io::Error::from_raw_os_error(-code)))
}

/// Tries to have processes without end: the limit above the one that was given.
fn raise_limits() -> Attempt {
    let mut endless = [0xff_u8; 16];
    let limits = libc::RLIMIT_NPROC;
    Attempt::by_success(call!(libc::SYS_prlimit64, 0, i64::from(limits), &mut endless, 0))
}
