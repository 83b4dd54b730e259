//! The fake MCP server is what its switches say: the good one is good, the bad one bad as told.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod client;
mod hostile;
mod stdio;
mod streams;

use client::Client;
use posthouse_testkit::{McpServer, Switches};
use serde_json::json;

#[tokio::test]
async fn a_handshake_agrees_on_a_revision_and_gives_a_session() {
    let server = McpServer::start(Switches::default()).await;
    for (wanted, agreed) in
        [("2025-06-18", "2025-06-18"), ("2025-11-25", "2025-11-25"), ("2026-07-28", "2025-11-25")]
    {
        let client = Client::shake(&server, wanted).await;
        assert_eq!(client.agreed["protocolVersion"], agreed);
    }
    let sessions = server.sessions();
    assert_eq!(sessions.len(), 3);
    let mut stranger = Client::new(&server);
    assert_eq!(stranger.ask("tools/list", json!({})).await.0, 400);
    stranger.session = Some("session-0".to_owned());
    assert_eq!(stranger.ask("tools/list", json!({})).await.0, 404);
    stranger.session = Some(sessions[1].clone());
    assert_eq!(stranger.ask("tools/list", json!({})).await.0, 200);
    server.forget_sessions();
    assert_eq!(stranger.ask("tools/list", json!({})).await.0, 404);
    let statuses: Vec<_> = server.asked().iter().rev().take(4).map(|asked| asked.status).collect();
    assert_eq!(statuses, [404, 200, 404, 400]);
}

#[tokio::test]
async fn without_a_handshake_everything_is_in_the_request() {
    let switches = |oldest: &str| Switches {
        revision: "2026-07-28".into(),
        oldest: oldest.into(),
        ttl_ms: Some(5000),
        ..Switches::default()
    };
    let server = McpServer::start(switches("2026-07-28")).await;
    let client = Client::new(&server);
    let (status, answer) = client.ask("initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(-32022)));
    assert_eq!(answer["error"]["data"]["supported"], json!(["2026-07-28"]));
    let (status, answer) = client.stateless("server/discover", json!({})).await;
    assert_eq!((status, &answer["result"]["supportedVersions"]), (200, &json!(["2026-07-28"])));
    let (_, answer) = client.stateless("tools/list", json!({})).await;
    assert_eq!(
        (&answer["result"]["ttlMs"], &answer["result"]["cacheScope"]),
        (&json!(5000), &json!("private"))
    );
    let call = json!({"name": "echo", "arguments": {"text": "hello"}});
    let (_, answer) = client.stateless("tools/call", call.clone()).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hello");
    assert_eq!(answer["result"]["resultType"], "complete");
    let (status, answer) = client.with_headers("tools/call", call, &[("mcp-name", "add")]).await;
    assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(-32020)));
    // One that knows both takes both.
    let both = McpServer::start(switches("2025-06-18")).await;
    assert_eq!(Client::shake(&both, "2025-11-25").await.agreed["protocolVersion"], "2025-11-25");
    assert_eq!(Client::new(&both).stateless("server/discover", json!({})).await.0, 200);
}

#[tokio::test]
async fn tools_give_what_their_names_say() {
    let server = McpServer::start(Switches::default()).await;
    let client = Client::shake(&server, "2025-11-25").await;
    assert_eq!(client.call("echo", json!({"text": "a\nb"})).await["content"][0]["text"], "a\nb");
    assert_eq!(client.call("add", json!({"a": 2, "b": 3})).await["content"][0]["text"], "5");
    for (tool, kind) in [
        ("image", "image"),
        ("pdf", "resource"),
        ("resource", "resource"),
        ("link", "resource_link"),
    ] {
        assert_eq!(client.call(tool, json!({})).await["content"][0]["type"], kind, "{tool}");
    }
    assert_eq!(
        client.call("structured", json!({})).await["structuredContent"],
        json!({"answer": 42})
    );
    assert_eq!(client.call("fail", json!({})).await["isError"], true);
    let big = client.call("big", json!({"bytes": 200_000})).await;
    assert_eq!(big["content"][0]["text"].as_str().unwrap().len(), 200_000);
    client.call("count", json!({})).await;
    assert_eq!(client.call("count", json!({})).await["content"][0]["text"], "2");
    assert_eq!(server.counts()["count"], 2);
    let whoami = client.call("whoami", json!({})).await.to_string();
    assert!(whoami.contains("mcp-session-id"), "{whoami}");
    for (params, code) in [(json!({"name": "none"}), -32602), (json!({"name": "echo"}), -32602)] {
        assert_eq!(client.ask("tools/call", params).await.1["error"]["code"], code);
    }
    assert_eq!(client.ask("no/such", json!({})).await.1["error"]["code"], -32601);
}

#[tokio::test]
async fn a_list_comes_in_pages_and_changes() {
    let switches = Switches { tools: 25, page: 10, ..Switches::default() };
    let server = McpServer::start(switches).await;
    let client = Client::shake(&server, "2025-11-25").await;
    let (names, pages) = client.names().await;
    assert!(names.contains(&"tool_0025".to_owned()), "{names:?}");
    assert_eq!((names.len(), pages), (39, 4));
    assert_eq!(
        client.ask("tools/list", json!({"cursor": "from-99"})).await.1["error"]["code"],
        -32602
    );
    let mut news = client.listen().await;
    server.change_tools();
    assert_eq!(client::event(&mut news).await["method"], "notifications/tools/list_changed");
    client.call("change", json!({})).await;
    assert_eq!(client::event(&mut news).await["method"], "notifications/tools/list_changed");
    let (names, _) = client.names().await;
    assert!(names.ends_with(&["added_1".to_owned(), "added_2".to_owned()]), "{names:?}");
}

#[tokio::test]
async fn a_token_is_wanted_until_it_is_used_up_and_a_scope_until_it_is_given() {
    let server = McpServer::start(Switches {
        token: Some("right".into()),
        resource_metadata: Some("http://127.0.0.1/meta".into()),
        sessions: false,
        ..Switches::default()
    })
    .await;
    let mut client = Client::new(&server);
    let challenge = client.challenge().await;
    assert_eq!(challenge, (401, "Bearer resource_metadata=\"http://127.0.0.1/meta\"".to_owned()));
    client.token = Some("wrong".into());
    assert!(client.challenge().await.1.contains("invalid_token"));
    client.token = Some("right".into());
    assert_eq!(client.ask("tools/list", json!({})).await.0, 200);
    server.switch(|switches| switches.token_uses = Some(1));
    assert_eq!(client.ask("tools/list", json!({})).await.0, 200);
    assert_eq!(client.challenge().await.0, 401);
    server.switch(|switches| {
        switches.token_uses = None;
        switches.lacks_scope = Some("tools:call".into());
    });
    assert_eq!(client.ask("tools/list", json!({})).await.0, 200);
    let (status, challenge) = client.challenge().await;
    assert_eq!(status, 403);
    assert!(challenge.contains("insufficient_scope") && challenge.contains("scope=\"tools:call\""));
}

#[tokio::test]
async fn it_is_steered_and_read_over_http() {
    let server = McpServer::start(Switches::default()).await;
    let client = Client::shake(&server, "2025-11-25").await;
    let shown = client.control("GET", "", json!(null)).await.1;
    assert_eq!(shown["asked"][0]["message"]["method"], "initialize");
    assert_eq!(
        client.control("PATCH", "/switches", json!({"status": 503, "page": 2})).await.0,
        200
    );
    assert_eq!(client.ask("tools/list", json!({})).await.0, 503);
    assert_eq!(client.control("PATCH", "/switches", json!({"no_such": 1})).await.0, 400);
    client.control("PATCH", "/switches", json!({"status": null})).await;
    assert_eq!(client.names().await.1, 7);
    client.control("DELETE", "", json!(null)).await;
    assert_eq!(client.control("GET", "", json!(null)).await.1["asked"], json!([]));
}
