//! Golden streams: what they mean, and that no way of cutting them changes it.

use std::{collections::VecDeque, time::Duration};

use super::{GOLDEN, WIRE};
use crate::{Event, Failure, FailureKind, Response, Stop, Usage, View, golden::natives};

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
    let mut decoder = WIRE.wire().decoder();
    let mut events = VecDeque::new();
    for frame in frames {
        decoder.decode(frame, &mut events);
    }
    events.extend(decoder.end());
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

const DONE: &str = r#"{"type":"response.completed","response":{}}"#;

#[test]
fn error_events_have_their_kinds_in_either_form() {
    use FailureKind::{Billing, Hopeless, Overloaded, RateLimited, TooLong, Transient};
    for (kind, code, message, expected) in [
        ("", "server_is_overloaded", "", Overloaded),
        ("service_unavailable_error", "slow_down", "", Overloaded),
        ("rate_limit_error", "slow_down", "", RateLimited),
        ("", "slow_down", "", RateLimited),
        ("", "rate_limit_exceeded", "", RateLimited),
        ("tokens", "", "", RateLimited),
        ("insufficient_quota", "", "", Billing),
        ("", "insufficient_quota", "", Billing),
        ("insufficient_quota", "credit_balance_exhausted", "", Billing),
        ("", "project_spend_limit_exceeded", "", Billing),
        ("", "context_length_exceeded", "", TooLong),
        (
            "invalid_request_error",
            "",
            "Your input exceeds the context window of this model.",
            TooLong,
        ),
        ("server_error", "", "", Transient),
        ("", "server_error", "", Transient),
        ("", "failed_to_download_image", "", Transient),
        ("", "something_new", "", Transient),
        ("", "", "", Transient),
        ("invalid_request_error", "unsupported_parameter", "", Hopeless),
        ("", "invalid_prompt", "", Hopeless),
        ("", "image_too_large", "", Hopeless),
        ("", "unsupported_image_media_type", "", Hopeless),
    ] {
        let error = format!(r#"{{"type":"{kind}","code":"{code}","message":"{message}"}}"#);
        let nested = format!(r#"{{"type":"error","error":{error},"status":400}}"#);
        assert_eq!(failure(&[&nested]).kind, expected, "{error}");
        let bare = format!(r#"{{"error":{error}}}"#);
        assert_eq!(failure(&[&bare]).kind, expected, "{error}");
        let failed = format!(r#"{{"type":"response.failed","response":{{"error":{error}}}}}"#);
        assert_eq!(failure(&[&failed]).kind, expected, "{error}");
        if kind.is_empty() {
            let flat = format!(r#"{{"type":"error","code":"{code}","message":"{message}"}}"#);
            assert_eq!(failure(&[&flat]).kind, expected, "{flat}");
        }
    }
    for odd in [
        r#"{"type":"error"}"#,
        r#"{"type":"error","error":{"code":500,"message":null}}"#,
        r#"{"type":"response.failed"}"#,
        r#"{"type":"response.failed","response":{"error":null}}"#,
    ] {
        assert_eq!(failure(&[odd]).kind, FailureKind::Transient, "{odd}");
    }
}

#[test]
fn a_failure_keeps_the_wait_and_the_usage_that_were_told() {
    let failure = failure(&[
        r#"{"type":"response.failed","response":{"usage":{"input_tokens":7,"output_tokens":2},"error":{"code":"rate_limit_exceeded","message":"Please try again in 20ms."}}}"#,
    ]);
    assert_eq!(failure.retry_after, Some(Duration::from_millis(20)));
    assert_eq!(failure.usage, Usage { input_tokens: 7, output_tokens: 2, ..Usage::default() });
}

#[test]
fn policies_refuse_and_keep_their_names() {
    for (code, category) in [
        ("cyber_policy", "cyber"),
        ("misalignment_policy_violation", "misalignment"),
        ("image_content_policy_violation", "image_content"),
    ] {
        let failed = format!(
            r#"{{"type":"response.failed","response":{{"error":{{"code":"{code}","message":"No."}}}}}}"#
        );
        let refusal =
            Stop::Refusal { category: Some(category.into()), explanation: Some("No.".into()) };
        assert_eq!(response(&[&failed]).stop, refusal);
    }
}

#[test]
fn what_cannot_be_read_fails_once_and_ends_the_response() {
    for frames in [
        &["no json"][..],
        &[r#"{"type":"response.output_item.added","output_index":0}"#],
        &[r#"{"type":"response.output_item.added","output_index":0,"item":{"no":"type"}}"#],
        &[r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#],
        &[r#"{"type":"response.output_item.done","output_index":0}"#],
        &[r#"{"type":"response.output_text.delta","output_index":3,"delta":"a"}"#],
        &[r#"{"type":"response.completed"}"#],
    ] {
        let mut all = frames.to_vec();
        all.push(DONE);
        let events = feed(&all);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(failure(&all).kind, FailureKind::Transient);
    }
}

#[test]
fn half_a_character_fails_rather_than_losing_what_came_before() {
    let failure = failure(&[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"\ud83d"}"#,
        DONE,
    ]);
    assert!(failure.message.contains("can't be read"), "{}", failure.message);
}

#[test]
fn an_end_that_changes_its_kind_is_no_end() {
    let failure = failure(&[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        DONE,
    ]);
    assert_eq!(failure.kind, FailureKind::Transient);
}

#[test]
fn items_that_come_only_whole_are_announced_first() {
    let message = r#"{"type":"message","role":"assistant","content":"plain"}"#;
    let call = r#"{"type":"function_call","call_id":"c","name":"n","arguments":"{}"}"#;
    let done = |place: u64, item: &str| {
        format!(r#"{{"type":"response.output_item.done","output_index":{place},"item":{item}}}"#)
    };
    let end =
        format!(r#"{{"type":"response.completed","response":{{"output":[{message},{call}]}}}}"#);
    for frames in [vec![done(0, message), done(1, call), DONE.to_owned()], vec![end]] {
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        let events = feed(&frames);
        assert!(matches!(&events[0], Event::Started { index: 0, .. }));
        assert!(matches!(&events[1], Event::Text { index: 0, text } if text == "plain"));
        assert!(matches!(&events[2], Event::Started { index: 1, .. }));
        let response = response(&frames);
        assert_eq!(natives(&response), [message, call]);
        assert_eq!(response.stop, Stop::ToolUse);
    }
}

#[test]
fn text_that_was_not_streamed_follows_and_text_that_was_not_closed_is_kept() {
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#;
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"delta":"a \"b\""}"#;
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"a \"b\" c"}]}}"#;
    let events = feed(&[added, delta, done, DONE]);
    assert!(matches!(&events[2], Event::Text { index: 0, text } if text == " c"));

    let open = response(&[added, delta, DONE]);
    assert_eq!(natives(&open), [r#"{"type":"message","role":"assistant","content":"a \"b\""}"#]);
    assert!(matches!(&open.blocks[0].view, View::Text(text) if text == "a \"b\""));
    assert_eq!(natives(&response(&[added, DONE])), [r#"{"type":"message","content":[]}"#]);
}

#[test]
fn a_call_runs_only_with_a_whole_object() {
    let cases = [
        (r#""{\"a\":1.10}""#, "completed", Some(r#"{"a":1.10}"#), None),
        (r#"" {} ""#, "completed", Some("{}"), None),
        (r#""""#, "completed", Some("{}"), Some(r#""{}""#)),
        (r#""{\"a\"""#, "completed", None, Some(r#""{}""#)),
        (r#""[1]""#, "completed", None, Some(r#""{}""#)),
        (r#""null""#, "completed", None, Some(r#""{}""#)),
        (r#""\ud83d""#, "completed", None, Some(r#""{}""#)),
        (r#""{}""#, "incomplete", None, None),
        (r#""""#, "incomplete", None, Some(r#""{}""#)),
        (r#"{"a":1}"#, "completed", None, Some(r#""{}""#)),
    ];
    for (arguments, status, input, sent) in cases {
        let item = |arguments: &str| {
            format!(
                r#"{{ "type":"function_call","x":1.10,"arguments": {arguments} ,"call_id":"c","name":"n","status":"{status}"}}"#
            )
        };
        let done = format!(
            r#"{{"type":"response.output_item.done","output_index":0,"item":{}}}"#,
            item(arguments)
        );
        let response = response(&[&done, DONE]);
        let View::ToolUse { input: read, .. } = &response.blocks[0].view else { panic!() };
        assert_eq!(read.as_ref().map(|input| input.get()), input, "{arguments}");
        assert_eq!(natives(&response), [item(sent.unwrap_or(arguments))], "{arguments}");
        assert_eq!(response.stop, Stop::ToolUse);
    }
    let without = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"c","name":"n","arguments":null}}"#;
    assert_eq!(
        natives(&response(&[without, DONE])),
        [r#"{"type":"function_call","call_id":"c","name":"n","arguments":"{}"}"#]
    );
}

#[test]
fn a_deep_or_long_input_survives() {
    let deep = format!(r#"{{\"d\":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let done = format!(
        r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"function_call","call_id":"c","name":"n","arguments":"{deep}"}}}}"#
    );
    let response = response(&[&done, DONE]);
    let View::ToolUse { input: Some(input), .. } = &response.blocks[0].view else { panic!() };
    assert_eq!(input.get(), deep.replace('\\', ""));
}

#[test]
fn events_without_meaning_are_ignored() {
    let frames = [
        "[DONE]",
        "{}",
        r#"{"type":"keepalive","sequence_number":3}"#,
        r#"{"type":"response.new","output_index":null,"delta":[],"response":7}"#,
        r#"{"type":"response.created"}"#,
    ];
    assert_eq!(feed(&frames).len(), 1);
    assert!(failure(&frames).message.contains("cut"));
}

#[test]
fn counts_that_are_parts_are_taken_apart() {
    let usage = |details: &str| {
        let end = format!(
            r#"{{"type":"response.completed","response":{{"usage":{{"input_tokens":100,"input_tokens_details":{details},"output_tokens":9}}}}}}"#
        );
        response(&[&end]).usage
    };
    let rest = |usage: Usage| {
        (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens())
    };
    assert_eq!(rest(usage("null")), (100, 0, 0));
    assert_eq!(rest(usage(r#"{"cached_tokens":60}"#)), (40, 60, 0));
    assert_eq!(rest(usage(r#"{"cached_tokens":60,"cache_write_tokens":30}"#)), (10, 60, 30));
    assert_eq!(rest(usage(r#"{"cached_tokens":600,"cache_write_tokens":null}"#)), (0, 600, 0));
    // An answer is not lost for counts that can't be read.
    assert_eq!(rest(usage(r#"{"cached_tokens":0.5}"#)), (0, 0, 0));
}
