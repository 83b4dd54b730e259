//! The small fold: what a session's row says without reading its log.
//!
//! Status, open calls, usage and times, for each thread and for the session. Every append
//! folds its records into it in the same transaction. Pure; knows no clock.

use std::sync::Arc;

use posthouse_model::Usage;
use posthouse_protocol::{Micros, event::kind as wire};
use posthouse_store::{Record, Seq};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::own::{self, InputTaken, RequestFailed, ResponseKept, Searched, SessionOpened};

/// Where a session or a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for input.
    #[default]
    Idle,
    /// At work.
    Running,
    /// Waiting to try again.
    Rescheduling,
    /// Over.
    Terminated,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Rescheduling => "rescheduling",
            Self::Terminated => "terminated",
        }
    }

    /// Whether work goes on without the client.
    #[must_use]
    pub fn is_working(self) -> bool {
        matches!(self, Self::Running | Self::Rescheduling)
    }
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaits {
    /// A `user.tool_confirmation`.
    Confirmation,
    /// A `user.custom_tool_result`.
    Result,
}

/// Which events stand for a call that the server runs, and for its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `agent.tool_use` and `agent.tool_result`.
    #[default]
    BuiltIn,
    /// `agent.mcp_tool_use` and `agent.mcp_tool_result`.
    Mcp,
}

impl Family {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_built_in(&self) -> bool {
        *self == Self::BuiltIn
    }
}

/// A call that a client has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// The id of the `…_use` event.
    pub id: Arc<str>,
    /// What it waits for.
    pub awaits: Awaits,
    /// Whether the client has answered, though the call is not closed yet.
    pub answered: bool,
    /// Which events stand for it when the server runs it.
    #[serde(default, skip_serializing_if = "Family::is_built_in")]
    pub family: Family,
}

/// Time at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Microseconds of finished stretches.
    done: i64,
    /// When the stretch under way began.
    since: Option<Micros>,
}

impl Activity {
    fn start(&mut self, at: Micros) {
        self.since.get_or_insert(at);
    }

    fn stop(&mut self, at: Micros) {
        if let Some(since) = self.since.take() {
            self.done += at.0 - since.0;
        }
    }

    /// Seconds at work until `now`.
    #[must_use]
    pub fn seconds(&self, now: Micros) -> f64 {
        let running = self.since.map_or(0, |since| (now.0 - since.0).max(0));
        seconds(self.done + running)
    }
}

/// What was used, and what that costs by the price list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// Tokens of all model requests, failed ones included.
    pub tokens: Usage,
    /// Billionths of a dollar.
    pub cost: u64,
    /// Whether a model without a list price was used, so that `cost` is not the whole.
    pub unpriced: bool,
    /// Searches of the web.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub searches: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Spending {
    fn add(&mut self, tokens: &Usage, cost: Option<u64>) {
        self.tokens.add(tokens);
        match cost {
            Some(cost) => self.cost += cost,
            None => self.unpriced |= *tokens != Usage::default(),
        }
    }

    /// The usage object of sessions, threads and `session.usage` events. Before any work
    /// (`started` is false) nothing can be said of caches.
    #[must_use]
    pub fn render(&self, active_seconds: f64, started: bool) -> Value {
        // Half a cent counts as one: the wire has whole cents alone.
        let cents = (self.cost + 5_000_000) / 10_000_000;
        let list_cost =
            (!self.unpriced).then(|| json!({ "amount": cents.to_string(), "currency": "USD" }));
        let cache_creation = started.then(|| {
            json!({
                "ephemeral_5m_input_tokens": self.tokens.cache_write_5m_tokens,
                "ephemeral_1h_input_tokens": self.tokens.cache_write_1h_tokens,
            })
        });
        json!({
            "input_tokens": self.tokens.input_tokens,
            "output_tokens": self.tokens.output_tokens,
            "cache_read_input_tokens": self.tokens.cache_read_input_tokens,
            "cache_creation": cache_creation,
            "active_seconds": active_seconds,
            "list_cost": list_cost,
            // Reading a page has no price, and the original does not count it.
            "server_tool_use": {
                "web_search_requests": self.searches,
                "web_fetch_requests": 0,
            },
        })
    }
}

/// One thread, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSummary {
    /// The thread's id.
    pub id: Arc<str>,
    /// The thread that made it; `None` for the primary one.
    pub parent: Option<Arc<str>>,
    /// The name of its agent when it was made.
    pub agent_name: String,
    /// Where it is.
    pub status: Status,
    /// When it was made.
    pub created_at: Micros,
    /// When its status last changed.
    pub updated_at: Micros,
    /// When it was archived.
    pub archived_at: Option<Micros>,
    /// What it has used.
    pub spending: Spending,
    /// How long it has worked.
    pub activity: Activity,
    /// Whether it has ever been at work.
    pub started: bool,
    /// Whether it has ever come to rest after work.
    pub rested: bool,
    /// The calls that a client has to answer, in their order.
    pub open: Vec<OpenCall>,
}

/// A session, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Where it is.
    pub status: Status,
    /// When it, its title or its agent last changed.
    pub updated_at: Micros,
    /// When it was archived or ended.
    pub ended_at: Option<Micros>,
    /// The place at which the newest turn begins; 0 before the first.
    pub turn_start: Seq,
    /// The place of the newest `session.status_idle`; 0 before the first.
    pub turn_end: Seq,
    /// When that was.
    pub turn_ended_at: Micros,
    /// The first record since the last rest that may have begun a turn.
    turn_seed: Option<Seq>,
    /// How long it has worked; threads at work at the same time count once.
    pub activity: Activity,
    /// The places of client events that wait to be taken, oldest first.
    pub waiting: Vec<Seq>,
    /// Its threads; the primary one is the first.
    pub threads: Vec<ThreadSummary>,
}

impl Summary {
    /// The primary thread. A summary has one from its first record on.
    #[must_use]
    pub fn primary(&self) -> Option<&ThreadSummary> {
        self.threads.first()
    }

    /// All calls that a client has to answer and has not, of all threads.
    pub fn unanswered(&self) -> impl Iterator<Item = &OpenCall> {
        self.threads.iter().flat_map(|thread| &thread.open).filter(|call| !call.answered)
    }

    /// The sum of what all threads have used.
    #[must_use]
    pub fn spending(&self) -> Spending {
        let mut sum = Spending::default();
        for thread in &self.threads {
            sum.tokens.add(&thread.spending.tokens);
            sum.cost += thread.spending.cost;
            sum.unpriced |= thread.spending.unpriced;
            sum.searches += thread.spending.searches;
        }
        sum
    }

    /// Folds the next record in.
    ///
    /// # Errors
    /// A sentence, when the record is not what this version writes.
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        let at = record.at;
        match &*record.kind {
            own::kind::SESSION_OPENED => {
                let opened: SessionOpened = parse(record)?;
                self.updated_at = at;
                self.threads = vec![ThreadSummary {
                    id: opened.thread,
                    parent: None,
                    agent_name: opened.agent.name,
                    status: Status::Idle,
                    created_at: at,
                    updated_at: at,
                    archived_at: None,
                    spending: Spending::default(),
                    activity: Activity::default(),
                    started: false,
                    rested: false,
                    open: Vec::new(),
                }];
            }
            wire::STATUS_RUNNING => {
                if self.status == Status::Idle {
                    self.turn_start = self.turn_seed.unwrap_or(record.seq);
                }
                self.turn(Status::Running, at);
            }
            wire::STATUS_RESCHEDULED => self.turn(Status::Rescheduling, at),
            wire::STATUS_IDLE => {
                self.turn(Status::Idle, at);
                self.turn_end = record.seq;
                self.turn_ended_at = at;
                self.turn_seed = None;
            }
            wire::STATUS_TERMINATED => {
                self.turn(Status::Terminated, at);
                self.ended_at = Some(at);
            }
            wire::SESSION_UPDATED => self.updated_at = at,
            wire::USER_MESSAGE | wire::SYSTEM_MESSAGE | wire::USER_INTERRUPT => {
                self.waiting.push(record.seq);
            }
            own::kind::INPUT_TAKEN => {
                let taken: InputTaken = parse(record)?;
                self.waiting.retain(|seq| *seq != taken.seq);
            }
            wire::USER_TOOL_CONFIRMATION | wire::USER_CUSTOM_TOOL_RESULT => {
                if self.status == Status::Idle {
                    self.turn_seed.get_or_insert(record.seq);
                }
                self.apply_to_thread(record)?;
            }
            _ => self.apply_to_thread(record)?,
        }
        Ok(())
    }

    fn turn(&mut self, status: Status, at: Micros) {
        self.status = status;
        self.updated_at = at;
        if status == Status::Running {
            self.activity.start(at);
        } else {
            self.activity.stop(at);
        }
    }

    fn apply_to_thread(&mut self, record: &Record) -> Result<(), String> {
        let Some(thread) = self.threads.iter_mut().find(|thread| thread.id == record.thread) else {
            return Err(format!("record {} names a thread that is not there", record.seq));
        };
        match &*record.kind {
            wire::THREAD_RUNNING => thread.turn(Status::Running, record.at),
            wire::THREAD_RESCHEDULED => thread.turn(Status::Rescheduling, record.at),
            wire::THREAD_IDLE => {
                thread.turn(Status::Idle, record.at);
                thread.rested = true;
            }
            wire::THREAD_TERMINATED => {
                thread.turn(Status::Terminated, record.at);
                thread.archived_at = Some(record.at);
                thread.open.clear();
            }
            kind @ (wire::AGENT_TOOL_USE | wire::AGENT_MCP_TOOL_USE) => {
                let call: ToolUse = parse(record)?;
                if call.evaluated_permission.as_deref() == Some("ask") {
                    let is_mcp = kind == wire::AGENT_MCP_TOOL_USE;
                    let family = if is_mcp { Family::Mcp } else { Family::BuiltIn };
                    thread.open(call.id, Awaits::Confirmation, family);
                }
            }
            wire::AGENT_CUSTOM_TOOL_USE => {
                let call: ToolUse = parse(record)?;
                thread.open(call.id, Awaits::Result, Family::BuiltIn);
            }
            wire::USER_TOOL_CONFIRMATION => {
                let answer: Answer = parse(record)?;
                for call in thread.open.iter_mut().filter(|call| answer.answers(&call.id)) {
                    call.answered = true;
                }
            }
            wire::USER_CUSTOM_TOOL_RESULT
            | wire::AGENT_TOOL_RESULT
            | wire::AGENT_MCP_TOOL_RESULT
            | own::kind::TOOL_CLOSED => {
                let answer: Answer = parse(record)?;
                thread.open.retain(|call| !answer.answers(&call.id));
            }
            own::kind::RESPONSE => {
                let response: ResponseKept = parse(record)?;
                thread.spending.add(&response.usage, response.cost);
            }
            own::kind::REQUEST_FAILED => {
                let failed: RequestFailed = parse(record)?;
                thread.spending.add(&failed.usage, failed.cost);
            }
            own::kind::SEARCHED => {
                let searched: Searched = parse(record)?;
                thread.spending.searches += u64::from(searched.requests);
                thread.spending.cost += searched.cost;
            }
            _ => {}
        }
        Ok(())
    }
}

impl ThreadSummary {
    fn turn(&mut self, status: Status, at: Micros) {
        self.status = status;
        self.updated_at = at;
        self.started = true;
        if status == Status::Running {
            self.activity.start(at);
        } else {
            self.activity.stop(at);
        }
    }

    fn open(&mut self, id: Arc<str>, awaits: Awaits, family: Family) {
        self.open.push(OpenCall { id, awaits, answered: false, family });
    }
}

/// The members of a `…_use` event that matter here.
#[derive(Deserialize)]
struct ToolUse {
    id: Arc<str>,
    evaluated_permission: Option<String>,
}

/// The member of an answer or a result that names its call.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "custom_tool_use_id", alias = "mcp_tool_use_id", alias = "call")]
    tool_use_id: Arc<str>,
}

impl Answer {
    fn answers(&self, call: &str) -> bool {
        &*self.tool_use_id == call
    }
}

/// Reads a record's payload.
///
/// # Errors
/// A sentence, when it is not what this version writes.
pub fn parse<T: DeserializeOwned>(record: &Record) -> Result<T, String> {
    serde_json::from_str(&record.payload)
        .map_err(|error| format!("record {} ({}): {error}", record.seq, record.kind))
}

/// Microseconds as seconds.
#[must_use]
pub fn seconds(micros: i64) -> f64 {
    // Whole microseconds up to 285 years are exact in a double.
    #[expect(clippy::cast_precision_loss, reason = "exact for any time a session can last")]
    let micros = micros as f64;
    micros / 1e6
}
