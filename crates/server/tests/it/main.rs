//! Stories over HTTP against the real router, on loopback and with a database of their own.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod agents;
mod app;
mod architecture;
mod auth;
mod cage_crash;
mod cages;
mod command_line;
mod connect;
mod core_dump;
mod crash;
mod damage;
mod demo;
mod environments;
mod errors;
mod failover;
mod files;
mod isolation;
mod keys;
mod mcp_server;
mod mcp_servers;
mod models;
mod openapi;
mod resources;
mod retries;
mod root_keys;
mod run_command;
mod run_terminal;
mod sandboxes;
mod secrets;
mod server;
mod specification;
mod start;
mod surface;
mod switch;
mod tools;
mod vaults;
