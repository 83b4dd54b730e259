//! `SerpApi`, asked for Google: <https://serpapi.com/search-api>. Its key is part of the address, which
//! is why nobody writes addresses into logs.

use bytes::Bytes;
use http::Request;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::{
    Hit,
    backend::{Asked, Backend, Failure, Place, hit, list, text},
};

/// How many hosts are written into a query. Google takes 32 words.
const HOSTS: usize = 8;

pub(super) struct Serpapi {
    place: Place,
    key: Option<SecretString>,
}

impl Serpapi {
    pub(super) fn new(place: Place, key: Option<SecretString>) -> Self {
        Self { place: place.without("/search.json").without("/search"), key }
    }
}

impl Backend for Serpapi {
    fn name(&self) -> &'static str {
        "serpapi"
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error> {
        let words = words(asked);
        let country = asked.country().map(|country| match country {
            "GB" => "uk".to_owned(),
            other => other.to_ascii_lowercase(),
        });
        let mut pairs = vec![("engine", "google"), ("output", "json"), ("q", words.as_str())];
        pairs.extend(country.as_deref().map(|country| ("gl", country)));
        pairs.extend(self.key.as_ref().map(|key| ("api_key", key.expose_secret())));
        self.place.get("/search.json", &pairs)
    }

    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure> {
        let status = answer.get("search_metadata").and_then(|about| text(about, "status"));
        if matches!(status, Some("Error")) {
            return Err(Failure::Unavailable("has failed"));
        }
        let read = |result| hit(result, "link", text(result, "snippet").map(str::to_owned));
        Ok(list(answer, "organic_results").iter().filter_map(read).collect())
    }
}

/// The query with the hosts, as Google reads them.
fn words(asked: &Asked<'_>) -> String {
    let only = asked.scope.only_hosts().filter(|hosts| hosts.len() <= HOSTS);
    if let Some(hosts) = only {
        let sites: Vec<String> = hosts.iter().map(|host| format!("site:{host}")).collect();
        let sites =
            if sites.len() == 1 { sites.concat() } else { format!("({})", sites.join(" OR ")) };
        return format!("{} {sites}", asked.words);
    }
    let never = asked.scope.never_hosts();
    let never = never.iter().take(HOSTS).map(|host| format!(" -site:{host}"));
    std::iter::once(asked.words.to_owned()).chain(never).collect()
}
