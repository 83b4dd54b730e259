//! Golden streams: what they mean, and that no way of cutting them changes it.

use std::collections::VecDeque;

use super::GOLDEN;
use crate::{Event, Failure, FailureKind, Response, Stop, View, WireKind, golden::natives};

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
    let mut decoder = WireKind::OpenaiChat.wire().decoder();
    let mut events = VecDeque::new();
    for frame in frames {
        decoder.decode(frame, &mut events);
    }
    events.extend(decoder.end());
    assert!(decoder.is_finished());
    events.into()
}

fn failure(frames: &[&str]) -> Failure {
    match feed(frames).pop() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn response(frames: &[&str]) -> Response {
    match feed(frames).pop() {
        Some(Event::Ended(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn delta(delta: &str) -> String {
    format!(r#"{{"id":"c1","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
}

fn end(reason: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#)
}

#[test]
fn what_cannot_be_read_fails_once_and_ends_the_response() {
    for frame in [
        "no json",
        r#"{"choices":7}"#,
        &delta(r#"{"content":"\ud83d"}"#),
        &delta("7"),
        &delta(r#"{"tool_calls":[7]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"call_1","function":{"arguments":"{}"}}]}"#),
    ] {
        let events = feed(&[frame, &end("stop"), "[DONE]"]);
        assert_eq!(events.len(), 1, "{frame}: {events:?}");
        let Event::Failed(failure) = &events[0] else { panic!("{frame}") };
        assert_eq!(failure.kind, FailureKind::Transient);
        assert!(failure.message.contains("can't be read"), "{}", failure.message);
    }
}

#[test]
fn a_stream_ends_with_its_last_words_or_with_all_that_matters() {
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let text = delta(r#"{"content":"a"}"#);
    assert_eq!(response(&[&text, &end("stop"), "[DONE]"]).stop, Stop::EndTurn);
    assert_eq!(response(&[&text, &end("stop"), usage]).stop, Stop::EndTurn);
    assert!(failure(&[&text, &end("stop")]).message.contains("cut"));
    assert!(failure(&[&text, usage]).message.contains("cut"));
    assert!(failure(&[&text, "[DONE]"]).message.contains("without a reason"));
}

#[test]
fn reasons_are_believed_as_far_as_they_can_be() {
    let text = delta(r#"{"content":"a"}"#);
    let stop = |reason: &str| response(&[&text, &end(reason), "[DONE]"]).stop;
    assert_eq!(stop("tool_calls"), Stop::EndTurn);
    assert_eq!(stop("length"), Stop::MaxTokens);
    assert_eq!(stop("model_length"), Stop::WindowExceeded);
    let refused = Stop::Refusal { category: None, explanation: None };
    assert_eq!(stop("content_filter"), refused);
    assert_eq!(stop("content_filter: SAFETY"), refused);
    assert_eq!(stop("anything"), Stop::EndTurn);
    let kind = |reason: &str| failure(&[&text, &end(reason), "[DONE]"]).kind;
    assert_eq!(kind("error"), FailureKind::Transient);
    assert_eq!(kind("insufficient_system_resource"), FailureKind::Overloaded);
}

#[test]
fn calls_without_an_id_get_one_that_differs_and_stays() {
    let call = |name: &str| format!(r#"{{"function":{{"name":"{name}","arguments":"{{}}"}}}}"#);
    let calls = delta(&format!(r#"{{"tool_calls":[{},{}]}}"#, call("a"), call("a")));
    let ids = |frames: &[&str]| -> Vec<String> {
        let blocks = response(frames).blocks.into_iter();
        blocks
            .map(|block| match block.view {
                View::ToolUse { call_id, .. } => {
                    assert!(block.native.get().contains(&call_id));
                    call_id
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let first = ids(&[&calls, &end("stop"), "[DONE]"]);
    assert_eq!(first.len(), 2);
    assert_ne!(first[0], first[1]);
    assert_eq!(first, ids(&[&calls, &end("stop"), "[DONE]"]));
    let later = calls.replace("c1", "c2");
    assert_ne!(first, ids(&[&later, &end("stop"), "[DONE]"]));
    // A server that says the same id twice means two calls.
    let twice = delta(
        r#"{"tool_calls":[{"index":0,"id":"x","function":{"name":"a","arguments":"{}"}},{"index":1,"id":"x","function":{"name":"a","arguments":"{}"}}]}"#,
    );
    let twice = ids(&[&twice, &end("stop"), "[DONE]"]);
    assert_eq!(twice[0], "x");
    assert_ne!(twice[1], "x");
}

#[test]
fn the_ids_made_for_mistral_are_as_it_wants_them() {
    let url = reqwest::Url::parse("https://api.mistral.ai/v1").unwrap();
    let mut decoder = WireKind::OpenaiChat.wire_at(&url, None).unwrap().decoder();
    let mut events = VecDeque::new();
    let call = delta(r#"{"tool_calls":[{"id":"null","function":{"name":"a","arguments":"{}"}}]}"#);
    for frame in [&*call, &end("tool_calls"), "[DONE]"] {
        decoder.decode(frame, &mut events);
    }
    let Some(Event::Ended(response)) = events.pop_back() else { panic!("{events:?}") };
    let View::ToolUse { call_id, .. } = &response.blocks[0].view else { panic!() };
    assert_eq!(call_id.len(), 9);
    assert!(call_id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
}

#[test]
fn thinking_beside_thinking_stays_in_two_blocks() {
    let frames: Vec<String> = (0..50)
        .map(|at| {
            delta(&format!(
                r#"{{"content":"","reasoning":"{at} ","reasoning_details":[{{"type":"reasoning.summary","summary":"{at} "}}]}}"#
            ))
        })
        .chain([delta(r#"{"content":"a"}"#), delta(r#"{"reasoning":"late"}"#), delta(r#"{"content":"b"}"#)])
        .chain([end("stop"), "[DONE]".to_owned()])
        .collect();
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    let response = response(&frames);
    assert_eq!(response.blocks.len(), 5);
    let natives = natives(&response);
    assert!(
        natives[1]
            .starts_with(r#"{"reasoning_details":[{"type":"reasoning.summary","summary":"0 1 "#)
    );
    assert_eq!(
        natives[2..],
        [r#"{"content":"a"}"#, r#"{"reasoning":"late"}"#, r#"{"content":"b"}"#]
    );
}

#[test]
fn a_signature_ends_the_thinking_that_it_signs() {
    let detail = |detail: &str| delta(&format!(r#"{{"reasoning_details":[{detail}]}}"#));
    let response = response(&[
        &detail(r#"{"type":"reasoning.text","text":"a","signature":null,"id":null}"#),
        &detail(r#"{"type":"reasoning.text","text":"","signature":"s"}"#),
        &detail(r#"{"type":"reasoning.text","text":"b"}"#),
        &detail(r#"{"type":"reasoning.text","text":"c","index":3}"#),
        &detail(r#"{"type":"reasoning.text","text":"d","index":4}"#),
        &end("stop"),
        "[DONE]",
    ]);
    assert_eq!(
        natives(&response),
        [concat!(
            r#"{"reasoning_details":[{"type":"reasoning.text","text":"a","signature":"s","id":null},"#,
            r#"{"type":"reasoning.text","text":"bc","index":3},"#,
            r#"{"type":"reasoning.text","text":"d","index":4}]}"#
        )]
    );
}

#[test]
fn a_deep_or_long_input_survives() {
    let deep = format!(r#"{{\"d\":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let call = delta(&format!(
        r#"{{"tool_calls":[{{"index":0,"id":"t","function":{{"name":"n","arguments":"{deep}"}}}}]}}"#
    ));
    let response = response(&[&call, &end("tool_calls"), "[DONE]"]);
    let View::ToolUse { input: Some(input), .. } = &response.blocks[0].view else { panic!() };
    assert_eq!(input.get(), deep.replace('\\', ""));
    assert_eq!(response.stop, Stop::ToolUse);
}
