//! Whether calls and signatures come back as they were sent, on the same part.
//!
//! Never looks at a request by itself; that is `checks`. A text without a signature has no name by which it could be
//! known.

use serde_json::{Value, json};

use crate::scripted_model::conversations::Memory;
use crate::scripted_model::outline::list;
use crate::scripted_model::wire::Keepsakes;

pub(super) fn check(memory: &Memory, body: &Value, found: &mut Vec<String>) {
    for (index, content) in list(&body["contents"]).iter().enumerate() {
        if content["role"] != "model" {
            continue;
        }
        for (position, part) in list(&content["parts"]).iter().enumerate() {
            let place = format!("contents[{index}].parts[{position}]");
            memory.compare(&place, claims(part), &flat(part), found);
        }
    }
}

/// What to know of an answer's parts.
pub(super) fn keepsakes(parts: &[Value]) -> Keepsakes {
    let mut keepsakes = Keepsakes::default();
    for part in parts {
        keepsakes.blocks.extend(claims(part).into_iter().map(|claim| (claim, flat(part))));
    }
    keepsakes
}

/// By what a part says that it comes from the model. A call without an id is known by what it calls.
fn claims(part: &Value) -> Vec<String> {
    let mut claims = Vec::new();
    if let Some(signature) = part["thoughtSignature"].as_str() {
        claims.push(format!("the thoughtSignature {signature:?}"));
    }
    if let Some(call) = part.get("functionCall") {
        claims.push(match call["id"].as_str() {
            Some(id) => format!("the id {id:?}"),
            None => format!("the call {}({})", call["name"], call["args"]),
        });
    }
    claims
}

// So that the order of a call's own members says nothing; that of its arguments does.
fn flat(part: &Value) -> Value {
    let mut flat = part.clone();
    if let Some(call) = flat.as_object_mut().and_then(|part| part.remove("functionCall")) {
        flat["functionCall.id"] = call["id"].clone();
        flat["functionCall.name"] = call["name"].clone();
        flat["functionCall.args"] =
            if call["args"].is_null() { json!({}) } else { call["args"].clone() };
    }
    flat
}
