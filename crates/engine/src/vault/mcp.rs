//! Credentials for MCP servers: which one a server gets, and the header that carries it.
//!
//! Knows addresses and headers, sends nothing itself. Each header that is handed out stands in the
//! ledger before.

use std::sync::Arc;

use http::HeaderName;
use posthouse_protocol::{
    Micros,
    credential::{Auth, InjectionLocation, UseKind, address},
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    Secrets, VaultError, Vaults,
    held::{Held, damaged},
    refresh::{Insist, RefreshError},
};
use crate::ledger::{Behalf, Request};

/// How long before it expires an access token is not used any more, in microseconds.
const LEEWAY: i64 = 30_000_000;

/// A request that is about to be sent to an MCP server.
#[derive(Debug, Clone, Copy)]
pub struct McpRequest<'a> {
    /// The workspace of the session.
    pub workspace: &'a str,
    /// The session's vaults. The first one with a match wins.
    pub vaults: &'a [String],
    /// The session, where there is one.
    pub session: Option<&'a str>,
    /// The tool calls that it is sent for.
    pub event_ids: &'a [Arc<str>],
    /// The server's address, as the agent names it.
    pub server_url: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// What the server has just refused: it is refreshed, unless that has been done meanwhile.
    pub refused: Option<&'a McpAuth>,
}

/// A header for one request to an MCP server.
#[derive(Debug, Clone)]
pub struct McpAuth {
    /// The credential.
    pub credential: String,
    /// Its vault.
    pub vault: String,
    /// The header's name.
    pub header_name: HeaderName,
    /// The header's whole value.
    pub value: SecretString,
}

/// The credential that the vaults of a session have for an MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// The first of the vaults that has one.
    pub vault: String,
    /// The credential.
    pub credential: String,
}

/// Why there is no header although there is a credential.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The server has refused it, and it is of a kind that is not refreshed.
    #[error("the server has refused the credential")]
    Refused,
    /// It has expired, or the server has refused it, and it can't be refreshed.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// It can't be opened, or its use can't be written down.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Vaults {
    /// The header for a request to an MCP server, from the first of the vaults that has a
    /// credential for it; none when no one has. An access token that has expired, or was refused,
    /// is refreshed first. The use is durable in the ledger when this returns.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn bearer(&self, request: McpRequest<'_>) -> Result<Option<McpAuth>, AuthError> {
        let held = self.held_for(request.workspace, request.vaults, request.server_url)?;
        let Some(held) = held else { return Ok(None) };
        let auth = held.auth()?;
        let behalf = Behalf {
            workspace: request.workspace.into(),
            session: request.session.map(Arc::from),
            event_ids: request.event_ids.to_vec(),
        };
        let secrets = held.open(self).await?;
        let mut header = header(&held, &auth, &secrets)?;
        let was_refused = request.refused.is_some_and(|refused| refused.is(&header));
        if let Some(secrets) = self.renewed(&held, &auth, &secrets, was_refused, &behalf).await? {
            header = self::header(&held, &auth, &secrets)?;
        }
        let (host, port) = destination(request.server_url);
        let entry = Request {
            kind: UseKind::Mcp,
            host: &host,
            port,
            method: request.method,
            location: InjectionLocation { header: true, body: false },
        };
        let ledger = &self.room.ledger;
        let written = ledger.used(&behalf, &held.row.vault, &held.row.id, entry).await;
        written.map_err(VaultError::from)?;
        Ok(Some(header))
    }

    /// The credential that [`Self::bearer`] takes for a server, if there is any. Opens nothing, and is
    /// no use of it.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn matching(
        &self,
        workspace: &str,
        vaults: &[String],
        server_url: &str,
    ) -> Result<Option<Matching>, VaultError> {
        let held = self.held_for(workspace, vaults, server_url)?;
        Ok(held.map(|held| Matching { vault: held.row.vault, credential: held.row.id }))
    }

    fn held_for(
        &self,
        workspace: &str,
        vaults: &[String],
        server_url: &str,
    ) -> Result<Option<Held>, VaultError> {
        let Some(wanted) = address::normal(server_url) else { return Ok(None) };
        let held = self.held(workspace, vaults)?;
        // A variable's target is its name, which is no address.
        Ok(held.into_iter().find(|held| held.row.target == wanted))
    }

    /// Other secrets, where those that were read are not to be used any more.
    async fn renewed(
        &self,
        held: &Held,
        auth: &Auth,
        secrets: &Secrets,
        was_refused: bool,
        behalf: &Behalf,
    ) -> Result<Option<Secrets>, AuthError> {
        let Auth::McpOauth { expires_at, refresh, .. } = auth else {
            return if was_refused { Err(AuthError::Refused) } else { Ok(None) };
        };
        let now = self.room.parts.clock.now();
        let expires = |at: Micros| expires_at.is_some_and(|expiry| expiry.0 <= at);
        // What can't be refreshed is sent as it is: the server decides.
        let stale = was_refused || (expires(now.plus(LEEWAY)) && refresh.is_some());
        let Some(token) = secrets.access_token.clone().filter(|_| stale) else { return Ok(None) };
        match self.refresh(held.clone(), token, behalf.clone(), Insist::No).await {
            Ok(secrets) => Ok(Some(secrets)),
            // It holds for a moment yet.
            Err(error) if error.is_of_the_endpoint() && !was_refused && !expires(now) => {
                tracing::warn!(credential = held.row.id, %error, "a token is not refreshed yet");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl McpAuth {
    /// Whether this is the same header for the same credential.
    fn is(&self, other: &Self) -> bool {
        self.credential == other.credential
            && self.value.expose_secret() == other.value.expose_secret()
    }
}

fn header(held: &Held, auth: &Auth, secrets: &Secrets) -> Result<McpAuth, VaultError> {
    let (name, value) = match auth {
        Auth::McpOauth { .. } => (http::header::AUTHORIZATION, bearer(&secrets.access_token)?),
        Auth::StaticBearer { .. } => (http::header::AUTHORIZATION, bearer(&secrets.token)?),
        Auth::PosthouseHeader { header_name, .. } => {
            let name = HeaderName::try_from(header_name).map_err(|_| damaged(&held.row.id))?;
            (name, secrets.token.clone().ok_or(VaultError::Sealed)?)
        }
        Auth::EnvironmentVariable { .. } => return Err(damaged(&held.row.id)),
    };
    Ok(McpAuth {
        credential: held.row.id.clone(),
        vault: held.row.vault.clone(),
        header_name: name,
        value,
    })
}

fn bearer(token: &Option<SecretString>) -> Result<SecretString, VaultError> {
    let token = token.as_ref().ok_or(VaultError::Sealed)?;
    Ok(bearer_of(token))
}

/// The header's value that carries a token.
pub(super) fn bearer_of(token: &SecretString) -> SecretString {
    let token = token.expose_secret();
    // In one piece: a text that grows leaves copies behind.
    let mut value = String::with_capacity("Bearer ".len() + token.len());
    value.push_str("Bearer ");
    value.push_str(token);
    value.into()
}

/// Host and port of an address, for the ledger.
pub(super) fn destination(address: &str) -> (String, u16) {
    let url = Url::parse(address).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let port = url.as_ref().and_then(Url::port_or_known_default).unwrap_or_default();
    (host.to_owned(), port)
}
