//! Renders a neutral request into the body of `POST /responses`.
//!
//! Whatever a provider or a user wrote is spliced in as raw bytes and never goes through a number
//! or a map. The body of a conversation begins with the body of the same conversation one turn
//! earlier, so that the provider's prompt cache holds: instructions and tools first, then one
//! item of input behind the other.
//!
//! Nothing is stored at the provider, so each response is sent back item by item, its encrypted
//! reasoning included. Some reasoning that the provider has sent it does not take back. It is left
//! out of every request alike: what stands at a response's end and led to nothing ("provided
//! without its required following item"), what has lost its content, since an id alone names
//! nothing ("items are not persisted"), and all of it for a model that does not reason.
//!
//! Left to their defaults: `parallel_tool_calls`, which is true and which some models refuse to be
//! told, and summaries of the reasoning, which nobody reads.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::item;
use crate::{
    Body, Item, ModelSpec, Request, Thinking, WireKind,
    content::{self, Piece, Source},
    portable::{self, CallIds, Portable, ResultOf, Step},
};

/// By the API's refusal of a longer `call_id`.
const CALL_IDS: CallIds = CallIds { longest: 64, punctuation: true, exact: false };

/// The longest name of a function, and the longest `prompt_cache_key`, by the API's refusals.
const LONGEST_NAME: usize = 64;

/// The API has no mark for a call that failed.
const FAILED: &str = "The tool failed";

/// Renders `request` for the provider that keeps its blocks under `provider`. Pure: the same
/// request gives the same bytes.
pub(super) fn render(provider: &str, request: &Request) -> Body {
    let steps = portable::steps(provider, WireKind::OpenaiResponses, &request.items, CALL_IDS);
    let mut out = Vec::with_capacity(estimate(request));
    head(&mut out, request);
    instructions(&mut out, request, &steps);
    tools(&mut out, request);
    input(&mut out, request, &steps);
    out.push(b'}');
    Body {
        model: request.model.clone(),
        bytes: Bytes::from(out),
        renamed: portable::renamed(request, LONGEST_NAME),
    }
}

/// About how long the body will be, so that it is written without being moved.
fn estimate(request: &Request) -> usize {
    let items = request.items.iter().map(|item| match item {
        Item::User(content) => content.get().len() + 96,
        Item::System(text) => text.len() + 128,
        Item::Assistant { blocks, .. } => blocks.iter().map(|block| block.get().len() + 1).sum(),
        Item::ToolResults(results) => {
            results.iter().map(|result| result.content.get().len() + 160).sum()
        }
    });
    let tools = request.tools.iter();
    let tools = tools.map(|tool| tool.description.len() + tool.input_schema.get().len() + 128);
    512 + items.sum::<usize>() + tools.sum::<usize>() + request.system.len() / 16 * 17
}

/// Everything small and fixed.
fn head(out: &mut Vec<u8>, request: &Request) {
    let spec = &request.spec;
    out.extend_from_slice(br#"{"model":"#);
    string(out, &request.model);
    out.extend_from_slice(br#","stream":true,"store":false"#);
    // A model that does not reason refuses this, and one that nobody has described may be such a
    // model. The API sends the encrypted reasoning by itself; servers like it may want to be asked.
    if spec.thinking != Thinking::None {
        out.extend_from_slice(br#","include":["reasoning.encrypted_content"]"#);
    }
    if !request.conversation.is_empty() {
        out.extend_from_slice(br#","prompt_cache_key":"#);
        // A key is as a name: one that is too long gets a hash.
        string(out, &portable::tool_name(&request.conversation, LONGEST_NAME));
    }
    if let Some(max_output) = spec.max_output {
        out.extend_from_slice(format!(r#","max_output_tokens":{max_output}"#).as_bytes());
    }
    if let Some(effort) = request.effort.and_then(|effort| spec.nearest_effort(effort)) {
        out.extend_from_slice(
            format!(r#","reasoning":{{"effort":"{}"}}"#, effort.as_str()).as_bytes(),
        );
    }
    if request.fast {
        // The older of the two names of what is called the fast mode today.
        out.extend_from_slice(br#","service_tier":"priority""#);
    }
}

/// The system prompt, and behind it the operator's texts for a model that does not take them in
/// the middle of a conversation.
fn instructions(out: &mut Vec<u8>, request: &Request, steps: &[Step<'_>]) {
    let mut texts: Vec<&str> = vec![&request.system];
    if !request.spec.mid_conversation_system {
        texts.extend(steps.iter().filter_map(|step| match step {
            Step::System(text) => Some(*text),
            _ => None,
        }));
    }
    texts.retain(|text| !text.is_empty());
    if !texts.is_empty() {
        out.extend_from_slice(br#","instructions":"#);
        string(out, &texts.join("\n\n"));
    }
}

fn tools(out: &mut Vec<u8>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    out.extend_from_slice(br#","tools":["#);
    for (index, tool) in request.tools.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"type":"function","name":"#);
        string(out, &portable::tool_name(&tool.name, LONGEST_NAME));
        if !tool.description.is_empty() {
            out.extend_from_slice(br#","description":"#);
            string(out, &tool.description);
        }
        out.extend_from_slice(br#","parameters":"#);
        out.extend_from_slice(tool.input_schema.get().as_bytes());
        // Strict schemas are a dialect of their own, and these are anybody's.
        out.extend_from_slice(br#","strict":false}"#);
    }
    out.push(b']');
}

fn input(out: &mut Vec<u8>, request: &Request, steps: &[Step<'_>]) {
    let spec = &request.spec;
    out.extend_from_slice(br#","input":["#);
    let mut first = true;
    for step in steps {
        match step {
            Step::User(content) => {
                let parts = parts(content, spec);
                if !parts.is_empty() {
                    message(next(out, &mut first), "user", &parts);
                }
            }
            Step::System(text) if spec.mid_conversation_system && !text.is_empty() => {
                let parts = [Part::Text(Cow::Borrowed(*text))];
                message(next(out, &mut first), "developer", &parts);
            }
            Step::System(_) => {}
            Step::Own(blocks) => {
                for block in replayed(blocks, spec) {
                    next(out, &mut first).extend_from_slice(block.get().as_bytes());
                }
            }
            Step::Foreign(blocks) => {
                for block in blocks {
                    let block = foreign(block);
                    next(out, &mut first).extend_from_slice(block.get().as_bytes());
                }
            }
            Step::Results(results) => {
                for result in results {
                    output(next(out, &mut first), result, spec);
                }
            }
        }
    }
    out.push(b']');
}

/// Where the next item goes.
fn next<'a>(out: &'a mut Vec<u8>, first: &mut bool) -> &'a mut Vec<u8> {
    if !std::mem::take(first) {
        out.push(b',');
    }
    out
}

/// What of a response the provider takes back.
fn replayed<'a>(
    blocks: &'a [Box<RawValue>],
    spec: &ModelSpec,
) -> impl Iterator<Item = &'a RawValue> {
    let is_reasoning = |block: &RawValue| item::kind(block).is_some_and(|kind| kind == "reasoning");
    let reasons = spec.thinking != Thinking::None || !spec.efforts.is_empty();
    let last = blocks.iter().rposition(|block| !is_reasoning(block));
    let blocks = &blocks[..last.map_or(0, |last| last + 1)];
    let blocks = blocks.iter().map(|block| &**block);
    blocks.filter(move |block| !is_reasoning(block) || (reasons && item::is_replayable(block)))
}

/// Another provider's block in this dialect.
fn foreign(block: &Portable<'_>) -> Box<RawValue> {
    match block {
        Portable::Text(text) => item::message(text),
        Portable::ToolUse { call_id, name, input } => {
            item::call(call_id, &portable::tool_name(name, LONGEST_NAME), input)
        }
    }
}

/// What a piece of content is in this dialect.
enum Part<'a> {
    Text(Cow<'a, str>),
    Image { url: Cow<'a, str> },
    File { name: String, data: String },
    FileAt { url: Cow<'a, str> },
}

fn parts<'a>(content: &'a RawValue, spec: &ModelSpec) -> Vec<Part<'a>> {
    content::pieces(content).into_iter().flat_map(|piece| of_piece(piece, spec)).collect()
}

fn of_piece<'a>(piece: Piece<'a>, spec: &ModelSpec) -> Vec<Part<'a>> {
    match piece {
        Piece::Text(text) => vec![Part::Text(text)],
        Piece::Image(_) if !spec.images => vec![Part::Text(Cow::Borrowed(content::NO_IMAGE))],
        Piece::Image(Source::Url(url)) => vec![Part::Image { url }],
        Piece::Image(Source::Base64 { media_type, data }) => {
            vec![Part::Image { url: Cow::Owned(data_url(&media_type, &data)) }]
        }
        Piece::Document { title, source } => {
            // A title is told apart, because a file's name has to end as its type wants.
            let mut parts: Vec<Part<'a>> = title.map(Part::Text).into_iter().collect();
            parts.push(match source {
                _ if !spec.documents => Part::Text(Cow::Borrowed(content::NO_DOCUMENT)),
                Source::Url(url) => Part::FileAt { url },
                Source::Base64 { media_type, data } => {
                    let kind = media_type.rsplit('/').next().unwrap_or_default();
                    let name = format!("document.{kind}");
                    Part::File { name, data: data_url(&media_type, &data) }
                }
            });
            parts
        }
    }
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

fn message(out: &mut Vec<u8>, role: &str, parts: &[Part<'_>]) {
    out.extend_from_slice(br#"{"type":"message","role":""#);
    out.extend_from_slice(role.as_bytes());
    out.extend_from_slice(br#"","content":"#);
    list(out, parts);
    out.push(b'}');
}

/// The result of a call. Text alone is a plain string, which every server takes.
fn output(out: &mut Vec<u8>, ResultOf { call_id, result }: &ResultOf<'_>, spec: &ModelSpec) {
    out.extend_from_slice(br#"{"type":"function_call_output","call_id":"#);
    string(out, call_id);
    out.extend_from_slice(br#","output":"#);
    let mut parts = parts(&result.content, spec);
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(&**text),
            _ => None,
        })
        .collect();
    match texts.map(|texts| texts.join("\n\n")) {
        Some(text) if !result.is_error => string(out, &text),
        Some(text) if text.is_empty() => string(out, &format!("{FAILED}.")),
        Some(text) => string(out, &format!("{FAILED}:\n{text}")),
        None => {
            if result.is_error {
                parts.insert(0, Part::Text(format!("{FAILED}:").into()));
            }
            list(out, &parts);
        }
    }
    out.push(b'}');
}

fn list(out: &mut Vec<u8>, parts: &[Part<'_>]) {
    out.push(b'[');
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match part {
            Part::Text(text) => {
                out.extend_from_slice(br#"{"type":"input_text","text":"#);
                string(out, text);
            }
            Part::Image { url } => {
                out.extend_from_slice(br#"{"type":"input_image","detail":"auto","image_url":"#);
                string(out, url);
            }
            Part::File { name, data } => {
                out.extend_from_slice(br#"{"type":"input_file","filename":"#);
                string(out, name);
                out.extend_from_slice(br#","file_data":"#);
                string(out, data);
            }
            Part::FileAt { url } => {
                out.extend_from_slice(br#"{"type":"input_file","file_url":"#);
                string(out, url);
            }
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Writes a JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    // A string has no map keys and memory takes every write, so this can't fail.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}
