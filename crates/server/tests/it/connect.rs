//! `posthouse vaults connect` against a server and an authorization server on loopback; the test is the
//! browser.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use posthouse::{
    config::Egress,
    start::{Running, start},
};
use reqwest::{Method, header::HOST};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use url::Url;

use crate::{
    app::{KEY, Reply, Silent, config, send},
    command_line::posthouse,
};

/// An MCP server that wants a token, and who gives it.
#[derive(Default)]
struct Origin {
    base: Mutex<String>,
    /// Requests of any kind.
    asked: AtomicUsize,
    registered: AtomicUsize,
    given: AtomicUsize,
    /// What it was last shown for a token.
    shown: Mutex<Option<String>>,
}

impl Origin {
    async fn start(serving: &mut JoinSet<()>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Arc::new(Self::default());
        *origin.base.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/mcp", post(mcp))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource))
            .route("/.well-known/oauth-authorization-server", get(description))
            .route("/register", post(register))
            .route("/token", post(token))
            .with_state(Arc::clone(&origin));
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        origin
    }

    fn base(&self) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.base.lock().unwrap().clone()
    }
}

async fn mcp(State(origin): State<Arc<Origin>>, headers: HeaderMap) -> impl IntoResponse {
    let at = format!("{}/.well-known/oauth-protected-resource/mcp", origin.base());
    let shown = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    *origin.shown.lock().unwrap() = shown;
    let challenge = format!("Bearer resource_metadata=\"{at}\"");
    let status = if headers.contains_key("authorization") {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    };
    (status, [("www-authenticate", challenge)])
}

async fn resource(State(origin): State<Arc<Origin>>) -> Json<Value> {
    let base = origin.base();
    Json(json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base] }))
}

async fn description(State(origin): State<Arc<Origin>>) -> Json<Value> {
    let base = origin.base();
    Json(json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "registration_endpoint": format!("{base}/register"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }))
}

async fn register(State(origin): State<Arc<Origin>>, Json(asked): Json<Value>) -> Json<Value> {
    origin.base();
    let number = origin.registered.fetch_add(1, Ordering::SeqCst) + 1;
    let redirect_uris = &asked["redirect_uris"];
    Json(json!({ "client_id": format!("client-{number}"), "redirect_uris": redirect_uris }))
}

async fn token(State(origin): State<Arc<Origin>>, body: Bytes) -> Json<Value> {
    origin.base();
    let number = origin.given.fetch_add(1, Ordering::SeqCst) + 1;
    // What the browser has brought decides what is given.
    let mut form = url::form_urlencoded::parse(&body);
    let odd = form.any(|(name, value)| name == "code" && value == "odd");
    let token = if odd { "tökén".to_owned() } else { format!("token-{number}") };
    Json(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 3600,
        "refresh_token": format!("refresh-{number}"), "scope": "read",
    }))
}

/// A server with a vault, and how it is spoken with.
struct Story {
    running: Running,
    http: reqwest::Client,
    folder: TempDir,
    origin: Arc<Origin>,
    vault: String,
    _serving: JoinSet<()>,
}

impl Story {
    async fn new() -> Self {
        let mut serving = JoinSet::new();
        let origin = Origin::start(&mut serving).await;
        let folder = TempDir::new().unwrap();
        let mut config = config(folder.path(), vec![Arc::new(Silent)]);
        config.egress =
            Egress { allow_private: vec!["127.0.0.0/8".to_owned()], ..Egress::default() };
        let running = start(config).await.unwrap();
        let file = folder.path().join("posthouse.toml");
        std::fs::write(file, "[egress]\nallow_private = [\"127.0.0.0/8\"]\n").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut story =
            Self { running, http, folder, origin, vault: String::new(), _serving: serving };
        let made = story.call(Method::POST, "/v1/vaults", json!({ "display_name": "v" })).await;
        story.vault = made.ok()["id"].as_str().unwrap().to_owned();
        story
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Reply {
        let request = self.http.request(method, format!("{}{path}", self.running.url));
        let request = request.bearer_auth(KEY);
        send(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    /// All live credentials.
    async fn live(&self) -> Vec<Value> {
        let path = format!("/v1/vaults/{}/credentials", self.vault);
        let mut page = self.call(Method::GET, &path, Value::Null).await.ok();
        let Value::Array(live) = page["data"].take() else { panic!("{page}") };
        live
    }

    /// The token that sessions use now.
    async fn token(&self, credential: &str) -> Option<String> {
        let path = format!("/v1/vaults/{}/credentials/{credential}/mcp_oauth_validate", self.vault);
        self.call(Method::POST, &path, Value::Null).await.ok();
        self.origin.shown.lock().unwrap().take()
    }

    /// Runs the command; a user says yes, and his browser brings `code`. Exit code, and all that was
    /// said.
    async fn connect(&self, vault: &str, more: &[&str], code: &str) -> (i32, String) {
        let server = format!("{}/mcp", self.origin.base.lock().unwrap());
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let file = path(&self.folder.path().join("posthouse.toml"));
        let home = TempDir::new().unwrap();
        let mut command = posthouse(&home);
        command.args(["vaults", "connect", vault, &server, "--no-browser"]);
        command.args(["--data", &path(self.folder.path()), "--config", &file]).args(more);
        command.env("CLIENT_SECRET", "the-secret");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while let Some(line) =
            timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap()
        {
            if let Some(url) = Url::parse(&line).ok().filter(|url| url.scheme() == "http") {
                self.browse(&url, code).await;
            }
            said.push_str(&format!("{line}\n"));
        }
        child.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
        for secret in ["token-", "refresh-", "tökén", "the-secret", "the-code"] {
            assert!(!said.contains(secret), "{said}");
        }
        (child.wait().await.unwrap().code().unwrap(), said)
    }

    /// Goes where a browser is sent back to; before that, somebody else tries.
    async fn browse(&self, url: &Url, code: &str) {
        let value = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let (back, state) = (value("redirect_uri").unwrap(), value("state").unwrap());
        let base = self.origin.base.lock().unwrap().clone();
        let right = format!("{back}?code={code}&state={state}&iss={base}");
        let send = async |request: reqwest::RequestBuilder| {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.text().await.unwrap())
        };
        let waits = "waits for another sign-in";
        let other = right.replace(&state, "other");
        assert!(send(self.http.get(other)).await.1.contains(waits));
        let rebound = self.http.get(&right).header(HOST, "evil.example");
        assert!(send(rebound).await.1.contains(waits));
        assert_eq!(send(self.http.get(right.replace("/callback", "/"))).await.0, 404);
        assert_eq!(send(self.http.post(&right)).await.0, 405);
        let answer = self.http.get(&right).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(answer.text().await.unwrap().contains("You may close this page"));
    }
}

fn id_of(credential: &Value) -> &str {
    credential["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_user_connects_a_vault_and_does_it_again() {
    let story = Story::new().await;
    let base = story.origin.base.lock().unwrap().clone();
    let (code, said) = story.connect(&story.vault, &["--name", "The tracker"], "the-code").await;
    assert_eq!(code, 0, "{said}");
    let live = story.live().await;
    let [first] = &live[..] else { panic!("{live:?}") };
    assert!(said.contains(&format!("credential  {}\n", id_of(first))), "{said}");
    assert!(said.contains("scope       read\nrenewed     by itself"), "{said}");
    assert_eq!(first["display_name"], "The tracker");
    let auth = &first["auth"];
    assert_eq!(auth["mcp_server_url"], format!("{base}/mcp"));
    assert!(auth["expires_at"].is_string());
    let refresh = &auth["refresh"];
    assert_eq!(refresh["token_endpoint"], format!("{base}/token"));
    assert_eq!(refresh["client_id"], "client-1");
    assert_eq!(refresh["token_endpoint_auth"]["type"], "none");
    assert_eq!(refresh["resource"], format!("{base}/mcp"));
    assert_eq!(story.token(id_of(first)).await.as_deref(), Some("Bearer token-1"));

    // Another client: what was there is archived.
    let known = ["--client-id", "known", "--client-secret-env", "CLIENT_SECRET"];
    let (code, said) = story.connect(&story.vault, &known, "the-code").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with(&format!("archived    {}\n", id_of(first))), "{said}");
    let live = story.live().await;
    let [second] = &live[..] else { panic!("{live:?}") };
    assert_eq!(second["auth"]["refresh"]["client_id"], "known");
    assert_eq!(second["display_name"], "127.0.0.1");

    // The same client: the credential stays, with other tokens.
    let (code, said) = story.connect(&story.vault, &known, "the-code").await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("archived"), "{said}");
    let live = story.live().await;
    assert_eq!(live.iter().map(id_of).collect::<Vec<_>>(), [id_of(second)]);
    assert_eq!(story.token(id_of(second)).await.as_deref(), Some("Bearer token-3"));

    // What can't be kept takes nobody's place.
    let (code, said) = story.connect(&story.vault, &[], "odd").await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("can't be kept: auth.access_token"), "{said}");
    assert_eq!(story.live().await.iter().map(id_of).collect::<Vec<_>>(), [id_of(second)]);
    assert_eq!(story.token(id_of(second)).await.as_deref(), Some("Bearer token-3"));
    story.running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn nobody_is_asked_when_there_is_nowhere_to_keep_it() {
    let story = Story::new().await;
    let other = format!("{}X", &story.vault[..story.vault.len() - 1]);
    let path = format!("/v1/vaults/{}/archive", story.vault);
    let long = "x".repeat(256);
    for (vault, more, expected) in [
        (&*other, &[][..], "Vault not found"),
        ("../agents", &[], "is no vault's id"),
        (&*story.vault, &["--name", &*long], "display_name"),
        (&*story.vault, &["--client-id", "c", "--client-secret-env", "NONE"], "no variable NONE"),
        (&*story.vault, &["--client-id", "c", "--client-credentials"], "needs"),
    ] {
        let (code, said) = story.connect(vault, more, "the-code").await;
        assert!(code != 0 && said.contains(expected), "{expected}: {code} {said}");
    }
    story.call(Method::POST, &path, Value::Null).await.ok();
    let (code, said) = story.connect(&story.vault, &[], "the-code").await;
    assert!(code != 0 && said.contains("is archived"), "{code} {said}");
    assert_eq!(story.origin.asked.load(Ordering::SeqCst), 0);
    story.running.stop(Duration::from_secs(1)).await;
}
