//! What must work in a cage: without it honest programs break, and a cage is no use.
//!
//! The counterpart of the rest of this program. Needs nothing but a writable `/tmp`.

use std::fs;
use std::io::{Error, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use crate::attempt::{Attempt, Probe};
use crate::kernel::{self, call, open_and_close, owned};

pub(crate) fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut add = |name: &str, work: fn() -> Result<(), Error>| {
        probes.push(Probe::works(&format!("works_{name}"), move || Attempt::of(work())));
    };
    add("child_process", || {
        let status = Command::new("/bin/sh").args(["-c", "exit 7"]).status()?;
        holds(status.code() == Some(7), "the child's exit code")
    });
    add("threads", || {
        let threads: Vec<_> = (0..4).map(|number| std::thread::spawn(move || number)).collect();
        let sum: i32 = threads.into_iter().filter_map(|thread| thread.join().ok()).sum();
        holds(sum == 6, "four threads")
    });
    add("pipeline", || {
        let output = Command::new("/bin/sh").args(["-c", "echo one two | wc -w"]).output()?;
        holds(output.stdout.trim_ascii() == b"2", "the words of a pipeline")
    });
    add("fifo", || {
        let path = own_path("fifo");
        let script = format!("mkfifo {0} && (echo x > {0} &) && cat {0} && rm {0}", path.display());
        let output = Command::new("/bin/sh").args(["-c", &script]).output()?;
        holds(output.stdout == b"x\n", "what went through the fifo")
    });
    add("unix_socket_with_a_path", || {
        let path = own_path("socket");
        let listener = UnixListener::bind(&path)?;
        let mut client = UnixStream::connect(&path)?;
        let (mut served, _) = listener.accept()?;
        fs::remove_file(&path)?;
        client.write_all(b"x")?;
        served.read_exact(&mut [0])
    });
    add("unix_socket_without_a_path", || {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("posthouse-probe-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        let listener = UnixListener::bind_addr(&address)?;
        let mut client = UnixStream::connect_addr(&address)?;
        let (mut served, _) = listener.accept()?;
        client.write_all(b"x")?;
        served.read_exact(&mut [0])
    });
    add("unix_socket_pair", || {
        let (mut one, mut other) = UnixStream::pair()?;
        one.write_all(b"x")?;
        other.read_exact(&mut [0])
    });
    add("tcp_on_loopback", || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut served, _) = listener.accept()?;
        client.write_all(b"x")?;
        served.read_exact(&mut [0])
    });
    add("udp_on_loopback", || {
        let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        one.send_to(b"x", other.local_addr()?)?;
        other.recv(&mut [0]).map(|_| ())
    });
    add("netlink_route", || {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        open_and_close(call!(libc::SYS_socket, libc::AF_NETLINK, kind, 0)).map(|_| ())
    });
    add("trace_of_a_child", || {
        let (child, pipe) = kernel::waiting_child(kernel::be_traced_and_stop)?;
        let stopped = libc::WIFSTOPPED(kernel::wait(child));
        let peek = i64::from(libc::PTRACE_CONT);
        let continued = call!(libc::SYS_ptrace, peek, child, 0, 0);
        drop(pipe);
        kernel::wait(child);
        holds(stopped, "the child stopped for its tracer")?;
        continued.map(|_| ())
    });
    add("handle_of_a_child", || {
        let (child, pipe) = kernel::waiting_child(|| ())?;
        let handle = open_and_close(call!(libc::SYS_pidfd_open, child, 0));
        drop(pipe);
        kernel::wait(child);
        handle.map(|_| ())
    });
    add("memory_file", || {
        let file = call!(libc::SYS_memfd_create, c"probe", 1)?;
        let mut file = fs::File::from(owned(file).ok_or_else(|| Error::other("no descriptor"))?);
        file.write_all(b"x")
    });
    add("program_in_memory", || {
        // Executable files in memory are no way out: what they run is in the cage, too.
        let file = call!(libc::SYS_memfd_create, c"probe", 0)?;
        let mut file = fs::File::from(owned(file).ok_or_else(|| Error::other("no descriptor"))?);
        file.write_all(&fs::read("/bin/true")?)?;
        let path = format!("/proc/self/fd/{}", kernel::number(&file));
        let shell = format!("{path} && exit 5");
        let status = Command::new("/bin/sh").args(["-c", &shell]).status()?;
        holds(status.code() == Some(5), "a program in memory")
    });
    add("files", files);
    add("wait_for_many", || {
        let epoll = open_and_close(call!(libc::SYS_epoll_create1, libc::O_CLOEXEC));
        let event = open_and_close(call!(libc::SYS_eventfd2, 0, libc::O_CLOEXEC));
        let timer = open_and_close(call!(libc::SYS_timerfd_create, 1, libc::O_CLOEXEC));
        let watch = open_and_close(call!(libc::SYS_inotify_init1, libc::O_CLOEXEC));
        for answer in [epoll, event, timer, watch] {
            answer?;
        }
        Ok(())
    });
    add("shared_memory", || {
        let path = format!("/dev/shm/posthouse-probe-{}", std::process::id());
        fs::write(&path, b"x")?;
        fs::remove_file(&path)
    });
    add("random_numbers", || {
        let mut bytes = [0_u8; 16];
        call!(libc::SYS_getrandom, &mut bytes, 16, 0)?;
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)
    });
    add("null_and_zero", || {
        fs::OpenOptions::new().write(true).open("/dev/null")?.write_all(b"x")?;
        fs::File::open("/dev/zero")?.read_exact(&mut [0])
    });
    add("terminal", || {
        let file = fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
        // TIOCGPTN: the number of the other end.
        let mut number = [0_u8; 4];
        call!(libc::SYS_ioctl, kernel::number(&file), 0x8004_5430_i64, &mut number).map(|_| ())
    });
    add("higher_nice_value", || {
        call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 10).map(|_| ())
    });
    add("session_of_its_own", || {
        // A leader of a group may not; this child is none.
        call!(libc::SYS_setsid).map(|_| ())
    });
    add("addresses_that_stay", || {
        const NO_RANDOM_ADDRESSES: i32 = 0x0004_0000;
        call!(libc::SYS_personality, NO_RANDOM_ADDRESSES).map(|_| ())
    });
    add("about_itself", || {
        fs::read_to_string("/proc/self/status")?;
        fs::read_to_string("/proc/meminfo")?;
        fs::read_to_string("/proc/cpuinfo")?;
        fs::read_link("/proc/self/exe").map(|_| ())
    });
    probes
}

fn holds(fine: bool, what: &str) -> Result<(), Error> {
    if fine { Ok(()) } else { Err(Error::other(format!("{what} is not as it should be"))) }
}

fn own_path(kind: &str) -> PathBuf {
    std::env::temp_dir().join(format!("posthouse-probe-{kind}-{}", std::process::id()))
}

/// Links, renames, locks, space, times: what builds and repositories do.
fn files() -> Result<(), Error> {
    let folder = own_path("files");
    fs::create_dir(&folder)?;
    let work = || {
        let (one, other) = (folder.join("one"), folder.join("other"));
        fs::write(&one, b"x")?;
        fs::hard_link(&one, &other)?;
        std::os::unix::fs::symlink("one", folder.join("link"))?;
        fs::rename(&other, folder.join("renamed"))?;
        fs::copy(&one, folder.join("copy"))?;
        let file = fs::File::options().write(true).open(&one)?;
        file.lock()?;
        file.set_len(1 << 16)?;
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
        file.sync_all()?;
        // Space may be refused in advance, if the answer makes programs write instead.
        match call!(libc::SYS_fallocate, kernel::number(&file), 0, 0, 1 << 16) {
            Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => Err(error),
            _ => Ok(()),
        }
    };
    let outcome = work();
    fs::remove_dir_all(&folder)?;
    outcome
}
