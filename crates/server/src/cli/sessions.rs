//! `posthouse sessions`: looks at the sessions of a running server and speaks to them, through
//! the public API alone.

use std::{io::Write as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Shown, line, variable};
use crate::{
    Error,
    client::Client,
    config::{Config, Flags},
};

/// How long a cut stream may stay away.
const PATIENCE: Duration = Duration::from_secs(60);

/// `posthouse sessions …`.
#[derive(Debug, Args)]
pub(super) struct SessionsArguments {
    /// The data folder of the server on this machine
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The server's address, with its key in POSTHOUSE_API_KEY
    #[arg(long, value_name = "URL", global = true, conflicts_with = "data")]
    url: Option<String>,
    /// Print JSON, one thing per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All sessions, the newest first.
    List,
    /// One session and what has happened in it.
    Show {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
    },
    /// What happens in a session, as it happens.
    Follow {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
    },
    /// Say something to a session.
    Send {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
        /// What to say
        text: String,
    },
    /// Stop what a session is doing.
    Interrupt {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
    },
}

/// Runs what was typed.
pub(super) async fn run(arguments: SessionsArguments) -> Result<(), Error> {
    let client = match arguments.url {
        Some(url) => {
            let key = variable("POSTHOUSE_API_KEY").ok_or_else(|| {
                Error::Config("--url: needs the server's key in POSTHOUSE_API_KEY".into())
            })?;
            Client::new(url, key)?
        }
        None => {
            let flags = Flags { data: arguments.data, ..Flags::default() };
            Client::local(&Config::data_folder(&flags, &variable)?)?
        }
    };
    let json = arguments.json;
    match arguments.command {
        Command::List => list(&client, json).await,
        Command::Show { id } => show(&client, &id, json).await,
        Command::Follow { id } => follow(&client, &id, json).await,
        Command::Send { id, text } => {
            let content = json!([{ "type": "text", "text": text }]);
            send(&client, &id, json!({ "type": "user.message", "content": content })).await
        }
        Command::Interrupt { id } => send(&client, &id, json!({ "type": "user.interrupt" })).await,
    }
}

/// Ids go into addresses as they are.
fn session_id(text: &str) -> Result<String, String> {
    if posthouse_protocol::id::IdKind::Session.is_well_formed(text) {
        return Ok(text.to_owned());
    }
    Err("is no session; they look like sesn_…".to_owned())
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let sessions = client.all("/v1/sessions?limit=100&include_archived=true").await?;
    for session in &sessions {
        if json {
            say(&format!("{session}\n"));
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let created: String = text(&session["created_at"]).chars().take(19).collect();
        say(&format!(
            "{}  {:<12}  {created}  {}  {}\n",
            text(&session["id"]),
            text(&session["status"]),
            text(&session["agent"]["name"]),
            text(&session["title"]),
        ));
    }
    if sessions.is_empty() && !json {
        say("no sessions yet\n");
    }
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> Result<(), Error> {
    let session = client.get(&format!("/v1/sessions/{id}")).await?;
    let events = client.all(&format!("/v1/sessions/{id}/events")).await?;
    if json {
        for event in &events {
            say(&format!("{event}\n"));
        }
        return Ok(());
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    say(&format!(
        "{id}  {}\nagent  {} (version {}), {}\nmade   {}\ntitle  {}\n\n",
        text(&session["status"]),
        text(&session["agent"]["name"]),
        session["agent"]["version"],
        text(&session["agent"]["model"]["id"]),
        text(&session["created_at"]),
        text(&session["title"]),
    ));
    for event in &events {
        if let Some(line) = line(event) {
            say(&format!("{line}\n"));
        }
    }
    Ok(())
}

async fn send(client: &Client, id: &str, event: Value) -> Result<(), Error> {
    let body = json!({ "events": [event] });
    let answer = client.post(&format!("/v1/sessions/{id}/events"), &body).await?;
    say(&format!("sent {}\n", answer["data"][0]["id"].as_str().unwrap_or_default()));
    Ok(())
}

/// Follows a session until it is over, across cuts of the connection.
async fn follow(client: &Client, id: &str, json: bool) -> Result<(), Error> {
    let deltas = if json { "" } else { "?event_deltas[]=agent.message" };
    let path = format!("/v1/sessions/{id}/events/stream{deltas}");
    let mut last: Option<String> = None;
    let mut shown = Shown::default();
    let mut since = Instant::now();
    loop {
        match client.stream(&path, last.as_deref()).await {
            Ok(mut events) => {
                since = Instant::now();
                while let Some(frame) = events.next().await? {
                    if frame.id.is_some() {
                        last = frame.id;
                    }
                    let text =
                        if json { format!("{}\n", frame.event) } else { shown.next(&frame.event) };
                    say(&text);
                    if ["session.deleted", "session.status_terminated"]
                        .iter()
                        .any(|end| frame.event["type"] == *end)
                    {
                        return Ok(());
                    }
                }
                say(&shown.close());
            }
            // Nothing was seen yet: there is nothing to go on with.
            Err(error) if last.is_none() => return Err(error),
            Err(error @ Error::Refused { status: 400..500, .. }) => return Err(error),
            Err(error) if since.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Prints at once; a reader that is gone is no reason to fail.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
