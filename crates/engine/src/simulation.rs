//! Crashes by the thousand: the real harness on a real log, with a scripted model, scripted
//! hands and a client that keeps every acknowledgement. Each seed kills the engine at points
//! of its choosing, starts it again on the same log, and compares at the end.
//!
//! `POSTHOUSE_SEEDS=N` runs N seeds, `POSTHOUSE_SEED=S` the one seed S.

mod outside;
mod world;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use outside::{PAGE, ScriptedOutside, equip};
use posthouse_model::{Catalog, Provider, Providers};
use posthouse_protocol::{
    ApiError,
    agent::ModelConfig,
    event::{ClientEvent, kind as wire},
};
use posthouse_store::{
    Crash, Database, Durability, Error, Faults, InputError, Log, Options, Record,
    log::{Input, NewSession, Range},
};
use serde_json::{Value, json, value::to_raw_value};
use world::{Dice, Scripted, ScriptedHands, World, agent};

use crate::{
    Chance, Clock, Engine, Parts,
    input::{self, Known},
    line::Scribe,
    own::{self, InputTaken, SessionOpened},
    sessions,
    state::State,
    step::Limits,
    summary::{Awaits, Status, Summary},
    tools::{Outside, UNKNOWN_OUTCOME},
};

const SESSION: &str = "sesn_simulated";
const SEEDS: u64 = 600;
/// How long one seed may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("POSTHOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POSTHOUSE_SEEDS").unwrap_or(SEEDS),
    };
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let (crashes, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let (again, loads) = (AtomicU64::new(0), AtomicU64::new(0));
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let run = runtime.block_on(simulate(seed));
                    crashes.fetch_add(run.crashes, Ordering::Relaxed);
                    unknown.fetch_add(run.unknown, Ordering::Relaxed);
                    again.fetch_add(run.again, Ordering::Relaxed);
                    loads.fetch_add(run.loads, Ordering::Relaxed);
                }
            });
        }
    });
    let (took, crashes) = (began.elapsed(), crashes.into_inner());
    let rate = count * 60_000 / u64::try_from(took.as_millis()).unwrap().max(1);
    println!("{count} seeds, {crashes} crashes, {rate} seeds a minute");
    assert!(count < 50 || crashes > count / 4, "only {crashes} crashes in {count} seeds");
    let unknown = unknown.into_inner();
    assert!(count < 50 || unknown > 0, "no outcome was ever unknown");
    let (again, loads) = (again.into_inner(), loads.into_inner());
    assert!(count < 250 || again > 0, "no call ever went out again");
    assert!(count < 250 || loads > 0, "no tool was ever searched for");
}

/// What one seed has met.
struct Met {
    crashes: u64,
    /// Calls whose outcome nobody knew.
    unknown: u64,
    /// Calls that went out more than once, because they may.
    again: u64,
    /// How often tools were put before the model.
    loads: u64,
}

/// Lives one session through its crashes.
async fn simulate(seed: u64) -> Met {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let dice = Dice::new(seed);
    let outside = Arc::new(ScriptedOutside::new(dice.clone()));
    let world = Arc::new(World { dice: dice.clone(), ..World::default() });
    let mut witness = Witness::new(dice.clone());
    let lives = 1 + dice.below(4);
    for life in 0..lives {
        let last = life + 1 == lives;
        // The last life meets no fault, so that everything can come to its end.
        let deadly = if last { u64::MAX } else { 1 + dice.below(60) };
        let dead = Arc::new(AtomicBool::new(false));
        let engine = start(folder.path(), life, (&world, &outside), deadly, &dead).await;
        if engine.take_over().await.is_ok() {
            witness.live(&engine, &dead, last, seed).await;
        }
        engine.abandon();
        engine.log().database().close();
    }
    let log = open(folder.path(), Faults::default()).unwrap();
    let unknown = check(&log, &witness, (&world, &outside), seed).await;
    let row = log.row(SESSION).unwrap().unwrap();
    let records = log.read(row.number, &Range::after(0)).unwrap();
    let loads = records.iter().filter(|one| &*one.kind == own::kind::TOOLS_LOADED).count() as u64;
    let again = outside.calls.lock().unwrap().values().filter(|(times, _)| *times > 1).count();
    Met { crashes: lives - 1, unknown, again: again as u64, loads }
}

fn scratch() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

fn open(folder: &std::path::Path, faults: Faults) -> Result<Log, Error> {
    let folder = folder.to_owned();
    let database = Database::open(Options { folder, durability: Durability::None, faults })?;
    Ok(Log::new(database, Arc::new(sessions::fold_row)))
}

async fn start(
    folder: &std::path::Path,
    life: u64,
    (world, outside): (&Arc<World>, &Arc<ScriptedOutside>),
    deadly: u64,
    dead: &Arc<AtomicBool>,
) -> Engine {
    let (passed, dying) = (AtomicU64::new(0), Arc::clone(dead));
    let faults = Faults::new(move |point| {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 >= deadly {
            dying.store(true, Ordering::Relaxed);
        }
        // The dead do nothing more, wherever they are.
        if dying.load(Ordering::Relaxed) { Err(Crash(point)) } else { Ok(()) }
    });
    let provider: Arc<dyn Provider> = Arc::new(Scripted(Arc::clone(world)));
    let dice = world.dice.clone();
    Engine::new(Parts {
        log: open(folder, faults).unwrap(),
        providers: Providers::new(vec![provider], Catalog::built_in()),
        hands: Arc::new(ScriptedHands(Arc::clone(world))),
        outside: Arc::clone(outside) as Arc<dyn Outside>,
        limits: Limits { requests_per_turn: 40, search: true },
        clock: Clock::System,
        chance: Chance::new(move || dice.bytes()),
        boot: format!("life_{life}").into(),
        idle: false,
    })
}

/// A client that remembers what it was told.
struct Witness {
    dice: Dice,
    opened: bool,
    messages: u64,
    acknowledged: Vec<String>,
}

impl Witness {
    fn new(dice: Dice) -> Self {
        Self { dice, opened: false, messages: 0, acknowledged: Vec::new() }
    }

    /// Talks until the engine is dead, or, in the last life, until everything is at rest.
    async fn live(&mut self, engine: &Engine, dead: &AtomicBool, last: bool, seed: u64) {
        let began = Instant::now();
        while !dead.load(Ordering::Relaxed) {
            assert!(began.elapsed() < PATIENCE, "seed {seed} is stuck");
            if !self.opened {
                self.opened = self.open(engine).await;
                continue;
            }
            let Ok(Some(row)) = engine.log().row(SESSION) else { continue };
            let summary = sessions::read_summary(&row.fold).unwrap();
            let talks = self.messages < 6;
            match self.dice.below(8) {
                0 | 1 if talks => self.say(engine, &summary).await,
                2 if talks && self.dice.below(3) == 0 => {
                    self.send(engine, vec![ClientEvent::Interrupt { thread: None }]).await;
                }
                3..=5 => self.reply(engine, &summary).await,
                _ => {}
            }
            let rested = summary.status == Status::Idle && summary.unanswered().next().is_none();
            if rested && !talks && summary.waiting.is_empty() && engine.busy() == 0 && last {
                return;
            }
            if rested && !talks && !last && engine.busy() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn open(&self, engine: &Engine) -> bool {
        if engine.log().row(SESSION).is_ok_and(|row| row.is_some()) {
            return true;
        }
        let dice = self.dice.clone();
        let mut agent = agent().snapshot();
        // Some agents have MCP servers and the web, some of these more tools than fit.
        match dice.below(6) {
            0..=1 => {}
            2 => equip(&mut agent, &["calm", "many"]),
            _ => equip(&mut agent, &["calm"]),
        }
        // Every other session's agent has a second model.
        if dice.below(2) == 0 {
            agent.posthouse.fallback =
                vec![ModelConfig { id: "sim/other".to_owned(), ..agent.model.clone() }];
        }
        let opened = SessionOpened {
            session: SESSION.to_owned(),
            thread: "sthr_primary".into(),
            agent,
            environment: "env_1".to_owned(),
            config: to_raw_value(&json!({})).unwrap(),
            passthrough_hosts: Vec::new(),
            vault_ids: Vec::new(),
            title: None,
            metadata: Default::default(),
        };
        let at = engine.clock().now();
        let (drafts, _) =
            sessions::open(&opened, &[], Vec::new(), at, &mut || dice.bytes()).unwrap();
        let new = NewSession {
            id: SESSION.to_owned(),
            workspace: "w".to_owned(),
            agent: ("agent_1".to_owned(), 1),
            environment: "env_1".to_owned(),
            at,
        };
        let created = engine.log().create(new, drafts, None, None, |_, _| Ok(String::new())).await;
        created.is_ok()
    }

    async fn say(&mut self, engine: &Engine, summary: &Summary) {
        if summary.status == Status::Idle && summary.unanswered().next().is_some() {
            return;
        }
        self.messages += 1;
        let content = json!([{ "type": "text", "text": format!("{}: {PAGE}", self.messages) }]);
        self.send(engine, vec![ClientEvent::Message { content }]).await;
    }

    /// Answers one of the open calls, or all of them.
    async fn reply(&mut self, engine: &Engine, summary: &Summary) {
        let all = self.dice.below(2) == 0;
        let events: Vec<_> = summary
            .unanswered()
            .take(if all { usize::MAX } else { 1 })
            .map(|open| match open.awaits {
                Awaits::Confirmation => ClientEvent::Confirmation {
                    call: open.id.to_string(),
                    allow: self.dice.below(2) == 0,
                    deny_message: None,
                },
                Awaits::Result => ClientEvent::CustomToolResult {
                    call: open.id.to_string(),
                    content: json!([{ "type": "text", "text": "sunny" }]),
                    is_error: false,
                },
            })
            .collect();
        if !events.is_empty() {
            self.send(engine, events).await;
        }
    }

    async fn send(&mut self, engine: &Engine, events: Vec<ClientEvent>) {
        let (dice, now) = (self.dice.clone(), engine.clock().now());
        let woken = Arc::new(AtomicBool::new(false));
        let (wakes, boot) = (Arc::clone(&woken), engine.boot().to_string());
        let sent = engine.log().append_input(SESSION, now, None, move |glance| {
            let summary = sessions::read_summary(&glance.row.fold).unwrap();
            let mut random = || dice.bytes();
            let mut scribe = Scribe { now, random: &mut random };
            let events = input::write(events, &mut scribe);
            let accepted = input::accept(summary, events, &Known::new(), glance.stamp, scribe)?;
            wakes.store(accepted.wakes, Ordering::Relaxed);
            let stored: Vec<_> = accepted
                .drafts
                .iter()
                .filter(|draft| draft.kind.starts_with("user."))
                .map(|draft| id_of(&draft.payload))
                .collect();
            Ok::<_, ApiError>(Input {
                drafts: accepted.drafts,
                answer: stored.join(" "),
                claim: accepted.wakes.then_some(boot),
            })
        });
        match sent.await {
            Ok(answered) => {
                self.acknowledged.extend(answered.answer.split_whitespace().map(str::to_owned));
                if woken.load(Ordering::Relaxed) {
                    engine.wake(SESSION);
                }
            }
            // The session has moved on since the witness looked.
            Err(InputError::Refused(_)) | Err(InputError::Missing) => {}
            // No acknowledgement: it may be in the log or not.
            Err(InputError::Store(_)) => {}
        }
    }
}

/// Compares the log with what the witness was told and what the world has seen. Returns how
/// many calls the log says have an unknown outcome.
async fn check(
    log: &Log,
    witness: &Witness,
    (world, outside): (&World, &ScriptedOutside),
    seed: u64,
) -> u64 {
    let row = log.row(SESSION).unwrap().unwrap();
    assert_eq!(log.verify(row.number).await.unwrap(), None, "seed {seed}: the chain is broken");
    let records = log.read(row.number, &Range::after(0)).unwrap();
    let state = State::fold(&records).unwrap();
    let summary = sessions::read_summary(&row.fold).unwrap();
    assert_eq!(state.summary, summary, "seed {seed}: the row is no fold over the log");
    assert_eq!(summary.status, Status::Idle, "seed {seed}: the session did not come to rest");
    assert!(summary.waiting.is_empty(), "seed {seed}: input waits for ever");
    assert_eq!(row.holder, None, "seed {seed}: a session at rest is held");

    let mut ids = HashSet::new();
    let mut taken = HashSet::new();
    let mut open_span: Option<String> = None;
    let mut open_calls: HashSet<String> = HashSet::new();
    let mut unknown = 0;
    for record in &records {
        let payload: Value = serde_json::from_str(&record.payload).unwrap();
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        if record.kind.contains('.') {
            assert!(ids.insert(text("id")), "seed {seed}: an event stands twice in the log");
        }
        match &*record.kind {
            own::kind::INPUT_TAKEN => {
                let input: InputTaken = serde_json::from_str(&record.payload).unwrap();
                assert!(taken.insert(input.id.to_string()), "seed {seed}: taken twice");
            }
            wire::REQUEST_START => {
                assert_eq!(open_span, None, "seed {seed}: two requests at once");
                open_span = Some(text("id"));
            }
            wire::REQUEST_END => {
                assert_eq!(open_span.take(), Some(text("model_request_start_id")), "seed {seed}");
            }
            wire::AGENT_TOOL_USE | wire::AGENT_CUSTOM_TOOL_USE | wire::AGENT_MCP_TOOL_USE => {
                open_calls.insert(text("id"));
            }
            wire::AGENT_TOOL_RESULT => {
                if payload["content"][0]["text"] == UNKNOWN_OUTCOME {
                    let executed = world.executed.lock().unwrap();
                    assert!(
                        world.journal.lock().unwrap().get(&*text("tool_use_id")).is_none(),
                        "seed {seed}: the journal knew the outcome"
                    );
                    unknown += u64::from(executed.contains_key(&*text("tool_use_id")));
                }
                assert!(open_calls.remove(&text("tool_use_id")), "seed {seed}: no such call");
            }
            wire::AGENT_MCP_TOOL_RESULT => {
                let call = text("mcp_tool_use_id");
                if payload["content"][0]["text"] == UNKNOWN_OUTCOME {
                    let calls = outside.calls.lock().unwrap();
                    let again = calls.get(&*call).is_some_and(|(_, again)| *again);
                    assert!(!again, "seed {seed}: a call that may come again was given up");
                    unknown += 1;
                }
                assert!(open_calls.remove(&call), "seed {seed}: no such call");
            }
            wire::USER_CUSTOM_TOOL_RESULT => {
                assert!(
                    open_calls.remove(&text("custom_tool_use_id")),
                    "seed {seed}: no such call"
                );
            }
            own::kind::TOOL_CLOSED => {
                assert!(open_calls.remove(&text("call")), "seed {seed}: no such call");
            }
            _ => {}
        }
    }
    assert_eq!(open_span, None, "seed {seed}: a request was never closed");
    assert!(open_calls.is_empty(), "seed {seed}: calls {open_calls:?} were never closed");
    for id in &witness.acknowledged {
        assert!(ids.contains(id), "seed {seed}: {id} was acknowledged and is lost");
    }
    for record in records.iter().filter(|one| &*one.kind == wire::USER_MESSAGE) {
        let id = id_of(&record.payload);
        assert!(taken.contains(&id), "seed {seed}: {id} was never taken");
    }
    check_last(&records, seed);
    for (call, times) in world.executed.lock().unwrap().iter() {
        assert_eq!(*times, 1, "seed {seed}: {call} was run {times} times");
    }
    for (call, (times, again)) in outside.calls.lock().unwrap().iter() {
        assert!(*times == 1 || *again, "seed {seed}: {call} went out {times} times");
    }
    unknown
}

fn check_last(records: &[Record], seed: u64) {
    let kinds: Vec<&str> = records.iter().map(|record| &*record.kind).collect();
    if kinds.len() > 1 {
        let end = &kinds[kinds.len() - 3..];
        assert_eq!(end, [wire::THREAD_IDLE, wire::SESSION_USAGE, wire::STATUS_IDLE], "seed {seed}");
    }
}

fn id_of(payload: &str) -> String {
    let payload: Value = serde_json::from_str(payload).unwrap();
    payload["id"].as_str().unwrap().to_owned()
}
