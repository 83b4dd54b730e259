//! What answers without success mean, and how long they ask to wait.

use std::time::Duration;

use reqwest::StatusCode;

use crate::{FailureKind, gemini::GenerateContent, gemini::refusal, wire::Wire as _};

fn read(status: u16, body: &str) -> (FailureKind, String) {
    refusal::of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

fn body(code: u16, status: &str, message: &str) -> String {
    format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"}}}}"#)
}

#[test]
fn answers_have_their_kinds() {
    use FailureKind::{Billing, Hopeless, Overloaded, RateLimited, TooLong, Transient};
    for (status, expected) in [
        (400, Hopeless),
        (401, Hopeless),
        (402, Billing),
        (403, Hopeless),
        (404, Hopeless),
        (408, Transient),
        (409, Transient),
        (413, TooLong),
        (429, RateLimited),
        (500, Transient),
        (503, Overloaded),
        (504, Transient),
        (529, Overloaded),
    ] {
        assert_eq!(read(status, "<html>").0, expected, "{status}");
    }
    for (code, status, message, expected) in [
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", Hopeless),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1054016) exceeds the maximum number of tokens allowed (1048576).",
            TooLong,
        ),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", Hopeless),
        (403, "PERMISSION_DENIED", "Your project was denied access.", Hopeless),
        (404, "NOT_FOUND", "models/x is not found", Hopeless),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.",
            RateLimited,
        ),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", Billing),
        (402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", Billing),
        (402, "RESOURCE_EXHAUSTED", "Pay.", Billing),
        (499, "CANCELLED", "The operation was cancelled.", Transient),
        (500, "INTERNAL", "An internal error has occurred.", Transient),
        (503, "UNAVAILABLE", "The model is overloaded.", Overloaded),
        (504, "DEADLINE_EXCEEDED", "Deadline expired.", Transient),
    ] {
        assert_eq!(read(code, &body(code, status, message)).0, expected, "{message}");
        let listed = format!("[{}\n]", body(code, status, message));
        assert_eq!(read(code, &listed).0, expected, "{message}");
    }
    let off = r#"{"error":{"code":403,"status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"BILLING_DISABLED"}]}}"#;
    assert_eq!(read(403, off).0, Billing);
}

#[test]
fn a_refusal_is_one_clean_sentence() {
    let (_, message) =
        read(429, &body(429, "RESOURCE_EXHAUSTED", "Slow down, see https://ai.test/x"));
    assert_eq!(message, "the provider answered 429 (RESOURCE_EXHAUSTED): Slow down, see");
    assert_eq!(read(502, "<html>secret</html>").1, "the provider answered 502");
}

#[test]
fn a_body_says_how_long_to_wait() {
    let wait = |delay: &str| {
        let body = format!(
            r#"[{{"error":{{"code":429,"details":[{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}]}}}}]"#
        );
        GenerateContent.retry_after(body.as_bytes())
    };
    assert_eq!(wait("22s"), Some(Duration::from_secs(22)));
    assert_eq!(wait("0.25s"), Some(Duration::from_millis(250)));
    assert_eq!(wait("99999999s"), Some(Duration::from_secs(86_400)));
    for nonsense in ["", "s", "22", "-1s", "NaNs", "1e300s"] {
        assert_eq!(wait(nonsense), None, "{nonsense}");
    }
    assert_eq!(GenerateContent.retry_after(b"<html>"), None);
    assert_eq!(GenerateContent.retry_after(body(429, "", "").as_bytes()), None);
}
