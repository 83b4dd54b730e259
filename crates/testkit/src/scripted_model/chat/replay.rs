//! Whether calls come back as they were sent.
//!
//! Never looks at a request by itself; that is `checks`. Texts and thinking have no name by which they could be known.

use serde_json::Value;

use crate::scripted_model::conversations::Memory;
use crate::scripted_model::outline::list;
use crate::scripted_model::wire::Keepsakes;

pub(super) fn check(memory: &Memory, body: &Value, found: &mut Vec<String>) {
    for (index, message) in list(&body["messages"]).iter().enumerate() {
        for (position, call) in list(&message["tool_calls"]).iter().enumerate() {
            let place = format!("messages[{index}].tool_calls[{position}]");
            memory.compare(&place, claim(call), call, found);
        }
    }
}

/// What to know of an answer.
pub(super) fn keepsakes(message: &Value) -> Keepsakes {
    let mut keepsakes = Keepsakes::default();
    for call in list(&message["tool_calls"]) {
        keepsakes.blocks.extend(claim(call).map(|claim| (claim, call.clone())));
    }
    keepsakes
}

fn claim(call: &Value) -> Option<String> {
    call["id"].as_str().filter(|id| !id.is_empty()).map(|id| format!("the id {id:?}"))
}
