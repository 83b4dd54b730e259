//! An MCP server and its authorization server in one, on loopback: in order but for what a test
//! changes. It checks who redeems a code, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use posthouse_net::{Guard, Rules};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use url::Url;

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) host: String,
    pub(super) authorization: Option<String>,
    pub(super) form: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What is answered.
pub(super) enum Reply {
    /// A status, more headers, and a body.
    Whole(u16, String, String),
    /// A byte now and then, without end.
    Drip,
}

impl Reply {
    pub(super) fn json(value: &Value) -> Self {
        Self::Whole(200, "content-type: application/json\r\n".to_owned(), value.to_string())
    }

    pub(super) fn status(status: u16) -> Self {
        Self::Whole(status, String::new(), String::new())
    }

    pub(super) fn redirect(to: &str) -> Self {
        Self::Whole(307, format!("location: {to}\r\n"), String::new())
    }
}

/// What a test changes: given a path and the place's own address, another answer.
pub(super) type Change = fn(&Asked, &str) -> Option<Reply>;

/// The place.
pub(super) struct Place {
    pub(super) base: String,
    at: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

struct State {
    base: String,
    change: Change,
    seen: Mutex<Vec<Asked>>,
    /// The challenge that came with the user.
    challenge: Mutex<String>,
}

impl Place {
    pub(super) async fn start(change: Change) -> Self {
        Self::named(None, change).await
    }

    /// One that is known by a name.
    pub(super) async fn named(name: Option<&str>, change: Change) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let base = name.map_or(format!("http://{at}"), |name| format!("http://{name}"));
        let (seen, challenge) = Default::default();
        let state = Arc::new(State { base: base.clone(), change, seen, challenge });
        let mut serving = JoinSet::new();
        let state_of_all = Arc::clone(&state);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state_of_all);
                connections.spawn(async move { state.serve(stream).await });
            }
        });
        Self { base, at, state, _serving: serving }
    }

    pub(super) fn server(&self) -> Url {
        Url::parse(&format!("{}/mcp", self.base)).unwrap()
    }

    /// A guard that lets loopback be reached.
    pub(super) fn open_guard(&self) -> Guard {
        let allow_private = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Guard::new(Rules { allow_private, ..Rules::default() }, Vec::new())
    }

    /// A guard that lets nothing on loopback be reached but this place, by its name.
    pub(super) fn narrow_guard(&self, name: &str) -> Guard {
        let resolve = [(name.to_owned(), self.at)].into();
        Guard::new(Rules { resolve, ..Rules::default() }, Vec::new())
    }

    /// What it was asked at that path.
    pub(super) fn asked(&self, path: &str) -> Vec<Asked> {
        self.all().into_iter().filter(|asked| asked.path == path).collect()
    }

    pub(super) fn all(&self) -> Vec<Asked> {
        self.state.seen.lock().unwrap().clone()
    }

    /// A user comes with that address.
    pub(super) fn visit(&self, challenge: &str) {
        *self.state.challenge.lock().unwrap() = challenge.to_owned();
    }
}

impl State {
    async fn serve(&self, mut stream: TcpStream) {
        let Some(asked) = read(&mut stream).await else { return };
        self.seen.lock().unwrap().push(asked.clone());
        let reply = (self.change)(&asked, &self.base).unwrap_or_else(|| self.answer(&asked));
        let (status, headers, body) = match reply {
            Reply::Whole(status, headers, body) => (status, headers, body),
            Reply::Drip => {
                let mut text = "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n".to_owned();
                while stream.write_all(text.as_bytes()).await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                    text = " ".to_owned();
                }
                return;
            }
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
            body.len()
        );
        // Whoever has read enough goes away.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let base = &self.base;
        match asked.path.as_str() {
            "/mcp" => {
                let at = format!("{base}/.well-known/oauth-protected-resource/mcp");
                let header = format!(
                    "www-authenticate: Bearer resource_metadata=\"{at}\", scope=\"read\"\r\n"
                );
                Reply::Whole(401, header, String::new())
            }
            "/.well-known/oauth-protected-resource/mcp" => Reply::json(&resource(base)),
            "/.well-known/oauth-authorization-server" => Reply::json(&description(base)),
            "/register" => Reply::json(&json!({
                "client_id": "registered",
                "redirect_uris": ["http://127.0.0.1:1/callback"],
            })),
            "/token" => self.token(asked),
            _ => Reply::status(404),
        }
    }

    fn token(&self, asked: &Asked) -> Reply {
        let field = |name: &str| asked.form.get(name).map(String::as_str).unwrap_or_default();
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        let redeemed = field("code") == "the-code" && digest == *self.challenge.lock().unwrap();
        if field("grant_type") != "client_credentials" && !redeemed {
            let text = json!({ "error": "invalid_grant" }).to_string();
            return Reply::Whole(400, String::new(), text);
        }
        Reply::json(&json!({
            "access_token": "the-access-token", "token_type": "Bearer", "expires_in": 3600,
            "refresh_token": "the-refresh-token", "scope": "read",
        }))
    }
}

/// What the MCP server says of itself.
pub(super) fn resource(base: &str) -> Value {
    json!({ "resource": format!("{base}/mcp"), "authorization_servers": [base] })
}

/// What the authorization server says of itself.
pub(super) fn description(base: &str) -> Value {
    json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "registration_endpoint": format!("{base}/register"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
    })
}

/// The same with one member changed; null takes it away.
pub(super) fn described(base: &str, member: &str, value: Value) -> Option<Reply> {
    let mut description = description(base);
    match value {
        Value::Null => drop(description.as_object_mut().unwrap().remove(member)),
        value => description[member] = value,
    }
    Some(Reply::json(&description))
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(asked) = parse(&bytes) {
            return Some(asked);
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A whole request.
fn parse(bytes: &[u8]) -> Option<Asked> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let length = header("content-length").map_or(0, |text| text.parse().unwrap());
    (body.len() >= length).then(|| Asked {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        host: header("host").unwrap_or_default(),
        authorization: header("authorization"),
        form: url::form_urlencoded::parse(body.as_bytes()).into_owned().collect(),
        body: body.to_owned(),
    })
}
