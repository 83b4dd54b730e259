//! The first token when cages are started at the first sign of a tool, beside our own eager mode,
//! which starts one with each turn before it asks the model.
//!
//! Two servers of the same build, asked in turn. Each turn is of a new session, so its cage is
//! cold. Once with starts as they are, and once with starts that take five seconds longer; those
//! are waited for by many at once.

use std::time::{Duration, Instant};

use crate::{
    Outcome,
    http::Connection,
    measure::{Report, Row, Samples},
    model::Manner,
    setup::Setup,
    stand::{IDLE, Sandbox, Stand, message_to},
    tti::{behave, wait_for_hi},
    turns::rounds,
};

/// How many wait at once for starts that take long.
const WAITING: usize = 8;

/// What the model does, and how that is called.
const MANNERS: [(Manner, &str); 2] =
    [(Manner::Text, "text alone"), (Manner::TextThenCall, "text, then a call")];

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new("lazy", "median to that of the eager mode in the same place");
    let with = |start, delay| Sandbox { start: Some(start), delay };
    let now = Duration::ZERO;
    let lazy = Stand::build_caged(setup, &with("lazy", now))?;
    let eager = Stand::build_caged(setup, &with("eager", now))?;
    real(setup, &mut report, &lazy, &eager)?;
    drop((lazy, eager));
    let delay = setup.choose(Duration::from_secs(5), Duration::from_millis(500));
    let lazy = Stand::build_caged(setup, &with("lazy", delay))?;
    let eager = Stand::build_caged(setup, &with("eager", delay))?;
    for stand in [&lazy, &eager] {
        // A server's first cage takes longer: it makes what all share.
        first_token(stand, &mut stand.connect()?, Manner::TextThenCall, true)?;
    }
    for (manner, what) in MANNERS {
        let what = format!("{what}, start takes {:.1} s longer", delay.as_secs_f64());
        let first = delayed(setup, &lazy, manner)?;
        let second = delayed(setup, &eager, manner)?;
        compare(&mut report, &what, first, second);
    }
    Ok(report)
}

/// One after the other, with starts as they are.
fn real(setup: &Setup, report: &mut Report, lazy: &Stand, eager: &Stand) -> Outcome<()> {
    let (mut of_lazy, mut of_eager) = (lazy.connect()?, eager.connect()?);
    let mut bare = Samples::default();
    let mut pairs = MANNERS.map(|_| (Samples::default(), Samples::default()));
    let warm = setup.choose(20, 1);
    for round in 0..setup.choose(320, 10) {
        setup.go_on()?;
        let untold = &mut Samples::default();
        let counts = round >= warm;
        let mut push = |samples: &mut Samples, time| match counts {
            true => samples.push(time),
            false => untold.push(time),
        };
        // In turn before and after: neither of the two shall always follow the same.
        let after = round % 2 == 1;
        if !after {
            push(&mut bare, first_token(lazy, &mut of_lazy, Manner::Text, false)?);
        }
        for ((manner, _), (first, second)) in MANNERS.into_iter().zip(&mut pairs) {
            push(first, first_token(lazy, &mut of_lazy, manner, true)?);
            push(second, first_token(eager, &mut of_eager, manner, true)?);
            if after && manner == Manner::Text {
                push(&mut bare, first_token(lazy, &mut of_lazy, Manner::Text, false)?);
            }
        }
    }
    let bare = bare.row("lazy, agent without tools: text alone");
    for ((_, what), (first, second)) in MANNERS.into_iter().zip(pairs) {
        let first = compare(report, what, first, second);
        if what == MANNERS[0].1 {
            let tools = first.median() / bare.median();
            report.fact("first token, with tools to without", tools, "x", "at most 1.02");
        }
    }
    report.add([bare]);
    Ok(())
}

/// Many at once, with starts that take long.
fn delayed(setup: &Setup, stand: &Stand, manner: Manner) -> Outcome<Samples> {
    let (samples, _) = rounds(setup, WAITING, Duration::ZERO, |_| {
        let mut client = stand.connect()?;
        let mut samples = Samples::default();
        for _ in 0..setup.choose(2, 1) {
            samples.push(first_token(stand, &mut client, manner, true)?);
        }
        Ok(samples)
    })?;
    Ok(samples)
}

/// The time from a message to the first delta of the answer, in a new session. The turn is
/// waited for, and the cage is gone when this returns.
fn first_token(
    stand: &Stand,
    client: &mut Connection,
    manner: Manner,
    with_tools: bool,
) -> Outcome<Duration> {
    behave(stand, manner)?;
    let session = match with_tools {
        true => stand.caged_session(client)?,
        false => stand.session(client)?,
    };
    let mut events = stand.follow(&session)?;
    let message = message_to(&session);
    let began = Instant::now();
    client.exchange(&message, 200)?;
    // A preview may be left out when the whole message is there already.
    events.wait_for_any(&["event_delta", "agent.message"])?;
    let passed = began.elapsed();
    if manner == Manner::TextThenCall {
        wait_for_hi(&mut events)?;
    }
    events.wait_for(IDLE)?;
    if with_tools {
        Stand::kill_sandbox(client, &session)?;
    }
    Ok(passed)
}

/// Adds both, and how much sooner the lazy one is. Returns the lazy one.
fn compare(report: &mut Report, what: &str, lazy: Samples, eager: Samples) -> Row {
    let eager = eager.row(format!("eager: {what}"));
    let lazy = lazy.row(format!("lazy: {what}")).longer_than(&eager);
    let sooner = |lazy: f64, eager: f64| (1.0 - lazy / eager) * 100.0;
    let median = sooner(lazy.median(), eager.median());
    report.fact(format!("sooner, p50, {what}"), median, "%", "at least 60");
    let p95 = sooner(lazy.p95(), eager.p95());
    report.fact(format!("sooner, p95, {what}"), p95, "%", "at least 90");
    report.add([eager, lazy.clone()]);
    lazy
}
