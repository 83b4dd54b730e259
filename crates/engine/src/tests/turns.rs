//! Turns that go well: plain, with tools, with messages in the middle.

use posthouse_model::{Item, Stop};
use serde_json::json;

use super::{
    play::Play,
    script::{call, calls, ends_with, instruct, response, said, say, thought},
};
use crate::{step::Limits, summary::Status};

#[test]
fn a_plain_turn() {
    let mut play = Play::new();
    let echo = play.send([say("hi")]).unwrap();
    assert!(echo[0].ends_with(r#""processed_at":null}"#), "{echo:?}");
    play.expect(
        &["status_running · thread_status_running · user.message hi", "model_request_start"],
        &["model"],
    );
    play.answer(response(vec![thought(), said("Hello.")], Stop::EndTurn));
    play.expect(
        &[
            "agent.thinking · agent.message Hello. · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
    assert_eq!(play.status(), Status::Idle);
    assert_eq!(
        play.kinds(0),
        [
            "session_opened",
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "input_taken",
            "span.model_request_start",
            "request",
            "agent.thinking",
            "agent.message",
            "span.model_request_end",
            "response",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
    );
}

#[test]
fn several_messages_are_one_turn() {
    let mut play = Play::new();
    play.send([say("one"), say("two"), instruct("be kind")]).unwrap();
    play.expect(
        &[
            "status_running · thread_status_running",
            "user.message one · user.message two · system.message be kind",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn a_tool_turn() {
    let mut play = Play::new();
    play.send([say("list")]).unwrap();
    play.skip();
    play.answer(response(vec![said("Let me see."), call("a", "bash")], Stop::ToolUse));
    play.expect(
        &["agent.message Let me see. · agent.tool_use a bash allow · model_request_end"],
        &["tool a"],
    );
    play.result("a", "two files");
    play.expect(&["agent.tool_result a two files · model_request_start"], &["model"]);
    play.answer(ends_with("Two."));
    play.expect(
        &[
            "agent.message Two. · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn parallel_calls_end_in_any_order_and_are_answered_in_theirs() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.answer(calls([("a", "bash"), ("b", "read"), ("c", "glob")]));
    play.expect(
        &[
            "agent.tool_use a bash allow · agent.tool_use b read allow",
            "agent.tool_use c glob allow · model_request_end",
        ],
        &["tool a", "tool b", "tool c"],
    );
    play.result("c", "3");
    play.expect(&["agent.tool_result c 3"], &["tool a", "tool b"]);
    play.result("a", "1");
    play.expect(&["agent.tool_result a 1"], &["tool b"]);
    play.result("b", "2");
    play.expect(&["agent.tool_result b 2 · model_request_start"], &["model"]);
    let request = play.request.as_ref().unwrap();
    let Some(Item::ToolResults(results)) = request.items.last() else { panic!("no results") };
    let ids: Vec<_> = results.iter().map(|result| result.call_id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[test]
fn texts_in_a_row_are_one_message_and_calls_keep_their_place() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    let blocks = vec![said("a"), said(""), said("b"), call("x", "bash"), said("c")];
    play.answer(response(blocks, Stop::ToolUse));
    play.expect(
        &["agent.message a | b · agent.tool_use x bash allow · agent.message c · model_request_end"],
        &["tool x"],
    );
}

#[test]
fn an_empty_response_ends_the_turn() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    play.skip();
    play.answer(response(vec![], Stop::EndTurn));
    play.expect(
        &["model_request_end · thread_status_idle end_turn · usage · status_idle end_turn"],
        &[],
    );
    play.send([say("again")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
}

#[test]
fn a_message_while_tools_run_is_taken_behind_their_results() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.answer(calls([("a", "bash")]));
    play.skip();
    play.send([say("hurry")]).unwrap();
    play.expect(&[], &["tool a"]);
    assert_eq!(play.summary().waiting.len(), 1);
    play.result("a", "done");
    play.expect(
        &["agent.tool_result a done · user.message hurry · model_request_start"],
        &["model"],
    );
    assert!(play.summary().waiting.is_empty());
}

#[test]
fn a_message_while_the_model_answers_is_taken_before_the_next_request() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.send([say("and this"), instruct("be brief")]).unwrap();
    play.expect(&[], &["model"]);
    play.answer(ends_with("Gone."));
    play.expect(
        &[
            "agent.message Gone. · model_request_end",
            "user.message and this · system.message be brief · model_request_start",
        ],
        &["model"],
    );
    play.answer(ends_with("Done."));
    play.expect(
        &[
            "agent.message Done. · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn a_message_at_the_moment_the_turn_ends_goes_on_with_it() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.late = vec![say("wait")];
    play.answer(ends_with("Done."));
    play.expect(
        &["agent.message Done. · model_request_end · user.message wait · model_request_start"],
        &["model"],
    );
    play.answer(ends_with("Yes?"));
    assert_eq!(play.status(), Status::Idle);
}

#[test]
fn a_system_message_stands_in_the_conversation() {
    let mut play = Play::new();
    play.send([say("hi"), instruct("whisper")]).unwrap();
    let items = &play.request.as_ref().unwrap().items;
    assert!(matches!(&items[..], [Item::User(_), Item::System(text)] if text == "whisper"));
}

#[test]
fn a_pause_sends_the_conversation_again() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.answer(response(vec![said("Still")], Stop::Pause));
    play.expect(&["agent.message Still · model_request_end · model_request_start"], &["model"]);
    let items = &play.request.as_ref().unwrap().items;
    assert!(matches!(&items[..], [Item::User(_), Item::Assistant { .. }]));
    play.answer(ends_with("done."));
    assert_eq!(play.status(), Status::Idle);
}

#[test]
fn a_turn_has_so_many_requests_and_no_more() {
    let mut play = Play::new();
    play.limits = Limits { requests_per_turn: 2, ..Limits::default() };
    play.send([say("loop")]).unwrap();
    for name in ["a", "b"] {
        play.answer(calls([(name, "bash")]));
        play.skip();
        play.result(name, "again");
    }
    play.expect(
        &[
            "agent.tool_result b again · error tool_use_limit_reached_error exhausted",
            "thread_status_idle retries_exhausted · usage · status_idle retries_exhausted",
        ],
        &[],
    );
    // The next turn counts from nothing.
    play.send([say("go on")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
    play.answer(calls([("c", "bash")]));
    play.result("c", "ok");
    assert_eq!(play.in_flight(), ["model"]);
    play.answer(ends_with("Done."));
    assert_eq!(play.status(), Status::Idle);
}

#[test]
fn the_limit_counts_from_the_client_s_last_answer() {
    let mut play = Play::new();
    play.limits = Limits { requests_per_turn: 1, ..Limits::default() };
    play.send([say("weather?")]).unwrap();
    for name in ["a", "b", "c"] {
        play.answer(calls([(name, "weather")]));
        assert_eq!(play.status(), Status::Idle);
        play.send([super::script::tell(name, "sunny")]).unwrap();
        assert_eq!(play.in_flight(), ["model"], "a client in the loop is no runaway");
    }
}

#[test]
fn an_update_at_rest_holds_from_the_next_request_on() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    play.answer(ends_with("Hello."));
    play.skip();
    play.update(|document| {
        document.agent.system = Some("Shout.".to_owned());
        document.title = Some("Loud".to_owned());
    });
    play.update(|document| document.title = None);
    play.expect(&["updated · updated"], &[]);
    play.update(|_| {});
    play.expect(&[], &[]);
    play.crash();
    play.send([say("hi")]).unwrap();
    assert!(play.request.as_ref().unwrap().system.starts_with("Shout."));
    let document: serde_json::Value = serde_json::from_str(play.document()).unwrap();
    assert_eq!(document["title"], json!(null));
}

#[test]
fn an_archived_session_takes_nothing_and_does_nothing() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    play.answer(ends_with("Hello."));
    play.skip();
    play.archive();
    play.expect(&["thread_status_terminated · status_terminated"], &[]);
    assert_eq!(play.status(), Status::Terminated);
    let error = play.send([say("hi")]).unwrap_err();
    assert!(error.starts_with("events: the session is terminated"), "{error}");
    assert!(play.send([super::script::interrupt()]).is_err());
    play.crash();
    play.expect(&[], &[]);
}

#[test]
fn a_crash_at_any_moment_of_a_tool_turn_changes_nothing_but_what_was_lost() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.skip();
    play.crash();
    play.expect(&["model_request_end error · model_request_start"], &["model"]);
    play.answer(calls([("a", "bash"), ("b", "read")]));
    play.result("b", "done");
    play.skip();
    play.crash();
    // The call is looked for in its tool's journal, not begun again.
    play.expect(&[], &["tool a"]);
    let started = play.kinds(0).iter().filter(|kind| **kind == "tool_started").count();
    assert_eq!(started, 2);
    play.result("a", "found");
    play.expect(&["agent.tool_result a found · model_request_start"], &["model"]);
    play.answer(ends_with("Done."));
    play.crash();
    assert_eq!(play.status(), Status::Idle);
}
