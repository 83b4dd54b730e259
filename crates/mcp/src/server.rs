//! posthouse as an MCP server: the protocol of a request, and nothing of what the tools do.
//!
//! Speaks Streamable HTTP of the revisions 2025-06-18, 2025-11-25 and 2026-07-28. Who asks is known
//! before a request comes here, and comes with each one: nothing is remembered of a caller but which
//! sessions of the protocol are his.

mod handler;
mod names;
mod owners;

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use serde_json::{Map, Value};

use crate::client::Work;
use handler::Handler;
pub use handler::Progress;
pub use names::Names;
use owners::Owners;

/// The header that names a session of the protocol.
const SESSION: &str = "mcp-session-id";

/// The most bytes of a message that a client sends.
pub const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;

/// For how long a session of the protocol may be silent before it ends. Longer than any call may
/// take, because a call that says nothing is silent, too.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(2 * 60 * 60);

/// What a server offers.
pub trait Offer: Send + Sync + 'static {
    /// Who asks.
    type Caller: Caller;

    /// The tools that are there for somebody.
    ///
    /// # Errors
    /// [`Refusal::Failed`].
    fn tools<'a>(&'a self, caller: &'a Self::Caller) -> Work<'a, Result<Vec<Offered>, Refusal>>;

    /// Calls a tool. The future is dropped when nobody waits any more.
    ///
    /// # Errors
    /// [`Refusal`].
    fn call<'a>(
        &'a self,
        caller: &'a Self::Caller,
        call: Call,
        progress: &'a Progress,
    ) -> Work<'a, Result<Outcome, Refusal>>;
}

/// Who asks. Comes with each request.
pub trait Caller: Clone + Send + Sync + 'static {
    /// What is the same for all requests of one caller, and differs between any two callers.
    fn name(&self) -> String;
}

/// A tool.
#[derive(Debug, Clone)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: Option<String>,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input, an object.
    pub input: Arc<Map<String, Value>>,
    /// JSON Schema of what it answers as structured content, an object.
    pub output: Arc<Map<String, Value>>,
    /// Whether it changes nothing.
    pub reads_only: bool,
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// Its input, which nobody has checked.
    pub input: Map<String, Value>,
    /// Whether the client can put questions to somebody.
    pub can_ask: bool,
    /// What came of the questions that an earlier [`Outcome::Ask`] of this call has put.
    pub replies: BTreeMap<String, Reply>,
    /// The state of that outcome. It has been in the client's hands.
    pub state: Option<String>,
}

/// What comes of a call.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The answer.
    Done {
        /// For models.
        text: String,
        /// For programs.
        structured: Option<Value>,
        /// Whether the tool has failed.
        is_error: bool,
    },
    /// Questions to somebody. With what comes of them the tool is called again.
    Ask {
        /// Each under a key of its own.
        questions: BTreeMap<String, Question>,
        /// What the tool needs to go on.
        state: String,
    },
}

/// A question to somebody.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is asked.
    pub message: String,
    /// JSON Schema of the form: an object of plain members.
    pub form: Value,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The form. Nobody has held it against the question's schema.
    Given(Map<String, Value>),
    /// He says no.
    Declined,
    /// He says nothing.
    Dismissed,
}

/// Why a call is not answered at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such tool.
    Unknown,
    /// The state that the client has sent back is none that it was given.
    State,
    /// The server has failed. Its log says more.
    Failed,
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What models should know who use it.
    pub instructions: &'static str,
}

/// Where clients ask.
pub struct Endpoint<O: Offer> {
    service: StreamableHttpService<Handler<O>, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    owners: Owners,
    names: Names,
    end: Box<dyn Fn() + Send + Sync>,
}

impl<O: Offer> fmt::Debug for Endpoint<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Endpoint").field("names", &self.names).finish_non_exhaustive()
    }
}

impl<O: Offer> Endpoint<O> {
    /// An endpoint that answers to those names.
    pub fn new(offer: O, about: About, names: Names) -> Self {
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(SILENCE);
        let sessions = Arc::new(sessions);
        // Names are checked here: an address is as good as a name on their list.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_max_request_body_bytes(LONGEST_MESSAGE);
        let token = config.cancellation_token.clone();
        let handler = Handler::new(Arc::new(offer), about);
        let service =
            StreamableHttpService::new(move || Ok(handler.clone()), Arc::clone(&sessions), config);
        let end = Box::new(move || token.cancel());
        Self { service, sessions, owners: Owners::default(), names, end }
    }

    /// Answers a request whose caller is known. What is refused is a status and a sentence.
    pub async fn answer<B>(
        &self,
        mut request: Request<B>,
        caller: O::Caller,
    ) -> Response<BoxBody<Bytes, Infallible>>
    where
        B: Body + Send + 'static,
        B::Error: fmt::Display,
    {
        if let Err(reason) = self.names.admit(request.uri(), request.headers()) {
            return refuse(StatusCode::FORBIDDEN, &reason);
        }
        let owner = caller.name();
        let named = session_of(request.headers());
        if let Some(session) = named.as_deref()
            && !self.owners.is_of(session, &owner)
            && self.sessions.sessions.read().await.contains_key(session)
        {
            // As for one that never was.
            return refuse(StatusCode::NOT_FOUND, "Not Found: Session not found");
        }
        request.extensions_mut().insert(caller);
        let ends = request.method() == Method::DELETE;
        let mut response = self.service.handle(request).await;
        if ends && response.status() == StatusCode::ACCEPTED {
            // It is done, and clients warn of a promise.
            *response.status_mut() = StatusCode::OK;
        }
        if named.is_none()
            && let Some(session) = session_of(response.headers())
        {
            self.owners.add(&self.sessions, session, owner).await;
        }
        response
    }

    /// Ends all sessions of the protocol, and what is under way in them.
    pub fn end(&self) {
        (self.end)();
    }
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(SESSION)?.to_str().ok()?.to_owned())
}

fn refuse(status: StatusCode, reason: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from(reason.to_owned())).boxed());
    *response.status_mut() = status;
    response
}
