//! `/v1/sessions`: opens, shows, changes, archives and deletes sessions.
//!
//! What a session is and what a change means is the engine's; this file checks what is sent.

use std::sync::Arc;

use posthouse_engine::{
    networking,
    own::SessionOpened,
    sessions::{self, Document},
    summary::{Status, Summary},
    vault::Unreachable,
};
use posthouse_protocol::{
    ApiError, ErrorKind, Fields, Given, Micros,
    agent::{self, Agent, McpServer, ModelRules, Reference, SessionAgent},
    environment::{Extension, Networking},
    event::ClientEvent,
    fields::{self, wrong},
    id::IdKind,
    metadata::{self, Metadata},
    page::{Cursor, Order, Page, Position},
    resource::{self, NewFileResource},
    schema::{
        agents::{METADATA, METADATA_PATCH},
        events::INITIAL_EVENTS,
        lists,
        resources::RESOURCES,
        sessions as schema,
    },
};
use posthouse_store::{
    InputError, SessionRow,
    answers::Post,
    log::{Answered, Input, NewSession, Range, SessionFilter},
    tables::{agents, environments},
};
use serde_json::{Value, json, value::RawValue};

use super::{Answer, Call, Refusal, files, models, resources, vaults};
use crate::scope::{Need, Resource, Verb};

const LIST: &str = "sessions";

/// How long after its end a turn may still be shown to a stream that opens late, microseconds.
pub(super) const REPLAY_WINDOW: i64 = 60 * 1_000_000;

/// `POST /v1/sessions`.
///
/// # Errors
/// 400 that names the field, 404 that names the agent, environment or vault, 403 when the key may
/// send no events and some are sent, or read no vaults and some are named.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    models::learn(&call).await;
    let mut fields = call.fields()?;
    let agent = Reference::parse(fields.required(&schema::AGENT)?)?;
    let environment = fields.id(&schema::ENVIRONMENT)?;
    let title = fields.text(&schema::TITLE)?.value();
    let metadata = metadata::take(&mut fields, &METADATA)?;
    let events = fields.list(&INITIAL_EVENTS)?.value().unwrap_or_default();
    let events = ClientEvent::parse_initial(events)?;
    if !events.is_empty() {
        call.require(Need { resource: Resource::Events, verb: Verb::Create })?;
    }
    let resources = fields.list(&RESOURCES)?.value().unwrap_or_default();
    let resources = resource::parse_list(resources)?;
    let vault_ids = fields::ids(&mut fields, &schema::VAULTS, IdKind::Vault)?;
    if !vault_ids.is_empty() {
        call.require(Need { resource: Resource::Vaults, verb: Verb::Read })?;
    }
    for field in [&schema::BUDGET, &schema::EXTENSION] {
        fields.later(field)?;
    }
    fields.finish(&schema::CREATE)?;
    let new = New { agent, environment, title, metadata, events, resources, vault_ids };
    let (_, answered) = begin(&call, new, Some(call.post()?)).await?;
    Ok(call.answer(answered))
}

/// A session to be.
pub(super) struct New {
    /// What it is made of.
    pub(super) agent: Reference,
    /// Where it runs.
    pub(super) environment: String,
    /// For people.
    pub(super) title: Option<String>,
    /// The caller's own pairs.
    pub(super) metadata: Metadata,
    /// What it begins with.
    pub(super) events: Vec<ClientEvent>,
    /// What is mounted into it.
    pub(super) resources: Vec<NewFileResource>,
    /// What it may use.
    pub(super) vault_ids: Vec<String>,
}

/// Opens a session, and lets it work when it begins with something to do. Returns its id and what
/// it looks like. `post` is there when a retry is to be answered as before.
///
/// # Errors
/// As [`create`], but for the rights of the caller's key.
pub(super) async fn begin(
    call: &Call,
    new: New,
    post: Option<Post>,
) -> Result<(String, Answered), Refusal> {
    let New { agent, environment, title, metadata, events, resources, vault_ids } = new;
    let agent = copy_agent(call, agent).await?;
    let StoredEnvironment { config, posthouse } = find_environment(call, &environment)?;
    let opened = SessionOpened {
        session: call.mint(IdKind::Session)?,
        thread: call.mint(IdKind::Thread)?.into(),
        agent,
        environment,
        config,
        passthrough_hosts: posthouse.passthrough_hosts,
        title,
        metadata,
        vault_ids,
    };
    let engine = &call.app.engine;
    let chance = engine.chance().clone();
    refuse_closed(&networking::of_environment(&opened.config)?, &opened.agent.mcp_servers)?;
    let unreachable = find_unreachable(call, &opened)?;
    let (drafts, wakes) =
        sessions::open(&opened, &unreachable, events, call.at, &mut || chance.bytes())?;
    let new = NewSession {
        id: opened.session.clone(),
        workspace: call.principal.workspace.to_string(),
        agent: (opened.agent.id.clone(), opened.agent.version),
        environment: opened.environment.clone(),
        at: call.at,
    };
    let claim = wakes.then(|| engine.boot().to_string());
    let (at, vault_ids) = (call.at, opened.vault_ids);
    let answered = engine
        .log()
        .create_with(new, drafts, claim, post, move |connection, row, document| {
            vaults::check_usable(connection, &row.workspace, &vault_ids)?;
            let mounted =
                resources::mount_all(connection, &row.workspace, &row.id, &resources, at)?;
            Ok::<_, Refusal>(sessions::show(row, document, &mounted, at)?)
        })
        .await?;
    if wakes {
        engine.wake(&opened.session);
    }
    Ok((opened.session, answered))
}

/// `GET /v1/sessions/{session}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (row, document) = find(&call)?;
    show_end(&call, &row).await?;
    show(&call, &row, &document)
}

/// `POST /v1/sessions/{session}`: title, metadata, and the agent's tools and models
/// while nobody works.
///
/// # Errors
/// 404, 400 that names the field.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (row, _) = find(&call)?;
    models::learn(&call).await;
    let mut fields = call.fields()?;
    let agent = fields.object(&schema::NEW_AGENT)?.value();
    let change = Change {
        networking: agent.as_ref().map(|_| kept_networking(&call, &row)).transpose()?,
        agent,
        title: fields.text(&schema::NEW_TITLE)?,
        metadata: fields.any(&METADATA_PATCH)?,
        posthouse: fields.object(&schema::SWITCH)?,
        rules: Arc::clone(&call.app.rules),
    };
    fields.later(&schema::BUDGET)?;
    if fields.any(&schema::NEW_VAULTS)? != Given::Absent {
        let what = "can't be changed";
        return Err(fields.wrong(&schema::NEW_VAULTS, what, "leave it out").into());
    }
    fields.finish(&schema::UPDATE)?;
    let (at, chance) = (call.at, call.app.engine.chance().clone());
    let log = call.app.engine.log();
    let appended = log.append_input(&row.id, at, Some(call.post()?), move |glance| {
        let summary = sessions::read_summary(&glance.row.fold)?;
        let before = sessions::read_document(&glance.document()?)?;
        let after = change.apply(&before, &summary)?;
        let Some(primary) = summary.primary() else {
            return Err(Refusal::Fault("a session has no thread".into()));
        };
        let drafts = sessions::update(&primary.id, &before, &after, at, &mut || chance.bytes());
        Ok(Input { drafts, answer: String::new(), claim: None })
    });
    appended.await.map_err(refused)?;
    if row.status != Status::Idle.as_str() {
        call.app.engine.wake(&row.id);
    }
    let (row, document) = find(&call)?;
    show(&call, &row, &document)
}

/// What an update asks for.
struct Change {
    agent: Option<Fields>,
    /// Where the session may connect to, when its agent changes.
    networking: Option<Networking>,
    title: Given<String>,
    metadata: Given<Value>,
    posthouse: Given<Fields>,
    rules: Arc<dyn ModelRules>,
}

impl Change {
    fn apply(self, before: &Document, summary: &Summary) -> Result<Document, Refusal> {
        if summary.status == Status::Terminated {
            return Err(archived().into());
        }
        let mut after = before.clone();
        let at_rest = |name: &str| match summary.status.is_working() {
            false => Ok(()),
            true => Err(wrong(
                name,
                "can't be changed while the session is at work",
                "send a user.interrupt or wait for the session to be idle",
            )),
        };
        if let Some(agent) = self.agent {
            at_rest("agent")?;
            after.agent = agent::parse_session_update(&before.agent, agent, self.rules.as_ref())?;
            if let Some(networking) = &self.networking {
                refuse_closed(networking, &after.agent.mcp_servers)?;
            }
        }
        if self.posthouse != Given::Absent {
            at_rest("posthouse")?;
            after.agent = agent::parse_switch(&after.agent, self.posthouse, self.rules.as_ref())?;
        }
        match self.title {
            Given::Value(title) => after.title = Some(title),
            Given::Null => after.title = None,
            Given::Absent => {}
        }
        if let Given::Value(patch) = self.metadata {
            let mut fields = Fields::open(json!({ "metadata": patch }), "")?;
            after.metadata = metadata::patch(&mut fields, &METADATA_PATCH, &before.metadata)?;
        }
        Ok(after)
    }
}

/// `GET /v1/sessions`.
///
/// # Errors
/// 400 that names the parameter.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let order = query.order(&lists::NEWEST_FIRST)?;
    let limit = query.limit(&lists::LIMIT_1000)?;
    let cursor = query.page(&lists::PAGE_BOTH, LIST, order)?;
    let times = query.times(&lists::CREATED)?;
    let agent = query.one(&lists::AGENT_ID)?;
    let agent_version = query.integer(&lists::AGENT_VERSION)?;
    let statuses = query.choices(&lists::STATUSES, |_| false)?;
    let archived = query.flag(&lists::ARCHIVED)?;
    // What no session of this version has, none is found by.
    let (deployment, memory) = (query.one(&lists::DEPLOYMENT)?, query.one(&lists::MEMORY)?);
    let nothing = deployment.is_some() || memory.is_some();
    query.finish(&lists::SESSIONS)?;
    times.admit(cursor.as_ref(), lists::CREATED.name)?;
    let backward = cursor.as_ref().is_some_and(|cursor| cursor.backward);
    let filter = SessionFilter {
        workspace: call.principal.workspace.to_string(),
        agent,
        agent_version,
        statuses,
        archived,
        times: (times.first(), times.last()),
        oldest_first: (order == Order::Asc) != backward,
        after: cursor
            .as_ref()
            .map(|cursor| (Micros(cursor.position.number), cursor.position.id.clone())),
        limit: limit + 1,
    };
    let mut rows = match nothing {
        true => Vec::new(),
        false => call.app.engine.log().list(filter).await?,
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    if backward {
        rows.reverse();
    }
    let position = |row: &SessionRow| Position { number: row.created_at.0, id: row.id.clone() };
    // Going backward, the page that one came from is known to follow.
    let next = rows.last().filter(|_| more || backward);
    let next = next.map(|(row, _)| Cursor::after(LIST, order, position(row)).encode());
    let has_before = if backward { more } else { cursor.is_some() };
    let previous = rows.first().filter(|_| has_before);
    let previous = previous.map(|(row, _)| Cursor::before(LIST, order, position(row)).encode());
    let at = call.at;
    let show = move |connection: &_, (row, document): &(SessionRow, String)| {
        let mounted = resources::of_session(connection, &row.id)?;
        sessions::show(row, document, &mounted, at)
    };
    let shown = call
        .app
        .database
        .read_many(move |connection| rows.iter().map(|row| show(connection, row)).collect())
        .await?;
    Ok(Answer::new(Page::both_ways(shown, next, previous).to_json()))
}

/// `POST /v1/sessions/{session}/archive`. A second time changes nothing.
///
/// # Errors
/// 404, 400 while the session is at work.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (row, _) = find(&call)?;
    call.no_fields()?;
    let (at, chance) = (call.at, call.app.engine.chance().clone());
    let post = Some(call.post()?);
    let appended = call.app.engine.log().append_input(&row.id, at, post, move |glance| {
        let summary = sessions::read_summary(&glance.row.fold)?;
        let drafts = match summary.status {
            Status::Terminated => Vec::new(),
            Status::Idle => sessions::archive(&summary, at, &mut || chance.bytes()),
            working => {
                return Err(Refusal::Api(ApiError::invalid(format!(
                    "Session {} cannot be archived while its status is \"{}\". Only idle \
                     sessions may be archived; send a user.interrupt first.",
                    glance.row.id,
                    working.as_str()
                ))));
            }
        };
        Ok(Input { drafts, answer: String::new(), claim: None })
    });
    appended.await.map_err(refused)?;
    let (row, document) = find(&call)?;
    call.app.engine.outside().forget(&row.id);
    show(&call, &row, &document)
}

/// `DELETE /v1/sessions/{session}`.
///
/// # Errors
/// 404, 400 while the session is at work.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (row, _) = find(&call)?;
    let deleted = call.app.engine.log().delete(&row.id, |row| {
        if row.status == Status::Running.as_str() || row.status == Status::Rescheduling.as_str() {
            return Err(Refusal::Api(ApiError::invalid(
                "Cannot delete session while it is running. Send an interrupt event or wait for \
                 the session to complete.",
            )));
        }
        Ok(())
    });
    deleted.await.map_err(refused)?;
    call.app.engine.outside().forget(&row.id);
    // What a crash leaves of it is deleted at the next start.
    call.app.engine.hands().delete(&row.id).await;
    files::bury(&call.app).await;
    let json = json!({ "id": row.id, "type": "session_deleted" });
    Ok(Answer::new(json.to_string()))
}

/// The session that the path names.
///
/// # Errors
/// 400 when the path holds no session's id, 404 when there is none of the caller's.
pub(super) fn find(call: &Call) -> Result<(SessionRow, String), Refusal> {
    let id = call.id(0, IdKind::Session)?;
    let found = call.app.engine.log().row_and_document(id)?;
    let found = found.filter(|(row, _)| *row.workspace == *call.principal.workspace);
    found.ok_or_else(|| missing().into())
}

/// Like [`find`], without the document.
///
/// # Errors
/// As [`find`].
pub(super) fn find_row(call: &Call) -> Result<SessionRow, Refusal> {
    row(call, call.id(0, IdKind::Session)?)
}

/// A session of the caller's workspace by its id.
///
/// # Errors
/// 404.
pub(super) fn row(call: &Call, id: &str) -> Result<SessionRow, Refusal> {
    let found = call.app.engine.log().row(id)?;
    let found = found.filter(|row| *row.workspace == *call.principal.workspace);
    found.ok_or_else(|| missing().into())
}

/// Notes that the end of the newest turn is being shown, so that no stream repeats it.
///
/// # Errors
/// When the store fails.
pub(super) async fn show_end(call: &Call, row: &SessionRow) -> Result<(), Refusal> {
    if row.status != Status::Idle.as_str() || row.last_at.0 < call.at.0 - REPLAY_WINDOW {
        return Ok(());
    }
    let summary = sessions::read_summary(&row.fold)?;
    if row.shown < summary.turn_end {
        call.app.engine.log().mark_shown(&row.id, summary.turn_end).await?;
    }
    Ok(())
}

/// What an input's refusal is on the wire.
pub(super) fn refused(error: InputError<Refusal>) -> Refusal {
    match error {
        InputError::Missing => missing().into(),
        InputError::Refused(refusal) => refusal,
        InputError::Store(error) => error.into(),
    }
}

/// A session that is over.
pub(super) fn archived() -> ApiError {
    ApiError::invalid("The session is archived and can't be changed; create a new session.")
}

/// A session with what is mounted into it.
fn show(call: &Call, row: &SessionRow, document: &str) -> Result<Answer, Refusal> {
    let mounted =
        call.app.database.read(|connection| resources::of_session(connection, &row.id))?;
    Ok(Answer::new(sessions::show(row, document, &mounted, call.at)?))
}

/// A session that is not there, or not the caller's.
pub(super) fn missing() -> ApiError {
    ApiError::not_found("Session not found.")
}

/// The agent that a session is made of.
async fn copy_agent(call: &Call, reference: Reference) -> Result<SessionAgent, Refusal> {
    let base = load_agent(call, &reference.id, reference.version)?;
    served(call, reference.apply(&base, call.app.rules.as_ref())?).await
}

/// Refuses an agent whose provider has gone since it was saved. An override may have given it
/// another one.
async fn served(call: &Call, agent: SessionAgent) -> Result<SessionAgent, Refusal> {
    // The agent may be older than this life of the server, and its model a plain name.
    call.app.engine.providers().learn(&agent.model.id).await;
    call.app.rules.exists(&agent.model.id).map_err(|reason| {
        wrong("agent", &reason, "configure a provider for it or use another model")
    })?;
    Ok(agent)
}

fn load_agent(call: &Call, id: &str, version: Option<i64>) -> Result<Agent, Refusal> {
    let workspace = &call.principal.workspace;
    let (newest, row) = call.app.database.read(|connection| {
        let newest = agents::find(connection, workspace, id)?;
        let row = match version {
            Some(version) => agents::find_version(connection, workspace, id, version)?,
            None => newest.clone(),
        };
        Ok::<_, posthouse_store::Error>((newest, row))
    })?;
    let Some(newest) = newest else {
        return Err(ApiError::not_found(format!("agent: {id} not found")).into());
    };
    let Some(row) = row else {
        let version = version.unwrap_or_default();
        return Err(ApiError::not_found(format!("agent.version: {version} not found")).into());
    };
    if newest.archived_at.is_some() {
        return Err(ApiError::invalid(format!(
            "agent {id} is archived and cannot be used to create a session"
        ))
        .into());
    }
    Ok(serde_json::from_str(&row.body)?)
}

/// Where a session may connect to, as the environment was when the session was made.
fn kept_networking(call: &Call, row: &SessionRow) -> Result<Networking, Refusal> {
    let first = call.app.engine.log().read(row.number, &Range::first())?;
    Ok(networking::of_environment(&sessions::read_opened(&first)?.config)?)
}

/// Refuses an MCP server that the environment of the session keeps out of reach.
fn refuse_closed(networking: &Networking, servers: &[McpServer]) -> Result<(), ApiError> {
    let is_closed = |server: &McpServer| !networking::reaches(networking, server);
    match servers.iter().position(is_closed) {
        None => Ok(()),
        Some(index) => Err(wrong(
            &format!("agent.mcp_servers[{index}]"),
            &format!(
                "the environment does not let {:?} through to {}",
                servers[index].name(),
                servers[index].url().unwrap_or_default()
            ),
            "add its host to the environment's allowed_hosts, or set allow_mcp_servers",
        )),
    }
}

/// The credentials of a new session whose values its environment keeps from hosts that they are for.
fn find_unreachable(call: &Call, opened: &SessionOpened) -> Result<Vec<Unreachable>, Refusal> {
    let networking = networking::networking(opened, &opened.agent.mcp_servers)?;
    let allows = |host: &str| networking::lets_through(&networking, host);
    let workspace = &call.principal.workspace;
    let found = call.app.vaults.unreachable(workspace, &opened.vault_ids, allows);
    found.map_err(|error| Refusal::Fault(error.into()))
}

fn find_environment(call: &Call, id: &str) -> Result<StoredEnvironment, Refusal> {
    let workspace = &call.principal.workspace;
    let row = call
        .app
        .database
        .read(|connection| environments::find(connection, workspace, id))?
        .ok_or_else(|| ApiError::not_found(format!("environment_id: {id} not found")))?;
    if row.archived_at.is_some() {
        return Err(
            ApiError::new(ErrorKind::Invalid, format!("Environment {id} is archived.")).into()
        );
    }
    Ok(serde_json::from_str(&row.body)?)
}

/// The part of an environment that a session keeps.
#[derive(serde::Deserialize)]
struct StoredEnvironment {
    config: Box<RawValue>,
    #[serde(default)]
    posthouse: Extension,
}

/// The primary thread's id of a row.
///
/// # Errors
/// When the row is damaged.
pub(super) fn primary_thread(row: &SessionRow) -> Result<Arc<str>, Refusal> {
    let summary = sessions::read_summary(&row.fold)?;
    let primary = summary.primary().map(|primary| Arc::clone(&primary.id));
    primary.ok_or_else(|| Refusal::Fault("a session has no thread".into()))
}
