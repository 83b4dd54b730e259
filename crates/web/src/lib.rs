//! The web for models: pages as readable text, and searches.
//!
//! Knows no session and no agent. Everything outgoing passes the guard, and what comes back is data of
//! a stranger: bounded in bytes and time, and never run.

pub mod domains;
pub mod fetch;
pub mod search;

pub use domains::Domains;
