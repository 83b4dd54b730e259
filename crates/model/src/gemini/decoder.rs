//! Turns the chunks of a streamed answer into neutral events, without IO.
//!
//! Each chunk is a `GenerateContentResponse`. Nothing marks the last one: the stream's end does,
//! once a chunk has given a reason to finish. It never decides whether a failure is retried.

use std::{collections::VecDeque, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    part::{self, Added, Building},
    refusal,
};
use crate::{Event, Failure, FailureKind, Response, Stop, Usage, failure::sentence, wire::Decode};

/// The longest id of a call that is made here.
const LONGEST_ID: usize = 64;

/// The state of one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    blocks: Vec<Building>,
    counts: Counts,
    usage: Usage,
    served: Option<String>,
    id: String,
    stop: Option<Stop>,
    finished: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<PromptFeedback>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
    model_version: Option<String>,
    response_id: Option<String>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
    index: Option<u64>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
    block_reason_message: Option<String>,
}

/// `UsageMetadata`: counts of the whole answer so far, of which a later report may leave some
/// out.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
}

impl Counts {
    fn update(&mut self, newer: Self) {
        let Self { prompt_token_count, cached_content_token_count, .. } = newer;
        let Self { candidates_token_count, thoughts_token_count, .. } = newer;
        let keep = |there: &mut Option<u64>, new: Option<u64>| *there = new.or(*there);
        keep(&mut self.prompt_token_count, prompt_token_count);
        keep(&mut self.cached_content_token_count, cached_content_token_count);
        keep(&mut self.candidates_token_count, candidates_token_count);
        keep(&mut self.thoughts_token_count, thoughts_token_count);
        keep(&mut self.tool_use_prompt_token_count, newer.tool_use_prompt_token_count);
    }

    /// The prompt's count includes what was cached; the candidates' excludes thoughts.
    fn usage(&self) -> Usage {
        let count = Option::unwrap_or_default;
        let cached: u64 = count(self.cached_content_token_count);
        let prompt: u64 = count(self.prompt_token_count);
        Usage {
            input_tokens: prompt
                .saturating_sub(cached)
                .saturating_add(count(self.tool_use_prompt_token_count)),
            output_tokens: count(self.candidates_token_count)
                .saturating_add(count(self.thoughts_token_count)),
            cache_read_input_tokens: cached,
            ..Usage::default()
        }
    }
}

impl Decode for Decoder {
    fn is_finished(&self) -> bool {
        self.finished
    }

    fn decode(&mut self, data: &str, events: &mut VecDeque<Event>) {
        // Some servers in between end a stream as OpenAI does.
        if self.finished || data == "[DONE]" {
            return;
        }
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else {
            // Errors are sometimes wrapped in a list.
            let error = refusal::of_body(data.as_bytes());
            events.push_back(match error {
                Some(error) => self.refused(&error),
                None => self.unreadable("an event"),
            });
            return;
        };
        if let Some(error) = chunk.error {
            let error = refusal::of_error(error);
            events.push_back(self.refused(&error));
            return;
        }
        self.served = chunk.model_version.or(self.served.take());
        if let Some(id) = chunk.response_id {
            self.id = id;
        }
        self.count(chunk.usage_metadata, events);
        if let Some(PromptFeedback { block_reason: Some(reason), block_reason_message }) =
            chunk.prompt_feedback
            && !reason.ends_with("_UNSPECIFIED")
        {
            self.stop = Some(Stop::Refusal {
                category: Some(reason.to_ascii_lowercase()),
                explanation: block_reason_message,
            });
        }
        // One answer is asked for, so there is one candidate.
        let candidates = chunk.candidates.unwrap_or_default();
        let Some(candidate) =
            candidates.into_iter().find(|candidate| candidate.index.unwrap_or_default() == 0)
        else {
            return;
        };
        for raw in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            if !self.part(raw, events) {
                events.push_back(self.unreadable("content"));
                return;
            }
        }
        if let Some(reason) = candidate.finish_reason {
            match finish(&reason, candidate.finish_message) {
                Some(Ok(stop)) => self.stop = Some(stop),
                Some(Err((kind, message))) => events.push_back(self.fail(kind, message)),
                None => {}
            }
        }
    }

    fn end(&mut self) -> Option<Event> {
        if self.finished {
            return None;
        }
        Some(match self.stop.take() {
            Some(stop) => self.ended(stop),
            None => self.fail(
                FailureKind::Transient,
                "the stream was cut before the response ended".to_owned(),
            ),
        })
    }

    fn fail(&mut self, kind: FailureKind, message: String) -> Event {
        self.failed(kind, message, None)
    }
}

impl Decoder {
    fn failed(
        &mut self,
        kind: FailureKind,
        message: String,
        retry_after: Option<Duration>,
    ) -> Event {
        self.finished = true;
        Event::Failed(Failure { kind, message, retry_after, usage: self.usage })
    }

    fn refused(&mut self, error: &refusal::WireError) -> Event {
        let (kind, message) = error.of_stream();
        self.failed(kind, message, error.retry_after())
    }

    fn unreadable(&mut self, what: &str) -> Event {
        let message = format!("the provider sent {what} that can't be read");
        self.fail(FailureKind::Transient, message)
    }

    /// The hot path: one call per chunk of text. Says whether the part could be read.
    fn part(&mut self, raw: &RawValue, events: &mut VecDeque<Event>) -> bool {
        let Some(added) = part::add(&mut self.blocks, raw) else { return false };
        let index = self.blocks.len().saturating_sub(1);
        if let (Added::Begun(_), Some(block)) = (&added, self.blocks.last()) {
            events.push_back(Event::Started { index, kind: block.kind() });
        }
        if let Added::Begun(text) | Added::Joined(text) = added
            && !text.is_empty()
        {
            events.push_back(Event::Text { index, text });
        }
        true
    }

    fn count(&mut self, usage: Option<&RawValue>, events: &mut VecDeque<Event>) {
        let counts = usage.and_then(|raw| serde_json::from_str::<Counts>(raw.get()).ok());
        let Some(counts) = counts else { return };
        self.counts.update(counts);
        let usage = self.counts.usage();
        if usage != self.usage {
            self.usage = usage;
            events.push_back(Event::Usage(usage));
        }
    }

    fn ended(&mut self, stop: Stop) -> Event {
        self.finished = true;
        let cut = stop != Stop::EndTurn;
        let called = self.blocks.iter().any(Building::is_call);
        let stop = if stop == Stop::EndTurn && called { Stop::ToolUse } else { stop };
        let count = self.blocks.len();
        let id = std::mem::take(&mut self.id);
        let blocks = std::mem::take(&mut self.blocks)
            .into_iter()
            .enumerate()
            .map(|(index, block)| block.finish(|| made_id(&id, index), cut && index + 1 == count))
            .collect();
        Event::Ended(Response { blocks, stop, usage: self.usage, served: self.served.take() })
    }
}

/// The id of a call that the API gave none: the response's and the block's place in it.
fn made_id(response: &str, index: usize) -> String {
    let place = format!("_{index}");
    let legal = response
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
    let mut id: String = legal.take(LONGEST_ID - place.len()).collect();
    if id.is_empty() {
        id.push_str("call");
    }
    id.push_str(&place);
    id
}

/// What `FinishReason` means; `None` when it means that there is more. What this version doesn't
/// know ends the turn.
fn finish(reason: &str, message: Option<String>) -> Option<Result<Stop, (FailureKind, String)>> {
    let failed = |kind| {
        let words = sentence(
            "the provider stopped the answer",
            reason,
            message.as_deref().unwrap_or_default(),
        );
        Err((kind, words))
    };
    Some(match reason {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        // The second is a limit of one request, behind which only those go on who were given a
        // token for it.
        "MAX_TOKENS" | "CONTINUATION" => Ok(Stop::MaxTokens),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "ESCALATION"
        | "MODEL_ARMOR" => {
            Ok(Stop::Refusal { category: Some(reason.to_ascii_lowercase()), explanation: message })
        }
        "MALFORMED_FUNCTION_CALL"
        | "MALFORMED_RESPONSE"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "OTHER"
        | "IMAGE_OTHER"
        | "NO_IMAGE" => failed(FailureKind::Transient),
        // The account is limited or disabled.
        "PUP_LIMITED_DISABLED" => failed(FailureKind::Hopeless),
        _ => Ok(Stop::EndTurn),
    })
}
