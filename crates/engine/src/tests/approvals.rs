//! Calls that wait for a client, and calls that nobody may make.

use posthouse_model::Stop;

use super::{
    play::Play,
    script::{allow, call, calls, cut, deny, ends_with, instruct, response, say, tell},
};
use crate::summary::Status;

fn asked<const N: usize>(wanted: [(&str, &str); N]) -> Play {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.answer(calls(wanted));
    play
}

#[test]
fn a_custom_call_waits_for_the_client() {
    let mut play = asked([("a", "weather")]);
    play.expect(
        &[
            "agent.custom_tool_use a weather · model_request_end",
            "thread_status_idle requires_action a · usage · status_idle requires_action a",
        ],
        &[],
    );
    let echo = play.send([tell("a", "sunny")]).unwrap();
    assert!(!echo[0].contains(r#""processed_at":null"#), "{echo:?}");
    play.expect(
        &[
            "user.custom_tool_result a sunny · status_running · thread_status_running",
            "model_request_start",
        ],
        &["model"],
    );
    play.answer(ends_with("Sun!"));
    play.expect(
        &[
            "agent.message Sun! · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn an_allowed_call_runs() {
    let mut play = asked([("a", "write")]);
    play.expect(
        &[
            "agent.tool_use a write ask · model_request_end",
            "thread_status_idle requires_action a · usage · status_idle requires_action a",
        ],
        &[],
    );
    play.crash();
    play.expect(&[], &[]);
    play.send([allow("a")]).unwrap();
    play.expect(
        &["user.tool_confirmation a allow · status_running · thread_status_running"],
        &["tool a"],
    );
    play.result("a", "wrote");
    play.expect(&["agent.tool_result a wrote · model_request_start"], &["model"]);
}

#[test]
fn a_denied_call_tells_the_model_why() {
    let mut play = asked([("a", "write"), ("b", "write")]);
    play.skip();
    play.send([deny("a", Some("keep it")), deny("b", None)]).unwrap();
    play.expect(
        &[
            "user.tool_confirmation a deny keep it · user.tool_confirmation b deny",
            "status_running · thread_status_running",
            "agent.tool_result a error Permission to use write has been rejected. Rejecti…",
            "agent.tool_result b error Permission to use write has been rejected.",
            "model_request_start",
        ],
        &["model"],
    );
    let results = format!("{:?}", play.request.as_ref().unwrap().items);
    assert!(results.contains("has been rejected. Rejection message: keep it"), "{results}");
}

#[test]
fn partial_answers_leave_the_rest_asked_for() {
    let mut play = asked([("a", "write"), ("b", "weather"), ("c", "clock")]);
    play.expect(
        &[
            "agent.tool_use a write ask · agent.custom_tool_use b weather",
            "agent.custom_tool_use c clock · model_request_end",
            "thread_status_idle requires_action a b c · usage",
            "status_idle requires_action a b c",
        ],
        &[],
    );
    play.send([tell("b", "sunny")]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result b sunny",
            "thread_status_idle requires_action a c · usage · status_idle requires_action a c",
        ],
        &[],
    );
    play.send([allow("a")]).unwrap();
    play.expect(
        &[
            "user.tool_confirmation a allow",
            "thread_status_idle requires_action c · usage · status_idle requires_action c",
        ],
        &[],
    );
    play.crash();
    play.send([tell("c", "noon")]).unwrap();
    play.expect(
        &["user.custom_tool_result c noon · status_running · thread_status_running"],
        &["tool a"],
    );
    play.result("a", "wrote");
    play.expect(&["agent.tool_result a wrote · model_request_start"], &["model"]);
}

#[test]
fn a_mixed_batch_runs_what_it_may_before_it_asks() {
    let mut play = asked([("a", "bash"), ("b", "write"), ("c", "weather")]);
    play.expect(
        &[
            "agent.tool_use a bash allow · agent.tool_use b write ask",
            "agent.custom_tool_use c weather · model_request_end",
        ],
        &["tool a"],
    );
    assert_eq!(play.status(), Status::Running);
    play.result("a", "done");
    play.expect(
        &[
            "agent.tool_result a done",
            "thread_status_idle requires_action b c · usage · status_idle requires_action b c",
        ],
        &[],
    );
    play.send([tell("c", "sunny"), deny("b", None)]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result c sunny · user.tool_confirmation b deny",
            "status_running · thread_status_running",
            "agent.tool_result b error Permission to use write has been rejected.",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn answers_count_as_soon_as_their_calls_are_seen() {
    let mut play = asked([("a", "bash"), ("b", "write"), ("c", "weather")]);
    play.skip();
    play.send([allow("b")]).unwrap();
    play.expect(&["user.tool_confirmation b allow"], &["tool a", "tool b"]);
    play.send([tell("c", "sunny")]).unwrap();
    play.result("a", "1");
    play.result("b", "2");
    play.expect(
        &[
            "user.custom_tool_result c sunny · agent.tool_result a 1 · agent.tool_result b 2",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn an_answer_at_the_moment_the_session_asks_makes_asking_needless() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.late = vec![tell("a", "sunny")];
    play.answer(calls([("a", "weather")]));
    play.expect(
        &[
            "agent.custom_tool_use a weather · model_request_end",
            "user.custom_tool_result a sunny · model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn disabled_and_unknown_tools_are_refused_at_once() {
    let mut play = asked([("a", "edit"), ("b", "teleport"), ("c", "web_search")]);
    play.expect(
        &[
            "agent.tool_use a edit deny · agent.tool_use b teleport deny",
            "agent.tool_use c web_search deny · model_request_end",
            "agent.tool_result a error There is no tool \"edit\" that this agent may use.",
            "agent.tool_result b error There is no tool \"teleport\" that this agent may us…",
            "agent.tool_result c error There is no tool \"web_search\" that this agent may …",
            "model_request_start",
        ],
        &["model"],
    );
    let error = play.send([allow("a")]).unwrap_err();
    assert!(error.starts_with("events[0].tool_use_id: "), "{error}");
}

#[test]
fn a_refused_call_does_not_hold_up_its_neighbours() {
    let mut play = asked([("a", "teleport"), ("b", "bash"), ("c", "write")]);
    play.skip();
    assert_eq!(play.in_flight(), ["tool b"]);
    play.result("b", "done");
    play.expect(
        &[
            "agent.tool_result b done",
            "thread_status_idle requires_action c · usage · status_idle requires_action c",
        ],
        &[],
    );
}

#[test]
fn a_call_that_was_cut_off_does_not_run() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    let blocks = vec![call("a", "read"), cut("b", "bash")];
    play.answer(response(blocks, Stop::MaxTokens));
    play.expect(
        &[
            "agent.tool_use a read allow · agent.tool_use b bash deny · model_request_end",
            "agent.tool_result b error The tool call was cut off: its input is no complet…",
        ],
        &["tool a"],
    );
    play.result("a", "text");
    play.expect(&["agent.tool_result a text · model_request_start"], &["model"]);
    // The client must not be asked for a call whose input nobody has seen whole.
    play.answer(response(vec![cut("c", "weather"), cut("d", "write")], Stop::MaxTokens));
    play.expect(
        &[
            "agent.tool_use c weather deny · agent.tool_use d write deny · model_request_end",
            "agent.tool_result c error The tool call was cut off: its input is no complet…",
            "agent.tool_result d error The tool call was cut off: its input is no complet…",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn a_text_at_the_output_limit_ends_the_turn() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.answer(response(vec![super::script::said("Once upon")], Stop::MaxTokens));
    play.expect(
        &[
            "agent.message Once upon · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn the_first_answer_wins_and_a_repeat_is_told_of_it() {
    let mut play = asked([("a", "weather"), ("b", "write"), ("c", "clock")]);
    let first = play.send([tell("a", "sunny")]).unwrap();
    play.send([allow("b")]).unwrap();
    play.skip();
    assert_eq!(play.send([tell("a", "rain")]).unwrap(), first);
    assert_eq!(play.send([deny("b", None)]).unwrap().len(), 1);
    play.expect(&[], &[]);
    // Both in one batch: the second changes nothing either.
    play.send([tell("c", "noon"), tell("c", "midnight")]).unwrap();
    play.expect(
        &["user.custom_tool_result c noon · status_running · thread_status_running"],
        &["tool b"],
    );
}

#[test]
fn wrong_answers_are_refused_and_leave_no_trace() {
    let mut play = asked([("a", "weather"), ("b", "write")]);
    play.skip();
    let before = play.records.len();
    let id = play.event_of("b");
    for (events, expected) in [
        ([tell("sevt_x", "?"), allow("b")], "events[0].custom_tool_use_id: sevt_x is no call"),
        ([allow("b"), allow("sevt_x")], "events[1].tool_use_id: sevt_x is no call"),
        ([tell("b", "?"), allow("b")], "events[0].custom_tool_use_id: "),
        ([allow("a"), allow("b")], "events[0].tool_use_id: "),
        ([say("hello?"), allow("b")], "events[0]: the session waits for answers"),
        ([allow("b"), say("hello?")], "events[1]: the session waits for answers"),
        ([say("hello?"), instruct("now")], "events[0]: the session waits for answers"),
    ] {
        let error = play.send(events).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = play.send([say("hello?")]).unwrap_err();
    assert!(error.contains(&id) && error.contains("user.interrupt"), "{error}");
    assert_eq!(play.records.len(), before);
}

#[test]
fn input_with_the_last_answer_is_taken_behind_the_results() {
    let mut play = asked([("a", "write")]);
    play.skip();
    play.send([allow("a"), say("and then stop")]).unwrap();
    play.expect(
        &["user.tool_confirmation a allow · status_running · thread_status_running"],
        &["tool a"],
    );
    play.result("a", "wrote");
    play.expect(
        &["agent.tool_result a wrote · user.message and then stop · model_request_start"],
        &["model"],
    );
    play.answer(calls([("b", "weather")]));
    play.skip();
    play.send([tell("b", "sunny"), instruct("be brief")]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result b sunny · status_running · thread_status_running",
            "system.message be brief · model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn input_with_a_partial_answer_waits_for_the_last_one() {
    let mut play = asked([("a", "weather"), ("b", "clock")]);
    play.skip();
    play.send([tell("a", "sunny"), instruct("be brief")]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result a sunny",
            "thread_status_idle requires_action b · usage · status_idle requires_action b",
        ],
        &[],
    );
    play.send([tell("b", "noon")]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result b noon · status_running · thread_status_running",
            "system.message be brief · model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn a_message_that_waits_with_the_calls_comes_behind_their_results() {
    let mut play = asked([("a", "bash"), ("b", "weather")]);
    play.skip();
    play.send([say("hurry")]).unwrap();
    play.result("a", "done");
    play.expect(
        &[
            "agent.tool_result a done",
            "thread_status_idle requires_action b · usage · status_idle requires_action b",
        ],
        &[],
    );
    play.send([tell("b", "sunny")]).unwrap();
    play.expect(
        &[
            "user.custom_tool_result b sunny · status_running · thread_status_running",
            "user.message hurry · model_request_start",
        ],
        &["model"],
    );
}
