//! Stand-in for trying the routes: not delivered, the real one comes with the merge.
//!
//! Vaults: what is secret in a credential, sealed where it lies and opened where it is used.
//!
//! Each vault has a data key of its own, which a root key seals; each credential's secrets are
//! sealed with it, and bound to their place. Nothing here is ever shown.

use std::sync::Arc;

use posthouse_net::Guard;
use posthouse_store::Database;
use secrecy::{ExposeSecret as _, SecretString};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::clock::{Chance, Clock};

pub mod root;

pub use root::{RootKey, RootKeyError, RootKeys};

/// Everything that a vault room is made of.
pub struct VaultParts {
    /// Rows of vaults, credentials and the ledger.
    pub database: Database,
    /// What seals the vaults' keys.
    pub keys: RootKeys,
    /// The way out, for tokens and probes.
    pub guard: Guard,
    /// Time.
    pub clock: Clock,
    /// Ids and keys.
    pub chance: Chance,
}

/// The room of all vaults. Clones share everything.
#[derive(Clone)]
pub struct Vaults {
    parts: Arc<VaultParts>,
}

/// A vault's data key as it lies in its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The name of the root key that seals it.
    pub root_key: String,
    /// Base64.
    pub data_key: String,
}

/// Where sealed secrets belong. They can't be opened anywhere else.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The workspace.
    pub workspace: &'a str,
    /// The vault.
    pub vault: &'a str,
    /// The credential.
    pub credential: &'a str,
}

pub use posthouse_protocol::credential::Secrets;

/// Why a vault can't be used. The texts hold nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The root key does not answer, or is another one.
    #[error("the vault's root key can't be used")]
    Root(#[from] RootKeyError),
    /// What lies there was not sealed here, or not for this place.
    #[error("a sealed secret can't be opened")]
    Sealed,
    /// The vault is archived: its key is gone.
    #[error("the vault is archived")]
    Archived,
    /// The database.
    #[error(transparent)]
    Store(#[from] posthouse_store::Error),
}

impl Vaults {
    /// The room.
    #[must_use]
    pub fn new(parts: VaultParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    pub async fn make_key(&self, workspace: &str, vault: &str) -> Result<SealedKey, VaultError> {
        let _ = &self.parts;
        Ok(SealedKey { root_key: "throwaway".into(), data_key: format!("{workspace}/{vault}") })
    }
    pub async fn seal(&self, key: &SealedKey, at: Binding<'_>, secrets: &Secrets) -> Result<String, VaultError> {
        let tell = |one: &Option<SecretString>| one.as_ref().map(|one| one.expose_secret().to_owned());
        let all = [tell(&secrets.access_token), tell(&secrets.refresh_token), tell(&secrets.client_secret), tell(&secrets.token), tell(&secrets.secret_value)];
        let json = serde_json::json!([key.data_key, at.workspace, at.vault, at.credential, all]);
        Ok(STANDARD.encode(json.to_string()))
    }
    pub async fn open(&self, key: &SealedKey, at: Binding<'_>, sealed: &str) -> Result<Secrets, VaultError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| VaultError::Sealed)?;
        let (k, w, v, c, all): (String, String, String, String, [Option<String>; 5]) = serde_json::from_slice(&bytes).map_err(|_| VaultError::Sealed)?;
        if k != key.data_key || w != at.workspace || v != at.vault || c != at.credential { return Err(VaultError::Sealed); }
        let [a, b, c, d, e] = all.map(|one| one.map(SecretString::from));
        Ok(Secrets { access_token: a, refresh_token: b, client_secret: c, token: d, secret_value: e })
    }
    pub fn changed(&self, _vault: &str) {}
    pub async fn validate(&self, workspace: &str, vault: &str, credential: &str) -> Result<serde_json::Value, ValidateError> {
        use posthouse_store::tables::credentials;
        let row = self.parts.database.read(|c| credentials::find(c, workspace, vault, credential)).map_err(VaultError::Store)?;
        let row = row.ok_or(ValidateError::NotFound)?;
        if !row.body.contains("\"mcp_oauth\"") { return Err(ValidateError::Kind); }
        if row.archived_at.is_some() { return Err(ValidateError::Archived); }
        Ok(serde_json::json!({
            "type": "vault_credential_validation", "credential_id": credential, "vault_id": vault,
            "validated_at": self.parts.clock.now().to_rfc3339(), "has_refresh_token": row.body.contains("\"refresh\""),
            "status": "unknown", "mcp_probe": { "method": "initialize", "http_response": null }, "refresh": null,
        }))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    #[error("n")]
    NotFound,
    #[error("k")]
    Kind,
    #[error("a")]
    Archived,
    #[error(transparent)]
    Vault(#[from] VaultError),
}
