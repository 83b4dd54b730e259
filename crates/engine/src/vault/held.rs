//! What a session's vaults hold: their live credentials, and what each says of itself.
//!
//! Reads rows and opens what is sealed in them. Changes nothing.

use posthouse_protocol::credential::{Auth, Credential};
use posthouse_store::{
    Error,
    tables::{
        credentials::{self, CredentialRow},
        vaults,
    },
};

use super::{Binding, SealedKey, Secrets, VaultError, Vaults, envelope::sealed_key};

/// A live credential, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) row: CredentialRow,
    key: SealedKey,
}

impl Held {
    /// Where its secrets belong.
    pub(super) fn binding(&self) -> Binding<'_> {
        Binding { workspace: &self.row.workspace, vault: &self.row.vault, credential: &self.row.id }
    }

    /// The credential as the wire shows it.
    pub(super) fn shown(&self) -> Result<Credential, VaultError> {
        serde_json::from_str(&self.row.body).map_err(|_| damaged(&self.row.id))
    }

    /// What it is.
    pub(super) fn auth(&self) -> Result<Auth, VaultError> {
        Ok(self.shown()?.auth)
    }

    /// Its secrets.
    pub(super) async fn open(&self, vaults: &Vaults) -> Result<Secrets, VaultError> {
        let sealed = self.row.sealed.as_deref().ok_or(VaultError::Sealed)?;
        vaults.open(&self.key, self.binding(), sealed).await
    }

    /// Other secrets, sealed for the same place.
    pub(super) async fn seal(
        &self,
        vaults: &Vaults,
        secrets: &Secrets,
    ) -> Result<String, VaultError> {
        vaults.seal(&self.key, self.binding(), secrets).await
    }
}

/// The error of a body that is not what was written.
pub(super) fn damaged(credential: &str) -> VaultError {
    Error::Damaged(format!("the body of {credential} can't be read")).into()
}

impl Vaults {
    /// The live credentials of these vaults in their order, as far as they are of this workspace
    /// and not archived.
    pub(super) fn held(&self, workspace: &str, vaults: &[String]) -> Result<Vec<Held>, VaultError> {
        let read = self.room.parts.database.read(|connection| {
            let mut held = Vec::new();
            for vault in vaults {
                let row = vaults::find(connection, workspace, vault)?;
                let Some(row) = row.filter(|row| row.archived_at.is_none()) else { continue };
                let Some(key) = sealed_key(&row) else { continue };
                let rows = credentials::live(connection, workspace, vault)?;
                held.extend(rows.into_iter().map(|row| Held { row, key: key.clone() }));
            }
            Ok::<_, Error>(held)
        });
        Ok(read?)
    }

    /// One credential as it is now, if it is live and so is its vault.
    pub(super) fn held_one(&self, at: Binding<'_>) -> Result<Option<Held>, VaultError> {
        let read = self.room.parts.database.read(|connection| {
            let Some(vault) = vaults::find(connection, at.workspace, at.vault)? else {
                return Ok(None);
            };
            let row = credentials::find(connection, at.workspace, at.vault, at.credential)?;
            let live = vault.archived_at.is_none();
            let row = row.filter(|row| live && row.archived_at.is_none());
            Ok::<_, Error>(row.zip(sealed_key(&vault)).map(|(row, key)| Held { row, key }))
        });
        Ok(read?)
    }
}
