//! The words of the log's contract: what is appended, what comes of it, why not.

use std::sync::Arc;

use posthouse_protocol::Micros;
use rusqlite::Connection;

use super::statements;
use crate::{Draft, Error, Record, Seq};

/// What the records of an append make of a session's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The session's status, one word.
    pub status: &'static str,
    /// The small fold, JSON, which every append rewrites.
    pub fold: String,
    /// The large part, when these records have changed it.
    pub document: Option<String>,
    /// Whether these records end with the end of a turn.
    pub ends_turn: bool,
    /// When the session was archived, if it was.
    pub archived_at: Option<Micros>,
}

/// The fold over a log: the small fold so far (`None` for a new session), the next records, and
/// a way to the large part as it stands, for the few records that change it.
pub type Fold = dyn Fn(Option<&str>, &[Record], &dyn Fn() -> Result<String, Error>) -> Result<Folded, Error>
    + Send
    + Sync;

/// A session's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The session's id.
    pub id: String,
    /// Its number in this database.
    pub number: i64,
    /// The workspace that owns it.
    pub workspace: String,
    /// The agent's id and version.
    pub agent: (String, i64),
    /// The environment's id.
    pub environment: String,
    /// When it was made.
    pub created_at: Micros,
    /// When it was archived.
    pub archived_at: Option<Micros>,
    /// The fencing number that the next append of work must carry.
    pub fence: i64,
    /// Who works on it: a process' boot id.
    pub holder: Option<String>,
    /// The place up to which the end of a turn has been shown to somebody.
    pub shown: Seq,
    /// The session's status, one word of the fold.
    pub status: String,
    /// The place of the last record.
    pub head: Seq,
    /// The place of the last record that a client has caused.
    pub input_head: Seq,
    /// When the last record was appended.
    pub last_at: Micros,
    /// The last link of the chain.
    pub chain_hash: String,
    /// The small fold, JSON.
    pub fold: String,
}

/// The places and times that the next append will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    first: Seq,
    at: Micros,
}

impl Stamp {
    /// The places from `first` on, at and after a time.
    #[must_use]
    pub fn new(first: Seq, at: Micros) -> Self {
        Self { first, at }
    }

    /// Place and time of the record with that index in the append.
    #[must_use]
    pub fn of(self, index: usize) -> (Seq, Micros) {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        // One microsecond apart, so that times order the log without ties.
        (self.first + index, self.at.plus(index))
    }
}

/// A session as an input finds it.
pub struct Glance<'a> {
    /// The row.
    pub row: &'a SessionRow,
    /// The places and times that the input's records will have.
    pub stamp: Stamp,
    pub(super) connection: &'a Connection,
}

impl Glance<'_> {
    /// The large part of the fold.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub fn document(&self) -> Result<String, Error> {
        statements::document_of(self.connection, self.row.number)
    }
}

/// A new session.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: String,
    /// The workspace that owns it.
    pub workspace: String,
    /// The agent's id and version.
    pub agent: (String, i64),
    /// The environment's id.
    pub environment: String,
    /// When it is made.
    pub at: Micros,
}

/// What a client's input becomes.
#[derive(Debug)]
pub struct Input {
    /// The records, possibly none.
    pub drafts: Vec<Draft>,
    /// What the client is answered, JSON.
    pub answer: String,
    /// Who takes the session's lease with this append, when it is free and the input wakes it.
    pub claim: Option<String>,
}

/// An answer to a client, durable together with what it says.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What the client is answered, JSON.
    pub answer: String,
    /// The answer's id, for telling when it was written out whole; `None` when it is not kept.
    pub id: Option<String>,
    /// What was appended, for whoever goes on with it; `None` when nothing was.
    pub appended: Option<Box<Handed>>,
}

/// A session as an append has left it.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The row behind the append.
    pub row: SessionRow,
    /// The records of the append.
    pub records: Arc<[Record]>,
}

/// Why an input was not appended.
#[derive(Debug, thiserror::Error)]
pub enum InputError<E> {
    /// There is no such session.
    #[error("no such session")]
    Missing,
    /// The session does not take it.
    #[error("the session refused the input")]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Work of a harness.
#[derive(Debug, Default)]
pub struct Work {
    /// The records.
    pub drafts: Vec<Draft>,
    /// Large texts that they name by hash.
    pub blobs: Vec<(String, Arc<str>)>,
    /// The last input that was considered, when the records rest on there being no more.
    pub seen_input: Option<Seq>,
    /// Whether the lease ends with this append.
    pub release: bool,
}

/// What an append of work has done.
#[derive(Debug)]
pub struct Appended {
    /// The records as they stand in the log.
    pub records: Arc<[Record]>,
    /// The head before them: what a reader must have seen to go on with them.
    pub after: Seq,
}

/// Why work was not appended.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Somebody else holds the session, or it is gone. Stop.
    #[error("another harness holds the session")]
    Stale,
    /// A client was faster. Fold its input and think again.
    #[error("newer input stands in the log")]
    Overtaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A part of a log to read.
#[derive(Debug, Clone)]
pub struct Range {
    /// Records after this place.
    pub after: Seq,
    /// Records before this place.
    pub before: Seq,
    /// At most so many.
    pub limit: usize,
    /// Newest first.
    pub newest_first: bool,
    /// Only these kinds; all when empty.
    pub kinds: Vec<String>,
    /// Only records appended at or after this time, and at or before the other.
    pub times: (Option<Micros>, Option<Micros>),
}

impl Range {
    /// The first record alone: what the session was opened with.
    #[must_use]
    pub fn first() -> Self {
        Self { before: 2, ..Self::after(0) }
    }

    /// Everything after a place.
    #[must_use]
    pub fn after(after: Seq) -> Self {
        Self {
            after,
            before: Seq::MAX,
            limit: usize::MAX,
            newest_first: false,
            kinds: Vec::new(),
            times: (None, None),
        }
    }
}

/// Which sessions a list shows.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// The workspace whose sessions are listed.
    pub workspace: String,
    /// Only sessions of this agent.
    pub agent: Option<String>,
    /// Only sessions of this version of it.
    pub agent_version: Option<i64>,
    /// Only these statuses; all when empty.
    pub statuses: Vec<String>,
    /// Whether archived sessions are shown.
    pub archived: bool,
    /// Made at or after, at or before.
    pub times: (Option<Micros>, Option<Micros>),
    /// Oldest first.
    pub oldest_first: bool,
    /// Only what comes after this session in the list's order. It lies inside of `times`.
    pub after: Option<(Micros, String)>,
    /// At most so many.
    pub limit: usize,
}

/// What of a row changes with few appends.
#[derive(PartialEq)]
pub(super) struct Standing {
    status: String,
    holder: Option<String>,
    fence: i64,
    archived_at: Option<Micros>,
}

impl SessionRow {
    pub(super) fn standing(&self) -> Standing {
        Standing {
            status: self.status.clone(),
            holder: self.holder.clone(),
            fence: self.fence,
            archived_at: self.archived_at,
        }
    }

    pub(super) fn stamp(&self, now: Micros) -> Stamp {
        // A clock that was set back must not make a log run backwards.
        Stamp { first: self.head + 1, at: now.max(self.last_at.plus(1)) }
    }

    pub(super) fn take(&mut self, folded: &Folded) {
        self.status = folded.status.to_owned();
        self.fold.clone_from(&folded.fold);
        self.archived_at = folded.archived_at;
    }
}
