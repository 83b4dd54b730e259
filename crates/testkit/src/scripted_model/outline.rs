//! A request as a chain of hashed blocks: tools, system, messages, with cache markers noted and stripped.
//!
//! Holds what conversations and prompt caching both compare. Never keeps a block's text.

use std::hash::{DefaultHasher, Hasher};
use std::io::Write;

use serde_json::Value;

/// A request's blocks, in the order in which the API puts them before the model.
pub(super) struct Outline {
    pub(super) tools: Vec<Block>,
    pub(super) system: Vec<Block>,
    pub(super) messages: Vec<Block>,
    /// Whether an answer of the model is among the messages.
    pub(super) has_answer: bool,
    /// How a place among the messages is named: by message, and by block inside of it.
    pub(super) place: fn(usize, usize) -> String,
}

#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Of the role and the JSON text without cache markers.
    pub(super) hash: u64,
    pub(super) bytes: usize,
    /// Index of the message; 0 for tools and system.
    pub(super) message: usize,
    pub(super) marker: Option<Lifetime>,
}

/// How long a cached prefix lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    FiveMinutes,
    OneHour,
}

impl Outline {
    /// All blocks, in the API's order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.tools.iter().chain(&self.system).chain(&self.messages)
    }

    /// What tells conversations apart: tools, system and the first message.
    pub(super) fn conversation(&self) -> u64 {
        let begin = self.messages.first().map(|block| block.message);
        let first = self.messages.iter().take_while(|block| Some(block.message) == begin);
        self.tools
            .iter()
            .chain(&self.system)
            .chain(first)
            .fold(0, |before, block| link(before, block.hash))
    }
}

/// The hash of a chain that is one block longer.
pub(super) fn link(before: u64, block: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(before);
    hasher.write_u64(block);
    hasher.finish()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Block {
    pub(super) fn of(block: &Value, role: &str, message: usize) -> Self {
        let mut sink = HashSink::default();
        // The sink takes everything.
        let _ = write_unmarked(&mut sink, block);
        let inner = list(&block["content"]).iter().find_map(lifetime);
        let bytes = sink.bytes;
        sink.hasher.write(role.as_bytes());
        Self { hash: sink.hasher.finish(), bytes, message, marker: lifetime(block).or(inner) }
    }
}

/// What a block's marker asks for.
pub(super) fn lifetime(block: &Value) -> Option<Lifetime> {
    let marker = block["cache_control"].as_object()?;
    let hour = marker.get("ttl").is_some_and(|ttl| ttl == "1h");
    Some(if hour { Lifetime::OneHour } else { Lifetime::FiveMinutes })
}

#[derive(Default)]
struct HashSink {
    hasher: DefaultHasher,
    bytes: usize,
}

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.write(bytes);
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// Markers stand on a block or on a block inside its content; a `cache_control` in a tool's input is just input.
fn write_unmarked(into: &mut impl Write, block: &Value) -> std::io::Result<()> {
    let Value::Object(fields) = block else {
        return Ok(serde_json::to_writer(into, block)?);
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("cache_control", _) => {}
            ("content", Value::Array(inner)) => {
                into.write_all(b"\"content\":[")?;
                for block in inner {
                    write_unmarked(into, block)?;
                }
                into.write_all(b"]")?;
            }
            _ => {
                serde_json::to_writer(&mut *into, name)?;
                into.write_all(b":")?;
                serde_json::to_writer(&mut *into, value)?;
                into.write_all(b",")?;
            }
        }
    }
    Ok(())
}
