//! The connection to the Messages API: one client, one pool, one POST per call.
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
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    },
    redirect,
};
use sse_stream::SseByteStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{Decoder, failure, request};
use crate::{Body, Event, Failure, FailureKind, ModelStream, Provider, Request, Usage};

/// Where the API is.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// The version of the API that this wire speaks.
const VERSION: &str = "2023-06-01";

/// How long a provider may stay silent.
const DEFAULT_SILENCE: Duration = Duration::from_secs(120);

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);

/// How much of an error's body is read.
const LONGEST_ERROR: usize = 64 * 1024;

/// What opens the door. Its debug form says only which kind it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key, sent as `x-api-key`.
    ApiKey(String),
    /// A token, sent as `authorization: Bearer …`.
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
    /// The address up to and without `/v1/messages`.
    pub base_url: String,
    /// What opens the door.
    pub credential: Credential,
    /// How long the provider may stay silent before the call counts as failed.
    pub silence: Duration,
}

impl Settings {
    /// Anthropic itself, under the name `anthropic`, with 120 seconds of patience.
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        Self {
            name: "anthropic".to_owned(),
            base_url: DEFAULT_BASE_URL.to_owned(),
            credential,
            silence: DEFAULT_SILENCE,
        }
    }
}

/// A provider could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is no URL with `http` or `https`, or has a user in it, which would be sent
    /// beside the key.
    #[error("the base URL of provider {0:?} is not an http or https URL without a user")]
    BaseUrl(String),
    /// The key has characters that no header can carry.
    #[error("the key of provider {0:?} has characters that a header can't carry")]
    Credential(String),
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// A provider that speaks the Messages API.
pub struct Anthropic {
    name: String,
    client: Client,
    url: Url,
    headers: HeaderMap,
    credential: Arc<Credential>,
    silence: Duration,
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Anthropic").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Anthropic {
    /// Sets up a provider. Opens no connection.
    ///
    /// # Errors
    /// When the address is no URL, the key fits no header, or the system gives no TLS roots.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let Settings { name, base_url, credential, silence } = settings;
        let url = Url::parse(&format!("{}/v1/messages", base_url.trim_end_matches('/')))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .ok_or_else(|| SetupError::BaseUrl(name.clone()))?;
        let headers = headers(&credential).ok_or_else(|| SetupError::Credential(name.clone()))?;
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
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(SetupError::Client)?;
        Ok(Self { name, client, url, headers, credential: Arc::new(credential), silence })
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &str {
        &self.name
    }

    fn claims(&self, model: &str) -> bool {
        model.starts_with("claude-")
    }

    fn render(&self, request: &Request) -> Body {
        request::render(&self.name, request)
    }

    fn stream(&self, body: Body) -> ModelStream {
        let mut headers = self.headers.clone();
        if let Some(betas) =
            request::betas(&body.0).and_then(|betas| HeaderValue::try_from(betas).ok())
        {
            headers.insert("anthropic-beta", betas);
        }
        let send = self.client.post(self.url.clone()).headers(headers).body(body.0).send();
        let call = Call {
            phase: Phase::Sending(Box::pin(send)),
            silence: self.silence,
            credential: Arc::clone(&self.credential),
            events: VecDeque::new(),
        };
        Box::pin(stream::unfold(call, |mut call| async move {
            let event = call.next().await?;
            Some((event, call))
        }))
    }
}

/// The headers that all calls share.
fn headers(credential: &Credential) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    // A compressed stream would arrive in lumps.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
    let (name, value) = match credential {
        Credential::ApiKey(key) => (HeaderName::from_static("x-api-key"), key.clone()),
        Credential::Token(token) => (AUTHORIZATION, format!("Bearer {token}")),
    };
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    headers.insert(name, value);
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
    Reading(Box<(Reading, Decoder)>),
    Over,
}

/// One call under way. Dropping it drops the connection.
struct Call {
    phase: Phase,
    silence: Duration,
    credential: Arc<Credential>,
    events: VecDeque<Event>,
}

impl Call {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
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
                            redact(event, self.credential.secret());
                        }
                    }
                }
            }
        }
    }

    /// What an answer's status and headers lead to.
    async fn answered(&mut self, answer: Answer) -> Phase {
        let status = answer.status();
        // What Anthropic's support asks for; it is in the answer and identifies nothing else.
        let request_id = answer.headers().get("request-id").and_then(|id| id.to_str().ok());
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
            return Phase::Reading(Box::new((SseByteStream::new(bytes), Decoder::new())));
        }
        let retry_after = failure::retry_after(answer.headers(), SystemTime::now());
        // The status says enough if the rest of the answer doesn't come.
        let patience = self.silence.min(CONNECT);
        let body = timeout(patience, error_body(answer)).await.unwrap_or_default();
        let (kind, message) = failure::of_answer(status, &body);
        self.over(Failure { kind, message, retry_after, usage: Usage::default() })
    }

    /// Ends the call with a failure.
    fn over(&mut self, failure: Failure) -> Phase {
        let mut event = Event::Failed(failure);
        redact(&mut event, self.credential.secret());
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
fn redact(event: &mut Event, secret: &str) {
    if let Event::Failed(failure) = event
        && !secret.is_empty()
        && failure.message.contains(secret)
    {
        failure.message = failure.message.replace(secret, "[secret]");
    }
}

async fn error_body(mut answer: Answer) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ERROR {
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
