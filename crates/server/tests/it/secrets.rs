//! A provider's key is looked for everywhere after it was used: in the data folder, in what the
//! server says, in every event, also where the provider repeats it.

use std::{path::Path, process::Stdio, time::Duration};

use posthouse::client::Client;
use posthouse_testkit::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};

const CANARY: &str = "sk-ant-canary-0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_key_is_nowhere() {
    let told = format!("the key {CANARY} is not known; x-api-key: {CANARY}");
    let model = ScriptedModel::start(Script::of(vec![
        Reply::text("A good answer."),
        Reply::status(401).with_message(&told),
        Reply::error_event("invalid_request_error", &told),
    ]))
    .await;
    let folder = TempDir::new().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_posthouse"))
        .env_clear()
        .env("HOME", folder.path())
        .env("POSTHOUSE_API_KEY", "k")
        .env("POSTHOUSE_LOG", "trace")
        .env("ANTHROPIC_API_KEY", CANARY)
        .env("ANTHROPIC_BASE_URL", model.url())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = server.stderr.take().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the server, whose output it reads")]
    let complaints = tokio::spawn(async move {
        let mut said = String::new();
        stderr.read_to_string(&mut said).await.unwrap();
        said
    });
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let url = first.split_whitespace().last().unwrap().to_owned();
    let client = Client::new(url, "k").unwrap();
    let seen = converse(&client).await;
    assert!(model.requests().len() >= 3 && seen.contains("session.error"), "{seen}");

    let pid = server.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    server.wait().await.unwrap();
    let mut said = first;
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&line);
    }
    said.push_str(&complaints.await.unwrap());
    assert!(said.len() > 200, "nothing was said: {said}");
    assert!(!said.contains(CANARY), "the key is in what the server has said");
    assert!(!seen.contains(CANARY), "the key is in an answer of the API");
    search(folder.path());
}

/// Holds three turns, of which two fail, and returns all that the API has shown.
async fn converse(client: &Client) -> String {
    let id = |made: Value| made["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "Secret", "model": "claude-sonnet-5" });
    let agent = id(client.post("/v1/agents", &body).await.unwrap());
    let environment = json!({ "name": "secret" });
    let environment = id(client.post("/v1/environments", &environment).await.unwrap());
    let body = json!({ "agent": agent, "environment_id": environment });
    let session = id(client.post("/v1/sessions", &body).await.unwrap());
    let path = format!("/v1/sessions/{session}");
    for text in ["one", "two", "three"] {
        let content = json!([{ "type": "text", "text": text }]);
        let body = json!({ "events": [{ "type": "user.message", "content": content }] });
        client.post(&format!("{path}/events"), &body).await.unwrap();
        while client.get(&path).await.unwrap()["status"] != "idle" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let events = client.all(&format!("{path}/events?posthouse_events=true")).await.unwrap();
    let shown = client.get(&path).await.unwrap();
    format!("{events:?} {shown}")
}

/// Looks into every file below a folder.
fn search(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
            assert!(!found, "the key is in {}", path.display());
        }
    }
}
