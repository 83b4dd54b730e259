//! Which providers are configured, and which of them answers to a model's name.
//!
//! Decides by names alone; it never asks a provider over the network what it serves.

use std::{fmt, sync::Arc};

use crate::{Body, Catalog, ModelSpec, ModelStream, Request};

#[cfg(test)]
mod tests;

/// One configured provider: a dialect, an address and a key.
///
/// A trait because there are two kinds: those behind HTTP, and scripted ones inside a test
/// process that need no socket.
pub trait Provider: Send + Sync {
    /// The name under which the log keeps this provider's blocks (`anthropic`, or the
    /// configuration's own name).
    fn name(&self) -> &str;

    /// Whether a model's name without a provider in front of it belongs here. Unless said
    /// otherwise, a provider that is called `anthropic` claims `claude-…`, and others nothing.
    fn claims(&self, model: &str) -> bool {
        self.name() == "anthropic" && model.starts_with("claude-")
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
                spec: self.catalog.spec(model),
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
