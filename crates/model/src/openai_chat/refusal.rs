//! What a refusal of a Chat Completions server means, in whichever shape it comes.

use std::{borrow::Cow, time::Duration};

use reqwest::StatusCode;
use serde_json::value::RawValue;

use crate::{
    FailureKind,
    failure::{LONGEST_WAIT, is_too_long, of_status, sentence},
    members::{Members, elements, text},
};

/// What is known of an error.
#[derive(Debug, Default)]
struct Said {
    /// `code` and `type`, where they are words; Google's `status`.
    words: Vec<String>,
    /// `code`, where it is a number.
    number: Option<u16>,
    message: String,
}

/// The failure that an error in a stream tells of; `None` when there is no error.
pub(super) fn in_stream(data: &str) -> Option<(FailureKind, String)> {
    let said = read(data)?;
    let status = said.number.and_then(|number| StatusCode::from_u16(number).ok());
    let kind = of_words(&said).unwrap_or_else(|| match status {
        Some(status) => of_status(status),
        None if said.words.iter().any(|word| hopeless(word)) => FailureKind::Hopeless,
        None => FailureKind::Transient,
    });
    Some((kind, sentence("the provider stopped with an error", word(&said), &said.message)))
}

/// The failure that an answer without success tells of.
pub(super) fn of_answer(status: StatusCode, body: &[u8]) -> (FailureKind, String) {
    let said = std::str::from_utf8(body).ok().and_then(read).unwrap_or_default();
    let kind = of_words(&said).unwrap_or_else(|| of_status(status));
    let ours = format!("the provider answered {}", status.as_u16());
    (kind, sentence(&ours, word(&said), &said.message))
}

/// Google's `RetryInfo`: `"retryDelay":"38s"`.
pub(super) fn retry_after(body: &[u8]) -> Option<Duration> {
    let body: &RawValue = serde_json::from_slice(body).ok()?;
    let error = Members::of(elements(body).first().copied().unwrap_or(body))?.get("error")?;
    let details = elements(Members::of(error)?.get("details")?);
    let delay = details.into_iter().find_map(|detail| Members::of(detail)?.text("retryDelay"))?;
    let seconds = delay.strip_suffix('s')?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT))
}

fn word(said: &Said) -> &str {
    said.words.first().map_or("", String::as_str)
}

/// Reads `{"error":{…}}`, `{"error":"…"}`, the same in an array, the error without `error`
/// around it, and `{"detail":…}`.
fn read(data: &str) -> Option<Said> {
    let whole: &RawValue = serde_json::from_str(data).ok()?;
    let whole = elements(whole).first().copied().unwrap_or(whole);
    let members = Members::of(whole)?;
    let inner = match members.get("error").filter(|error| error.get() != "null") {
        Some(error) => match text(error) {
            Some(message) => {
                return Some(Said { message: message.into_owned(), ..Said::default() });
            }
            None => Members::of(error)?,
        },
        None if members.get("message").is_some() || members.get("detail").is_some() => members,
        None => return None,
    };
    Some(of_members(&inner))
}

fn of_members(members: &Members<'_>) -> Said {
    let mut said = Said::default();
    for name in ["code", "type", "status"] {
        let Some(value) = members.get(name) else { continue };
        match text(value) {
            // Some write the number as text.
            Some(word) => match word.parse() {
                Ok(number) => said.number = said.number.or(Some(number)),
                Err(_) if word.is_empty() => {}
                Err(_) => said.words.push(word.into_owned()),
            },
            None => said.number = said.number.or_else(|| serde_json::from_str(value.get()).ok()),
        }
    }
    let message = members.get("message").or_else(|| members.get("detail"));
    if let Some(message) = message.filter(|message| message.get() != "null") {
        // What was wrong with which member comes as a list.
        said.message = text(message).unwrap_or(Cow::Borrowed(message.get())).into_owned();
    }
    // OpenRouter only says that its provider refused; what that said is in here.
    let cause = members.get("metadata").and_then(|metadata| Members::of(metadata)?.text("raw"));
    if let Some(cause) = cause {
        let cause =
            read(&cause).unwrap_or_else(|| Said { message: cause.into_owned(), ..Said::default() });
        said.words.extend(cause.words);
        if !cause.message.is_empty() {
            said.message = format!("{}: {}", said.message, cause.message);
        }
    }
    said
}

/// What the error's words say, where they say more than a status.
fn of_words(said: &Said) -> Option<FailureKind> {
    let any = |known: &[&str]| said.words.iter().any(|word| known.contains(&&**word));
    let message = said.message.to_ascii_lowercase();
    let says = |known: &[&str]| known.iter().any(|phrase| message.contains(phrase));
    if any(&["context_length_exceeded", "exceed_context_size_error"])
        || is_too_long(&message)
        // llama.cpp, xAI, Google, LM Studio.
        || says(&[
            "exceeds the available context size",
            "maximum prompt length",
            "exceeds the maximum number of tokens",
            "greater than the context length",
        ])
    {
        Some(FailureKind::TooLong)
    } else if any(&[
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_user_quota",
    ]) || says(&[
        "insufficient balance",
        "insufficient credits",
        "used all available credits",
    ]) {
        Some(FailureKind::Billing)
    } else if any(&["overloaded_error", "engine_overloaded", "service_unavailable", "UNAVAILABLE"])
    {
        Some(FailureKind::Overloaded)
    } else if any(&[
        "rate_limit_exceeded",
        "rate_limit_error",
        "rate_limited",
        "RESOURCE_EXHAUSTED",
    ]) {
        Some(FailureKind::RateLimited)
    } else {
        None
    }
}

fn hopeless(word: &str) -> bool {
    [
        "invalid_request_error",
        "invalid_api_key",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "model_not_found",
        "BadRequestError",
        "NotFoundError",
    ]
    .contains(&word)
}
