//! Environments over HTTP.

use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn an_environment_lives_and_goes() {
    let app = TestApp::new().await;
    let made = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    assert_eq!(made["scope"], "organization");
    assert_eq!(made["config"]["networking"], json!({ "type": "unrestricted" }));
    let path = format!("/v1/environments/{}", made["id"].as_str().unwrap());
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(app.post(&path, json!({})).await.ok(), made);
    let changed = app.post(&path, json!({ "name": "f", "metadata": { "a": "1" } })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("f"), &json!({ "a": "1" })));
    let changed = app.post(&path, json!({ "metadata": { "a": "" } })).await.ok();
    assert_eq!(changed["metadata"], json!({}));

    let archived = app.post(&format!("{path}/archive"), Value::Null).await.ok();
    assert_eq!(app.post(&format!("{path}/archive"), Value::Null).await.ok(), archived);
    let reply = app.post(&path, json!({ "name": "g" })).await;
    assert!(reply.refused(400).ends_with("is archived."));
    assert_eq!(reply.json()["error"]["details"]["error_code"], "environment_archived");
    assert_eq!(app.get("/v1/environments").await.ok()["data"], json!([]));
    let all = app.get("/v1/environments?include_archived=true").await.ok();
    assert_eq!(all, json!({ "data": [archived], "next_page": null }));

    let deleted = app.delete(&path).await.ok();
    assert_eq!(deleted, json!({ "id": made["id"], "type": "environment_deleted" }));
    assert_eq!(app.get(&path).await.refused(404), "Environment not found.");
    assert_eq!(app.delete(&path).await.refused(404), "Environment not found.");
    assert_eq!(app.delete("/v1/environments/x").await.refused(400), "Invalid environment ID.");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let app = TestApp::new().await;
    for (config, start) in [
        (json!({ "type": "self_hosted" }), "config.type: self_hosted is not supported"),
        (
            json!({ "type": "cloud", "packages": { "pip": ["numpy"] } }),
            "config.packages.pip: is not supported",
        ),
        (
            json!({ "type": "cloud",
                    "networking": { "type": "limited", "allowed_hosts": ["a.b"] } }),
            "config.networking.allowed_hosts: is not supported",
        ),
        (json!({ "type": "moon" }), "Failed to parse request: config.type: \"moon\""),
    ] {
        let body = json!({ "name": "e", "config": config });
        let message = app.post("/v1/environments", body).await.refused(400);
        assert!(message.starts_with(start), "{message}");
    }
    let limited = json!({ "type": "anthropic_cloud", "networking": { "type": "limited" } });
    let made = app.post("/v1/environments", json!({ "name": "e", "config": limited })).await.ok();
    assert_eq!(made["config"]["type"], "cloud");
    assert_eq!(made["config"]["networking"]["allowed_hosts"], json!([]));
    let path = format!("/v1/environments/{}", made["id"].as_str().unwrap());
    let change = app.post(&path, json!({ "config": { "type": "self_hosted" } })).await;
    change.refused(400);
    assert_eq!(change.json()["error"]["details"]["error_code"], "invalid_config_type_change");
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let app = TestApp::new().await;
    for n in 0..5 {
        app.post("/v1/environments", json!({ "name": n.to_string() })).await.ok();
    }
    let first = app.get("/v1/environments?limit=3").await.ok();
    let next = first["next_page"].as_str().unwrap();
    let second = app.get(&format!("/v1/environments?limit=3&page={next}")).await.ok();
    let names: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page["data"].as_array().unwrap())
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["4", "3", "2", "1", "0"]);
    assert_eq!(second["next_page"], Value::Null);
    assert_eq!(app.get("/v1/environments?limit=1000").await.status, 200);
    app.get("/v1/environments?limit=1001").await.refused(400);
    let foreign = app.get(&format!("/v1/agents?page={next}")).await.refused(400);
    assert_eq!(foreign, "invalid page cursor");
}
