//! The built-in tools of an agent, and what each of them may do.
//!
//! Nothing here runs a tool, and nothing here knows which of them a server can run.

use serde::{Deserialize, Serialize, Serializer};

use super::{
    policy::{self, DefaultConfig, Policy},
    web::{self, FetchOptions, SearchOptions, UrlSources, UserLocation},
};
use crate::{
    ApiError, Fields, Given,
    schema::{Field, Shape, tools as schema},
};

/// The built-in tools and their permissions. `configs` holds only what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolset {
    /// What holds for tools without an entry of their own.
    pub default_config: DefaultConfig,
    /// The entries that were sent, each with its values made explicit.
    pub configs: Vec<ToolConfig>,
}

/// One built-in tool's entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Stored")]
pub struct ToolConfig {
    /// Which tool.
    pub name: ToolName,
    /// Whether the model may call it.
    pub enabled: bool,
    /// Whether a call waits for the user.
    pub permission_policy: Policy,
    /// What it may have besides.
    pub options: ToolOptions,
}

/// Options that single tools have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolOptions {
    /// None: a tool that runs in a sandbox.
    #[default]
    None,
    /// Those of `web_fetch`.
    Fetch(FetchOptions),
    /// Those of `web_search`.
    Search(SearchOptions),
}

/// An entry as it stands in a stored agent. What older versions have left out is unset.
#[derive(Deserialize)]
struct Stored {
    name: ToolName,
    enabled: bool,
    permission_policy: Policy,
    #[serde(default)]
    allowed_domains: Option<Vec<String>>,
    #[serde(default)]
    blocked_domains: Option<Vec<String>>,
    #[serde(default)]
    max_content_tokens: Option<u64>,
    #[serde(default)]
    url_sources: Option<UrlSources>,
    #[serde(default)]
    user_location: Option<UserLocation>,
}

impl From<Stored> for ToolConfig {
    fn from(stored: Stored) -> Self {
        let Stored { name, enabled, permission_policy, allowed_domains, blocked_domains, .. } =
            stored;
        let options = match name {
            ToolName::WebFetch => ToolOptions::Fetch(FetchOptions {
                allowed_domains,
                blocked_domains,
                max_content_tokens: stored.max_content_tokens,
                url_sources: stored.url_sources,
            }),
            ToolName::WebSearch => ToolOptions::Search(SearchOptions {
                allowed_domains,
                blocked_domains,
                user_location: stored.user_location,
            }),
            _ => ToolOptions::None,
        };
        Self { name, enabled, permission_policy, options }
    }
}

impl Serialize for ToolConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            #[serde(rename = "type")]
            kind: ToolName,
            name: ToolName,
            enabled: bool,
            permission_policy: Policy,
            #[serde(flatten)]
            fetch: Option<&'a FetchOptions>,
            #[serde(flatten)]
            search: Option<&'a SearchOptions>,
        }
        let (fetch, search) = match &self.options {
            ToolOptions::None => (None, None),
            ToolOptions::Fetch(options) => (Some(options), None),
            ToolOptions::Search(options) => (None, Some(options)),
        };
        Shown {
            kind: self.name,
            name: self.name,
            enabled: self.enabled,
            permission_policy: self.permission_policy,
            fetch,
            search,
        }
        .serialize(serializer)
    }
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

    /// The tools of the web, which models see after those of the sandbox.
    pub const WEB: [Self; 2] = [Self::WebFetch, Self::WebSearch];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        schema::NAMES[self as usize]
    }

    /// The tool of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::SANDBOX.into_iter().chain(Self::WEB).find(|tool| tool.as_str() == name)
    }

    /// Whether it runs in a sandbox.
    #[must_use]
    pub const fn is_sandboxed(self) -> bool {
        !matches!(self, Self::WebFetch | Self::WebSearch)
    }
}

impl Toolset {
    /// The policy of a tool, or `None` when the model may not call it.
    #[must_use]
    pub fn permission(&self, tool: ToolName) -> Option<Policy> {
        let (enabled, policy) = match self.config(tool) {
            Some(config) => (config.enabled, config.permission_policy),
            None => (self.default_config.enabled, self.default_config.permission_policy),
        };
        enabled.then_some(policy)
    }

    /// The entry of a tool, if it has one.
    #[must_use]
    pub fn config(&self, tool: ToolName) -> Option<&ToolConfig> {
        self.configs.iter().find(|config| config.name == tool)
    }
}

/// Reads an entry of `tools`, of which the type is taken.
pub(super) fn read(mut fields: Fields) -> Result<Toolset, ApiError> {
    let default_config = policy::take_default(
        &mut fields,
        &schema::DEFAULT_FIELD,
        &schema::DEFAULT,
        Policy::AlwaysAllow,
    )?;
    let path = fields.path_of(&schema::CONFIGS);
    let sent = fields.list(&schema::CONFIGS)?.value().unwrap_or_default();
    let mut configs = Vec::with_capacity(sent.len());
    for (index, config) in sent.into_iter().enumerate() {
        let config = Fields::open(config, format!("{path}[{index}]"))?;
        configs.push(read_config(config, default_config)?);
    }
    fields.finish(&schema::TOOLSET)?;
    Ok(Toolset { default_config, configs })
}

fn read_config(mut fields: Fields, default: DefaultConfig) -> Result<ToolConfig, ApiError> {
    let permission_policy = policy::take(&mut fields)?.unwrap_or(default.permission_policy);
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
    let options = match name {
        ToolName::WebFetch => ToolOptions::Fetch(web::take_fetch(&mut fields)?),
        ToolName::WebSearch => ToolOptions::Search(web::take_search(&mut fields)?),
        _ => ToolOptions::None,
    };
    if let Some(Shape::Taken(table)) = schema::CONFIG.member(text).map(|member| &member.shape) {
        fields.finish(table)?;
    }
    Ok(ToolConfig { name, enabled, permission_policy, options })
}
