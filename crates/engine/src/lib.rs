//! The harness: what a session's log means, and what to do next.
//!
//! Its heart is pure: [`state::State::apply`] folds a record, [`step::step`] plans. Around it,
//! `drive` brings the world in line with the plan and [`engine::Engine`] wakes sessions.
//! Nothing in here knows HTTP, and nothing but `drive` appends work.

mod cache;
mod caged;
pub mod clock;
pub mod context;
mod drive;
pub mod engine;
mod flight;
pub mod input;
mod ledger;
pub mod line;
mod outside;
pub mod own;
pub mod prompt;
pub mod sessions;
pub mod settle;
pub mod sources;
pub mod state;
pub mod step;
pub mod summary;
pub mod toolbox;
pub mod tools;
pub mod vault;
pub mod view;

pub use caged::{Caged, CagedParts, networking};
pub use clock::{Chance, Clock};
pub use engine::{Engine, Parts};
pub use outside::{Connected, McpSettings, OutsideParts};
pub use tools::{Hands, NothingOutside, Outside, ToolCall, ToolFuture, ToolOutcome};
pub use vault::{KeeperOf, VaultParts, Vaults};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
