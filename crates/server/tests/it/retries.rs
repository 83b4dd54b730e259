//! A client's own retry does nothing twice, and nothing else is taken for one.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, send};

async fn post(app: &TestApp, name: &str, headers: &[(&str, &str)]) -> Reply {
    let body = json!({ "name": name }).to_string();
    let mut request = app.request(Method::POST, "/v1/environments").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

async fn count(app: &TestApp) -> usize {
    let page: Value = app.get("/v1/environments").await.ok();
    page["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_retry_after_a_crash_gets_the_first_answer() {
    let app = TestApp::new().await;
    let first = post(&app, "e", &[("x-stainless-retry-count", "0")]).await.ok();
    let app = app.restart().await;
    let retry = [("x-stainless-retry-count", "1")];
    assert_eq!(post(&app, "e", &retry).await.ok(), first);
    assert_eq!(count(&app).await, 1);
    // Each append is matched once: what comes now is new.
    assert_ne!(post(&app, "e", &retry).await.ok(), first);
    assert_eq!(count(&app).await, 2);
}

#[tokio::test]
async fn an_answer_that_arrived_is_not_repeated() {
    let app = TestApp::new().await;
    let first = post(&app, "e", &[]).await.ok();
    assert_ne!(post(&app, "e", &[]).await.ok(), first);
    let retried = post(&app, "e", &[("x-stainless-retry-count", "1")]).await.ok();
    assert_ne!(retried, first);
    assert_eq!(count(&app).await, 3);
}

#[tokio::test]
async fn an_idempotency_key_is_honoured() {
    let app = TestApp::new().await;
    let key = [("idempotency-key", "k-1")];
    let first = post(&app, "e", &key).await.ok();
    assert_eq!(post(&app, "e", &key).await.ok(), first);
    let app = app.restart().await;
    assert_eq!(post(&app, "e", &key).await.ok(), first);
    assert_eq!(count(&app).await, 1);
    let clash = post(&app, "f", &key).await;
    assert!(clash.refused(409).starts_with("Idempotency-Key: was used for another request"));
    assert_eq!(clash.headers["x-should-retry"], "false");
    assert!(post(&app, "e", &[("idempotency-key", "")]).await.refused(400).contains("1 to 255"));
}

#[tokio::test]
async fn a_refused_post_is_not_kept() {
    let app = TestApp::new().await;
    let key = [("idempotency-key", "k-1")];
    post(&app, "", &key).await.refused(400);
    post(&app, "e", &key).await.ok();
}

#[tokio::test]
async fn two_at_once_with_one_key_are_one() {
    let app = TestApp::new().await;
    let key = [("idempotency-key", "k-1")];
    let replies = futures_util::future::join_all((0..8).map(|_| post(&app, "e", &key))).await;
    let ids: std::collections::HashSet<String> =
        replies.into_iter().map(|reply| reply.ok()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(count(&app).await, 1);
}
