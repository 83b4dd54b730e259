//! The whole fold: what a harness knows of a session, and all that it knows.
//!
//! `State::apply` is the only way in. It reads no clock, no database and no configuration, so
//! that the same records always give the same state.

mod payload;
mod thread;

use std::{collections::VecDeque, sync::Arc};

use posthouse_model::Item;
use posthouse_protocol::{
    Micros,
    agent::SessionAgent,
    environment::{Config, Networking},
    event::kind as wire,
};
use posthouse_store::{Record, Seq};
use serde_json::value::RawValue;

use self::payload::{Named, Said, SystemSaid, Updated};
pub use self::thread::{Call, Duty, Ending, Entry, Phase, Span, Thread};
use crate::{
    own::{self, InputTaken, SessionOpened},
    summary::{Status, Summary, parse},
};

/// A session as its harness sees it.
#[derive(Debug, Clone)]
pub struct State {
    /// The small fold.
    pub summary: Summary,
    /// The place of the last record folded in.
    pub head: Seq,
    /// The session's id.
    pub session: String,
    /// When the session was opened.
    pub opened_at: Micros,
    /// The agent, overrides and updates included.
    pub agent: Arc<SessionAgent>,
    /// Its vaults, in the order in which they are looked through.
    pub vaults: Arc<[String]>,
    /// Where its environment lets it connect to.
    pub networking: Networking,
    /// The threads; the primary one is the first.
    pub threads: Vec<Thread>,
    /// Input that no thread has taken yet, oldest first.
    pub queue: VecDeque<Queued>,
}

/// Client input that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The place of its record.
    pub seq: Seq,
    /// The event's id.
    pub id: Arc<str>,
    /// What it is.
    pub input: QueuedInput,
}

/// What waits.
#[derive(Debug, Clone)]
pub enum QueuedInput {
    /// A `user.message`: its content blocks.
    Message(Arc<RawValue>),
    /// A `system.message`: its text.
    System(String),
    /// A `user.interrupt`.
    Interrupt,
}

impl PartialEq for QueuedInput {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Message(a), Self::Message(b)) => a.get() == b.get(),
            (Self::System(a), Self::System(b)) => a == b,
            (Self::Interrupt, Self::Interrupt) => true,
            _ => false,
        }
    }
}

impl Eq for QueuedInput {}

impl State {
    /// The state before the first record.
    #[must_use]
    pub fn new(agent: Arc<SessionAgent>) -> Self {
        Self {
            summary: Summary::default(),
            head: 0,
            session: String::new(),
            opened_at: Micros::default(),
            agent,
            vaults: Arc::from([]),
            networking: nowhere(),
            threads: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// Folds a log from its first record on.
    ///
    /// # Errors
    /// A sentence, when the log is not what this version writes.
    pub fn fold(records: &[Record]) -> Result<Self, String> {
        let first = records.first().ok_or("the log is empty")?;
        let opened: SessionOpened = parse(first)?;
        let mut state = Self::new(Arc::new(opened.agent));
        for record in records {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// Folds the next record in.
    ///
    /// # Errors
    /// A sentence, when the record is not what this version writes or not the next one.
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        if record.seq != self.head + 1 {
            return Err(format!("record {} follows record {}", record.seq, self.head));
        }
        let mut threads = self.summary.threads.iter();
        let was_idle = threads.any(|one| one.id == record.thread && one.status == Status::Idle);
        self.summary.apply(record)?;
        self.head = record.seq;
        match &*record.kind {
            own::kind::SESSION_OPENED => {
                let opened: SessionOpened = parse(record)?;
                self.session = opened.session;
                self.opened_at = record.at;
                self.vaults = opened.vault_ids.into();
                self.networking = networking(&opened.config);
                self.threads = vec![Thread::new(opened.thread)];
            }
            wire::SESSION_UPDATED => {
                let updated: Updated = parse(record)?;
                if let Some(agent) = updated.agent {
                    // A turn that waits for its client goes on with the models that it now has.
                    let same =
                        agent.model == self.agent.model && agent.posthouse == self.agent.posthouse;
                    if !same {
                        self.threads.iter_mut().for_each(Thread::begin_with_the_first);
                    }
                    if agent.mcp_servers != self.agent.mcp_servers {
                        self.threads.iter_mut().for_each(Thread::forget_lists);
                    }
                    self.agent = Arc::new(agent);
                }
            }
            wire::USER_MESSAGE => {
                let said: Said = parse(record)?;
                self.wait(record.seq, said.id, QueuedInput::Message(said.content));
            }
            wire::SYSTEM_MESSAGE => {
                let said: SystemSaid = parse(record)?;
                let text: Vec<_> = said.content.into_iter().map(|block| block.text).collect();
                self.wait(record.seq, said.id, QueuedInput::System(text.join("\n\n")));
            }
            wire::USER_INTERRUPT => {
                let named: Named = parse(record)?;
                self.wait(record.seq, named.id, QueuedInput::Interrupt);
            }
            own::kind::INPUT_TAKEN => {
                let taken: InputTaken = parse(record)?;
                self.take(record, &taken)?;
            }
            _ => {
                if let Some(thread) = self.thread_mut(&record.thread) {
                    thread.apply(record, was_idle)?;
                }
            }
        }
        Ok(())
    }

    /// A thread by its id.
    pub fn thread(&self, id: &str) -> Option<&Thread> {
        self.threads.iter().find(|thread| &*thread.id == id)
    }

    fn thread_mut(&mut self, id: &str) -> Option<&mut Thread> {
        self.threads.iter_mut().find(|thread| &*thread.id == id)
    }

    fn wait(&mut self, seq: Seq, id: Arc<str>, input: QueuedInput) {
        self.queue.push_back(Queued { seq, id, input });
    }

    fn take(&mut self, record: &Record, taken: &InputTaken) -> Result<(), String> {
        let position = self.queue.iter().position(|queued| queued.seq == taken.seq);
        let queued = position
            .and_then(|position| self.queue.remove(position))
            .ok_or_else(|| format!("record {} takes {} twice", record.seq, taken.id))?;
        let Some(thread) = self.thread_mut(&record.thread) else { return Ok(()) };
        match queued.input {
            QueuedInput::Message(content) => {
                let tokens = estimate(content.get());
                thread.hear(record.seq, Item::User(content), tokens);
            }
            QueuedInput::System(text) => {
                let tokens = estimate(&text);
                thread.hear(record.seq, Item::System(text), tokens);
            }
            QueuedInput::Interrupt => {
                if thread.phase != Phase::Rest {
                    thread.phase = Phase::End(Ending::EndTurn);
                }
            }
        }
        Ok(())
    }
}

/// Where an environment of that configuration lets its sessions connect to. What can't be read lets
/// them connect to nothing.
fn networking(config: &RawValue) -> Networking {
    match serde_json::from_str(config.get()) {
        Ok(Config::Cloud { networking, .. }) => networking,
        Err(_) => nowhere(),
    }
}

fn nowhere() -> Networking {
    Networking::Limited {
        allowed_hosts: Vec::new(),
        allow_mcp_servers: false,
        allow_package_managers: false,
    }
}

/// About how many tokens a piece of JSON fills: four bytes each, and a base64 source counts as
/// one picture or page, whatever its size.
#[must_use]
pub fn estimate(json: &str) -> u64 {
    const PICTURE_TOKENS: u64 = 1_600;
    const BYTES_PER_TOKEN: usize = 4;
    let (mut bytes, mut pictures, mut rest) = (0, 0, json);
    while let Some(found) = rest.find("\"base64\"") {
        // A source is a flat object whose data has no braces, before its type or behind it.
        let start = rest[..found].rfind('{').unwrap_or(found);
        let end = rest[found..].find('}').map_or(rest.len(), |length| found + length);
        bytes += start;
        pictures += 1;
        rest = &rest[end..];
    }
    bytes += rest.len();
    (bytes / BYTES_PER_TOKEN) as u64 + pictures * PICTURE_TOKENS + 1
}

/// A list with one text block.
#[must_use]
pub fn text_block(text: &str) -> Arc<RawValue> {
    let blocks = serde_json::json!([{ "type": "text", "text": text }]);
    serde_json::value::to_raw_value(&blocks)
        .map_or_else(|error| unreachable!("plain JSON has a text: {error}"), Arc::from)
}
