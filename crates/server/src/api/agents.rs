//! `/v1/agents`: makes, shows, changes and archives agents.
//!
//! Bodies are stored as they are shown, so that a read hands out a row.

use std::sync::Arc;

use posthouse_protocol::{
    ApiError, Micros,
    agent::{self, Agent, Changed},
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::lists,
};
use posthouse_store::tables::{
    Connection,
    agents::{self, AgentList, AgentRow},
};

use super::{Answer, Call, Refusal, mcp::exposed, models};

const LIST: &str = "agents";
const VERSIONS: &str = "agent_versions";

/// `POST /v1/agents`.
///
/// # Errors
/// 400 that names the field.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.mint(IdKind::Agent)?;
    models::learn(&call).await;
    let agent = agent::parse_create(call.fields()?, id, call.at, call.app.rules.as_ref())?;
    let row = AgentRow {
        body: serde_json::to_string(&agent)?,
        id: agent.id.clone(),
        version: agent.version,
        created_at: call.at.0,
        archived_at: None,
    };
    let principal = call.principal.clone();
    call.once(move |connection| {
        exposed::check(connection, &principal, None, &agent)?;
        agents::insert(connection, &principal.workspace, &row)?;
        Ok(row.body)
    })
    .await
}

/// `GET /v1/agents/{agent}`, of which `version` shows an older one.
///
/// # Errors
/// 404 when there is no such agent or version.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    let id = call.id(0, IdKind::Agent)?;
    let mut query = call.query()?;
    let version = query.integer(&lists::VERSION)?;
    query.finish(&lists::AGENT)?;
    let workspace = &call.principal.workspace;
    let body = call.app.database.read(|connection| {
        let Some(version) = version else { return Ok(find(connection, workspace, id)?.body) };
        match agents::find_version(connection, workspace, id, version)? {
            Some(row) => show(row),
            None => {
                find(connection, workspace, id)?;
                Err(ApiError::not_found("Agent version not found.").into())
            }
        }
    })?;
    Ok(Answer::new(body))
}

/// `POST /v1/agents/{agent}`: the next version, or the same when nothing changes.
///
/// # Errors
/// 404, 409 when `version` is not the newest, 400 that names the field.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Agent)?.to_owned();
    models::learn(&call).await;
    let fields = call.fields()?;
    let (rules, at) = (Arc::clone(&call.app.rules), call.at);
    let principal = call.principal.clone();
    call.once(move |connection| {
        let row = find(connection, &principal.workspace, &id)?;
        let before = parse(&row)?;
        match agent::apply_update(&before, fields, at, rules.as_ref())? {
            Changed::Nothing => Ok(row.body),
            Changed::Version(next) => {
                exposed::check(connection, &principal, Some(&before), &next)?;
                let body = serde_json::to_string(&next)?;
                agents::add_version(connection, &id, next.version, &body)?;
                Ok(body)
            }
        }
    })
    .await
}

/// `POST /v1/agents/{agent}/archive`. A second time changes nothing.
///
/// # Errors
/// 404.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Agent)?.to_owned();
    call.no_fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    call.once(move |connection| {
        let row = find(connection, &workspace, &id)?;
        if row.archived_at.is_some() {
            return Ok(row.body);
        }
        let body = show(AgentRow { archived_at: Some(at.0), ..row })?;
        agents::archive(connection, &id, at.0, &body)?;
        Ok(body)
    })
    .await
}

/// `GET /v1/agents`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_100)?;
    let include_archived = query.flag(&lists::ARCHIVED)?;
    let times = query.times(&lists::CREATED)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&lists::AGENTS)?;
    times.admit(cursor.as_ref(), lists::CREATED.name)?;
    let which = AgentList {
        workspace: call.principal.workspace.to_string(),
        include_archived,
        first: times.first().map(|at| at.0),
        last: times.last().map(|at| at.0),
        after: cursor.map(|cursor| (cursor.position.number, cursor.position.id)),
    };
    let rows = call.app.database.read(|connection| agents::list(connection, &which, limit + 1))?;
    let cursor = |row: &AgentRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}

/// `GET /v1/agents/{agent}/versions`: the newest first.
///
/// # Errors
/// 404, 400 about the query.
pub async fn versions(call: Call) -> Result<Answer, Refusal> {
    let id = call.id(0, IdKind::Agent)?;
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_100)?;
    let cursor = query.page(&lists::PAGE, VERSIONS, Order::Desc)?;
    let before = cursor.map(|cursor| cursor.position.number);
    query.finish(&lists::VERSIONS)?;
    let workspace = &call.principal.workspace;
    let rows = call.app.database.read::<_, Refusal>(|connection| {
        find(connection, workspace, id)?;
        Ok(agents::versions(connection, workspace, id, before, limit + 1)?)
    })?;
    let cursor = |row: &AgentRow| {
        let position = Position { number: row.version, id: String::new() };
        Cursor::after(VERSIONS, Order::Desc, position)
    };
    let page = Page::cut(rows, limit, cursor, show);
    let data = page.data.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::new(Page::forward(data, page.next_page).to_json()))
}

/// The newest version of an agent.
///
/// # Errors
/// 404 in the hosted wording.
pub fn find(connection: &Connection, workspace: &str, id: &str) -> Result<AgentRow, Refusal> {
    agents::find(connection, workspace, id)?
        .ok_or_else(|| ApiError::not_found("Agent not found.").into())
}

/// The agent that a row holds.
///
/// # Errors
/// A fault when the row is damaged.
pub fn parse(row: &AgentRow) -> Result<Agent, Refusal> {
    Ok(serde_json::from_str(&row.body)?)
}

/// A version as it is shown: all of an archived agent's versions say so.
fn show(row: AgentRow) -> Result<String, Refusal> {
    let Some(at) = row.archived_at else { return Ok(row.body) };
    let mut agent = parse(&row)?;
    agent.archived_at = Some(Micros(at).into());
    Ok(serde_json::to_string(&agent)?)
}
