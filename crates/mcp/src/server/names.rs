//! Under which names the server may be asked, and from which web pages.
//!
//! A page of a stranger can let its own name lead to this machine; what a browser then sends has the
//! stranger's name as `Host` and as `Origin`. Never decides who somebody is.

use std::net::IpAddr;

use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// The names of a server, besides addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// Those names, in any case.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Lets a request in whose `Host` is an address or a name of the server, and whose `Origin`, if it
    /// has one, is a page of this machine, of one of those names, or of that very host.
    ///
    /// # Errors
    /// A sentence for the 403.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        let sent = headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
        let host = match (uri.authority(), &sent) {
            (Some(authority), _) => Some(authority.clone()),
            (None, Some(sent)) => sent.parse().ok(),
            (None, None) => None,
        };
        let Some(host) = host.as_ref().map(name_of) else {
            return Err("Host: is no name; send the server's".into());
        };
        // An address can't be made to lead elsewhere.
        if address(&host).is_none() && !self.has(&host) {
            return Err(format!(
                "Host: {host:?} is no name of this server; ask it by its address, or have its \
                 operator list the name in mcp.names"
            ));
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            let uri: Option<Uri> = origin.parse().ok();
            let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
            let page = uri.as_ref().and_then(Uri::authority).map(name_of);
            let is_ours = |page: &String| {
                *page == host
                    || self.has(page)
                    || address(page).is_some_and(|address| address.is_loopback())
            };
            if !page.as_ref().is_some_and(is_ours) {
                return Err(format!(
                    "Origin: {origin:?} may not ask this server; its operator may list the name in \
                     mcp.names"
                ));
            }
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        name == "localhost" || self.0.iter().any(|one| one == name)
    }
}

/// The host of an authority, without port and brackets.
fn name_of(authority: &Authority) -> String {
    let host = authority.host();
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.to_ascii_lowercase()
}

fn address(name: &str) -> Option<IpAddr> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(host: &str, origin: Option<&str>) -> bool {
        let names = Names::new(["Agents.example".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        names.admit(&Uri::from_static("/posthouse/v1/mcp"), &headers).is_ok()
    }

    #[test]
    fn a_server_answers_to_addresses_and_to_its_names() {
        for (host, expected) in [
            ("127.0.0.1:8787", true),
            ("localhost:8787", true),
            ("LOCALHOST", true),
            ("[::1]:8787", true),
            ("10.1.2.3", true),
            ("agents.example", true),
            ("AGENTS.example:443", true),
            ("evil.example", false),
            ("agents.example.evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(admit(host, None), expected, "{host:?}");
        }
        assert!(Names::default().admit(&Uri::from_static("/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_of_a_stranger_may_not_ask() {
        for (host, origin, expected) in [
            ("localhost", "http://localhost:3000", true),
            ("localhost", "http://127.0.0.1:3000", true),
            ("localhost", "https://agents.example", true),
            ("10.1.2.3", "http://10.1.2.3:8787", true),
            ("localhost", "http://10.1.2.3", false),
            ("localhost", "http://evil.example", false),
            ("localhost", "http://localhost.evil.example", false),
            ("localhost", "null", false),
            ("localhost", "", false),
            ("localhost", "file:///etc", false),
            ("localhost", "evil://localhost", false),
        ] {
            assert_eq!(admit(host, Some(origin)), expected, "{host:?} {origin:?}");
        }
    }
}
