//! The command line: what was typed, and what it comes to.
//!
//! Prints for people; what goes wrong is one line on standard error and exit code 1, or 2 when
//! what was typed can't be done.

mod doctor;
mod keys;
mod models;
mod place;
mod plain;
mod run;
mod sandboxes;
mod screen;
mod sessions;
mod show;
mod vaults;
mod workspaces;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    Error,
    config::{Config, Flags, OWN_PROGRAM},
    demo, openapi, process,
    start::{self, GRACE},
};

pub use show::{Shown, line, whole_result};

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

/// Says something beside the output, on standard error; what is quoted in it is made harmless.
pub(crate) fn note(text: &str) {
    ask_text(&format!("posthouse: {}\n", plain::harmless(text)));
}

/// Writes to standard error as it is, if anybody reads it.
pub(crate) fn ask_text(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
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
    /// Give an agent a task and watch it work.
    Run(run::RunArguments),
    /// Look at sessions of a running server, and speak to them.
    Sessions(sessions::SessionsArguments),
    /// Say which models a running server can ask, and who serves them.
    Models(models::ModelsArguments),
    /// Look at the sandboxes of a running server, and end them.
    Sandboxes(sandboxes::SandboxesArguments),
    /// Make, show and revoke API keys of a running server.
    Keys(keys::KeysArguments),
    /// Change the root key that seals the vaults of a data folder.
    Vaults(vaults::VaultsArguments),
    /// Make and show workspaces of a running server.
    Workspaces(workspaces::WorkspacesArguments),
    /// Say what this host allows and what is missing.
    Doctor(doctor::DoctorArguments),
    /// Print the description of the API (OpenAPI 3.1).
    Openapi,
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
    // Before there are threads, and before anything secret is known.
    if let Err(error) = process::keep_memory_private() {
        return fail(&error);
    }
    process::allow_many_descriptors();
    let arguments = Arguments::parse();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(source) => return fail(&Error::Runtime(source)),
    };
    let outcome = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve(arguments).await.map(done),
            Command::Demo(arguments) => {
                let filter = variable("POSTHOUSE_LOG").unwrap_or_else(|| "error".to_owned());
                tell_to_standard_error(&filter)?;
                demo::run(arguments.without, OWN_PROGRAM.into()).await.map(|_| ExitCode::SUCCESS)
            }
            Command::Run(arguments) => run::run(arguments).await,
            Command::Sessions(arguments) => sessions::run(arguments).await.map(done),
            Command::Models(arguments) => models::run(arguments).await.map(done),
            Command::Sandboxes(arguments) => sandboxes::run(arguments).await.map(done),
            Command::Keys(arguments) => keys::run(arguments).await.map(done),
            Command::Vaults(arguments) => vaults::run(arguments).await.map(done),
            Command::Workspaces(arguments) => workspaces::run(arguments).await.map(done),
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Openapi => {
                say_text(&openapi::render());
                Ok(ExitCode::SUCCESS)
            }
        }
    });
    // Whoever signals twice does not want to wait for anything.
    runtime.shutdown_timeout(Duration::ZERO);
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn fail(error: &Error) -> ExitCode {
    // A server's words are data, too.
    note(&error.with_causes());
    match error {
        Error::Usage(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
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
        say!(
            "providers  none; set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or run Ollama"
        );
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

/// The signals that stop a server, and interrupt a run.
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
