//! Attempts whose aim a test names: a socket, an address, a file that it has put there itself.

use std::fs::File;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use crate::attempt::{Attempt, line};

/// Long enough for loopback, short enough for a suite.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Runs one attempt by the name of its kind, on what the test names.
pub(crate) fn run(name: &str, argument: &str) -> Result<String, String> {
    let attempt = match name {
        "abstract_socket" => Attempt::of(
            SocketAddr::from_abstract_name(argument)
                .and_then(|address| UnixStream::connect_addr(&address)),
        ),
        "unix_socket" => Attempt::of(UnixStream::connect(argument)),
        "tcp" => Attempt::of(tcp(argument)),
        "tcp_answer" => tcp_answer(argument),
        "udp_answer" => Attempt::of(udp(argument)),
        "resolve" => Attempt::of((argument, 80).to_socket_addrs()),
        "file" => Attempt::of(File::open(argument)),
        other => return Err(format!("no probe {other:?} takes an argument")),
    };
    Ok(line(&format!("{name}={argument}"), &attempt))
}

fn tcp(address: &str) -> std::io::Result<TcpStream> {
    let mut addresses = address.to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| std::io::Error::other("no address"))?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What the other side says without being asked: a connection alone may be the door's own.
fn tcp_answer(address: &str) -> Attempt {
    use std::io::Read;
    let mut bytes = [0; 256];
    match tcp(address).and_then(|mut stream| stream.read(&mut bytes)) {
        Ok(0) => Attempt::absent("closed without a word"),
        Ok(read) => Attempt::Allowed(String::from_utf8_lossy(&bytes[..read]).into_owned()),
        Err(error) => Attempt::refused(&error),
    }
}

fn udp(address: &str) -> std::io::Result<usize> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"posthouse-probe")?;
    socket.recv(&mut [0; 64])
}
