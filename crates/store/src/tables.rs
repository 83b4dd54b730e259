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

/// A number of rows as SQL takes it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
