//! What both wires of OpenAI share: headers, error bodies and how texts are told.
//!
//! Shapes are those of the official SDK's `types/shared/error_object.py` and the API's guide to error codes. Never
//! decides what is sent.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::failure::{Failure, lay_over, status_of as status_of_class};
use super::outline::list;

pub(super) fn check_headers(headers: &HeaderMap, needs_key: bool, found: &mut Vec<String>) {
    match headers.get("authorization") {
        Some(value) if value.as_bytes().starts_with(b"Bearer ") => {}
        Some(_) => found.push("Authorization does not begin with Bearer".to_owned()),
        None if needs_key => found.push("Authorization is not sent".to_owned()),
        None => {}
    }
}

/// The body of an error answer.
pub(super) fn error_body(failure: &Failure<'_>) -> Value {
    let mut error = error(failure);
    if let Some(details) = failure.details {
        lay_over(&mut error, details);
    }
    json!({"error": error})
}

/// The error object: the one of an answer, and the one inside of a stream.
pub(super) fn error(failure: &Failure<'_>) -> Value {
    let known = failure.class.is_none_or(is_class);
    let status = if known { failure.status } else { 0 };
    let (kind, code, usual) = match status {
        401 => ("invalid_request_error", json!("invalid_api_key"), "Incorrect API key provided."),
        402 => (
            "insufficient_quota",
            json!("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        404 => (
            "invalid_request_error",
            json!("model_not_found"),
            "The model does not exist or you do not have access to it.",
        ),
        429 => ("tokens", json!("rate_limit_exceeded"), "Rate limit reached."),
        400..=499 => ("invalid_request_error", Value::Null, "The request is not valid."),
        0 => {
            let name = failure.class.unwrap_or_default();
            (name, json!(name), "The server had an error while processing your request.")
        }
        _ => (
            "server_error",
            Value::Null,
            "The server had an error while processing your request. Sorry about that!",
        ),
    };
    json!({
        "message": failure.message.unwrap_or(usual), "type": kind, "param": null, "code": code,
    })
}

/// The status of a class; OpenAI says 503 where others say 529.
pub(super) fn status_of(class: &str) -> u16 {
    match status_of_class(class) {
        529 => 503,
        status => status,
    }
}

fn is_class(class: &str) -> bool {
    class == "api_error" || status_of_class(class) != 500 || class == "timeout_error"
}

/// The texts of a content, which is a string or a list of parts.
pub(super) fn texts(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let texts: Vec<&str> = list(content).iter().filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

/// Seconds since 1970 at which an answer says it was made; the same in every run.
pub(super) fn created(number: u64) -> u64 {
    1_767_225_600 + number
}
