//! API keys as rows. A secret itself is never stored, only its SHA-256 in hexadecimal.

use rusqlite::{Connection, Row, params};

use crate::Error;

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `key_…`.
    pub id: String,
    /// Whose things it opens.
    pub workspace: String,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret, 64 hexadecimal digits.
    pub secret_hash: String,
    /// Whether it opens what only operators may see.
    pub admin: bool,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When it was revoked, in microseconds.
    pub revoked_at: Option<i64>,
}

/// Stores a new key.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, row: &KeyRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO api_keys \
             (id, workspace, name, secret_hash, admin, created_at, revoked_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )?
        .execute(params![
            row.id,
            row.workspace,
            row.name,
            row.secret_hash,
            i64::from(row.admin),
            row.created_at,
            row.revoked_at,
        ])?;
    Ok(())
}

/// All keys that are not revoked.
///
/// # Errors
/// [`Error::Database`].
pub fn live(connection: &Connection) -> Result<Vec<KeyRow>, Error> {
    let rows = connection
        .prepare_cached(
            "SELECT id, workspace, name, secret_hash, admin, created_at, revoked_at \
             FROM api_keys WHERE revoked_at IS NULL ORDER BY created_at, id",
        )?
        .query_map([], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Whether a key was ever stored, revoked ones included.
///
/// # Errors
/// [`Error::Database`].
pub fn any(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.prepare_cached("SELECT 1 FROM api_keys LIMIT 1")?.exists([])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        workspace: row.get(1)?,
        name: row.get(2)?,
        secret_hash: row.get(3)?,
        admin: row.get::<_, i64>(4)? != 0,
        created_at: row.get(5)?,
        revoked_at: row.get(6)?,
    })
}
