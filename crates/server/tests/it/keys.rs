//! API keys over HTTP and on the command line: what they open, who may make them, when they end.

use std::{collections::HashSet, time::Duration};

use posthouse::{
    api::{call::now, routes},
    keys::NewKey,
    scope::{Need, Resource, Scopes, Verb},
};
use posthouse_store::tables;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::{KEY, Reply, TestApp, send},
    command_line::{posthouse, run},
    resources::session,
};

const KEYS: &str = "/posthouse/v1/keys";
const WORKSPACES: &str = "/posthouse/v1/workspaces";
const SOON: Duration = Duration::from_secs(10);

/// Makes a key with those scopes and what else is sent; returns it with its secret.
pub(crate) async fn make(app: &TestApp, scopes: Value, more: Value) -> Value {
    let mut body = json!({ "name": "k", "scopes": scopes });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.post(KEYS, body).await.ok()
}

/// Makes a workspace; returns its id.
pub(crate) async fn workspace(app: &TestApp, name: &str) -> String {
    let made = app.post(WORKSPACES, json!({ "name": name })).await.ok();
    made["id"].as_str().unwrap().to_owned()
}

/// A key's secret.
pub(crate) fn secret(key: &Value) -> String {
    key["secret"].as_str().unwrap().to_owned()
}

/// A request with that key; null sends no body.
pub(crate) async fn ask(
    app: &TestApp,
    secret: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> Reply {
    let request = app.bare(method, path).bearer_auth(secret);
    send(if body.is_null() { request } else { request.body(body.to_string()) }).await
}

async fn get(app: &TestApp, secret: &str, path: &str) -> Reply {
    ask(app, secret, Method::GET, path, &Value::Null).await
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// A path with a word that is no id in the place of each id.
fn without_ids(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Asks every route; each is closed when `opens` does not hold for its need, and only then.
async fn check_routes(app: &TestApp, key: &str, opens: impl Fn(Need) -> bool) {
    for route in routes() {
        let path = without_ids(route.path);
        let mut methods = vec![route.method.clone()];
        if route.method == Method::GET {
            methods.push(Method::HEAD);
        }
        for method in methods {
            let reply = ask(app, key, method.clone(), &path, &Value::Null).await;
            let what = format!("{method} {path}: {}", reply.text);
            assert_ne!(reply.status, 401, "{what}");
            match (opens(route.need), &method) {
                (true, &Method::HEAD) => assert_ne!(reply.status, 403, "{what}"),
                // Only an administrator gets further there, whatever the scopes.
                (true, _) => assert!(!reply.text.contains("it needs the scope"), "{what}"),
                (false, &Method::HEAD) => assert_eq!(reply.status, 403, "{what}"),
                (false, _) => {
                    assert_eq!(reply.refused(403), route.need.refusal().message, "{what}");
                    assert_eq!(reply.json()["error"]["type"], "permission_error");
                    assert_eq!(reply.headers["x-should-retry"], "false");
                }
            }
        }
    }
}

#[tokio::test]
async fn each_scope_opens_its_routes_and_no_others() {
    let app = TestApp::new().await;
    let needs: HashSet<Need> = routes().iter().map(|route| route.need).collect();
    assert!(needs.len() >= 19, "only {} needs", needs.len());
    let of = |resource| Verb::ALL.into_iter().map(move |verb| Need { resource, verb });
    let all: Vec<Need> = Resource::ALL.into_iter().flat_map(of).collect();
    for need in needs {
        let key = make(&app, json!([need.to_string()]), json!({})).await;
        check_routes(&app, &secret(&key), |one| one == need).await;
        let others = all.iter().filter(|one| **one != need).map(Need::to_string);
        let key = make(&app, others.collect(), json!({})).await;
        check_routes(&app, &secret(&key), |one| one != need).await;
    }
}

#[tokio::test]
async fn stars_and_write_open_what_they_stand_for() {
    let app = TestApp::new().await;
    let key = secret(&make(&app, json!(["*:read"]), json!({})).await);
    check_routes(&app, &key, |need| need.verb == Verb::Read).await;
    let key = secret(&make(&app, json!(["sessions:write", "files:*"]), json!({})).await);
    check_routes(&app, &key, |need| match need.resource {
        Resource::Sessions => need.verb != Verb::Read,
        resource => resource == Resource::Files,
    })
    .await;
    let key = secret(&make(&app, json!(["*:*"]), json!({})).await);
    check_routes(&app, &key, |_| true).await;
}

#[tokio::test]
async fn a_stored_key_without_a_scope_opens_nothing() {
    let app = TestApp::new().await;
    let scopes = Scopes::default();
    let (name, workspace) = ("none".to_owned(), "wrkspc_default".to_owned());
    let new = NewKey { name, workspace, admin: true, scopes, expires_at: None };
    let (key, row) = new.generate(now()).unwrap();
    let write = app.running.app.database.write(move |to| tables::keys::insert(to, &row));
    write.await.unwrap();
    assert_eq!(get(&app, &key, "/v1/agents").await.status, 401);
    let app = app.restart().await;
    check_routes(&app, &key, |_| false).await;
}

#[tokio::test]
async fn a_session_begins_with_a_message_only_where_messages_may_be_sent() {
    let app = TestApp::new().await;
    let agent = app.post("/v1/agents", json!({ "name": "a", "model": "test/m" })).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let mut body = json!({ "agent": agent["id"], "environment_id": environment["id"] });
    let narrow = secret(&make(&app, json!(["sessions:create"]), json!({})).await);
    let post = async |body: &Value| ask(&app, &narrow, Method::POST, "/v1/sessions", body).await;
    post(&body).await.ok();
    let text = json!([{ "type": "text", "text": "hi" }]);
    body["initial_events"] = json!([{ "type": "user.message", "content": text }]);
    let expected = "This key may not create events; it needs the scope events:create.";
    assert_eq!(post(&body).await.refused(403), expected);
    let wide = make(&app, json!(["sessions:create", "events:create"]), json!({})).await;
    ask(&app, &secret(&wide), Method::POST, "/v1/sessions", &body).await.ok();
}

#[tokio::test]
async fn a_key_is_shown_in_full_and_its_secret_once() {
    let app = TestApp::new().await;
    let more = json!({ "name": "ci", "expires_at": "2199-01-02T03:04:05+02:00" });
    let made = make(&app, json!(["files:write", "agents:read", "files:write"]), more).await;
    let key = secret(&made);
    assert!(key.starts_with("phk_") && key.len() == 44, "{key}");
    let mut shown = json!({
        "type": "api_key", "id": made["id"], "name": "ci", "workspace_id": "wrkspc_default",
        "scopes": ["files:write", "agents:read"], "admin": false,
        "hint": format!("{}...{}", &key[..6], &key[40..]), "created_at": made["created_at"],
        "expires_at": "2199-01-02T01:04:05.000000Z", "revoked_at": null, "secret": key,
    });
    assert_eq!(made, shown);
    shown.as_object_mut().unwrap().remove("secret");
    assert_eq!(app.get(KEYS).await.ok(), json!({ "data": [shown], "next_page": null }));

    // A create that is sent again makes another key: its answer is kept nowhere.
    let body = json!({ "name": "again", "scopes": ["*:*"] }).to_string();
    let post = || app.request(Method::POST, KEYS).body(body.clone());
    let first = send(post()).await.ok();
    let retried = send(post().header("x-stainless-retry-count", "1")).await.ok();
    assert_ne!(first["id"], retried["id"]);
    let refused = send(post().header("idempotency-key", "k")).await.refused(400);
    assert!(refused.starts_with("Idempotency-Key: can't be honoured"), "{refused}");
    let secrets = [key, secret(&first), secret(&retried)];
    let app = app.restart().await;
    for secret in &secrets[1..] {
        assert_eq!(get(&app, secret, "/v1/agents").await.status, 200);
    }
    for entry in std::fs::read_dir(app.folder()).unwrap() {
        let Ok(bytes) = std::fs::read(entry.unwrap().path()) else { continue };
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_new_key_is_refused_by_name() {
    let app = TestApp::new().await;
    let many: Vec<&str> = vec!["agents:read"; 65];
    for (change, start) in [
        (json!({ "name": null }), "name: is null"),
        (json!({ "name": "" }), "name: is empty"),
        (json!({ "scopes": null }), "scopes: is null; send what the key may do"),
        (json!({ "scopes": [] }), "scopes: has 0 entries; send 1 to 64"),
        (json!({ "scopes": many }), "scopes: has 65 entries"),
        (json!({ "scopes": ["agents:read", "agents:fly"] }), "scopes[1]: \"fly\" is no verb;"),
        (json!({ "expires_at": "tomorrow" }), "expires_at: is \"tomorrow\"; send an RFC 3339"),
        (json!({ "expires_at": "2020-01-01T00:00:00Z" }), "expires_at: has passed;"),
        (json!({ "admin": "yes" }), "admin: is a text; send true or false"),
        (json!({ "colour": 1 }), "Failed to parse request body: unknown field \"colour\""),
    ] {
        let mut body = json!({ "name": "n", "scopes": ["agents:read"] });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let message = app.post(KEYS, body).await.refused(400);
        assert!(message.starts_with(start), "{change}: {message}");
    }
    app.get(&format!("{KEYS}?colour=1")).await.refused(400);
    app.post(&format!("{KEYS}/x/revoke"), Value::Null).await.refused(400);
    assert_eq!(app.get(KEYS).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn nobody_makes_a_key_that_opens_more_than_his_own() {
    let app = TestApp::new().await;
    let other = workspace(&app, "other").await;
    let own = make(&app, json!(["keys:*", "files:*", "workspaces:create"]), json!({})).await;
    let narrow = secret(&own);
    let try_to = async |body: Value| ask(&app, &narrow, Method::POST, KEYS, &body).await;
    let made = try_to(json!({ "name": "n", "scopes": ["files:read", "keys:write"] })).await.ok();
    assert_eq!(made["workspace_id"], "wrkspc_default");
    let refused = try_to(json!({ "name": "n", "scopes": ["files:read", "*:read"] })).await;
    let expected = "scopes[1]: opens more than your key does; your key has keys:*, files:*, \
                    workspaces:create";
    assert_eq!(refused.refused(403), expected);
    let with = |name: &str, value: Value| json!({ "name": "n", "scopes": ["keys:*"], name: value });
    let refused = try_to(with("admin", json!(true))).await.refused(403);
    assert!(refused.starts_with("admin: your key is no administrator's"), "{refused}");
    // That another workspace exists is nobody's business.
    for named in [other.as_str(), "wrkspc_00000000000000000000000"] {
        let refused = try_to(with("workspace_id", json!(named))).await.refused(403);
        let expected = "workspace_id: is not your key's workspace; leave it out or send \
                        wrkspc_default";
        assert_eq!(refused, expected);
    }
    try_to(with("workspace_id", json!("wrkspc_default"))).await.ok();
    let wider = make(&app, json!(["agents:read"]), json!({})).await;
    let path = format!("{KEYS}/{}/revoke", wider["id"].as_str().unwrap());
    let refused = ask(&app, &narrow, Method::POST, &path, &json!({})).await.refused(403);
    assert_eq!(refused, "This key opens more than yours does; yours may not revoke it.");
    let refused = ask(&app, &narrow, Method::POST, WORKSPACES, &json!({ "name": "n" })).await;
    assert_eq!(refused.refused(403), "Only an administrator's key may create workspaces.");

    // An administrator makes one for any workspace, and no more than his scopes either.
    let more = json!({ "admin": true });
    let admin = secret(&make(&app, json!(["keys:*", "agents:read"]), more).await);
    let body = json!({ "name": "n", "scopes": ["keys:read"], "workspace_id": other });
    let made = ask(&app, &admin, Method::POST, KEYS, &body).await.ok();
    assert_eq!(made["workspace_id"], other.as_str());
    let body = json!({ "name": "n", "scopes": ["files:read"] });
    ask(&app, &admin, Method::POST, KEYS, &body).await.refused(403);
    let body = json!({ "name": "n", "scopes": ["keys:read"], "workspace_id": "wrkspc_0" });
    let refused = ask(&app, &admin, Method::POST, KEYS, &body).await;
    assert_eq!(refused.refused(404), "workspace_id: wrkspc_0 not found");

    // A key that ends makes none that outlives it.
    let end = json!({ "admin": true, "expires_at": "2199-01-01T00:00:00Z" });
    let ending = secret(&make(&app, json!(["*:*"]), end).await);
    for (sent, what) in [
        (Value::Null, "is missing, which is later"),
        (json!("2199-01-01T00:00:00.000001Z"), "is later"),
    ] {
        let body = json!({ "name": "n", "scopes": ["keys:*"], "expires_at": sent });
        let refused = ask(&app, &ending, Method::POST, KEYS, &body).await.refused(403);
        let right = "than your key's own end; send at most 2199-01-01T00:00:00.000000Z";
        assert_eq!(refused, format!("expires_at: {what} {right}"));
    }
    let body =
        json!({ "name": "n", "scopes": ["keys:*"], "expires_at": "2199-01-01T02:00:00+02:00" });
    ask(&app, &ending, Method::POST, KEYS, &body).await.ok();

    // Who is no administrator revokes no administrator's key.
    let keys = app.get(KEYS).await.ok();
    let is_admin = |key: &&Value| key["admin"] == true;
    let of_admin = id(keys["data"].as_array().unwrap().iter().find(is_admin).unwrap());
    let revoke = format!("{KEYS}/{of_admin}/revoke");
    ask(&app, &narrow, Method::POST, &revoke, &Value::Null).await.refused(403);
    assert_eq!(get(&app, &admin, "/v1/agents").await.status, 200);
    let own = format!("{KEYS}/{}/revoke", id(&own));
    ask(&app, &narrow, Method::POST, &own, &Value::Null).await.ok();
    assert_eq!(get(&app, &narrow, KEYS).await.status, 401);
}

/// An open stream of a session's events, its first bytes read.
async fn stream(app: &TestApp, key: &str, session: &Value) -> reqwest::Response {
    let path = format!("/v1/sessions/{}/events/stream", id(session));
    let mut stream = app.bare(Method::GET, &path).bearer_auth(key).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());
    stream
}

/// Reads a stream to its end, which comes soon.
async fn read_out(mut stream: reqwest::Response) {
    let rest = async { while let Some(_piece) = stream.chunk().await.unwrap() {} };
    tokio::time::timeout(SOON, rest).await.expect("the stream goes on");
}

/// That a key is answered like one that never was.
async fn assert_unknown(app: &TestApp, key: &str) {
    let plain = |reply: Reply| {
        assert_eq!(reply.refused(401), "Authentication failed");
        let mut body = reply.json();
        body["request_id"] = Value::Null;
        let names: HashSet<String> = reply.headers.keys().map(ToString::to_string).collect();
        (body, names)
    };
    for (method, path) in [(Method::GET, "/v1/agents"), (Method::POST, KEYS), (Method::PUT, KEYS)] {
        let known = plain(ask(app, key, method.clone(), path, &Value::Null).await);
        assert_eq!(known, plain(ask(app, "phk_nobody", method, path, &Value::Null).await));
    }
}

#[tokio::test]
async fn a_revoked_key_is_unknown_at_once_and_its_streams_end() {
    let app = TestApp::new().await;
    let session = session(&app, json!([])).await;
    let key = make(&app, json!(["*:*"]), json!({})).await;
    let other = secret(&make(&app, json!(["*:*"]), json!({})).await);
    let ended = stream(&app, &secret(&key), &session).await;
    let mut kept = stream(&app, &other, &session).await;

    let revoke = format!("{KEYS}/{}/revoke", id(&key));
    let revoked = app.post(&revoke, json!({})).await.ok();
    assert!(revoked["revoked_at"].is_string() && revoked.get("secret").is_none(), "{revoked}");
    assert_unknown(&app, &secret(&key)).await;
    read_out(ended).await;
    assert_eq!(app.post(&revoke, Value::Null).await.ok(), revoked);
    assert_eq!(app.get(KEYS).await.ok()["data"][1], revoked);

    // The stream of another key goes on.
    let message = json!({ "type": "user.message", "content": [{ "type": "text", "text": "hi" }] });
    let events = format!("/v1/sessions/{}/events", id(&session));
    app.post(&events, json!({ "events": [message] })).await.ok();
    assert!(kept.chunk().await.unwrap().is_some());
    drop(kept);
    let app = app.restart().await;
    assert_unknown(&app, &secret(&key)).await;
    assert_eq!(get(&app, &other, "/v1/agents").await.status, 200);
    app.post(&format!("{KEYS}/key_local/revoke"), Value::Null).await.refused(404);
}

#[tokio::test]
async fn an_expired_key_is_unknown_and_its_streams_end() {
    let app = TestApp::new().await;
    let session = session(&app, json!([])).await;
    let end = now().plus(4_000_000).to_rfc3339();
    let key = secret(&make(&app, json!(["*:*"]), json!({ "expires_at": end })).await);
    read_out(stream(&app, &key, &session).await).await;
    assert_unknown(&app, &key).await;
    let shown = &app.get(KEYS).await.ok()["data"][0];
    assert_eq!((&shown["expires_at"], &shown["revoked_at"]), (&json!(end), &Value::Null));
    let app = app.restart().await;
    assert_unknown(&app, &key).await;
}

#[tokio::test]
async fn an_administrator_works_in_the_workspace_that_he_names() {
    let app = TestApp::new().await;
    let (one, two) = (workspace(&app, "one").await, workspace(&app, "two").await);
    let taken = app.post(WORKSPACES, json!({ "name": "one" })).await;
    assert_eq!(taken.refused(409), "name: \"one\" is taken; choose another one");
    app.post(WORKSPACES, json!({ "name": "wrkspc_x" })).await.refused(400);
    app.post(WORKSPACES, json!({ "name": "" })).await.refused(400);
    app.post(WORKSPACES, json!({ "name": "n", "colour": 1 })).await.refused(400);
    let list = app.get(WORKSPACES).await.ok();
    let names = |list: &Value| -> Vec<String> {
        let entries = list["data"].as_array().unwrap().iter();
        entries.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&list), ["two", "one", "default"]);
    assert_eq!(list["data"][2]["id"], "wrkspc_default");
    let page = app.get(&format!("{WORKSPACES}?limit=2")).await.ok();
    let next = format!("{WORKSPACES}?limit=2&page={}", page["next_page"].as_str().unwrap());
    assert_eq!(names(&app.get(&next).await.ok()), ["default"]);

    let token = app.running.token().to_owned();
    for secret in [KEY, token.as_str()] {
        let within = |workspace: &str, method: Method, path: &str| {
            let request = app.bare(method, path).bearer_auth(secret);
            request.header("anthropic-workspace-id", workspace)
        };
        let body = json!({ "name": "e" }).to_string();
        let made = send(within(&one, Method::POST, "/v1/environments").body(body)).await;
        assert_eq!(made.headers["anthropic-workspace-id"], one.as_str());
        let path = format!("/v1/environments/{}", id(&made.ok()));
        assert_eq!(send(within(&one, Method::GET, &path)).await.status, 200);
        for elsewhere in [two.as_str(), "wrkspc_default"] {
            assert_eq!(send(within(elsewhere, Method::GET, &path)).await.status, 404);
        }
        assert_eq!(app.get(&path).await.status, 404);
        let refused = send(within("wrkspc_0", Method::GET, &path)).await.refused(403);
        assert!(refused.starts_with("anthropic-workspace-id: names no workspace"), "{refused}");
        let twice = within(&one, Method::GET, &path).header("anthropic-workspace-id", &two);
        send(twice).await.refused(400);
        assert_eq!(names(&send(within(&one, Method::GET, WORKSPACES)).await.ok()), ["one"]);
    }
    let more = json!({ "workspace_id": one });
    let bound = secret(&make(&app, json!(["*:*"]), more).await);
    assert_eq!(names(&get(&app, &bound, WORKSPACES).await.ok()), ["one"]);
    let get = app.bare(Method::GET, "/v1/agents").bearer_auth(&bound);
    let refused = send(get.header("anthropic-workspace-id", &two)).await.refused(403);
    assert!(refused.contains(&one) && !refused.contains(&two), "{refused}");
}

#[tokio::test]
async fn keys_are_managed_on_the_command_line() {
    let app = TestApp::new().await;
    let folder = TempDir::new().unwrap();
    let data = app.folder().to_str().unwrap().to_owned();
    let typed = async |arguments: &[&str]| {
        run(posthouse(&folder).args(arguments).args(["--data", &data])).await
    };
    assert_eq!(typed(&["keys", "list"]).await.1, "no keys but those that live in memory\n");
    let (code, out, error) = typed(&["workspaces", "create", "lab"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("wrkspc_") && out.ends_with("  lab\n"), "{out}");
    let (_, out, _) = typed(&["workspaces", "list"]).await;
    assert_eq!(out.lines().count(), 2, "{out}");

    let create = ["keys", "create", "ci", "--scope", "agents:read", "--scope", "files:*"];
    let more = ["--workspace", "lab", "--expires-in", "30d"];
    let (code, out, error) = typed(&[&create[..], &more].concat()).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("opens      agents:read, files:* of wrkspc_"), "{out}");
    assert!(out.contains("expires    20") && out.contains("shown this once"), "{out}");
    let key = out.split_whitespace().find(|word| word.starts_with("phk_")).unwrap();
    assert_eq!(get(&app, key, "/v1/agents").await.status, 200);
    assert_eq!(get(&app, key, "/v1/sessions").await.status, 403);

    let (_, out, _) = typed(&["keys", "create", "all", "--all", "--admin", "--json"]).await;
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&made["scopes"], &made["admin"]), (&json!(["*:*"]), &json!(true)));
    let (_, out, _) = typed(&["keys", "list"]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with(&format!("{}  admin", id(&made))), "{out}");
    assert!(!out.contains(key) && lines[1].ends_with("  ci  agents:read, files:*"), "{out}");

    let (code, out, _) = typed(&["keys", "revoke", id(&made)]).await;
    assert_eq!((code, out), (0, format!("revoked {}\n", id(&made))));
    assert_eq!(get(&app, &secret(&made), "/v1/agents").await.status, 401);
    for (wrong, code, word) in [
        (&["keys", "create", "n"][..], 2, "--scope"),
        (&["keys", "create", "n", "--all", "--scope", "a:read"], 2, "cannot be used"),
        (&["keys", "create", "n", "--all", "--expires-in", "soon"], 2, "30d"),
        (&["keys", "create", "n", "--all", "--workspace", "moon"], 2, "called moon"),
        (&["keys", "create", "n", "--scope", "moon:read"], 1, "\"moon\" is no resource"),
        (&["keys", "revoke", "x"], 2, "key_"),
        (&["keys", "revoke", "key_0"], 1, "Key not found."),
    ] {
        let (got, _, error) = typed(wrong).await;
        assert!(got == code && error.contains(word), "{wrong:?}: {got} {error}");
    }
    let nowhere = run(posthouse(&folder).args(["keys", "list"])).await;
    assert!(nowhere.0 == 1 && nowhere.2.contains("no server runs for"), "{}", nowhere.2);
}
