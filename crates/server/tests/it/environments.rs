//! Environments over HTTP.

use posthouse_protocol::environment::package_managers::PACKAGE_MANAGERS;
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
                    "networking": { "type": "limited", "allowed_hosts": ["a.b:443"] } }),
            "`allowed_hosts` entry \"a.b:443\" contains a port. Entries must be bare hostnames without \
             ports.",
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
async fn a_session_keeps_the_hosts_that_its_environment_had() {
    let app = TestApp::new().await;
    let networking = json!({
        "type": "limited", "allowed_hosts": ["API.example.com", "*.example.org"],
        "allow_mcp_servers": true, "allow_package_managers": true,
    });
    let body = json!({
        "name": "e", "config": { "type": "cloud", "networking": networking },
        "posthouse": { "passthrough_hosts": ["pinned.example.com"] },
    });
    let made = app.post("/v1/environments", body.clone()).await.ok();
    assert_eq!(made["config"]["networking"], networking);
    assert_eq!(made["posthouse"], body["posthouse"]);
    let agent = app.post("/v1/agents", json!({ "name": "a", "model": "test/m" })).await.ok();
    let session = json!({ "agent": agent["id"], "environment_id": made["id"] });
    let session = app.post("/v1/sessions", session).await.ok();
    let path = format!("/v1/environments/{}", made["id"].as_str().unwrap());
    assert_eq!(app.get(&path).await.ok(), made);
    let change = json!({
        "config": { "type": "cloud", "networking": { "type": "limited", "allowed_hosts": [] } },
        "posthouse": null,
    });
    let changed = app.post(&path, change).await.ok();
    assert_eq!(changed["config"]["networking"]["allow_package_managers"], true);
    assert_eq!(changed["config"]["networking"]["allowed_hosts"], json!([]));
    assert_eq!(changed.get("posthouse"), None);
    let own =
        format!("/v1/sessions/{}/events?posthouse_events=true", session["id"].as_str().unwrap());
    let opened = app.get(&own).await.ok()["data"][0].take();
    assert_eq!(opened["type"], "posthouse.session_opened");
    assert_eq!(opened["data"]["config"]["networking"], networking);
    assert_eq!(opened["data"]["passthrough_hosts"], json!(["pinned.example.com"]));
}

#[test]
fn the_hosts_of_package_managers_are_those_of_the_document() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SANDBOX.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (_, section) = document.split_once("### Package managers\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<_> = PACKAGE_MANAGERS
        .iter()
        .map(|one| {
            let hosts: Vec<_> = one.hosts.iter().map(|host| format!("`{host}`")).collect();
            format!("| {} | {} |", one.name, hosts.join(", "))
        })
        .collect();
    assert_eq!(rows, expected);
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
