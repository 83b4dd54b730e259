//! What a host may look like: a plain DNS name or an address in its usual form.
//!
//! Strict on purpose: `getaddrinfo` reads `0x7f000001`, `127.1` and `0177.0.0.1` as addresses. Such
//! forms end here and never reach it. Nothing here resolves.

use std::net::IpAddr;

/// A host that is well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name in lower case, without the dot at its end.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// The text is neither a DNS name nor an address in its usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host is malformed; right would be a DNS name of letters, digits, `-` and `_`, or an IP address in its usual form"
)]
pub struct MalformedHost;

impl Host {
    /// Reads a host. Addresses stand without brackets and without a zone.
    ///
    /// # Errors
    ///
    /// [`MalformedHost`] for everything that is not plainly one of the two.
    pub fn parse(text: &str) -> Result<Self, MalformedHost> {
        // The standard library reads neither octal nor short forms of IPv4, nor zones of IPv6.
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
            return Err(MalformedHost);
        }
        // What ends in a number is an address to somebody (WHATWG URL, "ends in a number").
        let last = name.rsplit('.').next().unwrap_or(name);
        if is_number(last) {
            return Err(MalformedHost);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_and_usual_addresses_are_read() {
        let name = |text: &str| Ok(Host::Name(text.to_owned()));
        let address = |text: &str| Ok(Host::Address(text.parse().unwrap()));
        for (text, expected) in [
            ("example.com", name("example.com")),
            ("EXAMPLE.Com.", name("example.com")),
            ("localhost", name("localhost")),
            ("_dmarc.example.com", name("_dmarc.example.com")),
            ("xn--bcher-kva.example", name("xn--bcher-kva.example")),
            ("1.2.3.4.example", name("1.2.3.4.example")),
            ("0x7f.example", name("0x7f.example")),
            ("127.0.0.1", address("127.0.0.1")),
            ("::1", address("::1")),
            ("::FFFF:127.0.0.1", address("::ffff:127.0.0.1")),
            ("2001:DB8::1", address("2001:db8::1")),
        ] {
            assert_eq!(Host::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn odd_forms_never_become_a_name() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}com", "a.".repeat(126));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "-a.example",
            "a-.example",
            "0x7f000001",
            "0X7F000001",
            "0x",
            "2130706433",
            "017700000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.0x1",
            "example.123",
            "::1%lo",
            "fe80::1%1",
            "[::1]",
            "::1.",
            "1.2.3.4:80",
            "exa mple.com",
            "example.com\0",
            "example.com\n",
            "bücher.example",
            "ⅰ.example",
            "１２７.0.0.1",
            "127。0。0。1",
            "user@example.com",
            "example.com/",
            "example.com:80",
            "*.example.com",
            "%31.example",
            long_label.as_str(),
            long_name.as_str(),
        ] {
            assert_eq!(Host::parse(text), Err(MalformedHost), "{text:?}");
        }
    }
}
