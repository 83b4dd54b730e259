//! Rates of creating and reading, at 1 and at 16 connections.

use std::time::{Duration, Instant};

use crate::{
    Outcome,
    http::Wire,
    machine::Load,
    measure::{Report, Row, Samples},
    setup::Setup,
    stand::{IDLE, KEY, Stand, message_to},
    turns::rounds,
};

/// How many turns the session has that is read.
const TURNS: usize = 3;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let stand = Stand::build(setup)?;
    let session = session_with_turns(&stand)?;
    let time = setup.choose(Duration::from_secs(3), Duration::from_millis(150));
    let nowhere = Wire::get("/nowhere", "");
    let retrieve = Wire::get(&format!("/v1/sessions/{session}"), KEY);
    let list = Wire::get(&format!("/v1/sessions/{session}/events"), KEY);
    let create = stand.create_session().clone();
    exchanges(setup, &stand, "", (1, time / 4), (&retrieve, 200))?;
    let mut report = Report::new(
        "api",
        "rate to that of a path that is not there, which the server answers without looking at \
         anything",
    );
    for connections in [1, 16] {
        let base = exchanges(setup, &stand, "404, no key", (connections, time), (&nowhere, 404))?;
        report.add([base.clone()]);
        for (name, request) in
            [("GET session", &retrieve), ("GET events, 3 turns", &list), ("POST session", &create)]
        {
            let row = exchanges(setup, &stand, name, (connections, time), (request, 200))?;
            report.add([row.part_of(&base)]);
        }
    }
    Ok(report)
}

fn session_with_turns(stand: &Stand) -> Outcome<String> {
    let mut client = stand.connect()?;
    let session = stand.session(&mut client)?;
    let mut events = stand.follow(&session)?;
    for _ in 0..TURNS {
        client.exchange(&message_to(&session), 200)?;
        events.wait_for(IDLE)?;
    }
    Ok(session)
}

/// Sends one request over and over.
fn exchanges(
    setup: &Setup,
    stand: &Stand,
    name: &str,
    (connections, time): (usize, Duration),
    (request, status): (&Wire, u16),
) -> Outcome<Row> {
    let load = Load::start(stand.server.pid());
    let (samples, passed) = rounds(setup, connections, time, |deadline| {
        let mut client = stand.connect()?;
        let mut samples = Samples::default();
        while Instant::now() < deadline {
            let began = Instant::now();
            client.exchange(request, status)?;
            samples.since(began);
        }
        Ok(samples)
    })?;
    let cores = load.cores();
    Ok(samples.row(format!("{name}, {connections} at once")).within(passed).on(cores))
}
