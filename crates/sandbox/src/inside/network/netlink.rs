//! The few messages that set a cage's network up, written by hand: two for routes, five for
//! nftables.
//!
//! Layouts and numbers are those of the kernel's `linux/netlink.h`, `linux/rtnetlink.h` and
//! `linux/netfilter/nf_tables.h`. Numbers are in the machine's order but for nftables' attributes,
//! which are in the network's. Nothing here is read from a cage.

use std::{io, net::Ipv4Addr, os::fd::OwnedFd};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
/// Set on the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// `NLMSG_ERROR`: also the type of an acknowledgement, with error 0.
const ANSWER: u16 = 2;

/// A connection to the kernel, with what is to be sent next.
pub(super) struct Socket {
    socket: OwnedFd,
    batch: Vec<u8>,
    sent: u32,
    expected: usize,
}

impl Socket {
    /// `None` speaks of links and routes: `NETLINK_ROUTE` is 0.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        Ok(Self { socket, batch: Vec::new(), sent: 0, expected: 0 })
    }

    /// Sends one message and waits for the kernel's word.
    pub(super) fn ask(&mut self, message: &Message) -> io::Result<()> {
        self.add(message);
        self.send()
    }

    /// Puts a message into the batch.
    pub(super) fn add(&mut self, message: &Message) {
        self.sent += 1;
        let length = (HEADER + message.body.len()) as u32;
        self.batch.extend(length.to_ne_bytes());
        self.batch.extend(message.kind.to_ne_bytes());
        self.batch.extend((message.flags | REQUEST).to_ne_bytes());
        self.batch.extend(self.sent.to_ne_bytes());
        self.batch.extend(0_u32.to_ne_bytes());
        self.batch.extend(&message.body);
        self.expected += usize::from(message.flags & ACKNOWLEDGE != 0);
    }

    /// Sends the batch, and fails with the first error that the kernel has in it.
    pub(super) fn send(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        rustix::net::send(&self.socket, &batch, SendFlags::empty())?;
        let mut expected = std::mem::take(&mut self.expected);
        // The answers are there when `send` returns: the kernel works on a batch in the call.
        while expected > 0 {
            let mut buffer = [0; 8192];
            let (length, _) =
                rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            let mut rest = &buffer[..length.min(8192)];
            while let Some((kind, body, next)) = split(rest) {
                if kind == ANSWER {
                    let code =
                        body.first_chunk().map_or(-libc::EPROTO, |code| i32::from_ne_bytes(*code));
                    if code != 0 {
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    expected = expected.saturating_sub(1);
                }
                rest = next;
            }
        }
        Ok(())
    }
}

/// The type and body of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// One message without the header that says its length and number.
pub(super) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// An attribute (`struct nlattr`), padded to four bytes.
    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.extend(attribute(kind, value));
        self
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

/// `RTM_NEWLINK`: `lo`, up. The kernel gives it 127.0.0.1/8 and ::1 by itself.
pub(super) fn raise_loopback() -> Message {
    const NEW_LINK: u16 = 16;
    let up = libc::IFF_UP as u32;
    // struct ifinfomsg: family, padding, device type, index, flags, which flags change.
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(up.to_ne_bytes());
    body.extend(up.to_ne_bytes());
    Message { kind: NEW_LINK, flags: ACKNOWLEDGE, body }
}

/// `RTM_NEWROUTE`: `local 0.0.0.0/0 dev lo src 127.0.0.1` in the table of local addresses.
///
/// Without the source, a connection would come from the very address that it goes to, and could
/// meet itself.
pub(super) fn every_address_is_local() -> Message {
    const NEW_ROUTE: u16 = 24;
    const OUTPUT_DEVICE: u16 = 4;
    const SOURCE: u16 = 7;
    // struct rtmsg: family, lengths of destination and source, type of service, table (local),
    // protocol (static), scope (host), type (local), flags.
    let body = vec![libc::AF_INET as u8, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0];
    Message { kind: NEW_ROUTE, flags: ACKNOWLEDGE | CREATE, body }
        .with(OUTPUT_DEVICE, &LOOPBACK.to_ne_bytes())
        .with(SOURCE, &Ipv4Addr::LOCALHOST.octets())
}

const SUBSYSTEM: u16 = 10;
const IPV4: u8 = 2;
const TABLE: &[u8] = b"posthouse\0";
const CHAIN: &[u8] = b"door\0";

/// What `nft` would be told as:
///
/// ```text
/// table ip posthouse {
///     chain door {
///         type filter hook prerouting priority mangle;
///         meta l4proto tcp ip daddr != 127.0.0.0/8 tproxy to <address>:<port>
///     }
/// }
/// ```
///
/// One batch: all of it or nothing.
pub(super) fn lead_everything_to(address: Ipv4Addr, port: u16) -> [Message; 5] {
    let edge = |kind: u16| Message {
        kind,
        flags: 0,
        // struct nfgenmsg: family, version, and here the subsystem.
        body: [&[0, 0][..], &SUBSYSTEM.to_be_bytes()].concat(),
    };
    let part = |kind: u16| Message {
        kind: SUBSYSTEM << 8 | kind,
        flags: ACKNOWLEDGE | CREATE,
        body: vec![IPV4, 0, 0, 0],
    };
    let table = part(0).with(1, TABLE);
    let hook = [attribute(1, &0_u32.to_be_bytes()), attribute(2, &(-150_i32).to_be_bytes())];
    let chain =
        part(3).with(1, TABLE).with(3, CHAIN).with(4 | NESTED, &hook.concat()).with(7, b"filter\0");
    let rule = part(6).with(1, TABLE).with(2, CHAIN).with(
        4 | NESTED,
        &[
            read_protocol(),
            compare(EQUAL, &[libc::IPPROTO_TCP as u8]),
            read_first_byte_of_destination(),
            compare(NOT_EQUAL, &[127]),
            load(ADDRESS_REGISTER, &address.octets()),
            load(PORT_REGISTER, &port.to_be_bytes()),
            proxy(),
        ]
        .concat(),
    );
    [edge(0x10), table, chain, rule, edge(0x11)]
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const ADDRESS_REGISTER: u32 = 1;
const PORT_REGISTER: u32 = 2;

/// One expression in a rule's list.
fn expression(name: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, attributes)])
}

fn read_protocol() -> Vec<u8> {
    const LAYER_4_PROTOCOL: u32 = 16;
    let key = attribute(2, &LAYER_4_PROTOCOL.to_be_bytes());
    expression(b"meta\0", &[key, attribute(1, &ADDRESS_REGISTER.to_be_bytes())])
}

fn read_first_byte_of_destination() -> Vec<u8> {
    const NETWORK_HEADER: u32 = 1;
    const DESTINATION: u32 = 16;
    let numbers = [ADDRESS_REGISTER, NETWORK_HEADER, DESTINATION, 1];
    let attributes: Vec<Vec<u8>> =
        (1..).zip(numbers).map(|(kind, number)| attribute(kind, &number.to_be_bytes())).collect();
    expression(b"payload\0", &attributes)
}

fn compare(operation: u32, value: &[u8]) -> Vec<u8> {
    expression(
        b"cmp\0",
        &[
            attribute(1, &ADDRESS_REGISTER.to_be_bytes()),
            attribute(2, &operation.to_be_bytes()),
            nested(3, &[attribute(1, value)]),
        ],
    )
}

fn load(register: u32, value: &[u8]) -> Vec<u8> {
    let data = nested(2, &[attribute(1, value)]);
    expression(b"immediate\0", &[attribute(1, &register.to_be_bytes()), data])
}

fn proxy() -> Vec<u8> {
    expression(
        b"tproxy\0",
        &[
            attribute(1, &u32::from(IPV4).to_be_bytes()),
            attribute(2, &ADDRESS_REGISTER.to_be_bytes()),
            attribute(3, &PORT_REGISTER.to_be_bytes()),
        ],
    )
}
