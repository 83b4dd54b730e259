//! The Messages wire of Anthropic.
//!
//! Holds how it is told apart; what it says and checks is in the files below. Never decides what is sent.

mod checks;
mod prepared;
mod replay;
mod request;
mod words;

use axum::http::HeaderMap;
use serde_json::Value;

pub(super) use self::prepared::Prepared;
use self::request::{MessagesRequest, contents};
use super::conversations::Memory;
use super::failure::{self, Failure};
use super::frames::Frame;
use super::outline::{Block, Outline, lifetime, list};
use super::playable::Playable;
use super::script::Step;
use super::wire::{Asked, Cues, Keepsakes, Target, Wire};

/// `POST /v1/messages`.
pub(super) struct Messages;

impl Wire for Messages {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn request_name(&self) -> &'static str {
        "a Messages request"
    }

    fn message_prefix(&self) -> &'static str {
        "msg"
    }

    fn call_prefix(&self) -> &'static str {
        "toolu"
    }

    fn request_header(&self) -> &'static str {
        "request-id"
    }

    fn read<'a>(
        &self,
        _target: &'a Target,
        body: &'a [u8],
    ) -> Result<Box<dyn Asked + Send + 'a>, String> {
        let request: MessagesRequest<'a> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Ok(Box::new(request))
    }

    fn outline(&self, body: &Value) -> Outline {
        outline(body)
    }

    fn check_headers(&self, headers: &HeaderMap, found: &mut Vec<String>) {
        checks::check_headers(headers, found);
    }

    fn check(&self, _model: &str, body: &Value, found: &mut Vec<String>) {
        checks::check_body(body, found);
    }

    fn check_replay(&self, memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>) {
        replay::check(memory, model, body, found);
    }

    fn members(&self) -> &'static [&'static str] {
        &[]
    }

    fn caches_by_itself(&self) -> bool {
        false
    }

    fn refuses(&self, _step: &Step) -> Option<&'static str> {
        None
    }

    fn frames(&self, playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
        playable.prepared.frames(playable, cues)
    }

    fn whole(&self, playable: &Playable, cues: &Cues<'_>) -> Value {
        playable.prepared.message(playable, cues)
    }

    fn keepsakes(&self, playable: &Playable, cues: &Cues<'_>) -> Keepsakes {
        replay::keepsakes(playable.prepared.content(cues))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        let (class, usual) = failure::class_of(failure.status);
        let class = failure.class.unwrap_or(class);
        let mut body =
            words::error_body(class, failure.message.unwrap_or(usual), failure.request_id);
        if let Some(details) = failure.details {
            failure::lay_over(&mut body["error"], details);
        }
        body
    }

    fn status_of(&self, class: &str) -> u16 {
        failure::status_of(class)
    }
}

/// The blocks of a request, with the markers that stand on them.
pub(super) fn outline(body: &Value) -> Outline {
    let section = |value: &Value, role| {
        contents(value).iter().map(|block| Block::of(block, role, 0)).collect()
    };
    let mut messages = Vec::new();
    let mut has_answer = false;
    for (index, message) in list(&body["messages"]).iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        has_answer |= role == "assistant";
        messages.extend(
            contents(&message["content"]).iter().map(|block| Block::of(block, role, index)),
        );
    }
    let mut outline = Outline {
        tools: section(&body["tools"], "tools"),
        system: section(&body["system"], "system"),
        messages,
        has_answer,
        place: replay::place,
    };
    if let Some(lifetime) = lifetime(body) {
        let last = [&mut outline.messages, &mut outline.system, &mut outline.tools]
            .into_iter()
            .find_map(|section| section.last_mut());
        if let Some(block) = last {
            block.marker.get_or_insert(lifetime);
        }
    }
    outline
}
