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
pub type ToolFuture = Work<ToolOutcome>;

/// Something under way.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs tool calls. A trait because tests have hands of their own.
///
/// All but the first two have a default: hands without a sandbox have nothing to prepare and
/// nothing to end.
pub trait Hands: Send + Sync {
    /// Starts a call that has never been started.
    fn call(&self, call: ToolCall) -> ToolFuture;

    /// Looks for what came of a call that was started before a crash: from the tool's own
    /// journal, never by running it again. An outcome that nobody knows is said to be unknown.
    fn recover(&self, call: ToolCall) -> ToolFuture;

    /// A model has begun to name a tool of the sandbox: what the tool needs is made ready beside
    /// the rest of the answer.
    fn expect(&self, _session: &Arc<str>) {}

    /// A turn is about to ask its model. Work that is returned is waited for: the operator has
    /// asked for it.
    fn before_model(&self, _session: &Arc<str>) -> Option<Work<()>> {
        None
    }

    /// A session is about to come to rest, with no call open. What its tools have put out is
    /// taken in before anybody hears that it rests.
    fn rest(&self, _session: &Arc<str>) -> Option<Work<()>> {
        None
    }

    /// The files that the user provides to a session have changed.
    fn mounts_changed(&self, _session: &str) -> Work<()> {
        Box::pin(std::future::ready(()))
    }

    /// The sandboxes that are alive: session, and the sandbox as the API shows it.
    fn live(&self) -> Vec<(Arc<str>, Value)> {
        Vec::new()
    }

    /// Ends a session's sandbox with everything in it. True when there was one.
    fn kill(&self, _session: &str) -> Work<bool> {
        Box::pin(std::future::ready(false))
    }

    /// Ends a session's sandbox and deletes its files.
    fn delete(&self, _session: &str) -> Work<()> {
        Box::pin(std::future::ready(()))
    }

    /// Ends what has not been needed for a while. To be called every second.
    fn sweep(&self) {}

    /// Ends everything, because the server stops.
    fn stop(&self) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}

/// What the model is told when nobody knows what came of a call.
pub const UNKNOWN_OUTCOME: &str = "unknown outcome: the server was interrupted while the tool \
    was running. It may or may not have had its effect; check before calling it again.";
