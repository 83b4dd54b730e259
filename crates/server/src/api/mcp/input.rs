//! What the tools take: their inputs, as schemas for models and as values that are checked.

use std::{sync::Arc, time::Duration};

use posthouse_protocol::ApiError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// The longest wait, in seconds.
const LONGEST: u64 = 3600;

/// The wait when none is named, in seconds. Most clients give up after some minutes.
const USUAL: u64 = 120;

/// A message to an agent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub(super) message: String,
    pub(super) session_id: Option<String>,
    #[serde(default)]
    wait_seconds: Wait,
}

/// A look at a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    pub(super) session_id: String,
    pub(super) after: Option<i64>,
    #[serde(default)]
    wait_seconds: Wait,
}

/// An answer to a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) session_id: String,
    pub(super) tool_use_id: String,
    pub(super) allow: Option<bool>,
    pub(super) deny_message: Option<String>,
    pub(super) result: Option<String>,
    #[serde(default)]
    wait_seconds: Wait,
}

/// A session and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Only {
    pub(super) session_id: String,
}

/// How long a call may wait for its session.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Wait(u64);

impl Default for Wait {
    fn default() -> Self {
        Self(USUAL)
    }
}

impl Wait {
    fn read(self) -> Result<Duration, ApiError> {
        match self.0 {
            seconds @ 0..=LONGEST => Ok(Duration::from_secs(seconds)),
            seconds => Err(ApiError::invalid(format!(
                "wait_seconds: is {seconds}; send a whole number from 0 to {LONGEST}"
            ))),
        }
    }
}

impl Start {
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        self.wait_seconds.read()
    }

    pub(super) fn schema() -> Arc<Map<String, Value>> {
        object(
            json!({
                "message": {
                    "type": "string", "minLength": 1,
                    "description": "What the agent is to do, or what it needs to know.",
                },
                "session_id": {
                    "type": "string",
                    "description": "Goes on with that session of this agent, which must be at rest or \
                        at work, instead of beginning a new one.",
                },
                "wait_seconds": wait_schema(),
            }),
            &["message"],
        )
    }
}

impl Follow {
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        self.wait_seconds.read()
    }

    pub(super) fn schema() -> Arc<Map<String, Value>> {
        object(
            json!({
                "session_id": session_schema(),
                "after": {
                    "type": "integer", "minimum": 0,
                    "description": "The place that an earlier answer has named: only what came after \
                        it is given. Without it, what the newest turn has brought.",
                },
                "wait_seconds": wait_schema(),
            }),
            &["session_id"],
        )
    }
}

impl Answer {
    pub(super) fn wait(&self) -> Result<Duration, ApiError> {
        self.wait_seconds.read()
    }

    pub(super) fn schema() -> Arc<Map<String, Value>> {
        object(
            json!({
                "session_id": session_schema(),
                "tool_use_id": {
                    "type": "string",
                    "description": "The id of one of the open calls.",
                },
                "allow": {
                    "type": "boolean",
                    "description": "For a call that awaits a confirmation: whether it may run.",
                },
                "deny_message": {
                    "type": "string",
                    "description": "With allow false: what the agent is told.",
                },
                "result": {
                    "type": "string",
                    "description": "For a call that awaits a result: the result.",
                },
                "wait_seconds": wait_schema(),
            }),
            &["session_id", "tool_use_id"],
        )
    }
}

impl Only {
    pub(super) fn schema() -> Arc<Map<String, Value>> {
        object(json!({ "session_id": session_schema() }), &["session_id"])
    }
}

/// Reads an input.
///
/// # Errors
/// 400 that says what is wrong.
pub(super) fn read<T: DeserializeOwned>(input: Map<String, Value>) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(input)).map_err(|error| {
        ApiError::invalid(format!("input: {error}; send what the tool's schema says"))
    })
}

/// An object with those members and no others.
pub(super) fn object(properties: Value, required: &[&str]) -> Arc<Map<String, Value>> {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties);
    schema.insert("required".into(), json!(required));
    schema.insert("additionalProperties".into(), false.into());
    Arc::new(schema)
}

fn session_schema() -> Value {
    json!({ "type": "string", "description": "The session." })
}

fn wait_schema() -> Value {
    json!({
        "type": "integer", "minimum": 0, "maximum": LONGEST, "default": USUAL,
        "description": "How many seconds to wait for the session to rest. It goes on afterwards, too.",
    })
}
