//! Refreshing access tokens at their token endpoints.
//!
//! One at a time for each credential in this process, and safe beside other writers: what is
//! stored is what the endpoint has said last, unless somebody has put another refresh token in its
//! place meanwhile. A refresh that has begun is carried to its end, whoever still waits for it. If
//! the process ends between the endpoint's answer and its row, a refresh token that was rotated is
//! lost, and its owner has to log in again: nothing can be stored before it is known.
//!
//! An endpoint that has failed is left alone for a while, unless the credential changes: a grant
//! that is dead is not asked for again with each request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use posthouse_net::http::{Limits, SendError, send};
use posthouse_protocol::{
    Micros, Timestamp,
    credential::{Auth, ClientAuth, InjectionLocation, Refresh, UseKind},
};
use posthouse_store::{Error, tables::credentials};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    Secrets, VaultError, Vaults,
    captured::{Captured, encoded},
    held::{Held, damaged},
    mcp::destination,
};
use crate::ledger::{self, Behalf};

/// What a token endpoint may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), body_bytes: 256 << 10 };
/// The longest life of a token that is believed, in seconds: ten years.
const LONGEST_LIFE: i64 = 315_360_000;
/// How long an endpoint is left alone that wants another login, and one that has only failed.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(60);
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);

/// Why an access token was not refreshed. The texts hold nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// There is nothing to refresh it with.
    #[error("no refresh token is stored for the credential")]
    NoRefreshToken,
    /// The token endpoint can't be reached.
    #[error("the token endpoint can't be reached: {0}")]
    Unreachable(#[source] Arc<SendError>),
    /// It has answered with an error.
    #[error("the token endpoint has answered {}", .0.status_code)]
    Refused(Captured),
    /// It has answered without an access token that could be sent.
    #[error("the token endpoint's answer holds no access token")]
    Unusable,
    /// The credential was archived or deleted meanwhile.
    #[error("the credential is archived or deleted")]
    Gone,
    /// The vault, or the ledger.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl RefreshError {
    /// Whether the endpoint is the reason.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        self.again().is_some()
    }

    /// The same error for somebody else, where the endpoint is the reason.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Unreachable(error) => Some(Self::Unreachable(Arc::clone(error))),
            Self::Refused(answer) => Some(Self::Refused(answer.clone())),
            Self::Unusable => Some(Self::Unusable),
            Self::NoRefreshToken | Self::Gone | Self::Vault(_) => None,
        }
    }
}

impl From<SendError> for RefreshError {
    fn from(error: SendError) -> Self {
        Self::Unreachable(Arc::new(error))
    }
}

impl From<Error> for RefreshError {
    fn from(error: Error) -> Self {
        Self::Vault(error.into())
    }
}

/// Whether an endpoint's error says that only another login helps.
pub(super) fn wants_a_login(answer: &Captured) -> bool {
    (400..500).contains(&answer.status_code) && ![408, 429].contains(&answer.status_code)
}

/// The credentials whose endpoint has failed a moment ago.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<String, Failure>>);

struct Failure {
    /// The credential's, when the endpoint was asked: a change is worth another attempt.
    version: i64,
    until: Instant,
    error: RefreshError,
}

impl Failures {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the endpoint has said, if it is too early to ask again.
    pub(super) fn find(&self, held: &Held, now: Instant) -> Option<RefreshError> {
        let failures = self.all();
        let failure = failures.get(&held.row.id)?;
        let holds = failure.version == held.row.version && now < failure.until;
        if holds { failure.error.again() } else { None }
    }

    fn keep(&self, held: &Held, error: &RefreshError) {
        let Some(again) = error.again() else { return };
        let pause = match error {
            RefreshError::Refused(answer) if wants_a_login(answer) => AFTER_A_REFUSAL,
            _ => AFTER_A_FAILURE,
        };
        let now = Instant::now();
        let failure = Failure { version: held.row.version, until: now + pause, error: again };
        let mut failures = self.all();
        failures.retain(|_, failure| now < failure.until);
        failures.insert(held.row.id.clone(), failure);
    }
}

/// Whether an endpoint is asked that has failed a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insist {
    /// By somebody who wants to know.
    Yes,
    /// Not with each request that needs a token.
    No,
}

/// What a token endpoint says.
#[derive(Deserialize)]
struct Grant {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    /// Seconds.
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<i64>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.access_token.zeroize();
        self.refresh_token.zeroize();
    }
}

/// A number, also one that is written as a text; what is neither says nothing.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let seconds = match Value::deserialize(from)? {
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float stops at the ends")]
        Value::Number(number) => number.as_f64().map(|seconds| seconds as i64),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(seconds.map(|seconds| seconds.clamp(0, LONGEST_LIFE)))
}

impl Vaults {
    /// Refreshes an access token that is not to be used any more, unless another one has taken its
    /// place already; the secrets as they are now.
    pub(super) async fn refresh(
        &self,
        held: Held,
        stale: SecretString,
        behalf: Behalf,
        insist: Insist,
    ) -> Result<Secrets, RefreshError> {
        let vaults = self.clone();
        // A task of its own: a caller who leaves must not take a rotated token with it.
        #[expect(clippy::disallowed_methods, reason = "ends when the answer is stored")]
        let work = tokio::task::spawn(async move {
            let lock = vaults.lock_of(&held.row.id);
            let _alone = lock.lock().await;
            vaults.refresh_alone(&held, &stale, &behalf, insist).await
        });
        work.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    async fn refresh_alone(
        &self,
        held: &Held,
        stale: &SecretString,
        behalf: &Behalf,
        insist: Insist,
    ) -> Result<Secrets, RefreshError> {
        let (held, secrets) = self.now(held).await?;
        if is_newer(&secrets, stale) {
            return Ok(secrets);
        }
        if insist == Insist::No
            && let Some(error) = self.room.failures.find(&held, Instant::now())
        {
            return Err(error);
        }
        let Auth::McpOauth { refresh: Some(refresh), .. } = held.auth()? else {
            return Err(RefreshError::NoRefreshToken);
        };
        let Some(token) = &secrets.refresh_token else { return Err(RefreshError::NoRefreshToken) };
        let request = request(&held, &refresh, token, secrets.client_secret.as_ref())?;
        let (host, port) = destination(&refresh.token_endpoint);
        let header = refresh.token_endpoint_auth == ClientAuth::ClientSecretBasic;
        let entry = ledger::Request {
            kind: UseKind::Refresh,
            host: &host,
            port,
            method: "POST",
            location: InjectionLocation { header, body: true },
        };
        self.room.ledger.used(behalf, &held.row.vault, &held.row.id, entry).await?;
        let granted = match send(&self.room.parts.guard, request, LIMITS).await {
            Ok(answer) => read(&answer, &refresh, &secrets),
            Err(error) => Err(error.into()),
        };
        match granted {
            Ok(grant) => self.store(&held, token, &grant).await,
            Err(error) => match self.now(&held).await {
                // Another process was faster, and the endpoint takes a refresh token only once.
                Ok((_, secrets)) if is_newer(&secrets, stale) => Ok(secrets),
                _ => {
                    self.room.failures.keep(&held, &error);
                    Err(error)
                }
            },
        }
    }

    /// A credential and its secrets as they are now.
    async fn now(&self, held: &Held) -> Result<(Held, Secrets), RefreshError> {
        let held = self.held_one(held.binding())?.ok_or(RefreshError::Gone)?;
        let secrets = held.open(self).await?;
        Ok((held, secrets))
    }

    /// Stores what the endpoint has said, for the refresh token that it was asked with.
    async fn store(
        &self,
        held: &Held,
        asked_with: &SecretString,
        grant: &Grant,
    ) -> Result<Secrets, RefreshError> {
        let granted_at = self.room.parts.clock.now();
        // Each round is lost to somebody who has stored something else.
        loop {
            let (held, mut secrets) = self.now(held).await?;
            let same = |token: &SecretString| token.expose_secret() == asked_with.expose_secret();
            if !secrets.refresh_token.as_ref().is_some_and(same) {
                // Its owner has logged in again: that is worth more than what was refreshed.
                return Ok(secrets);
            }
            secrets.access_token = Some(grant.access_token.as_str().into());
            if let Some(rotated) = grant.refresh_token.as_deref().filter(|one| !one.is_empty()) {
                secrets.refresh_token = Some(rotated.into());
            }
            let expiry = grant.expires_in.map(|seconds| granted_at.plus(seconds * 1_000_000));
            let body = expiring(&held, expiry)?;
            let sealed = held.seal(self, &secrets).await?;
            let (id, version) = (held.row.id.clone(), held.row.version);
            let write = self.room.parts.database.write(move |connection| {
                credentials::exchange_secrets(connection, &id, version, &body, &sealed)
            });
            match write.await {
                Ok(true) => return Ok(secrets),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(credential = held.row.id, %error, "a fresh token was not stored");
                    return Err(Error::into(error));
                }
            }
        }
    }
}

fn is_newer(secrets: &Secrets, stale: &SecretString) -> bool {
    let other = |token: &SecretString| token.expose_secret() != stale.expose_secret();
    secrets.access_token.as_ref().is_some_and(other)
}

/// The request of RFC 6749, 6. A client with HTTP Basic shows who it is there alone: to name it
/// twice is refused by some (2.3).
fn request(
    held: &Held,
    refresh: &Refresh,
    token: &SecretString,
    client_secret: Option<&SecretString>,
) -> Result<Request<Bytes>, VaultError> {
    // In one piece from the beginning: a text that grows leaves copies behind.
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let secret_length = |secret: &SecretString| secret.expose_secret().len();
    let secrets = secret_length(token) + client_secret.map_or(0, secret_length);
    let others = refresh.client_id.len() + length(&refresh.scope) + length(&refresh.resource);
    let room = 256 + 3 * (secrets + others);
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("refresh_token", token.expose_secret());
    if refresh.token_endpoint_auth != ClientAuth::ClientSecretBasic {
        form.append_pair("client_id", &refresh.client_id);
    }
    if let Some(scope) = &refresh.scope {
        form.append_pair("scope", scope);
    }
    if let Some(resource) = &refresh.resource {
        form.append_pair("resource", resource);
    }
    let mut request = Request::post(&refresh.token_endpoint)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    match (refresh.token_endpoint_auth, client_secret) {
        (ClientAuth::None, _) => {}
        (ClientAuth::ClientSecretPost, Some(secret)) => {
            form.append_pair("client_secret", secret.expose_secret());
        }
        (ClientAuth::ClientSecretBasic, Some(secret)) => {
            let pair = pair(&refresh.client_id, secret);
            let basic = format!("Basic {}", STANDARD.encode(&*pair)).into();
            request = request.header(header::AUTHORIZATION, sensitive(&basic)?);
        }
        (_, None) => return Err(VaultError::Sealed),
    }
    let form = Zeroizing::new(form.finish().into_bytes());
    request.body(Bytes::from_owner(form)).map_err(|_| damaged(&held.row.id))
}

/// Client and secret for HTTP Basic, both encoded as in a form (RFC 6749, 2.3.1).
fn pair(client_id: &str, secret: &SecretString) -> Zeroizing<String> {
    let (client_id, secret) = (encoded(client_id), encoded(secret.expose_secret()));
    Zeroizing::new([client_id.as_str(), ":", secret.as_str()].concat())
}

/// A header's value that is wiped when it is gone, and that nothing prints.
pub(super) fn sensitive(value: &SecretString) -> Result<HeaderValue, VaultError> {
    let bytes = Zeroizing::new(value.expose_secret().as_bytes().to_vec());
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes));
    let mut value = value.map_err(|_| VaultError::Sealed)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an endpoint has granted. Its `token_type` is not looked at: there are endpoints that say
/// something of their own there, and mean a bearer token.
fn read(
    answer: &Response<Bytes>,
    refresh: &Refresh,
    secrets: &Secrets,
) -> Result<Grant, RefreshError> {
    if !answer.status().is_success() {
        let mut shown = secrets.clone();
        // What it was sent in Basic, too.
        if let Some(secret) = &secrets.client_secret {
            let pair = pair(&refresh.client_id, secret);
            shown.token = Some(pair.as_str().into());
        }
        return Err(RefreshError::Refused(Captured::of(answer, &[&shown])));
    }
    let grant: Grant = serde_json::from_slice(answer.body()).map_err(|_| RefreshError::Unusable)?;
    let token = &grant.access_token;
    // What no header can carry is no token.
    let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if usable { Ok(grant) } else { Err(RefreshError::Unusable) }
}

/// The body of a credential with another time of expiry. Without one it says none.
fn expiring(held: &Held, expiry: Option<Micros>) -> Result<String, VaultError> {
    let mut shown = held.shown()?;
    if let Auth::McpOauth { expires_at, .. } = &mut shown.auth {
        *expires_at = expiry.map(Timestamp);
    }
    serde_json::to_string(&shown).map_err(|_| damaged(&held.row.id))
}
