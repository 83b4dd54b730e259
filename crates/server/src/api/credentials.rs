//! `/v1/vaults/{vault}/credentials`: makes, shows, changes, probes, archives and deletes
//! credentials.
//!
//! What is secret in one is sealed before it comes near the database, and no answer has a place for
//! it.

use std::sync::Arc;

use posthouse_engine::vault::{Binding, SealedKey, ValidateError};
use posthouse_protocol::{
    ApiError, Fields,
    credential::{self, Change, Credential, MOST},
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    schema::lists,
};
use posthouse_store::tables::{
    Connection,
    credentials::{self, CredentialRow},
};

use super::{Answer, Call, Refusal, vaults};

const LIST: &str = "credentials";

/// How often a change is tried anew when the credential has changed meanwhile.
const ATTEMPTS: usize = 16;

/// `POST /v1/vaults/{vault}/credentials`.
///
/// # Errors
/// 404, 400 that names the field, 409 when the vault has such a credential, 503 when the vault's
/// root key does not answer.
pub async fn create(mut call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let vault = call.id(0, IdKind::Vault)?.to_owned();
    let id = call.mint(IdKind::Credential)?;
    let opened = |host: &str| call.app.guard.may_be_opened(host);
    let new = credential::parse_create(call.fields()?, id, vault.clone(), call.at, &opened)?;
    let workspace = call.principal.workspace.to_string();
    let held = call.app.database.read(|connection| vaults::find(connection, &workspace, &vault))?;
    let key = vaults::key_of(held)?;
    let at = Binding { workspace: &workspace, vault: &vault, credential: &new.credential.id };
    let sealed = call.app.vaults.seal(&key, at, &new.secrets).await?;
    let place = (workspace.as_str(), vault.as_str());
    let stand_in = call.app.vaults.fingerprint(&key, place, call.body()).await?;
    call.stand_in(stand_in.into());
    let auth = &new.credential.auth;
    let (target, path) = (auth.target(), auth.target_path());
    let row = CredentialRow {
        body: serde_json::to_string(&new.credential)?,
        id: new.credential.id,
        vault,
        workspace,
        target,
        sealed: Some(sealed),
        version: 1,
        created_at: call.at.0,
        archived_at: None,
    };
    let (room, changed) = (call.app.vaults.clone(), row.vault.clone());
    let work = move |connection: &Connection| {
        // It may have been archived or deleted while its key was asked for.
        vaults::key_of(vaults::find(connection, &row.workspace, &row.vault)?)?;
        if credentials::is_taken(connection, &row.vault, &row.target)? {
            let what = "another live credential of this vault has it";
            let right = "change that one, or archive it first";
            return Err(ApiError::conflict(format!("{path}: {what}; {right}")).into());
        }
        if credentials::count_live(connection, &row.vault)? >= MOST {
            let what = format!("Vault {} has {MOST} credentials", row.vault);
            return Err(ApiError::invalid(format!("{what}; archive or delete one first")).into());
        }
        credentials::insert(connection, &row)?;
        Ok::<_, Refusal>(row.body)
    };
    call.once_then(work, move || room.changed(&changed)).await
}

/// `GET /v1/vaults/{vault}/credentials/{credential}`.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (vault, id) = ids(&call)?;
    let workspace = &call.principal.workspace;
    let row = call.app.database.read(|connection| find(connection, workspace, &vault, &id))?;
    Ok(Answer::new(row.body))
}

/// `POST /v1/vaults/{vault}/credentials/{credential}`.
///
/// # Errors
/// 404, 400 that names the field, 503 when the vault's root key does not answer.
pub async fn update(mut call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (vault, id) = ids(&call)?;
    let (sent, workspace) = (call.body().to_vec(), Arc::clone(&call.principal.workspace));
    for _ in 0..ATTEMPTS {
        let workspace = &*workspace;
        let (held, row) = call.app.database.read(|connection| {
            let row = find(connection, workspace, &vault, &id)?;
            Ok::<_, Refusal>((vaults::find(connection, workspace, &vault)?, row))
        })?;
        let current: Credential = serde_json::from_str(&row.body)?;
        let change = credential::apply_update(&current, Fields::parse(&sent)?, call.at)?;
        let unchanged = change.secrets.is_empty() && change.credential == current;
        let body = serde_json::to_string(&change.credential)?;
        let key = vaults::key_of(held)?;
        if !change.secrets.is_empty() {
            let place = (workspace, vault.as_str());
            let stand_in = call.app.vaults.fingerprint(&key, place, &sent).await?;
            call.stand_in(stand_in.into());
        }
        let sealed = seal_change(&call, &key, &row, change).await?;
        let work = move |connection: &Connection| {
            if unchanged {
                return Ok(row.body);
            }
            let (id, version) = (&row.id, row.version);
            match credentials::exchange_secrets(connection, id, version, &body, &sealed)? {
                true => Ok(body),
                false => Err(Stopped::Changed),
            }
        };
        let (room, changed) = (call.app.vaults.clone(), vault.clone());
        match call.once_then(work, move || room.changed(&changed)).await {
            Ok(answer) => return Ok(answer),
            Err(Stopped::Refused(refusal)) => return Err(refusal),
            // Another change, or another token, has come between: read that one first.
            Err(Stopped::Changed) => {}
        }
    }
    Err(ApiError::conflict("The credential changes all the time; send the change again.").into())
}

/// The sealed secrets of a credential after a change.
async fn seal_change(
    call: &Call,
    key: &SealedKey,
    row: &CredentialRow,
    change: Change,
) -> Result<String, Refusal> {
    // A live credential has some, and nobody changes another one.
    let former = row.sealed.as_deref().ok_or_else(credential::is_archived)?;
    if change.secrets.is_empty() && !change.check {
        return Ok(former.to_owned());
    }
    let at = Binding { workspace: &row.workspace, vault: &row.vault, credential: &row.id };
    let room = &call.app.vaults;
    let secrets = room.open(key, at, former).await?.with(change.secrets);
    change.credential.auth.check(&secrets)?;
    Ok(room.seal(key, at, &secrets).await?)
}

/// `POST /v1/vaults/{vault}/credentials/{credential}/archive`: what is secret in it is wiped. A
/// second time changes nothing.
///
/// # Errors
/// 404.
pub async fn archive(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (vault, id) = ids(&call)?;
    call.no_fields()?;
    let (workspace, at) = (Arc::clone(&call.principal.workspace), call.at);
    let (room, changed) = (call.app.vaults.clone(), vault.clone());
    let work = move |connection: &Connection| {
        let row = find(connection, &workspace, &vault, &id)?;
        if row.archived_at.is_some() {
            return Ok(row.body);
        }
        let archived = serde_json::from_str::<Credential>(&row.body)?.archived(at);
        let body = serde_json::to_string(&archived)?;
        credentials::archive(connection, &id, &body, at.0)?;
        Ok::<_, Refusal>(body)
    };
    call.once_then(work, move || room.changed(&changed)).await
}

/// `DELETE /v1/vaults/{vault}/credentials/{credential}`.
///
/// # Errors
/// 404.
pub async fn delete(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (vault, id) = ids(&call)?;
    let workspace = Arc::clone(&call.principal.workspace);
    let answer = credential::deleted(&id).to_string();
    let (room, changed) = (call.app.vaults.clone(), vault.clone());
    let write = move |connection: &Connection| {
        Ok::<_, Refusal>(credentials::delete(connection, &workspace, &vault, &id)?)
    };
    let found = call.app.database.write_then(write, move |_| room.changed(&changed)).await?;
    if found { Ok(Answer::new(answer)) } else { Err(missing().into()) }
}

/// `GET /v1/vaults/{vault}/credentials`: the newest first.
///
/// # Errors
/// 404, 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let vault = call.id(0, IdKind::Vault)?.to_owned();
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_100)?;
    let include_archived = query.flag(&lists::ARCHIVED)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    query.finish(&lists::CREDENTIALS)?;
    let workspace = Arc::clone(&call.principal.workspace);
    let look = move |connection: &Connection| {
        vaults::find(connection, &workspace, &vault)?;
        let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
        let rows = credentials::list(connection, &vault, include_archived, after, limit + 1)?;
        Ok::<_, Refusal>(rows)
    };
    let rows = call.app.database.read_many(look).await?;
    let cursor = |row: &CredentialRow| {
        let position = Position { number: row.created_at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}

/// `POST /v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate`: asks the server whether the
/// token is good, and gets another one where it is not. Each time it is asked anew.
///
/// # Errors
/// 404, 400 for another kind of credential or an archived one, 503 when the vault's root key does
/// not answer.
pub async fn validate(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let (vault, id) = ids(&call)?;
    call.no_fields()?;
    call.no_idempotency_key("each probe is a new one")?;
    let workspace = &call.principal.workspace;
    match call.app.vaults.validate(workspace, &vault, &id).await {
        Ok(found) => Ok(Answer::new(found.to_string())),
        Err(ValidateError::NotFound) => Err(missing().into()),
        Err(ValidateError::Archived) => Err(credential::is_archived().into()),
        // In the hosted wording.
        Err(ValidateError::Kind) => Err(ApiError::invalid("The request was invalid").into()),
        Err(ValidateError::Vault(error)) => Err(error.into()),
    }
}

/// Why a change was not written.
enum Stopped {
    /// The credential is not the one any more that the change was made for.
    Changed,
    Refused(Refusal),
}

impl<E> From<E> for Stopped
where
    Refusal: From<E>,
{
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// The vault and the credential that the path names.
fn ids(call: &Call) -> Result<(String, String), ApiError> {
    Ok((call.id(0, IdKind::Vault)?.to_owned(), call.id(1, IdKind::Credential)?.to_owned()))
}

fn find(
    connection: &Connection,
    workspace: &str,
    vault: &str,
    id: &str,
) -> Result<CredentialRow, Refusal> {
    credentials::find(connection, workspace, vault, id)?.ok_or_else(|| missing().into())
}

fn missing() -> ApiError {
    ApiError::not_found("Credential not found.")
}
