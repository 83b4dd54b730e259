//! Where tool calls go: the sandbox's hands, or what stands in for them.

use std::{future::Future, pin::Pin, sync::Arc};

use serde_json::{Value, json, value::RawValue};

/// One call of a tool that the server runs.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// The session.
    pub session: Arc<str>,
    /// The thread that has called.
    pub thread: Arc<str>,
    /// The id of the `…_use` event, unique for ever: the key of the tool's own journal.
    pub call: Arc<str>,
    /// The tool.
    pub name: Arc<str>,
    /// The input, as the model wrote it.
    pub input: Arc<RawValue>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutcome {
    /// Content blocks.
    pub content: Value,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl ToolOutcome {
    /// An error in words.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { content: json!([{ "type": "text", "text": text }]), is_error: true }
    }

    /// A success in words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { content: json!([{ "type": "text", "text": text }]), is_error: false }
    }
}

/// A tool at work. Dropping it interrupts the tool.
pub type ToolFuture = Pin<Box<dyn Future<Output = ToolOutcome> + Send>>;

/// Runs tool calls. A trait because tests have hands of their own.
pub trait Hands: Send + Sync {
    /// Starts a call that has never been started.
    fn call(&self, call: ToolCall) -> ToolFuture;

    /// Looks for what came of a call that was started before a crash: from the tool's own
    /// journal, never by running it again. An outcome that nobody knows is said to be unknown.
    fn recover(&self, call: ToolCall) -> ToolFuture;
}

/// What the model is told when nobody knows what came of a call.
pub const UNKNOWN_OUTCOME: &str = "unknown outcome: the server was interrupted while the tool \
    was running. It may or may not have had its effect; check before calling it again.";

/// No sandbox: every call gets an error that says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSandbox;

impl Hands for NoSandbox {
    fn call(&self, call: ToolCall) -> ToolFuture {
        let text = format!(
            "The tool {} needs a sandbox, and this version of the server has none yet. \
             Nothing was run.",
            call.name
        );
        Box::pin(async move { ToolOutcome::error(text) })
    }

    fn recover(&self, call: ToolCall) -> ToolFuture {
        // Without a sandbox nothing can have had an effect: the answer is the same.
        self.call(call)
    }
}
