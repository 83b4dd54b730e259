//! Tests of an Ollama that is played by a server on this machine.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Ollama, Provider, Settings, WireKind};

type Answers = Arc<Mutex<Vec<(String, String)>>>;

/// Answers paths (with a body's model behind them) with what is written there, others with 404.
/// Returns its address and the requests that it gets.
async fn play(answers: Vec<(&str, String)>) -> (String, Answers) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Answers::default();
    let answers: Vec<(String, String)> =
        answers.into_iter().map(|(path, text)| (path.to_owned(), text)).collect();
    let requests = Arc::clone(&seen);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answers, seen) = (answers.clone(), Arc::clone(&requests));
            tokio::spawn(talk(socket, answers, seen));
        }
    });
    (url, seen)
}

async fn talk(mut socket: TcpStream, answers: Vec<(String, String)>, seen: Answers) {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let Ok(count) = socket.read(&mut chunk).await else { return };
        if count == 0 {
            return;
        }
        buffer.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&buffer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        if body.len() < length {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap();
        let model: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let model = model["model"].as_str().unwrap_or_default();
        let path = format!("{path} {model}").trim().to_owned();
        seen.lock().unwrap().push((path.clone(), head.to_owned()));
        let found = answers.iter().find(|(one, _)| *one == path);
        let (status, text) = found.map_or(("404 Not Found", "{}"), |(_, text)| ("200 OK", text));
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        buffer.clear();
    }
}

fn ollama(url: &str) -> Ollama {
    let mut settings = Settings::new("ollama", WireKind::OpenaiChat, None);
    settings.base_url = format!("{url}/v1/");
    Ollama::new(settings).unwrap()
}

#[tokio::test]
async fn each_model_is_listed_with_its_window() {
    let tag = |name: &str, digest: &str| json!({ "name": name, "digest": digest, "modified_at": "2026-01-02T03:04:05.6+02:00" });
    let tags = json!({ "models": [
        tag("set:latest", "a"), tag("trained:8b", "b"), tag("odd", "c"), tag("gone", "d"),
        { "name": "bare" },
    ] });
    let trained = json!({
        "parameters": "stop \"<|eot|>\"\n", "model_info": {
            "general.architecture": "qwen3", "qwen3.context_length": 40_960, "clip.context_length": 7,
        },
    });
    let set = json!({
        "parameters": "temperature 0.7\nnum_ctx                        16384\n",
        "model_info": { "general.architecture": "llama", "llama.context_length": 131_072 },
    });
    let (url, seen) = play(vec![
        ("/api/tags", tags.to_string()),
        ("/api/show set:latest", set.to_string()),
        ("/api/show trained:8b", trained.to_string()),
        ("/api/show odd", json!({ "parameters": "num_ctx x", "model_info": {} }).to_string()),
        ("/api/show bare", "busy".to_owned()),
    ])
    .await;
    let ollama = ollama(&url);
    assert!(ollama.is_local());
    let listed = ollama.list().await.unwrap();
    let windows: Vec<_> = listed.iter().map(|one| (one.id.as_str(), one.window)).collect();
    let expected = [
        ("set:latest", Some(16_384)),
        ("trained:8b", Some(40_960)),
        ("odd", None),
        ("gone", None),
        ("bare", None),
    ];
    assert_eq!(windows, expected);
    assert_eq!(listed[0].created, Some(1_767_315_845));
    assert_eq!(ollama.list().await.unwrap(), listed);
    let mut asked: Vec<_> = seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    asked.sort();
    let shows = asked.iter().filter(|path| path.starts_with("/api/show")).count();
    assert_eq!(shows, 5 + 2, "only those that have said nothing are asked again: {asked:?}");
    assert!(seen.lock().unwrap().iter().all(|(_, head)| !head.contains("authorization")));
}

#[tokio::test]
async fn what_listens_there_and_is_no_ollama_lists_as_its_wire_does() {
    let models = json!({ "data": [{ "id": "other" }] });
    let (url, seen) = play(vec![("/v1/models", models.to_string())]).await;
    let listed = ollama(&url).list().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["other"]);
    for (path, head) in seen.lock().unwrap().iter() {
        let wanted = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("accept:"));
        assert_eq!(wanted.collect::<Vec<_>>(), ["accept: application/json"], "{path}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_without_an_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let ollama = ollama(&url);
    let failure = ollama.list().await.unwrap_err();
    assert_eq!(failure.message, "no connection to the provider");
    let shown = format!("{ollama:?}");
    assert!(!shown.contains("127.0.0.1"), "{shown}");
}
