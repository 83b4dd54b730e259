//! The wire against a server on this machine that misbehaves on command.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Credential, Remote, Settings, SetupError, redact};
use crate::{
    Event, Failure, FailureKind, Provider, Response, Stop, Usage, WireKind,
    golden::{Golden, lines, request, user},
};

const GOLDEN: Golden = Golden { wire: WireKind::Anthropic, names: &[] };

fn golden(name: &str) -> Vec<u8> {
    GOLDEN.bytes(name).to_vec()
}

const KEY: &str = "very-secret-key-4711";

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// What the server does with one request, piece by piece.
#[derive(Clone)]
enum Act {
    Write(Vec<u8>),
    Chunk(Vec<u8>),
    Pause(Duration),
    /// Waits until the other side closes, then says so.
    AwaitClose(Arc<Mutex<bool>>),
}

fn write(text: impl Into<String>) -> Act {
    Act::Write(text.into().into_bytes())
}

fn end_of_chunks() -> Act {
    write("0\r\n\r\n")
}

/// Everything that the server was sent.
type Seen = Arc<Mutex<Vec<String>>>;

struct Server {
    url: String,
    seen: Seen,
    connections: Arc<Mutex<usize>>,
}

/// Serves every request with the same acts, on connections that are kept.
async fn serve(acts: Vec<Act>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let connections = Arc::new(Mutex::new(0));
    let server = Server { url, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            *connections.lock().unwrap() += 1;
            let (acts, seen) = (acts.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let _ = talk(socket, acts, seen).await;
            });
        }
    });
    server
}

async fn talk(mut socket: TcpStream, acts: Vec<Act>, seen: Seen) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = socket.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).unwrap();
                if body.len() >= length.split("\r\n").next().unwrap().parse().unwrap() {
                    break;
                }
            }
        }
        seen.lock().unwrap().push(String::from_utf8(request).unwrap());
        let mut stays = false;
        for act in &acts {
            match act {
                Act::Write(bytes) => socket.write_all(bytes).await?,
                Act::Chunk(bytes) => {
                    socket.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
                    socket.write_all(bytes).await?;
                    socket.write_all(b"\r\n").await?;
                }
                Act::Pause(time) => tokio::time::sleep(*time).await,
                Act::AwaitClose(closed) => {
                    let _ = socket.read(&mut buffer).await;
                    *closed.lock().unwrap() = true;
                }
            }
            socket.flush().await?;
            stays = matches!(act, Act::Write(bytes) if bytes == b"0\r\n\r\n");
        }
        if !stays {
            return Ok(());
        }
    }
}

fn provider(url: &str) -> Remote {
    Remote::new(Settings {
        base_url: url.to_owned(),
        silence: Duration::from_millis(300),
        ..Settings::new("anthropic", WireKind::Anthropic, Some(Credential::ApiKey(KEY.to_owned())))
    })
    .unwrap()
}

async fn call(provider: &Remote) -> Vec<Event> {
    let body = provider.render(&request("claude-opus-5-5", vec![user("go")]));
    let events: Vec<Event> = provider.stream(body).collect().await;
    let ends =
        events.iter().filter(|event| matches!(event, Event::Ended(_) | Event::Failed(_))).count();
    assert_eq!(ends, 1, "{events:?}");
    let shown = format!("{events:?} {provider:?}");
    assert!(!shown.contains(KEY) && !shown.contains("127.0.0.1"), "{shown}");
    events
}

async fn fails(acts: Vec<Act>) -> Failure {
    let server = serve(acts).await;
    match call(&provider(&server.url)).await.pop() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn status(status: &str, headers: &str, body: &str) -> Vec<Act> {
    vec![write(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))]
}

#[tokio::test]
async fn a_call_sends_what_the_api_wants_and_keeps_its_connection() {
    let mut acts = vec![write(STREAM)];
    acts.extend(golden("thinking").chunks(7).map(|chunk| Act::Chunk(chunk.to_vec())));
    acts.push(end_of_chunks());
    let server = serve(acts).await;
    let provider = provider(&format!("{}/", server.url));
    for _ in 0..3 {
        let expected = GOLDEN.decode(vec![golden("thinking").into()]).await;
        assert_eq!(lines(&call(&provider).await), lines(&expected));
        // The pool gets its connection back in another task.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*server.connections.lock().unwrap(), 1);
    let seen = server.seen.lock().unwrap()[0].clone();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
    for header in [
        "x-api-key: very-secret-key-4711",
        "anthropic-version: 2023-06-01",
        "anthropic-beta: thinking-binding-controls-2026-08-01",
        "content-type: application/json",
        "accept: text/event-stream",
        "accept-encoding: identity",
    ] {
        assert!(head.split("\r\n").any(|line| line == header), "{header}: {head}");
    }
    assert!(!head.contains("authorization"));
    let rendered = provider.render(&request("claude-opus-5-5", vec![user("go")]));
    assert_eq!(body.as_bytes(), &rendered.bytes[..]);
}

#[tokio::test]
async fn a_token_goes_as_a_bearer() {
    let server = serve(status("401 Unauthorized", "", "")).await;
    let settings = Settings {
        base_url: server.url.clone(),
        ..Settings::new("anthropic", WireKind::Anthropic, Some(Credential::Token(KEY.to_owned())))
    };
    call(&Remote::new(settings).unwrap()).await;
    let head = server.seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: bearer very-secret-key-4711\r\n"), "{head}");
    assert!(!head.contains("x-api-key"));
}

#[tokio::test]
async fn answers_without_success_become_failures() {
    let error = |kind: &str, message: &str| {
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
    };
    let limited = error("rate_limit_error", "Too many.");
    let failure = fails(status("429 Too Many Requests", "retry-after: 2.5\r\n", &limited)).await;
    assert_eq!(failure.kind, FailureKind::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_millis(2_500)));
    assert_eq!(failure.message, "the provider answered 429 (rate_limit_error): Too many.");

    let failure = fails(status("529 Overloaded", "retry-after-ms: 40\r\n", "")).await;
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert_eq!(failure.retry_after, Some(Duration::from_millis(40)));

    let failure =
        fails(status("503 Busy", "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n", "")).await;
    assert_eq!(failure.kind, FailureKind::Overloaded);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(86_400)));

    let echo = error("authentication_error", &format!("bad key {KEY} at http://127.0.0.1/x"));
    let failure = fails(status("401 Unauthorized", "", &echo)).await;
    assert_eq!(failure.kind, FailureKind::Hopeless);
    assert!(failure.message.ends_with("bad key [secret] at"), "{}", failure.message);

    let long = error("invalid_request_error", "prompt is too long: 9 > 8");
    assert_eq!(fails(status("400 Bad Request", "", &long)).await.kind, FailureKind::TooLong);
    assert_eq!(fails(status("402 Payment", "", "")).await.kind, FailureKind::Billing);
    assert_eq!(fails(status("500 Oh", "", "x")).await.kind, FailureKind::Transient);
    let away = status("307 Away", "location: http://127.0.0.1:1/v1/messages\r\n", "");
    assert_eq!(fails(away).await.kind, FailureKind::Hopeless);
    assert_eq!(fails(status("200 OK", "", "{}")).await.kind, FailureKind::Hopeless);
}

#[tokio::test]
async fn an_error_whose_body_never_comes_still_fails_by_its_status() {
    let acts = vec![
        write("HTTP/1.1 529 Overloaded\r\ncontent-length: 100\r\n\r\n{\"err"),
        Act::Pause(Duration::from_secs(5)),
    ];
    assert_eq!(fails(acts).await.kind, FailureKind::Overloaded);
}

#[tokio::test]
async fn a_connection_that_closes_or_never_opens_is_transient() {
    let failure = fails(vec![]).await;
    assert_eq!(failure.kind, FailureKind::Transient);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let Some(Event::Failed(failure)) = call(&provider(&url)).await.pop() else { panic!() };
    assert_eq!(failure.message, "no connection to the provider");
    assert_eq!(failure.kind, FailureKind::Transient);
}

#[tokio::test]
async fn a_cut_stream_keeps_its_usage() {
    let mut half = golden("thinking");
    half.truncate(half.len() / 2);
    for end in [vec![], vec![end_of_chunks()]] {
        let mut acts = vec![write(STREAM), Act::Chunk(half.clone())];
        acts.extend(end);
        let failure = fails(acts).await;
        assert_eq!(failure.kind, FailureKind::Transient);
        assert_eq!(failure.message, "the stream was cut before the response ended");
        assert_eq!(failure.usage.cache_write_1h_tokens, 500);
    }
}

#[tokio::test]
async fn silence_fails_and_any_byte_breaks_it() {
    // Before the answer.
    let failure = fails(vec![Act::Pause(Duration::from_secs(5))]).await;
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.message.contains("sent nothing for 0.3 s"), "{}", failure.message);

    // In the middle of the stream.
    let whole = golden("text");
    let begun = Instant::now();
    let acts =
        vec![write(STREAM), Act::Chunk(whole[..300].to_vec()), Act::Pause(Duration::from_secs(5))];
    let failure = fails(acts).await;
    assert!(failure.message.contains("sent nothing"), "{}", failure.message);
    assert!(begun.elapsed() < Duration::from_secs(3));

    // Slow, but never silent: comments count as life.
    let mut acts = vec![write(STREAM)];
    for piece in whole.chunks(whole.len() / 4 + 1) {
        for _ in 0..2 {
            acts.push(Act::Pause(Duration::from_millis(120)));
            acts.push(Act::Chunk(if piece[0] == b'e' { b": alive\n\n".to_vec() } else { vec![] }));
            acts.retain(|act| !matches!(act, Act::Chunk(bytes) if bytes.is_empty()));
        }
        acts.push(Act::Chunk(piece.to_vec()));
    }
    acts.push(end_of_chunks());
    let server = serve(acts).await;
    let events = call(&provider(&server.url)).await;
    assert!(matches!(events.last(), Some(Event::Ended(_))), "{events:?}");
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let closed = Arc::new(Mutex::new(false));
    let server = serve(vec![
        write(STREAM),
        Act::Chunk(golden("text")[..700].to_vec()),
        Act::AwaitClose(Arc::clone(&closed)),
    ])
    .await;
    let provider = provider(&server.url);
    let mut stream = provider.stream(provider.render(&request("claude-opus-5", vec![user("go")])));
    assert!(matches!(stream.next().await, Some(Event::Usage(_))));
    assert!(!*closed.lock().unwrap());
    drop(stream);
    for _ in 0..100 {
        if *closed.lock().unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still open");
}

#[tokio::test]
async fn bytes_that_are_no_text_fail() {
    let failure = fails(vec![write(STREAM), Act::Chunk(b"data: \xff\n\n".to_vec())]).await;
    assert_eq!(failure.kind, FailureKind::Transient);
    assert_eq!(failure.message, "the provider sent a stream that can't be read");
}

#[test]
fn setting_up_refuses_what_cannot_work_and_shows_no_key() {
    let with = |base_url: &str, key: &str| {
        Remote::new(Settings {
            base_url: base_url.to_owned(),
            ..Settings::new(
                "anthropic",
                WireKind::Anthropic,
                Some(Credential::ApiKey(key.to_owned())),
            )
        })
    };
    for url in [
        "",
        "not a url",
        "ftp://a.test",
        "file:///x",
        "https://a:b@a.test",
        "https://a@a.test",
        "https://a.test/v1?api-version=1",
        "https://a.test/v1#x",
    ] {
        assert!(matches!(with(url, KEY), Err(SetupError::BaseUrl(_))), "{url}");
    }
    let error = with("https://a.test", "a\nb").unwrap_err();
    assert!(matches!(error, SetupError::Credential(_)));
    let settings =
        Settings::new("anthropic", WireKind::Anthropic, Some(Credential::Token(KEY.to_owned())));
    assert!(!format!("{settings:?}{error:?}{:?}", with("http://a.test", KEY)).contains(KEY));
    assert!(with("https://a.test/some/path/", KEY).is_ok());
}

#[test]
fn a_version_that_the_address_names_is_not_said_twice() {
    let place = |wire: WireKind, base_url: &str| {
        let settings = Settings { base_url: base_url.to_owned(), ..Settings::new("p", wire, None) };
        let remote = Remote::new(settings).unwrap();
        let body = crate::Body { model: "m".to_owned(), ..crate::Body::default() };
        remote.place(remote.wire.target(&body)).0
    };
    for (wire, base_url, expected) in [
        (WireKind::Anthropic, "https://a.test", "https://a.test/v1/messages"),
        (WireKind::Anthropic, "https://a.test/v1/", "https://a.test/v1/messages"),
        (
            WireKind::Gemini,
            "https://a.test/v1beta",
            "https://a.test/v1beta/models/m:streamGenerateContent?alt=sse",
        ),
        (WireKind::OpenaiResponses, "https://a.test/v1", "https://a.test/v1/responses"),
        (
            WireKind::OpenaiResponses,
            "https://a.test/responses",
            "https://a.test/responses/responses",
        ),
        (WireKind::OpenaiChat, "https://a.test/chat", "https://a.test/chat/chat/completions"),
    ] {
        assert_eq!(place(wire, base_url), expected, "{base_url}");
    }
}

#[test]
fn an_api_key_wins_over_a_token() {
    let some = |text: &str| Some(text.to_owned());
    let choose = Credential::choose;
    assert_eq!(choose(some("k"), some("t")), Some(Credential::ApiKey("k".into())));
    assert_eq!(choose(some(" "), some("t\n")), Some(Credential::Token("t".into())));
    assert_eq!(choose(None, None), None);
}

#[tokio::test]
async fn a_wire_with_many_servers_is_spoken_as_its_address_or_its_name_says() {
    const CHAT: Golden = Golden { wire: WireKind::OpenaiChat, names: &[] };
    let mut acts = vec![write(STREAM)];
    acts.push(Act::Chunk(CHAT.bytes("parallel_calls").to_vec()));
    acts.push(end_of_chunks());
    let server = serve(acts).await;
    let settings = Settings {
        base_url: format!("{}/v1/", server.url),
        server: Some("azure".to_owned()),
        ..Settings::new("mine", WireKind::OpenaiChat, Some(Credential::ApiKey(KEY.to_owned())))
    };
    let expected = CHAT.decode(vec![CHAT.bytes("parallel_calls")]).await;
    assert_eq!(lines(&call(&Remote::new(settings.clone()).unwrap()).await), lines(&expected));
    call(&Remote::new(Settings { server: None, ..settings }).unwrap()).await;
    let seen = server.seen.lock().unwrap().clone();
    for (seen, header, limit) in [
        (&seen[0], "\r\napi-key: very-secret-key-4711\r\n", "max_completion_tokens"),
        (&seen[1], "\r\nauthorization: bearer very-secret-key-4711\r\n", "max_tokens"),
    ] {
        let seen = seen.to_ascii_lowercase();
        assert!(seen.starts_with("post /v1/chat/completions http/1.1\r\n"), "{seen}");
        assert!(seen.contains(header) && seen.contains(limit), "{seen}");
    }
}

#[test]
fn a_refusal_that_quotes_the_key_is_told_without_it() {
    let quoting = || Some(format!("not with {KEY}"));
    let mut ended = Event::Ended(Response {
        blocks: Vec::new(),
        stop: Stop::Refusal { category: quoting(), explanation: quoting() },
        usage: Usage::default(),
        served: quoting(),
    });
    redact(&mut ended, Some(&Credential::ApiKey(KEY.to_owned())));
    let told = format!("{ended:?}");
    assert!(!told.contains(KEY), "{told}");
    assert_eq!(told.matches("not with [secret]").count(), 3);
}
