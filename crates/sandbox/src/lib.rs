//! Sandboxes: the cage, the helper that works inside of it, and the only door out.
//!
//! One session, one cage. The server's side ([`Cages`]) starts cages, hands them tool calls and
//! ends them; the helper is forked by a small process of the same program ([`launcher`]) and runs
//! the tools inside ([`tools`]). What is in a cage is taken to be hostile: nothing that comes out
//! of it is more than data.

pub mod cages;
pub mod cgroups;
pub mod disk;
pub mod door;
mod etc;
mod frame;
pub mod host;
pub mod inside;
pub mod journal;
pub mod launcher;
pub mod settings;
pub mod tools;
pub mod tree;

pub use cages::{Cages, Live, Mount, Place, ProgramPipe, Refused, Source, Used};
pub use settings::{Allowed, Isolation, Limits, Networking, Rule, Settings};
pub use tools::program::Program;
