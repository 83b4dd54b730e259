//! Tests of when providers are asked, and of those that come and go.

use std::{sync::Arc, time::Duration};

use tokio::task::yield_now;

use super::{Fake, Pace, anthropic, ids, providers, remote, resolved};
use crate::{Catalog, Provider, Providers, WireKind};

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_provider_that_was_found_is_there_while_it_answers() {
    let found = Arc::new(Fake::new("ollama", WireKind::OpenaiChat));
    found.lists(None);
    let providers = providers(&[&anthropic()]).with_found(Arc::clone(&found) as Arc<dyn Provider>);
    let pace = Pace { local: Duration::ZERO, stranger: Duration::ZERO, ..Pace::default() };
    let providers = Providers { pace, ..providers };
    assert_eq!(providers.names(), ["anthropic"]);
    providers.learn("qwen3").await;
    assert_eq!(providers.names(), ["anthropic"]);
    assert!(providers.admit("qwen3").is_err());
    let refusal = providers.admit("ollama/qwen3").unwrap_err().to_string();
    assert!(refusal.ends_with("configured: anthropic; ollama does not answer"), "{refusal}");
    // A session that has the name goes on when it comes back.
    assert_eq!(resolved(&providers, "ollama/qwen3").0, "ollama");

    found.lists(Some(&["qwen3:latest"]));
    providers.learn("qwen3").await;
    assert_eq!(providers.names(), ["anthropic", "ollama"]);
    assert_eq!(providers.admit("qwen3").unwrap().model, "qwen3:latest");
    assert!(providers.admit("ollama/qwen3").is_ok());
    let refusal = providers.admit("ollama/other").unwrap_err().to_string();
    assert!(refusal.ends_with("; ollama does not list \"other\""), "{refusal}");
    assert!(ids(&providers).contains(&"qwen3:latest".to_owned()));

    found.lists(None);
    providers.learn("qwen3").await;
    assert_eq!(providers.names(), ["anthropic"]);
    assert!(providers.admit("qwen3").is_err(), "nothing new may have the name");
    assert_eq!(resolved(&providers, "qwen3").0, "ollama", "what has it keeps it");
    assert!(!ids(&providers).contains(&"qwen3:latest".to_owned()));
}

#[tokio::test]
async fn a_kept_name_is_found_when_who_serves_it_is_back() {
    let near = Arc::new(Fake::local("near", &["qwen3"]));
    near.lists(None);
    let all = providers(&[&near, &anthropic()]);
    let pace = Pace { stranger: Duration::ZERO, ..Pace::default() };
    let all = Providers { pace, ..all };
    all.learn_local().await;
    let refusal = all.find("qwen3").await.unwrap_err();
    assert_eq!((refusal.model.as_str(), near.asked()), ("qwen3", 2));
    near.lists(Some(&["qwen3"]));
    assert_eq!(all.find("qwen3").await.unwrap().provider.name(), "near");
    assert_eq!(near.asked(), 3);
    assert!(all.find("qwen3").await.is_ok() && all.find("claude-opus-5").await.is_ok());
    assert_eq!(near.asked(), 3, "what is known is not asked for");
}

#[tokio::test]
async fn lists_of_this_machine_are_asked_for_when_they_may_matter() {
    let near = Arc::new(Fake::local("near", &["qwen3"]));
    let far = remote("far", WireKind::OpenaiChat);
    let all = providers(&[&near, &far, &anthropic()]);
    let holding = Providers {
        pace: Pace { remote: NEVER, local: NEVER, stranger: NEVER, ..Pace::default() },
        ..all
    };
    holding.learn("anthropic/claude-opus-5").await;
    holding.learn("far/x").await;
    assert_eq!(near.asked(), 0, "they have no say in it");
    tokio::join!(holding.learn("qwen3"), holding.learn("near/qwen3"), holding.learn("llama"));
    assert_eq!(near.asked(), 1, "many who want to know ask once");
    holding.learn("llama").await;
    assert_eq!(near.asked(), 1, "asked a moment ago");

    let pace = Pace { stranger: Duration::ZERO, ..holding.pace };
    let curious = Providers { pace, ..holding.clone() };
    curious.learn("qwen3").await;
    assert_eq!(near.asked(), 1, "a known name is known for longer");
    curious.learn("llama").await;
    assert_eq!(near.asked(), 2, "the model may have come just now");
    let pace = Pace { local: Duration::ZERO, ..holding.pace };
    let forgetful = Providers { pace, ..holding.clone() };
    forgetful.learn("qwen3").await;
    assert_eq!(near.asked(), 3);

    assert_eq!(far.asked(), 0);
    holding.learn_all().await;
    holding.learn_all().await;
    assert_eq!((near.asked(), far.asked()), (3, 1));
}

#[tokio::test]
async fn all_are_asked_again_and_again() {
    let far = remote("far", WireKind::OpenaiChat);
    far.lists(Some(&["one"]));
    let pace = Pace { remote: Duration::from_millis(1), ..Pace::default() };
    let providers = Providers { pace, ..providers(&[&far]) };
    let learning = providers.clone().keep_learning();
    let until = async |count: usize| {
        while far.asked() < count {
            yield_now().await;
        }
        // What it was answered is kept before it sleeps.
        tokio::time::sleep(pace.remote).await;
    };
    let watched = async {
        until(1).await;
        assert_eq!(ids(&providers), ["far/one"]);
        far.lists(Some(&["two"]));
        until(far.asked() + 1).await;
        assert_eq!(ids(&providers), ["far/two"]);
        far.lists(None);
        until(far.asked() + 1).await;
        assert_eq!(ids(&providers), ["far/two"], "what it said last");
        let standing = providers.standing();
        assert_eq!(standing[0].lists, Some(Err("no connection to the provider".to_owned())));
    };
    tokio::select! {
        () = learning => panic!("it has stopped"),
        () = watched => {}
    }
}

/// One that never answers.
struct Mute;

impl Provider for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn list(&self) -> crate::Listing<'_> {
        Box::pin(std::future::pending())
    }

    fn render(&self, _: &crate::Request) -> crate::Body {
        crate::Body::default()
    }

    fn stream(&self, _: crate::Body) -> crate::ModelStream {
        Box::pin(futures_util::stream::empty())
    }
}

#[tokio::test]
async fn nobody_waits_long_for_one_that_is_mute() {
    let pace = Pace { near: Duration::from_millis(1), ..Pace::default() };
    let providers = Providers { pace, ..Providers::new(vec![Arc::new(Mute)], Catalog::built_in()) };
    providers.learn_local().await;
    let lists = providers.standing().remove(0).lists;
    assert_eq!(lists, Some(Err("did not list its models in time".to_owned())));
    // Known not to answer for a while: this would wait for ever.
    let pace = Pace { near: NEVER, ..Pace::default() };
    let patient = Providers { pace, ..providers };
    patient.learn("mute/x").await;
    // Neither does it matter that somebody asks it meanwhile.
    let mut asking = std::pin::pin!(patient.clone().keep_learning());
    assert!(tokio::time::timeout(Duration::ZERO, &mut asking).await.is_err());
    patient.learn("mute/x").await;
}
