//! Vaults: what is secret in a credential, sealed where it lies and opened where it is used.
//!
//! Each vault has a data key of its own, which a root key seals; each credential's secrets are
//! sealed with it, and bound to their place. Nothing here is ever shown.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use posthouse_net::Guard;
use posthouse_store::{Database, tables::vaults};
use secrecy::SecretString;

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
    pub async fn make_key(&self, workspace: &str, vault: &str) -> Result<SealedKey, VaultError> {
        let root = self.parts.keys.current()?;
        let mut key = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut()).map_err(|_| VaultError::Sealed)?;
        let wrapped = root.wrap(&key, &format!("{workspace}/{vault}")).await?;
        Ok(SealedKey { root_key: root.name().to_owned(), data_key: STANDARD.encode(wrapped) })
    }

    /// STAND-IN.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn rewrap(&self) -> Result<usize, VaultError> {
        let root = self.parts.keys.current()?;
        let name = root.name().to_owned();
        let rows = self.parts.database.read(|c| vaults::sealed_by_others(c, &name))?;
        let count = rows.len();
        for (id, workspace, former, sealed) in rows {
            let context = format!("{workspace}/{id}");
            let sealed = STANDARD.decode(sealed).map_err(|_| VaultError::Sealed)?;
            let key = self.parts.keys.named(&former)?.unwrap(&sealed, &context).await?;
            let sealed = STANDARD.encode(root.wrap(&key, &context).await?);
            let name = name.clone();
            let write = move |c: &_| vaults::reseal(c, &id, &name, &sealed);
            self.parts.database.write::<_, posthouse_store::Error>(write).await?;
        }
        Ok(count)
    }

    /// STAND-IN.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn pending(&self) -> Result<usize, VaultError> {
        let name = self.parts.keys.current()?.name().to_owned();
        Ok(self.parts.database.read(|c| vaults::sealed_by_others(c, &name))?.len())
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

    /// Says that a vault or a credential has changed, so that nobody uses what was read before.
    /// To be called once the change is durable.
    pub fn changed(&self, _vault: &str) {}
}
