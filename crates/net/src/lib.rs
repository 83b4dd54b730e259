//! The one guard for every connection that leaves the server.
//!
//! Names are resolved once, checked, pinned and dialled at the very addresses that were checked.
//! Nothing in here knows what is sent, and nothing asks a name again between check and dial.

mod guard;
mod host;
mod ranges;
mod tls;

pub use guard::{ConnectError, Guard, Pinned, Refused, Rules};
pub use host::{Host, MalformedHost};
