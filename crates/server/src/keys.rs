//! API keys: who a secret belongs to, and how the first one comes to be.
//!
//! A generated key is shown once and stored as SHA-256. `POSTHOUSE_API_KEY` and the token of
//! this start live in memory alone, so that changing them revokes the old ones.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use posthouse_protocol::{Micros, id::IdKind};
use posthouse_store::{
    Database,
    record::hex,
    tables::{self, keys::KeyRow},
};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The workspace of everything until there are several.
pub const WORKSPACE: &str = "wrkspc_default";

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
}

/// All keys that open the server. Secrets are not in here, only their hashes.
#[derive(Default)]
pub struct Keys(RwLock<HashMap<[u8; 32], Principal>>);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        write!(formatter, "Keys({count})")
    }
}

/// What [`Keys::open`] has made.
#[derive(Debug)]
pub struct Opened {
    /// The keys.
    pub keys: Keys,
    /// The token of this start, for programs that may read the data folder.
    pub token: String,
    /// The first key, when it was made just now: the only time that it is known.
    pub generated: Option<String>,
}

impl Keys {
    /// Reads the stored keys and adds those that live in memory. When there is no key at all,
    /// one is made.
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
        keys.add(&token, principal("key_local"));
        let stored = database.read(tables::keys::live)?;
        for row in &stored {
            keys.add_row(row);
        }
        let generated = match api_key {
            Some(api_key) => {
                keys.add(api_key, principal("key_environment"));
                None
            }
            None if database.read(tables::keys::any)? => None,
            None => {
                let generated = secret("phk_")?;
                let row = KeyRow {
                    id: mint(IdKind::Key, at)?,
                    workspace: WORKSPACE.into(),
                    name: "first".into(),
                    secret_hash: hex(&hash(&generated)),
                    admin: true,
                    created_at: at.0,
                    revoked_at: None,
                };
                keys.add_row(&row);
                database.write(move |connection| tables::keys::insert(connection, &row)).await?;
                Some(generated)
            }
        };
        Ok(Opened { keys, token, generated })
    }

    /// Whom a secret belongs to.
    #[must_use]
    pub fn principal(&self, secret: &str) -> Option<Principal> {
        // A lookup by hash takes the same time whatever was guessed.
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&hash(secret)).cloned()
    }

    fn add(&self, secret: &str, principal: Principal) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(hash(secret), principal);
    }

    fn add_row(&self, row: &KeyRow) {
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(row.secret_hash.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let principal = Principal {
            key_id: row.id.as_str().into(),
            workspace: row.workspace.as_str().into(),
            admin: row.admin,
        };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(hash, principal);
    }
}

fn principal(key_id: &str) -> Principal {
    Principal { key_id: key_id.into(), workspace: WORKSPACE.into(), admin: true }
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
}
