//! A key service on loopback that answers as transit does, and what becomes of its moods.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use posthouse_net::Rules;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

const TOKEN: &str = "hvs.canary";

/// What the service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// It is too old to know of `associated_data`.
    Old,
    /// It answers with this.
    Answers(u16, &'static str),
}

struct Service {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Service {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, mood, &log).await;
            }
        });
        Self { at, seen, _serving: serving }
    }

    fn keys(&self, names: &[&str], token: &str) -> Vec<Arc<dyn RootKey>> {
        let rules =
            Rules { resolve: [("keys.example".to_owned(), self.at)].into(), ..Rules::default() };
        let parts = TransitParts {
            guard: Guard::new(rules, vec![]),
            url: "http://keys.example".to_owned(),
            mount: "house/transit".to_owned(),
            token: token.to_owned().into(),
        };
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        keys(parts, &names)
    }
}

async fn serve(mut stream: TcpStream, mood: Mood, seen: &Mutex<Vec<String>>) {
    let mut text = Vec::new();
    let body = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        text.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8(text.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            break serde_json::from_str::<Value>(body).unwrap();
        }
    };
    let text = String::from_utf8(text).unwrap();
    seen.lock().unwrap().push(text.clone());
    let (status, answer) = answer(mood, &text, &body);
    let length = answer.len();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &answer).as_bytes()).await.unwrap();
}

/// Seals by writing down which key and which associated data belong to a text.
fn answer(mood: Mood, text: &str, body: &Value) -> (u16, String) {
    if let Mood::Answers(status, answer) = mood {
        return (status, answer.to_owned());
    }
    let path = text.split(' ').nth(1).unwrap();
    let (verb, key) = path.strip_prefix("/v1/house/transit/").unwrap().split_once('/').unwrap();
    if !text.contains(&format!("x-vault-token: {TOKEN}\r\n")) {
        return (403, r#"{"errors":["permission denied"]}"#.to_owned());
    }
    let bound = if mood == Mood::Old { &Value::Null } else { &body["associated_data"] };
    match verb {
        "encrypt" => {
            let sealed = json!({ "key": key, "bound": bound, "plain": body["plaintext"] });
            let sealed = format!("vault:v1:{}", BASE64.encode(sealed.to_string()));
            (200, json!({ "data": { "ciphertext": sealed, "key_version": 1 } }).to_string())
        }
        _ => {
            let sealed = body["ciphertext"].as_str().unwrap().strip_prefix("vault:v1:");
            let sealed = sealed.and_then(|sealed| BASE64.decode(sealed).ok());
            let sealed: Option<Value> = sealed.and_then(|one| serde_json::from_slice(&one).ok());
            match sealed {
                Some(one) if one["key"] == key && one["bound"] == *bound => {
                    (200, json!({ "data": { "plaintext": one["plain"] } }).to_string())
                }
                _ => (400, r#"{"errors":["cipher: message authentication failed"]}"#.to_owned()),
            }
        }
    }
}

#[tokio::test]
async fn a_service_seals_and_opens_for_one_place() {
    for mood in [Mood::Well, Mood::Old] {
        let service = Service::start(mood).await;
        let keys = service.keys(&["new", "old"], TOKEN);
        assert_eq!(keys[0].name(), "transit:house/transit/new");
        let sealed = keys[0].wrap(&[7; 32], "w/v1").await.unwrap();
        assert!(sealed.starts_with(b"vault:v1:"));
        assert_eq!(*keys[0].unwrap(&sealed, "w/v1").await.unwrap(), [7; 32]);
        for (key, sealed, context) in [
            (&keys[0], sealed.as_slice(), "w/v2"),
            (&keys[1], &sealed, "w/v1"),
            (&keys[0], b"vault:v1:", "w/v1"),
            (&keys[0], b"\xff", "w/v1"),
        ] {
            let error = key.unwrap(sealed, context).await.unwrap_err().to_string();
            assert_eq!(error, format!("the root key {} does not open this", key.name()));
        }
        let seen = service.seen.lock().unwrap();
        assert!(seen[0].starts_with("POST /v1/house/transit/encrypt/new HTTP/1.1\r\n"));
        assert!(seen[0].contains("x-vault-request: true\r\n"));
        let bound = BASE64.encode("w/v1");
        assert!(seen[0].contains(&format!("\"associated_data\":\"{bound}\"")), "{}", seen[0]);
    }
}

#[tokio::test]
async fn what_a_service_says_instead_is_told_in_our_words() {
    let echo = r#"{"errors":["hvs.canary is not allowed"]}"#;
    for (mood, said) in [
        (Mood::Answers(403, echo), "its token may not encrypt with transit:house/transit/k"),
        (Mood::Answers(404, echo), "nothing is mounted at house/transit"),
        (Mood::Answers(400, echo), "it has no transit:house/transit/k, or it is no AEAD key"),
        (Mood::Answers(503, echo), "it is sealed, or not ready"),
        (Mood::Answers(307, echo), "it has answered 307"),
        (Mood::Answers(500, echo), "it has answered 500"),
        (Mood::Answers(200, "hvs.canary"), "it has answered something else than transit does"),
        (Mood::Answers(200, "{}"), "it has answered something else than transit does"),
    ] {
        let service = Service::start(mood).await;
        let keys = service.keys(&["k"], TOKEN);
        let error = keys[0].wrap(&[7; 32], "w/v").await.unwrap_err().to_string();
        assert_eq!(error, format!("the key service: {said}"), "{mood:?}");
    }
    let service = Service::start(Mood::Well).await;
    let error = service.keys(&["k"], "other")[0].wrap(&[7; 32], "w/v").await.unwrap_err();
    assert!(error.to_string().contains("its token may not"), "{error}");
    let error = service.keys(&["k"], "a\nb")[0].wrap(&[7; 32], "w/v").await.unwrap_err();
    assert!(error.to_string().contains("can't be sent in a header"), "{error}");
    let (at, keys) = (service.at, service.keys(&["k"], TOKEN));
    drop(service);
    let error = keys[0].wrap(&[7; 32], "w/v").await.unwrap_err().to_string();
    assert_eq!(error, "the key service: keys.example port 80: no connection");
    assert!(!error.contains(&at.to_string()));
}
