//! The Brave Search API: <https://api-dashboard.search.brave.com/api-reference/web/search/get>.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    Hit, Unusable,
    backend::{Asked, Backend, Failure, Longest, Place, hit, list, text},
    hits::from_html,
};

/// The countries that may be named. Another one would be refused.
const COUNTRIES: [&str; 37] = [
    "AR", "AU", "AT", "BE", "BR", "CA", "CL", "DK", "FI", "FR", "DE", "GR", "HK", "IN", "ID", "IT",
    "JP", "KR", "MY", "MX", "NL", "NZ", "NO", "CN", "PL", "PT", "PH", "RU", "SA", "ZA", "ES", "SE",
    "CH", "TW", "TR", "GB", "US",
];

/// How many results are asked for when most may be left out, and at most.
const MOST: usize = 20;

/// How many rules one request has at most. A URL has to hold them.
const RULES: usize = 100;

pub(super) struct Brave {
    place: Place,
}

impl Brave {
    pub(super) fn new(mut place: Place, key: Option<&SecretString>) -> Result<Self, Unusable> {
        place.unlock(HeaderName::from_static("x-subscription-token"), "", key)?;
        Ok(Self { place })
    }
}

impl Backend for Brave {
    fn name(&self) -> &'static str {
        "brave"
    }

    fn longest(&self) -> Longest {
        Longest { characters: 400, words: 50 }
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error> {
        let rules = rules(asked);
        let count = if rules.is_empty() { asked.hits } else { MOST }.to_string();
        let mut pairs = vec![
            ("q", asked.words),
            ("count", &count),
            ("result_filter", "web"),
            ("text_decorations", "false"),
            ("extra_snippets", "true"),
        ];
        if let Some(country) = asked.country().filter(|country| COUNTRIES.contains(country)) {
            pairs.push(("country", country));
        }
        if !rules.is_empty() {
            pairs.push(("goggles", &rules));
        }
        let mut request = self.place.get("/res/v1/web/search", &pairs)?;
        let Some(location) = asked.location else { return Ok(request) };
        for (name, value) in [
            ("x-loc-city", &location.city),
            ("x-loc-state-name", &location.region),
            ("x-loc-country", &location.country),
            ("x-loc-timezone", &location.timezone),
        ] {
            // A header holds ASCII. Where the user is stays a hint.
            let value = value.as_deref().filter(|text| text.is_ascii());
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        Ok(request)
    }

    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure> {
        // Without results there is no `web`.
        let results = answer.get("web").map_or(&[][..], |web| list(web, "results"));
        let read = |result: &Value| {
            let more = list(result, "extra_snippets").iter().filter_map(Value::as_str);
            let texts = text(result, "description").into_iter().chain(more).map(from_html);
            let mut hit = hit(result, "url", texts)?;
            hit.title = from_html(&hit.title);
            Some(hit)
        };
        Ok(results.iter().filter_map(read).collect())
    }
}

/// The hosts in the language of goggles.
fn rules(asked: &Asked<'_>) -> String {
    let only = asked.scope.only_hosts().map(|hosts| {
        let boosted = hosts.iter().take(RULES).map(|host| format!("$boost,site={host}"));
        std::iter::once("$discard".to_owned()).chain(boosted).collect::<Vec<_>>()
    });
    let mut lines = only.unwrap_or_default();
    let left = RULES.saturating_sub(lines.len());
    let never = asked.scope.never_hosts();
    lines.extend(never.iter().take(left).map(|host| format!("$discard,site={host}")));
    lines.join("\n")
}
