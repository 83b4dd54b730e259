//! Conversations among several providers, whose answers really came over their wires.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use super::{Chance, SPEAKERS, Speaker, decode, recordings};
use crate::{
    Block, Event, Item, Request, Response, Stop, Thinking, ToolResult, View, WireKind,
    golden::{raw, request, tool},
};

/// What has to be escaped somewhere, and what must not be sent.
const TEXTS: &[&str] = &[
    "",
    " ",
    "plain",
    "a \"quoted\" \\ one",
    "ünïcödé 🦀 \u{2028}",
    "{\"type\":\"text\",\"text\":\"\"}",
    "nul \u{0} and bell \u{7}",
    "Go on.",
];

/// Names of tools, most of which some wire can't carry.
pub(super) const TOOLS: &[&str] = &["lookup", "read file", "1st", "größe", LONG, "mcp.server:do"];

const LONG: &str =
    "a_name_of_more_than_sixty_four_characters_as_those_of_far_away_servers_sometimes_are_given";

/// The answers of one provider.
struct Answers {
    speaker: Speaker,
    recorded: Vec<Response>,
}

/// Makes conversations.
pub(super) struct Maker {
    all: Vec<Answers>,
    made: usize,
}

impl Maker {
    pub(super) async fn new() -> Self {
        let mut all = Vec::new();
        for speaker in SPEAKERS {
            let mut recorded = Vec::new();
            for (_, bytes) in recordings(speaker.kind) {
                let events = decode(speaker.wire(), vec![Bytes::from(bytes)]).await;
                if let Some(Event::Ended(response)) = events.into_iter().next_back() {
                    recorded.push(response);
                }
            }
            all.push(Answers { speaker, recorded });
        }
        Self { all, made: 0 }
    }

    /// A conversation as the log of a session gives it: all calls of an answer have a result
    /// before the next answer.
    pub(super) async fn items(&mut self, chance: &mut Chance) -> Vec<Item> {
        let mut items = Vec::new();
        for _ in 0..chance.below(9) {
            for _ in 0..=chance.below(2) {
                items.push(said(chance));
            }
            // A turn is a few answers, now and then of several providers.
            let mut at = chance.below(self.all.len());
            for _ in 0..=chance.below(3) {
                if chance.one_in(3) {
                    at = chance.below(self.all.len());
                }
                let speaker = self.all[at].speaker;
                let response =
                    if chance.one_in(2) { None } else { self.written(speaker, chance).await };
                let recorded = &self.all[at].recorded;
                let response = response.as_ref().unwrap_or(chance.pick(recorded));
                items.extend(answer(speaker, response, chance));
            }
        }
        if chance.one_in(2) {
            items.push(said(chance));
        }
        items
    }

    /// An answer whose every text is its own.
    async fn written(&mut self, speaker: Speaker, chance: &mut Chance) -> Option<Response> {
        self.made += 1;
        let answer = Written::new(speaker, self.made, chance);
        let frames = match speaker.kind {
            WireKind::Anthropic => answer.anthropic(),
            WireKind::OpenaiResponses => answer.responses(),
            WireKind::OpenaiChat => answer.chat(),
            WireKind::Gemini => answer.gemini(),
        };
        let stream: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
        match decode(speaker.wire(), vec![Bytes::from(stream)]).await.pop() {
            Some(Event::Ended(response)) => Some(response),
            other => panic!("{other:?}"),
        }
    }
}

/// A request with those items for a model of which chance says what it can do.
pub(super) fn asked(speaker: Speaker, items: Vec<Item>, seed: u64) -> Request {
    let mut chance = Chance(seed);
    let model = match speaker.kind {
        WireKind::Gemini => *chance.pick(&["gemini-3-pro", "gemini-2.5-flash"]),
        WireKind::Anthropic => "claude-opus-5-5",
        WireKind::OpenaiResponses | WireKind::OpenaiChat => "anything",
    };
    let mut request = request(model, items);
    let spec = Arc::make_mut(&mut request.spec);
    spec.images = !chance.one_in(4);
    spec.documents = !chance.one_in(4);
    spec.mid_conversation_system = chance.one_in(2);
    spec.thinking = *chance.pick(&[Thinking::Adaptive, Thinking::Budget, Thinking::None]);
    request.system = if chance.one_in(2) { "Be brief.".to_owned() } else { String::new() };
    if !chance.one_in(4) {
        request.tools = TOOLS.iter().map(|name| tool(name)).collect();
    }
    request
}

fn said(chance: &mut Chance) -> Item {
    if chance.one_in(6) {
        return Item::System((*chance.pick(TEXTS)).to_owned());
    }
    Item::User(Arc::from(content(chance)))
}

/// Content of a user or a tool.
fn content(chance: &mut Chance) -> Box<RawValue> {
    let blocks: Vec<Value> = (0..chance.below(4)).map(|_| block(chance)).collect();
    raw(&Value::from(blocks).to_string())
}

fn block(chance: &mut Chance) -> Value {
    let text = *chance.pick(TEXTS);
    let inner = json!([{"type": "text", "text": text}, {"type": "text", "text": "inner"}]);
    let source = match chance.below(4) {
        0 => json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0="}),
        1 => json!({"type": "url", "url": "https://example.com/a.png?b=\"c\""}),
        2 => json!({"type": "base64", "media_type": "image/x-rare", "data": "AA=="}),
        _ => json!({"type": "base64", "media_type": "IMAGE/JPG", "data": "/9j/"}),
    };
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="});
    match chance.below(9) {
        0..=2 => json!({"type": "text", "text": text}),
        3 => json!({"type": "image", "source": source}),
        4 => json!({"type": "document", "source": pdf, "title": text, "context": text}),
        5 => {
            json!({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}})
        }
        6 => {
            json!({"type": "document", "title": text, "source": {"type": "text", "media_type": "text/plain", "data": text}})
        }
        7 => json!({"type": "document", "source": {"type": "content", "content": inner}}),
        _ => {
            json!({"type": "search_result", "source": "https://example.com", "title": text, "content": inner})
        }
    }
}

/// An answer with the results of its calls. One that was refused is never kept.
pub(super) fn answer(speaker: Speaker, response: &Response, chance: &mut Chance) -> Vec<Item> {
    if matches!(response.stop, Stop::Refusal { .. }) || response.blocks.is_empty() {
        return Vec::new();
    }
    let mut items = vec![Item::Assistant {
        provider: speaker.name.into(),
        wire: speaker.kind,
        blocks: response.blocks.iter().map(|block| block.native.clone()).collect(),
    }];
    let calls = response.blocks.iter().filter_map(|block| match &block.view {
        View::ToolUse { call_id, name, .. } => Some((call_id, name)),
        _ => None,
    });
    let results: Vec<ToolResult> = calls
        .map(|(call_id, sent)| ToolResult {
            call_id: call_id.clone(),
            name: speaker.own(sent).into(),
            content: Arc::from(content(chance)),
            is_error: chance.one_in(4),
        })
        .collect();
    if !results.is_empty() {
        // What is said meanwhile may enter first.
        if chance.one_in(8) {
            items.push(said(chance));
        }
        items.push(Item::ToolResults(results));
    }
    items
}

/// An answer that is about to be streamed.
struct Written {
    thinking: Option<String>,
    text: Option<&'static str>,
    /// Id, name and input.
    calls: Vec<(String, String, String)>,
    /// Whether the last call breaks off.
    cut: bool,
}

impl Written {
    fn new(speaker: Speaker, number: usize, chance: &mut Chance) -> Self {
        let calls: Vec<_> = (0..chance.below(4))
            .map(|place| {
                let own = *chance.pick(TOOLS);
                let name = speaker.sent(own);
                let id = match chance.below(6) {
                    // Some begin again with each answer.
                    0 => format!("call_{place}"),
                    1 => format!("functions.{own}:{place}"),
                    2 => format!("{number:08}{place}"),
                    3 => format!("call_{number}_{place}_{}", "x".repeat(64)),
                    _ => format!("toolu_{number}_{place}"),
                };
                (id, name, format!(r#"{{"q": 1.10, "text":"ü \" {number}"}}"#))
            })
            .collect();
        Self {
            thinking: (!chance.one_in(3)).then(|| format!("SECRET-{number}-THINKING")),
            text: (!chance.one_in(3)).then(|| *chance.pick(TEXTS)),
            cut: !calls.is_empty() && chance.one_in(4),
            calls,
        }
    }

    /// A call's input in two pieces; of one that is cut, only the first.
    fn pieces<'a>(&self, place: usize, input: &'a str) -> Vec<&'a str> {
        let (one, two) = input.split_at(9);
        if self.cut && place + 1 == self.calls.len() { vec![one] } else { vec![one, two] }
    }

    fn anthropic(&self) -> Vec<Value> {
        let mut frames = vec![json!({"type": "message_start", "message": {"model": "m"}})];
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>| {
            frames.push(
                json!({"type": "content_block_start", "index": index, "content_block": start}),
            );
            for delta in deltas {
                frames.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            frames.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if let Some(thinking) = &self.thinking {
            block(
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                vec![
                    json!({"type": "thinking_delta", "thinking": thinking}),
                    json!({"type": "signature_delta", "signature": format!("{thinking}-SIGNED")}),
                ],
            );
        }
        if let Some(text) = self.text {
            let delta = json!({"type": "text_delta", "text": text});
            block(json!({"type": "text", "text": ""}), vec![delta]);
        }
        for (place, (id, name, input)) in self.calls.iter().enumerate() {
            let pieces = self.pieces(place, input).into_iter();
            let deltas =
                pieces.map(|json| json!({"type": "input_json_delta", "partial_json": json}));
            let start = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
            block(start, deltas.collect());
        }
        let reason = if self.cut { "max_tokens" } else { "end_turn" };
        frames.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}}));
        frames.push(json!({"type": "message_stop"}));
        frames
    }

    fn responses(&self) -> Vec<Value> {
        let mut frames = vec![json!({"type": "response.created", "response": {"model": "m"}})];
        let mut place = 0;
        let mut item = |item: Value| {
            for kind in ["response.output_item.added", "response.output_item.done"] {
                frames.push(json!({"type": kind, "output_index": place, "item": item}));
            }
            place += 1;
        };
        if let Some(thinking) = &self.thinking {
            item(
                json!({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": thinking}),
            );
        }
        if let Some(text) = self.text {
            let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
            item(json!({"type": "message", "id": "msg", "role": "assistant", "content": content}));
        }
        for (place, (id, name, input)) in self.calls.iter().enumerate() {
            let arguments = self.pieces(place, input).concat();
            let status = if arguments == *input { "completed" } else { "incomplete" };
            item(json!({
                "type": "function_call", "id": "fc", "call_id": id, "name": name,
                "arguments": arguments, "status": status,
            }));
        }
        let reason = self.cut.then(|| json!({"reason": "max_output_tokens"}));
        let end = json!({"model": "m", "output": [], "incomplete_details": reason});
        frames.push(json!({"type": "response.completed", "response": end}));
        frames
    }

    fn chat(&self) -> Vec<Value> {
        let chunk = |delta: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta}]});
        let mut frames = vec![chunk(json!({"role": "assistant", "content": ""}))];
        if let Some(thinking) = &self.thinking {
            frames.push(chunk(json!({"reasoning_content": thinking})));
            let details =
                json!([{"type": "reasoning.encrypted", "data": format!("{thinking}-SIGNED")}]);
            frames.push(chunk(json!({"reasoning_details": details})));
        }
        if let Some(text) = self.text {
            frames.push(chunk(json!({"content": text})));
        }
        for (place, (id, name, input)) in self.calls.iter().enumerate() {
            let opening = json!({"index": place, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
            frames.push(chunk(json!({"tool_calls": [opening]})));
            for piece in self.pieces(place, input) {
                let more = json!({"index": place, "function": {"arguments": piece}});
                frames.push(chunk(json!({"tool_calls": [more]})));
            }
        }
        let reason = if self.cut { "length" } else { "stop" };
        frames.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
        frames.push(json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}));
        frames
    }

    fn gemini(&self) -> Vec<Value> {
        let chunk = |part: Value| json!({"candidates": [{"content": {"parts": [part]}}]});
        let mut frames = Vec::new();
        if let Some(thinking) = &self.thinking {
            frames.push(chunk(json!({"text": thinking, "thought": true})));
        }
        if let Some(text) = self.text {
            frames.push(chunk(json!({"text": text})));
        }
        for (place, (id, name, input)) in self.calls.iter().enumerate() {
            let whole = self.pieces(place, input).concat() == *input;
            let args: Value = serde_json::from_str(if whole { input } else { "null" }).unwrap();
            let mut call = json!({"name": name, "args": args});
            if place % 2 == 0 {
                call["id"] = id.as_str().into();
            }
            let mut part = json!({"functionCall": call});
            if let (0, Some(thinking)) = (place, &self.thinking) {
                part["thoughtSignature"] = format!("{thinking}-SIGNED").into();
            }
            frames.push(chunk(part));
        }
        let reason = if self.cut { "MAX_TOKENS" } else { "STOP" };
        frames.push(json!({"candidates": [{"finishReason": reason}], "responseId": "r/1"}));
        frames
    }
}

/// The natives of an answer, for a message.
pub(super) fn shown(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.native.get()).collect()
}
