//! What has to be true of every body, whatever was rendered into it.

use std::collections::HashSet;

use serde_json::{Value, value::RawValue};

use super::Speaker;
use crate::{Item, Request, WireKind, portable::Portable};

/// The longest id of a call that any wire takes.
const LONGEST_ID: usize = 64;

/// Renders twice and looks at what came out. Gives the body's messages, raw, and what stands
/// before them.
pub(super) fn check(speaker: Speaker, request: &Request, hint: &str) -> (String, Vec<String>) {
    let wire = speaker.wire();
    let body = wire.render(speaker.name, request);
    assert_eq!(body.bytes, wire.render(speaker.name, request).bytes, "pure: {hint}");
    let text = std::str::from_utf8(&body.bytes).unwrap();
    serde_json::from_str::<&RawValue>(text)
        .unwrap_or_else(|error| panic!("{hint}: {error} {text}"));
    // Half a character in a provider's own block is legal JSON, but no text.
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let calls = match speaker.kind {
            WireKind::Anthropic => anthropic(&json, hint),
            WireKind::OpenaiResponses => responses(&json, hint),
            WireKind::OpenaiChat => chat(&json, hint),
            WireKind::Gemini => gemini(&json, hint),
        };
        ids(speaker, request, &calls, hint);
        last(speaker, request, &json, hint);
    }
    names(speaker, text, request, hint);
    split(speaker, text)
}

/// What stands before the messages, and the messages.
fn split(speaker: Speaker, text: &str) -> (String, Vec<String>) {
    let member = match speaker.kind {
        WireKind::Anthropic | WireKind::OpenaiChat => r#","messages":["#,
        WireKind::OpenaiResponses => r#","input":["#,
        WireKind::Gemini => r#""contents":["#,
    };
    // No text can hold the quotes of a member.
    let (head, rest) = text.split_once(member).unwrap();
    let list = format!("[{}", rest.strip_suffix('}').unwrap());
    let messages: Vec<Box<RawValue>> = serde_json::from_str(&list).unwrap();
    (head.to_owned(), messages.iter().map(|message| message.get().to_owned()).collect())
}

fn list<'a>(json: &'a Value, member: &str) -> &'a [Value] {
    json[member].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(json: &'a Value, member: &str) -> &'a str {
    json[member].as_str().unwrap_or_default()
}

/// The calls of a body by their ids, in order; each has its result where it belongs.
fn anthropic(body: &Value, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut before = "";
    for message in list(body, "messages") {
        let blocks = list(message, "content");
        assert!(!blocks.is_empty(), "{hint}: {message}");
        let role = text(message, "role");
        let results: Vec<&str> = blocks
            .iter()
            .filter(|block| block["type"] == "tool_result")
            .map(|block| text(block, "tool_use_id"))
            .collect();
        assert_eq!(results, open, "{hint}: {body}");
        assert!(results.is_empty() || role == "user", "{hint}");
        assert!(role != "system" || before == "user", "{hint}: {body}");
        open.clear();
        for block in blocks {
            assert!(block["type"] != "text" || block["text"] != "", "{hint}: {message}");
            if block["type"] == "tool_use" {
                assert_eq!(role, "assistant");
                assert!(block["input"].is_object(), "{hint}: {block}");
                open.push(text(block, "id").to_owned());
            }
        }
        all.extend(open.iter().cloned());
        before = role;
    }
    assert_eq!(open, [""; 0], "{hint}");
    let markers = body.to_string().matches(r#""cache_control":{"type":"ephemeral"}"#).count();
    assert!(markers <= 4, "{hint}: {markers}");
    all
}

fn responses(body: &Value, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut answering = false;
    for item in list(body, "input") {
        match text(item, "type") {
            "function_call" => {
                assert!(open.is_empty() || !answering, "{hint}: {body}");
                let arguments = text(item, "arguments");
                assert!(
                    serde_json::from_str::<Box<RawValue>>(arguments)
                        .is_ok_and(|input| input.get().starts_with('{')),
                    "{hint}: {item}"
                );
                open.push(text(item, "call_id"));
                all.push(text(item, "call_id").to_owned());
                answering = false;
            }
            "function_call_output" => {
                assert_eq!(open.remove(0), text(item, "call_id"), "{hint}: {body}");
                answering = true;
            }
            "message" if item["role"] != "assistant" => {
                assert!(!list(item, "content").is_empty(), "{hint}: {item}");
            }
            _ => {}
        }
    }
    assert_eq!(open, [""; 0], "{hint}: {body}");
    all
}

fn chat(body: &Value, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for message in list(body, "messages") {
        let role = text(message, "role");
        if role == "tool" {
            assert!(!open.is_empty(), "{hint}: {body}");
            assert_eq!(open.remove(0), text(message, "tool_call_id"), "{hint}: {body}");
            assert!(!text(message, "content").is_empty(), "{hint}: {message}");
            continue;
        }
        assert_eq!(open, [""; 0], "{hint}: {body}");
        let calls = list(message, "tool_calls");
        assert!(message["tool_calls"].is_null() || !calls.is_empty(), "{hint}: {message}");
        for call in calls {
            let arguments = text(&call["function"], "arguments");
            assert!(
                serde_json::from_str::<Box<RawValue>>(arguments)
                    .is_ok_and(|input| input.get().starts_with('{')),
                "{hint}: {call}"
            );
            open.push(text(call, "id").to_owned());
        }
        all.extend(open.iter().cloned());
        let content = &message["content"];
        let says = content.is_string() || content.as_array().is_some_and(|it| !it.is_empty());
        let must = role != "assistant";
        assert!(says || (content.is_null() && !must), "{hint}: {message}");
    }
    assert_eq!(open, [""; 0], "{hint}: {body}");
    all
}

fn gemini(body: &Value, hint: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open: Vec<&Value> = Vec::new();
    let mut before = "";
    for content in list(body, "contents") {
        let (role, parts) = (text(content, "role"), list(content, "parts"));
        assert!(!parts.is_empty(), "{hint}: {content}");
        assert!(role == "user" || before == "user", "{hint}: {body}");
        let responses: Vec<&Value> = parts
            .iter()
            .map(|part| &part["functionResponse"])
            .filter(|response| !response.is_null())
            .collect();
        assert_eq!(responses.len(), open.len(), "{hint}: {body}");
        assert!(responses.is_empty() || responses.len() == parts.len(), "{hint}: {body}");
        for (call, response) in open.iter().zip(&responses) {
            assert_eq!(call["name"], response["name"], "{hint}: {body}");
            assert_eq!(text(call, "id"), text(response, "id"), "{hint}: {body}");
        }
        open =
            parts.iter().map(|part| &part["functionCall"]).filter(|call| !call.is_null()).collect();
        all.extend(open.iter().map(|call| text(call, "id").to_owned()));
        before = role;
    }
    assert!(open.is_empty() && before == "user", "{hint}: {body}");
    all
}

/// Newer models of Anthropic and some servers of Chat Completions take no answer at the end, but
/// one that the first of them have paused themselves.
fn last(speaker: Speaker, request: &Request, body: &Value, hint: &str) {
    let answered = list(body, "messages").last().is_some_and(|it| it["role"] == "assistant");
    let paused = matches!(request.items.last(), Some(Item::Assistant { provider, wire, .. })
        if **provider == *speaker.name && *wire == speaker.kind);
    let may = paused && speaker.kind == WireKind::Anthropic;
    assert!(!answered || may, "{hint}: {body}");
}

/// Ids that this wire was not given by its own provider are legal and nobody else's.
fn ids(speaker: Speaker, request: &Request, sent: &[String], hint: &str) {
    let own: Vec<String> = own_ids(speaker, &request.items);
    let mut seen = HashSet::new();
    for id in sent.iter().filter(|id| !own.contains(id)) {
        assert!(seen.insert(id), "{hint}: {id} twice");
        assert!((1..=LONGEST_ID).contains(&id.len()), "{hint}: {id}");
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        assert!(id.bytes().all(letter), "{hint}: {id}");
        if speaker.server == Some("mistral") {
            assert!(id.len() == 9 && !id.contains(['_', '-']), "{hint}: {id}");
        }
    }
    // Its own provider may give an id twice; a foreign call never comes under such a one.
    for id in &own {
        let times = |ids: &[String]| ids.iter().filter(|other| *other == id).count();
        assert!(times(sent) <= times(&own), "{hint}: {id} in {sent:?} {own:?}");
    }
}

/// The ids that a speaker has given, as often as it has given them.
pub(super) fn own_ids(speaker: Speaker, items: &[Item]) -> Vec<String> {
    let blocks = items.iter().filter_map(|item| match item {
        Item::Assistant { provider, wire, blocks }
            if **provider == *speaker.name && *wire == speaker.kind =>
        {
            Some(blocks)
        }
        _ => None,
    });
    let blocks = blocks.flat_map(|blocks| blocks.iter());
    let calls = blocks.filter_map(|block| match speaker.kind.portable(block)? {
        Portable::ToolUse { call_id, .. } => Some(call_id),
        Portable::Text(_) => None,
    });
    calls.collect()
}

/// Tools have legal names, each its own, and a call of the past is named as its tool.
fn names(speaker: Speaker, body: &str, request: &Request, hint: &str) {
    let Ok(json) = serde_json::from_str::<Value>(body) else { return };
    let declared: Vec<&str> = match speaker.kind {
        WireKind::Anthropic | WireKind::OpenaiResponses => {
            list(&json, "tools").iter().map(|tool| text(tool, "name")).collect()
        }
        WireKind::OpenaiChat => {
            list(&json, "tools").iter().map(|tool| text(&tool["function"], "name")).collect()
        }
        WireKind::Gemini => {
            let declarations = list(&json["tools"][0], "functionDeclarations");
            declarations.iter().map(|tool| text(tool, "name")).collect()
        }
    };
    assert_eq!(declared.len(), request.tools.len(), "{hint}");
    assert_eq!(declared.iter().collect::<HashSet<_>>().len(), declared.len(), "{hint}");
    let longest = if speaker.kind == WireKind::Anthropic { 128 } else { 64 };
    for name in declared {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        assert!((1..=longest).contains(&name.len()) && name.bytes().all(letter), "{hint}: {name}");
        let begins = !name.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        assert!(begins || speaker.kind != WireKind::Gemini, "{hint}: {name}");
    }
}
