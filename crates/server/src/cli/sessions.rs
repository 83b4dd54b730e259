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

/// How long to wait before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

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

/// Where the server is.
enum Place {
    /// It works on a data folder of this machine, and may come back elsewhere after a restart.
    Folder(PathBuf),
    /// It has an address and a key.
    Address { url: String, key: String },
}

impl Place {
    fn client(&self) -> Result<Client, Error> {
        match self {
            Self::Folder(data) => Client::local(data),
            Self::Address { url, key } => Client::new(url, key),
        }
    }
}

/// Runs what was typed.
pub(super) async fn run(arguments: SessionsArguments) -> Result<(), Error> {
    let place = match arguments.url {
        Some(url) => {
            let key = variable("POSTHOUSE_API_KEY").ok_or_else(|| {
                Error::Config("--url: needs the server's key in POSTHOUSE_API_KEY".into())
            })?;
            Place::Address { url, key }
        }
        None => {
            let flags = Flags { data: arguments.data, ..Flags::default() };
            Place::Folder(Config::data_folder(&flags, &variable)?)
        }
    };
    let client = place.client()?;
    let json = arguments.json;
    match arguments.command {
        Command::List => list(&client, json).await,
        Command::Show { id } => show(&client, &id, json).await,
        Command::Follow { id } => follow(&place, &id, json).await,
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

/// Follows a session until it is over, across cuts of the connection and restarts of the server.
async fn follow(place: &Place, id: &str, json: bool) -> Result<(), Error> {
    let deltas = if json { "" } else { "?event_deltas[]=agent.message" };
    let path = format!("/v1/sessions/{id}/events/stream{deltas}");
    let mut last: Option<String> = None;
    let mut shown = Shown::default();
    let mut opened: Option<Instant> = None;
    loop {
        let stream = match place.client() {
            Ok(client) => client.stream(&path, last.as_deref()).await,
            Err(error) => Err(error),
        };
        match (stream, opened) {
            (Ok(mut events), _) => {
                while let Some(frame) = events.next().await? {
                    if frame.id.is_some() {
                        last = frame.id;
                    }
                    say(&if json {
                        format!("{}\n", frame.event)
                    } else {
                        shown.next(&frame.event)
                    });
                    let kind = frame.event["type"].as_str();
                    if let Some("session.deleted" | "session.status_terminated") = kind {
                        return Ok(());
                    }
                }
                say(&shown.close());
                opened = Some(Instant::now());
            }
            (Err(error @ Error::Refused { status: 400..500, .. }), _) => return Err(error),
            (Err(_), Some(since)) if since.elapsed() < PATIENCE => {}
            (Err(error), _) => return Err(error),
        }
        sleep(PAUSE).await;
    }
}

/// Prints at once; a reader that is gone is no reason to fail.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
