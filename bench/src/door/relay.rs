//! The other designs of `door`: an HTTP proxy on the host, and two ways to it out of a network of
//! one's own. Both processes are this program once more.
//!
//! By the first way, a listener inside belongs to the proxy itself. By the second, a relay inside
//! carries each connection to the proxy's unix socket, byte by byte. The proxy reads the head of a
//! connection's first request, looks up whether the host is known, dials, and looks at nothing
//! else: it does less than any that is in earnest.

use std::{
    collections::HashMap,
    io::{BufRead as _, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest,
        copy_bidirectional_with_sizes,
    },
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};

use crate::Outcome;

/// The proxy's socket, in the folder of both.
const SOCKET: &str = "proxy";
/// The socket over which the proxy is handed its listener inside.
const HANDOVER: &str = "handover";
/// How much is carried at once, as in the door.
const PIECE: usize = 16 << 10;
/// The longest head.
const HEAD: usize = 16 << 10;

/// The hosts that the proxy knows, each with its port, and where they are.
pub(crate) type Known = HashMap<String, SocketAddr>;

/// Where both ways begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The listener that belongs to the proxy.
    pub(crate) listener: SocketAddr,
    /// The relay's.
    pub(crate) relay: SocketAddr,
    /// The relay's process.
    pub(crate) pid: u32,
}

/// Is the proxy for as long as it is let.
pub(crate) async fn proxy(folder: PathBuf, known: Known) -> Outcome<()> {
    let known = Arc::new(known);
    let socket = UnixListener::bind(folder.join(SOCKET))?;
    let handover = UnixListener::bind(folder.join(HANDOVER))?;
    // Whoever waits for this line may come now.
    println!("{}", std::process::id());
    let inside = take_listener(&handover).await?;
    // Ends with this future.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let known = Arc::clone(&known);
        tokio::select! {
            accepted = socket.accept() => {
                let stream = accepted?.0;
                connections.spawn(async move { drop(serve(stream, &known).await) });
            }
            accepted = inside.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                connections.spawn(async move { drop(serve(stream, &known).await) });
            }
        }
    }
}

/// Gives a connection what it asks for. A client that leaves in the middle is its own business.
async fn serve(mut inside: impl AsyncRead + AsyncWrite + Unpin, known: &Known) -> Outcome<()> {
    let mut head = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = head.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > HEAD || inside.read_buf(&mut head).await? == 0 {
            return Err("no head".into());
        }
    };
    let (head, rest) = head.split_at(end);
    let head = std::str::from_utf8(head)?;
    let asked = Asked::read(head).ok_or("the head asks for nothing that is known")?;
    let Some(address) = known.get(asked.authority) else {
        inside.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await?;
        return Ok(());
    };
    let mut outside = TcpStream::connect(address).await?;
    outside.set_nodelay(true)?;
    match asked.forward {
        None => inside.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?,
        Some(head) => outside.write_all(&[head.as_bytes(), rest].concat()).await?,
    }
    copy_bidirectional_with_sizes(&mut inside, &mut outside, PIECE, PIECE).await?;
    Ok(())
}

/// What a head asks a proxy for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    /// The host and its port.
    authority: &'a str,
    /// The head as the origin wants it. None where a tunnel is asked for.
    forward: Option<String>,
}

impl<'a> Asked<'a> {
    fn read(head: &'a str) -> Option<Self> {
        let (line, headers) = head.split_once("\r\n")?;
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.split_once(' ')?;
        if method == "CONNECT" {
            return Some(Self { authority: target, forward: None });
        }
        let target = target.strip_prefix("http://")?;
        let (authority, path) = target.split_at(target.find('/')?);
        let forward = Some(format!("{method} {path} {version}\r\n{headers}"));
        Some(Self { authority, forward })
    }
}

/// Is the relay until its standard input ends: in a network of its own, where it also starts the
/// client for each order.
pub(crate) fn relay(folder: &Path) -> Outcome<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (listener, own) = {
        let of_proxy = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = of_proxy.local_addr()?;
        give_listener(&folder.join(HANDOVER), of_proxy)?;
        (address, runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?)
    };
    let hello = Hello { listener, relay: own.local_addr()?, pid: std::process::id() };
    println!("{}", serde_json::to_string(&hello)?);
    let socket: Arc<Path> = folder.join(SOCKET).into();
    // Ends with this function, and its connections with it.
    let mut accepting = JoinSet::new();
    accepting.spawn_on(accept(own, socket), runtime.handle());
    for order in std::io::stdin().lock().lines() {
        let mut client = Command::new(std::env::current_exe()?);
        let output = client.args(["play", "client", &order?]).stdin(Stdio::null()).output()?;
        match output.status.success() {
            true => println!("{}", String::from_utf8_lossy(&output.stdout).trim()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                println!("{}", serde_json::json!({ "failed": said.trim() }));
            }
        }
    }
    Ok(())
}

async fn accept(listener: TcpListener, socket: Arc<Path>) {
    let mut connections = JoinSet::new();
    while let Ok((mut inside, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let socket = Arc::clone(&socket);
        connections.spawn(async move {
            inside.set_nodelay(true)?;
            let mut proxy = UnixStream::connect(socket).await?;
            copy_bidirectional_with_sizes(&mut inside, &mut proxy, PIECE, PIECE).await
        });
    }
}

/// Hands a listener to the proxy.
fn give_listener(socket: &Path, listener: std::net::TcpListener) -> Outcome<()> {
    listener.set_nonblocking(true)?;
    let proxy = StdUnixStream::connect(socket)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err("a message has no room for a listener".into());
    }
    sendmsg(&proxy, &[IoSlice::new(b"l")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Waits for it.
async fn take_listener(handover: &UnixListener) -> Outcome<TcpListener> {
    let relay = handover.accept().await?.0;
    let take = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let parts = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(&relay, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        Ok(sockets.flatten().next())
    };
    let socket: Option<OwnedFd> = relay.async_io(Interest::READABLE, take).await?;
    let listener = socket.ok_or("no listener was handed over")?;
    Ok(TcpListener::from_std(listener.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_a_proxy_does() {
        let tunnel = Asked::read("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n");
        assert_eq!(tunnel, Some(Asked { authority: "a.example:443", forward: None }));
        let plain = "GET http://a.example:80/x?y HTTP/1.1\r\nhost: a.example\r\n\r\n";
        let forward = Some("GET /x?y HTTP/1.1\r\nhost: a.example\r\n\r\n".to_owned());
        assert_eq!(Asked::read(plain), Some(Asked { authority: "a.example:80", forward }));
        assert_eq!(Asked::read("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n"), None);
    }
}
