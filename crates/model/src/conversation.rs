//! The neutral form of a conversation, from which each wire renders its own request.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::{ModelSpec, WireKind};

/// Everything that one model call needs.
#[derive(Debug, Clone)]
pub struct Request {
    /// Names the conversation, the same for all its requests: a hint for providers that look for
    /// a cached prompt by such a key. Says nothing about anybody.
    pub conversation: Arc<str>,
    /// The model's name at its provider (without a provider prefix of ours).
    pub model: String,
    /// What is known of that model.
    pub spec: Arc<ModelSpec>,
    /// How hard the model should think; `None` leaves it to the provider.
    pub effort: Option<Effort>,
    /// Whether the provider's faster, dearer mode is wanted.
    pub fast: bool,
    /// The provider-side region, when one was asked for.
    pub inference_geo: Option<String>,
    /// The system prompt; empty for none.
    pub system: String,
    /// The tools that the model may call, in a stable order.
    pub tools: Arc<[ToolSpec]>,
    /// The conversation, oldest first.
    pub items: Vec<Item>,
}

/// One tool as a model sees it.
#[derive(Debug, Clone)]
pub struct ToolSpec {
    /// The name that the model calls.
    pub name: String,
    /// What the tool does, for the model.
    pub description: String,
    /// JSON Schema of the input, an object.
    pub input_schema: Box<RawValue>,
}

/// One step of a conversation. Consecutive items of one role are legal; a wire merges them
/// where its dialect wants alternation.
#[derive(Debug, Clone)]
pub enum Item {
    /// Content from the user: a JSON array of `text`, `image`, `document` and `search_result`
    /// blocks in the shape of the Managed Agents API, which is that of Anthropic Messages.
    User(Arc<RawValue>),
    /// A response, block by block as `provider` sent it.
    Assistant {
        /// The provider's name, as in [`crate::Provider::name`].
        provider: Arc<str>,
        /// The wire in whose form the blocks are.
        wire: WireKind,
        /// The native blocks, in order.
        blocks: Arc<[Box<RawValue>]>,
    },
    /// The results of all tool calls of the assistant item before it.
    ToolResults(Vec<ToolResult>),
    /// Privileged text from the operator of the application, in the middle of the conversation.
    System(String),
}

/// What came of one tool call.
#[derive(Debug, Clone)]
pub struct ToolResult {
    /// The provider's own id of the call (`toolu_…`).
    pub call_id: String,
    /// The tool's name.
    pub name: Arc<str>,
    /// A JSON array of content blocks; `[]` when the tool gave nothing.
    pub content: Arc<RawValue>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// How hard a model thinks, least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}
