//! Datagrams with the address that they were sent to: read, and answered from that very address.
//!
//! Only `IP_PKTINFO` tells it, and only control messages carry it. Nothing here knows what is in
//! a datagram.
#![expect(unsafe_code, reason = "rustix has no IP_PKTINFO")]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use tokio::{io::Interest, net::UdpSocket};

/// Room for one control message with an `in_pktinfo`, aligned as control messages have to be.
#[repr(C)]
union Control {
    _alignment: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Where a datagram came from and where it was meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) from: SocketAddrV4,
    pub(super) to: Ipv4Addr,
}

/// Waits for a datagram. What does not fit into the buffer is lost.
pub(super) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
    socket.async_io(Interest::READABLE, || receive_now(socket, buffer)).await
}

/// Answers a datagram from the address that it was sent to. It never waits: a cage that does not
/// read its answers loses them.
pub(super) fn answer(socket: &UdpSocket, bytes: &[u8], route: Route) -> io::Result<()> {
    socket.try_io(Interest::WRITABLE, || send_now(socket, bytes, route))
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
    let mut name = MaybeUninit::<libc::sockaddr_in>::zeroed();
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: every pointer in the message is to a value above, which outlives the call, with the
    // length that is given beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: zeroed is a valid sockaddr_in, and the kernel has written nothing but one over it.
    let name = unsafe { name.assume_init() };
    if i32::from(name.sin_family) != libc::AF_INET {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    // SAFETY: the kernel has written the control messages and their total length into the message.
    let to = unsafe { destination(&message) };
    let from = SocketAddrV4::new(
        Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr)),
        u16::from_be(name.sin_port),
    );
    let to = to.ok_or(io::ErrorKind::InvalidData)?;
    Ok((length, Route { from, to }))
}

/// The address in the `IP_PKTINFO` of a message.
///
/// # Safety
///
/// `message` holds control messages as the kernel writes them.
unsafe fn destination(message: &libc::msghdr) -> Option<Ipv4Addr> {
    // SAFETY: by the caller's word the macros walk within the buffer, and one of this level and
    // type holds an in_pktinfo, read without asking for its alignment.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::IPPROTO_IP && found.cmsg_type == libc::IP_PKTINFO {
                let info = libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned();
                return Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

fn send_now(socket: &UdpSocket, bytes: &[u8], route: Route) -> io::Result<()> {
    let mut name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: route.from.port().to_be(),
        sin_addr: libc::in_addr { s_addr: route.from.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    };
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: route.to.to_bits().to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: both only compute with lengths; the buffer of 64 bytes holds one in_pktinfo, so that
    // the first header is there and what is written stays within it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::in_pktinfo>() as u32) as _;
        if let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_mut() {
            header.cmsg_level = libc::IPPROTO_IP;
            header.cmsg_type = libc::IP_PKTINFO;
            header.cmsg_len = libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) as _;
            libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
        }
    }
    // SAFETY: every pointer in the message is to a value that outlives the call, with its length;
    // the kernel only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
