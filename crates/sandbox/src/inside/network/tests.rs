//! What [`super::prepare`] makes of a network namespace. Each test runs in one of its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::*;
use crate::inside::trial;

/// The scenes, as a child plays them.
pub(crate) fn scene(name: &str) {
    match name {
        "ports" => ports(),
        "listed" => fewer_ports(),
        "outside" => nothing_else_leads_out(),
        _ => panic!("no such scene: {name}"),
    }
}

#[test]
fn every_port_of_every_address_leads_to_the_listener() {
    trial::play("network:ports");
}

#[test]
fn without_a_transparent_proxy_the_usual_ports_do() {
    trial::play("network:listed");
}

#[test]
fn what_is_neither_tcp_nor_dns_fails_at_once() {
    trial::play("network:outside");
}

/// Connects, and returns where the accepted connection was meant to go.
fn lands(listener: &TcpListener, to: SocketAddr) -> SocketAddr {
    let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
    let mut server = loop {
        match listener.accept() {
            Ok((server, _)) => break server,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    server.write_all(b"hello").unwrap();
    let mut hello = [0; 5];
    client.read_exact(&mut hello).unwrap();
    assert_eq!(client.peer_addr().unwrap(), to);
    server.local_addr().unwrap()
}

fn ports() {
    let begun = Instant::now();
    let listeners = prepare().unwrap();
    println!("set up in {:?}", begun.elapsed());
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    println!("the first port that anybody may listen on: {}", first.trim());
    assert_eq!(listeners.ports, Ports::All);
    for socket in listeners.tcp.iter().chain([&listeners.dns]) {
        let flags = rustix::io::fcntl_getfd(socket).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    let mut tcp = listeners.tcp.into_iter().map(TcpListener::from);
    let (door, dns) = (tcp.next().unwrap(), tcp.next().unwrap());
    assert!(tcp.next().is_none());
    // Servers of the cage's own, on every address, take nothing away.
    let own = [80, 443, 8080, 65535].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
    for address in [
        "93.184.216.34",
        "1.1.1.1",
        "10.0.0.1",
        "169.254.169.254",
        "198.18.1.0",
        "126.255.255.255",
        "128.0.0.1",
    ] {
        for port in [1, 2, 22, 53, 80, 443, 8080, 31337, 65535] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            assert_eq!(lands(&door, to), to);
        }
    }
    // What is meant for the cage itself stays there.
    for listener in &own {
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 200, 3, 4)] {
            lands(listener, (address, port).into());
        }
    }
    assert_eq!(door.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    lands(&dns, (Ipv4Addr::LOCALHOST, 53).into());
    // Nobody else can sit down at the door's own ports, whatever he asks for.
    for (address, port) in [("127.0.0.1", 1), ("0.0.0.0", 1), ("127.0.0.1", 53), ("8.8.8.8", 53)] {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
        let at: std::net::SocketAddrV4 = format!("{address}:{port}").parse().unwrap();
        let bound = rustix::net::bind(&socket, &at).and_then(|()| rustix::net::listen(&socket, 1));
        assert_eq!(bound, Err(rustix::io::Errno::ADDRINUSE), "{at}");
        if port == 53 {
            assert_eq!(UdpSocket::bind(at).unwrap_err().kind(), ErrorKind::AddrInUse, "{at}");
        }
    }
    // A second one that is like the cage's network already is fails and harms nothing.
    assert!(prepare().is_err());
    lands(&door, "9.9.9.9:9".parse().unwrap());
}

fn fewer_ports() {
    make_every_address_local().unwrap();
    let listeners: Vec<TcpListener> = listed().unwrap().into_iter().map(Into::into).collect();
    for listener in &listeners {
        let port = listener.local_addr().unwrap().port();
        let to = SocketAddr::new("93.184.216.34".parse().unwrap(), port);
        assert_eq!(lands(listener, to), to);
    }
    for port in [3000, 8080] {
        let refused = TcpStream::connect(("93.184.216.34", port)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let own = TcpListener::bind(("127.0.0.1", port)).unwrap();
        own.set_nonblocking(true).unwrap();
        lands(&own, (Ipv4Addr::LOCALHOST, port).into());
    }
}

fn nothing_else_leads_out() {
    let _listeners = prepare().unwrap();
    for to in ["8.8.8.8:123", "93.184.216.34:443", "127.0.0.1:53000"] {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(b"anybody there?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    for to in ["[2606:4700::1111]:443", "[fd00:ec2::254]:80", "[64:ff9b::808:808]:53"] {
        let to: SocketAddr = to.parse().unwrap();
        let error = TcpStream::connect(to).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable),
            "{error}"
        );
    }
    // The loopback of IPv6 is there for the cage's own servers.
    if let Ok(own) = TcpListener::bind("[::1]:0") {
        TcpStream::connect(own.local_addr().unwrap()).unwrap();
    }
}
