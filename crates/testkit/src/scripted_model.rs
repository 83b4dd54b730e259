//! The scripted model: a server that plays a model provider over the real Messages wire, as a script says.
//!
//! Holds the server's life and its routes. Never calls out, and never keeps anything on disk.

mod body;
mod captured;
mod checks;
mod connection;
mod conversations;
mod fixtures;
mod outline;
mod playback;
mod prompt_cache;
mod request;
pub(crate) mod script;
mod stage;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post, put};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use self::body::ReplyBody;
pub use self::captured::Captured;
use self::connection::{CuttableListener, Scissors};
use self::script::{Reply, Script};
use self::stage::{Answer, Arrival, Content, Stage};
use crate::Error;

// A bench opens thousands of connections at once; a connection that does not fit is retried after a whole second.
const BACKLOG: u32 = 4_096;

/// A running scripted model. It serves on a thread of its own, so that neither a paused clock nor a blocked runtime
/// of the test disturbs it.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    violations_allowed: AtomicBool,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Stage>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Shared")
    }
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        // What a panic left behind is still worth asserting on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptedModel {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If the script cannot be played or nothing can be listened on: a test cannot go on without its model.
    pub async fn start(script: impl Into<Script>) -> Self {
        match Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), script.into()).await {
            Ok(model) => model,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the script cannot be played or the address cannot be listened on.
    pub async fn listen(address: SocketAddr, script: Script) -> Result<Self, Error> {
        script.check()?;
        let shared = Shared(Arc::new(Mutex::new(Stage::new(script))));
        let (stop, stopped) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn(move || serve(address, served, started, stopped))
            .map_err(Error::Thread)?;
        let lost = |_| Err(std::io::Error::other("the thread ended"));
        let address =
            start.await.unwrap_or_else(lost).map_err(|source| Error::Listen { address, source })?;
        let violations_allowed = AtomicBool::new(false);
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread), violations_allowed })
    }

    /// What to use as a provider's base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests to the provider's routes, oldest first: the last 10,000, or fewer if they exceed 256 MiB.
    #[must_use]
    pub fn requests(&self) -> Vec<Captured> {
        self.shared.stage().requests()
    }

    /// What the real API would have refused, and what it would have charged for twice: at most the first 1,000.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.stage().violations().to_vec()
    }

    /// The violations, which are then forgotten; for a test that provokes some and wants no others.
    #[must_use]
    pub fn take_violations(&self) -> Vec<String> {
        self.shared.stage().take_violations()
    }

    /// Keeps [`Drop`] from panicking when there were violations.
    pub fn allow_violations(&self) {
        self.violations_allowed.store(true, Ordering::Relaxed);
    }

    /// Replaces the script and forgets requests, conversations and cached prefixes. Violations stay.
    ///
    /// # Panics
    /// If the script cannot be played.
    pub fn set_script(&self, script: impl Into<Script>) {
        let script = script.into();
        if let Err(error) = script.check() {
            panic!("{error}");
        }
        self.shared.stage().set_script(script);
    }

    /// Appends a reply to the script.
    ///
    /// # Panics
    /// If the reply cannot be played.
    pub fn push(&self, reply: Reply) {
        if let Err(error) = reply.check("reply") {
            panic!("{error}");
        }
        self.shared.stage().push([reply]);
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let violations = self.violations();
        if !violations.is_empty()
            && !self.violations_allowed.load(Ordering::Relaxed)
            && !std::thread::panicking()
        {
            panic!("the scripted model saw violations:\n  {}", violations.join("\n  "));
        }
    }
}

// The runtime ends with the thread, and every connection with it.
fn serve(
    address: SocketAddr,
    shared: Shared,
    started: oneshot::Sender<std::io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let listener = match listener(address) {
            Ok(listener) => listener,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(listener.local_addr());
        let service = router(shared).into_make_service_with_connect_info::<Scissors>();
        tokio::select! {
            _ = axum::serve(CuttableListener(listener), service) => {}
            _ = stopped => {}
        }
    });
}

fn listener(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/script", put(set_script))
        .route("/script/replies", post(append_replies))
        .route("/requests", get(requests).delete(forget_requests))
        .route("/violations", get(violations).delete(forget_violations))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Call {
    fn arrived(self, body: Bytes) -> Arrival {
        let path = self.uri.path_and_query().map_or_else(|| self.uri.path(), |path| path.as_str());
        Arrival {
            method: self.method.to_string(),
            path: path.to_owned(),
            headers: self.headers,
            body,
            at: SystemTime::now(),
        }
    }
}

async fn messages(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        stage.capture(Call { method, uri, headers }.arrived(body.clone()));
        stage.play(&body, Instant::now())
    };
    respond(answer, scissors).await
}

async fn count_tokens(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        let counted = stage::counted(&body);
        stage.capture(Call { method, uri, headers }.arrived(body));
        stage.plain(counted)
    };
    respond(answer, scissors).await
}

async fn models(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        stage.capture(Call { method, uri, headers }.arrived(Bytes::new()));
        stage.plain(wire::models())
    };
    respond(answer, scissors).await
}

async fn model(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        stage.capture(Call { method, uri, headers }.arrived(Bytes::new()));
        match wire::model_named(&id) {
            Some(model) => stage.plain(model),
            None => stage.refusal(404, &format!("model: {id}")),
        }
    };
    respond(answer, scissors).await
}

async fn unknown(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        let message = format!("the scripted model has no {method} {}", uri.path());
        stage.capture(Call { method, uri, headers }.arrived(body));
        stage.refusal(404, &message)
    };
    respond(answer, scissors).await
}

async fn set_script(State(shared): State<Shared>, body: Bytes) -> Response {
    match Script::from_json(&body) {
        Ok(script) => {
            shared.stage().set_script(script);
            steered(StatusCode::OK, &json!({}))
        }
        Err(error) => refused(&error),
    }
}

// One reply, or a list of them.
async fn append_replies(State(shared): State<Shared>, body: Bytes) -> Response {
    let replies: Result<Vec<Reply>, Error> = match body.trim_ascii_start().first() {
        Some(b'[') => script::from_json(&body),
        _ => script::from_json(&body).map(|reply| vec![reply]),
    };
    let checked = replies.and_then(|replies| {
        replies
            .iter()
            .enumerate()
            .try_for_each(|(index, reply)| reply.check(&format!("[{index}]")))?;
        Ok(replies)
    });
    match checked {
        Ok(replies) => {
            shared.stage().push(replies);
            steered(StatusCode::OK, &json!({}))
        }
        Err(error) => refused(&error),
    }
}

async fn requests(State(shared): State<Shared>) -> Response {
    steered(StatusCode::OK, &json!(shared.stage().requests()))
}

async fn forget_requests(State(shared): State<Shared>) -> Response {
    shared.stage().forget_requests();
    steered(StatusCode::OK, &json!({}))
}

async fn violations(State(shared): State<Shared>) -> Response {
    steered(StatusCode::OK, &json!(shared.stage().violations()))
}

async fn forget_violations(State(shared): State<Shared>) -> Response {
    let forgotten = shared.stage().take_violations();
    steered(StatusCode::OK, &json!(forgotten))
}

fn refused(error: &Error) -> Response {
    steered(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()}))
}

fn steered(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn respond(answer: Answer, scissors: Scissors) -> Response {
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let (body, content_type) = match answer.content {
        Content::Json(body) => (Body::from(body.to_string()), "application/json"),
        Content::Frames(frames, content_type) => {
            (Body::new(ReplyBody::new(frames, scissors)), content_type)
        }
        Content::Never => std::future::pending().await,
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(id) = HeaderValue::from_str(&answer.request_id) {
        headers.insert("request-id", id);
    }
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    response
}
