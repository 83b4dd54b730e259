//! What an agent has beyond the original API: the object `posthouse`.
//!
//! Which of the models answers is decided elsewhere; here they are only checked and kept. So it is
//! with the tool as which an agent is offered: whether its name is taken, and what it names is there,
//! is the server's to say.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{self, ModelConfig, ModelRules};
use crate::{
    ApiError, Fields, Given,
    fields::{self, wrong},
    id::IdKind,
    schema::{Table, agents as schema},
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

/// What was sent, its models not yet looked up.
pub(super) struct Change {
    fallback_path: String,
    fallback: Given<Vec<Value>>,
    elicitation: Given<Elicitation>,
    mcp_tool: Given<Exposed>,
}

/// Takes `posthouse` of an agent: absent keeps, null clears.
pub(super) fn take(fields: &mut Fields) -> Result<Change, ApiError> {
    take_as(fields, &schema::EXTENSION)
}

/// Takes `posthouse` of an agent with overrides, which can't be offered as a tool.
pub(super) fn take_override(fields: &mut Fields) -> Result<Change, ApiError> {
    take_as(fields, &schema::OVERRIDE_EXTENSION)
}

fn take_as(fields: &mut Fields, table: &'static Table) -> Result<Change, ApiError> {
    let field = &schema::EXTENSION_FIELD;
    let fallback_path = format!("{}.{}", fields.path_of(field), schema::FALLBACK.name);
    let mut given = match fields.object(field)? {
        Given::Absent => return Ok(Change::nothing(fallback_path)),
        Given::Null => {
            return Ok(Change {
                fallback_path,
                fallback: Given::Null,
                elicitation: Given::Null,
                mcp_tool: Given::Null,
            });
        }
        Given::Value(given) => given,
    };
    let fallback = given.list(&schema::FALLBACK)?;
    let elicitation = given.choice(&schema::ELICITATION)?.try_map(|word| {
        Ok::<_, ApiError>(match word {
            "defaults" => Elicitation::Defaults,
            _ => Elicitation::Decline,
        })
    })?;
    let mcp_tool = match table.field(schema::MCP_TOOL.name) {
        Some(field) => given.object(field)?.try_map(read_exposed)?,
        None => Given::Absent,
    };
    given.finish(table)?;
    Ok(Change { fallback_path, fallback, elicitation, mcp_tool })
}

/// Takes `fallback` alone out of such an object: absent keeps, null and `[]` clear.
pub(super) fn take_fallback(fields: &mut Fields) -> Result<Change, ApiError> {
    let path = fields.path_of(&schema::FALLBACK);
    Ok(Change { fallback: fields.list(&schema::FALLBACK)?, ..Change::nothing(path) })
}

fn read_exposed(mut fields: Fields) -> Result<Exposed, ApiError> {
    let field = &schema::EXPOSED_NAME;
    let name = fields.required_text(field)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(fields.wrong(
            field,
            &format!("{name:?} has other characters"),
            "send letters, digits, underscores and hyphens",
        ));
    }
    let description = fields.text(&schema::EXPOSED_DESCRIPTION)?.value();
    let environment_id = fields.id(&schema::EXPOSED_ENVIRONMENT)?;
    let vault_ids = fields::ids(&mut fields, &schema::EXPOSED_VAULTS, IdKind::Vault)?;
    fields.finish(&schema::EXPOSED)?;
    let description = description.filter(|text| !text.is_empty());
    Ok(Exposed { name, description, environment_id, vault_ids })
}

impl Change {
    fn nothing(fallback_path: String) -> Self {
        Self {
            fallback_path,
            fallback: Given::Absent,
            elicitation: Given::Absent,
            mcp_tool: Given::Absent,
        }
    }

    /// What holds after the change. Looks up the models that were sent, and holds what stays
    /// against `model`, which may be another one than before.
    pub(super) fn apply(
        self,
        before: &Extension,
        model: &ModelConfig,
        rules: &dyn ModelRules,
    ) -> Result<Extension, ApiError> {
        let path = self.fallback_path;
        let fallback = match self.fallback {
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
        Ok(Extension {
            fallback,
            mcp_elicitation: match self.elicitation {
                Given::Absent => before.mcp_elicitation,
                Given::Null => Elicitation::default(),
                Given::Value(elicitation) => elicitation,
            },
            mcp_tool: match self.mcp_tool {
                Given::Absent => before.mcp_tool.clone(),
                Given::Null => None,
                Given::Value(exposed) => Some(exposed),
            },
        })
    }
}
