//! What is mounted into sessions, over HTTP.

use posthouse_protocol::Micros;
use posthouse_store::tables::resources;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    files::{contents, expire, upload, upload_for_an_hour},
};

const UPLOADS: &str = "/mnt/session/uploads";

/// The body of a new session with an agent and an environment of its own.
async fn body(app: &TestApp, resources: Value) -> Value {
    let agent = json!({ "name": "a", "model": "claude-opus-5" });
    let agent = app.post("/v1/agents", agent).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    json!({
        "agent": agent["id"], "environment_id": environment["id"], "resources": resources,
    })
}

/// A new session.
pub(crate) async fn session(app: &TestApp, resources: Value) -> Value {
    let body = body(app, resources).await;
    app.post("/v1/sessions", body).await.ok()
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

fn mount(file: &Value, path: &str) -> Value {
    json!({ "type": "file", "file_id": file["id"], "mount_path": path })
}

#[tokio::test]
async fn a_session_comes_with_its_files() {
    let app = TestApp::new().await;
    let (one, two) = (upload(&app, "1.txt", "one").await, upload(&app, "2.txt", "two").await);
    let plain = json!({ "type": "file", "file_id": one["id"] });
    let made = session(&app, json!([mount(&two, "/data/2.txt"), plain])).await;
    let resources = made["resources"].as_array().unwrap();
    let paths: Vec<_> = resources.iter().map(|one| one["mount_path"].as_str().unwrap()).collect();
    assert_eq!(paths, [format!("{UPLOADS}/data/2.txt"), format!("{UPLOADS}/{}", id(&one))]);
    let first = &resources[0];
    assert!(id(first).starts_with("sesrsc_"));
    assert_eq!(first["type"], "file");
    assert_eq!(first["created_at"], first["updated_at"]);
    assert_ne!(first["file_id"], two["id"]);

    let path = format!("/v1/sessions/{}", id(&made));
    assert_eq!(app.get(&path).await.ok()["resources"], made["resources"]);
    assert_eq!(app.get("/v1/sessions").await.ok()["data"][0]["resources"], made["resources"]);
    let renamed = app.post(&path, json!({ "title": "t" })).await.ok();
    assert_eq!(renamed["resources"], made["resources"]);
    let listed = app.get(&format!("{path}/resources")).await.ok();
    assert_eq!(listed, json!({ "data": made["resources"], "next_page": null }));
    assert_eq!(app.get(&format!("{path}/resources/{}", id(first))).await.ok(), *first);

    // The copy is a file of its own that shows the same content.
    let copy = app.get(&format!("/v1/files/{}", first["file_id"].as_str().unwrap())).await.ok();
    assert_eq!((&copy["filename"], &copy["size_bytes"]), (&json!("2.txt"), &json!(3)));
    assert_eq!(copy["downloadable"], false);
    assert_eq!(copy["scope"], json!({ "type": "session", "id": made["id"] }));
    let scoped = app.get(&format!("/v1/files?scope_id={}", id(&made))).await.ok();
    assert_eq!(scoped["data"].as_array().unwrap().len(), 2);
    assert_eq!(contents(app.folder()).len(), 2);

    // It outlives the file that it was made of, an archive and a restart, and goes with the session.
    app.delete(&format!("/v1/files/{}", id(&two))).await.ok();
    app.post(&format!("{path}/archive"), Value::Null).await.ok();
    let app = app.restart().await;
    assert_eq!(app.get(&path).await.ok()["resources"], made["resources"]);
    let rows =
        app.running.app.database.read(|connection| resources::of_session(connection, id(&made)));
    let rows = rows.unwrap();
    assert_eq!(rows[0].literal_path.as_deref(), Some("/data/2.txt"));
    assert_eq!(rows[1].literal_path, None);
    let blob = app.running.app.blobs.path(rows[0].blob.as_deref().unwrap());
    assert_eq!(std::fs::read(blob).unwrap(), b"two");
    app.delete(&path).await.ok();
    app.get(&format!("/v1/files/{}", first["file_id"].as_str().unwrap())).await.refused(404);
    app.get(&format!("{path}/resources")).await.refused(404);
    assert_eq!(contents(app.folder()).len(), 1);
}

#[tokio::test]
async fn what_can_not_be_mounted_makes_no_session() {
    let app = TestApp::new().await;
    let file = upload(&app, "a", "x").await;
    let unknown = json!({ "type": "file", "file_id": "file_0" });
    let overlap =
        "Invalid file resource: `mount_path` overlaps another resource: /uploads/dupe.txt";
    for (resources, status, message) in [
        (json!([mount(&file, "ok"), unknown]), 404, "resources[1].file_id: file_0 not found"),
        (json!([mount(&file, "dupe.txt"), mount(&file, "dupe.txt")]), 400, overlap),
        (
            json!([mount(&file, "../x")]),
            400,
            "Invalid file resource: mount path \"../x\" escapes /uploads/",
        ),
        (
            json!([{ "type": "memory_store", "memory_store_id": "memstore_1" }]),
            400,
            "resources[0].type: memory_store is not supported by this version; send file",
        ),
        (json!(vec![mount(&file, "x"); 501]), 400, "resources: has 501 entries; send 0 to 500"),
        (json!({}), 400, "resources: is an object; send a list"),
    ] {
        let body = body(&app, resources).await;
        assert_eq!(app.post("/v1/sessions", body).await.refused(status), message);
    }
    assert_eq!(app.get("/v1/sessions").await.ok()["data"], json!([]));
    // Nor any copy.
    assert_eq!(app.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_has_expired_is_not_mounted() {
    let app = TestApp::new().await;
    let file = upload_for_an_hour(&app).await;
    let early = session(&app, json!([mount(&file, "x")])).await;
    let time = Micros::parse(file["expires_at"].as_str().unwrap()).unwrap();
    expire(&app, time.0).await;
    assert_eq!(contents(app.folder()), Vec::<String>::new());
    let body = body(&app, json!([mount(&file, "x")])).await;
    let reply = app.post("/v1/sessions", body).await;
    let words = format!("resources[0].file_id: File '{}' has expired", id(&file));
    assert_eq!(reply.refused(404), words);
    assert_eq!(reply.json()["error"]["details"]["error_code"], "file_expired");
    // The session that has it says so still, and its copy has expired with it.
    let path = format!("/v1/sessions/{}", id(&early));
    assert_eq!(app.get(&path).await.ok()["resources"], early["resources"]);
    let copy = early["resources"][0]["file_id"].as_str().unwrap();
    let shown = app.get(&format!("/v1/files/{copy}")).await.ok();
    assert_eq!(shown["expires_at"], file["expires_at"]);
}

#[tokio::test]
async fn five_hundred_files_fit_into_a_session_and_no_more() {
    let app = TestApp::new().await;
    let file = upload(&app, "a", "x").await;
    let all: Vec<_> = (0..500).map(|n| mount(&file, &format!("{n}"))).collect();
    let made = session(&app, json!(all)).await;
    let paths: Vec<_> =
        made["resources"].as_array().unwrap().iter().map(|one| &one["mount_path"]).collect();
    assert_eq!(paths.len(), 500);
    assert_eq!(paths[499], &json!(format!("{UPLOADS}/499")));
    let path = format!("/v1/sessions/{}/resources", id(&made));
    let listed = app.get(&path).await.ok();
    assert_eq!(listed["data"], made["resources"]);
    let refused = app.post(&path, mount(&file, "more")).await.refused(400);
    assert!(refused.starts_with("session: has 500 resources"), "{refused}");
    assert_eq!(contents(app.folder()).len(), 1);
}

#[tokio::test]
async fn files_are_added_and_taken_away() {
    let app = TestApp::new().await;
    let file = upload(&app, "a", "x").await;
    let made = session(&app, json!([])).await;
    let path = format!("/v1/sessions/{}/resources", id(&made));
    let first = app.post(&path, mount(&file, "a/b")).await.ok();
    let second = app.post(&path, mount(&file, "c")).await.ok();
    let overlap = app.post(&path, mount(&file, "a/b/c")).await.refused(400);
    assert!(overlap.ends_with("overlaps another resource: /uploads/a/b/c"), "{overlap}");
    let unknown = json!({ "type": "file", "file_id": "file_0" });
    assert_eq!(app.post(&path, unknown).await.refused(404), "file_id: file_0 not found");
    let repository = json!({ "type": "github_repository", "url": "https://github.com/a/b" });
    let refused = app.post(&path, repository).await.refused(400);
    assert!(refused.starts_with("type: github_repository is not supported"), "{refused}");

    let page = app.get(&format!("{path}?limit=1")).await.ok();
    assert_eq!(page["data"], json!([first]));
    let next = page["next_page"].as_str().unwrap();
    let page = app.get(&format!("{path}?limit=1&page={next}")).await.ok();
    assert_eq!(page, json!({ "data": [second], "next_page": null }));
    app.get(&format!("{path}?limit=1001")).await.refused(400);

    let one = format!("{path}/{}", id(&first));
    let token = json!({ "authorization_token": "t" });
    let refused = app.post(&one, token).await.refused(400);
    assert!(refused.starts_with("authorization_token: only a github_repository"), "{refused}");
    app.post(&one, json!({})).await.refused(400);
    let deleted = app.delete(&one).await.ok();
    assert_eq!(deleted, json!({ "id": first["id"], "type": "session_resource_deleted" }));
    assert_eq!(app.delete(&one).await.refused(404), "Resource not found.");
    assert_eq!(app.get(&one).await.refused(404), "Resource not found.");
    assert_eq!(app.get(&format!("{path}/x")).await.refused(400), "Invalid resource ID.");
    let copy = format!("/v1/files/{}", first["file_id"].as_str().unwrap());
    app.get(&copy).await.refused(404);
    // Where it was there is room again.
    app.post(&path, mount(&file, "a/b")).await.ok();

    // A copy that is deleted takes its place with it.
    app.delete(&format!("/v1/files/{}", second["file_id"].as_str().unwrap())).await.ok();
    app.get(&format!("{path}/{}", id(&second))).await.refused(404);

    let other = session(&app, json!([])).await;
    let foreign = format!("/v1/sessions/{}/resources/{}", id(&other), id(&second));
    app.get(&foreign).await.refused(404);
    app.post(&format!("/v1/sessions/{}/archive", id(&made)), Value::Null).await.ok();
    let refused = app.post(&path, mount(&file, "z")).await.refused(400);
    assert!(refused.starts_with("The session is archived"), "{refused}");
    let rest = app.get(&path).await.ok();
    let rest = format!("{path}/{}", id(&rest["data"][0]));
    assert!(app.delete(&rest).await.refused(400).starts_with("The session is archived"));
    app.get("/v1/sessions/sesn_0/resources").await.refused(404);
}
