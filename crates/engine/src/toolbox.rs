//! The tools that a thread's model may call: what each is called, who runs it, and which of them a
//! request shows.
//!
//! Pure: the same agent, lists and limits give the same toolbox. What MCP servers say of themselves is
//! data of strangers: names are made safe and can't stand for another tool, descriptions lose what
//! can't be seen, and a schema that providers would refuse is made one that they take.

mod schema;
mod search;
mod wording;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use posthouse_model::ToolSpec;
use posthouse_protocol::agent::{McpServer, Policy, SessionAgent, Tool as Entry, ToolName, Tools};
use serde_json::value::{RawValue, to_raw_value};

use crate::{prompt, state::estimate, step::Limits, tools::ServerTool};

/// The tool that searches the others.
pub const FIND_TOOLS: &str = "mcp__find_tools";

/// One part in so many of a window is for the definitions of MCP servers' tools. With more of them
/// the model searches.
const SHARE: u64 = 10;
/// One part in so many of a window is for tools that were searched for; beyond it the oldest go.
const LOADED_SHARE: u64 = 4;

/// The tools of the MCP servers that have answered, by the servers' names.
pub type Lists = [(Arc<str>, Arc<[ServerTool]>)];

/// The tools of a thread.
#[derive(Debug)]
pub struct Toolbox {
    /// In the order in which models see them: the sandbox's, the web's, the client's, then those of
    /// the MCP servers.
    tools: Vec<Tool>,
    /// Where the tools of MCP servers begin.
    servers_from: usize,
    /// Places by the names that models call.
    places: HashMap<Arc<str>, usize>,
    /// About how many tokens the definitions of the MCP servers' tools take.
    tokens: u64,
    find: Tool,
    /// What the search knows, from the first one on.
    index: OnceLock<search::Index>,
}

/// A tool that a model may call.
#[derive(Debug)]
pub struct Tool {
    /// The name that the model calls.
    pub name: Arc<str>,
    /// Who runs it.
    pub owner: Owner,
    spec: ToolSpec,
    tokens: u64,
}

/// Who runs a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The server.
    BuiltIn(Policy),
    /// The client.
    Client,
    /// An MCP server.
    Mcp {
        /// The server, as the agent names it.
        server: Arc<str>,
        /// The server's own name of the tool.
        tool: Arc<str>,
        /// Whether a call waits for the user.
        policy: Policy,
        /// Whether the server declares that calling it twice does no more than calling it once.
        idempotent: bool,
    },
}

/// What a search among the tools has found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The names that are put before the model.
    pub names: Vec<Arc<str>>,
    /// What the model is told.
    pub text: String,
    /// Whether it could not be searched.
    pub is_error: bool,
}

impl Toolbox {
    /// The toolbox of an agent whose MCP servers have answered with those lists.
    #[must_use]
    pub fn new(agent: &SessionAgent, lists: &Lists, limits: &Limits) -> Self {
        let mut tools: Vec<_> = built_in(agent, limits).chain(clients(agent)).collect();
        let servers_from = tools.len();
        let mut taken: HashSet<Arc<str>> =
            tools.iter().map(|tool| Arc::clone(&tool.name)).chain([FIND_TOOLS.into()]).collect();
        let mut counts = Vec::new();
        for server in &agent.mcp_servers {
            let before = tools.len();
            tools.extend(of_server(agent, server, lists, &mut taken));
            if tools.len() > before {
                counts.push((server.name(), tools.len() - before));
            }
        }
        let named = |(place, tool): (usize, &Tool)| (Arc::clone(&tool.name), place);
        Self {
            places: tools.iter().enumerate().map(named).collect(),
            tokens: tools[servers_from..].iter().map(|tool| tool.tokens).sum(),
            find: Tool::new(
                FIND_TOOLS.into(),
                Owner::BuiltIn(Policy::AlwaysAllow),
                prompt::find_tools(&counts),
                raw(&prompt::find_tools_schema()),
            ),
            tools,
            servers_from,
            index: OnceLock::new(),
        }
    }

    /// Whether the definitions of the MCP servers' tools would take so much of the window that the
    /// model searches them instead.
    #[must_use]
    pub fn is_searched(&self, window: u64) -> bool {
        self.tokens.saturating_mul(SHARE) > window
    }

    /// The tool behind a name that a model with that window has called.
    #[must_use]
    pub fn called(&self, name: &str, window: u64) -> Option<&Tool> {
        if name == FIND_TOOLS {
            return self.is_searched(window).then_some(&self.find);
        }
        self.places.get(name).map(|place| &self.tools[*place])
    }

    /// Whether a server declares that calling that tool of it twice does no more than calling it once.
    #[must_use]
    pub fn is_idempotent(&self, server: &str, tool: &str) -> bool {
        let is_it = |one: &&Tool| one.server_name() == Some((server, tool));
        let found = self.tools[self.servers_from..].iter().find(is_it);
        found.is_some_and(|one| matches!(one.owner, Owner::Mcp { idempotent: true, .. }))
    }

    /// What a request to a model with that window shows. Tools that were searched for stand at the
    /// end, in the order in which they were found, so that requests keep a common beginning.
    #[must_use]
    pub fn offer(&self, window: u64, loaded: &[Arc<str>]) -> Arc<[ToolSpec]> {
        let own = self.tools[..self.servers_from].iter();
        let of_servers = &self.tools[self.servers_from..];
        if !self.is_searched(window) {
            return own.chain(of_servers).map(|tool| tool.spec.clone()).collect();
        }
        let loaded: Vec<&Tool> =
            loaded.iter().filter_map(|name| Some(&self.tools[*self.places.get(name)?])).collect();
        let mut room = window / LOADED_SHARE;
        let kept = loaded.iter().rev().take_while(|tool| {
            let fits = tool.tokens <= room;
            room = room.saturating_sub(tool.tokens);
            fits
        });
        let from = loaded.len() - kept.count();
        own.chain([&self.find])
            .chain(loaded[from..].iter().copied())
            .map(|tool| tool.spec.clone())
            .collect()
    }

    /// Searches the tools of MCP servers, for a call of [`FIND_TOOLS`] with that input.
    #[must_use]
    pub fn find(&self, input: &RawValue) -> Found {
        let tools = &self.tools[self.servers_from..];
        search::find(tools, self.index.get_or_init(|| search::Index::of(tools)), input)
    }
}

impl Tool {
    /// The MCP server whose tool it is, and that server's name of it.
    #[must_use]
    pub fn server_name(&self) -> Option<(&str, &str)> {
        match &self.owner {
            Owner::Mcp { server, tool, .. } => Some((server, tool)),
            Owner::BuiltIn(_) | Owner::Client => None,
        }
    }

    fn new(name: Arc<str>, owner: Owner, description: String, input_schema: Box<RawValue>) -> Self {
        let spec = ToolSpec { name: name.to_string(), description, input_schema };
        let length = [&*spec.name, &*spec.description, spec.input_schema.get()].map(estimate);
        Self { name, owner, tokens: length.iter().sum(), spec }
    }
}

fn built_in<'a>(agent: &'a SessionAgent, limits: &Limits) -> impl Iterator<Item = Tool> + 'a {
    let web: &[_] = match limits.search {
        true => &[ToolName::WebFetch, ToolName::WebSearch],
        false => &[ToolName::WebFetch],
    };
    ToolName::SANDBOX.iter().chain(web).filter_map(|tool| {
        Some(Tool::new(
            tool.as_str().into(),
            Owner::BuiltIn(agent.tools.permission(tool.as_str())?),
            prompt::describe(*tool).to_owned(),
            raw(&prompt::input_schema(*tool)),
        ))
    })
}

fn clients(agent: &SessionAgent) -> impl Iterator<Item = Tool> {
    agent.tools.custom().map(|tool| {
        let schema = raw(&tool.input_schema);
        Tool::new(tool.name.as_str().into(), Owner::Client, tool.description.clone(), schema)
    })
}

/// The tools of a server that the agent may use, under names that no other tool has.
fn of_server(
    agent: &SessionAgent,
    server: &McpServer,
    lists: &Lists,
    taken: &mut HashSet<Arc<str>>,
) -> Vec<Tool> {
    let toolset = agent.tools.iter().find_map(|entry| match entry {
        Entry::Mcp(toolset) if toolset.mcp_server_name == server.name() => Some(toolset),
        _ => None,
    });
    let list = lists.iter().find(|(name, _)| **name == *server.name());
    let (Some(toolset), Some((name, list))) = (toolset, list) else { return Vec::new() };
    let mut seen = HashSet::new();
    let mut tools = Vec::new();
    for tool in list.iter().filter(|tool| seen.insert(tool.name.as_str())) {
        let Some(policy) = toolset.permission(&tool.name) else { continue };
        let called = wording::name(name, &tool.name, taken);
        taken.insert(Arc::clone(&called));
        let owner = Owner::Mcp {
            server: Arc::clone(name),
            tool: tool.name.as_str().into(),
            policy,
            idempotent: tool.idempotent,
        };
        let description = wording::description(&tool.description);
        tools.push(Tool::new(called, owner, description, schema::taken(&tool.input_schema)));
    }
    tools
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| unreachable!("plain JSON has a text: {error}"))
}

#[cfg(test)]
mod tests;
