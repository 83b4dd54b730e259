//! Benches of posthouse: the release binary in its own process, each figure beside a baseline
//! that was taken in the same run.
//!
//! Prints figures and asserts none. Speaks to loopback alone, ends by itself, and takes its
//! processes and folders along.

mod api;
mod append;
mod cage;
mod call;
mod density;
mod door;
mod floor;
mod http;
mod latency;
mod lazy;
mod lists;
mod machine;
mod mcp;
mod measure;
mod model;
mod own;
mod patient;
mod peers;
mod population;
mod recordings;
mod setup;
mod stage;
mod stand;
mod start;
mod tti;
mod turns;
mod wires;
mod worker;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{Parser, Subcommand};
use posthouse_sandbox::launcher;
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

#[derive(Debug, Clone, Subcommand)]
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
    /// The life of a cage, beside bubblewrap, runc, crun and gVisor.
    Cage,
    /// A tool call in a cage that stands, beside the same on the host.
    Call,
    /// Requests out of a cage, beside the same on the host and by a proxy.
    Door,
    /// Many cages at once: their memory, and the start of the next one.
    Density,
    /// From `POST sessions` to the first command's output.
    Tti,
    /// The first token with a cage that is started lazily, beside an eager one.
    Lazy,
    /// What each wire costs: a streamed token, a rendered step.
    Wires,
    /// Pages of lists of many things, beside those of few.
    Lists,
    /// Calls of MCP servers, the start of a turn with many tools, and the search among them.
    Mcp,
    /// All of them.
    All,
    /// Does what one of the others asks for.
    #[command(hide = true)]
    Worker { folder: PathBuf },
    /// Is one of those between which `door` sends its requests.
    #[command(hide = true)]
    Play {
        #[command(subcommand)]
        part: door::Part,
    },
}

type Run = fn(&Setup) -> Outcome<Report>;

impl Bench {
    /// Whether the server's binary has to be there.
    fn needs_server(&self) -> bool {
        !matches!(
            self,
            Self::Cage | Self::Call | Self::Density | Self::Door | Self::Append | Self::Wires
        )
    }

    fn runs(&self) -> Vec<Run> {
        match self {
            Self::Latency => vec![latency::run],
            Self::Turns => vec![turns::run],
            Self::Append => vec![append::run],
            Self::Api => vec![api::run],
            Self::Start => vec![start::run],
            Self::Cage => vec![cage::run],
            Self::Call => vec![call::run],
            Self::Density => vec![density::run],
            Self::Door => vec![door::run],
            Self::Tti => vec![tti::run],
            Self::Lazy => vec![lazy::run],
            Self::Wires => vec![wires::run],
            Self::Lists => vec![lists::run],
            Self::Mcp => vec![mcp::run],
            Self::All => vec![
                latency::run,
                turns::run,
                append::run,
                api::run,
                start::run,
                cage::run,
                call::run,
                density::run,
                door::run,
                tti::run,
                lazy::run,
                wires::run,
                lists::run,
                mcp::run,
            ],
            Self::Worker { .. } | Self::Play { .. } => Vec::new(),
        }
    }
}

fn main() -> ExitCode {
    // Before anything else: this program is its own cages' launcher, too.
    if launcher::is_called() {
        launcher::main();
        return ExitCode::SUCCESS;
    }
    let Arguments { bench, flags } = Arguments::parse();
    let outcome = match bench {
        Bench::Worker { folder } => return worker::main(&folder),
        Bench::Play { part } => return door::play(part),
        bench => benches(bench, flags),
    };
    match outcome {
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
fn benches(bench: Bench, flags: Flags) -> Outcome<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let setup = Setup::new(flags, bench.needs_server(), Arc::clone(&stop))?;
    let (done, ended) = tokio::sync::oneshot::channel();
    let worker = std::thread::spawn(move || {
        let outcome = run_all(&bench, &setup);
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

fn run_all(bench: &Bench, setup: &Setup) -> Outcome<()> {
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
