//! The envelope: secrets sealed by their vault's data key, data keys sealed by a root key.
//!
//! AES-256-GCM throughout. What is sealed is bound to its workspace, vault and credential and
//! opens nowhere else. Keys that were opened are kept for a short time, and wiped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac::{self, HMAC_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use posthouse_store::{
    Error,
    tables::vaults::{self, VaultRow},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Binding, RootKey, SealedKey, Secrets, VaultError, Vaults};

/// The first byte of what is sealed, and a part of what it is bound to.
const FORMAT: u8 = 1;
/// What tells these bytes from all others that a key may ever seal.
const LABEL: &str = "posthouse credential";
/// What the key of [`Vaults::fingerprint`] is derived with.
const BODY_LABEL: &[u8] = b"posthouse body fingerprint";
const NONCE: usize = 12;
const TAG: usize = 16;
/// How many opened keys are kept.
const MOST: usize = 1024;
/// How long an opened key is used, and what a session's keeper has opened: a root key that is
/// withdrawn from a key service ends its vaults within twice this time.
pub(super) const LIFE: Duration = Duration::from_secs(300);
/// How many vaults are sealed anew in one transaction.
const PAGE: usize = 100;

/// A vault's key, opened.
pub(super) type DataKey = Zeroizing<[u8; 32]>;

/// The keys of vaults that were opened a while ago, by vault.
#[derive(Default)]
pub(super) struct DataKeys(Mutex<HashMap<String, Kept>>);

struct Kept {
    workspace: String,
    sealed: SealedKey,
    key: Arc<DataKey>,
    since: Instant,
}

impl DataKeys {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that was opened of exactly this, for exactly this vault.
    pub(super) fn find(
        &self,
        workspace: &str,
        vault: &str,
        sealed: &SealedKey,
        now: Instant,
    ) -> Option<Arc<DataKey>> {
        let kept = self.kept();
        let found = kept.get(vault)?;
        let same = found.workspace == workspace && found.sealed == *sealed;
        (same && now.duration_since(found.since) < LIFE).then(|| Arc::clone(&found.key))
    }

    fn keep(&self, workspace: &str, vault: &str, sealed: &SealedKey, key: Arc<DataKey>) {
        let (mut kept, now) = (self.kept(), Instant::now());
        kept.retain(|_, one| now.duration_since(one.since) < LIFE);
        if kept.len() >= MOST && !kept.contains_key(vault) {
            let oldest = kept.iter().min_by_key(|(_, one)| one.since);
            if let Some(oldest) = oldest.map(|(vault, _)| vault.clone()) {
                kept.remove(&oldest);
            }
        }
        let (workspace, sealed) = (workspace.to_owned(), sealed.clone());
        kept.insert(vault.to_owned(), Kept { workspace, sealed, key, since: now });
    }

    pub(super) fn forget(&self, vault: &str) {
        self.kept().remove(vault);
    }
}

impl Vaults {
    /// A data key for a new vault.
    ///
    /// # Errors
    /// [`VaultError::Root`], [`VaultError::Chance`].
    pub async fn make_key(&self, workspace: &str, vault: &str) -> Result<SealedKey, VaultError> {
        let root = self.room.parts.keys.current()?;
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut()).map_err(|_| VaultError::Chance)?;
        wrap(&*root, &key, &context(workspace, vault)).await
    }

    /// Seals a credential's secrets: base64 for its row.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn seal(
        &self,
        key: &SealedKey,
        at: Binding<'_>,
        secrets: &Secrets,
    ) -> Result<String, VaultError> {
        let key = self.data_key(key, at.workspace, at.vault).await?;
        seal(&key, at, secrets)
    }

    /// Opens what [`Self::seal`] has sealed for this place.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open(
        &self,
        key: &SealedKey,
        at: Binding<'_>,
        sealed: &str,
    ) -> Result<Secrets, VaultError> {
        let key = self.data_key(key, at.workspace, at.vault).await?;
        open(&key, at, sealed)
    }

    /// What tells a body that holds secrets from others, for those who have the vault's key alone:
    /// nobody who finds it written down can try which secrets it might have held.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn fingerprint(
        &self,
        key: &SealedKey,
        (workspace, vault): (&str, &str),
        body: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let key = self.data_key(key, workspace, vault).await?;
        // A key of its own: what seals does nothing else.
        let derived = hmac::sign(&hmac::Key::new(HMAC_SHA256, key.as_slice()), BODY_LABEL);
        let derived = hmac::Key::new(HMAC_SHA256, derived.as_ref());
        Ok(hmac::sign(&derived, body).as_ref().to_vec())
    }

    /// Seals the keys of all vaults with the current root key that are sealed by another one, and
    /// says how many they were. What others write meanwhile stays.
    ///
    /// # Errors
    /// [`VaultError::Root`] when a key can't be opened or sealed; all others are done then all the
    /// same. [`VaultError::Store`].
    pub async fn rewrap(&self) -> Result<usize, VaultError> {
        let (mut done, mut after, mut failed) = (0, String::new(), None);
        loop {
            // Asked each time: another one may have taken its place.
            let current = self.room.parts.keys.current()?;
            let name = current.name().to_owned();
            let rows = self.room.parts.database.read_many(move |connection| {
                vaults::sealed_by_others(connection, &name, &after, PAGE)
            });
            let rows: Vec<VaultRow> = rows.await?;
            let Some(last) = rows.last() else { break };
            after = last.id.clone();
            let mut exchanges = Vec::new();
            for row in rows {
                let Some(former) = sealed_key(&row) else { continue };
                match self.wrapped_anew(&*current, &row, &former).await {
                    Ok(new) => exchanges.push((row.id, former, new)),
                    Err(error) => {
                        tracing::error!(vault = row.id, %error, "a vault's key stays as it is");
                        failed.get_or_insert(error);
                    }
                }
            }
            let write = self.room.parts.database.write(move |connection| {
                let mut done = 0;
                for (vault, former, new) in &exchanges {
                    let former = (&*former.root_key, &*former.data_key);
                    let new = (&*new.root_key, &*new.data_key);
                    done += usize::from(vaults::exchange_key(connection, vault, former, new)?);
                }
                Ok::<_, Error>(done)
            });
            done += write.await?;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    /// How many vaults have keys that the current root key has not sealed.
    ///
    /// # Errors
    /// [`VaultError::Root`] without a root key, [`VaultError::Store`].
    pub async fn pending(&self) -> Result<usize, VaultError> {
        let name = self.room.parts.keys.current()?.name().to_owned();
        let count = self
            .room
            .parts
            .database
            .read_many(move |connection| vaults::count_sealed_by_others(connection, &name));
        count.await.map_err(VaultError::Store)
    }

    async fn wrapped_anew(
        &self,
        current: &dyn RootKey,
        row: &VaultRow,
        former: &SealedKey,
    ) -> Result<SealedKey, VaultError> {
        let key = self.unwrap(former, &row.workspace, &row.id).await?;
        wrap(current, &key, &context(&row.workspace, &row.id)).await
    }

    async fn data_key(
        &self,
        sealed: &SealedKey,
        workspace: &str,
        vault: &str,
    ) -> Result<Arc<DataKey>, VaultError> {
        if let Some(key) = self.room.data_keys.find(workspace, vault, sealed, Instant::now()) {
            return Ok(key);
        }
        let key = Arc::new(self.unwrap(sealed, workspace, vault).await?);
        self.room.data_keys.keep(workspace, vault, sealed, Arc::clone(&key));
        Ok(key)
    }

    async fn unwrap(
        &self,
        sealed: &SealedKey,
        workspace: &str,
        vault: &str,
    ) -> Result<DataKey, VaultError> {
        let root = self.room.parts.keys.named(&sealed.root_key)?;
        let wrapped = STANDARD.decode(&sealed.data_key).map_err(|_| VaultError::Sealed)?;
        Ok(root.unwrap(&wrapped, &context(workspace, vault)).await?)
    }
}

/// A vault's key as its row has it; none once it is archived.
pub(super) fn sealed_key(row: &VaultRow) -> Option<SealedKey> {
    Some(SealedKey { root_key: row.root_key.clone()?, data_key: row.data_key.clone()? })
}

/// What a vault's key is bound to. Ids have no stroke.
fn context(workspace: &str, vault: &str) -> String {
    format!("{workspace}/{vault}")
}

async fn wrap(root: &dyn RootKey, key: &DataKey, context: &str) -> Result<SealedKey, VaultError> {
    let wrapped = root.wrap(key, context).await?;
    Ok(SealedKey { root_key: root.name().to_owned(), data_key: STANDARD.encode(wrapped) })
}

/// What a credential's secrets are bound to: each part behind its length, so that no two places
/// have the same.
fn place(at: Binding<'_>) -> Vec<u8> {
    let mut place = vec![FORMAT];
    for part in [LABEL, at.workspace, at.vault, at.credential] {
        place.extend((part.len() as u64).to_be_bytes());
        place.extend(part.as_bytes());
    }
    place
}

fn cipher(key: &DataKey) -> Result<LessSafeKey, VaultError> {
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| VaultError::Sealed)?;
    Ok(LessSafeKey::new(key))
}

pub(super) fn seal(
    key: &DataKey,
    at: Binding<'_>,
    secrets: &Secrets,
) -> Result<String, VaultError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| VaultError::Chance)?;
    let plain = Plain::of(secrets);
    // In one piece from the beginning: a vector that grows leaves copies behind. No byte becomes
    // more than six in JSON.
    let room = 256 + 6 * plain.length();
    let mut sealed = Zeroizing::new(Vec::with_capacity(1 + NONCE + room + TAG));
    sealed.push(FORMAT);
    sealed.extend(nonce);
    serde_json::to_writer(&mut *sealed, &plain).map_err(|_| VaultError::Sealed)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = cipher(key)?
        .seal_in_place_separate_tag(nonce, Aad::from(place(at)), &mut sealed[1 + NONCE..])
        .map_err(|_| VaultError::Sealed)?;
    sealed.extend(tag.as_ref());
    Ok(STANDARD.encode(&*sealed))
}

pub(super) fn open(key: &DataKey, at: Binding<'_>, sealed: &str) -> Result<Secrets, VaultError> {
    let failed = || VaultError::Sealed;
    let mut sealed = Zeroizing::new(STANDARD.decode(sealed).map_err(|_| failed())?);
    let (format, rest) = sealed.split_first_mut().ok_or_else(failed)?;
    if *format != FORMAT {
        return Err(failed());
    }
    let (nonce, sealed) = rest.split_at_mut_checked(NONCE).ok_or_else(failed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
    let opened =
        cipher(key)?.open_in_place(nonce, Aad::from(place(at)), sealed).map_err(|_| failed())?;
    let opened: Opened = serde_json::from_slice(opened).map_err(|_| failed())?;
    Ok(opened.into())
}

/// What is sealed.
#[derive(Serialize)]
struct Plain<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_value: Option<&'a str>,
}

impl<'a> Plain<'a> {
    fn of(secrets: &'a Secrets) -> Self {
        let text =
            |secret: &'a Option<SecretString>| secret.as_ref().map(|one| one.expose_secret());
        Self {
            access_token: text(&secrets.access_token),
            refresh_token: text(&secrets.refresh_token),
            client_secret: text(&secrets.client_secret),
            token: text(&secrets.token),
            secret_value: text(&secrets.secret_value),
        }
    }

    fn length(&self) -> usize {
        [self.access_token, self.refresh_token, self.client_secret, self.token, self.secret_value]
            .into_iter()
            .flatten()
            .map(str::len)
            .sum()
    }
}

/// What was sealed. The type has no debug form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    secret_value: Option<SecretString>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Some(String::deserialize(from)?.into()))
}

impl From<Opened> for Secrets {
    fn from(opened: Opened) -> Self {
        Self {
            access_token: opened.access_token,
            refresh_token: opened.refresh_token,
            client_secret: opened.client_secret,
            token: opened.token,
            secret_value: opened.secret_value,
        }
    }
}
