//! What providers say that they serve: asked now and then, kept in memory.
//!
//! Never decides who serves a name, and keeps nothing that a restart would miss.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{ListedModel, Provider, Providers, Resolved, Unavailable};
use crate::{Catalog, ModelSpec, WireKind};

/// How often providers are asked, and how long anybody waits for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long the list of a provider elsewhere holds.
    pub(super) remote: Duration,
    /// How long the list of a provider on this machine holds.
    pub(super) local: Duration,
    /// How long it holds for somebody who asks for a name that nobody serves.
    pub(super) stranger: Duration,
    /// How long somebody waits for a provider on this machine.
    pub(super) near: Duration,
    /// How long somebody who wants all lists waits for a first one.
    pub(super) first: Duration,
    /// How long any list may take.
    pub(super) longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            remote: Duration::from_secs(5 * 60),
            local: Duration::from_secs(10),
            stranger: Duration::from_secs(1),
            near: Duration::from_secs(1),
            first: Duration::from_secs(5),
            longest: Duration::from_secs(30),
        }
    }
}

/// The tag that a name without one has.
const USUAL_TAG: &str = ":latest";

/// A provider and what it has listed.
pub(super) struct Entry {
    provider: Arc<dyn Provider>,
    found: bool,
    list: RwLock<List>,
    /// Held by whoever asks, so that many who want to know ask once.
    asking: tokio::sync::Mutex<()>,
}

/// What a provider has said last.
#[derive(Clone, Default)]
struct List {
    /// What it has listed when it last did. Stays when it can't be asked later: a session that
    /// works with such a model goes on when the provider is back.
    models: Arc<BTreeMap<String, Arc<Listed>>>,
    /// When it was last asked, and why that failed if it did.
    asked: Option<(Instant, Option<Arc<str>>)>,
}

/// A model that is listed, with what follows for it.
pub(super) struct Listed {
    pub(super) listed: ListedModel,
    pub(super) spec: Arc<ModelSpec>,
}

/// How a provider stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub wire: WireKind,
    /// Whether it runs on this machine.
    pub local: bool,
    /// Whether nobody has configured it.
    pub found: bool,
    /// How many models it has listed; why it has listed none; `None` when it was not asked yet.
    pub lists: Option<Result<usize, String>>,
}

impl Entry {
    pub(super) fn new(provider: Arc<dyn Provider>, found: bool) -> Self {
        Self { provider, found, list: RwLock::default(), asking: tokio::sync::Mutex::default() }
    }

    pub(super) fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    pub(super) fn name(&self) -> &str {
        self.provider.name()
    }

    pub(super) fn wire(&self) -> WireKind {
        self.provider.wire()
    }

    pub(super) fn claims(&self, model: &str) -> bool {
        self.provider.claims(model)
    }

    /// Whether nobody has configured it.
    pub(super) fn is_found(&self) -> bool {
        self.found
    }

    pub(super) fn is_local(&self) -> bool {
        self.found || self.provider.is_local()
    }

    /// Whether it has answered when it was last asked.
    pub(super) fn answers(&self) -> bool {
        matches!(self.list().asked, Some((_, None)))
    }

    /// A model that it lists, also by a name without its usual tag.
    pub(super) fn listed(&self, model: &str) -> Option<Arc<Listed>> {
        let models = self.list().models;
        let tagged = || models.get(&format!("{model}{USUAL_TAG}"));
        models.get(model).or_else(tagged).map(Arc::clone)
    }

    /// All that it lists.
    pub(super) fn models(&self) -> Arc<BTreeMap<String, Arc<Listed>>> {
        self.list().models
    }

    fn list(&self) -> List {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.list().asked.is_none_or(|(at, _)| at.elapsed() >= age)
    }

    /// Asks, unless somebody has asked within `age`; waits no longer than `patience`.
    async fn ask(&self, catalog: &Catalog, age: Duration, patience: Duration) {
        // Somebody else may be asking right now; who has no need to know need not wait for that.
        if !self.is_older_than(age) {
            return;
        }
        let asked = async {
            let _turn = self.asking.lock().await;
            if self.is_older_than(age) {
                self.keep(self.provider.list().await.map_err(|failure| failure.message), catalog);
            }
        };
        if timeout(patience, asked).await.is_err() && self.is_older_than(age) {
            self.keep(Err("did not list its models in time".to_owned()), catalog);
        }
    }

    /// Keeps an answer. Somebody may have kept a newer one: then both are of the same moment.
    fn keep(&self, answer: Result<Vec<ListedModel>, String>, catalog: &Catalog) {
        let failed = match &answer {
            Ok(models) => {
                tracing::debug!(provider = self.name(), models = models.len(), "listed");
                None
            }
            Err(message) => {
                tracing::debug!(provider = self.name(), message, "has listed no models");
                Some(Arc::from(message.as_str()))
            }
        };
        let models = answer.ok().map(|models| {
            let entry = |listed: ListedModel| {
                let spec = catalog.spec(&listed.id).unwrap_or_else(|| self.spec(&listed));
                (listed.id.clone(), Arc::new(Listed { listed, spec }))
            };
            Arc::new(models.into_iter().map(entry).collect())
        });
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.asked = Some((Instant::now(), failed));
        if let Some(models) = models {
            list.models = models;
        }
    }

    /// What is assumed of a model of which only its provider has said something.
    fn spec(&self, listed: &ListedModel) -> Arc<ModelSpec> {
        let unknown = ModelSpec::unknown(self.wire());
        Arc::new(ModelSpec {
            window: listed.window.filter(|window| *window > 0).unwrap_or(unknown.window),
            max_output: listed.max_output.filter(|most| *most > 0),
            ..unknown
        })
    }
}

impl Providers {
    /// Gets to know what a name may mean, for whoever is about to judge it: providers on this
    /// machine are asked what they serve, unless that is known well enough. Waits a second at
    /// most, and not at all for a name that they have no say in.
    pub async fn learn(&self, name: &str) {
        let prefixed = name.split_once('/').and_then(|(prefix, _)| {
            let entry = self.entries.iter().find(|entry| entry.name() == prefix)?;
            Some(Arc::clone(entry))
        });
        let entries = match prefixed {
            Some(entry) => vec![entry],
            None => self.entries.clone(),
        };
        let known = self.admit(name).is_ok();
        let age = if known { self.pace.local } else { self.pace.stranger };
        self.ask(entries.iter().filter(|entry| entry.is_local()), age, self.pace.near).await;
    }

    /// Like [`Providers::resolve`], for a name that was kept: before nobody serves it, whoever may
    /// have come since is asked, as [`Providers::learn`] does.
    ///
    /// # Errors
    /// When no provider answers to the name.
    pub async fn find(&self, name: &str) -> Result<Resolved, Unavailable> {
        if let Ok(resolved) = self.resolve(name) {
            return Ok(resolved);
        }
        self.learn(name).await;
        self.resolve(name)
    }

    /// Asks the providers on this machine, within a second: so that plain names mean at a start
    /// what they meant before it.
    pub async fn learn_local(&self) {
        let local = self.entries.iter().filter(|entry| entry.is_local());
        self.ask(local, self.pace.local, self.pace.near).await;
    }

    /// Brings all lists up to date for whoever wants to see them: those of this machine, and
    /// those of providers that were never asked.
    pub async fn learn_all(&self) {
        let new = |entry: &&Arc<Entry>| !entry.is_local() && entry.list().asked.is_none();
        let remote = self.ask(self.entries.iter().filter(new), self.pace.remote, self.pace.first);
        tokio::join!(remote, self.learn_local());
    }

    /// Keeps the lists up to date, for as long as it is polled.
    pub async fn keep_learning(self) {
        loop {
            self.ask(self.entries.iter(), Duration::ZERO, self.pace.longest).await;
            sleep(self.pace.remote).await;
        }
    }

    async fn ask<'a>(
        &self,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
        age: Duration,
        patience: Duration,
    ) {
        join_all(entries.map(|entry| entry.ask(&self.catalog, age, patience))).await;
    }

    /// How each provider stands. Of one that was found and does not answer, nothing is said.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        let standing = |entry: &Entry| {
            let list = entry.list();
            Standing {
                name: entry.name().to_owned(),
                wire: entry.wire(),
                local: entry.is_local(),
                found: entry.is_found(),
                lists: list.asked.map(|(_, failed)| match failed {
                    None => Ok(list.models.len()),
                    Some(message) => Err(message.to_string()),
                }),
            }
        };
        self.present().map(standing).collect()
    }
}
