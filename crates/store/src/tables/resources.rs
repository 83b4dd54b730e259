//! What is mounted into sessions, as rows. Each shows the session's own copy of a file, and both
//! go together.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::files;
use crate::Error;

const SELECT: &str = "SELECT r.id, r.file, r.mount_path, r.literal_path, r.created_at, \
    r.updated_at, f.blob, f.size, f.expires_at \
    FROM session_resources r JOIN files f ON f.id = r.file WHERE r.session = $1";

/// A file that is mounted into a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRow {
    /// `sesrsc_…`.
    pub id: String,
    /// The session's copy of the file, `file_…`.
    pub file_id: String,
    /// Where it is, absolute, below `/mnt/session/uploads`.
    pub mount_path: String,
    /// Where it is as well, absolute: what the caller has named, if that lies elsewhere.
    pub literal_path: Option<String>,
    /// When it was added, in microseconds.
    pub created_at: i64,
    /// When it was last changed, in microseconds.
    pub updated_at: i64,
    /// The content, for [`crate::Blobs::path`]; none once the file has expired.
    pub blob: Option<String>,
    /// The content's length in bytes.
    pub size: i64,
    /// When the content goes, in microseconds.
    pub expires_at: Option<i64>,
}

/// Stores what is mounted; the row of its file is there already.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, session: &str, row: &ResourceRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO session_resources \
             (id, session, file, mount_path, literal_path, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )?
        .execute(params![
            row.id,
            session,
            row.file_id,
            row.mount_path,
            row.literal_path,
            row.created_at,
            row.updated_at,
        ])?;
    Ok(())
}

/// All that is mounted into a session, in the order in which it was added.
///
/// # Errors
/// [`Error::Database`].
pub fn of_session(connection: &Connection, session: &str) -> Result<Vec<ResourceRow>, Error> {
    let sql = format!("{SELECT} ORDER BY r.created_at, r.id");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_map([session], read)?.collect::<Result<_, _>>()?)
}

/// A page of the same, after the one given by its time and id.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    session: &str,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<ResourceRow>, Error> {
    let (at, id) = after.unwrap_or((i64::MIN, ""));
    let sql = format!(
        "{SELECT} AND (r.created_at, r.id) > ($2, $3) ORDER BY r.created_at, r.id LIMIT $4"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params![session, at, id, super::rows(limit)], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One of them.
///
/// # Errors
/// [`Error::Database`].
pub fn find(
    connection: &Connection,
    session: &str,
    id: &str,
) -> Result<Option<ResourceRow>, Error> {
    let sql = format!("{SELECT} AND r.id = $2");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_row(params![session, id], read).optional()?)
}

/// Takes one away, with the session's copy of the file; says whether it was there.
///
/// # Errors
/// [`Error::Database`].
pub fn delete(
    connection: &Connection,
    workspace: &str,
    session: &str,
    id: &str,
) -> Result<bool, Error> {
    let Some(row) = find(connection, session, id)? else { return Ok(false) };
    Ok(files::delete(connection, workspace, &row.file_id)?.is_some())
}

/// Whether a session has ended or is archived; `None` when there is none.
///
/// # Errors
/// [`Error::Database`].
pub fn has_ended(
    connection: &Connection,
    workspace: &str,
    session: &str,
) -> Result<Option<bool>, Error> {
    let mut select = connection.prepare_cached(
        "SELECT archived_at IS NOT NULL FROM sessions WHERE id = $1 AND workspace = $2",
    )?;
    Ok(select.query_row(params![session, workspace], |row| row.get(0)).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ResourceRow> {
    Ok(ResourceRow {
        id: row.get(0)?,
        file_id: row.get(1)?,
        mount_path: row.get(2)?,
        literal_path: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        blob: row.get(6)?,
        size: row.get(7)?,
        expires_at: row.get(8)?,
    })
}
