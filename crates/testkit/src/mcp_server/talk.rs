//! What the fake MCP server says to a message, whatever it came over. It never sees a connection.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    switches::{Hostility, STATELESS, Switches},
    tools::{self, Call, Outcome},
};

const UNSUPPORTED_REVISION: i64 = -32022;
const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";

/// A request that the server was asked, as a test sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// The HTTP method, or `stdio`.
    pub method: String,
    /// Headers by their names in small letters; none over standard input.
    pub headers: BTreeMap<String, String>,
    /// The message; null when there was none.
    pub message: Value,
    /// The status that was answered; 0 over standard input.
    pub status: u16,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) switches: Switches,
    pub(super) asked: Vec<Asked>,
    /// Requests whose answer nobody has waited for, by their ids.
    pub(super) abandoned: Vec<Value>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) sessions: Vec<String>,
    /// How often the tools have changed.
    pub(super) edition: u64,
    /// The streams of which something is left: their messages, from the first.
    pub(super) streams: Vec<Vec<Value>>,
    /// The number of pages of a list without end.
    pub(super) next_page: u64,
}

/// A message, and how long to wait before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Beat {
    pub(super) after: Duration,
    pub(super) message: Value,
}

/// What is said to a message.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// Nothing: it was no request.
    Accepted,
    /// These, the answer last.
    Beats(Vec<Beat>),
    /// The server ends.
    Dies(i32),
    /// What comes is told whenever the tools change: 2026-07-28's `subscriptions/listen`.
    Listens(Value),
}

/// Whether a message belongs to a revision without a handshake.
pub(super) fn is_stateless(message: &Value) -> bool {
    message["params"]["_meta"][META_REVISION].as_str().is_some_and(|revision| revision >= STATELESS)
}

/// The message that says that tools have changed.
pub(super) fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

impl Stage {
    /// Takes a message. `headers` are those of the request, for who asks which came.
    pub(super) fn hear(&mut self, message: &Value, headers: &Value) -> Said {
        let id = &message["id"];
        let method = message["method"].as_str().unwrap_or_default();
        if method == "notifications/cancelled" {
            self.abandoned.push(message["params"]["requestId"].clone());
        }
        if id.is_null() || method.is_empty() {
            return Said::Accepted;
        }
        let named = message["params"]["_meta"][META_REVISION].as_str();
        if let Some(revision) = named
            && !self.switches.speaks(revision)
        {
            return self.one(
                id,
                Err((
                    UNSUPPORTED_REVISION,
                    "Unsupported protocol version",
                    self.supported(revision),
                )),
            );
        }
        let stateless = named.is_some_and(|revision| revision >= STATELESS);
        let params = &message["params"];
        match method {
            "initialize" => {
                let wanted = params["protocolVersion"].as_str().unwrap_or_default();
                let answer = self.handshake(wanted);
                self.one(id, answer)
            }
            "server/discover" if stateless => {
                let answer = self.discover();
                self.one(id, Ok(answer))
            }
            "ping" => self.one(id, Ok(json!({}))),
            "tools/list" => {
                let page = self.page(&params["cursor"], stateless);
                self.one(id, page)
            }
            "tools/call" => self.call(id, params, headers, stateless),
            "subscriptions/listen" if stateless => Said::Listens(id.clone()),
            other => self.one(id, Err((-32601, other, json!({"method": other})))),
        }
    }

    fn one(&self, id: &Value, answer: Result<Value, (i64, &str, Value)>) -> Said {
        Said::Beats(
            self.spoiled(vec![Beat { after: Duration::ZERO, message: envelope(id, answer) }]),
        )
    }

    /// Does to an answer what a hostile server does.
    fn spoiled(&self, mut beats: Vec<Beat>) -> Vec<Beat> {
        let stray = |id: Value| Beat {
            after: Duration::ZERO,
            message: json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "for nobody"}]}}),
        };
        if self.switches.does(Hostility::WrongIds)
            && let Some(last) = beats.last_mut()
        {
            last.message["id"] = json!("somebody-else");
        }
        if self.switches.does(Hostility::ForNobody) {
            let strays = [json!(987_654), json!("nobody"), json!(null), json!({"a": 1})].map(stray);
            beats.splice(0..0, strays);
        }
        beats
    }

    fn supported(&self, requested: &str) -> Value {
        json!({"supported": self.switches.revisions(), "requested": requested})
    }

    fn capabilities(&self) -> Value {
        json!({"tools": {"listChanged": self.switches.list_changed}})
    }

    fn handshake(&mut self, wanted: &str) -> Result<Value, (i64, &'static str, Value)> {
        let spoken = self.switches.revisions();
        let newest = spoken.iter().rev().find(|revision| **revision < STATELESS);
        let Some(newest) = newest else {
            return Err((
                UNSUPPORTED_REVISION,
                "Unsupported protocol version",
                self.supported(wanted),
            ));
        };
        let agreed = spoken.iter().find(|revision| **revision == wanted && wanted < STATELESS);
        Ok(json!({
            "protocolVersion": agreed.unwrap_or(newest), "capabilities": self.capabilities(),
            "serverInfo": {"name": "fake", "version": "1"}, "instructions": "Be kind.",
        }))
    }

    fn discover(&self) -> Value {
        json!({
            "resultType": "complete", "supportedVersions": self.switches.revisions(),
            "capabilities": self.capabilities(), "instructions": "Be kind.",
            "ttlMs": self.switches.ttl_ms.unwrap_or(0), "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake", "version": "1"}},
        })
    }

    fn page(
        &mut self,
        cursor: &Value,
        stateless: bool,
    ) -> Result<Value, (i64, &'static str, Value)> {
        let all = tools::list(&self.switches, self.edition);
        let (endless, same) = (
            self.switches.does(Hostility::EndlessPages),
            self.switches.does(Hostility::RepeatedCursor),
        );
        let (first, next) = if endless || same {
            self.next_page += 1;
            (0, Some(if same { "again".to_owned() } else { format!("more-{}", self.next_page) }))
        } else {
            let first = match cursor.as_str() {
                None => 0,
                Some(text) => match text.strip_prefix("from-").and_then(|at| at.parse().ok()) {
                    Some(at) if at < all.len() => at,
                    _ => return Err((-32602, "Invalid cursor", Value::Null)),
                },
            };
            let end = first.saturating_add(self.length());
            (first, (end < all.len()).then(|| format!("from-{end}")))
        };
        let mut page =
            json!({"tools": all.iter().skip(first).take(self.length()).collect::<Vec<_>>()});
        if let Some(next) = next {
            page["nextCursor"] = json!(next);
        }
        if stateless {
            page["resultType"] = json!("complete");
            page["ttlMs"] = json!(self.switches.ttl_ms.unwrap_or(0));
            page["cacheScope"] = json!("private");
        }
        Ok(page)
    }

    fn length(&self) -> usize {
        if self.switches.page == 0 { usize::MAX } else { self.switches.page }
    }

    fn call(&mut self, id: &Value, params: &Value, headers: &Value, stateless: bool) -> Said {
        let name = params["name"].as_str().unwrap_or_default();
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        let empty = json!({});
        let input = if params["arguments"].is_object() { &params["arguments"] } else { &empty };
        let outcome = tools::call(&Call { name, input, count: *count, headers });
        let (steps, pause, mut result) = match outcome {
            Outcome::Result { steps, pause, result } => (steps, pause, result),
            Outcome::Changed(result) => {
                self.edition += 1;
                (0, Duration::ZERO, result)
            }
            Outcome::Refused(why) => return self.one(id, Err((-32602, &why, Value::Null))),
            Outcome::Dies(code) => return Said::Dies(code),
        };
        if stateless {
            result["resultType"] = json!("complete");
        }
        let token = &params["_meta"]["progressToken"];
        let mut beats: Vec<_> = (1..=steps)
            .map(|step| Beat {
                after: pause,
                message: if token.is_null() {
                    // Who wants no progress waits as long.
                    Value::Null
                } else {
                    json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": step, "total": steps}})
                },
            })
            .collect();
        beats.push(Beat { after: Duration::ZERO, message: envelope(id, Ok(result)) });
        Said::Beats(self.spoiled(beats))
    }
}

fn envelope(id: &Value, answer: Result<Value, (i64, &str, Value)>) -> Value {
    match answer {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message, data)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}})
        }
    }
}
