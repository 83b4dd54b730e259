//! Options of the tools of the web: how they are read, and the rules that they keep.
//!
//! Nothing here resolves a name or opens a page.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    domain::{self, Paths},
    model::ModelRules,
    tools::{Tool, Tools as _},
};
use crate::{
    ApiError, Fields, Given,
    fields::{choose, text, wrong},
    schema::{Field, Kind, Shape, Union, web as schema},
};

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlSources {
    /// What users say: all or none.
    pub user_input: UrlSource,
    /// Results of custom tools.
    pub client_tool_results: UrlSource,
    /// Results of `web_search` and `web_fetch`.
    pub server_tool_results: UrlSource,
}

/// Which of a kind are sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Said>", into = "Option<Said>")]
pub enum UrlSource {
    /// All, because nothing was said; null on the wire.
    #[default]
    Unset,
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

/// A source as the wire has it, where something was said.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    All,
    None,
    Only { tools: Vec<ToolReference> },
    Except { tools: Vec<ToolReference> },
}

impl From<Option<Said>> for UrlSource {
    fn from(said: Option<Said>) -> Self {
        match said {
            None => Self::Unset,
            Some(Said::All) => Self::All,
            Some(Said::None) => Self::None,
            Some(Said::Only { tools }) => Self::Only { tools },
            Some(Said::Except { tools }) => Self::Except { tools },
        }
    }
}

impl From<UrlSource> for Option<Said> {
    fn from(source: UrlSource) -> Self {
        Some(match source {
            UrlSource::Unset => return None,
            UrlSource::All => Said::All,
            UrlSource::None => Said::None,
            UrlSource::Only { tools } => Said::Only { tools },
            UrlSource::Except { tools } => Said::Except { tools },
        })
    }
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
        let listed = self.tools().iter().any(|tool| tool.name == name);
        match self {
            Self::Unset | Self::All => true,
            Self::None => false,
            Self::Only { .. } => listed,
            Self::Except { .. } => !listed,
        }
    }

    /// The tools that are named.
    fn tools(&self) -> &[ToolReference] {
        match self {
            Self::Unset | Self::All | Self::None => &[],
            Self::Only { tools } | Self::Except { tools } => tools,
        }
    }
}

/// Takes the options of `web_fetch`.
pub(super) fn take_fetch(fields: &mut Fields) -> Result<FetchOptions, ApiError> {
    Ok(FetchOptions {
        allowed_domains: take_domains(fields, &schema::FETCH_ALLOWED)?,
        blocked_domains: take_domains(fields, &schema::FETCH_BLOCKED)?,
        max_content_tokens: fields
            .integer(&schema::MAX_CONTENT_TOKENS)?
            .value()
            .map(i64::unsigned_abs),
        url_sources: fields.object(&schema::URL_SOURCES)?.try_map(read_sources)?.value(),
    })
}

/// Takes the options of `web_search`.
pub(super) fn take_search(fields: &mut Fields) -> Result<SearchOptions, ApiError> {
    Ok(SearchOptions {
        allowed_domains: take_domains(fields, &schema::SEARCH_ALLOWED)?,
        blocked_domains: take_domains(fields, &schema::SEARCH_BLOCKED)?,
        user_location: fields.object(&schema::USER_LOCATION)?.try_map(read_location)?.value(),
    })
}

fn take_domains(fields: &mut Fields, field: &Field) -> Result<Option<Vec<String>>, ApiError> {
    let path = fields.path_of(field);
    if fields.is_empty_list(field) {
        return Err(ApiError::invalid(format!(
            "{path}: Empty list of domains is ambiguous. Provide at least one domain or null."
        )));
    }
    let Given::Value(sent) = fields.list(field)? else { return Ok(None) };
    let entry = match field.kind {
        Kind::List { of, .. } => Field::new(field.name, *of, ""),
        _ => *field,
    };
    let read = |(index, one)| text(one, &format!("{path}[{index}]"), &entry);
    sent.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
}

fn read_sources(mut fields: Fields) -> Result<UrlSources, ApiError> {
    let user_input = take_source(&mut fields, &schema::USER_INPUT, &schema::USER_SOURCE)?;
    let client_tool_results =
        take_source(&mut fields, &schema::CLIENT_RESULTS, &schema::CLIENT_SOURCE)?;
    let server_tool_results =
        take_source(&mut fields, &schema::SERVER_RESULTS, &schema::SERVER_SOURCE)?;
    fields.finish(&schema::SOURCES)?;
    Ok(UrlSources { user_input, client_tool_results, server_tool_results })
}

/// Takes one kind of source, which is a short word or a member of `union`.
fn take_source(fields: &mut Fields, field: &Field, union: &Union) -> Result<UrlSource, ApiError> {
    let path = fields.path_of(field);
    let mut filter = match fields.any(field)? {
        Given::Absent | Given::Null => return Ok(UrlSource::Unset),
        Given::Value(filter @ Value::Object(_)) => Fields::open(filter, path)?,
        Given::Value(word) => {
            return Ok(match choose(&word, &path, schema::SHORTHAND)? {
                "none" => UrlSource::None,
                _ => UrlSource::All,
            });
        }
    };
    let tag = filter.tag(union)?;
    let source = match tag {
        "only" => UrlSource::Only { tools: take_references(&mut filter, union)? },
        "except" => UrlSource::Except { tools: take_references(&mut filter, union)? },
        "none" => UrlSource::None,
        _ => UrlSource::All,
    };
    if let Some(Shape::Taken(table)) = union.member(tag).map(|member| &member.shape) {
        filter.finish(table)?;
    }
    Ok(source)
}

/// Takes the tools that are named: custom tools, or those of the web.
fn take_references(filter: &mut Fields, union: &Union) -> Result<Vec<ToolReference>, ApiError> {
    let custom = union.name == schema::CLIENT_SOURCE.name;
    let field = if custom { &schema::CLIENT_TOOLS } else { &schema::SERVER_TOOLS };
    let path = filter.path_of(field);
    let Given::Value(sent) = filter.list(field)? else { return Ok(Vec::new()) };
    let mut tools = Vec::with_capacity(sent.len());
    for (index, reference) in sent.into_iter().enumerate() {
        let mut fields = Fields::open(reference, format!("{path}[{index}]"))?;
        fields.required_choice(&schema::REFERENCE_TYPE)?;
        let name = match custom {
            true => fields.required_text(&schema::CLIENT_NAME)?,
            false => fields.required_choice(&schema::SERVER_NAME)?.to_owned(),
        };
        fields.finish(if custom {
            &schema::CLIENT_REFERENCE
        } else {
            &schema::SERVER_REFERENCE
        })?;
        tools.push(ToolReference { name });
    }
    Ok(tools)
}

fn read_location(mut fields: Fields) -> Result<UserLocation, ApiError> {
    fields.required_choice(&schema::LOCATION_TYPE)?;
    let city = fields.text(&schema::CITY)?.value();
    let region = fields.text(&schema::REGION)?.value();
    let country = fields.text(&schema::COUNTRY)?.value();
    if let Some(code) = &country
        && !code.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        return Err(fields.wrong(
            &schema::COUNTRY,
            &format!("{code:?} is no country's code"),
            "send the two capital letters of ISO 3166-1, such as DE",
        ));
    }
    let timezone = fields.text(&schema::TIMEZONE)?.value();
    fields.finish(&schema::LOCATION)?;
    Ok(UserLocation { city, region, country, timezone })
}

/// The rules that an entry of `web_fetch` keeps, which stands at `place` among `tools`.
pub(super) fn check_fetch(
    options: &FetchOptions,
    tools: &[Tool],
    place: &str,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    let lists = [&options.allowed_domains, &options.blocked_domains];
    check_domains(lists, Paths::Refused, place, rules)?;
    let Some(sources) = &options.url_sources else { return Ok(()) };
    let place = format!("{place}.{}", schema::URL_SOURCES.name);
    check_references(&sources.client_tool_results, &place, &schema::CLIENT_RESULTS)?;
    check_references(&sources.server_tool_results, &place, &schema::SERVER_RESULTS)?;
    for (index, tool) in sources.client_tool_results.tools().iter().enumerate() {
        if !tools.custom().any(|custom| custom.name == tool.name) {
            return Err(wrong(
                &format!("{place}.{}.tools.{index}.name", schema::CLIENT_RESULTS.name),
                &format!("{:?} is no custom tool in tools", tool.name),
                "name custom tools of the same agent",
            ));
        }
    }
    let all = [&sources.user_input, &sources.client_tool_results, &sources.server_tool_results];
    if all.into_iter().all(|source| *source == UrlSource::None) {
        return Err(wrong(
            &place,
            "all three sources are none, so that no address could be read",
            "let at least one of them be a source, or disable web_fetch",
        ));
    }
    Ok(())
}

/// The rules that an entry of `web_search` keeps, which stands at `place`.
pub(super) fn check_search(
    options: &SearchOptions,
    place: &str,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    let lists = [&options.allowed_domains, &options.blocked_domains];
    check_domains(lists, Paths::Taken, place, rules)
}

fn check_domains(
    lists: [&Option<Vec<String>>; 2],
    paths: Paths,
    place: &str,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    if lists.iter().all(|list| list.is_some()) {
        return Err(ApiError::invalid(format!(
            "{place}: Only one of allowed_domains or blocked_domains may be set."
        )));
    }
    for (list, field) in lists.into_iter().zip([schema::FETCH_ALLOWED, schema::FETCH_BLOCKED]) {
        for (index, entry) in list.iter().flatten().enumerate() {
            domain::check(entry, paths, &format!("{place}.{}.{index}", field.name), rules)?;
        }
    }
    Ok(())
}

fn check_references(source: &UrlSource, place: &str, field: &Field) -> Result<(), ApiError> {
    let mut names = HashSet::new();
    for (index, tool) in source.tools().iter().enumerate() {
        if !names.insert(tool.name.as_str()) {
            return Err(wrong(
                &format!("{place}.{}.tools.{index}.name", field.name),
                &format!("{:?} is there twice", tool.name),
                "name each tool once",
            ));
        }
    }
    Ok(())
}
