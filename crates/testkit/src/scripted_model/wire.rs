//! What every wire can do: read a request, judge it, and put a scripted reply into its own frames.
//!
//! Holds the trait and what it is handed. Never holds a provider's words; those are in a folder for each wire.

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::conversations::Memory;
use super::failure::Failure;
use super::frames::Frame;
use super::outline::Outline;
use super::playable::Playable;
use super::prompt_cache::InputUsage;
use super::script::{Step, When};
use super::{anthropic, chat, gemini, responses};

/// A provider's way to speak over HTTP.
pub(super) trait Wire: Sync {
    /// As in a provider's `kind`.
    fn name(&self) -> &'static str;

    /// What a request of this wire is called, as in `a Messages request`.
    fn request_name(&self) -> &'static str;

    /// How ids of answers begin.
    fn message_prefix(&self) -> &'static str;

    /// How ids of tool calls begin.
    fn call_prefix(&self) -> &'static str;

    /// The response header that names the request.
    fn request_header(&self) -> &'static str;

    /// Reads no further than matching a script needs. The error says why it is no request of this wire.
    fn read<'a>(
        &self,
        target: &'a Target,
        body: &'a [u8],
    ) -> Result<Box<dyn Asked + Send + 'a>, String>;

    /// The request as a chain of blocks.
    fn outline(&self, body: &Value) -> Outline;

    /// What the API would say about the request's headers.
    fn check_headers(&self, headers: &HeaderMap, found: &mut Vec<String>);

    /// What the API refuses in one request by itself.
    fn check(&self, model: &str, body: &Value, found: &mut Vec<String>);

    /// What differs from what was sent in this conversation.
    fn check_replay(&self, memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>);

    /// Top-level members that a request may have. Empty: any.
    fn members(&self) -> &'static [&'static str];

    /// Whether a prefix is cached without being asked to.
    fn caches_by_itself(&self) -> bool;

    /// Why a step has no form on this wire.
    fn refuses(&self, step: &Step) -> Option<&'static str>;

    /// The answer as a stream, not yet cut.
    fn frames(&self, playable: &Playable, cues: &Cues<'_>) -> Vec<Frame>;

    /// The answer in one piece.
    fn whole(&self, playable: &Playable, cues: &Cues<'_>) -> Value;

    /// What a client has to send back as it was, once it has read the answer.
    fn keepsakes(&self, playable: &Playable, cues: &Cues<'_>) -> Keepsakes;

    /// An error body.
    fn error(&self, failure: &Failure<'_>) -> Value;

    /// The status of a class, for answers that are not streamed.
    fn status_of(&self, class: &str) -> u16;
}

pub(super) const ANTHROPIC: &dyn Wire = &anthropic::Messages;
pub(super) const RESPONSES: &dyn Wire = &responses::Responses;
pub(super) const CHAT: &dyn Wire = &chat::Chat;
pub(super) const GEMINI: &dyn Wire = &gemini::Gemini;

/// The wire of a path that no route knows, by what stands around it.
pub(super) fn nearest(path: &str) -> &'static dyn Wire {
    [("/v1beta", GEMINI), ("/v1/responses", RESPONSES), ("/v1/chat", CHAT), ("/api/", CHAT)]
        .into_iter()
        .find_map(|(prefix, wire)| path.starts_with(prefix).then_some(wire))
        .unwrap_or(ANTHROPIC)
}

/// What a request's path says, where a wire puts it there.
#[derive(Default)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) stream: bool,
}

/// What a request asks for, whichever wire it came in on.
pub(super) trait Asked {
    fn model(&self) -> &str;
    fn stream(&self) -> bool;
    /// How many messages there are.
    fn length(&self) -> usize;
    /// The text of the last user message that has one; tool results are not the user's words.
    fn last_user_text(&self) -> String;
    fn last_user_contains(&self, wanted: &str) -> bool;
    fn system_contains(&self, wanted: &str) -> bool;
    fn has_tool_result_for(&self, tool: &str) -> bool;
    fn wishes(&self) -> Wishes;
}

impl dyn Asked + Send + '_ {
    pub(super) fn matches(&self, when: &When, request_index: u64, wire: &str) -> bool {
        when.request_index.is_none_or(|index| index == request_index)
            && when.wire.as_ref().is_none_or(|wanted| wanted == wire)
            && when.model.as_ref().is_none_or(|model| model == self.model())
            && when.last_user_contains.as_ref().is_none_or(|text| self.last_user_contains(text))
            && when.system_contains.as_ref().is_none_or(|text| self.system_contains(text))
            && when.has_tool_result_for.as_ref().is_none_or(|tool| self.has_tool_result_for(tool))
    }

    /// What to tell about a request that no reply is scripted for.
    pub(super) fn summary(&self, request_index: u64) -> String {
        let text: String = self.last_user_text().chars().take(120).collect();
        format!(
            "request {request_index} ({} messages, model {:?}, last user text {text:?})",
            self.length(),
            self.model()
        )
    }
}

/// What a request wants to see of an answer.
#[derive(Clone, Default)]
pub(super) struct Wishes {
    /// A last chunk with the usage.
    pub(super) usage: bool,
    /// The text of thoughts.
    pub(super) thoughts: bool,
    /// What makes thoughts readable to the provider again.
    pub(super) encrypted: bool,
    /// Members of the request that the API repeats in its answer.
    pub(super) repeated: Map<String, Value>,
}

/// What one playing of a reply needs to know.
pub(super) struct Cues<'a> {
    /// Unlike that of any other answer.
    pub(super) number: u64,
    pub(super) message_id: String,
    pub(super) model: &'a str,
    pub(super) echo: String,
    /// As many as [`Playable::tools_to_name`].
    pub(super) tool_ids: Vec<String>,
    pub(super) input: InputUsage,
    pub(super) wishes: Wishes,
}

/// What was sent, by what it is known again.
#[derive(Default)]
pub(super) struct Keepsakes {
    /// A claim, and the block that it stands for.
    pub(super) blocks: Vec<(String, Value)>,
    /// An id, and the claims of what must stand beside its block.
    pub(super) bonds: Vec<(String, Vec<String>)>,
}
