//! A bare client of the fake MCP server. Never asserts on what a test is about.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use posthouse_testkit::McpServer;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) session: Option<String>,
    pub(crate) token: Option<String>,
    /// What the handshake has given.
    pub(crate) agreed: Value,
    next: AtomicU64,
}

impl Client {
    pub(crate) fn new(server: &McpServer) -> Self {
        let policy = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder().redirect(policy).build().unwrap();
        let (url, next) = (server.url(), AtomicU64::new(0));
        Self { http, url, session: None, token: None, agreed: Value::Null, next }
    }

    pub(crate) async fn shake(server: &McpServer, revision: &str) -> Self {
        let mut client = Self::new(server);
        let answer = client.send("initialize", json!({"protocolVersion": revision}), &[]).await;
        client.session =
            answer.headers().get("mcp-session-id").map(|value| value.to_str().unwrap().to_owned());
        client.agreed = message(answer).await.1["result"].take();
        let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(client.post().body(told.to_string()).send().await.unwrap().status(), 202);
        client
    }

    pub(crate) fn post(&self) -> RequestBuilder {
        self.request(Method::POST).header("accept", "application/json, text/event-stream")
    }

    pub(crate) fn request(&self, method: Method) -> RequestBuilder {
        let mut request = self.http.request(method, &self.url).timeout(PATIENCE);
        request = request.header("content-type", "application/json");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        params: Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut request = self.post();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.to_string()).send().await.unwrap()
    }

    /// Status and answer.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> (u16, Value) {
        message(self.send(method, params, &[]).await).await
    }

    pub(crate) async fn stateless(&self, method: &str, params: Value) -> (u16, Value) {
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        self.with_headers(method, params, &[("mcp-name", &name)]).await
    }

    pub(crate) async fn with_headers(
        &self,
        method: &str,
        mut params: Value,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
        let mut all = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        all.extend(headers);
        message(self.send(method, params, &all).await).await
    }

    pub(crate) async fn call(&self, name: &str, arguments: Value) -> Value {
        let params = json!({"name": name, "arguments": arguments});
        let (status, mut answer) = self.ask("tools/call", params).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"].take()
    }

    /// The names of all tools, and how many pages they were on.
    pub(crate) async fn names(&self) -> (Vec<String>, u32) {
        let (mut names, mut pages, mut params) = (Vec::new(), 0, json!({}));
        loop {
            let (_, answer) = self.ask("tools/list", params).await;
            let result = &answer["result"];
            pages += 1;
            let tools = result["tools"].as_array().unwrap();
            names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            match result["nextCursor"].as_str() {
                Some(next) => params = json!({"cursor": next}),
                None => return (names, pages),
            }
        }
    }

    /// Status and challenge of a call.
    pub(crate) async fn challenge(&self) -> (u16, String) {
        let answer = self.send("tools/call", json!({"name": "count"}), &[]).await;
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), challenge)
    }

    /// A stream of what the server says unasked, past its first word.
    pub(crate) async fn listen(&self) -> Response {
        let mut stream =
            self.request(Method::GET).header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream.chunk().await.unwrap();
        stream
    }

    pub(crate) async fn control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url.replace("/mcp", "/control"));
        let method: Method = method.parse().unwrap();
        let request = self.http.request(method, url).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }
}

/// Status and message of an answer; of a stream, its last message.
pub(crate) async fn message(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: "));
    (status, serde_json::from_str(last.unwrap_or(&text)).unwrap_or_default())
}

/// The next event of a stream.
pub(crate) async fn event(stream: &mut Response) -> Value {
    let chunk = stream.chunk().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&chunk).into_owned();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}
