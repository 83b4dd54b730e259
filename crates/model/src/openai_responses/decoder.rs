//! Turns the events of a Responses stream into neutral events, without IO.
//!
//! Lossless: every item of the output comes out as the provider sent it, unknown kinds included.
//! It never decides whether a failure is retried.

use std::{borrow::Cow, collections::VecDeque};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    item::Building,
    refusal::{self, WireError},
};
use crate::{Block, Event, Failure, FailureKind, Response, Stop, Usage, View, wire::Decode};

/// The state of one response.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    items: Vec<Building>,
    usage: Usage,
    served: Option<String>,
    finished: bool,
}

/// The outermost members of all events; what is inside stays raw until it is known to matter.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    output_index: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The response inside of an event. It comes with its beginning, and again with its end.
#[derive(Deserialize, Default)]
struct Told<'a> {
    model: Option<String>,
    /// Still raw: an answer whose counts can't be read is an answer.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<Vec<&'a RawValue>>,
    incomplete_details: Option<Incomplete<'a>>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

/// `ResponseUsage`. The details are parts of the input, not additions to it.
#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<WriteDetails>,
}

#[derive(Deserialize)]
struct WriteDetails {
    ttl_12h_tokens: Option<u64>,
}

impl Decode for Decoder {
    fn is_finished(&self) -> bool {
        self.finished
    }

    fn decode(&mut self, data: &str, events: &mut VecDeque<Event>) {
        // Some servers end their streams as the older dialect does.
        if self.finished || data == "[DONE]" {
            return;
        }
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(data) else {
            events.push_back(self.fail(
                FailureKind::Transient,
                "the provider sent an event that can't be read".to_owned(),
            ));
            return;
        };
        let understood = match &*frame.kind {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.delta(frame.place(), frame.delta, events)
            }
            "response.output_item.added" => self.begin(frame.place(), frame.item, events).is_some(),
            "response.output_item.done" => self.complete(frame.place(), frame.item, events),
            "response.completed" | "response.incomplete" => self.ended(frame.response, events),
            "response.failed" => {
                self.failed(frame.response, events);
                true
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                self.told(frame.response, events);
                true
            }
            "error" => {
                self.error(frame.error.map_or(data, RawValue::get), events);
                true
            }
            "" if frame.error.is_some() => {
                self.error(frame.error.map_or(data, RawValue::get), events);
                true
            }
            // The rest repeats what a whole item says, or tells of work at the provider.
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
    /// Begins an item and gives its index.
    fn begin(
        &mut self,
        place: Option<u64>,
        native: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) -> Option<usize> {
        let index = self.items.len();
        let item = Building::new(place.unwrap_or(index as u64), native?)?;
        events.push_back(Event::Started { index, kind: item.kind() });
        self.items.push(item);
        Some(index)
    }

    /// The index of the item at a place in the output; without a place, of the newest one.
    fn find(&self, place: Option<u64>) -> Option<usize> {
        match place {
            Some(place) => self.items.iter().rposition(|item| item.output_index == place),
            None => self.items.len().checked_sub(1),
        }
    }

    /// The hot path: one call per token.
    fn delta(
        &mut self,
        place: Option<u64>,
        delta: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let text = delta.and_then(|delta| serde_json::from_str::<String>(delta.get()).ok());
        let (Some(index), Some(text)) = (self.find(place), text) else { return false };
        let item = &mut self.items[index];
        if item.is_text() && !item.is_whole && !text.is_empty() {
            item.grow(&text);
            events.push_back(Event::Text { index, text });
        }
        true
    }

    /// Takes a whole item, whether or not it was announced.
    fn complete(
        &mut self,
        place: Option<u64>,
        native: Option<&RawValue>,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let begun = self.find(place).filter(|index| !self.items[*index].is_whole);
        let Some(index) = begun.or_else(|| self.begin(place, native, events)) else {
            return false;
        };
        let Some(text) = native.and_then(|native| self.items[index].complete(native)) else {
            return false;
        };
        if !text.is_empty() {
            events.push_back(Event::Text { index, text });
        }
        true
    }

    /// Reads what a response says of itself.
    fn told<'a>(
        &mut self,
        response: Option<&'a RawValue>,
        events: &mut VecDeque<Event>,
    ) -> Option<Told<'a>> {
        let told: Told<'a> = serde_json::from_str(response?.get()).ok()?;
        if told.model.is_some() {
            self.served.clone_from(&told.model);
        }
        let counts = told.usage.and_then(|raw| serde_json::from_str::<Counts>(raw.get()).ok());
        if let Some(counts) = counts {
            self.usage = counts.usage();
            events.push_back(Event::Usage(self.usage));
        }
        Some(told)
    }

    fn ended(&mut self, response: Option<&RawValue>, events: &mut VecDeque<Event>) -> bool {
        let Some(told) = self.told(response, events) else { return false };
        for (place, native) in told.output.iter().flatten().copied().enumerate() {
            let place = place as u64;
            match self.find(Some(place)).filter(|index| self.items[*index].is_whole) {
                Some(index) => self.items[index].amend(native),
                // Some servers say an item's end only here.
                None if !self.complete(Some(place), Some(native), events) => return false,
                None => {}
            }
        }
        let reason = told.incomplete_details.and_then(|details| details.reason);
        let event = self.response(reason.as_deref());
        events.push_back(event);
        true
    }

    fn failed(&mut self, response: Option<&RawValue>, events: &mut VecDeque<Event>) {
        let told = self.told(response, events).unwrap_or_default();
        self.stopped(&told.error.unwrap_or_default(), events);
    }

    fn error(&mut self, error: &str, events: &mut VecDeque<Event>) {
        self.stopped(&serde_json::from_str(error).unwrap_or_default(), events);
    }

    fn stopped(&mut self, error: &WireError, events: &mut VecDeque<Event>) {
        if let Some((category, explanation)) = refusal::policy(error) {
            let stop = Stop::Refusal { category: Some(category), explanation };
            let event = self.finish(true, |_| stop);
            events.push_back(event);
            return;
        }
        let (kind, message) = refusal::of_stream(error);
        let mut event = self.fail(kind, message);
        if let Event::Failed(failure) = &mut event {
            failure.retry_after = refusal::wait_of_stream(error);
        }
        events.push_back(event);
    }

    /// Ends the response; `reason` says why it is incomplete.
    fn response(&mut self, reason: Option<&str>) -> Event {
        let refusal = self.items.iter().find_map(Building::refusal);
        self.finish(reason.is_some(), |blocks| match reason {
            Some("max_output_tokens") => Stop::MaxTokens,
            Some("content_filter") => {
                Stop::Refusal { category: Some("content_filter".to_owned()), explanation: None }
            }
            _ if blocks.iter().any(|block| matches!(block.view, View::ToolUse { .. })) => {
                Stop::ToolUse
            }
            _ if refusal.is_some() => Stop::Refusal { category: None, explanation: refusal },
            _ => Stop::EndTurn,
        })
    }

    fn finish(&mut self, cut: bool, stop: impl FnOnce(&[Block]) -> Stop) -> Event {
        self.finished = true;
        let items = std::mem::take(&mut self.items);
        let last = items.len();
        let blocks: Vec<Block> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| item.finish(cut && index + 1 == last))
            .collect();
        let stop = stop(&blocks);
        Event::Ended(Response { blocks, stop, usage: self.usage, served: self.served.take() })
    }
}

impl Frame<'_> {
    fn place(&self) -> Option<u64> {
        self.output_index.and_then(|place| serde_json::from_str(place.get()).ok())
    }
}

impl Counts {
    fn usage(&self) -> Usage {
        let details = self.input_tokens_details.as_ref();
        let read = details.and_then(|details| details.cached_tokens).unwrap_or_default();
        let written = details.and_then(|details| details.cache_write_tokens).unwrap_or_default();
        let lifetimes = details.and_then(|details| details.cache_write_tokens_details.as_ref());
        let half_day = lifetimes.and_then(|of| of.ttl_12h_tokens).unwrap_or_default().min(written);
        // The two lifetimes of this cache are longer than those of the counts' names; what matters
        // is that they are priced apart.
        Usage {
            input_tokens: self
                .input_tokens
                .unwrap_or_default()
                .saturating_sub(read)
                .saturating_sub(written),
            output_tokens: self.output_tokens.unwrap_or_default(),
            cache_read_input_tokens: read,
            cache_write_5m_tokens: written - half_day,
            cache_write_1h_tokens: half_day,
        }
    }
}
