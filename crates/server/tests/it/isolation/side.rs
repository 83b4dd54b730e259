//! A workspace that has two of everything, and those who ask for it.

use std::collections::BTreeMap;

use posthouse::{api::call::now, keys::mint};
use posthouse_protocol::id::IdKind;
use posthouse_store::tables::{
    files::{self, NewFile},
    sandbox_records::{self, SandboxRecordRow},
    uses::{self, UseRow},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{owned_routes, plain};
use crate::{
    app::{Reply, TestApp, send},
    files::{BOUNDARY, form},
    keys::{make, secret, workspace},
    server::{PATIENCE, until},
};

/// Who asks: a key, and the workspace that he names, if any.
pub(super) struct Caller<'a> {
    pub(super) app: &'a TestApp,
    pub(super) secret: String,
    pub(super) workspace: Option<String>,
}

impl Caller<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.app.bare(method, path).bearer_auth(&self.secret);
        match &self.workspace {
            Some(workspace) => request.header("anthropic-workspace-id", workspace),
            None => request,
        }
    }

    pub(super) async fn ask(&self, method: &Method, path: &str, body: &Value) -> Reply {
        let request = self.request(method.clone(), path);
        send(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask(&Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(&Method::POST, path, &body).await.ok()
    }

    async fn upload(&self, content: &str) -> String {
        let head = format!("; filename=\"{content}\"\r\ncontent-type: text/plain");
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.request(Method::POST, "/v1/files").header("content-type", kind);
        id_of(&send(request.body(form(&[("file", &head, content.as_bytes())]))).await.ok())
    }
}

/// A workspace with two of each kind of thing.
pub(super) struct Side<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) workspace: String,
    /// One id of each kind that paths can name.
    pub(super) ids: BTreeMap<&'static str, String>,
    pub(super) event: String,
    output: String,
}

impl<'a> Side<'a> {
    pub(super) async fn new(app: &'a TestApp, name: &str) -> Self {
        let workspace = workspace(app, name).await;
        let more = json!({ "name": name, "workspace_id": workspace });
        make(app, json!(["agents:read"]), more.clone()).await;
        let key = make(app, json!(["*:*"]), more).await;
        let caller = Caller { app, secret: secret(&key), workspace: None };
        let mut side = Self {
            caller,
            workspace,
            ids: BTreeMap::from([("{key}", id_of(&key))]),
            event: String::new(),
            output: String::new(),
        };
        for _ in 0..2 {
            side.fill(name).await;
        }
        side
    }

    async fn fill(&mut self, name: &str) {
        let caller = &self.caller;
        let agent = json!({ "name": name, "model": "test/m", "description": name });
        let agent = id_of(&caller.post("/v1/agents", agent).await);
        let change = json!({ "version": 1, "system": name });
        caller.post(&format!("/v1/agents/{agent}"), change).await;
        let environment = id_of(&caller.post("/v1/environments", json!({ "name": name })).await);
        let file = caller.upload(name).await;
        let one = json!({ "type": "file", "file_id": file, "mount_path": format!("/{name}/1") });
        let two = json!({ "type": "file", "file_id": file, "mount_path": format!("/{name}/2") });
        let (vault, credential) = self.fill_vault(name).await;
        let body = json!({
            "agent": agent, "environment_id": environment, "title": name, "resources": [one, two],
            "metadata": { name: name }, "vault_ids": [vault],
        });
        let session = caller.post("/v1/sessions", body).await;
        let path = format!("/v1/sessions/{}", id_of(&session));
        let resource = id_of(&session["resources"][0]);
        let send = async |event: Value| {
            caller.post(&format!("{path}/events"), json!({ "events": [event] })).await
        };
        let sent = send(say(name)).await;
        // At rest it is not safe because it is busy.
        send(json!({ "type": "user.interrupt" })).await;
        let idle = async || caller.get(&path).await.ok()["status"] == "idle";
        until(PATIENCE, "the session is not at rest", idle).await;
        let event = id_of(&sent["data"][0]);
        let threads = caller.get(&format!("{path}/threads")).await.ok();
        let thread = id_of(&threads["data"][0]);
        let output = self.bring_forth(&id_of(&session), name).await;
        self.note_use(&vault, &credential, &id_of(&session)).await;
        self.ids.extend([
            ("{agent}", agent),
            ("{environment}", environment),
            ("{file}", file),
            ("{session}", id_of(&session)),
            ("{resource}", resource),
            ("{thread}", thread),
            ("{vault}", vault),
            ("{credential}", credential),
        ]);
        (self.event, self.output) = (event, output);
    }

    /// A vault with two credentials; its id and that of the second one.
    async fn fill_vault(&self, name: &str) -> (String, String) {
        let body = json!({ "display_name": name, "metadata": { name: name } });
        let vault = id_of(&self.caller.post("/v1/vaults", body).await);
        let path = format!("/v1/vaults/{vault}/credentials");
        self.caller.post(&path, variable("ONE")).await;
        let mut body = variable("TWO");
        body["display_name"] = name.into();
        (vault, id_of(&self.caller.post(&path, body).await))
    }

    /// A line in the ledger.
    async fn note_use(&self, vault: &str, credential: &str, session: &str) {
        let id = mint(IdKind::CredentialUse, now()).unwrap();
        let body = json!({
            "type": "credential_use", "id": id, "vault_id": vault, "credential_id": credential,
            "session_id": session, "event_ids": [], "kind": "egress", "host": "a.example",
            "port": 443, "method": "GET", "location": { "header": true, "body": false },
            "created_at": now().to_rfc3339(),
        });
        let row = UseRow {
            id,
            workspace: self.workspace.clone(),
            vault: vault.to_owned(),
            credential: credential.to_owned(),
            session: Some(session.to_owned()),
            body: body.to_string(),
            at: now().0,
        };
        let database = &self.caller.app.running.app.database;
        database.write(move |connection| uses::insert(connection, &[row])).await.unwrap();
    }

    /// A file that a session's tools have made, which can be downloaded; and what the sandbox has
    /// refused meanwhile.
    async fn bring_forth(&self, session: &str, name: &str) -> String {
        let app = &self.caller.app.running.app;
        let mut incoming = app.blobs.begin(1 << 20).unwrap();
        incoming.write(name.as_bytes()).unwrap();
        let mut content = incoming.finish().unwrap();
        let id = mint(IdKind::File, now()).unwrap();
        let (filename, mime_type) = (name.to_owned(), "text/plain".to_owned());
        let file = NewFile { id: id.clone(), filename, mime_type, at: now(), expires_at: None };
        let (workspace, session) = (self.workspace.clone(), session.to_owned());
        let records = [0, 1].map(|_| {
            let id = mint(IdKind::SandboxRecord, now()).unwrap();
            let body = json!({
                "type": "sandbox_record", "id": id, "session_id": session, "kind": "deny",
                "host": format!("{name}.example"),
            });
            let (body, session) = (body.to_string(), session.clone());
            SandboxRecordRow { id, session, kind: "deny".into(), body, at: now().0 }
        });
        let write = app.database.write(move |to| {
            sandbox_records::insert(to, &records)?;
            files::insert_output(to, &workspace, &session, file, &mut content, 1 << 30)
        });
        write.await.unwrap();
        id
    }

    /// A path with ids of this side.
    pub(super) fn path(&self, route: &str) -> String {
        let own = |part| self.ids.get(part).map_or(part, String::as_str);
        route.split('/').map(own).collect::<Vec<_>>().join("/")
    }

    /// All that it sees of itself, by path.
    pub(super) async fn look(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for route in owned_routes().filter(|route| route.method == Method::GET) {
            // Streams have no end, and most contents are for the tools alone.
            if !route.path.ends_with("stream") && !route.path.ends_with("content") {
                let path = self.path(route.path);
                let reply = self.caller.get(&path).await;
                assert_eq!(reply.status, 200, "{path}: {}", reply.text);
                seen.insert(path, plain(&reply, &[]).1);
            }
        }
        let content = format!("/v1/files/{}/content", self.output);
        seen.insert(content.clone(), self.caller.get(&content).await.text);
        seen
    }
}

pub(super) fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

/// A credential for a variable.
pub(super) fn variable(name: &str) -> Value {
    json!({ "auth": {
        "type": "environment_variable", "secret_name": name, "secret_value": "v",
        "networking": { "type": "unrestricted" },
    } })
}

pub(super) fn say(text: &str) -> Value {
    json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] })
}
