//! What `posthouse doctor` finds of root keys and of authorities. Makes no key, asks no service, and
//! shows names of keys alone.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use posthouse_engine::vault::root::{file::KeyFile, variable};
use posthouse_sandbox::host::State;
use posthouse_store::tables::root_keys;
use secrecy::ExposeSecret as _;

use super::{Finding, finding};
use crate::{
    Error,
    config::{Config, Vault},
    egress,
};

/// Where the root keys are, whether they open what is there, and the authorities.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let (key, names) = root_key(config);
    let mut found = vec![key];
    found.extend(names.and_then(|names| sealed(&config.data, &names)));
    found.extend(trusted_roots(config));
    found
}

/// The keys that are configured, and their names when they can be used.
fn root_key(config: &Config) -> (Finding, Option<BTreeSet<String>>) {
    let row = |state, detail: String, mend| finding("root key", state, detail, mend);
    let wrong = |detail: String, mend| (row(State::Missing, detail, mend), None);
    match &config.vault {
        Vault::DataFolder | Vault::File(_) => {
            let path = config.vault.file(&config.data).unwrap_or_default();
            let shown = path.display();
            let made_here = matches!(config.vault, Vault::DataFolder);
            if !path.exists() {
                return match made_here {
                    true => {
                        let detail = format!("{shown}, made at the first start");
                        (row(State::Ok, detail, None), Some(BTreeSet::new()))
                    }
                    false => {
                        wrong(format!("{shown} is not there"), Some("make it, or mount its disk"))
                    }
                };
            }
            let names: Vec<String> = match KeyFile::at(&path).read() {
                Ok(keys) => keys.iter().map(|key| key.name().to_owned()).collect(),
                Err(error) => return wrong(Error::from(error).with_causes(), None),
            };
            let mend = on_one_disk(&path, &config.data).then_some(
                "it is on the disk of the database, and so is a copy of both: vault.key_file puts \
                 it elsewhere",
            );
            let detail = format!("{shown}, {}", names.join(", "));
            (row(State::Ok, detail, mend), Some(names.into_iter().collect()))
        }
        Vault::Variable { name, value: None } => {
            wrong(format!("{name} is not set"), Some("set it where the server is started"))
        }
        Vault::Variable { name, value: Some(value) } => {
            match variable::read(value.expose_secret()) {
                Ok(keys) => {
                    let names: Vec<String> = keys.iter().map(|key| key.name().into()).collect();
                    let detail = format!("in {name}, {}", names.join(", "));
                    (row(State::Ok, detail, None), Some(names.into_iter().collect()))
                }
                Err(error) => wrong(format!("{name} {error}"), None),
            }
        }
        Vault::Transit(transit) => {
            let detail = format!("{} of {}", transit.keys.join(", "), transit.url);
            if transit.token.is_none() {
                let variable = &transit.token_env;
                let detail = format!("{detail}, its token is missing: {variable} is not set");
                return wrong(detail, Some("set it where the server is started"));
            }
            let name = |key: &String| format!("transit:{}/{key}", transit.mount);
            let names = transit.keys.iter().map(name).collect();
            let detail = format!("{detail}, its token is in {}", transit.token_env);
            (row(State::Ok, detail, None), Some(names))
        }
    }
}

fn on_one_disk(path: &Path, data: &Path) -> bool {
    let disk = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let database = data.join("posthouse.db");
    disk(path).is_some_and(|one| disk(&database).or_else(|| disk(data)) == Some(one))
}

/// Whether there are vaults that none of these keys opens.
fn sealed(data: &Path, names: &BTreeSet<String>) -> Option<Finding> {
    let needed = match root_keys::look(data) {
        Ok(needed) => needed?,
        Err(error) => {
            let detail = format!("can't be looked at: {}", Error::from(error).with_causes());
            return Some(finding("vaults", State::Degraded, detail, None));
        }
    };
    let count: i64 = needed.values().sum();
    let missing: Vec<String> = needed
        .iter()
        .filter(|(name, _)| !names.contains(*name))
        .map(|(name, count)| format!("{count} need {name}, which is not configured"))
        .collect();
    Some(match missing.is_empty() {
        true => finding("vaults", State::Ok, format!("{count}, all of them open"), None),
        false => {
            let mend = "add the key behind the one that seals; without it these vaults are lost";
            finding("vaults", State::Missing, missing.join("; "), Some(mend))
        }
    })
}

fn trusted_roots(config: &Config) -> Option<Finding> {
    let path = config.egress.trusted_roots.as_ref()?;
    let name = "trusted roots";
    Some(match egress::rules(&config.egress) {
        Ok(rules) => {
            let detail = format!("{} of {}", rules.trusted_roots.len(), path.display());
            finding(name, State::Ok, detail, None)
        }
        Err(error) => finding(name, State::Missing, error.with_causes(), None),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use posthouse_store::{Database, Durability, Faults, Options};

    use super::*;
    use crate::config::Flags;

    fn config(folder: &Path, text: &str) -> Config {
        let path = folder.join("config.toml");
        fs::write(&path, text).unwrap();
        let flags =
            Flags { config: Some(path), data: Some(folder.join("data")), ..Flags::default() };
        Config::load(&flags, &|_| None).unwrap()
    }

    fn found(config: &Config) -> Vec<(State, String, String)> {
        let found = findings(config).into_iter();
        found.map(|one| (one.state, one.name, one.detail)).collect()
    }

    #[test]
    fn the_key_is_looked_at_and_none_is_made() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = config(folder.path(), "");
        let rows = found(&config);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].2.ends_with("data/vault.key, made at the first start"), "{rows:?}");
        assert!(!folder.path().join("data").exists(), "it has made something");

        fs::create_dir(folder.path().join("data")).unwrap();
        let file = KeyFile::at(folder.path().join("data/vault.key"));
        let name = file.read_or_make().unwrap()[0].name().to_owned();
        let all = findings(&config);
        assert!(all[0].detail.ends_with(&format!("vault.key, {name}")), "{all:?}");
        assert!(all[0].mend.as_ref().unwrap().contains("vault.key_file"), "{all:?}");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let rows = found(&config);
        assert_eq!(rows[0].0, State::Missing);
        assert!(rows[0].2.contains("right would be 0600"), "{rows:?}");
    }

    #[test]
    fn vaults_that_no_key_opens_are_found() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = config(folder.path(), "");
        let database = Database::open(Options {
            folder: config.data.clone(),
            durability: Durability::None,
            faults: Faults::default(),
        });
        database.unwrap().close();
        let file = KeyFile::at(config.data.join("vault.key"));
        file.read_or_make().unwrap();
        let rows = found(&config);
        assert_eq!(rows[1], (State::Ok, "vaults".to_owned(), "0, all of them open".to_owned()));
        let none = BTreeSet::new();
        let needed = |names: &BTreeSet<String>| sealed(&config.data, names).unwrap().state;
        assert_eq!(needed(&none), State::Ok);
        let mut before: Vec<_> = fs::read_dir(&config.data).unwrap().collect();
        found(&config);
        before.retain(|entry| !entry.as_ref().unwrap().path().exists());
        assert!(before.is_empty(), "a look changes nothing");
    }

    #[test]
    fn what_is_configured_and_not_there_is_missing() {
        let folder = tempfile::TempDir::new().unwrap();
        let transit = "[vault.transit]\nurl = \"https://v.example\"\nkey = \"k\"\n\
                       token_env = \"TOKEN\"";
        for (text, detail) in [
            ("[vault]\nkey_file = \"no.key\"", "no.key is not there"),
            ("[vault]\nkey_env = \"NO_KEY\"", "NO_KEY is not set"),
            (transit, "k of https://v.example, its token is missing: TOKEN is not set"),
            ("[egress]\ntrusted_roots = \"no.pem\"", "no.pem can't be read; name a file in PEM"),
        ] {
            let rows = found(&config(folder.path(), text));
            let row = rows.iter().find(|row| row.0 == State::Missing);
            assert!(row.is_some_and(|row| row.2.contains(detail)), "{text}: {rows:?}");
        }
    }
}
