//! The wire of Gemini: `generateContent` and its stream.
//!
//! Holds how a request is read and told apart; what is said and checked is in the files below. Never decides what is
//! sent.

mod checks;
mod playback;
mod replay;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::conversations::Memory;
use super::failure::{Failure, lay_over, status_of};
use super::frames::Frame;
use super::openai::texts;
use super::outline::{Block, Outline, list};
use super::playable::Playable;
use super::script::Step;
use super::transcript::{Outcome, Speaker, Transcript};
use super::wire::{Asked, Cues, Keepsakes, Target, Wire, Wishes};

/// `POST /v1beta/models/{model}:streamGenerateContent`.
pub(super) struct Gemini;

/// What the official SDK writes at the top (`models.py`, `_GenerateContentParameters_to_mldev`).
const MEMBERS: [&str; 12] = [
    "cachedContent",
    "contents",
    "continuationToken",
    "enableEnhancedCivicAnswers",
    "generationConfig",
    "labels",
    "safetySettings",
    "serviceTier",
    "store",
    "systemInstruction",
    "toolConfig",
    "tools",
];

impl Wire for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn request_name(&self) -> &'static str {
        "a Gemini request"
    }

    fn message_prefix(&self) -> &'static str {
        "response"
    }

    fn call_prefix(&self) -> &'static str {
        "call"
    }

    fn request_header(&self) -> &'static str {
        "x-request-id"
    }

    fn read<'a>(
        &self,
        target: &'a Target,
        body: &'a [u8],
    ) -> Result<Box<dyn Asked + Send + 'a>, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Ok(Box::new(transcript(target, &body)?))
    }

    fn outline(&self, body: &Value) -> Outline {
        let mut outline = Outline {
            tools: list(&body["tools"]).iter().map(|tool| Block::of(tool, "tools", 0)).collect(),
            system: Vec::new(),
            messages: Vec::new(),
            has_answer: false,
            place: |content, part| format!("contents[{content}].parts[{part}]"),
        };
        for part in list(&body["systemInstruction"]["parts"]) {
            outline.system.push(Block::of(part, "system", 0));
        }
        for (index, content) in list(&body["contents"]).iter().enumerate() {
            let role = content["role"].as_str().unwrap_or("user");
            outline.has_answer |= role == "model";
            for part in list(&content["parts"]) {
                outline.messages.push(Block::of(part, role, index));
            }
        }
        outline
    }

    fn check_headers(&self, headers: &HeaderMap, found: &mut Vec<String>) {
        if !headers.contains_key("x-goog-api-key") && !headers.contains_key("authorization") {
            found.push("neither x-goog-api-key nor Authorization is sent".to_owned());
        }
    }

    fn check(&self, model: &str, body: &Value, found: &mut Vec<String>) {
        checks::check(model, body, found);
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
            Step::RedactedThinking(_) => {
                Some("Gemini has no redacted thinking; a signature without thinking says the same")
            }
            Step::Block { .. } => Some("Gemini has no blocks; raw sends a part"),
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
        replay::keepsakes(&playback::parts(playable, cues))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        let mut error = error(failure);
        if let Some(seconds) = failure.retry_after.filter(|text| text.parse::<f64>().is_ok()) {
            error["details"] = json!([{
                "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
            }]);
        }
        if let Some(details) = failure.details {
            lay_over(&mut error, details);
        }
        json!({"error": error})
    }

    fn status_of(&self, class: &str) -> u16 {
        match status_of(class) {
            529 => 503,
            500 if class == "timeout_error" => 504,
            status => status,
        }
    }
}

/// The error object: the one of an answer, and the one inside of a stream. Names are those of `google.rpc.Code`.
fn error(failure: &Failure<'_>) -> Value {
    let (name, usual) = match failure.status {
        401 => ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
        403 => ("PERMISSION_DENIED", "The caller does not have permission."),
        404 => ("NOT_FOUND", "The model is not found or is not supported."),
        408 | 504 => ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
        409 => ("ABORTED", "The operation was aborted."),
        429 => ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
        400..=499 => ("INVALID_ARGUMENT", "Request contains an invalid argument."),
        503 | 529 => ("UNAVAILABLE", "The model is overloaded. Please try again later."),
        _ => ("INTERNAL", "An internal error has occurred."),
    };
    // A name of Google's own is passed on.
    let own = failure
        .class
        .filter(|class| class.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase()));
    json!({
        "code": failure.status, "message": failure.message.unwrap_or(usual),
        "status": own.unwrap_or(name),
    })
}

fn transcript(target: &Target, body: &Value) -> Result<Transcript, String> {
    let contents = body["contents"].as_array().ok_or("contents is missing or not a list")?;
    let thinking = &body["generationConfig"]["thinkingConfig"];
    // The official SDK writes the second.
    let thoughts =
        ["includeThoughts", "include_thoughts"].iter().any(|name| thinking[*name] == true);
    let wishes = Wishes { thoughts, ..Wishes::default() };
    let mut transcript = Transcript::of(&target.model, target.stream, wishes);
    let system = texts(&body["systemInstruction"]["parts"]);
    if !system.is_empty() {
        transcript.add_system(&system);
    }
    for content in contents {
        let speaker = if content["role"] == "model" { Speaker::Model } else { Speaker::User };
        let turn = transcript.turn(speaker);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for part in list(&content["parts"]) {
            turn.say(part["text"].as_str().filter(|_| part["thought"] != true).unwrap_or_default());
            if let Some(call) = part.get("functionCall") {
                turn.calls.push((word(&call["id"]), word(&call["name"])));
            }
            if let Some(answer) = part.get("functionResponse") {
                turn.results.push(Outcome {
                    call: word(&answer["id"]),
                    tool: answer["name"].as_str().map(str::to_owned),
                    text: answer["response"].to_string(),
                });
            }
        }
    }
    Ok(transcript)
}
