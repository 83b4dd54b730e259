//! `/posthouse/v1/sandboxes` and the commands beside it, on a server that has no sandbox to
//! show; and what `posthouse doctor` says.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::{KEY, TestApp},
    command_line::{posthouse, run},
};

const MISSING: &str = "sesn_01ABCDEFGHJKMNPQRSTVWXYZ";

#[tokio::test]
async fn a_kill_interrupts_what_is_under_way() {
    let app = TestApp::new().await;
    let list = app.get("/posthouse/v1/sandboxes").await.ok();
    assert_eq!(list, json!({ "data": [] }));
    let agent = app.post("/v1/agents", json!({ "name": "a", "model": "test/m" })).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({
        "agent": agent["id"],
        "environment_id": environment["id"],
        "initial_events": [
            { "type": "user.message", "content": [{ "type": "text", "text": "hi" }] },
        ],
    });
    let session = app.post("/v1/sessions", body).await.ok()["id"].as_str().unwrap().to_owned();
    let kill = format!("/posthouse/v1/sandboxes/{session}/kill");
    let killed = app.post(&kill, Value::Null).await.ok();
    let expected = json!({ "type": "sandbox_killed", "session_id": session, "was_live": false });
    assert_eq!(killed, expected);
    let idle = async {
        while app.get(&format!("/v1/sessions/{session}")).await.ok()["status"] != "idle" {}
    };
    tokio::time::timeout(Duration::from_secs(10), idle).await.unwrap();
    let events = || async { app.get(&format!("/v1/sessions/{session}/events")).await.ok() };
    let before = events().await;
    let interrupts = before["data"].as_array().unwrap().iter();
    assert_eq!(interrupts.filter(|event| event["type"] == "user.interrupt").count(), 1);
    // A session at rest has nothing to interrupt.
    app.post(&kill, json!({})).await.ok();
    assert_eq!(events().await, before);

    let missing = format!("/posthouse/v1/sandboxes/{MISSING}/kill");
    assert_eq!(app.post(&missing, Value::Null).await.refused(404), "Session not found.");
    app.post("/posthouse/v1/sandboxes/x/kill", Value::Null).await.refused(400);
    app.post(&kill, json!({ "colour": 1 })).await.refused(400);
    app.get("/posthouse/v1/sandboxes?colour=1").await.refused(400);

    let folder = TempDir::new().unwrap();
    let url = app.running.url.clone();
    let ask = |arguments: &[&str]| {
        let mut command = posthouse(&folder);
        command.env("POSTHOUSE_API_KEY", KEY).args(["sandboxes", "--url", &url]).args(arguments);
        command
    };
    let (code, out, _) = run(&mut ask(&["list"])).await;
    assert_eq!((code, out.as_str()), (0, "no sandboxes live\n"));
    let (code, out, _) = run(&mut ask(&["kill", &session])).await;
    assert_eq!((code, out), (0, format!("{session} had no sandbox\n")));
    let (_, out, _) = run(&mut ask(&["kill", &session, "--json"])).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
    let (code, _, error) = run(&mut ask(&["kill", MISSING])).await;
    assert_eq!(code, 1);
    assert!(error.contains("Session not found."), "{error}");
}

#[tokio::test]
async fn doctor_says_what_is_there_and_shows_no_key() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.toml");
    let file = "[sandbox]\nisolation = \"none\"\n[providers.mine]\nkind = \"anthropic\"\n\
                api_key_env = \"MINE\"\n";
    std::fs::write(&path, file).unwrap();
    let doctor = || {
        let mut command = posthouse(&folder);
        command.args(["doctor", "--config", path.to_str().unwrap()]);
        command
    };
    let (code, out, _) = run(doctor().env("MINE", "very-secret")).await;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("degraded  isolation  none, by the configuration"), "{out}");
    assert!(out.contains("provider mine  anthropic, its key is in MINE"), "{out}");
    assert!(out.contains("none runs on this data folder"), "{out}");
    assert!(out.ends_with("tools can run\n") && !out.contains("very-secret"), "{out}");
    assert!(!folder.path().join(".local").exists(), "it has changed nothing");
    // What the configuration lacks is one finding among others.
    let (code, out, _) = run(doctor().arg("--json")).await;
    assert_eq!(code, 0, "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["configuration"][0]["detail"].as_str().unwrap().contains("MINE is not set"));
    assert_eq!(report["configuration"][1]["state"], "missing");

    let app = TestApp::new().await;
    let data = app.folder().to_str().unwrap().to_owned();
    let (_, out, _) = run(doctor().args(["--data", &data]).env("MINE", "k")).await;
    assert!(out.contains(&format!("runs at {}, process", app.running.url)), "{out}");
}
