//! Searches: back ends that are asked, and what they find.
//!
//! A back end is a pair of pure functions, one that writes a request and one that reads an answer. What
//! is in between is here: rules, bounds, the guard. Knows no page and scrapes none.

mod backend;
mod brave;
mod countries;
mod hits;
mod messages;
mod responses;
mod scope;
mod searxng;
mod serpapi;
mod tavily;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use posthouse_net::{
    Guard,
    http::{Limits, SendError, send},
};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use self::{
    backend::{Backend, Failure, Place},
    scope::Scope,
};
use crate::{Domains, fetch::FetchError};

/// The most hits of one search.
pub const MOST_HITS: usize = 10;

/// The longest answer of a back end that is read, in bytes.
const LONGEST_ANSWER: usize = 2 << 20;

/// A search back end, ready to be asked. Clones share it.
#[derive(Clone)]
pub struct Search {
    shared: Arc<Shared>,
}

struct Shared {
    guard: Guard,
    backend: Box<dyn Backend>,
    hits: usize,
    time: Duration,
}

impl fmt::Debug for Search {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.shared.backend.name();
        formatter.debug_struct("Search").field("backend", &name).finish_non_exhaustive()
    }
}

/// Who searches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// The Brave Search API.
    Brave,
    /// An instance of `SearXNG` that answers in JSON.
    Searxng,
    /// Tavily.
    Tavily,
    /// `SerpApi`, asked for Google.
    Serpapi,
    /// A model with the server tool `web_search_20250305` of the Messages API.
    Messages {
        /// The model.
        model: String,
    },
    /// A model with the tool `web_search` of the Responses API.
    Responses {
        /// The model.
        model: String,
    },
}

impl Engine {
    /// Where it is unless told otherwise. None for one that everybody has elsewhere, and for models,
    /// whose providers are known elsewhere.
    #[must_use]
    pub const fn base_url(&self) -> Option<&'static str> {
        match self {
            Self::Brave => Some("https://api.search.brave.com"),
            Self::Tavily => Some("https://api.tavily.com"),
            Self::Serpapi => Some("https://serpapi.com"),
            Self::Searxng | Self::Messages { .. } | Self::Responses { .. } => None,
        }
    }
}

/// How a back end is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who searches.
    pub engine: Engine,
    /// The address up to what the back end's API adds: `https://api.tavily.com`.
    pub base_url: String,
    /// Its key. `SearXNG` knows none; the APIs of models have theirs among `headers`.
    pub key: Option<SecretString>,
    /// Headers that go with every request.
    pub headers: HeaderMap,
    /// The most hits of one search, at most [`MOST_HITS`].
    pub hits: usize,
    /// From the look at the name to the last byte of the answer.
    pub time: Duration,
}

impl Settings {
    /// Whether they make a back end.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn check(&self) -> Result<(), Unusable> {
        self.clone().backend().map(drop)
    }

    fn backend(self) -> Result<Box<dyn Backend>, Unusable> {
        let Self { engine, base_url, key, headers, .. } = self;
        let place = Place::new(&base_url, headers)?;
        Ok(match engine {
            Engine::Brave => Box::new(brave::Brave::new(place, key.as_ref())?),
            Engine::Searxng => Box::new(searxng::Searxng::new(place)),
            Engine::Tavily => Box::new(tavily::Tavily::new(place, key.as_ref())?),
            Engine::Serpapi => Box::new(serpapi::Serpapi::new(place, key)),
            Engine::Messages { model } => Box::new(messages::Messages::new(place, model)),
            Engine::Responses { model } => Box::new(responses::Responses::new(place, model)),
        })
    }
}

/// Settings that make no back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The address.
    #[error(
        "is no address of a search back end; right would be an https URL without a user, a query \
         and a fragment"
    )]
    BaseUrl,
    /// The key.
    #[error("holds a key that fits into no header")]
    Key,
}

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
    /// Where: an http or https URL.
    pub url: String,
    /// Its title, in one line.
    pub title: String,
    /// What it says about the query. Some back ends say nothing.
    pub texts: Vec<String>,
}

impl Search {
    /// A back end that is asked through the guard.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn new(guard: Guard, settings: Settings) -> Result<Self, Unusable> {
        let (hits, time) = (settings.hits.clamp(1, MOST_HITS), settings.time);
        let backend = settings.backend()?;
        Ok(Self { shared: Arc::new(Shared { guard, backend, hits, time }) })
    }

    /// Searches. Hits that the rules don't allow are left out.
    ///
    /// # Errors
    /// [`FetchError`], with the codes of searches.
    pub async fn search(&self, query: &Query) -> Result<Vec<Hit>, FetchError> {
        let Shared { guard, backend, hits, time } = &*self.shared;
        let words = words(&query.query, backend.longest())?;
        let scope = Scope::of(&query.domains)?;
        let asked = backend::Asked {
            words: &words,
            scope: &scope,
            location: query.location.as_ref(),
            hits: *hits,
        };
        let name = backend.name();
        let request = backend.request(&asked).map_err(|error| {
            tracing::warn!(backend = name, %error, "a search can't be sent");
            refusal(Failure::Unavailable("can't be asked this"))
        })?;
        let limits = Limits { time: *time, body_bytes: LONGEST_ANSWER };
        let answer = send(guard, request, limits).await.map_err(|error| {
            // Neither the path nor a header is in it, which have keys.
            tracing::warn!(backend = name, %error, "a search has failed");
            refusal(match error {
                SendError::TimedOut { .. } => Failure::Unavailable("has not answered in time"),
                SendError::TooLarge { .. } => Failure::Unavailable("has answered with too much"),
                _ => Failure::Unavailable("can't be reached"),
            })
        })?;
        let status = answer.status();
        let found = match status {
            StatusCode::OK => match serde_json::from_slice::<Value>(answer.body()) {
                Ok(answer) => backend.read(&answer),
                Err(_) => Err(Failure::Unavailable("has answered with something else than JSON")),
            },
            _ => Err(backend.refused(status).unwrap_or_else(|| backend::of_status(status))),
        };
        let found = found.map_err(|failure| {
            // What it says beside its status may repeat the key that it was sent.
            tracing::warn!(backend = name, status = status.as_u16(), ?failure, "no search");
            refusal(failure)
        })?;
        Ok(hits::tidy(found, |url: &Url| query.domains.allows(url), *hits))
    }
}

/// The words of a query, in one line and no longer than the back end takes.
fn words(query: &str, longest: backend::Longest) -> Result<String, FetchError> {
    let words: Vec<&str> = query
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ");
    let characters = text.chars().count();
    if words.is_empty() {
        let advice = "the query is empty. Say what to search for.".to_owned();
        return Err(FetchError { code: "invalid_tool_input", advice });
    }
    if characters > longest.characters || words.len() > longest.words {
        let advice = format!(
            "the query has {characters} characters and {} words; at most {} characters and {} \
             words are searched for. Search again with fewer words.",
            words.len(),
            longest.characters,
            longest.words,
        );
        return Err(FetchError { code: "query_too_long", advice });
    }
    Ok(text)
}

/// What a model is told of a failure.
fn refusal(failure: Failure) -> FetchError {
    let (code, advice) = match failure {
        Failure::TooMany => (
            "too_many_requests",
            "the search back end is asked too often now. Wait a little before you search again, \
             and don't search for the same thing twice."
                .to_owned(),
        ),
        Failure::TooLong => (
            "query_too_long",
            "the search back end does not take so long a query. Search again with fewer words."
                .to_owned(),
        ),
        Failure::Invalid => (
            "invalid_tool_input",
            "the search back end does not take this query. Search again in other words.".to_owned(),
        ),
        Failure::Unavailable(why) => (
            "unavailable",
            format!(
                "the search back end {why}. Try again later; if it stays so, tell the user that \
                 web_search does not work now."
            ),
        ),
        Failure::Operator(why) => (
            "unavailable",
            format!(
                "the search back end {why}. Do not retry; tell the user that whoever runs this \
                 server has to put it right."
            ),
        ),
    };
    FetchError { code, advice }
}

#[cfg(test)]
mod tests;
