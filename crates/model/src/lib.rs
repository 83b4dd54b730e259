//! Speaking to models: what a conversation is, and what a provider's wire makes of it.
//!
//! A [`Provider`] renders a [`Request`] into the bytes of its own dialect and turns the bytes
//! that stream back into [`Event`]s. Nothing in here knows a session, a log or a tool's
//! meaning, and nothing is retried: that is the harness' business.

pub mod anthropic;
pub mod catalog;
pub mod content;
pub mod conversation;
#[cfg(test)]
mod crossing;
mod failure;
mod gemini;
#[cfg(test)]
mod golden;
mod members;
pub mod openai_chat;
mod openai_responses;
pub mod portable;
pub mod providers;
pub mod remote;
pub mod usage;
pub mod wire;

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use serde_json::value::RawValue;

pub use catalog::{
    About, Catalog, CatalogError, Lifecycle, LongPrompt, ModelSpec, Prices, Thinking,
};
pub use conversation::{Effort, Item, Request, ToolResult, ToolSpec};
pub use providers::{
    Known, ListedModel, Listing, Offer, Ollama, Provider, Providers, Resolved, Standing,
    Unavailable,
};
pub use remote::{Credential, Remote, Settings, SetupError};
pub use usage::Usage;
pub use wire::WireKind;

/// The stream of one model call. It ends after [`Event::Ended`] or [`Event::Failed`], exactly
/// one of which always comes. Dropping it closes the connection, which stops the provider.
pub type ModelStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What happens while a model answers.
#[derive(Debug)]
pub enum Event {
    /// A content block has begun. `index` counts the response's blocks from 0 without gaps.
    Started {
        /// The block's place in the response.
        index: usize,
        /// What it is.
        kind: BlockKind,
    },
    /// More text of a [`BlockKind::Text`] block; never empty.
    Text {
        /// The block's place in the response.
        index: usize,
        /// What is new.
        text: String,
    },
    /// The usage that the provider has reported so far; a later report replaces it.
    Usage(Usage),
    /// The provider has ended the response. The last event.
    Ended(Response),
    /// The call has failed or was cut. The last event.
    Failed(Failure),
}

/// What kind of block has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockKind {
    /// Text for the user.
    Text,
    /// Thinking, readable or redacted.
    Thinking,
    /// A call of the named tool.
    ToolUse {
        /// The tool's name, as in [`ToolSpec::name`].
        name: String,
    },
    /// A block that this version does not know; kept and replayed, never shown.
    Opaque,
}

/// A response that its provider has ended.
#[derive(Debug)]
pub struct Response {
    /// The blocks in the order in which they were sent.
    pub blocks: Vec<Block>,
    /// Why the provider stopped.
    pub stop: Stop,
    /// What the call used, whole.
    pub usage: Usage,
    /// The model that the provider says has answered, when it says so.
    pub served: Option<String>,
}

/// One block of a response.
#[derive(Debug)]
pub struct Block {
    /// The block as the provider sent it, put together from its deltas; replayed to the letter.
    pub native: Box<RawValue>,
    /// What it means to everybody else.
    pub view: View,
}

/// The neutral view of a block.
#[derive(Debug)]
pub enum View {
    /// Text for the user, possibly empty.
    Text(String),
    /// Thinking, whose text is nobody's business.
    Thinking,
    /// A tool call. `input` is the JSON object that the model wrote, unchanged; `None` when the
    /// provider stopped in the middle of it or it is no JSON object, so that it must not run.
    ToolUse {
        /// The provider's own id of the call.
        call_id: String,
        /// The tool's name.
        name: String,
        /// The input, or `None`.
        input: Option<Box<RawValue>>,
    },
    /// A block without a meaning here.
    Opaque,
}

/// Why a provider ended its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model has finished, also by a stop sequence.
    EndTurn,
    /// The model wants its tools' results.
    ToolUse,
    /// The output limit was reached.
    MaxTokens,
    /// The provider wants the same conversation again, with this response at its end.
    Pause,
    /// The model or its safeguards refused. Both details as the provider gave them.
    Refusal {
        /// The policy that was touched (`cyber`, `bio`, …).
        category: Option<String>,
        /// A sentence for people; its wording is not stable.
        explanation: Option<String>,
    },
    /// The model's window is full.
    WindowExceeded,
}

/// A model call that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure, which decides whether a retry makes sense.
    pub kind: FailureKind,
    /// One sentence for the user. Never holds a key, an address or a header.
    pub message: String,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// The usage known until then.
    pub usage: Usage,
}

/// Kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The provider is overloaded (529, 503, `overloaded_error`). Worth a retry.
    Overloaded,
    /// The provider's rate limit (429). Worth a retry.
    RateLimited,
    /// 408, 409, other 5xx, no connection, a cut stream, silence. Worth a retry.
    Transient,
    /// 400, 401, 403, 404 and the like: the same request can't succeed.
    Hopeless,
    /// 402 or a billing error: the account can't pay. The same request can't succeed.
    Billing,
    /// The conversation is longer than the model's window.
    TooLong,
}

impl FailureKind {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Overloaded | Self::RateLimited | Self::Transient)
    }
}

/// A model request, as it will be sent.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// The model's name at its provider; some wires put it into the address.
    pub model: String,
    /// The bytes.
    pub bytes: Bytes,
    /// Tools whose names the wire can't carry: the name that was sent, and the tool's own. What
    /// the model calls by the first is reported by the second.
    pub renamed: Vec<(String, String)>,
}
