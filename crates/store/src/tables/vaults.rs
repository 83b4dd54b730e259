//! STAND-IN of this tree alone: not delivered.

use rusqlite::{Connection, params};

use crate::Error;

/// One vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultRow {
    /// `vlt_…`.
    pub id: String,
    /// Whose.
    pub workspace: String,
    /// As the wire shows it.
    pub body: String,
    /// The root key's name.
    pub root_key: Option<String>,
    /// Sealed.
    pub data_key: Option<String>,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When it was archived, in microseconds.
    pub archived_at: Option<i64>,
}

/// Stores a new vault.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, row: &VaultRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO vaults (id, workspace, body, root_key, data_key, created_at, archived_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )?
        .execute(params![
            row.id,
            row.workspace,
            row.body,
            row.root_key,
            row.data_key,
            row.created_at,
            row.archived_at
        ])?;
    Ok(())
}

/// Those sealed by another root key: id, workspace, root key, data key.
///
/// # Errors
/// [`Error::Database`].
pub fn sealed_by_others(
    connection: &Connection,
    root_key: &str,
) -> Result<Vec<(String, String, String, String)>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id, workspace, root_key, data_key FROM vaults \
             WHERE root_key IS NOT NULL AND root_key <> $1",
        )?
        .query_map([root_key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?)
}

/// Seals anew.
///
/// # Errors
/// [`Error::Database`].
pub fn reseal(
    connection: &Connection,
    id: &str,
    root_key: &str,
    data_key: &str,
) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE vaults SET root_key = $1, data_key = $2 WHERE id = $3")?
        .execute(params![root_key, data_key, id])?;
    Ok(())
}

/// One vault.
///
/// # Errors
/// [`Error::Database`].
pub fn find(connection: &Connection, id: &str) -> Result<Option<VaultRow>, Error> {
    use rusqlite::OptionalExtension as _;
    Ok(connection
        .prepare_cached(
            "SELECT id, workspace, body, root_key, data_key, created_at, archived_at FROM vaults \
             WHERE id = $1",
        )?
        .query_row([id], |row| {
            Ok(VaultRow {
                id: row.get(0)?,
                workspace: row.get(1)?,
                body: row.get(2)?,
                root_key: row.get(3)?,
                data_key: row.get(4)?,
                created_at: row.get(5)?,
                archived_at: row.get(6)?,
            })
        })
        .optional()?)
}
