//! The script: what the model answers, to which request, in which pieces, as Rust values and as JSON.
//!
//! Holds the types and their validity. Never plays anything; that is each wire's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Everything a scripted model does until it gets another script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Tried in order: the first that is not used up and whose `when` matches is played.
    #[serde(default)]
    pub replies: Vec<Reply>,
    /// Played when none of `replies` matches. Without it such a request gets a 500 and is a violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Reply>,
    /// Milliseconds between the arrival of a request and the first byte of its answer.
    #[serde(default)]
    pub delay_ms: u64,
    /// Lets a conversation rewrite what it sent before, as a compaction or a fork does.
    #[serde(default)]
    pub allow_prefix_change: bool,
    /// Top-level members that a request may have beside the API's own, as servers with extensions take them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_members: Vec<String>,
    /// The models that are listed. A request may name any other.
    #[serde(default)]
    pub models: Models,
    /// Off: requests are neither kept nor checked, and prompt caching is not emulated. For benches.
    #[serde(default = "yes")]
    pub record: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            otherwise: None,
            delay_ms: 0,
            allow_prefix_change: false,
            allow_members: Vec::new(),
            models: Models::default(),
            record: true,
        }
    }
}

/// Names of models, by whose list they stand in. A list that is not given has a few of the kit's own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// `GET /v1/models` with an `anthropic-version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anthropic: Option<Vec<String>>,
    /// `GET /v1/models` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openai: Option<Vec<String>>,
    /// `GET /v1beta/models`, without the `models/` before a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemini: Option<Vec<String>>,
    /// `GET /api/tags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ollama: Option<Vec<String>>,
}

/// One answer of the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Which requests it is for; without it, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// How often it may be played; 0 is for ever. Has no meaning in `otherwise`, which is never used up.
    #[serde(default = "once")]
    pub times: u64,
    /// What is sent, in order. Must be empty unless `status` is 200.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The HTTP status. Any but 200 sends the API's error body of that class.
    #[serde(default = "ok")]
    pub status: u16,
    /// The text in the error body of a `status` other than 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further response headers, such as `retry-after`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Default: `tool_use` if a `tool_use` step is there, else `end_turn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    /// The stop sequence that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<String>,
    /// Sent as is beside `stop_reason`; the Messages API uses it for refusals. On other wires it says more about the
    /// end: a failed response's `error`, a blocked prompt's `promptFeedback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_details: Option<Value>,
    /// Laid over the error object of a `status` other than 200, field by field, in the wire's own names.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub error: Map<String, Value>,
    /// Chat Completions: the arguments of calls that stand side by side are sent in turns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interleave: bool,
    /// Chat Completions: where thinking is sent; the servers that send it do not agree. Default: `reasoning_content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_field: Option<String>,
    /// Laid over the estimated usage, field by field, in the wire's own names.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub usage: Map<String, Value>,
    /// Closes the connection after exactly this many bytes of the body (as the client sees it, chunking removed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after_bytes: Option<usize>,
    /// Takes the place of the script's `delay_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            when: None,
            times: 1,
            steps: Vec::new(),
            status: 200,
            message: None,
            headers: BTreeMap::new(),
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            error: Map::new(),
            interleave: false,
            reasoning_field: None,
            usage: Map::new(),
            cut_after_bytes: None,
            delay_ms: None,
        }
    }
}

/// Which requests a reply is for. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// It came in on this wire: `anthropic`, `openai_responses`, `openai_chat` or `gemini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<String>,
    /// The request names exactly this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The last user message contains this, in a text or in a tool result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_user_contains: Option<String>,
    /// The system prompt, or a message with the role `system`, contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_contains: Option<String>,
    /// The last user message holds a result of the tool of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_tool_result_for: Option<String>,
    /// The how-manieth request to a model it is since the script was set, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_index: Option<u64>,
}

/// One thing the model sends or does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StepFields", into = "StepFields")]
pub enum Step {
    /// A text block.
    Text {
        /// The whole text.
        text: String,
        /// Characters in each delta; without it, one delta.
        chunk: Option<usize>,
        /// Milliseconds before each delta.
        pause_ms: Option<u64>,
    },
    /// A thinking block.
    Thinking {
        /// The whole thinking; may be empty, as when the API withholds it.
        thinking: String,
        /// Without it, one that is derived from the thinking.
        signature: Option<String>,
        /// Characters in each delta; without it, one delta.
        chunk: Option<usize>,
        /// Milliseconds before each delta.
        pause_ms: Option<u64>,
    },
    /// A redacted thinking block with this data.
    RedactedThinking(String),
    /// A call of a tool by the model.
    ToolUse {
        /// The call.
        tool_use: ToolUse,
        /// Milliseconds before each delta.
        pause_ms: Option<u64>,
    },
    /// Any content block, sent as is, then its deltas, sent as they are. On the Responses wire: any output item, and
    /// the events between its beginning and its end.
    Block {
        /// The `content_block` of `content_block_start`, or the item.
        block: Value,
        /// The `delta` of each `content_block_delta`, or the events without their number and place.
        deltas: Vec<Value>,
    },
    /// The smallest thing that the wire has, sent as is: an event of Messages and Responses with its `type`, the `delta`
    /// of a chunk of Chat Completions, a part of Gemini.
    Raw(Value),
    /// Sends nothing for so many milliseconds.
    Pause(u64),
    /// A `ping` event; on other wires a comment of the stream.
    Ping,
    /// An `error` event, after which the body ends.
    Error {
        /// The API's name of the class, such as `overloaded_error`.
        kind: String,
        /// The text.
        message: String,
    },
    /// Closes the TCP connection right there, in the middle of an HTTP chunk.
    Cut,
    /// Sends nothing more and keeps the connection open until the client leaves.
    Stall,
    /// A text block with the last text of the user.
    Echo {
        /// Characters in each delta; without it, one delta.
        chunk: Option<usize>,
        /// Milliseconds before each delta.
        pause_ms: Option<u64>,
    },
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolUse {
    /// The tool's name.
    pub name: String,
    /// Its input; the order of keys is kept.
    #[serde(default)]
    pub input: Map<String, Value>,
    /// Without it, a fresh one for each time it is played. Empty: Gemini sends none, Chat Completions an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Characters of the input's JSON in each delta; without it, one delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
}

// All that a step may say, flat: an untagged enum would lose the path and the name of an unknown field.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StepFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_thinking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use: Option<ToolUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deltas: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ping: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stall: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorFields {
    r#type: String,
    message: String,
}

const WIRES: [&str; 4] = ["anthropic", "openai_responses", "openai_chat", "gemini"];

const KINDS: &str =
    "text, thinking, redacted_thinking, tool_use, block, raw, ping, error, cut, stall, echo";

impl TryFrom<StepFields> for Step {
    type Error = String;

    fn try_from(fields: StepFields) -> Result<Self, String> {
        let StepFields { signature, deltas, chunk, pause_ms, .. } = &fields;
        let (signature, deltas, chunk, pause_ms) =
            (signature.clone(), deltas.clone(), *chunk, *pause_ms);
        // Each kind names which of the further fields it takes: (signature, deltas, chunk, pause_ms).
        let mut found = Vec::new();
        if let Some(text) = fields.text {
            found.push((Self::Text { text, chunk, pause_ms }, [false, false, true, true]));
        }
        if let Some(thinking) = fields.thinking {
            let step = Self::Thinking { thinking, signature: signature.clone(), chunk, pause_ms };
            found.push((step, [true, false, true, true]));
        }
        if let Some(data) = fields.redacted_thinking {
            found.push((Self::RedactedThinking(data), [false; 4]));
        }
        if let Some(tool_use) = fields.tool_use {
            found.push((Self::ToolUse { tool_use, pause_ms }, [false, false, false, true]));
        }
        if let Some(block) = fields.block {
            let step = Self::Block { block, deltas: deltas.clone().unwrap_or_default() };
            found.push((step, [false, true, false, false]));
        }
        if let Some(raw) = fields.raw {
            found.push((Self::Raw(raw), [false; 4]));
        }
        if let Some(error) = fields.error {
            found.push((Self::Error { kind: error.r#type, message: error.message }, [false; 4]));
        }
        let flags = [
            ("ping", fields.ping, Self::Ping, false),
            ("cut", fields.cut, Self::Cut, false),
            ("stall", fields.stall, Self::Stall, false),
            ("echo", fields.echo, Self::Echo { chunk, pause_ms }, true),
        ];
        for (name, flag, step, paced) in flags {
            match flag {
                Some(true) => found.push((step, [false, false, paced, paced])),
                Some(false) => {
                    return Err(format!("`{name}` can only be true; leave the step out instead"));
                }
                None => {}
            }
        }
        if let (Some(milliseconds), true) = (pause_ms, found.is_empty()) {
            found.push((Self::Pause(milliseconds), [false, false, false, true]));
        }
        if found.len() > 1 {
            return Err(format!(
                "a step is exactly one of {KINDS}; this one is {} of them",
                found.len()
            ));
        }
        let Some((step, takes)) = found.pop() else {
            return Err(format!("a step is one of {KINDS}, or pause_ms alone"));
        };
        let given = [signature.is_some(), deltas.is_some(), chunk.is_some(), pause_ms.is_some()];
        for ((name, given), taken) in
            ["signature", "deltas", "chunk", "pause_ms"].iter().zip(given).zip(takes)
        {
            if given && !taken {
                return Err(format!("`{name}` means nothing in this kind of step"));
            }
        }
        Ok(step)
    }
}

impl From<Step> for StepFields {
    fn from(step: Step) -> Self {
        let none = Self::default();
        match step {
            Step::Text { text, chunk, pause_ms } => {
                Self { text: Some(text), chunk, pause_ms, ..none }
            }
            Step::Thinking { thinking, signature, chunk, pause_ms } => {
                Self { thinking: Some(thinking), signature, chunk, pause_ms, ..none }
            }
            Step::RedactedThinking(data) => Self { redacted_thinking: Some(data), ..none },
            Step::ToolUse { tool_use, pause_ms } => {
                Self { tool_use: Some(tool_use), pause_ms, ..none }
            }
            Step::Block { block, deltas } => {
                Self { block: Some(block), deltas: Some(deltas), ..none }
            }
            Step::Raw(raw) => Self { raw: Some(raw), ..none },
            Step::Pause(milliseconds) => Self { pause_ms: Some(milliseconds), ..none },
            Step::Ping => Self { ping: Some(true), ..none },
            Step::Error { kind, message } => {
                Self { error: Some(ErrorFields { r#type: kind, message }), ..none }
            }
            Step::Cut => Self { cut: Some(true), ..none },
            Step::Stall => Self { stall: Some(true), ..none },
            Step::Echo { chunk, pause_ms } => Self { echo: Some(true), chunk, pause_ms, ..none },
        }
    }
}

impl Script {
    /// Reads a script from JSON.
    ///
    /// # Errors
    /// [`Error::Script`] with the path of the first thing that is unknown, mistyped or cannot be played.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let script: Self = from_json(json)?;
        script.check()?;
        Ok(script)
    }

    /// Whether everything in it can be played.
    ///
    /// # Errors
    /// [`Error::Script`] with the path of the first thing that cannot.
    pub fn check(&self) -> Result<(), Error> {
        for (index, reply) in self.replies.iter().enumerate() {
            reply.check(&format!("replies[{index}]"))?;
        }
        self.otherwise.as_ref().map_or(Ok(()), |reply| reply.check("otherwise"))
    }
}

impl Reply {
    pub(super) fn check(&self, path: &str) -> Result<(), Error> {
        let fail =
            |place: &str, message: &str| Err(Error::Script(format!("{path}{place}: {message}")));
        if !(200..=599).contains(&self.status) {
            return fail(".status", "must be from 200 to 599");
        }
        if self.status != 200 && !self.steps.is_empty() {
            return fail(".steps", "are only played with status 200");
        }
        if self.status == 200 && self.message.is_some() {
            return fail(
                ".message",
                "is the text of an error body and needs a status other than 200",
            );
        }
        if self.status == 200 && !self.error.is_empty() {
            return fail(".error", "is laid over an error body and needs a status other than 200");
        }
        let wire = self.when.as_ref().and_then(|when| when.wire.as_deref());
        if wire.is_some_and(|wire| !WIRES.contains(&wire)) {
            return fail(".when.wire", &format!("must be one of {}", WIRES.join(", ")));
        }
        for (name, value) in &self.headers {
            let name_is_valid = axum::http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !name_is_valid || axum::http::HeaderValue::from_str(value).is_err() {
                return fail(&format!(".headers.{name}"), "is not a valid header");
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let place = format!(".steps[{index}]");
            let chunk = match step {
                Step::Text { chunk, .. }
                | Step::Thinking { chunk, .. }
                | Step::Echo { chunk, .. } => *chunk,
                Step::ToolUse { tool_use, .. } => tool_use.chunk,
                Step::Block { block, .. } if !block["type"].is_string() => {
                    return fail(&place, "a block needs a type");
                }
                Step::Raw(raw) if !raw.is_object() => return fail(&place, "raw must be an object"),
                Step::Cut | Step::Stall | Step::Error { .. } if index + 1 < self.steps.len() => {
                    return fail(
                        &format!(".steps[{}]", index + 1),
                        "comes after the end of the answer",
                    );
                }
                _ => None,
            };
            if chunk == Some(0) {
                return fail(&place, "chunk must be at least 1");
            }
        }
        Ok(())
    }
}

const AXUM_PREFIX: &str = "Failed to deserialize the JSON body into the target type: ";

/// Reads JSON and names the path of what is wrong with it.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    // axum's extractor is the one place in the tree that tracks paths; using it spares a dependency.
    let parsed = axum::Json::<T>::from_bytes(json);
    parsed.map(|axum::Json(value)| value).map_err(|rejection| {
        let mut message = rejection.body_text();
        let mut source = std::error::Error::source(&rejection);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Error::Script(message.trim_start_matches(AXUM_PREFIX).to_owned())
    })
}

fn yes() -> bool {
    true
}

fn once() -> u64 {
    1
}

fn ok() -> u16 {
    200
}
