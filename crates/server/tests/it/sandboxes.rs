//! `/posthouse/v1/sandboxes` and the commands beside it, on a server that has no sandbox to
//! show; and what `posthouse doctor` says.

use std::time::Duration;

use posthouse::{api::call::now, keys::mint};
use posthouse_protocol::{Micros, id::IdKind};
use posthouse_store::tables::sandbox_records::{self, SandboxRecordRow};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::{KEY, TestApp, send},
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

/// Writes records of a session's sandboxes, the oldest first, as their ledger does.
async fn record(app: &TestApp, session: &str, records: Vec<Value>) -> Vec<Value> {
    let base = now().0;
    let mut written = Vec::new();
    let mut rows = Vec::new();
    for (after, mut record) in (0..).zip(records) {
        // Two of them are of one moment.
        let at = Micros(base + after / 2);
        record["type"] = "sandbox_record".into();
        record["id"] = mint(IdKind::SandboxRecord, at).unwrap().into();
        record["session_id"] = session.into();
        record["created_at"] = at.to_rfc3339().into();
        rows.push(SandboxRecordRow {
            id: record["id"].as_str().unwrap().to_owned(),
            session: session.to_owned(),
            kind: record["kind"].as_str().unwrap().to_owned(),
            body: record.to_string(),
            at: at.0,
        });
        written.push(record);
    }
    let database = &app.running.app.database;
    database.write(move |to| sandbox_records::insert(to, &rows)).await.unwrap();
    written.sort_by_key(|one| (one["created_at"].to_string(), one["id"].to_string()));
    written.reverse();
    written
}

#[tokio::test]
async fn the_records_of_a_session_are_listed_newest_first() {
    let app = TestApp::new().await;
    let agent = app.post("/v1/agents", json!({ "name": "a", "model": "test/m" })).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({ "agent": agent["id"], "environment_id": environment["id"] });
    let session =
        app.post("/v1/sessions", body.clone()).await.ok()["id"].as_str().unwrap().to_owned();
    let other = app.post("/v1/sessions", body).await.ok()["id"].as_str().unwrap().to_owned();
    let path = format!("/posthouse/v1/sandboxes/{session}/records");
    // A session without any has a list, and only who is no session has none.
    assert_eq!(app.get(&path).await.ok(), json!({ "data": [], "next_page": null }));
    let missing = format!("/posthouse/v1/sandboxes/{MISSING}/records");
    assert_eq!(app.get(&missing).await.refused(404), "Session not found.");
    app.get("/posthouse/v1/sandboxes/x/records").await.refused(400);

    let denied = |host: &str| {
        json!({
            "kind": "deny", "host": host, "port": 443, "rule": "not_listed", "event_ids": [],
            "count": 1, "last_at": "2026-01-01T00:00:00.000000Z",
        })
    };
    let allowed = json!({
        "kind": "allow", "host": "a.example", "port": null, "rule": "allowed_hosts",
        "event_ids": ["sevt_1"], "count": 2, "last_at": "2026-01-01T00:00:00.000000Z",
    });
    let hosts = ["a.example", "b.example", "c.example", "d.example"].map(denied);
    let written = record(&app, &session, hosts.into_iter().chain([allowed]).collect()).await;
    record(&app, &other, vec![denied("other.example")]).await;
    assert_eq!(app.get(&path).await.ok()["data"], json!(written));
    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = app.get(&format!("{path}?limit=2{next}")).await.ok();
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_page"].as_str() else { break };
        next = format!("&page={cursor}");
    }
    assert_eq!(paged, written);
    let of = async |types: &str| {
        let page = app.get(&format!("{path}?{types}")).await.ok();
        let kinds = page["data"].as_array().unwrap().iter();
        kinds.map(|one| one["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("types[]=allow").await, ["allow"]);
    assert_eq!(of("types[]=deny&limit=2").await, ["deny", "deny"]);
    assert_eq!(of("types[]=allow&types[]=deny").await.len(), 5);
    assert_eq!(of("types[]=sandbox&types[]=injection").await, [""; 0]);
    app.get(&format!("{path}?types[]=session.error")).await.refused(400);
    app.get(&format!("{path}?colour=1")).await.refused(400);

    let folder = TempDir::new().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = posthouse(&folder);
        let to = ["sandboxes", "--url", &app.running.url, "records"];
        command.env("POSTHOUSE_API_KEY", KEY).args(to).args(arguments);
        command
    };
    let (code, out, _) = run(&mut ask(&[&session, "--type", "deny", "--json"])).await;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut oldest_first: Vec<_> = written.iter().filter(|one| one["kind"] == "deny").collect();
    oldest_first.reverse();
    assert_eq!((code, lines.iter().collect::<Vec<_>>()), (0, oldest_first));
    let (_, out, _) = run(&mut ask(&[&session])).await;
    assert_eq!(out.lines().count(), 5);
    assert!(out.contains("  allow      a.example  allowed_hosts  2 times\n"), "{out}");
    let (_, out, _) = run(&mut ask(&[&other, "--type", "sandbox"])).await;
    assert_eq!(out, "no records\n");

    app.delete(&format!("/v1/sessions/{session}")).await.ok();
    app.get(&path).await.refused(404);
    let left =
        app.running.app.database.read(|from| sandbox_records::list(from, &session, &[], None, 9));
    assert_eq!(left.unwrap(), []);
}

#[tokio::test]
async fn an_idempotency_key_is_refused_where_no_answer_is_kept() {
    let app = TestApp::new().await;
    let key = app.post("/posthouse/v1/keys", json!({ "name": "k", "scopes": ["*:*"] })).await.ok();
    let revoke = format!("/posthouse/v1/keys/{}/revoke", key["id"].as_str().unwrap());
    for path in [revoke.clone(), format!("/posthouse/v1/sandboxes/{MISSING}/kill")] {
        let request = app.request(Method::POST, &path).header("idempotency-key", "k");
        let refused = send(request).await.refused(400);
        assert!(refused.starts_with("Idempotency-Key: can't be honoured, because"), "{refused}");
        assert!(refused.ends_with("; leave it out"), "{refused}");
    }
    let keys = app.get("/posthouse/v1/keys").await.ok();
    assert_eq!(keys["data"][0]["revoked_at"], Value::Null, "nothing was done");
    assert!(app.post(&revoke, Value::Null).await.ok()["revoked_at"].is_string());
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
