//! The MCP servers of an agent, and the toolset that stands for each.
//!
//! Nothing here connects to one, and nothing here knows which tools it has.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    policy::{self, DefaultConfig, Policy},
    tools::{Tool, Tools as _},
};
use crate::{
    ApiError, Fields, Given,
    credential::address::Address,
    fields::{kind_of, text, wrong},
    schema::{Field, servers as schema, tools::INHERITED},
};

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
        env: BTreeMap<String, String>,
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

/// Takes `mcp_servers`: `Absent` keeps, null and `[]` mean none.
pub(super) fn take(fields: &mut Fields, field: &Field) -> Result<Given<Vec<McpServer>>, ApiError> {
    let path = fields.path_of(field);
    fields.list(field)?.try_map(|sent| {
        let mut servers = Vec::with_capacity(sent.len());
        for (index, server) in sent.into_iter().enumerate() {
            servers.push(read(Fields::open(server, format!("{path}[{index}]"))?)?);
        }
        let mut names = HashSet::new();
        for (index, server) in servers.iter().enumerate() {
            if !names.insert(server.name()) {
                return Err(wrong(
                    &format!("{path}[{index}].name"),
                    &format!("{:?} is taken by another server", server.name()),
                    "give each server a name of its own",
                ));
            }
        }
        Ok(servers)
    })
}

fn read(mut fields: Fields) -> Result<McpServer, ApiError> {
    let kind = fields.tag(&schema::SERVER)?;
    let name = fields.required_text(&schema::NAME)?;
    if kind == "url" {
        let url = fields.required_text(&schema::URL)?;
        if let Err(what) = Address::parse(&url) {
            return Err(fields.wrong(
                &schema::URL,
                what,
                "send an address like https://mcp.example.com/mcp",
            ));
        }
        fields.finish(&schema::URL_SERVER)?;
        return Ok(McpServer::Url { name, url });
    }
    let command = fields.required_text(&schema::COMMAND)?;
    refuse_nul(&command, &fields.path_of(&schema::COMMAND))?;
    let path = fields.path_of(&schema::ARGS);
    let longest = Field::text(schema::ARGS.name, 0, schema::LONGEST, "");
    let mut args = Vec::new();
    for (index, argument) in
        fields.list(&schema::ARGS)?.value().unwrap_or_default().into_iter().enumerate()
    {
        let path = format!("{path}[{index}]");
        let argument = text(argument, &path, &longest)?;
        refuse_nul(&argument, &path)?;
        args.push(argument);
    }
    let env = take_env(&mut fields)?;
    fields.finish(&schema::STDIO_SERVER)?;
    Ok(McpServer::Stdio { name, command, args, env })
}

fn take_env(fields: &mut Fields) -> Result<BTreeMap<String, String>, ApiError> {
    let path = fields.path_of(&schema::ENV);
    let sent = match fields.any(&schema::ENV)? {
        Given::Absent | Given::Null => return Ok(BTreeMap::new()),
        Given::Value(serde_json::Value::Object(sent)) => sent,
        Given::Value(other) => {
            let what = format!("is {}", kind_of(&other));
            return Err(wrong(&path, &what, &schema::ENV.what_is_right()));
        }
    };
    if sent.len() > schema::VARIABLES {
        let right = format!("send at most {}", schema::VARIABLES);
        return Err(wrong(&path, &format!("has {} variables", sent.len()), &right));
    }
    let longest = Field::text(schema::ENV.name, 0, schema::LONGEST, "");
    let mut env = BTreeMap::new();
    for (name, value) in sent {
        if !is_variable(&name) {
            let right = format!(
                "send names of 1 to {} letters, digits and underscores that begin with no digit",
                schema::LONGEST_NAME
            );
            return Err(wrong(&path, "has a name that no variable can have", &right));
        }
        let path = format!("{path}.{name}");
        let value = text(value, &path, &longest)?;
        refuse_nul(&value, &path)?;
        env.insert(name, value);
    }
    Ok(env)
}

fn is_variable(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = name.bytes().next().is_some_and(|byte| inside(byte) && !byte.is_ascii_digit());
    begins && name.len() <= schema::LONGEST_NAME && name.bytes().all(inside)
}

/// What a program is started with ends at a NUL.
fn refuse_nul(text: &str, path: &str) -> Result<(), ApiError> {
    match text.contains('\0') {
        false => Ok(()),
        true => Err(wrong(path, "has a NUL", "leave it out")),
    }
}

/// Reads an entry of `tools`, of which the type is taken.
pub(super) fn read_toolset(mut fields: Fields) -> Result<McpToolset, ApiError> {
    let default_config = policy::take_default(
        &mut fields,
        &schema::DEFAULT_FIELD,
        &schema::DEFAULT,
        Policy::AlwaysAsk,
    )?;
    let path = fields.path_of(&schema::CONFIGS);
    let sent = fields.list(&schema::CONFIGS)?.value().unwrap_or_default();
    let mut configs = Vec::with_capacity(sent.len());
    for (index, config) in sent.into_iter().enumerate() {
        let config = Fields::open(config, format!("{path}[{index}]"))?;
        configs.push(read_config(config, default_config)?);
    }
    let mcp_server_name = fields.required_text(&schema::SERVER_NAME)?;
    fields.finish(&schema::MCP_TOOLSET)?;
    Ok(McpToolset { mcp_server_name, default_config, configs })
}

fn read_config(mut fields: Fields, default: DefaultConfig) -> Result<McpToolConfig, ApiError> {
    let permission_policy = policy::take(&mut fields)?.unwrap_or(default.permission_policy);
    let name = fields.required_text(&schema::TOOL_NAME)?;
    let enabled = fields.flag(&INHERITED)?.value().unwrap_or(default.enabled);
    fields.finish(&schema::CONFIG)?;
    Ok(McpToolConfig { name, enabled, permission_policy })
}

/// The rules that hold between the entries of a toolset, which stands at `place`.
pub(super) fn check_toolset(toolset: &McpToolset, place: &str) -> Result<(), ApiError> {
    let mut names = HashSet::new();
    for (position, config) in toolset.configs.iter().enumerate() {
        if !names.insert(config.name.as_str()) {
            let name = &config.name;
            return Err(ApiError::invalid(format!(
                "{place}.configs.{position}: duplicate entry for tool {name:?}"
            )));
        }
    }
    Ok(())
}

/// Holds an agent's tools against its MCP servers: each server has a toolset, and each toolset a
/// server. `within` is what stands in front of both in a path.
pub(super) fn check(tools: &[Tool], servers: &[McpServer], within: &str) -> Result<(), ApiError> {
    for (index, tool) in tools.iter().enumerate() {
        let Tool::Mcp(McpToolset { mcp_server_name: name, .. }) = tool else { continue };
        if !servers.iter().any(|server| server.name() == name) {
            return Err(ApiError::invalid(format!(
                "{within}tools.{index}.mcp_toolset: references server {name:?} which is not defined \
                 in mcp_servers"
            )));
        }
    }
    let is_orphan =
        |server: &&McpServer| !tools.mcp().any(|toolset| toolset.mcp_server_name == server.name());
    let orphans: Vec<_> = servers.iter().filter(is_orphan).map(McpServer::name).collect();
    if orphans.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "{within}mcp_servers [{}] declared but no mcp_toolset in tools references them",
        orphans.join(", ")
    )))
}
