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

/// Where a cage may connect to, and whose TLS is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networking {
    /// The hosts that may be reached. None stands for all that the guard lets through.
    pub allowed: Option<Vec<Allowed>>,
    /// Hosts whose TLS is not ended by the door, and into whose requests nothing is put: names, or
    /// `*.` and a name. With a list, they stand in it as well, by [`Rule::Passthrough`].
    pub passthrough: Vec<String>,
}

/// One host that may be reached, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowed {
    /// A name, an IPv4 address, or `*.` and a name, which stands for all names below it at any
    /// depth and never for itself.
    pub host: String,
    /// Why it may be reached.
    pub rule: Rule,
}

/// What a decision of the door rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The environment allows everything that the guard does.
    Unrestricted,
    /// The host is in the environment's `allowed_hosts`.
    AllowedHosts,
    /// The host is of a package manager, and the environment allows those.
    PackageManagers,
    /// The host is of one of the agent's MCP servers, and the environment allows those.
    McpServers,
    /// The host is in the environment's `passthrough_hosts`.
    Passthrough,
    /// The host is not in the list.
    NotListed,
    /// The host is in the list, the port is not one of the web's.
    Port,
    /// The guard refuses the address.
    Guard,
    /// The address stands for no name that this cage has asked for.
    Unknown,
    /// The connection was for one host, and what is said in it names another.
    Mismatch,
    /// What is said in it is not HTTP, or nothing that the door carries.
    Protocol,
    /// The origin's certificate is not to be trusted.
    Certificate,
}
