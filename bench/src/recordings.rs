//! What a provider sends, in the framing of each wire: made up, and as long as it is wanted.
//!
//! The framing follows the recordings that the model's own tests read. Nothing here knows what
//! any of it means.

use std::fmt::Write as _;

use posthouse_model::WireKind;
use serde_json::{Value, json};

/// An answer that is to be made up. Each delta stands for a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Names the answer and its calls, so that no two have calls of the same id.
    pub(crate) number: usize,
    /// How many deltas of text it begins with.
    pub(crate) text: usize,
    /// How many calls come behind it.
    pub(crate) calls: usize,
    /// How many deltas the arguments of each call have, two at least. Gemini sends them whole.
    pub(crate) deltas: usize,
}

/// What tokens say, in turn.
const WORDS: [&str; 8] =
    ["The", " mail", " left", " at", " dawn", ", \"late\"", " caf\u{e9}", "\n"];

/// The model that says it has answered.
const MODEL: &str = "bench-model";

/// The whole answer as server-sent events.
pub(crate) fn answer(wire: WireKind, shape: Shape) -> String {
    match wire {
        WireKind::Anthropic => messages(shape),
        WireKind::OpenaiResponses => responses(shape),
        WireKind::OpenaiChat => chat(shape),
        WireKind::Gemini => gemini(shape),
    }
}

impl Shape {
    fn words(self) -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().cycle().take(self.text)
    }

    /// The pieces of a call's arguments; together they are a JSON object.
    fn pieces(self) -> impl Iterator<Item = String> {
        let last = self.deltas.max(2) - 1;
        (0..=last).map(move |index| match index {
            0 => r#"{"command":"echo"#.to_owned(),
            _ if index == last => "\"}".to_owned(),
            _ => format!(" {index:03}"),
        })
    }

    fn arguments(self) -> String {
        self.pieces().collect()
    }

    /// The id of one of its calls, behind the prefix that its wire has.
    fn call(self, prefix: &str, index: usize) -> String {
        format!("{prefix}{:08}{index:04}", self.number)
    }
}

/// Writes events whose name stands in their data as well.
struct Named(String);

impl Named {
    fn event(&mut self, event: &Value) {
        let name = event["type"].as_str().unwrap_or_default();
        // Writing into a string can't fail.
        let _ = write!(self.0, "event: {name}\ndata: {event}\n\n");
    }
}

/// Anthropic's Messages.
fn messages(shape: Shape) -> String {
    let mut out = Named(String::new());
    let usage = json!({
        "input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2048,
        "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
        "output_tokens": 1, "service_tier": "standard", "inference_geo": "global",
    });
    let message = json!({
        "model": MODEL, "id": format!("msg_{:08}", shape.number), "type": "message",
        "role": "assistant", "content": [], "stop_reason": null, "stop_sequence": null,
        "stop_details": null, "usage": usage,
    });
    out.event(&json!({ "type": "message_start", "message": message }));
    let mut index = 0;
    let mut block = |begin: Value, deltas: &mut dyn Iterator<Item = Value>| {
        out.event(&json!({
            "type": "content_block_start", "index": index, "content_block": begin,
        }));
        if index == 0 {
            out.event(&json!({ "type": "ping" }));
        }
        for delta in deltas {
            out.event(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        out.event(&json!({ "type": "content_block_stop", "index": index }));
        index += 1;
    };
    if shape.text > 0 {
        let delta = |word| json!({ "type": "text_delta", "text": word });
        block(json!({ "type": "text", "text": "" }), &mut shape.words().map(delta));
    }
    for call in 0..shape.calls {
        let id = shape.call("toolu_", call);
        let delta = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
        let begin = json!({ "type": "tool_use", "id": id, "name": "bash", "input": {} });
        block(begin, &mut shape.pieces().map(delta));
    }
    let reason = if shape.calls > 0 { "tool_use" } else { "end_turn" };
    let end = json!({ "stop_reason": reason, "stop_sequence": null, "stop_details": null });
    out.event(&json!({
        "type": "message_delta", "delta": end, "usage": { "output_tokens": shape.text + 9 },
    }));
    out.event(&json!({ "type": "message_stop" }));
    out.0
}

/// OpenAI's Responses. Each text and each call is said again when it ends, and once more at the
/// end of all.
fn responses(shape: Shape) -> String {
    let mut out = Named(String::new());
    let mut sequence = 0;
    let mut event = |mut event: Value| {
        event["sequence_number"] = json!(sequence);
        sequence += 1;
        out.event(&event);
    };
    let response = |status: &str, output: &[Value], usage: Value| {
        json!({
            "id": format!("resp_{:08}", shape.number), "object": "response",
            "created_at": 1_795_000_000, "status": status, "background": false, "error": null,
            "incomplete_details": null, "instructions": null, "max_output_tokens": 128_000,
            "model": MODEL, "output": output, "parallel_tool_calls": true,
            "previous_response_id": null, "service_tier": "default", "store": false,
            "temperature": 1.0, "text": { "format": { "type": "text" }, "verbosity": "medium" },
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
            "usage": usage, "metadata": {},
        })
    };
    let begun = response("in_progress", &[], Value::Null);
    event(json!({ "type": "response.created", "response": begun }));
    event(json!({ "type": "response.in_progress", "response": begun }));
    let mut output = Vec::new();
    if shape.text > 0 {
        let id = format!("msg_{:08}", shape.number);
        let item = |status: &str, content: &[Value]| {
            json!({
                "id": id, "type": "message", "status": status, "content": content,
                "role": "assistant", "phase": "final_answer",
            })
        };
        let part = |text: &str| json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text });
        event(json!({
            "type": "response.output_item.added", "item": item("in_progress", &[]),
            "output_index": 0,
        }));
        event(json!({
            "type": "response.content_part.added", "content_index": 0, "item_id": id,
            "output_index": 0, "part": part(""),
        }));
        for word in shape.words() {
            event(json!({
                "type": "response.output_text.delta", "content_index": 0, "delta": word,
                "item_id": id, "logprobs": [], "obfuscation": "x".repeat(16 - word.len()),
                "output_index": 0,
            }));
        }
        let text: String = shape.words().collect();
        event(json!({
            "type": "response.output_text.done", "content_index": 0, "item_id": id,
            "logprobs": [], "output_index": 0, "text": text,
        }));
        event(json!({
            "type": "response.content_part.done", "content_index": 0, "item_id": id,
            "output_index": 0, "part": part(&text),
        }));
        let item = item("completed", &[part(&text)]);
        event(json!({ "type": "response.output_item.done", "item": item, "output_index": 0 }));
        output.push(item);
    }
    for call in 0..shape.calls {
        let (id, place) = (shape.call("fc_", call), output.len());
        let item = |status: &str, arguments: &str| {
            json!({
                "id": id, "type": "function_call", "status": status, "arguments": arguments,
                "call_id": shape.call("call_", call), "name": "bash",
            })
        };
        event(json!({
            "type": "response.output_item.added", "item": item("in_progress", ""),
            "output_index": place,
        }));
        for piece in shape.pieces() {
            event(json!({
                "type": "response.function_call_arguments.delta", "delta": piece, "item_id": id,
                "output_index": place,
            }));
        }
        let arguments = shape.arguments();
        event(json!({
            "type": "response.function_call_arguments.done", "arguments": arguments,
            "item_id": id, "output_index": place,
        }));
        let item = item("completed", &arguments);
        event(json!({ "type": "response.output_item.done", "item": item, "output_index": place }));
        output.push(item);
    }
    let tokens = shape.text + 9;
    let usage = json!({
        "input_tokens": 2048,
        "input_tokens_details": { "cached_tokens": 1536, "cache_write_tokens": 0 },
        "output_tokens": tokens, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": 2048 + tokens,
    });
    let done = response("completed", &output, usage);
    event(json!({ "type": "response.completed", "response": done }));
    out.0
}

/// OpenAI's Chat Completions.
fn chat(shape: Shape) -> String {
    let mut out = String::new();
    let mut chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": format!("chatcmpl-{:08}", shape.number), "object": "chat.completion.chunk",
            "created": 1_795_000_000, "model": MODEL, "service_tier": "default",
            "system_fingerprint": "fp_0123456789", "choices": choices, "usage": usage,
        });
        // Writing into a string can't fail.
        let _ = write!(out, "data: {chunk}\n\n");
    };
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]);
    let mut delta = |delta: Value| chunk(choice(delta, Value::Null), Value::Null);
    delta(json!({ "role": "assistant", "content": "", "refusal": null }));
    for word in shape.words() {
        delta(json!({ "content": word }));
    }
    for call in 0..shape.calls {
        let function = json!({ "name": "bash", "arguments": "" });
        let id = shape.call("call_", call);
        delta(json!({
            "tool_calls": [{ "index": call, "id": id, "type": "function", "function": function }],
        }));
        for piece in shape.pieces() {
            delta(json!({
                "tool_calls": [{ "index": call, "function": { "arguments": piece } }],
            }));
        }
    }
    let reason = if shape.calls > 0 { "tool_calls" } else { "stop" };
    chunk(choice(json!({}), json!(reason)), Value::Null);
    let tokens = shape.text + 9;
    let usage = json!({
        "prompt_tokens": 2048, "completion_tokens": tokens, "total_tokens": 2048 + tokens,
        "prompt_tokens_details": { "cached_tokens": 1536, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    });
    chunk(json!([]), usage);
    out.push_str("data: [DONE]\n\n");
    out
}

/// Google's `streamGenerateContent`, which counts on in each chunk.
fn gemini(shape: Shape) -> String {
    let (mut out, mut tokens) = (String::new(), 0);
    let mut chunk = |part: Value, grown: usize, reason: Option<&str>| {
        tokens += grown;
        let mut candidate = json!({ "content": { "parts": [part], "role": "model" }, "index": 0 });
        if let Some(reason) = reason {
            candidate["finishReason"] = json!(reason);
        }
        let chunk = json!({
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": 2048, "candidatesTokenCount": tokens,
                "totalTokenCount": 2048 + tokens,
                "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 2048 }],
            },
            "modelVersion": MODEL,
            "responseId": format!("bench{:08}", shape.number),
        });
        // Writing into a string can't fail.
        let _ = write!(out, "data: {chunk}\n\n");
    };
    for word in shape.words() {
        chunk(json!({ "text": word }), 1, None);
    }
    for call in 0..shape.calls {
        let command: Value = serde_json::from_str(&shape.arguments()).unwrap_or_default();
        let function = json!({ "name": "bash", "args": command, "id": shape.call("fc-", call) });
        let mut part = json!({ "functionCall": function });
        if call == 0 {
            part["thoughtSignature"] = json!("EqoBCqcBAdHtim".repeat(20));
        }
        chunk(part, shape.deltas, None);
    }
    chunk(json!({ "text": "" }), 0, Some("STOP"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_however_they_are_cut() {
        for deltas in [0, 2, 3, 50] {
            let shape = Shape { number: 1, text: 0, calls: 1, deltas };
            let input: Value = serde_json::from_str(&shape.arguments()).unwrap();
            assert!(input["command"].as_str().unwrap().starts_with("echo"));
        }
    }

    #[test]
    fn every_event_is_json_and_every_token_is_in_it() {
        let shape = Shape { number: 7, text: 40, calls: 2, deltas: 5 };
        for wire in WireKind::ALL {
            let events = answer(wire, shape);
            let datas = events.lines().filter_map(|line| line.strip_prefix("data: "));
            let mut deltas = 0;
            for data in datas.filter(|data| *data != "[DONE]") {
                let data: Value = serde_json::from_str(data).unwrap();
                let text = match wire {
                    WireKind::Anthropic => &data["delta"]["text"],
                    WireKind::OpenaiResponses => &data["delta"],
                    WireKind::OpenaiChat => &data["choices"][0]["delta"]["content"],
                    WireKind::Gemini => &data["candidates"][0]["content"]["parts"][0]["text"],
                };
                deltas += usize::from(text.as_str().is_some_and(|text| WORDS.contains(&text)));
            }
            assert_eq!(deltas, 40, "{wire:?}");
        }
    }
}
