//! The one guard for every connection that leaves the server.
//!
//! Names are resolved once, checked, pinned and dialled at the very addresses that were checked.
//! Nothing asks a name again between check and dial, and nothing in here knows what is sent but
//! `http`, which sends requests.

mod guard;
mod host;
pub mod http;
mod ranges;
mod tls;

pub use guard::{ConnectError, Guard, Pinned, Refused, Rules};
pub use host::{Host, MalformedHost};
pub use tls::{UnusableRoots, read_roots};
