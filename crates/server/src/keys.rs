//! API keys: who a secret belongs to, and how the first one comes to be.
//!
//! A generated key is shown once and stored as SHA-256. `POSTHOUSE_API_KEY` and the token of
//! this start live in memory alone, so that changing them revokes the old ones. A key that has
//! expired or was revoked is one that nobody knows.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use posthouse_protocol::{Micros, id::IdKind};
use posthouse_store::{
    Database,
    record::hex,
    tables::{
        self,
        keys::KeyRow,
        workspaces::{self, WorkspaceRow},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::{Error, scope::Scopes};

/// The workspace that is always there.
pub const WORKSPACE: &str = "wrkspc_default";

/// Its name.
const WORKSPACE_NAME: &str = "default";

/// The letters of generated secrets.
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whom a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's id.
    pub key_id: Arc<str>,
    /// Whose things it opens.
    pub workspace: Arc<str>,
    /// Whether it opens what only operators may see.
    pub admin: bool,
    /// Whether it speaks for the whole server: an administrator's, in a request that names no
    /// workspace.
    pub everywhere: bool,
    /// What it may do.
    pub scopes: Arc<Scopes>,
    /// From when on the key opens nothing.
    pub expires_at: Option<Micros>,
}

/// A key, as a request meets it.
struct Key {
    principal: Principal,
    /// Goes with the key: whoever waits for the key's end hears it.
    life: watch::Sender<()>,
}

impl Key {
    fn is_open(&self, at: Micros) -> bool {
        self.principal.expires_at.is_none_or(|end| at < end)
    }
}

/// All keys that open the server. Secrets are not in here, only their hashes.
#[derive(Default)]
pub struct Keys(RwLock<HashMap<[u8; 32], Key>>);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({})", self.all().len())
    }
}

/// What [`Keys::open`] has made.
pub struct Opened {
    /// The keys.
    pub keys: Keys,
    /// The token of this start, for programs that may read the data folder.
    pub token: String,
    /// The first key, when it was made just now: the only time that it is known.
    pub generated: Option<String>,
}

/// A key to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// Whose things it opens.
    pub workspace: String,
    /// Whether it opens what only operators may see.
    pub admin: bool,
    /// What it may do.
    pub scopes: Scopes,
    /// From when on it opens nothing.
    pub expires_at: Option<Micros>,
}

impl NewKey {
    /// The key's secret, and the row that knows it.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn generate(self, at: Micros) -> Result<(String, KeyRow), Error> {
        let secret = secret("phk_")?;
        let row = KeyRow {
            id: mint(IdKind::Key, at)?,
            workspace: self.workspace,
            name: self.name,
            secret_hash: hex(&hash(&secret)),
            hint: Some(format!("{}...{}", &secret[..6], &secret[secret.len() - 4..])),
            admin: self.admin,
            scopes: self.scopes.to_json(),
            created_at: at.0,
            expires_at: self.expires_at.map(|at| at.0),
            revoked_at: None,
        };
        Ok((secret, row))
    }
}

impl Keys {
    /// Reads the stored keys and adds those that live in memory. When there is no key at all,
    /// one is made; so is the default workspace.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Random`].
    pub async fn open(
        database: &Database,
        api_key: Option<&str>,
        at: Micros,
    ) -> Result<Opened, Error> {
        let keys = Self::default();
        let token = secret("pht_")?;
        keys.add_own(&token, "key_local");
        if database.read(|connection| workspaces::find(connection, WORKSPACE))?.is_none() {
            let (id, name) = (WORKSPACE.into(), WORKSPACE_NAME.into());
            let row = WorkspaceRow { id, name, created_at: at.0 };
            database.write(move |connection| workspaces::insert(connection, &row)).await?;
        }
        let stored = database.read(tables::keys::live)?;
        for row in &stored {
            keys.add(row);
        }
        let generated = match api_key {
            Some(api_key) => {
                keys.add_own(api_key, "key_environment");
                None
            }
            None if database.read(tables::keys::any)? => None,
            None => {
                let new = NewKey {
                    name: "first".into(),
                    workspace: WORKSPACE.into(),
                    admin: true,
                    scopes: Scopes::everything(),
                    expires_at: None,
                };
                let (generated, row) = new.generate(at)?;
                keys.add(&row);
                database.write(move |connection| tables::keys::insert(connection, &row)).await?;
                Some(generated)
            }
        };
        Ok(Opened { keys, token, generated })
    }

    /// Whom a secret belongs to at that time.
    #[must_use]
    pub fn principal(&self, secret: &str, at: Micros) -> Option<Principal> {
        // A lookup by hash takes the same time whatever was guessed.
        let all = self.all();
        let key = all.get(&hash(secret)).filter(|key| key.is_open(at))?;
        Some(key.principal.clone())
    }

    /// Lets a stored key in from now on.
    pub fn add(&self, row: &KeyRow) {
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(row.secret_hash.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let principal = Principal {
            key_id: row.id.as_str().into(),
            workspace: row.workspace.as_str().into(),
            admin: row.admin,
            everywhere: row.admin,
            scopes: Scopes::stored(&row.scopes).into(),
            expires_at: row.expires_at.map(Micros),
        };
        self.insert(hash, principal);
    }

    /// Lets a key in no more, and ends what it has open.
    pub fn remove(&self, key_id: &str) {
        self.all_mut().retain(|_, key| *key.principal.key_id != *key_id);
    }

    /// Waits until a key is revoked or expires; over at once for one that is not there.
    pub fn end(&self, key_id: &str, at: Micros) -> impl Future<Output = ()> + Send + use<> {
        let key = self.all().values().find(|key| *key.principal.key_id == *key_id).map(|key| {
            let left = key.principal.expires_at.map(|end| end.0.saturating_sub(at.0));
            (key.life.subscribe(), left)
        });
        async move {
            let Some((mut life, left)) = key else { return };
            // Nothing is ever sent: a change is the end.
            let revoked = async { while life.changed().await.is_ok() {} };
            let expired = async {
                match left {
                    Some(left) => {
                        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
                        tokio::time::sleep(left).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = revoked => {}
                () = expired => {}
            }
        }
    }

    /// A key that is in no table. It may do everything.
    fn add_own(&self, secret: &str, key_id: &str) {
        let principal = Principal {
            key_id: key_id.into(),
            workspace: WORKSPACE.into(),
            admin: true,
            everywhere: true,
            scopes: Scopes::everything().into(),
            expires_at: None,
        };
        self.insert(hash(secret), principal);
    }

    fn insert(&self, hash: [u8; 32], principal: Principal) {
        let key = Key { principal, life: watch::Sender::new(()) };
        self.all_mut().insert(hash, key);
    }

    fn all(&self) -> RwLockReadGuard<'_, HashMap<[u8; 32], Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> RwLockWriteGuard<'_, HashMap<[u8; 32], Key>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A new secret: a prefix and 40 letters and digits.
fn secret(prefix: &str) -> Result<String, Error> {
    let mut secret = String::from(prefix);
    let mut random = [0; 64];
    while secret.len() < prefix.len() + 40 {
        getrandom::fill(&mut random).map_err(Error::Random)?;
        // 248 is the greatest multiple of 62 in a byte: every letter is as likely.
        let letters = random.iter().filter(|byte| **byte < 248);
        let missing = prefix.len() + 40 - secret.len();
        secret
            .extend(letters.take(missing).map(|byte| char::from(LETTERS[usize::from(byte % 62)])));
    }
    Ok(secret)
}

/// A new id.
///
/// # Errors
/// [`Error::Random`].
pub fn mint(kind: IdKind, at: Micros) -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Error::Random)?;
    Ok(kind.mint(at, random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, other) = (secret("phk_").unwrap(), secret("phk_").unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 44);
        assert!(one[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    fn new_key(keys: &Keys, expires_at: Option<Micros>) -> (String, KeyRow) {
        let (workspace, scopes) = ("wrkspc_1".into(), Scopes::default());
        let new = NewKey { name: "n".into(), workspace, admin: false, scopes, expires_at };
        let (secret, row) = new.generate(Micros(1)).unwrap();
        keys.add(&row);
        (secret, row)
    }

    #[test]
    fn a_row_knows_its_secret_and_does_not_hold_it() {
        let keys = Keys::default();
        let (secret, row) = new_key(&keys, None);
        let principal = keys.principal(&secret, Micros(2)).unwrap();
        assert_eq!((&*principal.key_id, &*principal.workspace), (&*row.id, "wrkspc_1"));
        assert!(!principal.admin && !principal.everywhere);
        assert!(!format!("{row:?}{keys:?}").contains(&secret[6..]));
        let hint = row.hint.unwrap();
        assert_eq!(hint, format!("{}...{}", &secret[..6], &secret[40..]));
    }

    #[test]
    fn a_key_is_unknown_from_its_end_on() {
        let keys = Keys::default();
        let (secret, _) = new_key(&keys, Some(Micros(9)));
        assert!(keys.principal(&secret, Micros(8)).is_some());
        assert!(keys.principal(&secret, Micros(9)).is_none());
        let (other, row) = new_key(&keys, None);
        keys.remove(&row.id);
        assert!(keys.principal(&other, Micros(2)).is_none());
        assert!(keys.principal(&secret, Micros(2)).is_some());
    }

    #[tokio::test]
    async fn who_waits_for_a_keys_end_hears_it() {
        let keys = Keys::default();
        let (_, row) = new_key(&keys, None);
        let mut end = Box::pin(keys.end(&row.id, Micros(2)));
        assert!(futures_util::FutureExt::now_or_never(&mut end).is_none());
        keys.remove(&row.id);
        end.await;
        keys.end(&row.id, Micros(2)).await;
        let (_, row) = new_key(&keys, Some(Micros(9)));
        keys.end(&row.id, Micros(2)).await;
    }
}
