//! Vaults over a real database in a temporary folder, with servers on loopback.

pub(crate) mod bench;
mod envelope;
mod keepers;
mod mcp;
mod probes;
mod records;
mod refreshes;
pub(crate) mod server;
