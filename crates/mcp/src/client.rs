//! A connection to an MCP server: its tools, and calls of them.
//!
//! What a server sends is data of a stranger: bounded in size, number and time, and never trusted to
//! be what it says it is.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ::http::{HeaderName, StatusCode};
use futures_util::FutureExt as _;
use posthouse_net::Guard;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequest, CallToolRequestParams, CancelledNotification, CancelledNotificationParam,
        ClientRequest, InputResponses, ListToolsRequest, PaginatedRequestParams, ProtocolVersion,
        RequestId,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, Peer,
        PeerRequestOptions, RunningService, ServiceError,
    },
    transport::{
        DynamicTransportError, IntoTransport,
        streamable_http_client::{
            StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
        },
    },
};
use secrecy::SecretString;
use serde_json::{Map, Value, value::RawValue};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Mutex,
    task::unconstrained,
    time::{sleep, timeout},
};
use url::Url;

use answers::{Answers, News};
use http::{Failure, Http};

mod answers;
mod blocks;
mod challenge;
mod events;
mod forms;
mod http;
mod lines;
mod message;
mod old;
mod tools;

/// The revision that is asked for first; a server of an older one is met with its handshake.
const NEWEST: ProtocolVersion = ProtocolVersion::V_2026_07_28;
/// The revision that the older handshake offers.
const OFFERED: ProtocolVersion = ProtocolVersion::V_2025_11_25;
/// Pages of a list.
const PAGES: usize = 100;
/// How often a call may ask for more input.
const ROUNDS: usize = 10;
/// How long a connection may take to end.
const FAREWELL: Duration = Duration::from_secs(6);
/// The wait before a call is repeated that asks for nothing but to be repeated.
const PAUSE: Duration = Duration::from_millis(500);

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
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    /// Who is at the other end, for people.
    host: String,
    settings: Settings,
    news: Arc<News>,
    peer: Peer<RoleClient>,
    /// Taken by whoever closes the connection.
    running: Mutex<Option<RunningService<RoleClient, Answers>>>,
}

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
    pub async fn open(way: Way, settings: Settings) -> Result<Self, Error> {
        let limit = settings.connect;
        match way {
            Way::Http { url, guard, headers } => {
                let news = Arc::new(News::default());
                let http = Http::new(&url, guard, headers, settings.clone(), Arc::clone(&news))?;
                let host = http.host().to_owned();
                let late = || Err(late(&host, limit));
                timeout(limit, over_http(http, &url, settings, news))
                    .await
                    .unwrap_or_else(|_| late())
            }
            Way::Pipe(pipe) => {
                let news = Arc::new(News::default());
                let host = "the program".to_owned();
                let lines = lines::Lines::new(pipe, settings.message_bytes, Arc::clone(&news));
                let late = || Err(late("the program", limit));
                // A pipe has no second stream that could be missing.
                news.always();
                let shaking = async {
                    let answers = Answers::new(settings.answer_with_defaults, Arc::clone(&news));
                    let running = shake(answers, lines).await;
                    let running = running.map_err(|error| explain(&host, &error, &news).error)?;
                    Self::new(host, settings, news, running)
                };
                timeout(limit, shaking).await.unwrap_or_else(|_| late())
            }
        }
    }

    fn new(
        host: String,
        settings: Settings,
        news: Arc<News>,
        running: RunningService<RoleClient, Answers>,
    ) -> Result<Self, Error> {
        let peer = running.peer().clone();
        let Some(server) = peer.peer_info() else {
            return Err(Error::Connection(format!("{host} does not speak MCP")));
        };
        if !ProtocolVersion::KNOWN_VERSIONS.contains(&server.protocol_version) {
            let revision = message::sentence(&server.protocol_version.to_string());
            let reason = format!("{host} speaks revision {revision} of MCP, which is unknown here");
            return Err(Error::Connection(reason));
        }
        let tools = server.capabilities.tools.as_ref();
        // Since 2026-07-28 a server tells only who has subscribed, and nobody does.
        let tells = tools.is_some_and(|tools| tools.list_changed == Some(true));
        news.expect(tells && server.protocol_version < NEWEST);
        let running = Mutex::new(Some(running));
        Ok(Self { shared: Arc::new(Shared { host, settings, news, peer, running }) })
    }

    /// Lists all tools, page by page.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tools(&self) -> Result<Tools, Error> {
        let Shared { host, settings, news, .. } = &*self.shared;
        // What changes from here on belongs to the next list.
        news.read();
        let listing = async {
            let mut list = tools::List::new(settings.tools);
            let mut seen: Vec<String> = Vec::new();
            loop {
                let cursor = seen.last().cloned();
                let parameters = PaginatedRequestParams::default().with_cursor(cursor);
                let request = ListToolsRequest::with_param(parameters);
                let page =
                    self.ask(ClientRequest::ListToolsRequest(request), settings.list).await?;
                if !list.take(&page) {
                    return Err(Error::Connection(format!("{host} has sent no list of tools")));
                }
                let next = match page.get("nextCursor").and_then(Value::as_str) {
                    None | Some("") => return Ok(list.end()),
                    Some(next) => next,
                };
                if seen.iter().any(|cursor| cursor == next) {
                    list.cut_off("the list was ended where it began to repeat itself".to_owned());
                    return Ok(list.end());
                }
                if seen.len() + 1 >= PAGES || !list.has_room() {
                    list.cut_off(format!(
                        "the list was ended after {} pages and {} tools",
                        seen.len() + 1,
                        list.len()
                    ));
                    return Ok(list.end());
                }
                seen.push(next.to_owned());
            }
        };
        let listed = timeout(settings.list, listing).await;
        let listed = listed.unwrap_or_else(|_| Err(late(host, settings.list)));
        if listed.is_err() {
            news.lose();
        }
        listed
    }

    /// Whether the list of tools has changed since it was last asked for, as far as the server has
    /// told; true when it would not tell.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        self.shared.news.may_be_there()
    }

    /// Calls a tool. Dropping the future tells the server that nobody waits any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn call(&self, tool: &str, input: &RawValue) -> Result<Called, Error> {
        let Shared { host, settings, .. } = &*self.shared;
        let arguments: Map<String, Value> = serde_json::from_str(input.get()).map_err(|_| {
            Error::Refused { code: -32602, message: "the input is no JSON object".to_owned() }
        })?;
        let called = timeout(settings.call, self.rounds(tool, arguments)).await;
        called.unwrap_or_else(|_| Err(late(host, settings.call)))
    }

    /// Calls a tool and gives what it asks for, as long as that may go on.
    async fn rounds(&self, tool: &str, arguments: Map<String, Value>) -> Result<Called, Error> {
        let Shared { host, settings, .. } = &*self.shared;
        let mut parameters = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        for _ in 0..ROUNDS {
            let request = CallToolRequest::new(parameters.clone());
            let answer =
                self.ask(ClientRequest::CallToolRequest(request), settings.silence).await?;
            if answer.get("resultType").and_then(Value::as_str) != Some("input_required") {
                return blocks::read(&answer).ok_or_else(|| {
                    Error::Connection(format!("{host} has answered a call with no result of one"))
                });
            }
            let asked = answer.get("inputRequests").and_then(Value::as_object);
            parameters.input_responses =
                asked.map(|asked| self.responses(asked)).transpose()?.filter(|all| !all.is_empty());
            let state = answer.get("requestState").and_then(Value::as_str);
            parameters.request_state = state.map(str::to_owned);
            if parameters.input_responses.is_none() {
                sleep(PAUSE).await;
            }
        }
        Err(Error::Connection(format!("{host} has asked for input more than {ROUNDS} times")))
    }

    fn responses(&self, asked: &Map<String, Value>) -> Result<InputResponses, Error> {
        let answer = |(key, request): (&String, &Value)| {
            let parameters = request.get("params").unwrap_or(&Value::Null);
            match request.get("method").and_then(Value::as_str) {
                Some("elicitation/create") => {
                    let with_defaults = self.shared.settings.answer_with_defaults;
                    Ok((key.clone(), forms::answer(parameters, with_defaults)))
                }
                other => Err(Error::Connection(format!(
                    "{} asks for {}, which this client has not offered",
                    self.shared.host,
                    message::sentence(other.unwrap_or("something unnamed"))
                ))),
            }
        };
        asked.iter().map(answer).collect()
    }

    /// Sends a request and waits for its result, at most `silence` without a sign of life. Dropping
    /// the future tells the server.
    async fn ask(&self, request: ClientRequest, silence: Duration) -> Result<Value, Error> {
        let Shared { host, news, peer, .. } = &*self.shared;
        let options = PeerRequestOptions::with_timeout(silence).reset_timeout_on_progress();
        let explain = |error| explain_service(host, error, news);
        let handle = peer.send_request_with_option(request, options).await.map_err(explain)?;
        let mut waiting = Waiting { peer, id: Some(handle.id.clone()) };
        let answer = handle.await_response().await;
        waiting.id = None;
        serde_json::to_value(answer.map_err(explain)?)
            .map_err(|_| Error::Connection(format!("{host} has sent what can't be read")))
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.peer.is_transport_closed()
    }

    /// Ends it, with its session at the server.
    pub async fn close(self) {
        let running = self.shared.running.lock().await.take();
        if let Some(mut running) = running
            && let Err(error) = running.close_with_timeout(FAREWELL).await
        {
            tracing::debug!(%error, "an MCP connection has not ended well");
        }
    }
}

/// A request that somebody waits for. Dropped before its answer is there, it is cancelled.
struct Waiting<'a> {
    peer: &'a Peer<RoleClient>,
    id: Option<RequestId>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let reason = Some("nobody waits for it any more".to_owned());
        let parameters = CancelledNotificationParam::new(Some(id), reason);
        let notification = CancelledNotification::new(parameters);
        // The first look at it puts it into the queue, where there is room but in the worst case.
        let _ = unconstrained(self.peer.send_notification(notification.into())).now_or_never();
    }
}

/// Shakes hands over HTTP: the newest revision, the older handshake, and last the old transport.
async fn over_http(
    http: Http,
    url: &Url,
    settings: Settings,
    news: Arc<News>,
) -> Result<Connection, Error> {
    let host = http.host().to_owned();
    let answers = || Answers::new(settings.answer_with_defaults, Arc::clone(&news));
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
        .max_sse_event_size(settings.message_bytes)
        .reinit_on_expired_session(true);
    config.retry_config = Arc::new(answers::Patience);
    let transport = StreamableHttpClientTransport::with_client(http.clone(), config);
    let failure = match shake(answers(), transport).await {
        Ok(running) => return Connection::new(host, settings, news, running),
        Err(error) => explain(&host, &error, &news),
    };
    let too_new = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    if !failure.status.is_some_and(|status| too_new.contains(&status)) {
        return Err(failure.error);
    }
    let old = match old::Old::open(http, url, Arc::clone(&news)).await {
        Ok(old) => old,
        // It is one of the old kind, or of none.
        Err(Failure { error: error @ Error::Authentication { .. }, .. }) => return Err(error),
        Err(_) => return Err(failure.error),
    };
    news.always();
    let running = answers().serve_with_lifecycle(old, ClientLifecycleMode::Initialize).await;
    match running {
        Ok(running) => Connection::new(host, settings, news, running),
        Err(error) => Err(explain(&host, &error, &news).error),
    }
}

async fn shake<T, E, A>(
    answers: Answers,
    transport: T,
) -> Result<RunningService<RoleClient, Answers>, ClientInitializeError>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![NEWEST],
        legacy_version: Some(OFFERED),
    };
    answers.serve_with_lifecycle(transport, lifecycle).await
}

fn late(host: &str, limit: Duration) -> Error {
    Error::Connection(format!("{host} has not answered within {} seconds", limit.as_secs()))
}

/// Why there was no handshake.
fn explain(host: &str, error: &ClientInitializeError, news: &News) -> Failure {
    let reason = match error {
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => {
            return explain(host, fallback, news);
        }
        ClientInitializeError::TransportError { error, .. } => match carried(error) {
            Some(failure) => return failure,
            None => news.complaint().unwrap_or_else(|| "can't be reached".to_owned()),
        },
        ClientInitializeError::JsonRpcError(error) => {
            format!("refuses to connect: {}", message::sentence(&error.message))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "speaks no revision of MCP that is known here".to_owned()
        }
        ClientInitializeError::ConnectionClosed(_) => match news.complaint() {
            Some(complaint) => format!("has ended the connection: {complaint}"),
            None => {
                "has ended the connection before the handshake, or does not speak MCP".to_owned()
            }
        },
        _ => "does not speak MCP".to_owned(),
    };
    Failure { error: Error::Connection(format!("{host} {reason}")), status: None }
}

/// Why there was no answer to a request.
fn explain_service(host: &str, error: ServiceError, news: &News) -> Error {
    let reason = match error {
        ServiceError::McpError(error) if !message::is_failed(&error) => {
            let message = message::sentence(&error.message);
            return Error::Refused { code: error.code.0.into(), message };
        }
        ServiceError::McpError(error) => {
            format!("has not answered as it should: {}", message::sentence(&error.message))
        }
        ServiceError::TransportSend(error) => match carried(&error) {
            Some(failure) => return failure.error,
            None => "can't be reached any more".to_owned(),
        },
        ServiceError::Timeout { timeout } => return late(host, timeout),
        ServiceError::TransportClosed => match news.complaint() {
            Some(complaint) => format!("has ended the connection: {complaint}"),
            None => "has ended the connection before it answered".to_owned(),
        },
        _ => "has not answered as it should".to_owned(),
    };
    Error::Connection(format!("{host} {reason}"))
}

/// The failure of ours inside an error of a transport.
fn carried(error: &DynamicTransportError) -> Option<Failure> {
    let error = &error.error;
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    match error.downcast_ref::<StreamableHttpError<Failure>>()? {
        StreamableHttpError::Client(failure) => Some(failure.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
