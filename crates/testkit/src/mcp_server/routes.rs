//! The routes of the fake MCP server: its one endpoint, and those by which it is steered.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{any, get, patch, post},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Shared,
    stream::{self, Kept, Written, written},
    switches::{Hostility, STATELESS, Switches},
    talk::{Asked, Said, is_stateless},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/mcp", any(endpoint))
        .route("/control", get(show).delete(forget))
        .route("/control/switches", patch(switch))
        .route("/control/change", post(change))
        .route("/control/forget-sessions", post(forget_sessions))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

async fn endpoint(
    State(shared): State<Shared>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let call = Call { method, headers, message };
    let answer = call.answer(&shared);
    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    let Call { method, headers, message } = call;
    shared.stage().asked.push(Asked { method: method.to_string(), headers, message, status });
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

/// A request to the endpoint.
struct Call {
    method: Method,
    headers: BTreeMap<String, String>,
    message: Value,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn accepts(&self, kind: &str) -> bool {
        self.header("accept")
            .is_some_and(|accepted| accepted.contains(kind) || accepted.contains("*/*"))
    }

    /// What is answered; nothing for who never is.
    fn answer(&self, shared: &Shared) -> Option<Response> {
        let switches = shared.stage().switches.clone();
        if switches.does(Hostility::Silent) {
            return None;
        }
        if let Some(refused) = self.refusal(shared, &switches) {
            return Some(refused);
        }
        Some(match self.method {
            Method::POST => self.post(shared, &switches),
            Method::GET => self.get(shared, &switches),
            Method::DELETE => {
                let session = self.header(SESSION.as_str());
                shared.stage().sessions.retain(|known| Some(known.as_str()) != session);
                StatusCode::OK.into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        })
    }

    /// Why it is not let in, as the switches say; nothing when it is.
    fn refusal(&self, shared: &Shared, switches: &Switches) -> Option<Response> {
        if switches.does(Hostility::Redirect) {
            let to = [(header::LOCATION, switches.redirect.clone())];
            return Some((StatusCode::TEMPORARY_REDIRECT, to).into_response());
        }
        if let Some(status) = switches.status {
            return Some(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY).into_response(),
            );
        }
        if let Some(token) = &switches.token {
            let came = self.header("authorization");
            let mut stage = shared.stage();
            let used_up = stage.switches.token_uses == Some(0);
            if came != Some(&*format!("Bearer {token}")) || used_up {
                let error = came.map(|_| ("error", "invalid_token"));
                return Some(challenge(StatusCode::UNAUTHORIZED, switches, error, None));
            }
            stage.switches.token_uses = stage.switches.token_uses.map(|left| left - 1);
        }
        let stateless = is_stateless(&self.message);
        if let Some(revision) = self.header("mcp-protocol-version")
            && !switches.speaks(revision)
            && !stateless
        {
            return Some((StatusCode::BAD_REQUEST, format!("revision {revision}")).into_response());
        }
        let method = self.message["method"].as_str().unwrap_or_default();
        if stateless {
            if let Some(refused) = self.difference(method) {
                return Some(refused);
            }
        } else if switches.sessions && method != "initialize" {
            let stage = shared.stage();
            match self.header(SESSION.as_str()) {
                None => return Some((StatusCode::BAD_REQUEST, "no session").into_response()),
                Some(session) if !stage.sessions.iter().any(|known| known == session) => {
                    return Some((StatusCode::NOT_FOUND, "no such session").into_response());
                }
                Some(_) => {}
            }
        }
        if let Some(scope) = &switches.lacks_scope
            && method == "tools/call"
        {
            let error = Some(("error", "insufficient_scope"));
            return Some(challenge(StatusCode::FORBIDDEN, switches, error, Some(scope)));
        }
        None
    }

    /// That the headers say something else than the body; 2026-07-28.
    fn difference(&self, method: &str) -> Option<Response> {
        let name = self.message["params"]["name"].as_str();
        let name_came = self.header("mcp-name");
        let encoded = name_came.is_some_and(|came| came.starts_with("=?"));
        let right = self.header("mcp-method") == Some(method)
            && (method != "tools/call" || encoded || name_came == name)
            && self.header("mcp-protocol-version").is_some_and(|revision| revision >= STATELESS);
        if right {
            return None;
        }
        let error = json!({"jsonrpc": "2.0", "id": self.message["id"],
            "error": {"code": -32020, "message": "Headers and body differ"}});
        Some((StatusCode::BAD_REQUEST, Json(error)).into_response())
    }

    fn post(&self, shared: &Shared, switches: &Switches) -> Response {
        if !self.accepts(JSON) || !self.accepts(EVENTS) {
            return StatusCode::NOT_ACCEPTABLE.into_response();
        }
        if !self.header("content-type").is_some_and(|kind| kind.starts_with(JSON)) {
            return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
        }
        if !self.message.is_object() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let id = self.message["id"].clone();
        let method = self.message["method"].as_str().unwrap_or_default();
        let (said, has_changed) = {
            let mut stage = shared.stage();
            let before = stage.edition;
            let said = stage.hear(&self.message, &json!(self.headers));
            (said, stage.edition != before)
        };
        if has_changed {
            shared.tell_change();
        }
        let drips = switches.does(Hostility::Drip);
        let beats = match said {
            Said::Accepted => return StatusCode::ACCEPTED.into_response(),
            Said::Dies(_) => return body(JSON, written(false, stream::broken)),
            Said::Listens(of) => {
                let news = shared.news();
                return body(EVENTS, written(drips, |pen| stream::changes(pen, news, Some(of))));
            }
            Said::Beats(beats) => beats,
        };
        for (what, kind) in [(Hostility::EndlessResult, JSON), (Hostility::EndlessEvents, EVENTS)] {
            if switches.does(what) && method == "tools/call" {
                return body(kind, written(drips, |pen| stream::endless(pen, what, id)));
            }
        }
        if switches.does(Hostility::NotJson) {
            let text = "<!doctype html><p>{not json".to_owned();
            return body(JSON, written(drips, |pen| stream::json(pen, text)));
        }
        let failed = beats.last().is_some_and(|beat| beat.message["error"]["code"] == -32022);
        let mut answer = if switches.sse || beats.len() > 1 {
            let kept = switches.cut.filter(|_| method == "tools/call").map(|cut| {
                let mut stage = shared.stage();
                stage.streams.push(Vec::new());
                let (stream, hard) = (stage.streams.len() - 1, switches.cut_hard);
                Kept { stream, cut, hard, retry: switches.retry_ms }
            });
            let shared = shared.clone();
            body(EVENTS, written(drips, |pen| stream::events(pen, shared, id, beats, kept)))
        } else {
            let text = beats.last().map(|beat| beat.message.to_string()).unwrap_or_default();
            body(JSON, written(drips, |pen| stream::json(pen, text)))
        };
        if failed {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
        } else if method == "initialize" && switches.sessions {
            let mut stage = shared.stage();
            let session = format!("session-{}", stage.sessions.len() + stage.asked.len() + 1);
            if let Ok(value) = session.parse() {
                answer.headers_mut().insert(SESSION, value);
            }
            stage.sessions.push(session);
        }
        answer
    }

    fn get(&self, shared: &Shared, switches: &Switches) -> Response {
        if *switches.oldest >= *STATELESS {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        if !self.accepts(EVENTS) {
            return StatusCode::NOT_ACCEPTABLE.into_response();
        }
        let drips = switches.does(Hostility::Drip);
        let Some(last) = self.header("last-event-id") else {
            let news = shared.news();
            return body(EVENTS, written(drips, |pen| stream::changes(pen, news, None)));
        };
        let place = last.split_once('-').and_then(|(stream, after)| {
            Some((stream.parse::<usize>().ok()?, after.parse::<usize>().ok()?))
        });
        match place {
            Some((stream, after)) if stream < shared.stage().streams.len() => {
                let shared = shared.clone();
                body(EVENTS, written(drips, |pen| stream::rest(pen, shared, stream, after)))
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn body(kind: &'static str, written: Written) -> Response {
    ([(header::CONTENT_TYPE, kind)], Body::new(written)).into_response()
}

fn challenge(
    status: StatusCode,
    switches: &Switches,
    error: Option<(&str, &str)>,
    scope: Option<&String>,
) -> Response {
    let metadata = switches.resource_metadata.as_deref().map(|url| ("resource_metadata", url));
    let scope = scope.map(|scope| ("scope", scope.as_str()));
    let parts: Vec<_> = [error, scope, metadata]
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let challenge = format!("Bearer {}", parts.join(", "));
    (status, [(header::WWW_AUTHENTICATE, challenge.trim().to_owned())]).into_response()
}

async fn show(State(shared): State<Shared>) -> Json<Value> {
    let stage = shared.stage();
    Json(json!({"switches": stage.switches, "asked": stage.asked, "abandoned": stage.abandoned,
        "counts": stage.counts, "sessions": stage.sessions}))
}

async fn forget(State(shared): State<Shared>) {
    shared.forget();
}

/// Takes the members that change.
async fn switch(State(shared): State<Shared>, Json(changes): Json<Value>) -> Response {
    let mut stage = shared.stage();
    let mut whole = json!(stage.switches);
    for (name, value) in changes.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    match serde_json::from_value(whole) {
        Ok(switches) => {
            stage.switches = switches;
            StatusCode::OK.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn change(State(shared): State<Shared>) {
    shared.change_tools();
}

async fn forget_sessions(State(shared): State<Shared>) {
    shared.stage().sessions.clear();
}
