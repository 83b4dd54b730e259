//! `posthouse vaults`: signs in to MCP servers, and gives the vaults of a data folder another root key
//! while its server runs, or when none does. Shows names of keys, never a key.

mod connect;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use posthouse_engine::{Chance, Clock, VaultParts, Vaults, vault::root::file::KeyFile};
use posthouse_net::Guard;
use posthouse_store::{Database, Durability, Faults, Options};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    plain::{harmless, harmless_json},
    say_text as say, variable,
};
use crate::{
    Error,
    client::Client,
    config::{Config, Flags, Vault},
    egress,
    root_keys::Keyring,
};

const PATH: &str = "/posthouse/v1/root_key/rotate";

/// `posthouse vaults …`.
#[derive(Debug, Args)]
pub(super) struct VaultsArguments {
    /// The data folder [default: posthouse in the XDG data folder]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The configuration file [default: posthouse/config.toml in the XDG config folder]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal the keys of all vaults with a new root key, then remove the old one.
    RotateKey(RotateArguments),
    /// Sign in to an MCP server, and keep what that gives in a vault of the running server.
    Connect(Box<connect::ConnectArguments>),
}

#[derive(Debug, Args)]
struct RotateArguments {
    /// Make no new key, and do what an earlier rotation has left
    #[arg(long)]
    finish: bool,
    /// Leave the old keys in the file: older backups can't be opened without them
    #[arg(long)]
    keep: bool,
}

/// What a rotation came to.
#[derive(Debug, Serialize, Deserialize)]
struct Rotated {
    /// The key that seals.
    root_key: String,
    rewrapped: usize,
    pending: usize,
    /// Old keys that are gone.
    #[serde(default)]
    removed: Vec<String>,
}

/// Runs what was typed.
///
/// # Errors
/// [`Error::KeyFile`], [`Error::Config`], [`Error::Rotation`] when something is left to do,
/// [`Error::SignIn`], and those of the server.
pub(super) async fn run(arguments: VaultsArguments) -> Result<(), Error> {
    let VaultsArguments { data, config, json, command } = arguments;
    let config = Config::load(&Flags { listen: None, data, config }, &variable)?;
    match command {
        Command::RotateKey(how) => rotate_key(&config, json, &how).await,
        Command::Connect(arguments) => connect::run(&config, json, *arguments).await,
    }
}

async fn rotate_key(config: &Config, json: bool, how: &RotateArguments) -> Result<(), Error> {
    let (rotated, next) = match config.vault.file(&config.data) {
        Some(path) => (rotate(config, &KeyFile::at(path), how).await?, None),
        None if how.finish || how.keep => {
            let message = "--finish and --keep are for keys in a file, and these are elsewhere";
            return Err(Error::Usage(message.into()));
        }
        None => (seal(config).await?, Some(next_step(&config.vault))),
    };
    if json {
        say(&format!("{}\n", harmless_json(&json!(rotated))));
    } else {
        say(&harmless(&print(&rotated)));
        if let Some(next) = next.filter(|_| rotated.rewrapped == 0 && rotated.pending == 0) {
            say(&harmless(&next));
        }
    }
    if rotated.pending > 0 {
        return Err(Error::Rotation(format!(
            "{} vaults are still sealed by other root keys; they are kept",
            rotated.pending
        )));
    }
    Ok(())
}

/// Makes a key, has everything sealed by it, and removes the others.
async fn rotate(config: &Config, file: &KeyFile, how: &RotateArguments) -> Result<Rotated, Error> {
    let changing = file.change()?;
    let root_key = if how.finish { first(file)? } else { changing.add()? };
    // Whatever goes wrong from here on, the new key is in the file and stays there.
    let incomplete = |error: Error| Error::Rotation(error.with_causes());
    let mut rotated = seal(config).await.map_err(incomplete)?;
    if rotated.root_key != root_key {
        return Err(Error::Rotation(format!(
            "the server seals with {}, and the first key of {} is {root_key}; was it started with \
             another configuration? No key was removed",
            rotated.root_key,
            file.path().display(),
        )));
    }
    if rotated.pending == 0 && !how.keep {
        rotated.removed = changing.keep_first(&root_key)?;
    }
    Ok(rotated)
}

fn first(file: &KeyFile) -> Result<String, Error> {
    let keys = file.read()?;
    Ok(keys.first().map(|key| key.name().to_owned()).unwrap_or_default())
}

/// Has all vaults sealed by the first key: by the server, else by ourselves.
async fn seal(config: &Config) -> Result<Rotated, Error> {
    let asked = match Client::local(&config.data) {
        Ok(client) => client.post(PATH, &json!({})).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) => serde_json::from_value(answer).map_err(|error| Error::Strange {
            url: config.data.display().to_string(),
            what: error.to_string(),
        }),
        // What a server that is gone has left leads nowhere, or to somebody else. One that is there
        // and does not answer has locked the folder.
        Err(
            Error::NoServer { .. }
            | Error::Connection { .. }
            | Error::Strange { .. }
            | Error::Refused { status: 401 | 404, .. },
        ) => seal_here(config).await,
        Err(error) => Err(error),
    }
}

async fn seal_here(config: &Config) -> Result<Rotated, Error> {
    let database = Database::open(Options {
        folder: config.data.clone(),
        durability: Durability::Disk,
        faults: Faults::default(),
    })?;
    let guard = Guard::new(egress::rules(&config.egress)?, Vec::new());
    let keyring = Keyring::open(config, &guard)?;
    let root_key = keyring.keys().current().map_err(posthouse_engine::vault::VaultError::from)?;
    let vaults = Vaults::new(VaultParts {
        database: database.clone(),
        keys: keyring.keys(),
        guard,
        clock: Clock::System,
        chance: Chance::system(),
    });
    let rewrapped = vaults.rewrap().await?;
    let pending = vaults.pending().await?;
    // Closing waits for the committer.
    let _ = tokio::task::spawn_blocking(move || database.close()).await;
    let root_key = root_key.name().to_owned();
    Ok(Rotated { root_key, rewrapped, pending, removed: Vec::new() })
}

fn print(rotated: &Rotated) -> String {
    let Rotated { root_key, rewrapped, pending, removed } = rotated;
    let mut text = format!("root key   {root_key}\nsealed     {rewrapped} vaults anew\n");
    if *pending > 0 {
        text.push_str(&format!("left       {pending} vaults\n"));
    }
    if !removed.is_empty() {
        text.push_str(&format!("removed    {}\n", removed.join(", ")));
    }
    text
}

/// How keys are rotated that are not ours to change.
fn next_step(vault: &Vault) -> String {
    let (what, old) = match vault {
        Vault::Transit(_) => ("the new key's name in front in vault.transit.key", "the old name"),
        _ => ("a new key in front of the others in the variable, with a comma", "the old key"),
    };
    format!(
        "to rotate: put {what}, start the server again, and run this once more; then {old} can go\n"
    )
}
