//! The lock-down as a cage has it, in children of the test: as root with a range of users, and as an
//! ordinary user with one. Each thing that is refused is tried without the lock-down as well.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::{
        fd::FromRawFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
};

use super::*;
use crate::inside::seccomp;

/// Whom the child is before it has namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Root,
    User,
}

/// What can be tried here: both as root, one as an ordinary user.
fn both() -> Vec<As> {
    if rustix::process::geteuid().is_root() { vec![As::Root, As::User] } else { vec![As::User] }
}

fn pipe() -> (fs::File, fs::File) {
    let mut ends = [0; 2];
    // SAFETY: two places for two descriptors that are ours.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (fs::File::from_raw_fd(ends[0]), fs::File::from_raw_fd(ends[1]))
    }
}

/// Runs `work` in a child of one thread, in namespaces like a cage's if `who` is given, and answers
/// what it returned.
fn in_child(who: Option<As>, work: impl FnOnce() -> String) -> String {
    let (mut answer, mut to) = pipe();
    let (mut ready, mut made) = pipe();
    let (mut mapped, mut go) = pipe();
    // SAFETY: libc makes its allocator whole in the child; nothing here takes a lock of the test's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        drop((answer, ready, go));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if let Some(who) = who {
                enter(who, &mut made, &mut mapped);
            }
            work()
        }));
        let text = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            format!("panic: {}", text.unwrap_or_default())
        });
        let _ = to.write_all(text.as_bytes());
        // SAFETY: runs nothing of the test's.
        unsafe { libc::_exit(0) }
    }
    drop((to, made, mapped));
    if who.is_some() {
        let mut byte = [0];
        if ready.read(&mut byte).unwrap() == 1 && who == Some(As::Root) {
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{child}/{map}"), "0 100000 65536").unwrap();
            }
        }
        let _ = go.write_all(b"g");
    }
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert!(!text.starts_with("panic: "), "{text}");
    text
}

fn enter(who: As, made: &mut fs::File, mapped: &mut fs::File) {
    // SAFETY: system calls with numbers.
    unsafe {
        if who == As::User && libc::geteuid() == 0 {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534), 0);
            libc::prctl(libc::PR_SET_DUMPABLE, 1);
        }
        let (uid, gid) = (libc::geteuid(), libc::getegid());
        assert_eq!(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET), 0, "namespaces");
        if who == As::User {
            fs::write("/proc/self/setgroups", "deny").unwrap();
            fs::write("/proc/self/uid_map", format!("1000 {uid} 1")).unwrap();
            fs::write("/proc/self/gid_map", format!("1000 {gid} 1")).unwrap();
        }
    }
    made.write_all(b"r").unwrap();
    mapped.read_exact(&mut [0]).unwrap();
}

fn identity(who: As) -> Identity {
    Identity { uid: 1000, gid: 1000, drop_groups: who == As::Root }
}

/// A folder that everybody may write to.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn small() -> Limits {
    Limits { processes: 200, ..Limits::default() }
}

/// Runs `work` in a child that is locked down.
fn locked(who: As, writable: &Path, work: impl FnOnce(Report) -> String) -> String {
    let program = seccomp::program().unwrap();
    in_child(Some(who), || {
        let level = ResourceLevel::Rlimits;
        let report =
            lock_down(&small(), level, identity(who), &[writable], &program).expect("lock-down");
        work(report)
    })
}

/// One call and its answer: 0, or the errno.
type Call = fn() -> i32;

fn answer(result: i64) -> i32 {
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        let call: Call = || {
            // SAFETY: arguments that the kernel refuses before it acts on them, where it gets so far.
            answer(unsafe { libc::syscall($number $(, $argument as i64)*) })
        };
        call
    }};
}

macro_rules! clone {
    ($flag:expr) => {{
        let call: Call = || {
            // SAFETY: without a stack it is `fork`; the child ends at once.
            let child = unsafe {
                libc::syscall(libc::SYS_clone, i64::from($flag | libc::SIGCHLD), 0, 0, 0, 0)
            };
            if child == 0 {
                // SAFETY: runs nothing of the test's.
                unsafe { libc::_exit(0) }
            }
            let answered = answer(child);
            if child > 0 {
                // SAFETY: our own child.
                unsafe { libc::waitpid(child as i32, std::ptr::null_mut(), 0) };
            }
            answered
        };
        call
    }};
}

/// What is refused, with what errno, in forms that do nothing where they are not.
fn refused() -> Vec<(&'static str, Call, i32)> {
    use libc::*;
    let mut all: Vec<(&'static str, Call, i32)> = vec![
        ("acct", call!(SYS_acct, c"/does/not/exist".as_ptr()), EPERM),
        ("add_key", call!(SYS_add_key, 0, 0, 0, 0, 0), EPERM),
        ("adjtimex", call!(SYS_adjtimex, 0), EPERM),
        ("bpf", call!(SYS_bpf, 9999, 0, 0), EPERM),
        ("chroot", call!(SYS_chroot, c"/does/not/exist".as_ptr()), EPERM),
        ("clock_adjtime", call!(SYS_clock_adjtime, 999, 0), EPERM),
        ("clock_settime", call!(SYS_clock_settime, 999, 0), EPERM),
        ("clone3", call!(SYS_clone3, 0, 0), ENOSYS),
        ("delete_module", call!(SYS_delete_module, 0, 0), EPERM),
        ("fanotify_init", call!(SYS_fanotify_init, 0xffff_ffff_u32, 0), EPERM),
        ("finit_module", call!(SYS_finit_module, -1, 0, 0), EPERM),
        ("fsconfig", call!(SYS_fsconfig, -1, 0, 0, 0, 0), ENOSYS),
        ("fsmount", call!(SYS_fsmount, -1, 0, 0), ENOSYS),
        ("fsopen", call!(SYS_fsopen, 0, 0), ENOSYS),
        ("fspick", call!(SYS_fspick, -1, 0, 0), ENOSYS),
        ("init_module", call!(SYS_init_module, 0, 0, 0), EPERM),
        ("io_uring_enter", call!(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0), ENOSYS),
        ("io_uring_register", call!(SYS_io_uring_register, -1, 0, 0, 0), ENOSYS),
        ("io_uring_setup", call!(SYS_io_uring_setup, 1, 0), ENOSYS),
        ("keyctl", call!(SYS_keyctl, 9999, 0, 0, 0, 0), EPERM),
        ("memfd_secret", call!(SYS_memfd_secret, 0xffff), ENOSYS),
        ("mount", call!(SYS_mount, 0, c"/does/not/exist".as_ptr(), 0, 0, 0), EPERM),
        ("mount_setattr", call!(SYS_mount_setattr, -1, c"".as_ptr(), 0, 0, 0), ENOSYS),
        ("move_mount", call!(SYS_move_mount, -1, c"".as_ptr(), -1, c"".as_ptr(), 0xffff), ENOSYS),
        ("name_to_handle_at", call!(SYS_name_to_handle_at, -1, 0, 0, 0, 0), EPERM),
        ("open_by_handle_at", call!(SYS_open_by_handle_at, -1, 0, 0), EPERM),
        ("open_tree", call!(SYS_open_tree, -1, c"x".as_ptr(), 0), ENOSYS),
        ("perf_event_open", call!(SYS_perf_event_open, 0, 0, 0, 0, 0), EPERM),
        ("pidfd_getfd", call!(SYS_pidfd_getfd, -1, 0, 0), ENOSYS),
        ("pivot_root", call!(SYS_pivot_root, c"/does/not".as_ptr(), c"/exist".as_ptr()), EPERM),
        ("quotactl", call!(SYS_quotactl, -1, 0, 0, 0), EPERM),
        ("reboot", call!(SYS_reboot, 0, 0, 0, 0), EPERM),
        ("request_key", call!(SYS_request_key, 0, 0, 0, 0), EPERM),
        ("setdomainname", call!(SYS_setdomainname, 0, -1), EPERM),
        ("sethostname", call!(SYS_sethostname, 0, -1), EPERM),
        ("setns", call!(SYS_setns, -1, 0), EPERM),
        ("settimeofday", call!(SYS_settimeofday, -1, -1), EPERM),
        ("swapoff", call!(SYS_swapoff, 0), EPERM),
        ("swapon", call!(SYS_swapon, 0, 0), EPERM),
        ("syslog", call!(SYS_syslog, 999, 0, 0), EPERM),
        ("vhangup", call!(SYS_vhangup), EPERM),
        ("umount2", call!(SYS_umount2, c"/does/not/exist".as_ptr(), 0), EPERM),
        ("unshare", call!(SYS_unshare, CLONE_NEWUSER), EPERM),
        ("unshare time", call!(SYS_unshare, CLONE_NEWTIME), EPERM),
        ("userfaultfd", call!(SYS_userfaultfd, 0xffff), EPERM),
        ("userfaultfd user", call!(SYS_userfaultfd, 1), EPERM),
        ("clone mount", clone!(CLONE_NEWNS), EPERM),
        ("clone cgroup", clone!(CLONE_NEWCGROUP), EPERM),
        ("clone host name", clone!(CLONE_NEWUTS), EPERM),
        ("clone ipc", clone!(CLONE_NEWIPC), EPERM),
        ("clone user", clone!(CLONE_NEWUSER), EPERM),
        ("clone process", clone!(CLONE_NEWPID), EPERM),
        ("clone network", clone!(CLONE_NEWNET), EPERM),
        ("TIOCSTI", call!(SYS_ioctl, -1, 0x5412, 0), EPERM),
        ("TIOCSTI high", call!(SYS_ioctl, -1, 0x1_0000_5412_u64, 0), EPERM),
        ("TIOCLINUX", call!(SYS_ioctl, -1, 0x541c, 0), EPERM),
        ("TIOCSETD", call!(SYS_ioctl, -1, 0x5423, 0), EPERM),
        ("personality", call!(SYS_personality, 0x0040_0000), EPERM),
        ("vsock", call!(SYS_socket, AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT),
        ("vsock high", call!(SYS_socket, 0x7_0000_0028_u64, SOCK_STREAM, 0), EAFNOSUPPORT),
        ("packet", call!(SYS_socket, AF_PACKET, SOCK_RAW, 0), EAFNOSUPPORT),
        ("packet in disguise", call!(SYS_socket, AF_INET, 10, 0), EAFNOSUPPORT),
        ("netlink audit", call!(SYS_socket, AF_NETLINK, SOCK_RAW, 9), EAFNOSUPPORT),
        ("netlink netfilter", call!(SYS_socket, AF_NETLINK, SOCK_RAW, 12), EAFNOSUPPORT),
        ("netlink xfrm", call!(SYS_socket, AF_NETLINK, SOCK_RAW, 6), EAFNOSUPPORT),
        ("netlink generic", call!(SYS_socket, AF_NETLINK, SOCK_RAW, 16), EAFNOSUPPORT),
        ("socketpair", call!(SYS_socketpair, AF_VSOCK, SOCK_STREAM, 0, 0), EAFNOSUPPORT),
    ];
    #[cfg(target_arch = "x86_64")]
    all.extend([
        ("ioperm", call!(SYS_ioperm, -1, -1, 0) as Call, EPERM),
        ("iopl", call!(SYS_iopl, 99), EPERM),
        ("kexec_load", call!(SYS_kexec_load, 0, 0, 0, 0xffff), EPERM),
        ("modify_ldt", call!(SYS_modify_ldt, 0, 0, 0), ENOSYS),
    ]);
    all
}

fn ask_all() -> String {
    let lines = refused().into_iter().map(|(name, call, _)| format!("{name}={}\n", call()));
    lines.collect()
}

fn read_answers(text: &str) -> BTreeMap<String, i32> {
    let pairs = text.lines().map(|line| line.rsplit_once('=').unwrap());
    pairs.map(|(name, number)| (name.to_owned(), number.parse().unwrap())).collect()
}

#[test]
fn what_is_refused_is_refused_by_the_filter_and_by_nothing_else() {
    let folder = folder();
    // Each in a child of its own: some of them change who asks.
    let alone = |call: Call| {
        in_child(None, || {
            // SAFETY: without a terminal there is none to hang up.
            unsafe { libc::setsid() };
            call().to_string()
        })
    };
    let root = rustix::process::geteuid().is_root();
    for who in both() {
        let answers = read_answers(&locked(who, folder.path(), |_| ask_all()));
        for (name, call, wanted) in refused() {
            assert_eq!(answers[name], wanted, "{name} as {who:?}");
            // An ordinary user is refused the administrator's calls by the kernel itself.
            if root || wanted != libc::EPERM {
                assert_ne!(alone(call), wanted.to_string(), "{name} without the filter");
            }
        }
    }
}

#[test]
fn no_family_of_sockets_but_four_exists() {
    fn ask() -> String {
        let family = |family: i32| {
            // SAFETY: numbers; what is opened ends with the process.
            let answers = [1, 2, 3, 5].map(|kind| {
                answer(unsafe { libc::syscall(libc::SYS_socket, i64::from(family), kind, 0) })
            });
            let best = if answers.contains(&0) { 0 } else { answers[0] };
            format!("{family}={best}\n")
        };
        (0..64).map(family).collect()
    }
    let folder = folder();
    let control = read_answers(&in_child(None, ask));
    let opened = control.values().filter(|answer| **answer == 0).count();
    assert!(opened > 4, "without the filter there are more: {control:?}");
    for who in both() {
        for (family, answer) in read_answers(&locked(who, folder.path(), |_| ask())) {
            let known = ["1", "2", "10", "16"].contains(&family.as_str());
            assert_eq!(answer, if known { 0 } else { libc::EAFNOSUPPORT }, "family {family}");
        }
    }
}

#[test]
fn calls_that_tools_need_are_answered() {
    fn ask() -> String {
        let calls: [(&str, Call); 7] = [
            ("fork", clone!(0)),
            ("memfd", call!(libc::SYS_memfd_create, c"x".as_ptr(), 0)),
            ("personality", call!(libc::SYS_personality, 0xffff_ffff_u32)),
            ("addresses", call!(libc::SYS_personality, 0x0004_0000)),
            ("route", call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)),
            ("tcp", call!(libc::SYS_socket, libc::AF_INET6, libc::SOCK_STREAM, 6)),
            ("traced", call!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)),
        ];
        calls.map(|(name, call)| format!("{name}={}\n", call())).concat()
    }
    let folder = folder();
    for who in both() {
        for (name, answer) in read_answers(&locked(who, folder.path(), |_| ask())) {
            assert_eq!(answer, 0, "{name} as {who:?}");
        }
        let threads = locked(who, folder.path(), |_| {
            let threads: Vec<_> = (0..8).map(|n| std::thread::spawn(move || n)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>().to_string()
        });
        assert_eq!(threads, "28");
    }
}

#[test]
fn nothing_is_left_of_any_right() {
    let folder = folder();
    for who in both() {
        let text = locked(who, folder.path(), |report| {
            assert!(report.seccomp);
            // Bash, not us: what a tool's process has.
            let output = Command::new("/bin/bash")
                .args(["-c", "cat /proc/self/status; id -u; id -G; ulimit -c; ulimit -u; umask"])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .output()
                .unwrap();
            format!("{report:?}\n{}", String::from_utf8_lossy(&output.stdout))
        });
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set} as {who:?}");
        }
        assert_eq!(value("NoNewPrivs:"), "1");
        assert_eq!(value("Seccomp:"), "2");
        assert_eq!(value("Seccomp_filters:"), "4");
        let last: Vec<_> = text.lines().rev().take(5).collect();
        assert_eq!(last[4..], ["1000"], "{text}");
        assert_eq!(last[3], "1000", "{text}");
        assert_eq!(last[0], "0022", "{text}");
        assert_eq!(last[1], (200 + RESERVE).to_string(), "{text}");
    }
}

#[test]
fn only_what_is_writable_is_written_to() {
    let (inside, outside) = (folder(), folder());
    let write = |folder: &Path| match fs::write(folder.join("file"), "x") {
        Ok(()) => "written".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    for who in both() {
        // The control: the same user, without the lock-down.
        let control = in_child(Some(who), || {
            drop_rights(identity(who)).unwrap();
            write(outside.path())
        });
        assert_eq!(control, "written");
        fs::remove_file(outside.path().join("file")).unwrap();
        let answer = locked(who, inside.path(), |report| {
            assert!(report.landlock.is_some(), "this test asks for Landlock");
            let null = fs::write("/dev/null", "x").is_ok();
            let moved = Command::new("/bin/bash")
                .args(["-c", "mkdir a b && echo x >a/f && mv a/f b/ && cat b/f && rm -r a b"])
                .current_dir(inside.path())
                .output()
                .unwrap();
            format!(
                "{} {} {null} {}",
                write(inside.path()),
                write(outside.path()),
                String::from_utf8_lossy(&moved.stdout).trim()
            )
        });
        assert_eq!(answer, "written PermissionDenied true x");
        fs::remove_file(inside.path().join("file")).unwrap();
    }
}

#[test]
fn a_tool_does_not_see_into_the_helper() {
    const LOOK: &str = "for f in mem maps environ fd/0 auxv syscall; do \
        (exec 3</proc/$PPID/$f) 2>/dev/null && echo open:$f; done; \
        (exec 3>/proc/$PPID/mem) 2>/dev/null && echo open:write; ls /proc/$PPID/fd 2>/dev/null | wc -l";
    let folder = folder();
    let look = || {
        let output = Command::new("/bin/bash").args(["-c", LOOK]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for who in both() {
        let control = in_child(Some(who), || {
            drop_rights(identity(who)).unwrap();
            rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
            look()
        });
        assert!(control.contains("open:maps") && control.contains("open:environ"), "{control}");
        assert_eq!(locked(who, folder.path(), |_| look()).trim(), "0");
    }
}

#[test]
fn a_tool_has_fewer_processes_than_the_helper() {
    let folder = folder();
    for who in both() {
        let answer = locked(who, folder.path(), |_| {
            let limits = small();
            let mut bash = Command::new("/bin/bash");
            bash.args(["-c", "ulimit -Su; ulimit -Hu"]);
            // SAFETY: makes system calls alone.
            unsafe { bash.pre_exec(move || narrow_for_tool(&limits)) };
            let tool = String::from_utf8(bash.output().unwrap().stdout).unwrap();
            let helper = rustix::process::getrlimit(Resource::Nproc).current.unwrap();
            format!("{} {helper}", tool.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        assert_eq!(answer, format!("200 200 {}", 200 + RESERVE));
    }
}

/// What agents do all day. What this host lacks is left out; bash is always there.
#[test]
fn programs_work_as_they_do_outside() {
    let scripts = [
        (
            "/usr/bin/python3",
            "python3 -c 'import pty; pty.spawn([\"bash\", \"-c\", \"stty size >/dev/null && test -t 0 \
            && echo ok\"])' </dev/null",
        ),
        (
            "/bin/bash",
            "seq 1000 | sort -r | head -1 >a; cat <(cat a) <<<x; [[ $(<a) = 999 ]] && echo ok",
        ),
        (
            "/usr/bin/git",
            "git init -q r && cd r && echo x >f && git add f && git -c user.name=a -c \
            user.email=a@b commit -qm m && git log --oneline | wc -l | grep -q 1 && echo ok",
        ),
        (
            "/usr/bin/python3",
            "python3 -c 'import subprocess, threading, multiprocessing.pool as p, \
            socket, asyncio, tempfile; t = threading.Thread(target=print); t.start(); t.join(); \
            q = p.ThreadPool(4).map(abs, range(-9, 0)); a, b = socket.socketpair(); \
            asyncio.run(asyncio.sleep(0)); tempfile.TemporaryFile(dir=\".\"); \
            import multiprocessing; print(sum(multiprocessing.Pool(2).map(abs, [-1, -2]))); \
            print(subprocess.check_output([\"echo\", \"ok\"], text=True))' | tail -2 | head -1",
        ),
        (
            "/usr/bin/node",
            "node -e 'const c=require(\"child_process\"); new \
            (require(\"worker_threads\").Worker)(\"1\",{eval:true}).on(\"exit\",()=> \
            require(\"fs\").readFile(\"/etc/passwd\",()=>console.log(c.execSync(\"echo \
            ok\").toString())))' | head -1",
        ),
        (
            "/usr/bin/gcc",
            "printf '#include <stdio.h>\\nint main(){puts(\"ok\");}' >m.c && gcc m.c -o \
            m && ./m",
        ),
        ("/usr/bin/perl", "perl -e 'fork or exit 0; wait; print `echo ok`'"),
        ("/usr/bin/strace", "strace -f -o t bash -c 'echo ok | cat'"),
    ];
    for who in both() {
        for (program, script) in scripts {
            if !Path::new(program).exists() {
                continue;
            }
            let folder = folder();
            let path: PathBuf = folder.path().to_owned();
            let text = locked(who, folder.path(), |_| {
                let output = Command::new("/bin/bash")
                    .args(["-c", script])
                    .current_dir(&path)
                    .env_clear()
                    .env("PATH", "/usr/bin:/bin")
                    .env("HOME", &path)
                    .env("TMPDIR", &path)
                    .output()
                    .unwrap();
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                format!("{}{error}", String::from_utf8_lossy(&output.stdout))
            });
            assert!(text.lines().any(|line| line == "ok"), "{program} as {who:?}: {text}");
        }
    }
}
