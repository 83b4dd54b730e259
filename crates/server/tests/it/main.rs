//! Stories over HTTP against the real router, on loopback and with a database of their own.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod agents;
mod app;
mod architecture;
mod auth;
mod command_line;
mod crash;
mod damage;
mod demo;
mod environments;
mod errors;
mod retries;
mod secrets;
mod specification;
mod start;
