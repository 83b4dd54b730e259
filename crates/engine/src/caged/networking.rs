//! Where the cages of a session may connect to, as its environment and its agent say: the list that
//! the door holds, and nothing that they do not name. Pure.

use posthouse_protocol::{
    agent::McpServer,
    environment::{self, Config, package_managers},
    host::{self, Addresses},
};
use posthouse_sandbox::{Allowed, Networking, Rule};
use serde_json::value::RawValue;
use url::Url;

use crate::own::SessionOpened;

/// What the door of a session's cages holds. `servers` are those that the session's agent has now: a
/// change of the session may have given it others than it began with.
///
/// # Errors
/// When the record is not what this version writes.
pub fn networking(
    opened: &SessionOpened,
    servers: &[McpServer],
) -> Result<Networking, serde_json::Error> {
    let networking = of_environment(&opened.config)?;
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
        let hosts = servers.iter().filter_map(server_host);
        allowed.extend(hosts.map(by(Rule::McpServers)));
    }
    allowed.extend(passthrough.iter().cloned().map(by(Rule::Passthrough)));
    Ok(Networking { allowed: Some(allowed), passthrough })
}

/// What an environment's configuration says of where its sessions may connect to.
///
/// # Errors
/// When it is not what this version writes.
pub fn of_environment(config: &RawValue) -> Result<environment::Networking, serde_json::Error> {
    let Config::Cloud { networking, .. } = serde_json::from_str(config.get())?;
    Ok(networking)
}

/// Whether a session in such an environment may use that MCP server: one that runs in the sandbox
/// always, and one behind an address where its host is allowed, or all hosts of the agent's servers
/// are.
#[must_use]
pub fn reaches(networking: &environment::Networking, server: &McpServer) -> bool {
    let environment::Networking::Limited { allowed_hosts, allow_mcp_servers, .. } = networking
    else {
        return true;
    };
    *allow_mcp_servers
        || server.url().is_none()
        || server_host(server)
            .is_some_and(|host| allowed_hosts.iter().any(|entry| host::covers(entry, &host)))
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
