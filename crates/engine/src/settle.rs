//! What the log says of an effect that has come to its end.
//!
//! Pure: time and chance are handed in.

use std::{collections::HashMap, sync::Arc, time::Duration};

use posthouse_model::{
    Block, Failure, FailureKind, ModelSpec, Response, Stop, Usage, View, WireKind,
};
use posthouse_protocol::{
    Micros,
    agent::{Policy, SessionAgent},
    event::kind as wire,
};
use serde_json::{json, value::RawValue};

use crate::{
    line::{self, Line, Scribe},
    own::{
        self, CallLink, Refusal, RequestFailed, ResponseKept, RetryScheduled, StopKind, ToolsLoaded,
    },
    state::Thread,
    summary::ThreadSummary,
    toolbox::{Owner, Tool, Toolbox},
};

/// Attempts at one model request, at most.
const MOST_ATTEMPTS: u32 = 10;
/// How long one model request is tried again, at most.
const LONGEST_TRYING: Duration = Duration::from_secs(600);
/// The longest wait that we choose.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The longest wait that a provider may choose.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The error of a conversation that is too long for its model.
const WINDOW_FULL: &str = "compaction_limit_reached_error";

/// What the model is told of a call that ends in the middle.
const CUT_OFF: &str = "The tool call was cut off: its input is no complete JSON object, probably \
    because the response reached its output limit. Call the tool again with a shorter input.";

/// Ids that were shown in previews, by the index of the block.
pub type Previewed = HashMap<usize, Arc<str>>;

/// The request that an outcome belongs to.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The id of the span's start event.
    pub span: Arc<str>,
    /// The provider's name.
    pub provider: Arc<str>,
    /// What it speaks.
    pub wire: WireKind,
    /// The model's name there.
    pub model: String,
    /// What is known of the model.
    pub spec: Arc<ModelSpec>,
    /// Whether its faster, dearer mode was asked for.
    pub fast: bool,
    /// The region that was asked for.
    pub inference_geo: Option<String>,
}

impl Asked {
    /// What the request has cost by the price list, in billionths of a dollar; `None` when it has
    /// no price.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<u64> {
        self.spec.cost_nanodollars_with(usage, self.fast, self.inference_geo.as_deref())
    }
}

/// What comes from outside of the log: the time, and a number from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Micros,
    /// By chance.
    pub chance: f64,
}

/// A response, as records: thinking, message and calls in the order of their blocks, then the
/// span's end, then the response itself, and which tools it has called that were not shown to it.
pub fn response(
    toolbox: &Toolbox,
    Thread { id: thread, loaded, .. }: &Thread,
    asked: &Asked,
    response: Response,
    cost: Option<u64>,
    previewed: &Previewed,
    scribe: &mut Scribe<'_>,
) -> Vec<Line> {
    let refused = matches!(response.stop, Stop::Refusal { .. });
    let mut lines = Vec::new();
    let mut calls = Vec::new();
    let mut unseen: Vec<Arc<str>> = Vec::new();
    let mut message: Option<(Arc<str>, Vec<serde_json::Value>)> = None;
    for (index, block) in response.blocks.iter().enumerate() {
        if let View::Text(text) = &block.view {
            if !text.is_empty() {
                let (_, content) = message.get_or_insert_with(|| {
                    let shown = previewed.get(&index).cloned();
                    (shown.unwrap_or_else(|| scribe.event_id()), Vec::new())
                });
                content.push(json!({ "type": "text", "text": text }));
            }
            continue;
        }
        lines.extend(message.take().map(|message| agent_message(thread, message)));
        match &block.view {
            View::Thinking => {
                let id = previewed.get(&index).cloned().unwrap_or_else(|| scribe.event_id());
                lines.push(Line::Ready {
                    kind: wire::AGENT_THINKING,
                    thread: Arc::clone(thread),
                    payload: line::event_payload(&id, &serde_json::Map::new()),
                });
            }
            // What a refused response has called must not run, and nothing answers it.
            View::ToolUse { call_id, name, input } if !refused => {
                let id = scribe.event_id();
                let tool = toolbox.called(name, asked.spec.window);
                let verdict = judge(tool, name, input.is_some());
                let called = Called { tool, name, input: input.as_deref() };
                lines.push(tool_use(thread, &id, &called, &verdict));
                let own_name = tool.and_then(Tool::server_name);
                if let Some(tool) = tool.filter(|_| own_name.is_some())
                    && toolbox.is_searched(asked.spec.window)
                    && !loaded.contains(&tool.name)
                    && !unseen.contains(&tool.name)
                {
                    unseen.push(Arc::clone(&tool.name));
                }
                calls.push(CallLink {
                    block: index,
                    event: id,
                    call_id: call_id.clone(),
                    name: own_name.map(|_| name.as_str().into()),
                    refused: match verdict {
                        Verdict::Refuse(reason) => Some(reason),
                        _ => None,
                    },
                });
            }
            View::ToolUse { .. } | View::Text(_) | View::Opaque => {}
        }
    }
    lines.extend(message.map(|message| agent_message(thread, message)));
    lines.push(line::request_end(thread, &asked.span, &response.usage, false));
    let (stop, refusal) = stop_kind(&response.stop);
    let blocks: Vec<Box<RawValue>> =
        response.blocks.into_iter().map(|Block { native, .. }| native).collect();
    lines.push(line::own_record(
        own::kind::RESPONSE,
        thread,
        &ResponseKept {
            provider: Arc::clone(&asked.provider),
            wire: asked.wire,
            model: asked.model.clone(),
            served: response.served,
            blocks: blocks.into(),
            stop,
            refusal,
            usage: response.usage,
            cost,
            calls,
        },
    ));
    if !unseen.is_empty() {
        let loaded = ToolsLoaded { names: unseen };
        lines.push(line::own_record(own::kind::TOOLS_LOADED, thread, &loaded));
    }
    if stop == StopKind::WindowExceeded {
        lines.push(window_full(thread));
    }
    lines
}

/// A request that gave no response, as records: the span's end, and what follows from it.
#[must_use]
pub fn failure(
    agent: &SessionAgent,
    thread: &Thread,
    summary: &ThreadSummary,
    asked: &Asked,
    failure: &Failure,
    cost: Option<u64>,
    moment: Moment,
) -> Vec<Line> {
    let id = &thread.id;
    let mut lines = closed_span(id, &asked.span, &failure.usage, cost, &failure.message);
    lines.extend(after_failure(agent, thread, summary, failure, moment));
    lines
}

/// What follows from a failure, as records: another of the agent's models takes over, the request
/// is tried again later, or the turn ends.
#[must_use]
pub fn after_failure(
    agent: &SessionAgent,
    thread: &Thread,
    summary: &ThreadSummary,
    failure: &Failure,
    moment: Moment,
) -> Vec<Line> {
    let id = &thread.id;
    let kind = match failure.kind {
        FailureKind::Overloaded => "model_overloaded_error",
        FailureKind::RateLimited => "model_rate_limited_error",
        FailureKind::Transient | FailureKind::Hopeless => "model_request_failed_error",
        FailureKind::Billing => "billing_error",
        FailureKind::TooLong => WINDOW_FULL,
    };
    let message = &failure.message;
    if let Some(to) = agent.posthouse.fallback.get(thread.rank) {
        let from = thread.model(agent).id.clone();
        let why = message.trim_end_matches('.');
        let told = format!("{from} can't answer: {why}. {} takes over for this turn.", to.id);
        let substituted = own::ModelSubstituted {
            from,
            to: to.id.clone(),
            rank: thread.rank + 1,
            reason: message.clone(),
            transient: failure.kind.is_transient(),
        };
        return vec![
            line::session_error(id, kind, &told, "retrying"),
            line::own_record(own::kind::MODEL_SUBSTITUTED, id, &substituted),
        ];
    }
    // The last of several has failed for good, but one before it may be back by then.
    let worth_it = thread.worth_a_retry || failure.kind.is_transient();
    let before = thread.retry.as_ref();
    let retry = worth_it.then(|| next_attempt(before, failure.retry_after, moment));
    match retry.flatten() {
        Some(retry) => {
            let mut lines = vec![line::session_error(id, kind, message, "retrying")];
            lines.extend(line::rescheduled(id, &summary.agent_name));
            lines.push(line::own_record(own::kind::RETRY_SCHEDULED, id, &retry));
            lines
        }
        None if failure.kind == FailureKind::TooLong => vec![window_full(id)],
        None => vec![line::session_error(id, kind, message, "exhausted")],
    }
}

/// A request that nobody waits for any more, as records.
#[must_use]
pub fn closed_span(
    thread: &Arc<str>,
    span: &Arc<str>,
    usage: &Usage,
    cost: Option<u64>,
    reason: &str,
) -> Vec<Line> {
    let failed =
        RequestFailed { span: Arc::clone(span), reason: reason.to_owned(), usage: *usage, cost };
    vec![
        line::request_end(thread, span, usage, true),
        line::own_record(own::kind::REQUEST_FAILED, thread, &failed),
    ]
}

/// The conversation no longer fits.
#[must_use]
pub fn window_full(thread: &Arc<str>) -> Line {
    line::session_error(
        thread,
        WINDOW_FULL,
        "The conversation no longer fits the model's context window.",
        "exhausted",
    )
}

/// When a request that may succeed later is tried again, if at all.
#[must_use]
pub fn next_attempt(
    before: Option<&RetryScheduled>,
    retry_after: Option<Duration>,
    Moment { now, chance }: Moment,
) -> Option<RetryScheduled> {
    let attempt = before.map_or(0, |before| before.attempt) + 1;
    let since = before.map_or(now, |before| before.since);
    let delay = match retry_after {
        Some(wanted) => wanted.min(LONGEST_RETRY_AFTER),
        None => {
            let doubled = Duration::from_millis(500) * 2u32.pow((attempt - 1).min(16));
            // Full jitter: clients that failed together must not come back together.
            doubled.min(LONGEST_BACKOFF).mul_f64(chance.clamp(0.0, 1.0))
        }
    };
    let not_before = now.plus(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
    let trying = not_before.0 - since.0;
    let longest = i64::try_from(LONGEST_TRYING.as_micros()).unwrap_or(i64::MAX);
    (attempt < MOST_ATTEMPTS && trying <= longest).then_some(RetryScheduled {
        attempt,
        not_before,
        since,
    })
}

/// Whether a call may run.
enum Verdict {
    Run,
    Ask,
    Client,
    Refuse(String),
}

fn judge(tool: Option<&Tool>, name: &str, complete: bool) -> Verdict {
    if !complete {
        return Verdict::Refuse(CUT_OFF.to_owned());
    }
    match tool.map(|tool| &tool.owner) {
        Some(Owner::Client) => Verdict::Client,
        Some(Owner::BuiltIn(policy) | Owner::Mcp { policy, .. }) => match policy {
            Policy::AlwaysAllow => Verdict::Run,
            Policy::AlwaysAsk => Verdict::Ask,
        },
        None => Verdict::Refuse(format!("There is no tool {name:?} that this agent may use.")),
    }
}

/// A call as the model has made it.
struct Called<'a> {
    /// The tool, when there is one of that name.
    tool: Option<&'a Tool>,
    name: &'a str,
    input: Option<&'a RawValue>,
}

fn tool_use(thread: &Arc<str>, id: &str, called: &Called<'_>, verdict: &Verdict) -> Line {
    // The input goes in as text: what the model wrote must come out to the letter.
    // Line breaks between its tokens alone can't stay: an event is one line on a stream.
    let input = called.input.map_or("{}", RawValue::get).replace(['\n', '\r'], " ");
    let (usual, start) = match called.tool.and_then(Tool::server_name) {
        Some((server, tool)) => {
            let (server, tool) = (json!(server), json!(tool));
            let names = format!("\"mcp_server_name\":{server},\"name\":{tool}");
            (wire::AGENT_MCP_TOOL_USE, names)
        }
        None => (wire::AGENT_TOOL_USE, format!("\"name\":{}", json!(called.name))),
    };
    let start = format!("{{\"id\":\"{id}\",{start},\"input\":{input}");
    let (kind, rest) = match verdict {
        Verdict::Client => (wire::AGENT_CUSTOM_TOOL_USE, String::new()),
        Verdict::Run => (usual, evaluated("allow", Some("always_allow"))),
        Verdict::Ask => (usual, evaluated("ask", Some("always_ask"))),
        Verdict::Refuse(_) => (usual, evaluated("deny", None)),
    };
    Line::Ready {
        kind,
        thread: Arc::clone(thread),
        payload: format!("{start}{rest},\"session_thread_id\":null}}"),
    }
}

fn evaluated(permission: &str, policy: Option<&str>) -> String {
    let evaluation = policy.map(|policy| json!({ "type": policy }));
    let evaluation = json!(evaluation);
    format!(",\"evaluated_permission\":\"{permission}\",\"evaluation\":{evaluation}")
}

fn agent_message(thread: &Arc<str>, (id, content): (Arc<str>, Vec<serde_json::Value>)) -> Line {
    Line::Ready {
        kind: wire::AGENT_MESSAGE,
        thread: Arc::clone(thread),
        payload: line::event_payload(&id, &line::members(json!({ "content": content }))),
    }
}

fn stop_kind(stop: &Stop) -> (StopKind, Option<Refusal>) {
    match stop {
        Stop::EndTurn => (StopKind::EndTurn, None),
        Stop::ToolUse => (StopKind::ToolUse, None),
        Stop::MaxTokens => (StopKind::MaxTokens, None),
        Stop::Pause => (StopKind::Pause, None),
        Stop::WindowExceeded => (StopKind::WindowExceeded, None),
        Stop::Refusal { category, explanation } => (
            StopKind::Refusal,
            Some(Refusal { category: category.clone(), explanation: explanation.clone() }),
        ),
    }
}
