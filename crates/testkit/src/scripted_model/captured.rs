//! A request that was seen, for a test to look at. Never checks it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::stage::Arrival;

/// A request that the scripted model got.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Captured {
    /// `anthropic`, `openai_responses`, `openai_chat` or `gemini`; for a list of models also `openai` and `ollama`.
    /// `None` if it was for no route of a provider.
    pub wire: Option<&'static str>,
    /// As in `POST`.
    pub method: String,
    /// With the query, as in `/v1/models?limit=1`.
    pub path: String,
    /// By lower-case name; several values of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// A string if it is not JSON, null if there is none.
    pub body: Value,
    /// When the whole body was there. As JSON: `received_at_ms`, milliseconds since 1970 with a fraction.
    #[serde(rename = "received_at_ms", serialize_with = "as_milliseconds")]
    pub received_at: SystemTime,
}

impl Captured {
    pub(super) fn of(arrival: &Arrival) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &arrival.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|known| *known = format!("{known}, {value}"))
                .or_insert_with(|| value.into_owned());
        }
        let text = || Value::String(String::from_utf8_lossy(&arrival.body).into_owned());
        let body = match arrival.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&arrival.body).unwrap_or_else(|_| text()),
        };
        let (method, path) = (arrival.method.clone(), arrival.path.clone());
        Self { wire: arrival.wire, method, path, headers, body, received_at: arrival.at }
    }
}

fn as_milliseconds<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_f64(since.as_secs_f64() * 1000.0)
}
