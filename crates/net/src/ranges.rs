//! Which addresses belong to the public internet, and what the others are.
//!
//! A table and a pure function. Sources: the special-purpose registries of IANA (RFC 6890 and its
//! updates) and the addresses at which clouds serve metadata. No socket is made here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why an address is not one of the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// In words, to follow "is".
    pub(crate) name: &'static str,
    /// Who may open it.
    pub(crate) opens: Opens,
}

/// What it takes to let an address through nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    /// A network in the operator's list that holds it.
    ByNetwork,
    /// The address itself, alone, in the operator's list: opening the network around it is no wish
    /// to hand out a machine's credentials.
    ByItself,
    /// Nothing: it is no host, or another way to write one.
    Never,
}

/// Each row: first address, prefix length, words. The first row that holds an address wins.
const V4: &[(Ipv4Addr, u8, &str, Opens)] = &[
    (Ipv4Addr::new(169, 254, 169, 254), 32, METADATA, Opens::ByItself),
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA, Opens::ByItself),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA, Opens::ByItself),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified", Opens::Never),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE, Opens::ByNetwork),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier (CGNAT)", Opens::ByNetwork),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK, Opens::ByNetwork),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL, Opens::ByNetwork),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE, Opens::ByNetwork),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for protocols alone", Opens::ByNetwork),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION, Opens::ByNetwork),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay of 6to4", Opens::ByNetwork),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE, Opens::ByNetwork),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks", Opens::ByNetwork),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION, Opens::ByNetwork),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION, Opens::ByNetwork),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast", Opens::Never),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast", Opens::Never),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved", Opens::Never),
];

/// As [`V4`]. What no row holds and 2000::/3 does not hold either is reserved.
const V6: &[(Ipv6Addr, u8, &str, Opens)] = &[
    (v6(0xfd00, 0x0ec2, 0, 0x254), 128, METADATA, Opens::ByItself),
    (v6(0xfd20, 0x00ce, 0, 0x254), 128, METADATA, Opens::ByItself),
    (v6(0, 0, 0, 0), 128, "unspecified", Opens::Never),
    (v6(0, 0, 0, 1), 128, LOOPBACK, Opens::ByNetwork),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4 address in IPv6 form", Opens::Never),
    (v6(0, 0, 0, 0), 96, "an IPv4 address in IPv6 form", Opens::Never),
    (v6(0x64, 0xff9b, 0, 0), 96, TRANSLATED, Opens::ByNetwork),
    (v6(0x64, 0xff9b, 1, 0), 48, TRANSLATED, Opens::ByNetwork),
    (v6(0x100, 0, 0, 0), 64, "for discarding", Opens::Never),
    (v6(0x2001, 0, 0, 0), 32, "tunnelled (Teredo)", Opens::ByNetwork),
    (v6(0x2001, 0, 0, 0), 23, "for protocols alone", Opens::ByNetwork),
    (v6(0x2001, 0xdb8, 0, 0), 32, DOCUMENTATION, Opens::ByNetwork),
    (v6(0x2002, 0, 0, 0), 16, "tunnelled (6to4)", Opens::ByNetwork),
    (v6(0x3fff, 0, 0, 0), 20, DOCUMENTATION, Opens::ByNetwork),
    (v6(0xfc00, 0, 0, 0), 7, PRIVATE, Opens::ByNetwork),
    (v6(0xfe80, 0, 0, 0), 10, LINK_LOCAL, Opens::ByNetwork),
    (v6(0xfec0, 0, 0, 0), 10, "site-local", Opens::ByNetwork),
    (v6(0xff00, 0, 0, 0), 8, "multicast", Opens::Never),
];

const METADATA: &str = "where a cloud serves metadata";
const PRIVATE: &str = "private";
const LOOPBACK: &str = "loopback";
const LINK_LOCAL: &str = "link-local";
const DOCUMENTATION: &str = "for documentation alone";
const TRANSLATED: &str = "an IPv4 address behind NAT64";

/// The first three groups and the last one; those between are zero.
const fn v6(first: u16, second: u16, third: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, 0, 0, 0, 0, last)
}

/// What an address is, if it is not a public one.
pub(crate) fn kind(address: IpAddr) -> Option<Kind> {
    match address {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(first, length, ..)| shares_prefix_v4(*first, address, *length))
            .map(|(_, _, name, opens)| Kind { name, opens: *opens }),
        IpAddr::V6(address) => V6
            .iter()
            .find(|(first, length, ..)| shares_prefix_v6(*first, address, *length))
            .map(|(_, _, name, opens)| Kind { name, opens: *opens })
            .or_else(|| {
                let global = shares_prefix_v6(v6(0x2000, 0, 0, 0), address, 3);
                (!global).then_some(Kind { name: "reserved", opens: Opens::ByNetwork })
            }),
    }
}

/// The IPv4 address that packets to a translated or tunnelled IPv6 address end up at.
pub(crate) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = address.octets();
    let at = |start: usize| {
        Ipv4Addr::new(bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3])
    };
    if shares_prefix_v6(v6(0x64, 0xff9b, 0, 0), address, 96) {
        Some(at(12))
    } else if shares_prefix_v6(v6(0x2002, 0, 0, 0), address, 16) {
        Some(at(2))
    } else if shares_prefix_v6(v6(0x2001, 0, 0, 0), address, 32) {
        // Teredo keeps the client's address inverted (RFC 4380, 4).
        Some(Ipv4Addr::from_bits(!at(12).to_bits()))
    } else {
        None
    }
}

/// Whether the operator's list opens an address of this kind.
pub(crate) fn opened(address: IpAddr, kind: Kind, networks: &[IpNet]) -> bool {
    match kind.opens {
        Opens::Never => false,
        Opens::ByNetwork => networks.iter().any(|network| network.contains(&address)),
        Opens::ByItself => networks.iter().any(|network| {
            network.contains(&address) && network.prefix_len() == network.max_prefix_len()
        }),
    }
}

fn shares_prefix_v4(first: Ipv4Addr, address: Ipv4Addr, length: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    (first.to_bits() ^ address.to_bits()) & mask == 0
}

fn shares_prefix_v6(first: Ipv6Addr, address: Ipv6Addr, length: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    (first.to_bits() ^ address.to_bits()) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<&'static str> {
        kind(text.parse().unwrap()).map(|kind| kind.name)
    }

    #[test]
    fn each_range_of_ipv4_begins_and_ends_where_it_should() {
        // First, last, what stands before, what stands after; None where that is another range.
        for (first, last, before, after) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "239.255.255.255", Some("223.255.255.255"), None),
            ("240.0.0.0", "255.255.255.254", None, None),
            ("255.255.255.255", "255.255.255.255", None, None),
        ] {
            assert!(name(first).is_some(), "{first}");
            assert!(name(last).is_some(), "{last}");
            for outside in before.into_iter().chain(after) {
                assert_eq!(name(outside), None, "{outside}");
            }
        }
        assert_eq!(name("169.254.169.254"), Some(METADATA));
        assert_eq!(name("100.100.100.200"), Some(METADATA));
        assert_eq!(name("255.255.255.255"), Some("broadcast"));
    }

    #[test]
    fn each_range_of_ipv6_begins_and_ends_where_it_should() {
        let ones = "ffff:ffff:ffff:ffff";
        for (first, last, name_of_it) in [
            ("::".to_owned(), "::".to_owned(), "unspecified"),
            ("::1".to_owned(), "::1".to_owned(), LOOPBACK),
            ("::2".to_owned(), "::255.255.255.255".to_owned(), "an IPv4 address in IPv6 form"),
            (
                "::ffff:0.0.0.0".to_owned(),
                "::ffff:255.255.255.255".to_owned(),
                "an IPv4 address in IPv6 form",
            ),
            ("64:ff9b::".to_owned(), "64:ff9b::255.255.255.255".to_owned(), TRANSLATED),
            ("64:ff9b:1::".to_owned(), format!("64:ff9b:1:ffff:{ones}"), TRANSLATED),
            ("100::".to_owned(), format!("100::{ones}"), "for discarding"),
            ("2001::".to_owned(), format!("2001:0:ffff:ffff:{ones}"), "tunnelled (Teredo)"),
            ("2001:1::".to_owned(), format!("2001:1ff:ffff:ffff:{ones}"), "for protocols alone"),
            ("2001:db8::".to_owned(), format!("2001:db8:ffff:ffff:{ones}"), DOCUMENTATION),
            ("2002::".to_owned(), format!("2002:ffff:ffff:ffff:{ones}"), "tunnelled (6to4)"),
            ("3fff::".to_owned(), format!("3fff:fff:ffff:ffff:{ones}"), DOCUMENTATION),
            ("4000::".to_owned(), format!("fbff:ffff:ffff:ffff:{ones}"), "reserved"),
            ("fc00::".to_owned(), format!("fdff:ffff:ffff:ffff:{ones}"), PRIVATE),
            ("fe80::".to_owned(), format!("febf:ffff:ffff:ffff:{ones}"), LINK_LOCAL),
            ("fec0::".to_owned(), format!("feff:ffff:ffff:ffff:{ones}"), "site-local"),
            ("ff00::".to_owned(), format!("ffff:ffff:ffff:ffff:{ones}"), "multicast"),
            ("fd00:ec2::254".to_owned(), "fd00:ec2::254".to_owned(), METADATA),
            ("fd20:ce::254".to_owned(), "fd20:ce::254".to_owned(), METADATA),
        ] {
            assert_eq!(name(&first), Some(name_of_it), "{first}");
            assert_eq!(name(&last), Some(name_of_it), "{last}");
        }
        for public in [
            "2000::",
            "2001:200::",
            "2001:db7:ffff::1",
            "2001:db9::",
            "2003::",
            "2606:4700::1111",
            "3ffe:ffff::1",
            "3fff:1000::",
            "3fff:ffff:ffff:ffff::",
        ] {
            assert_eq!(name(public), None, "{public}");
        }
    }

    #[test]
    fn the_address_inside_of_a_tunnelled_one_is_found() {
        for (text, inside) in [
            ("64:ff9b::169.254.169.254", Some("169.254.169.254")),
            ("2002:7f00:1::1", Some("127.0.0.1")),
            ("2001::f5ff:fffe", Some("10.0.0.1")),
            ("2606:4700::1111", None),
            ("::ffff:127.0.0.1", None),
        ] {
            let expected = inside.map(|inside| inside.parse().unwrap());
            assert_eq!(embedded(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_network_opens_what_it_holds_but_not_metadata_and_what_is_no_host() {
        let networks: Vec<IpNet> =
            ["0.0.0.0/0", "::/0"].iter().map(|text| text.parse().unwrap()).collect();
        let alone: Vec<IpNet> = vec!["169.254.169.254/32".parse().unwrap()];
        for (text, by_all, by_itself) in [
            ("10.1.2.3", true, false),
            ("127.0.0.1", true, false),
            ("fd00::1", true, false),
            ("169.254.169.254", false, true),
            ("fd00:ec2::254", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("::", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("ff02::1", false, false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            let kind = kind(address).unwrap();
            assert_eq!(opened(address, kind, &networks), by_all, "{text}");
            assert_eq!(opened(address, kind, &alone), by_itself, "{text}");
        }
    }
}
