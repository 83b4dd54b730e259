//! The words of the Messages wire: events of a stream and error bodies, as text.
//!
//! Never decides what is sent; that is the script's. Shapes are those of the official SDK's `types/raw_*` and
//! `types/shared/error_*`.

use serde_json::{Value, json};

use crate::scripted_model::frames::event;

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
