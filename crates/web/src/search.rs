//! Searches: back ends that are asked, and what they find.

use crate::{Domains, fetch::FetchError};

/// A search back end, ready to be asked. Clones share it.
#[derive(Clone)]
pub struct Search {}

/// A search that is wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The words.
    pub query: String,
    /// What may be found.
    pub domains: Domains,
    /// Where the user is.
    pub location: Option<Location>,
}

/// About where a user is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// A city.
    pub city: Option<String>,
    /// A region.
    pub region: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
    /// An IANA time zone.
    pub timezone: Option<String>,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub url: String,
    /// Its title.
    pub title: String,
    /// What it says about the query.
    pub texts: Vec<String>,
}

impl Search {
    /// Searches. Hits that the rules don't allow are left out.
    ///
    /// # Errors
    /// [`FetchError`], with the codes of searches.
    pub async fn search(&self, _query: &Query) -> Result<Vec<Hit>, FetchError> {
        todo!()
    }
}
