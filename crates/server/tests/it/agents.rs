//! Agents over HTTP. What bodies mean is tested in `protocol`; here: storing, versions, lists.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::app::TestApp;

async fn create(app: &TestApp, name: &str) -> Value {
    app.post("/v1/agents", json!({ "name": name, "model": "test/m" })).await.ok()
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap()
}

#[tokio::test]
async fn an_agent_is_shown_as_it_was_made() {
    let app = TestApp::new().await;
    let made = app
        .post(
            "/v1/agents?beta=true",
            json!({
                "name": "a", "model": { "id": "test/m" }, "system": "s",
                "tools": [{ "type": "agent_toolset_20260401" }], "metadata": { "k": "v" },
            }),
        )
        .await
        .ok();
    assert!(id(&made).starts_with("agent_") && id(&made).len() == "agent_".len() + 24);
    assert_eq!(made["version"], 1);
    assert_eq!(made["tools"][0]["configs"], json!([]));
    let path = format!("/v1/agents/{}", id(&made));
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(app.get(&format!("{path}?version=1")).await.ok(), made);
    let app = app.restart().await;
    assert_eq!(app.get(&path).await.ok(), made);
}

#[tokio::test]
async fn an_update_makes_a_version_or_nothing() {
    let app = TestApp::new().await;
    let made = create(&app, "a").await;
    let path = format!("/v1/agents/{}", id(&made));
    assert_eq!(app.post(&path, json!({ "name": "a", "version": 1 })).await.ok(), made);
    let second = app.post(&path, json!({ "name": "b", "version": 1 })).await.ok();
    assert_eq!((&second["version"], &second["name"]), (&json!(2), &json!("b")));
    assert_eq!(second["created_at"], made["created_at"]);
    let stale = app.post(&path, json!({ "version": 1 })).await;
    assert!(stale.refused(409).starts_with("Concurrent modification detected."));
    assert_eq!(stale.headers["x-should-retry"], "false");
    assert_eq!(app.get(&format!("{path}?version=1")).await.ok(), made);
    assert_eq!(app.get(&path).await.ok(), second);
    let versions = app.get(&format!("{path}/versions")).await.ok();
    assert_eq!(versions, json!({ "data": [second, made], "next_page": null }));
    assert_eq!(
        app.get(&format!("{path}?version=3")).await.refused(404),
        "Agent version not found."
    );
    let page = app.get(&format!("{path}/versions?limit=1")).await.ok();
    assert_eq!(page["data"][0]["version"], 2);
    let next = page["next_page"].as_str().unwrap();
    let page = app.get(&format!("{path}/versions?limit=1&page={next}")).await.ok();
    assert_eq!((&page["data"][0]["version"], &page["next_page"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn concurrent_updates_lose_nothing() {
    let app = TestApp::new().await;
    let path = format!("/v1/agents/{}", id(&create(&app, "a").await));
    let writes = (0..10).map(|n| {
        let body = json!({ "metadata": { format!("k{n}"): "v" } });
        app.post(&path, body)
    });
    let replies = futures_util::future::join_all(writes).await;
    let versions: HashSet<i64> =
        replies.into_iter().map(|reply| reply.ok()["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (2..=11).collect());
    let agent = app.get(&path).await.ok();
    assert_eq!(agent["metadata"].as_object().unwrap().len(), 10);
}

#[tokio::test]
async fn an_archived_agent_stays_readable_and_nothing_else() {
    let app = TestApp::new().await;
    let path = format!("/v1/agents/{}", id(&create(&app, "a").await));
    let second = app.post(&path, json!({ "name": "b" })).await.ok();
    let archived = app.post(&format!("{path}/archive"), Value::Null).await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!((&archived["version"], &archived["updated_at"]), (&json!(2), &second["updated_at"]));
    assert_eq!(app.post(&format!("{path}/archive"), json!({})).await.ok(), archived);
    assert_eq!(app.get(&path).await.ok(), archived);
    let refused = app.post(&path, json!({ "name": "c" })).await.refused(400);
    assert_eq!(refused, "Cannot modify archived agent");
    let first = app.get(&format!("{path}?version=1")).await.ok();
    assert_eq!((&first["name"], &first["archived_at"]), (&json!("a"), &archived["archived_at"]));
    let versions = app.get(&format!("{path}/versions")).await.ok();
    assert!(versions["data"].as_array().unwrap().iter().all(|one| one["archived_at"].is_string()));
    assert_eq!(app.get("/v1/agents").await.ok()["data"], json!([]));
    let all = app.get("/v1/agents?include_archived=true").await.ok();
    assert_eq!(all["data"], json!([archived]));
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let app = TestApp::new().await;
    let mut names = Vec::new();
    for n in 0..7 {
        names.insert(0, create(&app, &n.to_string()).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/agents?limit=3".to_owned();
    loop {
        let page = app.get(&path).await.ok();
        seen.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_page"].as_str() else { break };
        path = format!("/v1/agents?limit=3&page={next}");
    }
    assert_eq!(seen, names);
    let bound = names[2]["created_at"].as_str().unwrap();
    let later = app.get(&format!("/v1/agents?created_at[gte]={bound}")).await.ok();
    assert_eq!(later["data"].as_array().unwrap().len(), 3);
    let earlier = app.get(&format!("/v1/agents?created_at%5Blte%5D={bound}")).await.ok();
    assert_eq!(earlier["data"].as_array().unwrap().len(), 5);
    let next = app.get("/v1/agents?limit=3").await.ok();
    let next = next["next_page"].as_str().unwrap();
    let outside = app.get(&format!("/v1/agents?page={next}&created_at[gte]={bound}")).await;
    assert!(outside.status == 200, "the cursor stands on the bound: {}", outside.text);
    let newest = names[0]["created_at"].as_str().unwrap();
    let outside = app.get(&format!("/v1/agents?page={next}&created_at[gte]={newest}")).await;
    assert!(outside.refused(400).starts_with("created_at: leaves out"));
    assert_eq!(app.get("/v1/agents?page=page_x").await.refused(400), "invalid page cursor");
    for limit in ["0", "101", "x"] {
        let refused = app.get(&format!("/v1/agents?limit={limit}")).await.refused(400);
        assert_eq!(refused, format!("limit: is {limit}; send a whole number from 1 to 100"));
    }
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let app = TestApp::new().await;
    let refused = |body: Value| {
        let app = &app;
        async move { app.post("/v1/agents", body).await.refused(400) }
    };
    assert!(refused(json!({ "model": "test/m" })).await.starts_with("name: is missing"));
    let unknown = refused(json!({ "name": "a", "model": "gpt-5" })).await;
    assert!(unknown.starts_with("model: no configured provider serves \"gpt-5\""), "{unknown}");
    assert!(unknown.contains("configured: test"), "{unknown}");
    assert!(
        refused(json!({ "name": "a", "model": "test/m", "skills": [{}] }))
            .await
            .starts_with("skills: is not supported by this version")
    );
    assert!(refused(json!([])).await.starts_with("request body: is a list"));
    assert_eq!(app.get("/v1/agents/nope").await.refused(400), "Invalid agent ID.");
    assert_eq!(app.get("/v1/agents/env_1").await.refused(400), "Invalid agent ID.");
    assert_eq!(app.get("/v1/agents/agent_1").await.refused(404), "Agent not found.");
    assert_eq!(app.get("/v1/agents/agent_1/versions").await.refused(404), "Agent not found.");
    assert_eq!(app.get("/v1/agents/agent_1?version=1").await.refused(404), "Agent not found.");
    assert_eq!(
        app.post("/v1/agents/agent_1/archive", Value::Null).await.refused(404),
        "Agent not found."
    );
}

#[tokio::test]
async fn the_catalogue_settles_the_effort() {
    let app = TestApp::new().await;
    let agent =
        app.post("/v1/agents", json!({ "name": "a", "model": "claude-fable-5-2" })).await.ok();
    assert_eq!(
        agent["model"],
        json!({
            "id": "claude-fable-5-2", "effort": { "type": "high" }, "speed": "standard",
            "inference_geo": null,
        })
    );
}
