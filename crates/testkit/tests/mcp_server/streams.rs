//! Streams of events: progress, ends before their time, and who leaves.

use posthouse_testkit::{McpServer, Switches};
use reqwest::Method;
use serde_json::json;

use crate::client::Client;

const SLOW: &str = "slow";

async fn text(answer: reqwest::Response) -> String {
    answer.text().await.unwrap()
}

#[tokio::test]
async fn progress_is_told_to_who_asks_for_it() {
    let server = McpServer::start(Switches { sse: true, ..Switches::default() }).await;
    let client = Client::shake(&server, "2025-11-25").await;
    let params = json!({"name": SLOW, "arguments": {"ms": 30}, "_meta": {"progressToken": "p"}});
    let told = text(client.send("tools/call", params, &[]).await).await;
    assert_eq!(told.matches("notifications/progress").count(), 10, "{told}");
    assert!(told.contains("\"text\":\"done\""), "{told}");
    let params = json!({"name": SLOW, "arguments": {"ms": 30}});
    let told = text(client.send("tools/call", params, &[]).await).await;
    assert_eq!(told.matches("data: ").count(), 1, "{told}");
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on_behind_the_last_event() {
    let server = McpServer::start(Switches {
        sse: true,
        cut: Some(2),
        retry_ms: Some(5),
        ..Switches::default()
    })
    .await;
    let client = Client::shake(&server, "2025-11-25").await;
    let params = json!({"name": SLOW, "arguments": {"ms": 30}, "_meta": {"progressToken": 1}});
    let first = text(client.send("tools/call", params.clone(), &[]).await).await;
    assert!(first.starts_with("id: 0-0\nretry: 5\ndata:\n\n"), "{first}");
    assert!(first.contains("id: 0-2\n") && !first.contains("id: 0-3\n"), "{first}");
    let again = client
        .request(Method::GET)
        .header("accept", "text/event-stream")
        .header("last-event-id", "0-2");
    let rest = text(again.send().await.unwrap()).await;
    assert!(rest.starts_with("id: 0-3\n") && rest.contains("\"text\":\"done\""), "{rest}");
    assert_eq!(server.counts()[SLOW], 1);
    server.switch(|switches| switches.cut_hard = true);
    let broken = client.send("tools/call", params, &[]).await;
    assert!(broken.text().await.is_err(), "a broken connection is no end");
}

#[tokio::test]
async fn who_leaves_and_who_cancels_is_noted() {
    let server = McpServer::start(Switches::default()).await;
    let client = Client::shake(&server, "2025-11-25").await;
    let params = json!({"name": SLOW, "arguments": {"ms": 600_000}, "_meta": {"progressToken": 1}});
    let left = client.send("tools/call", params, &[]).await;
    drop(left);
    while server.abandoned().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}});
    assert_eq!(client.post().body(cancel.to_string()).send().await.unwrap().status(), 202);
    assert_eq!(server.abandoned(), [json!(1), json!(77)]);
}
