//! Vaults: what is secret in a credential, sealed where it lies and opened where it is used.
//!
//! Each vault has a data key of its own, which a root key seals; each credential's secrets are
//! sealed with it, and bound to their place. Nothing here is ever shown.

use std::sync::Arc;

use posthouse_net::Guard;
use posthouse_store::Database;
use secrecy::SecretString;

use crate::clock::{Chance, Clock};

pub mod root;

pub use root::{RootKey, RootKeyError, RootKeys};

/// Whose keeper it is.
pub struct KeeperOf {
    /// The session.
    pub session: Arc<str>,
    /// Its workspace: vaults of others yield nothing.
    pub workspace: Arc<str>,
    /// Its vaults. The first one wins where two have the same variable.
    pub vaults: Arc<[String]>,
    /// The ids of the tool calls that are running.
    pub calls: Arc<dyn Fn() -> Vec<Arc<str>> + Send + Sync>,
}

/// A credential whose values can't reach one of the hosts that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The credential.
    pub credential: String,
    /// Its vault.
    pub vault: String,
    /// The host, as the credential names it.
    pub host: String,
}

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

/// What is secret in a credential. A kind of credential uses some of them.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `mcp_oauth`.
    pub access_token: Option<SecretString>,
    /// `mcp_oauth`.
    pub refresh_token: Option<SecretString>,
    /// `mcp_oauth`.
    pub client_secret: Option<SecretString>,
    /// `static_bearer`, and the value of `posthouse_header`.
    pub token: Option<SecretString>,
    /// `environment_variable`.
    pub secret_value: Option<SecretString>,
}

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

    /// A data key for a new vault.
    ///
    /// # Errors
    /// [`VaultError::Root`].
    pub async fn make_key(&self, _workspace: &str, _vault: &str) -> Result<SealedKey, VaultError> {
        let _ = &self.parts;
        Err(VaultError::Sealed)
    }

    /// Seals a credential's secrets: base64 for its row.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn seal(
        &self,
        _key: &SealedKey,
        _at: Binding<'_>,
        _secrets: &Secrets,
    ) -> Result<String, VaultError> {
        Err(VaultError::Sealed)
    }

    /// Opens what [`Self::seal`] has sealed for this place.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open(
        &self,
        _key: &SealedKey,
        _at: Binding<'_>,
        _sealed: &str,
    ) -> Result<Secrets, VaultError> {
        Err(VaultError::Sealed)
    }

    /// The keeper of a session's secrets and records, for the door of its sandbox.
    #[must_use]
    pub fn keeper(&self, _of: KeeperOf) -> Arc<dyn posthouse_sandbox::door::Keeper> {
        Arc::new(posthouse_sandbox::door::Nobody)
    }

    /// Writes what doors have decided and nobody has written yet.
    pub async fn flush_records(&self) {}

    /// The variables of these vaults with a host that an environment does not let through.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn unreachable(
        &self,
        _workspace: &str,
        _vaults: &[String],
        _allows: impl Fn(&str) -> bool,
    ) -> Result<Vec<Unreachable>, VaultError> {
        Ok(Vec::new())
    }

    /// Says that a vault or a credential has changed, so that nobody uses what was read before.
    /// To be called once the change is durable.
    pub fn changed(&self, _vault: &str) {}
}
