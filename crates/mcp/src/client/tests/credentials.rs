//! What a request carries, and what becomes of a refusal.

use std::sync::Mutex;

use super::{
    peer::{NoHeaders, sessions},
    *,
};
use crate::client::http::Failure;

/// Gives these headers one after the other, a further one only when the last was refused.
struct Given {
    headers: Vec<(&'static str, &'static str)>,
    /// What was asked for: the method, and whether something was refused.
    asked: Arc<Mutex<Vec<(String, bool)>>>,
    at: Mutex<usize>,
}

impl Given {
    fn new(headers: &[(&'static str, &'static str)]) -> Self {
        Self { headers: headers.to_vec(), asked: Arc::default(), at: Mutex::default() }
    }
}

impl Headers for Given {
    fn header<'a>(
        &'a self,
        method: &'a str,
        refused: Option<&'a Header>,
    ) -> Work<'a, Result<Option<Header>, Unauthorized>> {
        self.asked.lock().unwrap().push((method.to_owned(), refused.is_some()));
        let mut at = self.at.lock().unwrap();
        if refused.is_some() {
            *at += 1;
        }
        let given = self.headers.get(*at).map(|(name, value)| Header {
            name: HeaderName::from_static(name),
            value: SecretString::from(*value),
        });
        Box::pin(async move { Ok(given) })
    }
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::With(401, vec![("www-authenticate", challenge.to_owned())], String::new())
}

async fn refused(peer: &Peer, headers: impl Headers + 'static) -> (String, Option<String>) {
    match Connection::open(peer.way(headers), settings()).await {
        Err(Error::Authentication { message, scope }) => (message, scope),
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("connected"),
    }
}

#[tokio::test]
async fn every_request_carries_its_header() {
    let peer = Peer::start(sessions, |_| None).await;
    let given = Given::new(&[("x-api-key", "k1")]);
    let asked = Arc::clone(&given.asked);
    let connection = Connection::open(peer.way(given), settings()).await.unwrap();
    call(&connection).await.unwrap();
    connection.close().await;
    let seen = peer.seen();
    assert!(seen.iter().all(|asked| asked.header("x-api-key") == "k1"), "{seen:?}");
    let methods: Vec<String> = seen.iter().map(|asked| asked.method.clone()).collect();
    let mut given: Vec<String> =
        asked.lock().unwrap().iter().map(|(method, _)| method.clone()).collect();
    let mut sent = methods;
    given.sort();
    sent.sort();
    assert_eq!(given, sent, "asked once for each request");
    assert!(sent.contains(&"DELETE".to_owned()), "{sent:?}");
}

#[tokio::test]
async fn a_refused_header_is_asked_for_once_more() {
    let peer = Peer::start(stateless, |asked| {
        (asked.header("authorization") == "Bearer old").then(|| unauthorized("Bearer"))
    })
    .await;
    let given = Given::new(&[("authorization", "Bearer old"), ("authorization", "Bearer new")]);
    let asked = Arc::clone(&given.asked);
    let connection = Connection::open(peer.way(given), settings()).await.unwrap();
    assert_eq!(words(&call(&connection).await.unwrap()), "done");
    let refusals: Vec<bool> = asked.lock().unwrap().iter().map(|(_, refused)| *refused).collect();
    assert_eq!(refusals, [false, true, false]);
    assert_eq!(peer.count("tools/call"), 1);
}

#[tokio::test]
async fn who_refuses_twice_is_believed() {
    let scopes = "Bearer realm=\"x\", scope=\"files:read files:write\"";
    let peer = Peer::start(stateless, move |_| Some(unauthorized(scopes))).await;
    let given =
        Given::new(&[("authorization", "Bearer a-secret"), ("authorization", "Bearer b-secret")]);
    let (message, scope) = refused(&peer, given).await;
    assert_eq!(peer.seen().len(), 2);
    assert_eq!(scope.as_deref(), Some("files:read files:write"));
    assert!(message.contains("mcp.example") && message.contains("files:read"), "{message}");
    assert!(!message.contains("secret"), "{message}");
    // The same header would be refused again.
    let given = Given::new(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]);
    refused(&peer, given).await;
    assert_eq!(peer.seen().len(), 3);
    // And without one there is nothing to try.
    let (message, _) = refused(&peer, NoHeaders).await;
    assert_eq!(peer.seen().len(), 4);
    assert!(message.contains("connect a credential"), "{message}");
}

#[tokio::test]
async fn a_call_may_be_refused_for_its_scopes() {
    let peer = Peer::start(stateless, |asked| {
        (asked.call() == "tools/call").then(|| {
            let challenge = "Bearer error=\"insufficient_scope\", scope=\"admin\"".to_owned();
            Reply::With(403, vec![("www-authenticate", challenge)], String::new())
        })
    })
    .await;
    let given = Given::new(&[("authorization", "Bearer a")]);
    let connection = Connection::open(peer.way(given), settings()).await.unwrap();
    let Err(Error::Authentication { message, scope }) = call(&connection).await else {
        panic!("let in")
    };
    assert_eq!(scope.as_deref(), Some("admin"));
    assert!(message.contains("scopes"), "{message}");
}

#[tokio::test]
async fn a_credential_that_cannot_be_used_is_said_to_be_so() {
    struct Broken;
    impl Headers for Broken {
        fn header<'a>(
            &'a self,
            _method: &'a str,
            _refused: Option<&'a Header>,
        ) -> Work<'a, Result<Option<Header>, Unauthorized>> {
            Box::pin(async { Err(Unauthorized("sign in again".to_owned())) })
        }
    }
    let peer = Peer::start(stateless, |_| None).await;
    let (message, _) = refused(&peer, Broken).await;
    assert!(message.contains("sign in again"), "{message}");
    for (name, value) in [("host", "x"), ("mcp-session-id", "x"), ("authorization", "a\nsecret")] {
        let (message, _) = refused(&peer, Given::new(&[(name, value)])).await;
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(peer.seen().is_empty());
}

#[tokio::test]
async fn a_credential_goes_to_no_other_origin() {
    let peer = Peer::start(sessions, |asked| match asked.method.as_str() {
        "GET" => Some(Reply::Open(vec![
            "event: endpoint\ndata: http://other.example/messages\n\n".to_owned(),
        ])),
        _ => Some(status(404)),
    })
    .await;
    let given = Given::new(&[("authorization", "Bearer a")]);
    let connected = Connection::open(peer.way(given), settings()).await;
    assert!(matches!(connected, Err(Error::Connection(_))));
    assert!(peer.seen().iter().all(|asked| asked.header("host") == "mcp.example"));
}

#[test]
fn no_failure_shows_a_secret() {
    let header = Header {
        name: HeaderName::from_static("authorization"),
        value: SecretString::from("Bearer secret"),
    };
    assert!(!format!("{header:?}").contains("secret"));
    let failure = Failure { error: Error::Connection("x".to_owned()), status: None };
    assert_eq!(failure.to_string(), "x");
}
