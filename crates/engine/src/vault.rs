//! Vaults: what is secret in a credential, sealed where it lies and opened where it is used.
//!
//! Each vault has a data key of its own, which a root key seals; each credential's secrets are
//! sealed with it, and bound to their place. Nothing here is ever shown.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use posthouse_net::Guard;
use posthouse_sandbox::door::Keeper;
use posthouse_store::Database;

use crate::{
    clock::{Chance, Clock},
    ledger::Ledger,
};

mod captured;
mod carried;
mod envelope;
mod held;
mod keeper;
mod mcp;
mod probe;
mod refresh;
pub mod root;
#[cfg(test)]
pub(crate) mod tests;

pub use captured::Captured;
pub(crate) use carried::Carried;
pub use keeper::{KeeperOf, Unreachable};
pub use mcp::{AuthError, Matching, McpAuth, McpRequest};
pub use posthouse_protocol::credential::Secrets;
pub use probe::ValidateError;
pub use refresh::RefreshError;
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
    room: Arc<Room>,
}

struct Room {
    parts: VaultParts,
    ledger: Ledger,
    data_keys: envelope::DataKeys,
    /// Raised with each change, so that keepers look again.
    generation: AtomicU64,
    /// The credentials that are being refreshed.
    refreshing: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Those that were not refreshed a moment ago.
    failures: refresh::Failures,
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

/// Why a vault can't be used. The texts hold nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The root key does not answer, or is another one.
    #[error("the vault's root key can't be used")]
    Root(#[from] RootKeyError),
    /// What lies there was not sealed here, or not for this place.
    #[error("a sealed secret can't be opened")]
    Sealed,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Chance,
    /// The database.
    #[error(transparent)]
    Store(#[from] posthouse_store::Error),
}

impl std::fmt::Debug for Vaults {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Vaults")
    }
}

impl Vaults {
    /// The room.
    #[must_use]
    pub fn new(parts: VaultParts) -> Self {
        let VaultParts { database, clock, chance, .. } = &parts;
        let ledger = Ledger::new(database.clone(), clock.clone(), chance.clone());
        let room = Room {
            parts,
            ledger,
            data_keys: envelope::DataKeys::default(),
            generation: AtomicU64::new(0),
            refreshing: Mutex::default(),
            failures: refresh::Failures::default(),
        };
        Self { room: Arc::new(room) }
    }

    /// Says that a vault or a credential has changed, so that nobody uses what was read before.
    /// To be called once the change is durable.
    pub fn changed(&self, vault: &str) {
        self.room.data_keys.forget(vault);
        self.room.generation.fetch_add(1, Ordering::Release);
    }

    /// The keeper of a session's secrets and records, for the door of its sandbox.
    #[must_use]
    pub fn keeper(&self, of: KeeperOf) -> Arc<dyn Keeper> {
        Arc::new(keeper::SessionKeeper::new(self.clone(), of))
    }

    /// Writes what doors have decided and nobody has written yet; durable when it returns. To be
    /// called before records are listed, and before the database is closed.
    pub async fn flush_records(&self) {
        self.room.ledger.flush().await;
    }

    /// What only one at a time holds who refreshes this credential.
    fn lock_of(&self, credential: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.room.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(credential).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(credential.to_owned(), Arc::downgrade(&lock));
        lock
    }
}
