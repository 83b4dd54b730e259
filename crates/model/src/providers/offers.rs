//! All models of all providers in one list: under which name each is asked for, and what is known
//! of it.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use super::{Entry, Providers};
use crate::{ModelSpec, WireKind, catalog::undated};

/// A model that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The name to ask for: plain where that leads here, else with the provider in front.
    pub id: String,
    /// Who serves it.
    pub provider: String,
    /// What that provider speaks.
    pub wire: WireKind,
    /// Its name there.
    pub model: String,
    /// Its name for people, when somebody has said one.
    pub display_name: Option<String>,
    /// When it came to be, in seconds since 1970, when somebody has said so.
    pub created: Option<i64>,
    /// What is known of it, or stated defaults.
    pub spec: Arc<ModelSpec>,
    /// Whether the table of models has it.
    pub is_described: bool,
    /// Who has said how large its window is.
    pub window: Known,
}

/// Who has said how large a model's window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The table of models.
    Catalog,
    /// Its provider.
    Provider,
    /// Nobody: it is assumed.
    Assumed,
}

impl Known {
    /// Whether somebody has.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Assumed)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Provider => "provider",
            Self::Assumed => "assumed",
        }
    }
}

impl Providers {
    /// All models that the providers list, the newest first. Of a provider that has listed none,
    /// those of the table that are its own.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        let mut offers: Vec<Offer> =
            self.present().flat_map(|entry| self.offers_of(entry)).collect();
        let mut seen = BTreeSet::new();
        offers.retain(|offer| seen.insert(offer.id.clone()));
        offers.sort_by(|one, other| {
            (Reverse(one.created), &one.id).cmp(&(Reverse(other.created), &other.id))
        });
        offers
    }

    /// The model of that name: as it is listed, or under a name that means it: with or without
    /// its provider, its date or its usual tag.
    #[must_use]
    pub fn offer(&self, name: &str) -> Option<Offer> {
        let offers = self.offers();
        if let Some(offer) = offers.iter().find(|offer| offer.id == name) {
            return Some(offer.clone());
        }
        let (entry, model) = self
            .place(name)
            .filter(|(entry, _)| self.present().any(|one| one.name() == entry.name()))?;
        let own = || offers.iter().filter(|offer| offer.provider == entry.name());
        let usual = format!("{model}:latest");
        let is = |offer: &&Offer| offer.model == model || offer.model == usual;
        let means = |offer: &&Offer| {
            let same = |one: &str, other: &str| undated(one) == Some(other);
            same(&offer.model, &model) || same(&model, &offer.model)
        };
        // The newest comes first.
        own().find(is).or_else(|| own().find(means)).cloned().or_else(|| {
            self.catalog.spec(&model)?;
            Some(self.offer_of(entry, &model))
        })
    }

    fn offers_of(&self, entry: &Entry) -> Vec<Offer> {
        let models = entry.models();
        if models.is_empty() {
            let own = |name: &&str| {
                let place = self.place(name);
                place.is_some_and(|(place, _)| place.name() == entry.name())
            };
            return self
                .catalog
                .names()
                .filter(own)
                .map(|name| self.offer_of(entry, name))
                .collect();
        }
        models.keys().map(|model| self.offer_of(entry, model)).collect()
    }

    fn offer_of(&self, entry: &Entry, model: &str) -> Offer {
        let prefixed = || format!("{}/{model}", entry.name());
        let plain = self
            .place(model)
            .is_some_and(|(place, own)| place.name() == entry.name() && own == model);
        let spec = self.spec(entry, model);
        let listed = entry.listed(model);
        let listed = listed.as_ref().map(|known| &known.listed);
        let is_described = self.catalog.spec(model).is_some();
        let window = match listed.and_then(|one| one.window).filter(|window| *window > 0) {
            _ if is_described => Known::Catalog,
            Some(_) => Known::Provider,
            None => Known::Assumed,
        };
        Offer {
            id: if plain { model.to_owned() } else { prefixed() },
            provider: entry.name().to_owned(),
            wire: entry.wire(),
            model: model.to_owned(),
            display_name: listed
                .and_then(|one| one.display_name.clone())
                .or_else(|| spec.about.name.clone()),
            created: listed.and_then(|one| one.created).or(spec.about.released),
            spec,
            is_described,
            window,
        }
    }
}
