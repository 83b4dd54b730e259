//! Everything a scripted model keeps: the script's progress, what was captured, what was found wrong.
//!
//! Holds the decision which reply is played to which request. Never touches the network and never waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::Value;

use super::captured::Captured;
use super::checks;
use super::conversations::{Conversations, Place};
use super::failure::Failure;
use super::frames::{Frame, cut_after};
use super::listings::Listings;
use super::outline::Outline;
use super::playable::Playable;
use super::prompt_cache::{InputUsage, PromptCache};
use super::script::{Reply, Script, Step};
use super::wire::{Asked, Cues, Target, Wire};

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
    allow_members: Vec<String>,
    listings: Listings,
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
    /// `None` where it is for no provider's route.
    pub(super) wire: Option<&'static str>,
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
    /// The header that names the request, and what it says.
    pub(super) request_id: (&'static str, String),
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
            allow_members: script.allow_members,
            listings: Listings::of(script.models),
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

    /// The models that a script says are there.
    pub(super) fn listings(&self) -> &Listings {
        &self.listings
    }

    /// Keeps a request, and checks its headers if it is for a provider.
    pub(super) fn capture(&mut self, arrival: Arrival, wire: Option<&dyn Wire>) {
        if !self.record {
            return;
        }
        let mut found = Vec::new();
        if let Some(wire) = wire {
            wire.check_headers(&arrival.headers, &mut found);
            checks::check_address(&arrival.path, &mut found);
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

    /// The answer to a request to a model.
    pub(super) fn play(
        &mut self,
        wire: &'static dyn Wire,
        target: &Target,
        body: &[u8],
        now: Instant,
    ) -> Answer {
        let request_index = self.request_index;
        self.request_index += 1;
        let request = match wire.read(target, body) {
            Ok(request) => request,
            Err(error) => {
                self.violation(format!(
                    "request {request_index} is not {}: {error}",
                    wire.request_name()
                ));
                return self.refusal(wire, 400, &error);
            }
        };
        let observed =
            self.record.then(|| self.observe(wire, request.model(), body, request_index));
        let Some(chosen) = self.choose(wire, request.as_ref(), request_index) else {
            let message = format!("no reply scripted for {}", request.summary(request_index));
            self.violation(message.clone());
            return self.refusal(wire, 500, &message);
        };

        let message_id = self.mint(wire.message_prefix());
        let number = self.minted;
        let request_id = self.mint("req");
        let playable = match chosen {
            Some(index) => &self.replies[index],
            None => match &self.otherwise {
                Some(otherwise) => otherwise,
                None => return self.refusal(wire, 500, "no reply scripted"),
            },
        };
        if let Some(why) = playable.reply.steps.iter().find_map(|step| wire.refuses(step)) {
            let message = format!("request {request_index}: the reply cannot be played: {why}");
            self.violation(message.clone());
            return self.refusal(wire, 500, &message);
        }
        let tool_ids = (0..playable.tools_to_name())
            .map(|_| {
                self.minted += 1;
                id(wire.call_prefix(), self.minted)
            })
            .collect();
        let answers = playable.reply.status == 200;
        let model = request.model();
        let input = match &observed {
            Some((_, outline)) if answers && wire.caches_by_itself() => {
                self.cache.account_unasked(model, outline, body.len(), now)
            }
            Some((_, outline)) if answers => self.cache.account(model, outline, body.len(), now),
            _ => InputUsage::uncached(body.len()),
        };
        let echo = if playable.echoes() { request.last_user_text() } else { String::new() };
        let wishes = request.wishes();
        let cues = Cues { number, message_id, model, echo, tool_ids, input, wishes };
        if let Some((place, _)) = &observed {
            let keepsakes =
                if answers { wire.keepsakes(playable, &cues) } else { Default::default() };
            let paused = playable.stop_reason() == "pause_turn";
            self.conversations.answered(place, model, keepsakes, paused, playable.completes());
        }
        answer(wire, playable, &cues, request.stream(), request_id, self.delay)
    }

    fn observe(
        &mut self,
        wire: &dyn Wire,
        model: &str,
        body: &[u8],
        request_index: u64,
    ) -> (Place, Outline) {
        // It was read as a request just before, so it is JSON.
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let outline = wire.outline(&body);
        let mut found = Vec::new();
        checks::check_members(&body, wire.members(), &self.allow_members, &mut found);
        wire.check(model, &body, &mut found);
        let (place, more) =
            self.conversations.observe(&outline, self.allow_prefix_change, |memory, found| {
                wire.check_replay(memory, model, &body, found);
            });
        for text in found.into_iter().chain(more) {
            self.violation(format!("request {request_index}: {text}"));
        }
        (place, outline)
    }

    /// Which reply it is: `Some(None)` is `otherwise`.
    fn choose(
        &mut self,
        wire: &dyn Wire,
        request: &(dyn Asked + Send + '_),
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
                    .is_none_or(|when| request.matches(when, request_index, wire.name()))
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
    pub(super) fn refusal(&mut self, wire: &dyn Wire, status: u16, message: &str) -> Answer {
        let request_id = self.mint("req");
        let content = Content::Json(wire.error(&Failure::of(status, message, &request_id)));
        Answer {
            delay: Duration::ZERO,
            status,
            headers: BTreeMap::new(),
            request_id: (wire.request_header(), request_id),
            content,
        }
    }

    /// An answer that is not a model's.
    pub(super) fn plain(&mut self, wire: &dyn Wire, body: Value) -> Answer {
        let request_id = self.mint("req");
        Answer {
            delay: self.delay,
            status: 200,
            headers: BTreeMap::new(),
            request_id: (wire.request_header(), request_id),
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
    wire: &'static dyn Wire,
    playable: &Playable,
    cues: &Cues<'_>,
    stream: bool,
    request_id: String,
    delay: Duration,
) -> Answer {
    let reply = &playable.reply;
    let mut delay = reply.delay_ms.map_or(delay, Duration::from_millis);
    let mut status = reply.status;
    let failure = Failure {
        status,
        class: None,
        message: reply.message.as_deref(),
        request_id: &request_id,
        retry_after: reply.headers.get("retry-after").map(String::as_str),
        details: Some(&reply.error),
    };
    let content = if status != 200 {
        Content::Json(wire.error(&failure))
    } else if stream {
        Content::Frames(cut_after(wire.frames(playable, cues), reply.cut_after_bytes), EVENTS)
    } else {
        delay += playable.pauses();
        match playable.ending() {
            Some(Step::Stall) => Content::Never,
            Some(Step::Cut) => Content::Frames(vec![Frame::Cut], JSON),
            Some(Step::Error { kind, message }) => {
                status = wire.status_of(kind);
                let (class, message) = (Some(kind.as_str()), Some(message.as_str()));
                Content::Json(wire.error(&Failure { status, class, message, ..failure }))
            }
            _ => Content::Json(wire.whole(playable, cues)),
        }
    };
    let content = match content {
        Content::Json(body) if reply.cut_after_bytes.is_some() => {
            let frames = vec![Frame::Data(body.to_string().into())];
            Content::Frames(cut_after(frames, reply.cut_after_bytes), JSON)
        }
        other => other,
    };
    let request_id = (wire.request_header(), request_id);
    Answer { delay, status, headers: reply.headers.clone(), request_id, content }
}

/// What a body is counted as where nobody plays a reply.
pub(super) fn tokens(body: &[u8]) -> u64 {
    InputUsage::uncached(body.len()).uncached
}
