//! Answers and refusals: the one place that makes statuses, headers and bodies of them.
//!
//! Every success is 200 with JSON. Every response has a `request-id`, which is also in the body
//! of a refusal. What went wrong inside goes to the log under that id and to nobody else.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use posthouse_engine::vault::VaultError;
use posthouse_protocol::{ApiError, ErrorKind, id::IdKind};
use posthouse_store::answers::Unwritten;

use super::{call::now, written};
use crate::keys;

/// The organization that all responses name; there is one per server.
const ORGANIZATION: HeaderValue = HeaderValue::from_static("00000000-0000-4000-8000-000000000000");

/// How to come in, for those that have to be told.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"posthouse\"");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORGANIZATION_ID: HeaderName = HeaderName::from_static("anthropic-organization-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The id of a request, among its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// A success: 200 and a JSON text.
#[derive(Debug)]
pub struct Answer {
    json: Bytes,
    kept: Option<(Unwritten, String)>,
}

impl Answer {
    /// An answer whose arrival matters to nobody.
    pub fn new(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), kept: None }
    }

    /// The answer of a POST that is kept under `id` until it has been handed out whole.
    pub fn kept(json: impl Into<Bytes>, unwritten: Unwritten, id: String) -> Self {
        Self { json: json.into(), kept: Some((unwritten, id)) }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let body = match self.kept {
            None => Body::from(self.json),
            Some((unwritten, id)) => Body::new(written::Watched::new(self.json, unwritten, id)),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        response
    }
}

/// Why a request is not answered with a success.
#[derive(Debug)]
pub enum Refusal {
    /// For the caller as it stands.
    Api(ApiError),
    /// A fault of the server: the caller learns that there was one, the log learns which.
    Fault(Box<dyn std::error::Error + Send + Sync>),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<posthouse_store::Error> for Refusal {
    fn from(error: posthouse_store::Error) -> Self {
        match error {
            posthouse_store::Error::IdempotencyClash => Self::Api(ApiError::conflict(
                "Idempotency-Key: was used for another request in the last 24 hours; send a new \
                 one",
            )),
            posthouse_store::Error::Closed => Self::Api(ApiError::new(
                ErrorKind::Unavailable,
                "The server is stopping. Try again in a moment.",
            )),
            other => Self::Fault(Box::new(other)),
        }
    }
}

impl From<crate::Error> for Refusal {
    fn from(error: crate::Error) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Root(reason) => {
                // The reason names a key, and nothing of what it is.
                tracing::error!(%reason, "a vault can't be used");
                Self::Api(ApiError::new(
                    ErrorKind::Unavailable,
                    "The vault can't be used now, because its root key does not answer. The \
                     server's log says why.",
                ))
            }
            VaultError::Store(error) => error.into(),
            other => Self::Fault(Box::new(other)),
        }
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl IntoResponse for Refusal {
    /// [`finish`] makes the body, because it knows the request's id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The outermost layer: gives each request its id and each response its headers.
pub async fn finish(mut request: Request, next: Next) -> Response {
    let at = now();
    let id = keys::mint(IdKind::Request, at).unwrap_or_else(|_| IdKind::Request.mint(at, [0; 16]));
    request.extensions_mut().insert(RequestId(id.as_str().into()));
    let asked = (request.method().clone(), request.uri().path().to_owned());
    // A panic ends its own request and nothing else.
    let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered
        .unwrap_or_else(|_| Refusal::Fault("a handler has panicked".into()).into_response());
    if let Some(refusal) = response.extensions_mut().remove::<Arc<Refusal>>() {
        refuse(&mut response, &refusal, &id);
    }
    let headers = response.headers_mut();
    headers.insert(ORGANIZATION_ID, ORGANIZATION);
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let took = now().0 - at.0;
    tracing::debug!(
        request = %id, method = %asked.0, path = %asked.1, status = response.status().as_u16(),
        micros = took, "answered"
    );
    response
}

fn refuse(response: &mut Response, refusal: &Refusal, id: &str) {
    let hidden;
    let error = match refusal {
        Refusal::Api(error) => error,
        Refusal::Fault(fault) => {
            tracing::error!(request = id, %fault, cause = ?fault.source(), "a request has failed");
            hidden = ApiError::new(ErrorKind::Internal, "Internal server error");
            &hidden
        }
    };
    *response.status_mut() =
        StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.body_mut() = Body::from(error.body(id).to_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    let retry = if error.kind.should_retry() { "true" } else { "false" };
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(retry));
    if error.kind == ErrorKind::Authentication {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
}

/// A path that does not exist.
pub async fn no_route() -> Refusal {
    ApiError::not_found("Not found").into()
}

/// A path that exists, asked with another method.
pub async fn wrong_method() -> Refusal {
    ApiError::new(ErrorKind::Method, "Method Not Allowed").into()
}
