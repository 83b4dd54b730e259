//! The routes of the scripted model: those of providers, and those by which it is steered.
//!
//! Never decides what is answered; that is the stage's.

use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, post, put};
use bytes::Bytes;
use serde_json::{Value, json};

use super::Shared;
use super::body::ReplyBody;
use super::connection::Scissors;
use super::listings::{Listings, ollama_version};
use super::script::{self, Reply, Script};
use super::stage::{self, Answer, Arrival, Content};
use super::wire::{self, ANTHROPIC, CHAT, GEMINI, RESPONSES, Target, Wire};
use crate::Error;

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/responses", post(responses))
        .route("/v1/chat/completions", post(completions))
        .route("/v1beta/models/{call}", post(generate).get(gemini_model))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model).post(generate))
        .route("/v1beta/models", get(gemini_models))
        .route("/api/tags", get(tags))
        .route("/api/version", get(version))
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
    fn lists(&self) -> (&'static dyn Wire, &'static str) {
        if self.headers.contains_key("anthropic-version") {
            (ANTHROPIC, ANTHROPIC.name())
        } else if self.headers.contains_key("x-goog-api-key") {
            (GEMINI, GEMINI.name())
        } else {
            (CHAT, "openai")
        }
    }

    fn arrived(self, wire: Option<&'static str>, body: Bytes) -> Arrival {
        let path = self.uri.path_and_query().map_or_else(|| self.uri.path(), |path| path.as_str());
        Arrival {
            wire,
            method: self.method.to_string(),
            path: path.to_owned(),
            headers: self.headers,
            body,
            at: SystemTime::now(),
        }
    }
}

async fn messages(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { method, uri, headers };
    play(ANTHROPIC, state, scissors, call, Target::default(), body).await
}

async fn responses(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { method, uri, headers };
    play(RESPONSES, state, scissors, call, Target::default(), body).await
}

async fn completions(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { method, uri, headers };
    play(CHAT, state, scissors, call, Target::default(), body).await
}

// The last part of the path names the model and what is asked of it.
async fn generate(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    Path(asked): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { method, uri, headers };
    let query = call.uri.query().unwrap_or_default();
    let has_events = query.split('&').any(|pair| pair == "alt=sse");
    let (model, verb) = asked.rsplit_once(':').unwrap_or((&asked, ""));
    let target = |stream| Target { model: model.to_owned(), stream };
    match verb {
        "generateContent" => play(GEMINI, state, scissors, call, target(false), body).await,
        "streamGenerateContent" if has_events => {
            play(GEMINI, state, scissors, call, target(true), body).await
        }
        "countTokens" => {
            let counted = json!({"totalTokens": stage::tokens(&body)});
            show(GEMINI, GEMINI.name(), state, scissors, call, body, |_| Some(counted)).await
        }
        // Without it the API streams one JSON array, which nobody here reads.
        "streamGenerateContent" => refuse(state, scissors, call, body, "without alt=sse").await,
        _ => refuse(state, scissors, call, body, "").await,
    }
}

async fn play(
    wire: &'static dyn Wire,
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    call: Call,
    target: Target,
    body: Bytes,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        stage.capture(call.arrived(Some(wire.name()), body.clone()), Some(wire));
        stage.play(wire, &target, &body, Instant::now())
    };
    respond(answer, scissors).await
}

async fn count_tokens(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { method, uri, headers };
    let counted = json!({"input_tokens": stage::tokens(&body)});
    show(ANTHROPIC, ANTHROPIC.name(), state, scissors, call, body, |_| Some(counted)).await
}

// One address, and three providers: the headers say whose list is asked for.
async fn models(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let (wire, name) = call.lists();
    let list = |lists: &Listings| {
        Some(match name {
            "anthropic" => lists.anthropic(),
            "gemini" => lists.gemini(),
            _ => lists.openai(),
        })
    };
    show(wire, name, state, scissors, call, Bytes::new(), list).await
}

async fn model(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let (wire, name) = call.lists();
    let one = |lists: &Listings| match name {
        "anthropic" => lists.anthropic_named(&id),
        "gemini" => lists.gemini_named(&id),
        _ => lists.openai_named(&id),
    };
    show(wire, name, state, scissors, call, Bytes::new(), one).await
}

async fn gemini_models(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let list = |lists: &Listings| Some(lists.gemini());
    show(GEMINI, GEMINI.name(), state, scissors, call, Bytes::new(), list).await
}

async fn gemini_model(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    Path(name): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let one = |lists: &Listings| lists.gemini_named(&name);
    show(GEMINI, GEMINI.name(), state, scissors, call, Bytes::new(), one).await
}

async fn tags(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let list = |lists: &Listings| Some(lists.ollama());
    show(CHAT, "ollama", state, scissors, call, Bytes::new(), list).await
}

async fn version(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let call = Call { method, uri, headers };
    let said = |_: &Listings| Some(ollama_version());
    show(CHAT, "ollama", state, scissors, call, Bytes::new(), said).await
}

// What no script decides. `None` is a model that is not listed.
async fn show(
    wire: &'static dyn Wire,
    name: &'static str,
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    call: Call,
    body: Bytes,
    shown: impl FnOnce(&Listings) -> Option<Value>,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        let last = call.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        stage.capture(call.arrived(Some(name), body), Some(wire));
        let shown = shown(stage.listings());
        match shown {
            Some(body) => stage.plain(wire, body),
            None => stage.refusal(wire, 404, &format!("model: {last}")),
        }
    };
    respond(answer, scissors).await
}

async fn unknown(
    state: State<Shared>,
    scissors: ConnectInfo<Scissors>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    refuse(state, scissors, Call { method, uri, headers }, body, "").await
}

async fn refuse(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    call: Call,
    body: Bytes,
    why: &str,
) -> Response {
    let answer = {
        let mut stage = shared.stage();
        let wire = wire::nearest(call.uri.path());
        let message =
            format!("the scripted model has no {} {} {why}", call.method, call.uri.path());
        let is_provider = call.uri.path().starts_with("/v1");
        stage.capture(call.arrived(None, body), is_provider.then_some(wire));
        stage.refusal(wire, 404, message.trim_end())
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
    let (name, id) = &answer.request_id;
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(*name, id);
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
