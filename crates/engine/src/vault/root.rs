//! Root keys: what seals the keys of vaults, wherever it is held.

pub mod file;
pub mod local;
pub mod transit;
pub mod variable;

use std::{future::Future, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

/// Something under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One root key. A trait because keys live in files, variables and key services.
pub trait RootKey: Send + Sync {
    /// What names it in rows: the same for the same key, telling nothing of it.
    fn name(&self) -> &str;

    /// Seals a data key for a vault; `context` names the vault and is bound to it.
    ///
    /// # Errors
    /// [`RootKeyError`].
    fn wrap<'a>(
        &'a self,
        data_key: &'a [u8; 32],
        context: &'a str,
    ) -> Work<'a, Result<Vec<u8>, RootKeyError>>;

    /// Opens it.
    ///
    /// # Errors
    /// [`RootKeyError`].
    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a str,
    ) -> Work<'a, Result<Zeroizing<[u8; 32]>, RootKeyError>>;
}

/// Why a root key does not do its work. The texts hold nothing secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RootKeyError {
    /// A row names a key that is not among those configured.
    #[error("the root key {0} is not configured; add it to the keys that are kept for reading")]
    Unknown(String),
    /// What was sealed was not sealed by this key, or for another vault.
    #[error("the root key {0} does not open this")]
    Refused(String),
    /// Another key seals by now.
    #[error("the root key was exchanged meanwhile; try again")]
    Exchanged,
    /// A key service has not answered as it should.
    #[error("the key service: {0}")]
    Service(String),
}

/// The root keys of a server: one that seals, and others that still open. Clones share everything;
/// the keys can be exchanged while the server runs.
#[derive(Clone)]
pub struct RootKeys {
    keys: Arc<std::sync::RwLock<Vec<Arc<dyn RootKey>>>>,
}

impl RootKeys {
    /// The first one seals.
    #[must_use]
    pub fn new(keys: Vec<Arc<dyn RootKey>>) -> Self {
        Self { keys: Arc::new(std::sync::RwLock::new(keys)) }
    }

    /// Takes other keys; what is under way ends with the ones that it has.
    pub fn replace(&self, keys: Vec<Arc<dyn RootKey>>) {
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keys;
    }

    /// The key that seals.
    ///
    /// # Errors
    /// [`RootKeyError::Unknown`] when there is none.
    pub fn current(&self) -> Result<Arc<dyn RootKey>, RootKeyError> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.first().cloned().ok_or_else(|| RootKeyError::Unknown("(none)".into()))
    }

    /// Whether it is the key of this name that seals. To be asked in the transaction that stores
    /// what was sealed: whoever exchanges keys looks for what the old one has sealed afterwards.
    ///
    /// # Errors
    /// [`RootKeyError::Exchanged`] when it is not.
    pub fn still_seals(&self, name: &str) -> Result<(), RootKeyError> {
        if self.current()?.name() == name { Ok(()) } else { Err(RootKeyError::Exchanged) }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// [`RootKeyError::Unknown`].
    pub fn named(&self, name: &str) -> Result<Arc<dyn RootKey>, RootKeyError> {
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = keys.iter().find(|key| key.name() == name).cloned();
        found.ok_or_else(|| RootKeyError::Unknown(name.to_owned()))
    }
}
