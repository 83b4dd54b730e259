//! A session in memory: log, row, harness and what is in flight, joined as `drive` joins them.
//!
//! Nothing happens by itself but what the plan asks for: a test says what clients send and how
//! flights end, when time passes and when everything crashes.

mod servers;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use posthouse_model::{Failure, FailureKind, ModelSpec, Request, Resolved, Response, Usage};
use posthouse_protocol::{
    Micros,
    event::{self, ClientEvent, kind as wire},
};
use posthouse_store::{Draft, Record, Seq, log::Stamp};
use serde_json::Value;

use super::{
    rules::{self, Rules},
    script, trace,
};
use crate::{
    context,
    input::{self, Accepted, Known},
    line::{self, Line, Scribe},
    own::{self, RequestSent, SessionOpened, ToolStarted},
    sessions::{self, Document},
    settle::{self, Asked, Moment, Previewed},
    state::State,
    step::{self, Effect, Limits, Plan},
    summary::{Status, Summary},
    tools::ServerTool,
    vault::Unreachable,
};

/// More steps than this without anything from outside are a circle.
const MOST_STEPS: u32 = 1_000;

pub(super) struct Play {
    pub(super) records: Vec<Record>,
    pub(super) state: State,
    pub(super) now: Micros,
    pub(super) limits: Limits,
    pub(super) spec: ModelSpec,
    /// What a model request costs.
    pub(super) cost: Option<u64>,
    /// What stands for chance in the waits between attempts.
    pub(super) jitter: f64,
    /// The newest model request.
    pub(super) request: Option<Request>,
    /// Whether the whole log is folded again on every record.
    pub(super) thorough: bool,
    /// What clients send while the harness is about to come to rest.
    pub(super) late: Vec<ClientEvent>,
    row: Option<String>,
    document: String,
    fence: i64,
    input_head: Seq,
    minted: u64,
    flights: BTreeSet<Effect>,
    asked: Option<Asked>,
    rules: Rules,
    /// The model's names of its calls, by the ids of their events.
    names: HashMap<String, String>,
    /// What stands for the session's blobs.
    lists: HashMap<Arc<str>, Arc<[ServerTool]>>,
    expected: usize,
}

impl Play {
    pub(super) fn new() -> Self {
        Self::of(script::opened())
    }

    pub(super) fn of(opened: SessionOpened) -> Self {
        Self::open(&opened, &[])
    }

    /// A session some of whose credentials have hosts that nothing gets to.
    pub(super) fn open(opened: &SessionOpened, unreachable: &[Unreachable]) -> Self {
        let mut play = Self {
            records: Vec::new(),
            state: State::new(Arc::new(opened.agent.clone())),
            now: Micros(1_790_000_000_000_000),
            limits: Limits::default(),
            spec: ModelSpec::unknown(posthouse_model::WireKind::Anthropic),
            cost: Some(1_000_000),
            jitter: 1.0,
            request: None,
            thorough: true,
            late: Vec::new(),
            row: None,
            document: String::new(),
            fence: 1,
            input_head: 0,
            minted: 0,
            flights: BTreeSet::new(),
            asked: None,
            rules: Rules::default(),
            names: HashMap::new(),
            lists: HashMap::new(),
            expected: 0,
        };
        let now = play.now;
        let (drafts, wakes) =
            sessions::open(opened, unreachable, Vec::new(), now, &mut || play.bytes()).unwrap();
        assert!(!wakes);
        play.append(drafts);
        play.catch_up();
        play
    }

    /// Sends events; calls go by the names that the model gave them. What a client is told of
    /// each event comes back, or why the batch was refused.
    pub(super) fn send<const N: usize>(
        &mut self,
        events: [ClientEvent; N],
    ) -> Result<Vec<String>, String> {
        let (echo, wakes) = self.put(events.into())?;
        self.catch_up();
        if wakes {
            self.go_on();
        }
        Ok(echo)
    }

    /// The model flight ends with a response.
    pub(super) fn answer(&mut self, response: Response) {
        let (effect, asked) = self.land_model();
        let thread = script::thread();
        let (usage, cost, now) = (response.usage, self.cost, self.now);
        let lines = if self.plan().effects.contains(&effect) {
            let (toolbox, of) = (self.toolbox(), self.state.threads[0].clone());
            let mut random = || self.bytes();
            let mut scribe = Scribe { now, random: &mut random };
            let previewed = Previewed::new();
            settle::response(&toolbox, &of, &asked, response, cost, &previewed, &mut scribe)
        } else {
            settle::closed_span(&thread, &asked.span, &usage, cost, "interrupted")
        };
        self.append_lines(lines);
        self.go_on();
    }

    /// The model flight fails.
    pub(super) fn fail(&mut self, failure: &Failure) {
        let (effect, asked) = self.land_model();
        let (thread, summary) = (&self.state.threads[0], &self.state.summary.threads[0]);
        let lines = if self.plan().effects.contains(&effect) {
            let moment = Moment { now: self.now, chance: self.jitter };
            settle::failure(&self.state.agent, thread, summary, &asked, failure, self.cost, moment)
        } else {
            let reason = &failure.message;
            settle::closed_span(&thread.id, &asked.span, &failure.usage, self.cost, reason)
        };
        self.append_lines(lines);
        self.go_on();
    }

    pub(super) fn fail_with(&mut self, kind: FailureKind) {
        self.fail(&script::failed(kind));
    }

    /// A tool ends well.
    pub(super) fn result(&mut self, call: &str, text: &str) {
        let id = self.event_of(call);
        let effect = Effect::Tool { thread: script::thread(), call: id.as_str().into() };
        assert!(self.flights.remove(&effect), "{call} is not in flight");
        let content = script::text_blocks(text);
        let family = self.state.threads[0].call(&id).unwrap().family();
        let thread = script::thread();
        self.append_lines(vec![line::tool_result(&thread, family, &id, &content, false)]);
        self.go_on();
    }

    /// What is in flight and no longer wanted comes to its end.
    pub(super) fn stops_land(&mut self) {
        let wanted = self.plan().effects;
        let unwanted: Vec<_> =
            self.flights.iter().filter(|flight| !wanted.contains(flight)).cloned().collect();
        for effect in unwanted {
            match &effect {
                Effect::Model { thread, .. } => {
                    let (_, asked) = self.land_model();
                    let usage = Usage::default();
                    let reason = "interrupted";
                    let lines = settle::closed_span(thread, &asked.span, &usage, self.cost, reason);
                    self.append_lines(lines);
                }
                Effect::Tool { thread, call } => {
                    self.flights.remove(&effect);
                    let line = self.state.threads[0]
                        .call(call)
                        .unwrap()
                        .error_result(thread, step::INTERRUPTED);
                    self.append_lines(vec![line]);
                }
                Effect::List { .. } | Effect::SleepUntil { .. } => {}
            }
            self.go_on();
        }
    }

    /// The wait under way ends when it should.
    pub(super) fn wake(&mut self) {
        let sleep = |flight: &Effect| match flight {
            Effect::SleepUntil { at, .. } => Some((*at, flight.clone())),
            _ => None,
        };
        let (at, effect) = self.flights.iter().find_map(sleep).expect("nothing waits");
        self.flights.remove(&effect);
        self.now = self.now.max(at);
        self.append_lines(step::awake(&script::thread(), "Scout"));
        self.go_on();
    }

    /// Everything in memory is gone; the log is not.
    pub(super) fn crash(&mut self) {
        self.flights.clear();
        self.asked = None;
        self.fence += 1;
        assert_eq!(self.summary(), self.state.summary, "the row is the fold");
        let before = format!("{:?}", self.state);
        self.state = State::fold(&self.records).unwrap();
        assert_eq!(format!("{:?}", self.state), before, "a crash changes the state");
        let none =
            || -> Result<String, posthouse_store::Error> { unreachable!("nothing is missing") };
        let at_once = sessions::fold_row(None, &self.records, &none).unwrap();
        assert_eq!(Some(&at_once.fold), self.row.as_ref(), "the row depends on the batches");
        assert_eq!(at_once.document.as_ref(), Some(&self.document));
        if self.state.summary.status.is_working() {
            self.go_on();
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus(seconds * 1_000_000);
    }

    /// The session gets another title or another system prompt.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Document)) {
        let before = sessions::read_document(&self.document).unwrap();
        let mut after = before.clone();
        change(&mut after);
        let now = self.now;
        let thread = script::thread();
        let drafts = sessions::update(&thread, &before, &after, now, &mut || self.bytes());
        self.append(drafts);
        self.input_head = self.head();
        self.catch_up();
        assert_eq!(sessions::read_document(&self.document).unwrap(), after);
    }

    pub(super) fn archive(&mut self) {
        let (summary, now) = (self.summary(), self.now);
        let drafts = sessions::archive(&summary, now, &mut || self.bytes());
        self.append(drafts);
        self.input_head = self.head();
        self.catch_up();
    }

    /// What the session has shown since the last look, and what is in flight now.
    #[track_caller]
    pub(super) fn expect(&mut self, trace: &[&str], flights: &[&str]) {
        let expected: Vec<&str> = trace.iter().flat_map(|line| line.split(" · ")).collect();
        let shown = trace::lines(&self.records, self.expected, &self.names);
        self.expected = self.records.len();
        if shown != expected {
            let shown = shown.join("\n    ");
            panic!("expected\n    {}\nbut shown was\n    {shown}", expected.join("\n    "));
        }
        assert_eq!(self.in_flight(), flights);
    }

    /// The same, for a part of a story that another test tells.
    pub(super) fn skip(&mut self) {
        self.expected = self.records.len();
    }

    pub(super) fn in_flight(&self) -> Vec<String> {
        let name = |flight: &Effect| match flight {
            Effect::Model { .. } => "model".to_owned(),
            Effect::List { .. } => "list".to_owned(),
            Effect::Tool { call, .. } => format!("tool {}", self.names[&**call]),
            Effect::SleepUntil { at, .. } => {
                format!("sleep {} ms", (at.0 - self.state.summary.updated_at.0) / 1_000)
            }
        };
        let mut flights: Vec<_> = self.flights.iter().map(name).collect();
        flights.sort();
        flights
    }

    pub(super) fn plan(&self) -> Plan {
        step::step(&self.state, &self.limits)
    }

    pub(super) fn summary(&self) -> Summary {
        sessions::read_summary(self.row.as_ref().unwrap()).unwrap()
    }

    pub(super) fn status(&self) -> Status {
        self.state.summary.status
    }

    pub(super) fn fold(&self) -> &str {
        self.row.as_ref().unwrap()
    }

    pub(super) fn document(&self) -> &str {
        &self.document
    }

    /// The kinds of the log's records from a place on, own ones included.
    pub(super) fn kinds(&self, from: usize) -> Vec<&str> {
        self.records[from..].iter().map(|record| &*record.kind).collect()
    }

    /// The id of a call's event, or the name itself.
    pub(super) fn event_of(&self, call: &str) -> String {
        let found = self.names.iter().find(|(_, name)| *name == call);
        found.map_or(call, |(id, _)| id).to_owned()
    }

    /// Brings everything in line with the plan, until only something from outside can help.
    fn go_on(&mut self) {
        for _ in 0..MOST_STEPS {
            self.catch_up();
            let plan = self.plan();
            self.check(&plan);
            // These end without a word.
            let waits =
                |flight: &Effect| matches!(flight, Effect::SleepUntil { .. } | Effect::List { .. });
            self.flights.retain(|flight| plan.effects.contains(flight) || !waits(flight));
            if !plan.append.is_empty() {
                self.append_plan(plan);
            } else if !(self.mend() || self.start(plan.effects)) {
                return;
            }
        }
        panic!("the harness turns in circles: {:?}", self.plan());
    }

    fn append_plan(&mut self, plan: Plan) {
        let seen_input = self.state.head;
        if plan.rests_on_silence && !self.late.is_empty() {
            let late = std::mem::take(&mut self.late);
            // A client that is too late for what it wanted is told so.
            let _ = self.put(late);
        }
        if plan.rests_on_silence && seen_input < self.input_head {
            return;
        }
        self.append_lines(plan.append);
        self.catch_up();
        assert_eq!(plan.releases, self.status() == Status::Idle, "a lease is kept or lost");
    }

    /// Ends or searches what a former life has left under way.
    fn mend(&mut self) -> bool {
        for effect in step::open_effects(&self.state) {
            if self.flights.contains(&effect) {
                continue;
            }
            if let Effect::Model { thread, .. } = &effect {
                let span = self.state.threads[0].span.clone().unwrap();
                let usage = Usage::default();
                let lines = settle::closed_span(thread, &span.id, &usage, None, "restarted");
                self.append_lines(lines);
                return true;
            }
            self.flights.insert(effect);
        }
        false
    }

    fn start(&mut self, effects: Vec<Effect>) -> bool {
        let mut changed = false;
        for effect in effects {
            if self.flights.contains(&effect) {
                continue;
            }
            match &effect {
                Effect::SleepUntil { .. } | Effect::List { .. } => {
                    self.flights.insert(effect);
                }
                Effect::Tool { thread, call } => {
                    let started = ToolStarted { call: Arc::clone(call) };
                    let line = line::own_record(own::kind::TOOL_STARTED, thread, &started);
                    self.append_lines(vec![line]);
                    self.flights.insert(effect);
                }
                Effect::Model { .. } => self.ask(effect),
            }
            changed = true;
        }
        changed
    }

    fn ask(&mut self, effect: Effect) {
        let thread = script::thread();
        let resolved = Resolved {
            provider: Arc::new(script::Silent),
            model: "model".to_owned(),
            spec: Arc::new(self.spec.clone()),
        };
        let of = &self.state.threads[0];
        let tools = self.toolbox().offer(self.spec.window, &of.loaded);
        let Ok(context) = context::build(&self.state, of, &resolved, tools) else {
            let (state, summary) = (&self.state.threads[0], &self.state.summary.threads[0]);
            let failure = script::failed(FailureKind::TooLong);
            let moment = Moment { now: self.now, chance: self.jitter };
            let agent = &self.state.agent;
            let lines = settle::after_failure(agent, state, summary, &failure, moment);
            return self.append_lines(lines);
        };
        rules::check_conversation(&context.request.items);
        let now = self.now;
        let span = Scribe { now, random: &mut || self.bytes() }.event_id();
        let sent = RequestSent {
            span: Arc::clone(&span),
            provider: "test".to_owned(),
            model: resolved.model.clone(),
            window: self.spec.window,
            attempt: self.state.threads[0].retry.map_or(0, |retry| retry.attempt),
            body_hash: String::new(),
            prefix_hash: String::new(),
            trimmed_before: context.trimmed_before,
        };
        let (state, agent) = (&self.state.threads[0], &self.state.agent);
        let model = state.model(agent).id.as_str();
        let substitute = (state.rank > 0).then_some((model, agent.model.id.as_str()));
        let start = line::request_start(&thread, &span, substitute);
        self.append_lines(vec![start, line::own_record(own::kind::REQUEST, &thread, &sent)]);
        self.asked = Some(Asked {
            span,
            provider: "test".into(),
            wire: posthouse_model::WireKind::Anthropic,
            model: resolved.model,
            spec: resolved.spec,
            fast: false,
            inference_geo: None,
        });
        self.request = Some(context.request);
        self.flights.insert(effect);
    }

    fn land_model(&mut self) -> (Effect, Asked) {
        let is_model = |flight: &&Effect| matches!(flight, Effect::Model { .. });
        let effect = self.flights.iter().find(is_model).expect("no model is asked").clone();
        self.flights.remove(&effect);
        (effect, self.asked.take().unwrap())
    }

    /// Appends what a client sends; the harness does not know of it yet.
    fn put(&mut self, mut events: Vec<ClientEvent>) -> Result<(Vec<String>, bool), String> {
        let mut answers = false;
        for event in &mut events {
            if let ClientEvent::Confirmation { call, .. }
            | ClientEvent::CustomToolResult { call, .. } = event
            {
                *call = self.event_of(call);
                answers = true;
            }
        }
        let known = if answers { self.known() } else { Known::new() };
        let (summary, stamp, now) = (self.summary(), self.stamp(), self.now);
        let (status, count) = (summary.status, events.len());
        let mut random = || self.bytes();
        let mut scribe = Scribe { now, random: &mut random };
        let events = input::write(events, &mut scribe);
        let accepted = input::accept(summary, events, &known, stamp, scribe);
        let Accepted { drafts, echo, wakes } = accepted.map_err(|error| error.message)?;
        assert_eq!(echo.len(), count, "each event has its echo");
        if !drafts.is_empty() {
            self.append(drafts);
            self.input_head = self.head();
        }
        let working = self.summary().status.is_working();
        assert!(status.is_working() || wakes == working, "who has work is woken, nobody else");
        Ok((echo, wakes))
    }

    /// What is known of calls and their answers, as the API finds it in the log.
    fn known(&self) -> Known {
        let mut known = Known::new();
        for record in &self.records {
            let id = match &*record.kind {
                wire::AGENT_TOOL_USE | wire::AGENT_MCP_TOOL_USE | wire::AGENT_CUSTOM_TOOL_USE => {
                    "id"
                }
                wire::USER_TOOL_CONFIRMATION => "tool_use_id",
                wire::USER_CUSTOM_TOOL_RESULT => "custom_tool_use_id",
                _ => continue,
            };
            let payload: Value = serde_json::from_str(&record.payload).unwrap();
            let waits = !matches!(payload["evaluated_permission"].as_str(), Some("allow" | "deny"));
            let earlier = event::render(&record.kind, &record.payload, Some(record.at));
            if waits {
                let call = payload[id].as_str().unwrap().to_owned();
                known.insert(call, (id != "id").then_some(earlier));
            }
        }
        known
    }

    pub(super) fn append_lines(&mut self, lines: Vec<Line>) {
        let (now, summary) = (self.now, self.state.summary.clone());
        let drafts = Scribe { now, random: &mut || self.bytes() }.write(&summary, lines);
        self.append(drafts);
    }

    /// What the store does with an append.
    fn append(&mut self, drafts: Vec<Draft>) {
        let stamp = self.stamp();
        let fence = self.fence;
        let record = |(index, draft): (usize, Draft)| {
            let (seq, at) = stamp.of(index);
            let Draft { kind, thread, payload, .. } = draft;
            Record { seq, at, fence, kind: kind.into(), thread, payload }
        };
        let records: Vec<_> = drafts.into_iter().enumerate().map(record).collect();
        let document = self.document.clone();
        let folded =
            sessions::fold_row(self.row.as_deref(), &records, &|| Ok(document.clone())).unwrap();
        self.row = Some(folded.fold);
        self.document = folded.document.unwrap_or(document);
        let last = records.last().map(|record| &*record.kind);
        assert_eq!(folded.ends_turn, last == Some(wire::STATUS_IDLE));
        self.records.extend(records);
    }

    /// Folds what is new, and holds the rules of every log against it.
    fn catch_up(&mut self) {
        let from = usize::try_from(self.state.head).unwrap();
        for index in from..self.records.len() {
            let record = &self.records[index];
            self.state.apply(record).unwrap();
            self.rules.see(record, &self.state);
            self.names.extend(trace::call_names(record));
            if self.thorough {
                let again = State::fold(&self.records[..=index]).unwrap();
                assert_eq!(format!("{again:?}"), format!("{:?}", self.state));
                assert_eq!(step::step(&again, &self.limits), self.plan());
            }
            if self.thorough && index + 1 == self.records.len() {
                assert_eq!(self.summary(), self.state.summary, "the row is the fold");
            }
        }
    }

    /// What holds of a plan between any two appends.
    fn check(&self, plan: &Plan) {
        let distinct: BTreeSet<_> = plan.effects.iter().collect();
        assert_eq!(distinct.len(), plan.effects.len(), "an effect is planned twice");
        if self.status().is_working() {
            let open = step::open_effects(&self.state);
            let idle = plan.append.is_empty() && plan.effects.is_empty() && open.is_empty();
            assert!(!idle, "the session is at work, and nothing would ever happen");
        } else {
            assert_eq!(plan, &Plan::default(), "a session at rest plans nothing");
        }
    }

    fn stamp(&self) -> Stamp {
        let last = self.records.last().map_or(self.now, |last| last.at.plus(1));
        Stamp::new(self.head() + 1, self.now.max(last))
    }

    fn head(&self) -> Seq {
        Seq::try_from(self.records.len()).unwrap()
    }

    fn bytes(&mut self) -> [u8; 16] {
        self.minted += 1;
        let mut bytes = [0; 16];
        // An id is made of the bytes modulo 62: small numbers stay different.
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digit = self.minted / 62u64.pow(u32::try_from(place.min(9)).unwrap()) % 62;
            *byte = u8::try_from(digit).unwrap();
        }
        bytes
    }
}
