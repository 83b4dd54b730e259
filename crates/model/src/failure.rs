//! What a provider's refusal says: its words without anything secret, and how long it asks to
//! wait. What kind of refusal it is, each wire knows. Never decides on a retry.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{StatusCode, header::HeaderMap};

use crate::FailureKind;

/// No sentence of a provider is shown beyond this many characters.
const LONGEST_MESSAGE: usize = 400;

/// What marks a word as an address or a key: those of OpenAI and Anthropic, Google, Groq and xAI.
const SECRET: &[&str] = &["://", "sk-", "AIza", "gsk_", "xai-"];

/// A longer wish to wait is cut to this, so that no sum of times can overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The kind that a body tells of, or that of the status where the body is less exact: where it says
/// only that the request is wrong, or only that something went wrong.
pub(crate) fn more_exact(told: Option<FailureKind>, status: StatusCode) -> FailureKind {
    let of_status = of_status(status);
    match told {
        None | Some(FailureKind::Hopeless) => of_status,
        Some(FailureKind::Transient) if of_status == FailureKind::Overloaded => of_status,
        Some(told) => told,
    }
}

/// What a status means where the body says nothing better.
pub(crate) fn of_status(status: StatusCode) -> FailureKind {
    match status.as_u16() {
        503 | 529 => FailureKind::Overloaded,
        429 => FailureKind::RateLimited,
        402 => FailureKind::Billing,
        413 => FailureKind::TooLong,
        408 | 409 | 500..=599 => FailureKind::Transient,
        _ => FailureKind::Hopeless,
    }
}

/// Whether a message says that the prompt is longer than the model's window. Providers have no
/// common code for it.
pub(crate) fn is_too_long(message: &str) -> bool {
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

/// One sentence from our words and the provider's: the error's kind and its message.
pub(crate) fn sentence(ours: &str, kind: &str, message: &str) -> String {
    let theirs = clean(message);
    match (kind, theirs.as_str()) {
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
        if SECRET.iter().any(|mark| word.contains(mark)) {
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
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
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
