//! Tests of the Messages wire; what they share.

mod decoding;
mod refusals;
mod rendering;

use crate::{Item, WireKind, golden::Golden};

const GOLDEN: Golden = Golden {
    wire: WireKind::Anthropic,
    names: &[
        "citations",
        "error",
        "framing",
        "input_not_an_object",
        "max_tokens_before_tool_input",
        "max_tokens_in_tool_input",
        "parallel_tool_use",
        "redacted_thinking",
        "refusal",
        "server_tool_use",
        "text",
        "thinking",
        "unknown_block",
        "window_exceeded",
    ],
};

fn answer(blocks: &[&str]) -> Item {
    crate::golden::answer(WireKind::Anthropic, blocks)
}
