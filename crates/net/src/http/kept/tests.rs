//! That connections are kept, that they end, and that no request is doubled in silence. Connects to
//! loopback alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
};

use super::*;
use crate::guard::Rules;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// What an origin does with one request.
#[derive(Clone, Copy)]
enum Step {
    Answer,
    /// Answers and ends the connection, without having said so.
    AnswerAndEnd,
    /// Reads it and ends the connection.
    End,
}

/// An origin that keeps connections.
struct Origin {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Told when a connection has ended.
    ended: Arc<Notify>,
    _serving: JoinSet<()>,
}

impl Origin {
    /// Does these with the requests as they come, and answers all further ones.
    async fn start(steps: &'static [Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let origin = Self {
            at,
            connections: Arc::default(),
            seen: Arc::default(),
            ended: Arc::default(),
            _serving: JoinSet::new(),
        };
        let (connections, seen, ended) =
            (Arc::clone(&origin.connections), Arc::clone(&origin.seen), Arc::clone(&origin.ended));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
                open.spawn(async move {
                    let mut buffer = [0; 4096];
                    loop {
                        // The requests of these tests are small and come in one piece.
                        let read = stream.read(&mut buffer).await.unwrap_or(0);
                        if read == 0 {
                            break;
                        }
                        let at = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                            seen.len() - 1
                        };
                        match steps.get(at).copied().unwrap_or(Step::Answer) {
                            Step::Answer => stream.write_all(OK.as_bytes()).await.unwrap(),
                            Step::AnswerAndEnd => {
                                stream.write_all(OK.as_bytes()).await.unwrap();
                                break;
                            }
                            Step::End => break,
                        }
                    }
                    drop(stream);
                    ended.notify_one();
                });
            }
        });
        Self { _serving: serving, ..origin }
    }

    fn kept(&self, longest: Duration) -> Kept {
        let rules =
            Rules { resolve: [("origin.example".to_owned(), self.at)].into(), ..Rules::default() };
        let origin = "http://origin.example/".parse().unwrap();
        Kept::new(Guard::new(rules, vec![]), &origin, longest).unwrap()
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn request(method: &str) -> Request<Bytes> {
    let request = Request::builder().method(method).uri("http://origin.example/path?q");
    request.body(Bytes::from_static(b"body")).unwrap()
}

async fn ask(kept: &Kept, method: &str) -> Result<Bytes, SendError> {
    let answer = kept.open(request(method)).await?;
    Ok(answer.into_body().collect().await.unwrap().to_bytes())
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let origin = Origin::start(&[]).await;
    let kept = origin.kept(LONG);
    for _ in 0..10 {
        assert_eq!(ask(&kept, "POST").await.unwrap(), "hi");
    }
    assert_eq!((origin.requests(), origin.connections.load(Ordering::Relaxed)), (10, 1));
    let first = origin.seen.lock().unwrap()[0].to_lowercase();
    assert!(first.starts_with("post /path?q http/1.1\r\n"), "{first}");
    assert!(first.contains("host: origin.example\r\n") && !first.contains("close"), "{first}");
}

#[tokio::test]
async fn a_body_that_is_not_read_costs_its_connection() {
    let origin = Origin::start(&[]).await;
    let kept = origin.kept(LONG);
    drop(kept.open(request("POST")).await.unwrap());
    origin.ended.notified().await;
    ask(&kept, "POST").await.unwrap();
    assert_eq!(origin.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_that_the_origin_has_ended_is_not_used_again() {
    let origin = Origin::start(&[Step::AnswerAndEnd]).await;
    let kept = origin.kept(LONG);
    ask(&kept, "POST").await.unwrap();
    origin.ended.notified().await;
    // The end of the connection is seen by whoever moves it.
    while kept.shared.waiting().iter().any(|held| !held.sender.is_closed()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&kept, "POST").await.unwrap(), "hi");
    assert_eq!((origin.requests(), origin.connections.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn what_may_have_been_read_is_sent_twice_only_where_that_is_the_same_as_once() {
    let origin = Origin::start(&[Step::Answer, Step::End]).await;
    let kept = origin.kept(LONG);
    ask(&kept, "POST").await.unwrap();
    let error = ask(&kept, "POST").await.unwrap_err();
    assert!(matches!(error, SendError::Broken { .. }), "{error:?}");
    assert_eq!(origin.requests(), 2);

    let origin = Origin::start(&[Step::Answer, Step::End]).await;
    let kept = origin.kept(LONG);
    ask(&kept, "POST").await.unwrap();
    assert_eq!(ask(&kept, "DELETE").await.unwrap(), "hi");
    assert_eq!(origin.requests(), 3);
}

#[tokio::test]
async fn what_nobody_uses_ends() {
    let origin = Origin::start(&[]).await;
    let kept = origin.kept(Duration::from_millis(1));
    ask(&kept, "POST").await.unwrap();
    origin.ended.notified().await;

    let kept = origin.kept(LONG);
    ask(&kept, "POST").await.unwrap();
    drop(kept);
    origin.ended.notified().await;
}

#[tokio::test]
async fn another_origin_is_refused() {
    let origin = Origin::start(&[]).await;
    let kept = origin.kept(LONG);
    for url in ["http://other.example/", "https://origin.example/", "http://origin.example:81/"] {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        let error = kept.open(request).await.unwrap_err();
        assert!(matches!(error, SendError::Url("leads to another origin")), "{url}: {error:?}");
    }
    assert_eq!(origin.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_host_that_nobody_has_opened_is_not_asked_in_plain_text() {
    let kept = Kept::new(
        Guard::new(Rules::default(), vec![]),
        &"http://192.0.2.1/".parse().unwrap(),
        LONG,
    )
    .unwrap();
    let request = Request::get("http://192.0.2.1/").body(Bytes::new()).unwrap();
    assert!(matches!(
        kept.open(request).await,
        Err(SendError::Connect(_) | SendError::Plain { .. })
    ));
}
