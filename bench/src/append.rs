//! `append_work` of the store as it ships, fold and chain included, beside a bare `INSERT` into
//! an indexed table: same pragmas, same group commit by one thread, same process, same run.
//!
//! Each writer appends 1 KiB messages to a session of its own and waits for each. The two take
//! turns second by second, so that a slow moment of the disk meets both.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use posthouse_engine::{
    line::{event_payload, members},
    own::SessionOpened,
    sessions,
};
use posthouse_protocol::{Micros, id::IdKind};
use posthouse_store::{
    Database, Draft, Durability, Error, Faults, Log, Options,
    log::{NewSession, Work},
};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Failure, Outcome,
    floor::{DurableFile, PIECE},
    machine::processor_seconds,
    measure::{Report, Samples},
    setup::Setup,
};

/// How many inserts share a transaction at most; the store's number.
const GROUP: usize = 256;

/// How often the two take turns at each number of writers.
const ROUNDS: usize = 4;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let folder = setup.make_folder()?;
    let time = setup.choose(Duration::from_secs(1), Duration::from_millis(100));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("append", "rate to that of the bare insert at as many writers");
    let mut file = DurableFile::make(folder.path())?;
    let (mut synced, began) = (Samples::default(), Instant::now());
    while began.elapsed() < time {
        let began = Instant::now();
        file.append(&PIECE)?;
        synced.since(began);
    }
    report.add([synced.row("1 KiB append, fdatasync").within(began.elapsed())]);
    let bare = Arc::new(Bare::open(&folder.path().join("bare.db"))?);
    let database = Database::open(Options {
        folder: folder.path().join("data"),
        durability: Durability::Disk,
        faults: Faults::default(),
    })?;
    let log = Log::new(database.clone(), Arc::new(sessions::fold_row));
    // Until a write-ahead log has been checkpointed once it grows, and growing takes longer.
    let (mut warm, sessions) = (Measured::default(), runtime.block_on(open_sessions(&log, 64))?);
    runtime.block_on(warm.measure(time, 64, |index| inserting(Arc::clone(&bare), index as i64)))?;
    runtime.block_on(
        warm.measure(time, 64, |index| appending(log.clone(), sessions[index].clone())),
    )?;
    let mut next_session = 64;
    for (writers, aim) in [(1, "p50 0.2, ratio 0.6"), (16, "ratio 0.6"), (64, "25000/s, ratio 0.6")]
    {
        let sessions = runtime.block_on(open_sessions(&log, writers))?;
        let (mut ours, mut theirs) = (Measured::default(), Measured::default());
        for _ in 0..ROUNDS {
            setup.go_on()?;
            runtime.block_on(theirs.measure(time, writers, |index| {
                inserting(Arc::clone(&bare), next_session + index as i64)
            }))?;
            next_session += writers as i64;
            runtime.block_on(
                ours.measure(time, writers, |index| {
                    appending(log.clone(), sessions[index].clone())
                }),
            )?;
        }
        for (name, measured) in [("bare insert", &theirs), ("append_work", &ours)] {
            let name = format!("processor time, {name}, {writers} at once");
            let count = measured.samples.count().max(1) as f64;
            report.fact(name, measured.seconds * 1e6 / count, "us", "");
        }
        let base = theirs.samples.row(format!("bare insert, {writers} at once"));
        let base = base.within(theirs.passed);
        let row = ours.samples.row(format!("append_work, {writers} at once")).within(ours.passed);
        report.add([base.clone(), row.part_of(&base).aim(aim)]);
    }
    database.close();
    Ok(report)
}

/// What came of some rounds.
#[derive(Default)]
struct Measured {
    samples: Samples,
    passed: Duration,
    /// Processor time of this process meanwhile.
    seconds: f64,
}

impl Measured {
    /// Lets writers work for a time. `writer` makes a way to write, given the writer's index.
    async fn measure<W: Writer>(
        &mut self,
        time: Duration,
        writers: usize,
        writer: impl Fn(usize) -> W,
    ) -> Outcome<()> {
        let (began, before) = (Instant::now(), processor_seconds(std::process::id()));
        let mut tasks = JoinSet::new();
        for index in 0..writers {
            let mut writer = writer(index);
            tasks.spawn(async move {
                let mut samples = Samples::default();
                while began.elapsed() < time {
                    let began = Instant::now();
                    writer.write().await?;
                    samples.since(began);
                }
                Ok::<_, Failure>(samples)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            self.samples.absorb(ended??);
        }
        self.passed += began.elapsed();
        self.seconds += processor_seconds(std::process::id()) - before;
        Ok(())
    }
}

/// Who writes 1 KiB at a time.
trait Writer: Send + 'static {
    /// Writes; durable when this returns.
    fn write(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// A session of the store, ready for work.
#[derive(Clone)]
struct Session {
    id: String,
    thread: Arc<str>,
    fence: i64,
}

struct Appending {
    log: Log,
    session: Session,
    message: serde_json::Map<String, Value>,
    count: u64,
}

fn appending(log: Log, session: Session) -> Appending {
    let text = ".".repeat(PIECE.len() - 64);
    let message = members(json!({ "content": [{ "type": "text", "text": text }] }));
    Appending { log, session, message, count: 0 }
}

impl Writer for Appending {
    async fn write(&mut self) -> Outcome<()> {
        self.count += 1;
        let now = now();
        let id = IdKind::Event.mint(now, u128::from(self.count).to_be_bytes());
        let thread = Arc::clone(&self.session.thread);
        let payload = event_payload(&id, &self.message);
        let drafts = vec![Draft::new("agent.message", thread, payload)];
        let work = Work { drafts, ..Work::default() };
        self.log.append_work(&self.session.id, self.session.fence, now, work).await?;
        Ok(())
    }
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

async fn open_sessions(log: &Log, count: usize) -> Outcome<Vec<Session>> {
    let mut sessions = Vec::new();
    for index in 0..count {
        let at = now();
        let mint = |kind: IdKind| kind.mint(at, (index as u128).to_be_bytes());
        let (id, thread): (_, Arc<str>) = (mint(IdKind::Session), mint(IdKind::Thread).into());
        let opened: SessionOpened = serde_json::from_value(json!({
            "session": id,
            "thread": thread,
            "agent": {
                "type": "agent", "id": "agent_bench", "version": 1, "name": "Bench",
                "description": null,
                "model": { "id": "m", "effort": null, "speed": "standard", "inference_geo": null },
                "system": null, "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
                "execution_identity": { "type": "service_account" },
            },
            "environment": "env_bench",
            "config": {},
            "title": null,
            "metadata": {},
        }))?;
        let (drafts, _) = sessions::open(&opened, &[], Vec::new(), at, &mut || [0; 16])
            .map_err(|refused| format!("a session can't be opened: {refused:?}"))?;
        let new = NewSession {
            id: id.clone(),
            workspace: "bench".into(),
            agent: ("agent_bench".into(), 1),
            environment: "env_bench".into(),
            at,
        };
        let claim = Some("bench".to_owned());
        log.create(new, drafts, claim, None, |_, _| Ok::<_, Error>(String::new())).await?;
        let row = log.row(&id)?.ok_or("a session is not there")?;
        sessions.push(Session { id, thread, fence: row.fence });
    }
    Ok(sessions)
}

struct Insert {
    session: i64,
    seq: i64,
    done: oneshot::Sender<()>,
}

/// The baseline: one table with one index, and a thread that groups inserts.
struct Bare {
    queue: Option<Sender<Insert>>,
    committer: Option<JoinHandle<()>>,
}

impl Bare {
    fn open(file: &Path) -> Outcome<Self> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "cache_size", -8_000)?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE records (session BIGINT NOT NULL, seq BIGINT NOT NULL, \
             at BIGINT NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL, UNIQUE (session, seq))",
        )?;
        let (queue, inserts) = channel();
        let committer = std::thread::spawn(move || {
            if let Err(error) = insert_forever(&connection, &inserts) {
                eprintln!("posthouse-bench: the bare table failed: {error}");
            }
        });
        Ok(Self { queue: Some(queue), committer: Some(committer) })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

/// Ends when the queue is closed.
fn insert_forever(connection: &Connection, inserts: &Receiver<Insert>) -> rusqlite::Result<()> {
    let payload = ".".repeat(PIECE.len());
    let run = |statement: &str| connection.prepare_cached(statement)?.execute([]).map(drop);
    let mut waiting = Vec::with_capacity(GROUP);
    while let Ok(first) = inserts.recv() {
        run("BEGIN IMMEDIATE")?;
        for Insert { session, seq, done } in
            std::iter::once(first).chain(inserts.try_iter()).take(GROUP)
        {
            connection
                .prepare_cached("INSERT INTO records VALUES ($1, $2, $3, $4, $5)")?
                .execute(params![session, seq, now().0, "agent.message", payload])?;
            waiting.push(done);
        }
        run("COMMIT")?;
        for done in waiting.drain(..) {
            // Who has gone does not wait.
            let _ = done.send(());
        }
    }
    Ok(())
}

struct Inserting {
    bare: Arc<Bare>,
    session: i64,
    seq: i64,
}

fn inserting(bare: Arc<Bare>, session: i64) -> Inserting {
    Inserting { bare, session, seq: 0 }
}

impl Writer for Inserting {
    async fn write(&mut self) -> Outcome<()> {
        self.seq += 1;
        let (done, durable) = oneshot::channel();
        let insert = Insert { session: self.session, seq: self.seq, done };
        let queue = self.bare.queue.as_ref().ok_or("the bare table is closed")?;
        queue.send(insert).map_err(|_| "the bare table has failed")?;
        Ok(durable.await?)
    }
}
