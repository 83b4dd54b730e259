//! What sessions' sandboxes are and have done, as rows that go with their session. What a body
//! means is not known here.

use rusqlite::{Connection, Row, params, params_from_iter, types::Value};

use crate::Error;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRecordRow {
    /// `sbrec_…`.
    pub id: String,
    /// The session.
    pub session: String,
    /// What it is a record of: the body's `kind`.
    pub kind: String,
    /// The record as the wire shows it.
    pub body: String,
    /// When it was, in microseconds.
    pub at: i64,
}

/// Stores records. Those of a session that has been deleted in the meantime are left out.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, rows: &[SandboxRecordRow]) -> Result<(), Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO sandbox_records (id, session, kind, body, at) \
         SELECT $1, id, $2, $3, CAST($4 AS BIGINT) FROM sessions WHERE id = $5",
    )?;
    for row in rows {
        insert.execute(params![row.id, row.kind, row.body, row.at, row.session])?;
    }
    Ok(())
}

/// The records of a session, the newest first, after the one given by its time and id. Without
/// kinds, those of every kind.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    session: &str,
    kinds: &[String],
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<SandboxRecordRow>, Error> {
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    let mut values: Vec<Value> =
        vec![session.to_owned().into(), before.into(), before_id.to_owned().into()];
    let mut sql = "SELECT id, session, kind, body, at FROM sandbox_records \
        WHERE session = $1 AND (at, id) < ($2, $3)"
        .to_owned();
    for (index, kind) in kinds.iter().enumerate() {
        values.push(kind.clone().into());
        let joint = if index == 0 { " AND kind IN (" } else { ", " };
        sql.push_str(&format!("{joint}${}", values.len()));
    }
    if !kinds.is_empty() {
        sql.push(')');
    }
    values.push(super::rows(limit).into());
    sql.push_str(&format!(" ORDER BY at DESC, id DESC LIMIT ${}", values.len()));
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Deletes the records of a session.
///
/// # Errors
/// [`Error::Database`].
pub(crate) fn delete_of_session(connection: &Connection, session: &str) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM sandbox_records WHERE session = $1")?
        .execute([session])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<SandboxRecordRow> {
    Ok(SandboxRecordRow {
        id: row.get(0)?,
        session: row.get(1)?,
        kind: row.get(2)?,
        body: row.get(3)?,
        at: row.get(4)?,
    })
}
