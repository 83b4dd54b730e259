//! Sockets of every family. They are made and closed: nothing is connected, bound or sent.

use std::io::Error;

use crate::attempt::{Attempt, Control, Probe};
use crate::kernel::{call, open_and_close};

/// Above the highest family that Linux has.
const FAMILIES: i32 = 47;

/// Families that programs need.
const WANTED: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

const HAS_FAMILY: Control = Control::Where("a kernel that has this family");
const HAS_PROTOCOL: Control = Control::Where("a kernel that has this protocol");

/// Families with a name, for reports.
const NAMES: &[(i32, &str)] = &[
    (3, "ax25"),
    (4, "ipx"),
    (5, "appletalk"),
    (6, "netrom"),
    (9, "x25"),
    (11, "rose"),
    (15, "key"),
    (17, "packet"),
    (18, "ash"),
    (19, "econet"),
    (20, "atm_svc"),
    (21, "rds"),
    (23, "irda"),
    (24, "pppox"),
    (26, "llc"),
    (27, "ib"),
    (28, "mpls"),
    (29, "can"),
    (30, "tipc"),
    (31, "bluetooth"),
    (32, "iucv"),
    (33, "rxrpc"),
    (34, "isdn"),
    (35, "phonet"),
    (36, "ieee802154"),
    (37, "caif"),
    (38, "alg"),
    (39, "nfc"),
    (40, "vsock"),
    (41, "kcm"),
    (42, "qipcrtr"),
    (43, "smc"),
    (44, "xdp"),
    (45, "mctp"),
];

/// Protocols of netlink beside the one that tells interfaces and routes.
const NETLINK: &[(i32, &str)] = &[
    (2, "usersock"),
    (4, "sock_diag"),
    (5, "nflog"),
    (6, "xfrm"),
    (7, "selinux"),
    (8, "iscsi"),
    (9, "audit"),
    (10, "fib_lookup"),
    (11, "connector"),
    (12, "netfilter"),
    (15, "kobject_uevent"),
    (16, "generic"),
    (18, "scsi_transport"),
    (20, "rdma"),
    (21, "crypto"),
    (22, "smc"),
];

pub(crate) fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for family in (0..FAMILIES).filter(|family| !WANTED.contains(family)) {
        let name = NAMES.iter().find(|(number, _)| *number == family).map(|(_, name)| *name);
        let name = name.map_or_else(|| format!("family_{family}"), str::to_owned);
        probes.push(Probe::refused(format!("socket_{name}"), HAS_FAMILY, move || {
            Attempt::by_success(any_socket(family))
        }));
    }
    for (protocol, name) in NETLINK {
        probes.push(Probe::refused(format!("netlink_{name}"), HAS_PROTOCOL, move || {
            Attempt::by_success(socket(libc::AF_NETLINK, libc::SOCK_RAW, *protocol))
        }));
    }
    for (name, family, kind, protocol) in [
        ("raw_icmp", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw_ip", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ("raw_tcp", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP),
        ("raw_icmp_6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
    ] {
        let control = if family == libc::AF_INET { Control::Allowed } else { HAS_FAMILY };
        probes.push(Probe::refused(format!("socket_{name}"), control, move || {
            Attempt::by_success(socket(family, kind, protocol))
        }));
    }
    // The old way to have whole packets: a kind of the internet family.
    probes.push(Probe::refused("socket_old_packet", HAS_FAMILY, || {
        Attempt::by_success(socket(libc::AF_INET, 10, 0x0300))
    }));
    probes.push(Probe::refused("socketpair_of_vsock", HAS_FAMILY, || {
        // vsock has pairs of its own since 5.15 or none; that the family is known is enough.
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let mut pair = [0_u8; 8];
        let answer = call!(libc::SYS_socketpair, libc::AF_VSOCK, kind, 0, &mut pair);
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Attempt::Allowed(format!("the family is known: {error}"))
            }
            other => Attempt::by_success(other),
        }
    }));
    // Options that take what is meant for others, or choose the way out.
    for (name, level, option, size) in [
        ("transparent", 0, libc::IP_TRANSPARENT, 4),
        ("mark", libc::SOL_SOCKET, libc::SO_MARK, 4),
        ("receive_buffer", libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4),
    ] {
        probes.push(Probe::refused(format!("socket_option_{name}"), Control::Allowed, move || {
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
            let socket = match call!(libc::SYS_socket, libc::AF_INET, kind, 0) {
                Ok(socket) => socket,
                Err(error) => return Attempt::refused(&error),
            };
            let mut one = [1_u8, 0, 0, 0];
            Attempt::by_success(call!(libc::SYS_setsockopt, socket, level, option, &mut one, size))
        }));
    }
    // An upper half that is not zero must not carry a family past the filter.
    probes.push(Probe::refused("socket_vsock_upper_bits", HAS_FAMILY, || {
        let family = i64::from(libc::AF_VSOCK) | 1 << 32;
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        Attempt::by_success(open_and_close(call!(libc::SYS_socket, family, kind, 0)))
    }));
    probes
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<i64, Error> {
    open_and_close(call!(libc::SYS_socket, family, kind | libc::SOCK_CLOEXEC, protocol))
}

/// Tries what kinds a family may have; the last error if there is none.
fn any_socket(family: i32) -> Result<i64, Error> {
    let mut last = Error::from_raw_os_error(libc::EAFNOSUPPORT);
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, 4] {
        // Few families have no protocol 0: PF_KEY wants 2, CAN raw 1.
        for protocol in [0, 1, 2] {
            match socket(family, kind, protocol) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}
