//! The web of a server: its configuration, made into a reader of pages and a search.

use posthouse_net::Guard;
use posthouse_web::{fetch::Reader, search::Search};

use crate::{Error, config::Config};

/// Reads pages by way of the guard.
#[must_use]
pub fn reader(config: &Config, guard: Guard) -> Reader {
    Reader::new(guard, config.web.fetch.clone())
}

/// Searches by way of the guard, when a back end is configured.
///
/// # Errors
/// [`Error::Config`] for settings that make none.
pub fn search(config: &Config, guard: Guard) -> Result<Option<Search>, Error> {
    let made = config.web.search.clone().map(|settings| Search::new(guard, settings));
    made.transpose().map_err(|error| Error::Config(format!("web.search: the back end {error}")))
}
