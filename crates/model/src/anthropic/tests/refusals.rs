//! How long a provider asks to wait, and what is left of its words.

use std::time::{Duration, SystemTime};

use reqwest::{StatusCode, header::HeaderMap};

use crate::{FailureKind, anthropic::refusal, failure};

fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    failure::retry_after(&map, now)
}

#[test]
fn retry_after_has_three_forms() {
    assert_eq!(wait(&[]), None);
    assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(wait(&[("retry-after", " 1.5 ")]), Some(Duration::from_millis(1_500)));
    assert_eq!(
        wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]),
        Some(Duration::from_secs(30))
    );
    assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(Duration::ZERO));
    assert_eq!(
        wait(&[("retry-after", "9"), ("retry-after-ms", "250.5")]),
        Some(Duration::from_micros(250_500))
    );
    assert_eq!(
        wait(&[("retry-after", "9"), ("retry-after-ms", "x")]),
        Some(Duration::from_secs(9))
    );
    for nonsense in ["soon", "-1", "NaN", "inf", "1e300", ""] {
        assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
    }
    assert_eq!(wait(&[("retry-after", "99999999")]), Some(Duration::from_secs(86_400)));
}

#[test]
fn answers_have_their_kinds() {
    use FailureKind::{Billing, Hopeless, Overloaded, RateLimited, TooLong, Transient};
    let kind = |status: u16, body: &str| {
        refusal::of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).0
    };
    for (status, expected) in [
        (301, Hopeless),
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
        (502, Transient),
        (503, Overloaded),
        (504, Transient),
        (529, Overloaded),
    ] {
        assert_eq!(kind(status, "<html>"), expected, "{status}");
    }
    let body = |kind: &str, message: &str| {
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
    };
    let long = body("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum");
    assert_eq!(kind(400, &long), TooLong);
    let both = "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000";
    assert_eq!(kind(400, &body("invalid_request_error", both)), TooLong);
    let poor = "Your credit balance is too low to access the API.";
    assert_eq!(kind(400, &body("invalid_request_error", poor)), Billing);
    assert_eq!(kind(403, &body("billing_error", "")), Billing);
    assert_eq!(kind(500, &body("overloaded_error", "")), Overloaded);
    assert_eq!(kind(429, &body("invalid_request_error", "")), RateLimited);
}

#[test]
fn a_providers_words_are_kept_short_and_without_addresses() {
    let body = format!(
        r#"{{"error":{{"type":"rate_limit_error","message":"Slow down,\nsee https://a.test/x?k=1 or sk-ant-123 {}"}}}}"#,
        "word ".repeat(500)
    );
    let (_, message) = refusal::of_answer(StatusCode::TOO_MANY_REQUESTS, body.as_bytes());
    assert!(message.starts_with("the provider answered 429 (rate_limit_error): Slow down, see or"));
    assert!(!message.contains("a.test") && !message.contains("sk-"));
    assert!(message.chars().count() < 480, "{}", message.len());
    let (_, message) = refusal::of_answer(StatusCode::BAD_GATEWAY, b"<html>secret</html>");
    assert_eq!(message, "the provider answered 502");
}
