//! Agents: the resource, how one is made and changed, and the copy that a session keeps.
//!
//! Every field is always there on the wire, null where it is unset. What this version can't
//! honour is refused by name. Nothing here reads a clock or a database.

mod model;
mod tools;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use model::{Effort, ModelConfig, ModelRules, Speed};
pub use tools::{CustomTool, DefaultConfig, Policy, Tool, ToolConfig, ToolName, Tools, Toolset};

use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    metadata::{self, Metadata, Removal},
};

const NAME: std::ops::RangeInclusive<usize> = 1..=256;
const DESCRIPTION: std::ops::RangeInclusive<usize> = 0..=2048;
const SYSTEM: std::ops::RangeInclusive<usize> = 0..=100_000;
const LATER: &str = "leave it out";

/// An agent, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "agent")]
pub struct Agent {
    /// `agent_…`.
    pub id: String,
    /// Counts from 1; one more with each change.
    pub version: i64,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The model and its settings.
    pub model: ModelConfig,
    /// The system prompt.
    pub system: Option<String>,
    /// The tools, resolved.
    pub tools: Vec<Tool>,
    /// MCP servers; always empty in this version.
    pub mcp_servers: Vec<Value>,
    /// Skills; always empty in this version.
    pub skills: Vec<Value>,
    /// The roster; always null in this version.
    pub multiagent: Option<Value>,
    /// The caller's own pairs.
    pub metadata: Metadata,
    /// As whom it runs.
    pub execution_identity: ExecutionIdentity,
    /// What the original API lacks.
    #[serde(default, skip_serializing_if = "Extension::is_empty")]
    pub posthouse: Extension,
    /// When the agent was made; the same in all versions.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// When the agent was archived.
    pub archived_at: Option<Timestamp>,
}

/// What an agent has beyond the original API: the object `posthouse`, left out when empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extension {
    /// The models that take over, in this order, when the agent's own can't answer.
    #[serde(default)]
    pub fallback: Vec<ModelConfig>,
}

impl Extension {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fallback.is_empty()
    }
}

/// As whom an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecutionIdentity {
    /// Nobody in particular.
    #[default]
    ServiceAccount,
}

/// The copy of an agent that a session keeps; later changes of the agent don't reach it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "agent")]
#[expect(missing_docs, reason = "the fields are those of `Agent`")]
pub struct SessionAgent {
    pub id: String,
    pub version: i64,
    pub name: String,
    pub description: Option<String>,
    pub model: ModelConfig,
    pub system: Option<String>,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<Value>,
    pub skills: Vec<Value>,
    pub multiagent: Option<Value>,
    pub execution_identity: ExecutionIdentity,
    #[serde(default, skip_serializing_if = "Extension::is_empty")]
    pub posthouse: Extension,
}

/// What an update comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// Everything sent was there already: the version stays.
    Nothing,
    /// The next version.
    Version(Box<Agent>),
}

impl Agent {
    /// The copy for a session.
    #[must_use]
    pub fn snapshot(&self) -> SessionAgent {
        SessionAgent {
            id: self.id.clone(),
            version: self.version,
            name: self.name.clone(),
            description: self.description.clone(),
            model: self.model.clone(),
            system: self.system.clone(),
            tools: self.tools.clone(),
            mcp_servers: self.mcp_servers.clone(),
            skills: self.skills.clone(),
            multiagent: self.multiagent.clone(),
            execution_identity: self.execution_identity,
            posthouse: self.posthouse.clone(),
        }
    }
}

/// Reads the body of a create.
///
/// # Errors
/// 400 that names the field.
pub fn parse_create(
    mut fields: Fields,
    id: String,
    at: Micros,
    rules: &dyn ModelRules,
) -> Result<Agent, ApiError> {
    let name = fields.required_text("name", NAME)?;
    let model = fields.required("model", "send a model's name or an object with its id")?;
    let description = clearable(fields.text("description", DESCRIPTION)?).flatten();
    let system = clearable(fields.text("system", SYSTEM)?).flatten();
    let tools = tools::take(&mut fields)?.value().unwrap_or_default();
    unsupported(&mut fields)?;
    let metadata = metadata::take(&mut fields)?;
    let execution_identity = take_identity(&mut fields)?.unwrap_or_default();
    // The model comes last: a body that is wrong anyway should send nobody to the providers'
    // configuration.
    fields.finish()?;
    let model = model::read(model, "model", None, rules)?;
    Ok(Agent {
        id,
        version: 1,
        name,
        description,
        model,
        system,
        tools,
        mcp_servers: Vec::new(),
        skills: Vec::new(),
        multiagent: None,
        metadata,
        execution_identity,
        posthouse: Extension::default(),
        created_at: at.into(),
        updated_at: at.into(),
        archived_at: None,
    })
}

/// Applies the body of an update to the newest version.
///
/// # Errors
/// 400 that names the field or says that the agent is archived; 409 when `version` is sent and
/// is not the newest, also when nothing else would change.
pub fn apply_update(
    current: &Agent,
    mut fields: Fields,
    at: Micros,
    rules: &dyn ModelRules,
) -> Result<Changed, ApiError> {
    if current.archived_at.is_some() {
        return Err(ApiError::invalid("Cannot modify archived agent"));
    }
    if let Given::Value(version) = fields.integer("version", 1..=i64::MAX)?
        && version != current.version
    {
        return Err(ApiError::conflict(
            "Concurrent modification detected. Please fetch the latest version and retry.",
        ));
    }
    let mut next = current.clone();
    match fields.text("name", NAME)? {
        Given::Value(name) => next.name = name,
        Given::Null => {
            return Err(fields.wrong("name", "is null", "send a text or leave it out"));
        }
        Given::Absent => {}
    }
    let model = fields.any("model");
    if model == Given::Null {
        return Err(fields.wrong("model", "is null", "send a model or leave it out"));
    }
    if let Some(description) = clearable(fields.text("description", DESCRIPTION)?) {
        next.description = description;
    }
    if let Some(system) = clearable(fields.text("system", SYSTEM)?) {
        next.system = system;
    }
    replace(&mut next.tools, tools::take(&mut fields)?);
    unsupported(&mut fields)?;
    next.metadata = metadata::patch(&mut fields, &current.metadata, Removal::Null)?;
    if let Some(identity) = take_identity(&mut fields)? {
        next.execution_identity = identity;
    }
    fields.finish()?;
    if let Given::Value(model) = model {
        next.model = model::read(model, "model", Some(&current.model), rules)?;
    }
    if next == *current {
        return Ok(Changed::Nothing);
    }
    next.version = current.version + 1;
    next.updated_at = at.into();
    Ok(Changed::Version(Box::new(next)))
}

/// Reads what is left of an `agent_with_overrides` once `type`, `id` and `version` are taken.
/// Id and version of the copy stay those of the base.
///
/// # Errors
/// 400 that names the field; `agent_model_required` when the model is null.
pub fn parse_overrides(
    base: &Agent,
    mut fields: Fields,
    rules: &dyn ModelRules,
) -> Result<SessionAgent, ApiError> {
    let mut agent = base.snapshot();
    let model = fields.any("model");
    if model == Given::Null {
        let error = fields.wrong("model", "is null", "send a model or leave it out");
        return Err(error.with_code("agent_model_required"));
    }
    if let Some(system) = clearable(fields.text("system", SYSTEM)?) {
        agent.system = system;
    }
    replace(&mut agent.tools, tools::take(&mut fields)?);
    fields.unsupported("mcp_servers", LATER)?;
    fields.unsupported("skills", LATER)?;
    let path = fields.path_of("model");
    fields.finish()?;
    if let Given::Value(model) = model {
        // A replacement, and no change of the base's: no effort given means the default one.
        agent.model = model::read(model, &path, None, rules)?;
    }
    Ok(agent)
}

/// Reads the `agent` of a session's update: `tools` and `mcp_servers` alone. Returns the new
/// copy, which may equal the old one.
///
/// # Errors
/// 400 that names the field.
pub fn parse_session_update(
    current: &SessionAgent,
    mut fields: Fields,
) -> Result<SessionAgent, ApiError> {
    let mut agent = current.clone();
    replace(&mut agent.tools, tools::take(&mut fields)?);
    fields.unsupported("mcp_servers", LATER)?;
    fields.finish()?;
    Ok(agent)
}

/// `None` keeps; null and the empty text clear.
fn clearable(given: Given<String>) -> Option<Option<String>> {
    match given {
        Given::Absent => None,
        Given::Null => Some(None),
        Given::Value(text) => Some((!text.is_empty()).then_some(text)),
    }
}

fn replace<T>(list: &mut Vec<T>, given: Given<Vec<T>>) {
    match given {
        Given::Absent => {}
        Given::Null => list.clear(),
        Given::Value(entries) => *list = entries,
    }
}

fn unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    fields.unsupported("mcp_servers", LATER)?;
    fields.unsupported("skills", LATER)?;
    fields.unsupported("multiagent", LATER)
}

/// `None` keeps.
fn take_identity(fields: &mut Fields) -> Result<Option<ExecutionIdentity>, ApiError> {
    match fields.object("execution_identity")? {
        Given::Absent => Ok(None),
        Given::Null => Ok(Some(ExecutionIdentity::ServiceAccount)),
        Given::Value(mut identity) => {
            let kind = identity.required_choice("type", &["service_account", "aws_role"])?;
            if kind == "aws_role" {
                return Err(identity.wrong(
                    "type",
                    "aws_role is not supported by this version",
                    "send service_account or leave it out",
                ));
            }
            identity.finish()?;
            Ok(Some(ExecutionIdentity::ServiceAccount))
        }
    }
}

#[cfg(test)]
mod tests;
