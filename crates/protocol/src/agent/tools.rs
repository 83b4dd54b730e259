//! An agent's tools: what was sent, resolved, and the rules that hold between them.
//!
//! Which of them a server can run, and what an MCP server has, is known elsewhere. Nothing here runs
//! a tool.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    custom::{self, CustomTool},
    model::ModelRules,
    policy::Policy,
    servers::{self, McpToolset},
    toolset::{self, ToolName, ToolOptions, Toolset},
    web,
};
use crate::{
    ApiError, Fields, Given,
    fields::wrong,
    schema::{Field, tools as schema},
};

/// One entry of `tools`, in the form in which responses show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Tool {
    /// The built-in tools.
    #[serde(rename = "agent_toolset_20260401")]
    Toolset(Toolset),
    /// The tools of an MCP server.
    #[serde(rename = "mcp_toolset")]
    Mcp(McpToolset),
    /// A tool that the client runs.
    #[serde(rename = "custom")]
    Custom(CustomTool),
}

/// Questions about a list of tools.
pub trait Tools {
    /// The policy of a built-in tool; `None` when the model may not call it, or when there is
    /// no such tool.
    fn permission(&self, tool_name: &str) -> Option<Policy>;

    /// The built-in tools that the model may call, in a fixed order: those of the sandbox, then those
    /// of the web. A server without a search back end has no `web_search` to offer, whatever stands
    /// here.
    fn built_in(&self) -> Vec<(ToolName, Policy)>;

    /// The toolsets of MCP servers, in the order in which they were sent.
    fn mcp(&self) -> impl Iterator<Item = &McpToolset>;

    /// The tools that the client runs, in the order in which they were sent.
    fn custom(&self) -> impl Iterator<Item = &CustomTool>;
}

impl Tools for [Tool] {
    fn permission(&self, tool_name: &str) -> Option<Policy> {
        let tool = ToolName::parse(tool_name)?;
        toolset(self)?.permission(tool)
    }

    fn built_in(&self) -> Vec<(ToolName, Policy)> {
        let Some(toolset) = toolset(self) else { return Vec::new() };
        ToolName::SANDBOX
            .into_iter()
            .chain(ToolName::WEB)
            .filter_map(|tool| Some((tool, toolset.permission(tool)?)))
            .collect()
    }

    fn mcp(&self) -> impl Iterator<Item = &McpToolset> {
        self.iter().filter_map(|tool| match tool {
            Tool::Mcp(toolset) => Some(toolset),
            Tool::Toolset(_) | Tool::Custom(_) => None,
        })
    }

    fn custom(&self) -> impl Iterator<Item = &CustomTool> {
        self.iter().filter_map(|tool| match tool {
            Tool::Custom(custom) => Some(custom),
            Tool::Toolset(_) | Tool::Mcp(_) => None,
        })
    }
}

fn toolset(tools: &[Tool]) -> Option<&Toolset> {
    tools.iter().find_map(|tool| match tool {
        Tool::Toolset(toolset) => Some(toolset),
        Tool::Custom(_) | Tool::Mcp(_) => None,
    })
}

/// Takes `tools`: `Absent` keeps, null and `[]` mean none. What holds between tools and MCP servers
/// is [`servers::check`]'s to say.
pub(super) fn take(
    fields: &mut Fields,
    field: &Field,
    rules: &dyn ModelRules,
) -> Result<Given<Vec<Tool>>, ApiError> {
    let path = fields.path_of(field);
    let sent = match fields.list(field)? {
        Given::Absent => return Ok(Given::Absent),
        Given::Null => return Ok(Given::Null),
        Given::Value(sent) => sent,
    };
    // What can't be read at all is told before what breaks a rule.
    let mut tools = Vec::with_capacity(sent.len());
    for (index, tool) in sent.into_iter().enumerate() {
        tools.push(read(Fields::open(tool, format!("{path}[{index}]"))?)?);
    }
    check(&tools, &path, rules)?;
    Ok(Given::Value(tools))
}

fn read(mut fields: Fields) -> Result<Tool, ApiError> {
    Ok(match fields.tag(&schema::TOOL)? {
        "custom" => Tool::Custom(custom::read(fields)?),
        "mcp_toolset" => Tool::Mcp(servers::read_toolset(fields)?),
        _ => Tool::Toolset(toolset::read(fields)?),
    })
}

/// The rules that hold between entries, and those that are told after all that can't be read.
fn check(tools: &[Tool], path: &str, rules: &dyn ModelRules) -> Result<(), ApiError> {
    let mut sets = 0;
    let mut names = HashSet::new();
    let mut servers = HashSet::new();
    let mut entries = 0;
    for (index, tool) in tools.iter().enumerate() {
        match tool {
            Tool::Toolset(toolset) => {
                let place = format!("{path}.{index}.agent_toolset_20260401");
                check_toolset(toolset, tools, &place, rules)?;
                sets += 1;
                if sets > 1 {
                    return Err(ApiError::invalid(format!(
                        "{place}: duplicate entry; at most one agent_toolset_20260401 is allowed"
                    )));
                }
                entries += toolset.configs.len();
            }
            Tool::Mcp(toolset) => {
                let place = format!("{path}.{index}.mcp_toolset");
                servers::check_toolset(toolset, &place)?;
                if !servers.insert(toolset.mcp_server_name.as_str()) {
                    return Err(ApiError::invalid(format!(
                        "{place}: duplicate entry for server {:?}; each MCP server may have at most \
                         one mcp_toolset",
                        toolset.mcp_server_name
                    )));
                }
                entries += toolset.configs.len();
            }
            Tool::Custom(custom) => {
                if !names.insert(custom.name.as_str()) {
                    return Err(wrong(
                        &format!("{path}.{index}.custom.name"),
                        &format!("{:?} is taken by another tool", custom.name),
                        "give each tool a name of its own",
                    ));
                }
            }
        }
    }
    if entries > schema::TOOLS {
        let what = format!("has {entries} configs in all its toolsets together");
        return Err(wrong(path, &what, &format!("send at most {}", schema::TOOLS)));
    }
    Ok(())
}

fn check_toolset(
    toolset: &Toolset,
    tools: &[Tool],
    place: &str,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    for (position, config) in toolset.configs.iter().enumerate() {
        let place = format!("{place}.configs.{position}");
        let before = &toolset.configs[..position];
        if before.iter().any(|other| other.name == config.name) {
            let name = config.name.as_str().to_ascii_uppercase();
            return Err(ApiError::invalid(format!(
                "{place}: duplicate entry for tool \"AGENT_TOOL_NAME_{name}\""
            )));
        }
        match &config.options {
            ToolOptions::None => {}
            ToolOptions::Fetch(options) => web::check_fetch(options, tools, &place, rules)?,
            ToolOptions::Search(options) => web::check_search(options, &place, rules)?,
        }
        if config.name == ToolName::WebSearch && config.enabled && !rules.has_search() {
            return Err(wrong(
                &place,
                "web_search needs a search back end, and this server has none",
                "configure web.search.backend (docs/CONFIGURATION.md), or send \
                 \"enabled\": false",
            ));
        }
    }
    Ok(())
}
