//! `kill -9` at a point of the seed's choosing, and a witness outside that keeps every
//! acknowledgement: the real binary, the real wire to the model, the real disk.
//!
//! `POSTHOUSE_KILLS=N` runs N seeds.

use std::{
    collections::{BTreeMap, HashSet},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use posthouse_engine::sessions;
use posthouse_store::{Database, Durability, Faults, Log, Options};
use posthouse_testkit::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const SEEDS: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_goes_on_where_it_was() {
    let seeds = std::env::var("POSTHOUSE_KILLS").ok().and_then(|text| text.parse().ok());
    let mut kills = 0;
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let killed = timeout(PATIENCE, live(seed)).await;
        kills += killed.unwrap_or_else(|_| panic!("seed {seed} is stuck"));
    }
    println!("{kills} kills");
    assert!(kills > 0, "no run was ever killed");
}

/// Holds one conversation through its kills; returns how many there were.
async fn live(seed: u64) -> u32 {
    let model = ScriptedModel::start(Script::of(script())).await;
    // A killed server leaves its requests behind; the model sees the same one again.
    let folder = TempDir::new().unwrap();
    let mut witness = Witness {
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        folder: folder.path().to_owned(),
        model: model.url(),
        seed,
        lives: 0,
        server: None,
    };
    let agent = witness.post("/v1/agents", "agent", &agent()).await;
    let environment = json!({ "name": "crash" });
    let environment = witness.post("/v1/environments", "environment", &environment).await;
    let body = json!({ "agent": agent["id"], "environment_id": environment["id"] });
    let session = witness.post("/v1/sessions", "session", &body).await;
    let session = session["id"].as_str().unwrap().to_owned();
    let mut acknowledged = Vec::new();
    for text in ["hello", "weather please", "write it down", "run it", "good bye"] {
        let content = json!([{ "type": "text", "text": text }]);
        let body = json!({ "events": [{ "type": "user.message", "content": content }] });
        let echo = witness.post(&format!("/v1/sessions/{session}/events"), text, &body).await;
        acknowledged.push(echo["data"][0]["id"].as_str().unwrap().to_owned());
        witness.finish_turn(&session).await;
    }
    let events = witness.events(&session).await;
    check(&events, &acknowledged, seed);
    let kills = witness.lives - 1;
    witness.server.take().unwrap().0.kill().await.unwrap();
    check_disk(folder.path(), &session).await;
    kills
}

fn script() -> Vec<Reply> {
    vec![
        Reply::text("It is sunny, as you know.").when_result_of("weather").forever(),
        Reply::text("Written, or not.").when_result_of("write").forever(),
        Reply::text("That did not run.").when_result_of("bash").forever(),
        Reply::tool_use("weather", json!({ "city": "Graz" })).when_user_says("weather").forever(),
        Reply::tool_use("write", json!({ "file_path": "a", "content": "b" }))
            .when_user_says("write")
            .forever(),
        Reply::tool_use("bash", json!({ "command": "true" })).when_user_says("run").forever(),
        Reply::text("A longer answer that comes in several pieces.")
            .in_chunks(7, Duration::ZERO)
            .forever(),
    ]
}

fn agent() -> Value {
    json!({
        "name": "Crash",
        "model": "claude-sonnet-5",
        "tools": [
            {
                "type": "agent_toolset_20260401",
                "configs": [{ "name": "write", "permission_policy": { "type": "always_ask" } }],
            },
            {
                "type": "custom",
                "name": "weather",
                "description": "Tells the weather.",
                "input_schema": { "type": "object" },
            },
        ],
    })
}

struct Witness {
    http: reqwest::Client,
    folder: std::path::PathBuf,
    model: String,
    seed: u64,
    lives: u32,
    server: Option<(Child, String)>,
}

impl Witness {
    /// The address of a server that lives, as far as one can know.
    async fn url(&mut self) -> String {
        if let Some((child, url)) = &mut self.server
            && child.try_wait().unwrap().is_none()
        {
            return url.clone();
        }
        loop {
            self.lives += 1;
            // Ever later points, and in the end a life without a fault.
            let point = (self.seed * 7 + u64::from(self.lives) * 13) % 67 + 1;
            let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
            command
                .env_clear()
                .env("HOME", &self.folder)
                .env("POSTHOUSE_API_KEY", "k")
                .env("ANTHROPIC_API_KEY", "sk-test")
                .env("ANTHROPIC_BASE_URL", &self.model)
                .args(["serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(self.folder.join("data"))
                .kill_on_drop(true)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .stdout(Stdio::piped());
            if self.lives < 8 {
                command.env("POSTHOUSE_FAULT", format!("*:{point}"));
            }
            let mut child = command.spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            // A life may end before it has said where it listens.
            if let Ok(Some(line)) = lines.next_line().await {
                let url = line.split_whitespace().last().unwrap().to_owned();
                self.server = Some((child, url.clone()));
                return url;
            }
            child.wait().await.unwrap();
        }
    }

    /// Posts until the server has acknowledged. The key makes all attempts one.
    async fn post(&mut self, path: &str, key: &str, body: &Value) -> Value {
        loop {
            let url = self.url().await;
            let sent = self
                .http
                .post(format!("{url}{path}"))
                .bearer_auth("k")
                .header("idempotency-key", key.replace(' ', "-"))
                .body(body.to_string())
                .send()
                .await;
            if let Some(answer) = read(sent).await {
                return answer;
            }
        }
    }

    async fn get(&mut self, path: &str) -> Value {
        loop {
            let url = self.url().await;
            let sent = self.http.get(format!("{url}{path}")).bearer_auth("k").send().await;
            if let Some(answer) = read(sent).await {
                return answer;
            }
        }
    }

    async fn events(&mut self, session: &str) -> Vec<Value> {
        let list = self.get(&format!("/v1/sessions/{session}/events")).await;
        assert_eq!(list["next_page"], Value::Null);
        list["data"].as_array().unwrap().clone()
    }

    /// Waits until the turn has ended, and answers what it asks for.
    async fn finish_turn(&mut self, session: &str) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "a turn has not ended");
            let shown = self.get(&format!("/v1/sessions/{session}")).await;
            if shown["status"] != "idle" {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            let events = self.events(session).await;
            let last = events.last().unwrap();
            assert_eq!(last["type"], "session.status_idle", "{last}");
            let Some(asked) = last["stop_reason"]["event_ids"].as_array() else { return };
            for id in asked {
                let call = events.iter().find(|event| event["id"] == *id).unwrap();
                let answer = if call["type"] == "agent.custom_tool_use" {
                    json!({ "type": "user.custom_tool_result", "custom_tool_use_id": id,
                            "content": [{ "type": "text", "text": "sunny" }] })
                } else {
                    json!({ "type": "user.tool_confirmation", "tool_use_id": id,
                            "result": "allow" })
                };
                let body = json!({ "events": [answer] });
                let path = format!("/v1/sessions/{session}/events");
                self.post(&path, id.as_str().unwrap(), &body).await;
            }
        }
    }
}

/// The answer, or nothing when the server died under the request.
async fn read(sent: Result<reqwest::Response, reqwest::Error>) -> Option<Value> {
    let response = sent.ok()?;
    let status = response.status();
    let text = response.text().await.ok()?;
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).ok()
}

fn check(events: &[Value], acknowledged: &[String], seed: u64) {
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    let mut ids = HashSet::new();
    for event in events {
        assert!(ids.insert(event["id"].to_string()), "seed {seed}: {event} stands twice");
    }
    let messages: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "user.message")
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(messages, acknowledged, "seed {seed}: messages were lost, doubled or moved");
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        *count.entry(kind(event)).or_default() += 1;
    }
    // However often it was killed: each turn said its piece once, each call had one end.
    let expected = [
        ("agent.message", 5),
        ("agent.custom_tool_use", 1),
        ("user.custom_tool_result", 1),
        ("agent.tool_use", 2),
        ("agent.tool_result", 2),
        ("user.tool_confirmation", 1),
        ("session.status_idle", 7),
        ("session.status_running", 7),
    ];
    for (kind, times) in expected {
        assert_eq!(count.get(kind), Some(&times), "seed {seed}: {kind} in {count:?}");
    }
    assert_eq!(
        count["span.model_request_start"], count["span.model_request_end"],
        "seed {seed}: a request was never closed"
    );
}

async fn check_disk(folder: &std::path::Path, session: &str) {
    let database = Database::open(Options {
        folder: folder.join("data"),
        durability: Durability::Disk,
        faults: Faults::default(),
    });
    let log = Log::new(database.unwrap(), Arc::new(sessions::fold_row));
    let row = log.row(session).unwrap().unwrap();
    assert_eq!(log.verify(row.number).await.unwrap(), None, "the chain is broken");
}
