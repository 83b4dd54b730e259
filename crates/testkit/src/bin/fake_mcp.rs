//! The fake MCP server as a process of its own: over HTTP, steered by `/control`, or over its input and
//! output.
//!
//! Holds the command line only; what can be switched is in this crate's README.

use std::{
    io::Write as _,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    process::ExitCode,
};

use posthouse_testkit::{McpServer, Switches, serve_stdio};
use serde_json::{Value, json};
use tokio::{
    fs::File,
    signal::unix::{SignalKind, signal},
};

const USAGE: &str = "usage: posthouse-fake-mcp [--stdio | --listen 127.0.0.1:0] [--revision R] [--tools N] \
    [--page N] [--hostile NAME]… [--switch NAME=JSON]…";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(message) => {
            eprintln!("posthouse-fake-mcp: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<i32, String> {
    let (mut listen, mut stdio) = (SocketAddr::from(([127, 0, 0, 1], 0)), false);
    let mut switches = json!(Switches::default());
    let mut hostile = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--stdio" => stdio = true,
            "--listen" => {
                let text = value()?;
                listen =
                    text.parse().map_err(|_| format!("{text:?} is not an address with a port"))?;
            }
            "--revision" => switches["revision"] = json!(value()?),
            "--tools" | "--page" => {
                let text = value()?;
                let number: usize =
                    text.parse().map_err(|_| format!("{text:?} is not a number"))?;
                switches[argument.trim_start_matches('-')] = json!(number);
            }
            "--hostile" => hostile.push(json!(value()?)),
            "--switch" => {
                let text = value()?;
                let (name, setting) = text.split_once('=').ok_or("--switch wants NAME=JSON")?;
                let setting: Value =
                    serde_json::from_str(setting).map_err(|error| format!("{name}: {error}"))?;
                switches[name] = setting;
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(0);
            }
            other => return Err(format!("unknown argument {other:?}\n{USAGE}")),
        }
    }
    if !hostile.is_empty() {
        switches["hostile"] = Value::Array(hostile);
    }
    let switches: Switches = serde_json::from_value(switches).map_err(|error| error.to_string())?;
    if stdio {
        let file = |descriptor: BorrowedFd<'_>| -> Result<File, String> {
            let own = descriptor.try_clone_to_owned().map_err(|error| error.to_string())?;
            Ok(File::from_std(own.into()))
        };
        let (input, output) = (file(std::io::stdin().as_fd())?, file(std::io::stdout().as_fd())?);
        let served = serve_stdio(switches, input, output).await;
        let code = served.map_err(|error| error.to_string())?;
        if code != 0 {
            eprintln!("posthouse-fake-mcp: told to end with code {code}");
        }
        // A read of the standard input that nobody needs any more must not keep it.
        #[expect(clippy::disallowed_methods, reason = "nothing is left to be done")]
        std::process::exit(code);
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let server = McpServer::listen(listen, switches).await.map_err(|error| error.to_string())?;
    println!("listening on {}", server.url());
    // The line must be out even when it goes into a pipe, and a closed pipe is no reason to stop.
    let _ = std::io::stdout().flush();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(0)
}
