//! The one guard of a server: its configuration, made into rules for all that leaves.

use std::net::SocketAddr;

use posthouse_net::{Guard, Rules, read_roots};

use crate::{
    Error,
    config::{Config, Egress},
};

/// The guard for a configuration. `own` is where the server listens, which nobody reaches through it.
///
/// # Errors
/// [`Error::Config`] for a network that is none, or authorities that can't be used.
pub fn guard(config: &Config, own: SocketAddr) -> Result<Guard, Error> {
    Ok(Guard::new(rules(&config.egress)?, vec![own]))
}

/// The rules for a configuration, with the authorities read.
///
/// # Errors
/// As [`guard`].
pub fn rules(egress: &Egress) -> Result<Rules, Error> {
    let mut rules = Rules { resolve: egress.resolve.clone(), ..Rules::default() };
    for network in &egress.allow_private {
        let parsed = network.parse().map_err(|error| {
            Error::Config(format!("egress.allow_private: {network:?} is no network: {error}"))
        })?;
        rules.allow_private.push(parsed);
    }
    if let Some(path) = &egress.trusted_roots {
        let wrong = |what: &dyn std::fmt::Display| {
            Error::Config(format!("egress.trusted_roots: {} {what}", path.display()))
        };
        let pem = std::fs::read(path)
            .map_err(|error| wrong(&format_args!("can't be read; name a file in PEM: {error}")))?;
        rules.trusted_roots = read_roots(&pem).map_err(|error| wrong(&error))?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_that_cannot_be_used_are_named_with_their_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("ca.pem");
        let egress = || Egress { trusted_roots: Some(path.clone()), ..Egress::default() };
        for (text, said) in [
            (None, "ca.pem can't be read; name a file in PEM"),
            (Some(""), "ca.pem holds no certificate"),
            (Some("-----BEGIN PRIVATE KEY-----\n"), "ca.pem holds a private key"),
            (Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), "ca.pem is no PEM"),
        ] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = rules(&egress()).unwrap_err().to_string();
            assert!(error.starts_with("configuration: egress.trusted_roots: "), "{error}");
            assert!(error.contains(said), "{error}");
        }
        assert!(rules(&Egress::default()).unwrap().trusted_roots.is_empty());
    }
}
