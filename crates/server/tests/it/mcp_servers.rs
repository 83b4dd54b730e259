//! Agents' MCP servers over HTTP: that they are stored, and what environments keep out of reach.

use serde_json::{Value, json};

use crate::app::TestApp;

fn agent(servers: &[(&str, &str)]) -> Value {
    let toolsets: Vec<_> = servers
        .iter()
        .map(|(name, _)| json!({ "type": "mcp_toolset", "mcp_server_name": name }))
        .collect();
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, url)| json!({ "type": "url", "name": name, "url": url }))
        .collect();
    json!({ "mcp_servers": servers, "tools": toolsets })
}

async fn create(app: &TestApp, servers: &[(&str, &str)]) -> Value {
    let mut body = agent(servers);
    body["name"] = "a".into();
    body["model"] = "test/m".into();
    app.post("/v1/agents", body).await.ok()
}

async fn environment(app: &TestApp, hosts: &[&str], allow_mcp_servers: bool) -> Value {
    let networking = json!({
        "type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": allow_mcp_servers,
    });
    let config = json!({ "type": "cloud", "networking": networking });
    app.post("/v1/environments", json!({ "name": "e", "config": config })).await.ok()["id"].take()
}

#[tokio::test]
async fn servers_and_options_are_shown_as_they_were_made() {
    let app = TestApp::new().await;
    let body = json!({
        "name": "a", "model": "test/m",
        "mcp_servers": [
            { "type": "url", "name": "docs", "url": "https://mcp.example.com/mcp" },
            { "type": "posthouse_stdio", "name": "files", "command": "npx", "env": { "A": "1" } },
        ],
        "tools": [
            {
                "type": "agent_toolset_20260401",
                "configs": [{ "name": "web_fetch", "allowed_domains": ["docs.rs"] }],
            },
            { "type": "mcp_toolset", "mcp_server_name": "docs" },
            { "type": "mcp_toolset", "mcp_server_name": "files" },
        ],
        "posthouse": { "mcp_elicitation": "defaults" },
    });
    let made = app.post("/v1/agents", body).await.ok();
    assert_eq!(made["mcp_servers"][1]["args"], json!([]));
    assert_eq!(made["posthouse"], json!({ "fallback": [], "mcp_elicitation": "defaults" }));
    assert_eq!(made["tools"][0]["configs"][0]["allowed_domains"], json!(["docs.rs"]));
    assert_eq!(
        made["tools"][1]["default_config"],
        json!({ "enabled": true, "permission_policy": { "type": "always_ask" } })
    );
    let path = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    // What is shown may be sent back, and changes nothing.
    let same = json!({
        "tools": made["tools"], "mcp_servers": made["mcp_servers"], "posthouse": made["posthouse"],
    });
    assert_eq!(app.post(&path, same).await.ok(), made);
    let app = app.restart().await;
    assert_eq!(app.get(&path).await.ok(), made);
    let none = json!({ "tools": [], "mcp_servers": null });
    let cleared = app.post(&path, none).await.ok();
    assert_eq!((&cleared["version"], &cleared["mcp_servers"]), (&json!(2), &json!([])));
    assert_eq!(app.get(&format!("{path}?version=1")).await.ok(), made);
}

#[tokio::test]
async fn a_search_without_a_back_end_is_refused_where_it_is_named() {
    let app = TestApp::new().await;
    let with = |configs: Value| {
        let toolset = json!({ "type": "agent_toolset_20260401", "configs": configs });
        json!({ "name": "a", "model": "test/m", "tools": [toolset] })
    };
    app.post("/v1/agents", with(json!([]))).await.ok();
    app.post("/v1/agents", with(json!([{ "name": "web_search", "enabled": false }]))).await.ok();
    let message =
        app.post("/v1/agents", with(json!([{ "name": "web_search" }]))).await.refused(400);
    assert!(message.contains("web_search needs a search back end"), "{message}");
}

#[tokio::test]
async fn a_session_begins_only_where_its_servers_can_be_reached() {
    let app = TestApp::new().await;
    let made =
        create(&app, &[("a", "https://mcp.example.com/mcp"), ("b", "http://10.1.2.3")]).await;
    let begin = async |environment: &Value| {
        let body = json!({ "agent": made["id"], "environment_id": environment });
        app.post("/v1/sessions", body).await
    };
    for (hosts, closed) in [
        (&[][..], Some(0)),
        (&["*.example.com"], Some(1)),
        (&["10.1.2.3", "example.com"], Some(0)),
        (&["MCP.example.com", "10.1.2.3"], None),
    ] {
        let reply = begin(&environment(&app, hosts, false).await).await;
        let Some(index) = closed else {
            reply.ok();
            continue;
        };
        let message = reply.refused(400);
        let start = format!(
            "agent.mcp_servers[{index}]: the environment does not let {:?} through to ",
            ["a", "b"][index]
        );
        assert!(message.starts_with(&start), "{message}");
    }
    begin(&environment(&app, &[], true).await).await.ok();
    // What runs in the sandbox is reached anyway.
    let stdio = json!({
        "type": "agent_with_overrides", "id": made["id"],
        "mcp_servers": [{ "type": "posthouse_stdio", "name": "a", "command": "x" }],
        "tools": [{ "type": "mcp_toolset", "mcp_server_name": "a" }],
    });
    let body = json!({ "agent": stdio, "environment_id": environment(&app, &[], false).await });
    app.post("/v1/sessions", body).await.ok();
}

#[tokio::test]
async fn a_session_may_get_other_servers_while_it_rests() {
    let app = TestApp::new().await;
    let made = create(&app, &[("a", "https://mcp.example.com/mcp")]).await;
    let environment = environment(&app, &["mcp.example.com", "other.example.com"], false).await;
    let body = json!({ "agent": made["id"], "environment_id": environment });
    let session = app.post("/v1/sessions", body).await.ok();
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let change =
        async |servers: &[(&str, &str)]| app.post(&path, json!({ "agent": agent(servers) })).await;
    let closed = change(&[("a", "https://closed.example.com")]).await.refused(400);
    assert!(closed.starts_with("agent.mcp_servers[0]: the environment does not let"), "{closed}");
    let orphan = app.post(&path, json!({ "agent": { "tools": [] } })).await.refused(400);
    assert!(orphan.starts_with("agent.mcp_servers [a] declared but"), "{orphan}");
    assert_eq!(app.get(&path).await.ok()["agent"], session["agent"]);

    let changed = change(&[("b", "https://other.example.com")]).await.ok();
    assert_eq!(changed["agent"]["mcp_servers"][0]["name"], "b");
    assert_eq!(changed["agent"]["tools"][0]["mcp_server_name"], "b");
    let events = app.get(&format!("{path}/events?types[]=session.updated")).await.ok();
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
    assert_eq!(events["data"][0]["agent"], changed["agent"]);
    let none = json!({ "agent": { "tools": null, "mcp_servers": [] } });
    assert_eq!(app.post(&path, none).await.ok()["agent"]["mcp_servers"], json!([]));
    let agent = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    assert_eq!(app.get(&agent).await.ok(), made);
}
