//! Workspaces keep to themselves: whatever of another's is named, by whatever road, the answer is
//! the one that an id which never was gets.
//!
//! All routes are walked as the router has them. One that this file does not know fails here.

mod side;

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use posthouse::{
    api::{Route, call::now, routes},
    keys::mint,
};
use posthouse_protocol::id::IdKind;
use posthouse_testkit::Reply as ModelReply;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    app::{self, KEY, Reply, TestApp, send},
    keys::{secret, workspace},
    server::{PATIENCE, Server, Setup, until},
};
use side::{Caller, Side, id_of, say};

/// Stands in every text of the other workspace, and in none of the caller's.
const MARK: &str = "only-theirs";

/// The routes by which something of a workspace could be named. Models belong to nobody, and what MCP
/// clients name has cases of its own (`mcp_server`).
fn owned_routes() -> impl Iterator<Item = Route> {
    let others = ["/v1/models", "/posthouse/v1/mcp"];
    routes().into_iter().filter(move |route| !others.iter().any(|one| route.path.starts_with(one)))
}

/// The parameters of a route's path.
fn parameters(route: &Route) -> Vec<&'static str> {
    route.path.split('/').filter(|part| part.starts_with('{')).collect()
}

/// What a parameter of a path is the id of.
fn kind(parameter: &str) -> IdKind {
    match parameter {
        "{agent}" => IdKind::Agent,
        "{environment}" => IdKind::Environment,
        "{file}" => IdKind::File,
        "{session}" => IdKind::Session,
        "{resource}" => IdKind::Resource,
        "{thread}" => IdKind::Thread,
        "{vault}" => IdKind::Vault,
        "{credential}" => IdKind::Credential,
        "{key}" => IdKind::Key,
        other => panic!("{other}: whose is that? Say so here, and make one in `Side::new`"),
    }
}

/// All ids in a text.
fn ids_in(text: &str) -> BTreeSet<String> {
    let prefixes = [
        "agent", "env", "sesn", "sthr", "sevt", "sesrsc", "file", "vlt", "vcrd", "vcuse", "wrkspc",
        "key", "sbrec",
    ];
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_id = |word: &&str| {
        let parts = word.split_once('_');
        parts.is_some_and(|(prefix, rest)| prefixes.contains(&prefix) && rest.len() == 24)
    };
    words.filter(is_id).map(str::to_owned).collect()
}

/// What is theirs and must not be said.
struct Secrets(BTreeSet<String>);

impl Secrets {
    async fn of(side: &Side<'_>) -> Self {
        let mut all: BTreeSet<String> =
            side.look().await.values().flat_map(|text| ids_in(text)).collect();
        all.extend(side.ids.values().cloned());
        assert!(all.len() > 20, "only {} ids", all.len());
        Self(all)
    }

    /// Checks that an answer tells nothing but what was sent.
    fn check(&self, reply: &Reply, sent: &str, what: &str) {
        let text = format!("{}{:?}", reply.text, reply.headers);
        assert!(!text.contains(MARK), "{what}: {text}");
        let told = self.0.iter().find(|id| text.contains(*id) && !sent.contains(*id));
        assert_eq!(told, None, "{what}: {text}");
    }
}

/// An answer without what differs from request to request, and with `ID` for those ids.
fn plain(reply: &Reply, ids: &[String]) -> (u16, String, Vec<(String, String)>) {
    let body = serde_json::from_str(&reply.text).map(|mut body| {
        without_clocks(&mut body);
        body.to_string()
    });
    let mut text = body.unwrap_or_else(|_| reply.text.clone());
    for id in ids {
        text = text.replace(id.as_str(), "ID");
    }
    let headers = reply.headers.iter().map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let changing = ["request-id", "date", "content-length"];
    let headers = headers.filter(|(name, _)| !changing.contains(&name.as_str())).collect();
    (reply.status.as_u16(), text, headers)
}

/// Takes out what another request at another time has otherwise.
fn without_clocks(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !matches!(name.as_str(), "request_id" | "active_seconds" | "duration_seconds")
            });
            fields.values_mut().for_each(without_clocks);
        }
        Value::Array(entries) => entries.iter_mut().for_each(without_clocks),
        _ => {}
    }
}

fn unknown(kind: IdKind) -> String {
    mint(kind, now()).unwrap()
}

/// A body with which the route would do something, were the ids the caller's.
fn body_for(route: &str, own: &Side<'_>) -> Value {
    match route {
        "/v1/agents/{agent}" => json!({ "version": 2, "name": "mine" }),
        "/v1/environments/{environment}" => json!({ "name": "mine" }),
        "/v1/sessions/{session}" => json!({ "title": "mine" }),
        "/v1/sessions/{session}/events" => json!({ "events": [say("hi")] }),
        "/v1/sessions/{session}/resources" => {
            json!({ "type": "file", "file_id": own.ids["{file}"] })
        }
        "/v1/sessions/{session}/resources/{resource}" => json!({ "authorization_token": "t" }),
        "/v1/vaults/{vault}" => json!({ "display_name": "mine" }),
        "/v1/vaults/{vault}/credentials" => side::variable("MINE"),
        "/v1/vaults/{vault}/credentials/{credential}" => json!({
            "display_name": "mine", "auth": { "type": "environment_variable", "secret_value": "m" },
        }),
        _ => Value::Null,
    }
}

/// Each id of a path in turn, and all of them, are theirs.
async fn walk_paths(caller: &Caller<'_>, own: &Side<'_>, theirs: &Side<'_>, secrets: &Secrets) {
    for route in owned_routes() {
        let parameters = parameters(&route);
        for set in 1..1_u32 << parameters.len() {
            let foreign: Vec<&str> = (0..)
                .zip(&parameters)
                .filter(|(bit, _)| set >> bit & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            let named: Vec<String> = foreign.iter().map(|name| theirs.ids[name].clone()).collect();
            let nobody: Vec<String> = foreign.iter().map(|name| unknown(kind(name))).collect();
            let path = |ids: &[String]| {
                let path = foreign.iter().zip(ids);
                own.path(
                    &path.fold(route.path.to_owned(), |path, (name, id)| path.replace(name, id)),
                )
            };
            let right = body_for(route.path, own);
            let ways = match route.method {
                Method::GET => ["", "?version=1", "?limit=1", "?posthouse_events=true"]
                    .map(|query| (query, &Value::Null))
                    .to_vec(),
                _ => vec![("", &right), ("", &Value::Null)],
            };
            for (at, (query, body)) in ways.into_iter().enumerate() {
                let method = &route.method;
                let what = format!("{method} {}{query} with their {foreign:?}", route.path);
                let reply = caller.ask(method, &(path(&named) + query), body).await;
                // The first way is the one by which something would be done.
                if at == 0 {
                    assert_eq!(reply.status, 404, "{what}: {}", reply.text);
                }
                secrets.check(&reply, &path(&named), &what);
                let expected = caller.ask(method, &(path(&nobody) + query), body).await;
                assert_eq!(plain(&reply, &named), plain(&expected, &nobody), "{what}");
            }
        }
    }
}

/// Lists show nothing of theirs, whatever filter or cursor comes with them.
async fn walk_lists(caller: &Caller<'_>, own: &Side<'_>, theirs: &Side<'_>, secrets: &Secrets) {
    let filters = [
        ("agent_id", IdKind::Agent),
        ("scope_id", IdKind::Session),
        ("ids[]", IdKind::File),
        ("after_id", IdKind::File),
        ("before_id", IdKind::File),
        ("session_id", IdKind::Session),
        ("vault_id", IdKind::Vault),
        ("credential_id", IdKind::Credential),
        ("workspace_id", IdKind::Workspace),
    ];
    let mut cursors = 0;
    for route in owned_routes().filter(|route| route.method == Method::GET) {
        let path = own.path(route.path);
        if path.ends_with("stream") || path.ends_with("content") {
            continue;
        }
        for query in ["", "?include_archived=true", "?order=asc", "?limit=1"] {
            let reply = caller.get(&format!("{path}{query}")).await;
            assert!(matches!(reply.status.as_u16(), 200 | 400), "{path}{query}: {}", reply.text);
            secrets.check(&reply, "", &format!("{path}{query}"));
        }
        for (filter, kind) in filters {
            let of_kind = |id: &&String| kind.is_well_formed(id);
            for id in secrets.0.iter().filter(of_kind) {
                let what = format!("{path}?{filter}={id}");
                let reply = caller.get(&what).await;
                secrets.check(&reply, id, &what);
                let nobody = unknown(kind);
                let expected = caller.get(&format!("{path}?{filter}={nobody}")).await;
                let expected = plain(&expected, &[nobody]);
                assert_eq!(plain(&reply, std::slice::from_ref(id)), expected, "{what}");
            }
        }
        let first = theirs.caller.get(&format!("{}?limit=1", theirs.path(route.path))).await;
        let Some(cursor) = first.status.is_success().then(|| first.json()["next_page"].clone())
        else {
            continue;
        };
        if let Some(cursor) = cursor.as_str() {
            cursors += 1;
            let what = format!("{path}?page={cursor}");
            let reply = caller.get(&what).await;
            secrets.check(&reply, "", &what);
            let expected = caller.get(&format!("{path}?page={}", forged(cursor))).await;
            assert_eq!(plain(&reply, &[]), plain(&expected, &[]), "{what}");
        }
    }
    assert!(cursors >= 11, "only {cursors} lists have had a cursor");
}

/// A cursor at the same place of a list, whose id was never given to anything.
fn forged(cursor: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(cursor.strip_prefix("page_").unwrap()).unwrap();
    let mut content: Value = serde_json::from_slice(&bytes).unwrap();
    if let Some(id) = content.get("i").and_then(Value::as_str) {
        let nobody = format!("{}{}", &id[..id.len() - 8], "zzzzzzzz");
        content["i"] = nobody.into();
    }
    format!("page_{}", URL_SAFE_NO_PAD.encode(content.to_string()))
}

/// A request that names an id in its body.
type Road<'a> = Box<dyn Fn(&str) -> (String, Value) + 'a>;

/// Ids inside of bodies.
async fn walk_bodies(caller: &Caller<'_>, own: &Side<'_>, theirs: &Side<'_>, secrets: &Secrets) {
    let base = json!({ "agent": own.ids["{agent}"], "environment_id": own.ids["{environment}"] });
    let session = |name: &str, value: Value| {
        let mut body = base.clone();
        body[name] = value;
        ("/v1/sessions".to_owned(), body)
    };
    let events = |event: Value| {
        let path = own.path("/v1/sessions/{session}/events");
        (path, json!({ "events": [event] }))
    };
    let exposed = |environment: Value, vaults: Value| {
        let tool = json!({ "name": "t", "environment_id": environment, "vault_ids": vaults });
        let body = json!({ "name": "a", "model": "test/m", "posthouse": { "mcp_tool": tool } });
        ("/v1/agents".to_owned(), body)
    };
    let file = |id: &str| json!({ "type": "file", "file_id": id });
    let overrides =
        |id: &str| json!({ "type": "agent_with_overrides", "id": id, "model": "test/m" });
    let text = json!([{ "type": "text", "text": "x" }]);
    let roads: Vec<(&str, IdKind, Road<'_>)> = vec![
        ("{agent}", IdKind::Agent, Box::new(|id| session("agent", json!(id)))),
        (
            "{agent}",
            IdKind::Agent,
            Box::new(|id| session("agent", json!({ "type": "agent", "id": id, "version": 1 }))),
        ),
        ("{agent}", IdKind::Agent, Box::new(|id| session("agent", overrides(id)))),
        (
            "{agent}",
            IdKind::Agent,
            Box::new(|id| {
                let roster = json!({ "type": "coordinator", "agents": [id] });
                let body = json!({ "name": "a", "model": "test/m", "multiagent": roster });
                ("/v1/agents".into(), body)
            }),
        ),
        ("{environment}", IdKind::Environment, Box::new(|id| session("environment_id", json!(id)))),
        ("{environment}", IdKind::Environment, Box::new(|id| exposed(json!(id), json!([])))),
        (
            "{vault}",
            IdKind::Vault,
            Box::new(|id| exposed(json!(own.ids["{environment}"]), json!([id]))),
        ),
        ("{file}", IdKind::File, Box::new(|id| session("resources", json!([file(id)])))),
        ("{vault}", IdKind::Vault, Box::new(|id| session("vault_ids", json!([id])))),
        (
            "{file}",
            IdKind::File,
            Box::new(|id| (own.path("/v1/sessions/{session}/resources"), file(id))),
        ),
        (
            "{file}",
            IdKind::File,
            Box::new(|id| {
                let source = json!({ "type": "file", "file_id": id });
                let content = json!([{ "type": "document", "source": source }]);
                events(json!({ "type": "user.message", "content": content }))
            }),
        ),
        (
            "{thread}",
            IdKind::Thread,
            Box::new(|id| events(json!({ "type": "user.interrupt", "session_thread_id": id }))),
        ),
        (
            "event",
            IdKind::Event,
            Box::new(|id| {
                events(
                    json!({ "type": "user.tool_confirmation", "tool_use_id": id, "result": "allow" }),
                )
            }),
        ),
        (
            "event",
            IdKind::Event,
            Box::new(|id| {
                events(json!({
                    "type": "user.custom_tool_result", "custom_tool_use_id": id, "content": text,
                }))
            }),
        ),
        (
            "workspace",
            IdKind::Workspace,
            Box::new(|id| {
                let body = json!({ "name": "k", "scopes": ["agents:read"], "workspace_id": id });
                ("/posthouse/v1/keys".into(), body)
            }),
        ),
    ];
    for (name, kind, road) in roads {
        let theirs = match name {
            "event" => &theirs.event,
            "workspace" => &theirs.workspace,
            name => &theirs.ids[name],
        };
        let (path, body) = road(theirs);
        let what = format!("{path} {body}");
        let reply = caller.ask(&Method::POST, &path, &body).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403 | 404), "{what}: {}", reply.text);
        secrets.check(&reply, &what, &what);
        let nobody = unknown(kind);
        let (path, body) = road(&nobody);
        let expected = caller.ask(&Method::POST, &path, &body).await;
        let reply = plain(&reply, std::slice::from_ref(theirs));
        assert_eq!(reply, plain(&expected, &[nobody]), "{what}");
    }
}

/// Ids of theirs, damaged in some way, wherever an id may stand.
async fn walk_damaged(caller: &Caller<'_>, own: &Side<'_>, theirs: &Side<'_>, secrets: &Secrets) {
    let pieces = ["0", "z", "_", "%00", "%2F", "%2e%2e%2f", "..", "'", "%22", "%C3%A9", "*", "%25"];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let routes: Vec<Route> = owned_routes().filter(|route| route.path.contains('{')).collect();
    for _ in 0..600 {
        let route = &routes[draw(routes.len())];
        let parameters = parameters(route);
        let name = parameters[draw(parameters.len())];
        let id = &theirs.ids[name];
        let (at, piece) = (draw(id.len()), pieces[draw(pieces.len())]);
        let damaged = match draw(6) {
            0 => id[..at].to_owned(),
            1 => format!("{}{piece}{}", &id[..at], &id[at + 1..]),
            2 => format!("{}{piece}{}", &id[..at], &id[at..]),
            3 => format!("{id}{piece}"),
            4 => id.to_ascii_uppercase(),
            _ => format!("{piece}{id}"),
        };
        let path = own.path(&route.path.replace(name, &damaged));
        let reply = caller.ask(&route.method, &path, &body_for(route.path, own)).await;
        let what = format!("{} {path}", route.method);
        assert!(matches!(reply.status.as_u16(), 400 | 404 | 405), "{what}: {}", reply.text);
        secrets.check(&reply, &path, &what);
    }
}

#[tokio::test]
async fn what_belongs_to_another_workspace_is_not_there() {
    let app = TestApp::new().await;
    let own = Side::new(&app, "mine").await;
    let theirs = Side::new(&app, MARK).await;
    let before = theirs.look().await;
    let secrets = Secrets::of(&theirs).await;
    let bound = Caller { app: &app, secret: own.caller.secret.clone(), workspace: None };
    // An administrator is as blind where he has said in which workspace he works.
    let inside = Caller { app: &app, secret: KEY.into(), workspace: Some(own.workspace.clone()) };
    for caller in [&bound, &inside] {
        walk_paths(caller, &own, &theirs, &secrets).await;
        walk_lists(caller, &own, &theirs, &secrets).await;
        walk_bodies(caller, &own, &theirs, &secrets).await;
        walk_damaged(caller, &own, &theirs, &secrets).await;
    }
    let named = |workspace: &str| Caller {
        app: &app,
        secret: own.caller.secret.clone(),
        workspace: Some(workspace.to_owned()),
    };
    let nobody = unknown(IdKind::Workspace);
    let (refused, expected) =
        (named(&theirs.workspace).get("/v1/agents").await, named(&nobody).get("/v1/agents").await);
    assert_eq!(refused.status, 403);
    assert_eq!(plain(&refused, &[]), plain(&expected, &[]));
    assert_eq!(theirs.look().await, before, "nothing of theirs has changed");
}

#[tokio::test]
async fn an_answer_is_given_again_in_its_own_workspace_alone() {
    let app = TestApp::new().await;
    let (one, two) = (workspace(&app, "one").await, workspace(&app, "two").await);
    let post = async |app: &TestApp, workspace: &str, header: (&str, &str)| {
        let request = app.request(Method::POST, "/v1/environments");
        let request = request.header("anthropic-workspace-id", workspace);
        let body = json!({ "name": "e" }).to_string();
        id_of(&send(request.header(header.0, header.1).body(body)).await.ok())
    };
    let key = ("idempotency-key", "k");
    let first = post(&app, &one, key).await;
    assert_eq!(post(&app, &one, key).await, first);
    assert_ne!(post(&app, &two, key).await, first);
    let first = post(&app, &one, ("x-stainless-retry-count", "0")).await;
    let app = app.restart().await;
    let retry = ("x-stainless-retry-count", "1");
    assert_ne!(post(&app, &two, retry).await, first);
    assert_eq!(post(&app, &one, retry).await, first);
}

#[tokio::test]
async fn a_sandbox_is_seen_and_ended_from_its_own_workspace_alone() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    let call = ModelReply::text("Look.").and_tool_use("bash", json!({ "command": "true" }));
    server.model.push(call.and_stall());
    server.say(&session, "Look.").await;
    until(PATIENCE, "no sandbox was started", async || !server.sandboxes().await.is_empty()).await;

    let other = server.post("/posthouse/v1/workspaces", json!({ "name": "other" })).await.ok();
    let body = json!({ "name": "k", "scopes": ["*:*"], "workspace_id": other["id"] });
    let key = secret(&server.post("/posthouse/v1/keys", body).await.ok());
    let ask = async |method: Method, path: &str| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        app::send(http.request(method, format!("{}{path}", server.url)).bearer_auth(&key)).await
    };
    let list = ask(Method::GET, "/posthouse/v1/sandboxes").await.ok();
    assert_eq!(list, json!({ "data": [] }));
    let kill = |session: &str| format!("/posthouse/v1/sandboxes/{session}/kill");
    let refused = ask(Method::POST, &kill(&session)).await;
    let expected = ask(Method::POST, &kill(&unknown(IdKind::Session))).await;
    assert_eq!(refused.status, 404);
    assert_eq!(plain(&refused, &[]), plain(&expected, &[]));
    assert_eq!(server.sandboxes().await.len(), 1);
    assert!(!server.is_idle(&session).await);
    let records = |session: &str| format!("/posthouse/v1/sandboxes/{session}/records");
    let refused = ask(Method::GET, &records(&session)).await;
    let expected = ask(Method::GET, &records(&unknown(IdKind::Session))).await;
    assert_eq!((refused.status.as_u16(), plain(&refused, &[])), (404, plain(&expected, &[])));
    server.get(&records(&session)).await.ok();
    let killed = server.post(&kill(&session), Value::Null).await.ok();
    assert_eq!(killed["was_live"], true);
}
