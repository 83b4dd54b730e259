//! What an agent has beyond the original API: the object `posthouse`.
//!
//! Which of the models answers is decided elsewhere; here they are only checked and kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{self, ModelConfig, ModelRules};
use crate::{
    ApiError, Fields, Given,
    fields::{id, wrong},
    id::IdKind,
    schema::{
        Kind,
        agents::{self as schema, EXTENSION, EXTENSION_FIELD, FALLBACK, MCP_TOOL},
    },
};

/// The object `posthouse` of an agent, left out when empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extension {
    /// The models that take over, in this order, when the agent's own can't answer.
    #[serde(default)]
    pub fallback: Vec<ModelConfig>,
    /// What MCP servers are told that ask for something in the middle of a call.
    #[serde(default, skip_serializing_if = "Elicitation::is_decline")]
    pub mcp_elicitation: Elicitation,
    /// As which tool of posthouse's own MCP server others may call the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_tool: Option<Exposed>,
}

/// What MCP servers are told that ask for something in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elicitation {
    /// Nobody is there to answer.
    #[default]
    Decline,
    /// The server's own defaults, where each required member has one.
    Defaults,
}

impl Elicitation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_decline(&self) -> bool {
        *self == Self::Decline
    }
}

/// An agent as a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// The tool's name, unique among those that a workspace exposes.
    pub name: String,
    /// What it does, for the models that may call it; the agent's own description when unset.
    pub description: Option<String>,
    /// Where its sessions run.
    pub environment_id: String,
    /// The vaults of its sessions.
    #[serde(default)]
    pub vault_ids: Vec<String>,
}

impl Extension {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The models that were sent, not yet looked up.
pub(super) struct Fallback {
    path: String,
    sent: Given<Vec<Value>>,
    exposed: Given<Exposed>,
}

/// Takes `posthouse`: absent keeps, null clears.
pub(super) fn take(fields: &mut Fields) -> Result<Fallback, ApiError> {
    let path = format!("{}.{}", fields.path_of(&EXTENSION_FIELD), FALLBACK.name);
    match fields.object(&EXTENSION_FIELD)? {
        Given::Absent => Ok(Fallback { path, sent: Given::Absent, exposed: Given::Absent }),
        Given::Null => Ok(Fallback { path, sent: Given::Null, exposed: Given::Null }),
        Given::Value(mut given) => {
            let mut fallback = take_fallback(&mut given)?;
            fallback.exposed = given.object(&MCP_TOOL)?.try_map(read_exposed)?;
            given.finish(&EXTENSION)?;
            Ok(fallback)
        }
    }
}

/// Takes `fallback` out of such an object: absent keeps, null and `[]` clear.
pub(super) fn take_fallback(fields: &mut Fields) -> Result<Fallback, ApiError> {
    let path = fields.path_of(&FALLBACK);
    Ok(Fallback { sent: fields.list(&FALLBACK)?, path, exposed: Given::Absent })
}

fn read_exposed(mut fields: Fields) -> Result<Exposed, ApiError> {
    let name = fields.required_text(&schema::TOOL_NAME)?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if !name.chars().all(is_plain) {
        let right = "send letters, digits, _ and -";
        return Err(fields.wrong(&schema::TOOL_NAME, &format!("is {name:?}"), right));
    }
    let description = fields.text(&schema::TOOL_DESCRIPTION)?.value();
    let environment_id = fields.id(&schema::TOOL_ENVIRONMENT)?;
    let path = fields.path_of(&schema::TOOL_VAULTS);
    let vaults = fields.list(&schema::TOOL_VAULTS)?.value().unwrap_or_default();
    let vault = |(index, one)| id(one, &format!("{path}[{index}]"), Kind::Id(IdKind::Vault));
    let vault_ids = vaults.into_iter().enumerate().map(vault).collect::<Result<_, _>>()?;
    fields.finish(&schema::EXPOSED)?;
    Ok(Exposed { name, description, environment_id, vault_ids })
}

impl Fallback {
    /// What holds after the change. Looks up the models that were sent, and holds what stays
    /// against `model`, which may be another one than before.
    pub(super) fn apply(
        self,
        before: &Extension,
        model: &ModelConfig,
        rules: &dyn ModelRules,
    ) -> Result<Extension, ApiError> {
        let Self { path, sent, exposed } = self;
        let fallback = match sent {
            Given::Absent => before.fallback.clone(),
            Given::Null => Vec::new(),
            Given::Value(sent) => {
                let read =
                    |(index, one)| model::read(one, &format!("{path}[{index}]"), None, rules);
                sent.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
            }
        };
        for (index, one) in fallback.iter().enumerate() {
            let place = format!("{path}[{index}]");
            if rules.is_same(&one.id, &model.id) {
                let what = format!("{:?} is the agent's own model", one.id);
                return Err(wrong(
                    &place,
                    &what,
                    "name others, in the order in which they take over",
                ));
            }
            if fallback[..index].iter().any(|other| rules.is_same(&other.id, &one.id)) {
                let what = format!("{:?} is there twice", one.id);
                return Err(wrong(&place, &what, "name each model once"));
            }
        }
        let mcp_tool = match exposed {
            Given::Absent => before.mcp_tool.clone(),
            Given::Null => None,
            Given::Value(exposed) => Some(exposed),
        };
        Ok(Extension { fallback, mcp_tool, ..before.clone() })
    }
}
