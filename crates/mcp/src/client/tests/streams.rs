//! Streams of events: answers, streams that are cut, the old transport, and calls that nobody waits
//! for any more.

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::{peer::Asked, *};

fn answered(asked: &Asked) -> String {
    event(&asked.result(text("streamed")))
}

#[tokio::test]
async fn an_answer_may_come_as_a_stream() {
    for base in [stateless, sessions] {
        let peer = Peer::start(base, |asked| {
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": asked.body["params"]["_meta"]["progressToken"],
                    "progress": 1 } });
            (asked.call() == "tools/call").then(|| {
                Reply::Events(vec![": hi\r\n\r\n".to_owned(), event(&progress), answered(asked)])
            })
        })
        .await;
        let connection = peer.connect().await.unwrap();
        assert_eq!(words(&call(&connection).await.unwrap()), "streamed");
        assert_eq!(words(&call(&connection).await.unwrap()), "streamed");
    }
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on_where_it_was() {
    let id = Arc::new(Mutex::new(Value::Null));
    let peer = Peer::start(sessions, move |asked| {
        if asked.call() == "tools/call" {
            *id.lock().unwrap() = asked.body["id"].clone();
            return Some(Reply::Events(vec!["id: e1\nretry: 1\ndata:\n\n".to_owned()]));
        }
        (asked.header("last-event-id") == "e1").then(|| {
            let answer =
                json!({ "jsonrpc": "2.0", "id": *id.lock().unwrap(), "result": text("later") });
            Reply::Events(vec![event(&answer)])
        })
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert_eq!(words(&call(&connection).await.unwrap()), "later");
    assert_eq!(peer.count("tools/call"), 1);
}

#[tokio::test]
async fn a_form_may_come_in_the_stream_of_a_call() {
    let call_id = Arc::new(Mutex::new(Value::Null));
    let peer = Peer::start(sessions, move |asked| {
        if asked.call() == "tools/call" {
            *call_id.lock().unwrap() = asked.body["id"].clone();
            let form = json!({ "jsonrpc": "2.0", "id": 77, "method": "elicitation/create",
                "params": { "message": "m", "requestedSchema": { "type": "object",
                    "properties": { "n": { "type": "integer", "default": 3 } } } } });
            let roots = json!({ "jsonrpc": "2.0", "id": 78, "method": "roots/list" });
            return Some(Reply::Open(vec![event(&form), event(&roots)]));
        }
        None
    })
    .await;
    let connection = peer.connect().await.unwrap();
    let answers = async {
        loop {
            let seen = peer.seen();
            let find = |id: i64| seen.iter().find(|asked| asked.body["id"] == id).cloned();
            let answered = |asked: &Asked| asked.body.get("method").is_none();
            if let (Some(form), Some(roots)) =
                (find(77).filter(answered), find(78).filter(answered))
            {
                return (form, roots);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (form, roots) = tokio::select! {
        answers = answers => answers,
        called = call(&connection) => panic!("{called:?}"),
    };
    assert_eq!(form.body["result"], json!({ "action": "accept", "content": { "n": 3 } }));
    assert_eq!(roots.body["error"]["code"], -32601);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    // With sessions, the server is told; without, its stream is closed.
    for (base, told) in [(sessions as fn(&Asked) -> Reply, true), (stateless, false)] {
        let peer = Peer::start(base, |asked| {
            (asked.call() == "tools/call").then(|| Reply::Open(vec![": hi\n\n".to_owned()]))
        })
        .await;
        let connection = peer.connect().await.unwrap();
        let arrived = async {
            while peer.count("tools/call") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = arrived => {}
            called = call(&connection) => panic!("{called:?}"),
        }
        peer.gone.notified().await;
        while told && peer.count("notifications/cancelled") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let seen = peer.seen();
        let id = seen.iter().find(|asked| asked.call() == "tools/call").unwrap().body["id"].clone();
        let cancelled = seen.iter().find(|asked| asked.call() == "notifications/cancelled");
        assert_eq!(
            cancelled.map(|asked| asked.body["params"]["requestId"].clone()),
            told.then_some(id)
        );
    }
}

#[tokio::test]
async fn a_server_of_2024_is_met_with_its_own_transport() {
    let (tell, told) = mpsc::unbounded_channel();
    tell.send("event: endpoint\ndata: /messages?s=1\n\n".to_owned()).unwrap();
    let told = Mutex::new(Some(told));
    let peer = Peer::start(sessions, move |asked| {
        if asked.method == "GET" {
            return Some(Reply::Told(told.lock().unwrap().take().unwrap()));
        }
        if asked.path != "/messages?s=1" {
            return Some(status(405));
        }
        // What it has to say comes in the stream alone.
        let answer = match asked.call() {
            "initialize" => json!({
                "protocolVersion": "2024-11-05",
                "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "peer", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [peer::tool("echo")] }),
            "tools/call" => text("old"),
            _ => return Some(status(202)),
        };
        tell.send(event(&asked.result(answer))).unwrap();
        Some(status(202))
    })
    .await;
    let connection = peer.connect().await.unwrap();
    assert_eq!(connection.tools().await.unwrap().tools.len(), 1);
    assert!(!connection.may_have_changed());
    assert_eq!(words(&call(&connection).await.unwrap()), "old");
    assert_eq!((peer.count("initialize"), peer.count("tools/call")), (2, 1));
    connection.close().await;
}

#[tokio::test]
async fn answers_to_others_are_passed_over() {
    for base in [stateless, sessions] {
        let peer = Peer::start(base, |asked| {
            let strays = [json!(987), json!("nobody"), json!(null), json!({ "a": 1 })];
            let stray = |id: Value| {
                event(&json!({ "jsonrpc": "2.0", "id": id, "result": text("for nobody") }))
            };
            let refused = json!({ "jsonrpc": "2.0", "id": 5000,
                "error": { "code": -32000, "message": "not you" } });
            let mut events: Vec<_> = strays.map(stray).into();
            events.extend([event(&refused), "data: {\n\n".to_owned(), answered(asked)]);
            (asked.call() == "tools/call").then(|| Reply::Events(events))
        })
        .await;
        let connection = peer.connect().await.unwrap();
        assert_eq!(words(&call(&connection).await.unwrap()), "streamed");
    }
    // An error that names no request is one to the request that it comes in answer to.
    let peer = Peer::start(sessions, |asked| {
        let refused = json!({ "jsonrpc": "2.0", "id": null,
            "error": { "code": -32000, "message": "not you" } });
        (asked.call() == "tools/call").then(|| Reply::Events(vec![event(&refused)]))
    })
    .await;
    let error = call(&peer.connect().await.unwrap()).await.unwrap_err();
    assert_eq!(error, Error::Refused { code: -32000, message: "not you".into() });
}
