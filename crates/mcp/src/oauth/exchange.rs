//! The requests of signing in, through the guard; and what the last of them has given.
//!
//! Sees every request that is sent for a token, and so knows without guessing how the same client gets
//! the next one. Follows a redirect only within its origin.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use posthouse_net::{
    Guard,
    http::{Limits, SendError, USER_AGENT, send},
};
use rmcp::transport::{
    OAuthHttpClient, OAuthHttpRedirectPolicy, OAuthHttpRequest,
    auth::{AuthError, OAuthHttpClientFuture},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{ClientAuth, Grant, Renewal, SignInError, printable};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;
/// How many redirects of a description are followed.
const MOST_REDIRECTS: usize = 5;
/// How many requests one sign-in may take. A server may name as many others as it likes.
const MOST_REQUESTS: usize = 100;
/// The revision that a first request claims to speak; servers that want a token say so to any.
const REVISION: &str = "2026-07-28";

/// The way of all requests of one sign-in.
pub(super) struct Exchange {
    guard: Guard,
    time: Duration,
    sent: AtomicUsize,
    /// What the last request for a token has come to.
    outcome: Mutex<Option<Result<Grant, SignInError>>>,
}

impl Exchange {
    pub(super) fn new(guard: Guard, time: Duration) -> Self {
        Self { guard, time, sent: AtomicUsize::new(0), outcome: Mutex::default() }
    }

    /// What was given in the end.
    pub(super) fn grant(&self) -> Result<Grant, SignInError> {
        let nothing = || Err(SignInError::Failed("no token was given".to_owned()));
        self.take().unwrap_or_else(nothing)
    }

    /// Why there is no token. What the token endpoint has said is told in our words: another's quote
    /// what could not be read, which may be a token.
    pub(super) fn why(&self, error: AuthError) -> SignInError {
        match self.take() {
            Some(Err(refused)) => refused,
            Some(Ok(_)) => unreadable(),
            None => error.into(),
        }
    }

    fn take(&self) -> Option<Result<Grant, SignInError>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Bytes>, SendError> {
        if self.sent.fetch_add(1, Ordering::Relaxed) >= MOST_REQUESTS {
            return Err(SendError::Url("leads to too many others"));
        }
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        let limits = Limits { time: self.time, body_bytes: LONGEST_ANSWER };
        send(&self.guard, Request::from_parts(parts, Bytes::from(body)), limits).await
    }

    async fn execute(&self, asked: OAuthHttpRequest) -> Result<Response<Bytes>, SendError> {
        let OAuthHttpRequest { mut request, redirect_policy, .. } = asked;
        for _ in 0..MOST_REDIRECTS {
            let sent = request.clone();
            let answer = match self.send(request).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.keep(&sent, Err(&error));
                    return Err(error);
                }
            };
            let follows = redirect_policy == OAuthHttpRedirectPolicy::Follow
                && sent.method() == Method::GET
                && answer.status().is_redirection();
            let Some(next) = follows.then(|| next(&sent, &answer)).flatten() else {
                self.keep(&sent, Ok(&answer));
                return Ok(answer);
            };
            request = sent;
            *request.uri_mut() = next;
        }
        Err(SendError::Url("redirects without end"))
    }

    /// Keeps what has come of a request for a token.
    fn keep(&self, sent: &Request<Vec<u8>>, answer: Result<&Response<Bytes>, &SendError>) {
        if sent.method() != Method::POST {
            return;
        }
        let form: Vec<(String, String)> =
            url::form_urlencoded::parse(sent.body()).into_owned().collect();
        if form.iter().any(|(key, _)| key == "grant_type") {
            let failed = |error: &SendError| SignInError::Failed(error.to_string());
            let outcome = answer.map_err(failed).and_then(|answer| read(sent, &form, answer));
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }
    }
}

/// What a token endpoint says to a request.
fn read(
    sent: &Request<Vec<u8>>,
    form: &[(String, String)],
    answer: &Response<Bytes>,
) -> Result<Grant, SignInError> {
    let value =
        |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if !answer.status().is_success() {
        return Err(refused(form, answer));
    }
    let token = serde_json::from_slice::<Token>(answer.body()).map_err(|_| unreadable())?;
    if !token.token_type.eq_ignore_ascii_case("bearer") {
        let what = "the authorization server gives a token that is no bearer token";
        return Err(SignInError::Failed(what.to_owned()));
    }
    let (client_id, client_auth) = match basic(sent) {
        Some((id, secret)) => (id, ClientAuth::Basic(secret)),
        None => {
            let secret = value("client_secret").map(SecretString::from);
            let client_auth = secret.map_or(ClientAuth::None, ClientAuth::Post);
            (value("client_id").unwrap_or_default(), client_auth)
        }
    };
    // A client without a user asks again instead (RFC 6749, 4.4.3).
    let for_a_user = value("grant_type").as_deref() == Some("authorization_code");
    let renewal = token.refresh_token.filter(|_| for_a_user).map(|refresh_token| Renewal {
        refresh_token: refresh_token.into(),
        token_endpoint: sent.uri().to_string(),
        client_id,
        client_auth,
        resource: value("resource"),
    });
    Ok(Grant {
        access_token: token.access_token.into(),
        expires_in: match &token.expires_in {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        },
        scope: token.scope,
        renewal,
    })
}

/// The refusal of a token endpoint (RFC 6749, 5.2), without what it may quote of the request.
fn refused(form: &[(String, String)], answer: &Response<Bytes>) -> SignInError {
    let body = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
    let secrets = ["code", "code_verifier", "client_secret", "client_assertion"];
    let word = |name: &str| {
        let text = printable(body[name].as_str()?);
        let quotes = form.iter().any(|(key, value)| {
            secrets.contains(&key.as_str()) && !value.is_empty() && text.contains(value.as_str())
        });
        (!text.is_empty() && !quotes).then_some(text)
    };
    match word("error") {
        Some(error) => SignInError::Denied { error, description: word("error_description") },
        None => {
            let status = answer.status().as_u16();
            SignInError::Failed(format!("the token endpoint has answered {status}, and not why"))
        }
    }
}

fn unreadable() -> SignInError {
    SignInError::Failed("the token endpoint has answered, but not with a token".to_owned())
}

impl OAuthHttpClient for Exchange {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let (parts, body) = Exchange::execute(self, request).await?.into_parts();
            Ok(Response::from_parts(parts, body.to_vec()))
        })
    }
}

/// What a token endpoint gives (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Token {
    access_token: String,
    token_type: String,
    /// Seconds; some say it in a text.
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    scope: Option<String>,
}

/// Where a redirect leads, when that is the same origin.
fn next(sent: &Request<Vec<u8>>, answer: &Response<Bytes>) -> Option<http::Uri> {
    let from = Url::parse(&sent.uri().to_string()).ok()?;
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let to = from.join(location).ok()?;
    (to.origin() == from.origin()).then(|| to.as_str().parse().ok()).flatten()
}

/// Who has asked by `Authorization: Basic`. Both halves are form-encoded (RFC 6749, 2.3.1).
fn basic(sent: &Request<Vec<u8>>) -> Option<(String, SecretString)> {
    let value = sent.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let pair = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |text: &str| {
        let form = format!("v={text}");
        url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, decode(secret)?.into()))
}

/// The `WWW-Authenticate` of a server that wants a token; none of one that lets everybody in, or that
/// says so only when a tool is called.
///
/// # Errors
/// When the server is not reached.
pub(super) async fn challenge(
    exchange: &Exchange,
    server: &Url,
) -> Result<Option<String>, SignInError> {
    let body = json!({
        "jsonrpc": "2.0", "id": 0, "method": "server/discover",
        "params": { "_meta": {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {
                "name": super::CLIENT_NAME, "version": env!("CARGO_PKG_VERSION"),
            },
            "io.modelcontextprotocol/clientCapabilities": {},
        } },
    });
    let request = Request::post(server.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", "server/discover")
        .body(body.to_string().into_bytes())
        .map_err(|error| SignInError::Failed(error.to_string()))?;
    let answer = match exchange.send(request).await {
        Ok(answer) => answer,
        // A stream that goes on is an answer, too: nobody was turned away.
        Err(SendError::TooLarge { .. }) => return Ok(None),
        Err(error) => return Err(SignInError::Failed(error.to_string())),
    };
    if answer.status() != StatusCode::UNAUTHORIZED {
        return Ok(None);
    }
    let value =
        answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    Ok(value.map(printable_header))
}

/// A header as it came, but for what no header should hold.
fn printable_header(value: &str) -> String {
    match value.len() {
        0..=4096 => value.to_owned(),
        _ => printable(value),
    }
}
