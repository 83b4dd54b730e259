//! The log's own records: what the wire's events do not say and the fold has to know.
//!
//! Their kinds have no dot, those of the wire have one. A client sees them only when it asks
//! for `posthouse.*` events.

use std::{collections::BTreeMap, sync::Arc};

use posthouse_model::{Usage, WireKind};
use posthouse_protocol::{Micros, agent::SessionAgent};
use posthouse_store::Seq;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The kinds.
#[expect(missing_docs, reason = "each is the name of the payload below")]
pub mod kind {
    pub const SESSION_OPENED: &str = "session_opened";
    pub const INPUT_TAKEN: &str = "input_taken";
    pub const REQUEST: &str = "request";
    pub const RESPONSE: &str = "response";
    pub const REQUEST_FAILED: &str = "request_failed";
    pub const RETRY_SCHEDULED: &str = "retry_scheduled";
    pub const MODEL_SUBSTITUTED: &str = "model_substituted";
    pub const TOOL_STARTED: &str = "tool_started";
    pub const TOOL_CLOSED: &str = "tool_closed";
    pub const TOOLS_LISTED: &str = "tools_listed";
    pub const TOOLS_LOADED: &str = "tools_loaded";
    pub const SEARCHED: &str = "searched";
}

/// The first record of a log: everything from outside that the fold rests on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionOpened {
    /// The session's id.
    pub session: String,
    /// The primary thread's id.
    pub thread: Arc<str>,
    /// The agent as it was then, overrides included.
    pub agent: SessionAgent,
    /// The environment's id.
    pub environment: String,
    /// The environment's configuration as it was then.
    pub config: Box<RawValue>,
    /// The hosts whose TLS the environment leaves alone, as they were then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough_hosts: Vec<String>,
    /// The session's title.
    pub title: Option<String>,
    /// The session's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The vaults with its credentials, in the order in which they are looked through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vault_ids: Vec<String>,
}

/// A client event has entered the conversation. One record for each, so that each has a place
/// and a time of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTaken {
    /// The place of the record that holds it.
    pub seq: Seq,
    /// The event's id.
    pub id: Arc<str>,
}

/// A model request is on its way; stands behind its `span.model_request_start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestSent {
    /// The id of the span's start event.
    pub span: Arc<str>,
    /// The provider's name.
    pub provider: String,
    /// The model's name there.
    pub model: String,
    /// The model's window in tokens.
    pub window: u64,
    /// How often this request was tried before.
    pub attempt: u32,
    /// SHA-256 of the body as sent, hex.
    pub body_hash: String,
    /// SHA-256 of system prompt and tools, hex; the session's blob of that name holds them.
    pub prefix_hash: String,
    /// Tool results before this place were cut to fit the window.
    pub trimmed_before: Seq,
}

/// A response, as its provider sent it; what is replayed to that provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResponseKept {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The wire in whose form the blocks are.
    #[serde(default)]
    pub wire: WireKind,
    /// The model's name there.
    pub model: String,
    /// The model that the provider says has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
    /// The native blocks in the order in which they were sent.
    pub blocks: Arc<[Box<RawValue>]>,
    /// Why the provider stopped.
    pub stop: StopKind,
    /// What the provider said of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// What the call used.
    pub usage: Usage,
    /// What it cost by the price list, in billionths of a dollar; `None` when it has no price.
    pub cost: Option<u64>,
    /// The calls among the blocks.
    pub calls: Vec<CallLink>,
}

/// The end of a response as the log keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// The model has finished.
    EndTurn,
    /// The model wants its tools' results.
    ToolUse,
    /// The output limit was reached.
    MaxTokens,
    /// The provider wants the conversation again.
    Pause,
    /// The model refused.
    Refusal,
    /// The window is full.
    WindowExceeded,
}

/// What a provider says of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The provider's category, when it gives one.
    pub category: Option<String>,
    /// The provider's explanation, when it gives one.
    pub explanation: Option<String>,
}

/// Which event stands for which of the provider's calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLink {
    /// The index of the block.
    pub block: usize,
    /// The id of the `…_use` event.
    pub event: Arc<str>,
    /// The provider's own id of the call.
    pub call_id: String,
    /// The name that the model has called, where the event has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Why the call can't run, in a sentence for the model; `None` when it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a model request used that gave no response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestFailed {
    /// The id of the span's start event.
    pub span: Arc<str>,
    /// Why, in one sentence.
    pub reason: String,
    /// What the call used, as far as its provider told.
    pub usage: Usage,
    /// What that cost by the price list, in billionths of a dollar.
    pub cost: Option<u64>,
}

/// A failed request will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryScheduled {
    /// Which attempt will be next, counted from 1.
    pub attempt: u32,
    /// Not before this time.
    pub not_before: Micros,
    /// When the first attempt failed.
    pub since: Micros,
}

/// Another of the agent's models takes over for the rest of the turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSubstituted {
    /// The model that could not answer, as the agent names it.
    pub from: String,
    /// The model that takes over, as the agent names it.
    pub to: String,
    /// Its place: 1 is the first of the agent's fallback models.
    pub rank: usize,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether the one before may be able to answer later.
    pub transient: bool,
}

/// A call was handed to its tool; from here on its effect may have happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolStarted {
    /// The id of the `…_use` event.
    pub call: Arc<str>,
}

/// A call was closed without a result of its tool; stands for calls whose results only a
/// client can send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolClosed {
    /// The id of the `…_use` event.
    pub call: Arc<str>,
    /// What the model is told instead of a result.
    pub reason: String,
}

/// The agent's MCP servers have been asked for their tools, at the beginning of a turn. Without any
/// server it says that the lists are lost, so that they are asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsListed {
    /// What each has answered, in the agent's order.
    pub servers: Vec<ServerListed>,
}

/// What one MCP server has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerListed {
    /// The server, as the agent names it.
    pub name: Arc<str>,
    /// SHA-256 of its list, hex; the session's blob of that name holds it. `None` when there is none.
    pub hash: Option<Arc<str>>,
    /// How many tools it has.
    pub tools: usize,
    /// Why there is no list.
    pub error: Option<String>,
}

/// Tools of MCP servers are put before the model from here on, though there are too many of them to
/// put all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsLoaded {
    /// Their names, as the model calls them.
    pub names: Vec<Arc<str>>,
}

/// A call has searched the web, which has a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched {
    /// The id of the `…_use` event.
    pub call: Arc<str>,
    /// How many searches.
    pub requests: u32,
    /// What they cost by the price list, in billionths of a dollar.
    pub cost: u64,
}
