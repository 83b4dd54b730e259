//! Sessions as resources: how one is opened, changed and shown.
//!
//! Pure: the store calls [`fold_row`] inside its transactions, the API calls the rest.

use std::{collections::BTreeMap, sync::Arc};

use posthouse_protocol::{
    ApiError, Micros,
    agent::SessionAgent,
    event::{ClientEvent, kind as wire},
    resource::FileResource,
};
use posthouse_store::{
    Draft, Error, Record,
    log::{Folded, SessionRow, Stamp},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    input::{self, Known},
    line::{self, Line, Scribe},
    own::{self, SessionOpened},
    summary::{Status, Summary, parse, seconds},
    vault::Unreachable,
};

/// The large part of a session's fold: what seldom changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document<A = SessionAgent> {
    /// The agent, overrides and updates included.
    pub agent: A,
    /// The title.
    pub title: Option<String>,
    /// The caller's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// The vaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vault_ids: Vec<String>,
}

/// Folds records into a session's row. The store does so within each append.
///
/// # Errors
/// [`Error::Damaged`] when row or records are not what this version writes.
pub fn fold_row(
    fold: Option<&str>,
    records: &[Record],
    document: &dyn Fn() -> Result<String, Error>,
) -> Result<Folded, Error> {
    let mut summary = match fold {
        Some(fold) => read_summary(fold)?,
        None => Summary::default(),
    };
    let mut changed: Option<Document> = None;
    for record in records {
        summary.apply(record).map_err(Error::Damaged)?;
        match &*record.kind {
            own::kind::SESSION_OPENED => {
                let opened: SessionOpened = parse(record).map_err(Error::Damaged)?;
                changed = Some(Document {
                    agent: opened.agent,
                    title: opened.title,
                    metadata: opened.metadata,
                    vault_ids: opened.vault_ids,
                });
            }
            wire::SESSION_UPDATED => {
                let updated: Updated = parse(record).map_err(Error::Damaged)?;
                let mut next = match changed.take() {
                    Some(document) => document,
                    None => read_json(&document()?)?,
                };
                updated.apply(&mut next);
                changed = Some(next);
            }
            _ => {}
        }
    }
    let ends_turn = records.last().is_some_and(|last| &*last.kind == wire::STATUS_IDLE);
    Ok(Folded {
        status: summary.status.as_str(),
        fold: write_json(&summary)?,
        document: changed.as_ref().map(write_json).transpose()?,
        ends_turn,
        archived_at: summary.ended_at,
    })
}

/// Reads the small fold of a row.
///
/// # Errors
/// [`Error::Damaged`] when it is not what this version writes.
pub fn read_summary(fold: &str) -> Result<Summary, Error> {
    read_json(fold)
}

/// Reads the large part of a fold.
///
/// # Errors
/// [`Error::Damaged`] when it is not what this version writes.
pub fn read_document(document: &str) -> Result<Document, Error> {
    read_json(document)
}

/// Reads what a session was opened with: its first record.
///
/// # Errors
/// [`Error::Damaged`] when it is not what this version writes.
pub fn read_opened(first: &[Record]) -> Result<SessionOpened, Error> {
    first
        .first()
        .and_then(|record| serde_json::from_str(&record.payload).ok())
        .ok_or_else(|| Error::Damaged("the session's first record can't be read".into()))
}

/// The first records of a session, and whether they wake it. Each credential that is `unreachable`
/// gets an event of its own, before anything else happens.
///
/// # Errors
/// 400 that names the event which can't begin a session.
pub fn open(
    opened: &SessionOpened,
    unreachable: &[Unreachable],
    initial_events: Vec<ClientEvent>,
    at: Micros,
    random: &mut dyn FnMut() -> [u8; 16],
) -> Result<(Vec<Draft>, bool), ApiError> {
    let thread = &opened.thread;
    let mut lines = vec![line::own_record(own::kind::SESSION_OPENED, thread, opened)];
    lines.extend(unreachable_lines(thread, unreachable));
    let mut summary = Summary::default();
    let mut drafts = Scribe { now: at, random }.write(&summary, lines);
    if initial_events.is_empty() {
        return Ok((drafts, false));
    }
    let places = Stamp::new(1, at);
    for (index, draft) in drafts.iter().enumerate() {
        let (seq, at) = places.of(index);
        let record = Record {
            seq,
            at,
            fence: 0,
            kind: draft.kind.into(),
            thread: Arc::clone(&draft.thread),
            payload: Arc::clone(&draft.payload),
        };
        summary.apply(&record).map_err(ApiError::invalid)?;
    }
    let (next, then) = places.of(drafts.len());
    let stamp = Stamp::new(next, then);
    let mut scribe = Scribe { now: at, random };
    let events = input::write(initial_events, &mut scribe);
    let accepted = input::accept(summary, events, &Known::new(), stamp, scribe)?;
    drafts.extend(accepted.drafts);
    Ok((drafts, accepted.wakes))
}

/// One event for each credential, with all of its hosts.
fn unreachable_lines(thread: &Arc<str>, unreachable: &[Unreachable]) -> Vec<Line> {
    let same = |one: &Unreachable, other: &Unreachable| one.credential == other.credential;
    let of_one = |found: &[Unreachable]| {
        let one = found.first()?;
        let hosts: Vec<_> = found.iter().map(|one| one.host.as_str()).collect();
        let message = format!(
            "The environment does not let this credential's value through to {}.",
            hosts.join(", ")
        );
        Some(line::host_unreachable(thread, &one.credential, &one.vault, &message))
    };
    unreachable.chunk_by(same).filter_map(of_one).collect()
}

/// The `session.updated` of a change, or nothing when nothing changes.
#[must_use]
pub fn update(
    thread: &Arc<str>,
    before: &Document,
    after: &Document,
    at: Micros,
    random: &mut dyn FnMut() -> [u8; 16],
) -> Vec<Draft> {
    let mut members = Map::new();
    if after.agent != before.agent {
        members.insert("agent".into(), json!(after.agent));
    }
    if after.title != before.title {
        members.insert("title".into(), json!(after.title));
    }
    if after.metadata != before.metadata {
        members.insert("metadata".into(), json!(after.metadata));
    }
    if members.is_empty() {
        return Vec::new();
    }
    let line = line::event(wire::SESSION_UPDATED, thread, Value::Object(members));
    Scribe { now: at, random }.write(&Summary::default(), vec![line])
}

/// The records of an archive.
#[must_use]
pub fn archive(summary: &Summary, at: Micros, random: &mut dyn FnMut() -> [u8; 16]) -> Vec<Draft> {
    let Some(primary) = summary.primary() else { return Vec::new() };
    let lines = line::terminated(&primary.id, &primary.agent_name);
    Scribe { now: at, random }.write(summary, lines.into())
}

/// A session as the wire shows it, with what is mounted into it.
///
/// # Errors
/// [`Error::Damaged`] when row or document are not what this version writes.
pub fn show(
    row: &SessionRow,
    document: &str,
    resources: &[FileResource],
    now: Micros,
) -> Result<String, Error> {
    let summary = read_summary(&row.fold)?;
    let document: Document<Box<RawValue>> = read_json(document)?;
    let until = summary.ended_at.unwrap_or(now);
    let active: f64 = summary.threads.iter().map(|one| one.activity.seconds(until)).sum();
    let started = summary.threads.iter().any(|one| one.started);
    let session = Session {
        id: &row.id,
        kind: "session",
        agent: &document.agent,
        environment_id: &row.environment,
        status: summary.status,
        title: document.title.as_deref(),
        metadata: &document.metadata,
        resources,
        vault_ids: &document.vault_ids,
        budget: None,
        usage: summary.spending().render(summary.activity.seconds(until), started),
        stats: json!({
            "active_seconds": active,
            "duration_seconds": seconds(until.0 - row.created_at.0),
        }),
        outcome_evaluations: [],
        deployment_id: None,
        created_at: row.created_at.to_rfc3339(),
        updated_at: summary.updated_at.max(row.created_at).to_rfc3339(),
        archived_at: row.archived_at.map(Micros::to_rfc3339),
    };
    write_json(&session)
}

/// A session's threads as the wire shows them, the primary one first.
///
/// # Errors
/// [`Error::Damaged`] when row or document are not what this version writes.
pub fn show_threads(
    row: &SessionRow,
    document: &str,
    now: Micros,
) -> Result<Vec<(Arc<str>, Status, String)>, Error> {
    let summary = read_summary(&row.fold)?;
    let document: Document<Map<String, Value>> = read_json(document)?;
    let mut agent = document.agent;
    agent.shift_remove("multiagent");
    let mut shown = Vec::new();
    for thread in &summary.threads {
        let until = thread.archived_at.unwrap_or(now);
        let active = thread.activity.seconds(until);
        let stats = thread.started.then(|| {
            json!({
                "active_seconds": active,
                "duration_seconds": seconds(until.0 - thread.created_at.0),
                "startup_seconds": 0.0,
            })
        });
        let usage = thread.rested.then(|| thread.spending.render(active, true));
        let json = json!({
            "id": thread.id,
            "type": "session_thread",
            "session_id": row.id,
            "parent_thread_id": thread.parent,
            "workflow_run_id": null,
            "agent": agent,
            "status": thread.status,
            "stats": stats,
            "usage": usage,
            "created_at": thread.created_at.to_rfc3339(),
            "updated_at": thread.updated_at.to_rfc3339(),
            "archived_at": thread.archived_at.map(Micros::to_rfc3339),
        });
        shown.push((Arc::clone(&thread.id), thread.status, json.to_string()));
    }
    Ok(shown)
}

#[derive(Serialize)]
struct Session<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    agent: &'a RawValue,
    environment_id: &'a str,
    status: Status,
    title: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    resources: &'a [FileResource],
    vault_ids: &'a [String],
    budget: Option<()>,
    usage: Value,
    stats: Value,
    outcome_evaluations: [(); 0],
    deployment_id: Option<()>,
    created_at: String,
    updated_at: String,
    archived_at: Option<String>,
}

/// The members of a `session.updated` that change the document. A title that is there may be
/// null, which clears it.
#[derive(Deserialize)]
struct Updated {
    agent: Option<SessionAgent>,
    #[serde(default, deserialize_with = "given")]
    title: Option<Option<String>>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Updated {
    fn apply(self, document: &mut Document) {
        if let Some(agent) = self.agent {
            document.agent = agent;
        }
        if let Some(title) = self.title {
            document.title = title;
        }
        if let Some(metadata) = self.metadata {
            document.metadata = metadata;
        }
    }
}

fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Damaged(error.to_string()))
}

fn write_json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Damaged(error.to_string()))
}
