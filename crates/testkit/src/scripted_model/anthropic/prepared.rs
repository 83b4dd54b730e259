//! A reply made ready for this wire: its frames are built when the script is set, so that playing costs little.
//!
//! Holds the way from steps to bytes and pauses. Never chooses a reply and never looks at a request but for its echo.

use std::time::Duration;

use serde_json::{Value, json};

use super::words;
use crate::scripted_model::failure::lay_over;
use crate::scripted_model::frames::{Frame, Reel, chunks, event};
use crate::scripted_model::playable::{Playable, derived};
use crate::scripted_model::prompt_cache::InputUsage;
use crate::scripted_model::script::Step;
use crate::scripted_model::wire::Cues;

/// Everything of a reply that does not depend on the request.
#[derive(Default)]
pub(in crate::scripted_model) struct Prepared {
    pieces: Vec<Piece>,
    blocks: Vec<Block>,
    /// Bytes of what the model says, but for an echo.
    pub(in crate::scripted_model) output_bytes: usize,
    /// How many calls need a fresh id.
    pub(in crate::scripted_model) tools_to_name: usize,
    pub(in crate::scripted_model) echoes: bool,
}

enum Piece {
    Text(String),
    Paced { index: usize, what: Paced, chunk: Option<usize>, pause: Option<Duration> },
    Pause(Duration),
    Cut,
    Stall,
}

// The blocks whose bytes depend on the request.
enum Paced {
    Tool { name: String, input: String, nth: usize },
    Echo,
}

enum Block {
    Ready(Value),
    Tool { name: String, input: Value, nth: usize },
    Echo,
}

impl Prepared {
    pub(in crate::scripted_model) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut prepared = Self::default();
        for step in steps {
            prepared.add(step);
        }
        prepared
    }

    /// All pauses together, in a reply that is not streamed.
    pub(in crate::scripted_model) fn pauses(&self) -> Duration {
        let mut total = Duration::ZERO;
        for piece in &self.pieces {
            match piece {
                Piece::Pause(pause) => total += *pause,
                Piece::Paced { pause: Some(pause), .. } => total += *pause,
                _ => {}
            }
        }
        total
    }

    fn add(&mut self, step: Step) {
        let index = self.blocks.len();
        match step {
            Step::Text { text, chunk, pause_ms } => {
                self.output_bytes += text.len();
                self.literal(words::block_start(index, &json!({"type": "text", "text": ""})));
                for part in chunks(&text, chunk) {
                    self.delta(index, json!({"type": "text_delta", "text": part}), pause_ms);
                }
                self.literal(words::block_stop(index));
                self.blocks.push(Block::Ready(json!({"type": "text", "text": text})));
            }
            Step::Thinking { thinking, signature, chunk, pause_ms } => {
                self.output_bytes += thinking.len();
                let signature = signature.unwrap_or_else(|| format!("sig_{}", derived(&thinking)));
                let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.literal(words::block_start(index, &empty));
                for part in chunks(&thinking, chunk) {
                    self.delta(
                        index,
                        json!({"type": "thinking_delta", "thinking": part}),
                        pause_ms,
                    );
                }
                self.delta(index, json!({"type": "signature_delta", "signature": signature}), None);
                self.literal(words::block_stop(index));
                let block =
                    json!({"type": "thinking", "thinking": thinking, "signature": signature});
                self.blocks.push(Block::Ready(block));
            }
            Step::RedactedThinking(data) => {
                self.whole_block(json!({"type": "redacted_thinking", "data": data}), &[])
            }
            Step::Block { block, deltas } => self.whole_block(block, &deltas),
            Step::ToolUse { tool_use, pause_ms } => {
                let input = Value::Object(tool_use.input);
                let text = input.to_string();
                self.output_bytes += tool_use.name.len() + text.len();
                let pause = pause_ms.map(Duration::from_millis);
                if let Some(id) = tool_use.id {
                    let block =
                        json!({"type": "tool_use", "id": id, "name": tool_use.name, "input": {}});
                    self.literal(words::block_start(index, &block));
                    for part in input_chunks(&text, tool_use.chunk) {
                        self.delta(
                            index,
                            json!({"type": "input_json_delta", "partial_json": part}),
                            pause_ms,
                        );
                    }
                    self.literal(words::block_stop(index));
                    let block = json!({"type": "tool_use", "id": id, "name": tool_use.name, "input": input});
                    self.blocks.push(Block::Ready(block));
                } else {
                    let nth = self.tools_to_name;
                    self.tools_to_name += 1;
                    let what = Paced::Tool { name: tool_use.name.clone(), input: text, nth };
                    self.pieces.push(Piece::Paced { index, what, chunk: tool_use.chunk, pause });
                    self.blocks.push(Block::Tool { name: tool_use.name, input, nth });
                }
            }
            Step::Echo { chunk, pause_ms } => {
                self.echoes = true;
                let pause = pause_ms.map(Duration::from_millis);
                self.pieces.push(Piece::Paced { index, what: Paced::Echo, chunk, pause });
                self.blocks.push(Block::Echo);
            }
            Step::Pause(milliseconds) => {
                self.pieces.push(Piece::Pause(Duration::from_millis(milliseconds)))
            }
            Step::Raw(data) => {
                let name = data["type"].as_str().unwrap_or_default().to_owned();
                self.literal(event(&name, &data));
            }
            Step::Ping => self.literal(words::ping()),
            Step::Error { kind, message } => {
                let body = json!({"type": "error", "error": {"type": kind, "message": message}});
                self.literal(event("error", &body));
            }
            Step::Cut => self.pieces.push(Piece::Cut),
            Step::Stall => self.pieces.push(Piece::Stall),
        }
    }

    fn whole_block(&mut self, block: Value, deltas: &[Value]) {
        let index = self.blocks.len();
        self.output_bytes += block.to_string().len();
        self.literal(words::block_start(index, &block));
        for delta in deltas {
            self.output_bytes += delta.to_string().len();
            self.delta(index, delta.clone(), None);
        }
        self.literal(words::block_stop(index));
        self.blocks.push(Block::Ready(accumulated(block, deltas)));
    }

    fn delta(&mut self, index: usize, delta: Value, pause_ms: Option<u64>) {
        if let Some(milliseconds) = pause_ms {
            self.pieces.push(Piece::Pause(Duration::from_millis(milliseconds)));
        }
        self.literal(words::block_delta(index, &delta));
    }

    fn literal(&mut self, text: String) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => self.pieces.push(Piece::Text(text)),
        }
    }

    /// The blocks a client has when it has read everything.
    pub(super) fn content(&self, cues: &Cues<'_>) -> Vec<Value> {
        let block = |block: &Block| match block {
            Block::Ready(value) => value.clone(),
            Block::Tool { name, input, nth } => {
                json!({"type": "tool_use", "id": cues.tool_ids[*nth], "name": name, "input": input})
            }
            Block::Echo => json!({"type": "text", "text": cues.echo}),
        };
        self.blocks.iter().map(block).collect()
    }

    /// The answer to a request without `stream`.
    pub(super) fn message(&self, playable: &Playable, cues: &Cues<'_>) -> Value {
        let mut usage = start_usage(&cues.input);
        overlay(&mut usage, playable, playable.output_tokens(cues));
        json!({
            "id": cues.message_id, "type": "message", "role": "assistant", "model": cues.model,
            "content": self.content(cues), "stop_reason": playable.stop_reason(),
            "stop_sequence": playable.reply.stop_sequence, "stop_details": playable.reply.stop_details,
            "usage": usage,
        })
    }

    /// The answer to a request with `stream`.
    pub(super) fn frames(&self, playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
        let mut reel = Reel::default();
        let mut usage = start_usage(&cues.input);
        overlay(&mut usage, playable, 1);
        usage["output_tokens"] = json!(1);
        let message = json!({
            "id": cues.message_id, "type": "message", "role": "assistant", "model": cues.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "stop_details": null, "usage": usage,
        });
        reel.push(&event("message_start", &json!({"type": "message_start", "message": message})));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => reel.push(text),
                Piece::Paced { index, what, chunk, pause } => {
                    self.play(&mut reel, *index, what, *chunk, *pause, cues)
                }
                Piece::Pause(pause) => reel.frame(Frame::Pause(*pause)),
                Piece::Cut => reel.frame(Frame::Cut),
                Piece::Stall => reel.frame(Frame::Stall),
            }
        }
        if playable.ending().is_none() {
            let mut usage = json!({
                "input_tokens": cues.input.uncached, "cache_creation_input_tokens": cues.input.created(),
                "cache_read_input_tokens": cues.input.read,
            });
            overlay(&mut usage, playable, playable.output_tokens(cues));
            let delta = json!({
                "stop_reason": playable.stop_reason(), "stop_sequence": playable.reply.stop_sequence,
                "stop_details": playable.reply.stop_details,
            });
            let end = json!({"type": "message_delta", "delta": delta, "usage": usage});
            reel.push(&event("message_delta", &end));
            reel.push(&event("message_stop", &json!({"type": "message_stop"})));
        }
        reel.finish()
    }

    fn play(
        &self,
        reel: &mut Reel,
        index: usize,
        what: &Paced,
        chunk: Option<usize>,
        pause: Option<Duration>,
        cues: &Cues<'_>,
    ) {
        let (block, kind, field, parts) = match what {
            Paced::Tool { name, input, nth } => {
                let block = json!({"type": "tool_use", "id": cues.tool_ids[*nth], "name": name, "input": {}});
                (block, "input_json_delta", "partial_json", input_chunks(input, chunk))
            }
            Paced::Echo => (
                json!({"type": "text", "text": ""}),
                "text_delta",
                "text",
                chunks(&cues.echo, chunk),
            ),
        };
        reel.push(&words::block_start(index, &block));
        for part in parts {
            if let Some(pause) = pause {
                reel.frame(Frame::Pause(pause));
            }
            reel.push(&words::block_delta(index, &json!({"type": kind, field: part})));
        }
        reel.push(&words::block_stop(index));
    }
}

fn overlay(usage: &mut Value, playable: &Playable, output_tokens: u64) {
    usage["output_tokens"] = json!(output_tokens);
    lay_over(usage, &playable.reply.usage);
}

fn start_usage(input: &InputUsage) -> Value {
    json!({
        "input_tokens": input.uncached, "cache_creation_input_tokens": input.created(),
        "cache_read_input_tokens": input.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": input.created_5m, "ephemeral_1h_input_tokens": input.created_1h,
        },
        "service_tier": "standard",
    })
}

// The API opens a tool's input with an empty piece, and sends nothing else for an empty input.
fn input_chunks(text: &str, size: Option<usize>) -> Vec<String> {
    let mut parts = vec![String::new()];
    if text != "{}" {
        parts.extend(chunks(text, size));
    }
    parts
}

/// A block after its deltas, as the official SDK puts them together.
fn accumulated(mut block: Value, deltas: &[Value]) -> Value {
    let mut input = String::new();
    for delta in deltas {
        match delta["type"].as_str() {
            Some("text_delta") => append(&mut block, "text", &delta["text"]),
            Some("thinking_delta") => append(&mut block, "thinking", &delta["thinking"]),
            Some("signature_delta") => block["signature"] = delta["signature"].clone(),
            Some("compaction_delta") => block["content"] = delta["content"].clone(),
            Some("input_json_delta") => {
                input.push_str(delta["partial_json"].as_str().unwrap_or_default())
            }
            Some("citations_delta") => match block["citations"].as_array_mut() {
                Some(citations) => citations.push(delta["citation"].clone()),
                None => block["citations"] = json!([delta["citation"]]),
            },
            _ => {}
        }
    }
    if let Ok(input) = serde_json::from_str(&input) {
        block["input"] = input;
    }
    block
}

fn append(block: &mut Value, field: &str, more: &Value) {
    let text = format!(
        "{}{}",
        block[field].as_str().unwrap_or_default(),
        more.as_str().unwrap_or_default()
    );
    block[field] = Value::String(text);
}
