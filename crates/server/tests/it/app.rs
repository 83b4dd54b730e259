//! A real server on loopback with a temporary data folder, and a client without manners.

use std::{path::Path, sync::Arc, time::Duration};

use posthouse::{
    config::{Config, Egress, Files, Limits, Mcp, Sandbox, Vault, Web},
    start::{Running, start},
};
use posthouse_model::{Body, Catalog, ModelStream, Provider, Providers, Request};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;

/// The key of all test servers.
pub(crate) const KEY: &str = "a-key-for-tests";

/// A provider that serves `test/…` and `claude-…` and says nothing.
pub(crate) struct Silent;

impl Provider for Silent {
    fn name(&self) -> &str {
        "test"
    }

    fn claims(&self, model: &str) -> bool {
        model.starts_with("claude-")
    }

    fn render(&self, _: &Request) -> Body {
        Body::default()
    }

    fn stream(&self, _: Body) -> ModelStream {
        Box::pin(futures_util::stream::pending())
    }
}

/// A running server.
pub(crate) struct TestApp {
    pub(crate) running: Running,
    pub(crate) http: reqwest::Client,
    folder: Arc<TempDir>,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        assert!(self.headers["request-id"].to_str().unwrap().starts_with("req_"));
        self.json()
    }

    /// The message of a refusal with that status.
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        let body = self.json();
        assert_eq!(body["type"], "error");
        assert_eq!(body["request_id"], self.headers["request-id"].to_str().unwrap());
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// The configuration of a test server.
pub(crate) fn config(folder: &Path, providers: Vec<Arc<dyn Provider>>) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data: folder.to_owned(),
        log: String::new(),
        api_key: Some(KEY.into()),
        providers: Providers::new(providers, Catalog::built_in()),
        limits: Limits::default(),
        sandbox: Sandbox::default(),
        egress: Egress::default(),
        vault: Vault::default(),
        web: Web::default(),
        helper: env!("CARGO_BIN_EXE_posthouse").into(),
        files: Files::default(),
        mcp: Mcp::default(),
        harness: true,
    }
}

impl TestApp {
    /// A server with the silent provider.
    pub(crate) async fn new() -> Self {
        Self::with(vec![Arc::new(Silent)]).await
    }

    /// A server with those providers.
    pub(crate) async fn with(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self::on(Arc::new(TempDir::new().unwrap()), providers).await
    }

    async fn on(folder: Arc<TempDir>, providers: Vec<Arc<dyn Provider>>) -> Self {
        let running = start(config(folder.path(), providers)).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { running, http, folder }
    }

    /// Stops the server and starts another one on the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(vec![Arc::new(Silent)]).await
    }

    /// Stops the server and starts another one on the same folder, with those providers.
    pub(crate) async fn restart_with(self, providers: Vec<Arc<dyn Provider>>) -> Self {
        let Self { running, folder, .. } = self;
        running.stop(Duration::from_secs(1)).await;
        Self::on(folder, providers).await
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.bare(method, path).bearer_auth(KEY)
    }

    /// A request without a key.
    pub(crate) fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.running.url))
    }

    /// `GET`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    /// `POST`; null sends no body at all.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        let request = self.request(Method::POST, path);
        send(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str) -> Reply {
        send(self.request(Method::DELETE, path)).await
    }
}

/// Sends a request and reads what comes back.
pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}
