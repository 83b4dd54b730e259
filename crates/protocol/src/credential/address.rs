//! Addresses of servers that get secrets: how they are written.
//!
//! Strict on purpose: what only some readers of addresses understand is refused, so that nobody
//! reads another host than the one that was checked. Nothing here resolves, and no error quotes an
//! address, which may have a secret in it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::host;

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
    if host::is_name(name) { Ok(name.to_ascii_lowercase()) } else { Err("has a host that is none") }
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
}
