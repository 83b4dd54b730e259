//! MCP servers: what a call costs, what many tools cost at the start of a turn and in a request, and how
//! long the search among them takes.
//!
//! The servers are the testkit's, on threads of the bench, and answer at once. Everybody is asked in turn,
//! in the same run.

mod calls;
mod peer;
mod starts;
mod toolbox;

use posthouse_testkit::{McpServer, Switches};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Outcome, measure::Report, setup::Setup};

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new(
        "mcp",
        "of calls: median to that of the bare request; of turns: to that of the same turn whose call is \
         refused by the harness itself; of starts: to that of the same agent without servers; of the \
         toolbox: to that of copying or reading the same texts",
    );
    // As the server has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    calls::run(setup, &runtime, &mut report)?;
    starts::run(setup, &runtime, &mut report)?;
    toolbox::run(setup, &mut report)?;
    Ok(report)
}

/// Servers with so many tools each, besides the fourteen that all of them have.
fn servers(runtime: &Runtime, count: usize, tools: usize) -> Vec<McpServer> {
    let start = || McpServer::start(Switches { tools, ..Switches::default() });
    (0..count).map(|_| runtime.block_on(start())).collect()
}

/// The settings that let a server out to these, by the names that [`agent`] uses.
fn settings(servers: &[McpServer]) -> Outcome<String> {
    let fixed = |(place, server): (usize, &McpServer)| {
        let address = server.url();
        let address = address.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/mcp"));
        Ok(format!("\"{}\" = \"{address}\"\n", host(place), address = address.ok_or("no address")?))
    };
    let fixed = servers.iter().enumerate().map(fixed).collect::<Outcome<String>>()?;
    Ok(format!("[egress.resolve]\n{fixed}"))
}

/// An agent with so many of the servers, all of whose tools it may call, and `web_fetch`.
fn agent(model: &str, servers: usize) -> Value {
    let allow = json!({ "type": "always_allow" });
    let built_in = json!({
        "type": "agent_toolset_20260401",
        "default_config": { "enabled": false },
        "configs": [{ "name": "web_fetch", "enabled": true, "permission_policy": allow }],
    });
    let toolset = |place: usize| {
        json!({
            "type": "mcp_toolset", "mcp_server_name": name(place),
            "default_config": { "permission_policy": allow },
        })
    };
    let server = |place: usize| {
        let url = format!("http://{}/mcp", host(place));
        json!({ "type": "url", "name": name(place), "url": url })
    };
    let tools: Vec<_> = [built_in].into_iter().chain((0..servers).map(toolset)).collect();
    json!({
        "name": "Bench", "model": model, "system": "You are measured.",
        "tools": tools, "mcp_servers": (0..servers).map(server).collect::<Vec<_>>(),
    })
}

/// What an agent calls a server.
fn name(place: usize) -> String {
    format!("server-{place:02}")
}

fn host(place: usize) -> String {
    format!("{}.test", name(place))
}
