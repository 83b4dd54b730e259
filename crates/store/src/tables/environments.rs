//! Environments as rows. What a body means is not known here.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// `env_…`.
    pub id: String,
    /// The environment as the wire shows it.
    pub body: String,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When it was archived, in microseconds.
    pub archived_at: Option<i64>,
}

/// Stores a new environment.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, workspace: &str, row: &EnvironmentRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO environments (id, workspace, body, created_at, archived_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )?
        .execute(params![row.id, workspace, row.body, row.created_at, row.archived_at])?;
    Ok(())
}

/// Replaces the body and the time of archiving.
///
/// # Errors
/// [`Error::Database`].
pub fn replace(
    connection: &Connection,
    id: &str,
    body: &str,
    archived_at: Option<i64>,
) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE environments SET body = $1, archived_at = $2 WHERE id = $3")?
        .execute(params![body, archived_at, id])?;
    Ok(())
}

/// Deletes an environment; says whether it was there.
///
/// # Errors
/// [`Error::Database`].
pub fn delete(connection: &Connection, workspace: &str, id: &str) -> Result<bool, Error> {
    let rows = connection
        .prepare_cached("DELETE FROM environments WHERE id = $1 AND workspace = $2")?
        .execute(params![id, workspace])?;
    Ok(rows > 0)
}

/// One environment.
///
/// # Errors
/// [`Error::Database`].
pub fn find(
    connection: &Connection,
    workspace: &str,
    id: &str,
) -> Result<Option<EnvironmentRow>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id, body, created_at, archived_at FROM environments \
             WHERE id = $1 AND workspace = $2",
        )?
        .query_row(params![id, workspace], read)
        .optional()?)
}

/// Environments, the newest first, after the one given by its time and id.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    workspace: &str,
    include_archived: bool,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<EnvironmentRow>, Error> {
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    // Two texts, so that each has an index that leaves nothing out.
    let live = if include_archived { "" } else { "AND archived_at IS NULL " };
    let rows = connection
        .prepare_cached(&format!(
            "SELECT id, body, created_at, archived_at FROM environments \
             WHERE workspace = $1 AND (created_at, id) < ($2, $3) {live}\
             ORDER BY created_at DESC, id DESC LIMIT $4"
        ))?
        .query_map(params![workspace, before, before_id, super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn read(row: &Row<'_>) -> rusqlite::Result<EnvironmentRow> {
    Ok(EnvironmentRow {
        id: row.get(0)?,
        body: row.get(1)?,
        created_at: row.get(2)?,
        archived_at: row.get(3)?,
    })
}
