//! A log as a client sees it, one short line for each event.
//!
//! `session.` and `span.` are left out of the names; calls go by the names that the model gave
//! them.

use std::collections::HashMap;

use posthouse_store::Record;
use serde_json::Value;

use crate::{
    own::{self, ResponseKept},
    summary::parse,
    view::{self, Shown, View},
};

/// Long texts are cut to so many characters.
const TEXT: usize = 50;

/// The model's names of a response's calls, by the ids of their events.
pub(super) fn call_names(record: &Record) -> Vec<(String, String)> {
    if &*record.kind != own::kind::RESPONSE {
        return Vec::new();
    }
    let links = parse::<ResponseKept>(record).unwrap().calls;
    links.into_iter().map(|link| (link.event.to_string(), link.call_id)).collect()
}

/// The events that records from `from` on show.
pub(super) fn shown(records: &[Record], from: usize, view: &View) -> Vec<Shown> {
    let at_hand = records.iter().map(|record| (record.seq, record.clone())).collect();
    let mut queued = view::finder(&at_hand, |_| Ok(None));
    let show = |record| view.show(record, &mut queued).unwrap();
    records[from..].iter().flat_map(show).collect()
}

pub(super) fn lines(
    records: &[Record],
    from: usize,
    names: &HashMap<String, String>,
) -> Vec<String> {
    shown(records, from, &View::default())
        .iter()
        .map(|shown| line(&serde_json::from_str(&shown.json).unwrap(), names))
        .collect()
}

fn line(event: &Value, names: &HashMap<String, String>) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let call = |id: &Value| {
        let id = id.as_str().unwrap_or_default();
        names.get(id).cloned().unwrap_or_else(|| id.to_owned())
    };
    let answers = ["custom_tool_use_id", "mcp_tool_use_id", "tool_use_id"];
    let answered = answers.iter().find_map(|name| event.get(name)).map(call).unwrap_or_default();
    let content = texts(&event["content"]);
    let error = if event["is_error"] == true { "error" } else { "" };
    let kind = text("type");
    let details: Vec<String> = match &*kind {
        "user.message" | "system.message" | "agent.message" => vec![content],
        "agent.tool_use" => vec![call(&event["id"]), text("name"), text("evaluated_permission")],
        "agent.mcp_tool_use" => {
            let server = text("mcp_server_name");
            vec![call(&event["id"]), server, text("name"), text("evaluated_permission")]
        }
        "agent.custom_tool_use" => vec![call(&event["id"]), text("name")],
        "agent.tool_result" | "agent.mcp_tool_result" | "user.custom_tool_result" => {
            vec![answered, error.to_owned(), content]
        }
        "user.tool_confirmation" => vec![answered, text("result"), text("deny_message")],
        "span.model_request_end" => vec![error.to_owned()],
        "session.error" => {
            let error = &event["error"];
            let kind = error["type"].as_str().unwrap().to_owned();
            vec![kind, error["retry_status"]["type"].as_str().unwrap().to_owned()]
        }
        "session.status_idle" | "session.thread_status_idle" => {
            let reason = &event["stop_reason"];
            let mut details = vec![reason["type"].as_str().unwrap().to_owned()];
            details.extend(reason["event_ids"].as_array().into_iter().flatten().map(call));
            details.extend(event["stop_details"]["category"].as_str().map(str::to_owned));
            details
        }
        _ => Vec::new(),
    };
    let name = kind.strip_prefix("session.").or_else(|| kind.strip_prefix("span."));
    let mut line = name.unwrap_or(&kind).to_owned();
    for detail in details.iter().filter(|detail| !detail.is_empty()) {
        line.push(' ');
        line.push_str(detail);
    }
    line
}

fn texts(content: &Value) -> String {
    let blocks = content.as_array().into_iter().flatten();
    let text: Vec<_> = blocks.filter_map(|block| block["text"].as_str()).collect();
    let text = text.join(" | ");
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
