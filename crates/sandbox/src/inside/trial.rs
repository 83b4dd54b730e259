//! For tests: children of the test process, each in a user and a network namespace of its own.
//!
//! A test that has to do with networks starts a child for the world outside, where every address
//! is local and nothing can leave; that one starts another child for the cage. Each child is this
//! same test program and runs [`role`] alone.
#![expect(unsafe_code, reason = "namespaces are left between fork and exec")]

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
    process::{Resource, getrlimit, setrlimit},
};

use super::network::{Listeners, Ports};

const ROLE: &str = "POSTHOUSE_TEST_ROLE";

/// What a child does. Run as a test by itself it does nothing.
#[test]
fn role() {
    let Ok(role) = env::var(ROLE) else { return };
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let (place, scene) = role.split_once(':').unwrap();
    match place {
        "outside" => crate::door::tests::outside(scene),
        "inside" => crate::door::tests::inside(scene),
        "network" => super::network::tests::scene(scene),
        _ => panic!("no such place: {place}"),
    }
    println!("{} {role}", done());
}

fn done() -> &'static str {
    "the role is played to its end:"
}

/// Runs a role in a child with its own namespaces, to its end, and fails with what it has said.
pub(crate) fn play(role: &str) {
    let mut child = command(role);
    child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = child.output().expect("this host lets nobody make user and network namespaces");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let ended = said[0].contains(&format!("{} {role}", done()));
    assert!(
        output.status.success() && ended,
        "{role}: {}\n{}\n{}",
        output.status,
        said[0],
        said[1]
    );
    println!("{}", said[0]);
}

fn command(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "inside::trial::role", "--nocapture"]).env(ROLE, role);
    let user = format!("0 {} 1", rustix::process::getuid().as_raw());
    let group = format!("0 {} 1", rustix::process::getgid().as_raw());
    let leave = move || {
        // SAFETY: the call takes no pointers.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &user)?;
        write("/proc/self/gid_map", &group)
    };
    // SAFETY: the closure makes system calls alone; it neither allocates nor locks.
    unsafe { command.pre_exec(leave) };
    command
}

fn write(path: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes())?;
    Ok(())
}

/// A child that plays the inside of a cage, as the world outside holds it.
pub(crate) struct Inside {
    child: Child,
    socket: UnixStream,
}

/// Starts a cage's inside and takes its listeners.
pub(crate) fn start(scene: &str) -> (Inside, Vec<TcpListener>, UdpSocket, Ports) {
    let (here, there) = UnixStream::pair().unwrap();
    let child = command(&format!("inside:{scene}")).stdin(OwnedFd::from(there)).spawn().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(&here, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut sockets: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    let dns = sockets.pop().expect("the inside of the cage has handed nothing out");
    let ports = if byte[0] == b'a' { Ports::All } else { Ports::Listed };
    (
        Inside { child, socket: here },
        sockets.into_iter().map(Into::into).collect(),
        dns.into(),
        ports,
    )
}

impl Inside {
    /// Lets the inside go on by one step, and returns when it is done with it.
    pub(crate) fn step(&mut self) {
        self.socket.write_all(b"s").unwrap();
        let mut byte = [0];
        self.socket.read_exact(&mut byte).expect("the inside has ended early");
    }

    /// Lets the inside go on to its end.
    pub(crate) fn finish(mut self) {
        self.socket.write_all(b"e").unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the inside: {status}");
    }
}

/// The world outside, as the inside of a cage holds it.
pub(crate) struct World(UnixStream);

impl World {
    /// Hands the listeners out and waits for the word to begin.
    pub(crate) fn hand_out(listeners: Listeners) -> Self {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
        let mut sockets: Vec<_> = listeners.tcp.iter().map(AsFd::as_fd).collect();
        sockets.push(listeners.dns.as_fd());
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
        let mode = [if listeners.ports == Ports::All { b'a' } else { b'l' }];
        let parts = [io::IoSlice::new(&mode)];
        rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::empty()).unwrap();
        let world = Self(socket);
        world.wait();
        world
    }

    /// Says that a step is done and waits for the word to go on.
    pub(crate) fn stepped(&self) {
        (&self.0).write_all(b"d").unwrap();
        self.wait();
    }

    fn wait(&self) {
        let mut byte = [0];
        (&self.0).read_exact(&mut byte).unwrap();
    }
}
