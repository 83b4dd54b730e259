//! The command line: what was typed, and what it comes to.
//!
//! Prints for people; what goes wrong is one line on standard error and exit code 1.

mod sessions;
mod show;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    Error,
    config::{Config, Flags},
    demo,
    start::{self, GRACE},
};

pub use show::{Shown, line};

/// Says a line on standard output. Unlike `println!` it does not end the program when nobody
/// reads it: a server outlives the terminal that it was started from.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::cli::say_text(&format!("{}\n", format_args!($($part)*)))
    };
}
pub(crate) use say;

/// Says a text on standard output, if anybody reads it.
pub(crate) fn say_text(text: &str) {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// A self-hosted home for AI agents.
#[derive(Debug, Parser)]
#[command(name = "posthouse", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(ServeArguments),
    /// See it work: no key, no network, a scripted model.
    Demo(DemoArguments),
    /// Look at sessions of a running server, and speak to them.
    Sessions(sessions::SessionsArguments),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Where to listen [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The data folder [default: posthouse in the XDG data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file [default: posthouse/config.toml in the XDG config folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Leave a part out, upon which the demo must fail.
    #[arg(long, value_name = "PART", hide = true)]
    without: Option<demo::Part>,
}

/// Runs what was typed.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(source) => return fail(&Error::Runtime(source)),
    };
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve(arguments).await,
            Command::Demo(arguments) => {
                let filter = variable("POSTHOUSE_LOG").unwrap_or_else(|| "error".to_owned());
                tell_to_standard_error(&filter)?;
                demo::run(arguments.without).await
            }
            Command::Sessions(arguments) => sessions::run(arguments).await,
        }
    });
    // Whoever signals twice does not want to wait for anything.
    runtime.shutdown_timeout(Duration::ZERO);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    use std::io::Write as _;
    // Whoever has closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "posthouse: {}", error.with_causes());
    ExitCode::FAILURE
}

/// Reads a variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn serve(arguments: ServeArguments) -> Result<(), Error> {
    let ServeArguments { listen, data, config } = arguments;
    let config = Config::load(&Flags { listen, data, config }, &variable)?;
    tell_to_standard_error(&config.log)?;
    let mut signals = Signals::new()?;
    let running = start::start(config).await?;
    print_start(&running);
    signals.next().await;
    say!("stopping");
    tokio::select! {
        () = running.stop(GRACE) => say!("stopped"),
        () = signals.next() => say!("stopped at once"),
    }
    Ok(())
}

fn print_start(running: &start::Running) {
    say!("posthouse {} listening on {}", env!("CARGO_PKG_VERSION"), running.url);
    say!("data       {}", running.config().data.display());
    let names = running.config().providers.names();
    if names.is_empty() {
        say!("providers  none; set ANTHROPIC_API_KEY to reach Claude models");
    } else {
        say!("providers  {}", names.join(", "));
    }
    match (&running.generated_key, &running.config().api_key) {
        (Some(key), _) => say!("API key    {key}\n           shown this once; keep it"),
        (None, Some(_)) => say!("API key    the one in POSTHOUSE_API_KEY"),
        (None, None) => say!("API key    the one that the first start has shown"),
    }
}

fn tell_to_standard_error(filter: &str) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Error::Config(format!("log: {filter:?} is no filter: {error}")))?;
    // A second subscriber can only come from a test, whose first one is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A complaint that standard error is gone would go to standard error.
        .log_internal_errors(false)
        .try_init();
    Ok(())
}

/// The signals that stop a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Runtime)?,
            terminate: signal(SignalKind::terminate()).map_err(Error::Runtime)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
