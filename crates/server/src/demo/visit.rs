//! A session as the demo sees it: through the public API, with the client that everybody has.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Error,
    cli::{self, Shown, say},
    client::Client,
};

/// How long the demo waits for the next event.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for a tool, which may have to wait for its sandbox.
const PATIENCE_WITH_TOOLS: Duration = Duration::from_secs(60);

/// One session, and the events that its streams have shown.
pub(super) struct Visit {
    pub(super) session: String,
    pub(super) seen: Vec<Value>,
}

impl Visit {
    /// Makes an agent, an environment and a session.
    pub(super) async fn begin(client: &Client, model: &str) -> Result<Self, Error> {
        let tools = json!([{ "type": "agent_toolset_20260401" }]);
        let agent = json!({ "name": "Demo", "model": model, "tools": tools });
        let agent = id(&client.post("/v1/agents", &agent).await?, "agent")?;
        let environment = json!({ "name": "demo" });
        let environment = id(&client.post("/v1/environments", &environment).await?, "environment")?;
        let session = json!({ "agent": agent, "environment_id": environment, "title": "Demo" });
        let session = id(&client.post("/v1/sessions", &session).await?, "session")?;
        say!("       {agent}\n       {environment}\n       {session}");
        Ok(Self { session, seen: Vec::new() })
    }

    /// Says something, shows the turn that follows, and returns the result of its last tool call:
    /// the text, and whether the tool has failed.
    pub(super) async fn turn(
        &mut self,
        client: &Client,
        text: &str,
    ) -> Result<(String, bool), Error> {
        let events = format!("/v1/sessions/{}/events", self.session);
        let path = format!("{events}/stream?event_deltas[]=agent.message");
        let mut stream = client.stream(&path, None).await?;
        let content = json!([{ "type": "text", "text": text }]);
        let body = json!({ "events": [{ "type": "user.message", "content": content }] });
        client.post(&events, &body).await?;

        let mut shown = Shown::default();
        let before = self.seen.len();
        let mut patience = PATIENCE;
        loop {
            let Ok(next) = timeout(patience, stream.next()).await else {
                let last = self.seen.last().and_then(|event| event["type"].as_str());
                return Err(Error::Demo(format!(
                    "nothing has happened for {} s in a turn that has not ended; the last event \
                     was {}",
                    patience.as_secs(),
                    last.unwrap_or("nothing"),
                )));
            };
            let Some(frame) = next? else {
                return Err(Error::Demo("the stream was cut before the turn had ended".into()));
            };
            let event = frame.event;
            let kind = event["type"].as_str().unwrap_or_default().to_owned();
            if kind == "agent.tool_result" {
                cli::say_text(&format!("{}{}\n", shown.close(), cli::whole_result(&event)));
            } else {
                cli::say_text(&shown.next(&event));
            }
            if !kind.starts_with("event_") {
                self.seen.push(event);
            }
            match kind.as_str() {
                "agent.tool_use" => patience = PATIENCE_WITH_TOOLS,
                "agent.tool_result" => patience = PATIENCE,
                "session.status_idle" | "session.status_terminated" => break,
                _ => {}
            }
        }
        let turn = &self.seen[before..];
        if !turn.iter().any(|event| event["type"] == "agent.message") {
            return Err(Error::Demo("the scripted provider has not answered".into()));
        }
        let result = turn.iter().rfind(|event| event["type"] == "agent.tool_result");
        let result = result.ok_or_else(|| Error::Demo("no tool has answered".into()))?;
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        Ok((text, result["is_error"] == true))
    }

    /// Compares what the streams have shown with what the session's list says.
    pub(super) async fn compare(&self, client: &Client, place: &str) -> Result<(), Error> {
        let listed = client.all(&format!("/v1/sessions/{}/events", self.session)).await?;
        same(place, &self.seen, &listed)
    }

    /// How the session's sandbox is kept apart from the host, in one line.
    pub(super) async fn sandbox(&self, client: &Client) -> Result<String, Error> {
        let live = client.all("/posthouse/v1/sandboxes").await?;
        let sandbox = live.iter().find(|one| one["session_id"] == self.session.as_str());
        let sandbox = sandbox.ok_or_else(|| Error::Demo("the session has no sandbox".into()))?;
        Ok(isolation(&sandbox["isolation"]))
    }

    /// Downloads the one file that the session has made: its name and its content.
    pub(super) async fn file(&self, client: &Client) -> Result<(String, String), Error> {
        let files = client.get(&format!("/v1/files?scope_id={}", self.session)).await?;
        let files = files["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [file] = files else {
            let many = files.len();
            return Err(Error::Demo(format!("the session has made {many} files, not one")));
        };
        let name = file["filename"].as_str().unwrap_or_default().to_owned();
        let content = client.download(&format!("/v1/files/{}/content", id(file, "file")?)).await?;
        say!("file   {name}, {} bytes, {}", file["size_bytes"], id(file, "file")?);
        Ok((name, String::from_utf8_lossy(&content).into_owned()))
    }
}

fn id(thing: &Value, kind: &str) -> Result<String, Error> {
    let id = thing["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Demo(format!("the {kind} that was made has no id")))
}

/// What is in force, in words.
fn isolation(report: &Value) -> String {
    let text = |name: &str| report[name].as_str().unwrap_or("?").to_owned();
    let users = if report["own_ids"] == true { "user ids of its own" } else { "the server's user" };
    let filter = if report["seccomp"] == true { "system calls filtered" } else { "no seccomp" };
    let landlock = match report["landlock"].as_u64() {
        Some(version) => format!("Landlock version {version}"),
        None => "no Landlock".to_owned(),
    };
    let limits = match text("limits").as_str() {
        "cgroup_v2" => "limits by cgroup v2".to_owned(),
        "cgroup_v1" => "limits by cgroup v1".to_owned(),
        other => format!("limits by {other}"),
    };
    let door = match text("door").as_str() {
        "all_ports" => "one door for all ports".to_owned(),
        "listed_ports" => "one door for the usual ports".to_owned(),
        other => format!("door: {other}"),
    };
    let technology = text("technology");
    format!("{technology}, {users}, {filter}, {landlock}, {limits}, {door}")
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
