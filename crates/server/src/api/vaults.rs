//! `/v1/vaults`: makes, shows, changes, archives and deletes vaults.
//!
//! Archiving wipes what is secret and keeps what is shown; deleting keeps the ledger alone. Sessions
//! that run go on without what was in it.

use std::sync::Arc;

use posthouse_engine::vault::{SealedKey, VaultError};
use posthouse_protocol::{
    ApiError,
    credential::Credential,
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::lists,
    vault::{self, Vault},
};
use posthouse_store::tables::{
    Connection, credentials,
    vaults::{self, VaultRow},
};

use super::{Answer, Call, Refusal};

const LIST: &str = "vaults";

/// `POST /v1/vaults`.
///
/// # Errors
/// 400 that names the field, 503 when no root key answers.
pub async fn create(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.mint(IdKind::Vault)?;
    let vault = vault::parse_create(call.fields()?, id, call.at)?;
    let workspace = call.principal.workspace.to_string();
    let SealedKey { root_key, data_key } = call.app.vaults.make_key(&workspace, &vault.id).await?;
    let (keys, sealed_by) = (call.app.keyring.keys(), root_key.clone());
    let row = VaultRow {
        body: serde_json::to_string(&vault)?,
        id: vault.id,
        workspace,
        root_key: Some(root_key),
        data_key: Some(data_key),
        created_at: call.at.0,
        archived_at: None,
    };
    call.once(move |connection| {
        keys.still_seals(&sealed_by).map_err(VaultError::from)?;
        vaults::insert(connection, &row)?;
        Ok(row.body)
    })
    .await
}

/// `GET /v1/vaults/{vault}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Vault)?;
    let workspace = &call.principal.workspace;
    let row = call.app.database.read(|connection| find(connection, workspace, id))?;
    Ok(Answer::new(row.body))
}

/// `POST /v1/vaults/{vault}`.
///
/// # Errors
/// 404, 400 that names the field.
pub async fn update(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Vault)?.to_owned();
    let fields = call.fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    call.once(move |connection| {
        let row = find(connection, &workspace, &id)?;
        let current: Vault = serde_json::from_str(&row.body)?;
        let next = vault::apply_update(&current, fields, at)?;
        if next == current {
            return Ok(row.body);
        }
        let body = serde_json::to_string(&next)?;
        vaults::replace(connection, &id, &body)?;
        Ok(body)
    })
    .await
}

/// `POST /v1/vaults/{vault}/archive`: its credentials are archived with it, and what is secret in
/// them is wiped. A second time changes nothing.
///
/// # Errors
/// 404.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Vault)?.to_owned();
    call.no_fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    let (room, changed) = (call.app.vaults.clone(), id.clone());
    let work = move |connection: &Connection| {
        let row = find(connection, &workspace, &id)?;
        if row.archived_at.is_some() {
            return Ok(row.body);
        }
        for one in credentials::live(connection, &workspace, &id)? {
            let archived = serde_json::from_str::<Credential>(&one.body)?.archived(at);
            let body = serde_json::to_string(&archived)?;
            credentials::archive(connection, &one.id, &body, at.0)?;
        }
        let archived = serde_json::from_str::<Vault>(&row.body)?.archived(at);
        let body = serde_json::to_string(&archived)?;
        vaults::archive(connection, &id, &body, at.0)?;
        Ok::<_, Refusal>(body)
    };
    call.once_then(work, move || room.changed(&changed)).await
}

/// `DELETE /v1/vaults/{vault}`, with its credentials.
///
/// # Errors
/// 404.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let id = call.id(0, IdKind::Vault)?.to_owned();
    let workspace = Arc::clone(&call.principal.workspace);
    let answer = vault::deleted(&id).to_string();
    let (room, changed) = (call.app.vaults.clone(), id.clone());
    let write = move |connection: &Connection| {
        Ok::<_, Refusal>(vaults::delete(connection, &workspace, &id)?)
    };
    let found = call.app.database.write_then(write, move |_| room.changed(&changed)).await?;
    if found { Ok(Answer::new(answer)) } else { Err(missing().into()) }
}

/// `GET /v1/vaults`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_100)?;
    let include_archived = query.flag(&lists::ARCHIVED)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&lists::VAULTS)?;
    let workspace = Arc::clone(&call.principal.workspace);
    let rows = call
        .app
        .database
        .read_many(move |connection| {
            let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
            vaults::list(connection, &workspace, include_archived, after, limit + 1)
        })
        .await?;
    let cursor = |row: &VaultRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}

/// One vault.
///
/// # Errors
/// 404 in the hosted wording.
pub(super) fn find(
    connection: &Connection,
    workspace: &str,
    id: &str,
) -> Result<VaultRow, Refusal> {
    vaults::find(connection, workspace, id)?.ok_or_else(|| missing().into())
}

/// The key of a vault that is live.
///
/// # Errors
/// 400 when it is archived.
pub(super) fn key_of(row: VaultRow) -> Result<SealedKey, ApiError> {
    match (row.root_key, row.data_key) {
        (Some(root_key), Some(data_key)) => Ok(SealedKey { root_key, data_key }),
        _ => Err(vault::is_archived(&row.id)),
    }
}

/// Refuses vaults that a new session can't have.
///
/// # Errors
/// 404 that names the vault, 400 when it is archived.
pub(super) fn check_usable(
    connection: &Connection,
    workspace: &str,
    ids: &[String],
) -> Result<(), Refusal> {
    for id in ids {
        let row = vaults::find(connection, workspace, id)?
            .ok_or_else(|| ApiError::not_found(format!("vault_ids: {id} not found")))?;
        key_of(row)?;
    }
    Ok(())
}

fn missing() -> ApiError {
    ApiError::not_found("Vault not found.")
}
