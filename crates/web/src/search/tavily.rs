//! Tavily: <https://docs.tavily.com/documentation/api-reference/endpoint/search>.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    Hit, Unusable,
    backend::{Asked, Backend, Failure, Longest, Place, hit, list, text},
    countries,
};

/// How many hosts it takes.
const ONLY: usize = 300;
const NEVER: usize = 150;

pub(super) struct Tavily {
    place: Place,
}

impl Tavily {
    pub(super) fn new(mut place: Place, key: Option<&SecretString>) -> Result<Self, Unusable> {
        place.unlock(header::AUTHORIZATION, "Bearer ", key)?;
        Ok(Self { place: place.without("/search") })
    }
}

impl Backend for Tavily {
    fn name(&self) -> &'static str {
        "tavily"
    }

    fn longest(&self) -> Longest {
        Longest { characters: 400, words: 400 }
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error> {
        let mut body = json!({
            "query": asked.words,
            "search_depth": "basic",
            "topic": "general",
            "max_results": asked.hits,
        });
        if let Some(mut hosts) = asked.scope.only_hosts() {
            hosts.truncate(ONLY);
            body["include_domains"] = json!(hosts);
        }
        let mut never = asked.scope.never_hosts();
        never.truncate(NEVER);
        if !never.is_empty() {
            body["exclude_domains"] = json!(never);
        }
        if let Some(country) = asked.country().and_then(countries::name) {
            body["country"] = country.into();
        }
        self.place.post("/search", &body)
    }

    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure> {
        let read = |result: &Value| {
            // Pieces of a page, with a mark between them.
            let pieces = text(result, "content").unwrap_or_default().split("[...]");
            hit(result, "url", pieces.map(str::to_owned))
        };
        Ok(list(answer, "results").iter().filter_map(read).collect())
    }

    fn refused(&self, status: StatusCode) -> Option<Failure> {
        // The limits of a plan, and of what is paid beside it.
        let used_up = matches!(status.as_u16(), 432 | 433);
        used_up.then_some(Failure::Operator("has been used as much as its plan allows"))
    }
}
