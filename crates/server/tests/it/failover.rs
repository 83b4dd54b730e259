//! Models that fall silent: the next of the agent's models answers in the same turn.
//!
//! Here and not in the conformance suite because a test can't wait as long as a server does by
//! itself. All other failures are told there (`test_failover.py`).

use std::{sync::Arc, time::Duration};

use posthouse_model::{Credential, Provider, Remote, Settings, WireKind};
use posthouse_testkit::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

use crate::app::TestApp;

/// How long a provider may say nothing here.
const SILENCE: Duration = Duration::from_millis(250);

/// One provider of each kind, named after it, and all of them the same scripted model.
fn providers(model: &ScriptedModel) -> Vec<Arc<dyn Provider>> {
    let remote = |wire: WireKind| -> Arc<dyn Provider> {
        let key = Credential::ApiKey("k".to_owned());
        let path = match wire {
            WireKind::OpenaiResponses | WireKind::OpenaiChat => "/v1",
            WireKind::Anthropic | WireKind::Gemini => "",
        };
        Arc::new(
            Remote::new(Settings {
                base_url: format!("{}{path}", model.url()),
                silence: SILENCE,
                ..Settings::new(wire.as_str(), wire, Some(key))
            })
            .unwrap(),
        )
    };
    WireKind::ALL.map(remote).into()
}

/// Begins a turn of an agent with these models and returns the session's events at its end.
async fn turn(app: &TestApp, first: &str, second: &str) -> Vec<Value> {
    let agent = json!({ "name": "a", "model": first, "posthouse": { "fallback": [second] } });
    let agent = app.post("/v1/agents", agent).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({ "agent": agent["id"], "environment_id": environment["id"] });
    let session = app.post("/v1/sessions", body).await.ok();
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let content = json!([{ "type": "text", "text": "go" }]);
    let events = json!({ "events": [{ "type": "user.message", "content": content }] });
    app.post(&format!("{path}/events"), events).await.ok();
    while app.get(&path).await.ok()["status"] != "idle" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all = app.get(&format!("{path}/events?posthouse_events=true&limit=1000")).await.ok();
    all["data"].as_array().unwrap().clone()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_falls_silent_gives_way() {
    let model = ScriptedModel::start(Script::of(Vec::<Reply>::new())).await;
    let app = TestApp::with(providers(&model)).await;
    let begins = Reply::text("half a sentence").and_stall();
    // It says nothing at all: not even that it has heard.
    let mut mute = Reply::text("too late");
    mute.delay_ms = Some(60_000);
    for silent in [begins, mute] {
        for (at, wire) in WireKind::ALL.iter().enumerate() {
            let next = WireKind::ALL[(at + 1) % WireKind::ALL.len()];
            let answer = Reply::text("here I am").when_wire(next.as_str());
            let silent = silent.clone().when_wire(wire.as_str());
            model.set_script(Script::of(vec![silent, answer]));
            let named = |wire: WireKind| format!("{}/m", wire.as_str());
            let (first, second) = (named(*wire), named(next));
            let events = turn(&app, &first, &second).await;

            let [substituted] = of(&events, "posthouse.model_substituted")[..] else {
                panic!("{events:?}")
            };
            let data = &substituted["data"];
            assert_eq!((&data["from"], &data["to"]), (&json!(first), &json!(second)));
            assert_eq!(data["transient"], true);
            assert!(data["reason"].as_str().unwrap().contains("sent nothing for 0.25 s"), "{data}");
            let [message] = of(&events, "agent.message")[..] else { panic!("{events:?}") };
            assert_eq!(message["content"][0]["text"], "here I am");
            let rest = of(&events, "session.status_idle");
            assert_eq!(rest[0]["stop_reason"]["type"], "end_turn");
        }
    }
}
