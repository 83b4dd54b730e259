//! Every back end against answers in its documented shape, and all of them against hostile ones.
//! Connects to loopback alone.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use posthouse_net::Rules;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

mod engines;

const KEY: &str = "sekrit-key-42";

/// A back end on loopback that answers every request alike, and what it was sent.
struct Peer {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _serving: JoinSet<()>,
}

/// A request as it came.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    pairs: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Value,
}

impl Peer {
    async fn answering(status: &str, body: impl ToString) -> Self {
        let body = body.to_string();
        let length = body.len();
        Self::with(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    async fn with(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let mut serving = JoinSet::new();
        let kept = Arc::clone(&seen);
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &answer, &kept).await;
            }
        });
        Self { at, seen, _serving: serving }
    }

    fn search(&self, engine: Engine) -> Search {
        let rules =
            Rules { resolve: [("peer.example".to_owned(), self.at)].into(), ..Rules::default() };
        let settings = Settings {
            engine,
            base_url: "http://peer.example".to_owned(),
            key: Some(KEY.into()),
            headers: HeaderMap::new(),
            hits: MOST_HITS,
            time: Duration::from_secs(10),
        };
        Search::new(Guard::new(rules, vec![]), settings).unwrap()
    }

    /// The only request that it was sent.
    fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

async fn serve(mut stream: TcpStream, answer: &str, kept: &Mutex<Vec<Seen>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let seen = loop {
        let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(seen) = parse(&bytes) {
            break seen;
        }
    };
    kept.lock().unwrap().push(seen);
    // Whoever has had enough goes away.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn parse(bytes: &[u8]) -> Option<Seen> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    if body.len() < length {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Seen {
        method,
        path: path.to_owned(),
        pairs: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers,
        body: serde_json::from_str(body).unwrap_or_default(),
    })
}

fn query(words: &str) -> Query {
    Query { query: words.to_owned(), ..Query::default() }
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

fn hit(url: &str, title: &str, texts: &[&str]) -> Hit {
    Hit { url: url.to_owned(), title: title.to_owned(), texts: owned(texts) }
}

/// Every back end, with an answer of one hit that is found at the address.
fn engines(address: &str) -> Vec<(Engine, Value)> {
    let model = || "m".to_owned();
    vec![
        (Engine::Brave, json!({ "web": { "results": [{ "url": address }] } })),
        (Engine::Searxng, json!({ "results": [{ "url": address }] })),
        (Engine::Tavily, json!({ "results": [{ "url": address }] })),
        (Engine::Serpapi, json!({ "organic_results": [{ "link": address }] })),
        (
            Engine::Messages { model: model() },
            json!({ "content": [{
                "type": "web_search_tool_result",
                "content": [{ "type": "web_search_result", "url": address }],
            }] }),
        ),
        (
            Engine::Responses { model: model() },
            json!({ "output": [{
                "type": "web_search_call",
                "action": { "type": "search", "sources": [{ "type": "url", "url": address }] },
            }] }),
        ),
    ]
}

#[tokio::test]
async fn what_the_rules_don_t_allow_is_not_found_whoever_finds_it() {
    for address in [
        "https://evil.example/",
        "https://docs.rs.evil.example/",
        "https://docs.rs@evil.example/",
        "https://bad.docs.rs/x",
        "javascript:alert(1)//docs.rs",
        "https://1.2.3.4/docs.rs",
    ] {
        for (engine, answer) in engines(address) {
            let peer = Peer::answering("200 OK", answer).await;
            let mut query = query("x");
            query.domains.allowed = Some(owned(&["docs.rs"]));
            query.domains.blocked = owned(&["bad.docs.rs"]);
            let found = peer.search(engine.clone()).search(&query).await;
            assert_eq!(found, Ok(Vec::new()), "{engine:?} {address}");
        }
    }
    for (engine, answer) in engines("https://docs.rs/tokio") {
        let peer = Peer::answering("200 OK", answer).await;
        let mut query = query("x");
        query.domains.allowed = Some(owned(&["docs.rs"]));
        query.domains.environment = Some(owned(&["docs.rs", "db.internal"]));
        let found = peer.search(engine.clone()).search(&query).await.unwrap();
        assert_eq!(found, [hit("https://docs.rs/tokio", "docs.rs", &[])], "{engine:?}");
        let seen = format!("{:?}", peer.seen());
        assert!(!seen.contains("internal"), "names inside stay inside: {seen}");
    }
}

#[tokio::test]
async fn wrong_types_deep_nests_and_no_json_are_harmless() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wrong = json!({
        "web": { "results": [1, null, { "url": 7 }, { "url": ["x"] }, { "title": "t" }] },
        "results": [1, [], { "url": {} }, { "url": "https://a.example", "content": 5, "title": [] }],
        "organic_results": { "link": "https://a.example" },
        "search_metadata": [],
        "content": [{ "type": "web_search_tool_result", "content": [[], { "url": 1 }] }, "x",
            { "citations": "x" }, { "citations": [{ "url": 1, "cited_text": 2 }] }],
        "output": [{ "type": "web_search_call", "action": { "sources": 5 } },
            { "content": [{ "text": 5, "annotations": [{ "type": "url_citation", "start_index": -1 }] }] }],
    });
    for (engine, _) in engines("") {
        for (body, works) in [
            (wrong.to_string(), true),
            (deep.clone(), false),
            ("<html>".to_owned(), false),
            (String::new(), false),
            ("null".to_owned(), false),
            ("\"text\"".to_owned(), false),
        ] {
            let peer = Peer::answering("200 OK", &body).await;
            let found = peer.search(engine.clone()).search(&query("x")).await;
            match found {
                Ok(hits) => assert!(hits.iter().all(|hit| hit.texts.is_empty()), "{hits:?}"),
                Err(error) => {
                    assert!(!works, "{engine:?}: {error}");
                    assert_eq!(error.code, "unavailable");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_too_much_or_never_ends_is_given_up() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(LONGEST_ANSWER + 1));
    let large = Peer::with(endless).await;
    let error = large.search(Engine::Tavily).search(&query("x")).await.unwrap_err();
    assert!(error.to_string().contains("answered with too much"), "{error}");

    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = Rules {
        resolve: [("peer.example".to_owned(), silent.local_addr().unwrap())].into(),
        ..Rules::default()
    };
    let settings = Settings {
        engine: Engine::Searxng,
        base_url: "http://peer.example".to_owned(),
        key: None,
        headers: HeaderMap::new(),
        hits: 1,
        time: Duration::from_millis(50),
    };
    let search = Search::new(Guard::new(rules, vec![]), settings).unwrap();
    let error = search.search(&query("x")).await.unwrap_err();
    assert!(error.to_string().contains("not answered in time"), "{error}");
}

#[tokio::test]
async fn a_status_is_told_in_words_and_without_the_key() {
    let echo = json!({ "error": format!("Invalid API key: {KEY}"), "detail": { "error": KEY } });
    for (engine, _) in engines("") {
        for (status, code, said) in [
            ("301 Moved Permanently\r\nlocation: http://peer.example/x", "unavailable", "another"),
            ("307 Temporary Redirect\r\nlocation: http://127.0.0.1/", "unavailable", "another"),
            ("400 Bad Request", "invalid_tool_input", "other words"),
            ("401 Unauthorized", "unavailable", "whoever runs this server"),
            ("403 Forbidden", "unavailable", "whoever runs this server"),
            ("404 Not Found", "unavailable", "configured"),
            ("414 URI Too Long", "query_too_long", "fewer words"),
            ("429 Too Many Requests", "too_many_requests", "Wait"),
            ("500 Internal Server Error", "unavailable", "Try again later"),
            ("204 No Content", "unavailable", "Try again later"),
        ] {
            let peer = Peer::answering(status, &echo).await;
            let error = peer.search(engine.clone()).search(&query("x")).await.unwrap_err();
            assert_eq!(error.code, code, "{engine:?} {status}: {error}");
            assert!(error.advice.contains(said), "{engine:?} {status}: {error}");
            assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
            peer.seen();
        }
    }
    let used_up = Peer::answering("432 Plan Limit", "{}").await;
    let error = used_up.search(Engine::Tavily).search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("its plan"), "{error}");
    let html_only = Peer::answering("403 Forbidden", "{}").await;
    let error = html_only.search(Engine::Searxng).search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("search.formats"), "{error}");
}

#[tokio::test]
async fn a_query_that_is_none_is_asked_of_nobody() {
    let peer = Peer::answering("200 OK", "{}").await;
    let ask = async |engine, words: &str| peer.search(engine).search(&query(words)).await;
    for words in ["", "  \n", "\u{0}\u{7f}"] {
        assert_eq!(ask(Engine::Brave, words).await.unwrap_err().code, "invalid_tool_input");
    }
    let many = "a ".repeat(51);
    for (engine, words) in [
        (Engine::Brave, "ü".repeat(401)),
        (Engine::Brave, many),
        (Engine::Tavily, "a".repeat(401)),
        (Engine::Serpapi, "a".repeat(1001)),
    ] {
        let error = ask(engine, &words).await.unwrap_err();
        assert_eq!(error.code, "query_too_long");
        assert!(error.advice.contains("fewer words"), "{error}");
    }
    let mut nowhere = query("x");
    nowhere.domains.environment = Some(Vec::new());
    let error = peer.search(Engine::Brave).search(&nowhere).await.unwrap_err();
    assert_eq!(error.code, "url_not_allowed");
    assert!(peer.seen.lock().unwrap().is_empty());
}

#[test]
fn settings_that_can_t_work_are_refused_and_keys_are_shown_nowhere() {
    let settings = |base_url: &str, key: &str| Settings {
        engine: Engine::Brave,
        base_url: base_url.to_owned(),
        key: Some(key.into()),
        headers: HeaderMap::new(),
        hits: 5,
        time: Duration::from_secs(1),
    };
    let new = |settings| Search::new(Guard::new(Rules::default(), vec![]), settings);
    for base_url in ["", "x", "ftp://a.example", "https://u:p@a.example", "https://a.example?x"] {
        assert_eq!(new(settings(base_url, KEY)).err(), Some(Unusable::BaseUrl), "{base_url}");
    }
    assert_eq!(new(settings("https://a.example", "a\nb")).err(), Some(Unusable::Key));
    let shown = format!("{:?}", settings("https://a.example", KEY));
    assert!(!shown.contains(KEY), "{shown}");
    let search = new(settings("https://a.example/", KEY)).unwrap();
    assert_eq!(format!("{search:?}"), "Search { backend: \"brave\", .. }");
}

#[tokio::test]
async fn a_private_address_is_not_reached_unless_the_operator_opens_it() {
    let peer = Peer::answering("200 OK", "{}").await;
    let settings = Settings {
        engine: Engine::Searxng,
        base_url: format!("http://{}", peer.at),
        key: None,
        headers: HeaderMap::new(),
        hits: 5,
        time: Duration::from_secs(5),
    };
    let search = Search::new(Guard::new(Rules::default(), vec![]), settings).unwrap();
    let error = search.search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("can't be reached"), "{error}");
    assert!(!error.advice.contains("127.0.0.1"), "{error}");
    assert!(peer.seen.lock().unwrap().is_empty());
}
