//! Model requests that fail, responses that are no answers.

use std::time::Duration;

use posthouse_model::{Failure, FailureKind, Stop, Usage};

use super::{
    play::Play,
    script::{call, calls, ends_with, failed, response, said, say},
};
use crate::summary::Status;

const AGAIN: &str = "thread_status_rescheduled · status_rescheduled";
const EXHAUSTED: &str =
    "thread_status_idle retries_exhausted · usage · status_idle retries_exhausted";

fn running() -> Play {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play
}

#[test]
fn a_transient_error_is_tried_again() {
    let mut play = running();
    play.jitter = 0.5;
    play.fail_with(FailureKind::Overloaded);
    play.expect(
        &["model_request_end error · error model_overloaded_error retrying", AGAIN],
        &["sleep 249 ms"],
    );
    assert_eq!(play.status(), Status::Rescheduling);
    play.wake();
    play.expect(&["status_running · thread_status_running · model_request_start"], &["model"]);
    play.answer(ends_with("Hello."));
    play.expect(
        &[
            "agent.message Hello. · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
    assert_eq!(play.state.threads[0].retry, None);
}

#[test]
fn each_failure_has_its_name() {
    for (kind, name) in [
        (FailureKind::Overloaded, "model_overloaded_error retrying"),
        (FailureKind::RateLimited, "model_rate_limited_error retrying"),
        (FailureKind::Transient, "model_request_failed_error retrying"),
    ] {
        let mut play = running();
        play.fail_with(kind);
        play.expect(
            &[&format!("model_request_end error · error {name}"), AGAIN],
            &["sleep 499 ms"],
        );
    }
    for (kind, name) in [
        (FailureKind::Hopeless, "model_request_failed_error exhausted"),
        (FailureKind::Billing, "billing_error exhausted"),
        (FailureKind::TooLong, "compaction_limit_reached_error exhausted"),
    ] {
        let mut play = running();
        play.fail_with(kind);
        play.expect(&[&format!("model_request_end error · error {name}"), EXHAUSTED], &[]);
        play.send([say("again")]).unwrap();
        assert_eq!(play.in_flight(), ["model"], "a new key or model mends the session");
    }
}

#[test]
fn a_cut_stream_leaves_no_part_of_its_response() {
    let mut play = running();
    let usage = Usage { input_tokens: 7, ..Usage::default() };
    play.fail(&Failure { usage, ..failed(FailureKind::Transient) });
    play.expect(
        &["model_request_end error · error model_request_failed_error retrying", AGAIN],
        &["sleep 499 ms"],
    );
    assert_eq!(play.state.summary.spending().tokens, usage, "but what it has used");
    play.wake();
    assert_eq!(play.request.as_ref().unwrap().items.len(), 1);
}

#[test]
fn ten_attempts_and_no_more() {
    let mut play = running();
    play.jitter = 0.0;
    for attempt in 1..10 {
        play.fail_with(FailureKind::Overloaded);
        assert_eq!(play.state.threads[0].retry.unwrap().attempt, attempt);
        play.wake();
    }
    play.skip();
    play.fail_with(FailureKind::Overloaded);
    play.expect(
        &["model_request_end error · error model_overloaded_error exhausted", EXHAUSTED],
        &[],
    );
    let starts = play.kinds(0).iter().filter(|kind| **kind == "request").count();
    assert_eq!(starts, 10);
    play.send([say("again")]).unwrap();
    play.fail_with(FailureKind::Overloaded);
    assert_eq!(play.status(), Status::Rescheduling, "the next turn counts anew");
}

#[test]
fn ten_minutes_and_no_longer() {
    let mut play = running();
    play.fail_with(FailureKind::Overloaded);
    play.wake();
    play.pass(599);
    play.skip();
    play.jitter = 1.0;
    play.fail_with(FailureKind::Overloaded);
    play.expect(
        &["model_request_end error · error model_overloaded_error exhausted", EXHAUSTED],
        &[],
    );
}

#[test]
fn a_provider_s_wait_is_waited() {
    let mut play = running();
    let wait = |seconds| Failure {
        retry_after: Some(Duration::from_secs(seconds)),
        ..failed(FailureKind::RateLimited)
    };
    play.fail(&wait(20));
    assert_eq!(play.in_flight(), ["sleep 19999 ms"]);
    play.wake();
    // Five minutes at most.
    play.fail(&wait(3_600));
    assert_eq!(play.in_flight(), ["sleep 299999 ms"]);
    play.wake();
    play.fail(&wait(299));
    assert_eq!(play.status(), Status::Idle, "that would be more than ten minutes");
}

#[test]
fn a_wait_goes_on_after_a_crash() {
    let mut play = running();
    let failure =
        Failure { retry_after: Some(Duration::from_secs(60)), ..failed(FailureKind::Transient) };
    play.fail(&failure);
    let before = play.in_flight();
    play.pass(40);
    play.crash();
    assert_eq!(play.in_flight(), before, "the rest of it, not the whole");
    play.wake();
    play.skip();
    play.crash();
    play.expect(&["model_request_end error · model_request_start"], &["model"]);
    play.fail_with(FailureKind::Transient);
    assert_eq!(play.state.threads[0].retry.unwrap().attempt, 2, "a crash forgives nothing");
}

#[test]
fn a_message_during_the_wait_is_in_the_next_attempt() {
    let mut play = running();
    play.fail_with(FailureKind::Overloaded);
    play.skip();
    play.send([say("never mind")]).unwrap();
    play.expect(&[], &["sleep 499 ms"]);
    play.wake();
    play.expect(
        &[
            "status_running · thread_status_running · user.message never mind",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn what_waits_for_a_turn_that_dies_is_taken_with_it() {
    let mut play = running();
    play.send([say("and this")]).unwrap();
    play.late = vec![say("and that")];
    play.fail_with(FailureKind::Hopeless);
    play.expect(
        &[
            "model_request_end error · error model_request_failed_error exhausted",
            "user.message and this · user.message and that",
            EXHAUSTED,
        ],
        &[],
    );
    assert!(play.summary().waiting.is_empty());
    play.send([say("once more")]).unwrap();
    assert_eq!(play.request.as_ref().unwrap().items.len(), 4);
}

#[test]
fn a_refusal_ends_the_turn_with_its_details() {
    let mut play = running();
    let stop = Stop::Refusal {
        category: Some("cyber".to_owned()),
        explanation: Some("Not that.".to_owned()),
    };
    play.answer(response(vec![said("I"), call("a", "bash")], stop));
    play.expect(
        &[
            "agent.message I · model_request_end",
            "thread_status_idle refusal cyber · usage · status_idle refusal cyber",
        ],
        &[],
    );
    let idle = play.records.last().unwrap().payload.clone();
    assert!(idle.contains(r#""explanation":"Not that.""#), "{idle}");
    // The conversation goes on without what was refused.
    play.send([say("something else")]).unwrap();
    assert_eq!(play.request.as_ref().unwrap().items.len(), 2);
}

#[test]
fn a_message_behind_a_refusal_begins_the_next_turn() {
    let mut play = running();
    play.send([say("or this")]).unwrap();
    play.answer(response(vec![], Stop::Refusal { category: None, explanation: None }));
    play.expect(
        &[
            "model_request_end",
            "thread_status_idle refusal · usage · status_idle refusal",
            "status_running · thread_status_running · user.message or this",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn a_full_window_ends_the_turn() {
    let mut play = running();
    play.answer(response(vec![said("And so")], Stop::WindowExceeded));
    play.expect(
        &[
            "agent.message And so · model_request_end",
            "error compaction_limit_reached_error exhausted",
            EXHAUSTED,
        ],
        &[],
    );
}

#[test]
fn calls_at_a_full_window_are_closed() {
    let mut play = running();
    let blocks = vec![call("a", "bash"), call("b", "write"), call("c", "weather")];
    play.answer(response(blocks, Stop::WindowExceeded));
    play.expect(
        &[
            "agent.tool_use a bash allow · agent.tool_use b write ask",
            "agent.custom_tool_use c weather · model_request_end",
            "error compaction_limit_reached_error exhausted",
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "agent.tool_result b error The tool call was interrupted before it completed.…",
            EXHAUSTED,
        ],
        &[],
    );
    play.send([say("go on")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
}

#[test]
fn a_retry_does_not_begin_the_turn_anew() {
    let mut play = running();
    play.answer(calls([("a", "bash")]));
    play.result("a", "done");
    let turn = play.summary().turn_start;
    play.fail_with(FailureKind::Overloaded);
    play.wake();
    play.fail_with(FailureKind::Overloaded);
    play.wake();
    assert_eq!(play.summary().turn_start, turn);
    assert_eq!(play.state.threads[0].requests, 4);
}
