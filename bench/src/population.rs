//! A data folder with many things in it, written through the store and not through the API.
//!
//! A real server makes one thing of each kind first. The others are made after them, so that
//! they have the form that this version writes. What is in the folder is known, so that a list
//! can be checked. One in ten belongs to another workspace and is in no list.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use posthouse_engine::{
    line::{self, Scribe},
    own::{self, RetryScheduled, SessionOpened},
    sessions,
    summary::Summary,
};
use posthouse_protocol::{Micros, agent::SessionAgent, event::ClientEvent, id::IdKind};
use posthouse_store::{
    Database, Draft, Durability, Error, Faults, Log, Options,
    log::NewSession,
    tables::{
        agents::{self, AgentRow},
        environments::{self, EnvironmentRow},
        files,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Failure, Outcome,
    http::{Connection, Wire},
    setup::Setup,
    stand::{KEY, Process},
};

/// The workspace that nobody asks for.
const ANOTHER: &str = "wrkspc_another";

/// How many rows share a transaction.
const BATCH: usize = 1000;

/// How many sessions are made at once; they share transactions.
const AT_ONCE: usize = 256;

const SECOND: i64 = 1_000_000;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The agent that has every second one.
    Busy,
    /// The agent that has this one alone.
    Lonely,
    /// One of many.
    Usual,
}

/// What has become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for its client.
    Idle,
    /// It waits for a model that never answers.
    Running,
    /// It waits for its next attempt, for longer than a bench takes.
    Rescheduling,
    /// It is archived, which terminates it.
    Archived,
}

/// A session that a list may show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    /// When it was made.
    pub(crate) at: Micros,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// The agent's version.
    pub(crate) version: i64,
    /// What has become of it.
    pub(crate) fate: Fate,
}

/// An agent, an environment or a file that a list may show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thing {
    /// When it was made.
    pub(crate) at: Micros,
    /// Whether it is archived.
    pub(crate) archived: bool,
    /// Whether it is a file of the one session that has many.
    pub(crate) shared: bool,
}

/// A folder with everything in it, and what that is.
pub(crate) struct Population {
    /// The data folder is `data` in here.
    pub(crate) folder: TempDir,
    /// How many of each kind were written, those of the other workspace included.
    pub(crate) count: usize,
    /// The agents.
    pub(crate) agents: Vec<Thing>,
    /// The environments.
    pub(crate) environments: Vec<Thing>,
    /// The sessions.
    pub(crate) sessions: Vec<Resident>,
    /// The files.
    pub(crate) files: Vec<Thing>,
    /// The agent with many sessions.
    pub(crate) busy: String,
    /// The agent with one session.
    pub(crate) lonely: String,
    /// The agent with as many versions as there are agents.
    pub(crate) versioned: String,
    /// The session that every second file belongs to.
    pub(crate) collector: String,
    base: i64,
}

impl Population {
    /// Fills a new folder with `count` of each kind; `waiting` sessions are running and as many
    /// rescheduling. `model` is where the server's model would be.
    pub(crate) fn fill(
        setup: &Setup,
        (count, waiting): (usize, usize),
        model: SocketAddr,
    ) -> Outcome<Self> {
        let folder = setup.make_folder()?;
        let data = folder.path().join("data");
        let firsts = Firsts::make(setup, &folder, model)?;
        let database = Database::open(Options {
            folder: data,
            durability: Durability::None,
            faults: Faults::default(),
        })?;
        let log = Log::new(database.clone(), Arc::new(sessions::fold_row));
        let row = log.row(&firsts.session)?.ok_or("the first session is not there")?;
        let workspace: Arc<str> = row.workspace.as_str().into();
        let first = Thing { at: row.created_at, archived: false, shared: false };
        let mut population = Self {
            folder,
            count,
            agents: vec![first],
            environments: vec![first],
            sessions: vec![Resident {
                at: row.created_at,
                owner: Owner::Usual,
                version: 1,
                fate: Fate::Idle,
            }],
            files: vec![first],
            busy: String::new(),
            lonely: String::new(),
            versioned: firsts.agent["id"].as_str().unwrap_or_default().to_owned(),
            collector: String::new(),
            base: row.created_at.0 - (count as i64 + 3600) * SECOND,
        };
        let writer = Writer { setup, database: &database, workspace: &workspace, firsts: &firsts };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let agents = population.add_agents(&writer).await?;
            population.add_versions(&writer).await?;
            population.add_environments(&writer).await?;
            let sessions = population.add_sessions(&writer, &log, &agents, waiting).await?;
            population.add_files(&writer, &sessions).await
        })?;
        database.close();
        Ok(population)
    }

    /// When the thing of that index was made.
    pub(crate) fn at(&self, index: usize) -> Micros {
        Micros(self.base + index as i64 * SECOND)
    }

    fn thing(&self, index: usize, archived: bool) -> Thing {
        Thing { at: self.at(index), archived, shared: false }
    }

    async fn add_agents(&mut self, writer: &Writer<'_>) -> Outcome<Vec<String>> {
        let mut ids = Vec::with_capacity(self.count);
        let mut rows = Vec::new();
        for index in 0..self.count {
            let at = self.at(index);
            let archived = index.is_multiple_of(3);
            let id = IdKind::Agent.mint(at, [0; 16]);
            let body = shown(&writer.firsts.agent, &id, at, archived);
            rows.push((
                writer.workspace_of(index),
                AgentRow {
                    id: id.clone(),
                    version: 1,
                    body: body.to_string(),
                    created_at: at.0,
                    archived_at: archived.then_some(at.0),
                },
            ));
            ids.push(id);
            if is_own(index) {
                self.agents.push(self.thing(index, archived));
            }
        }
        writer
            .batches(rows, |connection, (workspace, row)| {
                agents::insert(connection, &workspace, &row)
            })
            .await?;
        let id = |index: usize| ids.get(index).cloned().ok_or("there are too few agents");
        (self.busy, self.lonely) = (id(1)?, id(2)?);
        Ok(ids)
    }

    /// Gives one agent a history.
    async fn add_versions(&self, writer: &Writer<'_>) -> Outcome<()> {
        let mut agent = writer.firsts.agent.clone();
        let rows = (2..=self.count as i64).map(|version| {
            agent["version"] = json!(version);
            (version, agent.to_string())
        });
        let id = self.versioned.clone();
        let add = move |connection: &_, (version, body): (i64, String)| {
            agents::add_version(connection, &id, version, &body)
        };
        writer.batches(rows.collect(), add).await
    }

    async fn add_environments(&mut self, writer: &Writer<'_>) -> Outcome<()> {
        let mut rows = Vec::new();
        for index in 0..self.count {
            let (at, archived) = (self.at(index), index.is_multiple_of(3));
            let id = IdKind::Environment.mint(at, [0; 16]);
            let body = shown(&writer.firsts.environment, &id, at, archived).to_string();
            let archived_at = archived.then_some(at.0);
            let row = EnvironmentRow { id, body, created_at: at.0, archived_at };
            rows.push((writer.workspace_of(index), row));
            if is_own(index) {
                self.environments.push(self.thing(index, archived));
            }
        }
        let add = |connection: &_, (workspace, row): (Arc<str>, EnvironmentRow)| {
            environments::insert(connection, &workspace, &row)
        };
        writer.batches(rows, add).await
    }

    async fn add_sessions(
        &mut self,
        writer: &Writer<'_>,
        log: &Log,
        agents: &[String],
        waiting: usize,
    ) -> Outcome<Vec<String>> {
        let mut ids = Vec::with_capacity(self.count);
        let mut making = JoinSet::new();
        for index in 0..self.count {
            let resident = self.resident(index, waiting);
            let agent = match resident.owner {
                Owner::Busy => &self.busy,
                Owner::Lonely => &self.lonely,
                Owner::Usual => agents
                    .get(3 + (index / 2) % (self.count / 20))
                    .ok_or("there are too few agents")?,
            };
            let (new, drafts) = writer.session(index, resident, agent)?;
            ids.push(new.id.clone());
            if is_own(index) {
                self.sessions.push(resident);
            }
            let log = log.clone();
            making.spawn(async move {
                let answer = |_: &_, _: &str| Ok::<_, Error>(String::new());
                log.create(new, drafts, None, None, answer).await.map(drop)
            });
            if making.len() == AT_ONCE {
                writer.setup.go_on()?;
                drain(&mut making).await?;
            }
        }
        drain(&mut making).await?;
        self.collector = ids.first().cloned().unwrap_or_default();
        Ok(ids)
    }

    /// What the session of that index is.
    fn resident(&self, index: usize, waiting: usize) -> Resident {
        let stride = self.count / waiting;
        let middle = self.count / 2;
        let (owner, fate) = match index % stride {
            _ if index == middle => (Owner::Lonely, Fate::Idle),
            _ if index == middle + 2 => (Owner::Busy, Fate::Idle),
            4 => (Owner::Busy, Fate::Running),
            6 => (Owner::Busy, Fate::Rescheduling),
            _ => (
                if index.is_multiple_of(2) { Owner::Busy } else { Owner::Usual },
                if index.is_multiple_of(3) { Fate::Archived } else { Fate::Idle },
            ),
        };
        // One session alone has the third version of the busy agent.
        let version = if index == middle + 2 { 3 } else { 1 + (index as i64 / 4) % 2 };
        Resident { at: self.at(index), owner, version, fate }
    }

    async fn add_files(&mut self, writer: &Writer<'_>, sessions: &[String]) -> Outcome<()> {
        let file = writer.firsts.file.clone();
        let find = |connection: &_| files::find(connection, writer.workspace, &file);
        let source = writer.database.read(find)?.ok_or("the first file is not there")?;
        let mut rows = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            let shared = index.is_multiple_of(2);
            let session = if shared { &self.collector } else { session };
            let at = self.at(index);
            rows.push((writer.workspace_of(index), session.clone(), at));
            if is_own(index) {
                self.files.push(Thing { shared, ..self.thing(index, false) });
            }
        }
        let add = move |connection: &_, (workspace, session, at): (Arc<str>, String, Micros)| {
            let id = IdKind::File.mint(at, [0; 16]);
            files::copy(connection, &workspace, &source, &session, id, at).map(drop)
        };
        writer.batches(rows, add).await
    }
}

/// Whether the thing of that index belongs to the workspace that is asked.
fn is_own(index: usize) -> bool {
    index % 10 != 9
}

/// A thing as the wire shows it, made after another.
fn shown(first: &Value, id: &str, at: Micros, archived: bool) -> Value {
    let mut body = first.clone();
    let time = json!(at.to_rfc3339());
    body["id"] = json!(id);
    for member in ["created_at", "updated_at"] {
        body[member] = time.clone();
    }
    if archived {
        body["archived_at"] = time;
    }
    body
}

async fn drain(making: &mut JoinSet<Result<(), Error>>) -> Outcome<()> {
    while let Some(made) = making.join_next().await {
        made??;
    }
    Ok(())
}

/// One thing of each kind, made by a server.
struct Firsts {
    agent: Value,
    environment: Value,
    session: String,
    session_agent: Value,
    file: String,
}

impl Firsts {
    fn make(setup: &Setup, folder: &TempDir, model: SocketAddr) -> Outcome<Self> {
        let server = Process::server(setup, &folder.path().join("data"), model)?;
        let mut client = Connection::open(server.address())?;
        let mut ask = |request: &Wire| {
            let answer: Value = serde_json::from_slice(client.exchange(request, 200)?)?;
            Outcome::Ok(answer)
        };
        let agent = json!({
            "name": "Bench", "model": "claude-haiku-4-5", "system": "You are measured.",
            "metadata": { "route": "north" },
        });
        let agent = ask(&Wire::post("/v1/agents", KEY, &agent.to_string()))?;
        let environment = json!({ "name": "bench" }).to_string();
        let environment = ask(&Wire::post("/v1/environments", KEY, &environment))?;
        let session = json!({ "agent": agent["id"], "environment_id": environment["id"] });
        let session = ask(&Wire::post("/v1/sessions", KEY, &session.to_string()))?;
        let file = ask(&Wire::upload("/v1/files", KEY, "letter.txt", "All is well."))?;
        let id = |thing: &Value| {
            thing["id"].as_str().map(str::to_owned).ok_or("what was made has no id")
        };
        Ok(Self {
            session: id(&session)?,
            session_agent: session["agent"].clone(),
            file: id(&file)?,
            agent,
            environment,
        })
    }
}

/// What all that is written needs.
struct Writer<'a> {
    setup: &'a Setup,
    database: &'a Database,
    workspace: &'a Arc<str>,
    firsts: &'a Firsts,
}

impl Writer<'_> {
    fn workspace_of(&self, index: usize) -> Arc<str> {
        if is_own(index) { Arc::clone(self.workspace) } else { ANOTHER.into() }
    }

    /// Writes rows, many in a transaction.
    async fn batches<R: Send + 'static>(
        &self,
        rows: Vec<R>,
        add: impl Fn(&posthouse_store::tables::Connection, R) -> Result<(), Error>
        + Clone
        + Send
        + 'static,
    ) -> Outcome<()> {
        let mut rows = rows.into_iter();
        loop {
            self.setup.go_on()?;
            let batch: Vec<R> = rows.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let add = add.clone();
            self.database
                .write(move |connection| batch.into_iter().try_for_each(|row| add(connection, row)))
                .await?;
        }
    }

    /// A session and its first records.
    fn session(
        &self,
        index: usize,
        resident: Resident,
        agent: &str,
    ) -> Outcome<(NewSession, Vec<Draft>)> {
        let Resident { at, version, fate, .. } = resident;
        let mut used = 0_u8;
        // Times tell the ids of sessions apart, and this those of one session.
        let mut random = || {
            used += 1;
            [used; 16]
        };
        let (id, thread) = (IdKind::Session.mint(at, random()), IdKind::Thread.mint(at, random()));
        let mut session_agent: SessionAgent =
            serde_json::from_value(self.firsts.session_agent.clone())?;
        session_agent.id = agent.to_owned();
        session_agent.version = version;
        let name = session_agent.name.clone();
        let environment = self.firsts.environment["id"].as_str().unwrap_or_default();
        let opened = SessionOpened {
            session: id.clone(),
            thread: thread.into(),
            agent: session_agent,
            environment: environment.to_owned(),
            config: serde_json::value::to_raw_value(&self.firsts.environment["config"])?,
            passthrough_hosts: Vec::new(),
            title: index.is_multiple_of(2).then(|| format!("Letters of day {index}")),
            metadata: [("day".to_owned(), index.to_string())].into(),
            vault_ids: Vec::new(),
        };
        let said = match fate {
            Fate::Running | Fate::Rescheduling => {
                let content = json!([{ "type": "text", "text": "How are things?" }]);
                vec![json!({ "type": "user.message", "content": content })]
            }
            Fate::Idle | Fate::Archived => Vec::new(),
        };
        let said = ClientEvent::parse_initial(said)
            .map_err(|refused| Failure::from(format!("a message is refused: {refused:?}")))?;
        let (mut drafts, _) = sessions::open(&opened, &[], said, at, &mut random)
            .map_err(|refused| Failure::from(format!("a session is refused: {refused:?}")))?;
        let thread = &opened.thread;
        let behind = match fate {
            Fate::Idle | Fate::Running => Vec::new(),
            Fate::Archived => line::terminated(thread, &name).into(),
            Fate::Rescheduling => {
                let retry =
                    RetryScheduled { attempt: 1, not_before: in_an_hour(), since: in_an_hour() };
                let mut lines: Vec<_> = line::rescheduled(thread, &name).into();
                lines.push(line::own_record(own::kind::RETRY_SCHEDULED, thread, &retry));
                lines
            }
        };
        let mut scribe = Scribe { now: at, random: &mut random };
        drafts.extend(scribe.write(&Summary::default(), behind));
        let new = NewSession {
            id,
            workspace: self.workspace_of(index).to_string(),
            agent: (agent.to_owned(), version),
            environment: opened.environment,
            at,
        };
        Ok((new, drafts))
    }
}

fn in_an_hour() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).plus(3600 * SECOND)
}
