//! Every case of every table, sent to a real server: what the tables say is what it does, and what
//! it refuses leaves nothing.

use posthouse_protocol::{
    id::IdKind,
    schema::{
        Kind, Table, agents,
        cases::{self, Case, Outcome, Walk},
        credentials, environments, events, files, lists, own, resources, sessions, vaults,
    },
};
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp},
    files::{upload, upload_parts},
};

/// A server with one of each thing.
struct World {
    app: TestApp,
    agent: Value,
    environment: Value,
    session: Value,
    file: Value,
    vault: Value,
    credential: Value,
}

impl World {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let agent = json!({ "name": "a", "model": "test/own" });
        let agent = app.post("/v1/agents", agent).await.ok()["id"].take();
        let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
        let environment = environment["id"].clone();
        let session = json!({ "agent": agent, "environment_id": environment });
        let session = app.post("/v1/sessions", session).await.ok()["id"].take();
        let file = upload(&app, "a.txt", "a").await["id"].take();
        let vault = app.post("/v1/vaults", json!({ "display_name": "v" })).await.ok()["id"].take();
        let path = format!("/v1/vaults/{}/credentials", vault.as_str().unwrap());
        let credential = app.post(&path, json!({ "auth": oauth() })).await.ok()["id"].take();
        Self { app, agent, environment, session, file, vault, credential }
    }

    /// Ids of what is there.
    fn known(&self, kind: &Kind) -> Option<Value> {
        match kind {
            Kind::Id(IdKind::Agent) | Kind::Forms([Kind::Id(IdKind::Agent), ..]) => {
                Some(self.agent.clone())
            }
            Kind::Id(IdKind::Environment) => Some(self.environment.clone()),
            Kind::Id(IdKind::File) => Some(self.file.clone()),
            Kind::Id(IdKind::Vault) => Some(self.vault.clone()),
            Kind::Id(IdKind::Session) => Some(self.session.clone()),
            _ => None,
        }
    }

    fn path(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for (name, id) in [
            ("{agent}", &self.agent),
            ("{environment}", &self.environment),
            ("{session}", &self.session),
            ("{vault}", &self.vault),
            ("{credential}", &self.credential),
        ] {
            path = path.replace(name, id.as_str().unwrap());
        }
        path
    }

    /// How many things there are, and what the one of each kind looks like.
    async fn picture(&self) -> Vec<Value> {
        let mut picture = Vec::new();
        for path in [
            "/v1/agents?limit=100",
            "/v1/environments?limit=1000",
            "/v1/agents/{agent}",
            "/v1/agents/{agent}/versions",
            "/v1/environments/{environment}",
            "/v1/sessions/{session}/events",
            "/v1/sessions/{session}/resources",
            "/v1/files?limit=1000",
            "/v1/vaults?limit=100&include_archived=true",
            "/v1/vaults/{vault}/credentials?limit=100&include_archived=true",
        ] {
            picture.push(self.app.get(&self.path(path)).await.ok());
        }
        // A session's times run.
        for session in
            self.app.get("/v1/sessions?limit=1000").await.ok()["data"].as_array().unwrap()
        {
            let mut session = session.clone();
            session.as_object_mut().unwrap().shift_remove("stats");
            picture.push(session);
        }
        picture
    }
}

/// What a credential is that has something of everything.
fn oauth() -> Value {
    json!({
        "type": "mcp_oauth", "mcp_server_url": "https://a.example", "access_token": "t",
        "refresh": {
            "client_id": "c", "token_endpoint": "https://b.example", "refresh_token": "r",
            "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": "s" },
        },
    })
}

/// What is wrong with an answer to a case.
fn problem<T: std::fmt::Display>(case: &Case<T>, reply: &Reply) -> Option<String> {
    let fits = match &case.outcome {
        Outcome::Taken => reply.status == 200,
        Outcome::Open => [200, 400, 404, 409].contains(&reply.status.as_u16()),
        Outcome::Refused(says) => reply.status == 400 && reply.refused(400).contains(says.as_str()),
    };
    let sent: String = case.sent.to_string().chars().take(200).collect();
    (!fits).then(|| format!("{}\n  {sent}\n  {:?}\n  {}", case.what, case.outcome, reply.text))
}

/// Sends every case of a body that must be refused and holds the server against its picture of
/// before, then, where they may be taken, all others.
async fn bodies(path: &str, table: &'static Table, base: Option<Value>, may_take: bool) {
    let world = World::new().await;
    let known = |kind: &Kind| world.known(kind);
    let walk = Walk { known: &known };
    let base = base.unwrap_or_else(|| walk.minimal(table));
    let (refused, others): (Vec<_>, Vec<_>) = walk
        .bodies(table, &base)
        .into_iter()
        // A body that is null is none at all for these clients.
        .filter(|case| !case.sent.is_null())
        .partition(|case| matches!(case.outcome, Outcome::Refused(_)));
    assert!(refused.len() > 5, "{} has {} cases", table.name, refused.len());
    let path = world.path(path);
    let mut problems = Vec::new();
    let before = world.picture().await;
    for case in &refused {
        problems.extend(problem(case, &world.app.post(&path, case.sent.clone()).await));
    }
    assert!(world.picture().await == before, "{}: what was refused has left something", table.name);
    if may_take {
        for case in &others {
            let reply = world.app.post(&path, case.sent.clone()).await;
            problems.extend(problem(case, &reply));
            // The next one may be a tool of the same name.
            if path == "/v1/agents" && reply.status == 200 {
                let id = reply.json()["id"].as_str().unwrap().to_owned();
                world.app.post(&format!("/v1/agents/{id}/archive"), Value::Null).await.ok();
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn agents_are_taken_and_refused_as_their_tables_say() {
    bodies("/v1/agents", &agents::CREATE, None, true).await;
    bodies("/v1/agents/{agent}", &agents::UPDATE, Some(json!({})), true).await;
}

#[tokio::test]
async fn environments_are_taken_and_refused_as_their_tables_say() {
    bodies("/v1/environments", &environments::CREATE, None, true).await;
    bodies("/v1/environments/{environment}", &environments::UPDATE, Some(json!({})), true).await;
}

#[tokio::test]
async fn sessions_are_taken_and_refused_as_their_tables_say() {
    bodies("/v1/sessions", &sessions::CREATE, None, true).await;
    bodies("/v1/sessions/{session}", &sessions::UPDATE, Some(json!({})), true).await;
}

#[tokio::test]
async fn keys_and_workspaces_are_taken_and_refused_as_their_tables_say() {
    bodies("/posthouse/v1/keys", &own::KEY_CREATE, None, true).await;
    bodies("/posthouse/v1/workspaces", &own::WORKSPACE_CREATE, None, true).await;
}

#[tokio::test]
async fn vaults_and_credentials_are_taken_and_refused_as_their_tables_say() {
    bodies("/v1/vaults", &vaults::CREATE, None, true).await;
    bodies("/v1/vaults/{vault}", &vaults::UPDATE, Some(json!({})), true).await;
    // Of one server there is one: what is taken is tried where it is read.
    bodies("/v1/vaults/{vault}/credentials", &credentials::CREATE, None, false).await;
    let path = "/v1/vaults/{vault}/credentials/{credential}";
    bodies(path, &credentials::UPDATE, Some(json!({})), true).await;
}

#[tokio::test]
async fn events_and_resources_are_refused_as_their_tables_say() {
    bodies("/v1/sessions/{session}/events", &events::BATCH, None, false).await;
    bodies("/v1/sessions/{session}/resources", &resources::FILE, None, false).await;
}

#[tokio::test]
async fn queries_are_taken_and_refused_as_their_tables_say() {
    let world = World::new().await;
    let threads = world.app.get(&world.path("/v1/sessions/{session}/threads")).await.ok();
    let thread = threads["data"][0]["id"].as_str().unwrap();
    let of_thread = format!("/v1/sessions/{{session}}/threads/{thread}/events");
    let tables: [(&str, &Table); 15] = [
        ("/posthouse/v1/sandboxes/{session}/records", &own::RECORDS),
        ("/posthouse/v1/credential_uses", &vaults::USES),
        ("/v1/vaults", &lists::VAULTS),
        ("/v1/vaults/{vault}/credentials", &lists::CREDENTIALS),
        ("/posthouse/v1/keys", &own::LIST),
        ("/posthouse/v1/workspaces", &own::LIST),
        ("/v1/agents", &lists::AGENTS),
        ("/v1/agents/{agent}", &lists::AGENT),
        ("/v1/agents/{agent}/versions", &lists::VERSIONS),
        ("/v1/environments", &lists::ENVIRONMENTS),
        ("/v1/sessions", &lists::SESSIONS),
        ("/v1/sessions/{session}/resources", &lists::RESOURCES),
        ("/v1/sessions/{session}/threads", &lists::THREADS),
        ("/v1/sessions/{session}/events", &lists::EVENTS),
        (&of_thread, &lists::THREAD_EVENTS),
    ];
    let mut problems = Vec::new();
    for (path, table) in tables {
        for case in cases::queries(table) {
            // Of this version there is one.
            if case.sent.ends_with(&format!("version={}", i64::MAX)) && path.contains("{agent}") {
                continue;
            }
            let reply = world.app.get(&format!("{}?{}", world.path(path), case.sent)).await;
            problems.extend(problem(&case, &reply));
        }
    }
    for case in cases::queries(&lists::FILES) {
        let reply = world.app.get(&format!("/v1/files?{}", case.sent)).await;
        problems.extend(problem(&case, &reply));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn queries_of_streams_are_taken_and_refused_as_their_table_says() {
    let world = World::new().await;
    // Of a session that is over a stream ends by itself.
    world.app.post(&world.path("/v1/sessions/{session}/archive"), Value::Null).await.ok();
    let threads = world.app.get(&world.path("/v1/sessions/{session}/threads")).await.ok();
    let thread = threads["data"][0]["id"].as_str().unwrap();
    let of_thread = format!("/v1/sessions/{{session}}/threads/{thread}/stream");
    let mut problems = Vec::new();
    for path in ["/v1/sessions/{session}/events/stream", &of_thread] {
        for case in cases::queries(&lists::STREAM) {
            let reply = world.app.get(&format!("{}?{}", world.path(path), case.sent)).await;
            problems.extend(problem(&case, &reply));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn a_file_lives_as_long_as_its_row_allows() {
    let world = World::new().await;
    let life = files::EXPIRES_IN.bounds();
    for (seconds, taken) in [
        (life.start() - 1, false),
        (*life.start(), true),
        (*life.end(), true),
        (life.end() + 1, false),
    ] {
        let seconds = seconds.to_string();
        let parts = [("file", "", &b"x"[..]), (files::EXPIRES_IN.name, "", seconds.as_bytes())];
        let reply = upload_parts(&world.app, &parts).await;
        assert_eq!(reply.status == 200, taken, "{seconds}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_cursor_is_bound_to_the_bounds_of_its_list() {
    let world = World::new().await;
    let events = world.path("/v1/sessions/{session}/events");
    for title in ["a", "b", "c"] {
        let session = world.path("/v1/sessions/{session}");
        world.app.post(&session, json!({ "title": title })).await.ok();
    }
    let page = world.app.get(&format!("{events}?limit=1")).await.ok();
    let at = page["data"][0]["processed_at"].as_str().unwrap();
    let next = page["next_page"].as_str().unwrap();
    let rest = world.app.get(&format!("{events}?page={next}&created_at[gte]={at}")).await.ok();
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    let outside = world.app.get(&format!("{events}?page={next}&created_at[gt]={at}")).await;
    assert!(outside.refused(400).starts_with("created_at: leaves out the page's position"));
}

#[tokio::test]
async fn what_takes_no_fields_and_no_query_says_so() {
    let world = World::new().await;
    let closed = ["/v1/agents/{agent}/archive", "/v1/environments/{environment}/archive"];
    let last = [
        "/v1/sessions/{session}/archive",
        "/v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate",
        "/v1/vaults/{vault}/credentials/{credential}/archive",
        "/v1/vaults/{vault}/archive",
    ];
    for path in closed.into_iter().chain(last) {
        let path = world.path(path);
        let refused = world.app.post(&path, json!({ "x": 1 })).await.refused(400);
        assert_eq!(refused, "Failed to parse request body: unknown field \"x\"");
        let refused = world.app.post(&format!("{path}?x=1"), Value::Null).await.refused(400);
        assert_eq!(refused, "x: is no parameter of this request; leave it out");
        world.app.post(&format!("{path}?beta=true"), Value::Null).await.ok();
    }
}
