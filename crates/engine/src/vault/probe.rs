//! Whether an OAuth credential opens its MCP server, asked of the server itself.
//!
//! The first two requests of every client of Streamable HTTP, and one refresh where the server
//! refuses. Nothing that the server sends is more than data, and nothing of it is kept.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use posthouse_net::http::{Limits, send};
use posthouse_protocol::{
    Timestamp,
    credential::{Auth, Credential, InjectionLocation, UseKind},
};
use posthouse_store::{
    Error,
    tables::{credentials, vaults},
};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Binding, Secrets, VaultError, Vaults,
    captured::Captured,
    held::{Held, damaged},
    mcp::{bearer_of, destination},
    refresh::{Insist, RefreshError, sensitive, wants_a_login},
};
use crate::ledger::{self, Behalf};

/// What one request may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(20), body_bytes: 4 << 20 };
/// The version of the protocol that is offered. What the server answers is taken.
const PROTOCOL: &str = "2025-11-25";
const VERSION: &str = "mcp-protocol-version";
const SESSION: &str = "mcp-session-id";
/// What JSON-RPC says of a method that a server does not have.
const NO_METHOD: i64 = -32601;

/// Why a credential is not validated.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// There is no such credential.
    #[error("there is no such credential")]
    NotFound,
    /// It is not `mcp_oauth`.
    #[error("the credential is not of the kind mcp_oauth")]
    Kind,
    /// It is archived.
    #[error("the credential is archived")]
    Archived,
    /// The vault, or the ledger.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<Error> for ValidateError {
    fn from(error: Error) -> Self {
        Self::Vault(error.into())
    }
}

/// A credential in front of its server.
struct Probe<'a> {
    vaults: &'a Vaults,
    held: &'a Held,
    behalf: &'a Behalf,
    server: &'a str,
}

/// The step that has failed.
#[derive(Serialize)]
struct Failed {
    method: &'static str,
    http_response: Option<Captured>,
}

impl Failed {
    fn status(&self) -> Option<u16> {
        self.http_response.as_ref().map(|answer| answer.status_code)
    }

    /// The verdict where nothing else can be tried: whether the server refuses the credential.
    fn verdict(&self) -> &'static str {
        if matches!(self.status(), Some(401 | 403)) { "invalid" } else { "unknown" }
    }
}

impl Vaults {
    /// Tries an `mcp_oauth` credential at its server and says what came of it: the body of the
    /// answer. A token that is refused is refreshed once, and what is granted is stored.
    ///
    /// `status` is `valid` when the server has answered, `invalid` when it refuses the credential
    /// with 401 or 403 and no other token can be got (of a 401: there is no refresh token, or the
    /// token endpoint refuses it with 4xx), and `unknown` else.
    ///
    /// # Errors
    /// [`ValidateError`].
    pub async fn validate(
        &self,
        workspace: &str,
        vault: &str,
        credential: &str,
    ) -> Result<Value, ValidateError> {
        let at = Binding { workspace, vault, credential };
        let row = self.room.parts.database.read(|connection| {
            let vault = vaults::find(connection, workspace, vault)?;
            let row = credentials::find(connection, workspace, at.vault, credential)?;
            Ok::<_, Error>(vault.and(row))
        })?;
        let row = row.ok_or(ValidateError::NotFound)?;
        let shown: Credential = serde_json::from_str(&row.body).map_err(|_| damaged(credential))?;
        let Auth::McpOauth { mcp_server_url, .. } = shown.auth else {
            return Err(ValidateError::Kind);
        };
        let held = self.held_one(at)?.ok_or(ValidateError::Archived)?;
        let secrets = held.open(self).await?;
        let behalf = Behalf { workspace: workspace.into(), session: None, event_ids: Vec::new() };
        let probe = Probe { vaults: self, held: &held, behalf: &behalf, server: &mcp_server_url };
        let (status, failed, refresh) = probe.run(&secrets).await?;
        Ok(json!({
            "type": "vault_credential_validation",
            "credential_id": credential,
            "vault_id": vault,
            "validated_at": Timestamp(self.room.parts.clock.now()),
            "has_refresh_token": secrets.refresh_token.is_some(),
            "status": status,
            "mcp_probe": failed,
            "refresh": refresh,
        }))
    }
}

type Verdict = (&'static str, Option<Failed>, Option<Value>);

impl Probe<'_> {
    async fn run(&self, secrets: &Secrets) -> Result<Verdict, VaultError> {
        let Some(token) = &secrets.access_token else { return Ok(("invalid", None, None)) };
        let failed = match self.attempt(token, &[secrets]).await? {
            Ok(()) => return Ok(("valid", None, None)),
            Err(failed) if failed.status() != Some(401) => {
                return Ok((failed.verdict(), Some(failed), None));
            }
            Err(failed) => failed,
        };
        let (held, behalf) = (self.held.clone(), self.behalf.clone());
        let refreshed = self.vaults.refresh(held, token.clone(), behalf, Insist::Yes).await;
        let outcome = |status: &str, answer: Option<&Captured>| {
            Some(json!({ "status": status, "http_response": answer }))
        };
        match refreshed {
            Ok(fresh) => {
                let refresh = outcome("succeeded", None);
                let token = fresh.access_token.as_ref().ok_or(VaultError::Sealed)?;
                Ok(match self.attempt(token, &[secrets, &fresh]).await? {
                    Ok(()) => ("valid", None, refresh),
                    Err(failed) => (failed.verdict(), Some(failed), refresh),
                })
            }
            Err(RefreshError::NoRefreshToken) => {
                Ok(("invalid", Some(failed), outcome("no_refresh_token", None)))
            }
            Err(RefreshError::Refused(answer)) => {
                let status = if wants_a_login(&answer) { "invalid" } else { "unknown" };
                Ok((status, Some(failed), outcome("failed", Some(&answer))))
            }
            // An answer that is no error may hold tokens: it is not shown.
            Err(RefreshError::Unusable) => Ok(("unknown", Some(failed), outcome("failed", None))),
            Err(RefreshError::Unreachable(_)) => {
                Ok(("unknown", Some(failed), outcome("connect_error", None)))
            }
            Err(RefreshError::Gone) => Ok(("unknown", Some(failed), None)),
            Err(RefreshError::Vault(error)) => Err(error),
        }
    }

    /// One conversation with the server, as far as it is needed.
    async fn attempt(
        &self,
        token: &SecretString,
        secrets: &[&Secrets],
    ) -> Result<Result<(), Failed>, VaultError> {
        let mut session = Session::default();
        let outcome = self.converse(token, secrets, &mut session).await;
        if session.id.is_some() {
            // It ends by itself, too, but later.
            let _ = self.send(Method::DELETE, token, &session, None).await?;
        }
        outcome
    }

    async fn converse(
        &self,
        token: &SecretString,
        secrets: &[&Secrets],
        session: &mut Session,
    ) -> Result<Result<(), Failed>, VaultError> {
        let client = json!({ "name": "posthouse", "version": env!("CARGO_PKG_VERSION") });
        let offer =
            json!({ "protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client });
        let (answer, said) = match self.call(token, session, 1, "initialize", offer).await? {
            Ok(answered) => answered,
            Err(answer) => return Ok(Err(failed("initialize", answer, secrets))),
        };
        let Some(result) = said.get("result") else {
            return Ok(Err(failed("initialize", Some(answer), secrets)));
        };
        session.id = answer.headers().get(SESSION).cloned();
        session.version = result
            .get("protocolVersion")
            .and_then(Value::as_str)
            .and_then(|version| HeaderValue::from_str(version).ok());
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        // What the server makes of it shows with the next request.
        let _ = self.send(Method::POST, token, session, Some(&ready)).await?;
        let (answer, said) = match self.call(token, session, 2, "tools/list", json!({})).await? {
            Ok(answered) => answered,
            Err(answer) => return Ok(Err(failed("tools/list", answer, secrets))),
        };
        let no_tools = said.pointer("/error/code").is_some_and(|code| *code == NO_METHOD);
        if said.get("result").is_none() && !no_tools {
            return Ok(Err(failed("tools/list", Some(answer), secrets)));
        }
        Ok(Ok(()))
    }

    /// Asks one thing: the answer and what it says; or the answer, if there is one, that says
    /// nothing.
    async fn call(
        &self,
        token: &SecretString,
        session: &Session,
        id: u64,
        method: &'static str,
        parameters: Value,
    ) -> Result<Result<(Response<Bytes>, Value), Option<Response<Bytes>>>, VaultError> {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters });
        let answer = self.send(Method::POST, token, session, Some(&message)).await?;
        Ok(match answer {
            Some(answer) if answer.status() == StatusCode::OK => match said(&answer, id) {
                Some(said) => Ok((answer, said)),
                None => Err(Some(answer)),
            },
            other => Err(other),
        })
    }

    /// Sends a message; none when there was no answer. The use is in the ledger before.
    async fn send(
        &self,
        method: Method,
        token: &SecretString,
        session: &Session,
        message: Option<&Value>,
    ) -> Result<Option<Response<Bytes>>, VaultError> {
        let (host, port) = destination(self.server);
        let entry = ledger::Request {
            kind: UseKind::Validate,
            host: &host,
            port,
            method: method.as_str(),
            location: InjectionLocation { header: true, body: false },
        };
        let (vault, credential) = (&self.held.row.vault, &self.held.row.id);
        self.vaults.room.ledger.used(self.behalf, vault, credential, entry).await?;
        let mut request = Request::builder()
            .method(method)
            .uri(self.server)
            .header(header::AUTHORIZATION, sensitive(&bearer_of(token))?)
            .header(header::ACCEPT, "application/json, text/event-stream");
        if message.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in [(SESSION, &session.id), (VERSION, &session.version)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let body = message.map(|message| Bytes::from(message.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|_| damaged(credential))?;
        match send(&self.vaults.room.parts.guard, request, LIMITS).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                tracing::info!(credential, %error, "an MCP server has not answered a probe");
                Ok(None)
            }
        }
    }
}

/// What the server has said of the conversation.
#[derive(Default)]
struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
}

fn failed(method: &'static str, answer: Option<Response<Bytes>>, secrets: &[&Secrets]) -> Failed {
    Failed { method, http_response: answer.map(|answer| Captured::of(&answer, secrets)) }
}

/// The message of JSON-RPC in an answer that replies to `id`: the whole body, or one event of a
/// stream.
fn said(answer: &Response<Bytes>, id: u64) -> Option<Value> {
    let kind = answer.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let replies = |message: &Value| message.get("id").is_some_and(|one| *one == id);
    if !kind.eq_ignore_ascii_case("text/event-stream") {
        return serde_json::from_slice(answer.body()).ok().filter(replies);
    }
    let text = std::str::from_utf8(answer.body()).ok()?;
    let (mut data, mut events) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(more) = line.strip_prefix("data:") {
            data.push_str(more.strip_prefix(' ').unwrap_or(more));
            data.push('\n');
        } else if line.is_empty() {
            events.push(std::mem::take(&mut data));
        }
    }
    events.push(data);
    events.iter().filter_map(|data| serde_json::from_str(data).ok()).find(replies)
}
