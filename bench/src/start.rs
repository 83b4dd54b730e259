//! From the start of the process to its first answer, and memory at rest and per idle session.
//!
//! Idle sessions here have had a turn each and nobody follows them. The first 2,500 fill every
//! cache to its bound; what the others add is what a session costs.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    http::{Connection, Wire},
    machine::{Memory, memory},
    measure::{Report, Samples},
    setup::Setup,
    stand::{IDLE, KEY, Process, Stand, message_to},
    turns::rounds,
};

/// How many clients make sessions.
const CLIENTS: usize = 4;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report =
        Report::new("start", "median to that of `posthouse --version`, a whole process");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let count = setup.choose(40, 5);
    let mut bare = Samples::default();
    for _ in 0..count {
        let began = Instant::now();
        let mut command = Command::new(&setup.server);
        let status = command.arg("--version").env_clear().stdout(Stdio::null()).status()?;
        bare.since(began);
        if !status.success() {
            return Err("`posthouse --version` has failed".into());
        }
    }
    let bare = bare.row("posthouse --version");
    report.add([bare.clone()]);
    let mut fresh = Samples::default();
    for _ in 0..count {
        setup.go_on()?;
        let folder = setup.make_folder()?;
        fresh.push(start(setup, &folder.path().join("data"), nowhere)?.1);
    }
    let fresh = fresh.row("start to first answer, new folder");
    report.add([fresh.longer_than(&bare).aim("50")]);

    let stand = Stand::build(setup)?;
    let pid = stand.server.pid();
    std::thread::sleep(Duration::from_millis(500));
    let rest = memory(pid)?;
    let (warm, more) = setup.choose((2_500, 5_000), (40, 40));
    idle_sessions(setup, &stand, warm)?;
    let before = memory(pid)?;
    idle_sessions(setup, &stand, more)?;
    let after = memory(pid)?;
    let mut tell = |when: &str, memory: Memory, aim| {
        report.fact(format!("resident {when}"), memory.resident / 1024.0, "MiB", aim);
        report.fact(format!("anonymous {when}"), memory.anonymous / 1024.0, "MiB", "");
    };
    tell("at rest, after a start", rest, "30 MB");
    tell(&format!("after {} turns", warm + more), after, "");
    let each = (after.anonymous - before.anonymous) * 1024.0 / more as f64;
    report.fact("anonymous per idle session", each, "bytes", "zero");

    let Stand { server, folder, .. } = stand;
    drop(server);
    let mut again = Samples::default();
    for _ in 0..count {
        setup.go_on()?;
        again.push(start(setup, &folder.path().join("data"), nowhere)?.1);
    }
    let again = again.row(format!("start to first answer, {} sessions, killed", warm + more));
    report.add([again.longer_than(&bare).aim("50")]);
    Ok(report)
}

/// Starts a server and asks it something.
fn start(setup: &Setup, data: &Path, model: SocketAddr) -> Outcome<(Process, Duration)> {
    let began = Instant::now();
    let server = Process::server(setup, data, model)?;
    let mut client = Connection::open(server.address())?;
    client.exchange(&Wire::get("/v1/sessions?limit=1", KEY), 200)?;
    Ok((server, began.elapsed()))
}

/// Makes sessions that have had a turn.
fn idle_sessions(setup: &Setup, stand: &Stand, count: usize) -> Outcome<()> {
    rounds(setup, CLIENTS, Duration::ZERO, |_| {
        let mut client = stand.connect()?;
        for _ in 0..count / CLIENTS {
            let session = stand.session(&mut client)?;
            let mut events = stand.follow(&session)?;
            client.exchange(&message_to(&session), 200)?;
            events.wait_for(IDLE)?;
        }
        Ok(Samples::default())
    })?;
    Ok(())
}
