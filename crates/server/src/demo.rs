//! `posthouse demo`: the whole road without a key and without a network.
//!
//! A provider that is scripted and says so answers through the real server, log, harness and
//! public API. The demo drives them with the client that everybody else could be, and fails
//! when what it sees is not what it should be.

use std::{path::PathBuf, sync::Arc, time::Duration};

use posthouse_model::{
    Block, BlockKind, Body, Catalog, Event, Item, ModelStream, Provider, Providers, Request,
    Response, Stop, Usage, View,
};
use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

use crate::{
    Error,
    cli::{self, Shown, say},
    client::Client,
    config::{Config, Limits},
    start::{self, Running},
};

/// How long the demo waits for a turn to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for its own server to stop.
const GRACE: Duration = Duration::from_secs(2);

/// The model that the scripted provider serves.
const MODEL: &str = "demo/scripted";

/// A part that can be left out, to show that the demo needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Nothing listens.
    Server,
    /// What was written is gone after the restart.
    Log,
    /// Nobody works on sessions.
    Harness,
    /// Nobody answers to the model's name.
    Provider,
}

/// Runs the demo.
///
/// # Errors
/// [`Error::Demo`] and others that say what was not as it should be.
pub async fn run(without: Option<Part>) -> Result<(), Error> {
    let folder = TemporaryFolder::make()?;
    say!("posthouse demo: a scripted model, no key, no network");
    let stage = Stage { folder: folder.0.clone(), without };
    let running = stage.open().await?;
    say!("       server on {}, data in {}", running.url, folder.0.display());
    let client = client(&running)?;
    let running = match without {
        Some(Part::Server) => {
            running.stop(GRACE).await;
            None
        }
        _ => Some(running),
    };
    let played = play(&client).await;
    if let Some(running) = running {
        running.stop(GRACE).await;
    }
    let (session, seen) = played?;
    say!("       server stopped; opening its database again");
    if without == Some(Part::Log) {
        folder.clear()?;
    }
    let running = stage.open().await?;
    let kept = listed(&self::client(&running)?, &session).await;
    running.stop(GRACE).await;
    match kept {
        Ok(kept) => same("the log after the restart", &seen, &kept)?,
        Err(error) => {
            let reason = error.with_causes();
            return Err(Error::Demo(format!("the log does not hold the session: {reason}")));
        }
    }
    say!("       the log holds the same {} events", seen.len());
    say!("demo passed");
    Ok(())
}

/// What the demo is played on, twice on the same folder.
struct Stage {
    folder: PathBuf,
    without: Option<Part>,
}

impl Stage {
    async fn open(&self) -> Result<Running, Error> {
        let providers: Vec<Arc<dyn Provider>> = match self.without {
            Some(Part::Provider) => Vec::new(),
            _ => vec![Arc::new(Scripted)],
        };
        start::start(Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: self.folder.clone(),
            log: String::new(),
            api_key: None,
            providers: Providers::new(providers, Catalog::built_in()),
            limits: Limits::default(),
            harness: self.without != Some(Part::Harness),
        })
        .await
    }
}

fn client(running: &Running) -> Result<Client, Error> {
    Client::new(running.url.clone(), running.token())
}

/// Holds one conversation; returns the session and the events that its stream has shown.
async fn play(client: &Client) -> Result<(String, Vec<Value>), Error> {
    let agent = json!({ "name": "Demo", "model": MODEL, "system": "You are a demonstration." });
    let agent = id(&client.post("/v1/agents", &agent).await?, "agent")?;
    let environment = json!({ "name": "demo" });
    let environment = id(&client.post("/v1/environments", &environment).await?, "environment")?;
    let session = json!({ "agent": agent, "environment_id": environment, "title": "Demo" });
    let session = id(&client.post("/v1/sessions", &session).await?, "session")?;
    say!("       {agent}\n       {environment}\n       {session}");

    let path = format!("/v1/sessions/{session}/events/stream?event_deltas[]=agent.message");
    let mut stream = client.stream(&path, None).await?;
    let content = json!([{ "type": "text", "text": "Hello! Who are you?" }]);
    let body = json!({ "events": [{ "type": "user.message", "content": content }] });
    client.post(&format!("/v1/sessions/{session}/events"), &body).await?;

    let mut seen = Vec::new();
    let mut shown = Shown::default();
    let turn = async {
        while let Some(frame) = stream.next().await? {
            cli::say_text(&shown.next(&frame.event));
            let kind = frame.event["type"].as_str().unwrap_or_default();
            let end = kind == "session.status_idle" || kind == "session.status_terminated";
            if !kind.starts_with("event_") {
                seen.push(frame.event);
            }
            if end {
                return Ok(());
            }
        }
        Err(Error::Demo("the stream was cut before the turn had ended".into()))
    };
    match timeout(PATIENCE, turn).await {
        Ok(ended) => ended?,
        Err(_) => {
            let last = seen.last().map_or("nothing", |event| event["type"].as_str().unwrap_or("?"));
            let seconds = PATIENCE.as_secs();
            let what = format!("no turn has ended within {seconds} s; the last event was {last}");
            return Err(Error::Demo(what));
        }
    }
    let answered = |event: &Value| {
        event["type"] == "agent.message"
            && event["content"].to_string().contains("scripted provider")
    };
    if !seen.iter().any(answered) {
        return Err(Error::Demo("the scripted provider has not answered".into()));
    }
    same("the list", &seen, &listed(client, &session).await?)?;
    say!("       the list shows the same {} events as the stream", seen.len());
    Ok((session, seen))
}

fn id(thing: &Value, kind: &str) -> Result<String, Error> {
    let id = thing["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Demo(format!("the {kind} that was made has no id")))
}

async fn listed(client: &Client, session: &str) -> Result<Vec<Value>, Error> {
    client.all(&format!("/v1/sessions/{session}/events")).await
}

fn same(place: &str, seen: &[Value], found: &[Value]) -> Result<(), Error> {
    if seen == found {
        return Ok(());
    }
    let differs = seen.iter().zip(found).position(|(one, other)| one != other);
    let at = differs.unwrap_or_else(|| seen.len().min(found.len()));
    let show = |events: &[Value]| events.get(at).map_or("nothing".into(), Value::to_string);
    Err(Error::Demo(format!(
        "{place} has {} events, the stream has shown {}; event {at} is {} and was {}",
        found.len(),
        seen.len(),
        show(found),
        show(seen),
    )))
}

/// A provider without a model behind it.
struct Scripted;

impl Provider for Scripted {
    fn name(&self) -> &str {
        "demo"
    }

    fn render(&self, request: &Request) -> Body {
        let said = request.items.iter().rev().find_map(|item| match item {
            Item::User(blocks) => serde_json::from_str::<Value>(blocks.get()).ok(),
            _ => None,
        });
        let said = said.as_ref().and_then(|blocks| blocks[0]["text"].as_str()).unwrap_or("nothing");
        Body(json!({ "model": request.model, "said": said }).to_string().into())
    }

    fn stream(&self, body: Body) -> ModelStream {
        let said = serde_json::from_slice::<Value>(&body.0).unwrap_or_default();
        let text = format!(
            "I am a scripted provider, not a model: nobody was asked and nothing left this \
             machine. You said {:?}, and that stands in the log now.",
            said["said"].as_str().unwrap_or_default()
        );
        let mut events = vec![Event::Started { index: 0, kind: BlockKind::Text }];
        events.extend(
            text.split_inclusive(' ').map(|word| Event::Text { index: 0, text: word.to_owned() }),
        );
        events.push(ended(text));
        Box::pin(futures_util::stream::iter(events))
    }
}

fn ended(text: String) -> Event {
    let native = json!({ "type": "text", "text": text }).to_string();
    let blocks = match RawValue::from_string(native) {
        Ok(native) => vec![Block { native, view: View::Text(text) }],
        // A text that was just made of JSON is JSON.
        Err(_) => Vec::new(),
    };
    Event::Ended(Response {
        blocks,
        stop: Stop::EndTurn,
        usage: Usage { input_tokens: 12, output_tokens: 34, ..Usage::default() },
        served: None,
    })
}

/// A folder that is gone when the demo is.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn make() -> Result<Self, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let name = format!("posthouse-demo-{}", posthouse_store::record::hex(&random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self(path))
    }

    fn clear(&self) -> Result<(), Error> {
        std::fs::remove_dir_all(&self.0)
            .map_err(|source| Error::File { path: self.0.clone(), source })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What can't be deleted lies in a folder that the system cleans.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
