//! The Model Context Protocol: posthouse as a client of other servers, how a user signs in to one, and
//! posthouse as a server.
//!
//! The only room that knows `rmcp`. It knows no session, no vault and no agent: headers come from
//! whoever opens a connection, and what a server says leaves as plain data. Everything outgoing passes
//! the guard.

pub mod client;
pub mod oauth;
pub mod server;
