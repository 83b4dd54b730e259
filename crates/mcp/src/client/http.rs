//! Streamable HTTP over the guard: what `rmcp` asks of an HTTP client.
//!
//! Every request carries what [`Headers`] gives for it and goes to one origin alone. No redirect is
//! followed, and nothing of a header is logged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use posthouse_net::{
    Guard,
    http::{Kept, Lent, SendError},
};
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage, ServerResult,
    },
    transport::streamable_http_client::{
        AuthRequiredError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use rmcp_events::{Error as EventError, Sse};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};
use url::Url;

use super::{Error, Header, Headers, News, Settings, Unauthorized, challenge, events, message};

/// How long a connection waits for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// The most bytes that are read of an answer that refuses.
const REFUSAL: usize = 64 << 10;
/// How often the stream for news is opened in a row without any news.
const OPENINGS: usize = 10;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

const NEITHER: &str = "does not speak MCP: its answer is neither JSON nor a stream of events";

type Refused = StreamableHttpError<Failure>;

/// Why there is no answer of HTTP that could be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub(super) struct Failure {
    pub(super) error: Error,
    /// The status of the answer, if there was one.
    pub(super) status: Option<StatusCode>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Client(failure)
    }
}

/// The way to one server.
#[derive(Clone)]
pub(super) struct Http {
    shared: Arc<Shared>,
}

struct Shared {
    url: Uri,
    host: String,
    kept: Kept,
    headers: Arc<dyn Headers>,
    settings: Settings,
    news: Arc<News>,
    /// Openings of the stream for news since there were any.
    openings: AtomicUsize,
}

impl Http {
    pub(super) fn new(
        url: &Url,
        guard: Guard,
        headers: Arc<dyn Headers>,
        settings: Settings,
        news: Arc<News>,
    ) -> Result<Self, Error> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let uri: Uri = without_fragment(url)
            .parse()
            .map_err(|_| Error::Connection(format!("{host}: its URL can't be sent")))?;
        let kept = Kept::new(guard, &uri, IDLE).map_err(unsent)?;
        let openings = AtomicUsize::new(0);
        let shared = Shared { url: uri, host, kept, headers, settings, news, openings };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn host(&self) -> &str {
        &self.shared.host
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn failure(&self, status: Option<StatusCode>, reason: &str) -> Failure {
        let error = Error::Connection(format!("{} {reason}", self.shared.host));
        Failure { error, status }
    }

    /// Sends a request with the header of the moment; once more with another one after a 401.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Lent>, Failure> {
        let first = self.header(&method, None).await?;
        let answer = self.exchange(&method, url, &headers, &body, first.as_ref()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.admitted(answer, first.is_some());
        }
        let Some(refused) = first else {
            return Err(
                self.unauthorized(&answer, "asks for a credential, and there is none for it")
            );
        };
        let second = match self.header(&method, Some(&refused)).await? {
            Some(second) if !is_same(&second, &refused) => second,
            _ => return Err(self.unauthorized(&answer, "has refused the credential")),
        };
        drop(answer);
        let answer = self.exchange(&method, url, &headers, &body, Some(&second)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let reason = "has refused the credential, and the refreshed one too";
            return Err(self.unauthorized(&answer, reason));
        }
        self.admitted(answer, true)
    }

    async fn header(
        &self,
        method: &Method,
        refused: Option<&Header>,
    ) -> Result<Option<Header>, Failure> {
        let header = self.shared.headers.header(method.as_str(), refused).await;
        header.map_err(|Unauthorized(reason)| Failure {
            error: Error::Authentication {
                message: format!("the credential for {} can't be used: {reason}", self.shared.host),
                scope: None,
            },
            status: None,
        })
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
        credential: Option<&Header>,
    ) -> Result<Response<Lent>, Failure> {
        let mut request = Request::new(body.clone());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers.clone();
        if let Some(Header { name, value }) = credential {
            let unfit = |reason| Failure {
                error: Error::Authentication {
                    message: format!("the credential for {} {reason}", self.shared.host),
                    scope: None,
                },
                status: None,
            };
            if headers.contains_key(name) || is_of_the_protocol(name) {
                return Err(unfit("goes into a header that belongs to the protocol"));
            }
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| unfit("has signs that no header can carry"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name.clone(), value);
        }
        let answer = self.shared.kept.open(request).await;
        answer.map_err(|error| Failure { error: unsent(error), status: None })
    }

    /// The answer, unless it lets nobody in or sends elsewhere.
    fn admitted(
        &self,
        answer: Response<Lent>,
        with_credential: bool,
    ) -> Result<Response<Lent>, Failure> {
        let status = answer.status();
        if status.is_redirection() {
            let reason = format!(
                "answers with a redirect (HTTP {}), which is not followed; right would be the URL \
                 that it leads to",
                status.as_u16()
            );
            return Err(self.failure(Some(status), &reason));
        }
        if status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        let challenge = challenge::read(answer.headers());
        let message = match (&challenge.scope, challenge.insufficient_scope) {
            (Some(scope), true) => format!(
                "{} asks for a credential with more scopes: {scope}; sign in again with them",
                self.shared.host
            ),
            (None, true) => {
                format!("{} asks for a credential with more scopes", self.shared.host)
            }
            (_, false) if with_credential => {
                format!("{} does not let this credential in (HTTP 403)", self.shared.host)
            }
            (_, false) => return Err(self.failure(Some(status), "answers with HTTP 403")),
        };
        let error = Error::Authentication { message, scope: challenge.scope };
        Err(Failure { error, status: Some(status) })
    }

    fn unauthorized(&self, answer: &Response<Lent>, reason: &str) -> Failure {
        let scope = challenge::read(answer.headers()).scope;
        let asked = scope.as_ref().map(|scope| format!(", with the scopes {scope}"));
        let message = format!(
            "{} {reason} (HTTP 401); connect a credential for it in one of the session's vaults{}",
            self.shared.host,
            asked.unwrap_or_default()
        );
        Failure {
            error: Error::Authentication { message, scope },
            status: Some(StatusCode::UNAUTHORIZED),
        }
    }

    /// Sends a message and reads what comes back.
    async fn post(
        &self,
        text: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let Settings { connect, call, message_bytes, .. } = self.shared.settings;
        let kind = Kind::of(&text);
        let begun = Instant::now();
        let patience = if kind.is_short() { connect } else { call };
        let exchange = async {
            let body = Bytes::from(serde_json::to_vec(&text)?);
            let mut headers: HeaderMap = custom.into_iter().collect();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            let accept = HeaderValue::from_static("application/json, text/event-stream");
            headers.insert(header::ACCEPT, accept);
            let in_session = session.is_some();
            if let Some(session) = session {
                headers.insert(SESSION, self.value(&session)?);
            }
            let url = self.shared.url.clone();
            let answer = self.send(Method::POST, &url, headers, body).await?;
            let status = answer.status();
            if status == StatusCode::NOT_FOUND && in_session {
                return Err(StreamableHttpError::SessionExpired);
            }
            if !status.is_success() {
                return self.refusal(answer, &kind).await;
            }
            let id = match &kind.id {
                Some(id) if status == StatusCode::OK => id,
                // There is nothing to say to a notification, or the answer comes elsewhere.
                _ => {
                    let _ = events::whole(answer.into_body(), REFUSAL).await;
                    return Ok(StreamableHttpPostResponse::Accepted);
                }
            };
            let session = answer.headers().get(SESSION).and_then(|id| id.to_str().ok());
            let session = session.map(str::to_owned);
            match media_type(&answer).as_deref() {
                Some(EVENTS) => {
                    let until = kind.is_short().then(|| begun + patience);
                    let asked = Some(id.clone());
                    let stream = events::stream(answer.into_body(), message_bytes, until, asked);
                    Ok(StreamableHttpPostResponse::Sse(stream, session))
                }
                Some(JSON) => {
                    let body = events::whole(answer.into_body(), message_bytes).await.map_err(
                        |error| self.failure(None, &format!("has not answered: {error}")),
                    )?;
                    let answer = answer_to(id, &body).ok_or_else(|| {
                        self.failure(None, "has answered with something that is no message of MCP")
                    })?;
                    Ok(StreamableHttpPostResponse::Json(answer, session))
                }
                _ => Err(self.failure(None, NEITHER).into()),
            }
        };
        if let (true, Some(id)) = (kind.discovers, &kind.id) {
            // A server that knows nothing of this may never answer it.
            let timed = timeout(connect / 3, async { discovered(id, exchange.await?).await }).await;
            return timed.unwrap_or_else(|_| Ok(unknown(id, "no answer in time")));
        }
        let late = || {
            let reason = format!("has not answered within {} seconds", patience.as_secs());
            Err(self.failure(None, &reason).into())
        };
        timeout(patience, exchange).await.unwrap_or_else(|_| late())
    }

    /// What an answer with a status of failure comes to.
    async fn refusal(
        &self,
        answer: Response<Lent>,
        kind: &Kind,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let status = answer.status();
        let json = media_type(&answer).as_deref() == Some(JSON);
        let body = events::whole(answer.into_body(), REFUSAL).await.unwrap_or_default();
        let reason = format!("answers with HTTP {}", status.as_u16());
        if let Some(id) = &kind.id {
            if json && let Some(error @ JsonRpcMessage::Error(_)) = answer_to(id, &body) {
                let error = if kind.discovers { message::without_newer(error) } else { error };
                return Ok(StreamableHttpPostResponse::Json(error, None));
            }
            if kind.discovers {
                return Ok(unknown(id, &reason));
            }
        }
        Err(self.failure(Some(status), &reason).into())
    }

    fn value(&self, text: &str) -> Result<HeaderValue, Failure> {
        let unfit =
            |_| self.failure(None, "has named its session with signs that no header can carry");
        HeaderValue::from_str(text).map_err(unfit)
    }

    /// Opens a stream: for news, or to go on with one that was cut.
    async fn listen(
        &self,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, EventError>>, Refused> {
        let shared = &self.shared;
        // One that goes on belongs to a request, whose time is measured elsewhere.
        let for_news = last_event.is_none();
        if for_news && shared.openings.fetch_add(1, Ordering::Relaxed) >= OPENINGS {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        let mut headers: HeaderMap = custom.into_iter().collect();
        headers.insert(header::ACCEPT, HeaderValue::from_static(EVENTS));
        for (name, text) in [(SESSION, session.as_deref()), (LAST_EVENT, last_event.as_deref())] {
            if let Some(text) = text {
                headers.insert(name, self.value(text)?);
            }
        }
        let answer = self.send(Method::GET, &shared.url, headers, Bytes::new()).await;
        let answer = answer.map_err(|failure| match failure.error {
            // `rmcp` tries nothing again after this one.
            Error::Authentication { message, .. } => {
                StreamableHttpError::AuthRequired(AuthRequiredError::new(message))
            }
            _ => failure.into(),
        })?;
        let status = answer.status();
        if status.is_server_error() {
            let reason = format!("answers with HTTP {}", status.as_u16());
            return Err(self.failure(Some(status), &reason).into());
        }
        if !status.is_success() || media_type(&answer).as_deref() != Some(EVENTS) {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        let limit = shared.settings.message_bytes;
        let stream = events::stream(answer.into_body(), limit, None, None);
        if !for_news {
            return Ok(stream);
        }
        let listening = shared.news.listen();
        let shared = Arc::clone(shared);
        let watched = stream.inspect(move |event| {
            let _ = &listening;
            if event.as_ref().is_ok_and(|event| event.data.is_some()) {
                shared.openings.store(0, Ordering::Relaxed);
            }
        });
        Ok(watched.boxed())
    }
}

/// What a message of ours is, as far as it matters to how it is sent.
struct Kind {
    /// None for a notification and for an answer of ours.
    id: Option<RequestId>,
    discovers: bool,
    initializes: bool,
}

impl Kind {
    fn of(message: &ClientJsonRpcMessage) -> Self {
        let request = match message {
            ClientJsonRpcMessage::Request(request) => Some(&request.request),
            _ => None,
        };
        Self {
            id: message::request_id(message).cloned(),
            discovers: matches!(request, Some(ClientRequest::DiscoverRequest(_))),
            initializes: matches!(request, Some(ClientRequest::InitializeRequest(_))),
        }
    }

    /// Whether it is no call, and so has the time of a handshake.
    fn is_short(&self) -> bool {
        self.id.is_none() || self.discovers || self.initializes
    }
}

/// The answer of a server that does not know `server/discover`: `rmcp` then shakes hands in the way
/// of the older revisions.
fn unknown(id: &RequestId, reason: &str) -> StreamableHttpPostResponse {
    let error = ErrorData::invalid_request(format!("server/discover: {reason}"), None);
    StreamableHttpPostResponse::Json(ServerJsonRpcMessage::error(error, Some(id.clone())), None)
}

/// The answer to `server/discover`. Servers that answer every request alike do not know it.
async fn discovered(
    id: &RequestId,
    answer: StreamableHttpPostResponse,
) -> Result<StreamableHttpPostResponse, Refused> {
    let message = match answer {
        StreamableHttpPostResponse::Json(message, _) => Some(message),
        StreamableHttpPostResponse::Sse(mut events, _) => loop {
            match events.next().await {
                Some(Ok(event)) => {
                    let data = event.data.unwrap_or_default();
                    if let Some(message) = answer_to(id, data.as_bytes()) {
                        break Some(message);
                    }
                }
                Some(Err(_)) | None => break None,
            }
        },
        _ => None,
    };
    Ok(match message {
        Some(JsonRpcMessage::Response(answer))
            if !matches!(answer.result, ServerResult::DiscoverResult(_)) =>
        {
            unknown(id, "an answer to something else")
        }
        Some(message) => StreamableHttpPostResponse::Json(message::without_newer(message), None),
        None => unknown(id, "no answer"),
    })
}

/// The answer to a request in a whole body; none when it is something else.
fn answer_to(id: &RequestId, body: &[u8]) -> Option<ServerJsonRpcMessage> {
    match message::read(body)? {
        // An error may come without the id, or with one that somebody in between has made up.
        JsonRpcMessage::Error(error) => {
            Some(ServerJsonRpcMessage::error(error.error, Some(id.clone())))
        }
        JsonRpcMessage::Response(answer) if answer.id.to_string() == id.to_string() => {
            Some(JsonRpcMessage::Response(answer))
        }
        _ => None,
    }
}

fn media_type(answer: &Response<Lent>) -> Option<String> {
    let text = answer.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn is_same(one: &Header, other: &Header) -> bool {
    one.name == other.name && one.value.expose_secret() == other.value.expose_secret()
}

/// Whether a header is the protocol's, or the connection's.
fn is_of_the_protocol(name: &HeaderName) -> bool {
    *name == SESSION
        || *name == LAST_EVENT
        || name.as_str() == "mcp-protocol-version"
        || [
            header::ACCEPT,
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::CONNECTION,
            header::HOST,
            header::TRANSFER_ENCODING,
        ]
        .contains(name)
}

/// Why nothing came, as an error of the connection.
fn unsent(error: SendError) -> Error {
    Error::Connection(match error {
        SendError::Url(_) => format!("its URL can't be used: {error}"),
        error => error.to_string(),
    })
}

fn without_fragment(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

impl StreamableHttpClient for Http {
    type Error = Failure;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _credential: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        self.post(message, session, headers).await
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session: Arc<str>,
        _credential: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Refused> {
        let mut headers: HeaderMap = headers.into_iter().collect();
        headers.insert(SESSION, self.value(&session)?);
        let answer = self.send(Method::DELETE, &self.shared.url, headers, Bytes::new()).await?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED => {
                Err(StreamableHttpError::ServerDoesNotSupportDeleteSession)
            }
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => {
                let reason = format!("answers with HTTP {}", status.as_u16());
                Err(self.failure(Some(status), &reason).into())
            }
        }
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _credential: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, EventError>>, Refused> {
        self.listen(session, last_event, headers).await
    }
}
