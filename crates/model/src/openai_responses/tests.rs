//! Tests of the Responses wire; what they share.

mod carrying;
mod decoding;
mod refusals;
mod rendering;

use crate::{Body, Item, Request, WireKind, golden::Golden};

const WIRE: WireKind = WireKind::OpenaiResponses;

const GOLDEN: Golden = Golden {
    wire: WIRE,
    names: &[
        "content_filter",
        "framing",
        "malformed_arguments",
        "max_tokens_in_call",
        "max_tokens_in_open_call",
        "max_tokens_in_reasoning",
        "max_tokens_in_text",
        "overloaded",
        "parallel_calls",
        "policy",
        "rate_limited",
        "reasoning",
        "reasoning_at_the_end",
        "refusal",
        "text",
        "unknown_items",
    ],
};

/// A response of this provider over this wire.
fn answer(blocks: &[&str]) -> Item {
    crate::golden::answer(WIRE, blocks)
}

/// What is sent to the provider that bears the wire's name.
fn rendered(request: &Request) -> Body {
    WIRE.wire().render(WIRE.as_str(), request)
}
