//! Nothing answers without a key.

use reqwest::Method;
use serde_json::json;

use crate::app::{KEY, TestApp, send};

#[tokio::test]
async fn every_route_asks_for_a_key() {
    let app = TestApp::new().await;
    let routes = posthouse::api::routes();
    assert!(routes.len() >= 7);
    for route in routes.iter().map(|route| route.path) {
        let path: String = route
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in
            [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::PATCH, Method::OPTIONS]
        {
            let reply = send(app.bare(method.clone(), &path)).await;
            let message = reply.refused(401);
            assert_eq!(message, "Authentication failed", "{method} {route}");
            assert_eq!(reply.json()["error"]["type"], "authentication_error");
            assert_eq!(reply.headers["x-should-retry"], "false");
        }
    }
}

#[tokio::test]
async fn a_path_that_does_not_exist_says_so_to_everybody() {
    let app = TestApp::new().await;
    for path in ["/", "/v1", "/v1/nothing", "/v1/agents/a/b/c", "/v1/agents/"] {
        let reply = send(app.bare(Method::GET, path)).await;
        assert_eq!(reply.refused(404), "Not found", "{path}");
        assert_eq!(reply.json()["error"]["type"], "not_found_error");
    }
    let reply = send(app.request(Method::PUT, "/v1/agents")).await;
    assert_eq!(reply.refused(405), "Method Not Allowed");
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    assert_eq!(reply.headers["allow"], "GET,HEAD,POST");
}

#[tokio::test]
async fn a_key_comes_in_either_header() {
    let app = TestApp::new().await;
    let get = || app.bare(Method::GET, "/v1/agents");
    let token = app.running.token().to_owned();
    let reply = send(get().header("x-api-key", KEY)).await;
    assert_eq!(reply.status, 200);
    assert!(reply.headers.contains_key("anthropic-organization-id"));
    assert_eq!(reply.headers["anthropic-workspace-id"], "wrkspc_default");
    assert_eq!(send(get().header("authorization", format!("bearer {KEY}"))).await.status, 200);
    assert_eq!(send(get().bearer_auth(&token)).await.status, 200);
    assert_eq!(send(get().bearer_auth(KEY).header("x-api-key", KEY)).await.status, 200);
    for request in [
        get().bearer_auth("wrong"),
        get().bearer_auth(""),
        get().header("authorization", KEY),
        get().header("authorization", format!("Basic {KEY}")),
        get().header("x-api-key", ""),
        get().bearer_auth(KEY).header("x-api-key", "wrong"),
        get().bearer_auth(KEY).header("x-api-key", &token),
    ] {
        assert_eq!(send(request).await.refused(401), "Authentication failed");
    }
    let workspace = |name: &str| get().bearer_auth(KEY).header("anthropic-workspace-id", name);
    assert_eq!(send(workspace("wrkspc_default")).await.status, 200);
    assert!(send(workspace("wrkspc_x")).await.refused(403).starts_with("anthropic-workspace-id"));
}

#[tokio::test]
async fn things_of_another_key_and_the_same_workspace_are_shared() {
    let app = TestApp::new().await;
    let made = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let path = format!("/v1/environments/{}", made["id"].as_str().unwrap());
    let token = app.running.token().to_owned();
    assert_eq!(send(app.bare(Method::GET, &path).bearer_auth(token)).await.ok(), made);
}
