//! Which agents are tools, and which may become some.

use posthouse_protocol::{
    ApiError,
    agent::{Agent, Exposed},
    fields::wrong,
};
use posthouse_store::tables::{Connection, agents, environments, vaults};

use super::tools::GENERAL;
use crate::{
    api::{Call, Refusal, agents as agent_routes},
    keys::Principal,
    scope::{Need, Resource, Verb},
};

/// With what the bodies of exposed agents are told from most others.
const MARK: &str = "\"mcp_tool\":{";

/// Where the tool stands in the body of an agent.
const PATH: &str = "posthouse.mcp_tool";

/// A live agent that is a tool.
pub(in crate::api) struct ExposedAgent {
    /// The agent, in its newest version.
    pub(in crate::api) agent: Agent,
    /// What it is as a tool.
    pub(in crate::api) tool: Exposed,
}

/// All that a workspace exposes, the oldest agent first.
pub(super) fn all(call: &Call) -> Result<Vec<ExposedAgent>, Refusal> {
    call.app.database.read(|connection| of_workspace(connection, &call.principal.workspace))
}

/// The one that the caller's workspace exposes under a name.
pub(super) fn named(call: &Call, name: &str) -> Result<Option<ExposedAgent>, Refusal> {
    Ok(all(call)?.into_iter().find(|one| one.tool.name == name))
}

/// Whether an agent is exposed now.
pub(super) fn is_exposed(call: &Call, agent: &str) -> Result<bool, Refusal> {
    let workspace = &call.principal.workspace;
    let row = call.app.database.read(|connection| agents::find(connection, workspace, agent))?;
    let Some(row) = row.filter(|row| row.archived_at.is_none()) else { return Ok(false) };
    Ok(agent_routes::parse(&row)?.posthouse.mcp_tool.is_some())
}

fn of_workspace(connection: &Connection, workspace: &str) -> Result<Vec<ExposedAgent>, Refusal> {
    let mut found = Vec::new();
    for row in agents::live_with(connection, workspace, MARK)? {
        let agent = agent_routes::parse(&row)?;
        if let Some(tool) = agent.posthouse.mcp_tool.clone() {
            found.push(ExposedAgent { agent, tool });
        }
    }
    Ok(found)
}

/// Refuses to make a tool of an agent whose name is another's, or whose sessions could not begin.
/// What an agent has been before is not looked at again.
///
/// # Errors
/// 400 that names the field, 403 when vaults are named and the key may not read any.
pub(in crate::api) fn check(
    connection: &Connection,
    principal: &Principal,
    before: Option<&Agent>,
    after: &Agent,
) -> Result<(), Refusal> {
    let workspace = &principal.workspace;
    let Some(tool) = &after.posthouse.mcp_tool else { return Ok(()) };
    if before.is_some_and(|before| before.posthouse.mcp_tool.as_ref() == Some(tool)) {
        return Ok(());
    }
    let name = format!("{PATH}.name");
    if GENERAL.contains(&tool.name.as_str()) {
        let what = format!("{:?} is a tool of the server's own", tool.name);
        return Err(wrong(&name, &what, "use another name").into());
    }
    let others = of_workspace(connection, workspace)?;
    if let Some(other) =
        others.iter().find(|one| one.agent.id != after.id && one.tool.name == tool.name)
    {
        let what = format!("{:?} is the name of {}", tool.name, other.agent.id);
        return Err(wrong(&name, &what, "use another name").into());
    }
    let path = format!("{PATH}.environment_id");
    let id = &tool.environment_id;
    let environment = environments::find(connection, workspace, id)?
        .ok_or_else(|| ApiError::not_found(format!("{path}: {id} not found")))?;
    if environment.archived_at.is_some() {
        return Err(wrong(&path, "is archived", "name another environment").into());
    }
    let reads_vaults = Need { resource: Resource::Vaults, verb: Verb::Read };
    if !tool.vault_ids.is_empty() && !principal.scopes.open(reads_vaults) {
        return Err(reads_vaults.refusal().into());
    }
    for (index, id) in tool.vault_ids.iter().enumerate() {
        let path = format!("{PATH}.vault_ids[{index}]");
        let vault = vaults::find(connection, workspace, id)?
            .ok_or_else(|| ApiError::not_found(format!("{path}: {id} not found")))?;
        if vault.archived_at.is_some() {
            return Err(wrong(&path, "is archived", "name another vault or leave it out").into());
        }
    }
    Ok(())
}
