//! Agents and their versions as rows. What a body means is not known here.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

/// One agent at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// `agent_…`.
    pub id: String,
    /// Which version `body` shows.
    pub version: i64,
    /// The agent at that version, as the wire shows it. Bodies of versions are never rewritten,
    /// so that `archived_at` in them is null.
    pub body: String,
    /// When the agent was made, in microseconds.
    pub created_at: i64,
    /// When the agent was archived, in microseconds.
    pub archived_at: Option<i64>,
}

/// Which agents a list shows.
#[derive(Debug, Clone, Default)]
pub struct AgentList {
    /// Whose.
    pub workspace: String,
    /// Also archived ones.
    pub include_archived: bool,
    /// Only those made at or after this time.
    pub first: Option<i64>,
    /// Only those made at or before this time.
    pub last: Option<i64>,
    /// Only those that come after this one (time and id), which lies inside of the times.
    pub after: Option<(i64, String)>,
}

/// Stores a new agent with its first version.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, workspace: &str, row: &AgentRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO agents (id, workspace, version, body, created_at, archived_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )?
        .execute(params![
            row.id,
            workspace,
            row.version,
            row.body,
            row.created_at,
            row.archived_at
        ])?;
    insert_version(connection, &row.id, row.version, &row.body)
}

/// Stores the next version of an agent and makes it the newest.
///
/// # Errors
/// [`Error::Database`], also when that version is there already.
pub fn add_version(
    connection: &Connection,
    id: &str,
    version: i64,
    body: &str,
) -> Result<(), Error> {
    insert_version(connection, id, version, body)?;
    connection
        .prepare_cached("UPDATE agents SET version = $1, body = $2 WHERE id = $3")?
        .execute(params![version, body, id])?;
    Ok(())
}

fn insert_version(
    connection: &Connection,
    id: &str,
    version: i64,
    body: &str,
) -> Result<(), Error> {
    connection
        .prepare_cached("INSERT INTO agent_versions (agent, version, body) VALUES ($1, $2, $3)")?
        .execute(params![id, version, body])?;
    Ok(())
}

/// Marks an agent as archived; `body` is its newest version with the time in it. Does nothing
/// to one that is archived already.
///
/// # Errors
/// [`Error::Database`].
pub fn archive(connection: &Connection, id: &str, at: i64, body: &str) -> Result<(), Error> {
    connection
        .prepare_cached(
            "UPDATE agents SET archived_at = $1, body = $2 WHERE id = $3 AND archived_at IS NULL",
        )?
        .execute(params![at, body, id])?;
    Ok(())
}

/// The newest version of an agent.
///
/// # Errors
/// [`Error::Database`].
pub fn find(connection: &Connection, workspace: &str, id: &str) -> Result<Option<AgentRow>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id, version, body, created_at, archived_at FROM agents \
             WHERE id = $1 AND workspace = $2",
        )?
        .query_row(params![id, workspace], read)
        .optional()?)
}

/// One version of an agent.
///
/// # Errors
/// [`Error::Database`].
pub fn find_version(
    connection: &Connection,
    workspace: &str,
    id: &str,
    version: i64,
) -> Result<Option<AgentRow>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT a.id, v.version, v.body, a.created_at, a.archived_at \
             FROM agents a JOIN agent_versions v ON v.agent = a.id \
             WHERE a.id = $1 AND a.workspace = $2 AND v.version = $3",
        )?
        .query_row(params![id, workspace, version], read)
        .optional()?)
}

/// The live agents of a workspace whose body has that text in it, the oldest first.
///
/// # Errors
/// [`Error::Database`].
pub fn live_with(
    connection: &Connection,
    workspace: &str,
    text: &str,
) -> Result<Vec<AgentRow>, Error> {
    let rows = connection
        .prepare_cached(
            "SELECT id, version, body, created_at, archived_at FROM agents \
             WHERE workspace = $1 AND archived_at IS NULL AND replace(body, $2, '') <> body \
             ORDER BY created_at, id",
        )?
        .query_map(params![workspace, text], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Agents, the newest first.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    which: &AgentList,
    limit: usize,
) -> Result<Vec<AgentRow>, Error> {
    // One bound for cursor and time: beside another one the cursor would not be looked up.
    let last = which.last.map_or(i64::MAX, |last| last.saturating_add(1));
    let (before, before_id) = which.after.as_ref().map_or((last, ""), |(at, id)| (*at, id));
    // Two texts, so that each has an index that leaves nothing out.
    let live = if which.include_archived { "" } else { "AND archived_at IS NULL " };
    let rows = connection
        .prepare_cached(&format!(
            "SELECT id, version, body, created_at, archived_at FROM agents \
             WHERE workspace = $1 AND (created_at, id) < ($2, $3) \
             AND created_at >= $4 {live}\
             ORDER BY created_at DESC, id DESC LIMIT $5"
        ))?
        .query_map(
            params![
                which.workspace,
                before,
                before_id,
                which.first.unwrap_or(i64::MIN),
                super::rows(limit),
            ],
            read,
        )?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Versions of an agent, the newest first, below `before`.
///
/// # Errors
/// [`Error::Database`].
pub fn versions(
    connection: &Connection,
    workspace: &str,
    id: &str,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<AgentRow>, Error> {
    let rows = connection
        .prepare_cached(
            "SELECT a.id, v.version, v.body, a.created_at, a.archived_at \
             FROM agents a JOIN agent_versions v ON v.agent = a.id \
             WHERE a.id = $1 AND a.workspace = $2 AND v.version < $3 \
             ORDER BY v.version DESC LIMIT $4",
        )?
        .query_map(params![id, workspace, before.unwrap_or(i64::MAX), super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        id: row.get(0)?,
        version: row.get(1)?,
        body: row.get(2)?,
        created_at: row.get(3)?,
        archived_at: row.get(4)?,
    })
}
