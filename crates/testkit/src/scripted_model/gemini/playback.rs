//! A reply as a response and as the chunks of a stream.
//!
//! Shapes are those of the official SDK's `types.GenerateContentResponse`. Never chooses a reply.

use serde_json::{Value, json};

use crate::scripted_model::failure::{Failure, lay_over};
use crate::scripted_model::frames::{COMMENT, Frame, Reel, chunks, data};
use crate::scripted_model::playable::{Playable, derived};
use crate::scripted_model::script::{Step, ToolUse};
use crate::scripted_model::wire::{Cues, Wire};

/// The answer in one piece.
pub(super) fn whole(playable: &Playable, cues: &Cues<'_>) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    for part in self::parts(playable, cues) {
        match parts.last_mut() {
            Some(last) if is_text(last) && is_text(&part) => {
                let text = format!("{}{}", word(&last["text"]), word(&part["text"]));
                last["text"] = json!(text);
            }
            _ => parts.push(part),
        }
    }
    // What ends a stream and says nothing.
    if parts.len() > 1 && parts.last() == Some(&json!({"text": ""})) {
        parts.pop();
    }
    let mut response = skeleton(playable, cues, true);
    match blocked(playable) {
        Some(feedback) => response["promptFeedback"] = feedback,
        None => {
            response["candidates"] = json!([{
                "content": {"parts": parts, "role": "model"},
                "finishReason": finish_reason(playable), "index": 0,
            }]);
        }
    }
    response
}

fn is_text(part: &Value) -> bool {
    part.as_object().is_some_and(|part| part.len() == 1 && part.contains_key("text"))
}

fn word(text: &Value) -> &str {
    text.as_str().unwrap_or_default()
}

/// The parts that a client has when it has read everything.
pub(super) fn parts(playable: &Playable, cues: &Cues<'_>) -> Vec<Value> {
    Player::play(playable, cues).parts
}

/// The answer as a stream.
pub(super) fn frames(playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
    Player::play(playable, cues).reel.finish()
}

struct Player<'a> {
    playable: &'a Playable,
    cues: &'a Cues<'a>,
    reel: Reel,
    // Stands on the next call, or at the end.
    signature: Option<String>,
    parts: Vec<Value>,
}

fn skeleton(playable: &Playable, cues: &Cues<'_>, is_last: bool) -> Value {
    let thoughts = playable.thought_tokens();
    let input = cues.input.uncached + cues.input.read;
    let mut usage = json!({
        "promptTokenCount": input, "totalTokenCount": input,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": input}],
    });
    if cues.input.read > 0 {
        usage["cachedContentTokenCount"] = json!(cues.input.read);
        usage["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": cues.input.read}]);
    }
    if is_last {
        let output = playable.output_tokens(cues);
        usage["totalTokenCount"] = json!(input + output);
        usage["candidatesTokenCount"] = json!(output.saturating_sub(thoughts));
        if thoughts > 0 {
            usage["thoughtsTokenCount"] = json!(thoughts);
        }
        lay_over(&mut usage, &playable.reply.usage);
    }
    json!({"usageMetadata": usage, "modelVersion": cues.model, "responseId": cues.message_id})
}

fn finish_reason(playable: &Playable) -> &str {
    match playable.stop_reason() {
        "end_turn" | "stop_sequence" | "tool_use" | "pause_turn" => "STOP",
        "max_tokens" | "model_context_window_exceeded" => "MAX_TOKENS",
        "refusal" => "SAFETY",
        other => other,
    }
}

// A refusal without a word is a prompt that was not let through.
fn blocked(playable: &Playable) -> Option<Value> {
    let refused = playable.stop_reason() == "refusal" && playable.reply.steps.is_empty();
    refused.then(|| {
        let usual = json!({"blockReason": "PROHIBITED_CONTENT"});
        playable.reply.stop_details.clone().unwrap_or(usual)
    })
}

impl<'a> Player<'a> {
    fn play(playable: &'a Playable, cues: &'a Cues<'a>) -> Self {
        let (reel, parts) = (Reel::default(), Vec::new());
        let mut player = Self { playable, cues, reel, signature: None, parts };
        if let Some(feedback) = blocked(playable) {
            let mut chunk = skeleton(playable, cues, true);
            chunk["promptFeedback"] = feedback;
            player.reel.push(&data(&chunk));
            return player;
        }
        let mut steps = playable.steps(cues).into_iter().peekable();
        while let Some(step) = steps.next() {
            let Step::ToolUse { tool_use, pause_ms } = step else {
                player.step(step);
                continue;
            };
            player.reel.pause(pause_ms);
            let mut calls = vec![player.call(tool_use)];
            let at_once = |step: &Step| matches!(step, Step::ToolUse { pause_ms: None, .. });
            while let Some(Step::ToolUse { tool_use, .. }) = steps.next_if(at_once) {
                calls.push(player.call(tool_use));
            }
            player.send(calls, None);
        }
        if playable.ending().is_none() {
            let mut last = json!({"text": ""});
            if let Some(signature) = player.signature.take() {
                last["thoughtSignature"] = json!(signature);
            }
            player.send(vec![last], Some(finish_reason(playable)));
        }
        player
    }

    fn send(&mut self, parts: Vec<Value>, finish_reason: Option<&str>) {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(reason) = finish_reason {
            candidate["finishReason"] = json!(reason);
            if let Some(message @ Value::String(_)) = &self.playable.reply.stop_details {
                candidate["finishMessage"] = message.clone();
            }
        }
        let mut chunk = json!({"candidates": [candidate]});
        if let Value::Object(rest) = skeleton(self.playable, self.cues, finish_reason.is_some()) {
            lay_over(&mut chunk, &rest);
        }
        self.reel.push(&data(&chunk));
        self.parts.extend(parts);
    }

    fn call(&mut self, tool_use: ToolUse) -> Value {
        let mut call = json!({"name": tool_use.name, "args": tool_use.input});
        if let Some(id) = tool_use.id.filter(|id| !id.is_empty()) {
            call["id"] = json!(id);
        }
        let mut part = json!({"functionCall": call});
        if let Some(signature) = self.signature.take() {
            part["thoughtSignature"] = json!(signature);
        }
        part
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Text { text, chunk, pause_ms } => {
                for text in chunks(&text, chunk) {
                    self.reel.pause(pause_ms);
                    self.send(vec![json!({"text": text})], None);
                }
            }
            Step::Thinking { thinking, signature, chunk, pause_ms } => {
                for text in chunks(&thinking, chunk) {
                    self.reel.pause(pause_ms);
                    if self.cues.wishes.thoughts {
                        self.send(vec![json!({"text": text, "thought": true})], None);
                    }
                }
                // Base64, as the SDK reads it.
                let usual = || format!("sigA{}", derived(&thinking));
                self.signature = Some(signature.unwrap_or_else(usual));
            }
            Step::Raw(part) => self.send(vec![part], None),
            Step::Pause(milliseconds) => self.reel.pause(Some(milliseconds)),
            Step::Ping => self.reel.push(COMMENT),
            Step::Error { kind, message } => {
                let status = super::Gemini.status_of(&kind);
                let id = &self.cues.message_id;
                let failure = Failure { class: Some(&kind), ..Failure::of(status, &message, id) };
                self.reel.push(&data(&json!({"error": super::error(&failure)})));
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
}
