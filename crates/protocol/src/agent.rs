//! Agents: the resource, how one is made and changed, and the copy that a session keeps.
//!
//! Every field is always there on the wire, null where it is unset. What this version can't
//! honour is refused by name. Nothing here reads a clock or a database.

mod custom;
mod domain;
mod extension;
mod model;
mod policy;
mod reference;
mod servers;
mod tools;
mod toolset;
mod web;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use custom::CustomTool;
pub use extension::{Elicitation, Exposed, Extension};
pub use model::{Effort, ModelConfig, ModelRules, Speed};
pub use policy::{DefaultConfig, Policy};
pub use reference::Reference;
pub use servers::{McpServer, McpToolConfig, McpToolset};
pub use tools::{Tool, Tools};
pub use toolset::{ToolConfig, ToolName, ToolOptions, Toolset};
pub use web::{FetchOptions, SearchOptions, ToolReference, UrlSource, UrlSources, UserLocation};

use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    metadata::{self, Metadata},
    schema::{Field, agents as schema, servers::MCP_SERVERS, tools::TOOLS_FIELD},
};

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
    /// Its MCP servers.
    pub mcp_servers: Vec<McpServer>,
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
    pub mcp_servers: Vec<McpServer>,
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
    let name = fields.required_text(&schema::NAME)?;
    let model = fields.required(&schema::MODEL)?;
    let description = clearable(fields.text(&schema::DESCRIPTION)?).flatten();
    let system = clearable(fields.text(&schema::SYSTEM)?).flatten();
    let tools = tools::take(&mut fields, &TOOLS_FIELD, rules)?.value().unwrap_or_default();
    let mcp_servers = servers::take(&mut fields, &MCP_SERVERS)?.value().unwrap_or_default();
    refuse_later(&mut fields)?;
    let metadata = metadata::take(&mut fields, &schema::METADATA)?;
    let execution_identity = take_identity(&mut fields, &schema::IDENTITY)?.unwrap_or_default();
    let extension = extension::take(&mut fields)?;
    fields.finish(&schema::CREATE)?;
    servers::check(&tools, &mcp_servers, "")?;
    // Models come last: a body that is wrong anyway should send nobody to the providers'
    // configuration.
    let model = model::read(model, "model", None, rules)?;
    let posthouse = extension.apply(&Extension::default(), &model, rules)?;
    Ok(Agent {
        id,
        version: 1,
        name,
        description,
        model,
        system,
        tools,
        mcp_servers,
        skills: Vec::new(),
        multiagent: None,
        metadata,
        execution_identity,
        posthouse,
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
    if let Given::Value(version) = fields.integer(&schema::VERSION)?
        && version != current.version
    {
        return Err(ApiError::conflict(
            "Concurrent modification detected. Please fetch the latest version and retry.",
        ));
    }
    let mut next = current.clone();
    if let Given::Value(name) = fields.text(&schema::NEW_NAME)? {
        next.name = name;
    }
    let model = fields.any(&schema::NEW_MODEL)?;
    if let Some(description) = clearable(fields.text(&schema::NEW_DESCRIPTION)?) {
        next.description = description;
    }
    if let Some(system) = clearable(fields.text(&schema::NEW_SYSTEM)?) {
        next.system = system;
    }
    replace(&mut next.tools, tools::take(&mut fields, &schema::NEW_TOOLS, rules)?);
    replace(&mut next.mcp_servers, servers::take(&mut fields, &schema::NEW_SERVERS)?);
    refuse_later(&mut fields)?;
    next.metadata = metadata::patch(&mut fields, &schema::METADATA_PATCH, &current.metadata)?;
    if let Some(identity) = take_identity(&mut fields, &schema::NEW_IDENTITY)? {
        next.execution_identity = identity;
    }
    let extension = extension::take(&mut fields)?;
    fields.finish(&schema::UPDATE)?;
    servers::check(&next.tools, &next.mcp_servers, "")?;
    if let Given::Value(model) = model {
        next.model = model::read(model, "model", Some(&current.model), rules)?;
    }
    next.posthouse = extension.apply(&current.posthouse, &next.model, rules)?;
    if next == *current {
        return Ok(Changed::Nothing);
    }
    next.version = current.version + 1;
    next.updated_at = at.into();
    Ok(Changed::Version(Box::new(next)))
}

/// Reads the `agent` of a session's update: `tools` and `mcp_servers` alone. Returns the new
/// copy, which may equal the old one.
///
/// # Errors
/// 400 that names the field.
pub fn parse_session_update(
    current: &SessionAgent,
    mut fields: Fields,
    rules: &dyn ModelRules,
) -> Result<SessionAgent, ApiError> {
    let mut agent = current.clone();
    replace(&mut agent.tools, tools::take(&mut fields, &schema::NEW_TOOLS, rules)?);
    replace(&mut agent.mcp_servers, servers::take(&mut fields, &schema::NEW_SERVERS)?);
    fields.finish(&schema::SESSION_AGENT)?;
    servers::check(&agent.tools, &agent.mcp_servers, "agent.")?;
    Ok(agent)
}

/// Reads the `posthouse` of a session's update: the model and those that take over. Returns the
/// new copy, which may equal the old one. Null clears the list and keeps the model.
///
/// # Errors
/// 400 that names the field; `agent_model_required` when the model is null.
pub fn parse_switch(
    current: &SessionAgent,
    given: Given<Fields>,
    rules: &dyn ModelRules,
) -> Result<SessionAgent, ApiError> {
    let mut agent = current.clone();
    let mut fields = match given {
        Given::Absent => return Ok(agent),
        Given::Null => {
            agent.posthouse.fallback.clear();
            return Ok(agent);
        }
        Given::Value(fields) => fields,
    };
    let model = take_model(&mut fields)?;
    let extension = extension::take_fallback(&mut fields)?;
    let path = fields.path_of(&schema::NEW_MODEL);
    fields.finish(&schema::SWITCH)?;
    if let Given::Value(model) = model {
        agent.model = model::read(model, &path, Some(&current.model), rules)?;
    }
    agent.posthouse = extension.apply(&current.posthouse, &agent.model, rules)?;
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

fn refuse_later(fields: &mut Fields) -> Result<(), ApiError> {
    fields.later(&schema::SKILLS)?;
    fields.later(&schema::MULTIAGENT)
}

/// Takes the model that a session's copy may get; its null has a code of its own.
fn take_model(fields: &mut Fields) -> Result<Given<Value>, ApiError> {
    let is_null = fields.is_null(&schema::NEW_MODEL);
    fields.any(&schema::NEW_MODEL).map_err(|error| match is_null {
        true => error.with_code("agent_model_required"),
        false => error,
    })
}

/// `None` keeps.
fn take_identity(
    fields: &mut Fields,
    field: &Field,
) -> Result<Option<ExecutionIdentity>, ApiError> {
    match fields.object(field)? {
        Given::Absent => Ok(None),
        Given::Null => Ok(Some(ExecutionIdentity::ServiceAccount)),
        Given::Value(mut identity) => {
            identity.required_choice(&schema::IDENTITY_TYPE)?;
            identity.finish(&schema::EXECUTION_IDENTITY)?;
            Ok(Some(ExecutionIdentity::ServiceAccount))
        }
    }
}

#[cfg(test)]
mod tests;
