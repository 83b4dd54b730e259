//! The root keys of a server: its configuration, made into keys, and read again while it runs.
//!
//! What a key seals is known to the engine's vaults. Nothing here shows a key.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use posthouse_engine::vault::{
    RootKey, RootKeyError, RootKeys, VaultError,
    root::{
        file::KeyFile,
        transit::{self, TransitParts},
        variable,
    },
};
use posthouse_net::Guard;
use posthouse_store::{
    Database,
    tables::{Connection, root_keys},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Error,
    config::{Config, Vault},
};

/// How a key is made by hand.
const BY_HAND: &str = "openssl rand -base64 32";

/// The root keys, and where they come from.
#[derive(Clone)]
pub struct Keyring {
    source: Vault,
    data: PathBuf,
    guard: Guard,
    keys: RootKeys,
}

impl Keyring {
    /// The keys of a configuration. Where they are in the data folder, the first start makes one.
    ///
    /// # Errors
    /// [`Error::KeyFile`], [`Error::Config`].
    pub fn open(config: &Config, guard: &Guard) -> Result<Self, Error> {
        let keyring = Self {
            source: config.vault.clone(),
            data: config.data.clone(),
            guard: guard.clone(),
            keys: RootKeys::new(Vec::new()),
        };
        let file = keyring.source.file(&keyring.data);
        keyring.keys.replace(match (&keyring.source, file) {
            (Vault::DataFolder, Some(path)) => KeyFile::at(path).read_or_make()?,
            _ => keyring.read()?,
        });
        Ok(keyring)
    }

    /// The keys themselves, which [`Keyring::reload`] exchanges.
    #[must_use]
    pub fn keys(&self) -> RootKeys {
        self.keys.clone()
    }

    /// Reads the keys again. The name of the one that seals from now on.
    ///
    /// # Errors
    /// As [`Keyring::open`], but no key is made; and [`Error::Vault`] when a vault needs one that
    /// is here now and would be gone. Then the keys are those of before.
    pub async fn reload(&self, database: &Database) -> Result<String, Error> {
        let keyring = self.clone();
        // Files are read there.
        let read = tokio::task::spawn_blocking(move || keyring.read()).await;
        let fresh = read.map_err(|_| posthouse_store::Error::Closed)??;
        let keys = self.keys();
        // Among the writes, so that no vault is sealed by a key that goes between look and exchange.
        let exchange = move |connection: &Connection| {
            let needed = root_keys::in_use(connection)?.into_keys();
            let is_fresh = |name: &String| fresh.iter().any(|key| key.name() == name);
            // What was lost before is not lost by this.
            let mut lost = needed.filter(|name| !is_fresh(name) && keys.named(name).is_ok());
            if let Some(name) = lost.next() {
                return Err(VaultError::from(RootKeyError::Unknown(name)).into());
            }
            let name = fresh.first().map(|key| key.name().to_owned()).unwrap_or_default();
            keys.replace(fresh);
            Ok::<_, Error>(name)
        };
        database.write(exchange).await
    }

    /// The names of keys that vaults need and that are not there, with how many need each.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn missing(&self, database: &Database) -> Result<BTreeMap<String, i64>, Error> {
        let mut needed = database.read(root_keys::in_use)?;
        needed.retain(|name, _| self.keys.named(name).is_err());
        Ok(needed)
    }

    fn read(&self) -> Result<Vec<Arc<dyn RootKey>>, Error> {
        match &self.source {
            Vault::DataFolder => match self.source.file(&self.data) {
                Some(path) => Ok(KeyFile::at(path).read()?),
                None => Ok(Vec::new()),
            },
            Vault::File(path) if !path.exists() => Err(Error::Config(format!(
                "vault.key_file: {} is not there; make one: (umask 077; {BY_HAND} > {})",
                path.display(),
                path.display()
            ))),
            Vault::File(path) => Ok(KeyFile::at(path).read()?),
            Vault::Variable { name, value } => {
                let right = format!("set it to base64 of 32 random bytes: {BY_HAND}");
                let value = set(value.as_ref(), "vault.key_env", name, &right)?;
                variable::read(value.expose_secret())
                    .map_err(|wrong| Error::Config(format!("vault.key_env: {name} {wrong}")))
            }
            Vault::Transit(transit) => {
                let right = "set it to a token that may encrypt and decrypt with the key";
                let token = set(
                    transit.token.as_ref(),
                    "vault.transit.token_env",
                    &transit.token_env,
                    right,
                )?;
                let parts = TransitParts {
                    guard: self.guard.clone(),
                    url: transit.url.clone(),
                    mount: transit.mount.clone(),
                    token: token.clone(),
                };
                Ok(transit::keys(parts, &transit.keys))
            }
        }
    }
}

/// What a variable holds.
fn set<'a>(
    value: Option<&'a SecretString>,
    key: &str,
    name: &str,
    right: &str,
) -> Result<&'a SecretString, Error> {
    value.ok_or_else(|| Error::Config(format!("{key}: {name} is not set; {right}")))
}
