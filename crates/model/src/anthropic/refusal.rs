//! What a refusal of the Messages API means.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    FailureKind,
    failure::{is_too_long, more_exact, sentence},
};

#[derive(Deserialize, Default)]
struct WireError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: WireError,
}

/// The failure that an `error` event in a stream tells of.
pub(super) fn of_stream(error: Option<&RawValue>) -> (FailureKind, String) {
    let error: WireError =
        error.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let kind = of_type(&error).unwrap_or(FailureKind::Transient);
    (kind, sentence("the provider stopped with an error", &error.kind, &error.message))
}

/// The failure that an answer without success tells of.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> (FailureKind, String) {
    let error =
        serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_default();
    let kind = more_exact(of_type(&error), status);
    (
        kind,
        sentence(
            &format!("the provider answered {}", status.as_u16()),
            &error.kind,
            &error.message,
        ),
    )
}

/// Error types: `anthropic.types.beta.beta_*_error` of the official SDK, and
/// `request_too_large`, which comes with 413.
fn of_type(error: &WireError) -> Option<FailureKind> {
    Some(match error.kind.as_str() {
        "overloaded_error" => FailureKind::Overloaded,
        "rate_limit_error" => FailureKind::RateLimited,
        "billing_error" => FailureKind::Billing,
        "request_too_large" => FailureKind::TooLong,
        "api_error" | "timeout_error" => FailureKind::Transient,
        "invalid_request_error" if is_too_long(&error.message) => FailureKind::TooLong,
        "invalid_request_error" if is_unpaid(&error.message) => FailureKind::Billing,
        "invalid_request_error"
        | "authentication_error"
        | "permission_error"
        | "not_found_error" => FailureKind::Hopeless,
        _ => return None,
    })
}

fn is_unpaid(message: &str) -> bool {
    message.to_ascii_lowercase().contains("credit balance is too low")
}
