//! Everything a scripted model keeps: the script's progress, what was captured, what was found wrong.
//!
//! Holds the decision which reply is played to which request. Never touches the network and never waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use super::captured::Captured;
use super::checks;
use super::conversations::Conversations;
use super::outline::Outline;
use super::playback::{Cues, Frame, Playable, cut_after};
use super::prompt_cache::{InputUsage, PromptCache};
use super::request::MessagesRequest;
use super::script::{Reply, Script, Step};
use super::wire;

const MOST_REQUESTS: usize = 10_000;
const MOST_REQUEST_BYTES: usize = 256 << 20;
const MOST_VIOLATIONS: usize = 1_000;

#[derive(Default)]
pub(super) struct Stage {
    replies: Vec<Playable>,
    // All before it are used up.
    first_open: usize,
    otherwise: Option<Playable>,
    delay: Duration,
    allow_prefix_change: bool,
    record: bool,
    request_index: u64,
    captured: VecDeque<Arrival>,
    captured_bytes: usize,
    violations: Vec<String>,
    conversations: Conversations,
    cache: PromptCache,
    minted: u64,
}

/// A request as it came in.
pub(super) struct Arrival {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: SystemTime,
}

/// What is to be sent.
pub(super) struct Answer {
    pub(super) delay: Duration,
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) request_id: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    Json(Value),
    Frames(Vec<Frame>, &'static str),
    Never,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

impl Stage {
    pub(super) fn new(script: Script) -> Self {
        let mut stage = Self::default();
        stage.set_script(script);
        stage
    }

    /// Begins anew, but for the violations found so far and the numbers already used in ids.
    pub(super) fn set_script(&mut self, script: Script) {
        *self = Self {
            replies: script.replies.into_iter().map(Playable::new).collect(),
            otherwise: script.otherwise.map(Playable::new),
            delay: Duration::from_millis(script.delay_ms),
            allow_prefix_change: script.allow_prefix_change,
            record: script.record,
            violations: std::mem::take(&mut self.violations),
            minted: self.minted,
            ..Self::default()
        };
    }

    pub(super) fn push(&mut self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.extend(replies.into_iter().map(Playable::new));
    }

    pub(super) fn requests(&self) -> Vec<Captured> {
        self.captured.iter().map(Captured::of).collect()
    }

    pub(super) fn forget_requests(&mut self) {
        self.captured.clear();
        self.captured_bytes = 0;
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    fn violation(&mut self, text: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(text);
        }
    }

    /// Keeps a request, and checks its headers if it is for a provider.
    pub(super) fn capture(&mut self, arrival: Arrival) {
        if !self.record {
            return;
        }
        let mut found = Vec::new();
        if arrival.path.starts_with("/v1/") {
            checks::check_headers(&arrival.headers, &mut found);
        }
        for text in found {
            self.violation(format!("{} {}: {text}", arrival.method, arrival.path));
        }
        self.captured_bytes += arrival.body.len();
        self.captured.push_back(arrival);
        while self.captured.len() > MOST_REQUESTS
            || (self.captured_bytes > MOST_REQUEST_BYTES && self.captured.len() > 1)
        {
            self.captured_bytes -= self.captured.pop_front().map_or(0, |gone| gone.body.len());
        }
    }

    /// The answer to `POST /v1/messages`.
    pub(super) fn play(&mut self, body: &[u8], now: Instant) -> Answer {
        let request_index = self.request_index;
        self.request_index += 1;
        let request: MessagesRequest<'_> = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => {
                self.violation(format!(
                    "request {request_index} is not a Messages request: {error}"
                ));
                return self.refusal(400, &error.to_string());
            }
        };
        let observed = self.record.then(|| self.observe(body, request_index));
        let Some(chosen) = self.choose(&request, request_index) else {
            let message = format!("no reply scripted for {}", request.summary(request_index));
            self.violation(message.clone());
            return self.refusal(500, &message);
        };

        let message_id = self.mint("msg");
        let request_id = self.mint("req");
        let playable = match chosen {
            Some(index) => &self.replies[index],
            None => match &self.otherwise {
                Some(otherwise) => otherwise,
                None => return self.refusal(500, "no reply scripted"),
            },
        };
        let tool_ids = (0..playable.tools_to_name())
            .map(|_| {
                self.minted += 1;
                id("toolu", self.minted)
            })
            .collect();
        let answers = playable.reply.status == 200;
        let input = match &observed {
            Some((_, outline)) if answers => {
                self.cache.account(&request.model, outline, body.len(), now)
            }
            _ => InputUsage::uncached(body.len()),
        };
        let echo = if playable.echoes { request.last_user_text() } else { String::new() };
        let cues = Cues { message_id, model: &request.model, echo, tool_ids, input };
        if let Some((place, _)) = &observed {
            let content = if answers { playable.content(&cues) } else { Vec::new() };
            let (stop, whole) = (playable.stop_reason(), playable.completes());
            self.conversations.answered(place, &request.model, content, stop, whole);
        }
        answer(playable, &cues, request.stream, request_id, self.delay)
    }

    fn observe(
        &mut self,
        body: &[u8],
        request_index: u64,
    ) -> (super::conversations::Place, Outline) {
        // It was read as a request just before, so it is JSON.
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let outline = Outline::of(&body);
        let mut found = Vec::new();
        checks::check_body(&body, &mut found);
        let (place, more) = self.conversations.observe(&body, &outline, self.allow_prefix_change);
        for text in found.into_iter().chain(more) {
            self.violation(format!("request {request_index}: {text}"));
        }
        (place, outline)
    }

    /// Which reply it is: `Some(None)` is `otherwise`.
    fn choose(
        &mut self,
        request: &MessagesRequest<'_>,
        request_index: u64,
    ) -> Option<Option<usize>> {
        let is_open =
            |playable: &Playable| playable.reply.times == 0 || playable.used < playable.reply.times;
        while self.replies.get(self.first_open).is_some_and(|playable| !is_open(playable)) {
            self.first_open += 1;
        }
        let mut candidates = self.replies.iter_mut().enumerate().skip(self.first_open);
        let chosen = candidates.find(|(_, playable)| {
            is_open(playable)
                && playable
                    .reply
                    .when
                    .as_ref()
                    .is_none_or(|when| request.matches(when, request_index))
        });
        match chosen {
            Some((index, playable)) => {
                playable.used += 1;
                Some(Some(index))
            }
            None => self.otherwise.is_some().then_some(None),
        }
    }

    /// An error that no script asked for.
    pub(super) fn refusal(&mut self, status: u16, message: &str) -> Answer {
        let request_id = self.mint("req");
        let content =
            Content::Json(wire::error_body(wire::error_class(status).0, message, &request_id));
        Answer { delay: Duration::ZERO, status, headers: BTreeMap::new(), request_id, content }
    }

    /// An answer that is not a model's.
    pub(super) fn plain(&mut self, body: Value) -> Answer {
        let request_id = self.mint("req");
        Answer {
            delay: self.delay,
            status: 200,
            headers: BTreeMap::new(),
            request_id,
            content: Content::Json(body),
        }
    }

    fn mint(&mut self, prefix: &str) -> String {
        self.minted += 1;
        id(prefix, self.minted)
    }
}

// Of one length, so that the bytes of an answer can be counted on.
fn id(prefix: &str, number: u64) -> String {
    format!("{prefix}_{number:024}")
}

fn answer(
    playable: &Playable,
    cues: &Cues<'_>,
    stream: bool,
    request_id: String,
    delay: Duration,
) -> Answer {
    let reply = &playable.reply;
    let mut delay = reply.delay_ms.map_or(delay, Duration::from_millis);
    let mut status = reply.status;
    let error = |class: &str, message: &str| wire::error_body(class, message, &request_id);
    let content = if status != 200 {
        let (class, usual) = wire::error_class(status);
        Content::Json(error(class, reply.message.as_deref().unwrap_or(usual)))
    } else if stream {
        Content::Frames(playable.frames(cues), EVENTS)
    } else {
        delay += playable.pauses();
        match playable.ending() {
            Some(Step::Stall) => Content::Never,
            Some(Step::Cut) => Content::Frames(vec![Frame::Cut], JSON),
            Some(Step::Error { kind, message }) => {
                status = wire::error_status(kind);
                Content::Json(error(kind, message))
            }
            _ => Content::Json(playable.message(cues)),
        }
    };
    let content = match content {
        Content::Json(body) if reply.cut_after_bytes.is_some() => {
            let frames = vec![Frame::Data(body.to_string().into())];
            Content::Frames(cut_after(frames, reply.cut_after_bytes), JSON)
        }
        other => other,
    };
    Answer { delay, status, headers: reply.headers.clone(), request_id, content }
}

/// The answer of `POST /v1/messages/count_tokens`.
pub(super) fn counted(body: &[u8]) -> Value {
    json!({"input_tokens": InputUsage::uncached(body.len()).uncached})
}
