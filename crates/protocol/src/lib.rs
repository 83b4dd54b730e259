//! The words spoken on the wire: ids, times, errors, fields, resources and events.
//!
//! The only types that are a promise to clients. Nothing in here does any IO, knows a clock
//! or makes a random number.

pub mod agent;
pub mod content;
pub mod credential;
pub mod environment;
pub mod error;
pub mod event;
pub mod fields;
pub mod file;
pub mod host;
pub mod id;
pub mod metadata;
pub mod page;
pub mod query;
pub mod resource;
pub mod sandbox_record;
pub mod schema;
pub mod time;
pub mod timestamp;
pub mod vault;

pub use error::{ApiError, ErrorKind};
pub use fields::{Fields, Given};
pub use time::Micros;
pub use timestamp::Timestamp;
