//! An instance of `SearXNG`: <https://docs.searxng.org/dev/search_api.html>. It takes no hosts and no
//! place of the user, and gives as many results as its engines do.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;

use super::{
    Hit,
    backend::{Asked, Backend, Failure, Place, hit, list, text},
};

pub(super) struct Searxng {
    place: Place,
}

impl Searxng {
    pub(super) fn new(place: Place) -> Self {
        Self { place: place.without("/search") }
    }
}

impl Backend for Searxng {
    fn name(&self) -> &'static str {
        "searxng"
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error> {
        // Most of its engines know `site:`, but few know more than one.
        let words = match asked.scope.only_hosts().as_deref() {
            Some([host]) => format!("{} site:{host}", asked.words),
            _ => asked.words.to_owned(),
        };
        let pairs = [("q", words.as_str()), ("format", "json"), ("categories", "general")];
        self.place.get("/search", &pairs)
    }

    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure> {
        let results = answer.get("results").and_then(Value::as_array);
        let results = results.ok_or(Failure::Unavailable("has answered without results"))?;
        let unresponsive = list(answer, "unresponsive_engines");
        if results.is_empty() && !unresponsive.is_empty() {
            return Err(Failure::Unavailable("has no engine that answers"));
        }
        let read = |result| hit(result, "url", text(result, "content").map(str::to_owned));
        Ok(results.iter().filter_map(read).collect())
    }

    fn refused(&self, status: StatusCode) -> Option<Failure> {
        let forbidden = status == StatusCode::FORBIDDEN;
        forbidden.then_some(Failure::Operator(
            "does not answer in JSON, or not to this server (its `search.formats` needs `json`)",
        ))
    }
}
