//! What a session makes of what a client sends.
//!
//! Pure: the same summary, events, ids and times give the same records. A batch is taken whole
//! or refused whole.

use std::{collections::HashMap, sync::Arc};

use posthouse_protocol::{
    ApiError,
    event::{self, ClientEvent, kind as wire},
};
use posthouse_store::{Draft, Record, Seq, log::Stamp};
use serde_json::json;

use crate::{
    line::{self, Line, Rest, Scribe},
    state::Ending,
    step,
    summary::{Awaits, Status, Summary},
};

/// Answers that came before, by the call that they answer: the event as the wire shows it, or
/// `None` for a call that was closed without the client.
pub type Known = HashMap<String, Option<String>>;

/// What becomes of a batch.
#[derive(Debug)]
pub struct Accepted {
    /// The records.
    pub drafts: Vec<Draft>,
    /// The events as the client is told of them, JSON.
    pub echo: Vec<String>,
    /// Whether the session has to be worked on.
    pub wakes: bool,
}

/// A client event, written out. Whatever takes time in proportion to its size is done by then,
/// because accepting it happens inside of a transaction.
#[derive(Debug, Clone)]
pub struct Written {
    meaning: Meaning,
    id: Arc<str>,
    /// The record, but for its thread.
    draft: Draft,
}

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Message,
    System,
    Interrupt { thread: Option<String> },
    Answer { call: String, awaits: Awaits },
}

/// Writes a batch of client events out.
pub fn write(events: Vec<ClientEvent>, scribe: &mut Scribe<'_>) -> Vec<Written> {
    let write = |event| {
        let (kind, meaning, members) = match event {
            ClientEvent::Message { content } => {
                (wire::USER_MESSAGE, Meaning::Message, json!({ "content": content }))
            }
            ClientEvent::System { content } => {
                (wire::SYSTEM_MESSAGE, Meaning::System, json!({ "content": content }))
            }
            ClientEvent::Interrupt { thread } => {
                let members = json!({ "session_thread_id": thread });
                (wire::USER_INTERRUPT, Meaning::Interrupt { thread }, members)
            }
            ClientEvent::Confirmation { call, allow, deny_message } => {
                let members = json!({
                    "tool_use_id": call,
                    "result": if allow { "allow" } else { "deny" },
                    "deny_message": deny_message,
                    "session_thread_id": null,
                });
                let meaning = Meaning::Answer { call, awaits: Awaits::Confirmation };
                (wire::USER_TOOL_CONFIRMATION, meaning, members)
            }
            ClientEvent::CustomToolResult { call, content, is_error } => {
                let members = json!({
                    "custom_tool_use_id": call,
                    "content": content,
                    "is_error": is_error,
                    "session_thread_id": null,
                });
                let meaning = Meaning::Answer { call, awaits: Awaits::Result };
                (wire::USER_CUSTOM_TOOL_RESULT, meaning, members)
            }
        };
        let id = scribe.event_id();
        let payload = line::event_payload(&id, &line::members(members));
        Written { meaning, id, draft: Draft::new(kind, Arc::from(""), payload) }
    };
    events.into_iter().map(write).collect()
}

/// Takes a batch of client events, or says why not.
///
/// # Errors
/// 400 that names the event.
pub fn accept(
    summary: Summary,
    events: Vec<Written>,
    known: &Known,
    stamp: Stamp,
    scribe: Scribe<'_>,
) -> Result<Accepted, ApiError> {
    let status = summary.status;
    if status == Status::Terminated {
        return Err(ApiError::invalid(
            "events: the session is terminated and takes no more; create a new session",
        ));
    }
    let had_open_calls = summary.threads.iter().any(|thread| !thread.open.is_empty());
    let thread = summary
        .primary()
        .map(|primary| (Arc::clone(&primary.id), primary.agent_name.clone()))
        .ok_or_else(|| ApiError::invalid("events: the session has no thread"))?;
    let mut intake = Intake {
        thread: thread.0,
        agent_name: thread.1,
        summary,
        scribe,
        stamp,
        drafts: Vec::new(),
        echo: Vec::new(),
        messages: Vec::new(),
        answered: false,
    };
    let mut previous_is_answer = false;
    for (index, event) in events.into_iter().enumerate() {
        let is_answer = matches!(event.meaning, Meaning::Answer { .. });
        intake.take(event, index, known, previous_is_answer)?;
        previous_is_answer = is_answer;
    }
    let wakes = intake.conclude(status, had_open_calls)?;
    Ok(Accepted { drafts: intake.drafts, echo: intake.echo, wakes })
}

struct Intake<'a> {
    thread: Arc<str>,
    agent_name: String,
    /// The summary as it will be after the records so far.
    summary: Summary,
    scribe: Scribe<'a>,
    stamp: Stamp,
    drafts: Vec<Draft>,
    echo: Vec<String>,
    /// Messages of this batch that no thread has taken.
    messages: Vec<(Seq, Arc<str>)>,
    /// Whether this batch has answered a call that no interrupt has closed since.
    answered: bool,
}

impl Intake<'_> {
    fn take(
        &mut self,
        event: Written,
        index: usize,
        known: &Known,
        previous_is_answer: bool,
    ) -> Result<(), ApiError> {
        let path = format!("events[{index}]");
        match event.meaning.clone() {
            Meaning::Message => {
                self.refuse_while_waiting(&path)?;
                self.queue(event)
            }
            Meaning::System => {
                if !previous_is_answer {
                    self.refuse_while_waiting(&path)?;
                }
                self.queue(event)
            }
            Meaning::Interrupt { thread } => {
                if thread.is_some_and(|named| *named != *self.thread) {
                    return Err(ApiError::invalid(format!(
                        "{path}.session_thread_id: no such thread in this session; leave it out \
                         or name a thread of GET /v1/sessions/{{id}}/threads"
                    )));
                }
                self.interrupt(event)
            }
            Meaning::Answer { call, awaits } => self.answer(&path, &call, awaits, event, known),
        }
    }

    /// A session that waits for answers takes no messages: they could stand between a call and
    /// its result.
    fn refuse_while_waiting(&self, path: &str) -> Result<(), ApiError> {
        let open: Vec<&str> = self.summary.unanswered().map(|call| &*call.id).collect();
        if self.summary.status != Status::Idle || open.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "{path}: the session waits for answers to the calls {}; answer them or send a \
             user.interrupt first",
            open.join(", ")
        )))
    }

    fn queue(&mut self, event: Written) -> Result<(), ApiError> {
        let (id, seq) = self.push_event(event, false)?;
        self.messages.push((seq, id));
        Ok(())
    }

    fn interrupt(&mut self, event: Written) -> Result<(), ApiError> {
        if self.summary.status.is_working() {
            return self.push_event(event, false).map(drop);
        }
        let open = self.summary.primary().map(|primary| primary.open.clone()).unwrap_or_default();
        // Calls that this batch has answered would go on; then there is a turn to end.
        if open.is_empty() && !self.answered {
            // Nothing to interrupt. Nothing is logged either: clients that count quiet time
            // after an idle event would begin to wait again, for nothing.
            self.echo(&event, true);
            return Ok(());
        }
        let (id, seq) = self.push_event(event, false)?;
        for call in open {
            let closing = match call.awaits {
                Awaits::Result => step::close_for_client(&self.thread, &call.id),
                Awaits::Confirmation => {
                    line::error_result(&self.thread, call.family, &call.id, step::INTERRUPTED)
                }
            };
            self.push(closing)?;
        }
        self.push(line::input_taken(&self.thread, seq, &id))?;
        self.answered = false;
        self.rest(&Rest::Ended(Ending::EndTurn))
    }

    fn answer(
        &mut self,
        path: &str,
        call: &str,
        awaits: Awaits,
        event: Written,
        known: &Known,
    ) -> Result<(), ApiError> {
        let field = match awaits {
            Awaits::Confirmation => "tool_use_id",
            Awaits::Result => "custom_tool_use_id",
        };
        let open = self.summary.threads.iter().flat_map(|thread| &thread.open);
        let found = open.clone().find(|open| &*open.id == call).cloned();
        match found {
            Some(open) if open.awaits != awaits => {
                let (what, right) = match awaits {
                    Awaits::Confirmation => ("a custom tool", "user.custom_tool_result"),
                    Awaits::Result => ("a tool of the server", "user.tool_confirmation"),
                };
                Err(ApiError::invalid(format!(
                    "{path}.{field}: {call} calls {what}; send a {right}"
                )))
            }
            Some(open) if !open.answered => {
                self.push_event(event, true)?;
                self.answered = true;
                Ok(())
            }
            // The first answer has won; a repeat is told of it.
            found => match (known.get(call), found) {
                (Some(Some(earlier)), _) => {
                    self.echo.push(earlier.clone());
                    Ok(())
                }
                (Some(None), _) | (None, Some(_)) => {
                    self.echo(&event, true);
                    Ok(())
                }
                (None, None) => Err(ApiError::invalid(format!(
                    "{path}.{field}: {call} is no call of this session that waits for an answer; \
                     name one of the event_ids of the last session.status_idle"
                ))),
            },
        }
    }

    /// Says what the whole batch does to a session at rest. True when it has to be worked on.
    fn conclude(&mut self, before: Status, had_open_calls: bool) -> Result<bool, ApiError> {
        if before.is_working() {
            return Ok(!self.drafts.is_empty());
        }
        let unanswered: Vec<_> =
            self.summary.unanswered().map(|call| Arc::clone(&call.id)).collect();
        if !unanswered.is_empty() {
            if self.answered {
                self.rest(&Rest::RequiresAction(unanswered))?;
            }
            return Ok(false);
        }
        if self.summary.waiting.is_empty() && !self.answered {
            return Ok(false);
        }
        for line in line::running(&self.thread.clone(), &self.agent_name.clone()) {
            self.push(line)?;
        }
        // With calls to finish first, the harness takes the messages behind their results. With
        // older input, which waited with calls that were interrupted, it takes all in order.
        let calls_come_first = had_open_calls && self.answered;
        let older_waits = self.summary.waiting.len() > self.messages.len();
        if !calls_come_first && !older_waits && !self.messages.is_empty() {
            for (seq, id) in std::mem::take(&mut self.messages) {
                self.push(line::input_taken(&self.thread, seq, &id))?;
            }
        }
        Ok(true)
    }

    fn rest(&mut self, rest: &Rest) -> Result<(), ApiError> {
        for line in line::idle(&self.thread.clone(), &self.agent_name.clone(), rest) {
            self.push(line)?;
        }
        Ok(())
    }

    fn next(&self) -> (Seq, posthouse_protocol::Micros) {
        self.stamp.of(self.drafts.len())
    }

    /// Tells the client of its event.
    fn echo(&mut self, event: &Written, processed: bool) {
        let at = processed.then_some(self.next().1);
        self.echo.push(event::render(event.draft.kind, &event.draft.payload, at));
    }

    /// Appends a client's event and echoes it.
    fn push_event(&mut self, event: Written, processed: bool) -> Result<(Arc<str>, Seq), ApiError> {
        self.echo(&event, processed);
        let seq = self.next().0;
        let Written { id, mut draft, .. } = event;
        draft.thread = Arc::clone(&self.thread);
        self.push_draft(draft)?;
        Ok((id, seq))
    }

    fn push(&mut self, line: Line) -> Result<(), ApiError> {
        let drafts = self.scribe.write(&self.summary, vec![line]);
        drafts.into_iter().try_for_each(|draft| self.push_draft(draft))
    }

    fn push_draft(&mut self, draft: Draft) -> Result<(), ApiError> {
        let (seq, at) = self.next();
        let record = Record {
            seq,
            at,
            fence: 0,
            kind: draft.kind.into(),
            thread: Arc::clone(&draft.thread),
            payload: Arc::clone(&draft.payload),
        };
        self.summary
            .apply(&record)
            .map_err(|error| ApiError::new(posthouse_protocol::ErrorKind::Internal, error))?;
        self.drafts.push(draft);
        Ok(())
    }
}
