//! Tests of the wire of `generateContent`; what they share.

mod addresses;
mod connection;
mod decoding;
mod refusals;
mod rendering;
mod results;

use crate::{Item, WireKind, golden::Golden};

const GOLDEN: Golden = Golden {
    wire: WireKind::Gemini,
    names: &[
        "blocked_prompt",
        "cached_usage",
        "calls_without_ids",
        "error",
        "error_in_list",
        "framing",
        "malformed_call",
        "max_tokens",
        "max_tokens_before_arguments",
        "opaque",
        "parallel_calls",
        "refusal",
        "signed_text",
        "text",
        "thinking",
    ],
};

fn answer(blocks: &[&str]) -> Item {
    crate::golden::answer(WireKind::Gemini, blocks)
}
