//! The rules of every log, checked on every record, apart from the fold that they are about.

use std::collections::{BTreeMap, BTreeSet};

use posthouse_model::Item;
use posthouse_protocol::{Micros, event::kind as wire};
use posthouse_store::{Record, Seq};
use serde_json::Value;

use super::script;
use crate::{
    own,
    state::{Phase, State},
    summary::Status,
    view::QUEUED,
};

/// What may stand behind a `session.status_idle`: somebody else's doing alone.
const FROM_OUTSIDE: [&str; 7] = [
    wire::USER_MESSAGE,
    wire::USER_INTERRUPT,
    wire::USER_TOOL_CONFIRMATION,
    wire::USER_CUSTOM_TOOL_RESULT,
    wire::SYSTEM_MESSAGE,
    wire::SESSION_UPDATED,
    wire::THREAD_TERMINATED,
];

/// What a session does only while it is at work.
const WORK: [&str; 14] = [
    wire::AGENT_MESSAGE,
    wire::AGENT_THINKING,
    wire::AGENT_TOOL_USE,
    wire::AGENT_CUSTOM_TOOL_USE,
    wire::AGENT_MCP_TOOL_USE,
    wire::REQUEST_START,
    wire::REQUEST_END,
    wire::SESSION_ERROR,
    own::kind::REQUEST,
    own::kind::RESPONSE,
    own::kind::TOOL_STARTED,
    own::kind::TOOLS_LISTED,
    own::kind::TOOLS_LOADED,
    own::kind::SEARCHED,
];

/// These stand right behind those, and nowhere else.
const PAIRS: [(&str, &str); 7] = [
    (wire::STATUS_RUNNING, wire::THREAD_RUNNING),
    (wire::THREAD_RESCHEDULED, wire::STATUS_RESCHEDULED),
    (wire::STATUS_RESCHEDULED, own::kind::RETRY_SCHEDULED),
    (wire::THREAD_TERMINATED, wire::STATUS_TERMINATED),
    (wire::REQUEST_START, own::kind::REQUEST),
    (wire::THREAD_IDLE, wire::SESSION_USAGE),
    (wire::SESSION_USAGE, wire::STATUS_IDLE),
];

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Rest,
    Work,
    Wait,
    Over,
}

/// A call that is not closed.
#[derive(Debug)]
struct Open {
    /// Whether only a client can go on with it, and has not.
    client: bool,
}

#[derive(Debug)]
pub(super) struct Rules {
    last: String,
    at: Micros,
    turn: Turn,
    ids: BTreeSet<String>,
    /// The id of the open request's start.
    span: Option<String>,
    calls: BTreeMap<String, Open>,
    closed: BTreeSet<String>,
    queued: BTreeSet<Seq>,
    stop_reason: Value,
    thread_seen: bool,
    /// How many entries of the conversation were looked at, and what was open behind them.
    entries: usize,
    unanswered: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            last: String::new(),
            at: Micros(0),
            turn: Turn::Rest,
            ids: BTreeSet::new(),
            span: None,
            calls: BTreeMap::new(),
            closed: BTreeSet::new(),
            queued: BTreeSet::new(),
            stop_reason: Value::Null,
            thread_seen: false,
            entries: 0,
            unanswered: Vec::new(),
        }
    }
}

impl Rules {
    /// Sees the next record, and the state with it folded in.
    pub(super) fn see(&mut self, record: &Record, state: &State) {
        let kind = &*record.kind;
        let payload: Value = serde_json::from_str(&record.payload).unwrap();
        let what = format!("record {} ({kind}) behind {}", record.seq, self.last);
        assert!(!record.payload.contains(['\n', '\r']) || !kind.contains('.'), "{what}: a break");
        assert!(record.at > self.at, "{what}: times order the log");
        self.at = record.at;
        self.order(kind, &what);
        if kind.contains('.') {
            assert!(self.ids.insert(text(&payload, "id")), "{what}: an id stands twice");
        }
        self.count(record, &payload, &what);
        let status = match self.turn {
            Turn::Rest => Status::Idle,
            Turn::Work => Status::Running,
            Turn::Wait => Status::Rescheduling,
            Turn::Over => Status::Terminated,
        };
        assert_eq!(state.summary.status, status, "{what}");
        let waiting: Vec<_> = self.queued.iter().copied().collect();
        assert_eq!(state.summary.waiting, waiting, "{what}");
        self.conversation(state, &what);
        self.last = kind.to_owned();
    }

    fn order(&mut self, kind: &str, what: &str) {
        for (first, second) in PAIRS {
            assert_eq!(self.last == first, kind == second, "{what}: {second} belongs to {first}");
        }
        if self.last == wire::STATUS_IDLE {
            let goes_on = kind == wire::STATUS_RUNNING && !self.queued.is_empty();
            assert!(FROM_OUTSIDE.contains(&kind) || goes_on, "{what}: the turn was over");
        }
        assert!(self.turn != Turn::Over, "{what}: the session was over");
        // What a session can't do is said before it has done anything.
        let opens = kind == wire::SESSION_ERROR
            && self.turn == Turn::Rest
            && [own::kind::SESSION_OPENED, wire::SESSION_ERROR].contains(&&*self.last);
        if WORK.contains(&kind) && !opens {
            assert_eq!(self.turn, Turn::Work, "{what}: the session is not at work");
        }
        if kind.starts_with("session.thread_status_") {
            assert!(
                self.thread_seen || kind == wire::THREAD_RUNNING || kind == wire::THREAD_TERMINATED
            );
            self.thread_seen = true;
        }
        let next = match kind {
            wire::STATUS_RUNNING => {
                assert_ne!(self.turn, Turn::Work, "{what}: it ran already");
                Turn::Work
            }
            wire::STATUS_RESCHEDULED => Turn::Wait,
            wire::STATUS_IDLE => Turn::Rest,
            wire::STATUS_TERMINATED => Turn::Over,
            _ => return,
        };
        self.turn = next;
    }

    fn count(&mut self, record: &Record, payload: &Value, what: &str) {
        match &*record.kind {
            kind if QUEUED.contains(&kind) => drop(self.queued.insert(record.seq)),
            own::kind::INPUT_TAKEN => {
                let seq = payload["seq"].as_i64().unwrap();
                assert!(self.queued.remove(&seq), "{what}: {seq} does not wait");
                assert!(self.ids.contains(&text(payload, "id")), "{what}: no such event");
            }
            wire::REQUEST_START => {
                assert_eq!(self.span, None, "{what}: two requests at once");
                self.span = Some(text(payload, "id"));
            }
            wire::REQUEST_END => {
                let span = Some(text(payload, "model_request_start_id"));
                assert_eq!(self.span.take(), span, "{what}: another request's end");
            }
            wire::AGENT_TOOL_USE | wire::AGENT_MCP_TOOL_USE => {
                let client = payload["evaluated_permission"] == "ask";
                self.calls.insert(text(payload, "id"), Open { client });
            }
            wire::AGENT_CUSTOM_TOOL_USE => {
                self.calls.insert(text(payload, "id"), Open { client: true });
            }
            wire::USER_TOOL_CONFIRMATION => {
                let call = self.calls.get_mut(&text(payload, "tool_use_id"));
                let call = call.unwrap_or_else(|| panic!("{what}: no such call is open"));
                assert!(std::mem::take(&mut call.client), "{what}: it was answered");
            }
            wire::AGENT_TOOL_RESULT => self.close(text(payload, "tool_use_id"), what),
            wire::AGENT_MCP_TOOL_RESULT => self.close(text(payload, "mcp_tool_use_id"), what),
            wire::USER_CUSTOM_TOOL_RESULT => self.close(text(payload, "custom_tool_use_id"), what),
            own::kind::TOOL_CLOSED => self.close(text(payload, "call"), what),
            wire::THREAD_IDLE => {
                assert_eq!(payload["session_thread_id"], script::THREAD, "{what}");
                assert_eq!(self.span, None, "{what}: a request is under way");
                self.stop_reason = payload["stop_reason"].clone();
                self.rests(what);
            }
            wire::THREAD_RUNNING => {
                assert_eq!(payload["session_thread_id"], script::THREAD, "{what}");
            }
            wire::STATUS_IDLE => {
                assert_eq!(payload["stop_reason"], self.stop_reason, "{what}");
            }
            _ => {}
        }
    }

    fn close(&mut self, call: String, what: &str) {
        assert!(self.calls.remove(&call).is_some(), "{what}: {call} is not open");
        assert!(self.closed.insert(call), "{what}: closed twice");
    }

    /// A session rests with calls that wait for its client, or with none.
    fn rests(&self, what: &str) {
        let waiting: Vec<_> =
            self.calls.iter().filter(|(_, call)| call.client).map(|(id, _)| id.as_str()).collect();
        if self.stop_reason["type"] == "requires_action" {
            let mut named: Vec<_> = self.stop_reason["event_ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap())
                .collect();
            named.sort_unstable();
            assert_eq!(named, waiting, "{what}: what a client is asked for");
            assert!(!named.is_empty(), "{what}: nothing is asked for");
        } else {
            assert!(self.calls.is_empty(), "{what}: {:?} are open", self.calls);
        }
    }

    /// The conversation is whole but for the calls that are open.
    fn conversation(&mut self, state: &State, what: &str) {
        let thread = &state.threads[0];
        let new = thread.entries[self.entries..].iter().map(|entry| &entry.item);
        follow(&mut self.unanswered, new);
        self.entries = thread.entries.len();
        let unanswered = &self.unanswered;
        // Between its calls and its response, a response is not yet in the conversation.
        if self.last != wire::REQUEST_END && self.calls.is_empty() {
            assert!(unanswered.is_empty(), "{what}: {unanswered:?} have no results");
        }
        if !unanswered.is_empty() {
            let calls: Vec<_> = thread.calls.iter().map(|call| call.call_id.clone()).collect();
            assert_eq!(unanswered, &calls, "{what}: calls that the fold has lost");
        }
        if thread.phase == Phase::Rest {
            assert!(thread.calls.is_empty() && thread.retry.is_none(), "{what}: leftovers");
        }
    }
}

/// Follows a conversation; `open` are the calls at its end that have no results. All others
/// must have them, right behind their response and in its order.
fn follow<'a>(open: &mut Vec<String>, items: impl Iterator<Item = &'a Item>) {
    for item in items {
        match item {
            Item::Assistant { blocks, .. } => {
                assert!(open.is_empty(), "{open:?} have no results");
                for block in blocks.iter() {
                    let block: Value = serde_json::from_str(block.get()).unwrap();
                    if block["type"] == "tool_use" {
                        open.push(text(&block, "id"));
                    }
                }
            }
            Item::ToolResults(results) => {
                let answered: Vec<_> = results.iter().map(|one| one.call_id.clone()).collect();
                assert_eq!(&answered, open, "results without calls, or out of order");
                open.clear();
            }
            Item::User(_) | Item::System(_) => {
                assert!(open.is_empty(), "input stands between {open:?} and their results");
            }
        }
    }
}

/// What a model may be sent.
pub(super) fn check_conversation(items: &[Item]) {
    let mut open = Vec::new();
    follow(&mut open, items.iter());
    assert!(open.is_empty(), "{open:?} have no results");
    assert!(!items.is_empty(), "there is nothing to answer");
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().to_owned()
}
