//! What cages are made with: how they are isolated, what they may use, how long they stay.
//!
//! Plain values. Nothing here looks at the host.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Everything that is the same for all cages of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How tools are kept apart from the host.
    pub isolation: Isolation,
    /// What one cage may use.
    pub limits: Limits,
    /// How long a cage stays after its session has come to rest.
    pub warm: Duration,
    /// Whether a cage is started with its session's turn, or at the first sign of a tool.
    pub start: Start,
    /// Holds a folder for each session.
    pub folder: PathBuf,
    /// The program that is executed as the helper: this very one.
    pub helper: PathBuf,
    /// Time that each start takes longer, for benches and tests. Zero otherwise.
    pub delay: Duration,
}

/// How tools are kept apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, seccomp and Landlock. Where the host forbids them, tools are refused.
    #[default]
    Namespaces,
    /// None: tools run as the server's user, on the host. Only when the operator names it.
    None,
}

/// When a cage is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the first block of the model's stream that names a tool of the sandbox.
    #[default]
    Lazy,
    /// Before the first model request of a turn, which waits for it.
    Eager,
}

/// What one cage may use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes, of all its processes together.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processors, in parts of one.
    pub cpus: f64,
    /// Bytes on disk, of everything that its tools have written.
    pub disk: u64,
    /// Files and folders on disk.
    pub entries: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// The longest that one call may take.
    #[serde(rename = "call_seconds", with = "seconds")]
    pub call: Duration,
}

/// A time as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            processes: 512,
            cpus: 2.0,
            disk: 10 << 30,
            entries: 1_000_000,
            open_files: 4096,
            file_size: 10 << 30,
            call: Duration::from_secs(30 * 60),
        }
    }
}

/// Where a cage may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Networking {
    /// Anywhere, but for what the guard refuses.
    Unrestricted,
    /// Nowhere but to these hosts.
    Limited {
        /// Names, as the environment lists them.
        hosts: Vec<String>,
    },
}
