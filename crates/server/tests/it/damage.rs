//! A log that can't be continued ends its own session and nothing else, and a fault of the
//! harness ends nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use posthouse_model::{
    Block, Body, Event, ModelStream, Provider, Request, Response, Stop, Usage, View,
};

use posthouse_store::Error;
use serde_json::json;

use crate::app::TestApp;

/// A provider that panics at its first request.
#[derive(Default)]
struct Fragile(AtomicBool);

impl Provider for Fragile {
    fn name(&self) -> &str {
        "test"
    }

    fn render(&self, _: &Request) -> Body {
        Body::default()
    }

    fn stream(&self, _: Body) -> ModelStream {
        assert!(self.0.swap(true, Ordering::SeqCst), "the first request is one too many");
        let text = json!({ "type": "text", "text": "here again" });
        let response = Response {
            blocks: vec![Block {
                native: serde_json::value::to_raw_value(&text).unwrap(),
                view: View::Text("here again".to_owned()),
            }],
            stop: Stop::EndTurn,
            usage: Usage::default(),
            served: None,
        };
        Box::pin(futures_util::stream::iter([Event::Ended(response)]))
    }
}

#[tokio::test]
async fn a_panic_of_the_harness_leaves_no_session_behind() {
    let app = TestApp::with(vec![Arc::new(Fragile::default())]).await;
    let path = say_hello(&app).await;
    wait_for(&app, &path, "idle").await;
    let events = app.get(&format!("{path}/events?types[]=agent.message")).await.ok();
    assert_eq!(events["data"][0]["content"][0]["text"], "here again");
}

#[tokio::test]
async fn a_session_whose_log_is_damaged_is_terminated() {
    let app = TestApp::new().await;
    let path = say_hello(&app).await;
    let damage = |connection: &posthouse_store::tables::Connection| {
        let sql = "UPDATE records SET payload = '{\"id\":\"sevt_1\"}' WHERE kind = 'user.message'";
        connection.execute(sql, []).map_err(Error::from)
    };
    assert_eq!(app.running.app.database.write(damage).await.unwrap(), 1);
    let app = app.restart().await;
    wait_for(&app, &path, "terminated").await;
    let events = app.get(&format!("{path}/events")).await.ok();
    let error = events["data"].as_array().unwrap().iter().rev().nth(2).unwrap();
    assert_eq!(error["type"], "session.error", "{events}");
    assert_eq!(error["error"]["retry_status"]["type"], "terminal");
    app.get("/v1/agents").await.ok();
}

/// Makes a session and sends it a message; returns the session's path.
async fn say_hello(app: &TestApp) -> String {
    let id = |made: serde_json::Value| made["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "a", "model": "test/model" });
    let agent = id(app.post("/v1/agents", body).await.ok());
    let environment = id(app.post("/v1/environments", json!({ "name": "e" })).await.ok());
    let body = json!({ "agent": agent, "environment_id": environment });
    let path = format!("/v1/sessions/{}", id(app.post("/v1/sessions", body).await.ok()));
    let content = json!([{ "type": "text", "text": "hello" }]);
    let body = json!({ "events": [{ "type": "user.message", "content": content }] });
    app.post(&format!("{path}/events"), body).await.ok();
    path
}

async fn wait_for(app: &TestApp, path: &str, status: &str) {
    let began = Instant::now();
    loop {
        let shown = app.get(path).await.ok();
        if shown["status"] == status {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{shown}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
