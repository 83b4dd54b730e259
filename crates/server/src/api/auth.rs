//! Who a request comes from. Runs before every handler; there is no route without it.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use posthouse_protocol::{ApiError, ErrorKind};

use super::{Refusal, Shared};
use crate::keys::{Keys, Principal};

/// Lets a request with a known key through, as [`Principal`] among its extensions.
pub async fn authenticate(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let principal = match identify(&app.keys, request.headers()) {
        Ok(principal) => principal,
        Err(error) => return Refusal::from(error).into_response(),
    };
    let workspace = HeaderValue::from_str(&principal.workspace);
    request.extensions_mut().insert(principal);
    let mut response = next.run(request).await;
    if let Ok(workspace) = workspace {
        response.headers_mut().insert("anthropic-workspace-id", workspace);
    }
    response
}

/// A key may come as `Authorization: Bearer` or as `x-api-key`. When both come, both must
/// belong to the same principal.
fn identify(keys: &Keys, headers: &HeaderMap) -> Result<Principal, ApiError> {
    // A missing and a wrong key are told apart nowhere.
    let unknown = || ApiError::new(ErrorKind::Authentication, "Authentication failed");
    let mut found: Option<Principal> = None;
    let bearer = headers.get_all(AUTHORIZATION).iter().map(bearer);
    let plain = headers.get_all("x-api-key").iter().map(|value| value.to_str().ok());
    for secret in bearer.chain(plain) {
        let principal = secret.and_then(|secret| keys.principal(secret)).ok_or_else(unknown)?;
        if found.as_ref().is_some_and(|found| *found != principal) {
            return Err(unknown());
        }
        found = Some(principal);
    }
    let principal = found.ok_or_else(unknown)?;
    if let Some(wanted) = headers.get("anthropic-workspace-id")
        && wanted.as_bytes() != principal.workspace.as_bytes()
    {
        return Err(ApiError::new(
            ErrorKind::Permission,
            format!(
                "anthropic-workspace-id: is not the key's workspace; leave it out or send {}",
                principal.workspace
            ),
        ));
    }
    Ok(principal)
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
