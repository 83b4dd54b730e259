//! `/v1/sessions/{session}/resources`: what is mounted into a session.
//!
//! A mounted file is the session's own copy, with an id of its own. Both go together.

use std::sync::Arc;

use posthouse_protocol::{
    ApiError, Micros,
    fields::wrong,
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    resource::{self, FileResource, MOST, NewFileResource},
    schema::{lists, resources as schema},
};
use posthouse_store::tables::{
    Connection, files,
    resources::{self, ResourceRow},
};

use super::{Answer, Call, Refusal, files::expired, sessions};
use crate::keys;

const LIST: &str = "session_resources";

/// `GET /v1/sessions/{session}/resources`: in the order in which they were added; all of them
/// unless there is a limit.
///
/// # Errors
/// 404, 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let session = sessions::find_row(&call)?.id;
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_RESOURCES)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Asc)?;
    query.finish(&lists::RESOURCES)?;
    let rows = call
        .app
        .database
        .read_many(move |connection| {
            let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
            resources::list(connection, &session, after, limit + 1)
        })
        .await?;
    let more = rows.len() > limit;
    let mut entries = Vec::with_capacity(rows.len().min(limit));
    let mut next = None;
    for row in rows.into_iter().take(limit) {
        let position = Position { number: row.created_at, id: row.id.clone() };
        next = more.then(|| Cursor::after(LIST, Order::Asc, position).encode());
        entries.push(serde_json::to_string(&shown(row))?);
    }
    Ok(Answer::new(Page::forward(entries, next).to_json()))
}

/// `GET /v1/sessions/{session}/resources/{resource}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    Ok(Answer::new(serde_json::to_string(&shown(find(&call)?))?))
}

/// `POST /v1/sessions/{session}/resources`: mounts a file, also while the session is at work.
///
/// # Errors
/// 404 that names the session or the file, 400 that names the field or says that the session is
/// archived.
pub async fn add(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let session = sessions::find_row(&call)?.id;
    let new = resource::parse(call.fields()?, String::new())?;
    let (workspace, at, id) = (Arc::clone(&call.principal.workspace), call.at, session.clone());
    let answer = call
        .once(move |connection| {
            refuse_ended(connection, &workspace, &id)?;
            let there = resources::of_session(connection, &id)?;
            if there.len() >= MOST {
                let what = format!("has {MOST} resources, which is the most");
                return Err(wrong("session", &what, "delete one of them first").into());
            }
            resource::check_overlap(&new.mount, there.iter().map(|row| row.mount_path.as_str()))?;
            let row = mount(connection, &workspace, &id, &new, at)?;
            Ok(serde_json::to_string(&shown(row))?)
        })
        .await?;
    call.app.engine.mounts_changed(&session).await;
    Ok(answer)
}

/// `POST /v1/sessions/{session}/resources/{resource}`: refused, because only repositories can be
/// changed, and this version has none.
///
/// # Errors
/// 404, else 400.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    find(&call)?;
    let mut fields = call.fields()?;
    fields.required_text(&schema::TOKEN)?;
    let refusal = fields.wrong(
        &schema::TOKEN,
        "only a github_repository has one, and this resource is a file",
        "delete the resource and add another one",
    );
    fields.finish(&schema::UPDATE)?;
    Err(refusal.into())
}

/// `DELETE /v1/sessions/{session}/resources/{resource}`, also while the session is at work.
///
/// # Errors
/// 404, 400 when the session is archived.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let row = find(&call)?;
    let json = resource::deleted(&row.id).to_string();
    let session = call.id(0, IdKind::Session)?.to_owned();
    let (workspace, id) = (Arc::clone(&call.principal.workspace), session.clone());
    let gone = call
        .app
        .database
        .write::<_, Refusal>(move |connection| {
            refuse_ended(connection, &workspace, &id)?;
            Ok(resources::delete(connection, &workspace, &id, &row.id)?)
        })
        .await?;
    if !gone {
        return Err(missing().into());
    }
    call.app.engine.mounts_changed(&session).await;
    super::files::bury(&call.app).await;
    Ok(Answer::new(json))
}

/// Mounts the resources of a new session, inside of the transaction that makes it.
///
/// # Errors
/// 404 that names a file which is not there or has expired.
pub(super) fn mount_all(
    connection: &Connection,
    workspace: &str,
    session: &str,
    new: &[NewFileResource],
    at: Micros,
) -> Result<Vec<FileResource>, Refusal> {
    let mut mounted = Vec::with_capacity(new.len());
    for (index, new) in new.iter().enumerate() {
        // Apart, so that the order in which they were sent is kept.
        let at = at.plus(i64::try_from(index).unwrap_or(i64::MAX));
        mounted.push(shown(mount(connection, workspace, session, new, at)?));
    }
    Ok(mounted)
}

/// What is mounted into a session, as the wire shows it.
///
/// # Errors
/// When the store fails.
pub(super) fn of_session(
    connection: &Connection,
    session: &str,
) -> Result<Vec<FileResource>, posthouse_store::Error> {
    Ok(resources::of_session(connection, session)?.into_iter().map(shown).collect())
}

/// Copies a file for a session and mounts the copy.
fn mount(
    connection: &Connection,
    workspace: &str,
    session: &str,
    new: &NewFileResource,
    at: Micros,
) -> Result<ResourceRow, Refusal> {
    let source = files::find(connection, workspace, &new.file_id)?.ok_or_else(|| {
        let place = new.path_of("file_id");
        ApiError::not_found(format!("{place}: {} not found", new.file_id))
    })?;
    if source.is_expired(at) {
        let mut error = expired(&source.id);
        error.message = format!("{}: {}", new.path_of("file_id"), error.message);
        return Err(error.into());
    }
    let id = keys::mint(IdKind::File, at)?;
    let copy = files::copy(connection, workspace, &source, session, id, at)?;
    let row = ResourceRow {
        id: keys::mint(IdKind::Resource, at)?,
        file_id: copy.id,
        mount_path: new.mount.path.clone(),
        literal_path: new.mount.literal.clone(),
        created_at: at.0,
        updated_at: at.0,
        blob: copy.blob,
        size: copy.size,
        expires_at: copy.expires_at,
    };
    resources::insert(connection, session, &row)?;
    Ok(row)
}

fn refuse_ended(connection: &Connection, workspace: &str, session: &str) -> Result<(), Refusal> {
    match resources::has_ended(connection, workspace, session)? {
        None => Err(sessions::missing().into()),
        Some(true) => Err(sessions::archived().into()),
        Some(false) => Ok(()),
    }
}

fn find(call: &Call) -> Result<ResourceRow, Refusal> {
    let session = sessions::find_row(call)?.id;
    let id = call.id(1, IdKind::Resource)?;
    let row = call.app.database.read(|connection| resources::find(connection, &session, id))?;
    row.ok_or_else(|| missing().into())
}

fn missing() -> ApiError {
    ApiError::not_found("Resource not found.")
}

fn shown(row: ResourceRow) -> FileResource {
    FileResource {
        id: row.id,
        file_id: row.file_id,
        mount_path: row.mount_path,
        created_at: Micros(row.created_at).into(),
        updated_at: Micros(row.updated_at).into(),
    }
}
