//! A provider behind HTTP: one client, one pool, one POST per call, whatever the wire.
//!
//! It never retries, never follows a redirect, and never lets a key, an address or a header into
//! a message or a debug dump.
//!
//! Server-sent events are cut by `sse-stream`: it takes bytes split anywhere, all three line
//! ends, several `data` lines and comments, and copies each event's data once. It sets no limit
//! on an event's size; a provider is trusted that far.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{
    Client, Response as Answer, StatusCode, Url,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};
use sse_stream::SseByteStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::{
    Block, BlockKind, Body, Event, Failure, FailureKind, Listing, ModelStream, Provider, Request,
    Response, Stop, Usage, View, WireKind, failure,
    providers::family,
    wire::{Decode, Target, Wire},
};

mod listing;
#[cfg(test)]
mod tests;

/// How long a provider may stay silent.
const DEFAULT_SILENCE: Duration = Duration::from_secs(120);

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);

/// How much of an error's body is read.
const LONGEST_ERROR: usize = 64 * 1024;

/// What opens the door. Its debug form says only which kind it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key, sent in the header that the wire has for it.
    ApiKey(String),
    /// A token, always sent as `authorization: Bearer …`.
    Token(String),
}

impl Credential {
    /// Chooses between the values of `ANTHROPIC_API_KEY` and `ANTHROPIC_AUTH_TOKEN`: the key
    /// wins, as in the official SDK. An empty value counts as none.
    #[must_use]
    pub fn choose(api_key: Option<String>, auth_token: Option<String>) -> Option<Self> {
        let present = |value: Option<String>| {
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        present(api_key).map(Self::ApiKey).or_else(|| present(auth_token).map(Self::Token))
    }

    fn secret(&self) -> &str {
        match self {
            Self::ApiKey(secret) | Self::Token(secret) => secret,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ApiKey(_) => "ApiKey([secret])",
            Self::Token(_) => "Token([secret])",
        })
    }
}

/// How a provider is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name under which the log keeps its blocks.
    pub name: String,
    /// What it speaks.
    pub wire: WireKind,
    /// The address up to what the wire adds, as the wire's own SDK takes it.
    pub base_url: String,
    /// The kind of server that answers there, one of [`WireKind::servers`]; `None` leaves it to
    /// the address.
    pub server: Option<String>,
    /// What opens the door; a provider on this machine often has none.
    pub credential: Option<Credential>,
    /// Headers that go with every call beside the credential.
    pub headers: HeaderMap,
    /// How long the provider may stay silent before the call counts as failed.
    pub silence: Duration,
}

impl Settings {
    /// The wire's inventor, with 120 seconds of patience.
    #[must_use]
    pub fn new(name: &str, wire: WireKind, credential: Option<Credential>) -> Self {
        Self {
            name: name.to_owned(),
            wire,
            base_url: wire.default_base_url().to_owned(),
            server: None,
            credential,
            headers: HeaderMap::new(),
            silence: DEFAULT_SILENCE,
        }
    }
}

/// A provider could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is no URL with `http` or `https`, has a user in it, which would be sent beside
    /// the key, or ends in what no path can be added to.
    #[error(
        "the base URL of provider {0:?} is not an http or https URL without a user, a query and a \
         fragment"
    )]
    BaseUrl(String),
    /// The wire knows no such kind of server.
    #[error("provider {provider:?} has the server {server:?}; its kind knows {known}")]
    Server {
        /// The provider's name.
        provider: String,
        /// What was asked for.
        server: String,
        /// What can be asked for.
        known: String,
    },
    /// The key has characters that no header can carry.
    #[error("the key of provider {0:?} has characters that a header can't carry")]
    Credential(String),
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// A provider behind HTTP.
pub struct Remote {
    name: String,
    kind: WireKind,
    wire: &'static dyn Wire,
    client: Client,
    base_url: String,
    headers: HeaderMap,
    credential: Option<Arc<Credential>>,
    silence: Duration,
    local: bool,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Remote")
            .field("name", &self.name)
            .field("wire", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Sets up a provider. Opens no connection.
    ///
    /// # Errors
    /// When the address is no URL, the wire knows no such server, the key fits no header, or the
    /// system gives no TLS roots.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let Settings { name, wire: kind, base_url, server, credential, headers: more, silence } =
            settings;
        let base_url = base_url.trim_end_matches('/').to_owned();
        let url = Url::parse(&base_url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .filter(|url| url.query().is_none() && url.fragment().is_none())
            .ok_or_else(|| SetupError::BaseUrl(name.clone()))?;
        let wire = kind
            .wire_at(&url, server.as_deref())
            .ok_or_else(|| unknown_server(&name, kind, server.unwrap_or_default()))?;
        let mut headers = headers(wire, credential.as_ref())
            .ok_or_else(|| SetupError::Credential(name.clone()))?;
        headers.extend(more);
        let local = is_loopback(&url);
        let mut client = Client::builder()
            .user_agent(concat!("posthouse/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            // Turns of one session are often minutes apart; a handshake costs more than a socket.
            .pool_idle_timeout(Duration::from_secs(300))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(20));
        if local {
            client = client.no_proxy();
        }
        let client = client.build().map_err(SetupError::Client)?;
        let credential = credential.map(Arc::new);
        Ok(Self { name, kind, wire, client, base_url, headers, credential, silence, local })
    }

    /// What a server's own routes beside the dialect are asked with.
    pub(crate) fn for_own_routes(&self) -> (Client, HeaderMap) {
        let mut headers = self.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        (self.client.clone(), headers)
    }

    /// Where a target is, and the headers for it.
    fn place(&self, target: Target) -> (String, HeaderMap) {
        let mut headers = self.headers.clone();
        headers.extend(target.headers);
        // Some base URLs name the version that the wire would add.
        let first = target.path.split('/').nth(1);
        let is_version = |first: &&str| {
            let number = first.strip_prefix('v').unwrap_or_default();
            number.starts_with(|first: char| first.is_ascii_digit())
        };
        let path = match first.filter(is_version).map(|version| format!("/{version}")) {
            Some(version) if self.base_url.ends_with(&version) => &target.path[version.len()..],
            _ => &target.path,
        };
        (format!("{}{path}", self.base_url), headers)
    }
}

impl Provider for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn claims(&self, model: &str) -> bool {
        family(model).is_some_and(|(_, wire)| wire == self.kind)
    }

    fn wire(&self) -> WireKind {
        self.kind
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn render(&self, request: &Request) -> Body {
        self.wire.render(&self.name, request)
    }

    fn stream(&self, body: Body) -> ModelStream {
        let (url, headers) = self.place(self.wire.target(&body));
        let send = self.client.post(url).headers(headers).body(body.bytes).send();
        let call = Call {
            phase: Phase::Sending(Box::pin(send)),
            wire: self.wire,
            silence: self.silence,
            credential: self.credential.clone(),
            renamed: body.renamed,
            events: VecDeque::new(),
        };
        Box::pin(stream::unfold(call, |mut call| async move {
            let event = call.next().await?;
            Some((event, call))
        }))
    }

    fn list(&self) -> Listing<'_> {
        Box::pin(self.list_models())
    }
}

fn unknown_server(provider: &str, kind: WireKind, server: String) -> SetupError {
    let known: Vec<&str> = kind.servers().collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    SetupError::Server { provider: provider.to_owned(), server, known }
}

/// The headers that all calls share.
fn headers(wire: &dyn Wire, credential: Option<&Credential>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    // A compressed stream would arrive in lumps.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(credential) = credential {
        let (name, value) = wire.credential(credential);
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// A proxy from the environment is for the world outside, never for this machine.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

type Sending = Pin<Box<dyn Future<Output = Result<Answer, reqwest::Error>> + Send>>;
type Reading = SseByteStream<Watched>;

enum Phase {
    Sending(Sending),
    Reading(Box<(Reading, Box<dyn Decode>)>),
    Over,
}

/// One call under way. Dropping it drops the connection.
struct Call {
    phase: Phase,
    wire: &'static dyn Wire,
    silence: Duration,
    credential: Option<Arc<Credential>>,
    renamed: Vec<(String, String)>,
    events: VecDeque<Event>,
}

impl Call {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(mut event) = self.events.pop_front() {
                if !self.renamed.is_empty() {
                    rename(&mut event, &self.renamed);
                }
                return Some(event);
            }
            match &mut self.phase {
                Phase::Over => return None,
                Phase::Sending(send) => {
                    let answer = timeout(self.silence, send).await;
                    self.phase = match answer {
                        Ok(Ok(answer)) => self.answered(answer).await,
                        Ok(Err(error)) => self.over(not_sent(&error)),
                        Err(_) => self.over(transient(self.silent())),
                    };
                }
                Phase::Reading(reading) => {
                    let (sse, decoder) = &mut **reading;
                    match sse.next().await {
                        Some(Ok(event)) => {
                            if let Some(data) = event.data {
                                decoder.decode(&data, &mut self.events);
                            }
                        }
                        Some(Err(error)) => {
                            let message = self.broken(&error);
                            if let Phase::Reading(reading) = &mut self.phase {
                                self.events
                                    .push_back(reading.1.fail(FailureKind::Transient, message));
                            }
                        }
                        None => self.events.extend(decoder.end()),
                    }
                    if matches!(&self.phase, Phase::Reading(reading) if reading.1.is_finished()) {
                        self.phase = Phase::Over;
                        for event in &mut self.events {
                            redact(event, self.credential.as_deref());
                        }
                    }
                }
            }
        }
    }

    /// What an answer's status and headers lead to.
    async fn answered(&mut self, answer: Answer) -> Phase {
        let status = answer.status();
        // What a provider's support asks for; it is in the answer and identifies nothing else.
        let id = answer.headers().get("request-id").or(answer.headers().get("x-request-id"));
        let request_id = id.and_then(|id| id.to_str().ok());
        tracing::debug!(status = status.as_u16(), request_id, "the provider answered");
        if status == StatusCode::OK {
            let streams = answer.headers().get(CONTENT_TYPE).is_none_or(|kind| {
                kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream")
            });
            if !streams {
                return self.over(Failure {
                    kind: FailureKind::Hopeless,
                    message: "the provider did not answer with an event stream".to_owned(),
                    retry_after: None,
                    usage: Usage::default(),
                });
            }
            let bytes = Watched::new(answer, self.silence);
            return Phase::Reading(Box::new((SseByteStream::new(bytes), self.wire.decoder())));
        }
        let retry_after = failure::retry_after(answer.headers(), SystemTime::now());
        // The status says enough if the rest of the answer doesn't come.
        let patience = self.silence.min(CONNECT);
        let body = timeout(patience, read(answer, LONGEST_ERROR)).await.unwrap_or_default();
        let retry_after = retry_after.or_else(|| self.wire.retry_after(&body));
        let (kind, message) = self.wire.refusal(status, &body);
        self.over(Failure { kind, message, retry_after, usage: Usage::default() })
    }

    /// Ends the call with a failure.
    fn over(&mut self, failure: Failure) -> Phase {
        let mut event = Event::Failed(failure);
        redact(&mut event, self.credential.as_deref());
        self.events.push_back(event);
        Phase::Over
    }

    fn silent(&self) -> String {
        format!("the provider sent nothing for {} s", self.silence.as_secs_f32())
    }

    fn broken(&self, error: &sse_stream::Error) -> String {
        match error {
            sse_stream::Error::Body(source)
                if matches!(source.downcast_ref(), Some(Stopped::Silent)) =>
            {
                self.silent()
            }
            sse_stream::Error::Body(_) => "the stream was cut before the response ended".to_owned(),
            _ => "the provider sent a stream that can't be read".to_owned(),
        }
    }
}

/// A failure of the connection itself. The error's own words name the address, so they stay out.
fn not_sent(error: &reqwest::Error) -> Failure {
    transient(
        if error.is_timeout() && error.is_connect() {
            "connecting to the provider took too long"
        } else if error.is_connect() {
            "no connection to the provider"
        } else {
            "the connection to the provider broke before it answered"
        }
        .to_owned(),
    )
}

fn transient(message: String) -> Failure {
    Failure { kind: FailureKind::Transient, message, retry_after: None, usage: Usage::default() }
}

/// A provider behind this address may quote the key it was given.
fn redact(event: &mut Event, credential: Option<&Credential>) {
    match event {
        Event::Failed(failure) => redact_text(&mut failure.message, credential),
        Event::Ended(response) => {
            let told = match &mut response.stop {
                Stop::Refusal { category, explanation } => {
                    [category.as_mut(), explanation.as_mut()]
                }
                _ => [None, None],
            };
            for text in told.into_iter().flatten().chain(&mut response.served) {
                redact_text(text, credential);
            }
        }
        Event::Started { .. } | Event::Text { .. } | Event::Usage(_) => {}
    }
}

fn redact_text(text: &mut String, credential: Option<&Credential>) {
    let secret = credential.map_or("", Credential::secret);
    if !secret.is_empty() && text.contains(secret) {
        *text = text.replace(secret, "[secret]");
    }
}

/// Gives called tools their own names back.
fn rename(event: &mut Event, renamed: &[(String, String)]) {
    let own = |name: &mut String| {
        if let Some((_, own)) = renamed.iter().find(|(sent, _)| sent == name) {
            name.clone_from(own);
        }
    };
    match event {
        Event::Started { kind: BlockKind::ToolUse { name }, .. } => own(name),
        Event::Ended(Response { blocks, .. }) => {
            for block in blocks {
                if let Block { view: View::ToolUse { name, .. }, .. } = block {
                    own(name);
                }
            }
        }
        _ => {}
    }
}

/// The beginning of a body, as far as it comes.
async fn read(mut answer: Answer, longest: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > longest {
            break;
        }
    }
    body
}

/// Why an answer's bytes stopped. Carries no source: that would name the address.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// Nothing came for as long as the provider may stay silent.
    #[error("silence")]
    Silent,
    /// The connection broke.
    #[error("cut")]
    Cut,
}

/// An answer's bytes, which must keep coming.
struct Watched {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>,
    silence: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Watched {
    fn new(answer: Answer, silence: Duration) -> Self {
        let last = Instant::now();
        Self {
            bytes: Box::pin(answer.bytes_stream()),
            silence,
            last,
            alarm: Box::pin(sleep_until(last + silence)),
        }
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, Stopped>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.bytes.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.last = Instant::now();
                return Poll::Ready(Some(Ok(bytes)));
            }
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Stopped::Cut))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        // The alarm is moved only when it rings, not for every chunk: timers cost more than a
        // look at the clock.
        while self.alarm.as_mut().poll(context).is_ready() {
            let deadline = self.last + self.silence;
            if deadline <= Instant::now() {
                return Poll::Ready(Some(Err(Stopped::Silent)));
            }
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
