//! Everything fake that tests, benches and the conformance suite need, compiled once.
//!
//! Holds the scripted model, a server that plays model providers over their real wires, and a fake MCP
//! server. Never holds anything that a running posthouse uses, and knows none of the other rooms.

mod error;
mod mcp_server;
mod scripted_model;

pub use error::Error;
pub use mcp_server::{Asked, Hostility, McpServer, Switches, serve_stdio};
pub use scripted_model::script::{Models, Reply, Script, Step, ToolUse, When};
pub use scripted_model::{Captured, ScriptedModel};
