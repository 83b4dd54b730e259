//! Brings what is in flight in line with the plan, and appends what comes of it.
//!
//! The only place where a session's log grows by work. It decides nothing: `step` says what
//! should be under way, `settle` says what the log keeps of an end. A restart after a crash
//! takes the same road as a first start.

mod ask;
mod calls;
mod kit;

use std::{collections::HashMap, sync::Arc, time::Duration};

use posthouse_model::Usage;
use posthouse_store::{
    Appended, Crash, Draft, Record, WorkError,
    log::{Handed, Range, Work},
};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use crate::{
    engine::Core,
    flight::{self, Flight, Landing, Outcome},
    line::{self, Line, Scribe},
    own::{self, ToolStarted},
    sessions,
    settle::{self, Moment},
    state::State,
    step::{self, Effect},
    summary::{Summary, ThreadSummary},
    toolbox::Toolbox,
};

pub(crate) use kit::Kit;

/// Why a drive has stopped before its session came to rest.
#[derive(Debug, Error)]
pub(crate) enum Stopped {
    /// Another harness holds the session, or it is gone.
    #[error("another harness holds the session")]
    Stale,
    /// A fault was injected.
    #[error(transparent)]
    Crash(#[from] Crash),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] posthouse_store::Error),
    /// The log is not what this version writes.
    #[error("the log can't be continued: {0}")]
    Log(String),
}

impl From<posthouse_store::Error> for Stopped {
    fn from(error: posthouse_store::Error) -> Self {
        match error {
            posthouse_store::Error::Crash(crash) => Self::Crash(crash),
            error => Self::Store(error),
        }
    }
}

/// Works on a session until it is at rest.
pub(crate) async fn drive(
    core: &Arc<Core>,
    session: &Arc<str>,
    poked: &Notify,
    handed: Option<Box<Handed>>,
) -> Result<(), Stopped> {
    core.faults().point("wake.before_claim")?;
    // The append that has woken the session may have taken its lease, too.
    let ours = |handed: &Handed| handed.row.holder.as_deref() == Some(&*core.boot);
    let (row, records) = match handed.filter(|handed| ours(handed)) {
        Some(handed) => (handed.row, handed.records),
        None => {
            // A wake too many must not take a lease that nothing would give back.
            let row = core.log.row(session)?.ok_or(Stopped::Stale)?;
            if !sessions::read_summary(&row.fold)?.status.is_working() {
                return Ok(());
            }
            let claimed = core.log.claim(session, &core.boot).await?;
            (claimed.ok_or(Stopped::Stale)?, Arc::from([]))
        }
    };
    core.faults().point("wake.after_claim")?;
    let (tower, landings) = mpsc::unbounded_channel();
    let (state, kit) = match core.cache.take(session) {
        Some((state, kit)) if state.head <= row.head => (state, kit),
        _ => {
            let records = core.log.read_many(row.number, Range::after(0)).await?;
            (State::fold(&records).map_err(Stopped::Log)?, Kit::default())
        }
    };
    let mut drive = Drive {
        core,
        session: Arc::clone(session),
        workspace: row.workspace.into(),
        number: row.number,
        fence: row.fence,
        state,
        flights: HashMap::new(),
        landed: HashMap::new(),
        kit,
        tower,
        landings,
    };
    if records.first().is_some_and(|first| first.seq == drive.state.head + 1) {
        drive.fold(&records)?;
    }
    drive.catch_up(row.head)?;
    let result = drive.run(poked).await;
    if result.is_ok() {
        core.cache.keep(session, (drive.state, drive.kit));
    }
    result
}

/// Ends a session whose log can't be continued, and says so in the log: the one error that a
/// session does not outlive.
pub(crate) async fn give_up(core: &Core, session: &str) -> Result<(), Stopped> {
    let Some(row) = core.log.claim(session, &core.boot).await? else { return Err(Stopped::Stale) };
    let summary = sessions::read_summary(&row.fold)?;
    let Some(primary) = summary.primary() else { return Ok(()) };
    let message = "The session's log can't be continued. Its events can still be read.";
    let mut lines = vec![line::session_error(&primary.id, "unknown_error", message, "terminal")];
    lines.extend(line::terminated(&primary.id, &primary.agent_name));
    let now = core.clock.now();
    let mut random = || core.chance.bytes();
    let drafts = Scribe { now, random: &mut random }.write(&summary, lines);
    let work = Work { drafts, release: true, ..Work::default() };
    match core.log.append_work(session, row.fence, now, work).await {
        Ok(_) => Ok(()),
        Err(WorkError::Store(error)) => Err(error.into()),
        Err(WorkError::Stale | WorkError::Overtaken) => Err(Stopped::Stale),
    }
}

struct Drive<'a> {
    core: &'a Arc<Core>,
    session: Arc<str>,
    workspace: Arc<str>,
    number: i64,
    fence: i64,
    state: State,
    flights: HashMap<Effect, Flight>,
    /// Results of tools that wait for those of calls before them.
    landed: HashMap<Effect, Outcome>,
    /// The tools that models are shown.
    kit: Kit,
    tower: flight::Tower,
    landings: mpsc::UnboundedReceiver<Landing>,
}

/// Whether an append stands in the log.
enum Kept {
    Yes,
    /// Not: a client was faster, and the state now knows its input.
    Overtaken,
}

impl Drive<'_> {
    async fn run(&mut self, poked: &Notify) -> Result<(), Stopped> {
        loop {
            let plan = step::step(&self.state, &self.core.limits);
            // What is not wanted any more is stopped and lands; a wait just ends.
            self.flights.retain(|effect, flight| plan.effects.contains(effect) || flight.stop());
            if !plan.append.is_empty() {
                if plan.releases {
                    self.come_to_rest().await;
                }
                let work = Work {
                    drafts: self.write(plan.append),
                    seen_input: plan.rests_on_silence.then_some(self.state.head),
                    release: plan.releases,
                    blobs: Vec::new(),
                };
                self.core.faults().point("plan.before_append")?;
                self.append(work).await?;
                self.core.faults().point("plan.after_append")?;
                continue;
            }
            if self.mend().await? || self.start(plan.effects).await? {
                continue;
            }
            if self.flights.is_empty() {
                return Ok(());
            }
            tokio::select! {
                landing = self.landings.recv() => match landing {
                    Some(landing) => self.land(landing).await?,
                    None => return Ok(()),
                },
                () = poked.notified() => {
                    let row = self.core.log.row(&self.session)?.ok_or(Stopped::Stale)?;
                    self.catch_up(row.head)?;
                }
            }
        }
    }

    /// Takes care of what the log says is under way and nobody here has started: what a former
    /// life has left. True when the state has changed.
    async fn mend(&mut self) -> Result<bool, Stopped> {
        let left: Vec<_> = step::open_effects(&self.state)
            .into_iter()
            .filter(|effect| !self.flights.contains_key(effect))
            .collect();
        for effect in left {
            match &effect {
                Effect::Model { thread, .. } => {
                    let span = self.state.thread(thread).and_then(|thread| thread.span.clone());
                    let Some(span) = span else { continue };
                    let reason = "The server was restarted during the request.";
                    let usage = Usage::default();
                    let lines = settle::closed_span(thread, &span.id, &usage, None, reason);
                    self.append_lines(lines).await?;
                    return Ok(true);
                }
                Effect::Tool { thread, call } => {
                    let toolbox = self.toolbox_at_hand(thread).await?;
                    if let Some(search) = self.recover(&toolbox, thread, call) {
                        let flight = flight::tool(effect.clone(), search, self.tower.clone());
                        self.flights.insert(effect, flight);
                    }
                }
                Effect::List { .. } | Effect::SleepUntil { .. } => {}
            }
        }
        Ok(false)
    }

    /// Starts what should be in flight and is not. True when the state has changed.
    async fn start(&mut self, effects: Vec<Effect>) -> Result<bool, Stopped> {
        let missing: Vec<_> =
            effects.into_iter().filter(|effect| !self.flights.contains_key(effect)).collect();
        let mut changed = false;
        for effect in missing {
            match &effect {
                Effect::SleepUntil { at, .. } => {
                    let rest = (at.0 - self.core.clock.now().0).max(0);
                    let rest = Duration::from_micros(u64::try_from(rest).unwrap_or(0));
                    let flight = flight::sleep(effect.clone(), rest, self.tower.clone());
                    self.flights.insert(effect, flight);
                }
                Effect::List { thread } => {
                    let work = self.core.outside.list(self.standpoint());
                    self.core.faults().point("list.after_start")?;
                    tracing::debug!(session = %self.session, %thread, "MCP servers are asked");
                    let flight = flight::list(effect.clone(), work, self.tower.clone());
                    self.flights.insert(effect, flight);
                }
                Effect::Tool { thread, call } => {
                    let toolbox = self.toolbox_at_hand(thread).await?;
                    if !self.is_call(thread, call) {
                        continue;
                    }
                    self.core.faults().point("tool.before_start")?;
                    let started = ToolStarted { call: Arc::clone(call) };
                    let line = line::own_record(own::kind::TOOL_STARTED, thread, &started);
                    self.append_lines(vec![line]).await?;
                    self.core.faults().point("tool.after_start")?;
                    let Some(work) = self.run_call(&toolbox, thread, call) else { continue };
                    let flight = flight::tool(effect.clone(), work, self.tower.clone());
                    self.flights.insert(effect, flight);
                }
                Effect::Model { thread, .. } => {
                    let thread = Arc::clone(thread);
                    self.ask(effect, &thread).await?;
                }
            }
            changed = true;
        }
        Ok(changed)
    }

    /// Appends what has come of an effect.
    async fn land(&mut self, Landing { effect, outcome }: Landing) -> Result<(), Stopped> {
        match &effect {
            Effect::Tool { thread, .. } => {
                let thread = Arc::clone(thread);
                self.landed.insert(effect, outcome);
                return self.append_results(&thread).await;
            }
            Effect::Model { thread, .. } => {
                self.flights.remove(&effect);
                let toolbox = self.toolbox_at_hand(thread).await?;
                let lines = self.settle_model(&toolbox, &effect, thread, outcome);
                self.core.faults().point("model.before_append")?;
                self.append_with_rest(lines).await?;
                self.core.faults().point("model.after_append")?;
            }
            Effect::List { thread } => {
                self.flights.remove(&effect);
                let wanted = step::step(&self.state, &self.core.limits).effects.contains(&effect);
                if let Outcome::Listed(listings) = outcome
                    && wanted
                {
                    let thread = Arc::clone(thread);
                    self.append_lists(&thread, listings).await?;
                }
            }
            Effect::SleepUntil { thread, .. } => {
                self.flights.remove(&effect);
                let name = self.agent_name(thread);
                // A wait that an interrupt has ended meanwhile wakes nobody.
                if step::step(&self.state, &self.core.limits).effects.contains(&effect) {
                    self.append_lines(step::awake(thread, &name)).await?;
                }
            }
        }
        Ok(())
    }

    fn settle_model(
        &self,
        toolbox: &Toolbox,
        effect: &Effect,
        thread: &Arc<str>,
        outcome: Outcome,
    ) -> Vec<Line> {
        let now = self.core.clock.now();
        // What nobody waits for any more is not kept, but for what it has cost.
        let wanted = step::step(&self.state, &self.core.limits).effects.contains(effect);
        let interrupted = "The request was interrupted.";
        match outcome {
            Outcome::Answered { asked, response, previewed } if wanted => {
                let cost = asked.cost(&response.usage);
                let mut random = || self.core.chance.bytes();
                let mut scribe = Scribe { now, random: &mut random };
                let Some(thread) = self.state.thread(thread) else { return Vec::new() };
                settle::response(toolbox, thread, &asked, response, cost, &previewed, &mut scribe)
            }
            Outcome::Failed { asked, failure } if wanted => {
                let agent = &self.state.agent;
                let state = self.state.thread(thread);
                match (state, self.summary_of(thread)) {
                    (Some(state), Some(summary)) => {
                        let cost = asked.cost(&failure.usage);
                        let moment = self.moment();
                        settle::failure(agent, state, summary, &asked, &failure, cost, moment)
                    }
                    _ => Vec::new(),
                }
            }
            Outcome::Answered { asked, response, .. } => {
                let cost = asked.cost(&response.usage);
                settle::closed_span(thread, &asked.span, &response.usage, cost, interrupted)
            }
            Outcome::Failed { asked, failure } => {
                let cost = asked.cost(&failure.usage);
                settle::closed_span(thread, &asked.span, &failure.usage, cost, &failure.message)
            }
            Outcome::Stopped { asked, usage } => {
                let cost = asked.cost(&usage);
                settle::closed_span(thread, &asked.span, &usage, cost, interrupted)
            }
            Outcome::Tool(_) | Outcome::ToolStopped | Outcome::Listed(_) | Outcome::Awake => {
                Vec::new()
            }
        }
    }

    fn agent_name(&self, thread: &Arc<str>) -> String {
        self.summary_of(thread).map(|one| one.agent_name.clone()).unwrap_or_default()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.core.clock.now(), chance: self.core.chance.fraction() }
    }

    fn summary_of(&self, thread: &str) -> Option<&ThreadSummary> {
        self.state.summary.threads.iter().find(|one| &*one.id == thread)
    }

    fn new_id(&self) -> Arc<str> {
        self.core.new_event_id()
    }

    fn write(&self, lines: Vec<Line>) -> Vec<Draft> {
        self.write_on(&self.state.summary, lines)
    }

    fn write_on(&self, summary: &Summary, lines: Vec<Line>) -> Vec<Draft> {
        let mut random = || self.core.chance.bytes();
        Scribe { now: self.core.clock.now(), random: &mut random }.write(summary, lines)
    }

    async fn append_lines(&mut self, lines: Vec<Line>) -> Result<(), Stopped> {
        if lines.is_empty() {
            return Ok(());
        }
        let drafts = self.write(lines);
        self.append(Work { drafts, ..Work::default() }).await.map(drop)
    }

    /// Appends lines, and with them the session's coming to rest when that is all that follows:
    /// the end of a turn then costs one commit and not two. The records are the same.
    async fn append_with_rest(&mut self, lines: Vec<Line>) -> Result<(), Stopped> {
        let ends = !lines.iter().any(Line::opens_call);
        let drafts = self.write(lines);
        if ends && let Some(rest) = self.foresee_rest(&drafts) {
            self.come_to_rest().await;
            let drafts = drafts.iter().cloned().chain(rest.drafts).collect();
            if let Kept::Yes = self.append(Work { drafts, ..rest }).await? {
                return Ok(());
            }
        }
        self.append(Work { drafts, ..Work::default() }).await.map(drop)
    }

    /// Takes in what tools have put out, before the session says that it rests.
    async fn come_to_rest(&self) {
        if let Some(work) = self.core.hands.rest(&self.session) {
            work.await;
        }
        self.core.outside.rest(&self.session);
    }

    /// The work that would follow these drafts, if it is to come to rest.
    fn foresee_rest(&self, drafts: &[Draft]) -> Option<Work> {
        let mut state = self.state.clone();
        let at = self.core.clock.now();
        for draft in drafts {
            let record = Record {
                seq: state.head + 1,
                at,
                fence: self.fence,
                kind: draft.kind.into(),
                thread: Arc::clone(&draft.thread),
                payload: Arc::clone(&draft.payload),
            };
            state.apply(&record).ok()?;
        }
        let plan = step::step(&state, &self.core.limits);
        (plan.rests_on_silence && plan.releases).then(|| Work {
            drafts: self.write_on(&state.summary, plan.append),
            seen_input: Some(self.state.head),
            release: true,
            blobs: Vec::new(),
        })
    }

    async fn append(&mut self, work: Work) -> Result<Kept, Stopped> {
        let now = self.core.clock.now();
        match self.core.log.append_work(&self.session, self.fence, now, work).await {
            Ok(Appended { records, after }) => {
                self.catch_up(after)?;
                self.fold(&records)?;
                Ok(Kept::Yes)
            }
            Err(WorkError::Overtaken) => {
                let row = self.core.log.row(&self.session)?.ok_or(Stopped::Stale)?;
                self.catch_up(row.head)?;
                Ok(Kept::Overtaken)
            }
            Err(WorkError::Stale) => Err(Stopped::Stale),
            Err(WorkError::Store(error)) => Err(error.into()),
        }
    }

    /// Folds what others have appended, up to a place.
    fn catch_up(&mut self, head: i64) -> Result<(), Stopped> {
        if head <= self.state.head {
            return Ok(());
        }
        let range = Range { before: head + 1, ..Range::after(self.state.head) };
        let records = self.core.log.read(self.number, &range)?;
        self.fold(&records)
    }

    fn fold(&mut self, records: &[Record]) -> Result<(), Stopped> {
        records.iter().try_for_each(|record| self.state.apply(record)).map_err(Stopped::Log)
    }
}
