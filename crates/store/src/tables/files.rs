//! Files as rows, and which contents they show. What is in a content is not known here.
//!
//! Several files may show one content: a session's copy of a file shows the content of the file
//! it was made of. A content counts against the quota once, until it is off the disk.

use std::collections::{BTreeSet, HashSet};

use posthouse_protocol::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{Error, blobs::NewBlob};

/// How long the row of an expired file can still be read, in microseconds: 30 days.
const READABLE: i64 = 30 * 24 * 3600 * 1_000_000;

const ROW: &str =
    "id, session, blob, filename, mime_type, size, downloadable, created_at, expires_at";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// `file_…`.
    pub id: String,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// Its content; none once it has expired.
    pub blob: Option<String>,
    /// Its name, one path component.
    pub filename: String,
    /// What is in it.
    pub mime_type: String,
    /// Its length in bytes.
    pub size: i64,
    /// Whether clients may fetch its content.
    pub downloadable: bool,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When its content goes, in microseconds.
    pub expires_at: Option<i64>,
}

impl FileRow {
    /// Whether its content may not be shown any more.
    #[must_use]
    pub fn is_expired(&self, now: Micros) -> bool {
        self.blob.is_none() || self.expires_at.is_some_and(|at| at <= now.0)
    }
}

/// A file to be, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// `file_…`.
    pub id: String,
    /// Its name, one path component.
    pub filename: String,
    /// What is in it.
    pub mime_type: String,
    /// When it is made.
    pub at: Micros,
    /// When its content goes.
    pub expires_at: Option<Micros>,
}

/// What has become of a file that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// It is stored.
    Stored(FileRow),
    /// All contents together would have more bytes than are allowed. Nothing is stored.
    QuotaExceeded,
    /// The session that it was to belong to is gone. Nothing is stored.
    SessionGone,
}

/// Which files a list shows.
#[derive(Debug, Clone, Default)]
pub struct FileFilter {
    /// The workspace whose files are listed.
    pub workspace: String,
    /// Only files of this session.
    pub session: Option<String>,
    /// Where the list goes on: the time and id of a file that is not part of it.
    pub place: Option<(i64, String)>,
    /// Whether the files wanted are newer than that place. They come newest first all the same.
    pub newer: bool,
    /// At most so many, next to the place.
    pub limit: usize,
}

/// Stores a file that a client has sent, with its content. `quota` is how many bytes all
/// contents may have together.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(
    connection: &Connection,
    workspace: &str,
    file: NewFile,
    content: &mut NewBlob,
    quota: u64,
) -> Result<Insertion, Error> {
    store(connection, workspace, None, file, content, quota)
}

/// Stores a file that a session has brought forth, with its content. It can be downloaded.
///
/// # Errors
/// [`Error::Database`].
pub fn insert_output(
    connection: &Connection,
    workspace: &str,
    session: &str,
    file: NewFile,
    content: &mut NewBlob,
    quota: u64,
) -> Result<Insertion, Error> {
    let there = connection
        .prepare_cached("SELECT 1 FROM sessions WHERE id = $1 AND workspace = $2")?
        .exists(params![session, workspace])?;
    if !there {
        return Ok(Insertion::SessionGone);
    }
    store(connection, workspace, Some(session), file, content, quota)
}

fn store(
    connection: &Connection,
    workspace: &str,
    session: Option<&str>,
    file: NewFile,
    content: &mut NewBlob,
    quota: u64,
) -> Result<Insertion, Error> {
    if !add_content(connection, content, quota)? {
        return Ok(Insertion::QuotaExceeded);
    }
    let row = FileRow {
        id: file.id,
        session: session.map(str::to_owned),
        blob: Some(content.id.clone()),
        filename: file.filename,
        mime_type: file.mime_type,
        size: length(content.size),
        downloadable: session.is_some(),
        created_at: file.at.0,
        expires_at: file.expires_at.map(|at| at.0),
    };
    insert_row(connection, workspace, &row)?;
    Ok(Insertion::Stored(row))
}

/// Makes a session's own copy of a file. It shows the same content, goes when that goes, and
/// can't be downloaded.
///
/// # Errors
/// [`Error::Database`].
pub fn copy(
    connection: &Connection,
    workspace: &str,
    source: &FileRow,
    session: &str,
    id: String,
    at: Micros,
) -> Result<FileRow, Error> {
    let row = FileRow {
        id,
        session: Some(session.to_owned()),
        downloadable: false,
        created_at: at.0,
        ..source.clone()
    };
    insert_row(connection, workspace, &row)?;
    Ok(row)
}

/// One file.
///
/// # Errors
/// [`Error::Database`].
pub fn find(connection: &Connection, workspace: &str, id: &str) -> Result<Option<FileRow>, Error> {
    let sql = format!("SELECT {ROW} FROM files WHERE id = $1 AND workspace = $2");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_row(params![id, workspace], read).optional()?)
}

/// Those of the named files that are there, the newest first.
///
/// # Errors
/// [`Error::Database`].
pub fn find_many(
    connection: &Connection,
    workspace: &str,
    ids: &BTreeSet<String>,
) -> Result<Vec<FileRow>, Error> {
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(find(connection, workspace, id)?);
    }
    rows.sort_by(|one: &FileRow, other| {
        (other.created_at, &other.id).cmp(&(one.created_at, &one.id))
    });
    Ok(rows)
}

/// Files, the newest first.
///
/// # Errors
/// [`Error::Database`].
pub fn list(connection: &Connection, filter: &FileFilter) -> Result<Vec<FileRow>, Error> {
    // Two texts, because a plan must not depend on what is bound.
    let scope = if filter.session.is_some() { "session = $2" } else { "$2 = ''" };
    let (comparison, order, end) = match filter.newer {
        true => (">", "created_at, id", (i64::MIN, "")),
        false => ("<", "created_at DESC, id DESC", (i64::MAX, "")),
    };
    let (at, id) = filter.place.as_ref().map_or(end, |(at, id)| (*at, id.as_str()));
    let sql = format!(
        "SELECT {ROW} FROM files WHERE workspace = $1 AND {scope} \
         AND (created_at, id) {comparison} ($3, $4) ORDER BY {order} LIMIT $5"
    );
    let session = filter.session.as_deref().unwrap_or_default();
    let limit = super::rows(filter.limit);
    let mut rows: Vec<FileRow> = connection
        .prepare_cached(&sql)?
        .query_map(params![filter.workspace, session, at, id, limit], read)?
        .collect::<Result<_, _>>()?;
    if filter.newer {
        rows.reverse();
    }
    Ok(rows)
}

/// Deletes a file, and what it was mounted as. Returns what it was.
///
/// # Errors
/// [`Error::Database`].
pub fn delete(
    connection: &Connection,
    workspace: &str,
    id: &str,
) -> Result<Option<FileRow>, Error> {
    let Some(row) = find(connection, workspace, id)? else { return Ok(None) };
    connection.prepare_cached("DELETE FROM session_resources WHERE file = $1")?.execute([id])?;
    delete_row(connection, &row)?;
    Ok(Some(row))
}

/// Deletes all files of a session, and all that is mounted into it.
///
/// # Errors
/// [`Error::Database`].
pub fn delete_of_session(connection: &Connection, session: &str) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM session_resources WHERE session = $1")?
        .execute([session])?;
    let sql = format!("SELECT {ROW} FROM files WHERE session = $1");
    let rows: Vec<FileRow> =
        connection.prepare_cached(&sql)?.query_map([session], read)?.collect::<Result<_, _>>()?;
    rows.iter().try_for_each(|row| delete_row(connection, row))
}

/// Takes their contents from files whose time has come, and forgets those whose time came 30
/// days ago. A session's copy is remembered as long as the session. Returns the sessions that
/// have lost something.
///
/// # Errors
/// [`Error::Database`].
pub fn expire(connection: &Connection, now: Micros) -> Result<BTreeSet<String>, Error> {
    let sql = format!("SELECT {ROW} FROM files WHERE expires_at <= $1 AND blob IS NOT NULL");
    let rows: Vec<FileRow> =
        connection.prepare_cached(&sql)?.query_map([now.0], read)?.collect::<Result<_, _>>()?;
    let mut sessions = BTreeSet::new();
    for row in rows {
        connection
            .prepare_cached("UPDATE files SET blob = NULL WHERE id = $1")?
            .execute([&row.id])?;
        if let Some(blob) = &row.blob {
            release(connection, blob)?;
        }
        sessions.extend(row.session);
    }
    connection
        .prepare_cached(
            "DELETE FROM files WHERE expires_at <= $1 AND blob IS NULL AND session IS NULL",
        )?
        .execute([now.0 - READABLE])?;
    Ok(sessions)
}

/// How many bytes all contents have together.
///
/// # Errors
/// [`Error::Database`].
pub fn total(connection: &Connection) -> Result<u64, Error> {
    let total: i64 = connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'blob_bytes'")?
        .query_row([], |row| row.get(0))?;
    Ok(u64::try_from(total).unwrap_or(0))
}

/// Makes a content known, unless there would be too many bytes then.
///
/// # Errors
/// [`Error::Database`].
pub(crate) fn add_content(
    connection: &Connection,
    content: &mut NewBlob,
    quota: u64,
) -> Result<bool, Error> {
    if total(connection)?.saturating_add(content.size) > quota {
        return Ok(false);
    }
    connection
        .prepare_cached("INSERT INTO blobs (id, size, sha256, dead) VALUES ($1, $2, $3, 0)")?
        .execute(params![content.id, length(content.size), content.sha256])?;
    count(connection, length(content.size))?;
    // When the commit fails after all, the next start deletes the content.
    content.keep();
    Ok(true)
}

/// All contents that rows know, dead ones as well.
///
/// # Errors
/// [`Error::Database`].
pub(crate) fn contents(connection: &Connection) -> Result<HashSet<String>, Error> {
    let mut select = connection.prepare_cached("SELECT id FROM blobs")?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// The contents that no file shows any more.
///
/// # Errors
/// [`Error::Database`].
pub(crate) fn dead(connection: &Connection) -> Result<Vec<String>, Error> {
    let mut select = connection.prepare_cached("SELECT id FROM blobs WHERE dead = 1")?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Forgets a dead content, which is off the disk.
///
/// # Errors
/// [`Error::Database`].
pub(crate) fn forget(connection: &Connection, blob: &str) -> Result<(), Error> {
    let size: Option<i64> = connection
        .prepare_cached("DELETE FROM blobs WHERE id = $1 AND dead = 1 RETURNING size")?
        .query_row([blob], |row| row.get(0))
        .optional()?;
    // Two may have buried it at the same time.
    size.map_or(Ok(()), |size| count(connection, -size))
}

pub(super) fn delete_row(connection: &Connection, row: &FileRow) -> Result<(), Error> {
    connection.prepare_cached("DELETE FROM files WHERE id = $1")?.execute([&row.id])?;
    row.blob.as_deref().map_or(Ok(()), |blob| release(connection, blob))
}

/// A content has one file less. It is only ever shown by files that were made of files that
/// showed it: once there is none, there will be none.
fn release(connection: &Connection, blob: &str) -> Result<(), Error> {
    connection
        .prepare_cached(
            "UPDATE blobs SET dead = 1 \
             WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM files WHERE blob = $1)",
        )?
        .execute([blob])?;
    Ok(())
}

fn count(connection: &Connection, bytes: i64) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE counters SET value = value + $1 WHERE name = 'blob_bytes'")?
        .execute([bytes])?;
    Ok(())
}

fn insert_row(connection: &Connection, workspace: &str, row: &FileRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO files (id, workspace, session, blob, filename, mime_type, size, \
             downloadable, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )?
        .execute(params![
            row.id,
            workspace,
            row.session,
            row.blob,
            row.filename,
            row.mime_type,
            row.size,
            i64::from(row.downloadable),
            row.created_at,
            row.expires_at,
        ])?;
    Ok(())
}

fn length(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> rusqlite::Result<FileRow> {
    Ok(FileRow {
        id: row.get(0)?,
        session: row.get(1)?,
        blob: row.get(2)?,
        filename: row.get(3)?,
        mime_type: row.get(4)?,
        size: row.get(5)?,
        downloadable: row.get::<_, i64>(6)? != 0,
        created_at: row.get(7)?,
        expires_at: row.get(8)?,
    })
}
