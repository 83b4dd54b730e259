//! Which MCP servers a session may reach: its environment's rules for them. Pure.
//!
//! Whether the operator lets it out to that address at all is the guard's business.

use posthouse_protocol::{agent::McpServer, environment::Networking, host};
use url::Url;

/// The address of a server that a session may reach; none of one that runs in its sandbox.
///
/// # Errors
/// Why it may not, in a sentence.
pub(super) fn address(
    server: &McpServer,
    networking: &Networking,
) -> Result<Option<Url>, &'static str> {
    let Some(text) = server.url() else { return Ok(None) };
    let url = Url::parse(text).map_err(|_| "its address is none")?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("its address is neither https nor http");
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("its address has no host")?;
    let host = host.trim_end_matches('.');
    let reached = match networking {
        Networking::Unrestricted | Networking::Limited { allow_mcp_servers: true, .. } => true,
        Networking::Limited { allowed_hosts, .. } => {
            allowed_hosts.iter().any(|entry| host::covers(entry, host))
        }
    };
    if reached {
        Ok(Some(url))
    } else {
        Err("the environment's network is limited and does not let it through: add its host to \
             `allowed_hosts`, or set `allow_mcp_servers`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> McpServer {
        McpServer::Url { name: "one".into(), url: url.into() }
    }

    fn limited(hosts: &[&str], allow_mcp_servers: bool) -> Networking {
        let allowed_hosts = hosts.iter().map(ToString::to_string).collect();
        Networking::Limited { allowed_hosts, allow_mcp_servers, allow_package_managers: true }
    }

    #[test]
    fn a_limited_environment_lets_through_what_it_names() {
        let anywhere = Networking::Unrestricted;
        for (url, networking, reached) in [
            ("https://a.example/mcp", &anywhere, true),
            ("https://a.example/mcp", &limited(&[], false), false),
            ("https://a.example/mcp", &limited(&[], true), true),
            ("https://A.example:8443/mcp", &limited(&["a.Example"], false), true),
            ("https://a.example./mcp", &limited(&["a.example"], false), true),
            ("https://x.a.example/mcp", &limited(&["a.example"], false), false),
            ("https://x.a.example/mcp", &limited(&["*.a.example"], false), true),
            ("https://a.example/mcp", &limited(&["*.a.example"], false), false),
            ("https://a.example.evil/mcp", &limited(&["a.example"], false), false),
            ("https://a.example@evil.example/", &limited(&["a.example"], false), false),
            ("https://evil.example\\@a.example/", &limited(&["a.example"], false), false),
            ("http://0x7f.1/mcp", &limited(&["0x7f.1"], false), false),
            ("http://127.0.0.1/mcp", &limited(&["127.0.0.1"], false), true),
            // A registry is for packages.
            ("https://pypi.org/mcp", &limited(&[], false), false),
            ("ftp://a.example/", &anywhere, false),
            ("file:///a", &anywhere, false),
            ("a.example", &anywhere, false),
        ] {
            assert_eq!(address(&at(url), networking).is_ok(), reached, "{url} {networking:?}");
        }
    }

    #[test]
    fn a_program_in_the_sandbox_needs_no_way_out() {
        let server = McpServer::Stdio {
            name: "one".into(),
            command: "x".into(),
            args: Vec::new(),
            env: Default::default(),
        };
        assert_eq!(address(&server, &limited(&[], false)), Ok(None));
    }
}
