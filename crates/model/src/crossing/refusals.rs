//! Refusals in shapes that a wire does not expect: pages of proxies, other providers' words.

use reqwest::StatusCode;

use super::SPEAKERS;
use crate::FailureKind;

/// No message is longer, in characters: ours, the error's name and what the provider said of it.
const LONGEST: usize = 900;

const WORDS: &str = "See https://evil.example/keys?x=1 or use sk-proj-abcdefghijklmnop, 'AIzaSyabcdefghijklmnop' or key=gsk_abcdefghijklmnop now\\u0007\\nplease";

fn bodies() -> Vec<String> {
    let long = "long ".repeat(10_000);
    let word = "w".repeat(50_000);
    let mut bodies: Vec<String> = [
        "",
        "null",
        "[]",
        "{}",
        "[[]]",
        "7",
        "\"text\"",
        "{\"error\":",
        "<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1><a href=\"https://evil.example\">x</a></body></html>",
        "{\"error\":null}",
        "{\"error\":[]}",
        "{\"error\":{}}",
        "{\"error\":true}",
        "{\"error\":{\"error\":{\"error\":{\"message\":\"deep\"}}}}",
        "{\"error\":{\"type\":7,\"code\":-1,\"message\":[\"https://evil.example\"],\"status\":{}}}",
        "{\"error\":{\"code\":99999999999999999999,\"message\":null,\"details\":{}}}",
        "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"https://evil.example\"}]}",
        "{\"message\":{\"a\":1},\"request_id\":\"x\"}",
        "\u{feff}{}",
    ]
    .map(str::to_owned)
    .into();
    for said in [WORDS, &long, &word] {
        bodies.push(format!(
            r#"{{"type":"error","error":{{"type":"invalid_request_error","message":"{said}"}}}}"#
        ));
        bodies
            .push(format!(r#"{{"error":{{"code":"{said}","type":"{said}","message":"{said}"}}}}"#));
        bodies.push(format!(r#"{{"error":{{"code":400,"status":"{said}","message":"{said}"}}}}"#));
        bodies.push(format!(r#"[{{"error":{{"code":400,"status":"X","message":"{said}","details":[{{"retryDelay":"{said}"}}]}}}}]"#));
        bodies.push(format!(r#"{{"error":"{said}"}}"#));
        bodies.push(format!(r#"{{"detail":"{said}"}}"#));
        bodies.push(format!(
            r#"{{"error":{{"message":"a","metadata":{{"raw":"{{\"error\":\"{}\"}}"}}}}}}"#,
            said.replace('\\', "")
        ));
    }
    bodies
}

fn is_clean(message: &str, hint: &str) {
    assert!(!message.is_empty(), "{hint}");
    assert!(message.chars().count() < LONGEST, "{hint}: {} characters", message.chars().count());
    for secret in ["://", "evil", "sk-", "abcdefghijklmnop", "<html", "DOCTYPE"] {
        assert!(!message.contains(secret), "{hint}: {message}");
    }
    assert!(!message.contains(char::is_control), "{hint}: {message}");
}

#[test]
fn refusals_of_any_shape_are_one_clean_sentence() {
    for speaker in SPEAKERS {
        let wire = speaker.wire();
        for (index, body) in bodies().iter().enumerate() {
            let all = [400, 500, 100, 301, 401, 402, 404, 408, 413, 429, 502, 503, 529, 599];
            // The long ones take their time.
            for status in if body.len() > 10_000 { &all[..2] } else { &all } {
                let hint = format!("body {index} with {status} to {}", speaker.name);
                let status = StatusCode::from_u16(*status).unwrap();
                let (kind, message) = wire.refusal(status, body.as_bytes());
                is_clean(&message, &hint);
                if status.is_server_error() {
                    assert_ne!(kind, FailureKind::Hopeless, "{hint}");
                }
                if matches!(status.as_u16(), 401 | 404) {
                    assert_eq!(kind, FailureKind::Hopeless, "{hint}: {message}");
                }
                let _ = wire.retry_after(body.as_bytes());
            }
        }
        for bytes in [b"\xff\xfe\x00".as_slice(), &[0; 9], &[b'['; 60_000]] {
            let (kind, message) = wire.refusal(StatusCode::BAD_GATEWAY, bytes);
            assert_eq!((kind, &*message), (FailureKind::Transient, "the provider answered 502"));
            assert_eq!(wire.retry_after(bytes), None);
        }
    }
}
