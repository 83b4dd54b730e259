//! Tests of the Chat Completions wire; what they share.

mod decoding;
mod refusals;
mod rendering;
mod replaying;
mod servers;

use serde_json::value::RawValue;

use crate::{Item, Request, WireKind, golden::Golden};

const GOLDEN: Golden = Golden {
    wire: WireKind::OpenaiChat,
    names: &[
        "calls_numbered_alike",
        "content_filter",
        "error_as_reason",
        "error_flat",
        "error_with_code",
        "input_not_an_object",
        "max_tokens",
        "max_tokens_before_call",
        "max_tokens_in_call",
        "parallel_calls",
        "reasoning_content",
        "reasoning_details",
        "refusal",
        "text",
        "thinking_parts",
        "unknown_members",
        "usage_in_x_groq",
        "whole_calls",
    ],
};

/// The name under which the tests' provider keeps its blocks.
const PROVIDER: &str = "openai_chat";

fn answer(blocks: &[&str]) -> Item {
    crate::golden::answer(WireKind::OpenaiChat, blocks)
}

/// The body for the server of that kind.
fn body(server: &str, request: &Request) -> String {
    let url = reqwest::Url::parse("https://example.com/v1").unwrap();
    let wire = super::server(&url, Some(server)).unwrap();
    let body = wire.render(PROVIDER, request).bytes;
    assert_eq!(body, wire.render(PROVIDER, request).bytes, "pure");
    serde_json::from_slice::<&RawValue>(&body).expect("valid JSON");
    String::from_utf8(body.to_vec()).unwrap()
}

fn json(server: &str, request: &Request) -> serde_json::Value {
    serde_json::from_str(&body(server, request)).unwrap()
}

/// A call as it stands in a block.
fn call(id: &str) -> String {
    format!(
        r#"{{"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"lookup","arguments":"{{\"q\": 1.10}}"}}}}]}}"#
    )
}
