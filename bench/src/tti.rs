//! From `POST sessions` to the first command's output, as a client sees it.
//!
//! The client makes a session, follows it, says something, and the model answers with a call of
//! `bash` that runs `echo hi`. The time ends when the tool's result is here on the stream. Each
//! session is new, and so is its cage; a second message finds the cage warm.

use std::time::Instant;

use crate::{
    Outcome,
    http::{Connection, Events},
    machine::Load,
    measure::{Report, Samples},
    model::Manner,
    setup::Setup,
    stand::{IDLE, Sandbox, Stand, message_to},
};

/// The event that holds what a tool has found.
const RESULT: &str = "agent.tool_result";

#[derive(Default)]
struct Seen {
    text: Samples,
    made: Samples,
    cold: Samples,
    cold_message: Samples,
    turn: Samples,
    warm: Samples,
    killed: Samples,
}

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let stand = Stand::build_caged(setup, &Sandbox::default())?;
    let mut client = stand.connect()?;
    for _ in 0..setup.choose(20, 1) {
        one_session(&stand, &mut client, &mut Seen::default())?;
    }
    let mut seen = Seen::default();
    let load = Load::start(stand.server.pid());
    for _ in 0..setup.choose(500, 10) {
        setup.go_on()?;
        one_session(&stand, &mut client, &mut seen)?;
    }
    let cores = load.cores();
    let mut report =
        Report::new("tti", "median to that of a new session whose model answers with text alone");
    let text = seen.text.row("POST sessions: the text of a model that calls nothing");
    report.add([
        text.clone(),
        seen.made.row("POST sessions: answered").longer_than(&text),
        seen.cold
            .row("POST sessions: the output of echo hi, cage cold")
            .longer_than(&text)
            .aim("p50 < 10, p99 < 25")
            .on(cores),
        seen.cold_message.row("POST events: the output of echo hi, cage cold").longer_than(&text),
        seen.warm.row("POST events: the output of echo hi, cage warm").longer_than(&text),
        seen.turn.row("POST sessions: turn over, cage cold").longer_than(&text),
        seen.killed.row("POST kill: answered, cage gone"),
    ]);
    Ok(report)
}

fn one_session(stand: &Stand, client: &mut Connection, seen: &mut Seen) -> Outcome<()> {
    behave(stand, Manner::Text)?;
    let began = Instant::now();
    let session = stand.caged_session(client)?;
    let mut events = stand.follow(&session)?;
    client.exchange(&message_to(&session), 200)?;
    events.wait_for("agent.message")?;
    seen.text.since(began);
    events.wait_for(IDLE)?;

    behave(stand, Manner::Call)?;
    let began = Instant::now();
    let session = stand.caged_session(client)?;
    seen.made.since(began);
    let mut events = stand.follow(&session)?;
    let said = Instant::now();
    client.exchange(&message_to(&session), 200)?;
    wait_for_hi(&mut events)?;
    seen.cold.since(began);
    seen.cold_message.since(said);
    events.wait_for(IDLE)?;
    seen.turn.since(began);
    let said = Instant::now();
    client.exchange(&message_to(&session), 200)?;
    wait_for_hi(&mut events)?;
    seen.warm.since(said);
    events.wait_for(IDLE)?;
    let began = Instant::now();
    Stand::kill_sandbox(client, &session)?;
    seen.killed.since(began);
    Ok(())
}

/// Waits for the result of a tool, which must be what the command writes.
pub(crate) fn wait_for_hi(events: &mut Events) -> Outcome<()> {
    events.wait_for(RESULT)?;
    let result: serde_json::Value = serde_json::from_str(events.data())?;
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    match text.trim() == "hi" && result["is_error"] != true {
        true => Ok(()),
        false => Err(format!("`echo hi` was answered with {}", events.data()).into()),
    }
}

/// Tells the model what to do when it is spoken to next.
pub(crate) fn behave(stand: &Stand, manner: Manner) -> Outcome<()> {
    stand.instant_model().ok_or("only the instant model calls tools")?.behave(manner);
    Ok(())
}
