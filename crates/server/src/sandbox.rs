//! The hands of a server: its configuration, made into cages.
//!
//! Nothing is started here; a cage is, when a session wants a tool.

use std::{sync::Arc, time::Duration};

use posthouse_engine::{Caged, CagedParts, Chance, Clock, Hands, Vaults};
use posthouse_net::Guard;
use posthouse_sandbox::{Cages, Settings};
use posthouse_store::{Blobs, Log};

use crate::{Error, config::Config};

/// The folder of sessions' files, in the data folder.
pub const FOLDER: &str = "sandboxes";
/// How much longer each cage takes to start, in milliseconds; for benches.
const DELAY: &str = "POSTHOUSE_CAGE_DELAY_MS";

/// The hands for a configuration. `guard` is the way out of all cages; `vaults` have the secrets of
/// sessions, and write down what their sandboxes have done.
///
/// # Errors
/// [`Error::File`] when the folder can't be used.
pub fn hands(
    config: &Config,
    guard: Guard,
    log: &Log,
    blobs: &Blobs,
    vaults: &Vaults,
) -> Result<Arc<dyn Hands>, Error> {
    let folder = config.data.join(FOLDER);
    let delay = std::env::var(DELAY).ok().and_then(|delay| delay.parse().ok()).unwrap_or(0);
    let settings = Settings {
        isolation: config.sandbox.isolation,
        limits: config.sandbox.limits,
        warm: config.sandbox.warm,
        start: config.sandbox.start,
        folder: folder.clone(),
        helper: config.helper.clone(),
        delay: Duration::from_millis(delay),
    };
    let failed = |source| Error::File { path: folder.clone(), source };
    let cages = Cages::new(settings, guard).map_err(failed)?;
    // A row that can't be read is no reason to delete anything.
    let known = |session: &str| log.row(session).map_or(true, |row| row.is_some());
    cages.delete_unknown(known).map_err(failed)?;
    Ok(Arc::new(Caged::new(CagedParts {
        cages,
        log: log.clone(),
        blobs: blobs.clone(),
        vaults: vaults.clone(),
        file_bytes: config.files.max_bytes,
        quota_bytes: config.files.quota_bytes,
        clock: Clock::System,
        chance: Chance::system(),
    })))
}
