//! The launcher: a small process of our own program that forks cages.
//!
//! A fork of the server would carry its memory into every cage, and an execution for each cage
//! costs more than the cage. So the server executes its own program once, with an empty
//! environment; that process has one thread, holds nothing but a socket, and forks. It lives
//! while cages live. Everything that it starts dies with it, and it dies with the server.

#![expect(unsafe_code, reason = "clone with namespaces has no safe wrapper")]

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{inside, settings::Isolation};

/// The name under which the program is executed as a launcher.
const NAME: &str = "posthouse-launcher";
/// Longer than any message between server and launcher.
const MESSAGE: usize = 4096;
/// What of the host's ids a cage has: the one that its tools have inside.
pub(crate) const INSIDE_ID: u32 = 1000;

/// Asks for a cage. Its socket and its journal travel beside.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    isolation: Isolation,
    identity: Identity,
}

/// Who the tools of a cage are on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Identity {
    /// 65,536 ids from here on, none of which is anybody else on the host.
    Range(u32),
    /// One id: the server's own user, or nobody.
    Single { uid: u32, gid: u32 },
}

impl Identity {
    /// The host's user and group to whom the session's files belong. None where they are the server's.
    pub(crate) fn owner(self) -> Option<u32> {
        match self {
            Self::Range(first) => Some(first + INSIDE_ID),
            Self::Single { uid, .. } => rustix::process::geteuid().is_root().then_some(uid),
        }
    }
}

/// What came of it. The process' descriptor travels beside.
#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    id: u64,
    outcome: Result<u32, String>,
}

/// A process that has been started, still waiting for its first frame.
pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) process: OwnedFd,
}

/// The server's end.
pub(crate) struct Launcher {
    shared: Arc<Mutex<Shared>>,
    /// Asks the thread for a launcher.
    wanted: mpsc::Sender<oneshot::Sender<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    socket: Option<Arc<OwnedFd>>,
    next: u64,
    waiting: Vec<(u64, oneshot::Sender<Result<Started, String>>)>,
}

impl Launcher {
    /// A launcher that is not there until it is needed. `lost` is called when it has gone
    /// although nobody has sent it away.
    pub(crate) fn new(program: PathBuf, lost: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (wanted, orders) = mpsc::channel();
        let of_thread = Arc::clone(&shared);
        // The parent-death signal follows the thread that has spawned, so this one stays as long
        // as the server does.
        thread::Builder::new()
            .name("launcher".into())
            .stack_size(256 << 10)
            .spawn(move || keep(&program, &of_thread, &orders, &lost))?;
        Ok(Self { shared, wanted })
    }

    /// Forks a cage.
    pub(crate) async fn start(
        &self,
        isolation: Isolation,
        identity: Identity,
        socket: OwnedFd,
        journal: File,
    ) -> io::Result<Started> {
        let gone = || io::Error::other("the launcher of sandboxes has ended");
        let (id, answer, launcher) = loop {
            let (done, there) = oneshot::channel();
            {
                let mut shared = lock(&self.shared);
                if let Some(launcher) = shared.socket.clone() {
                    shared.next += 1;
                    let id = shared.next;
                    let (done, answer) = oneshot::channel();
                    shared.waiting.push((id, done));
                    break (id, answer, launcher);
                }
                // Still locked: whoever makes a launcher then finds everybody who wants it.
                self.wanted.send(done).map_err(|_| gone())?;
            }
            there.await.map_err(|_| gone())??;
        };
        let order = serde_json::to_vec(&Order { id, isolation, identity })?;
        if let Err(error) = send(&launcher, &order, &[socket.as_fd(), journal.as_fd()]) {
            lock(&self.shared).waiting.retain(|(of, _)| *of != id);
            return Err(error);
        }
        match answer.await {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(reason)) => Err(io::Error::other(reason)),
            Err(_) => Err(gone()),
        }
    }

    /// Sends the launcher away; there is nothing left to keep. A start that is under way keeps
    /// it.
    pub(crate) fn dismiss(&self) {
        let mut shared = lock(&self.shared);
        if shared.waiting.is_empty()
            && let Some(socket) = shared.socket.take()
        {
            // The thread reads the end and waits for the process.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
        }
    }
}

/// Spawns launchers as they are wanted and reads what they answer, one after the other.
fn keep(
    program: &Path,
    shared: &Mutex<Shared>,
    wanted: &mpsc::Receiver<oneshot::Sender<io::Result<()>>>,
    lost: &dyn Fn(),
) {
    while let Ok(done) = wanted.recv() {
        if lock(shared).socket.is_some() {
            let _ = done.send(Ok(()));
            continue;
        }
        let (ours, mut process) = match spawn(program) {
            Ok(spawned) => spawned,
            Err(error) => {
                let _ = done.send(Err(error));
                continue;
            }
        };
        let mut others = vec![done];
        {
            let mut shared = lock(shared);
            shared.socket = Some(Arc::clone(&ours));
            others.extend(wanted.try_iter());
        }
        for other in others.drain(..) {
            let _ = other.send(Ok(()));
        }
        while let Ok(Some((message, mut descriptors))) = receive(&ours) {
            let Ok(reply) = serde_json::from_slice::<Reply>(&message) else { break };
            let mut shared = lock(shared);
            let Some(at) = shared.waiting.iter().position(|(id, _)| *id == reply.id) else {
                continue;
            };
            let (_, waiting) = shared.waiting.swap_remove(at);
            let outcome = reply.outcome.and_then(|pid| match descriptors.pop() {
                Some(process) => Ok(Started { pid, process }),
                None => Err("the launcher gave no process".to_owned()),
            });
            // Who has asked may have gone; then the socket is closed and the cage ends.
            let _ = waiting.send(outcome);
        }
        let dismissed = {
            let mut shared = lock(shared);
            shared.waiting.clear();
            shared.socket.take().is_none()
        };
        // A launcher that does not end by itself has nothing to say any more.
        let _ = rustix::net::shutdown(&*ours, rustix::net::Shutdown::Both);
        if !dismissed {
            let _ = process.kill();
        }
        let _ = process.wait();
        if !dismissed {
            lost();
        }
        // Those who have asked meanwhile found a socket that was closing.
        while let Ok(other) = wanted.try_recv() {
            others.push(other);
        }
        for other in others {
            let _ = other.send(Ok(()));
        }
    }
}

fn spawn(program: &Path) -> io::Result<(Arc<OwnedFd>, std::process::Child)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let process = Command::new(program)
        .arg0(NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("the launcher can't be executed: {error}"))
        })?;
    Ok((Arc::new(ours), process))
}

/// Whether this process is to be a launcher. To be asked before anything else is done.
#[must_use]
pub fn is_called() -> bool {
    std::env::args_os().next().is_some_and(|name| name == OsStr::new(NAME))
}

/// Is a launcher, until the server is gone.
pub fn main() {
    // SAFETY: plain numbers. A launcher without its server has nothing to do, and children that
    // nobody waits for are not kept as zombies.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        // A terminal's Ctrl-C is the server's business.
        libc::setsid();
        // Root's other groups are nobody's business; for an ordinary user this is refused.
        libc::setgroups(0, std::ptr::null());
    }
    // SAFETY: descriptor 0 is the socket that the server has put there, and nobody else's.
    let server = unsafe { OwnedFd::from_raw_fd(0) };
    // Compiled once; every cage inherits it.
    let filter = inside::seccomp::program().map_err(|error| error.to_string());
    while let Ok(Some((message, mut descriptors))) = receive(&server) {
        let Ok(order) = serde_json::from_slice::<Order>(&message) else { break };
        let (Some(journal), Some(socket)) = (descriptors.pop(), descriptors.pop()) else { break };
        let forked = fork(&order, socket, journal, &filter);
        let (outcome, process) = match forked {
            Ok((pid, process)) => (Ok(pid), Some(process)),
            Err(error) => (Err(error.to_string()), None),
        };
        let Ok(reply) = serde_json::to_vec(&Reply { id: order.id, outcome }) else { break };
        let beside: Vec<_> = process.iter().map(AsFd::as_fd).collect();
        if send(&server, &reply, &beside).is_err() {
            break;
        }
    }
}

fn fork(
    order: &Order,
    socket: OwnedFd,
    journal: OwnedFd,
    filter: &Result<inside::seccomp::Program, String>,
) -> io::Result<(u32, OwnedFd)> {
    let mut flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    if order.isolation == Isolation::Namespaces {
        flags |= libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
    }
    let (mapped, map) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut process: libc::c_int = -1;
    // SAFETY: like fork, as there is no stack to share and no memory that is; this process has
    // one thread. `process` is written before the call returns here.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::from_mut(&mut process),
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::null_mut::<libc::c_void>(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        drop(map);
        let ranged = matches!(order.identity, Identity::Range(_));
        let socket = UnixStream::from(socket);
        inside::begin(order.isolation, ranged, mapped, socket, journal.into(), filter);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    if order.isolation == Isolation::Namespaces {
        // A cage whose ids can't be mapped reads the end of its pipe and is gone.
        map_ids(pid, order.identity)?;
    }
    let mut map = File::from(map);
    map.write_all(&[1])?;
    Ok((pid, process))
}

fn map_ids(pid: u32, identity: Identity) -> io::Result<()> {
    let write = |name: &str, text: &str| {
        let file = File::options().write(true).open(format!("/proc/{pid}/{name}"));
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    };
    match identity {
        Identity::Range(first) => {
            let map = format!("0 {first} 65536");
            write("gid_map", &map)?;
            write("uid_map", &map)
        }
        Identity::Single { uid, gid } => {
            write("setgroups", "deny")?;
            write("gid_map", &format!("{INSIDE_ID} {gid} 1"))?;
            write("uid_map", &format!("{INSIDE_ID} {uid} 1"))
        }
    }
}

/// Sends one message, and descriptors beside it.
pub(crate) fn send(
    socket: &impl AsFd,
    message: &[u8],
    beside: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !beside.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(beside));
    }
    let parts = [IoSlice::new(message)];
    let sent = rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message and what is beside it; `None` at the end.
pub(crate) fn receive(socket: &impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut message = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        let parts = &mut [IoSliceMut::new(&mut message)];
        match rustix::net::recvmsg(socket, parts, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    message.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((message, descriptors)))
}

/// Whether the process behind a descriptor is gone.
pub(crate) fn is_gone(process: &OwnedFd) -> bool {
    let mut polled = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
}

/// Ends the process behind a descriptor.
pub(crate) fn kill(process: &OwnedFd) {
    // One that is gone needs no ending.
    let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
