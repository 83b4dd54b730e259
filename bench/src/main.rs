//! Benches of posthouse: the release binary in its own process, each figure beside a baseline
//! that was taken in the same run.
//!
//! Prints figures and asserts none. Speaks to loopback alone, ends by itself, and takes its
//! processes and folders along.

mod api;
mod append;
mod floor;
mod http;
mod latency;
mod machine;
mod measure;
mod model;
mod setup;
mod stand;
mod start;
mod turns;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    machine::Others,
    measure::Report,
    setup::{Flags, Setup},
};

/// What went wrong.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A result of the benches.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Benches of posthouse.
#[derive(Debug, Parser)]
#[command(name = "posthouse-bench", about)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Bench {
    /// From `POST events` to the model request leaving and to the first delta.
    Latency,
    /// Whole turns without tools: time of one, and how many a second.
    Turns,
    /// Appends to the log beside a bare indexed insert.
    Append,
    /// Rates of creating and reading.
    Api,
    /// From the start to the first answer, and memory.
    Start,
    /// All of them.
    All,
}

type Run = fn(&Setup) -> Outcome<Report>;

impl Bench {
    fn runs(self) -> Vec<Run> {
        match self {
            Self::Latency => vec![latency::run],
            Self::Turns => vec![turns::run],
            Self::Append => vec![append::run],
            Self::Api => vec![api::run],
            Self::Start => vec![start::run],
            Self::All => vec![latency::run, turns::run, append::run, api::run, start::run],
        }
    }
}

fn main() -> ExitCode {
    match benches() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("posthouse-bench: stopped by a signal");
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("posthouse-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benches on a thread of their own, so that a signal ends them in order. False when
/// one has come.
fn benches() -> Outcome<bool> {
    let Arguments { bench, flags } = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    let setup = Setup::new(flags, Arc::clone(&stop))?;
    let (done, ended) = tokio::sync::oneshot::channel();
    let worker = std::thread::spawn(move || {
        let outcome = run_all(bench, &setup);
        // Whoever waits for this is this process' main thread, which has not ended.
        let _ = done.send(());
        outcome
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = ended => {}
            _ = terminate.recv() => stop.store(true, Ordering::Relaxed),
            _ = interrupt.recv() => stop.store(true, Ordering::Relaxed),
        }
        Ok::<_, Failure>(())
    })?;
    let outcome = worker.join().map_err(|_| "a bench has panicked")?;
    if stop.load(Ordering::Relaxed) {
        return Ok(false);
    }
    outcome.map(|()| true)
}

fn run_all(bench: Bench, setup: &Setup) -> Outcome<()> {
    for (index, run) in bench.runs().into_iter().enumerate() {
        if index > 0 {
            // What the last bench has written shall not be flushed during the next one.
            std::thread::sleep(Duration::from_secs(1));
        }
        let machine = machine::describe(&setup.folder);
        let others = Others::start();
        let mut report = run(setup)?;
        report.fact("other processes meanwhile", others.cores(), "cores", "");
        match setup.json {
            true => println!("{}", report.to_json(&machine)),
            false => println!("{}", report.to_table(&machine)),
        }
    }
    Ok(())
}
