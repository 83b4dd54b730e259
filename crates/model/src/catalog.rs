//! What is known of each model: its limits, its switches and its prices.
//!
//! The table is data (`models.toml`), which an operator can extend or replace; nothing of it is
//! fetched. Money is counted in whole nano-dollars, never in floating point.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer};

use crate::{Effort, Usage, WireKind};

#[cfg(test)]
mod tests;

const BUILT_IN: &str = include_str!("../models.toml");

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// It decides itself; effort steers it.
    Adaptive,
    /// It is given a number of tokens.
    Budget,
    /// It is told nothing.
    None,
}

/// What is known of one model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// How many tokens a conversation and its answer may have together.
    pub window: u64,
    /// How many tokens one answer may have; where it is not known, the provider decides if its
    /// wire lets it.
    pub max_output: Option<u64>,
    /// How it is told to think.
    pub thinking: Thinking,
    /// Whether it binds its thinking to everything before it, and refuses a conversation whose
    /// past has changed unless told to drop such thinking.
    #[serde(default)]
    pub thinking_bound: bool,
    /// How hard it thinks when nobody says.
    pub default_effort: Option<Effort>,
    /// The efforts that it knows, least first.
    #[serde(default)]
    pub efforts: Vec<Effort>,
    /// Whether it has a faster, dearer mode.
    #[serde(default)]
    pub fast: bool,
    /// Whether the place of its inference can be chosen.
    #[serde(default)]
    pub inference_geo: bool,
    /// Whether it takes messages of the role `system` inside a conversation.
    #[serde(default)]
    pub mid_conversation_system: bool,
    /// Whether it sees images.
    #[serde(default = "yes")]
    pub images: bool,
    /// Whether it reads PDF documents.
    #[serde(default = "yes")]
    pub documents: bool,
    /// Its prices, when they are known.
    pub prices: Option<Prices>,
    /// Its prices for long prompts, where they differ.
    pub long_prompt: Option<LongPrompt>,
    /// The price of the fast mode in percent of the normal one, when it is known.
    pub fast_percent: Option<u64>,
    /// The price of inference that stays in the US in percent of the normal one, when known.
    pub us_percent: Option<u64>,
    /// What is told of it to people.
    #[serde(default)]
    pub about: About,
}

/// What is told of a model to people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// Its name.
    pub name: Option<String>,
    /// The line that it belongs to (`opus`).
    pub line: Option<String>,
    /// When it was released, in seconds since 1970. The table has days, as `"2026-07-24"`.
    #[serde(deserialize_with = "day")]
    pub released: Option<i64>,
    /// Where it stands.
    pub lifecycle: Lifecycle,
    /// When it was last deprecated, as [`About::released`].
    #[serde(deserialize_with = "day")]
    pub deprecated: Option<i64>,
    /// When it is to retire, as [`About::released`].
    #[serde(deserialize_with = "day")]
    pub retires: Option<i64>,
}

/// Where a model stands between its release and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// It is offered.
    #[default]
    Active,
    /// It still answers, and will not for ever.
    Deprecated,
    /// It answers no more.
    Retired,
}

impl Lifecycle {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
        }
    }
}

/// Prices in nano-dollars per token, which is thousandths of dollars per million tokens. The
/// table has them as decimal texts in dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the price of the count of that name in `Usage`")]
pub struct Prices {
    #[serde(deserialize_with = "dollars_per_million")]
    pub input: u64,
    #[serde(deserialize_with = "dollars_per_million")]
    pub output: u64,
    #[serde(deserialize_with = "dollars_per_million")]
    pub cache_read: u64,
    #[serde(deserialize_with = "dollars_per_million")]
    pub cache_write_5m: u64,
    #[serde(deserialize_with = "dollars_per_million")]
    pub cache_write_1h: u64,
}

/// Other prices for calls whose prompt, caches included, is longer than a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrompt {
    /// The longest prompt at normal prices, in tokens.
    pub over: u64,
    /// The prices of a longer one.
    pub prices: Prices,
}

/// A table of models could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the table of models can't be read: {0}")]
pub struct CatalogError(#[from] toml::de::Error);

/// All known models.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: BTreeMap<String, Arc<ModelSpec>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    models: BTreeMap<String, Arc<ModelSpec>>,
}

impl Catalog {
    /// The table that this version was built with.
    #[must_use]
    pub fn built_in() -> Self {
        // The text is part of the program and a test reads it, so it always parses.
        static TABLE: LazyLock<Catalog> =
            LazyLock::new(|| Catalog::parse(BUILT_IN).unwrap_or_else(|_| Catalog::empty()));
        TABLE.clone()
    }

    /// A table without models, so that all of them get the stated defaults.
    #[must_use]
    pub fn empty() -> Self {
        Self { models: BTreeMap::new() }
    }

    /// Reads a table of its own, in the form of `models.toml`.
    ///
    /// # Errors
    /// When the text is no TOML, or has a key or a value that the table does not know.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let table: Table = toml::from_str(text)?;
        Ok(Self { models: table.models })
    }

    /// The built-in table with an operator's entries over it. An entry replaces the built-in one
    /// of the same name whole.
    ///
    /// # Errors
    /// As [`Catalog::parse`].
    pub fn with_overrides(text: &str) -> Result<Self, CatalogError> {
        let mut catalog = Self::built_in();
        catalog.models.extend(Self::parse(text)?.models);
        Ok(catalog)
    }

    /// What the table says of a model. A name with a date at its end
    /// (`claude-haiku-4-5-20251001`, `gpt-5.5-2026-04-23`) means the entry without it.
    #[must_use]
    pub fn spec(&self, model: &str) -> Option<Arc<ModelSpec>> {
        let spec = self.models.get(model).or_else(|| self.models.get(undated(model)?));
        spec.map(Arc::clone)
    }

    /// The names in the table, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }
}

/// A model's name without the date (`-YYYYMMDD` or `-YYYY-MM-DD`) at its end.
pub(crate) fn undated(model: &str) -> Option<&str> {
    let digits = |part: &str, count: usize| {
        part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (name, last) = model.rsplit_once('-')?;
    if digits(last, 8) {
        return Some(name);
    }
    let (name, month) = name.rsplit_once('-')?;
    let (name, year) = name.rsplit_once('-')?;
    (digits(year, 4) && digits(month, 2) && digits(last, 2)).then_some(name)
}

impl ModelSpec {
    /// What is assumed of a model that nobody has described: a window of 200,000 tokens, answers
    /// of a length that its provider decides, no thinking parameter, no price. Its switches are
    /// passed on as they are asked for, so that the provider decides and says so; those that the
    /// wire has no words for it does not have.
    #[must_use]
    pub fn unknown(wire: WireKind) -> Self {
        Self {
            window: 200_000,
            max_output: None,
            thinking: Thinking::None,
            thinking_bound: false,
            default_effort: None,
            efforts: vec![Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max],
            fast: wire.has_fast_mode(),
            inference_geo: wire.has_regions(),
            mid_conversation_system: wire.takes_privileged_messages(),
            images: true,
            documents: true,
            prices: None,
            long_prompt: None,
            fast_percent: None,
            us_percent: None,
            about: About::default(),
        }
    }

    /// The effort itself if the model knows it, else the next lower one that it knows, else its
    /// lowest; `None` if it knows no effort.
    #[must_use]
    pub fn nearest_effort(&self, wanted: Effort) -> Option<Effort> {
        let lower = self.efforts.iter().copied().filter(|effort| *effort <= wanted).max();
        lower.or_else(|| self.efforts.iter().copied().min())
    }

    /// What one call cost at normal speed, in nano-dollars; `None` when the price is not known.
    /// Meant for single calls: a sum of several can look like one long prompt.
    #[must_use]
    pub fn cost_nanodollars(&self, usage: &Usage) -> Option<u64> {
        self.cost_nanodollars_with(usage, false, None)
    }

    /// What one call cost, in nano-dollars, with the fast mode and the region that it asked for.
    /// `None` when a part of the price is not known.
    #[must_use]
    pub fn cost_nanodollars_with(
        &self,
        usage: &Usage,
        fast: bool,
        inference_geo: Option<&str>,
    ) -> Option<u64> {
        let prompt = usage.window_tokens().saturating_sub(usage.output_tokens);
        let prices = match &self.long_prompt {
            Some(long) if prompt > long.over => long.prices,
            _ => self.prices?,
        };
        let mut cost: u128 = [
            (usage.input_tokens, prices.input),
            (usage.output_tokens, prices.output),
            (usage.cache_read_input_tokens, prices.cache_read),
            (usage.cache_write_5m_tokens, prices.cache_write_5m),
            (usage.cache_write_1h_tokens, prices.cache_write_1h),
        ]
        .into_iter()
        .map(|(tokens, price)| u128::from(tokens) * u128::from(price))
        .sum();
        if fast {
            cost = cost * u128::from(self.fast_percent?) / 100;
        }
        if inference_geo == Some("us") {
            cost = cost * u128::from(self.us_percent?) / 100;
        }
        u64::try_from(cost).ok()
    }
}

fn yes() -> bool {
    true
}

/// Reads `"2026-07-24"` as the first second of that day in UTC.
fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let midnight = |day: jiff::civil::Date| {
        jiff::tz::Offset::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight()))
    };
    let at = text.parse().and_then(midnight);
    at.map(|at| Some(at.as_second())).map_err(serde::de::Error::custom)
}

/// Reads `"6.25"` dollars per million tokens as 6,250 nano-dollars per token.
fn dollars_per_million<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    nanodollars(&text).ok_or_else(|| serde::de::Error::custom(Price(&text)))
}

struct Price<'a>(&'a str);

impl fmt::Display for Price<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is not a price such as \"6.25\" with at most 3 decimals", self.0)
    }
}

fn nanodollars(text: &str) -> Option<u64> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}
