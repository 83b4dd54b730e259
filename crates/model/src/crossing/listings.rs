//! Lists of models that are no lists, or have no end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::SPEAKERS;
use crate::{Credential, Provider, Remote, Settings, WireKind};

#[test]
fn a_page_of_anything_is_a_list_or_none() {
    let deep =
        format!(r#"{{"data":{0}{1},"models":{0}{1}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let bodies = [
        "",
        "null",
        "7",
        "[]",
        "{}",
        "\"x\"",
        "{\"data\":null}",
        "{\"models\":7}",
        "<html>",
        &deep,
        r#"{"data":[null,7,[],{},{"id":null},{"id":7}],"models":[null,{"name":7}]}"#,
    ];
    for speaker in SPEAKERS {
        for body in bodies {
            let listed = speaker.wire().listed(&Bytes::copy_from_slice(body.as_bytes()));
            assert!(
                listed.is_none_or(|page| page.models.is_empty()),
                "{}: {body:.80}",
                speaker.name
            );
        }
    }
}

#[test]
fn one_odd_entry_hides_no_other() {
    let odd = r#"null,7,[],{},{"id":null,"name":null},{"id":7,"name":7},{"id":"","name":""},{"id":"a","id":"b","name":"a","name":"b"},{"id":"half","name":"half","created":"x","created_at":7,"max_tokens":-1,"context_length":"x","inputTokenLimit":1.5}"#;
    let good = r#"{"id":"good","name":"models/good"}"#;
    let body = format!(r#"{{"data":[{odd},{good},{odd}],"models":[{odd},{good}]}}"#);
    for speaker in SPEAKERS {
        let page = speaker.wire().listed(&Bytes::from(body.clone()));
        let page = page.unwrap_or_else(|| panic!("{}", speaker.name));
        let good = page.models.iter().filter(|model| model.id == "good").count();
        assert_eq!(good, 1, "{}: {:?}", speaker.name, page.models);
    }
}

/// Answers every request with the same body; counts them.
async fn serve(body: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut buffer = [0; 4096];
            let _ = socket.read(&mut buffer).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(body.as_bytes()).await;
        }
    });
    (url, asked)
}

fn provider(url: String, wire: WireKind) -> Remote {
    let key = Credential::ApiKey("very-secret-key-4711".to_owned());
    Remote::new(Settings { base_url: url, ..Settings::new("p", wire, Some(key)) }).unwrap()
}

#[tokio::test]
async fn a_list_that_always_names_a_next_page_ends() {
    let page = r#"{"models":[{"name":"models/a"},{"name":""}],"nextPageToken":"again"}"#;
    let (url, asked) = serve(page.to_owned()).await;
    let models = provider(url, WireKind::Gemini).list().await.unwrap();
    let pages = asked.load(Ordering::Relaxed);
    assert!(pages <= 100, "{pages}");
    assert_eq!(models.len(), pages);
    assert!(models.iter().all(|model| model.id == "a"));
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused() {
    let entries = vec![r#"{"id":"m","object":"model"}"#; 700_000].join(",");
    let (url, asked) = serve(format!(r#"{{"data":[{entries}]}}"#)).await;
    let failure = provider(url, WireKind::OpenaiChat).list().await.unwrap_err();
    assert!(failure.message.contains("list of models"), "{}", failure.message);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
