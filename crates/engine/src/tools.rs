//! Where tool calls go: the sandbox's hands, what is outside (MCP servers and the web), or what stands
//! in for them.

use std::{future::Future, pin::Pin, sync::Arc};

pub use posthouse_mcp::client::Pipe;
use posthouse_protocol::{
    agent::{McpServer, SessionAgent},
    environment,
};
use serde::{Deserialize, Serialize};
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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolOutcome {
    /// Content blocks.
    pub content: Value,
    /// Whether the tool failed.
    pub is_error: bool,
    /// Searches of the web that it has used, which are counted and have a price.
    pub searches: u32,
    /// What is wrong with the MCP server that was called, beyond this call.
    pub trouble: Option<Trouble>,
}

/// Why an MCP server can't be used now: what a `session.error` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The server, as the agent names it.
    pub server: Arc<str>,
    /// Which error.
    pub kind: TroubleKind,
    /// In a sentence, without secrets.
    pub message: String,
}

/// The kinds of trouble with an MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// `mcp_connection_failed_error`: unreachable, too slow, or not speaking the protocol.
    Connection,
    /// `mcp_authentication_failed_error`: it does not let the session in.
    Authentication,
}

impl TroubleKind {
    /// The error's type on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "mcp_connection_failed_error",
            Self::Authentication => "mcp_authentication_failed_error",
        }
    }
}

/// Where a session stands towards the world outside: everything that a tool from outside may need to
/// know of it.
#[derive(Debug)]
pub struct Standpoint {
    /// The session.
    pub session: Arc<str>,
    /// Its workspace.
    pub workspace: Arc<str>,
    /// Its vaults, in the order in which they are looked through.
    pub vaults: Arc<[String]>,
    /// Its agent, as it is now.
    pub agent: Arc<SessionAgent>,
    /// Where its environment lets it connect to.
    pub networking: environment::Networking,
}

/// The tools of one MCP server, or why there are none.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The server, as the agent names it.
    pub server: Arc<str>,
    /// Its tools in the server's order, none twice.
    pub outcome: Result<Arc<[ServerTool]>, Trouble>,
}

/// A tool of an MCP server, as the server describes it: data of a stranger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerTool {
    /// The server's name for it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input, an object.
    pub input_schema: Arc<RawValue>,
    /// Whether the server declares that calling it twice does no more than calling it once.
    pub idempotent: bool,
}

/// A call of a tool from outside.
#[derive(Debug, Clone)]
pub struct OutsideCall {
    /// The call. Its name is the tool's own one, without its server's.
    pub call: ToolCall,
    /// Where it goes.
    pub to: Destination,
}

/// Where a call of a tool from outside goes.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To this MCP server.
    Server(Arc<str>),
    /// To a page. What was asked for is among what the conversation has shown, or close to it.
    Page(Shown),
    /// To the search back end.
    Search,
}

/// An address that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The address as the conversation has shown it.
    pub url: String,
    /// What the model is told when that is not to the letter what it has asked for.
    pub note: Option<String>,
}

/// Tools from outside. A trait because tests have a world of their own.
pub trait Outside: Send + Sync {
    /// Lists the tools of all servers of the session's agent, at the start of a turn. Lists that
    /// still hold are not asked for again. Never fails as a whole: a server that does not answer has
    /// its trouble in its place.
    fn list(&self, from: Arc<Standpoint>) -> Work<Vec<Listing>>;

    /// Starts a call that has never been started.
    fn call(&self, from: Arc<Standpoint>, call: OutsideCall) -> ToolFuture;

    /// A session has come to rest.
    fn rest(&self, _session: &Arc<str>) {}

    /// A session is deleted or ended: what is kept for it goes.
    fn forget(&self, _session: &str) {}

    /// Ends what has not been needed for a while. To be called every second.
    fn sweep(&self) {}

    /// Ends everything, because the server stops.
    fn stop(&self) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}

impl ToolOutcome {
    /// An error in words.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            content: json!([{ "type": "text", "text": text }]),
            is_error: true,
            ..Self::default()
        }
    }

    /// A success in words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            content: json!([{ "type": "text", "text": text }]),
            is_error: false,
            ..Self::default()
        }
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

    /// Starts a program in the session's sandbox that speaks over its input and output, and gives its
    /// pipe. It ends when the pipe is dropped.
    ///
    /// The error is a sentence for the session's log.
    fn start_server(
        &self,
        _session: &Arc<str>,
        _program: Program,
    ) -> Work<Result<Box<dyn Pipe>, String>> {
        Box::pin(std::future::ready(Err("there is no sandbox for it".to_owned())))
    }

    /// Keeps the session's sandbox from being ended for want of use until what comes back is dropped:
    /// a program in it is at work. None when there is no sandbox yet.
    fn hold(&self, _session: &str) -> Option<Box<dyn Send + Sync>> {
        None
    }

    /// Puts a text that is too long for a model into a file of the session's sandbox, and gives its
    /// path. None when there is no sandbox.
    fn keep_text(&self, _call: &ToolCall, _text: String) -> Work<Option<String>> {
        Box::pin(std::future::ready(None))
    }

    /// Ends what has not been needed for a while. To be called every second.
    fn sweep(&self) {}

    /// Ends everything, because the server stops.
    fn stop(&self) -> Work<()> {
        Box::pin(std::future::ready(()))
    }
}

/// A program that runs beside a session's tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What it is called in errors.
    pub name: String,
    /// The program: a path, or a name that is looked up in the sandbox.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside the sandbox's own.
    pub env: std::collections::BTreeMap<String, String>,
}

/// What the model is told when nobody knows what came of a call.
pub const UNKNOWN_OUTCOME: &str = "unknown outcome: the server was interrupted while the tool \
    was running. It may or may not have had its effect; check before calling it again.";

/// Nothing is outside: for servers without a way out, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingOutside;

impl Outside for NothingOutside {
    fn list(&self, from: Arc<Standpoint>) -> Work<Vec<Listing>> {
        let none = |server: &McpServer| Listing {
            server: server.name().into(),
            outcome: Err(Trouble {
                server: server.name().into(),
                kind: TroubleKind::Connection,
                message: "No MCP server is reached from here.".to_owned(),
            }),
        };
        let listings = from.agent.mcp_servers.iter().map(none).collect();
        Box::pin(std::future::ready(listings))
    }

    fn call(&self, _from: Arc<Standpoint>, _call: OutsideCall) -> ToolFuture {
        let outcome = ToolOutcome::error("Nothing outside is reached from here.");
        Box::pin(std::future::ready(outcome))
    }
}
