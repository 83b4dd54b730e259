//! The world outside of a simulated server: MCP servers that answer or do not, and a web. It counts
//! every call, because it outlives every crash.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use posthouse_protocol::agent::{SessionAgent, Tool};
use serde_json::{json, value::to_raw_value};

use super::world::Dice;
use crate::{
    ToolFuture, ToolOutcome,
    tools::{
        Destination, Listing, Outside, OutsideCall, ServerTool, Standpoint, Trouble, TroubleKind,
        Work,
    },
};

/// What a model calls of it.
pub(super) const CALLED: [&str; 7] = [
    "mcp__calm__get",
    "mcp__calm__put",
    "mcp__calm__wipe",
    "mcp__many__tool_7",
    "mcp__find_tools",
    "web_fetch",
    "web_search",
];

/// The address that users speak of.
pub(super) const PAGE: &str = "https://a.test/page";

pub(super) struct ScriptedOutside {
    dice: Dice,
    calm: Arc<[ServerTool]>,
    many: Arc<[ServerTool]>,
    /// How often each call has come, and whether it may come again.
    pub(super) calls: Mutex<HashMap<Arc<str>, (u32, bool)>>,
}

impl ScriptedOutside {
    pub(super) fn new(dice: Dice) -> Self {
        let tool = |name: String, description: String| ServerTool {
            idempotent: name == "get",
            name,
            description,
            input_schema: to_raw_value(&json!({ "type": "object" })).unwrap().into(),
        };
        let calm = ["get", "put", "wipe"].map(|name| tool(name.to_owned(), "Does.".to_owned()));
        // Too many for any window of the simulation.
        let long = "word ".repeat(500);
        let many = (0..40).map(|number| tool(format!("tool_{number}"), long.clone()));
        Self { dice, calm: calm.into(), many: many.collect(), calls: Mutex::default() }
    }
}

impl Outside for ScriptedOutside {
    fn list(&self, from: Arc<Standpoint>) -> Work<Vec<Listing>> {
        let listing = |server: &posthouse_protocol::agent::McpServer| {
            let name: Arc<str> = server.name().into();
            let trouble = Trouble {
                server: Arc::clone(&name),
                kind: TroubleKind::Connection,
                message: "It is asleep.".to_owned(),
            };
            let list = if &*name == "calm" { &self.calm } else { &self.many };
            let fails = self.dice.below(6) == 0;
            Listing {
                server: name,
                outcome: if fails { Err(trouble) } else { Ok(Arc::clone(list)) },
            }
        };
        let listings = from.agent.mcp_servers.iter().map(listing).collect();
        let turns = self.dice.below(4);
        Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            listings
        })
    }

    fn call(&self, from: Arc<Standpoint>, call: OutsideCall) -> ToolFuture {
        let OutsideCall { call, to } = call;
        let may_come_again = match &to {
            Destination::Server(server) => {
                assert!(from.agent.mcp_servers.iter().any(|one| *one.name() == **server));
                assert!(!call.name.starts_with("mcp__"), "servers have names of their own");
                &*call.name == "get"
            }
            Destination::Page(shown) => {
                assert_eq!(shown.url, PAGE);
                true
            }
            Destination::Search => true,
        };
        let mut calls = self.calls.lock().unwrap();
        calls.entry(Arc::clone(&call.call)).or_insert((0, may_come_again)).0 += 1;
        let searches = u32::from(matches!(to, Destination::Search));
        let trouble = match to {
            Destination::Server(server) if self.dice.below(5) == 0 => Some(Trouble {
                server,
                kind: TroubleKind::Authentication,
                message: "It wants another key.".to_owned(),
            }),
            _ => None,
        };
        let turns = self.dice.below(4);
        Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            ToolOutcome { searches, trouble, ..ToolOutcome::text("done") }
        })
    }
}

/// Gives an agent the web and these servers.
pub(super) fn equip(agent: &mut SessionAgent, servers: &[&str]) {
    let server = |name: &str| json!({ "type": "url", "name": name, "url": format!("https://{name}.test/mcp") });
    let allow = json!({ "type": "always_allow" });
    let ask = json!({ "type": "always_ask" });
    let toolset = |name: &str| {
        json!({
            "type": "mcp_toolset",
            "mcp_server_name": name,
            "default_config": { "enabled": true, "permission_policy": allow },
            "configs": [
                { "name": "put", "enabled": true, "permission_policy": ask },
                { "name": "wipe", "enabled": false, "permission_policy": ask },
            ],
        })
    };
    for name in servers {
        agent.mcp_servers.push(serde_json::from_value(server(name)).unwrap());
        agent.tools.push(serde_json::from_value(toolset(name)).unwrap());
    }
    for tool in &mut agent.tools {
        if let Tool::Toolset(toolset) = tool {
            for name in ["web_fetch", "web_search"] {
                let config = json!({ "name": name, "enabled": true, "permission_policy": allow });
                toolset.configs.push(serde_json::from_value(config).unwrap());
            }
        }
    }
}
