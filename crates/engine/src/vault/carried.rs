//! What the requests of one connection have carried, cleaned out of what comes back: a server that repeats a
//! credential does not get it into a log.
//!
//! Sends nothing, and knows no server.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::captured::{SCRUBBED, written};

/// How many headers are remembered: a token may be renewed while an answer is on its way.
const REMEMBERED: usize = 4;
/// What is shorter stands in texts by chance.
const SHORTEST: usize = 8;

/// The headers that requests have carried. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Carried(Arc<Mutex<VecDeque<Header>>>);

/// A header's value, and the forms in which its secret might come back, the longest first.
struct Header {
    value: SecretString,
    forms: Vec<Zeroizing<String>>,
}

impl Carried {
    /// Remembers the value of a header that is about to be sent.
    pub(crate) fn add(&self, value: &SecretString) {
        let mut headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if headers.iter().any(|one| one.value.expose_secret() == value.expose_secret()) {
            return;
        }
        // `Bearer`, `Basic` and the like are no part of the secret.
        let text = value.expose_secret();
        let secret = text.split_once(' ').map_or(text, |(_, secret)| secret.trim());
        let mut forms = Vec::from(written(secret.into()));
        forms.retain(|form| form.len() >= SHORTEST);
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        headers.truncate(REMEMBERED - 1);
        headers.push_front(Header { value: value.clone(), forms });
    }

    /// A text without what was carried.
    pub(crate) fn clean(&self, mut text: String) -> String {
        let headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for form in headers.iter().flat_map(|header| &header.forms) {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), SCRUBBED);
            }
        }
        text
    }

    /// The same for every text in a value, names of members included.
    pub(crate) fn clean_all(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.clean(text)),
            Value::Array(values) => values.into_iter().map(|value| self.clean_all(value)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| (self.clean(name), self.clean_all(value)))
                .collect(),
            plain => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn carried(values: &[&str]) -> Carried {
        let carried = Carried::default();
        for value in values {
            carried.add(&SecretString::from(*value));
        }
        carried
    }

    #[test]
    fn what_was_carried_does_not_come_back() {
        let carried = carried(&["Bearer can/ary+one", "canary-two"]);
        for (text, cleaned) in [
            ("you sent Bearer can/ary+one!", "you sent Bearer [REDACTED]!"),
            ("can\\/ary+one", "[REDACTED]"),
            ("can%2Fary%2Bone", "[REDACTED]"),
            ("Y2FuL2FyeStvbmU=", "[REDACTED]="),
            ("canary-two, canary-two", "[REDACTED], [REDACTED]"),
            ("Bearer of news", "Bearer of news"),
        ] {
            assert_eq!(carried.clean(text.to_owned()), cleaned);
        }
        let blocks = json!([{ "type": "text", "text": "x canary-two", "canary-two": [1, null] }]);
        let cleaned = json!([{ "type": "text", "text": "x [REDACTED]", "[REDACTED]": [1, null] }]);
        assert_eq!(carried.clean_all(blocks), cleaned);
    }

    #[test]
    fn what_is_short_or_long_gone_is_not_looked_for() {
        assert_eq!(carried(&["Bearer a"]).clean("a Bearer a".into()), "a Bearer a");
        let values = ["value-one", "value-two", "value-three", "value-four", "value-five"];
        let carried = carried(&values);
        carried.add(&"value-two".into());
        let cleaned = carried.clean(values.join(" "));
        assert_eq!(cleaned, "value-one [REDACTED] [REDACTED] [REDACTED] [REDACTED]");
    }
}
