//! Who a request comes from, and whether it may. Runs before every handler; there is no route
//! without it.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use http_body::Body as _;
use posthouse_protocol::{ApiError, ErrorKind, Micros};
use posthouse_store::tables::workspaces;

use super::{App, Refusal, Shared, call::now};
use crate::{keys::Principal, scope::Need};

const WORKSPACE_ID: &str = "anthropic-workspace-id";

/// Lets a request with a known key through, as [`Principal`] among its extensions. A stream ends
/// with the key that has opened it.
pub async fn authenticate(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let at = now();
    let principal = match identify(&app, request.headers(), at) {
        Ok(principal) => principal,
        Err(refusal) => return refusal.into_response(),
    };
    let key_id = principal.key_id.clone();
    let workspace = HeaderValue::from_str(&principal.workspace);
    request.extensions_mut().insert(principal);
    let mut response = next.run(request).await;
    if let Ok(workspace) = workspace {
        response.headers_mut().insert(WORKSPACE_ID, workspace);
    }
    // What has a length is on its way already.
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let end = app.keys.end(&key_id, at);
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(end)))
}

/// Lets a request through whose key opens what the route needs.
pub async fn permit(State(need): State<Need>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Principal>() {
        Some(principal) if principal.scopes.open(need) => next.run(request).await,
        _ => Refusal::from(need.refusal()).into_response(),
    }
}

/// A key may come as `Authorization: Bearer` or as `x-api-key`. When both come, both must
/// belong to the same principal.
fn identify(app: &App, headers: &HeaderMap, at: Micros) -> Result<Principal, Refusal> {
    // A missing, a wrong, an expired and a revoked key are told apart nowhere.
    let unknown = || ApiError::new(ErrorKind::Authentication, "Authentication failed");
    let mut found: Option<Principal> = None;
    let bearer = headers.get_all(AUTHORIZATION).iter().map(bearer);
    let plain = headers.get_all("x-api-key").iter().map(|value| value.to_str().ok());
    for secret in bearer.chain(plain) {
        let principal =
            secret.and_then(|secret| app.keys.principal(secret, at)).ok_or_else(unknown)?;
        if found.as_ref().is_some_and(|found| *found != principal) {
            return Err(unknown().into());
        }
        found = Some(principal);
    }
    let principal = found.ok_or_else(unknown)?;
    let mut named = headers.get_all(WORKSPACE_ID).iter();
    let Some(wanted) = named.next() else { return Ok(principal) };
    if named.next().is_some() {
        let message = format!("{WORKSPACE_ID}: is sent more than once; send it once");
        return Err(ApiError::invalid(message).into());
    }
    enter(app, principal, wanted)
}

/// The same caller in the workspace that the request names: its own or, for an administrator,
/// any that exists.
fn enter(app: &App, principal: Principal, wanted: &HeaderValue) -> Result<Principal, Refusal> {
    let refuse = |message: String| Err(ApiError::new(ErrorKind::Permission, message).into());
    if wanted.as_bytes() == principal.workspace.as_bytes() {
        return Ok(Principal { everywhere: false, ..principal });
    }
    if !principal.admin {
        return refuse(format!(
            "{WORKSPACE_ID}: is not the key's workspace; leave it out or send {}",
            principal.workspace
        ));
    }
    let wanted = wanted.to_str().unwrap_or_default();
    match app.database.read(|connection| workspaces::find(connection, wanted))? {
        Some(row) => Ok(Principal { workspace: row.id.into(), everywhere: false, ..principal }),
        None => refuse(format!("{WORKSPACE_ID}: names no workspace; send the id of one")),
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
