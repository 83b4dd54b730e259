//! Whole turns without tools: how long one takes, and how many a second at 1, 8 and 64 sessions.
//!
//! Each session has a client of its own with two connections, which begins the next turn when
//! it has seen the end of the last. After twenty turns it goes on with a new session, so that
//! histories stay short; the change is part of the rate and of no turn.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    floor::{SharedFile, model_request},
    http::Connection,
    machine::{Load, bytes_written, processor_seconds},
    measure::{Report, Row, Samples},
    setup::Setup,
    stand::{IDLE, Stand, message_to},
};

/// How many turns a session has.
const TURNS: usize = 20;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let stand = Stand::build(setup)?;
    let pid = stand.server.pid();
    let mut report = Report::new(
        "turns",
        "rate to that of the floor: 1 KiB durably appended with shared syncs, then a direct model \
         request",
    );
    let time = setup.choose(Duration::from_secs(8), Duration::from_millis(300));
    rounds(setup, 4, time / 8, |deadline| turns(&stand, deadline))?;
    for (clients, aim) in [(1, "p50 3 ms"), (8, ""), (64, "2000/s")] {
        let floor = floor(setup, &stand, clients, time / 4)?;
        let load = Load::start(pid);
        let before = (processor_seconds(pid), bytes_written(pid));
        let (samples, passed) = rounds(setup, clients, time, |deadline| turns(&stand, deadline))?;
        let cores = load.cores();
        let count = samples.count().max(1) as f64;
        let row = samples.row(format!("turns, {clients} at once")).within(passed);
        report.add([floor.clone(), row.part_of(&floor).on(cores).aim(aim)]);
        let seconds = processor_seconds(pid) - before.0;
        let name = format!("server's processor time a turn, {clients} at once");
        report.fact(name, seconds * 1e3 / count, "ms", "");
        let written = (bytes_written(pid) - before.1) / 1024.0;
        let name = format!("written to disk a turn, {clients} at once");
        report.fact(name, written / count, "KiB", "");
    }
    Ok(report)
}

/// Takes turns until the deadline.
pub(crate) fn turns(stand: &Stand, deadline: Instant) -> Outcome<Samples> {
    let mut samples = Samples::default();
    let mut client = stand.connect()?;
    while Instant::now() < deadline {
        let session = stand.session(&mut client)?;
        let mut events = stand.follow(&session)?;
        let message = message_to(&session);
        for _ in 0..TURNS {
            let began = Instant::now();
            client.exchange(&message, 200)?;
            events.wait_for(IDLE)?;
            samples.since(began);
            if Instant::now() >= deadline {
                break;
            }
        }
    }
    Ok(samples)
}

fn floor(setup: &Setup, stand: &Stand, clients: usize, time: Duration) -> Outcome<Row> {
    let file = SharedFile::make(stand.folder.path())?;
    let request = model_request();
    let (samples, passed) = rounds(setup, clients, time, |deadline| {
        let handle = file.handle()?;
        let mut model = Connection::open(stand.model_address())?;
        let mut samples = Samples::default();
        while Instant::now() < deadline {
            let began = Instant::now();
            handle.append()?;
            model.exchange(&request, 200)?;
            samples.since(began);
        }
        Ok(samples)
    })?;
    Ok(samples.row(format!("floor, {clients} at once")).within(passed))
}

/// Lets so many clients work at once until their time is up, and takes the time that passed.
pub(crate) fn rounds(
    setup: &Setup,
    clients: usize,
    time: Duration,
    work: impl Fn(Instant) -> Outcome<Samples> + Sync,
) -> Outcome<(Samples, Duration)> {
    setup.go_on()?;
    let (ready, work) = (Barrier::new(clients + 1), &work);
    std::thread::scope(|scope| {
        let ready = &ready;
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || {
                    ready.wait();
                    work(Instant::now() + time)
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        let mut samples = Samples::default();
        for client in clients {
            samples.absorb(client.join().map_err(|_| "a client has panicked")??);
        }
        Ok((samples, began.elapsed()))
    })
}
