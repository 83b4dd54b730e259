//! A server of MCP that a test writes line by line. It listens on loopback alone, keeps connections,
//! and remembers what it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use posthouse_net::{Guard, Rules};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use url::Url;

use crate::client::{Connection, Error, Header, Headers, Settings, Unauthorized, Way, Work};

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Value,
}

impl Asked {
    /// The method of MCP.
    pub(super) fn call(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// An answer to it.
    pub(super) fn result(&self, result: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result })
    }

    pub(super) fn error(&self, code: i64, message: &str) -> Value {
        let error = json!({ "code": code, "message": message });
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "error": error })
    }
}

/// What is sent for a request.
pub(super) enum Reply {
    Json(Value),
    /// With more headers.
    With(u16, Vec<(&'static str, String)>, String),
    /// Events, and then the end of the stream.
    Events(Vec<String>),
    /// Events, and then nothing until the other side goes away.
    Open(Vec<String>),
    /// Events as somebody tells them.
    Told(mpsc::UnboundedReceiver<String>),
    /// The same few bytes again and again.
    Drip(&'static str, &'static str),
    /// Nothing, and the end of the connection.
    End,
}

pub(super) fn status(status: u16) -> Reply {
    Reply::With(status, vec![], String::new())
}

pub(super) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

type Script = Arc<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

/// The server.
pub(super) struct Peer {
    pub(super) at: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    /// Told when the other side has gone away from an open stream.
    pub(super) gone: Arc<Notify>,
    seen: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

impl Peer {
    /// A server that answers by the script, and what the script leaves as the given one does.
    pub(super) async fn start(
        base: fn(&Asked) -> Reply,
        script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (connections, gone) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let script: Script = Arc::new(script);
        let mut serving = JoinSet::new();
        let (counted, told, noted) =
            (Arc::clone(&connections), Arc::clone(&gone), Arc::clone(&seen));
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (script, told, noted) =
                    (Arc::clone(&script), Arc::clone(&told), Arc::clone(&noted));
                open.spawn(async move {
                    let _ = serve(stream, base, &script, &noted, &told).await;
                });
            }
        });
        Self { at, connections, gone, seen, _serving: serving }
    }

    pub(super) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// How often a method of MCP was asked for.
    pub(super) fn count(&self, call: &str) -> usize {
        self.seen().iter().filter(|asked| asked.call() == call).count()
    }

    pub(super) fn url(&self) -> Url {
        "http://mcp.example/mcp".parse().unwrap()
    }

    pub(super) fn guard(&self) -> Guard {
        let resolve = [("mcp.example".to_owned(), self.at), ("other.example".to_owned(), self.at)];
        Guard::new(Rules { resolve: resolve.into(), ..Rules::default() }, vec![])
    }

    pub(super) fn way(&self, headers: impl Headers + 'static) -> Way {
        Way::Http { url: self.url(), guard: self.guard(), headers: Arc::new(headers) }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        Connection::open(self.way(NoHeaders), settings()).await
    }
}

async fn serve(
    mut stream: TcpStream,
    base: fn(&Asked) -> Reply,
    script: &Script,
    seen: &Mutex<Vec<Asked>>,
    gone: &Notify,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    while let Some(asked) = request(&mut stream, &mut read).await {
        seen.lock().unwrap().push(asked.clone());
        let reply = script(&asked).unwrap_or_else(|| base(&asked));
        let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                     transfer-encoding: chunked\r\n\r\n";
        match reply {
            Reply::Json(body) => {
                let headers = vec![("content-type", "application/json".to_owned())];
                stream.write_all(whole(200, &headers, &body.to_string()).as_bytes()).await?;
            }
            Reply::With(status, headers, body) => {
                stream.write_all(whole(status, &headers, &body).as_bytes()).await?;
            }
            Reply::Events(events) => {
                stream.write_all(start.as_bytes()).await?;
                for event in events {
                    stream.write_all(chunk(&event).as_bytes()).await?;
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
            Reply::Open(events) => {
                stream.write_all(start.as_bytes()).await?;
                for event in events {
                    stream.write_all(chunk(&event).as_bytes()).await?;
                }
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                gone.notify_one();
                return Ok(());
            }
            Reply::Told(mut told) => {
                stream.write_all(start.as_bytes()).await?;
                while let Some(event) = told.recv().await {
                    stream.write_all(chunk(&event).as_bytes()).await?;
                }
                return Ok(());
            }
            Reply::Drip(kind, drop) => {
                let start = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                stream.write_all(start.as_bytes()).await?;
                while stream.write_all(chunk(drop).as_bytes()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                gone.notify_one();
                return Ok(());
            }
            Reply::End => return Ok(()),
        }
    }
    Ok(())
}

fn whole(status: u16, headers: &[(&str, String)], body: &str) -> String {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Asked> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let end = read.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize =
                headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                let body = serde_json::from_slice(&read[end + 4..end + 4 + length]);
                read.drain(..end + 4 + length);
                return Some(Asked {
                    method: first[0].to_owned(),
                    path: first[1].to_owned(),
                    headers,
                    body: body.unwrap_or_default(),
                });
            }
        }
        let more = stream.read(&mut buffer).await.ok().filter(|more| *more > 0)?;
        read.extend_from_slice(&buffer[..more]);
    }
}

/// Answers as a server of 2025-11-25 with sessions does.
pub(super) fn sessions(asked: &Asked) -> Reply {
    match (asked.method.as_str(), asked.call()) {
        ("GET", _) => status(405),
        ("DELETE", _) => status(200),
        (_, "initialize") => {
            let result = json!({
                "protocolVersion": asked.body["params"]["protocolVersion"],
                "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "peer", "version": "1" },
            });
            let headers = vec![
                ("content-type", "application/json".to_owned()),
                ("mcp-session-id", "s1".to_owned()),
            ];
            Reply::With(200, headers, asked.result(result).to_string())
        }
        (_, "tools/list") => Reply::Json(asked.result(json!({ "tools": [tool("echo")] }))),
        (_, "tools/call") => Reply::Json(asked.result(text("done"))),
        (_, "server/discover") => Reply::Json(asked.error(-32601, "Method not found")),
        _ => status(202),
    }
}

/// Answers as a server of 2026-07-28 does.
pub(super) fn stateless(asked: &Asked) -> Reply {
    match asked.call() {
        "server/discover" => Reply::Json(asked.result(json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "peer", "version": "1" },
            "ttlMs": 0,
            "cacheScope": "private",
        }))),
        "tools/list" => Reply::Json(asked.result(json!({
            "resultType": "complete",
            "tools": [tool("echo")],
            "ttlMs": 90_000,
            "cacheScope": "private",
        }))),
        "tools/call" => {
            let mut result = text("done");
            result["resultType"] = json!("complete");
            Reply::Json(asked.result(result))
        }
        _ => status(202),
    }
}

pub(super) fn tool(name: &str) -> Value {
    json!({ "name": name, "description": "d", "inputSchema": { "type": "object" } })
}

pub(super) fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

pub(super) fn settings() -> Settings {
    let long = Duration::from_secs(30);
    Settings {
        connect: long,
        list: long,
        silence: long,
        call: long,
        tools: 100,
        message_bytes: 64 << 10,
        answer_with_defaults: true,
    }
}

/// No credential.
pub(super) struct NoHeaders;

impl Headers for NoHeaders {
    fn header<'a>(
        &'a self,
        _method: &'a str,
        _refused: Option<&'a Header>,
    ) -> Work<'a, Result<Option<Header>, Unauthorized>> {
        Box::pin(async { Ok(None) })
    }
}
