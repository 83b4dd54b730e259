//! Where the cages of a session may connect to, as its environment and its agent say: the list that
//! the door holds, and nothing that they do not name. Pure.

use posthouse_protocol::{
    agent::McpServer,
    environment::{self, Config, package_managers},
    host::{self, Addresses},
};
use posthouse_sandbox::{Allowed, Networking, Rule};
use url::Url;

use crate::own::SessionOpened;

/// What the door of a session's cages holds.
///
/// # Errors
/// When the record is not what this version writes.
pub fn networking(opened: &SessionOpened) -> Result<Networking, serde_json::Error> {
    let Config::Cloud { networking, .. } = serde_json::from_str(opened.config.get())?;
    let passthrough = opened.passthrough_hosts.clone();
    let environment::Networking::Limited {
        allowed_hosts,
        allow_mcp_servers,
        allow_package_managers,
    } = networking
    else {
        return Ok(Networking { allowed: None, passthrough });
    };
    let by = |rule| move |host: String| Allowed { host, rule };
    let mut allowed: Vec<Allowed> = allowed_hosts.into_iter().map(by(Rule::AllowedHosts)).collect();
    if allow_package_managers {
        let hosts = package_managers::hosts().map(str::to_owned);
        allowed.extend(hosts.map(by(Rule::PackageManagers)));
    }
    if allow_mcp_servers {
        let hosts = opened.agent.mcp_servers.iter().filter_map(server_host);
        allowed.extend(hosts.map(by(Rule::McpServers)));
    }
    allowed.extend(passthrough.iter().cloned().map(by(Rule::Passthrough)));
    Ok(Networking { allowed: Some(allowed), passthrough })
}

/// Whether a value may get to some host that `entry` stands for: one that the door lets through, and
/// whose connections it looks into. Of a wildcard one host below it is enough.
#[must_use]
pub fn lets_through(networking: &Networking, entry: &str) -> bool {
    let looked_into =
        |entry: &str| !networking.passthrough.iter().any(|pinned| host::covers(pinned, entry));
    let Some(allowed) = &networking.allowed else { return looked_into(entry) };
    allowed
        .iter()
        .filter(|one| one.rule != Rule::Passthrough)
        .filter_map(|one| host::meet(&one.host, entry))
        .any(looked_into)
}

/// The host of an MCP server that an agent declares. One that is no host of a list opens nothing.
fn server_host(server: &McpServer) -> Option<String> {
    let url = Url::parse(server.url()?).ok()?;
    let host = url.host_str()?.trim_end_matches('.').to_owned();
    host::read(host.into(), "mcp_servers", "mcp_servers", Addresses::Taken).ok()
}
