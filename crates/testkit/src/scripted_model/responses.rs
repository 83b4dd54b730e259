//! The Responses wire of OpenAI.
//!
//! Holds how a request is read and told apart; what is said and checked is in the files below. Never keeps an answer:
//! `previous_response_id` leads nowhere.

mod checks;
mod playback;
mod replay;

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::conversations::Memory;
use super::failure::Failure;
use super::frames::Frame;
use super::openai;
use super::outline::{Block, Outline, list};
use super::playable::Playable;
use super::script::Step;
use super::transcript::{Outcome, Speaker, Transcript};
use super::wire::{Asked, Cues, Keepsakes, Target, Wire, Wishes};

/// `POST /v1/responses`.
pub(super) struct Responses;

/// Of `types/responses/response_create_params.py`.
const MEMBERS: [&str; 33] = [
    "access_programs",
    "background",
    "context_management",
    "conversation",
    "image",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// What the API repeats in each response object.
const REPEATED: [&str; 12] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
];

impl Wire for Responses {
    fn name(&self) -> &'static str {
        "openai_responses"
    }

    fn request_name(&self) -> &'static str {
        "a Responses request"
    }

    fn message_prefix(&self) -> &'static str {
        "resp"
    }

    fn call_prefix(&self) -> &'static str {
        "call"
    }

    fn request_header(&self) -> &'static str {
        "x-request-id"
    }

    fn read<'a>(
        &self,
        _target: &'a Target,
        body: &'a [u8],
    ) -> Result<Box<dyn Asked + Send + 'a>, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Ok(Box::new(transcript(&body)?))
    }

    fn outline(&self, body: &Value) -> Outline {
        let mut outline = Outline {
            tools: list(&body["tools"]).iter().map(|tool| Block::of(tool, "tools", 0)).collect(),
            system: Vec::new(),
            messages: Vec::new(),
            has_answer: false,
            place: |item, _| format!("input[{item}]"),
        };
        if !body["instructions"].is_null() {
            outline.system.push(Block::of(&body["instructions"], "system", 0));
        }
        if body["input"].is_string() {
            outline.messages.push(Block::of(&body["input"], "user", 0));
        }
        for (index, item) in list(&body["input"]).iter().enumerate() {
            let is_system = item["role"] == "system" || item["role"] == "developer";
            if is_system && outline.messages.is_empty() {
                outline.system.push(Block::of(item, "", 0));
                continue;
            }
            outline.has_answer |= checks::is_models(item);
            outline.messages.push(Block::of(item, "", index));
        }
        outline
    }

    fn check_headers(&self, headers: &HeaderMap, found: &mut Vec<String>) {
        openai::check_headers(headers, true, found);
    }

    fn check(&self, _model: &str, body: &Value, found: &mut Vec<String>) {
        checks::check(body, found);
    }

    fn check_replay(&self, memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>) {
        replay::check(memory, model, body, found);
    }

    fn members(&self) -> &'static [&'static str] {
        &MEMBERS
    }

    fn caches_by_itself(&self) -> bool {
        true
    }

    fn refuses(&self, step: &Step) -> Option<&'static str> {
        match step {
            Step::Raw(raw) if !raw["type"].is_string() => {
                Some("an event of the Responses wire needs a type")
            }
            _ => None,
        }
    }

    fn frames(&self, playable: &Playable, cues: &Cues<'_>) -> Vec<Frame> {
        playback::frames(playable, cues)
    }

    fn whole(&self, playable: &Playable, cues: &Cues<'_>) -> Value {
        playback::whole(playable, cues)
    }

    fn keepsakes(&self, playable: &Playable, cues: &Cues<'_>) -> Keepsakes {
        replay::keepsakes(playback::items(playable, cues))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        openai::error_body(failure)
    }

    fn status_of(&self, class: &str) -> u16 {
        openai::status_of(class)
    }
}

fn transcript(body: &Value) -> Result<Transcript, String> {
    let model = body["model"].as_str().ok_or("model is missing or not a string")?;
    let stream = body["stream"].as_bool().unwrap_or_default();
    let mut transcript = Transcript::of(model, stream, wishes(body));
    if let Some(instructions) = body["instructions"].as_str() {
        transcript.add_system(instructions);
    }
    match &body["input"] {
        Value::String(text) => transcript.turn(Speaker::User).say(text),
        Value::Array(items) => items.iter().for_each(|item| add(&mut transcript, item)),
        _ => return Err("input is neither a string nor a list".to_owned()),
    }
    Ok(transcript)
}

fn add(transcript: &mut Transcript, item: &Value) {
    let word = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let kind = item["type"].as_str().unwrap_or("message");
    let text = openai::texts(&item["content"]);
    match (kind, item["role"].as_str()) {
        ("message", Some("user")) => transcript.turn(Speaker::User).say(&text),
        ("message", Some("assistant")) => transcript.turn(Speaker::Model).say(&text),
        ("message", _) => transcript.add_system(&text),
        ("function_call", _) => {
            transcript.turn(Speaker::Model).calls.push((word("call_id"), word("name")))
        }
        ("function_call_output", _) => transcript.turn(Speaker::User).results.push(Outcome {
            call: word("call_id"),
            tool: None,
            text: openai::texts(&item["output"]),
        }),
        _ => {
            transcript.turn(Speaker::Model);
        }
    }
}

fn wishes(body: &Value) -> Wishes {
    let repeated = |name: &&str| {
        body.get(*name).filter(|value| !value.is_null()).map(|value| ((*name).to_owned(), value))
    };
    let repeated: Map<String, Value> =
        REPEATED.iter().filter_map(repeated).map(|(name, value)| (name, value.clone())).collect();
    let includes = list(&body["include"]);
    Wishes {
        usage: true,
        thoughts: body["reasoning"]["summary"].is_string(),
        encrypted: includes.iter().any(|name| name == checks::ENCRYPTED),
        repeated,
    }
}
