//! What is wrong with a request before anybody looks at its meaning.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::app::{KEY, TestApp, send};

#[tokio::test]
async fn bodies_are_bounded() {
    let app = TestApp::new().await;
    let name = "x".repeat(33 * 1024 * 1024);
    let body = json!({ "name": name, "model": "test/m" }).to_string();
    // A streamed body has no length in front.
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        body.as_bytes().chunks(1 << 20).map(|chunk| Ok(chunk.to_vec())).collect();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let request = app.request(Method::POST, "/v1/agents").body(streamed);
    // The server may close before it has read everything; then the client sees a cut.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    // One that says its length in front is refused before it comes.
    let mut stream = tokio::net::TcpStream::connect(app.running.address).await.unwrap();
    let head = format!(
        "POST /v1/agents HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nconnection: close\r\n\
         content-length: 40000000\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("request_too_large"), "{answer}");
    let fits = "x".repeat(3 * 1024 * 1024);
    let reply = app.post("/v1/agents", json!({ "name": fits, "model": "test/m" })).await;
    assert!(reply.refused(400).starts_with("name: has 3145728 characters"));
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let app = TestApp::new().await;
    let post = |body: &str| send(app.request(Method::POST, "/v1/agents").body(body.to_owned()));
    for body in ["{", "nonsense", "{\"name\": }", "\u{fffd}"] {
        let message = post(body).await.refused(400);
        assert!(message.starts_with("Failed to parse request body: "), "{message}");
    }
    assert!(post("").await.refused(400).starts_with("name: is missing"));
    let zipped = app.request(Method::POST, "/v1/agents").header("content-encoding", "gzip");
    let reply = send(zipped.body("x")).await;
    reply.refused(400);
    assert_eq!(reply.json()["error"]["details"]["error_code"], "request_body_encoding_unsupported");
}

#[tokio::test]
async fn unknown_parameters_are_refused_by_name() {
    let app = TestApp::new().await;
    let message = app.get("/v1/agents?colour=red&beta=true").await.refused(400);
    assert_eq!(message, "colour: is no parameter of this request; leave it out");
    app.get("/v1/agents?beta=true").await.ok();
    let reply = app.post("/v1/agents?x=1", json!({ "name": "a", "model": "test/m" })).await;
    assert!(reply.refused(400).starts_with("x: is no parameter"));
}

#[tokio::test]
async fn every_answer_has_its_own_id() {
    let app = TestApp::new().await;
    let one = app.get("/v1/agents").await.headers["request-id"].clone();
    let other = app.get("/v1/agents").await.headers["request-id"].clone();
    assert_ne!(one, other);
}
