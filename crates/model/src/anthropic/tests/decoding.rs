//! Golden streams: what they mean, and that no way of cutting them changes it.

use super::GOLDEN;
use crate::{Event, FailureKind, Usage, anthropic::Decoder, wire::Decode as _};

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

fn feed(frames: &[&str]) -> Vec<Event> {
    let mut decoder = Decoder::new();
    let mut events = std::collections::VecDeque::new();
    for frame in frames {
        decoder.decode(frame, &mut events);
    }
    events.extend(decoder.end());
    events.into()
}

fn failure(frames: &[&str]) -> crate::Failure {
    match feed(frames).pop() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn error_events_have_their_kinds() {
    let kind = |kind: &str, message: &str| {
        failure(&[&format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#
        )])
        .kind
    };
    assert_eq!(kind("overloaded_error", ""), FailureKind::Overloaded);
    assert_eq!(kind("rate_limit_error", ""), FailureKind::RateLimited);
    assert_eq!(kind("api_error", ""), FailureKind::Transient);
    assert_eq!(kind("timeout_error", ""), FailureKind::Transient);
    assert_eq!(kind("some_new_error", ""), FailureKind::Transient);
    assert_eq!(kind("billing_error", ""), FailureKind::Billing);
    assert_eq!(kind("authentication_error", ""), FailureKind::Hopeless);
    assert_eq!(kind("invalid_request_error", "no such tool"), FailureKind::Hopeless);
    assert_eq!(
        kind("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        FailureKind::TooLong
    );
    assert_eq!(failure(&[r#"{"type":"error"}"#]).kind, FailureKind::Transient);
}

#[test]
fn what_cannot_be_read_fails_once_and_ends_the_response() {
    for frames in [
        &["no json"][..],
        &[r#"{"type":"content_block_stop","index":"x"}"#],
        &[r#"{"type":"content_block_start","index":0,"content_block":{"no":"type"}}"#],
        &[r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}"#],
        &[r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"a"}}"#],
        &[r#"{"type":"content_block_delta","index":0}"#],
    ] {
        let mut all = frames.to_vec();
        all.push(r#"{"type":"message_stop"}"#);
        let events = feed(&all);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(failure(&all).kind, FailureKind::Transient);
    }
}

#[test]
fn half_a_character_fails_rather_than_losing_what_came_before() {
    let failure = failure(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\ud83d"}}"#,
    ]);
    assert!(failure.message.contains("can't be read"), "{}", failure.message);
}

#[test]
fn a_delta_of_an_unknown_kind_is_told_and_changes_nothing_that_others_go_by() {
    let events = feed(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"new","text":"b","mood":"c"}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"new","id":"u","name":"m","text":"d"}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let Some(Event::Ended(response)) = events.last() else { panic!("{events:?}") };
    assert_eq!(
        crate::golden::natives(response),
        [
            r#"{"type":"text","text":"ab","mood":"c"}"#,
            r#"{"type":"tool_use","id":"t","name":"n","input":{},"text":"d"}"#
        ]
    );
    assert!(matches!(&events[2], Event::Text { index: 0, text } if text == "b"));
    let begun =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let odd = r#"{"type":"content_block_delta","index":0,"delta":{"type":"new","text":["b"]}}"#;
    assert!(failure(&[begun, odd]).message.contains("content that can't be read"));
}

#[test]
fn blocks_that_stream_side_by_side_stay_apart() {
    let events = feed(&[
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"b"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"c"}}"#,
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":null}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let Some(Event::Ended(response)) = events.last() else { panic!("{events:?}") };
    assert_eq!(
        crate::golden::natives(response),
        [r#"{"type":"text","text":"ab"}"#, r#"{"type":"text","text":"c"}"#]
    );
    assert!(matches!(&events[4], Event::Text { index: 1, text } if text == "c"));
}

#[test]
fn a_deep_or_long_input_survives() {
    let deep = format!(r#"{{\"d\":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let delta = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"input_json_delta","partial_json":"{deep}"}}}}"#
    );
    let events = feed(&[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#,
        &delta,
        r#"{"type":"message_stop"}"#,
    ]);
    let Some(Event::Ended(response)) = events.last() else { panic!("{events:?}") };
    assert!(response.blocks[0].native.get().contains(&deep.replace('\\', "")));
}

#[test]
fn events_without_meaning_are_ignored() {
    let frames = [
        r#"{"type":"ping"}"#,
        "{}",
        r#"{"type":"new","index":null,"delta":[],"error":7}"#,
        r#"{"type":"content_block_stop","index":9}"#,
    ];
    assert_eq!(feed(&frames).len(), 1);
    assert!(failure(&frames).message.contains("cut"));
}

#[test]
fn a_total_of_cache_writes_without_its_parts_counts_as_five_minutes() {
    let events = feed(&[
        r#"{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":0,"cache_creation_input_tokens":30}}}"#,
        r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":4,"cache_read_input_tokens":null}}"#,
    ]);
    let Some(Event::Failed(failure)) = events.last() else { panic!() };
    assert_eq!(
        failure.usage,
        Usage { input_tokens: 1, output_tokens: 4, cache_write_5m_tokens: 30, ..Usage::default() }
    );
}
