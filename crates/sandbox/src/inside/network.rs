//! The network inside of a cage: loopback, and listeners at which everything else ends.
//!
//! [`prepare`] runs in the cage's fresh network namespace, once, while `CAP_NET_ADMIN` is still
//! there. It starts no thread and no program and leaves nothing running: what it returns is handed
//! to the server, who answers. The namespace has no device but `lo`, hence nothing in it can leave
//! any other way, whatever is done to its routes.
//!
//! - Every IPv4 address is local (a route of type `local` for `0.0.0.0/0`).
//! - A rule of nftables hands each TCP connection that is not for `127.0.0.0/8` to one listener,
//!   whatever its address and port. `getsockname` on the accepted socket says where it was meant
//!   to go. No connection tracking, no translation. It comes before the lookup of sockets, so that
//!   a process in the cage that listens on `0.0.0.0:80` takes nothing away.
//! - UDP reaches port 53 at any address, and is answered with "port unreachable" elsewhere, unless
//!   a process in the cage listens on that port.
//! - IPv6 has no route but `::1`: a connection fails at once.
//!
//! It never touches a namespace but that of the calling thread.
#![expect(unsafe_code, reason = "two socket options are not in rustix")]

use std::{
    ffi::c_int,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

mod netlink;
#[cfg(test)]
pub(crate) mod tests;

/// The port of the one listener. Not one that a program in a cage would want.
const DOOR_PORT: u16 = 1;
/// Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: c_int = 4096;
const DNS_PORT: u16 = 53;

/// The ports with a listener of their own where the kernel has no transparent proxy.
///
/// Those that development servers and databases use by habit are not among them: a cage can use
/// each port once, and its own servers are the likelier use.
const LISTED: &[u16] = &[
    20, 21, 22, 25, 43, 80, 110, 143, 443, 465, 587, 853, 873, 989, 990, 993, 995, 3690, 6443,
    8443, 9418, 11371,
];

/// The sockets at which a cage's connections end. All are closed on `exec`, and do not block.
#[derive(Debug)]
pub struct Listeners {
    /// TCP. The last one is for DNS at the cage's own loopback; where a connection was meant to
    /// go is its local address.
    pub tcp: Vec<OwnedFd>,
    /// UDP, port 53 of every address, with `IP_PKTINFO`.
    pub dns: OwnedFd,
    /// Which ports of other hosts lead to `tcp`.
    pub ports: Ports,
}

/// Which ports of other hosts lead to the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// All.
    All,
    /// The usual ones, for the kernel has no transparent proxy. Connections to others are refused
    /// inside, or reach a server in the cage itself.
    Listed,
}

/// Sets the network of this namespace up.
///
/// # Errors
///
/// Whatever the kernel refuses. The namespace is then not to be used.
pub fn prepare() -> io::Result<Listeners> {
    make_every_address_local()?;
    open_low_ports();
    let (mut tcp, ports) = match catch_all() {
        Ok(listener) => (vec![listener], Ports::All),
        Err(_) => (listed()?, Ports::Listed),
    };
    tcp.push(listener(Ipv4Addr::UNSPECIFIED, DNS_PORT, false).map_err(in_step("listen on 53"))?);
    let dns = dns().map_err(in_step("bind UDP port 53"))?;
    Ok(Listeners { tcp, dns, ports })
}

/// Raises `lo` and leads every IPv4 address to it.
pub(crate) fn make_every_address_local() -> io::Result<()> {
    let mut routes = netlink::Socket::open(None)?;
    routes.ask(&netlink::raise_loopback()).map_err(in_step("raise lo"))?;
    routes.ask(&netlink::every_address_is_local()).map_err(in_step("add the local route"))
}

fn in_step(step: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("network of the cage, {step}: {error}"))
}

/// Lets processes in the cage listen on ports below 1024, where `/proc` is writable at this point.
/// Without it they can't; nothing else depends on it.
fn open_low_ports() {
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/// The one listener, and the rule that leads to it.
fn catch_all() -> io::Result<OwnedFd> {
    let listener = listener(Ipv4Addr::LOCALHOST, DOOR_PORT, true)?;
    let mut filter = netlink::Socket::open(Some(rustix::net::netlink::NETFILTER))?;
    for message in netlink::lead_everything_to(Ipv4Addr::LOCALHOST, DOOR_PORT) {
        filter.add(&message);
    }
    filter.send()?;
    Ok(listener)
}

fn listed() -> io::Result<Vec<OwnedFd>> {
    LISTED
        .iter()
        .map(|port| listener(Ipv4Addr::UNSPECIFIED, *port, false))
        .collect::<io::Result<_>>()
        .map_err(in_step("listen on the usual ports"))
}

/// A listener that shares its port with nobody: while it listens, no process in the cage can bind
/// a closer address and take connections away.
///
/// What it accepts is bound to the port that was dialled, and inherits `SO_REUSEADDR`. Without it,
/// a connection to anybody's port 8080 would for minutes keep the cage's own servers from theirs.
fn listener(address: Ipv4Addr, port: u16, transparent: bool) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    if transparent {
        switch_on(&socket, libc::IP_TRANSPARENT)?;
    }
    rustix::net::bind(&socket, &std::net::SocketAddrV4::new(address, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The socket for names. With `SO_REUSEADDR` others could take its datagrams: it goes without.
fn dns() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        flags,
        Some(ipproto::UDP),
    )?;
    switch_on(&socket, libc::IP_PKTINFO)?;
    rustix::net::bind(&socket, &std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DNS_PORT))?;
    Ok(socket)
}

fn switch_on(socket: impl AsFd, option: c_int) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the descriptor is open for the whole call, and the option's value is a c_int that
    // lives as long, with its own size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
