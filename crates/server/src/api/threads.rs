//! `/v1/sessions/{session}/threads`: shows a session's threads. Today each has one.

use std::sync::Arc;

use posthouse_engine::{sessions, summary::Status};
use posthouse_protocol::{
    ApiError,
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::lists,
};
use posthouse_store::SessionRow;

use super::{Answer, Call, Refusal, sessions as session_routes};

const LIST: &str = "threads";

/// `GET /v1/sessions/{session}/threads`, oldest first.
///
/// # Errors
/// 404, 400 that names the parameter.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_ALL)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Asc)?;
    let statuses = query.choices(&lists::STATUSES, |_| false)?;
    query.finish(&lists::THREADS)?;
    let threads = threads(&call)?;
    let start = match cursor {
        Some(cursor) => {
            let last = threads.iter().position(|(id, ..)| **id == *cursor.position.id);
            last.map(|last| last + 1).ok_or_else(|| ApiError::invalid("invalid page cursor"))?
        }
        None => 0,
    };
    let wanted =
        |status: Status| statuses.is_empty() || statuses.iter().any(|one| one == status.as_str());
    let rows: Vec<_> = threads
        .into_iter()
        .skip(start)
        .filter(|(_, status, _)| wanted(*status))
        .take(limit + 1)
        .collect();
    let cursor = |(id, ..): &(Arc<str>, Status, String)| {
        Cursor::after(LIST, Order::Asc, Position { number: 0, id: id.to_string() })
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |(_, _, json)| json).to_json()))
}

/// `GET /v1/sessions/{session}/threads/{thread}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let wanted = call.id(1, IdKind::Thread)?.to_owned();
    let found = threads(&call)?.into_iter().find(|(id, ..)| **id == *wanted);
    found.map(|(_, _, json)| Answer::new(json)).ok_or_else(|| missing().into())
}

/// `POST /v1/sessions/{session}/threads/{thread}/archive`: only threads that an agent has made
/// can be archived apart from their session.
///
/// # Errors
/// 404, 400 for the primary thread.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let row = session_routes::find_row(&call)?;
    check(&call, &row)?;
    call.no_fields()?;
    Err(ApiError::invalid("The primary thread can't be archived; archive the session itself.")
        .into())
}

/// Checks that the path's thread is one of the session's.
///
/// # Errors
/// 404 when it is not.
pub(super) fn check(call: &Call, row: &SessionRow) -> Result<Arc<str>, Refusal> {
    let wanted = call.id(1, IdKind::Thread)?;
    let summary = sessions::read_summary(&row.fold)?;
    let found = summary.threads.iter().find(|thread| &*thread.id == wanted);
    found.map(|thread| Arc::clone(&thread.id)).ok_or_else(|| missing().into())
}

fn threads(call: &Call) -> Result<Vec<(Arc<str>, Status, String)>, Refusal> {
    let (row, document) = session_routes::find(call)?;
    Ok(sessions::show_threads(&row, &document, call.at)?)
}

fn missing() -> ApiError {
    ApiError::not_found("Thread not found.")
}
