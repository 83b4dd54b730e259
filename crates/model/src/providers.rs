//! Which providers are configured, and which of them answers to a model's name.
//!
//! Decides by names alone; it never asks a provider over the network what it serves.

use std::{fmt, pin::Pin, sync::Arc};

use crate::{Body, Catalog, Failure, ModelSpec, ModelStream, Request, WireKind};

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
    providers: Vec<Arc<dyn Provider>>,
    catalog: Arc<Catalog>,
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

/// No configured provider answers to a model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no configured provider serves {model:?}; configured: {configured}")]
pub struct Unavailable {
    /// The name that was asked for.
    pub model: String,
    /// The configured providers' names, or what to set to get one.
    pub configured: String,
}

impl Providers {
    /// Takes the configured providers, in order of precedence.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn Provider>>, catalog: Catalog) -> Self {
        Self { providers, catalog: Arc::new(catalog) }
    }

    /// The configured providers' names, in order of precedence.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.providers.iter().map(|provider| provider.name()).collect()
    }

    /// What is known of models.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Finds who serves a model. `provider/model` asks that provider by name; any other name
    /// goes to the first provider that claims it.
    ///
    /// # Errors
    /// When no configured provider answers to the name.
    pub fn resolve(&self, name: &str) -> Result<Resolved, Unavailable> {
        let prefixed = name.split_once('/').filter(|(_, model)| !model.is_empty()).and_then(
            |(prefix, model)| {
                let provider = self.providers.iter().find(|provider| provider.name() == prefix)?;
                Some((provider, model))
            },
        );
        let claimed = || {
            let provider = self.providers.iter().find(|provider| provider.claims(name))?;
            Some((provider, name))
        };
        match prefixed.or_else(claimed) {
            Some((provider, model)) => Ok(Resolved {
                provider: Arc::clone(provider),
                model: model.to_owned(),
                spec: self
                    .catalog
                    .spec(model)
                    .unwrap_or_else(|| Arc::new(ModelSpec::unknown(provider.wire()))),
            }),
            None => Err(Unavailable { model: name.to_owned(), configured: self.configured() }),
        }
    }

    fn configured(&self) -> String {
        if self.providers.is_empty() {
            return "none (set ANTHROPIC_API_KEY to reach Claude models)".to_owned();
        }
        self.names().join(", ")
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
