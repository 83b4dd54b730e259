//! What Chat Completions refuses, looked for in one request by itself.
//!
//! Never compares with what was sent; that is `replay`.

use serde_json::Value;

use crate::scripted_model::checks::{Calls, Tools, check_id, check_name};
use crate::scripted_model::outline::list;

/// Members of messages by role, of `types/chat/chat_completion_*_message_param.py`. The last of the assistant's are
/// those in which compatible servers take thinking back.
const BY_ROLE: [(&str, &[&str]); 5] = [
    ("developer", &["role", "content", "name"]),
    ("system", &["role", "content", "name"]),
    ("user", &["role", "content", "name"]),
    (
        "assistant",
        &[
            "role",
            "content",
            "name",
            "refusal",
            "audio",
            "tool_calls",
            "reasoning_content",
            "reasoning",
            "reasoning_details",
        ],
    ),
    ("tool", &["role", "content", "tool_call_id"]),
];

pub(super) fn check(body: &Value, found: &mut Vec<String>) {
    if !body["stream_options"].is_null() && body["stream"] != true {
        found.push("stream_options is only taken with stream".to_owned());
    }
    if !body["max_tokens"].is_null() && !body["max_completion_tokens"].is_null() {
        found.push("max_tokens and max_completion_tokens exclude each other".to_owned());
    }
    check_tools(body, found);
    let messages = list(&body["messages"]);
    if messages.is_empty() {
        found.push("messages is empty".to_owned());
    }
    let mut calls = Calls::default();
    for (index, message) in messages.iter().enumerate() {
        check_message(&format!("messages[{index}]"), message, &mut calls, found);
    }
    calls.settle("by a tool message right behind it", found);
    if messages.last().is_some_and(|message| message["role"] == "assistant") {
        found.push("the last message is the assistant's".to_owned());
    }
}

fn check_tools(body: &Value, found: &mut Vec<String>) {
    if body["tools"].as_array().is_some_and(Vec::is_empty) {
        found.push("tools is empty; leave it out instead".to_owned());
    }
    let mut tools = Tools::default();
    for (index, tool) in list(&body["tools"]).iter().enumerate() {
        let place = format!("tools[{index}]");
        match tool["type"].as_str() {
            Some("function") => {
                let function = &tool["function"];
                tools.check(&place, &function["name"], &function["parameters"], found);
            }
            Some("custom") => {}
            _ => found.push(format!("{place} is neither a function nor a custom tool")),
        }
    }
}

fn check_message(place: &str, message: &Value, calls: &mut Calls, found: &mut Vec<String>) {
    let role = message["role"].as_str().unwrap_or_default();
    let Some((_, members)) = BY_ROLE.iter().find(|(known, _)| *known == role) else {
        found.push(format!("{place} has the unknown role {role:?}"));
        return;
    };
    for name in message.as_object().into_iter().flat_map(|message| message.keys()) {
        if !members.contains(&name.as_str()) {
            found.push(format!("{place}.{name} is not a member of a message of the role {role}"));
        }
    }
    if role != "tool" {
        calls.settle("by a tool message right behind it", found);
    }
    match role {
        "assistant" => check_answer(place, message, calls, found),
        "tool" => {
            check_parts(place, message, &["text"], found);
            check_id(&format!("{place}.tool_call_id"), &message["tool_call_id"], found);
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            calls.answer(place, id, found);
        }
        "user" => {
            check_parts(place, message, &["text", "image_url", "input_audio", "file"], found);
        }
        _ => check_parts(place, message, &["text"], found),
    }
}

fn check_answer(place: &str, message: &Value, calls: &mut Calls, found: &mut Vec<String>) {
    let asked = &message["tool_calls"];
    if asked.as_array().is_some_and(Vec::is_empty) {
        found.push(format!("{place}.tool_calls is empty; leave it out instead"));
    }
    if !message["content"].is_null() {
        check_parts(place, message, &["text", "refusal"], found);
    } else if asked.is_null() && message["refusal"].is_null() {
        found.push(format!("{place} has neither content nor tool_calls"));
    }
    for (index, call) in list(asked).iter().enumerate() {
        let place = format!("{place}.tool_calls[{index}]");
        if call["type"] != "function" {
            found.push(format!("{place}.type is {}, not function", call["type"]));
        }
        check_id(&format!("{place}.id"), &call["id"], found);
        check_name(&format!("{place}.function.name"), &call["function"]["name"], found);
        if !call["function"]["arguments"].is_string() {
            found.push(format!("{place}.function.arguments is not a string"));
        }
        calls.ask(call["id"].as_str().unwrap_or_default(), found);
    }
}

fn check_parts(place: &str, message: &Value, taken: &[&str], found: &mut Vec<String>) {
    let path = format!("{place}.content");
    let parts = match &message["content"] {
        Value::String(_) => return,
        Value::Array(parts) if parts.is_empty() => {
            found.push(format!("{path} is empty"));
            return;
        }
        Value::Array(parts) => parts,
        _ => {
            found.push(format!("{path} is neither a string nor a list"));
            return;
        }
    };
    for (index, part) in parts.iter().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        if !taken.contains(&kind) {
            found.push(format!(
                "{path}[{index}] has the type {kind:?}; here {} is taken",
                taken.join(", ")
            ));
            continue;
        }
        let right = match kind {
            "image_url" => part["image_url"]["url"].is_string(),
            "file" => part["file"].is_object(),
            "input_audio" => part["input_audio"]["data"].is_string(),
            field => part[field].is_string(),
        };
        if !right {
            found.push(format!("{path}[{index}] has no content"));
        }
    }
}
