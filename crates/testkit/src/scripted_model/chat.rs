//! The Chat Completions wire of OpenAI, and of everyone who is compatible with it.
//!
//! Holds how a request is read and told apart; what is said and checked is in the files below. Never decides what is
//! sent.

mod checks;
mod playback;
mod replay;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::conversations::Memory;
use super::failure::Failure;
use super::frames::Frame;
use super::openai;
use super::outline::{Block, Outline, list};
use super::playable::Playable;
use super::script::Step;
use super::transcript::{Outcome, Speaker, Transcript};
use super::wire::{Asked, Cues, Keepsakes, Target, Wire, Wishes};

/// `POST /v1/chat/completions`.
pub(super) struct Chat;

/// Of `types/chat/completion_create_params.py`.
const MEMBERS: [&str; 37] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

impl Wire for Chat {
    fn name(&self) -> &'static str {
        "openai_chat"
    }

    fn request_name(&self) -> &'static str {
        "a Chat Completions request"
    }

    fn message_prefix(&self) -> &'static str {
        "chatcmpl"
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
            place: |message, _| format!("messages[{message}]"),
        };
        for (index, message) in list(&body["messages"]).iter().enumerate() {
            let is_system = message["role"] == "system" || message["role"] == "developer";
            // A string is shorthand for one text part.
            let mut block = message.clone();
            if let Some(text) = message["content"].as_str() {
                block["content"] = json!([{"type": "text", "text": text}]);
            }
            if is_system && outline.messages.is_empty() {
                outline.system.push(Block::of(&block, "", 0));
                continue;
            }
            outline.has_answer |= message["role"] == "assistant";
            outline.messages.push(Block::of(&block, "", index));
        }
        outline
    }

    // A server at home may ask for no key.
    fn check_headers(&self, headers: &HeaderMap, found: &mut Vec<String>) {
        openai::check_headers(headers, false, found);
    }

    fn check(&self, _model: &str, body: &Value, found: &mut Vec<String>) {
        checks::check(body, found);
    }

    fn check_replay(&self, memory: &Memory, _model: &str, body: &Value, found: &mut Vec<String>) {
        replay::check(memory, body, found);
    }

    fn members(&self) -> &'static [&'static str] {
        &MEMBERS
    }

    fn caches_by_itself(&self) -> bool {
        true
    }

    fn refuses(&self, step: &Step) -> Option<&'static str> {
        match step {
            Step::RedactedThinking(_) => Some("Chat Completions has no redacted thinking"),
            Step::Block { .. } => Some("Chat Completions has no blocks; raw sends a delta"),
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
        replay::keepsakes(&playback::message(playable, cues))
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
    let messages = body["messages"].as_array().ok_or("messages is missing or not a list")?;
    let stream = body["stream"].as_bool().unwrap_or_default();
    let usage = body["stream_options"]["include_usage"].as_bool().unwrap_or_default();
    let wishes = Wishes { usage, ..Wishes::default() };
    let mut transcript = Transcript::of(model, stream, wishes);
    for message in messages {
        let text = openai::texts(&message["content"]);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match message["role"].as_str() {
            Some("user") => transcript.turn(Speaker::User).say(&text),
            Some("assistant") => {
                let turn = transcript.turn(Speaker::Model);
                turn.say(&text);
                for call in list(&message["tool_calls"]) {
                    turn.calls.push((word(&call["id"]), word(&call["function"]["name"])));
                }
            }
            Some("tool") => transcript.turn(Speaker::User).results.push(Outcome {
                call: word(&message["tool_call_id"]),
                tool: None,
                text,
            }),
            _ => transcript.add_system(&text),
        }
    }
    Ok(transcript)
}
