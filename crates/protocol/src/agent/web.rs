//! Options of the tools of the web.

use serde::{Deserialize, Serialize};

/// Options of `web_fetch`. None is unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOptions {
    /// Hosts that may be read, with all below them.
    pub allowed_domains: Option<Vec<String>>,
    /// Hosts that may not be read.
    pub blocked_domains: Option<Vec<String>>,
    /// How many tokens of a text the model sees at most.
    pub max_content_tokens: Option<u64>,
    /// Where addresses may come from; from everywhere when unset.
    pub url_sources: Option<UrlSources>,
}

/// Options of `web_search`. None is unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchOptions {
    /// Hosts that may be found, with all below them, and paths.
    pub allowed_domains: Option<Vec<String>>,
    /// Hosts that may not be found.
    pub blocked_domains: Option<Vec<String>>,
    /// About where the user is.
    pub user_location: Option<UserLocation>,
}

/// About where the user is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "approximate")]
pub struct UserLocation {
    /// A city.
    pub city: Option<String>,
    /// A region.
    pub region: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
    /// An IANA time zone.
    pub timezone: Option<String>,
}

/// Where the addresses that `web_fetch` takes may come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlSources {
    /// What users say: all or none.
    pub user_input: UrlSource,
    /// Results of custom tools.
    pub client_tool_results: UrlSource,
    /// Results of `web_search` and `web_fetch`.
    pub server_tool_results: UrlSource,
}

/// Which of a kind are sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UrlSource {
    /// All.
    All,
    /// None.
    None,
    /// These alone.
    Only {
        /// The tools.
        tools: Vec<ToolReference>,
    },
    /// All but these.
    Except {
        /// The tools.
        tools: Vec<ToolReference>,
    },
}

/// A tool by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "tool_reference")]
pub struct ToolReference {
    /// Its name.
    pub name: String,
}

impl UrlSource {
    /// Whether a tool of that name is a source.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        let names = |tools: &[ToolReference]| tools.iter().any(|tool| tool.name == name);
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only { tools } => names(tools),
            Self::Except { tools } => !names(tools),
        }
    }
}
