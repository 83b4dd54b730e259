//! The start of a turn of an agent with many servers and tools, and the search among them as a turn has it.

use std::time::{Duration, Instant};

use posthouse_engine::{state::estimate, toolbox::FIND_TOOLS};
use posthouse_testkit::McpServer;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::runtime::Runtime;

use super::{
    agent,
    calls::{address, request},
    servers, settings,
};
use crate::{
    Outcome,
    http::{Connection, Events, Wire},
    measure::{Report, Samples},
    model::{InstantModel, Manner},
    setup::Setup,
    stand::{IDLE, Stand, id_of, message_to},
};

/// How many servers an agent has, the most that it may have.
const SERVERS: usize = 20;
/// How many tools each of them has.
const TOOLS: usize = 100;
/// How many of them all of the testkit's servers have.
const COMMON: usize = 14;
/// How many turns a session has after its first.
const TURNS: usize = 10;

/// Models by what their window does to so many tools: one searches them, one is shown all.
const MODELS: [(&str, &str, usize); 2] =
    [("claude-haiku-4-5", "searched", 2), ("claude-opus-4-8", "all shown", 1 + SERVERS * TOOLS)];

/// Measures starts.
pub(super) fn run(setup: &Setup, runtime: &Runtime, report: &mut Report) -> Outcome<()> {
    let servers = servers(runtime, SERVERS, TOOLS - COMMON);
    report.add([bare(setup, &servers)?.row("floor: 20 lists of 100 tools, bare requests in turn")]);
    let stand = Stand::build_configured(setup, &settings(&servers)?)?;
    let mut client = stand.connect()?;
    for (model, how, shown) in MODELS {
        let without = stand.sessions_of(&mut client, &agent(model, 0))?;
        let with = stand.sessions_of(&mut client, &agent(model, SERVERS))?;
        let [mut first, mut later, mut cold, mut held, mut again] = <[Samples; 5]>::default();
        let mut warm = Times { first: &mut Samples::default(), later: &mut Samples::default() };
        one_session(&stand, &mut client, &without, 1, &mut warm)?;
        tell(&servers, true);
        one_session(&stand, &mut client, &with, shown, &mut warm)?;
        for _ in 0..setup.choose(20, 1) {
            setup.go_on()?;
            let mut times = Times { first: &mut first, later: &mut later };
            one_session(&stand, &mut client, &without, 1, &mut times)?;
            for (tells, later) in [(true, &mut held), (false, &mut again)] {
                tell(&servers, tells);
                let mut times = Times { first: &mut cold, later };
                one_session(&stand, &mut client, &with, shown, &mut times)?;
            }
            servers.iter().for_each(McpServer::forget);
        }
        let name = |what: &str| format!("start, {how}: {what}");
        let first = first.row(name("no servers, first turn"));
        let later = later.row(name("no servers, later turns"));
        report.add([
            first.clone(),
            cold.row(name("first turn")).longer_than(&first),
            later.clone(),
            held.row(name("lists hold")).longer_than(&later),
            again.row(name("lists asked for again")).longer_than(&later),
        ]);
        size(&stand, &mut client, &with, how, report)?;
    }
    tell(&servers, true);
    search(setup, &stand, &mut client, report)
}

/// Asks everybody for the list, one after the other.
fn bare(setup: &Setup, servers: &[McpServer]) -> Outcome<Samples> {
    let sessions = |are: bool| {
        servers.iter().for_each(|server| server.switch(|switches| switches.sessions = are));
    };
    sessions(false);
    let request = request("tools/list", &json!({}));
    let open = |server| Connection::open(address(server)?);
    let mut connections = servers.iter().map(open).collect::<Outcome<Vec<_>>>()?;
    let mut samples = Samples::default();
    for _ in 0..setup.choose(50, 3) {
        let began = Instant::now();
        for connection in &mut connections {
            let answer = connection.exchange(&request, 200)?;
            if answer.len() < TOOLS * 100 {
                return Err(format!("a list of {} bytes", answer.len()).into());
            }
        }
        samples.since(began);
    }
    sessions(true);
    Ok(samples)
}

/// Says whether servers tell of changes, from the next connection on.
fn tell(servers: &[McpServer], tells: bool) {
    for server in servers {
        server.switch(|switches| switches.list_changed = tells);
    }
}

/// Where times go.
struct Times<'a> {
    /// Of the first turn, which connects.
    first: &'a mut Samples,
    /// Of those after it.
    later: &'a mut Samples,
}

/// Takes the time from a message to the model request's arrival, in turns of a new session.
fn one_session(
    stand: &Stand,
    client: &mut Connection,
    sessions: &Wire,
    shown: usize,
    times: &mut Times<'_>,
) -> Outcome<()> {
    let model = instant(stand)?;
    model.behave(Manner::Text);
    let session = id_of(client.exchange(sessions, 200)?)?;
    let mut events = stand.follow(&session)?;
    let message = message_to(&session);
    for turn in 0..=TURNS {
        let left = start(model, client, &mut events, &message)?;
        if turn == 0 {
            times.first.push(left);
        } else {
            times.later.push(left);
        }
    }
    let tools = Shown::of(&model.take_request())?.count;
    if tools != shown {
        return Err(format!("a request shows {tools} tools instead of {shown}").into());
    }
    drop(events);
    Stand::delete_session(client, &session)
}

fn start(
    model: &InstantModel,
    client: &mut Connection,
    events: &mut Events,
    message: &Wire,
) -> Outcome<Duration> {
    let began = Instant::now();
    client.exchange(message, 200)?;
    events.wait_for(IDLE)?;
    let arrived = model.take_arrival().ok_or("a turn has asked no model")?;
    Ok(arrived.duration_since(began))
}

/// What a request says of tools.
struct Shown {
    count: usize,
    /// In bytes.
    length: usize,
    tokens: u64,
}

impl Shown {
    fn of(body: &[u8]) -> Outcome<Self> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow, default)]
            tools: Vec<&'a RawValue>,
        }
        let Body { tools } = serde_json::from_slice(body)?;
        Ok(Self {
            count: tools.len(),
            length: tools.iter().map(|tool| tool.get().len()).sum(),
            tokens: tools.iter().map(|tool| estimate(tool.get())).sum(),
        })
    }
}

/// Adds how large the tools are in a request.
fn size(
    stand: &Stand,
    client: &mut Connection,
    sessions: &Wire,
    how: &str,
    report: &mut Report,
) -> Outcome<()> {
    let model = instant(stand)?;
    model.behave(Manner::Text);
    let session = id_of(client.exchange(sessions, 200)?)?;
    let mut events = stand.follow(&session)?;
    start(model, client, &mut events, &message_to(&session))?;
    let Shown { length, tokens, .. } = Shown::of(&model.take_request())?;
    drop(events);
    Stand::delete_session(client, &session)?;
    report.fact(format!("tools in a request, {how}"), length as f64 / 1024.0, "KiB", "");
    report.fact(format!("tools in a request, {how}"), tokens as f64, "tokens, about", "");
    Ok(())
}

/// Turns whose model searches, beside turns whose call is refused.
fn search(
    setup: &Setup,
    stand: &Stand,
    client: &mut Connection,
    report: &mut Report,
) -> Outcome<()> {
    let model = instant(stand)?;
    let (name, ..) = MODELS[0];
    let sessions = stand.sessions_of(client, &agent(name, SERVERS))?;
    let session = id_of(client.exchange(&sessions, 200)?)?;
    let mut events = stand.follow(&session)?;
    let message = message_to(&session);
    let [mut searched, mut refused] = <[Samples; 2]>::default();
    for round in 0..setup.choose(60, 4) {
        setup.go_on()?;
        for (tool, input, samples) in [
            (FIND_TOOLS, json!({ "query": "what does tool 0042 do" }), &mut searched),
            ("web_fetch", json!({ "url": "https://nowhere.test/" }), &mut refused),
        ] {
            model.call(tool, &input);
            let began = Instant::now();
            client.exchange(&message, 200)?;
            events.wait_for("agent.tool_result")?;
            let failed = events.data().contains("\"is_error\":true");
            events.wait_for(IDLE)?;
            // The first connects, and the next one lists once more now that news would come.
            if round > 1 {
                samples.since(began);
            }
            if failed != (tool != FIND_TOOLS) {
                return Err(format!("{tool} was answered with {}", events.data()).into());
            }
        }
    }
    drop(events);
    Stand::delete_session(client, &session)?;
    let refused = refused.row("turn, 2,000 tools: call refused by the harness");
    let searched = searched.row("turn, 2,000 tools: a search among them").longer_than(&refused);
    report.add([refused, searched]);
    Ok(())
}

fn instant(stand: &Stand) -> Outcome<&InstantModel> {
    Ok(stand.instant_model().ok_or("only the instant model tells when it is asked")?)
}
