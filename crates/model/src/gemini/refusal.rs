//! What a refusal of the API means: `google.rpc.Status`, in an answer or in the stream.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    FailureKind,
    failure::{LONGEST_WAIT, is_too_long, of_status, sentence},
};

/// `google.rpc.Status` as JSON.
#[derive(Deserialize, Default)]
pub(super) struct WireError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

/// `google.rpc.RetryInfo` and `google.rpc.ErrorInfo` in one shape; others have neither member.
#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "retryDelay")]
    retry_delay: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: WireError,
}

/// The error in a body; some answers wrap it in a list.
pub(super) fn of_body(body: &[u8]) -> Option<WireError> {
    // The list first: a struct can be read from one, too, member by member.
    let listed = serde_json::from_slice::<Vec<ErrorBody>>(body).ok();
    let listed = listed.and_then(|list| list.into_iter().next());
    let body = listed.or_else(|| serde_json::from_slice(body).ok());
    body.map(|body| body.error)
}

/// The error in a chunk of a stream.
pub(super) fn of_error(error: &RawValue) -> WireError {
    serde_json::from_str(error.get()).unwrap_or_default()
}

/// The failure that an answer without success tells of.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> (FailureKind, String) {
    let error = of_body(body).unwrap_or_default();
    let kind = error.kind().unwrap_or_else(|| of_status(status));
    let ours = format!("the provider answered {}", status.as_u16());
    (kind, sentence(&ours, &error.status, &error.message))
}

impl WireError {
    /// The failure that it tells of in the middle of a stream.
    pub(super) fn of_stream(&self) -> (FailureKind, String) {
        let status = StatusCode::from_u16(self.code).ok().filter(|status| status.as_u16() >= 400);
        let kind = self.kind().or(status.map(of_status)).unwrap_or(FailureKind::Transient);
        (kind, sentence("the provider stopped with an error", &self.status, &self.message))
    }

    /// How long it asks to wait: a protobuf duration such as `"22.5s"`.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let delay = self.details.iter().find_map(|detail| detail.retry_delay.as_deref())?;
        let seconds = delay.strip_suffix('s')?.parse().ok()?;
        Some(Duration::try_from_secs_f64(seconds).ok()?.min(LONGEST_WAIT))
    }

    /// What the body alone says, where it says more than the HTTP status.
    fn kind(&self) -> Option<FailureKind> {
        if is_too_long(&self.message)
            || self.message.contains("exceeds the maximum number of tokens")
        {
            return Some(FailureKind::TooLong);
        }
        // Spent credits come with the same code as too many requests, and "check your plan and
        // billing details" with both: only these words tell them apart.
        let unpaid = self.message.contains("credits are depleted")
            || self
                .details
                .iter()
                .any(|detail| detail.reason.as_deref() == Some("BILLING_DISABLED"));
        if unpaid {
            return Some(FailureKind::Billing);
        }
        match self.status.as_str() {
            "RESOURCE_EXHAUSTED" if self.code != 402 => Some(FailureKind::RateLimited),
            "UNAVAILABLE" => Some(FailureKind::Overloaded),
            "INTERNAL" | "UNKNOWN" | "DEADLINE_EXCEEDED" | "ABORTED" | "CANCELLED" => {
                Some(FailureKind::Transient)
            }
            _ => None,
        }
    }
}
