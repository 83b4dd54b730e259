//! Vaults over a real database in a temporary folder, with servers on loopback.

mod bench;
mod envelope;
mod keepers;
mod mcp;
mod probes;
mod records;
mod refreshes;
mod server;
