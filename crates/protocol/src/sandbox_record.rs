//! Records of a sandbox: what it is, what its door has let through and refused, and where a
//! credential's value was put in. Never a value.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::{Timestamp, credential::InjectionLocation};

/// One record, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "sandbox_record")]
pub struct SandboxRecord {
    /// `sbrec_…`.
    pub id: String,
    /// The session.
    pub session_id: Arc<str>,
    /// When it was; of several decisions that were alike, when the first was.
    pub created_at: Timestamp,
    /// What it is a record of.
    #[serde(flatten)]
    pub what: What,
}

/// What a record is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A sandbox stands.
    Sandbox(Sandbox),
    /// Its door has let something through.
    Allow(Decided),
    /// Its door has refused something.
    Deny(Decided),
    /// A credential's value is about to be put into a request.
    Injection(Injection),
}

impl What {
    /// The `kind` of the record.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox",
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
            Self::Injection(_) => "injection",
        }
    }
}

/// What a sandbox is, as far as it is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sandbox {
    /// The version of this program.
    pub version: String,
    /// The host's kernel.
    pub kernel: String,
    /// How it is kept apart.
    pub isolation: Value,
    /// What it may use.
    pub limits: Value,
    /// The hosts that its door lets through, each with its rule; null when it lets through all
    /// public ones.
    pub allowlist: Value,
    /// The hosts whose TLS is not ended.
    pub passthrough: Vec<String>,
}

/// One decision of a door, or several that were alike and close together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The name, or the address where none is known. Null where there were more different
    /// decisions at a time than are written down one by one: those that were left out.
    pub host: Option<String>,
    /// The port; null where a name was asked for, and for those that were left out.
    pub port: Option<u16>,
    /// What has decided; null for those that were left out.
    pub rule: Option<String>,
    /// The tool calls that were running.
    pub event_ids: Vec<Arc<str>>,
    /// How many there were.
    pub count: u64,
    /// When the last of them was.
    pub last_at: Timestamp,
}

/// A credential's value on its way into a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Injection {
    /// The credential's vault.
    pub vault_id: Arc<str>,
    /// The credential.
    pub credential_id: Arc<str>,
    /// Where the request goes.
    pub host: String,
    /// The port that was asked for.
    pub port: u16,
    /// The request's method.
    pub method: String,
    /// In which parts of the request the value may be.
    pub location: InjectionLocation,
    /// The tool calls that were running.
    pub event_ids: Vec<Arc<str>>,
}
