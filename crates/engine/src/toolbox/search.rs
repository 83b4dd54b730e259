//! The search among the tools of MCP servers: words of the query against names, descriptions and
//! parameters, ranked as texts are (BM25). Pure, and the same for the same tools and query.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Found, Owner, Tool, wording};
use crate::prompt;

/// How many tools one search puts before the model.
const MOST: usize = 8;
/// How much of a query is read, in words.
const MOST_WORDS: usize = 64;
/// How much more a word in a name says than one in a description.
const NAME_WEIGHT: f64 = 4.0;
/// The usual constants of BM25.
const K: f64 = 1.2;
const B: f64 = 0.75;

#[derive(Deserialize)]
struct Input {
    query: String,
    #[serde(default)]
    server: Option<String>,
}

pub(super) fn find(tools: &[Tool], input: &RawValue) -> Found {
    let Ok(Input { query, server }) = serde_json::from_str(input.get()) else {
        return failed(prompt::FIND_TOOLS_INPUT.to_owned());
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tool in tools {
        *counts.entry(server_of(tool)).or_default() += 1;
    }
    let wanted = |tool: &&Tool| server.as_deref().is_none_or(|server| server_of(tool) == server);
    let tools: Vec<&Tool> = tools.iter().filter(wanted).collect();
    let counts: Vec<_> = counts.into_iter().collect();
    if tools.is_empty() {
        return failed(prompt::no_such_server(&counts));
    }
    let found = rank(&tools, &query);
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

/// The tools that fit best, the best first. Of those that fit as well, the first listed is first.
fn rank<'a>(tools: &[&'a Tool], query: &str) -> Vec<&'a Tool> {
    let mut wanted = words(query);
    wanted.truncate(MOST_WORDS);
    wanted.sort_unstable();
    wanted.dedup();
    let texts: Vec<Text<'_>> = tools.iter().map(|tool| Text::of(tool, &wanted)).collect();
    #[expect(clippy::cast_precision_loss, reason = "counts of words, far below 2^52")]
    let (count, length) = (
        tools.len() as f64,
        texts.iter().map(|text| text.length).sum::<f64>() / tools.len() as f64,
    );
    let rarity: HashMap<&str, f64> = wanted
        .iter()
        .map(|word| {
            #[expect(clippy::cast_precision_loss, reason = "a count of tools, far below 2^52")]
            let holders =
                texts.iter().filter(|text| text.weights.contains_key(&**word)).count() as f64;
            (&**word, (1.0 + (count - holders + 0.5) / (holders + 0.5)).ln())
        })
        .collect();
    let score = |text: &Text<'_>| -> f64 {
        let of_word = |word: &String| {
            let weight = text.weights.get(&**word).copied().unwrap_or_default();
            let norm = K * (1.0 - B + B * text.length / length.max(1.0));
            rarity[&**word] * weight * (K + 1.0) / (weight + norm)
        };
        wanted.iter().map(of_word).sum()
    };
    let exact = query.trim();
    let mut scored: Vec<(f64, usize)> = texts
        .iter()
        .enumerate()
        .map(|(place, text)| {
            let tool = tools[place];
            let own = matches!(&tool.owner, Owner::Mcp { tool, .. } if **tool == *exact);
            let named = own || *tool.name == *exact;
            (if named { f64::INFINITY } else { score(text) }, place)
        })
        .filter(|(score, _)| *score > 0.0)
        .collect();
    scored.sort_by(|(a, first), (b, second)| b.total_cmp(a).then(first.cmp(second)));
    scored.into_iter().take(MOST).map(|(_, place)| tools[place]).collect()
}

/// What a search knows of a tool.
struct Text<'a> {
    /// How often a word of the query stands in it; one in the name counts more.
    weights: HashMap<&'a str, f64>,
    /// Its length in words.
    length: f64,
}

impl<'a> Text<'a> {
    fn of(tool: &Tool, wanted: &'a [String]) -> Self {
        let mut text = Self { weights: HashMap::new(), length: 0.0 };
        if let Owner::Mcp { server, tool, .. } = &tool.owner {
            text.add(tool, NAME_WEIGHT, wanted);
            text.add(server, 1.0, wanted);
        }
        text.add(&tool.spec.description, 1.0, wanted);
        for name in parameters(&tool.spec.input_schema) {
            text.add(&name, 1.0, wanted);
        }
        text
    }

    fn add(&mut self, text: &str, weight: f64, wanted: &'a [String]) {
        for word in words(text) {
            self.length += 1.0;
            if let Ok(place) = wanted.binary_search(&word) {
                *self.weights.entry(&wanted[place]).or_default() += weight;
            }
        }
    }
}

/// The names of an input's members.
fn parameters(schema: &RawValue) -> Vec<String> {
    #[derive(Deserialize)]
    struct Schema {
        #[serde(default)]
        properties: Map<String, Value>,
    }
    let schema: Option<Schema> = serde_json::from_str(schema.get()).ok();
    schema.map_or_else(Vec::new, |schema| schema.properties.into_iter().map(|one| one.0).collect())
}

/// The words of a text, in small letters and without a plural's s. `createIssue` and `create_issue`
/// are two words.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_small = false;
    let mut end = |word: &mut String| {
        if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
            word.pop();
        }
        if !word.is_empty() {
            words.push(std::mem::take(word));
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
    words
}
