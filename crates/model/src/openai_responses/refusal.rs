//! What a refusal of the Responses API means, before a stream and inside of one.
//!
//! Codes: `ResponseError` of the official SDK, and the API's guide to error codes.

use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    FailureKind,
    failure::{LONGEST_WAIT, is_too_long, more_exact, sentence},
};

/// An error, as it stands in a body, in an event or in a response that has failed.
#[derive(Debug, Deserialize, Default)]
pub(super) struct WireError {
    #[serde(rename = "type", default, deserialize_with = "words")]
    kind: String,
    #[serde(default, deserialize_with = "words")]
    code: String,
    #[serde(default, deserialize_with = "words")]
    message: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: WireError,
}

/// Any value as words: servers that are compatible put numbers and nulls where texts belong.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

/// The failure that an error in a stream tells of.
pub(super) fn of_stream(error: &WireError) -> (FailureKind, String) {
    let kind = of_code(error).unwrap_or(FailureKind::Transient);
    (kind, sentence("the provider stopped with an error", error.name(), &error.message))
}

/// How long an error in a stream asks to wait.
pub(super) fn wait_of_stream(error: &WireError) -> Option<Duration> {
    wait(&error.message)
}

/// The policy that an error in a stream names, and what it says of it: such a response is refused
/// and has not failed.
pub(super) fn policy(error: &WireError) -> Option<(String, Option<String>)> {
    let policy = ["_policy_violation", "_policy"]
        .iter()
        .find_map(|suffix| error.code.strip_suffix(suffix))
        .filter(|policy| !policy.is_empty())?;
    Some((policy.to_owned(), Some(error.message.clone()).filter(|message| !message.is_empty())))
}

/// The failure that an answer without success tells of.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> (FailureKind, String) {
    let error = of_body(body);
    let kind = more_exact(of_code(&error), status);
    let ours = format!("the provider answered {}", status.as_u16());
    (kind, sentence(&ours, error.name(), &error.message))
}

/// How long such an answer asks to wait.
pub(super) fn wait_of_answer(body: &[u8]) -> Option<Duration> {
    wait(&of_body(body).message)
}

fn of_body(body: &[u8]) -> WireError {
    serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_default()
}

impl WireError {
    /// What names the error best.
    fn name(&self) -> &str {
        if self.code.is_empty() { &self.kind } else { &self.code }
    }
}

fn of_code(error: &WireError) -> Option<FailureKind> {
    let of_type = match error.kind.as_str() {
        "insufficient_quota" => Some(FailureKind::Billing),
        "service_unavailable_error" => Some(FailureKind::Overloaded),
        "rate_limit_error" | "tokens" | "requests" => Some(FailureKind::RateLimited),
        "server_error" => Some(FailureKind::Transient),
        "invalid_request_error" | "authentication_error" | "permission_error" => {
            Some(FailureKind::Hopeless)
        }
        _ => None,
    };
    Some(match error.code.as_str() {
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        | "billing_hard_limit_reached"
        | "billing_not_active" => FailureKind::Billing,
        "context_length_exceeded" => FailureKind::TooLong,
        _ if is_too_long(&error.message) => FailureKind::TooLong,
        "server_is_overloaded" => FailureKind::Overloaded,
        "rate_limit_exceeded" => FailureKind::RateLimited,
        // Once a 503, today a 429: the type or the status says which.
        "slow_down" => of_type.unwrap_or(FailureKind::RateLimited),
        "server_error" | "vector_store_timeout" | "failed_to_download_image" => {
            FailureKind::Transient
        }
        "invalid_prompt" | "data_residency_mismatch" | "invalid_api_key" | "model_not_found" => {
            FailureKind::Hopeless
        }
        code if code.contains("image") => FailureKind::Hopeless,
        _ => return of_type,
    })
}

/// The time in a sentence such as "Please try again in 1m2.5s."
fn wait(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let mut rest = message.split_once("try again in ")?.1;
    let mut seconds = None;
    loop {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.');
        let (number, unit) = rest.split_at(digits.unwrap_or(rest.len()));
        let unit = unit.trim_start();
        let letters = unit.find(|next: char| !next.is_ascii_alphabetic());
        let (unit, after) = unit.split_at(letters.unwrap_or(unit.len()));
        let scale = match unit {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "second" | "seconds" => 1.0,
            "m" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        let Ok(number) = number.parse::<f64>() else { break };
        seconds = Some(seconds.unwrap_or(0.0) + number * scale);
        rest = after;
    }
    Duration::try_from_secs_f64(seconds?).ok().map(|wait| wait.min(LONGEST_WAIT))
}
