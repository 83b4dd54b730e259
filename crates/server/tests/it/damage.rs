//! A log that can't be continued ends its own session and nothing else.

use std::time::{Duration, Instant};

use posthouse_store::Error;
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_session_whose_log_is_damaged_is_terminated() {
    let app = TestApp::new().await;
    let id = |made: serde_json::Value| made["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": "a", "model": "test/silent" });
    let agent = id(app.post("/v1/agents", body).await.ok());
    let environment = id(app.post("/v1/environments", json!({ "name": "e" })).await.ok());
    let body = json!({ "agent": agent, "environment_id": environment });
    let path = format!("/v1/sessions/{}", id(app.post("/v1/sessions", body).await.ok()));
    let content = json!([{ "type": "text", "text": "hello" }]);
    let body = json!({ "events": [{ "type": "user.message", "content": content }] });
    app.post(&format!("{path}/events"), body).await.ok();

    let damage = |connection: &posthouse_store::tables::Connection| {
        let sql = "UPDATE records SET payload = '{\"id\":\"sevt_1\"}' WHERE kind = 'user.message'";
        connection.execute(sql, []).map_err(Error::from)
    };
    assert_eq!(app.running.app.database.write(damage).await.unwrap(), 1);
    let app = app.restart().await;
    let began = Instant::now();
    loop {
        let shown = app.get(&path).await.ok();
        if shown["status"] == "terminated" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{shown}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let events = app.get(&format!("{path}/events")).await.ok();
    let error = events["data"].as_array().unwrap().iter().rev().nth(2).unwrap();
    assert_eq!(error["type"], "session.error", "{events}");
    assert_eq!(error["error"]["retry_status"]["type"], "terminal");
    app.get("/v1/agents").await.ok();
}
