//! Follows a session until it rests, and says what it finds.

use std::{sync::Arc, time::Duration};

use posthouse_engine::{
    sessions,
    summary::{Awaits, OpenCall, Status, Summary},
};
use posthouse_mcp::server::Progress;
use posthouse_protocol::event::kind as wire;
use posthouse_store::{Behind, Record, Seq, SessionRow, Tick, log::Range};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::input;
use crate::api::{Call, Refusal, events, sessions as session_routes};

/// How many records are read at a time.
const CHUNK: usize = 500;

/// How often a silent session's client is told that it is at work.
const SIGN: Duration = Duration::from_secs(15);

/// What a session has come to.
pub(super) struct Report {
    /// The session.
    pub(super) session: String,
    /// Whether it is at work, and if not, which way it rests.
    pub(super) status: Status,
    /// Why it rests; null before its first turn has ended, and while it is at work.
    stop_reason: Value,
    /// What the agent has said since the place from which was followed.
    said: Vec<String>,
    /// The errors of the session since then.
    errors: Vec<String>,
    /// The calls that wait for an answer.
    pub(super) open: Vec<Open>,
    /// Up to where the log was looked at.
    pub(super) place: Seq,
}

/// A call that waits for an answer.
pub(super) struct Open {
    /// The id of its event.
    pub(super) id: String,
    /// What it waits for.
    pub(super) awaits: Awaits,
    /// The tool.
    pub(super) name: String,
    /// Its input.
    pub(super) input: Value,
}

/// Which of an agent's messages an answer consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The last one.
    Last,
    /// All of them.
    All,
}

impl Report {
    /// Whether the session ended with an error.
    pub(super) fn is_error(&self) -> bool {
        let ended_badly = matches!(self.reason(), Some("retries_exhausted" | "refusal"));
        self.status == Status::Terminated || (self.status == Status::Idle && ended_badly)
    }

    fn reason(&self) -> Option<&str> {
        self.stop_reason["type"].as_str()
    }

    /// What the agent has said.
    fn said(&self, part: Part) -> String {
        match part {
            Part::Last => self.said.last().cloned().unwrap_or_default(),
            Part::All => self.said.join("\n\n"),
        }
    }

    /// The same for models.
    pub(super) fn text(&self, part: Part) -> String {
        let id = &self.session;
        let mut parts = vec![self.said(part)];
        match self.status {
            Status::Running | Status::Rescheduling => parts.push(format!(
                "[The session {id} is still at work. session_follow with this session_id and after \
                 {} waits for it; session_stop stops it.]",
                self.place
            )),
            Status::Terminated => parts.push(format!("[The session {id} has ended.]")),
            Status::Idle => {}
        }
        if self.is_error() {
            let why = self.errors.last().map_or("No reason is known.", String::as_str);
            parts.push(format!("[The agent did not finish: {why}]"));
        }
        for call in &self.open {
            let (what, how) = match call.awaits {
                Awaits::Confirmation => ("a confirmation", "allow"),
                Awaits::Result => ("its result", "result"),
            };
            parts.push(format!(
                "[The call {} of {} with {} awaits {what}: session_answer with session_id {id}, this \
                 tool_use_id and {how}.]",
                call.id, call.name, call.input
            ));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }

    /// The same for programs.
    pub(super) fn structured(&self, part: Part) -> Value {
        let open = self.open.iter().map(|call| {
            let awaits = match call.awaits {
                Awaits::Confirmation => "confirmation",
                Awaits::Result => "result",
            };
            json!({ "id": call.id, "name": call.name, "input": call.input, "awaits": awaits })
        });
        json!({
            "session_id": self.session,
            "status": self.status.as_str(),
            "stop_reason": self.stop_reason,
            "text": self.said(part),
            "open_calls": open.collect::<Vec<_>>(),
            "errors": self.errors,
            "after": self.place,
        })
    }

    /// The schema of [`Report::structured`].
    pub(super) fn schema() -> Arc<Map<String, Value>> {
        let call = json!({
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "name": { "type": "string" },
                "input": {},
                "awaits": { "type": "string", "enum": ["confirmation", "result"] },
            },
            "required": ["id", "name", "input", "awaits"],
        });
        let properties = json!({
            "session_id": { "type": "string", "description": "The session." },
            "status": {
                "type": "string", "enum": ["idle", "running", "rescheduling", "terminated"],
                "description": "Whether the session is at work.",
            },
            "stop_reason": {
                "type": ["object", "null"], "description": "Why it rests.",
            },
            "text": { "type": "string", "description": "What the agent has said." },
            "open_calls": {
                "type": "array", "items": call,
                "description": "The calls that wait for session_answer.",
            },
            "errors": {
                "type": "array", "items": { "type": "string" },
                "description": "What went wrong meanwhile.",
            },
            "after": {
                "type": "integer",
                "description": "The place from which session_follow goes on.",
            },
        });
        let names =
            ["session_id", "status", "stop_reason", "text", "open_calls", "errors", "after"];
        input::object(properties, &names)
    }
}

/// Where following begins.
#[derive(Clone, Copy)]
pub(super) struct From {
    /// The place in the log behind which everything belongs to the answer.
    pub(super) after: Seq,
    /// The place up to which a client that waits has been told of what happens.
    pub(super) told: Seq,
}

impl From {
    /// Nothing was told yet.
    pub(super) fn new(after: Seq) -> Self {
        Self { after, told: after }
    }
}

/// Follows a session from a place of its log until it rests, the wait is over, or the server stops.
///
/// # Errors
/// 404 when the session is deleted meanwhile.
pub(super) async fn follow(
    call: &Call,
    session: &str,
    from: From,
    wait: Duration,
    progress: &Progress,
) -> Result<Report, Refusal> {
    let log = call.app.engine.log();
    let begun = Instant::now();
    let end = begun + wait;
    let mut stopping = call.app.stopping.clone();
    // Watching comes first: what is appended from here on is heard, what was before is read.
    let mut tail = log.watch(session);
    let From { after, told } = from;
    let mut seen = Seen { place: after, told, said: Vec::new(), errors: Vec::new() };
    loop {
        let row = session_routes::row(call, session)?;
        seen.read(call, &row, progress).await?;
        let summary = sessions::read_summary(&row.fold)?;
        let over = Instant::now() >= end || *stopping.borrow();
        if !summary.status.is_working() || over {
            session_routes::show_end(call, &row).await?;
            return seen.report(call, &row, &summary).await;
        }
        let mut sign = Instant::now() + SIGN;
        loop {
            tokio::select! {
                tick = tail.next() => match tick {
                    Ok(Tick::Preview(_)) => {}
                    Ok(Tick::Records(_) | Tick::Deleted) | Err(Behind) => break,
                },
                () = sleep_until(end) => break,
                () = sleep_until(sign), if progress.is_wanted() => {
                    let seconds = begun.elapsed().as_secs();
                    progress.tell(format!("At work for {seconds} seconds.")).await;
                    sign = Instant::now() + SIGN;
                }
                () = stopped(&mut stopping) => break,
            }
        }
    }
}

/// Waits for the server to stop. A sender that is gone has stopped, too.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What was found so far.
struct Seen {
    place: Seq,
    told: Seq,
    said: Vec<String>,
    errors: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<Block>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Error {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

#[derive(Deserialize)]
struct ToolUse {
    id: String,
    name: String,
    #[serde(default)]
    input: Value,
}

#[derive(Deserialize)]
struct Rest {
    stop_reason: Value,
}

const CALLS: [&str; 3] =
    [wire::AGENT_TOOL_USE, wire::AGENT_MCP_TOOL_USE, wire::AGENT_CUSTOM_TOOL_USE];

impl Seen {
    /// Reads the log up to where `row` says that it ends.
    async fn read(
        &mut self,
        call: &Call,
        row: &SessionRow,
        progress: &Progress,
    ) -> Result<(), Refusal> {
        let log = call.app.engine.log();
        let kinds = [wire::AGENT_MESSAGE, wire::SESSION_ERROR].into_iter().chain(CALLS);
        let kinds: Vec<String> = kinds.map(str::to_owned).collect();
        let primary = session_routes::primary_thread(row)?;
        while self.place < row.head {
            let range = Range {
                before: row.head + 1,
                limit: CHUNK,
                kinds: kinds.clone(),
                ..Range::after(self.place)
            };
            let records = log.read_many(row.number, range).await?;
            for record in records.iter().filter(|record| record.thread == primary) {
                let sign = self.note(record)?;
                if record.seq > self.told {
                    progress.tell(sign).await;
                }
            }
            self.place = match records.last() {
                Some(last) if records.len() == CHUNK => last.seq,
                _ => row.head,
            };
        }
        Ok(())
    }

    /// Notes what a record says. Returns what a client is told that waits.
    fn note(&mut self, record: &Record) -> Result<String, Refusal> {
        match &*record.kind {
            wire::AGENT_MESSAGE => {
                let message: Message = serde_json::from_str(&record.payload)?;
                let text: String = message.content.into_iter().map(|block| block.text).collect();
                self.said.push(text.clone());
                Ok(text)
            }
            wire::SESSION_ERROR => {
                let error: Error = serde_json::from_str(&record.payload)?;
                self.errors.push(error.error.message.clone());
                Ok(error.error.message)
            }
            _ => {
                let used: ToolUse = serde_json::from_str(&record.payload)?;
                Ok(format!("Calls {}.", used.name))
            }
        }
    }

    async fn report(
        self,
        call: &Call,
        row: &SessionRow,
        summary: &Summary,
    ) -> Result<Report, Refusal> {
        let log = call.app.engine.log();
        let is_at_rest = summary.status == Status::Idle && summary.turn_end > 0;
        let rest = match is_at_rest {
            true => events::fetch(log, row.number, summary.turn_end).map_err(events::damaged)?,
            false => None,
        };
        let stop_reason = match rest {
            Some(rest) => serde_json::from_str::<Rest>(&rest.payload)?.stop_reason,
            None => Value::Null,
        };
        // A call is open while its session works, too: what is answered by others is nobody's here.
        let open = match is_at_rest {
            true => open_calls(call, row, summary.unanswered()).await?,
            false => Vec::new(),
        };
        Ok(Report {
            session: row.id.clone(),
            status: summary.status,
            stop_reason,
            said: self.said,
            errors: self.errors,
            open,
            place: self.place,
        })
    }
}

/// Finds the calls that wait, in the order in which they were made.
async fn open_calls(
    call: &Call,
    row: &SessionRow,
    unanswered: impl Iterator<Item = &OpenCall>,
) -> Result<Vec<Open>, Refusal> {
    let mut wanted: Vec<(&str, Awaits)> = unanswered.map(|open| (&*open.id, open.awaits)).collect();
    let mut found = Vec::new();
    let kinds: Vec<String> = CALLS.map(str::to_owned).to_vec();
    let mut before = row.head + 1;
    while !wanted.is_empty() {
        let range = Range {
            before,
            limit: CHUNK,
            kinds: kinds.clone(),
            newest_first: true,
            ..Range::after(0)
        };
        let records = call.app.engine.log().read_many(row.number, range).await?;
        let Some(last) = records.last() else { break };
        before = last.seq;
        for record in &records {
            let used: ToolUse = serde_json::from_str(&record.payload)?;
            if let Some(at) = wanted.iter().position(|(id, _)| *id == used.id) {
                let (_, awaits) = wanted.swap_remove(at);
                found.push(Open { id: used.id, awaits, name: used.name, input: used.input });
            }
        }
    }
    found.reverse();
    Ok(found)
}
