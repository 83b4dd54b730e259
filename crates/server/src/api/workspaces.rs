//! `/posthouse/v1/workspaces`: makes and shows workspaces.
//!
//! Everything but a workspace belongs to one, and nobody sees what belongs to another.

use posthouse_protocol::{
    ApiError, ErrorKind, Micros,
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::{lists, own as schema},
};
use posthouse_store::tables::workspaces::{self, WorkspaceRow};
use serde_json::json;

use super::{Answer, Call, Refusal};

const LIST: &str = "workspaces";

/// `POST /posthouse/v1/workspaces`.
///
/// # Errors
/// 403 unless an administrator asks, 400 that names the field, 409 when the name is taken.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    if !call.principal.admin {
        let message = "Only an administrator's key may create workspaces.";
        return Err(ApiError::new(ErrorKind::Permission, message).into());
    }
    let mut fields = call.fields()?;
    let field = &schema::WORKSPACE_NAME;
    let name = fields.required_text(field)?;
    if IdKind::Workspace.is_well_formed(&name) {
        let what = "could be taken for an id";
        return Err(fields.wrong(field, what, "choose another one").into());
    }
    fields.finish(&schema::WORKSPACE_CREATE)?;
    let row = WorkspaceRow { id: call.mint(IdKind::Workspace)?, name, created_at: call.at.0 };
    call.once(move |connection| {
        if !workspaces::insert(connection, &row)? {
            let message = format!("name: {:?} is taken; choose another one", row.name);
            return Err(ApiError::conflict(message).into());
        }
        Ok(show(&row))
    })
    .await
}

/// `GET /posthouse/v1/workspaces`: the caller's or, for an administrator who names none, all of
/// them, the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_MANY)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&schema::LIST)?;
    let own = (!call.principal.everywhere).then(|| call.principal.workspace.clone());
    let look = move |connection: &_| match own {
        // A list of one has no page behind the first.
        Some(_) if cursor.is_some() => Ok(Vec::new()),
        Some(own) => workspaces::find(connection, &own).map(|row| row.into_iter().collect()),
        None => {
            let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
            workspaces::list(connection, after, limit + 1)
        }
    };
    let rows = call.app.database.read_many(look).await?;
    let cursor = |row: &WorkspaceRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| show(&row)).to_json()))
}

/// A workspace as the wire shows it.
fn show(row: &WorkspaceRow) -> String {
    let created_at = Micros(row.created_at).to_rfc3339();
    json!({ "type": "workspace", "id": row.id, "name": row.name, "created_at": created_at })
        .to_string()
}
