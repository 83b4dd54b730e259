//! The toolbox alone, in the bench's process: making one of 2,000 tools, what it offers, and the search.

use std::{hint::black_box, sync::Arc, time::Instant};

use posthouse_engine::{step::Limits, toolbox::Toolbox, tools::ServerTool};
use posthouse_protocol::agent::SessionAgent;
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    Outcome,
    measure::{Report, Samples},
    setup::Setup,
};

const SERVERS: usize = 20;
/// Tools of each.
const TOOLS: usize = 100;
/// A window that shows all of them.
const LARGE: u64 = 100_000_000;

/// What tools are about.
const VERBS: [&str; 10] =
    ["list", "get", "create", "update", "delete", "search", "assign", "close", "merge", "export"];
const NOUNS: [&str; 10] = [
    "issue",
    "branch",
    "invoice",
    "calendar event",
    "customer",
    "pull request",
    "document",
    "ticket",
    "release",
    "comment",
];

/// A search, as models write them.
const QUERY: &str = "create a calendar event and invite people to it";

type List = (Arc<str>, Arc<[ServerTool]>);

/// Measures the toolbox.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Outcome<()> {
    let agent = agent()?;
    let lists = lists()?;
    let limits = Limits::default();
    let query = to_raw_value(&json!({ "query": QUERY }))?;
    let [mut copied, mut made, mut offered, mut read, mut first, mut later] =
        <[Samples; 6]>::default();
    for _ in 0..setup.choose(200, 3) {
        setup.go_on()?;
        let began = Instant::now();
        black_box(copy(&lists));
        copied.since(began);
        let began = Instant::now();
        let toolbox = Toolbox::new(&agent, &lists, &limits);
        made.since(began);
        let began = Instant::now();
        let shown = black_box(toolbox.offer(LARGE, &[])).len();
        offered.since(began);
        let began = Instant::now();
        black_box(scan(&lists));
        read.since(began);
        for samples in [&mut first, &mut later] {
            let began = Instant::now();
            let found = black_box(toolbox.find(&query));
            samples.since(began);
            let best = found.names.first().map_or("", |name| &**name);
            if !best.contains("create_calendar_event") || shown < SERVERS * TOOLS {
                return Err(format!("{best:?} was found among {shown} tools").into());
            }
        }
    }
    let copied = copied.row("floor: texts of 2,000 tools copied");
    let read = read.row("floor: the same read for one word");
    report.add([
        copied.clone(),
        made.row("toolbox of 2,000 tools: made").longer_than(&copied),
        offered.row("toolbox of 2,000 tools: all offered").longer_than(&copied),
        read.clone(),
        first.row("toolbox of 2,000 tools: its first search").longer_than(&read),
        later.row("toolbox of 2,000 tools: a later search").longer_than(&read),
    ]);
    Ok(())
}

/// The texts once more.
fn copy(lists: &[List]) -> Vec<(String, String, String)> {
    let tools = lists.iter().flat_map(|(_, list)| list.iter());
    tools
        .map(|tool| {
            (tool.name.clone(), tool.description.clone(), tool.input_schema.get().to_owned())
        })
        .collect()
}

/// How many tools have a word anywhere.
fn scan(lists: &[List]) -> usize {
    let has = |tool: &&ServerTool| {
        [&*tool.name, &*tool.description, tool.input_schema.get()]
            .iter()
            .any(|text| text.contains("calendar"))
    };
    lists.iter().flat_map(|(_, list)| list.iter()).filter(has).count()
}

fn name(server: usize) -> String {
    format!("server-{server:02}")
}

fn lists() -> Outcome<Vec<List>> {
    let tool = |server: usize, place: usize| {
        let (verb, noun) = (VERBS[place % 10], NOUNS[place / 10 % 10]);
        let schema = json!({
            "type": "object",
            "properties": {
                "project": { "type": "string", "description": "The project that it belongs to." },
                "title": { "type": "string", "description": "What it is called, in a few words." },
                "labels": { "type": "array", "items": { "type": "string" } },
                "limit": { "type": "integer", "minimum": 1, "maximum": 100, "default": 20 },
            },
            "required": ["project"],
        });
        Outcome::Ok(ServerTool {
            name: format!("{verb}_{}", noun.replace(' ', "_")),
            description: format!(
                "Use this to {verb} a {noun} of the workspace {server:02}. The answer names everything \
                 that was touched, with its id and address, in the order in which that has happened."
            ),
            input_schema: to_raw_value(&schema)?.into(),
            idempotent: verb == "get",
        })
    };
    let list = |server: usize| {
        let tools = (0..TOOLS).map(|place| tool(server, place)).collect::<Outcome<_>>()?;
        Outcome::Ok((name(server).into(), tools))
    };
    (0..SERVERS).map(list).collect()
}

fn agent() -> Outcome<SessionAgent> {
    let allow = json!({ "enabled": true, "permission_policy": { "type": "always_allow" } });
    let toolset = |server: usize| -> Value {
        json!({
            "type": "mcp_toolset", "mcp_server_name": name(server),
            "default_config": allow, "configs": [],
        })
    };
    let server = |server: usize| -> Value {
        json!({ "type": "url", "name": name(server), "url": "https://server.test/" })
    };
    Ok(serde_json::from_value(json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "Bench", "description": null,
        "model": { "id": "bench", "effort": null, "speed": "standard", "inference_geo": null },
        "system": null,
        "tools": (0..SERVERS).map(toolset).collect::<Vec<_>>(),
        "mcp_servers": (0..SERVERS).map(server).collect::<Vec<_>>(),
        "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    }))?)
}
