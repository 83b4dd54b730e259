//! The MCP servers of an agent, and the toolset that stands for each.

use serde::{Deserialize, Serialize};

use super::tools::{DefaultConfig, Policy};

/// One entry of `mcp_servers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum McpServer {
    /// A server behind an address.
    #[serde(rename = "url")]
    Url {
        /// Unique among the agent's servers.
        name: String,
        /// Where it is.
        url: String,
    },
    /// A server that runs inside the session's sandbox and speaks over its input and output.
    #[serde(rename = "posthouse_stdio")]
    Stdio {
        /// Unique among the agent's servers.
        name: String,
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, beside the sandbox's own.
        env: std::collections::BTreeMap<String, String>,
    },
}

impl McpServer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Url { name, .. } | Self::Stdio { name, .. } => name,
        }
    }

    /// Its address; none for one that runs in the sandbox.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Url { url, .. } => Some(url),
            Self::Stdio { .. } => None,
        }
    }
}

/// The tools of one MCP server and their permissions. `configs` holds only what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpToolset {
    /// The server.
    pub mcp_server_name: String,
    /// What holds for tools without an entry of their own: enabled, and `always_ask`, unless said
    /// otherwise.
    pub default_config: DefaultConfig,
    /// The entries that were sent, each with its values made explicit.
    pub configs: Vec<McpToolConfig>,
}

/// One MCP tool's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpToolConfig {
    /// The server's own name of the tool.
    pub name: String,
    /// Whether the model may call it.
    pub enabled: bool,
    /// Whether a call waits for the user.
    pub permission_policy: Policy,
}

impl McpToolset {
    /// The policy of a tool, or `None` when the model may not call it.
    #[must_use]
    pub fn permission(&self, tool: &str) -> Option<Policy> {
        let (enabled, policy) = match self.configs.iter().find(|config| config.name == tool) {
            Some(config) => (config.enabled, config.permission_policy),
            None => (self.default_config.enabled, self.default_config.permission_policy),
        };
        enabled.then_some(policy)
    }
}
