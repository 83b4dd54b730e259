//! Tests of which provider a name goes to.

use std::sync::Arc;

use futures_util::stream;

use super::{Provider, Providers};
use crate::{Body, Catalog, ModelStream, Request};

struct Named(&'static str);

impl Provider for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn render(&self, _: &Request) -> Body {
        Body::default()
    }

    fn stream(&self, _: Body) -> ModelStream {
        Box::pin(stream::empty())
    }
}

fn providers(names: &[&'static str]) -> Providers {
    let all = names.iter().map(|name| Arc::new(Named(name)) as Arc<dyn Provider>).collect();
    Providers::new(all, Catalog::built_in())
}

fn resolved(providers: &Providers, name: &str) -> (String, String) {
    let resolved = providers.resolve(name).unwrap();
    (resolved.provider.name().to_owned(), resolved.model)
}

fn pair(provider: &str, model: &str) -> (String, String) {
    (provider.to_owned(), model.to_owned())
}

#[test]
fn a_plain_name_goes_to_who_claims_it_and_a_prefix_to_who_bears_it() {
    let providers = providers(&["local", "anthropic"]);
    assert_eq!(providers.names(), ["local", "anthropic"]);
    assert_eq!(resolved(&providers, "claude-opus-5"), pair("anthropic", "claude-opus-5"));
    assert_eq!(resolved(&providers, "local/claude-opus-5"), pair("local", "claude-opus-5"));
    assert_eq!(resolved(&providers, "local/qwen/3"), pair("local", "qwen/3"));
    assert_eq!(providers.resolve("anthropic/claude-opus-5").unwrap().spec.window, 1_000_000);
}

#[test]
fn an_unclaimed_name_is_refused_with_what_is_configured() {
    let both = providers(&["local", "anthropic"]);
    for name in ["gpt-9", "other/claude-opus-5", "local/", "/x", ""] {
        let unavailable = both.resolve(name).unwrap_err();
        assert_eq!(unavailable.model, name);
        assert!(unavailable.to_string().ends_with("configured: local, anthropic"));
    }
    assert!(providers(&["local"]).resolve("claude-opus-5").is_err());
}

#[test]
fn without_a_provider_the_refusal_says_what_to_set() {
    let refusal = providers(&[]).resolve("claude-opus-5").unwrap_err().to_string();
    assert!(refusal.contains("ANTHROPIC_API_KEY"), "{refusal}");
}
