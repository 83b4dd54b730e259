//! A reply as output items and as the events of a stream.
//!
//! Shapes are those of the official SDK's `types/responses`. Never chooses a reply.

use serde_json::{Value, json};

use crate::scripted_model::failure::{Failure, lay_over};
use crate::scripted_model::frames::{COMMENT, Frame, Reel, chunks, event};
use crate::scripted_model::openai;
use crate::scripted_model::playable::{Playable, derived};
use crate::scripted_model::script::Step;
use crate::scripted_model::wire::Cues;

/// The answer in one piece.
pub(super) fn whole(playable: &Playable, cues: &Cues<'_>) -> Value {
    response(playable, cues, ending(playable), items(playable, cues))
}

/// The items that a client has when it has read everything.
pub(super) fn items(playable: &Playable, cues: &Cues<'_>) -> Vec<Value> {
    Player::play(playable, cues).output
}

/// The answer as a stream.
pub(super) fn frames(playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
    Player::play(playable, cues).reel.finish()
}

struct Player<'a> {
    playable: &'a Playable,
    cues: &'a Cues<'a>,
    reel: Reel,
    sequence: u64,
    output: Vec<Value>,
}

// How an answer ends, as `status` of its response.
fn ending(playable: &Playable) -> &'static str {
    match playable.stop_reason() {
        "end_turn" | "tool_use" | "stop_sequence" | "pause_turn" => "completed",
        "refusal" if playable.speaks() => "completed",
        "failed" => "failed",
        _ => "incomplete",
    }
}

fn response(playable: &Playable, cues: &Cues<'_>, status: &str, output: Vec<Value>) -> Value {
    let created = openai::created(cues.number);
    let mut response = json!({
        "id": cues.message_id, "object": "response", "created_at": created, "status": status,
        "background": false, "error": null, "incomplete_details": null, "instructions": null,
        "max_output_tokens": null, "model": cues.model, "output": output, "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
        "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": null,
        "user": null, "metadata": {},
    });
    lay_over(&mut response, &cues.wishes.repeated);
    for tool in response["tools"].as_array_mut().into_iter().flatten() {
        if tool["type"] == "function" && tool["strict"].is_null() {
            tool["strict"] = json!(true);
        }
    }
    if status != "in_progress" {
        response["usage"] = usage(playable, cues);
    }
    match (status, playable.stop_reason()) {
        ("completed", _) => response["completed_at"] = json!(created),
        ("incomplete", reason) => {
            let reason = match reason {
                "max_tokens" | "model_context_window_exceeded" => "max_output_tokens",
                "refusal" => "content_filter",
                other => other,
            };
            response["incomplete_details"] = json!({"reason": reason});
        }
        ("failed", "failed") => {
            let usual = json!({"code": "server_error", "message": "The model failed."});
            response["error"] = playable.reply.stop_details.clone().unwrap_or(usual);
        }
        _ => {}
    }
    response
}

fn usage(playable: &Playable, cues: &Cues<'_>) -> Value {
    let (input, output) = (cues.input.uncached + cues.input.read, playable.output_tokens(cues));
    let mut usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cues.input.read, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": playable.thought_tokens()},
        "total_tokens": input + output,
    });
    lay_over(&mut usage, &playable.reply.usage);
    usage
}

impl<'a> Player<'a> {
    fn play(playable: &'a Playable, cues: &'a Cues<'a>) -> Self {
        let (reel, output) = (Reel::default(), Vec::new());
        let mut player = Self { playable, cues, reel, sequence: 0, output };
        for kind in ["response.created", "response.in_progress"] {
            let response = response(playable, cues, "in_progress", Vec::new());
            player.send(kind, json!({"response": response}));
        }
        for step in playable.steps(cues) {
            player.step(step);
        }
        if playable.ending().is_none() {
            player.end(ending(playable), None);
        }
        player
    }

    fn end(&mut self, status: &str, error: Option<Value>) {
        let mut response = response(self.playable, self.cues, status, self.output.clone());
        if let Some(error) = error {
            response["error"] = error;
            response["usage"] = Value::Null;
        }
        self.send(&format!("response.{status}"), json!({"response": response}));
    }

    fn send(&mut self, kind: &str, members: Value) {
        let mut data = json!({"type": kind, "sequence_number": self.sequence});
        self.sequence += 1;
        if let Value::Object(members) = members {
            lay_over(&mut data, &members);
        }
        self.reel.push(&event(kind, &data));
    }

    // Something about the item that is open.
    fn tell(&mut self, kind: &str, id: &str, members: Value) {
        let mut data = json!({"item_id": id, "output_index": self.output.len()});
        if let Value::Object(members) = members {
            lay_over(&mut data, &members);
        }
        self.send(kind, data);
    }

    fn open(&mut self, item: &Value) {
        let index = self.output.len();
        self.send("response.output_item.added", json!({"output_index": index, "item": item}));
    }

    fn close(&mut self, item: Value) {
        let index = self.output.len();
        self.send("response.output_item.done", json!({"output_index": index, "item": item}));
        self.output.push(item);
    }

    // Of one length, and unlike any other.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{:020}{:04}", self.cues.number, self.output.len())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Text { text, chunk, pause_ms } => {
                let refuses = self.playable.stop_reason() == "refusal";
                let words = if refuses { &REFUSAL } else { &TEXT };
                self.message(words, &text, chunk, pause_ms);
            }
            Step::Thinking { thinking, signature, chunk, pause_ms } => {
                let signature = signature.unwrap_or_else(|| format!("enc_{}", derived(&thinking)));
                self.reasoning(&thinking, &signature, chunk, pause_ms);
            }
            Step::RedactedThinking(data) => self.reasoning("", &data, None, None),
            Step::ToolUse { tool_use, pause_ms } => {
                let arguments = Value::Object(tool_use.input).to_string();
                let id = self.id("fc");
                let item = |status: &str, arguments: &str| {
                    json!({
                        "id": id, "type": "function_call", "status": status, "arguments": arguments,
                        "call_id": tool_use.id, "name": tool_use.name,
                    })
                };
                self.open(&item("in_progress", ""));
                for part in chunks(&arguments, tool_use.chunk) {
                    self.reel.pause(pause_ms);
                    let delta = json!({"delta": part});
                    self.tell("response.function_call_arguments.delta", &id, delta);
                }
                let done = json!({"arguments": arguments});
                self.tell("response.function_call_arguments.done", &id, done);
                self.close(item("completed", &arguments));
            }
            Step::Block { block, deltas } => {
                self.open(&block);
                let id = block["id"].as_str().unwrap_or_default().to_owned();
                for delta in deltas {
                    let kind = delta["type"].as_str().unwrap_or_default().to_owned();
                    self.tell(&kind, &id, delta);
                }
                self.close(block);
            }
            Step::Raw(data) => {
                let kind = data["type"].as_str().unwrap_or_default().to_owned();
                self.send(&kind, data);
            }
            Step::Pause(milliseconds) => self.reel.pause(Some(milliseconds)),
            Step::Ping => self.reel.push(COMMENT),
            Step::Error { kind, message } => self.fail(&kind, &message),
            Step::Cut => self.reel.frame(Frame::Cut),
            Step::Stall => self.reel.frame(Frame::Stall),
            // Resolved before it is played.
            Step::Echo { .. } => {}
        }
    }

    fn message(&mut self, words: &Words, text: &str, chunk: Option<usize>, pause: Option<u64>) {
        let id = self.id("msg");
        let item = |status: &str, content: &[Value]| {
            json!({
                "id": id, "type": "message", "status": status, "role": "assistant", "content": content,
            })
        };
        let part = |text: &str| match words.has_annotations {
            true => json!({"type": words.part, "annotations": [], "logprobs": [], "text": text}),
            false => json!({"type": words.part, words.field: text}),
        };
        self.open(&item("in_progress", &[]));
        let begin = json!({"content_index": 0, "part": part("")});
        self.tell("response.content_part.added", &id, begin);
        let piece = |name: &str, text: &str| {
            let mut members = json!({"content_index": 0, name: text});
            if words.has_annotations {
                members["logprobs"] = json!([]);
            }
            members
        };
        for delta in chunks(text, chunk) {
            self.reel.pause(pause);
            self.tell(&format!("{}.delta", words.event), &id, piece("delta", &delta));
        }
        self.tell(&format!("{}.done", words.event), &id, piece(words.field, text));
        let end = json!({"content_index": 0, "part": part(text)});
        self.tell("response.content_part.done", &id, end);
        self.close(item("completed", &[part(text)]));
    }

    fn reasoning(&mut self, text: &str, hidden: &str, chunk: Option<usize>, pause: Option<u64>) {
        let id = self.id("rs");
        let item = |summary: &[Value]| {
            let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
            if self.cues.wishes.encrypted {
                item["encrypted_content"] = json!(hidden);
            }
            item
        };
        let whole = json!({"type": "summary_text", "text": text});
        let shown = self.cues.wishes.thoughts && !text.is_empty();
        let end = item(if shown { std::slice::from_ref(&whole) } else { &[] });
        // What is sealed is known when the thought has ended.
        self.open(&json!({"id": id, "type": "reasoning", "summary": []}));
        let tell = |player: &mut Self, kind: &str, mut members: Value| {
            if shown {
                members["summary_index"] = json!(0);
                player.tell(&format!("response.reasoning_summary_{kind}"), &id, members);
            }
        };
        let empty = json!({"type": "summary_text", "text": ""});
        tell(self, "part.added", json!({"part": empty}));
        for part in chunks(text, chunk) {
            self.reel.pause(pause);
            tell(self, "text.delta", json!({"delta": part}));
        }
        tell(self, "text.done", json!({"text": text}));
        tell(self, "part.done", json!({"part": whole}));
        self.close(end);
    }

    // The API says it twice: as an event, and as the end of the response.
    fn fail(&mut self, kind: &str, message: &str) {
        let status = openai::status_of(kind);
        let failure =
            Failure { class: Some(kind), ..Failure::of(status, message, &self.cues.message_id) };
        let mut code = openai::error(&failure)["code"].clone();
        if code.is_null() {
            code = json!(if status < 500 { "invalid_prompt" } else { "server_error" });
        }
        self.send("error", json!({"code": code, "message": message, "param": null}));
        self.end("failed", Some(json!({"code": code, "message": message})));
    }
}

struct Words {
    part: &'static str,
    field: &'static str,
    event: &'static str,
    has_annotations: bool,
}

const TEXT: Words = Words {
    part: "output_text",
    field: "text",
    event: "response.output_text",
    has_annotations: true,
};

const REFUSAL: Words =
    Words { part: "refusal", field: "refusal", event: "response.refusal", has_annotations: false };
