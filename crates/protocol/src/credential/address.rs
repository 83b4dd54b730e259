//! Addresses of servers that get secrets, and hosts that may get one: how they are written.
//!
//! Strict on purpose: what only some readers of addresses understand is refused, so that nobody
//! reads another host than the one that was checked. Nothing here resolves, and no error quotes an
//! address, which may have a secret in it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The address of a server. Its text is the normal form: scheme and host in lower case, no default
/// port, no slashes at the end of the path; the query stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it is `https`.
    pub secure: bool,
    /// The host: a name, or an IP address without brackets.
    pub host: String,
    /// The port, unless it is the scheme's own.
    port: Option<u16>,
    /// Path and query.
    rest: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err("has a space, a backslash or a character that is not ASCII");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is no URL")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither https nor http"),
        };
        if rest.contains('#') {
            return Err("has a fragment");
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("has a user name or a password");
        }
        let (host, port) = split_port(authority)?;
        let default = if secure { 443 } else { 80 };
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        Ok(Self {
            secure,
            host: read_host(host)?,
            port: port.filter(|port| *port != default),
            rest: format!("{}{query}", path.trim_end_matches('/')),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]", self.host)?,
            false => write!(formatter, "{scheme}://{}", self.host)?,
        }
        match self.port {
            Some(port) => write!(formatter, ":{port}{}", self.rest),
            None => formatter.write_str(&self.rest),
        }
    }
}

/// The normal form of a server's address: two addresses with the same one name the same server.
/// None for what is no address.
#[must_use]
pub fn normal(text: &str) -> Option<String> {
    Address::parse(text).ok().map(|address| address.to_string())
}

/// What is wrong with a host that may get a secret, if anything: it is a name, an IPv4 address, or
/// `*.` and a name.
#[must_use]
pub fn wrong_host(text: &str) -> Option<&'static str> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if text.contains("://") {
        Some("has a scheme")
    } else if text.contains('/') {
        Some("has a path")
    } else if text.parse::<Ipv6Addr>().is_ok() || text.starts_with('[') {
        Some("is an IPv6 address")
    } else if text.contains(':') {
        Some("has a port")
    } else if name.contains('*') {
        Some("has a star that does not stand for whole names in front")
    } else if name.len() != text.len() && name.parse::<Ipv4Addr>().is_ok() {
        Some("has a star in front of an address")
    } else if name.parse::<Ipv4Addr>().is_ok() || is_name(name) {
        None
    } else {
        Some("is no host name")
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let end = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority.get(end..).and_then(|rest| rest.find(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(end + colon);
    let port = port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    port.map(|port| (host, Some(port))).ok_or("has a port that is none")
}

fn read_host(text: &str) -> Result<String, &'static str> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = inner.parse::<Ipv6Addr>();
        return address.map(|address| address.to_string()).map_err(|_| "has a host that is none");
    }
    if text.parse::<Ipv4Addr>().is_ok() {
        return Ok(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if is_name(name) { Ok(name.to_ascii_lowercase()) } else { Err("has a host that is none") }
}

/// Whether a text is a DNS name that nobody takes for an address: `getaddrinfo` and browsers read
/// `127.1` and `0x7f000001` as some.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let last = text.rsplit('.').next().unwrap_or(text);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.len() <= 253 && text.split('.').all(is_label) && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_server_have_one_normal_form() {
        for (text, expected) in [
            ("https://a.example", "https://a.example"),
            ("HTTPS://A.Example:443/", "https://a.example"),
            ("https://a.example.:0443", "https://a.example"),
            ("https://a.example/MCP/", "https://a.example/MCP"),
            ("https://a.example/x//", "https://a.example/x"),
            ("https://a.example/?Q=1/", "https://a.example?Q=1/"),
            ("https://a.example/mcp?q=1", "https://a.example/mcp?q=1"),
            ("https://a.example:8443/mcp", "https://a.example:8443/mcp"),
            ("http://a.example:80/mcp", "http://a.example/mcp"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("https://[2001:DB8:0::1]:443/x", "https://[2001:db8::1]/x"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
            assert_eq!(normal(expected).as_deref(), Some(expected), "{text} again");
        }
    }

    #[test]
    fn what_readers_may_disagree_on_is_no_address() {
        for text in [
            "",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "https:a.example",
            "https://",
            "https:///x",
            "https://a.example#x",
            "https://user@a.example",
            "https://user:word@a.example/",
            "https://a.example:word@b.example",
            "https://a.example\\@b.example",
            "https://a example",
            "https://a.example/\n",
            "https://bücher.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://127.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://::1",
            "https://[::1",
            "https://[::1%lo]",
            "https://[::1]x",
            "https://a..example",
            "https://-a.example",
            "https://*.example",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_are_names_addresses_and_whole_names_in_front() {
        for text in ["a.example", "A.Example", "localhost", "192.0.2.1", "*.example.com", "*.com"] {
            assert_eq!(wrong_host(text), None, "{text}");
        }
        for (text, what) in [
            ("a.example:443", "has a port"),
            ("https://a.example", "has a scheme"),
            ("a.example/x", "has a path"),
            ("::1", "is an IPv6 address"),
            ("[::1]", "is an IPv6 address"),
            ("*", "has a star that"),
            ("*a.example", "has a star that"),
            ("a.*.example", "has a star that"),
            ("*.*.example", "has a star that"),
            ("*.192.0.2.1", "has a star in front of an address"),
            ("192.0.2.0x1", "is no host name"),
            ("127.1", "is no host name"),
            ("a b", "is no host name"),
            ("*.", "is no host name"),
            ("bücher.example", "is no host name"),
            ("", "is no host name"),
        ] {
            assert!(wrong_host(text).is_some_and(|said| said.starts_with(what)), "{text}");
        }
    }
}
