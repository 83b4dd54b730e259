//! Plain rows beside the log: agents, environments, API keys, workspaces, files, what is mounted
//! into sessions and what was taken out of them, vaults, what they were used for, and what
//! sandboxes have done.

pub mod agents;
pub mod credentials;
pub mod environments;
pub mod files;
pub mod keys;
pub mod outputs;
pub mod resources;
pub mod root_keys;
pub mod sandbox_records;
pub mod uses;
pub mod vaults;
pub mod workspaces;

/// What the functions in here work on; [`crate::Database`] hands it out.
pub use rusqlite::Connection;

/// Does work of which nothing stays that is deleted or replaced: its bytes are overwritten with
/// zeros. For what was secret. (What the write-ahead log still holds of it goes when the log is
/// written over, and at the latest when the database is closed.)
fn erasing<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, crate::Error>,
) -> Result<T, crate::Error> {
    connection.pragma_update(None, "secure_delete", "ON")?;
    let done = work(connection);
    connection.pragma_update(None, "secure_delete", crate::database::SECURE_DELETE)?;
    done
}

/// A number of rows as SQL takes it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
