//! Vaults, credentials and the ledger over HTTP.

use std::{path::Path, sync::Arc, time::Duration};

use posthouse::{config::Egress, start::start};
use posthouse_protocol::{Micros, id::IdKind};
use posthouse_store::{
    answers,
    tables::{
        credentials,
        uses::{self, UseRow},
        vaults,
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    app::{KEY, Silent, TestApp, config, send},
    keys::{make, secret},
};

const URL: &str = "https://mcp.example.com/mcp";

fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// The path of a new vault.
async fn new_vault(app: &TestApp) -> String {
    let made = app.post("/v1/vaults", json!({ "display_name": "v" })).await.ok();
    format!("/v1/vaults/{}", id_of(&made))
}

fn bearer(url: &str) -> Value {
    json!({ "auth": { "type": "static_bearer", "mcp_server_url": url, "token": "t" } })
}

fn variable(name: &str) -> Value {
    json!({ "auth": {
        "type": "environment_variable", "secret_name": name, "secret_value": "v",
        "networking": { "type": "unrestricted" },
    } })
}

fn oauth(url: &str) -> Value {
    json!({ "auth": {
        "type": "mcp_oauth", "mcp_server_url": url, "access_token": "a",
        "refresh": {
            "client_id": "c", "token_endpoint": "https://auth.example.com/t", "refresh_token": "r",
            "token_endpoint_auth": { "type": "client_secret_post", "client_secret": "s" },
        },
    } })
}

#[tokio::test]
async fn a_vault_lives_and_goes() {
    let app = TestApp::new().await;
    let body = json!({ "display_name": "Ada", "metadata": { "a": "1" } });
    let made = app.post("/v1/vaults", body).await.ok();
    assert_eq!(made["type"], "vault");
    let path = format!("/v1/vaults/{}", id_of(&made));
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(app.post(&path, json!({})).await.ok(), made);
    let change = json!({ "display_name": "Bob", "metadata": { "a": null, "b": "2" } });
    let changed = app.post(&path, change).await.ok();
    assert_eq!(changed["display_name"], "Bob");
    assert_eq!(changed["metadata"], json!({ "b": "2" }));

    let archived = app.post(&format!("{path}/archive"), Value::Null).await.ok();
    assert_eq!(app.post(&format!("{path}/archive"), Value::Null).await.ok(), archived);
    let expected = format!("Vault {} is archived.", id_of(&made));
    assert_eq!(app.post(&path, json!({ "display_name": "C" })).await.refused(400), expected);
    let refused = app.post(&format!("{path}/credentials"), variable("A")).await;
    assert_eq!(refused.refused(400), expected);
    assert_eq!(app.get("/v1/vaults").await.ok()["data"], json!([]));
    let all = app.get("/v1/vaults?include_archived=true").await.ok();
    assert_eq!(all, json!({ "data": [archived], "next_page": null }));

    let deleted = app.delete(&path).await.ok();
    assert_eq!(deleted, json!({ "id": made["id"], "type": "vault_deleted" }));
    for refused in [app.get(&path).await, app.delete(&path).await] {
        assert_eq!(refused.refused(404), "Vault not found.");
    }
    assert_eq!(app.get("/v1/vaults/x").await.refused(400), "Invalid vault ID.");
    let refused = app.get(&format!("{path}/credentials")).await;
    assert_eq!(refused.refused(404), "Vault not found.");
}

#[tokio::test]
async fn a_credential_lives_and_goes() {
    let app = TestApp::new().await;
    let vault = new_vault(&app).await;
    let list = format!("{vault}/credentials");
    let made = app.post(&list, oauth(URL)).await.ok();
    assert_eq!(made["vault_id"], vault["/v1/vaults/".len()..]);
    let path = format!("{list}/{}", id_of(&made));
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(app.post(&path, json!({})).await.ok(), made);
    let change = json!({
        "display_name": "n", "auth": { "type": "mcp_oauth", "refresh": { "refresh_token": "r2" } },
    });
    let changed = app.post(&path, change).await.ok();
    assert_eq!((&changed["display_name"], &changed["auth"]), (&json!("n"), &made["auth"]));
    assert_eq!(app.get(&list).await.ok(), json!({ "data": [changed], "next_page": null }));
    let other = new_vault(&app).await;
    let elsewhere = path.replace(&vault, &other);
    assert_eq!(app.get(&elsewhere).await.refused(404), "Credential not found.");

    let archived = app.post(&format!("{path}/archive"), Value::Null).await.ok();
    assert_eq!(app.post(&format!("{path}/archive"), Value::Null).await.ok(), archived);
    assert!(archived["archived_at"].is_string());
    let refused = app.post(&path, json!({ "display_name": "m" })).await;
    assert_eq!(refused.refused(400), "Credential is archived.");
    assert_eq!(app.get(&list).await.ok()["data"], json!([]));
    let all = app.get(&format!("{list}?include_archived=true")).await.ok();
    assert_eq!(all["data"], json!([archived]));

    let deleted = app.delete(&path).await.ok();
    assert_eq!(deleted, json!({ "id": made["id"], "type": "vault_credential_deleted" }));
    for refused in [app.get(&path).await, app.delete(&path).await] {
        assert_eq!(refused.refused(404), "Credential not found.");
    }
    let refused = app.get(&format!("{list}/x")).await;
    assert_eq!(refused.refused(400), "Invalid credential ID.");
}

#[tokio::test]
async fn what_is_archived_is_wiped_and_what_is_deleted_is_gone() {
    let app = TestApp::new().await;
    let database = &app.running.app.database;
    let vault = new_vault(&app).await;
    let list = format!("{vault}/credentials");
    let one = id_of(&app.post(&list, variable("ONE")).await.ok());
    let two = id_of(&app.post(&list, bearer(URL)).await.ok());
    let id = vault["/v1/vaults/".len()..].to_owned();
    let workspace = app.get("/posthouse/v1/workspaces").await.ok()["data"][0]["id"].take();
    let workspace = workspace.as_str().unwrap();
    let sealed = |credential: &str| {
        database
            .read(|connection| credentials::find(connection, workspace, &id, credential))
            .unwrap()
            .map(|row| row.sealed.is_some())
    };
    assert_eq!((sealed(&one), sealed(&two)), (Some(true), Some(true)));
    app.post(&format!("{list}/{one}/archive"), Value::Null).await.ok();
    assert_eq!((sealed(&one), sealed(&two)), (Some(false), Some(true)));
    app.post(&format!("{vault}/archive"), Value::Null).await.ok();
    assert_eq!((sealed(&one), sealed(&two)), (Some(false), Some(false)));
    let row = database.read(|connection| vaults::find(connection, workspace, &id)).unwrap();
    assert_eq!(row.map(|row| (row.root_key, row.data_key)), Some((None, None)));
    let shown = app.get(&format!("{list}?include_archived=true")).await.ok();
    assert!(shown["data"].as_array().unwrap().iter().all(|one| one["archived_at"].is_string()));
    app.delete(&vault).await.ok();
    assert_eq!((sealed(&one), sealed(&two)), (None, None));
}

#[tokio::test]
async fn a_vault_has_one_live_credential_for_a_server_or_variable() {
    let app = TestApp::new().await;
    let vault = new_vault(&app).await;
    let list = format!("{vault}/credentials");
    let first = app.post(&list, bearer(URL)).await.ok();
    for same in [bearer(URL), oauth("HTTPS://MCP.example.com:443/mcp/")] {
        let refused = app.post(&list, same).await;
        let message = refused.refused(409);
        assert!(message.starts_with("auth.mcp_server_url: another live credential"), "{message}");
        assert_eq!(refused.headers["x-should-retry"], "false");
    }
    app.post(&list, bearer(&format!("{URL}?key=2"))).await.ok();
    app.post(&list, variable("A")).await.ok();
    let message = app.post(&list, variable("A")).await.refused(409);
    assert!(message.starts_with("auth.secret_name: another live credential"), "{message}");
    app.post(&list, variable("a")).await.ok();
    let other = new_vault(&app).await;
    app.post(&format!("{other}/credentials"), bearer(URL)).await.ok();
    // What is archived frees it.
    app.post(&format!("{list}/{}/archive", id_of(&first)), Value::Null).await.ok();
    app.post(&list, oauth(URL)).await.ok();
}

#[tokio::test]
async fn a_vault_has_twenty_live_credentials_at_most() {
    let app = TestApp::new().await;
    let vault = new_vault(&app).await;
    let list = format!("{vault}/credentials");
    let mut last = String::new();
    for number in 0..20 {
        last = id_of(&app.post(&list, variable(&format!("A{number}"))).await.ok());
    }
    let message = app.post(&list, variable("B")).await.refused(400);
    assert!(message.ends_with("has 20 credentials; archive or delete one first"), "{message}");
    app.post(&format!("{list}/{last}/archive"), Value::Null).await.ok();
    app.post(&list, variable("B")).await.ok();
    let page = app.get(&format!("{list}?limit=15")).await.ok();
    let next = page["next_page"].as_str().unwrap();
    let rest = app.get(&format!("{list}?limit=15&page={next}")).await.ok();
    assert_eq!(rest["data"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let app = TestApp::new().await;
    let list = format!("{}/credentials", new_vault(&app).await);
    let path = format!("{list}/{}", id_of(&app.post(&list, variable("A")).await.ok()));
    let changes = (0..8).map(|number| {
        let body = json!({
            "metadata": { number.to_string(): "x" },
            "auth": { "type": "environment_variable", "secret_value": number.to_string() },
        });
        app.post(&path, body)
    });
    for reply in futures_util::future::join_all(changes).await {
        reply.ok();
    }
    let metadata = app.get(&path).await.ok()["metadata"].take();
    assert_eq!(metadata.as_object().unwrap().len(), 8, "{metadata}");
}

#[tokio::test]
async fn a_post_that_comes_again_does_nothing_twice() {
    let app = TestApp::new().await;
    let list = format!("{}/credentials", new_vault(&app).await);
    let post = async |path: &str, body: Value| {
        let request = app.request(Method::POST, path).header("idempotency-key", "k");
        send(request.body(body.to_string())).await
    };
    let made = post(&list, variable("A")).await.ok();
    assert_eq!(post(&list, variable("A")).await.ok(), made);
    assert!(post(&list, variable("B")).await.refused(409).starts_with("Idempotency-Key: was used"));
    let path = format!("{list}/{}/mcp_oauth_validate", id_of(&made));
    let refused = post(&path, json!({})).await.refused(400);
    assert!(refused.starts_with("Idempotency-Key: can't be honoured"), "{refused}");
}

#[tokio::test]
async fn what_tells_posts_apart_lets_nobody_try_secrets() {
    let app = TestApp::new().await;
    let list = format!("{}/credentials", new_vault(&app).await);
    let post = async |path: &str, key: &str, body: &Value| {
        let request = app.request(Method::POST, path).header("idempotency-key", key);
        send(request.body(body.to_string())).await
    };
    let body = variable("A");
    let made = post(&list, "a", &body).await.ok();
    let path = format!("{list}/{}", id_of(&made));
    let change =
        |value: &str| json!({ "auth": { "type": "environment_variable", "secret_value": value } });
    let changed = post(&path, "b", &change("w")).await.ok();
    let rename = json!({ "display_name": "n" });
    post(&path, "c", &rename).await.ok();
    // What is repeated is known again, and another secret is another request.
    assert_eq!(post(&path, "b", &change("w")).await.ok(), changed);
    post(&path, "b", &change("x")).await.refused(409);
    let app = app.restart().await;
    let request = app.request(Method::POST, &path).header("idempotency-key", "b");
    assert_eq!(send(request.body(change("w").to_string())).await.ok(), changed);

    let kept: Vec<(String, String)> = app
        .running
        .app
        .database
        .read(|connection| {
            let text = "SELECT idempotency_key, fingerprint FROM answers \
                        WHERE idempotency_key IS NOT NULL ORDER BY id";
            let mut rows = connection.prepare(text)?;
            let pair = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, posthouse_store::Error>(pair.collect::<Result<_, _>>()?)
        })
        .unwrap();
    let guessed = [(&list, body, false), (&path, change("w"), false), (&path, rename, true)];
    assert_eq!(kept.len(), guessed.len());
    for ((key, fingerprint), (path, body, is_guessed)) in kept.iter().zip(guessed) {
        let caller = &key[..key.len() - 2];
        let guess = answers::fingerprint(caller, path, body.to_string().as_bytes());
        assert_eq!(guess == *fingerprint, is_guessed, "{body}");
    }
}

#[tokio::test]
async fn only_a_live_oauth_credential_is_probed() {
    let app = TestApp::new().await;
    let list = format!("{}/credentials", new_vault(&app).await);
    let validate = async |credential: &str| {
        app.post(&format!("{list}/{credential}/mcp_oauth_validate"), Value::Null).await
    };
    for other in [bearer(URL), variable("A")] {
        let other = id_of(&app.post(&list, other).await.ok());
        assert_eq!(validate(&other).await.refused(400), "The request was invalid");
    }
    // The server itself is out of reach: nothing is dialled, and nobody knows.
    let made = app.post(&list, oauth("https://127.0.0.1:1/mcp")).await.ok();
    let found = validate(&id_of(&made)).await.ok();
    assert_eq!(
        (&found["type"], &found["status"]),
        (&json!("vault_credential_validation"), &json!("unknown"))
    );
    assert_eq!(found["mcp_probe"], json!({ "method": "initialize", "http_response": null }));
    assert_eq!(found["has_refresh_token"], true);
    app.post(&format!("{list}/{}/archive", id_of(&made)), Value::Null).await.ok();
    assert_eq!(validate(&id_of(&made)).await.refused(400), "Credential is archived.");
    let nobody = IdKind::Credential.mint(Micros(0), [0; 16]);
    assert_eq!(validate(&nobody).await.refused(404), "Credential not found.");
}

#[tokio::test]
async fn http_is_for_hosts_that_the_operator_may_have_opened() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), vec![Arc::new(Silent)]);
    config.egress = Egress {
        resolve: [("mcp.test".to_owned(), ([127, 0, 0, 1], 1).into())].into(),
        ..Egress::default()
    };
    let running = start(config).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, body: Value| {
        let request = http.post(format!("{}{path}", running.url)).bearer_auth(KEY);
        send(request.body(body.to_string())).await
    };
    let vault = post("/v1/vaults", json!({ "display_name": "v" })).await.ok();
    let list = format!("/v1/vaults/{}/credentials", id_of(&vault));
    post(&list, bearer("http://MCP.test/mcp")).await.ok();
    for closed in ["http://other.test/mcp", "http://127.0.0.1/mcp"] {
        let message = post(&list, bearer(closed)).await.refused(400);
        assert!(message.starts_with("auth.mcp_server_url: is http, to a host"), "{message}");
    }
    running.stop(Duration::from_secs(1)).await;
}

/// A session's body with these vaults.
async fn with_vaults(app: &TestApp, vaults: Value) -> Value {
    let agent = json!({ "name": "a", "model": "test/m" });
    let agent = id_of(&app.post("/v1/agents", agent).await.ok());
    let environment = id_of(&app.post("/v1/environments", json!({ "name": "e" })).await.ok());
    json!({ "agent": agent, "environment_id": environment, "vault_ids": vaults })
}

#[tokio::test]
async fn a_session_has_its_vaults_in_their_order() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(new_vault(&app).await["/v1/vaults/".len()..].to_owned());
    }
    ids.reverse();
    let body = with_vaults(&app, json!(ids)).await;
    let made = app.post("/v1/sessions", body.clone()).await.ok();
    assert_eq!(made["vault_ids"], json!(ids));
    let path = format!("/v1/sessions/{}", id_of(&made));
    let update = app.post(&path, json!({ "vault_ids": ids })).await.refused(400);
    assert!(update.starts_with("vault_ids: can't be changed"), "{update}");
    let none = with_vaults(&app, json!([])).await;
    assert_eq!(app.post("/v1/sessions", none).await.ok()["vault_ids"], json!([]));

    let with = |vaults: Value| {
        let mut body = body.clone();
        body["vault_ids"] = vaults;
        app.post("/v1/sessions", body)
    };
    let twice = with(json!([ids[0], ids[0]])).await.refused(400);
    assert_eq!(twice, "vault_ids[1]: is the same as vault_ids[0]; name each one once");
    let many = with(json!(vec![&ids[0]; 51])).await.refused(400);
    assert_eq!(many, "vault_ids: has 51 entries; send 0 to 50");
    let nobody = IdKind::Vault.mint(Micros(0), [0; 16]);
    let missing = with(json!([ids[0], nobody])).await.refused(404);
    assert_eq!(missing, format!("vault_ids: {nobody} not found"));
    let before = app.get("/v1/sessions").await.ok()["data"].as_array().unwrap().len();

    // What is running goes on; what is new is refused.
    app.post(&format!("/v1/vaults/{}/archive", ids[1]), Value::Null).await.ok();
    let expected = format!("Vault {} is archived.", ids[1]);
    assert_eq!(with(json!(ids)).await.refused(400), expected);
    app.delete(&format!("/v1/vaults/{}", ids[2])).await.ok();
    let after = app.get("/v1/sessions").await.ok()["data"].as_array().unwrap().len();
    assert_eq!(after, before, "a session that was refused is not there");
    let app = app.restart().await;
    assert_eq!(app.get(&path).await.ok()["vault_ids"], json!(ids));
}

#[tokio::test]
async fn a_key_names_vaults_for_a_session_only_where_it_may_read_them() {
    let app = TestApp::new().await;
    let vault = new_vault(&app).await["/v1/vaults/".len()..].to_owned();
    let body = with_vaults(&app, json!([vault])).await;
    for (scopes, status) in
        [(json!(["sessions:*"]), 403), (json!(["sessions:*", "vaults:read"]), 200)]
    {
        let key = secret(&make(&app, scopes, json!({})).await);
        let request = app.bare(Method::POST, "/v1/sessions").bearer_auth(key);
        let reply = send(request.body(body.to_string())).await;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
}

#[tokio::test]
async fn the_ledger_is_read_by_filters_and_pages_and_outlives_the_vault() {
    let app = TestApp::new().await;
    let vault = new_vault(&app).await;
    let id = vault["/v1/vaults/".len()..].to_owned();
    let workspace = app.get("/posthouse/v1/workspaces").await.ok()["data"][0]["id"].take();
    let workspace = workspace.as_str().unwrap().to_owned();
    let rows: Vec<UseRow> = (1..=3_u8)
        .map(|number| {
            let at = Micros(1_763_600_000_000_000 + i64::from(number));
            let use_id = IdKind::CredentialUse.mint(at, [number; 16]);
            let credential = IdKind::Credential.mint(at, [number; 16]);
            UseRow {
                body: json!({ "id": use_id, "credential_id": credential }).to_string(),
                id: use_id,
                workspace: workspace.clone(),
                vault: id.clone(),
                credential,
                session: (number == 2).then(|| "sesn_2".to_owned()),
                at: at.0,
            }
        })
        .collect();
    let expected: Vec<String> = rows.iter().rev().map(|row| row.id.clone()).collect();
    let first_credential = rows[0].credential.clone();
    let database = &app.running.app.database;
    database.write(move |connection| uses::insert(connection, &rows)).await.unwrap();
    app.delete(&vault).await.ok();
    let found = async |query: &str| -> Vec<String> {
        let page = app.get(&format!("/posthouse/v1/credential_uses?{query}")).await.ok();
        page["data"].as_array().unwrap().iter().map(id_of).collect()
    };
    assert_eq!(found("").await, expected);
    assert_eq!(found(&format!("vault_id={id}")).await, expected);
    assert_eq!(found(&format!("credential_id={first_credential}")).await, expected[2..]);
    assert_eq!(found("session_id=sesn_2").await, expected[1..2]);
    assert_eq!(found("vault_id=vlt_0").await, [""; 0]);
    let at = "2025-11-20T00:53:20.000002Z";
    assert_eq!(found(&format!("created_at[gt]={at}")).await, expected[..1]);
    assert_eq!(found(&format!("created_at[lte]={at}")).await, expected[1..]);
    let page = app.get("/posthouse/v1/credential_uses?limit=2").await.ok();
    let next = page["next_page"].as_str().unwrap();
    assert_eq!(found(&format!("limit=2&page={next}")).await, expected[2..]);
}

/// Stands in every secret, and in nothing else.
const CANARY: &str = "canary0123456789";

#[tokio::test]
async fn no_answer_and_no_file_holds_a_secret() {
    let app = TestApp::new().await;
    let list = format!("{}/credentials", new_vault(&app).await);
    let mut all = [oauth(URL), bearer(&format!("{URL}/2")), variable("A")];
    all[0]["auth"]["access_token"] = CANARY.into();
    all[0]["auth"]["refresh"]["refresh_token"] = CANARY.into();
    all[0]["auth"]["refresh"]["token_endpoint_auth"]["client_secret"] = CANARY.into();
    all[1]["auth"]["token"] = CANARY.into();
    all[2]["auth"]["secret_value"] = CANARY.into();
    let header = json!({ "auth": {
        "type": "posthouse_header", "mcp_server_url": format!("{URL}/3"), "token": CANARY,
        "header_name": "x-api-key",
    } });
    let mut said = String::new();
    for (key, body) in ["k1", "k2", "k3", "k4"].iter().zip(all.into_iter().chain([header])) {
        let request = app.request(Method::POST, &list).header("idempotency-key", *key);
        let made = send(request.body(body.to_string())).await;
        let path = format!("{list}/{}", id_of(&made.json()));
        said += &made.ok().to_string();
        // The same key for another body, the same server, and what is wrong elsewhere.
        let mut wrong = body.clone();
        wrong["auth"]["unknown"] = CANARY.into();
        let mut cut = body.to_string();
        cut.truncate(cut.len() - 2);
        for reply in [
            send(app.request(Method::POST, &list).header("idempotency-key", *key).body("{}")).await,
            app.post(&list, body.clone()).await,
            app.post(&list, wrong).await,
            send(app.request(Method::POST, &list).body(cut)).await,
            app.post(&path, body.clone()).await,
            app.get(&path).await,
        ] {
            said += &format!("{}{:?}", reply.text, reply.headers);
        }
        let kind = &body["auth"]["type"];
        let change = json!({ "auth": { "type": kind }, "display_name": "n" });
        said += &app.post(&path, change).await.ok().to_string();
    }
    said += &app.get(&list).await.text;
    assert!(said.len() > 5_000 && said.contains("unknown field"), "{said}");
    assert!(!said.contains(CANARY), "{said}");
    let folder = app.folder().to_owned();
    let seen = search(&folder);
    assert!(seen > 3, "only {seen} files");
}

/// Looks into every file below a folder; says how many there are.
fn search(folder: &Path) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            seen += search(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "a secret is in {}", path.display());
        seen += 1;
    }
    seen
}
