//! The user's database: the log, and the plain tables beside it.
//!
//! The only room that knows SQL. It keeps records in order, proves who may append, and keeps
//! each session's row equal to a fold over its records. What a record means it does not know:
//! the fold is handed in when the store is opened.

pub mod answers;
pub mod blobs;
pub mod database;
pub mod fault;
pub mod log;
pub mod record;
pub mod tables;
pub mod tail;

use thiserror::Error;

pub use blobs::{BlobError, Blobs, Incoming, NewBlob};
pub use database::{Database, Durability, Options};
pub use fault::{Crash, Faults};
pub use log::{Appended, InputError, Log, SessionRow, WorkError};
pub use record::{Draft, Record, Seq};
pub use tail::{Behind, Preview, Tail, Tick};

/// What can go wrong in the store itself. A refusal that a caller may expect is a type of its
/// own, next to the call that can give it.
#[derive(Debug, Error)]
pub enum Error {
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// The data folder can't be used.
    #[error("the data folder {path} can't be used")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process works on the same folder.
    #[error("another posthouse works on {path}")]
    Locked {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// The database was made by a newer version.
    #[error("the database has version {found}, this program knows up to {known}")]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// A stored text is not what was written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// An `Idempotency-Key` was sent with another request before.
    #[error("the Idempotency-Key was used for another request")]
    IdempotencyClash,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// A fault was injected here.
    #[error(transparent)]
    Crash(#[from] Crash),
}

#[cfg(test)]
mod tests;
