//! An agent's tools: what was sent, resolved, and what each tool may do.
//!
//! Only the `agent_toolset_20260401` and custom tools exist in this version; what else the API
//! knows is refused by name. Nothing here runs a tool.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::{
    servers::McpToolset,
    web::{FetchOptions, SearchOptions},
};
use crate::{
    ApiError, Fields, Given,
    fields::{kind_of, wrong},
    schema::{Field, Shape, tools as schema},
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

/// The built-in tools and their permissions. `configs` holds only what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolset {
    /// What holds for tools without an entry of their own.
    pub default_config: DefaultConfig,
    /// The entries that were sent, each with its values made explicit.
    pub configs: Vec<ToolConfig>,
}

/// What holds for the tools of a set that have no entry of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultConfig {
    /// Whether the model may call them.
    pub enabled: bool,
    /// Whether a call waits for the user.
    pub permission_policy: Policy,
}

/// One built-in tool's entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ToolConfig {
    /// Which tool.
    pub name: ToolName,
    /// Whether the model may call it.
    pub enabled: bool,
    /// Whether a call waits for the user.
    pub permission_policy: Policy,
    /// What it may have besides.
    #[serde(skip)]
    pub options: ToolOptions,
}

/// Options that single tools have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolOptions {
    /// None.
    #[default]
    None,
    /// Those of `web_fetch`.
    Fetch(FetchOptions),
    /// Those of `web_search`.
    Search(SearchOptions),
}

impl Serialize for ToolConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.name)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("enabled", &self.enabled)?;
        map.serialize_entry("permission_policy", &self.permission_policy)?;
        for option in self.name.options() {
            map.serialize_entry(option.name, &())?;
        }
        map.end()
    }
}

/// Whether a call waits for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Policy {
    /// It runs at once.
    AlwaysAllow,
    /// It waits for a `user.tool_confirmation`.
    AlwaysAsk,
}

/// The tools of `agent_toolset_20260401`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum ToolName {
    Bash,
    Edit,
    Glob,
    Grep,
    Read,
    WebFetch,
    WebSearch,
    Write,
}

impl ToolName {
    /// The tools that run in a sandbox, in the order in which models see them.
    pub const SANDBOX: [Self; 6] =
        [Self::Bash, Self::Read, Self::Write, Self::Edit, Self::Glob, Self::Grep];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        schema::NAMES[self as usize]
    }

    /// The tool of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bash" => Self::Bash,
            "edit" => Self::Edit,
            "glob" => Self::Glob,
            "grep" => Self::Grep,
            "read" => Self::Read,
            "web_fetch" => Self::WebFetch,
            "web_search" => Self::WebSearch,
            "write" => Self::Write,
            _ => return None,
        })
    }

    /// Options that its entry may hold besides the common ones. None is supported yet, so that
    /// responses show them as null.
    const fn options(self) -> &'static [Field] {
        match self {
            Self::WebFetch => &schema::FETCH_OPTIONS,
            Self::WebSearch => &schema::SEARCH_OPTIONS,
            _ => &[],
        }
    }

    /// Whether it runs in a sandbox.
    #[must_use]
    pub const fn is_sandboxed(self) -> bool {
        !matches!(self, Self::WebFetch | Self::WebSearch)
    }
}

/// A tool that the client runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomTool {
    /// The name that the model calls, unique among the agent's tools.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its input, as sent.
    pub input_schema: Value,
}

impl Toolset {
    /// The policy of a tool, or `None` when the model may not call it.
    #[must_use]
    pub fn permission(&self, tool: ToolName) -> Option<Policy> {
        let (enabled, policy) = match self.configs.iter().find(|config| config.name == tool) {
            Some(config) => (config.enabled, config.permission_policy),
            // Tools of the web are not there unless they are named, and naming is refused.
            None => (
                self.default_config.enabled && tool.is_sandboxed(),
                self.default_config.permission_policy,
            ),
        };
        enabled.then_some(policy)
    }
}

/// Questions about a list of tools.
pub trait Tools {
    /// The policy of a built-in tool; `None` when the model may not call it, or when there is
    /// no such tool.
    fn permission(&self, tool_name: &str) -> Option<Policy>;

    /// The built-in tools that the model may call, in a fixed order.
    fn built_in(&self) -> Vec<(ToolName, Policy)>;

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
            .filter_map(|tool| Some((tool, toolset.permission(tool)?)))
            .collect()
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

/// Takes `tools`: `Absent` keeps, null and `[]` mean none.
pub(super) fn take(fields: &mut Fields, field: &Field) -> Result<Given<Vec<Tool>>, ApiError> {
    let path = fields.path_of(field);
    let sent = match fields.list(field)? {
        Given::Absent => return Ok(Given::Absent),
        Given::Null => return Ok(Given::Null),
        Given::Value(sent) => sent,
    };
    // What can't be read at all is told before what breaks a rule.
    let mut tools = Vec::with_capacity(sent.len());
    for (index, tool) in sent.into_iter().enumerate() {
        tools.push(read_tool(Fields::open(tool, format!("{path}[{index}]"))?)?);
    }
    check(&tools, &path)?;
    Ok(Given::Value(tools))
}

fn read_tool(mut fields: Fields) -> Result<Tool, ApiError> {
    if fields.tag(&schema::TOOL)? == "custom" {
        let tool = read_custom(&mut fields)?;
        fields.finish(&schema::CUSTOM)?;
        return Ok(Tool::Custom(tool));
    }
    let toolset = read_toolset(&mut fields)?;
    fields.finish(&schema::TOOLSET)?;
    Ok(Tool::Toolset(toolset))
}

fn read_toolset(fields: &mut Fields) -> Result<Toolset, ApiError> {
    let mut default_config =
        DefaultConfig { enabled: true, permission_policy: Policy::AlwaysAllow };
    if let Given::Value(mut given) = fields.object(&schema::DEFAULT_FIELD)? {
        if let Some(policy) = take_policy(&mut given)? {
            default_config.permission_policy = policy;
        }
        default_config.enabled = given.flag(&schema::ENABLED)?.value().unwrap_or(true);
        given.finish(&schema::DEFAULT)?;
    }
    let path = fields.path_of(&schema::CONFIGS);
    let sent = fields.list(&schema::CONFIGS)?.value().unwrap_or_default();
    let mut configs = Vec::with_capacity(sent.len());
    for (index, config) in sent.into_iter().enumerate() {
        let config = Fields::open(config, format!("{path}[{index}]"))?;
        configs.push(read_config(config, default_config)?);
    }
    Ok(Toolset { default_config, configs })
}

fn read_config(mut fields: Fields, default: DefaultConfig) -> Result<ToolConfig, ApiError> {
    let permission_policy = take_policy(&mut fields)?.unwrap_or(default.permission_policy);
    let text = fields.tag(&schema::CONFIG)?;
    let name_field = Field::text(schema::CONFIG.tag, 0, 0, "");
    let Some(name) = ToolName::parse(text) else {
        return Err(fields.wrong(&name_field, "is unknown", "name a tool"));
    };
    if let Given::Value(kind) = fields.choice(&schema::CONFIG_TYPE)?
        && kind != text
    {
        let right = format!("send {text}");
        return Err(fields.wrong(&schema::CONFIG_TYPE, &format!("is {kind}"), &right));
    }
    let enabled = fields.flag(&schema::ENABLED)?.value().unwrap_or(default.enabled);
    for option in name.options() {
        fields.later(option)?;
    }
    if enabled && !name.is_sandboxed() {
        return Err(fields.wrong(
            &name_field,
            &format!("{text} is not supported by this version"),
            "leave this entry out or send \"enabled\": false",
        ));
    }
    if let Some(Shape::Taken(table)) = schema::CONFIG.member(text).map(|member| &member.shape) {
        fields.finish(table)?;
    }
    Ok(ToolConfig { name, enabled, permission_policy, options: ToolOptions::None })
}

fn take_policy(fields: &mut Fields) -> Result<Option<Policy>, ApiError> {
    let Given::Value(mut policy) = fields.object(&schema::POLICY_FIELD)? else { return Ok(None) };
    let field = &schema::POLICY_TYPE;
    let path = policy.path_of(field);
    let value = policy.required(field)?;
    let (taken, later) = field.choices();
    // The hosted service does not name the choices here.
    let chosen = match value.as_str() {
        Some(name) if taken.contains(&name) => match name {
            "always_ask" => Policy::AlwaysAsk,
            _ => Policy::AlwaysAllow,
        },
        Some(name) if later.contains(&name) => {
            let what = format!("{name} is not supported by this version");
            return Err(wrong(&path, &what, &field.what_is_right()));
        }
        _ => {
            return Err(ApiError::invalid(format!(
                "Failed to parse request: {path}: {value} is not a valid value"
            )));
        }
    };
    policy.finish(&schema::POLICY)?;
    Ok(Some(chosen))
}

fn read_custom(fields: &mut Fields) -> Result<CustomTool, ApiError> {
    let field = &schema::CUSTOM_NAME;
    let name = fields.required_text(field)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(fields.wrong(
            field,
            &format!("{name:?} has other characters"),
            "send letters, digits, underscores and hyphens",
        ));
    }
    if ToolName::parse(&name).is_some() {
        let what = format!("{name:?} is the name of a built-in tool");
        return Err(fields.wrong(field, &what, "choose another name"));
    }
    for prefix in ["mcp__", "ant__"] {
        if name.starts_with(prefix) {
            let what = format!("begins with {prefix:?}, which is reserved");
            return Err(fields.wrong(field, &what, "choose another name"));
        }
    }
    let description = fields.required_text(&schema::CUSTOM_DESCRIPTION)?;
    let input_schema = fields.required(&schema::INPUT_SCHEMA)?;
    check_schema(&input_schema, &fields.path_of(&schema::INPUT_SCHEMA))?;
    Ok(CustomTool { name, description, input_schema })
}

fn check_schema(schema: &Value, path: &str) -> Result<(), ApiError> {
    let right = "send a JSON Schema with \"type\": \"object\"";
    let Some(fields) = schema.as_object() else {
        return Err(wrong(path, &format!("is {}", kind_of(schema)), right));
    };
    match fields.get("type") {
        Some(kind) if kind == "object" => {}
        Some(kind) => return Err(wrong(&format!("{path}.type"), &format!("is {kind}"), right)),
        None => return Err(wrong(&format!("{path}.type"), "is missing", right)),
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        if fields.contains_key(name) {
            let what = format!("has {name} at its top");
            return Err(wrong(path, &what, "describe the input as one object"));
        }
    }
    match fields.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(properties)) => {
            if let Some(name) = properties.keys().find(|name| name.chars().count() > 64) {
                let what = format!("has a name of {} characters", name.chars().count());
                return Err(wrong(&format!("{path}.properties"), &what, "send at most 64"));
            }
        }
        Some(other) => {
            let what = format!("is {}", kind_of(other));
            return Err(wrong(&format!("{path}.properties"), &what, "send an object"));
        }
    }
    match fields.get("required") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(_) => {
            let place = format!("{path}.required");
            return Err(wrong(&place, "is no list of texts", "send the names of properties"));
        }
    }
    if has_reference(schema) {
        return Err(wrong(path, "has a $ref", "write the schema out in place"));
    }
    Ok(())
}

/// Whether a `$ref` stands anywhere in a schema; the same letters inside an example or a
/// constant are data.
fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| match name.as_str() {
            "$ref" => value.is_string(),
            "const" | "default" | "enum" | "examples" => false,
            _ => has_reference(value),
        }),
        Value::Array(entries) => entries.iter().any(has_reference),
        _ => false,
    }
}

/// The rules that hold between entries.
fn check(tools: &[Tool], path: &str) -> Result<(), ApiError> {
    let mut sets = 0;
    let mut names = std::collections::HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        match tool {
            Tool::Toolset(toolset) => {
                let place = format!("{path}.{index}.agent_toolset_20260401");
                for (position, config) in toolset.configs.iter().enumerate() {
                    let before = &toolset.configs[..position];
                    if before.iter().any(|other| other.name == config.name) {
                        let name = config.name.as_str().to_ascii_uppercase();
                        return Err(ApiError::invalid(format!(
                            "{place}.configs.{position}: duplicate entry for tool \
                             \"AGENT_TOOL_NAME_{name}\""
                        )));
                    }
                }
                sets += 1;
                if sets > 1 {
                    return Err(ApiError::invalid(format!(
                        "{place}: duplicate entry; at most one agent_toolset_20260401 is allowed"
                    )));
                }
            }
            Tool::Mcp(_) => {}
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
    Ok(())
}
