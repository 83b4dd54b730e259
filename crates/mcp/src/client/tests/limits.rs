//! What is too long, too slow or too much ends.

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::{peer::Asked, *};

fn failed(error: &Error) -> &str {
    match error {
        Error::Connection(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_no_answer() {
    let long = || text(&"x".repeat(80 << 10));
    let peer = Peer::start(stateless, move |asked| {
        let answer = asked.result(long());
        match (asked.call(), asked.body["params"]["arguments"]["as"].as_str()) {
            ("tools/call", Some("json")) => Some(Reply::Json(answer)),
            ("tools/call", Some("event")) => Some(Reply::Open(vec![event(&answer)])),
            ("tools/call", Some("lines")) => {
                Some(Reply::Drip("text/event-stream", "data: aaaaaaaa\n"))
            }
            ("tools/call", Some("returns")) => {
                Some(Reply::Drip("text/event-stream", "data: aaaaaaaa\r\n"))
            }
            _ => None,
        }
    })
    .await;
    let short = Settings { message_bytes: 2 << 10, ..settings() };
    let connection = Connection::open(peer.way(peer::NoHeaders), short).await.unwrap();
    for kind in ["json", "event", "lines", "returns"] {
        let error = connection.call("echo", &input(json!({ "as": kind }))).await.unwrap_err();
        assert!(failed(&error).contains("longer than 2048 bytes"), "{kind}: {error}");
    }
    assert!(!connection.is_closed());
    assert_eq!(words(&call(&connection).await.unwrap()), "done");
}

#[tokio::test]
async fn who_is_silent_for_too_long_is_left() {
    let peer = Peer::start(stateless, |asked| {
        let arguments = &asked.body["params"]["arguments"];
        (asked.call() == "tools/call").then(|| match arguments["as"].as_str() {
            Some("drip") => Reply::Drip("application/json", " "),
            Some("comments") => Reply::Drip("text/event-stream", ": still here\n\n"),
            _ => Reply::Open(vec![]),
        })
    })
    .await;
    let settings = Settings { silence: Duration::from_millis(100), ..settings() };
    let connection = Connection::open(peer.way(peer::NoHeaders), settings).await.unwrap();
    for kind in ["drip", "comments", "nothing"] {
        let error = connection.call("echo", &input(json!({ "as": kind }))).await.unwrap_err();
        assert!(failed(&error).contains("has not answered within"), "{kind}: {error}");
        // What is under way ends at the server too.
        peer.gone.notified().await;
    }
}

#[tokio::test]
async fn progress_is_a_sign_of_life() {
    let (tell, told) = mpsc::unbounded_channel();
    let told = Mutex::new(Some(told));
    let peer = Peer::start(stateless, move |asked| {
        (asked.call() == "tools/call").then(|| Reply::Told(told.lock().unwrap().take().unwrap()))
    })
    .await;
    let settings = Settings { silence: Duration::from_secs(1), ..settings() };
    let connection = Connection::open(peer.way(peer::NoHeaders), settings).await.unwrap();
    // Far longer than the silence, and never silent for as long.
    let telling = async {
        while peer.count("tools/call") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let asked = peer.seen().pop().unwrap();
        let token = &asked.body["params"]["_meta"]["progressToken"];
        for step in 1..=8 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": token, "progress": step } });
            tell.send(event(&progress)).unwrap();
        }
        tell.send(event(&asked.result(text("at last")))).unwrap();
    };
    let (called, ()) = tokio::join!(call(&connection), telling);
    assert_eq!(words(&called.unwrap()), "at last");
}

#[tokio::test]
async fn a_call_has_an_end_whatever_its_progress_is() {
    let peer = Peer::start(stateless, |asked| {
        // The first request of the connection after the handshake has the first token.
        (asked.call() == "tools/call").then_some(Reply::Drip(
            "text/event-stream",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
             \"params\":{\"progressToken\":0,\"progress\":1}}\n\n",
        ))
    })
    .await;
    let call_time = Duration::from_millis(500);
    let settings = Settings { call: call_time, ..settings() };
    let connection = Connection::open(peer.way(peer::NoHeaders), settings).await.unwrap();
    let error = call(&connection).await.unwrap_err();
    assert!(failed(&error).contains("has not answered within"), "{error}");
    peer.gone.notified().await;
}

#[tokio::test]
async fn a_handshake_has_an_end() {
    for kind in ["application/json", "text/event-stream"] {
        let peer = Peer::start(stateless, move |_| Some(Reply::Drip(kind, " "))).await;
        let settings = Settings { connect: Duration::from_millis(300), ..settings() };
        let connected = Connection::open(peer.way(peer::NoHeaders), settings).await;
        let Err(Error::Connection(reason)) = connected else { panic!("connected") };
        assert!(reason.contains("mcp.example"), "{reason}");
        peer.gone.notified().await;
    }
}

fn page(asked: &Asked, tools: Vec<Value>, next: Option<String>) -> Reply {
    let mut page = json!({ "tools": tools });
    if let Some(next) = next {
        page["nextCursor"] = json!(next);
    }
    Reply::Json(asked.result(page))
}

#[tokio::test]
async fn a_list_has_an_end() {
    // Page after page.
    let peer = Peer::start(sessions, |asked| {
        let cursor = asked.body["params"]["cursor"].as_str().unwrap_or("0").to_owned();
        let next: usize = cursor.parse::<usize>().unwrap_or_default() + 1;
        (asked.call() == "tools/list")
            .then(|| page(asked, vec![peer::tool(&cursor)], Some(next.to_string())))
    })
    .await;
    let few = Settings { tools: 7, ..settings() };
    let connection = Connection::open(peer.way(peer::NoHeaders), few).await.unwrap();
    let tools = connection.tools().await.unwrap();
    assert_eq!((tools.tools.len(), peer.count("tools/list")), (7, 7));
    assert!(tools.left_out[0].contains("7 tools"), "{:?}", tools.left_out);
    // Empty pages.
    let peer = Peer::start(sessions, |asked| {
        let cursor = asked.body["params"]["cursor"].as_str().unwrap_or("0").to_owned();
        let next: usize = cursor.parse::<usize>().unwrap_or_default() + 1;
        (asked.call() == "tools/list").then(|| page(asked, vec![], Some(next.to_string())))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert!(connection.tools().await.unwrap().tools.is_empty());
    assert_eq!(peer.count("tools/list"), PAGES);
    // The same page again and again.
    let peer = Peer::start(sessions, |asked| {
        (asked.call() == "tools/list")
            .then(|| page(asked, vec![peer::tool("a")], Some("again".to_owned())))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    let tools = connection.tools().await.unwrap();
    assert_eq!((tools.tools.len(), peer.count("tools/list")), (1, 2));
    assert!(tools.left_out.iter().any(|sentence| sentence.contains("repeat")), "{tools:?}");
}

#[tokio::test]
async fn what_is_no_list_is_an_error() {
    for odd in [json!({ "tools": "none" }), json!({}), json!([1]), json!("x"), json!(null)] {
        let answer = odd.clone();
        let peer = Peer::start(sessions, move |asked| {
            (asked.call() == "tools/list").then(|| Reply::Json(asked.result(answer.clone())))
        })
        .await;
        let connection = peer.connect().await.unwrap();
        let error = connection.tools().await.unwrap_err();
        assert!(matches!(error, Error::Connection(_)), "{odd}: {error:?}");
        assert!(connection.may_have_changed());
    }
}
