//! The scripted model as a process of its own, steered over HTTP, for tests that are not written in Rust.
//!
//! Holds the command line only; the script's format is in this crate's README.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use posthouse_testkit::{Script, ScriptedModel};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: posthouse-scripted-model [--listen 127.0.0.1:0] [--script FILE]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("posthouse-scripted-model: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let (mut listen, mut script) = (SocketAddr::from(([127, 0, 0, 1], 0)), Script::default());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--listen" => {
                let text = value()?;
                listen =
                    text.parse().map_err(|_| format!("{text:?} is not an address with a port"))?;
            }
            "--script" => {
                let path = value()?;
                let json =
                    std::fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
                script = Script::from_json(&json).map_err(|error| format!("{path}: {error}"))?;
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => return Err(format!("unknown argument {other:?}\n{USAGE}")),
        }
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let model = ScriptedModel::listen(listen, script).await.map_err(|error| error.to_string())?;
    // Whoever started the process asks for the violations over HTTP; nobody sees a panic here.
    model.allow_violations();
    println!("listening on {}", model.url());
    // The line must be out even when it goes into a pipe, and a closed pipe is no reason to stop.
    let _ = std::io::stdout().flush();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
