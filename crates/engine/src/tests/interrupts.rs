//! Interrupts, at every moment at which one can come.

use posthouse_model::FailureKind;

use super::{
    play::Play,
    script::{allow, calls, ends_with, instruct, interrupt, say, tell},
};
use crate::summary::Status;

const ENDS: &str = "thread_status_idle end_turn · usage · status_idle end_turn";

fn running() -> Play {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play
}

#[test]
fn while_the_model_answers() {
    let mut play = running();
    let echo = play.send([interrupt()]).unwrap();
    assert!(echo[0].ends_with(r#""processed_at":null}"#), "{echo:?}");
    // The request comes to its end first, so that its usage is known.
    play.expect(&[], &["model"]);
    assert!(play.plan().effects.is_empty());
    play.stops_land();
    play.expect(&["model_request_end error · user.interrupt", ENDS], &[]);
}

#[test]
fn an_answer_that_nobody_waits_for_leaves_its_usage_alone() {
    let mut play = running();
    play.send([interrupt()]).unwrap();
    play.answer(calls([("a", "bash")]));
    play.expect(&["model_request_end error · user.interrupt", ENDS], &[]);
    assert_eq!(play.state.summary.spending().tokens.output_tokens, 10);
    play.send([say("again")]).unwrap();
    assert_eq!(play.request.as_ref().unwrap().items.len(), 2, "two messages and no answer");
}

#[test]
fn a_failure_that_nobody_waits_for_is_not_tried_again() {
    let mut play = running();
    play.send([interrupt()]).unwrap();
    play.fail_with(FailureKind::Overloaded);
    play.expect(&["model_request_end error · user.interrupt", ENDS], &[]);
}

#[test]
fn while_tools_run() {
    let mut play = running();
    play.answer(calls([("a", "bash"), ("b", "read"), ("c", "glob")]));
    play.result("b", "text");
    play.skip();
    play.send([interrupt()]).unwrap();
    play.expect(&[], &["tool a", "tool c"]);
    // What ends by itself in time keeps its result.
    play.result("c", "files");
    play.stops_land();
    play.expect(
        &[
            "agent.tool_result c files",
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "user.interrupt",
            ENDS,
        ],
        &[],
    );
    play.send([say("next")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
}

#[test]
fn while_tools_run_and_others_wait_for_the_client() {
    let mut play = running();
    play.answer(calls([("a", "bash"), ("b", "write"), ("c", "weather")]));
    play.skip();
    play.send([interrupt()]).unwrap();
    play.stops_land();
    play.expect(
        &[
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "agent.tool_result b error The tool call was interrupted before it completed.…",
            "user.interrupt",
            ENDS,
        ],
        &[],
    );
    let kinds = play.kinds(0);
    assert!(kinds.contains(&"tool_closed"), "a custom call is closed without an event");
}

#[test]
fn while_the_session_waits_for_answers() {
    let mut play = running();
    play.answer(calls([("a", "write"), ("b", "weather"), ("c", "write")]));
    play.send([allow("c")]).unwrap();
    play.skip();
    let echo = play.send([interrupt()]).unwrap();
    assert_eq!(echo.len(), 1);
    play.expect(
        &[
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "agent.tool_result c error The tool call was interrupted before it completed.…",
            "user.interrupt",
            ENDS,
        ],
        &[],
    );
    // A late answer is a repeat without effect; a message is welcome again.
    play.send([tell("b", "sunny"), allow("a")]).unwrap();
    play.expect(&[], &[]);
    play.send([say("next")]).unwrap();
    play.expect(
        &["status_running · thread_status_running · user.message next · model_request_start"],
        &["model"],
    );
}

#[test]
fn with_a_message_behind_it_in_the_same_batch() {
    let mut play = running();
    play.answer(calls([("a", "weather")]));
    play.skip();
    play.send([interrupt(), say("rather this")]).unwrap();
    play.expect(
        &[
            "user.interrupt",
            ENDS,
            "status_running · thread_status_running · user.message rather this",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn with_an_answer_before_it_in_the_same_batch() {
    let mut play = running();
    play.answer(calls([("a", "weather"), ("b", "weather")]));
    play.skip();
    play.send([tell("a", "sunny"), interrupt()]).unwrap();
    play.expect(&["user.custom_tool_result a sunny · user.interrupt", ENDS], &[]);
    // Also when the answer was the last one, so that the turn would go on.
    for answered in ["weather", "write"] {
        let mut play = running();
        play.answer(calls([("a", answered)]));
        let answer = if answered == "write" { allow("a") } else { tell("a", "sunny") };
        play.send([answer, interrupt()]).unwrap();
        assert_eq!((play.status(), play.in_flight().len()), (Status::Idle, 0));
        play.send([say("next")]).unwrap();
        assert_eq!(play.in_flight(), ["model"]);
    }
}

#[test]
fn while_rescheduling() {
    let mut play = running();
    play.fail_with(FailureKind::Overloaded);
    play.skip();
    play.send([interrupt()]).unwrap();
    play.expect(&["user.interrupt", ENDS], &[]);
    play.send([say("again")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
    play.fail_with(FailureKind::Overloaded);
    assert_eq!(play.state.threads[0].retry.unwrap().attempt, 1, "a new turn counts anew");
}

#[test]
fn with_messages_queued_behind_it() {
    let mut play = running();
    play.answer(calls([("a", "bash")]));
    play.skip();
    play.send([say("one")]).unwrap();
    play.send([interrupt()]).unwrap();
    play.send([say("two")]).unwrap();
    play.stops_land();
    play.expect(
        &[
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "user.interrupt",
            ENDS,
            "status_running · thread_status_running · user.message one · user.message two",
            "model_request_start",
        ],
        &["model"],
    );
    play.answer(ends_with("Both."));
    assert_eq!(play.status(), Status::Idle);
}

#[test]
fn with_a_message_that_waited_together_with_the_calls() {
    let mut play = running();
    play.answer(calls([("a", "bash"), ("b", "weather")]));
    play.send([say("one")]).unwrap();
    play.result("a", "done");
    assert_eq!(play.status(), Status::Idle);
    play.skip();
    play.send([interrupt()]).unwrap();
    play.expect(
        &[
            "user.interrupt",
            ENDS,
            "status_running · thread_status_running · user.message one · model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn input_that_waited_comes_before_newer_input() {
    let mut play = running();
    play.answer(calls([("a", "weather"), ("b", "clock")]));
    play.send([tell("a", "sunny"), instruct("first")]).unwrap();
    play.skip();
    play.send([interrupt(), say("second")]).unwrap();
    play.expect(
        &[
            "user.interrupt",
            ENDS,
            "status_running · thread_status_running · system.message first",
            "user.message second · model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn twice() {
    let mut play = running();
    play.send([interrupt()]).unwrap();
    play.send([interrupt()]).unwrap();
    play.stops_land();
    play.expect(&["model_request_end error · user.interrupt · user.interrupt", ENDS], &[]);
}

#[test]
fn at_the_moment_the_turn_ends() {
    let mut play = running();
    play.late = vec![interrupt(), say("rather this")];
    play.answer(ends_with("Done."));
    play.expect(
        &[
            "agent.message Done. · model_request_end · user.interrupt",
            ENDS,
            "status_running · thread_status_running · user.message rather this",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn when_idle_it_is_nothing() {
    let mut play = Play::new();
    let echo = play.send([interrupt()]).unwrap();
    assert!(!echo[0].contains("null}"), "{echo:?}");
    play.expect(&[], &[]);
    play.send([say("hi")]).unwrap();
    play.answer(ends_with("Hello."));
    let before = play.records.len();
    play.send([interrupt(), interrupt()]).unwrap();
    assert_eq!(play.records.len(), before, "quiet time after an idle event stays quiet");
}

#[test]
fn of_a_thread_by_name() {
    use posthouse_protocol::event::ClientEvent;
    let mut play = running();
    let named = |thread: &str| ClientEvent::Interrupt { thread: Some(thread.to_owned()) };
    let error = play.send([named("sthr_other")]).unwrap_err();
    assert!(error.starts_with("events[0].session_thread_id: no such thread"), "{error}");
    play.send([named(super::script::THREAD)]).unwrap();
    play.stops_land();
    assert_eq!(play.status(), Status::Idle);
}

#[test]
fn across_a_crash() {
    let mut play = running();
    play.send([interrupt()]).unwrap();
    play.crash();
    play.expect(&["model_request_end error · user.interrupt", ENDS], &[]);

    let mut play = running();
    play.answer(calls([("a", "bash")]));
    play.skip();
    play.send([interrupt()]).unwrap();
    play.crash();
    play.expect(&[], &["tool a"]);
    play.stops_land();
    play.expect(
        &[
            "agent.tool_result a error The tool call was interrupted before it completed.…",
            "user.interrupt",
            ENDS,
        ],
        &[],
    );
}
