//! `/posthouse/v1/root_key/rotate`: takes the root keys as they are configured now, and seals the
//! keys of all vaults with the first of them.

use posthouse_engine::vault::VaultError;
use posthouse_protocol::{ApiError, ErrorKind};
use serde_json::json;

use super::{Answer, Call, Refusal};

/// `POST /posthouse/v1/root_key/rotate`. What is under way goes on with the keys that it has, and
/// asking again does the rest.
///
/// # Errors
/// 403 unless an administrator asks, 400 for an `Idempotency-Key`, 409 when the keys can't be read,
/// lack one that a vault needs, or a vault's can't be opened.
pub async fn rotate(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    call.no_idempotency_key("each rotation looks for what is left to do")?;
    call.no_fields()?;
    if !call.principal.admin {
        let message = "Only an administrator's key may rotate the root key.";
        return Err(ApiError::new(ErrorKind::Permission, message).into());
    }
    let vaults = &call.app.vaults;
    let read = call.app.keyring.reload(&call.app.database).await;
    let root_key = read.map_err(|error| ApiError::conflict(error.with_causes()))?;
    let rewrapped = vaults.rewrap().await.map_err(refused)?;
    let pending = vaults.pending().await.map_err(refused)?;
    tracing::info!(%root_key, rewrapped, pending, "the root key was rotated");
    let answer = json!({
        "type": "root_key_rotated",
        "root_key": root_key,
        "rewrapped": rewrapped,
        "pending": pending,
    });
    Ok(Answer::new(answer.to_string()))
}

fn refused(error: VaultError) -> Refusal {
    match error {
        VaultError::Store(error) => error.into(),
        // With the root key's own words, which hold nothing secret.
        VaultError::Root(error) => ApiError::conflict(error.to_string()).into(),
        other => ApiError::conflict(other.to_string()).into(),
    }
}
