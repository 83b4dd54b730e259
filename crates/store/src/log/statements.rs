//! The statements of the log. Each runs inside somebody else's transaction.

use std::sync::Arc;

use posthouse_protocol::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter, types::Value};

use super::{Answered, Fold, Range, SessionFilter, SessionRow, Stamp, terms::Standing};
use crate::{
    Draft, Error, Record, Seq,
    answers::{self, Post},
    record::{hash_link, hash_payload},
};

pub(super) const ROW: &str = "id, number, workspace, agent, agent_version, environment, created_at, \
    archived_at, fence, holder, shown, status, head, input_head, last_at, chain_hash, fold";

pub(super) fn repeated(
    connection: &Connection,
    post: Option<&Post>,
) -> Result<Option<Answered>, Error> {
    let Some(post) = post else { return Ok(None) };
    let kept = answers::find_kept(connection, post)?;
    Ok(kept.map(|kept| Answered { answer: kept.answer, id: Some(kept.id), appended: None }))
}

pub(super) fn keep_answer(
    connection: &Connection,
    post: Option<&Post>,
    answer: String,
) -> Result<Answered, Error> {
    let id = post.map(|post| answers::keep(connection, post, &answer)).transpose()?;
    Ok(Answered { answer, id, appended: None })
}

/// The number of the next session.
pub(super) fn next_number(connection: &Connection) -> Result<i64, Error> {
    Ok(connection
        .prepare_cached(
            "UPDATE counters SET value = value + 1 WHERE name = 'session' RETURNING value",
        )?
        .query_row([], |row| row.get(0))?)
}

pub(super) fn insert(
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

/// Folds new records into the row and writes it. `before` is how the session stood.
pub(super) fn advance(
    connection: &Connection,
    fold: &Fold,
    row: &mut SessionRow,
    before: &Standing,
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
            "UPDATE sessions SET shown = $1, head = $2, input_head = $3, last_at = $4, \
             chain_hash = $5, fold = $6 WHERE id = $7",
        )?
        .execute(params![
            row.shown,
            row.head,
            row.input_head,
            row.last_at.0,
            row.chain_hash,
            row.fold,
            row.id,
        ])?;
    // Indexed columns are written anew even when they stay as they are: most appends leave them.
    if row.standing() != *before {
        connection
            .prepare_cached(
                "UPDATE sessions SET archived_at = $1, fence = $2, holder = $3, status = $4 \
                 WHERE id = $5",
            )?
            .execute(params![
                row.archived_at.map(|at| at.0),
                row.fence,
                row.holder,
                row.status,
                row.id,
            ])?;
    }
    match folded.document {
        Some(document) => keep_document(connection, row.number, &document),
        None => Ok(()),
    }
}

pub(super) fn insert_row(connection: &Connection, row: &SessionRow) -> Result<(), Error> {
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

pub(super) fn keep_document(
    connection: &Connection,
    number: i64,
    document: &str,
) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO session_documents (session, body) VALUES ($1, $2) \
             ON CONFLICT (session) DO UPDATE SET body = $2",
        )?
        .execute(params![number, document])?;
    Ok(())
}

pub(super) fn document_of(connection: &Connection, number: i64) -> Result<String, Error> {
    Ok(connection
        .prepare_cached("SELECT body FROM session_documents WHERE session = $1")?
        .query_row([number], |row| row.get(0))?)
}

pub(super) fn blob_of(
    connection: &Connection,
    number: i64,
    hash: &str,
) -> Result<Option<String>, Error> {
    Ok(connection
        .prepare_cached("SELECT body FROM session_blobs WHERE session = $1 AND hash = $2")?
        .query_row(params![number, hash], |row| row.get(0))
        .optional()?)
}

pub(super) fn row_of(connection: &Connection, session: &str) -> Result<Option<SessionRow>, Error> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {ROW} FROM sessions WHERE id = $1"))?;
    Ok(select.query_row([session], read_row).optional()?)
}

pub(super) fn read_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
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

pub(super) fn read(
    connection: &Connection,
    number: i64,
    range: &Range,
) -> Result<Vec<Record>, Error> {
    let mut select =
        Select::new("SELECT seq, at, fence, kind, thread, payload FROM records WHERE ");
    select.first("session =", number);
    select.and("seq >", range.after);
    select.and("seq <", range.before);
    if let Some(first) = range.times.0 {
        select.and("at >=", first.0);
    }
    if let Some(last) = range.times.1 {
        select.and("at <=", last.0);
    }
    select.and_one_of("kind", &range.kinds);
    let order = if range.newest_first { "seq DESC" } else { "seq" };
    select.end(order, range.limit);
    select.run(connection, |row| {
        Ok(Record {
            seq: row.get(0)?,
            at: Micros(row.get(1)?),
            fence: row.get(2)?,
            kind: row.get(3)?,
            thread: row.get(4)?,
            payload: row.get(5)?,
        })
    })
}

pub(super) fn list(
    connection: &Connection,
    filter: &SessionFilter,
) -> Result<Vec<(SessionRow, String)>, Error> {
    let order = match filter.oldest_first {
        true => "created_at, id",
        false => "created_at DESC, id DESC",
    };
    let mut select = Select::new(format!(
        "SELECT {ROW}, (SELECT body FROM session_documents WHERE session = number) FROM ("
    ));
    let stretches = filter.stretches();
    if stretches.is_empty() {
        return Ok(Vec::new());
    }
    for (index, stretch) in stretches.iter().enumerate() {
        let joint = if index == 0 { "" } else { " UNION ALL " };
        select.sql.push_str(&format!("{joint}SELECT * FROM (SELECT {ROW} FROM sessions WHERE "));
        one_stretch(&mut select, filter, stretch);
        select.end(order, filter.limit);
        select.sql.push_str(&format!(") AS stretch_{index}"));
    }
    // Cut before the documents are read.
    select.end(order, filter.limit);
    select.sql.push_str(&format!(") AS page ORDER BY {order}"));
    select.run(connection, |row| Ok((read_row(row)?, row.get(17)?)))
}

/// The conditions of a list, for one stretch of an index.
fn one_stretch(select: &mut Select, filter: &SessionFilter, stretch: &Stretch) {
    // The few at work are looked through: an index by agent would lead to all that the agent has.
    let bare = match stretch {
        Stretch::Place(..) => "",
        Stretch::AtWork(_) => " || ''",
    };
    select.first(&format!("workspace{bare} ="), filter.workspace.clone());
    if let Some(agent) = &filter.agent {
        select.and(&format!("agent{bare} ="), agent.clone());
        if let Some(version) = filter.agent_version {
            select.and("agent_version =", version);
        }
    }
    match stretch {
        Stretch::Place(place, statuses) => {
            select.and(&format!("{PLACE} ="), (*place).to_owned());
            select.and_one_of("status", statuses);
        }
        Stretch::AtWork(statuses) => {
            // To the letter as in the index.
            select.sql.push_str(" AND status IN ('running', 'rescheduling')");
            select.and_one_of("status", statuses);
        }
    }
    // A cursor lies inside of the times, so it takes the place of the bound on its side: beside
    // another one it would not be looked up, but every row before it passed over.
    let (from, to) = match &filter.after {
        Some(_) if filter.oldest_first => (None, filter.times.1),
        Some(_) => (filter.times.0, None),
        None => filter.times,
    };
    if let Some(first) = from {
        select.and("created_at >=", first.0);
    }
    if let Some(last) = to {
        select.and("created_at <=", last.0);
    }
    if let Some((at, id)) = &filter.after {
        let comparison = if filter.oldest_first { ">" } else { "<" };
        select.and(&format!("(created_at, id) {comparison} ("), at.0);
        select.sql.push_str(", ");
        select.bind(id.clone());
        select.sql.push(')');
    }
}

impl SessionFilter {
    /// The stretches of indexes that a list is merged from.
    fn stretches(&self) -> Vec<Stretch> {
        let asked = |status: &str| {
            self.statuses.is_empty() || self.statuses.iter().any(|one| one == status)
        };
        let mut stretches = Vec::new();
        let at_work: Vec<String> = ["running", "rescheduling"]
            .into_iter()
            .filter(|status| asked(status))
            .map(str::to_owned)
            .collect();
        if asked("idle") {
            // All but the few that are at work are idle.
            let all = at_work.len() == 2;
            let mut statuses = at_work;
            statuses.push("idle".to_owned());
            stretches.push(Stretch::Place("live", if all { Vec::new() } else { statuses }));
        } else if !at_work.is_empty() {
            stretches.push(Stretch::AtWork(at_work));
        }
        if asked("terminated") {
            stretches.push(Stretch::Place("terminated", Vec::new()));
            // An archived session is terminated.
            if self.archived {
                stretches.push(Stretch::Place("archived", Vec::new()));
            }
        }
        stretches
    }
}

/// Sessions that lie together in an index, in the order of lists.
enum Stretch {
    /// Those of a place, with one of these statuses; all of them when there is none.
    Place(&'static str, Vec<String>),
    /// Those at work, with one of these statuses. They are never many: each one is worked on.
    AtWork(Vec<String>),
}

/// Where a session stands in lists, to the letter as in the indexes. A turn does not move it, so
/// that it costs no index.
const PLACE: &str = "CASE WHEN archived_at IS NOT NULL THEN 'archived' \
    WHEN status = 'terminated' THEN 'terminated' ELSE 'live' END";

/// A query whose conditions depend on what is asked for.
struct Select {
    sql: String,
    values: Vec<Value>,
}

impl Select {
    /// A query that goes on.
    fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    /// Appends a parameter.
    fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql.push_str(&format!("${}", self.values.len()));
    }

    fn and(&mut self, comparison: &str, value: impl Into<Value>) {
        self.sql.push_str(&format!(" AND {comparison} "));
        self.bind(value);
    }

    /// The first condition.
    fn first(&mut self, comparison: &str, value: impl Into<Value>) {
        self.sql.push_str(&format!("{comparison} "));
        self.bind(value);
    }

    /// Any value will do when there are no choices.
    fn and_one_of(&mut self, column: &str, choices: &[String]) {
        for (index, choice) in choices.iter().enumerate() {
            let before = if index == 0 { format!(" AND {column} IN (") } else { ", ".to_owned() };
            self.sql.push_str(&before);
            self.bind(choice.clone());
        }
        if !choices.is_empty() {
            self.sql.push(')');
        }
    }

    fn end(&mut self, order: &str, limit: usize) {
        self.sql.push_str(&format!(" ORDER BY {order} LIMIT "));
        self.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    fn run<T>(
        self,
        connection: &Connection,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut select = connection.prepare_cached(&self.sql)?;
        let rows = select.query_map(params_from_iter(self.values), read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

pub(crate) fn verify(connection: &Connection, number: i64) -> Result<Option<Seq>, Error> {
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
            && hash_payload(&salt, &payload) == payload_hash
            && hash_link(&previous, seq, &kind, &payload_hash) == chain;
        if !holds {
            return Ok(Some(expected));
        }
        (previous, expected) = (chain, seq + 1);
    }
    Ok(None)
}
