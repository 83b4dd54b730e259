//! What the fold reads of the payloads of events; the rest of them is for clients.

use std::sync::Arc;

use posthouse_protocol::agent::SessionAgent;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) id: Arc<str>,
}

#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) id: Arc<str>,
    pub(super) content: Arc<RawValue>,
}

#[derive(Deserialize)]
pub(super) struct SystemSaid {
    pub(super) id: Arc<str>,
    pub(super) content: Vec<TextBlock>,
}

#[derive(Deserialize)]
pub(super) struct TextBlock {
    pub(super) text: String,
}

#[derive(Deserialize)]
pub(super) struct Updated {
    pub(super) agent: Option<SessionAgent>,
}

#[derive(Deserialize)]
pub(super) struct CallMade {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) input: Arc<RawValue>,
    pub(super) evaluated_permission: Option<String>,
    /// Given for tools of MCP servers alone.
    pub(super) mcp_server_name: Option<Arc<str>>,
}

#[derive(Deserialize)]
pub(super) struct Confirmation {
    pub(super) tool_use_id: Arc<str>,
    pub(super) result: String,
    pub(super) deny_message: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ResultOf {
    #[serde(alias = "custom_tool_use_id", alias = "mcp_tool_use_id")]
    pub(super) tool_use_id: Arc<str>,
    pub(super) content: Arc<RawValue>,
    #[serde(default)]
    pub(super) is_error: bool,
}

#[derive(Deserialize)]
pub(super) struct SessionError {
    pub(super) error: ErrorBody,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) retry_status: RetryStatus,
}

#[derive(Deserialize)]
pub(super) struct RetryStatus {
    #[serde(rename = "type")]
    pub(super) kind: String,
}
