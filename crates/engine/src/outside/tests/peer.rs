//! An MCP server that does what it is told, on loopback or at the end of a pipe.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::vault::tests::server::{Reply, Seen, Server};

/// What it has been told, and what it has been asked.
#[derive(Default)]
pub(super) struct Peer {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tools: Vec<&'static str>,
    /// The whole header that lets somebody in.
    lets_in: Option<String>,
    asked: Vec<Value>,
    /// The sessions that it has begun.
    sessions: usize,
}

impl Peer {
    pub(super) fn with(tools: &[&'static str]) -> Arc<Self> {
        let state = State { tools: tools.to_vec(), ..State::default() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn has(&self, tools: &[&'static str]) {
        self.state.lock().unwrap().tools = tools.to_vec();
    }

    pub(super) fn lets_in(&self, token: &str) {
        self.state.lock().unwrap().lets_in = Some(format!("Bearer {token}"));
    }

    /// How often it was asked that.
    pub(super) fn count(&self, method: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|one| one["method"] == method).count()
    }

    /// What it says to a message, unless there is nothing to say.
    fn answer(&self, message: &Value, authorization: &str) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        state.asked.push(message.clone());
        let result = match message["method"].as_str().unwrap() {
            "initialize" => json!({
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "peer", "version": "1" },
            }),
            "tools/list" => {
                let of_one = |name: &&str| {
                    json!({
                        "name": name,
                        "description": format!("Does {name}."),
                        "inputSchema": { "type": "object" },
                        "annotations": { "idempotentHint": *name == "whoami" },
                    })
                };
                json!({ "tools": state.tools.iter().map(of_one).collect::<Vec<_>>() })
            }
            "tools/call" => {
                let name = message["params"]["name"].as_str().unwrap();
                let said = match name {
                    "whoami" => authorization.to_owned(),
                    "echo" => message["params"]["arguments"].to_string(),
                    "fail" => "it has failed".to_owned(),
                    _ => {
                        let error = json!({ "code": -32602, "message": "no such tool" });
                        return Some(
                            json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                        );
                    }
                };
                json!({ "content": [{ "type": "text", "text": said }], "isError": name == "fail" })
            }
            _ if message["id"].is_null() => return None,
            _ => {
                let error = json!({ "code": -32601, "message": "Method not found" });
                return Some(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }));
            }
        };
        Some(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
    }

    /// Serves `http://server.test/mcp`.
    pub(super) async fn serve(self: &Arc<Self>) -> Server {
        let peer = Arc::clone(self);
        Server::start(move |seen| peer.reply(seen)).await
    }

    fn reply(&self, seen: &Seen) -> Reply {
        let plain = |status| Reply { status, headers: Vec::new(), body: String::new() };
        let lets_in = self.state.lock().unwrap().lets_in.clone();
        if lets_in.is_some_and(|value| value != seen.header("authorization")) {
            let challenge = ("www-authenticate", "Bearer scope=\"read write\"".to_owned());
            return Reply { headers: vec![challenge], ..plain(401) };
        }
        match seen.method.as_str() {
            "POST" => {}
            "DELETE" => return plain(204),
            _ => return plain(405),
        }
        let message: Value = serde_json::from_str(&seen.body).unwrap();
        let Some(answer) = self.answer(&message, seen.header("authorization")) else {
            return plain(202);
        };
        let mut reply = Reply::json(200, answer);
        if message["method"] == "initialize" {
            let mut state = self.state.lock().unwrap();
            state.sessions += 1;
            reply.headers.push(("mcp-session-id", format!("session-{}", state.sessions)));
        }
        reply
    }

    /// Speaks over a pipe until the other end is gone.
    pub(super) fn speak(self: &Arc<Self>, pipe: DuplexStream) -> Program {
        let peer = Arc::clone(self);
        let (news, mut told) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (reader, mut writer) = tokio::io::split(pipe);
            let mut lines = BufReader::new(reader).lines();
            loop {
                let say = tokio::select! {
                    line = lines.next_line() => match line {
                        Ok(Some(line)) => peer.answer(&serde_json::from_str(&line).unwrap(), ""),
                        _ => return,
                    },
                    news = told.recv() => news,
                };
                let Some(say) = say else { continue };
                if writer.write_all(format!("{say}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Program { task, news }
    }
}

/// A peer at the end of a pipe. It ends when it is dropped.
pub(super) struct Program {
    task: JoinSet<()>,
    news: mpsc::UnboundedSender<Value>,
}

impl Program {
    /// Tells that its tools have changed.
    pub(super) fn tells_of_changes(&self) {
        let method = "notifications/tools/list_changed";
        self.news.send(json!({ "jsonrpc": "2.0", "method": method })).unwrap();
    }

    /// Waits until the other end has gone.
    pub(super) async fn ended(mut self) {
        self.task.join_next().await.unwrap().unwrap();
    }
}
