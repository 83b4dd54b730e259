//! What a hostile server does, one by one.

use std::collections::HashSet;

use posthouse_testkit::{Hostility, McpServer, Switches};
use serde_json::{Value, json};

use crate::client::{Client, message};

async fn server(hostile: Hostility) -> (McpServer, Client) {
    let server =
        McpServer::start(Switches { sessions: false, page: 5, ..Switches::default() }).await;
    server.switch(|switches| {
        switches.hostile = vec![hostile];
        switches.redirect = "http://127.0.0.1:1/elsewhere".to_owned();
    });
    let client = Client::new(&server);
    (server, client)
}

async fn page(client: &Client) -> Value {
    client.ask("tools/list", json!({})).await.1["result"].take()
}

#[tokio::test]
async fn lists_do_not_end() {
    let (_server, client) = server(Hostility::EndlessPages).await;
    let cursors: HashSet<String> = [page(&client).await, page(&client).await]
        .iter()
        .map(|page| page["nextCursor"].to_string())
        .collect();
    assert_eq!(cursors.len(), 2);
    let (_server, client) = server(Hostility::RepeatedCursor).await;
    assert_eq!(page(&client).await["nextCursor"], page(&client).await["nextCursor"]);
}

#[tokio::test]
async fn lists_are_not_what_they_should_be() {
    for (hostile, holds) in [
        (Hostility::DuplicatedNames, "Not the first of its name"),
        (Hostility::ControlCharacters, "\\u001b[31mred"),
        (Hostility::WrongTypes, "{\"name\":7}"),
        (Hostility::HugeDescriptions, &"huge ".repeat(200_000)),
    ] {
        let (server, client) = server(hostile).await;
        assert!(!Client::new(&server).url.is_empty());
        server.switch(|switches| switches.page = 0);
        let page = page(&client).await;
        assert!(page["tools"].to_string().contains(holds), "{hostile:?}");
    }
}

#[tokio::test]
async fn answers_do_not_end_or_are_none() {
    let call = json!({"name": "echo", "arguments": {"text": "x"}});
    for hostile in [Hostility::EndlessResult, Hostility::EndlessEvents] {
        let (_server, client) = server(hostile).await;
        let mut answer = client.send("tools/call", call.clone(), &[]).await;
        let mut bytes = 0;
        while bytes < 1 << 20 {
            bytes += answer.chunk().await.unwrap().unwrap().len();
        }
    }
    let (_server, client) = server(Hostility::NotJson).await;
    assert_eq!(client.ask("tools/call", call.clone()).await, (200, Value::Null));
    let (_server, client) = server(Hostility::WrongIds).await;
    assert_eq!(client.ask("tools/call", call.clone()).await.1["id"], "somebody-else");
    let (_server, client) = server(Hostility::ForNobody).await;
    let answers = client.send("tools/call", call.clone(), &[]).await.text().await.unwrap();
    assert_eq!(answers.matches("for nobody").count(), 4, "{answers}");
    let (_server, client) = server(Hostility::Redirect).await;
    let answer = client.send("tools/call", call.clone(), &[]).await;
    assert_eq!(answer.headers()["location"], "http://127.0.0.1:1/elsewhere");
    assert_eq!(message(answer).await.0, 307);
    let (_server, client) = server(Hostility::Drip).await;
    let mut answer = client.send("ping", json!({}), &[]).await;
    assert_eq!(answer.chunk().await.unwrap().unwrap().len(), 1);
    let (_server, client) = server(Hostility::Silent).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let silent = client.post().timeout(std::time::Duration::from_millis(300)).body(body);
    assert!(silent.send().await.unwrap_err().is_timeout());
    // One that dies breaks the connection off.
    let (quiet, client) = server(Hostility::WrongTypes).await;
    let died =
        client.send("tools/call", json!({"name": "die", "arguments": {"code": 3}}), &[]).await;
    assert!(died.text().await.is_err());
    assert_eq!(quiet.counts()["die"], 1);
}
