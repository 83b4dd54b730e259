//! `[vault]` of the file: where the root keys are that seal the keys of vaults.
//!
//! Reads and checks values, each by the name of its key. A key itself never stands in the file, and
//! nothing here opens a file of keys or asks a service.

use std::path::{Path, PathBuf};

use axum::http::Uri;
use secrecy::SecretString;
use serde::Deserialize;
use toml::Value;

use super::{
    Variables,
    sandbox::{path, wrong},
};
use crate::Error;

/// The file of keys in the data folder, when nothing else is configured.
const USUAL_FILE: &str = "vault.key";
/// Where the engine of a key service is mounted unless told otherwise.
const USUAL_MOUNT: &str = "transit";

/// Where the root keys of vaults are.
#[derive(Debug, Clone, Default)]
pub enum Vault {
    /// In `vault.key` of the data folder, which the first start makes.
    #[default]
    DataFolder,
    /// In another file, which somebody else has made.
    File(PathBuf),
    /// In a variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// What it holds, if it is set.
        value: Option<SecretString>,
    },
    /// In a key service.
    Transit(Transit),
}

/// A key service that speaks the transit API of HashiCorp Vault and OpenBao.
#[derive(Debug, Clone)]
pub struct Transit {
    /// Its address, without a path.
    pub url: String,
    /// Where the engine is mounted.
    pub mount: String,
    /// The names of its keys, the one that seals first.
    pub keys: Vec<String>,
    /// The variable that holds the token.
    pub token_env: String,
    /// The token, if it is set.
    pub token: Option<SecretString>,
}

impl Vault {
    /// The file of keys, where they are in one.
    #[must_use]
    pub fn file(&self, data: &Path) -> Option<PathBuf> {
        match self {
            Self::DataFolder => Some(data.join(USUAL_FILE)),
            Self::File(path) => Some(path.clone()),
            Self::Variable { .. } | Self::Transit(_) => None,
        }
    }
}

/// `[vault]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VaultEntry {
    key_file: Option<Value>,
    key_env: Option<Value>,
    transit: Option<TransitEntry>,
}

/// `[vault.transit]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TransitEntry {
    url: Option<Value>,
    key: Option<Value>,
    token_env: Option<Value>,
    mount: Option<Value>,
}

impl VaultEntry {
    /// Checks every value. `folder` is where relative paths begin.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(super) fn read(self, folder: &Path, variables: Variables<'_>) -> Result<Vault, Error> {
        let Self { key_file, key_env, transit } = self;
        match (key_file, key_env, transit) {
            (None, None, None) => Ok(Vault::DataFolder),
            (Some(value), None, None) => Ok(Vault::File(path("vault.key_file", &value, folder)?)),
            (None, Some(value), None) => {
                let name = variable_name("vault.key_env", &value, "POSTHOUSE_VAULT_KEY")?;
                let value = variables(&name).map(SecretString::from);
                Ok(Vault::Variable { name, value })
            }
            (None, None, Some(entry)) => Ok(Vault::Transit(entry.read(variables)?)),
            _ => Err(Error::Config(
                "vault: has more than one of key_file, key_env and transit; write one of them"
                    .into(),
            )),
        }
    }
}

impl TransitEntry {
    fn read(self, variables: Variables<'_>) -> Result<Transit, Error> {
        let Self { url, key, token_env, mount } = self;
        let missing = |key: &str, right: &str| {
            Error::Config(format!("vault.transit.{key}: is missing; write {right}"))
        };
        let right = "\"https://vault.example.com\"";
        let value = url.ok_or_else(|| missing("url", right))?;
        let url = value.as_str().and_then(origin).ok_or_else(|| {
            let what = "is no address without a path";
            wrong("vault.transit.url", &value, what, &format!("write it as {right}"))
        })?;
        let right = "\"posthouse\", or [\"posthouse-2\", \"posthouse\"] to open with older ones";
        let value = key.ok_or_else(|| missing("key", right))?;
        let texts: Option<Vec<&str>> = match &value {
            Value::Array(values) => values.iter().map(Value::as_str).collect(),
            other => other.as_str().map(|text| vec![text]),
        };
        let names = texts.filter(|texts| {
            let differ = texts.iter().enumerate().all(|(at, text)| !texts[..at].contains(text));
            !texts.is_empty() && differ && texts.iter().all(|text| is_segment(text))
        });
        let keys = names.ok_or_else(|| {
            let what = "is neither a name of a key nor a list of different ones";
            wrong("vault.transit.key", &value, what, &format!("write {right}"))
        })?;
        let keys = keys.into_iter().map(str::to_owned).collect();
        let value = token_env.ok_or_else(|| missing("token_env", "\"VAULT_TOKEN\""))?;
        let token_env = variable_name("vault.transit.token_env", &value, "VAULT_TOKEN")?;
        let mount = match mount {
            None => USUAL_MOUNT.to_owned(),
            Some(value) => {
                let text = value.as_str().map(|text| text.trim_matches('/'));
                let text = text.filter(|text| text.split('/').all(is_segment));
                text.map(str::to_owned).ok_or_else(|| {
                    let right = "write it as \"transit\" or \"house/transit\"";
                    wrong("vault.transit.mount", &value, "is no mount", right)
                })?
            }
        };
        let token = variables(&token_env).map(|token| SecretString::from(token.trim()));
        Ok(Transit { url, mount, keys, token_env, token })
    }
}

/// An address without a path, a query or a user.
fn origin(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| ["https", "http"].contains(scheme))?;
    let authority = uri.authority()?.as_str();
    let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    (bare && !authority.contains('@')).then(|| format!("{scheme}://{authority}"))
}

/// Whether a text is one part of a path, to every reader of paths.
fn is_segment(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(fine)
}

pub(super) fn variable_name(key: &str, value: &Value, example: &str) -> Result<String, Error> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let text = value.as_str().filter(|text| !text.is_empty() && text.bytes().all(fine));
    text.map(str::to_owned).ok_or_else(|| {
        // Whoever writes a key where its variable's name belongs does not want to see it again.
        Error::Config(format!(
            "{key}: is no name of a variable; write the name alone, such as \"{example}\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(text: &str) -> Result<Vault, String> {
        let entry: VaultEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        let variables = |name: &str| match name {
            "KEYS" => Some("a,b".to_owned()),
            "TOKEN" => Some("hvs.1\n".to_owned()),
            _ => None,
        };
        entry.read(Path::new("/etc/house"), &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_in_the_data_folder_unless_told_otherwise() {
        let vault = read("").unwrap();
        assert_eq!(vault.file(Path::new("/d")).as_deref(), Some(Path::new("/d/vault.key")));
        for (text, file) in [("a.key", "/etc/house/a.key"), ("/srv/a.key", "/srv/a.key")] {
            let vault = read(&format!("key_file = {text:?}")).unwrap();
            assert_eq!(vault.file(Path::new("/d")).as_deref(), Some(Path::new(file)));
        }
        let Vault::Variable { name, value } = read("key_env = \"KEYS\"").unwrap() else { panic!() };
        assert_eq!((name.as_str(), value.unwrap().expose_secret()), ("KEYS", "a,b"));
        let Vault::Variable { value, .. } = read("key_env = \"UNSET\"").unwrap() else { panic!() };
        assert!(value.is_none());
    }

    #[test]
    fn a_key_service_has_an_address_a_key_and_a_token() {
        let rest = "token_env = \"TOKEN\"";
        let text = format!("[transit]\nurl = \"https://v.example:8200/\"\nkey = \"k\"\n{rest}");
        let Vault::Transit(transit) = read(&text).unwrap() else { panic!() };
        assert_eq!(transit.url, "https://v.example:8200");
        assert_eq!((transit.mount.as_str(), &transit.keys[..]), ("transit", &["k".to_owned()][..]));
        assert_eq!(transit.token.as_ref().unwrap().expose_secret(), "hvs.1");
        assert!(!format!("{transit:?}").contains("hvs.1"));
        let text = format!(
            "[transit]\nurl = \"http://v.example\"\nkey = [\"b\", \"a\"]\nmount = \"/h/t/\"\n{rest}"
        );
        let Vault::Transit(transit) = read(&text).unwrap() else { panic!() };
        assert_eq!((transit.mount.as_str(), transit.keys.concat().as_str()), ("h/t", "ba"));
    }

    #[test]
    fn every_key_stands_in_the_document() {
        let document = include_str!("../../../../docs/CONFIGURATION.md");
        let mut keys = Vec::new();
        for (table, text) in [("vault", "no_such = 1"), ("vault.transit", "[transit]\nno_such = 1")]
        {
            let refusal = read(text).unwrap_err();
            let refusal = refusal.split("expected").nth(1).unwrap();
            keys.extend(refusal.split('`').skip(1).step_by(2).map(|key| format!("{table}.{key}")));
        }
        keys.retain(|key| key != "vault.transit");
        assert_eq!(keys.len(), 6, "{keys:?}");
        for key in &keys {
            assert!(document.contains(&format!("| `{key}` |")), "{key} is not in the document");
        }
        let documented = document.lines().filter(|line| line.starts_with("| `vault."));
        assert_eq!(documented.count(), keys.len(), "the document has keys that are not read");
    }

    #[test]
    fn a_bad_value_is_named_with_its_key_and_what_would_be_right() {
        let transit = |text: &str| format!("[transit]\n{text}");
        let whole = |url: &str, key: &str| transit(&format!("url = {url}\nkey = {key}"));
        let good = "\"https://v.example\"";
        for (text, key, right) in [
            ("key_file = 1".to_owned(), "vault.key_file", "write it as"),
            ("key_env = \"\"".to_owned(), "vault.key_env", "POSTHOUSE_VAULT_KEY"),
            ("key_env = \"c2VjcmV0/+==\"".to_owned(), "vault.key_env", "the name alone"),
            ("key_env = \"A\"\nkey_file = \"b\"".to_owned(), "vault", "one of them"),
            ("key_env = \"A\"\n[transit]".to_owned(), "vault", "one of them"),
            ("[aws]".to_owned(), "aws", "key_file"),
            (transit(""), "vault.transit.url: is missing", "https://"),
            (transit("url = \"https://v.example\""), "vault.transit.key: is missing", "posthouse"),
            (whole(good, "\"k\""), "vault.transit.token_env: is missing", "VAULT_TOKEN"),
            (whole("\"v.example\"", "\"k\""), "vault.transit.url", "https://"),
            (whole("\"ftp://v.example\"", "\"k\""), "vault.transit.url", "https://"),
            (whole("\"https://v.example/v1\"", "\"k\""), "vault.transit.url", "https://"),
            (whole("\"https://u:p@v.example\"", "\"k\""), "vault.transit.url", "https://"),
            (whole(good, "\"a/b\""), "vault.transit.key", "posthouse-2"),
            (whole(good, "\"..\""), "vault.transit.key", "posthouse-2"),
            (whole(good, "[]"), "vault.transit.key", "posthouse-2"),
            (whole(good, "[\"a\", \"a\"]"), "vault.transit.key", "different"),
            (
                whole(good, "\"k\"\ntoken_env = \"T\"\nmount = \"a/../b\""),
                "vault.transit.mount",
                "house/transit",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(key) && error.contains(right), "{text}: {error}");
            assert!(!error.contains("c2Vj"), "{error}");
        }
    }
}
