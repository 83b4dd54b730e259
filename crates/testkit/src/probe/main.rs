//! Tries to get out of where it runs, by raw system calls, and says of each attempt what came of it.
//!
//! One line of JSON for each probe. Holds the command line only. Never writes into anything of the
//! host's: what is shared by the whole host is opened, at most, and closed at once. Never looks at
//! a process that it was not pointed at: without `--target` it starts one of its own.

mod attempt;
mod calls;
mod devices;
mod files;
mod given;
mod kernel;
mod processes;
mod sockets;
mod spaces;
mod works;

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use attempt::Probe;

const USAGE: &str = "usage: posthouse-probe [--target PID] list | all | NAME[=ARGUMENT]…\n\
    PID is the process whose memory, files and namespaces are tried; without it, one made for this";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("posthouse-probe: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let mut stand_in = None;
    let target = if names.first().is_some_and(|first| first == "--target") {
        let pid = names.get(1).and_then(|text| text.parse().ok());
        names.drain(..names.len().min(2));
        pid.ok_or_else(|| format!("--target needs the number of a process\n{USAGE}"))?
    } else {
        let child = Command::new("/bin/sleep").arg("60").stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("/bin/sleep could not be started: {error}"))?;
        stand_in.insert(child).id()
    };
    let outcome = tell(&names, target);
    if let Some(mut child) = stand_in {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

/// Runs what was asked for, one line each.
fn tell(names: &[String], target: u32) -> Result<(), String> {
    let probes = all(target);
    match names.first().map(String::as_str) {
        None => return Err(USAGE.to_owned()),
        Some("list") => {
            for probe in &probes {
                say(&probe.name)?;
            }
        }
        Some("all") => {
            for probe in &probes {
                say(&probe.run())?;
            }
        }
        Some(_) => {
            for name in names {
                let line = match name.split_once('=') {
                    Some((name, argument)) => given::run(name, argument)?,
                    None => {
                        let probe = probes.iter().find(|probe| probe.name == *name);
                        probe.ok_or_else(|| format!("there is no probe {name:?}\n{USAGE}"))?.run()
                    }
                };
                say(&line)?;
            }
        }
    }
    Ok(())
}

fn all(target: u32) -> Vec<Probe> {
    let mut probes = files::probes();
    probes.extend(devices::probes());
    probes.extend(spaces::probes(target));
    probes.extend(sockets::probes());
    probes.extend(calls::probes());
    probes.extend(processes::probes(target));
    probes.extend(works::probes());
    probes
}

fn say(line: &str) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(|error| format!("nobody reads the output: {error}"))
}
