//! The binary itself: `serve` from start to signal, and `sessions` against a server that only
//! knows its lines.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

const SESSION: &str = "sesn_1";

pub(crate) fn posthouse(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command.env_clear().env("HOME", folder.path()).kill_on_drop(true).stdin(Stdio::null());
    // An Ollama of the tester stays out: nobody listens there.
    command.env("OLLAMA_HOST", "127.0.0.1:9");
    command
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) async fn run(command: &mut Command) -> (i32, String, String) {
    let output = timeout(Duration::from_secs(10), command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn serve_says_what_it_does_and_stops_when_told() {
    let folder = TempDir::new().unwrap();
    let mut server = posthouse(&folder)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.len() < 5 {
        let line = timeout(Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap();
        said.push(line.unwrap());
    }
    assert!(said[0].contains("listening on http://127.0.0.1:"), "{said:?}");
    assert!(said[1].ends_with(".local/share/posthouse"), "{said:?}");
    assert!(said[2].contains("none; set ANTHROPIC_API_KEY"), "{said:?}");
    assert!(said[3].contains("phk_"), "{said:?}");
    assert!(said[4].contains("shown this once"), "{said:?}");
    let pid = server.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let status = timeout(Duration::from_secs(5), server.wait()).await.unwrap().unwrap();
    assert!(status.success());
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push(line);
    }
    assert_eq!(said[5..], ["stopping", "stopped"]);
}

#[tokio::test]
async fn a_server_outlives_whoever_reads_what_it_says() {
    let folder = TempDir::new().unwrap();
    let mut server = posthouse(&folder)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("POSTHOUSE_API_KEY", "k")
        .env("POSTHOUSE_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(server.stderr.take());
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    drop(lines);
    let url = first.split_whitespace().last().unwrap();
    let client = posthouse::client::Client::new(url, "k").unwrap();
    for _ in 0..20 {
        client.get("/v1/agents").await.unwrap();
    }
    let pid = server.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let status = timeout(Duration::from_secs(5), server.wait()).await.unwrap().unwrap();
    assert!(status.success(), "it has stopped in good order: {status}");
}

#[tokio::test]
async fn what_is_wrong_is_one_line() {
    let folder = TempDir::new().unwrap();
    let (code, _, error) = run(posthouse(&folder).args(["serve", "--listen", "0.0.0.0:0"])).await;
    assert_eq!((code, error.lines().count()), (1, 1), "{error}");
    assert!(error.contains("set POSTHOUSE_API_KEY"), "{error}");
    let (code, _, error) = run(posthouse(&folder).args(["serve", "--listen", "here"])).await;
    assert_eq!(code, 1);
    assert!(error.starts_with("posthouse: configuration: listen: \"here\""), "{error}");
    let (code, _, error) = run(posthouse(&folder).args(["sessions", "list"])).await;
    assert_eq!(code, 1);
    assert!(error.contains("no server runs for"), "{error}");
    assert!(error.contains("posthouse serve"), "{error}");
    let (_, _, error) = run(posthouse(&folder).args(["sessions", "show", "x"])).await;
    assert!(error.contains("they look like sesn_"), "{error}");
}

/// A server that knows one session, and cuts its first stream.
async fn fake() -> String {
    async fn stream(
        State(calls): State<Arc<AtomicUsize>>,
        headers: HeaderMap,
    ) -> impl IntoResponse {
        let frame = |id: u32, event: Value| {
            let kind = event["type"].as_str().unwrap();
            format!("id: {id}\nevent: {kind}\ndata: {event}\n\n")
        };
        let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
        let body = match (calls.fetch_add(1, Ordering::SeqCst), last.as_deref()) {
            (0, None) => frame(7, message("Hel", "sevt_1")),
            (1, Some("7")) => frame(8, json!({ "type": "session.status_terminated" })),
            other => frame(9, message(&format!("unexpected {other:?}"), "sevt_9")),
        };
        ([(CONTENT_TYPE, "text/event-stream")], body)
    }
    let session = || {
        json!({
            "id": SESSION, "status": "idle", "title": "T", "created_at": "2026-01-01T00:00:00.000000Z",
            "agent": { "name": "A", "version": 2, "model": { "id": "m" } },
        })
    };
    let events = || json!({ "data": [message("Hello", "sevt_1")], "next_page": null });
    let sent = |Json(body): Json<Value>| async move {
        let mut event = body["events"][0].clone();
        event["id"] = json!(format!("sevt_{}", event["type"].as_str().unwrap().len()));
        Json(json!({ "data": [event] }))
    };
    let router = Router::new()
        .route(
            "/v1/sessions",
            get(move || async move { Json(json!({ "data": [session()], "next_page": null })) }),
        )
        .route("/v1/sessions/{id}", get(move || async move { Json(session()) }))
        .route("/v1/sessions/{id}/events", get(move || async move { Json(events()) }))
        .route("/v1/sessions/{id}/events", post(sent))
        .route("/v1/sessions/{id}/events/stream", get(stream))
        .with_state(Arc::new(AtomicUsize::new(0)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn message(text: &str, id: &str) -> Value {
    json!({ "type": "agent.message", "id": id, "content": [{ "type": "text", "text": text }] })
}

#[tokio::test]
async fn sessions_are_no_black_box() {
    let folder = TempDir::new().unwrap();
    let url = fake().await;
    let ask = |arguments: &[&str]| {
        let mut command = posthouse(&folder);
        command.env("POSTHOUSE_API_KEY", "k").args(["sessions", "--url", &url]).args(arguments);
        command
    };
    let (code, out, _) = run(&mut ask(&["list"])).await;
    assert_eq!((code, out.as_str()), (0, "sesn_1  idle          2026-01-01T00:00:00  A  T\n"));
    let (_, out, _) = run(&mut ask(&["show", SESSION])).await;
    assert!(out.starts_with("sesn_1  idle\nagent  A (version 2), m\n"), "{out}");
    assert!(out.ends_with("\nagent  Hello\n"), "{out}");
    let (_, out, _) = run(&mut ask(&["show", SESSION, "--json"])).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), message("Hello", "sevt_1"));
    let (_, out, _) = run(&mut ask(&["send", SESSION, "hi"])).await;
    assert_eq!(out, "sent sevt_12\n");
    let (_, out, _) = run(&mut ask(&["interrupt", SESSION])).await;
    assert_eq!(out, "sent sevt_14\n");
    // The stream is cut after its first frame and goes on after it.
    let (code, out, _) = run(&mut ask(&["follow", SESSION])).await;
    assert_eq!((code, out.as_str()), (0, "agent  Hel\n       terminated\n"));
}
