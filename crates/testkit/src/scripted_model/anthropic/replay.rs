//! Whether what the model said comes back as it was said, on the Messages wire.
//!
//! Never looks at a request by itself; that is `checks`.

use serde_json::Value;

use super::request::contents;
use crate::scripted_model::conversations::Memory;
use crate::scripted_model::outline::list;
use crate::scripted_model::wire::Keepsakes;

pub(super) fn check(memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>) {
    check_blocks(memory, body, found);
    check_thoughts(memory, model, body, found);
    let last_is_assistant =
        list(&body["messages"]).last().is_some_and(|message| message["role"] == "assistant");
    if last_is_assistant && !memory.paused() {
        found.push(
            "the last message is the assistant's, and no pause_turn was sent before it".to_owned(),
        );
    }
}

/// What to know of an answer's blocks.
pub(super) fn keepsakes(content: Vec<Value>) -> Keepsakes {
    let is_thought =
        |block: &&Value| block["type"] == "thinking" || block["type"] == "redacted_thinking";
    let claims: Vec<String> = content.iter().filter(is_thought).filter_map(claim).collect();
    let mut keepsakes = Keepsakes::default();
    for block in content {
        if !claims.is_empty() && block["type"] == "tool_use" {
            let id = block["id"].as_str().unwrap_or_default().to_owned();
            keepsakes.bonds.push((id, claims.clone()));
        }
        let claims = claim(&block).into_iter().chain(claim_by_text(&block));
        keepsakes.blocks.extend(claims.map(|claim| (claim, block.clone())));
    }
    keepsakes
}

fn check_blocks(memory: &Memory, body: &Value, found: &mut Vec<String>) {
    for (index, message) in list(&body["messages"]).iter().enumerate() {
        if message["role"] != "assistant" {
            continue;
        }
        for (position, block) in list(&message["content"]).iter().enumerate() {
            let claims = claim(block).into_iter().chain(claim_by_text(block));
            memory.compare(&place(index, position), claims, block, found);
        }
    }
}

// The API refuses a tool loop whose last assistant turn has lost its thinking, as long as thinking is on.
fn check_thoughts(memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>) {
    if !matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive")) {
        return;
    }
    let messages = list(&body["messages"]);
    let Some(last) = messages.iter().rposition(|message| message["role"] == "assistant") else {
        return;
    };
    let blocks = contents(&messages[last]["content"]);
    let present: Vec<String> = blocks.iter().filter_map(claim).collect();
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    for id in calls.filter_map(|block| block["id"].as_str()) {
        let bonds = memory.bonds(id, model);
        if let Some(missing) = bonds.iter().find(|claim| !present.contains(claim)) {
            found.push(format!(
                "messages[{last}] has the tool_use {id} but not the thinking before it ({missing})"
            ));
            return;
        }
    }
}

pub(super) fn place(message: usize, block: usize) -> String {
    format!("messages[{message}].content[{block}]")
}

/// By what a block says that it comes from the model.
fn claim(block: &Value) -> Option<String> {
    match block["type"].as_str()? {
        "thinking" => {
            block["signature"].as_str().map(|signature| format!("the signature {signature:?}"))
        }
        "redacted_thinking" => block["data"].as_str().map(|data| format!("the data {data:?}")),
        _ => block["id"].as_str().map(|id| format!("the id {id:?}")),
    }
}

fn claim_by_text(block: &Value) -> Option<String> {
    let text = block["thinking"].as_str().filter(|text| !text.is_empty());
    text.map(|text| format!("the thinking {text:?}"))
}
