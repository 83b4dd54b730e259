//! `[web]` of the file: who searches the web for agents, and what reading a page may take.
//!
//! Reads and checks values, each by the name of its key. A key of a back end never stands in the file,
//! and goes to the address that it was named for and to no other.

use posthouse_model::WireKind;
use posthouse_web::{
    fetch,
    search::{self, Engine, MOST_HITS, Unusable},
};
use reqwest::{Url, header::HeaderMap};
use secrecy::SecretString;
use serde::Deserialize;
use toml::Value;

use super::{
    Variables,
    providers::Door,
    sandbox::{choice, count, seconds, set, size, wrong},
    vault::variable_name,
};
use crate::Error;

/// How long a search may take unless told otherwise, in seconds.
const SEARCH_SECONDS: u64 = 30;
/// The largest page and the largest PDF that may be allowed, in bytes.
const LARGEST_PAGE: u64 = 100 << 20;
const LARGEST_PDF: u64 = 20 << 20;
/// The longest name that a reader of pages may have.
const LONGEST_USER_AGENT: usize = 256;

/// What the tools of the web may take, and who searches.
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// What a page may take.
    pub fetch: fetch::Settings,
    /// Who searches. Without it, no agent can have `web_search`.
    pub search: Option<search::Settings>,
}

/// `[web]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebEntry {
    search: SearchEntry,
    fetch: FetchEntry,
}

/// `[web.search]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SearchEntry {
    backend: Option<Value>,
    base_url: Option<Value>,
    key_env: Option<Value>,
    model: Option<Value>,
    results: Option<Value>,
    seconds: Option<Value>,
}

/// `[web.fetch]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FetchEntry {
    seconds: Option<Value>,
    page_size: Option<Value>,
    pdf_size: Option<Value>,
    robots: Option<Value>,
    user_agent: Option<Value>,
}

/// Finds the provider of a model: the model's name there, and how it is asked. The error is a sentence.
type Doors<'a> = &'a dyn Fn(&str) -> Result<(String, Door), String>;

/// What may stand at `web.search.backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Brave,
    Searxng,
    Tavily,
    Serpapi,
    Model,
}

const KINDS: [(&str, Kind); 5] = [
    ("brave", Kind::Brave),
    ("searxng", Kind::Searxng),
    ("tavily", Kind::Tavily),
    ("serpapi", Kind::Serpapi),
    ("model", Kind::Model),
];

impl WebEntry {
    /// Checks every value; what is not there keeps its default.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(super) fn read(self, doors: Doors<'_>, variables: Variables<'_>) -> Result<Web, Error> {
        Ok(Web { fetch: self.fetch.read()?, search: self.search.read(doors, variables)? })
    }
}

impl FetchEntry {
    fn read(self) -> Result<fetch::Settings, Error> {
        let mut fetch = fetch::Settings::default();
        set(&mut fetch.time, self.seconds, |value| seconds("web.fetch.seconds", &value))?;
        set(&mut fetch.page_bytes, self.page_size, |value| {
            bytes("web.fetch.page_size", &value, LARGEST_PAGE)
        })?;
        set(&mut fetch.pdf_bytes, self.pdf_size, |value| {
            bytes("web.fetch.pdf_size", &value, LARGEST_PDF)
        })?;
        set(&mut fetch.robots, self.robots, |value| {
            let flag = value.as_bool();
            flag.ok_or_else(|| {
                wrong("web.fetch.robots", &value, "is no flag", "write true or false")
            })
        })?;
        set(&mut fetch.user_agent, self.user_agent, |value| {
            let fine = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            let text = value.as_str().filter(|text| text.len() <= LONGEST_USER_AGENT);
            let text = text.filter(|text| {
                text.starts_with(|first: char| first.is_ascii_alphabetic())
                    && !text.ends_with(' ')
                    && text.bytes().all(fine)
            });
            text.map(str::to_owned).ok_or_else(|| {
                let right = "write \"our-reader/1.0 (+https://example.com/reader)\"";
                wrong("web.fetch.user_agent", &value, "is no name of a reader", right)
            })
        })?;
        Ok(fetch)
    }
}

impl SearchEntry {
    fn read(
        self,
        doors: Doors<'_>,
        variables: Variables<'_>,
    ) -> Result<Option<search::Settings>, Error> {
        let Self { backend, base_url, key_env, model, results, seconds: time } = self;
        let Some(backend) = backend else {
            let others = [&base_url, &key_env, &model, &results, &time];
            if others.into_iter().all(Option::is_none) {
                return Ok(None);
            }
            let names = KINDS.map(|(name, _)| format!("{name:?}")).join(" or ");
            return Err(Error::Config(format!("web.search.backend: is missing; write {names}")));
        };
        let kind = choice("web.search.backend", &backend, &KINDS)?;
        let mut hits = MOST_HITS;
        set(&mut hits, results, |value| {
            let key = "web.search.results";
            let number = usize::try_from(count(key, &value)?).ok();
            number.filter(|number| *number <= MOST_HITS).ok_or_else(|| {
                wrong(key, &value, "is too many", &format!("write from 1 to {MOST_HITS}"))
            })
        })?;
        let mut settings = search::Settings {
            engine: Engine::Brave,
            base_url: String::new(),
            key: None,
            headers: HeaderMap::new(),
            hits,
            time: std::time::Duration::from_secs(SEARCH_SECONDS),
        };
        set(&mut settings.time, time, |value| seconds("web.search.seconds", &value))?;
        let unused = |key: &str, value: &Option<Value>, why: &str| match value {
            None => Ok(()),
            Some(_) => Err(Error::Config(format!("web.search.{key}: {why}; leave it out"))),
        };
        if kind == Kind::Model {
            let why = "is of no use with a model, whose provider has its own";
            unused("base_url", &base_url, why)?;
            unused("key_env", &key_env, why)?;
            open(&mut settings, model, doors)?;
        } else {
            unused("model", &model, "is of use with backend = \"model\" alone")?;
            let (engine, usual): (_, &[&str]) = match kind {
                Kind::Brave => (Engine::Brave, &["BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY"]),
                Kind::Tavily => (Engine::Tavily, &["TAVILY_API_KEY"]),
                Kind::Serpapi => (Engine::Serpapi, &["SERPAPI_API_KEY", "SERPAPI_KEY"]),
                Kind::Searxng | Kind::Model => (Engine::Searxng, &[]),
            };
            settings.engine = engine;
            settings.base_url = address(&settings.engine, base_url)?;
            if kind == Kind::Searxng {
                unused("key_env", &key_env, "is of no use with searxng, which knows no keys")?;
            } else {
                settings.key = key(&settings, usual, key_env, variables)?;
            }
        }
        match settings.check() {
            Ok(()) => Ok(Some(settings)),
            Err(error @ Unusable::BaseUrl) => {
                Err(Error::Config(format!("web.search.base_url: {:?} {error}", settings.base_url)))
            }
            Err(error @ Unusable::Key) => {
                Err(Error::Config(format!("web.search.key_env: names a variable that {error}")))
            }
        }
    }
}

/// Sets a model as the back end.
fn open(
    settings: &mut search::Settings,
    model: Option<Value>,
    doors: Doors<'_>,
) -> Result<(), Error> {
    const KEY: &str = "web.search.model";
    let right = "write the name of a model that has a search of its own, such as \
                 \"claude-haiku-4-5\"";
    let value = model.ok_or_else(|| Error::Config(format!("{KEY}: is missing; {right}")))?;
    let name = value.as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong(KEY, &value, "is no name of a model", right))?;
    let (model, door) = doors(name)
        .map_err(|error| wrong(KEY, &value, &format!("is not served: {error}"), right))?;
    settings.engine = match door.wire {
        WireKind::Anthropic => Engine::Messages { model },
        WireKind::OpenaiResponses => Engine::Responses { model },
        WireKind::OpenaiChat | WireKind::Gemini => {
            let what = "is served in a dialect whose search can't be asked";
            let right = "name a model of a provider of kind anthropic or openai_responses";
            return Err(wrong(KEY, &value, what, right));
        }
    };
    settings.base_url = door.base_url;
    settings.headers = door.headers;
    Ok(())
}

/// Where a back end is.
fn address(engine: &Engine, base_url: Option<Value>) -> Result<String, Error> {
    const KEY: &str = "web.search.base_url";
    match (base_url, engine.base_url()) {
        (Some(Value::String(text)), _) => Ok(text),
        (Some(other), _) => {
            Err(wrong(KEY, &other, "is no address", "write it as \"https://search.example.com\""))
        }
        (None, Some(usual)) => Ok(usual.to_owned()),
        (None, None) => Err(Error::Config(format!(
            "{KEY}: is missing; write where the instance is, \"https://search.example.com\""
        ))),
    }
}

/// The key of a back end. The usual variables are read for its usual host alone.
fn key(
    settings: &search::Settings,
    usual: &[&str],
    key_env: Option<Value>,
    variables: Variables<'_>,
) -> Result<Option<SecretString>, Error> {
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let at_home = settings.engine.base_url().map(origin) == Some(origin(&settings.base_url));
    let named = key_env.map(|value| variable_name("web.search.key_env", &value, "BRAVE_API_KEY"));
    let names: Vec<String> = match named.transpose()? {
        Some(name) => vec![name],
        None if at_home => usual.iter().map(|name| (*name).to_owned()).collect(),
        None => return Ok(None),
    };
    let held = names.iter().find_map(|name| {
        let value = variables(name).map(|value| value.trim().to_owned());
        value.filter(|value| !value.is_empty())
    });
    match held {
        None if at_home => Err(Error::Config(format!(
            "web.search: the variable {} is not set; set it, or name the one that holds the key in \
             key_env",
            names.join(" or ")
        ))),
        held => Ok(held.map(SecretString::from)),
    }
}

fn bytes(key: &str, value: &Value, most: u64) -> Result<usize, Error> {
    let number = Some(size(key, value)?).filter(|bytes| *bytes <= most);
    number.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| {
        wrong(key, value, "is too large", &format!("write at most \"{}MiB\"", most >> 20))
    })
}

#[cfg(test)]
mod tests;
