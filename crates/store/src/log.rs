//! The log: appends under their rules, reads, and the session's row.
//!
//! ```text
//!   1 … … … … … … … input_head … head │ next append
//!   └── finished turns ──┘└─ this turn ─┘
//! ```
//! An append gives its records the next places, links them to the chain, folds them into the
//! session's row and is told to watchers, in one transaction and in that order. Nothing in here
//! knows what a record means.

use std::sync::Arc;

use posthouse_protocol::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter, types::Value};

use crate::{
    Database, Draft, Error, Preview, Record, Seq, Tail, Tick,
    answers::{self, Post},
    record::hash_link,
    tail::Hub,
};

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
    connection: &'a Connection,
}

impl Glance<'_> {
    /// The large part of the fold.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub fn document(&self) -> Result<String, Error> {
        document_of(self.connection, self.row.number)
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
    /// Only what comes after this session in the list's order.
    pub after: Option<(Micros, String)>,
    /// At most so many.
    pub limit: usize,
}

const ROW: &str = "id, number, workspace, agent, agent_version, environment, created_at, \
    archived_at, fence, holder, shown, status, head, input_head, last_at, chain_hash, fold";

/// The logs of all sessions in one database. Clones share it.
#[derive(Clone)]
pub struct Log {
    database: Database,
    fold: Arc<Fold>,
    hub: Hub,
}

impl Log {
    /// A log whose rows follow `fold`.
    #[must_use]
    pub fn new(database: Database, fold: Arc<Fold>) -> Self {
        Self { database, fold, hub: Hub::default() }
    }

    /// The database below.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Makes a session with its first records. `claim` takes the lease at once.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn create(
        &self,
        new: NewSession,
        drafts: Vec<Draft>,
        claim: Option<String>,
        post: Option<Post>,
        answer: impl FnOnce(&SessionRow, &str) -> Result<String, Error> + Send + 'static,
    ) -> Result<Answered, Error> {
        let fold = Arc::clone(&self.fold);
        self.database
            .write(move |connection| {
                if let Some(answered) = repeated(connection, post.as_ref())? {
                    return Ok(answered);
                }
                let number: i64 = connection
                    .prepare_cached(
                        "UPDATE counters SET value = value + 1 WHERE name = 'session' RETURNING value",
                    )?
                    .query_row([], |row| row.get(0))?;
                let mut row = SessionRow {
                    id: new.id,
                    number,
                    workspace: new.workspace,
                    agent: new.agent,
                    environment: new.environment,
                    created_at: new.at,
                    archived_at: None,
                    fence: 1,
                    holder: claim,
                    shown: 0,
                    status: String::new(),
                    head: 0,
                    input_head: 0,
                    last_at: new.at.plus(-1),
                    chain_hash: String::new(),
                    fold: String::new(),
                };
                let stamp = row.stamp(new.at);
                let records = insert(connection, &mut row, &drafts, stamp)?;
                let none = || Err(Error::Damaged("a new session has no document".into()));
                let folded = fold(None, &records, &none)?;
                row.take(&folded);
                row.input_head = row.head;
                insert_row(connection, &row)?;
                let document = folded.document.unwrap_or_default();
                keep_document(connection, number, &document)?;
                let answer = answer(&row, &document)?;
                keep_answer(connection, post.as_ref(), answer)
            })
            .await
    }

    /// Appends what a client has sent. No lease is needed. `accept` sees the row as it is and
    /// decides; when it refuses, nothing has happened.
    ///
    /// # Errors
    /// [`InputError`]
    pub async fn append_input<E: Send + 'static>(
        &self,
        session: &str,
        now: Micros,
        post: Option<Post>,
        accept: impl FnOnce(&Glance<'_>) -> Result<Input, E> + Send + 'static,
    ) -> Result<Answered, InputError<E>> {
        let fold = Arc::clone(&self.fold);
        let hub = self.hub.clone();
        let id: Arc<str> = session.into();
        let watched = Arc::clone(&id);
        let told = self.hub.clone();
        let result = self
            .database
            .write_then(
                move |connection| {
                    if let Some(answered) = repeated(connection, post.as_ref())? {
                        return Ok((answered, Arc::from([])));
                    }
                    let mut row = row_of(connection, &id)?.ok_or(InputError::Missing)?;
                    let stamp = row.stamp(now);
                    let glance = Glance { row: &row, stamp, connection };
                    let Input { drafts, answer, claim } =
                        accept(&glance).map_err(InputError::Refused)?;
                    let records = insert(connection, &mut row, &drafts, stamp)?;
                    if !records.is_empty() {
                        if let Some(claim) = claim
                            && row.holder.is_none()
                        {
                            row.holder = Some(claim);
                            row.fence += 1;
                        }
                        row.input_head = row.head;
                        advance(connection, &*fold, &mut row, &records, hub.is_watched(&id))?;
                    }
                    Ok((keep_answer(connection, post.as_ref(), answer)?, records))
                },
                move |(_, records): &(Answered, Arc<[Record]>)| {
                    if !records.is_empty() {
                        told.tell(&watched, || Tick::Records(Arc::clone(records)));
                    }
                },
            )
            .await;
        result.map(|(answered, _)| answered)
    }

    /// Appends what a harness has done under its lease.
    ///
    /// # Errors
    /// [`WorkError`]
    pub async fn append_work(
        &self,
        session: &str,
        fence: i64,
        now: Micros,
        work: Work,
    ) -> Result<Appended, WorkError> {
        let fold = Arc::clone(&self.fold);
        let hub = self.hub.clone();
        let id: Arc<str> = session.into();
        let watched = Arc::clone(&id);
        let told = self.hub.clone();
        self.database
            .write_then(
                move |connection| {
                    let mut row = row_of(connection, &id)?.ok_or(WorkError::Stale)?;
                    if row.fence != fence {
                        return Err(WorkError::Stale);
                    }
                    if work.seen_input.is_some_and(|seen| seen < row.input_head) {
                        return Err(WorkError::Overtaken);
                    }
                    let after = row.head;
                    let stamp = row.stamp(now);
                    let records = insert(connection, &mut row, &work.drafts, stamp)?;
                    for (hash, body) in &work.blobs {
                        connection
                            .prepare_cached(
                                "INSERT INTO session_blobs (session, hash, body) \
                                 VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                            )
                            .and_then(|mut insert| insert.execute(params![row.number, hash, body]))
                            .map_err(Error::from)?;
                    }
                    if work.release {
                        row.holder = None;
                    }
                    advance(connection, &*fold, &mut row, &records, hub.is_watched(&id))?;
                    Ok(Appended { records, after })
                },
                move |appended: &Appended| {
                    told.tell(&watched, || Tick::Records(Arc::clone(&appended.records)));
                },
            )
            .await
    }

    /// Takes a session's lease for `holder`, unless somebody else has it. Writes nothing when
    /// `holder` has it already. `None` when it can't be had or there is no such session.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn claim(&self, session: &str, holder: &str) -> Result<Option<SessionRow>, Error> {
        let Some(row) = self.row(session)? else { return Ok(None) };
        match &row.holder {
            Some(current) if current == holder => return Ok(Some(row)),
            Some(_) => return Ok(None),
            None => {}
        }
        let (session, holder) = (session.to_owned(), holder.to_owned());
        self.database
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE sessions SET fence = fence + 1, holder = $1 \
                         WHERE id = $2 AND holder IS NULL",
                    )?
                    .execute(params![holder, session])?;
                let row = row_of(connection, &session)?;
                Ok(row.filter(|row| row.holder.as_deref() == Some(&holder)))
            })
            .await
    }

    /// Gives a session's lease back without an append.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn release(&self, session: &str, fence: i64) -> Result<(), Error> {
        let session = session.to_owned();
        self.database
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE sessions SET holder = NULL WHERE id = $1 AND fence = $2",
                    )?
                    .execute(params![session, fence])?;
                Ok(())
            })
            .await
    }

    /// Ends every lease in this database: whoever held one is dead, because the folder's lock
    /// is ours. Returns the sessions that were at work, by the statuses given.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn take_over(&self, working: &'static [&'static str]) -> Result<Vec<String>, Error> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE sessions SET fence = fence + 1, holder = NULL \
                     WHERE holder IS NOT NULL",
                    [],
                )?;
                let mut sessions = Vec::new();
                for status in working {
                    let mut select = connection
                        .prepare_cached("SELECT id FROM sessions WHERE status = $1 ORDER BY number")?;
                    for id in select.query_map([status], |row| row.get(0))? {
                        sessions.push(id?);
                    }
                }
                Ok(sessions)
            })
            .await
    }

    /// Notes that the end of the turn at `seq` has been shown to somebody.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn mark_shown(&self, session: &str, seq: Seq) -> Result<(), Error> {
        let session = session.to_owned();
        self.database
            .write(move |connection| {
                connection
                    .prepare_cached("UPDATE sessions SET shown = $1 WHERE id = $2 AND shown < $1")?
                    .execute(params![seq, session])?;
                Ok(())
            })
            .await
    }

    /// Deletes a session with everything that hangs on it, if `permit` agrees.
    ///
    /// # Errors
    /// [`InputError`]
    pub async fn delete<E: Send + 'static>(
        &self,
        session: &str,
        permit: impl FnOnce(&SessionRow) -> Result<(), E> + Send + 'static,
    ) -> Result<(), InputError<E>> {
        let id = session.to_owned();
        let watched = id.clone();
        let hub = self.hub.clone();
        self.database
            .write_then(
                move |connection| {
                    let row = row_of(connection, &id)?.ok_or(InputError::Missing)?;
                    permit(&row).map_err(InputError::Refused)?;
                    for table in ["records", "session_documents", "session_blobs"] {
                        connection
                            .execute(&format!("DELETE FROM {table} WHERE session = $1"), [row.number])
                            .map_err(Error::from)?;
                    }
                    connection
                        .execute("DELETE FROM sessions WHERE number = $1", [row.number])
                        .map_err(Error::from)?;
                    Ok(())
                },
                move |()| hub.tell(&watched, || Tick::Deleted),
            )
            .await
    }

    /// A session's row.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub fn row(&self, session: &str) -> Result<Option<SessionRow>, Error> {
        self.database.read(|connection| row_of(connection, session))
    }

    /// The large part of a session's fold.
    ///
    /// # Errors
    /// [`Error`] when the store fails or there is none.
    pub fn document(&self, number: i64) -> Result<String, Error> {
        self.database.read(|connection| document_of(connection, number))
    }

    /// A row and its document as of one moment.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub fn row_and_document(&self, session: &str) -> Result<Option<(SessionRow, String)>, Error> {
        self.database.read(|connection| {
            let sql = format!(
                "SELECT {ROW}, (SELECT body FROM session_documents WHERE session = number) \
                 FROM sessions WHERE id = $1"
            );
            let mut select = connection.prepare_cached(&sql)?;
            Ok(select
                .query_row([session], |row| Ok((read_row(row)?, row.get(17)?)))
                .optional()?)
        })
    }

    /// Lists sessions with their documents. The order is by age and, within one age, by id.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn list(&self, filter: SessionFilter) -> Result<Vec<(SessionRow, String)>, Error> {
        self.database.read_many(move |connection| list(connection, &filter)).await
    }

    /// Reads a part of a log on the calling thread.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub fn read(&self, number: i64, range: &Range) -> Result<Vec<Record>, Error> {
        self.database.read(|connection| read(connection, number, range))
    }

    /// Reads a part of a log, however long.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn read_many(&self, number: i64, range: Range) -> Result<Vec<Record>, Error> {
        self.database.read_many(move |connection| read(connection, number, &range)).await
    }

    /// Walks the chain of a whole log and returns the first place that does not hold.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn verify(&self, number: i64) -> Result<Option<Seq>, Error> {
        self.database.read_many(move |connection| verify(connection, number)).await
    }

    /// Starts to watch a session. What is appended from now on will be heard.
    #[must_use]
    pub fn watch(&self, session: &str) -> Tail {
        self.hub.watch(session)
    }

    /// Whether anybody watches a session.
    #[must_use]
    pub fn is_watched(&self, session: &str) -> bool {
        self.hub.is_watched(session)
    }

    /// Shows the watchers of a session, if there are any, what is not in the log yet.
    pub fn preview(&self, session: &str, preview: impl FnOnce() -> Preview) {
        self.hub.tell(session, || Tick::Preview(Arc::new(preview())));
    }
}

impl SessionRow {
    fn stamp(&self, now: Micros) -> Stamp {
        // A clock that was set back must not make a log run backwards.
        Stamp { first: self.head + 1, at: now.max(self.last_at.plus(1)) }
    }

    fn take(&mut self, folded: &Folded) {
        self.status = folded.status.to_owned();
        self.fold.clone_from(&folded.fold);
        self.archived_at = folded.archived_at;
    }
}

fn repeated(connection: &Connection, post: Option<&Post>) -> Result<Option<Answered>, Error> {
    let Some(post) = post else { return Ok(None) };
    let kept = answers::find_kept(connection, post)?;
    Ok(kept.map(|kept| Answered { answer: kept.answer, id: Some(kept.id) }))
}

fn keep_answer(
    connection: &Connection,
    post: Option<&Post>,
    answer: String,
) -> Result<Answered, Error> {
    let id = post.map(|post| answers::keep(connection, post, &answer)).transpose()?;
    Ok(Answered { answer, id })
}

fn insert(
    connection: &Connection,
    row: &mut SessionRow,
    drafts: &[Draft],
    stamp: Stamp,
) -> Result<Arc<[Record]>, Error> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO records \
         (session, seq, at, fence, kind, thread, payload, salt, payload_hash, chain_hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )?;
    let mut records = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let (seq, at) = stamp.of(index);
        row.chain_hash = hash_link(&row.chain_hash, seq, draft.kind, &draft.payload_hash);
        insert.execute(params![
            row.number,
            seq,
            at.0,
            row.fence,
            draft.kind,
            draft.thread,
            draft.payload,
            draft.salt,
            draft.payload_hash,
            row.chain_hash,
        ])?;
        row.head = seq;
        row.last_at = at;
        records.push(Record {
            seq,
            at,
            fence: row.fence,
            kind: draft.kind.into(),
            thread: Arc::clone(&draft.thread),
            payload: Arc::clone(&draft.payload),
        });
    }
    Ok(records.into())
}

/// Folds new records into the row and writes it.
fn advance(
    connection: &Connection,
    fold: &Fold,
    row: &mut SessionRow,
    records: &[Record],
    watched: bool,
) -> Result<(), Error> {
    let folded = fold(Some(&row.fold), records, &|| document_of(connection, row.number))?;
    row.take(&folded);
    if folded.ends_turn && watched {
        row.shown = row.head;
    }
    connection
        .prepare_cached(
            "UPDATE sessions SET archived_at = $1, fence = $2, holder = $3, shown = $4, \
             status = $5, head = $6, input_head = $7, last_at = $8, chain_hash = $9, fold = $10 \
             WHERE id = $11",
        )?
        .execute(params![
            row.archived_at.map(|at| at.0),
            row.fence,
            row.holder,
            row.shown,
            row.status,
            row.head,
            row.input_head,
            row.last_at.0,
            row.chain_hash,
            row.fold,
            row.id,
        ])?;
    match folded.document {
        Some(document) => keep_document(connection, row.number, &document),
        None => Ok(()),
    }
}

fn insert_row(connection: &Connection, row: &SessionRow) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO sessions ({ROW}) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        row.id,
        row.number,
        row.workspace,
        row.agent.0,
        row.agent.1,
        row.environment,
        row.created_at.0,
        row.archived_at.map(|at| at.0),
        row.fence,
        row.holder,
        row.shown,
        row.status,
        row.head,
        row.input_head,
        row.last_at.0,
        row.chain_hash,
        row.fold,
    ])?;
    Ok(())
}

fn keep_document(connection: &Connection, number: i64, document: &str) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO session_documents (session, body) VALUES ($1, $2) \
             ON CONFLICT (session) DO UPDATE SET body = $2",
        )?
        .execute(params![number, document])?;
    Ok(())
}

fn document_of(connection: &Connection, number: i64) -> Result<String, Error> {
    Ok(connection
        .prepare_cached("SELECT body FROM session_documents WHERE session = $1")?
        .query_row([number], |row| row.get(0))?)
}

fn row_of(connection: &Connection, session: &str) -> Result<Option<SessionRow>, Error> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {ROW} FROM sessions WHERE id = $1"))?;
    Ok(select.query_row([session], read_row).optional()?)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get(0)?,
        number: row.get(1)?,
        workspace: row.get(2)?,
        agent: (row.get(3)?, row.get(4)?),
        environment: row.get(5)?,
        created_at: Micros(row.get(6)?),
        archived_at: row.get::<_, Option<i64>>(7)?.map(Micros),
        fence: row.get(8)?,
        holder: row.get(9)?,
        shown: row.get(10)?,
        status: row.get(11)?,
        head: row.get(12)?,
        input_head: row.get(13)?,
        last_at: Micros(row.get(14)?),
        chain_hash: row.get(15)?,
        fold: row.get(16)?,
    })
}

fn read(connection: &Connection, number: i64, range: &Range) -> Result<Vec<Record>, Error> {
    let mut sql = String::from(
        "SELECT seq, at, fence, kind, thread, payload FROM records \
         WHERE session = ? AND seq > ? AND seq < ?",
    );
    let mut values: Vec<Value> = vec![number.into(), range.after.into(), range.before.into()];
    for (time, comparison) in [(range.times.0, ">="), (range.times.1, "<=")] {
        if let Some(time) = time {
            sql.push_str(&format!(" AND at {comparison} ?"));
            values.push(time.0.into());
        }
    }
    push_choices(&mut sql, &mut values, "kind", &range.kinds);
    sql.push_str(if range.newest_first { " ORDER BY seq DESC" } else { " ORDER BY seq" });
    sql.push_str(" LIMIT ?");
    values.push(i64::try_from(range.limit).unwrap_or(i64::MAX).into());
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| {
        Ok(Record {
            seq: row.get(0)?,
            at: Micros(row.get(1)?),
            fence: row.get(2)?,
            kind: row.get(3)?,
            thread: row.get(4)?,
            payload: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn list(connection: &Connection, filter: &SessionFilter) -> Result<Vec<(SessionRow, String)>, Error> {
    let mut sql = format!(
        "SELECT {ROW}, (SELECT body FROM session_documents WHERE session = number) \
         FROM sessions WHERE workspace = ?"
    );
    let mut values: Vec<Value> = vec![filter.workspace.clone().into()];
    if let Some(agent) = &filter.agent {
        sql.push_str(" AND agent = ?");
        values.push(agent.clone().into());
        if let Some(version) = filter.agent_version {
            sql.push_str(" AND agent_version = ?");
            values.push(version.into());
        }
    }
    push_choices(&mut sql, &mut values, "status", &filter.statuses);
    if !filter.archived {
        sql.push_str(" AND archived_at IS NULL");
    }
    for (time, comparison) in [(filter.times.0, ">="), (filter.times.1, "<=")] {
        if let Some(time) = time {
            sql.push_str(&format!(" AND created_at {comparison} ?"));
            values.push(time.0.into());
        }
    }
    let (comparison, direction) = if filter.oldest_first { (">", "") } else { ("<", " DESC") };
    if let Some((at, id)) = &filter.after {
        sql.push_str(&format!(" AND (created_at, id) {comparison} (?, ?)"));
        values.extend([at.0.into(), id.clone().into()]);
    }
    sql.push_str(&format!(" ORDER BY created_at{direction}, id{direction} LIMIT ?"));
    values.push(i64::try_from(filter.limit).unwrap_or(i64::MAX).into());
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select
        .query_map(params_from_iter(values), |row| Ok((read_row(row)?, row.get(17)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn push_choices(sql: &mut String, values: &mut Vec<Value>, column: &str, choices: &[String]) {
    if !choices.is_empty() {
        let marks = vec!["?"; choices.len()].join(", ");
        sql.push_str(&format!(" AND {column} IN ({marks})"));
        values.extend(choices.iter().cloned().map(Value::from));
    }
}

fn verify(connection: &Connection, number: i64) -> Result<Option<Seq>, Error> {
    let mut select = connection.prepare(
        "SELECT seq, kind, payload, salt, payload_hash, chain_hash FROM records \
         WHERE session = $1 ORDER BY seq",
    )?;
    let mut rows = select.query([number])?;
    let (mut previous, mut expected) = (String::new(), 1);
    while let Some(row) = rows.next()? {
        let (seq, kind): (Seq, String) = (row.get(0)?, row.get(1)?);
        let (payload, salt): (String, String) = (row.get(2)?, row.get(3)?);
        let (payload_hash, chain): (String, String) = (row.get(4)?, row.get(5)?);
        let holds = seq == expected
            && crate::record::hash_payload(&salt, &payload) == payload_hash
            && hash_link(&previous, seq, &kind, &payload_hash) == chain;
        if !holds {
            return Ok(Some(expected));
        }
        (previous, expected) = (chain, seq + 1);
    }
    Ok(None)
}
