//! A model that searches by the tool of the Responses API. What it cites has the text around the
//! citation; what it has only read has none.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::{
    Hit,
    backend::{Asked, Backend, Failure, Place, hit, list, text},
    messages::{TASK, place},
};

/// How many hosts it takes.
const ONLY: usize = 100;

pub(super) struct Responses {
    place: Place,
    model: String,
}

impl Responses {
    pub(super) fn new(place: Place, model: String) -> Self {
        Self { place, model }
    }
}

impl Backend for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error> {
        let mut tool = json!({ "type": "web_search" });
        // It takes no list of hosts that are not wanted.
        if let Some(mut hosts) = asked.scope.only_hosts() {
            hosts.truncate(ONLY);
            tool["filters"] = json!({ "allowed_domains": hosts });
        }
        if let Some(location) = asked.location.and_then(place) {
            tool["user_location"] = location;
        }
        let body = json!({
            "model": self.model,
            "instructions": TASK,
            "input": asked.words,
            "tools": [tool],
            "tool_choice": "required",
            "max_tool_calls": 1,
            "include": ["web_search_call.action.sources"],
            "store": false,
        });
        self.place.post("/responses", &body)
    }

    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure> {
        let (mut hits, mut searched) = (Vec::<Hit>::new(), false);
        let mut add = |found: Hit| match hits.iter_mut().find(|hit| hit.url == found.url) {
            Some(hit) => hit.texts.extend(found.texts),
            None => hits.push(found),
        };
        let output = list(answer, "output");
        for content in output.iter().flat_map(|item| list(item, "content")) {
            let said = text(content, "text").unwrap_or_default();
            for cited in list(content, "annotations") {
                if text(cited, "type") != Some("url_citation") {
                    continue;
                }
                let start = cited.get("start_index").and_then(Value::as_u64).unwrap_or_default();
                let before = sentence(said, usize::try_from(start).unwrap_or(usize::MAX));
                hit(cited, "url", before).into_iter().for_each(&mut add);
            }
        }
        for item in output {
            if text(item, "type") != Some("web_search_call") {
                continue;
            }
            searched = true;
            let sources = item.get("action").map_or(&[][..], |action| list(action, "sources"));
            sources.iter().filter_map(|source| hit(source, "url", None)).for_each(&mut add);
        }
        if searched || !hits.is_empty() {
            Ok(hits)
        } else {
            Err(Failure::Unavailable("is a model that has not searched"))
        }
    }
}

/// What a line says before the character at which a citation begins.
fn sentence(said: &str, start: usize) -> Option<String> {
    let before: String = said.chars().take(start).collect();
    let line = before.rsplit('\n').next().unwrap_or_default();
    // The mark of a citation is `([name](address))`; an earlier one in the line ends what it is for.
    let line = line.rsplit("))").next().unwrap_or(line);
    let line =
        line.trim_matches(|letter: char| letter.is_whitespace() || "([-*•.".contains(letter));
    (!line.is_empty()).then(|| line.to_owned())
}
