//! What the Responses API refuses, looked for in one request by itself.
//!
//! Never compares with what was sent; that is `replay`.

use serde_json::Value;

use crate::scripted_model::checks::{Calls, Tools, check_id, check_name};
use crate::scripted_model::outline::list;

/// Asks for reasoning that the client keeps.
pub(super) const ENCRYPTED: &str = "reasoning.encrypted_content";

/// What the API takes as the smallest `max_output_tokens` (`integer_below_min_value`).
const FEWEST_TOKENS: u64 = 16;

/// Of `types/responses/response_input_item_param.py`, but for items that this file looks into.
const OTHER_ITEMS: [&str; 27] = [
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
    "item_reference",
];

pub(super) fn check(body: &Value, found: &mut Vec<String>) {
    if body["max_output_tokens"].as_u64().is_some_and(|tokens| tokens < FEWEST_TOKENS) {
        found.push(format!("max_output_tokens is less than {FEWEST_TOKENS}"));
    }
    check_keeping(body, found);
    let mut tools = Tools::default();
    for (index, tool) in list(&body["tools"]).iter().enumerate() {
        match tool["type"].as_str() {
            Some("function") => {
                let place = format!("tools[{index}]");
                tools.check(&place, &tool["name"], &tool["parameters"], found);
            }
            Some(_) => {}
            None => found.push(format!("tools[{index}] has no type")),
        }
    }
    if list(&body["input"]).is_empty() && body["input"].as_str().is_none_or(str::is_empty) {
        found.push("input is empty".to_owned());
    }
    let mut calls = Calls::default();
    let items = list(&body["input"]);
    for (index, item) in items.iter().enumerate() {
        check_item(&format!("input[{index}]"), item, &mut calls, found);
        if item["type"] == "reasoning" && !items.get(index + 1).is_some_and(is_models) {
            found
                .push(format!("input[{index}] (reasoning) is without its required following item"));
        }
    }
    calls.settle("by an item behind it", found);
}

// Nothing is to stay with the provider, so what it would have kept has to travel.
fn check_keeping(body: &Value, found: &mut Vec<String>) {
    if body["store"] != false {
        found.push("store is not false: the provider would keep the conversation".to_owned());
    }
    let includes = list(&body["include"]).iter().any(|name| name == ENCRYPTED);
    if body["reasoning"].is_object() && !includes {
        found.push(format!("include lacks {ENCRYPTED}: the reasoning would be lost"));
    }
    if !body["previous_response_id"].is_null() {
        found.push("previous_response_id names a response, and none is stored".to_owned());
    }
}

fn check_item(place: &str, item: &Value, calls: &mut Calls, found: &mut Vec<String>) {
    match item["type"].as_str() {
        Some("message") | None => check_message(place, item, found),
        Some("reasoning") => {
            check_prefix(place, item, "rs", found);
            if !item["encrypted_content"].is_string() {
                found.push(format!(
                    "{place}: the reasoning has no encrypted_content, and nothing is stored under its id"
                ));
            }
            if !item["summary"].is_array() {
                found.push(format!("{place}.summary is missing or no list"));
            }
        }
        Some("function_call") => {
            if !item["id"].is_null() {
                check_prefix(place, item, "fc", found);
            }
            check_id(&format!("{place}.call_id"), &item["call_id"], found);
            check_name(&format!("{place}.name"), &item["name"], found);
            if !item["arguments"].is_string() {
                found.push(format!("{place}.arguments is not a string"));
            }
            calls.ask(item["call_id"].as_str().unwrap_or_default(), found);
        }
        Some("function_call_output") => {
            check_id(&format!("{place}.call_id"), &item["call_id"], found);
            match &item["output"] {
                Value::String(_) => {}
                Value::Array(parts) => check_parts(&format!("{place}.output"), parts, found),
                _ => found.push(format!("{place}.output is neither a string nor a list")),
            }
            calls.answer(place, item["call_id"].as_str().unwrap_or_default(), found);
        }
        Some("item_reference") => {
            found.push(format!("{place} refers to an item, and none is stored"));
        }
        Some(_) => {}
    }
}

/// Whether the model has said it. Whatever is not the client's is the model's, items that nobody knows too.
pub(super) fn is_models(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("message") | None => item["role"] == "assistant",
        Some(kind) => !kind.ends_with("_output"),
    }
}

/// Whether the API knows this type of item.
pub(super) fn is_known(kind: &str) -> bool {
    matches!(kind, "message" | "reasoning" | "function_call" | "function_call_output")
        || OTHER_ITEMS.contains(&kind)
}

fn check_message(place: &str, item: &Value, found: &mut Vec<String>) {
    let role = item["role"].as_str().unwrap_or_default();
    if !matches!(role, "user" | "assistant" | "system" | "developer") {
        found.push(format!("{place} has the unknown role {role:?}"));
    }
    if !item["id"].is_null() {
        check_prefix(place, item, "msg", found);
    }
    let path = format!("{place}.content");
    match &item["content"] {
        Value::String(_) => {}
        Value::Array(parts) if parts.is_empty() => found.push(format!("{path} is empty")),
        Value::Array(parts) if role == "assistant" => {
            for (index, part) in parts.iter().enumerate() {
                let field = match part["type"].as_str() {
                    Some("output_text") => "text",
                    Some("refusal") => "refusal",
                    _ => {
                        found.push(format!(
                            "{path}[{index}] is neither output_text nor refusal, and the message is the assistant's"
                        ));
                        continue;
                    }
                };
                if !part[field].is_string() {
                    found.push(format!("{path}[{index}].{field} is not a string"));
                }
            }
        }
        Value::Array(parts) => check_parts(&path, parts, found),
        _ => found.push(format!("{path} is neither a string nor a list")),
    }
}

fn check_parts(path: &str, parts: &[Value], found: &mut Vec<String>) {
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{path}[{index}]");
        let has = |names: &[&str]| names.iter().any(|name| part[*name].is_string());
        let right = match part["type"].as_str() {
            Some("input_text") => has(&["text"]),
            Some("input_image") => {
                let address = part["image_url"].as_str().unwrap_or_default();
                if !address.is_empty() && !is_address(address) {
                    found.push(format!("{place}.image_url is neither a URL nor data in base64"));
                }
                has(&["image_url", "file_id"])
            }
            Some("input_file") => has(&["file_data", "file_id", "file_url"]),
            _ => {
                found.push(format!(
                    "{place} has the type {}; input_text, input_image and input_file are taken",
                    part["type"]
                ));
                continue;
            }
        };
        if !right {
            found.push(format!("{place} has no content"));
        }
    }
}

fn is_address(address: &str) -> bool {
    let data = address.strip_prefix("data:").is_some_and(|data| data.contains(";base64,"));
    data || address.starts_with("https://") || address.starts_with("http://")
}

// "Expected an ID that begins with 'fc'."
fn check_prefix(place: &str, item: &Value, prefix: &str, found: &mut Vec<String>) {
    check_id(&format!("{place}.id"), &item["id"], found);
    if item["id"].as_str().is_some_and(|id| !id.starts_with(prefix)) {
        found.push(format!("{place}.id is {}, which does not begin with {prefix}", item["id"]));
    }
}
