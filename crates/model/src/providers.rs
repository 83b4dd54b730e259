//! Which providers are configured, and which of them answers to a model's name.
//!
//! Decides by names and by what `directory` remembers of what providers list; a decision itself
//! never asks anybody.

mod directory;
mod offers;
mod ollama;

use std::{fmt, pin::Pin, sync::Arc};

use crate::{Body, Catalog, Failure, ModelSpec, ModelStream, Request, WireKind};
use directory::{Entry, Pace};

pub use directory::Standing;
pub use offers::{Known, Offer};
pub use ollama::Ollama;

#[cfg(test)]
mod tests;

/// The work of asking a provider what it serves.
pub type Listing<'a> = Pin<Box<dyn Future<Output = Result<Vec<ListedModel>, Failure>> + Send + 'a>>;

/// A model, as its provider lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name at the provider.
    pub id: String,
    /// Its name for people.
    pub display_name: Option<String>,
    /// When it came to be, in seconds since 1970.
    pub created: Option<i64>,
    /// How many tokens a conversation may have.
    pub window: Option<u64>,
    /// How many tokens one answer may have.
    pub max_output: Option<u64>,
}

/// One configured provider: a dialect, an address and a key.
///
/// A trait because there are two kinds: those behind HTTP, and scripted ones inside a test
/// process that need no socket.
pub trait Provider: Send + Sync {
    /// The name under which the log keeps this provider's blocks (`anthropic`, or the
    /// configuration's own name).
    fn name(&self) -> &str;

    /// Whether a model's name without a provider in front of it belongs here. Unless said
    /// otherwise, a provider claims the models of the inventor whose name it bears.
    fn claims(&self, model: &str) -> bool {
        family(model).is_some_and(|(inventor, _)| inventor == self.name())
    }

    /// What it speaks.
    fn wire(&self) -> WireKind {
        WireKind::Anthropic
    }

    /// Whether it runs on this machine.
    fn is_local(&self) -> bool {
        false
    }

    /// Asks it what it serves.
    fn list(&self) -> Listing<'_> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Renders a request into the body that will be sent. Pure: the same request gives the
    /// same bytes.
    fn render(&self, request: &Request) -> Body;

    /// Sends a rendered body. Never fails by itself: a failure is an event of the stream.
    fn stream(&self, body: Body) -> ModelStream;
}

/// All configured providers and what is known of their models.
#[derive(Clone)]
pub struct Providers {
    /// In order of precedence.
    entries: Vec<Arc<Entry>>,
    catalog: Arc<Catalog>,
    pace: Pace,
}

/// A model's name, resolved.
#[derive(Clone)]
pub struct Resolved {
    /// Who serves it.
    pub provider: Arc<dyn Provider>,
    /// Its name there.
    pub model: String,
    /// What is known of it, or stated defaults.
    pub spec: Arc<ModelSpec>,
}

/// No provider answers to a model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no configured provider serves {model:?}; configured: {configured}{hint}")]
pub struct Unavailable {
    /// The name that was asked for.
    pub model: String,
    /// The providers' names, or what to set to get one.
    pub configured: String,
    /// What would help, behind a separator; empty where nothing is known to help.
    pub hint: String,
}

impl Providers {
    /// Takes the configured providers, in order of precedence.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn Provider>>, catalog: Catalog) -> Self {
        let entries = providers.into_iter().map(|one| Arc::new(Entry::new(one, false)));
        Self { entries: entries.collect(), catalog: Arc::new(catalog), pace: Pace::default() }
    }

    /// Adds a provider that nobody has configured: it is there while it answers, and counts as
    /// one of this machine.
    #[must_use]
    pub fn with_found(mut self, provider: Arc<dyn Provider>) -> Self {
        self.entries.push(Arc::new(Entry::new(provider, true)));
        self
    }

    /// The names of the providers that are there, in order of precedence.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.present().map(Entry::name).collect()
    }

    /// What is known of models.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Finds who serves a model, by what is known already; asks nobody.
    ///
    /// `provider/model` asks that provider by name. Any other name goes to the first provider of
    /// this machine that lists it, else to the one that bears its inventor's name, else to the
    /// first one that claims it.
    ///
    /// # Errors
    /// When no provider answers to the name.
    pub fn resolve(&self, name: &str) -> Result<Resolved, Unavailable> {
        match self.place(name) {
            Some((entry, model)) => Ok(Resolved {
                provider: Arc::clone(entry.provider()),
                spec: self.spec(entry, &model),
                model,
            }),
            None => Err(self.unavailable(name)),
        }
    }

    /// Like [`Providers::resolve`], for a name that is about to be kept: a provider that was
    /// found must be there and list the model.
    ///
    /// # Errors
    /// When no provider answers to the name.
    pub fn admit(&self, name: &str) -> Result<Resolved, Unavailable> {
        let fits = |entry: &Entry, model: &str| {
            !entry.is_found() || (entry.answers() && entry.listed(model).is_some())
        };
        match self.place(name) {
            Some((entry, model)) if !fits(entry, &model) => Err(self.unavailable(name)),
            _ => self.resolve(name),
        }
    }

    /// Who serves a name, and what it is called there.
    fn place(&self, name: &str) -> Option<(&Entry, String)> {
        let named = |wanted: &str| self.entries().find(|entry| entry.name() == wanted);
        if let Some((prefix, model)) = name.split_once('/')
            && !model.is_empty()
            && let Some(entry) = named(prefix)
        {
            return Some((entry, model.to_owned()));
        }
        for entry in self.entries().filter(|entry| entry.is_local()) {
            if let Some(known) = entry.listed(name) {
                return Some((entry, known.listed.id.clone()));
            }
        }
        let inventor = || named(family(name)?.0).filter(|entry| !entry.is_found());
        let entry = inventor().or_else(|| self.entries().find(|entry| entry.claims(name)))?;
        Some((entry, name.to_owned()))
    }

    /// What is known of a model: the table's word first, then its provider's.
    fn spec(&self, entry: &Entry, model: &str) -> Arc<ModelSpec> {
        self.catalog
            .spec(model)
            .or_else(|| entry.listed(model).map(|known| Arc::clone(&known.spec)))
            .unwrap_or_else(|| Arc::new(ModelSpec::unknown(entry.wire())))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|entry| &**entry)
    }

    fn present(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| !entry.is_found() || entry.answers())
    }

    fn unavailable(&self, name: &str) -> Unavailable {
        let names = self.names();
        let configured = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let hint = self.hint(name).map(|hint| format!("; {hint}")).unwrap_or_default();
        Unavailable { model: name.to_owned(), configured, hint }
    }

    /// What would make a name work.
    fn hint(&self, name: &str) -> Option<String> {
        let prefixed = name.split_once('/');
        let absent = prefixed.and_then(|(prefix, model)| {
            let entry = self.entries().find(|entry| entry.name() == prefix && !model.is_empty())?;
            Some(match entry.answers() {
                true => format!("{prefix} does not list {model:?}"),
                false => format!("{prefix} does not answer"),
            })
        });
        let elsewhere = || {
            let entry = self.present().find(|entry| entry.listed(name).is_some())?;
            Some(format!("{} lists it: write \"{}/{name}\"", entry.name(), entry.name()))
        };
        let missing = || {
            let (inventor, _) = family(name)?;
            let (variable, whose) = match inventor {
                "anthropic" => ("ANTHROPIC_API_KEY", "Claude models"),
                "openai" => ("OPENAI_API_KEY", "OpenAI's models"),
                _ => ("GEMINI_API_KEY", "Gemini models"),
            };
            Some(format!("set {variable} to reach {whose}"))
        };
        let nobody = || {
            let help = "set ANTHROPIC_API_KEY to reach Claude models, or configure a provider";
            self.names().is_empty().then(|| help.to_owned())
        };
        absent.or_else(elsewhere).or_else(missing).or_else(nobody)
    }
}

/// Who has made a model, by its name, and on which wire the inventor serves it.
#[must_use]
pub fn family(model: &str) -> Option<(&'static str, WireKind)> {
    let numbered = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    if model.starts_with("claude-") {
        Some(("anthropic", WireKind::Anthropic))
    } else if model.starts_with("gpt-") || model.strip_prefix('o').is_some_and(numbered) {
        Some(("openai", WireKind::OpenaiResponses))
    } else if model.starts_with("gemini-") {
        Some(("gemini", WireKind::Gemini))
    } else {
        None
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Providers").field("names", &self.names()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Resolved")
            .field("provider", &self.provider.name())
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
