//! `posthouse sandboxes`: the sandboxes of a running server, how one is ended, and what those of a
//! session have done, through the public API alone.

use clap::{Args, Subcommand};
use posthouse_protocol::schema::own::RECORD_KINDS;
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
    /// What a session's sandboxes were made with, and what their doors have done; the oldest first.
    Records {
        /// The session's id
        #[arg(value_parser = session_id)]
        session: String,
        /// Only these: sandbox, allow, deny, injection; may be given several times
        #[arg(long = "type", value_name = "KIND", value_parser = RECORD_KINDS.to_vec())]
        kinds: Vec<String>,
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
        Command::Records { session, kinds } => {
            records(&client, &session, &kinds, arguments.json).await
        }
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

async fn records(
    client: &Client,
    session: &str,
    kinds: &[String],
    json: bool,
) -> Result<(), Error> {
    let kinds: String = kinds.iter().map(|kind| format!("&types[]={kind}")).collect();
    let path = format!("/posthouse/v1/sandboxes/{session}/records?limit=1000{kinds}");
    let records = client.all(&path).await?;
    // What has happened last is where one looks.
    for record in records.iter().rev() {
        say(&if json { format!("{}\n", harmless_json(record)) } else { record_line(record) });
    }
    if records.is_empty() && !json {
        say("no records\n");
    }
    Ok(())
}

/// One record on one line.
fn record_line(record: &Value) -> String {
    let text = |value: &Value| one_line(value.as_str().unwrap_or("-"));
    let created: String = text(&record["created_at"]).chars().take(19).collect();
    let port = record["port"].as_u64().map_or(String::new(), |port| format!(":{port}"));
    let told = match record["kind"].as_str() {
        Some("sandbox") => {
            let hosts = record["allowlist"].as_array().map(Vec::len);
            let hosts = hosts.map_or("every public host".to_owned(), |many| match many {
                1 => "1 host".to_owned(),
                many => format!("{many} hosts"),
            });
            format!(
                "{}, posthouse {}, kernel {}, {hosts}",
                text(&record["isolation"]["technology"]),
                text(&record["version"]),
                text(&record["kernel"]),
            )
        }
        Some("injection") => format!(
            "{} into {} {}{port}",
            text(&record["credential_id"]),
            text(&record["method"]),
            text(&record["host"]),
        ),
        _ if record["host"].is_null() => format!("{} more, not told one by one", record["count"]),
        _ => {
            let (host, rule) = (text(&record["host"]), text(&record["rule"]));
            let count = record["count"].as_u64().filter(|count| *count > 1);
            let times = count.map_or(String::new(), |count| format!("  {count} times"));
            format!("{host}{port}  {rule}{times}")
        }
    };
    format!("{created}  {:<9}  {told}\n", text(&record["kind"]))
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
    fn a_record_is_one_line() {
        let line = |members: Value| {
            let mut record = json!({ "created_at": "2026-01-01T00:00:00.000000Z" });
            record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            record_line(&record)
        };
        let at = "2026-01-01T00:00:00";
        let made = json!({
            "kind": "sandbox", "version": "0.1.0", "kernel": "6.8.0",
            "isolation": { "technology": "namespaces" }, "allowlist": [{}, {}],
        });
        let expected =
            format!("{at}  sandbox    namespaces, posthouse 0.1.0, kernel 6.8.0, 2 hosts\n");
        assert_eq!(line(made), expected);
        let denied = json!({
            "kind": "deny", "host": "a\u{1b}.example", "port": 443, "rule": "not_listed", "count": 3,
        });
        let expected = format!("{at}  deny       a\u{fffd}.example:443  not_listed  3 times\n");
        assert_eq!(line(denied), expected);
        let asked = json!({
            "kind": "allow", "host": "a.example", "port": null, "rule": "unrestricted", "count": 1,
        });
        assert_eq!(line(asked), format!("{at}  allow      a.example  unrestricted\n"));
        let more = json!({ "kind": "deny", "host": null, "port": null, "rule": null, "count": 40 });
        assert_eq!(line(more), format!("{at}  deny       40 more, not told one by one\n"));
        let put = json!({
            "kind": "injection", "host": "a.example", "port": 443, "method": "POST",
            "credential_id": "vcrd_1",
        });
        assert_eq!(line(put), format!("{at}  injection  vcrd_1 into POST a.example:443\n"));
    }

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
