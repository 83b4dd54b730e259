//! `/posthouse/v1/keys`: makes, shows and revokes API keys.
//!
//! A secret is in the answer that makes the key and nowhere else: that answer is not kept for a
//! retry. Nobody makes a key that opens more than his own, or for longer.

use std::sync::Arc;

use posthouse_protocol::{
    ApiError, ErrorKind, Fields, Micros,
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::{lists, own as schema},
};
use posthouse_store::tables::{
    keys::{self, KeyRow},
    workspaces,
};
use serde_json::{Value, json};

use super::{Answer, Call, Refusal};
use crate::{keys::NewKey, scope::Scopes};

const LIST: &str = "keys";

/// `POST /posthouse/v1/keys`. The answer alone holds the `secret`, so that it is kept nowhere: a
/// create that is sent again makes another key.
///
/// # Errors
/// 400 that names the field; 403 when the key would open more than the caller's, or for longer; 404 when an
/// administrator names a workspace that is not there.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    call.no_idempotency_key("the answer holds a secret and is kept nowhere")?;
    let new = parse(&call, call.fields()?)?;
    let (secret, row) = new.generate(call.at)?;
    let mut shown = show(&row);
    shown["secret"] = secret.into();
    let app = Arc::clone(&call.app);
    let write = move |connection: &_| {
        keys::insert(connection, &row)?;
        Ok::<_, Refusal>(row)
    };
    // The key opens something once it is durable, also when nobody waits for the answer.
    call.app.database.write_then(write, move |row| app.keys.add(row)).await?;
    Ok(Answer::new(shown.to_string()))
}

/// `POST /posthouse/v1/keys/{key}/revoke`: from its answer on the key is unknown, and what it had
/// open has ended. A second time changes nothing.
///
/// # Errors
/// 400 for an `Idempotency-Key`; 404; 403 when an administrator's key is revoked by somebody else.
pub async fn revoke(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    call.no_idempotency_key("the answer is not kept, and a second time changes nothing anyhow")?;
    let id = call.id(0, IdKind::Key)?.to_owned();
    call.no_fields()?;
    let (at, admin) = (call.at.0, call.principal.admin);
    let scopes = call.principal.scopes.clone();
    let workspace = whose(&call);
    let app = Arc::clone(&call.app);
    let write = move |connection: &_| {
        let missing = || ApiError::not_found("Key not found.");
        let row = keys::find(connection, workspace.as_deref(), &id)?.ok_or_else(missing)?;
        if row.admin && !admin {
            let message = "This key is an administrator's; only an administrator may revoke it.";
            return Err(Refusal::from(ApiError::new(ErrorKind::Permission, message)));
        }
        if scopes.exceeded_by(&Scopes::stored(&row.scopes)).is_some() {
            let message = "This key opens more than yours does; yours may not revoke it.";
            return Err(Refusal::from(ApiError::new(ErrorKind::Permission, message)));
        }
        keys::revoke(connection, &id, at)?;
        Ok(KeyRow { revoked_at: row.revoked_at.or(Some(at)), ..row })
    };
    let row = call.app.database.write_then(write, move |row| app.keys.remove(&row.id)).await?;
    Ok(Answer::new(show(&row).to_string()))
}

/// `GET /posthouse/v1/keys`: those of the caller's workspace, the newest first, revoked and
/// expired ones as well. An administrator who names no workspace sees those of all. The keys
/// that live in memory alone are not among them.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_MANY)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&schema::LIST)?;
    let workspace = whose(&call);
    let look = move |connection: &_| {
        let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
        keys::list(connection, workspace.as_deref(), after, limit + 1)
    };
    let rows = call.app.database.read_many(look).await?;
    let cursor = |row: &KeyRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| show(&row).to_string()).to_json()))
}

/// The workspace whose keys the caller sees; none for all.
fn whose(call: &Call) -> Option<String> {
    (!call.principal.everywhere).then(|| call.principal.workspace.to_string())
}

fn parse(call: &Call, mut fields: Fields) -> Result<NewKey, Refusal> {
    let name = fields.required_text(&schema::NAME)?;
    let scopes = Scopes::parse(fields.list(&schema::SCOPES)?.value().unwrap_or_default())?;
    let admin = fields.flag(&schema::ADMIN)?.value().unwrap_or(false);
    let workspace = fields.text(&schema::WORKSPACE_ID)?.value();
    let expires_at = match fields.time(&schema::EXPIRES_AT)?.value() {
        Some(at) if at <= call.at => {
            return Err(fields
                .wrong(&schema::EXPIRES_AT, "has passed", "send a time in the future")
                .into());
        }
        given => given,
    };
    fields.finish(&schema::KEY_CREATE)?;
    let own = &call.principal;
    let refuse = |message: String| Err(ApiError::new(ErrorKind::Permission, message).into());
    if admin && !own.admin {
        return refuse("admin: your key is no administrator's; leave it out".into());
    }
    if let Some(index) = own.scopes.exceeded_by(&scopes) {
        return refuse(format!(
            "scopes[{index}]: opens more than your key does; your key has {}",
            own.scopes.texts().join(", ")
        ));
    }
    if let Some(end) = own.expires_at.filter(|end| expires_at.is_none_or(|at| at > *end)) {
        let what = if expires_at.is_some() { "is later" } else { "is missing, which is later" };
        let end = end.to_rfc3339();
        return refuse(format!("expires_at: {what} than your key's own end; send at most {end}"));
    }
    let workspace = workspace.unwrap_or_else(|| own.workspace.to_string());
    if *workspace != *own.workspace {
        if !own.everywhere {
            let workspace = &own.workspace;
            return refuse(format!(
                "workspace_id: is not your key's workspace; leave it out or send {workspace}"
            ));
        }
        let there =
            call.app.database.read(|connection| workspaces::find(connection, &workspace))?;
        if there.is_none() {
            let message = format!("workspace_id: {workspace} not found");
            return Err(ApiError::not_found(message).into());
        }
    }
    Ok(NewKey { name, workspace, admin, scopes, expires_at })
}

/// A key as the wire shows it.
fn show(row: &KeyRow) -> Value {
    let time = |at: i64| Micros(at).to_rfc3339();
    json!({
        "type": "api_key",
        "id": row.id,
        "name": row.name,
        "workspace_id": row.workspace,
        "scopes": Scopes::stored(&row.scopes).texts(),
        "admin": row.admin,
        "hint": row.hint,
        "created_at": time(row.created_at),
        "expires_at": row.expires_at.map(time),
        "revoked_at": row.revoked_at.map(time),
    })
}
