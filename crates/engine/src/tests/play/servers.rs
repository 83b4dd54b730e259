//! The MCP servers of a play: what they answer when they are asked for their tools.

use std::sync::Arc;

use serde::Serialize;

use super::{Play, script};
use crate::{
    line,
    own::{self, ServerListed, ToolsListed},
    step::Effect,
    toolbox::Toolbox,
    tools::{ServerTool, Trouble, TroubleKind},
};

impl Play {
    /// The MCP servers have answered with these tools; those that are not named can't be reached.
    pub(in crate::tests) fn list(&mut self, lists: &[(&str, Vec<ServerTool>)]) {
        let effect = Effect::List { thread: script::thread() };
        assert!(self.flights.remove(&effect), "nobody is asked for tools");
        let (mut lines, mut servers) = (Vec::new(), Vec::new());
        for server in &self.state.agent.mcp_servers.clone() {
            let name: Arc<str> = server.name().into();
            let list = lists.iter().find(|(of, _)| *of == &*name);
            let error = list.is_none().then(|| "unreachable".to_owned());
            if let Some(message) = error.clone() {
                let (server, kind) = (Arc::clone(&name), TroubleKind::Connection);
                let trouble = Trouble { server, kind, message };
                lines.push(line::server_trouble(&script::thread(), &trouble));
            }
            let hash = list.map(|(_, tools)| {
                let hash: Arc<str> = format!("hash_{}", self.lists.len()).into();
                self.lists.insert(Arc::clone(&hash), tools.clone().into());
                hash
            });
            let tools = list.map_or(0, |(_, tools)| tools.len());
            servers.push(ServerListed { name, hash, tools, error });
        }
        let listed = ToolsListed { servers };
        lines.push(line::own_record(own::kind::TOOLS_LISTED, &script::thread(), &listed));
        self.append_lines(lines);
        self.go_on();
    }

    pub(in crate::tests) fn toolbox(&self) -> Toolbox {
        let lists = self.state.threads[0].lists.iter();
        let lists: Vec<_> = lists
            .filter_map(|one| Some((Arc::clone(&one.name), self.lists[one.hash.as_ref()?].clone())))
            .collect();
        Toolbox::new(&self.state.agent, &lists, &self.limits)
    }

    /// A record of the log's own.
    pub(in crate::tests) fn log(&mut self, kind: &'static str, payload: &impl Serialize) {
        self.append_lines(vec![line::own_record(kind, &script::thread(), payload)]);
        self.go_on();
    }
}
