//! Golden streams: what they mean, and that no way of cutting them changes it.

use std::{collections::VecDeque, time::Duration};

use super::GOLDEN;
use crate::{
    Event, Failure, FailureKind, Stop, View, gemini::decoder::Decoder, golden::natives,
    wire::Decode as _,
};

#[tokio::test]
async fn golden_streams_mean_what_is_written_beside_them() {
    GOLDEN.mean_what_is_written().await;
}

#[tokio::test]
async fn bytes_may_come_one_at_a_time() {
    GOLDEN.survive_any_chunks().await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_gives_the_events_before_the_cut_and_a_failure() {
    GOLDEN.survive_any_cut().await;
}

fn feed(chunks: &[&str]) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let mut events = VecDeque::new();
    for chunk in chunks {
        decoder.decode(chunk, &mut events);
    }
    events.extend(decoder.end());
    assert!(decoder.is_finished() && decoder.end().is_none());
    events.into()
}

fn failure(chunks: &[&str]) -> Failure {
    match feed(chunks).pop() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn response(chunks: &[&str]) -> crate::Response {
    match feed(chunks).pop() {
        Some(Event::Ended(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn parts(parts: &str, reason: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"{reason}"}}],"responseId":"r"}}"#
    )
}

#[test]
fn every_reason_to_finish_has_its_meaning() {
    let stop = |reason: &str| response(&[&parts(r#"{"text":"a"}"#, reason)]).stop;
    assert_eq!(stop("STOP"), Stop::EndTurn);
    assert_eq!(stop("SOMETHING_NEW"), Stop::EndTurn);
    assert_eq!(stop("MAX_TOKENS"), Stop::MaxTokens);
    assert_eq!(stop("CONTINUATION"), Stop::MaxTokens);
    for reason in [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
        "MODEL_ARMOR",
    ] {
        let category = Some(reason.to_ascii_lowercase());
        assert_eq!(stop(reason), Stop::Refusal { category, explanation: None });
    }
    let kind = |reason: &str| failure(&[&parts(r#"{"text":"a"}"#, reason)]).kind;
    for reason in [
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "OTHER",
        "IMAGE_OTHER",
        "NO_IMAGE",
    ] {
        assert_eq!(kind(reason), FailureKind::Transient, "{reason}");
    }
    assert_eq!(kind("PUP_LIMITED_DISABLED"), FailureKind::Hopeless);
    // Not a reason, so the stream has been cut.
    assert!(
        failure(&[&parts(r#"{"text":"a"}"#, "FINISH_REASON_UNSPECIFIED")]).message.contains("cut")
    );
}

#[test]
fn a_blocked_prompt_is_a_refusal_with_its_reason() {
    let blocked = r#"{"promptFeedback":{"blockReason":"OTHER","blockReasonMessage":"Why."}}"#;
    let refusal =
        Stop::Refusal { category: Some("other".into()), explanation: Some("Why.".into()) };
    assert_eq!(response(&[blocked]).stop, refusal);
    let unblocked = r#"{"promptFeedback":{"safetyRatings":[]}}"#;
    assert!(failure(&[unblocked]).message.contains("cut"));
    let unspecified = r#"{"promptFeedback":{"blockReason":"BLOCK_REASON_UNSPECIFIED"}}"#;
    assert_eq!(response(&[unspecified, &parts("", "STOP")]).stop, Stop::EndTurn);
}

#[test]
fn errors_in_the_stream_have_their_kinds() {
    let kind = |code: u16, status: &str, message: &str| {
        failure(&[&format!(
            r#"{{"error":{{"code":{code},"status":"{status}","message":"{message}"}}}}"#
        )])
        .kind
    };
    assert_eq!(kind(503, "UNAVAILABLE", ""), FailureKind::Overloaded);
    assert_eq!(kind(429, "RESOURCE_EXHAUSTED", ""), FailureKind::RateLimited);
    assert_eq!(kind(500, "INTERNAL", ""), FailureKind::Transient);
    assert_eq!(kind(400, "INVALID_ARGUMENT", "no"), FailureKind::Hopeless);
    assert_eq!(kind(0, "", ""), FailureKind::Transient);
    assert_eq!(failure(&[r#"{"error":7}"#]).kind, FailureKind::Transient);
    let waits = r#"{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"7s"}]}}"#;
    assert_eq!(failure(&[waits]).retry_after, Some(Duration::from_secs(7)));
}

#[test]
fn what_cannot_be_read_fails_once_and_ends_the_answer() {
    for data in [
        "no json",
        "[]",
        r#"{"candidates":7}"#,
        &parts("7", "STOP"),
        &parts(r#"{"text":"\ud83d"}"#, "STOP"),
        &parts(r#"{"functionCall":{"args":{}}}"#, "STOP"),
        &parts(r#"{"functionCall":{"name":"a","willContinue":true}}"#, "STOP"),
        &parts(r#"{"functionCall":{"name":"a","partialArgs":[]}}"#, "STOP"),
    ] {
        let all = [data, &parts(r#"{"text":"late"}"#, "STOP")];
        assert_eq!(feed(&all).len(), 1, "{data}");
        let failure = failure(&all);
        assert_eq!(failure.kind, FailureKind::Transient, "{data}");
        assert!(failure.message.contains("can't be read"), "{data}");
    }
}

#[test]
fn chunks_without_meaning_are_ignored() {
    let chunks = ["{}", r#"{"candidates":[]}"#, r#"{"candidates":[{"content":{}}]}"#, "[DONE]"];
    assert_eq!(feed(&chunks).len(), 1);
    assert!(failure(&chunks).message.contains("cut"));
}

#[test]
fn made_ids_fit_everywhere() {
    let id = |response_id: &str| {
        let chunk = parts(r#"{"text":"a"},{"functionCall":{"name":"n"}}"#, "STOP");
        let chunk =
            chunk.replace(r#""responseId":"r""#, &format!(r#""responseId":"{response_id}""#));
        match response(&[&chunk]).blocks.pop().unwrap().view {
            View::ToolUse { call_id, .. } => call_id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(id("mAit-_4"), "mAit-_4_1");
    assert_eq!(id(""), "call_1");
    assert_eq!(id("a/b c\u{e9}"), "abc_1");
    assert_eq!(id(&"x".repeat(200)), format!("{}_1", "x".repeat(62)));
    assert!(id(&"x".repeat(200)).len() <= 64);
}

#[test]
fn a_lone_signature_keeps_its_place_and_an_empty_text_goes() {
    let blocks = response(&[
        &parts(r#"{"text":""},{"text":"a"},{"text":""},{"text":"","thoughtSignature":"cw=="}"#, ""),
        &parts(r#"{"text":"b"},{"text":"","thought":true},{"text":"c"}"#, "STOP"),
    ]);
    assert_eq!(
        natives(&blocks),
        [r#"{"text":"a"}"#, r#"{"text":"","thoughtSignature":"cw=="}"#, r#"{"text":"bc"}"#]
    );
}

#[test]
fn a_deep_or_long_input_survives() {
    let deep = format!(r#"{{"d":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let part = format!(r#"{{"functionCall":{{"name":"n","args":{deep}}}}}"#);
    let response = response(&[&parts(&part, "STOP")]);
    assert_eq!(natives(&response), [part]);
    assert_eq!(response.stop, Stop::ToolUse);
}
