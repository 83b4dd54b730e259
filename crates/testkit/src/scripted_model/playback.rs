//! A reply made ready to be sent: its frames are built when the script is set, so that playing costs little.
//!
//! Holds the way from steps to bytes and pauses. Never chooses a reply and never looks at a request but for its echo.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::prompt_cache::InputUsage;
use super::script::{Reply, Step};
use super::wire;

/// What is sent, in order.
#[derive(Debug)]
pub(super) enum Frame {
    Data(Bytes),
    Pause(Duration),
    Stall,
    Cut,
}

/// A reply with everything precomputed that does not depend on the request.
pub(super) struct Playable {
    pub(super) reply: Reply,
    pub(super) used: u64,
    pieces: Vec<Piece>,
    blocks: Vec<Block>,
    output_bytes: usize,
    tools_to_name: usize,
    pub(super) echoes: bool,
    stop_reason: String,
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

/// What one playing of a reply needs to know.
pub(super) struct Cues<'a> {
    pub(super) message_id: String,
    pub(super) model: &'a str,
    pub(super) echo: String,
    /// As many as [`Playable::tools_to_name`].
    pub(super) tool_ids: Vec<String>,
    pub(super) input: InputUsage,
}

impl Playable {
    pub(super) fn new(reply: Reply) -> Self {
        let has_tool = reply.steps.iter().any(|step| matches!(step, Step::ToolUse { .. }));
        let default_stop = if has_tool { "tool_use" } else { "end_turn" };
        let stop_reason = reply.stop_reason.clone().unwrap_or_else(|| default_stop.to_owned());
        let steps = reply.steps.clone();
        let mut playable = Self {
            reply,
            used: 0,
            pieces: Vec::new(),
            blocks: Vec::new(),
            output_bytes: 0,
            tools_to_name: 0,
            echoes: false,
            stop_reason,
        };
        for step in steps {
            playable.add(step);
        }
        playable
    }

    pub(super) fn tools_to_name(&self) -> usize {
        self.tools_to_name
    }

    pub(super) fn stop_reason(&self) -> &str {
        &self.stop_reason
    }

    /// Whether a client that stays gets a whole message.
    pub(super) fn completes(&self) -> bool {
        let broken = |step: &Step| matches!(step, Step::Cut | Step::Stall | Step::Error { .. });
        self.reply.status == 200
            && self.reply.cut_after_bytes.is_none()
            && !self.reply.steps.iter().any(broken)
    }

    /// The step that keeps it from being a whole message, if it is not to be streamed.
    pub(super) fn ending(&self) -> Option<&Step> {
        let broken = |step: &&Step| matches!(step, Step::Cut | Step::Stall | Step::Error { .. });
        self.reply.steps.iter().find(broken)
    }

    /// All pauses together, in a reply that is not streamed.
    pub(super) fn pauses(&self) -> Duration {
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
                self.literal(wire::block_start(index, &json!({"type": "text", "text": ""})));
                for part in chunks(&text, chunk) {
                    self.delta(index, json!({"type": "text_delta", "text": part}), pause_ms);
                }
                self.literal(wire::block_stop(index));
                self.blocks.push(Block::Ready(json!({"type": "text", "text": text})));
            }
            Step::Thinking { thinking, signature, chunk, pause_ms } => {
                self.output_bytes += thinking.len();
                let signature = signature.unwrap_or_else(|| derived_signature(&thinking));
                let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.literal(wire::block_start(index, &empty));
                for part in chunks(&thinking, chunk) {
                    self.delta(
                        index,
                        json!({"type": "thinking_delta", "thinking": part}),
                        pause_ms,
                    );
                }
                self.delta(index, json!({"type": "signature_delta", "signature": signature}), None);
                self.literal(wire::block_stop(index));
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
                    self.literal(wire::block_start(index, &block));
                    for part in input_chunks(&text, tool_use.chunk) {
                        self.delta(
                            index,
                            json!({"type": "input_json_delta", "partial_json": part}),
                            pause_ms,
                        );
                    }
                    self.literal(wire::block_stop(index));
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
            Step::Ping => self.literal(wire::ping()),
            Step::Error { kind, message } => {
                let body = json!({"type": "error", "error": {"type": kind, "message": message}});
                self.literal(wire::event("error", &body));
            }
            Step::Cut => self.pieces.push(Piece::Cut),
            Step::Stall => self.pieces.push(Piece::Stall),
        }
    }

    fn whole_block(&mut self, block: Value, deltas: &[Value]) {
        let index = self.blocks.len();
        self.output_bytes += block.to_string().len();
        self.literal(wire::block_start(index, &block));
        for delta in deltas {
            self.output_bytes += delta.to_string().len();
            self.delta(index, delta.clone(), None);
        }
        self.literal(wire::block_stop(index));
        self.blocks.push(Block::Ready(accumulated(block, deltas)));
    }

    fn delta(&mut self, index: usize, delta: Value, pause_ms: Option<u64>) {
        if let Some(milliseconds) = pause_ms {
            self.pieces.push(Piece::Pause(Duration::from_millis(milliseconds)));
        }
        self.literal(wire::block_delta(index, &delta));
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
    pub(super) fn message(&self, cues: &Cues<'_>) -> Value {
        let mut usage = start_usage(&cues.input);
        self.overlay(&mut usage, self.output_tokens(cues));
        json!({
            "id": cues.message_id, "type": "message", "role": "assistant", "model": cues.model,
            "content": self.content(cues), "stop_reason": self.stop_reason,
            "stop_sequence": self.reply.stop_sequence, "stop_details": self.reply.stop_details, "usage": usage,
        })
    }

    /// The answer to a request with `stream`, cut where the script says so.
    pub(super) fn frames(&self, cues: &Cues<'_>) -> Vec<Frame> {
        let mut reel = Reel::default();
        let mut usage = start_usage(&cues.input);
        self.overlay(&mut usage, 1);
        usage.insert("output_tokens".to_owned(), json!(1));
        let message = json!({
            "id": cues.message_id, "type": "message", "role": "assistant", "model": cues.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "stop_details": null, "usage": usage,
        });
        reel.push(&wire::event(
            "message_start",
            &json!({"type": "message_start", "message": message}),
        ));
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
        if self.ending().is_none() {
            let mut usage = json!({
                "input_tokens": cues.input.uncached, "cache_creation_input_tokens": cues.input.created(),
                "cache_read_input_tokens": cues.input.read,
            });
            if let Value::Object(fields) = &mut usage {
                self.overlay(fields, self.output_tokens(cues));
            }
            let delta = json!({
                "stop_reason": self.stop_reason, "stop_sequence": self.reply.stop_sequence,
                "stop_details": self.reply.stop_details,
            });
            let end = json!({"type": "message_delta", "delta": delta, "usage": usage});
            reel.push(&wire::event("message_delta", &end));
            reel.push(&wire::event("message_stop", &json!({"type": "message_stop"})));
        }
        cut_after(reel.finish(), self.reply.cut_after_bytes)
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
        reel.push(&wire::block_start(index, &block));
        for part in parts {
            if let Some(pause) = pause {
                reel.frame(Frame::Pause(pause));
            }
            reel.push(&wire::block_delta(index, &json!({"type": kind, field: part})));
        }
        reel.push(&wire::block_stop(index));
    }

    fn output_tokens(&self, cues: &Cues<'_>) -> u64 {
        let echoed = if self.echoes { cues.echo.len() } else { 0 };
        ((self.output_bytes + echoed) as u64).div_ceil(4).max(1)
    }

    fn overlay(&self, usage: &mut Map<String, Value>, output_tokens: u64) {
        usage.insert("output_tokens".to_owned(), json!(output_tokens));
        for (name, value) in &self.reply.usage {
            usage.insert(name.clone(), value.clone());
        }
    }
}

/// Ends a body after exactly so many bytes, or after its last one if it is shorter.
pub(super) fn cut_after(frames: Vec<Frame>, bytes: Option<usize>) -> Vec<Frame> {
    let Some(mut left) = bytes else { return frames };
    let mut kept = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        match frame {
            Frame::Data(data) if data.len() >= left => {
                kept.push(Frame::Data(data.slice(..left)));
                break;
            }
            Frame::Data(data) => {
                left -= data.len();
                kept.push(Frame::Data(data));
            }
            other => kept.push(other),
        }
    }
    kept.push(Frame::Cut);
    kept
}

// Joins what can go out in one write.
#[derive(Default)]
struct Reel {
    frames: Vec<Frame>,
    open: String,
}

impl Reel {
    fn push(&mut self, text: &str) {
        self.open.push_str(text);
    }

    fn frame(&mut self, frame: Frame) {
        if !self.open.is_empty() {
            self.frames.push(Frame::Data(std::mem::take(&mut self.open).into()));
        }
        self.frames.push(frame);
    }

    fn finish(mut self) -> Vec<Frame> {
        if !self.open.is_empty() {
            self.frames.push(Frame::Data(self.open.into()));
        }
        self.frames
    }
}

fn start_usage(input: &InputUsage) -> Map<String, Value> {
    let usage = json!({
        "input_tokens": input.uncached, "cache_creation_input_tokens": input.created(),
        "cache_read_input_tokens": input.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": input.created_5m, "ephemeral_1h_input_tokens": input.created_1h,
        },
        "service_tier": "standard",
    });
    match usage {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn chunks(text: &str, size: Option<usize>) -> Vec<String> {
    match size {
        None if text.is_empty() => Vec::new(),
        None => vec![text.to_owned()],
        Some(size) => {
            let characters: Vec<char> = text.chars().collect();
            characters.chunks(size).map(|part| part.iter().collect()).collect()
        }
    }
}

// The API opens a tool's input with an empty piece, and sends nothing else for an empty input.
fn input_chunks(text: &str, size: Option<usize>) -> Vec<String> {
    let mut parts = vec![String::new()];
    if text != "{}" {
        parts.extend(chunks(text, size));
    }
    parts
}

fn derived_signature(thinking: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(thinking.as_bytes());
    format!("sig_{:016x}", hasher.finish())
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
