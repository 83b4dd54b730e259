//! Connections to servers of all revisions: handshakes, lists, calls, and that nothing is sent twice.
//! Connects to loopback alone.

use serde_json::{json, value::to_raw_value};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;
use peer::{Peer, Reply, event, sessions, settings, stateless, status, text};

mod credentials;
mod limits;
mod peer;
mod programs;
mod reading;
mod streams;

fn input(value: Value) -> Box<RawValue> {
    to_raw_value(&value).unwrap()
}

fn words(called: &Called) -> &str {
    called.content[0]["text"].as_str().unwrap()
}

async fn call(connection: &Connection) -> Result<Called, Error> {
    connection.call("echo", &input(json!({ "a": 1 }))).await
}

#[tokio::test]
async fn a_server_of_2026_is_asked_without_a_session() {
    let peer = Peer::start(stateless, |_| None).await;
    let connection = peer.connect().await.unwrap();
    let tools = connection.tools().await.unwrap();
    assert_eq!(tools.tools[0].name, "echo");
    assert_eq!(tools.valid_for, Some(Duration::from_secs(90)));
    assert_eq!(words(&call(&connection).await.unwrap()), "done");
    assert!(connection.may_have_changed(), "nobody has subscribed");
    connection.close().await;
    let seen = peer.seen();
    let calls: Vec<&str> = seen.iter().map(peer::Asked::call).collect();
    assert_eq!(calls, ["server/discover", "tools/list", "tools/call"]);
    let called = &seen[2];
    assert_eq!(called.header("mcp-protocol-version"), "2026-07-28");
    assert_eq!((called.header("mcp-method"), called.header("mcp-name")), ("tools/call", "echo"));
    assert_eq!(called.body["params"]["arguments"], json!({ "a": 1 }));
    let meta = &called.body["params"]["_meta"];
    let client = &meta["io.modelcontextprotocol/clientInfo"];
    assert_eq!(client["name"], "posthouse", "{meta}");
    let offered = &meta["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!(offered, &json!({ "elicitation": { "form": {} } }));
}

#[tokio::test]
async fn older_servers_are_met_with_their_handshake() {
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        let peer = Peer::start(sessions, move |asked| {
            (asked.call() == "initialize").then(|| {
                let result = json!({
                    "protocolVersion": revision,
                    "capabilities": {},
                    "serverInfo": { "name": "peer", "version": "1" },
                });
                let headers = vec![
                    ("content-type", "application/json; charset=utf-8".to_owned()),
                    ("mcp-session-id", "s1".to_owned()),
                ];
                Reply::With(200, headers, asked.result(result).to_string())
            })
        })
        .await;
        let connection = peer.connect().await.unwrap();
        assert_eq!(connection.tools().await.unwrap().valid_for, None);
        assert_eq!(words(&call(&connection).await.unwrap()), "done");
        connection.close().await;
        let seen = peer.seen();
        let begun = seen.iter().find(|asked| asked.call() == "initialize").unwrap();
        assert_eq!(begun.body["params"]["protocolVersion"], "2025-11-25");
        assert_eq!(begun.body["params"]["capabilities"], json!({ "elicitation": { "form": {} } }));
        let called = seen.iter().find(|asked| asked.call() == "tools/call").unwrap();
        assert_eq!(called.header("mcp-session-id"), "s1");
        assert_eq!(called.header("mcp-protocol-version"), revision);
        let last = seen.last().unwrap();
        assert_eq!((last.method.as_str(), last.header("mcp-session-id")), ("DELETE", "s1"));
    }
}

#[tokio::test]
async fn a_revision_that_nobody_knows_is_refused() {
    let peer = Peer::start(sessions, |asked| {
        (asked.call() == "initialize").then(|| {
            Reply::Json(asked.result(json!({
                "protocolVersion": "1999-01-01",
                "capabilities": {},
                "serverInfo": { "name": "peer", "version": "1" },
            })))
        })
    })
    .await;
    let Err(Error::Connection(reason)) = peer.connect().await else { panic!("connected") };
    assert!(reason.contains("1999-01-01"), "{reason}");
}

#[tokio::test]
async fn servers_that_choke_on_what_is_new_are_met_as_old_ones() {
    for refusal in [400, 404, 405, 500] {
        let peer = Peer::start(sessions, move |asked| {
            (asked.call() == "server/discover").then(|| status(refusal))
        })
        .await;
        let connection = peer.connect().await.unwrap();
        assert_eq!(words(&call(&connection).await.unwrap()), "done", "{refusal}");
    }
    // Those that know the question, and have nothing newer to offer.
    for in_result in [true, false] {
        let peer = Peer::start(sessions, move |asked| {
            let known = json!(["2025-06-18", "2025-11-25"]);
            let mut refusal = asked.error(-32022, "Unsupported protocol version");
            refusal["error"]["data"] = json!({ "supported": known, "requested": "2026-07-28" });
            let discovered = json!({
                "resultType": "complete", "supportedVersions": known, "capabilities": {},
                "serverInfo": { "name": "peer", "version": "1" }, "ttlMs": 0,
                "cacheScope": "private",
            });
            let answer = if in_result { asked.result(discovered) } else { refusal };
            (asked.call() == "server/discover").then(|| Reply::Json(answer))
        })
        .await;
        let connection = peer.connect().await.unwrap();
        assert_eq!(words(&call(&connection).await.unwrap()), "done", "{in_result}");
    }
    // One that answers every request alike.
    let peer = Peer::start(sessions, |asked| {
        (asked.call() == "server/discover").then(|| Reply::Json(asked.result(json!({}))))
    })
    .await;
    assert!(peer.connect().await.is_ok());
}

#[tokio::test]
async fn one_connection_of_tcp_carries_all_calls() {
    let peer = Peer::start(stateless, |_| None).await;
    let connection = peer.connect().await.unwrap();
    for _ in 0..10 {
        call(&connection).await.unwrap();
    }
    assert_eq!(peer.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(peer.count("tools/call"), 10);
}

#[tokio::test]
async fn a_call_that_was_cut_is_not_sent_again() {
    let peer =
        Peer::start(sessions, |asked| (asked.call() == "tools/call").then_some(Reply::End)).await;
    let connection = peer.connect().await.unwrap();
    let error = call(&connection).await.unwrap_err();
    assert!(
        matches!(&error, Error::Connection(reason) if reason.contains("mcp.example")),
        "{error}"
    );
    assert_eq!(peer.count("tools/call"), 1);
    // The same where the stream of the answer ends without it.
    let peer = Peer::start(stateless, |asked| {
        (asked.call() == "tools/call").then(|| Reply::Events(vec![": nothing\n\n".to_owned()]))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert!(matches!(call(&connection).await, Err(Error::Connection(_))));
    assert_eq!(peer.count("tools/call"), 1);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_session_that_has_expired_is_begun_anew() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let peer = Peer::start(sessions, move |asked| {
        let expired =
            asked.call() == "tools/call" && first.swap(false, std::sync::atomic::Ordering::Relaxed);
        expired.then(|| status(404))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert_eq!(words(&call(&connection).await.unwrap()), "done");
    // The server has said that it has not processed the first one.
    assert_eq!((peer.count("initialize"), peer.count("tools/call")), (2, 2));
}

#[tokio::test]
async fn an_error_of_the_server_is_passed_on() {
    let peer = Peer::start(stateless, |asked| {
        (asked.call() == "tools/call").then(|| Reply::Json(asked.error(-32602, "no\nsuch tool")))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    let refused = Error::Refused { code: -32602, message: "no such tool".to_owned() };
    assert_eq!(call(&connection).await, Err(refused));
    let odd = connection.call("echo", &input(json!([1]))).await;
    assert!(matches!(odd, Err(Error::Refused { code: -32602, .. })), "{odd:?}");
    assert_eq!(peer.count("tools/call"), 1);
}

#[tokio::test]
async fn forms_are_answered_with_their_defaults() {
    let form = json!({
        "message": "who?",
        "requestedSchema": {
            "type": "object",
            "properties": { "name": { "type": "string", "default": "Ann" } },
            "required": ["name"],
        },
    });
    for (with_defaults, action) in [(true, "accept"), (false, "decline")] {
        let form = form.clone();
        let peer = Peer::start(stateless, move |asked| {
            let parameters = &asked.body["params"];
            if asked.call() != "tools/call" {
                return None;
            }
            if parameters.get("inputResponses").is_none() {
                let request = json!({ "method": "elicitation/create", "params": form });
                return Some(Reply::Json(asked.result(json!({
                    "resultType": "input_required",
                    "inputRequests": { "q1": request },
                    "requestState": "opaque",
                }))));
            }
            assert_eq!(parameters["requestState"], "opaque");
            Some(Reply::Json(asked.result(text(&parameters["inputResponses"]["q1"].to_string()))))
        })
        .await;
        let settings = Settings { answer_with_defaults: with_defaults, ..settings() };
        let connection = Connection::open(peer.way(peer::NoHeaders), settings).await.unwrap();
        let called = call(&connection).await.unwrap();
        let answer: Value = serde_json::from_str(words(&called)).unwrap();
        assert_eq!(answer["action"], action);
        assert_eq!(answer.get("content"), with_defaults.then(|| json!({ "name": "Ann" })).as_ref());
    }
}

#[tokio::test]
async fn a_server_that_asks_for_ever_is_left() {
    let peer = Peer::start(stateless, |asked| {
        let request = json!({ "method": "elicitation/create", "params": { "mode": "url",
            "message": "m", "url": "https://x.example/", "elicitationId": "e" } });
        (asked.call() == "tools/call").then(|| {
            Reply::Json(asked.result(json!({
                "resultType": "input_required", "inputRequests": { "q": request },
            })))
        })
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert!(matches!(call(&connection).await, Err(Error::Connection(_))));
    assert_eq!(peer.count("tools/call"), ROUNDS);
    let last = &peer.seen().pop().unwrap().body["params"]["inputResponses"]["q"];
    assert_eq!(last, &json!({ "action": "cancel" }));
}

#[tokio::test]
async fn a_program_is_spoken_to_in_lines() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let (read, mut write) = tokio::io::split(theirs);
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            let body: Value = serde_json::from_str(&line).unwrap();
            let asked = peer::Asked {
                method: String::new(),
                path: String::new(),
                headers: Default::default(),
                body,
            };
            let answer = match asked.call() {
                "server/discover" => asked.error(-32601, "?"),
                "initialize" => asked.result(json!({
                    "protocolVersion": "2025-06-18",
                    "capabilities": { "tools": { "listChanged": true } },
                    "serverInfo": { "name": "peer", "version": "1" },
                })),
                "tools/list" => asked.result(json!({ "tools": [peer::tool("echo")] })),
                "tools/call" if asked.body["params"]["arguments"]["long"] == true => {
                    asked.result(text(&"x".repeat(100 << 10)))
                }
                "tools/call" => {
                    let changed = json!({
                        "jsonrpc": "2.0", "method": "notifications/tools/list_changed",
                    });
                    write.write_all(format!("some noise\n{changed}\n").as_bytes()).await.unwrap();
                    asked.result(text("done"))
                }
                _ => continue,
            };
            write.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        }
    });
    let connection = Connection::open(Way::Pipe(Box::new(ours)), settings()).await.unwrap();
    assert!(connection.may_have_changed(), "nobody has asked yet");
    connection.tools().await.unwrap();
    assert!(!connection.may_have_changed());
    assert_eq!(words(&call(&connection).await.unwrap()), "done");
    while !connection.may_have_changed() {
        tokio::task::yield_now().await;
    }
    let error = connection.call("echo", &input(json!({ "long": true }))).await.unwrap_err();
    assert!(
        matches!(&error, Error::Connection(reason) if reason.contains("line longer")),
        "{error}"
    );
    while !connection.is_closed() {
        tokio::task::yield_now().await;
    }
    // It sees that nothing more comes.
    connection.close().await;
    serving.join_next().await.unwrap().unwrap();
}

/// A program that is gone, and says why.
struct Gone;

impl tokio::io::AsyncRead for Gone {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let why = format!(
            "has ended with exit code 1; its last words: {}\u{1b}[2J no KEY",
            "y".repeat(2000)
        );
        std::task::Poll::Ready(Err(std::io::Error::other(why)))
    }
}

impl tokio::io::AsyncWrite for Gone {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_program_s_last_words_are_told() {
    let opened = Connection::open(Way::Pipe(Box::new(Gone)), settings()).await;
    let Err(Error::Connection(reason)) = opened else { panic!("connected") };
    assert!(reason.contains("exit code 1") && reason.ends_with("no KEY"), "{reason}");
    assert!(reason.len() < 900 && !reason.contains('\u{1b}'), "{reason}");
}

#[tokio::test]
async fn what_is_no_server_of_mcp_is_named_so() {
    let html = || Reply::With(200, vec![("content-type", "text/html".to_owned())], "hi".to_owned());
    let peer = Peer::start(sessions, move |_| Some(html())).await;
    let Err(Error::Connection(reason)) = peer.connect().await else { panic!("connected") };
    assert!(reason.contains("mcp.example") && reason.contains("MCP"), "{reason}");

    let away =
        || Reply::With(308, vec![("location", "http://other.example/".to_owned())], String::new());
    let peer = Peer::start(sessions, move |_| Some(away())).await;
    let Err(Error::Connection(reason)) = peer.connect().await else { panic!("connected") };
    assert!(reason.contains("redirect") && !reason.contains("other"), "{reason}");
    assert_eq!(peer.seen().len(), 1);

    let way = Way::Http {
        url: "https://127.0.0.1/mcp?key=secret".parse().unwrap(),
        guard: Guard::new(posthouse_net::Rules::default(), vec![]),
        headers: Arc::new(peer::NoHeaders),
    };
    let Err(Error::Connection(reason)) = Connection::open(way, settings()).await else {
        panic!("connected")
    };
    assert!(reason.contains("127.0.0.1") && !reason.contains("secret"), "{reason}");
}

#[tokio::test]
async fn news_come_by_the_stream_of_the_session() {
    let peer = Peer::start(sessions, |asked| {
        let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
        (asked.method == "GET").then(|| Reply::Open(vec![event(&changed)]))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    // The stream may begin after the list was read, which makes the list doubtful: ask until it holds.
    loop {
        connection.tools().await.unwrap();
        if !connection.may_have_changed() {
            break;
        }
        tokio::task::yield_now().await;
    }
    connection.close().await;
    peer.gone.notified().await;
}
