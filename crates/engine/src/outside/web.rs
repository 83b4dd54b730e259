//! The tools of the web, as sessions call them: what a call may ask for, and what its result looks like.
//!
//! Which address a call may read was decided before, from the conversation. How a page is read and who
//! searches is known elsewhere.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use posthouse_protocol::{
    agent::{FetchOptions, SearchOptions, SessionAgent, Tool, ToolName, ToolOptions},
    environment::Networking,
};
use posthouse_web::{
    Domains,
    fetch::{Body, FetchError, Page, Reader, Wanted},
    search::{Hit, Location, Query, Search},
};
use serde_json::{Value, json, value::RawValue};
use url::Url;

use crate::tools::{Shown, Standpoint, ToolCall, ToolOutcome};

/// The longest title that a block may have, in characters.
const TITLE: usize = 500;

/// Reads pages and searches.
pub(super) struct Web {
    /// Reads pages.
    pub(super) reader: Reader,
    /// Searches, where a back end is configured.
    pub(super) search: Option<Search>,
}

impl Web {
    /// Reads the page at an address that the conversation has shown.
    pub(super) async fn fetch(
        &self,
        from: &Standpoint,
        _call: &ToolCall,
        shown: &Shown,
    ) -> ToolOutcome {
        let options = match options(&from.agent, ToolName::WebFetch) {
            ToolOptions::Fetch(options) => options,
            _ => FetchOptions::default(),
        };
        let Ok(url) = Url::parse(&shown.url) else {
            return failed("fetch", &invalid("the URL is malformed; send it as it was shown."));
        };
        let wanted = Wanted {
            url,
            domains: domains(options.allowed_domains, options.blocked_domains, &from.networking),
            max_content_tokens: options.max_content_tokens,
        };
        match self.reader.fetch(&wanted).await {
            Ok(page) => read(page, shown.note.as_deref()),
            Err(error) => failed("fetch", &error),
        }
    }

    /// Searches for what the model has asked for.
    pub(super) async fn search(&self, from: &Standpoint, call: &ToolCall) -> ToolOutcome {
        let Some(search) = &self.search else { return failed("search", &no_back_end()) };
        let query = match query(&call.input) {
            Ok(query) => query,
            Err(error) => return failed("search", &error),
        };
        let options = match options(&from.agent, ToolName::WebSearch) {
            ToolOptions::Search(options) => options,
            _ => SearchOptions::default(),
        };
        let location = options.user_location.map(|place| Location {
            city: place.city,
            region: place.region,
            country: place.country,
            timezone: place.timezone,
        });
        let domains = domains(options.allowed_domains, options.blocked_domains, &from.networking);
        match search.search(&Query { query, domains, location }).await {
            Ok(hits) => found(&hits),
            Err(error) => failed("search", &error),
        }
    }
}

/// What the agent has set for a tool.
fn options(agent: &SessionAgent, name: ToolName) -> ToolOptions {
    let configs = agent.tools.iter().filter_map(|tool| match tool {
        Tool::Toolset(toolset) => Some(&toolset.configs),
        Tool::Mcp(_) | Tool::Custom(_) => None,
    });
    let config = configs.flatten().find(|config| config.name == name);
    config.map(|config| config.options.clone()).unwrap_or_default()
}

/// The agent's lists, and what the environment allows: its hosts alone, and not what it allows
/// to MCP servers or package managers.
fn domains(
    allowed: Option<Vec<String>>,
    blocked: Option<Vec<String>>,
    networking: &Networking,
) -> Domains {
    let environment = match networking {
        Networking::Unrestricted => None,
        Networking::Limited { allowed_hosts, .. } => Some(allowed_hosts.clone()),
    };
    Domains { allowed, blocked: blocked.unwrap_or_default(), environment }
}

/// The words of a search, as the model has written them.
fn query(input: &RawValue) -> Result<String, FetchError> {
    let input: Value = serde_json::from_str(input.get()).unwrap_or_default();
    match input.get("query") {
        Some(Value::String(query)) => Ok(query.clone()),
        Some(_) => Err(invalid("query is no text; send the words to search for as one text.")),
        None => Err(invalid("query is missing; send the words to search for.")),
    }
}

fn invalid(advice: &str) -> FetchError {
    FetchError { code: "invalid_tool_input", advice: advice.to_owned() }
}

/// The agent was made when there was one.
fn no_back_end() -> FetchError {
    let advice = "this server has no search back end any more. Do not retry; tell the user that \
                  whoever runs this server has to configure one in [web.search].";
    FetchError { code: "unavailable", advice: advice.to_owned() }
}

fn failed(what: &str, error: &FetchError) -> ToolOutcome {
    ToolOutcome::error(format!("Web {what} error: {error}"))
}

/// A page, as a document; one without any text, which would be no document, as a sentence.
fn read(page: Page, note: Option<&str>) -> ToolOutcome {
    let note = note.map(|note| json!({ "type": "text", "text": note }));
    let source = match page.body {
        Body::Text(text) if text.trim().is_empty() => {
            let text = "The page was fetched, and has no text.";
            let empty = json!({ "type": "text", "text": text });
            let content = note.into_iter().chain([empty]).collect();
            return ToolOutcome { content, ..ToolOutcome::default() };
        }
        Body::Text(text) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
        Body::Pdf(bytes) => json!({
            "type": "base64",
            "media_type": "application/pdf",
            "data": BASE64_STANDARD.encode(bytes),
        }),
    };
    let title = page.title.map(|title| title.chars().take(TITLE).collect::<String>());
    let page = json!({ "type": "document", "source": source, "title": title, "context": null });
    ToolOutcome { content: note.into_iter().chain([page]).collect(), ..ToolOutcome::default() }
}

/// What a search has found. It counts, also when that is nothing.
fn found(hits: &[Hit]) -> ToolOutcome {
    if hits.is_empty() {
        let text = "Nothing was found that this tool may show. Search in other words.";
        return ToolOutcome { searches: 1, ..ToolOutcome::text(text) };
    }
    let block = |text: &String| json!({ "type": "text", "text": text });
    let hit = |hit: &Hit| {
        // A result without any text is none.
        let texts =
            if hit.texts.is_empty() { std::slice::from_ref(&hit.title) } else { &hit.texts };
        json!({
            "type": "search_result",
            "source": hit.url,
            "title": hit.title,
            "content": texts.iter().map(block).collect::<Value>(),
            "citations": { "enabled": true },
        })
    };
    ToolOutcome { content: hits.iter().map(hit).collect(), searches: 1, ..ToolOutcome::default() }
}

#[cfg(test)]
mod tests;
