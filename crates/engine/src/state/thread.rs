//! One thread's part of the fold: its conversation, its calls, and how far its turn has come.
//!
//! As pure as the rest of the fold, and changed by it alone.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use posthouse_model::{Item, ToolResult};
use posthouse_protocol::{
    agent::{ModelConfig, SessionAgent},
    event::kind as wire,
};
use posthouse_store::{Record, Seq};
use serde_json::value::RawValue;

use super::{
    estimate,
    payload::{CallMade, Confirmation, Named, ResultOf, SessionError},
    text_block,
};
use crate::{
    line::{self, Line},
    own::{
        self, ModelSubstituted, Refusal, RequestSent, ResponseKept, RetryScheduled, ServerListed,
        StopKind, ToolClosed, ToolStarted, ToolsListed, ToolsLoaded,
    },
    summary::{Family, parse},
};

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
    /// Whether the MCP servers were asked for their tools since the turn began.
    pub listed: bool,
    /// What they have answered last.
    pub lists: Vec<ServerListed>,
    /// The tools that were put before the model one by one, by its names of them, oldest first.
    pub loaded: Vec<Arc<str>>,
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
    /// The tool's name on the wire.
    pub name: Arc<str>,
    /// The name that the model has called it by.
    pub called: Arc<str>,
    /// The MCP server whose tool it is.
    pub server: Option<Arc<str>>,
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

impl Thread {
    pub(super) fn new(id: Arc<str>) -> Self {
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
            listed: false,
            lists: Vec::new(),
            loaded: Vec::new(),
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

    pub(super) fn apply(&mut self, record: &Record, was_idle: bool) -> Result<(), String> {
        match &*record.kind {
            wire::THREAD_RUNNING => {
                if was_idle || self.phase == Phase::Rest {
                    self.requests = 0;
                    self.listed = false;
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
            own::kind::TOOLS_LISTED => {
                let listed: ToolsListed = parse(record)?;
                self.listed = !listed.servers.is_empty();
                self.lists = listed.servers;
            }
            own::kind::TOOLS_LOADED => {
                let loaded: ToolsLoaded = parse(record)?;
                for name in loaded.names {
                    if !self.loaded.contains(&name) {
                        self.loaded.push(name);
                    }
                }
            }
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
                // What fails outside of a turn ends none, nor does what the turn goes on without.
                let goes_on = failed.error.retry_status.kind == "retrying"
                    || failed.error.kind.starts_with("mcp_")
                    || failed.error.kind == "credential_host_unreachable_error";
                if !goes_on && self.phase != Phase::Rest {
                    self.phase = Phase::End(Ending::RetriesExhausted);
                }
            }
            wire::AGENT_TOOL_USE | wire::AGENT_MCP_TOOL_USE => {
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
            wire::AGENT_TOOL_RESULT
            | wire::AGENT_MCP_TOOL_RESULT
            | wire::USER_CUSTOM_TOOL_RESULT => {
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

    pub(super) fn begin_with_the_first(&mut self) {
        self.rank = 0;
        self.worth_a_retry = false;
    }

    /// The agent has other servers; what was listed may be of none of them.
    pub(super) fn forget_lists(&mut self) {
        self.listed = false;
        self.lists.clear();
    }

    pub(super) fn hear(&mut self, seq: Seq, item: Item, tokens: u64) {
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
            called: Arc::clone(&made.name),
            name: made.name,
            server: made.mcp_server_name,
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
                if let Some(name) = link.name {
                    call.called = name;
                }
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
                Some(ToolResult { call_id: call.call_id, name: call.called, content, is_error })
            })
            .collect();
        self.entries.push(Entry { seq, item: Item::ToolResults(results), tokens });
        self.basis = seq;
        if self.phase == Phase::Act {
            self.phase = Phase::Think;
        }
    }
}

impl Call {
    /// Which events stand for it when the server runs it.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.server.is_some() { Family::Mcp } else { Family::BuiltIn }
    }

    /// The line that closes it with an error.
    #[must_use]
    pub fn error_result(&self, thread: &Arc<str>, text: impl Into<Cow<'static, str>>) -> Line {
        line::error_result(thread, self.family(), &self.event, text)
    }
}
