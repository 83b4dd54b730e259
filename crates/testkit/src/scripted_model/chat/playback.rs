//! A reply as a completion and as the chunks of a stream.
//!
//! Shapes are those of the official SDK's `types/chat`. Never chooses a reply.

use serde_json::{Value, json};

use crate::scripted_model::failure::{Failure, lay_over};
use crate::scripted_model::frames::{COMMENT, Frame, Reel, chunks, data};
use crate::scripted_model::openai;
use crate::scripted_model::playable::Playable;
use crate::scripted_model::script::{Step, ToolUse};
use crate::scripted_model::wire::Cues;

/// The answer in one piece.
pub(super) fn whole(playable: &Playable, cues: &Cues<'_>) -> Value {
    let choice = json!({
        "index": 0, "message": message(playable, cues), "logprobs": null,
        "finish_reason": finish_reason(playable),
    });
    json!({
        "id": cues.message_id, "object": "chat.completion", "created": openai::created(cues.number),
        "model": cues.model, "choices": [choice], "usage": usage(playable, cues),
        "service_tier": "default", "system_fingerprint": null,
    })
}

/// The message that a client has when it has read everything.
pub(super) fn message(playable: &Playable, cues: &Cues<'_>) -> Value {
    let field = text_field(playable);
    let mut message = json!({
        "role": "assistant", "content": null, "refusal": null, "annotations": [],
    });
    let mut calls = Vec::new();
    for step in playable.steps(cues) {
        match step {
            Step::Text { text, .. } => append(&mut message, field, &text),
            Step::Thinking { thinking, .. } => {
                append(&mut message, reasoning_field(playable), &thinking)
            }
            Step::ToolUse { tool_use, .. } => calls.push(call(tool_use)),
            Step::Raw(Value::Object(delta)) => lay_over(&mut message, &delta),
            _ => {}
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

fn append(message: &mut Value, field: &str, more: &str) {
    let text = message[field].as_str().unwrap_or_default();
    message[field] = json!(format!("{text}{more}"));
}

fn call(tool_use: ToolUse) -> Value {
    let arguments = Value::Object(tool_use.input).to_string();
    json!({
        "id": tool_use.id, "type": "function",
        "function": {"name": tool_use.name, "arguments": arguments},
    })
}

// A refusal has a place of its own, in which its text stands.
fn text_field(playable: &Playable) -> &'static str {
    if playable.stop_reason() == "refusal" { "refusal" } else { "content" }
}

fn reasoning_field(playable: &Playable) -> &str {
    playable.reply.reasoning_field.as_deref().unwrap_or("reasoning_content")
}

fn finish_reason(playable: &Playable) -> &str {
    match playable.stop_reason() {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "refusal" if playable.speaks() => "stop",
        "refusal" => "content_filter",
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        other => other,
    }
}

fn usage(playable: &Playable, cues: &Cues<'_>) -> Value {
    let (input, output) = (cues.input.uncached + cues.input.read, playable.output_tokens(cues));
    let mut usage = json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cues.input.read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": playable.thought_tokens(), "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    lay_over(&mut usage, &playable.reply.usage);
    usage
}

struct Player<'a> {
    playable: &'a Playable,
    cues: &'a Cues<'a>,
    reel: Reel,
    calls: usize,
}

/// The answer as a stream.
pub(super) fn frames(playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
    let mut player = Player { playable, cues, reel: Reel::default(), calls: 0 };
    player.delta(json!({"role": "assistant", "content": "", "refusal": null}));
    let mut steps = playable.steps(cues).into_iter().peekable();
    while let Some(step) = steps.next() {
        let Step::ToolUse { tool_use, pause_ms } = step else {
            player.step(step);
            continue;
        };
        let mut together = vec![(tool_use, pause_ms)];
        while playable.reply.interleave
            && let Some(Step::ToolUse { tool_use, pause_ms }) =
                steps.next_if(|step| matches!(step, Step::ToolUse { .. }))
        {
            together.push((tool_use, pause_ms));
        }
        player.call(together);
    }
    if playable.ending().is_none() {
        player.chunk(json!([{
            "index": 0, "delta": {}, "logprobs": null, "finish_reason": finish_reason(playable),
        }]));
        if cues.wishes.usage {
            let mut chunk = player.skeleton(json!([]));
            chunk["usage"] = usage(playable, cues);
            player.reel.push(&data(&chunk));
        }
        player.reel.push("data: [DONE]\n\n");
    }
    player.reel.finish()
}

impl Player<'_> {
    fn skeleton(&self, choices: Value) -> Value {
        json!({
            "id": self.cues.message_id, "object": "chat.completion.chunk",
            "created": openai::created(self.cues.number), "model": self.cues.model,
            "service_tier": "default", "system_fingerprint": null, "choices": choices,
        })
    }

    fn chunk(&mut self, choices: Value) {
        let mut chunk = self.skeleton(choices);
        if self.cues.wishes.usage {
            chunk["usage"] = Value::Null;
        }
        self.reel.push(&data(&chunk));
    }

    fn delta(&mut self, delta: Value) {
        self.chunk(json!([{
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": null,
        }]));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Text { text, chunk, pause_ms } => {
                self.texts(text_field(self.playable), &text, chunk, pause_ms)
            }
            Step::Thinking { thinking, chunk, pause_ms, .. } => {
                self.texts(reasoning_field(self.playable), &thinking, chunk, pause_ms)
            }
            Step::Raw(delta) => self.delta(delta),
            Step::Pause(milliseconds) => self.reel.pause(Some(milliseconds)),
            Step::Ping => self.reel.push(COMMENT),
            Step::Error { kind, message } => {
                let status = openai::status_of(&kind);
                let id = &self.cues.message_id;
                let failure = Failure { class: Some(&kind), ..Failure::of(status, &message, id) };
                self.reel.push(&data(&json!({"error": openai::error(&failure)})));
            }
            Step::Cut => self.reel.frame(Frame::Cut),
            Step::Stall => self.reel.frame(Frame::Stall),
            // Played by `call`, refused before, or resolved before.
            Step::ToolUse { .. }
            | Step::RedactedThinking(_)
            | Step::Block { .. }
            | Step::Echo { .. } => {}
        }
    }

    fn texts(&mut self, field: &str, text: &str, chunk: Option<usize>, pause: Option<u64>) {
        for part in chunks(text, chunk) {
            self.reel.pause(pause);
            self.delta(json!({field: part}));
        }
    }

    // One call, or several that take turns.
    fn call(&mut self, together: Vec<(ToolUse, Option<u64>)>) {
        let first = self.calls;
        self.calls += together.len();
        let mut rest = Vec::new();
        for (offset, (tool_use, pause)) in together.into_iter().enumerate() {
            let index = first + offset;
            let arguments = Value::Object(tool_use.input).to_string();
            rest.push((index, pause, chunks(&arguments, tool_use.chunk).into_iter()));
            self.delta(json!({"tool_calls": [{
                "index": index, "id": tool_use.id, "type": "function",
                "function": {"name": tool_use.name, "arguments": ""},
            }]}));
        }
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for (index, pause, parts) in &mut rest {
                let Some(part) = parts.next() else { continue };
                goes_on = true;
                self.reel.pause(*pause);
                let arguments = json!({"arguments": part});
                self.delta(json!({"tool_calls": [{"index": index, "function": arguments}]}));
            }
        }
    }
}
