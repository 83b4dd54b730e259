//! `/v1/environments`: makes, shows, changes, archives and deletes environments.
//!
//! A session keeps its own copy of the configuration, so that deleting is always possible.

use std::sync::Arc;

use posthouse_protocol::{
    ApiError,
    environment::{self, Environment},
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::lists,
};
use posthouse_store::tables::{
    Connection,
    environments::{self, EnvironmentRow},
};

use super::{Answer, Call, Refusal};

const LIST: &str = "environments";

/// `POST /v1/environments`.
///
/// # Errors
/// 400 that names the field.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.mint(IdKind::Environment)?;
    let environment = environment::parse_create(call.fields()?, id, call.at)?;
    let row = EnvironmentRow {
        body: serde_json::to_string(&environment)?,
        id: environment.id,
        created_at: call.at.0,
        archived_at: None,
    };
    let workspace = Arc::clone(&call.principal.workspace);
    call.once(move |connection| {
        environments::insert(connection, &workspace, &row)?;
        Ok(row.body)
    })
    .await
}

/// `GET /v1/environments/{environment}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Environment)?;
    let workspace = &call.principal.workspace;
    let row = call.app.database.read(|connection| find(connection, workspace, id))?;
    Ok(Answer::new(row.body))
}

/// `POST /v1/environments/{environment}`.
///
/// # Errors
/// 404, 400 that names the field.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Environment)?.to_owned();
    let fields = call.fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    call.once(move |connection| {
        let row = find(connection, &workspace, &id)?;
        let current = parse(&row)?;
        let next = environment::apply_update(&current, fields, at)?;
        if next == current {
            return Ok(row.body);
        }
        let body = serde_json::to_string(&next)?;
        environments::replace(connection, &id, &body, None)?;
        Ok(body)
    })
    .await
}

/// `POST /v1/environments/{environment}/archive`. A second time changes nothing.
///
/// # Errors
/// 404.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Environment)?.to_owned();
    call.no_fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    call.once(move |connection| {
        let row = find(connection, &workspace, &id)?;
        if row.archived_at.is_some() {
            return Ok(row.body);
        }
        let body = serde_json::to_string(&parse(&row)?.archived(at))?;
        environments::replace(connection, &id, &body, Some(at.0))?;
        Ok(body)
    })
    .await
}

/// `DELETE /v1/environments/{environment}`.
///
/// # Errors
/// 404.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Environment)?.to_owned();
    let workspace = Arc::clone(&call.principal.workspace);
    let answer = environment::deleted(&id).to_string();
    let found = call
        .app
        .database
        .write::<_, Refusal>(move |connection| {
            Ok(environments::delete(connection, &workspace, &id)?)
        })
        .await?;
    if found { Ok(Answer::new(answer)) } else { Err(missing().into()) }
}

/// `GET /v1/environments`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_1000)?;
    let include_archived = query.flag(&lists::ARCHIVED)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&lists::ENVIRONMENTS)?;
    let workspace = Arc::clone(&call.principal.workspace);
    let rows = call
        .app
        .database
        .read_many(move |connection| {
            let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
            environments::list(connection, &workspace, include_archived, after, limit + 1)
        })
        .await?;
    let cursor = |row: &EnvironmentRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}

/// One environment.
///
/// # Errors
/// 404 in the hosted wording.
pub fn find(connection: &Connection, workspace: &str, id: &str) -> Result<EnvironmentRow, Refusal> {
    environments::find(connection, workspace, id)?.ok_or_else(|| missing().into())
}

/// The environment that a row holds.
///
/// # Errors
/// A fault when the row is damaged.
pub fn parse(row: &EnvironmentRow) -> Result<Environment, Refusal> {
    Ok(serde_json::from_str(&row.body)?)
}

fn missing() -> ApiError {
    ApiError::not_found("Environment not found.")
}
