//! The log: appends under their rules, reads, and the session's row.
//!
//! ```text
//!   1 … … … … … … … input_head … head │ next append
//!   └── finished turns ──┘└─ this turn ─┘
//! ```
//! An append gives its records the next places, links them to the chain, folds them into the
//! session's row and is told to watchers, in one transaction and in that order. Nothing in here
//! knows what a record means.

mod statements;
mod terms;

use std::sync::Arc;

use posthouse_protocol::Micros;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    Database, Draft, Error, Preview, Record, Seq, Tail, Tick,
    answers::Post,
    tables::{files, sandbox_records},
    tail::Hub,
};
#[cfg(test)]
pub(crate) use statements::verify as first_damage;
use statements::{
    ROW, advance, blob_of, document_of, insert, insert_row, keep_answer, keep_document, list,
    next_number, read, read_row, repeated, row_of, verify,
};
pub use terms::{
    Answered, Appended, Fold, Folded, Glance, Handed, Input, InputError, NewSession, Range,
    SessionFilter, SessionRow, Stamp, Work, WorkError,
};

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
        self.create_with(new, drafts, claim, post, |_, row, document| answer(row, document)).await
    }

    /// Like [`Self::create`], for a session that comes with rows of other tables: `finish` writes
    /// them in the same transaction, and makes the answer. When it refuses, there is no session.
    ///
    /// # Errors
    /// Those of `finish`, and [`Error`] when the store fails.
    pub async fn create_with<E: From<Error> + Send + 'static>(
        &self,
        new: NewSession,
        drafts: Vec<Draft>,
        claim: Option<String>,
        post: Option<Post>,
        finish: impl FnOnce(&Connection, &SessionRow, &str) -> Result<String, E> + Send + 'static,
    ) -> Result<Answered, E> {
        let fold = Arc::clone(&self.fold);
        self.database
            .write(move |connection| {
                if let Some(answered) = repeated(connection, post.as_ref())? {
                    return Ok(answered);
                }
                let number = next_number(connection)?;
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
                let answer = finish(connection, &row, &document)?;
                Ok(keep_answer(connection, post.as_ref(), answer)?)
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
        self.database
            .write_then(
                move |connection| {
                    if let Some(answered) = repeated(connection, post.as_ref())? {
                        return Ok(answered);
                    }
                    let mut row = row_of(connection, &id)?.ok_or(InputError::Missing)?;
                    let before = row.standing();
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
                        let watched = hub.is_watched(&id);
                        advance(connection, &*fold, &mut row, &before, &records, watched)?;
                    }
                    let mut answered = keep_answer(connection, post.as_ref(), answer)?;
                    answered.appended =
                        (!records.is_empty()).then(|| Box::new(Handed { row, records }));
                    Ok(answered)
                },
                move |answered: &Answered| {
                    if let Some(appended) = &answered.appended {
                        told.tell(&watched, || Tick::Records(Arc::clone(&appended.records)));
                    }
                },
            )
            .await
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
                    let before = row.standing();
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
                    let watched = hub.is_watched(&id);
                    advance(connection, &*fold, &mut row, &before, &records, watched)?;
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

    /// Ends every lease in this database: whoever held one is dead, because the folder's lock
    /// is ours. Returns the sessions that were at work.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn take_over(&self) -> Result<Vec<String>, Error> {
        self.database
            .write(move |connection| {
                connection.execute(
                    "UPDATE sessions SET fence = fence + 1, holder = NULL \
                     WHERE holder IS NOT NULL",
                    [],
                )?;
                // The same words as in the index of sessions at work.
                let mut select = connection.prepare(
                    "SELECT id FROM sessions WHERE status IN ('running', 'rescheduling')",
                )?;
                let sessions = select.query_map([], |row| row.get(0))?;
                Ok(sessions.collect::<Result<_, _>>()?)
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
                    files::delete_of_session(connection, &id)?;
                    sandbox_records::delete_of_session(connection, &id)?;
                    for table in
                        ["records", "session_documents", "session_blobs", "session_outputs"]
                    {
                        connection
                            .execute(
                                &format!("DELETE FROM {table} WHERE session = $1"),
                                [row.number],
                            )
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
            Ok(select.query_row([session], |row| Ok((read_row(row)?, row.get(17)?))).optional()?)
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

    /// A large text that records of a session name by its hash.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn blob(&self, number: i64, hash: Arc<str>) -> Result<Option<String>, Error> {
        self.database.read_many(move |connection| blob_of(connection, number, &hash)).await
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
