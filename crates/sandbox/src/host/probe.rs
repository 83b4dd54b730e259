//! Trying what cages are made of, in a child that lives for a moment.
//!
//! After `fork` the child makes system calls alone: it was one thread of many, so it allocates
//! nothing and takes no lock. All that it makes is in namespaces of its own and ends with it.

#![expect(unsafe_code, reason = "between fork and exit nothing but raw system calls is safe")]

use std::{
    ffi::CStr,
    fs::File,
    io::Read,
    mem,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Stands for the errno of a step that was not come to, or did not end.
pub(super) const SILENT: i32 = -1;

/// The longest that the child may take.
const TIME: Duration = Duration::from_secs(5);

/// How each step went; the errno where it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tried {
    /// A user namespace with its maps.
    pub(super) user: Result<(), i32>,
    /// All other namespaces.
    pub(super) others: Result<(), i32>,
    /// A mount.
    pub(super) mount: Result<(), i32>,
    /// A fresh `/proc`.
    pub(super) proc: Result<(), i32>,
    /// An address of the world that lands on a listener of ours.
    pub(super) network: Result<(), i32>,
    /// Nftables and transparent sockets.
    pub(super) transparent: Result<(), i32>,
}

/// Tries it all.
pub(super) fn run() -> Tried {
    let mut answers = [Err(SILENT); 6];
    if let Err(error) = ask(&mut answers) {
        let number = error.raw_os_error().unwrap_or(SILENT);
        tracing::warn!(%error, "the host could not be probed");
        answers[0] = Err(number);
    }
    let [user, others, mount, proc, network, transparent] = answers;
    Tried { user, others, mount, proc, network, transparent }
}

fn ask(answers: &mut [Result<(), i32>; 6]) -> std::io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: two places for two descriptors, both of which are ours from then on.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let (mut from, to) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: no arguments; they can't fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let maps = Maps { user: format!("0 {uid} 1"), group: format!("0 {gid} 1") };
    // SAFETY: the child makes system calls alone and never returns from here.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(std::io::Error::last_os_error());
    }
    if child == 0 {
        child_of_fork(ends[1], &maps);
    }
    drop(to);
    let deadline = Instant::now() + TIME;
    let result = collect(&mut from, deadline, answers);
    // Both may be over already; then the first says so and the second reaps.
    // SAFETY: a child of ours that was not waited for, so its number is still its own.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    result
}

fn collect(
    from: &mut File,
    deadline: Instant,
    answers: &mut [Result<(), i32>; 6],
) -> std::io::Result<()> {
    let mut record = [0_u8; 8];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
        let mut polled = [PollFd::new(from, PollFlags::IN)];
        if poll(&mut polled, Some(&left))? == 0 {
            // What has not answered stays silent.
            return Ok(());
        }
        // Records are far smaller than what a pipe takes as one, so none comes in parts.
        if from.read(&mut record)? != record.len() {
            return Ok(());
        }
        let [a, b, c, d, e, f, g, h] = record;
        let index = u32::from_ne_bytes([a, b, c, d]) as usize;
        let number = i32::from_ne_bytes([e, f, g, h]);
        if let Some(answer) = answers.get_mut(index) {
            *answer = if number == 0 { Ok(()) } else { Err(number) };
        }
    }
}

/// What is written into the maps of the user namespace, made before the fork.
struct Maps {
    user: String,
    group: String,
}

type Step = Result<(), i32>;

fn errno() -> i32 {
    // SAFETY: the thread's own place.
    unsafe { *libc::__errno_location() }
}

fn done(answer: impl Into<i64>) -> Step {
    if answer.into() < 0 { Err(errno()) } else { Ok(()) }
}

/// Writes the answer of a step, and ends the child where the rest can't work without it.
fn tell(to: i32, index: u32, step: Step, goes_on: bool) {
    let mut record = [0_u8; 8];
    let (first, second) = record.split_at_mut(4);
    first.copy_from_slice(&index.to_ne_bytes());
    second.copy_from_slice(&step.err().unwrap_or(0).to_ne_bytes());
    // SAFETY: a buffer of its length; `_exit` runs nothing of this program.
    unsafe {
        libc::write(to, record.as_ptr().cast(), record.len());
        if step.is_err() && !goes_on {
            libc::_exit(0);
        }
    }
}

fn child_of_fork(to: i32, maps: &Maps) -> ! {
    // SAFETY: system calls with constant arguments.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    // A server can't be dumped, and what can't be may not write its own maps. Nothing secret is
    // at risk: whoever would look in here has a moment, and the child ends with it.
    // SAFETY: as above.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 1);
    }
    tell(to, 0, user_namespace(maps), false);
    let others = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    // SAFETY: flags alone.
    tell(to, 1, done(unsafe { libc::unshare(others) }), false);
    // SAFETY: as in `ask`: still one thread, still system calls alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        tell(to, 2, mount(c"tmpfs", c"/dev"), true);
        tell(to, 3, mount(c"proc", c"/proc"), true);
        tell(to, 4, network(), true);
        tell(to, 5, transparent(), true);
    } else if child > 0 {
        // SAFETY: our own child.
        unsafe {
            libc::waitpid(child, ptr::null_mut(), 0);
        }
    }
    // SAFETY: ends this process and runs nothing of the program.
    unsafe { libc::_exit(0) }
}

fn user_namespace(maps: &Maps) -> Step {
    // SAFETY: flags alone.
    done(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    put(c"/proc/self/setgroups", b"deny")?;
    put(c"/proc/self/uid_map", maps.user.as_bytes())?;
    put(c"/proc/self/gid_map", maps.group.as_bytes())
}

fn put(path: &CStr, text: &[u8]) -> Step {
    // SAFETY: a path with its end, and a buffer of its length.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        done(file)?;
        let written = done(libc::write(file, text.as_ptr().cast(), text.len()) as i64);
        libc::close(file);
        written
    }
}

fn mount(kind: &CStr, target: &CStr) -> Step {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: paths with their ends. The first keeps what follows in this namespace.
    unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let none = c"none".as_ptr();
        done(libc::mount(none, c"/".as_ptr(), ptr::null(), private, ptr::null()))?;
        done(libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, ptr::null()))
    }
}

/// Loopback up, everything local, and then a connection to an address of the world that lands here.
fn network() -> Step {
    // SAFETY: structures of numbers, for which all zeroes are valid, with their own lengths.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        done(socket)?;
        let mut request: libc::ifreq = mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed() as libc::c_char;
        request.ifr_name[1] = b'o'.cast_signed() as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        done(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request))?;
        libc::close(socket);
    }
    route_everything_here()?;
    // SAFETY: as above.
    unsafe {
        let listener = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        done(listener)?;
        let mut address: libc::sockaddr_in = mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        let mut length = mem::size_of_val(&address) as libc::socklen_t;
        done(libc::bind(listener, (&raw const address).cast(), length))?;
        done(libc::listen(listener, 1))?;
        done(libc::getsockname(listener, (&raw mut address).cast(), &raw mut length))?;
        // Of the range for tests of networks, and in this namespace nobody's but ours.
        address.sin_addr.s_addr = u32::from_ne_bytes([198, 18, 0, 1]);
        let client = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        done(client)?;
        done(libc::connect(client, (&raw const address).cast(), length))?;
        let accepted = libc::accept(listener, ptr::null_mut(), ptr::null_mut());
        done(accepted)?;
        let mut seen: libc::sockaddr_in = mem::zeroed();
        done(libc::getsockname(accepted, (&raw mut seen).cast(), &raw mut length))?;
        if seen.sin_addr.s_addr != address.sin_addr.s_addr {
            return Err(libc::EADDRNOTAVAIL);
        }
    }
    Ok(())
}

/// `ip route add local 0.0.0.0/0 dev lo`, as the kernel is told it: a header, a route, and the
/// number of the interface, which loopback has in each namespace: 1.
fn route_everything_here() -> Step {
    let mut message = [0_u8; 36];
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_ACK;
    header(&mut message, libc::RTM_NEWROUTE, flags);
    message[16] = libc::AF_INET as u8;
    message[20] = libc::RT_TABLE_LOCAL;
    message[21] = libc::RTPROT_BOOT;
    message[22] = libc::RT_SCOPE_HOST;
    message[23] = libc::RTN_LOCAL;
    message[28..30].copy_from_slice(&8_u16.to_ne_bytes());
    message[30..32].copy_from_slice(&libc::RTA_OIF.to_ne_bytes());
    message[32..36].copy_from_slice(&1_u32.to_ne_bytes());
    exchange(libc::NETLINK_ROUTE, &message)
}

/// Asks nftables for its generation, and a socket to be transparent. Whether rules of `tproxy` can
/// be loaded as well shows when the first cage asks for one.
fn transparent() -> Step {
    let mut message = [0_u8; 20];
    // The subsystem of nftables, and its message "get the generation".
    header(&mut message, (10 << 8) | 16, libc::NLM_F_REQUEST);
    exchange(libc::NETLINK_NETFILTER, &message)?;
    // SAFETY: an option that is a number, with its length.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        done(socket)?;
        let on: libc::c_int = 1;
        let length = mem::size_of_val(&on) as libc::socklen_t;
        let option = (&raw const on).cast();
        done(libc::setsockopt(socket, libc::SOL_IP, libc::IP_TRANSPARENT, option, length))
    }
}

fn header(message: &mut [u8], kind: u16, flags: libc::c_int) {
    let length = message.len() as u32;
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
    message[8..12].copy_from_slice(&1_u32.to_ne_bytes());
}

/// One message to the kernel, and its answer: an error is a message of type 2 whose first number is
/// the errno, negative, or 0.
fn exchange(protocol: libc::c_int, message: &[u8]) -> Step {
    let mut answer = [0_u8; 512];
    // SAFETY: buffers with their lengths.
    let length = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = libc::socket(libc::AF_NETLINK, kind, protocol);
        done(socket)?;
        done(libc::send(socket, message.as_ptr().cast(), message.len(), 0) as i64)?;
        let length = libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0);
        done(length as i64)?;
        libc::close(socket);
        length
    };
    if length < 20 {
        return Err(libc::EBADMSG);
    }
    let error = u16::from_ne_bytes([answer[4], answer[5]]) == 2;
    let number = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if error && number != 0 { Err(-number) } else { Ok(()) }
}

/// Calls that cages can't be made without, and the errno that each answers to arguments that are
/// wrong: `ENOSYS` and `EPERM` say that it is not there for us.
pub(super) fn calls() -> [(&'static str, Option<i32>); 2] {
    let asked = |number: libc::c_long, flags: libc::c_long| {
        // SAFETY: a structure of size 0 is refused before its pointer is read.
        let answer =
            unsafe { libc::syscall(number, -1, c"".as_ptr(), flags, ptr::null::<u8>(), 0_usize) };
        done(answer).err()
    };
    // SAFETY: as above; it takes one argument less, and the size comes fourth.
    let open =
        unsafe { libc::syscall(libc::SYS_openat2, -1, c"".as_ptr(), ptr::null::<u8>(), 0_usize) };
    [("openat2", done(open).err()), ("mount_setattr", asked(libc::SYS_mount_setattr, 0))]
}

/// Landlock's version.
pub(super) fn landlock() -> Result<i64, i32> {
    // SAFETY: the flag asks for the version alone; there is no structure to read.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, 1) };
    done(answer).map(|()| answer)
}

/// Whether filters exist that answer with an errno.
pub(super) fn seccomp() -> Result<(), i32> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: reads one number.
    done(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    })
}
