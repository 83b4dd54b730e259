//! A connection to an MCP server: its tools, and calls of them.
//!
//! What a server sends is data of a stranger: bounded in size, number and time, and never trusted to
//! be what it says it is.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use http::HeaderName;
use posthouse_net::Guard;
use secrecy::SecretString;
use serde_json::{Value, value::RawValue};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

/// Something under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a server is reached.
pub enum Way {
    /// Streamable HTTP; HTTP with SSE of 2024-11-05 where the server speaks nothing newer.
    Http {
        /// Its address.
        url: Url,
        /// The way out.
        guard: Guard,
        /// What each request carries.
        headers: Arc<dyn Headers>,
    },
    /// The input and output of a process.
    Pipe(Box<dyn Pipe>),
}

/// Both directions of a process's input and output.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pipe for T {}

/// Gives the header that a request carries. Asked once for each request.
pub trait Headers: Send + Sync {
    /// The header for a request of that HTTP method, or none. `refused` is the header that the server
    /// has just refused with 401; asked so once at most for a request.
    fn header<'a>(
        &'a self,
        method: &'a str,
        refused: Option<&'a Header>,
    ) -> Work<'a, Result<Option<Header>, Unauthorized>>;
}

/// A header that carries a credential.
#[derive(Debug, Clone)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its whole value.
    pub value: SecretString,
}

/// There is a credential and it can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthorized(pub String);

/// What a connection may take, and how it answers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From the first byte to the end of the handshake.
    pub connect: Duration,
    /// For a whole list of tools.
    pub list: Duration,
    /// For a call without a sign of life; progress begins it anew.
    pub silence: Duration,
    /// For a whole call.
    pub call: Duration,
    /// The most tools that are taken.
    pub tools: usize,
    /// The most bytes of one message.
    pub message_bytes: usize,
    /// Whether forms of a server are answered with the defaults that it names. They are declined
    /// otherwise, and so are those that have a required member without a default.
    pub answer_with_defaults: bool,
}

/// A connection. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Connection {}

/// The tools of a server.
#[derive(Debug, Clone)]
pub struct Tools {
    /// In the server's order, none twice.
    pub tools: Vec<Tool>,
    /// How long the server says that the list holds. None when it says nothing.
    pub valid_for: Option<Duration>,
    /// What was left out, in sentences for the log.
    pub left_out: Vec<String>,
}

/// One tool of a server.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The server's name for it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input, an object.
    pub input_schema: Arc<RawValue>,
    /// Whether the server declares that calling it twice does no more than calling it once.
    pub idempotent: bool,
}

/// What a call gave: content blocks of the API (`text`, `image`, `document`, `search_result`).
#[derive(Debug, Clone, PartialEq)]
pub struct Called {
    /// The blocks.
    pub content: Vec<Value>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

/// Why a server did not do what it was asked. The texts are for people and models, hold no secret,
/// and nothing of a server's answer that is longer than a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not reached, does not answer in time, or does not speak the protocol.
    #[error("{0}")]
    Connection(String),
    /// It does not let us in.
    #[error("{message}")]
    Authentication {
        /// What is wrong.
        message: String,
        /// The scopes that it asks for, when it names any.
        scope: Option<String>,
    },
    /// It has refused this request, by a JSON-RPC error.
    #[error("{message}")]
    Refused {
        /// The error's code.
        code: i64,
        /// The server's message.
        message: String,
    },
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Authentication`].
    pub async fn open(_way: Way, _settings: Settings) -> Result<Self, Error> {
        todo!()
    }

    /// Lists all tools, page by page.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tools(&self) -> Result<Tools, Error> {
        todo!()
    }

    /// Whether the list of tools has changed since it was last asked for, as far as the server has
    /// told; true when it would not tell.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        todo!()
    }

    /// Calls a tool. Dropping the future tells the server that nobody waits any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn call(&self, _tool: &str, _input: &RawValue) -> Result<Called, Error> {
        todo!()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }

    /// Ends it, with its session at the server.
    pub async fn close(self) {
        todo!()
    }
}
