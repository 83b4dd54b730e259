//! Tests of which provider a name goes to, and of what is known of it.

mod directory;
mod ollama;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::stream;

use super::{Known, ListedModel, Listing, Pace, Provider, Providers};
use crate::{Body, Catalog, Failure, FailureKind, ModelStream, Request, Usage, WireKind};

/// A provider that lists what a test says.
#[derive(Default)]
struct Fake {
    name: &'static str,
    wire: WireKind,
    local: bool,
    /// `None` makes it fail.
    models: Mutex<Option<Vec<ListedModel>>>,
    asked: AtomicUsize,
}

impl Fake {
    fn new(name: &'static str, wire: WireKind) -> Self {
        Self { name, wire, models: Mutex::new(Some(Vec::new())), ..Self::default() }
    }

    fn local(name: &'static str, models: &[&str]) -> Self {
        let fake = Self { local: true, ..Self::new(name, WireKind::OpenaiChat) };
        fake.lists(Some(models));
        fake
    }

    fn lists(&self, models: Option<&[&str]>) {
        let listed = |id: &&str| ListedModel { id: (*id).to_owned(), ..ListedModel::default() };
        *self.models.lock().unwrap() =
            models.map(|models| models.iter().map(listed).collect::<Vec<_>>());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Provider for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn claims(&self, model: &str) -> bool {
        super::family(model).is_some_and(|(_, wire)| wire == self.wire)
    }

    fn wire(&self) -> WireKind {
        self.wire
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn list(&self) -> Listing<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let failure = || Failure {
            kind: FailureKind::Transient,
            message: "no connection to the provider".to_owned(),
            retry_after: None,
            usage: Usage::default(),
        };
        let answer = self.models.lock().unwrap().clone().ok_or_else(failure);
        Box::pin(std::future::ready(answer))
    }

    fn render(&self, _: &Request) -> Body {
        Body::default()
    }

    fn stream(&self, _: Body) -> ModelStream {
        Box::pin(stream::empty())
    }
}

fn providers(all: &[&Arc<Fake>]) -> Providers {
    let all = all.iter().map(|one| Arc::clone(one) as Arc<dyn Provider>).collect();
    Providers::new(all, Catalog::built_in())
}

fn remote(name: &'static str, wire: WireKind) -> Arc<Fake> {
    Arc::new(Fake::new(name, wire))
}

fn anthropic() -> Arc<Fake> {
    remote("anthropic", WireKind::Anthropic)
}

fn resolved(providers: &Providers, name: &str) -> (String, String) {
    let resolved = providers.resolve(name).unwrap();
    (resolved.provider.name().to_owned(), resolved.model)
}

fn pair(provider: &str, model: &str) -> (String, String) {
    (provider.to_owned(), model.to_owned())
}

fn ids(providers: &Providers) -> Vec<String> {
    providers.offers().into_iter().map(|offer| offer.id).collect()
}

#[test]
fn a_plain_name_goes_to_who_claims_it_and_a_prefix_to_who_bears_it() {
    let chat = remote("local", WireKind::OpenaiChat);
    let providers = providers(&[&chat, &anthropic()]);
    assert_eq!(providers.names(), ["local", "anthropic"]);
    assert_eq!(resolved(&providers, "claude-opus-5"), pair("anthropic", "claude-opus-5"));
    assert_eq!(resolved(&providers, "local/claude-opus-5"), pair("local", "claude-opus-5"));
    assert_eq!(resolved(&providers, "local/qwen/3"), pair("local", "qwen/3"));
    assert_eq!(providers.resolve("anthropic/claude-opus-5").unwrap().spec.window, 1_000_000);
}

#[test]
fn the_inventor_goes_before_others_that_claim() {
    let gateway = remote("gateway", WireKind::Anthropic);
    let both = providers(&[&gateway, &anthropic()]);
    assert_eq!(resolved(&both, "claude-opus-5").0, "anthropic");
    assert_eq!(resolved(&providers(&[&gateway]), "claude-opus-5").0, "gateway");
    // The name counts, not what it speaks.
    let openai = remote("openai", WireKind::OpenaiChat);
    let other = remote("other", WireKind::OpenaiResponses);
    let all = providers(&[&other, &openai]);
    assert_eq!(resolved(&all, "gpt-9").0, "openai");
    assert_eq!(resolved(&all, "o3").0, "openai");
    assert_eq!(resolved(&providers(&[&other]), "o3-mini").0, "other");
    assert!(providers(&[&other]).resolve("ollama-3").is_err());
}

#[tokio::test]
async fn a_name_that_this_machine_lists_goes_there_first() {
    let near = Arc::new(Fake::local("near", &["qwen3:latest", "claude-opus-5", "hf.co/x/y:q4"]));
    let providers = providers(&[&anthropic(), &near]);
    assert_eq!(resolved(&providers, "claude-opus-5").0, "anthropic", "nobody was asked yet");
    assert!(providers.resolve("qwen3").is_err());
    providers.learn("qwen3").await;
    assert_eq!(resolved(&providers, "claude-opus-5").0, "near");
    assert_eq!(resolved(&providers, "qwen3"), pair("near", "qwen3:latest"));
    assert_eq!(resolved(&providers, "hf.co/x/y:q4"), pair("near", "hf.co/x/y:q4"));
    assert_eq!(resolved(&providers, "anthropic/claude-opus-5").0, "anthropic");
}

#[tokio::test]
async fn an_unclaimed_name_is_refused_with_what_would_help() {
    let groq = remote("groq", WireKind::OpenaiChat);
    groq.lists(Some(&["llama-4"]));
    let both = providers(&[&groq, &anthropic()]);
    both.learn_all().await;
    for (name, end) in [
        ("gpt-9", "configured: groq, anthropic; set OPENAI_API_KEY to reach OpenAI's models"),
        ("gemini-9", "; set GEMINI_API_KEY to reach Gemini models"),
        ("llama-4", "; groq lists it: write \"groq/llama-4\""),
        ("other/claude-opus-5", "configured: groq, anthropic"),
        ("groq/", "configured: groq, anthropic"),
        ("/x", "configured: groq, anthropic"),
        ("", "configured: groq, anthropic"),
    ] {
        let unavailable = both.resolve(name).unwrap_err();
        assert_eq!(unavailable.model, name);
        assert!(unavailable.to_string().ends_with(end), "{unavailable}");
    }
    assert!(providers(&[&groq]).resolve("claude-opus-5").is_err());
    let refusal = providers(&[]).resolve("mine").unwrap_err().to_string();
    assert!(refusal.contains("configured: none; set ANTHROPIC_API_KEY"), "{refusal}");
}

#[tokio::test]
async fn what_a_provider_says_fills_in_where_the_table_says_nothing() {
    let near = Fake::local("near", &[]);
    *near.models.lock().unwrap() = Some(vec![
        ListedModel {
            id: "small".into(),
            window: Some(8_192),
            max_output: Some(1_024),
            ..ListedModel::default()
        },
        ListedModel { id: "claude-opus-5".into(), window: Some(7), ..ListedModel::default() },
        ListedModel { id: "silent".into(), window: Some(0), ..ListedModel::default() },
    ]);
    let providers = providers(&[&Arc::new(near)]);
    providers.learn_local().await;
    let spec = |name: &str| providers.resolve(name).unwrap().spec;
    assert_eq!((spec("small").window, spec("small").max_output), (8_192, Some(1_024)));
    assert_eq!(spec("near/small").window, 8_192);
    assert!(!spec("small").inference_geo, "its wire has no regions");
    assert_eq!(spec("claude-opus-5").window, 1_000_000);
    assert_eq!(spec("silent").window, 200_000);
    assert_eq!(spec("near/unlisted").window, 200_000);
    let known: Vec<_> = ["small", "claude-opus-5", "silent"]
        .map(|name| providers.offer(name).unwrap().window)
        .into();
    assert_eq!(known, [Known::Provider, Known::Catalog, Known::Assumed]);
}

#[tokio::test]
async fn all_models_are_listed_under_the_names_that_lead_to_them() {
    let near = Arc::new(Fake::local("near", &["qwen3:8b"]));
    let gateway = remote("gateway", WireKind::Anthropic);
    let anthropic = anthropic();
    gateway.lists(Some(&["claude-opus-5", "house-1"]));
    let dated = |id: &str, created| ListedModel {
        id: id.into(),
        created: Some(created),
        ..ListedModel::default()
    };
    *anthropic.models.lock().unwrap() = Some(vec![
        dated("claude-opus-5", 10),
        dated("claude-haiku-4-5-20251001", 30),
        dated("claude-opus-4-8", 20),
        dated("claude-opus-4-8-20260601", 25),
    ]);
    let providers = providers(&[&near, &gateway, &anthropic]);
    providers.learn_all().await;
    let expected = [
        // Of the gateway's models one is in the table, with its day.
        "gateway/claude-opus-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-4-8-20260601",
        "claude-opus-4-8",
        "claude-opus-5",
        "gateway/house-1",
        "qwen3:8b",
    ];
    assert_eq!(ids(&providers), expected);
    let offer = |name: &str| providers.offer(name).map(|offer| offer.id);
    for id in expected {
        assert_eq!(offer(id).as_deref(), Some(id));
        assert_eq!(offer(id), Some(id.to_owned()));
        assert!(providers.admit(id).is_ok(), "{id}");
    }
    assert_eq!(offer("claude-haiku-4-5").as_deref(), Some("claude-haiku-4-5-20251001"));
    assert_eq!(offer("claude-opus-5-20260724").as_deref(), Some("claude-opus-5"));
    assert_eq!(offer("near/qwen3:8b").as_deref(), Some("qwen3:8b"));
    assert_eq!(offer("anthropic/claude-opus-4-8").as_deref(), Some("claude-opus-4-8"));
    for unknown in ["qwen3", "gpt-9", "near/none", "gateway/claude-x", "", "/"] {
        assert_eq!(offer(unknown), None, "{unknown}");
    }
}

#[tokio::test]
async fn a_provider_that_lists_nothing_is_shown_with_its_models_of_the_table() {
    let anthropic = anthropic();
    anthropic.lists(None);
    let providers = providers(&[&anthropic]);
    providers.learn_all().await;
    let ids = ids(&providers);
    assert!(ids.contains(&"claude-opus-5".to_owned()), "{ids:?}");
    assert_eq!(ids[0], "claude-sonnet-5-5", "the newest of those whose day is known");
    let offer = providers.offer("claude-sonnet-4-5-20250929").unwrap();
    assert_eq!(offer.id, "claude-sonnet-4-5");
    assert_eq!(offer.display_name.as_deref(), Some("Claude Sonnet 4.5"));
    assert_eq!(offer.spec.about.lifecycle.as_str(), "deprecated");
}
