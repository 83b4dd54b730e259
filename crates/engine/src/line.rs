//! Records to be: what pure code asks to append, before ids and times are known.
//!
//! `step` and its siblings make lines; whoever appends turns them into drafts with a [`Scribe`],
//! which is the only place where ids are made.

use std::{borrow::Cow, sync::Arc};

use posthouse_model::Usage;
use posthouse_protocol::{Micros, event::kind as wire, id::IdKind};
use posthouse_store::{Draft, Seq};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    own::{self, InputTaken},
    state::Ending,
    summary::{Family, Summary},
    tools::Trouble,
};

/// A record that is to be appended.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An event of the wire; it gets an id.
    Event {
        /// Its kind.
        kind: &'static str,
        /// Its thread.
        thread: Arc<str>,
        /// Its members, all but `id`, `type` and `processed_at`.
        members: Map<String, Value>,
    },
    /// An event whose payload is ready, its id included.
    Ready {
        /// Its kind.
        kind: &'static str,
        /// Its thread.
        thread: Arc<str>,
        /// The whole payload.
        payload: String,
    },
    /// A `session.usage` event with what the summary says then.
    Usage {
        /// The primary thread.
        thread: Arc<str>,
    },
}

impl Line {
    /// Whether it opens a tool call, so that the turn goes on behind it.
    #[must_use]
    pub fn opens_call(&self) -> bool {
        let (Self::Event { kind, .. } | Self::Ready { kind, .. }) = self else { return false };
        matches!(
            *kind,
            wire::AGENT_TOOL_USE | wire::AGENT_CUSTOM_TOOL_USE | wire::AGENT_MCP_TOOL_USE
        )
    }
}

/// Makes ids and knows the time: what pure code must not do by itself.
pub struct Scribe<'a> {
    /// The time for which ids are made and activity is counted.
    pub now: Micros,
    /// Sixteen random bytes.
    pub random: &'a mut dyn FnMut() -> [u8; 16],
}

impl Scribe<'_> {
    /// A new event id.
    pub fn event_id(&mut self) -> Arc<str> {
        IdKind::Event.mint(self.now, (self.random)()).into()
    }

    /// Turns lines into drafts.
    pub fn write(&mut self, summary: &Summary, lines: Vec<Line>) -> Vec<Draft> {
        lines.into_iter().map(|line| self.draft(summary, line)).collect()
    }

    fn draft(&mut self, summary: &Summary, line: Line) -> Draft {
        match line {
            Line::Ready { kind, thread, payload } => Draft::new(kind, thread, payload),
            Line::Event { kind, thread, members } => {
                let payload = event_payload(&self.event_id(), &members);
                Draft::new(kind, thread, payload)
            }
            Line::Usage { thread } => {
                let active_seconds = summary.activity.seconds(self.now);
                let usage = summary.spending().render(active_seconds, true);
                let members = members(json!({ "usage": usage, "budget": null }));
                let payload = event_payload(&self.event_id(), &members);
                Draft::new(wire::SESSION_USAGE, thread, payload)
            }
        }
    }
}

/// An event's payload: its id first, then the members.
#[must_use]
pub fn event_payload(id: &str, members: &Map<String, Value>) -> String {
    let rest = serde_json::to_string(members).unwrap_or_default();
    match rest.strip_prefix('{') {
        Some("}") | None => format!("{{\"id\":\"{id}\"}}"),
        Some(rest) => format!("{{\"id\":\"{id}\",{rest}"),
    }
}

/// The members of a `json!` object.
#[must_use]
pub fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A line of the wire's vocabulary.
#[must_use]
pub fn event(kind: &'static str, thread: &Arc<str>, object: Value) -> Line {
    Line::Event { kind, thread: Arc::clone(thread), members: members(object) }
}

/// A line of the log's own vocabulary.
#[must_use]
pub fn own_record(kind: &'static str, thread: &Arc<str>, payload: &impl Serialize) -> Line {
    // The payloads are plain structs; turning them into JSON can't fail.
    let payload = serde_json::to_string(payload).unwrap_or_default();
    Line::Ready { kind, thread: Arc::clone(thread), payload }
}

/// What begins a turn.
#[must_use]
pub fn running(thread: &Arc<str>, agent_name: &str) -> [Line; 2] {
    [
        event(wire::STATUS_RUNNING, thread, json!({})),
        event(wire::THREAD_RUNNING, thread, about(thread, agent_name)),
    ]
}

/// What a scheduled retry does to the statuses.
#[must_use]
pub fn rescheduled(thread: &Arc<str>, agent_name: &str) -> [Line; 2] {
    [
        event(wire::THREAD_RESCHEDULED, thread, about(thread, agent_name)),
        event(wire::STATUS_RESCHEDULED, thread, json!({})),
    ]
}

/// What ends a session.
#[must_use]
pub fn terminated(thread: &Arc<str>, agent_name: &str) -> [Line; 2] {
    [
        event(wire::THREAD_TERMINATED, thread, about(thread, agent_name)),
        event(wire::STATUS_TERMINATED, thread, json!({})),
    ]
}

/// Why a session rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Its turn has ended.
    Ended(Ending),
    /// It waits for answers to these calls.
    RequiresAction(Vec<Arc<str>>),
}

/// What ends a turn: thread, usage, session, in this order and with nothing behind.
#[must_use]
pub fn idle(thread: &Arc<str>, agent_name: &str, rest: &Rest) -> [Line; 3] {
    let (stop_reason, stop_details) = match rest {
        Rest::Ended(Ending::EndTurn) => (json!({ "type": "end_turn" }), Value::Null),
        Rest::Ended(Ending::RetriesExhausted) => {
            (json!({ "type": "retries_exhausted" }), Value::Null)
        }
        Rest::Ended(Ending::Refusal(refusal)) => (
            json!({ "type": "refusal" }),
            json!({
                "type": "refusal",
                "category": refusal.category,
                "explanation": refusal.explanation,
            }),
        ),
        Rest::RequiresAction(calls) => {
            (json!({ "type": "requires_action", "event_ids": calls }), Value::Null)
        }
    };
    let mut of_thread = members(about(thread, agent_name));
    of_thread.insert("stop_reason".into(), stop_reason.clone());
    of_thread.insert("stop_details".into(), stop_details.clone());
    [
        Line::Event { kind: wire::THREAD_IDLE, thread: Arc::clone(thread), members: of_thread },
        Line::Usage { thread: Arc::clone(thread) },
        event(
            wire::STATUS_IDLE,
            thread,
            json!({ "stop_reason": stop_reason, "stop_details": stop_details }),
        ),
    ]
}

/// Client input enters the conversation.
#[must_use]
pub fn input_taken(thread: &Arc<str>, seq: Seq, id: &Arc<str>) -> Line {
    own_record(own::kind::INPUT_TAKEN, thread, &InputTaken { seq, id: Arc::clone(id) })
}

/// The result of a call that the server has to give.
#[must_use]
pub fn tool_result(
    thread: &Arc<str>,
    family: Family,
    call: &str,
    content: &Value,
    is_error: bool,
) -> Line {
    let (kind, name) = match family {
        Family::BuiltIn => (wire::AGENT_TOOL_RESULT, "tool_use_id"),
        Family::Mcp => (wire::AGENT_MCP_TOOL_RESULT, "mcp_tool_use_id"),
    };
    event(kind, thread, json!({ name: call, "content": content, "is_error": is_error }))
}

/// The result of a call that gives an error and nothing else.
#[must_use]
pub fn error_result(
    thread: &Arc<str>,
    family: Family,
    call: &str,
    text: impl Into<Cow<'static, str>>,
) -> Line {
    let text = text.into();
    tool_result(thread, family, call, &json!([{ "type": "text", "text": text }]), true)
}

/// The end of a model request.
#[must_use]
pub fn request_end(thread: &Arc<str>, span: &str, usage: &Usage, is_error: bool) -> Line {
    event(
        wire::REQUEST_END,
        thread,
        json!({
            "model_request_start_id": span,
            "model_usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_creation_input_tokens": usage.cache_creation_input_tokens(),
                "cache_read_input_tokens": usage.cache_read_input_tokens,
                "speed": null,
            },
            "is_error": is_error,
        }),
    )
}

/// The start of a model request. When another model than the agent's own is asked, it says so.
#[must_use]
pub fn request_start(thread: &Arc<str>, span: &str, substitute: Option<(&str, &str)>) -> Line {
    let members = substitute.map(|(model, agents_own)| {
        json!({ "posthouse": { "model": model, "substituted_for": agents_own } })
    });
    Line::Ready {
        kind: wire::REQUEST_START,
        thread: Arc::clone(thread),
        payload: event_payload(span, &self::members(members.unwrap_or_default())),
    }
}

/// A `session.error`.
#[must_use]
pub fn session_error(thread: &Arc<str>, kind: &str, message: &str, retry_status: &str) -> Line {
    event(
        wire::SESSION_ERROR,
        thread,
        json!({
            "error": {
                "type": kind,
                "message": message,
                "retry_status": { "type": retry_status },
            },
        }),
    )
}

/// The `session.error` of an MCP server that can't be used. The session goes on without it, and tries
/// it again at the beginning of its next turn; nothing is tried before, so that it is not `retrying`.
#[must_use]
pub fn server_trouble(thread: &Arc<str>, trouble: &Trouble) -> Line {
    event(
        wire::SESSION_ERROR,
        thread,
        json!({
            "error": {
                "type": trouble.kind.as_str(),
                "mcp_server_name": trouble.server,
                "message": trouble.message,
                "retry_status": { "type": "exhausted" },
            },
        }),
    )
}

/// The `session.error` of a credential whose value gets to some of its hosts never. The session goes
/// on.
#[must_use]
pub fn host_unreachable(thread: &Arc<str>, credential: &str, vault: &str, message: &str) -> Line {
    event(
        wire::SESSION_ERROR,
        thread,
        json!({
            "error": {
                "type": "credential_host_unreachable_error",
                "credential_id": credential,
                "vault_id": vault,
                "message": message,
                "retry_status": { "type": "exhausted" },
            },
        }),
    )
}

fn about(thread: &Arc<str>, agent_name: &str) -> Value {
    json!({ "session_thread_id": thread, "agent_name": agent_name })
}
