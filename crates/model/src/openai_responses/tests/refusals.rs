//! What an answer without success means, and how the list of models is read.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;

use super::WIRE;
use crate::{Credential, FailureKind, failure::LONGEST_WAIT};

fn refusal(status: u16, body: &str) -> (FailureKind, String) {
    WIRE.wire().refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())
}

fn body(kind: &str, code: &str, message: &str) -> String {
    format!(r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}"#)
}

#[test]
fn answers_have_their_kinds() {
    use FailureKind::{Billing, Hopeless, Overloaded, RateLimited, TooLong, Transient};
    for (status, expected) in [
        (301, Hopeless),
        (400, Hopeless),
        (401, Hopeless),
        (403, Hopeless),
        (404, Hopeless),
        (408, Transient),
        (409, Transient),
        (429, RateLimited),
        (500, Transient),
        (502, Transient),
        (503, Overloaded),
        (529, Overloaded),
    ] {
        assert_eq!(refusal(status, "<html>").0, expected, "{status}");
    }
    for (status, kind, code, expected) in [
        (429, "insufficient_quota", "insufficient_quota", Billing),
        (429, "insufficient_quota", "organization_usage_limit_exceeded", Billing),
        (429, "tokens", "rate_limit_exceeded", RateLimited),
        (429, "rate_limit_error", "slow_down", RateLimited),
        (503, "service_unavailable_error", "slow_down", Overloaded),
        (503, "service_unavailable_error", "server_is_overloaded", Overloaded),
        (400, "invalid_request_error", "context_length_exceeded", TooLong),
        (400, "invalid_request_error", "unsupported_value", Hopeless),
        (401, "invalid_request_error", "invalid_api_key", Hopeless),
        (404, "invalid_request_error", "model_not_found", Hopeless),
        (500, "server_error", "", Transient),
        // The status says more than a type that says only "invalid request".
        (429, "invalid_request_error", "", RateLimited),
    ] {
        assert_eq!(refusal(status, &body(kind, code, "")).0, expected, "{status} {kind} {code}");
    }
    let long = "This model's maximum context length is 8192 tokens.";
    assert_eq!(refusal(400, &body("invalid_request_error", "", long)).0, TooLong);
    assert_eq!(refusal(400, r#"{"error":{"code":400,"message":null}}"#).0, Hopeless);
}

#[test]
fn a_providers_words_are_kept_without_keys_and_addresses() {
    let told = "Incorrect API key provided: sk-proj-12**34. You can find your API key at https://platform.openai.com/account/api-keys.";
    let (_, message) = refusal(401, &body("invalid_request_error", "invalid_api_key", told));
    assert_eq!(
        message,
        "the provider answered 401 (invalid_api_key): Incorrect API key provided: You can find your API key at"
    );
    let (_, message) = refusal(500, &body("server_error", "", "Oh."));
    assert_eq!(message, "the provider answered 500 (server_error): Oh.");
    assert_eq!(refusal(502, "<html>secret</html>").1, "the provider answered 502");
}

#[test]
fn the_wait_stands_in_the_sentence() {
    let wait = |told: &str| {
        WIRE.wire().retry_after(body("tokens", "rate_limit_exceeded", told).as_bytes())
    };
    for (told, milliseconds) in [
        ("Please try again in 20ms. Visit", 20),
        ("Please try again in 1.242s.", 1_242),
        ("Please Try Again in 6m0s.", 360_000),
        ("try again in 1h2m3s", 3_723_000),
        ("try again in 5 seconds.", 5_000),
        ("try again in 2 minutes", 120_000),
    ] {
        assert_eq!(wait(told), Some(Duration::from_millis(milliseconds)), "{told}");
    }
    for told in ["", "Try again later.", "try again in a moment", "try again in 5", "try again in"]
    {
        assert_eq!(wait(told), None, "{told}");
    }
    assert_eq!(wait("try again in 99999999d"), Some(LONGEST_WAIT));
    assert_eq!(WIRE.wire().retry_after(b"<html>"), None);
}

#[test]
fn both_kinds_of_credential_are_bearers() {
    for credential in [Credential::ApiKey("k".into()), Credential::Token("k".into())] {
        let (name, value) = WIRE.wire().credential(&credential);
        assert_eq!((name.as_str(), value.as_str()), ("authorization", "Bearer k"));
    }
}

#[test]
fn models_are_listed_on_one_page() {
    let page = Bytes::from_static(
        br#"{"object":"list","data":[{"id":"gpt-6.1-sol","object":"model","created":1790640000,"owned_by":"system","shutdown_date":null},{"id":"mine"}]}"#,
    );
    let listed = WIRE.wire().listed(&page).unwrap();
    assert_eq!(listed.next, None);
    assert_eq!(listed.models[0].id, "gpt-6.1-sol");
    assert_eq!(listed.models[0].created, Some(1_790_640_000));
    assert_eq!(listed.models[1].id, "mine");
    assert!(WIRE.wire().listed(&Bytes::from_static(b"[]")).is_none());
    assert_eq!(WIRE.wire().listing().path, "/models");
    assert_eq!(WIRE.wire().target(&crate::Body::default()).path, "/responses");
}
