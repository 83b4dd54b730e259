//! The whole fold: what a harness knows of a session, and all that it knows.
//!
//! `State::apply` is the only way in. It reads no clock, no database and no configuration, so
//! that the same records always give the same state.

mod payload;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use posthouse_model::{Item, ToolResult};
use posthouse_protocol::{
    Micros,
    agent::{ModelConfig, SessionAgent},
    event::kind as wire,
};
use posthouse_store::{Record, Seq};
use serde_json::value::RawValue;

use self::payload::{
    CallMade, Confirmation, Named, ResultOf, Said, SessionError, SystemSaid, Updated,
};
use crate::{
    own::{
        self, InputTaken, ModelSubstituted, Refusal, RequestSent, ResponseKept, RetryScheduled,
        SessionOpened, StopKind, ToolClosed, ToolStarted,
    },
    summary::{Status, Summary, parse},
};

/// A session as its harness sees it.
#[derive(Debug, Clone)]
pub struct State {
    /// The small fold.
    pub summary: Summary,
    /// The place of the last record folded in.
    pub head: Seq,
    /// The session's id.
    pub session: String,
    /// When the session was opened.
    pub opened_at: Micros,
    /// The agent, overrides and updates included.
    pub agent: Arc<SessionAgent>,
    /// The threads; the primary one is the first.
    pub threads: Vec<Thread>,
    /// Input that no thread has taken yet, oldest first.
    pub queue: VecDeque<Queued>,
}

/// Client input that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The place of its record.
    pub seq: Seq,
    /// The event's id.
    pub id: Arc<str>,
    /// What it is.
    pub input: QueuedInput,
}

/// What waits.
#[derive(Debug, Clone)]
pub enum QueuedInput {
    /// A `user.message`: its content blocks.
    Message(Arc<RawValue>),
    /// A `system.message`: its text.
    System(String),
    /// A `user.interrupt`.
    Interrupt,
}

impl PartialEq for QueuedInput {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Message(a), Self::Message(b)) => a.get() == b.get(),
            (Self::System(a), Self::System(b)) => a == b,
            (Self::Interrupt, Self::Interrupt) => true,
            _ => false,
        }
    }
}

impl Eq for QueuedInput {}

/// One thread: a conversation, and how far its turn has come.
#[derive(Debug, Clone)]
pub struct Thread {
    /// The thread's id.
    pub id: Arc<str>,
    /// The conversation.
    pub entries: Vec<Entry>,
    /// How far the turn has come.
    pub phase: Phase,
    /// The model request that is open in the log.
    pub span: Option<Span>,
    /// The calls of the newest response that are not all closed yet, in their order.
    pub calls: Vec<Call>,
    /// Model requests of this turn.
    pub requests: u32,
    /// The place of the record that last changed the conversation.
    pub basis: Seq,
    /// The newest retry of the request under way.
    pub retry: Option<RetryScheduled>,
    /// Which of the agent's models answers in this turn: 0 is its own, 1 the first fallback.
    pub rank: usize,
    /// Whether one of the models before it may be able to answer later.
    pub worth_a_retry: bool,
    /// Tokens that the newest response left in the window.
    pub window_used: u64,
    /// Tool results before this place were cut in the newest request.
    pub trimmed_before: Seq,
    /// The newest cut for each window: models of other sizes may answer in between.
    pub cuts: BTreeMap<u64, Seq>,
    /// Where the cut was when `window_used` was measured.
    pub measured_before: Seq,
}

/// A step of the conversation.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The place of the record that completed it.
    pub seq: Seq,
    /// The step itself.
    pub item: Item,
    /// About how many tokens it fills.
    pub tokens: u64,
}

/// How far a turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No turn.
    Rest,
    /// The model is to answer.
    Think,
    /// Calls are open.
    Act,
    /// The model is to be asked again later.
    Retry(RetryScheduled),
    /// The turn is over but for saying so.
    End(Ending),
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The agent has finished, or was interrupted.
    EndTurn,
    /// An error that the session outlives.
    RetriesExhausted,
    /// The model refused.
    Refusal(Refusal),
}

/// An open model request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The id of its start event.
    pub id: Arc<str>,
    /// The fencing number under which it was started: under another one it is lost.
    pub fence: i64,
}

/// A tool call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The id of its `…_use` event.
    pub event: Arc<str>,
    /// The provider's own id.
    pub call_id: String,
    /// The tool's name.
    pub name: Arc<str>,
    /// The input, as the model wrote it.
    pub input: Arc<RawValue>,
    /// Who runs it, and on which conditions.
    pub duty: Duty,
    /// The fencing number under which it was started.
    pub started: Option<i64>,
    /// What came of it.
    pub result: Option<(Arc<RawValue>, bool)>,
}

/// Who runs a call, and on which conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// The server, at once.
    Run,
    /// The server, once the client has agreed.
    Ask,
    /// Nobody: the client has refused, with these words.
    Denied(Option<String>),
    /// Nobody: it can't run, for this reason.
    Refused(String),
    /// The client.
    Client,
}

impl State {
    /// The state before the first record.
    #[must_use]
    pub fn new(agent: Arc<SessionAgent>) -> Self {
        Self {
            summary: Summary::default(),
            head: 0,
            session: String::new(),
            opened_at: Micros::default(),
            agent,
            threads: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// Folds a log from its first record on.
    ///
    /// # Errors
    /// A sentence, when the log is not what this version writes.
    pub fn fold(records: &[Record]) -> Result<Self, String> {
        let first = records.first().ok_or("the log is empty")?;
        let opened: SessionOpened = parse(first)?;
        let mut state = Self::new(Arc::new(opened.agent));
        for record in records {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// Folds the next record in.
    ///
    /// # Errors
    /// A sentence, when the record is not what this version writes or not the next one.
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        if record.seq != self.head + 1 {
            return Err(format!("record {} follows record {}", record.seq, self.head));
        }
        let mut threads = self.summary.threads.iter();
        let was_idle = threads.any(|one| one.id == record.thread && one.status == Status::Idle);
        self.summary.apply(record)?;
        self.head = record.seq;
        match &*record.kind {
            own::kind::SESSION_OPENED => {
                let opened: SessionOpened = parse(record)?;
                self.session = opened.session;
                self.opened_at = record.at;
                self.threads = vec![Thread::new(opened.thread)];
            }
            wire::SESSION_UPDATED => {
                let updated: Updated = parse(record)?;
                if let Some(agent) = updated.agent {
                    // A turn that waits for its client goes on with the models that it now has.
                    let same =
                        agent.model == self.agent.model && agent.posthouse == self.agent.posthouse;
                    if !same {
                        self.threads.iter_mut().for_each(Thread::begin_with_the_first);
                    }
                    self.agent = Arc::new(agent);
                }
            }
            wire::USER_MESSAGE => {
                let said: Said = parse(record)?;
                self.wait(record.seq, said.id, QueuedInput::Message(said.content));
            }
            wire::SYSTEM_MESSAGE => {
                let said: SystemSaid = parse(record)?;
                let text: Vec<_> = said.content.into_iter().map(|block| block.text).collect();
                self.wait(record.seq, said.id, QueuedInput::System(text.join("\n\n")));
            }
            wire::USER_INTERRUPT => {
                let named: Named = parse(record)?;
                self.wait(record.seq, named.id, QueuedInput::Interrupt);
            }
            own::kind::INPUT_TAKEN => {
                let taken: InputTaken = parse(record)?;
                self.take(record, &taken)?;
            }
            _ => {
                if let Some(thread) = self.thread_mut(&record.thread) {
                    thread.apply(record, was_idle)?;
                }
            }
        }
        Ok(())
    }

    /// A thread by its id.
    pub fn thread(&self, id: &str) -> Option<&Thread> {
        self.threads.iter().find(|thread| &*thread.id == id)
    }

    fn thread_mut(&mut self, id: &str) -> Option<&mut Thread> {
        self.threads.iter_mut().find(|thread| &*thread.id == id)
    }

    fn wait(&mut self, seq: Seq, id: Arc<str>, input: QueuedInput) {
        self.queue.push_back(Queued { seq, id, input });
    }

    fn take(&mut self, record: &Record, taken: &InputTaken) -> Result<(), String> {
        let position = self.queue.iter().position(|queued| queued.seq == taken.seq);
        let queued = position
            .and_then(|position| self.queue.remove(position))
            .ok_or_else(|| format!("record {} takes {} twice", record.seq, taken.id))?;
        let Some(thread) = self.thread_mut(&record.thread) else { return Ok(()) };
        match queued.input {
            QueuedInput::Message(content) => {
                let tokens = estimate(content.get());
                thread.hear(record.seq, Item::User(content), tokens);
            }
            QueuedInput::System(text) => {
                let tokens = estimate(&text);
                thread.hear(record.seq, Item::System(text), tokens);
            }
            QueuedInput::Interrupt => {
                if thread.phase != Phase::Rest {
                    thread.phase = Phase::End(Ending::EndTurn);
                }
            }
        }
        Ok(())
    }
}

impl Thread {
    fn new(id: Arc<str>) -> Self {
        Self {
            id,
            entries: Vec::new(),
            phase: Phase::Rest,
            span: None,
            calls: Vec::new(),
            requests: 0,
            basis: 0,
            retry: None,
            rank: 0,
            worth_a_retry: false,
            window_used: 0,
            trimmed_before: 0,
            cuts: BTreeMap::new(),
            measured_before: 0,
        }
    }

    /// The model that is to answer.
    #[must_use]
    pub fn model<'a>(&self, agent: &'a SessionAgent) -> &'a ModelConfig {
        let fallback = self.rank.checked_sub(1).and_then(|at| agent.posthouse.fallback.get(at));
        fallback.unwrap_or(&agent.model)
    }

    /// About how many tokens the next request fills.
    #[must_use]
    pub fn window_estimate(&self) -> u64 {
        let answered =
            self.entries.iter().rposition(|entry| matches!(entry.item, Item::Assistant { .. }));
        match answered {
            Some(position) if self.window_used > 0 => {
                self.window_used
                    + self.entries[position + 1..].iter().map(|entry| entry.tokens).sum::<u64>()
            }
            _ => self.entries.iter().map(|entry| entry.tokens).sum(),
        }
    }

    /// The place before which tool results are cut for a window of that size. What did not fit a
    /// larger one does not fit this one.
    #[must_use]
    pub fn cut(&self, window: u64) -> Seq {
        self.cuts.range(window..).map(|(_, before)| *before).max().unwrap_or_default()
    }

    /// The call behind a `…_use` event, while its response's calls are not all closed.
    #[must_use]
    pub fn call(&self, event: &str) -> Option<&Call> {
        self.calls.iter().find(|call| &*call.event == event)
    }

    fn apply(&mut self, record: &Record, was_idle: bool) -> Result<(), String> {
        match &*record.kind {
            wire::THREAD_RUNNING => {
                if was_idle || self.phase == Phase::Rest {
                    self.requests = 0;
                }
                // A turn that has waited for its client goes on with the model that it had.
                if self.phase == Phase::Rest {
                    self.begin_with_the_first();
                }
                if matches!(self.phase, Phase::Retry(_)) {
                    self.phase = Phase::Think;
                }
            }
            // With calls open the turn only waits for the client.
            wire::THREAD_IDLE if self.phase != Phase::Act => {
                self.phase = Phase::Rest;
                self.retry = None;
            }
            wire::REQUEST_START => {
                let named: Named = parse(record)?;
                self.span = Some(Span { id: named.id, fence: record.fence });
            }
            wire::REQUEST_END => self.span = None,
            own::kind::REQUEST => {
                let sent: RequestSent = parse(record)?;
                self.requests += 1;
                self.trimmed_before = sent.trimmed_before;
                self.cuts.insert(sent.window, sent.trimmed_before);
            }
            own::kind::RESPONSE => self.answered(record)?,
            own::kind::RETRY_SCHEDULED => {
                let retry: RetryScheduled = parse(record)?;
                self.retry = Some(retry);
                self.phase = Phase::Retry(retry);
                self.begin_with_the_first();
            }
            own::kind::MODEL_SUBSTITUTED => {
                let substituted: ModelSubstituted = parse(record)?;
                self.rank = substituted.rank;
                self.worth_a_retry |= substituted.transient;
            }
            wire::SESSION_ERROR => {
                let failed: SessionError = parse(record)?;
                // What fails outside of a turn ends none.
                if failed.error.retry_status.kind != "retrying" && self.phase != Phase::Rest {
                    self.phase = Phase::End(Ending::RetriesExhausted);
                }
            }
            wire::AGENT_TOOL_USE => {
                self.call_made(record, |call| match call.evaluated_permission.as_deref() {
                    Some("ask") => Duty::Ask,
                    Some("allow") => Duty::Run,
                    _ => Duty::Refused(String::new()),
                })?
            }
            wire::AGENT_CUSTOM_TOOL_USE => self.call_made(record, |_| Duty::Client)?,
            own::kind::TOOL_STARTED => {
                let started: ToolStarted = parse(record)?;
                if let Some(call) = self.call_mut(&started.call) {
                    call.started = Some(record.fence);
                }
            }
            wire::USER_TOOL_CONFIRMATION => {
                let answer: Confirmation = parse(record)?;
                if let Some(call) = self.call_mut(&answer.tool_use_id)
                    && call.duty == Duty::Ask
                {
                    call.duty = match answer.result.as_str() {
                        "allow" => Duty::Run,
                        _ => Duty::Denied(answer.deny_message),
                    };
                }
            }
            wire::AGENT_TOOL_RESULT | wire::USER_CUSTOM_TOOL_RESULT => {
                let result: ResultOf = parse(record)?;
                self.close(record.seq, &result.tool_use_id, result.content, result.is_error);
            }
            own::kind::TOOL_CLOSED => {
                let closed: ToolClosed = parse(record)?;
                self.close(record.seq, &closed.call, text_block(&closed.reason), true);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_with_the_first(&mut self) {
        self.rank = 0;
        self.worth_a_retry = false;
    }

    fn hear(&mut self, seq: Seq, item: Item, tokens: u64) {
        self.entries.push(Entry { seq, item, tokens });
        self.basis = seq;
        // A turn that has died of an error keeps its last input for the next one.
        if self.phase != Phase::End(Ending::RetriesExhausted) {
            self.phase = Phase::Think;
        }
    }

    fn call_made(
        &mut self,
        record: &Record,
        duty: impl FnOnce(&CallMade) -> Duty,
    ) -> Result<(), String> {
        let made: CallMade = parse(record)?;
        self.calls.push(Call {
            duty: duty(&made),
            event: made.id,
            call_id: String::new(),
            name: made.name,
            input: made.input,
            started: None,
            result: None,
        });
        Ok(())
    }

    fn answered(&mut self, record: &Record) -> Result<(), String> {
        let response: ResponseKept = parse(record)?;
        self.basis = record.seq;
        self.retry = None;
        for link in response.calls {
            if let Some(call) = self.call_mut(&link.event) {
                call.call_id = link.call_id;
                if let Some(reason) = link.refused {
                    call.duty = Duty::Refused(reason);
                }
            }
        }
        // What was refused must not stand in the conversation: it would be refused again.
        if !response.blocks.is_empty() && response.stop != StopKind::Refusal {
            self.window_used = response.usage.window_tokens();
            self.measured_before = self.trimmed_before;
            self.entries.push(Entry {
                seq: record.seq,
                tokens: response.usage.output_tokens,
                item: Item::Assistant {
                    provider: response.provider,
                    wire: response.wire,
                    blocks: response.blocks,
                },
            });
        }
        self.phase = match response.stop {
            _ if !self.calls.is_empty() => Phase::Act,
            StopKind::Pause => Phase::Think,
            StopKind::Refusal => Phase::End(Ending::Refusal(
                response.refusal.unwrap_or(Refusal { category: None, explanation: None }),
            )),
            StopKind::EndTurn | StopKind::ToolUse | StopKind::MaxTokens => {
                Phase::End(Ending::EndTurn)
            }
            StopKind::WindowExceeded => Phase::End(Ending::RetriesExhausted),
        };
        Ok(())
    }

    fn call_mut(&mut self, event: &str) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| &*call.event == event)
    }

    /// Closes a call. With the last one, all results enter the conversation in call order.
    fn close(&mut self, seq: Seq, event: &str, content: Arc<RawValue>, is_error: bool) {
        match self.call_mut(event) {
            Some(call) if call.result.is_none() => call.result = Some((content, is_error)),
            // A result that nobody waits for changes nothing.
            _ => return,
        }
        if self.calls.iter().any(|call| call.result.is_none()) {
            return;
        }
        let mut tokens = 0;
        let results = self
            .calls
            .drain(..)
            .filter_map(|call| {
                let (content, is_error) = call.result?;
                tokens += estimate(content.get());
                Some(ToolResult { call_id: call.call_id, name: call.name, content, is_error })
            })
            .collect();
        self.entries.push(Entry { seq, item: Item::ToolResults(results), tokens });
        self.basis = seq;
        if self.phase == Phase::Act {
            self.phase = Phase::Think;
        }
    }
}

/// About how many tokens a piece of JSON fills: four bytes each, and a base64 source counts as
/// one picture or page, whatever its size.
#[must_use]
pub fn estimate(json: &str) -> u64 {
    const PICTURE_TOKENS: u64 = 1_600;
    const BYTES_PER_TOKEN: usize = 4;
    let (mut bytes, mut pictures, mut rest) = (0, 0, json);
    while let Some(found) = rest.find("\"base64\"") {
        // A source is a flat object whose data has no braces, before its type or behind it.
        let start = rest[..found].rfind('{').unwrap_or(found);
        let end = rest[found..].find('}').map_or(rest.len(), |length| found + length);
        bytes += start;
        pictures += 1;
        rest = &rest[end..];
    }
    bytes += rest.len();
    (bytes / BYTES_PER_TOKEN) as u64 + pictures * PICTURE_TOKENS + 1
}

/// A list with one text block.
#[must_use]
pub fn text_block(text: &str) -> Arc<RawValue> {
    let blocks = serde_json::json!([{ "type": "text", "text": text }]);
    serde_json::value::to_raw_value(&blocks)
        .map_or_else(|error| unreachable!("plain JSON has a text: {error}"), Arc::from)
}
