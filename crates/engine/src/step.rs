//! What to do next, as a pure function of the state.
//!
//! A plan is what to append now and the set of effects that should be in flight. Nothing in
//! here knows what is in flight already: bringing that in line is `drive`'s work.

use std::sync::Arc;

use crate::{
    line::{self, Line, Rest},
    own::{self, ToolClosed},
    state::{Call, Duty, Ending, Phase, QueuedInput, State, Thread},
    summary::Status,
};

/// What the model is told of a call that an interrupt has ended.
pub const INTERRUPTED: &str =
    "The tool call was interrupted before it completed. Call the tool again if it is still needed.";

/// Settings that steps depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Model requests in one turn, at most.
    pub requests_per_turn: u32,
    /// Whether there is anything that searches the web.
    pub search: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_turn: 500, search: false }
    }
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What to append now.
    pub append: Vec<Line>,
    /// Whether that rests on there being no input that the state has not seen.
    pub rests_on_silence: bool,
    /// Whether the session is at rest afterwards, so that the lease can go.
    pub releases: bool,
    /// What should be in flight.
    pub effects: Vec<Effect>,
}

/// Something outside of the log that should be under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// A model request.
    Model {
        /// The thread whose model is asked.
        thread: Arc<str>,
        /// The place of the record that last changed the conversation.
        basis: i64,
        /// How often it was tried before.
        attempt: u32,
    },
    /// The agent's MCP servers are asked for their tools.
    List {
        /// The thread whose turn begins.
        thread: Arc<str>,
    },
    /// A tool at work.
    Tool {
        /// The thread that has called.
        thread: Arc<str>,
        /// The id of the `…_use` event.
        call: Arc<str>,
    },
    /// A wait.
    SleepUntil {
        /// The thread that waits.
        thread: Arc<str>,
        /// Until when.
        at: posthouse_protocol::Micros,
    },
}

/// Plans the next step.
#[must_use]
pub fn step(state: &State, limits: &Limits) -> Plan {
    let mut plan = Plan::default();
    if state.summary.status == Status::Terminated {
        return plan;
    }
    let interrupted = state.queue.iter().any(|queued| queued.input == QueuedInput::Interrupt);
    for (thread, summary) in state.threads.iter().zip(&state.summary.threads) {
        let step = ThreadStep { state, thread, agent_name: &summary.agent_name, limits };
        if interrupted {
            step.interrupt(&mut plan);
        } else {
            step.go_on(&mut plan);
        }
    }
    plan
}

struct ThreadStep<'a> {
    state: &'a State,
    thread: &'a Thread,
    agent_name: &'a str,
    limits: &'a Limits,
}

impl ThreadStep<'_> {
    /// Ends the turn. What is in flight is not in the plan and so comes to its end first.
    fn interrupt(&self, plan: &mut Plan) {
        let thread = self.thread;
        let in_flight = |call: &Call| call.started.is_some() && call.result.is_none();
        if thread.span.is_some() || thread.calls.iter().any(in_flight) {
            return;
        }
        plan.append.extend(close_calls(thread));
        self.take(plan, |input| *input == QueuedInput::Interrupt);
        if self.state.summary.status.is_working() {
            let more = self.state.queue.iter().any(|one| one.input != QueuedInput::Interrupt);
            self.rest(plan, &Rest::Ended(Ending::EndTurn), more);
        }
    }

    fn go_on(&self, plan: &mut Plan) {
        let thread = self.thread;
        match &thread.phase {
            Phase::Rest => {
                if !self.state.queue.is_empty() {
                    if !self.state.summary.status.is_working() {
                        plan.append.extend(line::running(&thread.id, self.agent_name));
                    }
                    self.take(plan, |_| true);
                } else if self.state.summary.status.is_working() {
                    self.rest(plan, &Rest::Ended(Ending::EndTurn), false);
                }
            }
            Phase::Retry(retry) => plan
                .effects
                .push(Effect::SleepUntil { thread: Arc::clone(&thread.id), at: retry.not_before }),
            Phase::Think => self.think(plan),
            Phase::Act => self.act(plan),
            Phase::End(ending) => {
                // A response can end a turn and still have called: each call needs its result.
                plan.append.extend(close_calls(thread));
                let queued = !self.state.queue.is_empty();
                match ending {
                    Ending::EndTurn if queued => self.take(plan, |_| true),
                    Ending::EndTurn => self.rest(plan, &Rest::Ended(ending.clone()), false),
                    // What waited for a turn that has died is taken with it.
                    Ending::RetriesExhausted => {
                        self.take(plan, |_| true);
                        self.rest(plan, &Rest::Ended(ending.clone()), false);
                    }
                    Ending::Refusal(_) => {
                        self.rest(plan, &Rest::Ended(ending.clone()), queued);
                    }
                }
            }
        }
    }

    fn think(&self, plan: &mut Plan) {
        let thread = self.thread;
        if thread.span.is_none() {
            if !self.state.queue.is_empty() {
                return self.take(plan, |_| true);
            }
            if thread.requests >= self.limits.requests_per_turn {
                let message = format!(
                    "The turn has reached its limit of {} model requests.",
                    self.limits.requests_per_turn
                );
                let kind = "tool_use_limit_reached_error";
                plan.append.push(line::session_error(&thread.id, kind, &message, "exhausted"));
                return;
            }
            if !thread.listed && !self.state.agent.mcp_servers.is_empty() {
                return plan.effects.push(Effect::List { thread: Arc::clone(&thread.id) });
            }
        }
        plan.effects.push(Effect::Model {
            thread: Arc::clone(&thread.id),
            basis: thread.basis,
            attempt: thread.retry.map_or(0, |retry| retry.attempt),
        });
    }

    fn act(&self, plan: &mut Plan) {
        let thread = self.thread;
        let mut waiting = Vec::new();
        for call in thread.calls.iter().filter(|call| call.result.is_none()) {
            match &call.duty {
                Duty::Run => plan.effects.push(Effect::Tool {
                    thread: Arc::clone(&thread.id),
                    call: Arc::clone(&call.event),
                }),
                Duty::Denied(message) => {
                    let text = rejection(&call.called, message.as_deref());
                    plan.append.push(call.error_result(&thread.id, text));
                }
                Duty::Refused(reason) => {
                    plan.append.push(call.error_result(&thread.id, reason.clone()));
                }
                Duty::Ask | Duty::Client => waiting.push(Arc::clone(&call.event)),
            }
        }
        let resting = !self.state.summary.status.is_working();
        if resting {
            // The client has answered some of its calls, not all: everything waits for the rest.
            plan.append.clear();
            plan.effects.clear();
        } else if plan.append.is_empty() && plan.effects.is_empty() && !waiting.is_empty() {
            self.rest(plan, &Rest::RequiresAction(waiting), false);
        }
    }

    fn take(&self, plan: &mut Plan, wanted: impl Fn(&QueuedInput) -> bool) {
        let queued = self.state.queue.iter().filter(|queued| wanted(&queued.input));
        let taken = queued.map(|one| line::input_taken(&self.thread.id, one.seq, &one.id));
        plan.append.extend(taken);
    }

    /// Comes to rest. With `more`, messages wait that begin the next turn at once: it is
    /// begun in the same append, so that no crash can leave them lying.
    fn rest(&self, plan: &mut Plan, rest: &Rest, more: bool) {
        plan.append.extend(line::idle(&self.thread.id, self.agent_name, rest));
        plan.rests_on_silence = true;
        plan.releases = !more;
        if more {
            plan.append.extend(line::running(&self.thread.id, self.agent_name));
            self.take(plan, |input| *input != QueuedInput::Interrupt);
        }
    }
}

/// Closes all open calls of a thread whose turn ends before they could.
#[must_use]
pub fn close_calls(thread: &Thread) -> Vec<Line> {
    let open = thread.calls.iter().filter(|call| call.result.is_none());
    open.map(|call| match call.duty {
        Duty::Client => close_for_client(&thread.id, &call.event),
        _ => call.error_result(&thread.id, INTERRUPTED),
    })
    .collect()
}

/// Closes a call whose result only the client could have sent: the wire has no event for that.
#[must_use]
pub fn close_for_client(thread: &Arc<str>, call: &Arc<str>) -> Line {
    let closed = ToolClosed { call: Arc::clone(call), reason: INTERRUPTED.to_owned() };
    line::own_record(own::kind::TOOL_CLOSED, thread, &closed)
}

/// What the model is told of a call that the user has rejected.
fn rejection(tool: &str, message: Option<&str>) -> String {
    match message {
        Some(message) => {
            format!("Permission to use {tool} has been rejected. Rejection message: {message}")
        }
        None => format!("Permission to use {tool} has been rejected."),
    }
}

/// The events that end a wait for a retry.
#[must_use]
pub fn awake(thread: &Arc<str>, agent_name: &str) -> Vec<Line> {
    line::running(thread, agent_name).into()
}

/// Everything that the state says is under way, wanted or not.
#[must_use]
pub fn open_effects(state: &State) -> Vec<Effect> {
    let mut open = Vec::new();
    for thread in &state.threads {
        if thread.span.is_some() {
            open.push(Effect::Model {
                thread: Arc::clone(&thread.id),
                basis: thread.basis,
                attempt: thread.retry.map_or(0, |retry| retry.attempt),
            });
        }
        let started =
            thread.calls.iter().filter(|call| call.started.is_some() && call.result.is_none()).map(
                |call| Effect::Tool {
                    thread: Arc::clone(&thread.id),
                    call: Arc::clone(&call.event),
                },
            );
        open.extend(started);
    }
    open
}
