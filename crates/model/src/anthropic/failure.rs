//! What a provider's refusal means: its kind, its words without anything secret, and how long
//! it asks to wait. Never decides on a retry.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::FailureKind;

/// No sentence of a provider is shown beyond this many characters.
const LONGEST_MESSAGE: usize = 400;

/// A longer wish to wait is cut to this, so that no sum of times can overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

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
    (kind, sentence("the provider stopped with an error", &error))
}

/// The failure that an answer without success tells of.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> (FailureKind, String) {
    let error =
        serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_default();
    let kind = match of_type(&error) {
        // A message can be more exact than the status, the status more than a type that says
        // only "invalid request".
        Some(kind) if kind != FailureKind::Hopeless => kind,
        _ => of_status(status),
    };
    (kind, sentence(&format!("the provider answered {}", status.as_u16()), &error))
}

fn of_status(status: StatusCode) -> FailureKind {
    match status.as_u16() {
        503 | 529 => FailureKind::Overloaded,
        429 => FailureKind::RateLimited,
        402 => FailureKind::Billing,
        413 => FailureKind::TooLong,
        408 | 409 | 500..=599 => FailureKind::Transient,
        _ => FailureKind::Hopeless,
    }
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

fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "prompt is too long",
        "input is too long",
        "exceed context limit",
        "exceeds the context window",
        "exceeds the model's context",
        "maximum context length",
    ]
    .iter()
    .any(|phrase| message.contains(phrase))
}

fn is_unpaid(message: &str) -> bool {
    message.to_ascii_lowercase().contains("credit balance is too low")
}

/// One sentence from our words and the provider's.
fn sentence(ours: &str, error: &WireError) -> String {
    let theirs = clean(&error.message);
    match (error.kind.as_str(), theirs.as_str()) {
        ("", "") => ours.to_owned(),
        (kind, "") => format!("{ours} ({})", clean(kind)),
        ("", theirs) => format!("{ours}: {theirs}"),
        (kind, theirs) => format!("{ours} ({}): {theirs}", clean(kind)),
    }
}

/// A provider's words without addresses, without anything that looks like a key, on one line and
/// not too long.
fn clean(message: &str) -> String {
    let mut words = String::new();
    for word in message.split_whitespace() {
        if word.contains("://") || word.contains("sk-") {
            continue;
        }
        if words.chars().count() + word.chars().count() > LONGEST_MESSAGE {
            words.push('…');
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words.chars().filter(|character| !character.is_control()).take(LONGEST_MESSAGE + 1).collect()
}

/// How long a provider asks to wait: `retry-after-ms`, else `retry-after` as seconds (fractions
/// too) or as an HTTP date, as the official SDK reads them.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let wait =
        |seconds: f64| Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT));
    let milliseconds = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok());
    if let Some(milliseconds) = milliseconds {
        return wait(milliseconds / 1000.0);
    }
    let value = text("retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        return wait(seconds);
    }
    let at: Timestamp = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let at = SystemTime::from(at);
    Some(at.duration_since(now).unwrap_or_default().min(LONGEST_WAIT))
}
