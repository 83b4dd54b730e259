//! Which of the files that sessions' tools have put out were taken in, as rows.

use rusqlite::{Connection, params};

use crate::Error;

/// The paths that were taken in of a session, each with the stamp that it had then.
///
/// # Errors
/// [`Error::Database`].
pub fn of_session(connection: &Connection, session: i64) -> Result<Vec<(String, String)>, Error> {
    Ok(connection
        .prepare_cached("SELECT path, stamp FROM session_outputs WHERE session = $1")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?)
}

/// Notes that a path was taken in as it was then.
///
/// # Errors
/// [`Error::Database`].
pub fn keep(connection: &Connection, session: i64, path: &str, stamp: &str) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO session_outputs (session, path, stamp) VALUES ($1, $2, $3) \
             ON CONFLICT (session, path) DO UPDATE SET stamp = excluded.stamp",
        )?
        .execute(params![session, path, stamp])?;
    Ok(())
}
