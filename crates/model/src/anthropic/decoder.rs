//! Turns the events of a Messages stream into neutral events, without IO.
//!
//! Lossless: every block comes out as the provider sent it, members in their order, numbers as
//! their digits, unknown kinds included. It never decides whether a failure is retried.

use std::{borrow::Cow, collections::VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    block::{Building, Members},
    refusal,
};
use crate::{Event, Failure, FailureKind, Response, Stop, Usage, wire::Decode};

/// The state of one response.
#[derive(Debug, Default)]
pub struct Decoder {
    blocks: Vec<Building>,
    usage: Usage,
    served: Option<String>,
    stop: Option<Stop>,
    finished: bool,
}

/// The outermost members of all events; what is inside stays raw until it is known to matter.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The known deltas in one shape.
#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    model: Option<String>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct MessageDelta {
    stop_reason: Option<String>,
    stop_details: Option<StopDetails>,
}

#[derive(Deserialize)]
struct StopDetails {
    category: Option<String>,
    explanation: Option<String>,
}

/// `BetaUsage` and `BetaMessageDeltaUsage`: cumulative counts, of which a later report may leave
/// some out.
#[derive(Deserialize, Default)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

#[derive(Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: u64,
    #[serde(default)]
    ephemeral_1h_input_tokens: u64,
}

impl Decoder {
    /// A decoder for one response.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Decode for Decoder {
    fn is_finished(&self) -> bool {
        self.finished
    }

    fn decode(&mut self, data: &str, events: &mut VecDeque<Event>) {
        if self.finished {
            return;
        }
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(data) else {
            if is_foreign(data) {
                return;
            }
            events.push_back(self.fail(
                FailureKind::Transient,
                "the provider sent an event that can't be read".to_owned(),
            ));
            return;
        };
        let understood = match &*frame.kind {
            "content_block_delta" => self.delta(frame.index, frame.delta, events),
            "content_block_start" => self.start(frame.index, frame.content_block, events),
            "message_start" => {
                self.message_start(frame.message, events);
                true
            }
            "message_delta" => {
                self.message_delta(frame.delta, frame.usage, events);
                true
            }
            "message_stop" => {
                events.push_back(self.ended());
                true
            }
            "error" => {
                let (kind, message) = refusal::of_stream(frame.error);
                events.push_back(self.fail(kind, message));
                true
            }
            // `content_block_stop` and `ping` say nothing that matters, and the API promises to
            // add kinds.
            _ => true,
        };
        if !understood {
            events.push_back(self.fail(
                FailureKind::Transient,
                "the provider sent content that can't be read".to_owned(),
            ));
        }
    }

    fn fail(&mut self, kind: FailureKind, message: String) -> Event {
        self.finished = true;
        Event::Failed(Failure { kind, message, retry_after: None, usage: self.usage })
    }
}

impl Decoder {
    fn start(
        &mut self,
        wire_index: u64,
        block: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let Some(block) = block.and_then(|block| Building::new(wire_index, block)) else {
            return false;
        };
        let index = self.blocks.len();
        events.push_back(Event::Started { index, kind: block.kind() });
        if let Some(text) = block.opening_text() {
            events.push_back(Event::Text { index, text });
        }
        self.blocks.push(block);
        true
    }

    /// The hot path: one call per token.
    fn delta(
        &mut self,
        wire_index: u64,
        delta: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let Some(delta) = delta else { return false };
        // The block that grows is the last one, unless a provider interleaves them.
        let Some((index, block)) =
            self.blocks.iter_mut().enumerate().rfind(|(_, block)| block.wire_index == wire_index)
        else {
            return false;
        };
        let Ok(known) = serde_json::from_str::<Delta<'_>>(delta.get()) else {
            return merge(index, block, delta, events);
        };
        match &*known.kind {
            "text_delta" => {
                let Some(text) = known.text else {
                    return merge(index, block, delta, events);
                };
                block.grow_text("text", &text);
                if block.is_text() && !text.is_empty() {
                    events.push_back(Event::Text { index, text });
                }
            }
            "thinking_delta" => {
                let Some(thinking) = known.thinking else {
                    return merge(index, block, delta, events);
                };
                block.grow_text("thinking", &thinking);
            }
            "input_json_delta" => {
                let Some(json) = known.partial_json else {
                    return merge(index, block, delta, events);
                };
                block.grow_json("input", &json);
            }
            "signature_delta" => {
                let Some(signature) = known.signature else {
                    return merge(index, block, delta, events);
                };
                block.set("signature", signature);
            }
            "citations_delta" => {
                let Some(citation) = known.citation else {
                    return merge(index, block, delta, events);
                };
                block.push("citations", citation);
            }
            _ => return merge(index, block, delta, events),
        }
        true
    }

    fn message_start(&mut self, message: Option<&RawValue>, events: &mut VecDeque<Event>) {
        let Some(message) =
            message.and_then(|raw| serde_json::from_str::<MessageStart<'_>>(raw.get()).ok())
        else {
            return;
        };
        self.served = message.model;
        self.count(message.usage, events);
    }

    fn message_delta(
        &mut self,
        delta: Option<&RawValue>,
        usage: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) {
        let delta: MessageDelta =
            delta.and_then(|delta| serde_json::from_str(delta.get()).ok()).unwrap_or_default();
        if let Some(reason) = delta.stop_reason {
            self.stop = Some(stop(&reason, delta.stop_details));
        }
        self.count(usage, events);
    }

    fn count(&mut self, usage: Option<&RawValue>, events: &mut VecDeque<Event>) {
        let Some(counts) = usage.and_then(|raw| serde_json::from_str::<Counts>(raw.get()).ok())
        else {
            return;
        };
        let usage = &mut self.usage;
        usage.input_tokens = counts.input_tokens.unwrap_or(usage.input_tokens);
        usage.output_tokens = counts.output_tokens.unwrap_or(usage.output_tokens);
        usage.cache_read_input_tokens =
            counts.cache_read_input_tokens.unwrap_or(usage.cache_read_input_tokens);
        if let Some(written) = counts.cache_creation {
            usage.cache_write_5m_tokens = written.ephemeral_5m_input_tokens;
            usage.cache_write_1h_tokens = written.ephemeral_1h_input_tokens;
        }
        if let Some(total) = counts.cache_creation_input_tokens {
            // Where only the total is reported, the rest is five-minute writes, the default.
            usage.cache_write_5m_tokens = total.saturating_sub(usage.cache_write_1h_tokens);
        }
        events.push_back(Event::Usage(*usage));
    }

    fn ended(&mut self) -> Event {
        self.finished = true;
        let stop = self.stop.take().unwrap_or(Stop::EndTurn);
        let cut = !matches!(stop, Stop::EndTurn | Stop::ToolUse);
        let count = self.blocks.len();
        let blocks = std::mem::take(&mut self.blocks)
            .into_iter()
            .enumerate()
            .map(|(index, block)| block.finish(cut && index + 1 == count))
            .collect();
        Event::Ended(Response { blocks, stop, usage: self.usage, served: self.served.take() })
    }
}

/// Whether this is an event of a kind that this version doesn't know, whose members of the same
/// names may have other shapes.
fn is_foreign(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Kind<'_>>(data).is_ok_and(|event| {
        let kind = &*event.kind;
        kind != "error" && !kind.starts_with("message_") && !kind.starts_with("content_block_")
    })
}

/// Applies a delta by the general rule.
fn merge(
    index: usize,
    block: &mut Building,
    delta: &RawValue,
    events: &mut VecDeque<Event>,
) -> bool {
    let delta = serde_json::from_str::<Members>(delta.get()).ok();
    let Some(text) = delta.and_then(|delta| block.merge(delta)) else { return false };
    if !text.is_empty() {
        events.push_back(Event::Text { index, text });
    }
    true
}

/// `BetaStopReason`. What this version doesn't know ends the turn.
fn stop(reason: &str, details: Option<StopDetails>) -> Stop {
    match reason {
        "tool_use" => Stop::ToolUse,
        "max_tokens" => Stop::MaxTokens,
        "pause_turn" => Stop::Pause,
        "model_context_window_exceeded" => Stop::WindowExceeded,
        "refusal" => {
            let (category, explanation) =
                details.map_or((None, None), |details| (details.category, details.explanation));
            Stop::Refusal { category, explanation }
        }
        _ => Stop::EndTurn,
    }
}
