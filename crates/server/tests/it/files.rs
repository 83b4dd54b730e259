//! Files over HTTP: what is taken in, what is shown, and what is on the disk.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use futures_util::stream;
use posthouse::{config::Files, start::start};
use posthouse_protocol::Micros;
use posthouse_store::tables::files::{self, Insertion, NewFile};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::app::{KEY, Reply, TestApp, config, send};

/// Stands between the parts of a form.
pub(crate) const BOUNDARY: &str = "a-boundary";
const DAY: i64 = 24 * 3600 * 1_000_000;

/// A part of a form: its name, the rest of its head, and its bytes.
pub(crate) type Part<'a> = (&'a str, &'a str, &'a [u8]);

/// Parts as the body of a form.
pub(crate) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, head, content) in parts {
        let disposition = format!("content-disposition: form-data; name=\"{name}\"{head}");
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{disposition}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn post(app: &TestApp, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    app.request(Method::POST, "/v1/files").header("content-type", kind).body(body)
}

/// Sends a form with these parts.
pub(crate) async fn upload_parts(app: &TestApp, parts: &[Part<'_>]) -> Reply {
    send(post(app, form(parts))).await
}

/// Uploads a text; returns the file.
pub(crate) async fn upload(app: &TestApp, name: &str, content: &str) -> Value {
    let head = format!("; filename=\"{name}\"\r\ncontent-type: text/plain");
    upload_parts(app, &[("file", &head, content.as_bytes())]).await.ok()
}

/// Uploads a file that lives for an hour; returns it.
pub(crate) async fn upload_for_an_hour(app: &TestApp) -> Value {
    let parts = [("file", "", &b"x"[..]), ("expires_in_seconds", "", b"3600")];
    upload_parts(app, &parts).await.ok()
}

/// The names of all contents on the disk.
pub(crate) fn contents(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("files")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Lets the time of files come, as the sweep does.
pub(crate) async fn expire(app: &TestApp, at: i64) {
    let database = &app.running.app.database;
    database.write(move |connection| files::expire(connection, Micros(at))).await.unwrap();
    app.running.app.blobs.bury(database).await.unwrap();
}

/// A file that a session has brought forth.
async fn output(app: &TestApp, session: &str, name: &str, kind: &str, content: &[u8]) -> Insertion {
    let mut incoming = app.running.app.blobs.begin(1 << 20).unwrap();
    incoming.write(content).unwrap();
    let mut content = incoming.finish().unwrap();
    let at = posthouse::api::call::now();
    let file = NewFile {
        id: posthouse::keys::mint(posthouse_protocol::id::IdKind::File, at).unwrap(),
        filename: name.into(),
        mime_type: kind.into(),
        at,
        expires_at: None,
    };
    let session = session.to_owned();
    let write = app.running.app.database.write(move |connection| {
        files::insert_output(connection, "wrkspc_default", &session, file, &mut content, 1 << 30)
    });
    write.await.unwrap()
}

/// A server with other bounds.
async fn bounded(files: Files) -> (tempfile::TempDir, TestApp) {
    let mut app = TestApp::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), vec![]);
    config.files = files;
    let old = std::mem::replace(&mut app.running, start(config).await.unwrap());
    old.stop(Duration::from_secs(1)).await;
    (folder, app)
}

#[tokio::test]
async fn a_file_lives_and_goes() {
    let app = TestApp::new().await;
    let made = upload(&app, "notes.txt", "hello").await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "type": "file", "id": id, "filename": "notes.txt", "mime_type": "text/plain",
            "size_bytes": 5, "created_at": made["created_at"], "expires_at": null,
            "downloadable": false, "scope": null,
        })
    );
    let path = format!("/v1/files/{id}");
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(
        app.get("/v1/files").await.ok(),
        json!({ "data": [made], "next_page": null, "has_more": false,
                "first_id": id, "last_id": id })
    );
    let refused = app.get(&format!("{path}/content")).await;
    assert_eq!(refused.refused(400), format!("File '{id}' is not downloadable"));
    assert_eq!(refused.json()["error"]["details"]["error_code"], "file_not_downloadable");

    // One content, private, under a name that tells nothing.
    let [name] = &contents(app.folder())[..] else { panic!("not one content") };
    assert_eq!(name.len(), 32);
    let content = app.folder().join("files").join(name);
    assert_eq!(fs::read(&content).unwrap(), b"hello");
    assert_eq!(fs::metadata(&content).unwrap().permissions().mode() & 0o777, 0o444);
    let folder = fs::metadata(app.folder().join("files")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);

    assert_eq!(app.delete(&path).await.ok(), json!({ "id": id, "type": "file_deleted" }));
    assert_eq!(contents(app.folder()), Vec::<String>::new());
    assert_eq!(app.get(&path).await.refused(404), "File not found.");
    assert_eq!(app.get(&format!("{path}/content")).await.refused(404), "File not found.");
    assert_eq!(app.delete(&path).await.refused(404), "File not found.");
    assert_eq!(app.delete("/v1/files/x").await.refused(400), "Invalid file ID.");
    let empty = json!({ "data": [], "next_page": null, "has_more": false,
                        "first_id": null, "last_id": null });
    assert_eq!(app.get("/v1/files").await.ok(), empty);
}

#[tokio::test]
async fn names_and_types_are_what_is_said_or_what_is_seen() {
    let app = TestApp::new().await;
    for (head, content, name, kind) in [
        ("; filename=\"../../etc/passwd\"", &b"x"[..], "passwd", "text/plain"),
        ("; filename=\"C:\\x\\a.csv\"", b"a,b", "a.csv", "text/csv"),
        ("", b"%PDF-1.7", "unnamed.pdf", "application/pdf"),
        ("; filename=\"\"", b"\x00\x01", "unnamed", "application/octet-stream"),
        ("; filename=\"gr\u{fc}n.txt\"", b"", "gr\u{fc}n.txt", "text/plain"),
        (
            "; filename=\"x.txt\"\r\nContent-Type: application/x-mine; a=b",
            b"x",
            "x.txt",
            "application/x-mine; a=b",
        ),
    ] {
        let made = upload_parts(&app, &[("file", head, content)]).await.ok();
        assert_eq!((&made["filename"], &made["mime_type"]), (&json!(name), &json!(kind)), "{head}");
        assert_eq!(made["size_bytes"], content.len());
    }
}

#[tokio::test]
async fn parts_come_in_any_order_and_expiry_is_honoured() {
    let app = TestApp::new().await;
    let file = ("file", "; filename=\"a\"", &b"x"[..]);
    let expires = ("expires_in_seconds", "", &b"3600"[..]);
    for parts in [[file, expires], [expires, file]] {
        let made = upload_parts(&app, &parts).await.ok();
        let time = |name: &str| Micros::parse(made[name].as_str().unwrap()).unwrap().0;
        assert_eq!(time("expires_at") - time("created_at"), 3_600_000_000);
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name_and_leaves_nothing() {
    let app = TestApp::new().await;
    let file = ("file", "; filename=\"a\"", &b"x"[..]);
    for (parts, start) in [
        (&[][..], "file: is missing"),
        (&[("expires_in_seconds", "", &b"3600"[..])], "file: is missing"),
        (&[file, file], "file: is sent twice"),
        (&[file, ("purpose", "", b"x")], "Failed to parse request body: unknown field \"purpose\""),
        (&[file, ("", "", b"x")], "Failed to parse request body: unknown field \"\""),
        (&[file, ("expires_in_seconds", "", b"60")], "expires_in_seconds: is \"60\""),
        (&[file, ("expires_in_seconds", "", &[b'1'; 65])], "expires_in_seconds: is too long"),
        (&[file, ("expires_in_seconds", "", b"\xff")], "expires_in_seconds: is no UTF-8"),
        (&[("file", "; filename=\"a:b\"", b"x")], "file.filename: contains ':'"),
        (&[("file", "; filename*=UTF-8''a", b"x")], "file.filename: comes as filename*"),
        (&[("file", "\r\ncontent-type: nothing", b"x")], "file: the type \"nothing\""),
    ] {
        let message = upload_parts(&app, parts).await.refused(400);
        assert!(message.starts_with(start), "{message}");
    }
    for (kind, body, start) in [
        ("application/json", "{}", "content-type: is \"application/json\""),
        ("multipart/form-data", "x", "content-type: is \"multipart/form-data\""),
        ("multipart/form-data; boundary=b", "", "request body: was cut"),
        ("multipart/form-data; boundary=b", "--b\r\nx", "request body: was cut"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nx",
            "request body: was cut",
        ),
    ] {
        let request = app.request(Method::POST, "/v1/files").header("content-type", kind);
        let message = send(request.body(body)).await.refused(400);
        assert!(message.starts_with(start), "{message}");
    }
    let packed = post(&app, form(&[file])).header("content-encoding", "gzip");
    let packed = send(packed).await;
    packed.refused(400);
    let code = &packed.json()["error"]["details"]["error_code"];
    assert_eq!(code, "request_body_encoding_unsupported");
    assert!(app.post("/v1/files?x=1", Value::Null).await.refused(400).starts_with("x: "));
    assert_eq!(app.get("/v1/files").await.ok()["data"], json!([]));
    assert_eq!(contents(app.folder()), Vec::<String>::new());
}

#[tokio::test]
async fn an_endless_head_ends() {
    let app = TestApp::new().await;
    let start = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"\r\nx: ");
    let rest = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65_536]));
    let rest = futures_util::StreamExt::take(rest, 128);
    let first = stream::iter([Ok(start.into_bytes())]);
    let body = reqwest::Body::wrap_stream(futures_util::StreamExt::chain(first, rest));
    match post(&app, body).send().await {
        Ok(reply) => {
            assert_eq!(reply.status(), 400);
            assert!(reply.text().await.unwrap().contains("more than 2097152 bytes"));
        }
        // The server may have gone before everything was sent.
        Err(error) => assert!(error.is_request(), "{error}"),
    }
    assert_eq!(contents(app.folder()), Vec::<String>::new());
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing() {
    let app = TestApp::new().await;
    let body = form(&[("file", "; filename=\"a\"", &[7; 300_000])]);
    let mut connection = TcpStream::connect(app.running.address).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&body[..200_000]).await.unwrap();
    while contents(app.folder()).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(connection);
    while !contents(app.folder()).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(app.get("/v1/files").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn bounds_are_kept() {
    let (folder, app) = bounded(Files { max_bytes: 10, quota_bytes: 25 }).await;
    let put = async |bytes: &[u8]| upload_parts(&app, &[("file", "", bytes)]).await;
    put(&[b'x'; 10]).await.ok();
    let message = put(&[b'x'; 11]).await;
    assert_eq!(message.refused(413), "file: is larger than 10 bytes; send less");
    assert_eq!(message.json()["error"]["type"], "request_too_large");
    let second = put(&[b'x'; 10]).await.ok();
    let full = put(&[b'x'; 6]).await;
    assert!(full.refused(400).starts_with("The storage for files is full"));
    assert_eq!(full.json()["error"]["details"]["error_code"], "storage_quota_exceeded");
    put(&[b'x'; 5]).await.ok();
    put(b"").await.refused(400);
    assert_eq!(contents(folder.path()).len(), 3);
    app.delete(&format!("/v1/files/{}", second["id"].as_str().unwrap())).await.ok();
    put(&[b'x'; 10]).await.ok();
    // What says from the start that it is too large is not read at all.
    let mut connection = TcpStream::connect(app.running.address).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: 99999999\r\n\
         connection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_retried_upload_is_done_once() {
    let app = TestApp::new().await;
    let put = async |content: &[u8], header: (&str, &str)| {
        let body = form(&[("file", "; filename=\"a\"", content)]);
        send(post(&app, body).header(header.0, header.1)).await
    };
    let key = ("idempotency-key", "k-1");
    let first = put(b"x", key).await.ok();
    assert_eq!(put(b"x", key).await.ok(), first);
    assert!(put(b"y", key).await.refused(409).starts_with("Idempotency-Key: was used"));
    assert_eq!(contents(app.folder()).len(), 1);
    // An answer that has arrived is not given again.
    let retry = ("x-stainless-retry-count", "1");
    assert_ne!(put(b"x", retry).await.ok()["id"], first["id"]);
    assert_eq!(app.get("/v1/files").await.ok()["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn lists_go_both_ways() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(upload(&app, &format!("{n}"), "x").await["id"].as_str().unwrap().to_owned());
    }
    ids.reverse();
    let get = async |query: String| app.get(&format!("/v1/files?{query}")).await.ok();
    let shown = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap();
        data.iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = get("limit=3".into()).await;
    assert_eq!(shown(&first), ids[..3]);
    assert_eq!((&first["first_id"], &first["last_id"]), (&json!(ids[0]), &json!(ids[2])));
    assert_eq!(first["has_more"], true);
    let next = first["next_page"].as_str().unwrap();
    let second = get(format!("limit=3&page={next}")).await;
    assert_eq!((shown(&second), &second["has_more"]), (ids[3..].to_vec(), &json!(false)));
    assert_eq!(second["next_page"], Value::Null);

    let after = get(format!("limit=2&after_id={}", ids[0])).await;
    assert_eq!((shown(&after), &after["has_more"]), (ids[1..3].to_vec(), &json!(true)));
    let next = after["next_page"].as_str().unwrap();
    // As the SDK's pager asks: the query of before, and the cursor.
    let more = get(format!("limit=2&after_id={}&page={next}", ids[0])).await;
    assert_eq!((shown(&more), &more["has_more"]), (ids[3..].to_vec(), &json!(false)));
    let before = get(format!("limit=2&before_id={}", ids[4])).await;
    assert_eq!((shown(&before), &before["has_more"]), (ids[2..4].to_vec(), &json!(true)));
    let next = before["next_page"].as_str().unwrap();
    let more = get(format!("limit=2&before_id={}&page={next}", ids[4])).await;
    assert_eq!((shown(&more), &more["has_more"]), (ids[..2].to_vec(), &json!(false)));
    assert_eq!(more["next_page"], Value::Null);

    let named = format!("ids[]={}&ids[]={}&ids[]=file_0&ids[]={}", ids[3], ids[1], ids[3]);
    assert_eq!(shown(&get(named).await), [ids[1].clone(), ids[3].clone()]);
    let many: String = (0..101).map(|n| format!("ids[]=file_{n}&")).collect();
    for (query, start) in [
        (format!("ids[]={}&limit=1", ids[0]), "ids: comes with a page"),
        (many, "ids: has 101 entries"),
        ("limit=0".into(), "limit: is 0"),
        ("limit=1001".into(), "limit: is 1001"),
        ("page=x".into(), "invalid page cursor"),
        (format!("after_id={}&before_id={}", ids[0], ids[1]), "before_id: comes with after_id"),
        ("after_id=file_0".into(), "after_id: \"file_0\" is no file"),
        ("order=asc".into(), "order: is no parameter"),
    ] {
        let message = app.get(&format!("/v1/files?{query}")).await.refused(400);
        assert!(message.starts_with(start), "{message}");
    }
    assert_eq!(get("scope_id=sesn_0".into()).await["data"], json!([]));
}

#[tokio::test]
async fn what_a_session_has_made_can_be_downloaded() {
    let app = TestApp::new().await;
    let session = crate::resources::session(&app, json!([])).await;
    let id = session["id"].as_str().unwrap();
    let bytes: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    let made = output(&app, id, "r\u{e9}sum\u{e9}.html", "text/html", &bytes).await;
    let Insertion::Stored(row) = made else { panic!("{made:?}") };
    let listed = app.get(&format!("/v1/files?scope_id={id}")).await.ok();
    assert_eq!(listed["data"][0]["id"], row.id);
    assert_eq!(listed["data"][0]["downloadable"], true);
    assert_eq!(listed["data"][0]["scope"], json!({ "type": "session", "id": id }));
    let path = format!("/v1/files/{}/content", row.id);
    let reply = app.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/html");
    assert_eq!(header("content-length"), "400000");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let disposition =
        "attachment; filename=\"r_sum_.html\"; filename*=UTF-8''r%C3%A9sum%C3%A9.html";
    assert_eq!(header("content-disposition"), disposition);
    assert!(header("request-id").starts_with("req_"));
    assert_eq!(reply.bytes().await.unwrap(), bytes);

    // A content that is not whole is not handed out.
    let content = app.folder().join("files").join(row.blob.unwrap());
    fs::set_permissions(&content, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&content, "short").unwrap();
    app.get(&path).await.refused(500);

    let gone = output(&app, "sesn_0", "x", "text/plain", b"x").await;
    assert_eq!(gone, Insertion::SessionGone);
    assert_eq!(contents(app.folder()).len(), 1);
    app.delete(&format!("/v1/sessions/{id}")).await.ok();
    app.get(&path).await.refused(404);
    assert_eq!(contents(app.folder()), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_whose_time_has_come_is_remembered_for_a_month() {
    let app = TestApp::new().await;
    let made = upload_for_an_hour(&app).await;
    let kept = upload(&app, "kept", "x").await;
    let path = format!("/v1/files/{}", made["id"].as_str().unwrap());
    let time = Micros::parse(made["expires_at"].as_str().unwrap()).unwrap().0;
    expire(&app, time - 1).await;
    assert_eq!(contents(app.folder()).len(), 2);
    expire(&app, time).await;
    assert_eq!(contents(app.folder()).len(), 1);
    assert_eq!(app.get(&path).await.ok(), made);
    assert_eq!(app.get("/v1/files").await.ok()["data"], json!([kept, made]));
    let reply = app.get(&format!("{path}/content")).await;
    reply.refused(404);
    assert_eq!(reply.json()["error"]["details"]["error_code"], "file_expired");
    expire(&app, time + 30 * DAY - 1).await;
    app.get(&path).await.ok();
    expire(&app, time + 30 * DAY).await;
    app.get(&path).await.refused(404);
    assert_eq!(app.get("/v1/files").await.ok()["data"], json!([kept]));
}

#[tokio::test]
async fn a_start_deletes_what_a_crash_has_left() {
    let app = TestApp::new().await;
    let made = upload(&app, "a", "x").await;
    let folder = app.folder().join("files");
    fs::write(folder.join("0123456789abcdef0123456789abcdef"), "orphan").unwrap();
    fs::write(folder.join("0123456789abcdef0123456789abcdef.part"), "part").unwrap();
    let app = app.restart().await;
    assert_eq!(contents(app.folder()).len(), 1);
    let path = format!("/v1/files/{}", made["id"].as_str().unwrap());
    assert_eq!(app.get(&path).await.ok(), made);
}
