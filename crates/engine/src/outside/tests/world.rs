//! A world with vaults, and sessions that stand in it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use posthouse_protocol::{
    agent::{McpServer, SessionAgent},
    environment::Networking,
};
use posthouse_web::fetch::{Reader, Settings};
use serde_json::{Value, json, value::RawValue};

use crate::{
    outside::{Connected, McpSettings, OutsideParts},
    tools::{
        Destination, Hands, Listing, Outside as _, OutsideCall, Pipe, Program, Standpoint,
        ToolCall, ToolFuture, ToolOutcome, Work,
    },
    vault::tests::bench::{Bench, WORKSPACE},
};

/// Hands whose sandbox has programs, which are the other ends of pipes, and is held by whoever has a
/// clone of what counts them.
#[derive(Default)]
pub(super) struct Programs(
    pub(super) Mutex<Vec<(Program, tokio::io::DuplexStream)>>,
    pub(super) Arc<()>,
);

impl Hands for Programs {
    fn call(&self, _: ToolCall) -> ToolFuture {
        unreachable!("no tool of a sandbox is called")
    }

    fn recover(&self, _: ToolCall) -> ToolFuture {
        unreachable!("no tool of a sandbox is called")
    }

    fn start_server(
        &self,
        _session: &Arc<str>,
        program: Program,
    ) -> Work<Result<Box<dyn Pipe>, String>> {
        if program.command == "missing" {
            let why = "no program \"missing\" is in the sandbox".to_owned();
            return Box::pin(std::future::ready(Err(why)));
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        self.0.lock().unwrap().push((program, theirs));
        Box::pin(std::future::ready(Ok(Box::new(ours) as Box<dyn Pipe>)))
    }

    fn hold(&self, _session: &str) -> Option<Box<dyn Send + Sync>> {
        Some(Box::new(Arc::clone(&self.1)))
    }
}

/// The world, with vaults in a temporary folder.
pub(super) struct World {
    pub(super) bench: Bench,
    pub(super) outside: Connected,
    pub(super) programs: Arc<Programs>,
}

impl World {
    /// A world in which `http://server.test` is the one host.
    pub(super) fn new(server: Option<std::net::SocketAddr>, mcp: McpSettings) -> Self {
        let bench = Bench::open(server);
        let programs = Arc::new(Programs::default());
        let outside = Connected::new(OutsideParts {
            guard: bench.guard.clone(),
            vaults: bench.vaults.clone(),
            hands: Arc::clone(&programs) as Arc<dyn Hands>,
            mcp,
            reader: reader(&bench),
            search: None,
        });
        Self { bench, outside, programs }
    }

    pub(super) async fn list(&self, from: &Arc<Standpoint>) -> Vec<Listing> {
        self.outside.list(Arc::clone(from)).await
    }

    /// Names of the tools of the one server, or the message of its trouble.
    pub(super) async fn names(&self, from: &Arc<Standpoint>) -> Result<Vec<String>, String> {
        let [listing] = &self.list(from).await[..] else { panic!("one server is listed") };
        match &listing.outcome {
            Ok(tools) => Ok(tools.iter().map(|tool| tool.name.clone()).collect()),
            Err(trouble) => Err(trouble.message.clone()),
        }
    }

    pub(super) async fn call(
        &self,
        from: &Arc<Standpoint>,
        id: &str,
        server: &str,
        tool: &str,
        input: Value,
    ) -> ToolOutcome {
        let call = ToolCall {
            session: Arc::clone(&from.session),
            thread: "sthr_1".into(),
            call: id.into(),
            name: tool.into(),
            input: Arc::from(RawValue::from_string(input.to_string()).unwrap()),
        };
        let to = Destination::Server(server.into());
        self.outside.call(Arc::clone(from), OutsideCall { call, to }).await
    }
}

fn reader(bench: &Bench) -> Reader {
    Reader::new(
        bench.guard.clone(),
        Settings {
            time: std::time::Duration::from_secs(1),
            page_bytes: 1024,
            pdf_bytes: 1024,
            robots: false,
            user_agent: "test".into(),
        },
    )
}

/// The text of the one block of an outcome.
pub(super) fn text(outcome: &ToolOutcome) -> &str {
    let [block] = &outcome.content.as_array().unwrap()[..] else { panic!("{outcome:?}") };
    block["text"].as_str().unwrap()
}

pub(super) fn at(name: &str, url: &str) -> McpServer {
    McpServer::Url { name: name.into(), url: url.into() }
}

pub(super) fn program(name: &str, command: &str) -> McpServer {
    McpServer::Stdio {
        name: name.into(),
        command: command.into(),
        args: vec!["--quiet".into()],
        env: BTreeMap::from([("A".into(), "b".into())]),
    }
}

/// A session with those vaults and servers.
pub(super) fn standpoint(
    session: &str,
    vaults: &[&str],
    servers: Vec<McpServer>,
) -> Arc<Standpoint> {
    Arc::new(Standpoint {
        session: session.into(),
        workspace: WORKSPACE.into(),
        vaults: vaults.iter().map(ToString::to_string).collect(),
        agent: Arc::new(agent(servers)),
        networking: Networking::Unrestricted,
    })
}

pub(super) fn agent(servers: Vec<McpServer>) -> SessionAgent {
    let mut agent: SessionAgent = serde_json::from_value(json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "one", "description": null,
        "model": { "id": "m", "speed": "standard", "effort": null, "inference_geo": null },
        "system": null, "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    }))
    .unwrap();
    agent.mcp_servers = servers;
    agent
}
