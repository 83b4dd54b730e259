//! The words of the Messages wire: events of a stream and error bodies, as text.
//!
//! Never decides what is sent; that is the script's. Shapes are those of the official SDK's `types/raw_*` and
//! `types/shared/error_*`.

use serde_json::{Value, json};

/// The names answered by `GET /v1/models`. A request may name any other.
const MODELS: [(&str, &str); 3] = [
    ("claude-scripted-large", "Scripted large"),
    ("claude-scripted-medium", "Scripted medium"),
    ("claude-scripted-small", "Scripted small"),
];

/// One server-sent event with the given JSON as its data.
pub(super) fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

pub(super) fn ping() -> String {
    event("ping", &json!({"type": "ping"}))
}

pub(super) fn block_start(index: usize, block: &Value) -> String {
    event(
        "content_block_start",
        &json!({"type": "content_block_start", "index": index, "content_block": block}),
    )
}

pub(super) fn block_delta(index: usize, delta: &Value) -> String {
    event(
        "content_block_delta",
        &json!({"type": "content_block_delta", "index": index, "delta": delta}),
    )
}

pub(super) fn block_stop(index: usize) -> String {
    event("content_block_stop", &json!({"type": "content_block_stop", "index": index}))
}

pub(super) fn error_body(class: &str, message: &str, request_id: &str) -> Value {
    json!({"type": "error", "error": {"type": class, "message": message}, "request_id": request_id})
}

/// The API's class and usual text for an HTTP status.
pub(super) fn error_class(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the API."),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        404 => ("not_found_error", "The requested resource could not be found."),
        408 | 504 => ("timeout_error", "Request timed out."),
        409 => ("conflict_error", "The request conflicts with the current state of the resource."),
        413 => ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
        429 => ("rate_limit_error", "This request would exceed your rate limit."),
        529 => ("overloaded_error", "Overloaded"),
        400..=499 => ("invalid_request_error", "The request is not valid."),
        _ => ("api_error", "Internal server error"),
    }
}

/// The status that belongs to an error class, for answers that are not streamed.
pub(super) fn error_status(class: &str) -> u16 {
    [400, 401, 402, 403, 404, 408, 409, 413, 429, 529]
        .into_iter()
        .find(|status| error_class(*status).0 == class)
        .unwrap_or(500)
}

/// The answer of `GET /v1/models`.
pub(super) fn models() -> Value {
    let data: Vec<Value> = MODELS.iter().map(|(id, name)| model(id, name)).collect();
    json!({"data": data, "has_more": false, "first_id": MODELS[0].0, "last_id": MODELS[MODELS.len() - 1].0})
}

/// The answer of `GET /v1/models/{id}`, if there is such a model.
pub(super) fn model_named(id: &str) -> Option<Value> {
    MODELS.iter().find(|(known, _)| *known == id).map(|(id, name)| model(id, name))
}

fn model(id: &str, name: &str) -> Value {
    json!({
        "type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active", "max_input_tokens": 200_000, "max_tokens": 64_000,
    })
}
