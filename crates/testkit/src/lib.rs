//! Everything fake that tests, benches and the conformance suite need, compiled once.
//!
//! Holds the scripted model: a server that plays model providers over their real wires. Never holds
//! anything that a running posthouse uses, and knows none of the other rooms.

mod error;
mod scripted_model;

pub use error::Error;
pub use scripted_model::script::{Models, Reply, Script, Step, ToolUse, When};
pub use scripted_model::{Captured, ScriptedModel};
