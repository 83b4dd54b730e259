//! Workspaces as rows: what things and keys belong to.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

/// One workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// `wrkspc_…`.
    pub id: String,
    /// For people; no two have the same.
    pub name: String,
    /// When it was made, in microseconds.
    pub created_at: i64,
}

/// Stores a new workspace; says whether its id and name were free.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, row: &WorkspaceRow) -> Result<bool, Error> {
    let rows = connection
        .prepare_cached(
            "INSERT INTO workspaces (id, name, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![row.id, row.name, row.created_at])?;
    Ok(rows > 0)
}

/// One workspace.
///
/// # Errors
/// [`Error::Database`].
pub fn find(connection: &Connection, id: &str) -> Result<Option<WorkspaceRow>, Error> {
    Ok(connection
        .prepare_cached("SELECT id, name, created_at FROM workspaces WHERE id = $1")?
        .query_row([id], read)
        .optional()?)
}

/// Workspaces, the newest first, after the one given by its time and id.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<WorkspaceRow>, Error> {
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    let rows = connection
        .prepare_cached(
            "SELECT id, name, created_at FROM workspaces WHERE (created_at, id) < ($1, $2) \
             ORDER BY created_at DESC, id DESC LIMIT $3",
        )?
        .query_map(params![before, before_id, super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn read(row: &Row<'_>) -> rusqlite::Result<WorkspaceRow> {
    Ok(WorkspaceRow { id: row.get(0)?, name: row.get(1)?, created_at: row.get(2)? })
}
