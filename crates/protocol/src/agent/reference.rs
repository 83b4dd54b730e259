//! How a session names its agent: by id, by id and version, or with overrides.

use serde_json::Value;

use super::{
    Agent, SessionAgent, clearable, extension, model, replace, servers, take_model, tools,
};
use crate::{
    ApiError, Fields, Given,
    fields::{id, kind_of, wrong},
    id::IdKind,
    schema::{Kind, agents as schema, sessions::AGENT},
};

/// An agent, as a new session names it.
#[derive(Debug, PartialEq)]
pub struct Reference {
    /// The agent.
    pub id: String,
    /// The version; the newest when there is none.
    pub version: Option<i64>,
    /// What is left to read of an `agent_with_overrides`.
    overrides: Option<Fields>,
}

impl Reference {
    /// Reads the `agent` of a new session.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(value: Value) -> Result<Self, ApiError> {
        let path = AGENT.name;
        match value {
            Value::String(_) => {
                let id = id(value, path, Kind::Id(IdKind::Agent))?;
                Ok(Self { id, version: None, overrides: None })
            }
            Value::Object(_) => {
                let mut fields = Fields::open(value, path)?;
                let kind = fields.tag(&schema::REFERENCE)?;
                let id = fields.id(&schema::REFERENCE_ID)?;
                let version = fields.integer(&schema::REFERENCE_VERSION)?.value();
                if kind == "agent_with_overrides" {
                    return Ok(Self { id, version, overrides: Some(fields) });
                }
                fields.finish(&schema::PLAIN_REFERENCE)?;
                Ok(Self { id, version, overrides: None })
            }
            other => {
                let what = format!("is {}", kind_of(&other));
                Err(wrong(path, &what, &AGENT.what_is_right()))
            }
        }
    }

    /// The session's copy of the agent, which is the one that was named. Its id and version stay
    /// those of the agent.
    ///
    /// # Errors
    /// 400 that names the override; `agent_model_required` when its model is null.
    pub fn apply(
        self,
        base: &Agent,
        rules: &dyn model::ModelRules,
    ) -> Result<SessionAgent, ApiError> {
        let mut agent = base.snapshot();
        let Some(mut fields) = self.overrides else { return Ok(agent) };
        let model = take_model(&mut fields)?;
        if let Some(system) = clearable(fields.text(&schema::NEW_SYSTEM)?) {
            agent.system = system;
        }
        replace(&mut agent.tools, tools::take(&mut fields, &schema::NEW_TOOLS, rules)?);
        replace(&mut agent.mcp_servers, servers::take(&mut fields, &schema::NEW_SERVERS)?);
        fields.later(&schema::SKILLS)?;
        let extension = extension::take_override(&mut fields)?;
        let path = fields.path_of(&schema::NEW_MODEL);
        fields.finish(&schema::OVERRIDES)?;
        servers::check(&agent.tools, &agent.mcp_servers, "agent.")?;
        if let Given::Value(model) = model {
            // A replacement, and no change of the base's: no effort given means the default one.
            agent.model = model::read(model, &path, None, rules)?;
        }
        agent.posthouse = extension.apply(&base.posthouse, &agent.model, rules)?;
        Ok(agent)
    }
}
