//! Which addresses `web_fetch` may read: those that the conversation has shown, from the sources that
//! the agent allows. What a model has written itself is no source, nor is what its commands, its files
//! or MCP servers have put out: any of them could make an address that carries a secret away.
//!
//! Pure. Long texts are looked through for the host first, and only what names it is read.

use std::iter::successors;

use posthouse_model::{Item, ToolResult};
use posthouse_protocol::agent::{
    SessionAgent, Tool, ToolName, ToolOptions, Tools as _, UrlSource, UrlSources,
};
use posthouse_web::fetch::read_url;
use serde_json::{Value, value::RawValue};
use url::Url;

use crate::{state::Thread, tools::Shown};

/// What a model is told whose call names no address.
const INVALID: &str = "Web fetch error: invalid_tool_input — the input needs a url, which is an absolute \
    http or https address. Correct it and call again.";
/// What a model is told whose address nobody has shown.
const NOT_SHOWN: &str = "Web fetch error: url_not_in_prior_context — this URL was not fetched because \
    it is not among the URLs this conversation has shown you. Only URLs from the user, from \
    web_search results or from pages that were fetched can be fetched, and a page's URL does not \
    cover others of its site. Do not retry with a guessed URL; search for the page or ask the user \
    for its URL.";

/// How many bytes of what may be addresses are looked at, the newest first: more than all that stands
/// in the longest conversation, but not what a stranger's text makes of them that overlap.
const MOST_BYTES: usize = 8 << 20;
/// What looking at a place costs besides its bytes.
const PLACE: usize = 16;
/// How many characters behind an address are taken off one by one.
const MOST_TRAILING: usize = 16;

/// What is in no address.
const ENDS: &[char] = &['"', '<', '>'];
/// What is in few addresses, and behind many of them.
const MAY_END: &[char] = &['`', '{', '}', '|', '\\', '^'];
/// How many ends of an address are tried at one place: a stranger's text may be nothing else.
const MOST_ENDS: usize = 64;
/// What stands behind an address in a sentence more often than at its end.
const TRAILING: &[char] =
    &['.', ',', ';', ':', '!', '?', '\'', '*', '_', '~', ')', ']', '’', '”', '»'];

/// The address that a call of `web_fetch` may read, or what the model is told instead.
///
/// # Errors
/// The text of an error result.
pub fn check(thread: &Thread, agent: &SessionAgent, input: &RawValue) -> Result<Shown, String> {
    let input: Option<Value> = serde_json::from_str(input.get()).ok();
    let given = input.as_ref().and_then(|input| input["url"].as_str()).map(str::trim);
    let given = given.ok_or_else(|| INVALID.to_owned())?;
    let wanted = read_url(given).map_err(|error| format!("Web fetch error: {error}"))?;
    let mut search = Search::new(given, wanted).ok_or_else(|| INVALID.to_owned())?;
    let sources = Sources { agent, rules: rules(agent) };
    let entries = thread.entries.iter().rev();
    let shown = entries.map(|entry| &entry.item).any(|item| sources.look(item, &mut search))
        || search.text(agent.system.as_deref().unwrap_or_default(), true);
    if shown {
        return Ok(Shown { url: search.wanted.into(), note: None });
    }
    let near = search.near.ok_or_else(|| NOT_SHOWN.to_owned())?;
    let note = format!(
        "Note: fetched {near}, not the URL you gave. It is the one that this conversation has shown \
         you, and differs only slightly."
    );
    Ok(Shown { url: near.into(), note: Some(note) })
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// The agent's rules of sources; `None` takes all.
fn rules(agent: &SessionAgent) -> Option<&UrlSources> {
    agent.tools.iter().find_map(|tool| match tool {
        Tool::Toolset(toolset) => toolset.configs.iter().find_map(|config| match &config.options {
            ToolOptions::Fetch(options) => options.url_sources.as_ref(),
            _ => None,
        }),
        Tool::Custom(_) | Tool::Mcp(_) => None,
    })
}

struct Sources<'a> {
    agent: &'a SessionAgent,
    rules: Option<&'a UrlSources>,
}

impl Sources<'_> {
    /// Looks through a step of the conversation. True when the address stands there to the letter.
    fn look(&self, item: &Item, search: &mut Search) -> bool {
        match item {
            Item::User(content) => {
                self.takes(|rules| &rules.user_input, "") && search.blocks(content, true)
            }
            // What the application says counts as its own system prompt does.
            Item::System(text) => search.text(text, true),
            Item::ToolResults(results) => results
                .iter()
                .any(|result| self.takes_result(result) && search.blocks(&result.content, false)),
            Item::Assistant { .. } => false,
        }
    }

    fn takes_result(&self, result: &ToolResult) -> bool {
        match ToolName::parse(&result.name) {
            // An error may repeat what the model has asked for.
            Some(tool) if !tool.is_sandboxed() => {
                !result.is_error && self.takes(|rules| &rules.server_tool_results, &result.name)
            }
            Some(_) => false,
            None => {
                self.agent.tools.custom().any(|tool| tool.name == *result.name)
                    && self.takes(|rules| &rules.client_tool_results, &result.name)
            }
        }
    }

    fn takes(&self, of: impl Fn(&UrlSources) -> &UrlSource, tool: &str) -> bool {
        self.rules.is_none_or(|rules| of(rules).takes(tool))
    }
}

/// An address that is looked for.
struct Search {
    wanted: Url,
    /// The wanted address without what a near miss may have another way.
    key: Key,
    /// The host as a text holds it, without `www.`. None when texts may write it another way.
    needle: Option<String>,
    /// The longest text that may stand for it, in bytes.
    longest: usize,
    /// How many bytes may still be looked at.
    left: usize,
    /// The newest address that is close to it.
    near: Option<Url>,
}

/// What two addresses that differ only slightly have in common.
#[derive(PartialEq, Eq)]
struct Key {
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

impl Key {
    /// None for an address with a user in it, which is close to none.
    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_end_matches('.');
        let plain = url.username().is_empty() && url.password().is_none();
        plain.then(|| Self {
            host: host.strip_prefix("www.").unwrap_or(host).to_owned(),
            port: url.port(),
            path: url.path().trim_end_matches('/').to_owned(),
            query: url.query().map(str::to_owned),
        })
    }
}

impl Search {
    fn new(given: &str, wanted: Url) -> Option<Self> {
        let key = Key::of(&wanted)?;
        let is_written_so = given.is_ascii()
            && !key.host.contains("xn--")
            && given.to_ascii_lowercase().contains(&key.host);
        let needle = is_written_so.then(|| key.host.clone());
        // Each byte may be written as three; a scheme and what ends a sentence come on top.
        let longest = 3 * given.len() + 64;
        Some(Self { wanted, key, needle, longest, left: MOST_BYTES, near: None })
    }

    /// Looks through content blocks. `loose` also takes addresses without a scheme.
    fn blocks(&mut self, content: &RawValue, loose: bool) -> bool {
        if !self.may_be_in(content.get()) {
            return false;
        }
        let blocks: Option<Value> = serde_json::from_str(content.get()).ok();
        let blocks = blocks.as_ref().and_then(Value::as_array);
        blocks.into_iter().flatten().any(|block| self.block(block, loose))
    }

    fn block(&mut self, block: &Value, loose: bool) -> bool {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match block["type"].as_str().unwrap_or_default() {
            "text" => self.text(&text(&block["text"]), loose),
            "search_result" => {
                let inner = block["content"].as_array();
                self.text(&text(&block["source"]), loose)
                    || inner.into_iter().flatten().any(|one| self.text(&text(&one["text"]), loose))
            }
            "document" => {
                let source = &block["source"];
                let inner = source["content"].as_array();
                (source["type"] == "text" && self.text(&text(&source["data"]), loose))
                    || self.text(&text(&block["context"]), loose)
                    || inner.into_iter().flatten().any(|one| self.text(&text(&one["text"]), loose))
                    || (source["type"] == "content" && self.text(&text(&source["content"]), loose))
            }
            _ => false,
        }
    }

    fn may_be_in(&self, text: &str) -> bool {
        self.needle.as_deref().is_none_or(|needle| find(text, needle).is_some())
    }

    /// Looks through a text. True when the address stands there to the letter.
    fn text(&mut self, text: &str, loose: bool) -> bool {
        if !self.may_be_in(text) {
            return false;
        }
        let mut from = 0;
        while let Some(found) = find(&text[from..], "http") {
            let start = from + found;
            from = start + "http".len();
            let rest = text[from..].strip_prefix(['s', 'S']).unwrap_or(&text[from..]);
            if rest.starts_with("://") && self.candidates(&text[start..], "") {
                return true;
            }
        }
        loose && self.bare(text)
    }

    /// Looks for the host where no scheme stands before it, as people write it.
    fn bare(&mut self, text: &str) -> bool {
        let Some(needle) = self.needle.clone() else { return false };
        let mut from = 0;
        while let Some(found) = find(&text[from..], &needle) {
            let start = from + found;
            from = start + needle.len();
            let before = &text[..start];
            let www = before.len().checked_sub(4).filter(|at| before.is_char_boundary(*at));
            let before = match www {
                Some(at) if before[at..].eq_ignore_ascii_case("www.") => &before[..at],
                _ => before,
            };
            let begins = before.chars().next_back().is_none_or(|one| {
                one.is_whitespace()
                    || matches!(one, '(' | '[' | '"' | '\'' | '<' | '*' | '`' | ',' | ':' | ';')
            });
            if begins && self.candidates(&text[before.len()..], "https://") {
                return true;
            }
        }
        false
    }

    /// Compares what begins a text with the wanted address: as long as it may be, and without what
    /// may belong to the text around it.
    fn candidates(&mut self, text: &str, scheme: &str) -> bool {
        if self.left == 0 {
            return false;
        }
        let ends = |one: char| one.is_whitespace() || one.is_control() || ENDS.contains(&one);
        // Beyond that nothing is looked at: a stranger's text may be one long address.
        let mut places = (0..=self.longest.min(text.len())).rev();
        let end = places.find(|place| text.is_char_boundary(*place));
        let text = &text[..end.unwrap_or_default()];
        let whole = &text[..text.find(ends).unwrap_or(text.len())];
        let brackets = [('(', ')'), ('[', ']')].into_iter();
        let mut cuts: Vec<usize> = brackets
            .flat_map(|(open, close)| unopened(whole, open, close))
            .chain(whole.char_indices().filter(|(_, one)| MAY_END.contains(one)).map(|(at, _)| at))
            .collect();
        cuts.sort_unstable();
        // The first of them ends most addresses, and of the others most are a part of it.
        let first = cuts.first().copied();
        let cuts = first.into_iter().chain([whole.len()]).chain(cuts.into_iter().skip(1));
        let mut candidates = cuts.flat_map(|cut| trimmed(&whole[..cut])).take(MOST_ENDS);
        candidates.any(|candidate| {
            self.left = self.left.saturating_sub(PLACE + candidate.len());
            self.left > 0 && self.is_wanted(&format!("{scheme}{candidate}"), scheme.is_empty())
        })
    }

    fn is_wanted(&mut self, candidate: &str, to_the_letter: bool) -> bool {
        if !self.may_be_in(candidate) {
            return false;
        }
        let Some(url) = Url::parse(candidate).ok().filter(is_web) else { return false };
        // Without a scheme either is meant, so that the model's own is no miss.
        if url == self.wanted || (!to_the_letter && is_but_for_scheme(&url, &self.wanted)) {
            return true;
        }
        if self.near.is_none() && Key::of(&url).is_some_and(|key| key == self.key) {
            self.near = Some(url);
        }
        false
    }
}

fn is_but_for_scheme(one: &Url, other: &Url) -> bool {
    one[url::Position::BeforeHost..] == other[url::Position::BeforeHost..]
}

/// A text, and what is left of it without what may belong to the sentence around it.
fn trimmed(text: &str) -> impl Iterator<Item = &str> {
    let shorter = successors(Some(text), |one| one.strip_suffix(TRAILING));
    shorter.take(MOST_TRAILING).chain([text.trim_end_matches(TRAILING)])
}

/// The places of closing brackets that nothing has opened.
fn unopened(text: &str, open: char, close: char) -> Vec<usize> {
    let (mut depth, mut found) = (0usize, Vec::new());
    for (place, one) in text.char_indices() {
        if one == open {
            depth += 1;
        } else if one == close {
            match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => found.push(place),
            }
        }
    }
    found
}

/// The first place of a text in small ASCII letters, whatever the letters of `text`.
fn find(text: &str, wanted: &str) -> Option<usize> {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    let first = *wanted.first()?;
    let other = first.to_ascii_uppercase();
    let last = text.len().checked_sub(wanted.len())?;
    let mut from = 0;
    while from <= last {
        let begins = |byte: &u8| *byte == first || *byte == other;
        let place = from + text[from..=last].iter().position(begins)?;
        if text[place..place + wanted.len()].eq_ignore_ascii_case(wanted) {
            return Some(place);
        }
        from = place + 1;
    }
    None
}

#[cfg(test)]
mod tests;
