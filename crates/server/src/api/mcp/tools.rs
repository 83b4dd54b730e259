//! The tools: one for each exposed agent, and those with which its sessions are followed.

use std::{collections::BTreeMap, time::Duration};

use posthouse_engine::{sessions, summary::Awaits};
use posthouse_mcp::server::{Call as ToolCall, Offered, Outcome, Progress, Question, Reply};
use posthouse_protocol::{
    ApiError, agent::Reference, event::ClientEvent, fields::wrong, id::IdKind, metadata::Metadata,
};
use posthouse_store::{
    SessionRow,
    tables::files::{self, FileFilter},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    exposed::{self, ExposedAgent},
    follow::{self, From, Open, Part, Report},
    input::{self, Answer, Follow, Only, Start},
};
use crate::{
    api::{Call, Refusal, events, sessions as session_routes},
    scope::{Need, Resource, Verb},
};

const FOLLOW: &str = "session_follow";
const ANSWER: &str = "session_answer";
const RESULT: &str = "session_result";
const STOP: &str = "session_stop";

/// The names that no agent's tool can have.
pub(super) const GENERAL: [&str; 4] = [FOLLOW, ANSWER, RESULT, STOP];

/// How long a session that was interrupted may take to rest.
const STOPPING: Duration = Duration::from_secs(10);

/// How many files of a session are listed.
const FILES: usize = 1000;

/// How much of a call's input a question shows, in characters.
const SHOWN: usize = 2000;

/// How much of somebody's note the agent is told, in characters.
const NOTE: usize = 1000;

const SENDS: Need = Need { resource: Resource::Events, verb: Verb::Create };
const READS: Need = Need { resource: Resource::Events, verb: Verb::Read };
const READS_FILES: Need = Need { resource: Resource::Files, verb: Verb::Read };

/// The tools of the caller's workspace.
///
/// # Errors
/// When the store fails.
pub(super) fn list(call: &Call) -> Result<Vec<Offered>, Refusal> {
    let mut offered: Vec<Offered> = exposed::all(call)?.into_iter().map(of_agent).collect();
    offered.extend(general());
    Ok(offered)
}

fn of_agent(ExposedAgent { agent, tool }: ExposedAgent) -> Offered {
    let description = tool.description.or(agent.description);
    Offered {
        name: tool.name,
        description: description.unwrap_or_else(|| format!("Asks the agent {:?}.", agent.name)),
        title: Some(agent.name),
        input: Start::schema(),
        output: Report::schema(),
        reads_only: false,
    }
}

fn general() -> [Offered; 4] {
    let one = |name: &str, description: &str, input, output, reads_only| Offered {
        name: name.to_owned(),
        title: None,
        description: description.to_owned(),
        input,
        output,
        reads_only,
    };
    let mut result = (*Report::schema()).clone();
    result["properties"]["files"] = json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "name": { "type": "string" },
                "mime_type": { "type": "string" },
                "size_bytes": { "type": "integer" },
            },
            "required": ["id", "name", "mime_type", "size_bytes"],
        },
        "description": "The files that it has made.",
    });
    [
        one(
            FOLLOW,
            "Waits for an agent's session to rest, and gives what the agent has said meanwhile.",
            Follow::schema(),
            Report::schema(),
            true,
        ),
        one(
            ANSWER,
            "Answers a tool call for which an agent's session waits: with allow where it awaits a \
             confirmation, with result where it awaits a result. Then follows the session.",
            Answer::schema(),
            Report::schema(),
            false,
        ),
        one(
            RESULT,
            "Gives the last text of an agent's session and the files that it has made.",
            Only::schema(),
            result.into(),
            true,
        ),
        one(
            STOP,
            "Stops what an agent's session is doing. It can go on with another message.",
            Only::schema(),
            Report::schema(),
            false,
        ),
    ]
}

/// Does what a call asks for, with the state of an earlier answer to it. None when there is no such
/// tool.
///
/// # Errors
/// What the model that has called may learn from, and faults.
pub(super) async fn call(
    call: &Call,
    asked: ToolCall,
    state: Option<State>,
    progress: &Progress,
) -> Result<Option<Outcome>, Refusal> {
    let ToolCall { name, input, can_ask, replies, state: _ } = asked;
    let desk = Desk { call, can_ask, replies, state, progress };
    let outcome = match name.as_str() {
        FOLLOW => desk.follow(input::read(input)?).await,
        ANSWER => desk.answer(input::read(input)?).await,
        RESULT => desk.result(input::read(input)?).await,
        STOP => desk.stop(input::read(input)?).await,
        name => match exposed::named(call, name)? {
            Some(agent) => desk.start(agent, input::read(input)?).await,
            None => return Ok(None),
        },
    };
    outcome.map(Some)
}

/// What a call needs to go on after its questions. It has been in the client's hands: what it names
/// is looked up as if it had been sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    session_id: String,
    after: i64,
    told: i64,
}

impl State {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none that was ever given out.
    pub(super) fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    fn from(&self) -> From {
        From { after: self.after, told: self.told }
    }
}

/// One call.
struct Desk<'a> {
    call: &'a Call,
    can_ask: bool,
    replies: BTreeMap<String, Reply>,
    state: Option<State>,
    progress: &'a Progress,
}

impl Desk<'_> {
    async fn start(self, exposed: ExposedAgent, input: Start) -> Result<Outcome, Refusal> {
        self.call.require(SENDS)?;
        self.call.require(READS)?;
        let wait = input.wait()?;
        if input.message.trim().is_empty() {
            return Err(wrong("message", "is empty", "say what the agent is to do").into());
        }
        let named =
            self.state.as_ref().map(|state| &state.session_id).or(input.session_id.as_ref());
        let row = named.map(|id| self.session(id)).transpose()?;
        if let Some(row) = &row
            && row.agent.0 != exposed.agent.id
        {
            let right = "name one of its own, or leave it out";
            return Err(wrong("session_id", "is no session of this agent", right).into());
        }
        let (session, from) = match (row, &self.state) {
            (Some(row), Some(state)) => (row.id, state.from()),
            (Some(row), None) => {
                let events = events_of(message(&input.message))?;
                events::take(self.call, &row.id, events, None).await?;
                (row.id, From::new(row.head))
            }
            (None, _) => (self.begin(&exposed, &input.message).await?, From::new(0)),
        };
        self.conclude(&session, from, wait, Part::Last).await
    }

    /// Begins a session of an agent's newest version.
    async fn begin(&self, exposed: &ExposedAgent, text: &str) -> Result<String, Refusal> {
        let tool = &exposed.tool;
        let new = session_routes::New {
            agent: Reference::parse(exposed.agent.id.as_str().into())?,
            environment: tool.environment_id.clone(),
            title: Some(format!("{} (over MCP)", tool.name)),
            metadata: Metadata::default(),
            events: events_of(message(text))?,
            resources: Vec::new(),
            vault_ids: tool.vault_ids.clone(),
        };
        let (session, _) = session_routes::begin(self.call, new, None).await?;
        Ok(session)
    }

    async fn follow(self, input: Follow) -> Result<Outcome, Refusal> {
        self.call.require(READS)?;
        let wait = input.wait()?;
        let row = self.session(&input.session_id)?;
        let from = match (self.going_on(&row)?, input.after) {
            (Some(from), _) => from,
            (None, Some(after)) => From::new(after),
            (None, None) => From::new(newest_turn(&row)?),
        };
        self.conclude(&row.id, from, wait, Part::All).await
    }

    async fn answer(self, input: Answer) -> Result<Outcome, Refusal> {
        self.call.require(SENDS)?;
        self.call.require(READS)?;
        let wait = input.wait()?;
        let row = self.session(&input.session_id)?;
        let from = match self.going_on(&row)? {
            Some(from) => from,
            None => {
                let events = events_of(answer_of(&row, &input)?)?;
                events::take(self.call, &row.id, events, None).await?;
                From::new(row.head)
            }
        };
        self.conclude(&row.id, from, wait, Part::Last).await
    }

    async fn result(self, input: Only) -> Result<Outcome, Refusal> {
        self.call.require(READS)?;
        self.call.require(READS_FILES)?;
        let row = self.session(&input.session_id)?;
        let from = From::new(newest_turn(&row)?);
        let report =
            follow::follow(self.call, &row.id, from, Duration::ZERO, self.progress).await?;
        let filter = FileFilter {
            workspace: self.call.principal.workspace.to_string(),
            session: Some(row.id),
            limit: FILES,
            ..FileFilter::default()
        };
        let rows = self.call.app.database.read(|connection| files::list(connection, &filter))?;
        let now = self.call.at;
        let made = rows.iter().filter(|file| file.downloadable && !file.is_expired(now));
        let mut text = report.text(Part::Last);
        let mut structured = report.structured(Part::Last);
        let mut shown = Vec::new();
        for file in made {
            text.push_str(&format!("\n[file {} {:?}]", file.id, file.filename));
            shown.push(json!({
                "id": file.id,
                "name": file.filename,
                "mime_type": file.mime_type,
                "size_bytes": file.size,
            }));
        }
        structured["files"] = shown.into();
        Ok(Outcome::Done { text, structured: Some(structured), is_error: report.is_error() })
    }

    async fn stop(self, input: Only) -> Result<Outcome, Refusal> {
        self.call.require(SENDS)?;
        self.call.require(READS)?;
        let row = self.session(&input.session_id)?;
        let events = events_of(json!({ "type": "user.interrupt" }))?;
        events::take(self.call, &row.id, events, None).await?;
        let report =
            follow::follow(self.call, &row.id, From::new(row.head), STOPPING, self.progress)
                .await?;
        Ok(done(&report, Part::All, false))
    }

    /// A session of an exposed agent.
    ///
    /// # Errors
    /// 404 for any other.
    fn session(&self, id: &str) -> Result<SessionRow, Refusal> {
        if !IdKind::Session.is_well_formed(id) {
            return Err(session_routes::missing().into());
        }
        let row = session_routes::row(self.call, id)?;
        match exposed::is_exposed(self.call, &row.agent.0)? {
            true => Ok(row),
            false => Err(session_routes::missing().into()),
        }
    }

    /// From where a call goes on that has put questions before; nothing when it is a new one.
    fn going_on(&self, row: &SessionRow) -> Result<Option<From>, ApiError> {
        match &self.state {
            Some(state) if state.session_id == row.id => Ok(Some(state.from())),
            Some(_) => Err(wrong("requestState", "is another session's", "call the tool anew")),
            None => Ok(None),
        }
    }

    /// Passes on what came of questions, follows the session, and asks again or answers.
    async fn conclude(
        self,
        session: &str,
        from: From,
        wait: Duration,
        part: Part,
    ) -> Result<Outcome, Refusal> {
        self.pass_on(session).await?;
        let report = follow::follow(self.call, session, from, wait, self.progress).await?;
        let may_ask = self.can_ask && self.call.require(SENDS).is_ok();
        let questions: BTreeMap<String, Question> = report
            .open
            .iter()
            // Whoever has said nothing is not asked again.
            .filter(|open| open.awaits == Awaits::Confirmation && may_ask)
            .filter(|open| !self.replies.contains_key(&open.id))
            .map(|open| (open.id.clone(), question(open)))
            .collect();
        if questions.is_empty() {
            return Ok(done(&report, part, report.is_error()));
        }
        let From { after, .. } = from;
        let state = State { session_id: session.to_owned(), after, told: report.place };
        Ok(Outcome::Ask { questions, state: serde_json::to_string(&state)? })
    }

    /// Gives the session the answers of somebody who was asked.
    async fn pass_on(&self, session: &str) -> Result<(), Refusal> {
        if self.replies.is_empty() {
            return Ok(());
        }
        self.call.require(SENDS)?;
        let row = session_routes::row(self.call, session)?;
        let summary = sessions::read_summary(&row.fold)?;
        let mut events = Vec::new();
        for open in summary.unanswered().filter(|open| open.awaits == Awaits::Confirmation) {
            let Some((allow, note)) = self.replies.get(&*open.id).and_then(verdict) else {
                continue;
            };
            events.push(confirmation(&open.id, allow, note));
        }
        if !events.is_empty() {
            let events =
                ClientEvent::parse_batch(json!({ "events": events }).to_string().as_bytes());
            events::take(self.call, session, events?, None).await?;
        }
        Ok(())
    }
}

fn done(report: &Report, part: Part, is_error: bool) -> Outcome {
    let structured = Some(report.structured(part));
    Outcome::Done { text: report.text(part), structured, is_error }
}

/// The place behind which the newest turn stands.
fn newest_turn(row: &SessionRow) -> Result<i64, Refusal> {
    Ok((sessions::read_summary(&row.fold)?.turn_start - 1).max(0))
}

/// Checks an event as if it had been sent.
fn events_of(event: Value) -> Result<Vec<ClientEvent>, ApiError> {
    ClientEvent::parse_batch(json!({ "events": [event] }).to_string().as_bytes())
}

fn message(text: &str) -> Value {
    json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] })
}

fn confirmation(id: &str, allow: bool, note: Option<String>) -> Value {
    let mut event = json!({
        "type": "user.tool_confirmation",
        "tool_use_id": id,
        "result": if allow { "allow" } else { "deny" },
    });
    if let Some(note) = note {
        event["deny_message"] = note.into();
    }
    event
}

/// The event that an answer is.
fn answer_of(row: &SessionRow, input: &Answer) -> Result<Value, Refusal> {
    let summary = sessions::read_summary(&row.fold)?;
    let id = &input.tool_use_id;
    let Some(open) = summary.unanswered().find(|open| *open.id == **id) else {
        let what = format!("{id:?} is no call that waits");
        return Err(wrong("tool_use_id", &what, "name one of the open calls").into());
    };
    match (open.awaits, input.allow, &input.result) {
        (Awaits::Confirmation, Some(allow), None) => {
            Ok(confirmation(id, allow, input.deny_message.clone()))
        }
        (Awaits::Result, None, Some(result)) => Ok(json!({
            "type": "user.custom_tool_result",
            "custom_tool_use_id": id,
            "content": [{ "type": "text", "text": result }],
        })),
        (Awaits::Confirmation, ..) => {
            Err(wrong("allow", "is missing, or is not alone", "send allow without result").into())
        }
        (Awaits::Result, ..) => {
            Err(wrong("result", "is missing, or is not alone", "send result without allow").into())
        }
    }
}

/// What somebody is asked.
fn question(open: &Open) -> Question {
    let input = cut(&open.input.to_string(), SHOWN);
    Question {
        message: format!("The agent wants to call {} with {input}. May it?", open.name),
        form: json!({
            "type": "object",
            "properties": {
                "allow": {
                    "type": "boolean", "title": "Allow", "description": "Whether the call may run.",
                },
                "note": {
                    "type": "string", "title": "Note",
                    "description": "When it may not: what the agent is told.",
                },
            },
            "required": ["allow"],
        }),
    }
}

/// What somebody has said, if it is an answer.
fn verdict(reply: &Reply) -> Option<(bool, Option<String>)> {
    match reply {
        Reply::Given(form) => {
            let allow = form.get("allow")?.as_bool()?;
            let note = form.get("note").and_then(Value::as_str).filter(|note| !note.is_empty());
            Some((allow, note.filter(|_| !allow).map(|note| cut(note, NOTE))))
        }
        Reply::Declined => Some((false, None)),
        Reply::Dismissed => None,
    }
}

/// The beginning of a text that is too long.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
