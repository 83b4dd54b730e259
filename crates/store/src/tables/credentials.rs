//! Credentials as rows: what is shown, and what is secret, sealed. Nothing here seals or opens.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

const ROW: &str = "id, vault, workspace, body, target, sealed, version, created_at, archived_at";

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// `vcrd_…`.
    pub id: String,
    /// Its vault.
    pub vault: String,
    /// Whose it is.
    pub workspace: String,
    /// The credential as the wire shows it.
    pub body: String,
    /// What its vault has at most one live credential for.
    pub target: String,
    /// What is secret in it, sealed, in base64; none once it is archived.
    pub sealed: Option<String>,
    /// Counts the changes, from 1.
    pub version: i64,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When it was archived, in microseconds.
    pub archived_at: Option<i64>,
}

/// Stores a new credential.
///
/// # Errors
/// [`Error::Database`], also when its vault has a live credential for the same target.
pub fn insert(connection: &Connection, row: &CredentialRow) -> Result<(), Error> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO credentials ({ROW}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        ))?
        .execute(params![
            row.id,
            row.vault,
            row.workspace,
            row.body,
            row.target,
            row.sealed,
            row.version,
            row.created_at,
            row.archived_at,
        ])?;
    Ok(())
}

/// Puts another body and other secrets in place, if the credential is live and still of this
/// version, which grows by one; says whether it was.
///
/// # Errors
/// [`Error::Database`].
pub fn exchange_secrets(
    connection: &Connection,
    id: &str,
    version: i64,
    body: &str,
    sealed: &str,
) -> Result<bool, Error> {
    super::erasing(connection, |connection| {
        let rows = connection
            .prepare_cached(
                "UPDATE credentials SET body = $1, sealed = $2, version = version + 1 \
                 WHERE id = $3 AND version = $4 AND archived_at IS NULL",
            )?
            .execute(params![body, sealed, id, version])?;
        Ok(rows > 0)
    })
}

/// Archives a live credential and wipes what is secret in it.
///
/// # Errors
/// [`Error::Database`].
pub fn archive(connection: &Connection, id: &str, body: &str, at: i64) -> Result<(), Error> {
    super::erasing(connection, |connection| {
        connection
            .prepare_cached(
                "UPDATE credentials SET body = $1, archived_at = $2, sealed = NULL, \
                 version = version + 1 WHERE id = $3 AND archived_at IS NULL",
            )?
            .execute(params![body, at, id])?;
        Ok(())
    })
}

/// Deletes a credential; says whether it was there. The ledger stays.
///
/// # Errors
/// [`Error::Database`].
pub fn delete(
    connection: &Connection,
    workspace: &str,
    vault: &str,
    id: &str,
) -> Result<bool, Error> {
    super::erasing(connection, |connection| {
        let text = "DELETE FROM credentials WHERE id = $1 AND vault = $2 AND workspace = $3";
        let rows = connection.prepare_cached(text)?.execute(params![id, vault, workspace])?;
        Ok(rows > 0)
    })
}

/// One credential.
///
/// # Errors
/// [`Error::Database`].
pub fn find(
    connection: &Connection,
    workspace: &str,
    vault: &str,
    id: &str,
) -> Result<Option<CredentialRow>, Error> {
    Ok(connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM credentials WHERE id = $1 AND vault = $2 AND workspace = $3"
        ))?
        .query_row(params![id, vault, workspace], read)
        .optional()?)
}

/// The live credentials of a vault, the oldest first.
///
/// # Errors
/// [`Error::Database`].
pub fn live(
    connection: &Connection,
    workspace: &str,
    vault: &str,
) -> Result<Vec<CredentialRow>, Error> {
    let rows = connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM credentials \
             WHERE vault = $1 AND workspace = $2 AND archived_at IS NULL ORDER BY created_at, id"
        ))?
        .query_map(params![vault, workspace], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// How many live credentials a vault has.
///
/// # Errors
/// [`Error::Database`].
pub fn count_live(connection: &Connection, vault: &str) -> Result<usize, Error> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT COUNT(*) FROM credentials WHERE vault = $1 AND archived_at IS NULL",
        )?
        .query_row([vault], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Whether a vault has a live credential for a target.
///
/// # Errors
/// [`Error::Database`].
pub fn is_taken(connection: &Connection, vault: &str, target: &str) -> Result<bool, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 FROM credentials WHERE vault = $1 AND target = $2 AND archived_at IS NULL",
        )?
        .exists(params![vault, target])?)
}

/// Credentials of a vault, the newest first, after the one given by its time and id.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    vault: &str,
    include_archived: bool,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<CredentialRow>, Error> {
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    // Two texts, so that each has an index that leaves nothing out.
    let live = if include_archived { "" } else { "AND archived_at IS NULL " };
    let rows = connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM credentials WHERE vault = $1 AND (created_at, id) < ($2, $3) {live}\
             ORDER BY created_at DESC, id DESC LIMIT $4"
        ))?
        .query_map(params![vault, before, before_id, super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn read(row: &Row<'_>) -> rusqlite::Result<CredentialRow> {
    Ok(CredentialRow {
        id: row.get(0)?,
        vault: row.get(1)?,
        workspace: row.get(2)?,
        body: row.get(3)?,
        target: row.get(4)?,
        sealed: row.get(5)?,
        version: row.get(6)?,
        created_at: row.get(7)?,
        archived_at: row.get(8)?,
    })
}
