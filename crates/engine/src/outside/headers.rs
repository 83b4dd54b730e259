//! What requests to an MCP server carry: the credential of the session's vaults, asked for anew with each.
//!
//! A connection has one identity. A request that would carry another one is not sent.

use std::sync::Arc;

use posthouse_mcp::client::{Header, Headers, Unauthorized, Work};

use super::link::{Calls, Link};
use crate::{
    tools::Standpoint,
    vault::{AuthError, Carried, Matching, McpAuth, McpRequest, RefreshError, VaultError, Vaults},
};

/// The headers of one connection.
pub(super) struct SessionHeaders {
    vaults: Vaults,
    workspace: Arc<str>,
    session: Arc<str>,
    searched: Arc<[String]>,
    server_url: String,
    credential: Option<Matching>,
    calls: Calls,
    carried: Carried,
}

impl SessionHeaders {
    /// The headers for a link to the server at `server_url`.
    pub(super) fn new(vaults: Vaults, from: &Standpoint, server_url: &str, link: &Link) -> Self {
        Self {
            vaults,
            workspace: Arc::clone(&from.workspace),
            session: Arc::clone(&from.session),
            searched: Arc::clone(&from.vaults),
            server_url: server_url.to_owned(),
            credential: link.identity.credential.clone(),
            calls: link.calls.clone(),
            carried: link.carried.clone(),
        }
    }

    async fn ask(
        &self,
        method: &str,
        refused: Option<&Header>,
    ) -> Result<Option<Header>, Unauthorized> {
        let credential = self.credential.as_ref();
        let refused = refused.zip(credential).map(|(header, one)| McpAuth {
            credential: one.credential.clone(),
            vault: one.vault.clone(),
            header_name: header.name.clone(),
            value: header.value.clone(),
        });
        let event_ids = self.calls.now();
        let found = self.vaults.bearer(McpRequest {
            workspace: &self.workspace,
            vaults: &self.searched,
            session: Some(&self.session),
            event_ids: &event_ids,
            server_url: &self.server_url,
            method,
            refused: refused.as_ref(),
        });
        let found = found.await.map_err(|error| Unauthorized(in_words(&error, credential)))?;
        if found.as_ref().map(|auth| &auth.credential) != credential.map(|one| &one.credential) {
            let text = "the session's credential for the server is another one than at the \
                        connection's beginning; the next turn connects anew";
            return Err(Unauthorized(text.to_owned()));
        }
        if let Some(auth) = &found {
            self.carried.add(&auth.value);
        }
        Ok(found.map(|auth| Header { name: auth.header_name, value: auth.value }))
    }
}

impl Headers for SessionHeaders {
    fn header<'a>(
        &'a self,
        method: &'a str,
        refused: Option<&'a Header>,
    ) -> Work<'a, Result<Option<Header>, Unauthorized>> {
        Box::pin(self.ask(method, refused))
    }
}

/// Why a credential can't be used, without anything secret.
fn in_words(error: &AuthError, credential: Option<&Matching>) -> String {
    let which = match credential {
        Some(Matching { vault, credential }) => format!("credential {credential} of {vault}"),
        None => "the session's credential".to_owned(),
    };
    match error {
        AuthError::Refused => {
            format!("the server has refused {which}, which is of a kind that is not refreshed")
        }
        AuthError::Refresh(RefreshError::Vault(error)) | AuthError::Vault(error) => {
            format!("{which} can't be used: {}", of_the_vault(error))
        }
        AuthError::Refresh(error) => format!("{which} can't be refreshed: {error}"),
    }
}

/// A failure of the store is the operator's business.
fn of_the_vault(error: &VaultError) -> String {
    match error {
        VaultError::Store(error) => {
            tracing::error!(%error, "a credential can't be read, or its use not written down");
            "the server's store has failed".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_credential_is_said_with_its_name_and_no_more() {
        let one = Matching { vault: "vlt_1".into(), credential: "vcrd_1".into() };
        let damaged = || VaultError::Store(posthouse_store::Error::Damaged("row 7 at /x".into()));
        for (error, said) in [
            (AuthError::Refused, "the server has refused credential vcrd_1 of vlt_1, which is of"),
            (RefreshError::NoRefreshToken.into(), "can't be refreshed: no refresh token is"),
            (RefreshError::Unusable.into(), "credential vcrd_1 of vlt_1 can't be refreshed: the"),
            (VaultError::Sealed.into(), "vcrd_1 of vlt_1 can't be used: a sealed secret"),
            (RefreshError::Vault(damaged()).into(), "can't be used: the server's store has failed"),
            (damaged().into(), "can't be used: the server's store has failed"),
        ] {
            let text = in_words(&error, Some(&one));
            assert!(text.contains(said), "{text}");
            assert!(!text.contains("row 7"), "{text}");
        }
    }
}
