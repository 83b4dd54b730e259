//! From `POST events` to the model request leaving, to the first delta, to the end of the turn.
//!
//! One client, one turn at a time, ten turns a session. Floors are taken between sessions.

use std::time::Instant;

use crate::{
    Outcome,
    floor::{self, DurableFile},
    http::{Connection, Wire},
    machine::Load,
    measure::{Report, Samples},
    setup::Setup,
    stand::{IDLE, Stand, message_to},
};

/// How many turns a session has: a history of five on average.
const TURNS: usize = 10;

#[derive(Default)]
struct Seen {
    answered: Samples,
    left: Samples,
    delta: Samples,
    turn: Samples,
    append: Samples,
    hop: Samples,
    floor_left: Samples,
    floor_answer: Samples,
}

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let stand = Stand::build(setup)?;
    let mut file = DurableFile::make(stand.folder.path())?;
    let mut client = stand.connect()?;
    let mut seen = Seen::default();
    // Until the write-ahead log has been checkpointed once it grows, and growing takes longer.
    for _ in 0..setup.choose(20, 1) {
        one_session(&stand, &mut client, &mut Seen::default())?;
    }
    let load = Load::start(stand.server.pid());
    for _ in 0..setup.choose(200, 10) {
        setup.go_on()?;
        one_session(&stand, &mut client, &mut seen)?;
        floors(&stand, &mut client, &mut file, &mut seen)?;
    }
    let cores = load.cores();
    let mut report = Report::new(
        "latency",
        "median to that of the floor: 1 KiB appended and synced, then a direct model request",
    );
    let floor_left = seen.floor_left.row("floor: model request there");
    let floor_answer = seen.floor_answer.row("floor: model's answer there");
    report.add([
        seen.append.row("1 KiB append, fdatasync"),
        seen.hop.row("a path that is not there (404)"),
    ]);
    let left = seen.left.row("POST events: model request there").longer_than(&floor_left);
    let answered = seen.answered.row("POST events: answered, durable");
    // Only the instant model tells when a request has arrived.
    match stand.instant_model() {
        None => report.add([floor_answer.clone(), answered]),
        Some(_) => {
            let left = left.aim("p50 < 2, p99 < 10");
            report.add([floor_left, floor_answer.clone(), answered, left]);
        }
    }
    report.add([
        seen.delta
            .row("POST events: first delta here")
            .longer_than(&floor_answer)
            .aim("p50 < 2, p99 < 10"),
        seen.turn.row("POST events: turn over").longer_than(&floor_answer).aim("3").on(cores),
    ]);
    Ok(report)
}

/// Times ten turns of a new session.
fn one_session(stand: &Stand, client: &mut Connection, seen: &mut Seen) -> Outcome<()> {
    let session = stand.session(client)?;
    let mut events = stand.follow(&session)?;
    let message = message_to(&session);
    for _ in 0..TURNS {
        let began = Instant::now();
        client.exchange(&message, 200)?;
        seen.answered.since(began);
        events.wait_for("event_delta")?;
        seen.delta.since(began);
        events.wait_for(IDLE)?;
        seen.turn.since(began);
        if let Some(arrived) = stand.instant_model().and_then(|model| model.take_arrival()) {
            seen.left.push(arrived.duration_since(began));
        }
    }
    Ok(())
}

/// Times what the machine needs for the least of it, as often as turns are timed.
fn floors(
    stand: &Stand,
    client: &mut Connection,
    file: &mut DurableFile,
    seen: &mut Seen,
) -> Outcome<()> {
    let request = floor::model_request();
    let nowhere = Wire::get("/nowhere", "");
    let mut model = Connection::open(stand.model_address())?;
    for _ in 0..TURNS {
        let began = Instant::now();
        client.exchange(&nowhere, 404)?;
        seen.hop.since(began);
        let began = Instant::now();
        file.append(&floor::PIECE)?;
        seen.append.since(began);
        model.exchange(&request, 200)?;
        seen.floor_answer.since(began);
        if let Some(arrived) = stand.instant_model().and_then(|model| model.take_arrival()) {
            seen.floor_left.push(arrived.duration_since(began));
        }
    }
    Ok(())
}
