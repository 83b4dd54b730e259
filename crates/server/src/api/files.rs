//! `/v1/files`: takes files in, shows them, hands out and deletes them.
//!
//! Contents pass in pieces between the connection and the disk; none is ever held in memory
//! whole. What is in one is only data: nothing of it becomes a path or is looked at beyond its
//! first bytes.

use std::{
    collections::BTreeSet,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use multer::{Field, Multipart};
use posthouse_protocol::{
    ApiError, ErrorKind, Micros,
    fields::wrong,
    file::{self, File, Scope},
    id::IdKind,
    page::{Cursor, Order, Position},
    query::Query,
    schema::{files as schema, lists},
};
use posthouse_store::{
    BlobError, Blobs, NewBlob,
    tables::files::{self, FileFilter, FileRow, Insertion, NewFile},
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    Answer, Call, Refusal, Shared,
    call::{now, refuse_encoding},
};

const LIST: &str = "files";

/// How many bytes of a form may be neither content nor over: its boundaries, its heads, and what
/// has been read and not looked at.
const SLACK: u64 = 2 << 20;

/// The longest text part, in bytes.
const LONGEST_TEXT: usize = 64;

/// How much of a content is read from the disk at once, in bytes.
const PIECE: usize = 128 << 10;

/// An upload: the request, and its body on its way in.
pub struct Upload {
    call: Call,
    body: Body,
}

impl FromRequest<Shared> for Upload {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let (call, body) = Call::split(request, app).await?;
        Ok(Self { call, body })
    }
}

/// `POST /v1/files`.
///
/// # Errors
/// 400 that names the part, `storage_quota_exceeded`; 413.
pub async fn upload(Upload { mut call, body }: Upload) -> Result<Answer, Refusal> {
    call.no_query()?;
    refuse_encoding(&call)?;
    let limits = call.app.files;
    let length = call.header("content-length").and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.max_bytes.saturating_add(SLACK)) {
        return Err(too_large(limits.max_bytes).into());
    }
    if call.app.database.read(files::total)? >= limits.quota_bytes {
        return Err(quota_exceeded().into());
    }
    let content_type = call.header("content-type").unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(|_| {
        let right = "send multipart/form-data with a boundary";
        wrong("content-type", &format!("is {content_type:?}"), right)
    })?;
    let form = read_form(body, boundary, &call.app.blobs, limits.max_bytes).await?;
    let Form { file, expires_in_seconds } = form;
    let Some(Part { filename, mime_type, mut content }) = file else {
        return Err(wrong("file", "is missing", "send the file as a part of that name").into());
    };
    let mime_type =
        file::mime_type(mime_type.as_deref(), &content.head, filename.as_deref().unwrap_or(""))?;
    let filename = file::filename(filename.as_deref(), &mime_type)?;
    // A retry is known by what has come, and its time runs from when it was there.
    call.at = now();
    let expires_at = match &expires_in_seconds {
        Some(text) => Some(file::expiry(text, call.at)?),
        None => None,
    };
    let told = (&content.sha256, &filename, &mime_type, &expires_in_seconds);
    call.stand_in(serde_json::to_vec(&told)?.into());
    let new =
        NewFile { id: call.mint(IdKind::File)?, filename, mime_type, at: call.at, expires_at };
    let workspace = Arc::clone(&call.principal.workspace);
    call.once(move |connection| {
        let quota = limits.quota_bytes;
        match files::insert(connection, &workspace, new, &mut content, quota)? {
            Insertion::Stored(row) => Ok(serde_json::to_string(&shown(row))?),
            Insertion::QuotaExceeded | Insertion::SessionGone => Err(quota_exceeded().into()),
        }
    })
    .await
}

/// The parts of a form.
#[derive(Default)]
struct Form {
    file: Option<Part>,
    expires_in_seconds: Option<String>,
}

/// The part `file`.
struct Part {
    filename: Option<String>,
    mime_type: Option<String>,
    content: NewBlob,
}

/// Reads a form whose parts come in any order.
async fn read_form(
    body: Body,
    boundary: String,
    blobs: &Blobs,
    limit: u64,
) -> Result<Form, Refusal> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut parts = Multipart::new(paced(body, Arc::clone(&taken)), boundary);
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        let twice = match name.as_str() {
            name if name == schema::FILE.name => form.file.is_some(),
            name if name == schema::EXPIRES_IN.name => form.expires_in_seconds.is_some(),
            _ => {
                return Err(ApiError::invalid(format!(
                    "Failed to parse request body: unknown field {name:?}"
                ))
                .into());
            }
        };
        if twice {
            return Err(wrong(&name, "is sent twice", "send it once").into());
        }
        match name.as_str() {
            name if name == schema::FILE.name => {
                form.file = Some(read_file(part, blobs, limit, &taken).await?)
            }
            _ => form.expires_in_seconds = Some(read_text(part, &taken).await?),
        }
    }
    Ok(form)
}

async fn read_file(
    mut part: Field<'_>,
    blobs: &Blobs,
    limit: u64,
    taken: &AtomicU64,
) -> Result<Part, Refusal> {
    let text = |name: &str| Some(part.headers().get(name)?.as_bytes());
    if text("content-disposition").is_some_and(|value| find(value, b"filename*")) {
        let right = "send it as filename, in UTF-8";
        return Err(wrong("file.filename", "comes as filename*", right).into());
    }
    let mime_type = text("content-type").map(|value| String::from_utf8_lossy(value).into_owned());
    let filename = part.file_name().map(str::to_owned);
    let (sender, mut receiver) = mpsc::channel::<Option<Bytes>>(4);
    let blobs = blobs.clone();
    // Ends with the channel: a request that is dropped leaves nothing.
    let writing = tokio::task::spawn_blocking(move || {
        let mut incoming = blobs.begin(limit)?;
        while let Some(piece) = receiver.blocking_recv() {
            match piece {
                Some(piece) => incoming.write(&piece)?,
                None => return incoming.finish().map(Some),
            }
        }
        Ok(None)
    });
    loop {
        let piece = part.chunk().await.map_err(broken)?;
        let is_end = piece.is_none();
        if let Some(piece) = &piece {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        // A writer that has gone says why below.
        if sender.send(piece).await.is_err() || is_end {
            break;
        }
    }
    drop(sender);
    match writing.await {
        Ok(Ok(Some(content))) => Ok(Part { filename, mime_type, content }),
        Ok(Err(BlobError::TooLarge { limit })) => Err(too_large(limit).into()),
        Ok(Err(error)) => Err(Refusal::Fault(Box::new(error))),
        Ok(Ok(None)) | Err(_) => Err(Refusal::Fault("an upload was not written".into())),
    }
}

async fn read_text(mut part: Field<'_>, taken: &AtomicU64) -> Result<String, Refusal> {
    let name = part.name().unwrap_or_default().to_owned();
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(broken)? {
        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        text.extend_from_slice(&piece);
        if text.len() > LONGEST_TEXT {
            return Err(wrong(&name, "is too long", "send a whole number").into());
        }
    }
    String::from_utf8(text).map_err(|_| wrong(&name, "is no UTF-8", "send a whole number").into())
}

/// A body as the form's reader gets it. That reader takes whatever is ready into its memory, and
/// waits for the end of a head however long it is: so it gets one piece at a time, and no more
/// than a bound beyond what has gone on to the disk.
fn paced(
    body: Body,
    taken: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Send {
    let start = (body.into_data_stream(), taken, 0_u64);
    stream::try_unfold(start, |(mut pieces, taken, given)| async move {
        tokio::task::yield_now().await;
        let Some(piece) = pieces.next().await else { return Ok(None) };
        let piece = piece?;
        let given = given + piece.len() as u64;
        if given > taken.load(Ordering::Relaxed).saturating_add(SLACK) {
            return Err(Box::from(TooMuchAround));
        }
        Ok(Some((piece, (pieces, taken, given))))
    })
}

/// A form that consists of something else than its parts.
#[derive(Debug, thiserror::Error)]
#[error("more than {SLACK} bytes are not in a part")]
struct TooMuchAround;

/// What a form that can't be read means for its sender.
fn broken(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(cause) if cause.is::<TooMuchAround>() => wrong(
            "request body",
            &cause.to_string(),
            "send a part named file and, if you like, one named expires_in_seconds",
        ),
        multer::Error::StreamReadFailed(_)
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteStream => {
            ApiError::invalid("request body: was cut; send it whole")
        }
        other => wrong(
            "request body",
            &format!("is no form ({other})"),
            "send multipart/form-data (RFC 7578)",
        ),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(ErrorKind::TooLarge, format!("file: is larger than {limit} bytes; send less"))
}

fn quota_exceeded() -> ApiError {
    ApiError::invalid("The storage for files is full; delete files or raise files.quota_bytes.")
        .with_code("storage_quota_exceeded")
}

/// A list as the wire shows it: for clients that follow `next_page`, and for those that go by
/// ids.
#[derive(Serialize)]
struct List {
    data: Vec<File>,
    next_page: Option<String>,
    has_more: bool,
    first_id: Option<String>,
    last_id: Option<String>,
}

/// `GET /v1/files`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let ids: BTreeSet<String> = query.many(&lists::IDS).into_iter().collect();
    let scope = query.one(&lists::SCOPE)?;
    let wanted = Wanted::take(&mut query)?;
    query.finish(&lists::FILES)?;
    let workspace = Arc::clone(&call.principal.workspace);
    if !ids.is_empty() {
        let most = *lists::IDS.lengths().end();
        if ids.len() > most {
            let what = format!("has {} entries", ids.len());
            return Err(wrong(lists::IDS.name, &what, &format!("send at most {most}")).into());
        }
        if wanted.is_paged() {
            return Err(wrong("ids", "comes with a page", "leave out one of them").into());
        }
        let find = move |connection: &_| files::find_many(connection, &workspace, &ids);
        let mut rows = call.app.database.read_many(find).await?;
        rows.retain(|row| scope.is_none() || row.session == scope);
        return answer(rows, false, None);
    }
    let default = usize::try_from(lists::LIMIT_1000.default_integer()).unwrap_or_default();
    let limit = wanted.limit.unwrap_or(default);
    let (mut rows, newer) = call
        .app
        .database
        .read_many(move |connection| {
            let (place, newer) = wanted.place(connection, &workspace)?;
            let filter = FileFilter {
                workspace: workspace.to_string(),
                session: scope,
                place,
                newer,
                limit: limit + 1,
            };
            Ok::<_, Refusal>((files::list(connection, &filter)?, newer))
        })
        .await?;
    let more = rows.len() > limit;
    if more && newer {
        rows.remove(0);
    }
    rows.truncate(limit);
    let position = |row: &FileRow| Position { number: row.created_at, id: row.id.clone() };
    // The list goes on in the direction in which it was asked for.
    let next = match (more, newer) {
        (false, _) => None,
        (true, false) => rows.last().map(|row| Cursor::after(LIST, Order::Desc, position(row))),
        (true, true) => rows.first().map(|row| Cursor::before(LIST, Order::Desc, position(row))),
    };
    answer(rows, more, next)
}

fn answer(rows: Vec<FileRow>, has_more: bool, next: Option<Cursor>) -> Result<Answer, Refusal> {
    let list = List {
        next_page: next.map(|cursor| cursor.encode()),
        has_more,
        first_id: rows.first().map(|row| row.id.clone()),
        last_id: rows.last().map(|row| row.id.clone()),
        data: rows.into_iter().map(shown).collect(),
    };
    Ok(Answer::new(serde_json::to_string(&list)?))
}

/// Which part of the list is asked for.
struct Wanted {
    limit: Option<usize>,
    cursor: Option<Cursor>,
    after: Option<String>,
    before: Option<String>,
}

impl Wanted {
    fn take(query: &mut Query) -> Result<Self, ApiError> {
        let limit = query.integer(&lists::LIMIT_1000)?;
        let wanted = Self {
            limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            cursor: query.page(&lists::PAGE, LIST, Order::Desc)?,
            after: query.one(&lists::AFTER_ID)?,
            before: query.one(&lists::BEFORE_ID)?,
        };
        if wanted.after.is_some() && wanted.before.is_some() {
            return Err(wrong("before_id", "comes with after_id", "leave out one of them"));
        }
        Ok(wanted)
    }

    fn is_paged(&self) -> bool {
        let named = self.after.is_some() || self.before.is_some();
        self.limit.is_some() || self.cursor.is_some() || named
    }

    /// Where the list goes on, and whether to the newer files.
    fn place(
        self,
        connection: &posthouse_store::tables::Connection,
        workspace: &str,
    ) -> Result<(Option<(i64, String)>, bool), Refusal> {
        // A pager repeats the query of the first page: its cursor leads further than the id.
        if let Some(Cursor { backward, position, .. }) = self.cursor {
            return Ok((Some((position.number, position.id)), backward));
        }
        let (name, id, newer) = match (self.after, self.before) {
            (Some(id), _) => ("after_id", id, false),
            (None, Some(id)) => ("before_id", id, true),
            (None, None) => return Ok((None, false)),
        };
        let row = files::find(connection, workspace, &id)?.ok_or_else(|| {
            wrong(name, &format!("{id:?} is no file"), "send an id that the list has shown")
        })?;
        Ok((Some((row.created_at, row.id)), newer))
    }
}

/// `GET /v1/files/{file}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    Ok(Answer::new(serde_json::to_string(&shown(find_row(&call)?))?))
}

/// `GET /v1/files/{file}/content`.
///
/// # Errors
/// 404, also `file_expired`; 400 `file_not_downloadable`.
pub async fn content(call: Call) -> Result<Response, Refusal> {
    call.no_query()?;
    let row = find_row(&call)?;
    let blob = match &row.blob {
        Some(blob) if !row.is_expired(call.at) => blob.clone(),
        _ => return Err(expired(&row.id).into()),
    };
    if !row.downloadable {
        let message = format!("File '{}' is not downloadable", row.id);
        return Err(ApiError::invalid(message).with_code("file_not_downloadable").into());
    }
    let blobs = call.app.blobs.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let source = blobs.read(&blob)?;
        let length = source.metadata()?.len();
        Ok::<_, std::io::Error>((source, length))
    });
    let (source, length) = match opened.await.map_err(fault)? {
        Ok(opened) => opened,
        Err(error) => {
            // It may have been deleted since its row was read; then that is the answer.
            find_row(&call)?;
            return Err(fault(error));
        }
    };
    if i64::try_from(length) != Ok(row.size) {
        return Err(Refusal::Fault(format!("the content of {} is not whole", row.id).into()));
    }
    let mut response = Response::new(Body::from_stream(pieces(source)));
    let headers = response.headers_mut();
    let unknown = HeaderValue::from_static(file::UNKNOWN_TYPE);
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(&row.mime_type).unwrap_or(unknown));
    headers.insert(CONTENT_LENGTH, length.into());
    let disposition = file::content_disposition(&row.filename);
    let plain = HeaderValue::from_static("attachment");
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&disposition).unwrap_or(plain));
    // Whatever an agent has written stays what it is said to be.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// A file's bytes, read as fast as they are taken.
fn pieces(source: std::fs::File) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::try_unfold(source, |mut source| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let count = source.read(&mut piece)?;
            piece.truncate(count);
            Ok::<_, std::io::Error>((piece, source))
        });
        let (piece, source) = read.await.map_err(std::io::Error::other)??;
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), source)))
    })
}

/// `DELETE /v1/files/{file}`. What it was mounted as goes with it.
///
/// # Errors
/// 404.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::File)?.to_owned();
    let workspace = Arc::clone(&call.principal.workspace);
    let json = file::deleted(&id).to_string();
    let gone = call
        .app
        .database
        .write::<_, Refusal>(move |connection| Ok(files::delete(connection, &workspace, &id)?))
        .await?;
    let Some(row) = gone else { return Err(missing().into()) };
    if let Some(session) = &row.session {
        call.app.engine.mounts_changed(session).await;
    }
    bury(&call.app).await;
    Ok(Answer::new(json))
}

/// Takes what nobody shows any more off the disk. What fails is done by the next sweep.
pub(super) async fn bury(app: &Shared) {
    if let Err(error) = app.blobs.bury(&app.database).await {
        tracing::warn!(%error, "contents of deleted files were not deleted");
    }
}

/// A content whose time has come.
pub(super) fn expired(id: &str) -> ApiError {
    ApiError::not_found(format!("File '{id}' has expired")).with_code("file_expired")
}

fn find_row(call: &Call) -> Result<FileRow, Refusal> {
    let id = call.id(0, IdKind::File)?;
    let workspace = &call.principal.workspace;
    let row = call.app.database.read(|connection| files::find(connection, workspace, id))?;
    row.ok_or_else(|| missing().into())
}

fn missing() -> ApiError {
    ApiError::not_found("File not found.")
}

fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Refusal {
    Refusal::Fault(Box::new(error))
}

/// A file as the wire shows it.
fn shown(row: FileRow) -> File {
    File {
        id: row.id,
        filename: row.filename,
        mime_type: row.mime_type,
        size_bytes: row.size,
        created_at: Micros(row.created_at).into(),
        expires_at: row.expires_at.map(|at| Micros(at).into()),
        downloadable: row.downloadable,
        scope: row.session.map(|id| Scope::Session { id }),
    }
}
