//! `posthouse sandboxes`: the sandboxes of a running server, and how one is ended, through the
//! public API alone.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    place::PlaceArguments,
    plain::{harmless_json, one_line},
    say_text as say,
    sessions::session_id,
};
use crate::{Error, client::Client};

/// `posthouse sandboxes …`.
#[derive(Debug, Args)]
pub(super) struct SandboxesArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Print JSON, one thing per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All sandboxes that live.
    List,
    /// End a session's sandbox with all that runs in it, and interrupt the session.
    Kill {
        /// The session's id
        #[arg(value_parser = session_id)]
        session: String,
    },
}

/// Runs what was typed.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(super) async fn run(arguments: SandboxesArguments) -> Result<(), Error> {
    let client = arguments.place.place()?.client()?;
    match arguments.command {
        Command::List => list(&client, arguments.json).await,
        Command::Kill { session } => {
            let path = format!("/posthouse/v1/sandboxes/{session}/kill");
            let killed = client.post(&path, &json!({})).await?;
            if arguments.json {
                say(&format!("{}\n", harmless_json(&killed)));
            } else if killed["was_live"] == true {
                say(&format!("killed the sandbox of {session}\n"));
            } else {
                say(&format!("{session} had no sandbox\n"));
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let sandboxes = client.all("/posthouse/v1/sandboxes").await?;
    for sandbox in &sandboxes {
        say(&if json { format!("{}\n", harmless_json(sandbox)) } else { line(sandbox) });
    }
    if sandboxes.is_empty() && !json {
        say("no sandboxes live\n");
    }
    Ok(())
}

/// One sandbox on one line.
fn line(sandbox: &Value) -> String {
    let text = |name: &str| one_line(sandbox[name].as_str().unwrap_or("-"));
    let number = |name: &str| sandbox[name].as_u64().map_or("-".to_owned(), |one| one.to_string());
    let state = if sandbox["busy"] == true { "busy" } else { "idle" };
    let started: String = text("started_at").chars().take(19).collect();
    let memory = sandbox["memory_bytes"].as_u64();
    let memory = memory.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    format!(
        "{}  {state}  {started}  process {}  {} calls  {memory}\n",
        text("session_id"),
        number("pid"),
        number("calls"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_one_line() {
        let sandbox = json!({
            "type": "sandbox", "session_id": "sesn_1", "pid": 7, "calls": 3, "busy": true,
            "started_at": "2026-01-01T00:00:00.000000Z", "isolation": {}, "limits": {},
            "memory_bytes": 5 << 20,
        });
        let expected = "sesn_1  busy  2026-01-01T00:00:00  process 7  3 calls  5 MiB\n";
        assert_eq!(line(&sandbox), expected);
        let bare = json!({ "session_id": "sesn_\u{1b}[2J" });
        assert_eq!(line(&bare), "sesn_\u{fffd}[2J  idle  -  process -  - calls  -\n");
    }
}
