//! One call: bare, by clients, and inside of a turn.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use posthouse_mcp::client::{self, Header, Headers, Settings, Unauthorized, Way};
use posthouse_net::{Guard, Rules};
use posthouse_testkit::McpServer;
use serde_json::{Value, json, value::to_raw_value};
use tokio::runtime::Runtime;

use super::{agent, peer::Peer, servers, settings};
use crate::{
    Outcome,
    http::{Connection, Events, Wire},
    machine::Load,
    measure::{Report, Samples},
    setup::Setup,
    stand::{IDLE, Stand, id_of, message_to},
};

/// The model of the sessions.
const MODEL: &str = "claude-haiku-4-5";
/// The tool that everybody calls.
const TOOL: &str = "echo";
/// How many turns of each kind a session has.
const TURNS: usize = 10;
/// How many calls a client makes before another one's turn comes.
const CALLS: usize = 50;

#[derive(Default)]
struct Seen {
    bare: Samples,
    client: Samples,
    result: Samples,
    turn: Samples,
    refused: Samples,
}

/// Measures calls.
pub(super) fn run(setup: &Setup, runtime: &Runtime, report: &mut Report) -> Outcome<()> {
    let servers = servers(runtime, 1, 0);
    let [server] = &*servers else { return Err("there is no server".into()) };
    // So that the bare request needs no handshake.
    server.switch(|switches| switches.sessions = false);
    let mut seen = Seen::default();
    for round in 0..setup.choose(40, 2) {
        setup.go_on()?;
        let fresh = &mut Seen::default();
        let counted = if round == 0 { fresh } else { &mut seen };
        bare(server, &mut counted.bare)?;
        runtime.block_on(by_client(server, &mut counted.client))?;
        server.forget();
    }
    let peer = Peer::call(&setup.python, server, setup.choose(1000, 20));
    server.forget();
    let stand = Stand::build_configured(setup, &settings(&servers)?)?;
    let mut client = stand.connect()?;
    let sessions = stand.sessions_of(&mut client, &agent(MODEL, 1))?;
    for _ in 0..setup.choose(20, 0) {
        one_session(&stand, &mut client, &sessions, &mut Seen::default())?;
    }
    let load = Load::start(stand.server.pid());
    for _ in 0..setup.choose(60, 2) {
        setup.go_on()?;
        one_session(&stand, &mut client, &sessions, &mut seen)?;
        server.forget();
    }
    let cores = load.cores();
    let bare = seen.bare.row("call: a bare request over a kept connection");
    let by_client = seen.client.row("call: our client").longer_than(&bare);
    report.add([bare.clone(), by_client.clone()]);
    match peer {
        Ok(samples) => {
            report.add([samples.row("call: the Python SDK's client").longer_than(&bare)])
        }
        Err(missing) => report.note(missing),
    }
    let refused = seen.refused.row("turn: call refused by the harness");
    let turn = seen.turn.row("turn: call of an MCP server").longer_than(&refused).on(cores);
    let more = turn.median() - refused.median();
    let result = seen.result.row("POST events: result of an MCP server here");
    report.add([refused, turn, result]);
    report.fact("a call of an MCP server, more than one that is refused", more, "ms", "");
    report.fact("that, over our client alone", more - by_client.median(), "ms", "");
    Ok(())
}

/// Calls that cost next to nothing at this end.
fn bare(server: &McpServer, samples: &mut Samples) -> Outcome<()> {
    let params = json!({ "name": TOOL, "arguments": { "text": "hi" } });
    let request = request("tools/call", &params);
    let mut connection = Connection::open(address(server)?)?;
    for call in 0..=CALLS {
        let began = Instant::now();
        let answer = connection.exchange(&request, 200)?;
        let took = began.elapsed();
        let answer: Value = serde_json::from_slice(answer)?;
        check(&answer["result"]["content"])?;
        // The first is for connecting.
        if call > 0 {
            samples.push(took);
        }
    }
    Ok(())
}

/// A request without a session.
pub(super) fn request(method: &str, params: &Value) -> Wire {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    Wire::whole(&format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Where a server listens.
pub(super) fn address(server: &McpServer) -> Outcome<SocketAddr> {
    let url: url::Url = server.url().parse()?;
    let address = url.socket_addrs(|| None)?.first().copied();
    Ok(address.ok_or("a server without an address")?)
}

/// Whether a call gave back what it was given.
fn check(content: &Value) -> Outcome<()> {
    match content[0]["text"] == "hi" {
        true => Ok(()),
        false => Err(format!("{TOOL} has answered {content}").into()),
    }
}

/// Nothing to show.
struct NoCredential;

impl Headers for NoCredential {
    fn header<'a>(
        &'a self,
        _method: &'a str,
        _refused: Option<&'a Header>,
    ) -> client::Work<'a, Result<Option<Header>, Unauthorized>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

async fn by_client(server: &McpServer, samples: &mut Samples) -> Outcome<()> {
    let rules = Rules { allow_private: vec!["127.0.0.0/8".parse()?], ..Rules::default() };
    let way = Way::Http {
        url: server.url().parse()?,
        guard: Guard::new(rules, Vec::new()),
        headers: Arc::new(NoCredential),
    };
    let connection = client::Connection::open(way, limits()).await?;
    let input = to_raw_value(&json!({ "text": "hi" }))?;
    for call in 0..=CALLS {
        let began = Instant::now();
        let called = connection.call(TOOL, &input).await?;
        let took = began.elapsed();
        check(&Value::Array(called.content))?;
        if call > 0 {
            samples.push(took);
        }
    }
    connection.close().await;
    Ok(())
}

/// What the server gives its servers.
fn limits() -> Settings {
    let of_server = posthouse_engine::McpSettings::default();
    Settings {
        connect: of_server.connect,
        list: of_server.list,
        silence: of_server.silence,
        call: of_server.call,
        tools: of_server.tools,
        message_bytes: of_server.message_bytes,
        answer_with_defaults: true,
    }
}

/// Turns of a new session, both kinds in turn.
fn one_session(
    stand: &Stand,
    client: &mut Connection,
    sessions: &Wire,
    seen: &mut Seen,
) -> Outcome<()> {
    let model = stand.instant_model().ok_or("only the instant model calls tools")?;
    let session = id_of(client.exchange(sessions, 200)?)?;
    let mut events = stand.follow(&session)?;
    let message = message_to(&session);
    let refused = |samples: &mut Samples, client: &mut Connection, events: &mut Events| {
        // No address that the conversation has shown.
        model.call("web_fetch", &json!({ "url": "https://nowhere.test/" }));
        let began = Instant::now();
        client.exchange(&message, 200)?;
        let result = wait_for(events, "agent.tool_result")?;
        events.wait_for(IDLE)?;
        samples.since(began);
        match result["is_error"] == true {
            true => Outcome::Ok(()),
            false => Err(format!("a page was fetched that nobody has shown: {result}").into()),
        }
    };
    let called = |seen: &mut Seen, client: &mut Connection, events: &mut Events| {
        model.call(&format!("mcp__{}__{TOOL}", super::name(0)), &json!({ "text": "hi" }));
        let began = Instant::now();
        client.exchange(&message, 200)?;
        let result = wait_for(events, "agent.mcp_tool_result")?;
        seen.result.since(began);
        events.wait_for(IDLE)?;
        seen.turn.since(began);
        check(&result["content"])
    };
    // The first turn connects.
    called(&mut Seen::default(), client, &mut events)?;
    for turn in 0..TURNS {
        // Neither of the two shall always follow the same.
        if turn % 2 == 0 {
            refused(&mut seen.refused, client, &mut events)?;
            called(seen, client, &mut events)?;
        } else {
            called(seen, client, &mut events)?;
            refused(&mut seen.refused, client, &mut events)?;
        }
    }
    Stand::delete_session(client, &session)
}

/// Waits for an event; what it says.
fn wait_for(events: &mut Events, kind: &str) -> Outcome<Value> {
    events.wait_for(kind)?;
    Ok(serde_json::from_str(events.data())?)
}
