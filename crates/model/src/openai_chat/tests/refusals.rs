//! Errors of many servers, in the shapes that they have.

use std::time::Duration;

use reqwest::StatusCode;

use crate::{
    FailureKind::{self, Billing, Hopeless, Overloaded, RateLimited, TooLong, Transient},
    openai_chat::refusal,
};

fn kind(status: u16, body: &str) -> FailureKind {
    refusal::of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).0
}

#[test]
fn answers_have_their_kinds() {
    for (status, expected) in [
        (400, Hopeless),
        (401, Hopeless),
        (402, Billing),
        (403, Hopeless),
        (404, Hopeless),
        (408, Transient),
        (409, Transient),
        (413, TooLong),
        (422, Hopeless),
        (429, RateLimited),
        (500, Transient),
        (503, Overloaded),
        (529, Overloaded),
    ] {
        assert_eq!(kind(status, "<html>"), expected, "{status}");
        assert_eq!(kind(status, r#"{"error":null}"#), expected, "{status}");
    }
    let error = |error: &str| format!(r#"{{"error":{{{error}}}}}"#);
    // OpenAI.
    let quota = r#""message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota""#;
    assert_eq!(kind(429, &error(quota)), Billing);
    let long = r#""message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","code":"context_length_exceeded""#;
    assert_eq!(kind(400, &error(long)), TooLong);
    let limit = r#""message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded""#;
    assert_eq!(kind(429, &error(limit)), RateLimited);
    // Google, with its status, in an array.
    let google = r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details","status":"RESOURCE_EXHAUSTED"}}]"#;
    assert_eq!(kind(429, google), RateLimited);
    let google = r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}]"#;
    assert_eq!(kind(400, google), TooLong);
    // llama.cpp.
    let full = r#""code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_ctx":4096"#;
    assert_eq!(kind(400, &error(full)), TooLong);
    // Mistral, flat.
    let flat = r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","code":"3505"}"#;
    assert_eq!(kind(429, flat), RateLimited);
    // DeepSeek, xAI.
    assert_eq!(kind(400, &error(r#""message":"Insufficient Balance""#)), Billing);
    let spent = r#"{"code":"The caller does not have permission","error":"Your team has used all available credits."}"#;
    assert_eq!(kind(403, spent), Billing);
}

#[test]
fn errors_in_a_stream_have_their_kinds() {
    let kind = |data: &str| refusal::in_stream(data).unwrap().0;
    assert_eq!(kind(r#"{"error":{"code":502,"message":"Provider returned error"}}"#), Transient);
    assert_eq!(kind(r#"{"error":{"code":"429","message":"slow down"}}"#), RateLimited);
    assert_eq!(kind(r#"{"error":{"code":401,"message":"no"}}"#), Hopeless);
    assert_eq!(kind(r#"{"error":{"type":"invalid_request_error","message":"no"}}"#), Hopeless);
    assert_eq!(kind(r#"{"error":{"type":"server_error","message":"oops"}}"#), Transient);
    assert_eq!(kind(r#"{"error":"the model has crashed"}"#), Transient);
    assert_eq!(kind(r#"{"detail":[{"msg":"wrong"}]}"#), Transient);
    assert!(refusal::in_stream(r#"{"choices":[]}"#).is_none());
    assert!(refusal::in_stream("half {").is_none());
}

#[test]
fn sentences_say_what_the_server_said() {
    let sentence = |body: &str| refusal::of_answer(StatusCode::BAD_REQUEST, body.as_bytes()).1;
    assert_eq!(
        sentence(
            r#"{"error":{"message":"No such model.","type":"invalid_request_error","code":"model_not_found"}}"#
        ),
        "the provider answered 400 (model_not_found): No such model."
    );
    assert_eq!(sentence(r#"{"error":"plain"}"#), "the provider answered 400: plain");
    assert_eq!(
        sentence(r#"{"detail":[{"loc":["body"],"msg":"Extra inputs"}]}"#),
        r#"the provider answered 400: [{"loc":["body"],"msg":"Extra inputs"}]"#
    );
    // A router tells what the server behind it has said.
    let behind = r#"{"error":{"code":400,"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"maximum context length is 9\",\"type\":\"invalid_request_error\"}}"}}}"#;
    assert_eq!(
        sentence(behind),
        "the provider answered 400 (invalid_request_error): Provider returned error: maximum context length is 9"
    );
    assert_eq!(kind(400, behind), TooLong);
    let secret = sentence(
        r#"{"error":{"message":"Incorrect API key provided: sk-abc. See https://a.test/keys."}}"#,
    );
    assert!(!secret.contains("sk-") && !secret.contains("a.test"), "{secret}");
    assert_eq!(sentence("<html>secret</html>"), "the provider answered 400");
}

#[test]
fn google_says_in_the_body_how_long_to_wait() {
    let body = |delay: &str| {
        format!(
            r#"[{{"error":{{"code":429,"details":[{{"@type":"x"}},{{"@type":"RetryInfo","retryDelay":"{delay}"}}]}}}}]"#
        )
    };
    assert_eq!(refusal::retry_after(body("38s").as_bytes()), Some(Duration::from_secs(38)));
    assert_eq!(refusal::retry_after(body("1.5s").as_bytes()), Some(Duration::from_millis(1_500)));
    assert_eq!(
        refusal::retry_after(body("99999999s").as_bytes()),
        Some(Duration::from_secs(86_400))
    );
    for nonsense in [body("soon"), body("-1s"), "{}".to_owned(), "[]".to_owned(), String::new()] {
        assert_eq!(refusal::retry_after(nonsense.as_bytes()), None, "{nonsense}");
    }
}
