//! The search among the tools of MCP servers: words of the query against names, descriptions and
//! parameters, ranked as texts are (BM25). Pure, and the same for the same tools and query.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Found, Owner, Tool, wording};
use crate::prompt;

/// How many tools one search puts before the model.
const MOST: usize = 8;
/// How much of a query is read, in words.
const MOST_WORDS: usize = 64;
/// How much more a word in a name says than one in a description.
const NAME_WEIGHT: f32 = 4.0;
/// The usual constants of BM25.
const K: f64 = 1.2;
const B: f64 = 0.75;

#[derive(Deserialize)]
struct Input {
    query: String,
    #[serde(default)]
    server: Option<String>,
}

/// The words of all tools, so that a search need not read them again.
#[derive(Debug)]
pub(super) struct Index {
    /// By word: the places of the tools that have it, in their order, and how much it weighs there.
    holders: HashMap<Box<str>, Vec<(usize, f32)>>,
    /// How long the text of each tool is, in words.
    lengths: Vec<f32>,
}

impl Index {
    pub(super) fn of(tools: &[Tool]) -> Self {
        let mut index = Self { holders: HashMap::new(), lengths: Vec::with_capacity(tools.len()) };
        for tool in tools {
            index.lengths.push(0.0);
            if let Owner::Mcp { server, tool, .. } = &tool.owner {
                index.add(tool, NAME_WEIGHT);
                index.add(server, 1.0);
            }
            index.add(&tool.spec.description, 1.0);
            for name in parameters(&tool.spec.input_schema) {
                index.add(&name, 1.0);
            }
        }
        index
    }

    /// Adds a text of the last tool. A word in its name weighs more.
    fn add(&mut self, text: &str, weight: f32) {
        let Some(place) = self.lengths.len().checked_sub(1) else { return };
        words(text, &mut |word| {
            self.lengths[place] += 1.0;
            let Some(holders) = self.holders.get_mut(word) else {
                self.holders.insert(word.into(), vec![(place, weight)]);
                return;
            };
            match holders.last_mut() {
                Some((last, all)) if *last == place => *all += weight,
                _ => holders.push((place, weight)),
            }
        });
    }
}

/// Searches tools; `index` is that of all of them.
pub(super) fn find(tools: &[Tool], index: &Index, input: &RawValue) -> Found {
    let Ok(Input { query, server }) = serde_json::from_str(input.get()) else {
        return failed(prompt::FIND_TOOLS_INPUT.to_owned());
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tool in tools {
        *counts.entry(server_of(tool)).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().collect();
    let is_wanted = |tool: &Tool| server.as_deref().is_none_or(|server| server_of(tool) == server);
    let wanted: Vec<bool> = tools.iter().map(is_wanted).collect();
    if !wanted.contains(&true) {
        return failed(prompt::no_such_server(&counts));
    }
    let found = rank(tools, index, &wanted, &query);
    if found.is_empty() {
        return Found { names: Vec::new(), text: prompt::nothing_found(&counts), is_error: false };
    }
    let lines: Vec<_> = found
        .iter()
        .map(|tool| format!("- {}: {}", tool.name, wording::one_line(&tool.spec.description)))
        .collect();
    Found {
        text: format!("{}\n{}", prompt::FOUND, lines.join("\n")),
        names: found.iter().map(|tool| Arc::clone(&tool.name)).collect(),
        is_error: false,
    }
}

fn failed(text: String) -> Found {
    Found { names: Vec::new(), text, is_error: true }
}

fn server_of(tool: &Tool) -> &str {
    match &tool.owner {
        Owner::Mcp { server, .. } => server,
        Owner::BuiltIn(_) | Owner::Client => "",
    }
}

/// The wanted tools that fit best, the best first. Of those that fit as well, the first listed is first.
fn rank<'a>(tools: &'a [Tool], index: &Index, wanted: &[bool], query: &str) -> Vec<&'a Tool> {
    let lengths = index.lengths.iter().zip(wanted).filter(|(_, wanted)| **wanted);
    #[expect(clippy::cast_precision_loss, reason = "a count of tools, far below 2^52")]
    let count = lengths.clone().count() as f64;
    let length = lengths.map(|(length, _)| f64::from(*length)).sum::<f64>() / count;
    let mut scores = vec![0.0; tools.len()];
    for word in words_of_query(query) {
        let holders = index.holders.get(&*word).map_or(&[][..], Vec::as_slice);
        let holders = holders.iter().filter(|(place, _)| wanted[*place]);
        #[expect(clippy::cast_precision_loss, reason = "a count of tools, far below 2^52")]
        let having = holders.clone().count() as f64;
        let rarity = (1.0 + (count - having + 0.5) / (having + 0.5)).ln();
        for (place, weight) in holders {
            let weight = f64::from(*weight);
            let norm = K * (1.0 - B + B * f64::from(index.lengths[*place]) / length.max(1.0));
            scores[*place] += rarity * weight * (K + 1.0) / (weight + norm);
        }
    }
    let exact = query.trim();
    for (tool, score) in tools.iter().zip(&mut scores) {
        let own = matches!(&tool.owner, Owner::Mcp { tool, .. } if **tool == *exact);
        if own || *tool.name == *exact {
            *score = f64::INFINITY;
        }
    }
    let of_wanted = scores.into_iter().enumerate().filter(|(place, _)| wanted[*place]);
    let mut scored: Vec<(usize, f64)> = of_wanted.filter(|(_, score)| *score > 0.0).collect();
    scored.sort_by(|(first, a), (second, b)| b.total_cmp(a).then(first.cmp(second)));
    scored.into_iter().take(MOST).map(|(place, _)| &tools[place]).collect()
}

/// The words of a query, none twice, in an order that does not depend on how they were put.
fn words_of_query(query: &str) -> Vec<String> {
    let mut all = Vec::new();
    words(query, &mut |word| all.push(word.to_owned()));
    all.truncate(MOST_WORDS);
    all.sort_unstable();
    all.dedup();
    all
}

/// The names of an input's members.
fn parameters(schema: &RawValue) -> Vec<String> {
    #[derive(Deserialize)]
    struct Schema {
        #[serde(default)]
        properties: BTreeMap<String, IgnoredAny>,
    }
    let schema: Option<Schema> = serde_json::from_str(schema.get()).ok();
    schema.map_or_else(Vec::new, |schema| schema.properties.into_keys().collect())
}

/// Takes a text apart into its words, in small letters and without a plural's s. `createIssue` and
/// `create_issue` are two words.
fn words(text: &str, take: &mut dyn FnMut(&str)) {
    let mut word = String::new();
    let mut was_small = false;
    let mut end = |word: &mut String| {
        if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
            word.pop();
        }
        if !word.is_empty() {
            take(word);
            word.clear();
        }
    };
    for letter in text.chars() {
        if !letter.is_alphanumeric() || (was_small && letter.is_uppercase()) {
            end(&mut word);
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        was_small = letter.is_lowercase() || letter.is_numeric();
    }
    end(&mut word);
}
