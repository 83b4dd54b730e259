//! Refreshes: what is sent to token endpoints, what is stored, and who wins when several write.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use posthouse_protocol::Micros;
use posthouse_store::{Database, tables::credentials};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    bench::{Bench, WORKSPACE, body},
    mcp::request,
    server::{Reply, Server},
};
use crate::vault::{AuthError, McpAuth, McpRequest, RefreshError, Secrets, VaultError, Vaults};

const SERVER: &str = "http://server.test/mcp";

/// An OAuth credential whose token endpoint takes `kind` of a client.
pub(super) fn oauth(kind: &str, expires_at: Option<i64>) -> Value {
    let mut auth = json!({
        "type": "mcp_oauth",
        "mcp_server_url": SERVER,
        "refresh": {
            "client_id": "client & co",
            "token_endpoint": "http://server.test/token?tenant=1",
            "token_endpoint_auth": { "type": kind },
        },
    });
    if let Some(seconds) = expires_at {
        let at = crate::Clock::System.now().plus(seconds * 1_000_000);
        auth["expires_at"] = json!(at.to_rfc3339());
    }
    auth
}

pub(super) fn tokens(access: &str, refresh: Option<&str>, client: Option<&str>) -> Secrets {
    Secrets {
        access_token: Some(access.into()),
        refresh_token: refresh.map(Into::into),
        client_secret: client.map(Into::into),
        ..Secrets::default()
    }
}

/// Grants `new 1`, `new 2` and so on.
fn granting(expires_in: Value) -> impl Fn(&super::server::Seen) -> Reply {
    let count = Mutex::new(0);
    move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let (access, refresh) = (format!("new-{count}"), format!("rotated-{count}"));
        let mut body = json!({ "access_token": access, "refresh_token": refresh });
        if !expires_in.is_null() {
            body["expires_in"] = expires_in.clone();
        }
        Reply::json(200, body)
    }
}

struct Held {
    bench: Bench,
    server: Server,
    vaults: Vec<String>,
}

impl Held {
    async fn new(
        auth: Value,
        secrets: Secrets,
        answer: impl Fn(&super::server::Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start(answer).await;
        let bench = Bench::open(Some(server.address));
        bench.vault("vlt_1").await;
        bench.credential("vlt_1", "vcrd_1", auth, secrets).await;
        Self { bench, server, vaults: vec!["vlt_1".into()] }
    }

    async fn bearer(&self, refused: Option<&McpAuth>) -> Result<McpAuth, AuthError> {
        Ok(self.bearer_of(&self.bench.vaults, refused).await?.unwrap())
    }

    async fn bearer_of(
        &self,
        vaults: &Vaults,
        refused: Option<&McpAuth>,
    ) -> Result<Option<McpAuth>, AuthError> {
        vaults.bearer(McpRequest { refused, ..request(&self.vaults, SERVER) }).await
    }

    /// Access and refresh token as they are stored.
    async fn stored(&self) -> (String, String) {
        let secrets = self.bench.secrets("vlt_1", "vcrd_1").await;
        let text = |secret: Option<secrecy::SecretString>| {
            secret.map(|one| one.expose_secret().to_owned()).unwrap_or_default()
        };
        (text(secrets.access_token), text(secrets.refresh_token))
    }

    fn expires_at(&self) -> Option<Micros> {
        let body: Value = serde_json::from_str(&self.bench.row("vlt_1", "vcrd_1").body).unwrap();
        body["auth"].get("expires_at").map(|at| Micros::parse(at.as_str().unwrap()).unwrap())
    }

    fn kinds(&self) -> Vec<String> {
        let uses = self.bench.uses();
        uses.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
    }
}

fn said(auth: &McpAuth) -> &str {
    auth.value.expose_secret()
}

#[tokio::test]
async fn what_expires_is_refreshed_and_stored() {
    for (expires, refreshed) in [(-5, true), (29, true), (60, false)] {
        let auth = oauth("none", Some(expires));
        let held = Held::new(auth, tokens("old", Some("r"), None), granting(json!(3600))).await;
        let before = held.bench.row("vlt_1", "vcrd_1");
        let got = held.bearer(None).await.unwrap();
        assert_eq!(said(&got), if refreshed { "Bearer new-1" } else { "Bearer old" });
        assert_eq!(held.server.seen().len(), usize::from(refreshed));
        if !refreshed {
            assert_eq!(held.bench.row("vlt_1", "vcrd_1"), before);
            continue;
        }
        assert_eq!(held.stored().await, ("new-1".into(), "rotated-1".into()));
        assert!(held.expires_at().unwrap() > crate::Clock::System.now().plus(3_000_000_000));
        assert_eq!(held.bench.row("vlt_1", "vcrd_1").version, 2);
        assert_eq!(held.kinds(), ["mcp", "refresh"]);
        // It holds.
        assert_eq!(said(&held.bearer(None).await.unwrap()), "Bearer new-1");
        assert_eq!(held.server.seen().len(), 1);
    }
}

#[tokio::test]
async fn endpoints_say_when_a_token_expires_in_several_ways() {
    for (expires_in, known) in [
        (json!(60), true),
        (json!("60"), true),
        (json!(60.5), true),
        (json!(1e300), true),
        (json!(-1), true),
        (Value::Null, false),
        (json!("soon"), false),
        (json!([60]), false),
    ] {
        let auth = oauth("none", Some(-5));
        let held =
            Held::new(auth, tokens("old", Some("r"), None), granting(expires_in.clone())).await;
        held.bearer(None).await.unwrap();
        assert_eq!(held.expires_at().is_some(), known, "{expires_in}");
    }
}

#[tokio::test]
async fn a_client_shows_who_it_is_as_it_was_told_to() {
    let secret = Some("s e:c/r+et");
    for (kind, secret, extra) in [
        ("none", None, json!({ "scope": "read write", "resource": "https://a.example/" })),
        ("client_secret_post", secret, json!({})),
        ("client_secret_basic", secret, json!({})),
    ] {
        let mut auth = oauth(kind, Some(-5));
        for (name, value) in extra.as_object().unwrap() {
            auth["refresh"][name] = value.clone();
        }
        let held = Held::new(auth, tokens("old", Some("r&=%"), secret), granting(json!(60))).await;
        held.bearer(None).await.unwrap();
        let seen = &held.server.seen()[0];
        assert_eq!((&*seen.method, &*seen.path), ("POST", "/token?tenant=1"));
        assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(seen.header("accept"), "application/json");
        let mut expected: HashMap<String, String> = HashMap::new();
        let mut put = |name: &str, value: &str| expected.insert(name.into(), value.into());
        put("grant_type", "refresh_token");
        put("refresh_token", "r&=%");
        match kind {
            "client_secret_basic" => {
                let pair = STANDARD.encode("client+%26+co:s+e%3Ac%2Fr%2Bet");
                assert_eq!(seen.header("authorization"), format!("Basic {pair}"));
            }
            other => {
                assert_eq!(seen.header("authorization"), "");
                put("client_id", "client & co");
                if other == "client_secret_post" {
                    put("client_secret", "s e:c/r+et");
                } else {
                    put("scope", "read write");
                    put("resource", "https://a.example/");
                }
            }
        }
        assert_eq!(seen.form(), expected, "{kind}");
        let location = &held.bench.uses()[1]["location"];
        let header = kind == "client_secret_basic";
        assert_eq!(location, &json!({ "header": header, "body": true }), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_at_once_refresh_once() {
    for expired in [true, false] {
        let auth = oauth("none", expired.then_some(-5));
        let held = Held::new(auth, tokens("old", Some("r"), None), |seen: &_| {
            std::thread::sleep(Duration::from_millis(50));
            granting(json!(3600))(seen)
        });
        let held = Arc::new(held.await);
        let refused = match expired {
            true => None,
            false => Some(held.bearer(None).await.unwrap()),
        };
        let mut all = JoinSet::new();
        for _ in 0..10 {
            let (held, refused) = (Arc::clone(&held), refused.clone());
            all.spawn(async move { held.bearer(refused.as_ref()).await.unwrap() });
        }
        for one in all.join_all().await {
            assert_eq!(said(&one), "Bearer new-1");
        }
        assert_eq!(held.server.seen().len(), 1);
        assert_eq!(held.stored().await.1, "rotated-1");
    }
}

/// Runs with the first request, while the one who has sent it waits.
type Meanwhile = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

async fn meanwhile(first: Reply) -> (Held, Meanwhile) {
    let cell: Meanwhile = Arc::default();
    let inside = Arc::clone(&cell);
    let auth = oauth("none", Some(-5));
    let held = Held::new(auth, tokens("old", Some("r"), None), move |_: &_| {
        inside.get().unwrap()();
        first.clone()
    });
    (held.await, cell)
}

/// Replaces the row as somebody else does it.
fn replace(held: &Held, secrets: Secrets) -> impl Fn() + Send + Sync + 'static {
    let (vaults, database) = (held.bench.another(), held.bench.database.clone());
    let key = held.bench.key_of(WORKSPACE, "vlt_1");
    let runtime = tokio::runtime::Handle::current();
    move || {
        let at =
            crate::vault::Binding { workspace: WORKSPACE, vault: "vlt_1", credential: "vcrd_1" };
        let sealed = runtime.block_on(vaults.seal(&key, at, &secrets)).unwrap();
        let shown = body("vlt_1", "vcrd_1", oauth("none", Some(3600)));
        runtime.block_on(exchange(&database, shown, sealed));
    }
}

async fn exchange(database: &Database, shown: String, sealed: String) {
    let write = database.write(move |connection| {
        credentials::exchange_secrets(connection, "vcrd_1", 1, &shown, &sealed)
    });
    assert!(write.await.unwrap());
}

fn grant() -> Reply {
    Reply::json(200, json!({ "access_token": "new", "refresh_token": "rotated" }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_comes_meanwhile_is_worth_more() {
    let (held, cell) = meanwhile(grant()).await;
    let _ = cell.set(Box::new(replace(&held, tokens("fresh", Some("login"), None))));
    assert_eq!(said(&held.bearer(None).await.unwrap()), "Bearer fresh");
    assert_eq!(held.stored().await, ("fresh".into(), "login".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_something_else_keeps_the_rotated_token() {
    let (held, cell) = meanwhile(grant()).await;
    let _ = cell.set(Box::new(replace(&held, tokens("old", Some("r"), None))));
    assert_eq!(said(&held.bearer(None).await.unwrap()), "Bearer new");
    assert_eq!(held.stored().await, ("new".into(), "rotated".into()));
    assert_eq!(held.bench.row("vlt_1", "vcrd_1").version, 3);
    // The endpoint has said nothing of its life.
    assert_eq!(held.expires_at(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_that_was_faster_is_believed() {
    let refused = Reply::json(400, json!({ "error": "invalid_grant" }));
    let (held, cell) = meanwhile(refused).await;
    let _ = cell.set(Box::new(replace(&held, tokens("theirs", Some("rotated"), None))));
    assert_eq!(said(&held.bearer(None).await.unwrap()), "Bearer theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_archived_meanwhile_stays_archived() {
    let (held, cell) = meanwhile(grant()).await;
    let (database, runtime) = (held.bench.database.clone(), tokio::runtime::Handle::current());
    let archive = move || {
        let write = database.write(|connection| {
            let text = "UPDATE credentials SET archived_at = 5, sealed = NULL";
            connection.execute_batch(text).map_err(posthouse_store::Error::from)
        });
        runtime.block_on(write).unwrap();
    };
    let _ = cell.set(Box::new(archive));
    let gone = held.bearer(None).await;
    assert!(matches!(gone, Err(AuthError::Refresh(RefreshError::Gone))), "{gone:?}");
    assert_eq!(held.bench.row("vlt_1", "vcrd_1").sealed, None);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_no_rotated_token_with_it() {
    let auth = oauth("none", Some(-5));
    let held = Held::new(auth, tokens("old", Some("r"), None), |seen: &_| {
        std::thread::sleep(Duration::from_millis(50));
        granting(json!(3600))(seen)
    })
    .await;
    let leaving = async {
        while held.server.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = held.bearer(None) => panic!("it has not left"),
        () = leaving => {}
    }
    let stored = async {
        while held.stored().await.1 != "rotated-1" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stored).await.unwrap();
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_everything_as_it_is() {
    let redirect = Reply {
        headers: vec![("location", "http://server.test/elsewhere".into())],
        ..Reply::json(307, "")
    };
    for (reply, status) in [
        (Reply::json(400, json!({ "error": "invalid_grant" })), Some(400)),
        (Reply::json(500, ""), Some(500)),
        (redirect, Some(307)),
        (Reply::json(200, json!({ "error": "bad_refresh_token" })), None),
        (Reply::json(200, "no JSON"), None),
        (Reply::json(200, json!({ "access_token": "" })), None),
        (Reply::json(200, json!({ "access_token": "two\r\nlines" })), None),
        (Reply::json(200, json!({ "access_token": "ümlaut" })), None),
    ] {
        // Expired: nothing is sent. About to: it holds for a moment yet.
        for expires in [-5, 20] {
            let auth = oauth("none", Some(expires));
            let answer = reply.clone();
            let secrets = tokens("old", Some("r"), None);
            let held = Held::new(auth, secrets, move |_: &_| answer.clone()).await;
            let before = held.bench.row("vlt_1", "vcrd_1");
            let got = held.bearer(None).await;
            match (expires, status) {
                (20, _) => assert_eq!(said(&got.unwrap()), "Bearer old"),
                (_, Some(status)) => {
                    let Err(AuthError::Refresh(RefreshError::Refused(answer))) = got else {
                        panic!("{got:?}")
                    };
                    assert_eq!(answer.status_code, status);
                }
                (_, None) => assert!(
                    matches!(got, Err(AuthError::Refresh(RefreshError::Unusable))),
                    "{got:?}"
                ),
            }
            assert_eq!(held.server.seen().len(), 1, "no redirect is followed");
            assert_eq!(held.bench.row("vlt_1", "vcrd_1"), before);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_has_failed_is_left_alone_for_a_while() {
    for (status, pause) in [(400, 60), (429, 5), (503, 5)] {
        let auth = oauth("none", Some(-5));
        let reply = Reply::json(status, json!({ "error": "invalid_grant" }));
        let secrets = tokens("old", Some("r"), None);
        let held = Held::new(auth, secrets, move |_: &_| reply.clone()).await;
        for _ in 0..5 {
            let refused = held.bearer(None).await;
            let Err(AuthError::Refresh(RefreshError::Refused(answer))) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(answer.status_code, status);
        }
        assert_eq!((held.server.seen().len(), held.kinds().len()), (1, 1));
        let at =
            crate::vault::Binding { workspace: WORKSPACE, vault: "vlt_1", credential: "vcrd_1" };
        let row = held.bench.vaults.held_one(at).unwrap().unwrap();
        let is_left_alone = |seconds| {
            let then = tokio::time::Instant::now() + Duration::from_secs(seconds);
            held.bench.vaults.room.failures.find(&row, then).is_some()
        };
        assert!(is_left_alone(pause - 2) && !is_left_alone(pause), "{status}");
        // Another login is another matter.
        held.bench.put("vlt_1", "vcrd_1", &tokens("older", Some("r2"), None)).await;
        held.bearer(None).await.unwrap_err();
        assert_eq!(held.server.seen().len(), 2);
    }
}

#[tokio::test]
async fn what_can_t_be_refreshed_is_sent_as_it_is_until_it_is_refused() {
    let mut bare = oauth("none", Some(-5));
    bare.as_object_mut().unwrap().shift_remove("refresh");
    for auth in [bare, oauth("none", None)] {
        let held = Held::new(auth, tokens("old", None, None), |_: &_| Reply::json(500, "")).await;
        let got = held.bearer(None).await.unwrap();
        assert_eq!(said(&got), "Bearer old");
        let refused = held.bearer(Some(&got)).await;
        assert!(matches!(refused, Err(AuthError::Refresh(RefreshError::NoRefreshToken))));
        assert_eq!(held.server.seen().len(), 0);
    }
}

#[tokio::test]
async fn nothing_is_dialled_that_the_guard_does_not_let_through() {
    for endpoint in [
        "http://elsewhere.invalid/token",
        "http://127.0.0.1/token",
        "https://127.0.0.1/token",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
    ] {
        let mut auth = oauth("none", Some(-5));
        auth["refresh"]["token_endpoint"] = json!(endpoint);
        let secrets = tokens("old", Some("r"), None);
        let held = Held::new(auth, secrets, |_: &_| Reply::json(200, "")).await;
        let got = held.bearer(None).await;
        assert!(matches!(got, Err(AuthError::Refresh(RefreshError::Unreachable(_)))), "{got:?}");
        assert_eq!(held.bench.guard.dialled(), 0, "{endpoint}");
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_is_an_error_of_the_vault() {
    let auth = oauth("client_secret_post", Some(-5));
    let held = Held::new(auth, tokens("old", Some("r"), None), |_: &_| Reply::json(200, "")).await;
    let got = held.bearer(None).await;
    assert!(
        matches!(got, Err(AuthError::Refresh(RefreshError::Vault(VaultError::Sealed)))),
        "{got:?}"
    );
    assert_eq!(held.server.seen().len(), 0);
}
