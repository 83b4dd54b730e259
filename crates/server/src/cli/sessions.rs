//! `posthouse sessions`: looks at the sessions of a running server and speaks to them, through
//! the public API alone.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Shown, line,
    place::{Follow, Next, Place, PlaceArguments},
    plain::{harmless_json, one_line},
    say_text as say,
};
use crate::{Error, client::Client};

/// `posthouse sessions …`.
#[derive(Debug, Args)]
pub(super) struct SessionsArguments {
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
    /// Let a tool call run that waits for you.
    Allow {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
        /// The call's id
        call: String,
    },
    /// Refuse a tool call that waits for you.
    Deny {
        /// The session's id
        #[arg(value_parser = session_id)]
        id: String,
        /// The call's id
        call: String,
        /// What the model is told
        reason: Option<String>,
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
    let place = arguments.place.place()?;
    let client = place.client()?;
    let json = arguments.json;
    match arguments.command {
        Command::List => list(&client, json).await,
        Command::Show { id } => show(&client, &id, json).await,
        Command::Follow { id } => follow(place, &id, json).await,
        Command::Send { id, text } => {
            let content = json!([{ "type": "text", "text": text }]);
            send(&client, &id, json!({ "type": "user.message", "content": content })).await
        }
        Command::Allow { id, call } => {
            let event =
                json!({ "type": "user.tool_confirmation", "tool_use_id": call, "result": "allow" });
            send(&client, &id, event).await
        }
        Command::Deny { id, call, reason } => {
            let mut event =
                json!({ "type": "user.tool_confirmation", "tool_use_id": call, "result": "deny" });
            if let Some(reason) = reason {
                event["deny_message"] = reason.into();
            }
            send(&client, &id, event).await
        }
        Command::Interrupt { id } => send(&client, &id, json!({ "type": "user.interrupt" })).await,
    }
}

/// Ids go into addresses as they are.
pub(super) fn session_id(text: &str) -> Result<String, String> {
    if posthouse_protocol::id::IdKind::Session.is_well_formed(text) {
        return Ok(text.to_owned());
    }
    Err("is no session; they look like sesn_…".to_owned())
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let sessions = client.all("/v1/sessions?limit=100&include_archived=true").await?;
    for session in &sessions {
        if json {
            say(&format!("{}\n", harmless_json(session)));
            continue;
        }
        let text = |value: &Value| one_line(value.as_str().unwrap_or("-"));
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
            say(&format!("{}\n", harmless_json(event)));
        }
        return Ok(());
    }
    let text = |value: &Value| one_line(value.as_str().unwrap_or("-"));
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
async fn follow(place: Place, id: &str, json: bool) -> Result<(), Error> {
    let deltas = if json { "" } else { "?event_deltas[]=agent.message" };
    let mut stream = Follow::new(place, format!("/v1/sessions/{id}/events/stream{deltas}"));
    let mut shown = Shown::default();
    loop {
        let frame = match stream.next().await? {
            Next::Frame(frame) => frame,
            Next::Cut => {
                say(&shown.close());
                continue;
            }
        };
        say(&if json {
            format!("{}\n", harmless_json(&frame.event))
        } else {
            shown.next(&frame.event)
        });
        let kind = frame.event["type"].as_str();
        if let Some("session.deleted" | "session.status_terminated") = kind {
            return Ok(());
        }
    }
}
