//! Turns of agents with MCP servers: they are asked for their tools first, and their calls have events
//! of their own.

use posthouse_model::Request;
use posthouse_protocol::event::kind as wire;

use super::{
    play::Play,
    script::{
        self, allow, calls, cut, deny, ends_with, interrupt, notes, opened_with_servers, response,
        say, server_tool,
    },
};
use crate::{
    line,
    own::{self, Searched, ToolsListed, ToolsLoaded},
    summary::Status,
    tools::{Trouble, TroubleKind},
};

const BOTH: &[&str] = &[
    "bash",
    "read",
    "write",
    "glob",
    "grep",
    "web_fetch",
    "weather",
    "clock",
    "mcp__notes__read_note",
    "mcp__notes__write_note",
    "mcp__mail__send",
];

/// A session at work, whose servers are being asked.
fn begun() -> Play {
    let mut play = Play::of(opened_with_servers());
    play.send([say("go")]).unwrap();
    play
}

/// A session whose model is being asked.
fn listed() -> Play {
    let mut play = begun();
    play.list(&[("notes", notes()), ("mail", vec![server_tool("send", "Sends.")])]);
    play.skip();
    play
}

fn shown(request: &Request) -> Vec<&str> {
    request.tools.iter().map(|tool| &*tool.name).collect()
}

fn own_records(play: &Play, kind: &str) -> usize {
    play.kinds(0).iter().filter(|one| **one == kind).count()
}

#[test]
fn servers_are_asked_before_the_model_is() {
    let mut play = begun();
    play.expect(&["status_running · thread_status_running · user.message go"], &["list"]);
    play.list(&[("notes", notes()), ("mail", vec![server_tool("send", "Sends.")])]);
    play.expect(&["model_request_start"], &["model"]);
    assert_eq!(shown(play.request.as_ref().unwrap()), BOTH);
    play.answer(ends_with("Done."));
    play.skip();
    // Each turn asks again.
    play.send([say("more")]).unwrap();
    play.expect(&["status_running · thread_status_running · user.message more"], &["list"]);
    assert_eq!(own_records(&play, own::kind::TOOLS_LISTED), 1);
}

#[test]
fn a_turn_goes_on_without_a_server_that_is_in_trouble() {
    let mut play = begun();
    play.skip();
    play.list(&[("notes", notes())]);
    play.expect(&["error mcp_connection_failed_error exhausted · model_request_start"], &["model"]);
    assert_eq!(shown(play.request.as_ref().unwrap()), BOTH[..10]);
    let error = play.records.iter().find(|one| &*one.kind == wire::SESSION_ERROR).unwrap();
    assert!(error.payload.contains(r#""mcp_server_name":"mail""#), "{}", error.payload);
    play.answer(ends_with("Done."));
    play.skip();
    play.send([say("more")]).unwrap();
    play.list(&[("notes", notes()), ("mail", vec![server_tool("send", "Sends.")])]);
    assert_eq!(shown(play.request.as_ref().unwrap()), BOTH);
}

#[test]
fn input_that_comes_meanwhile_is_part_of_the_turn() {
    let mut play = begun();
    play.skip();
    play.send([say("and this")]).unwrap();
    play.expect(&["user.message and this"], &["list"]);
    play.list(&[]);
    play.skip();
    assert_eq!(play.request.as_ref().unwrap().items.len(), 2);
}

#[test]
fn an_interrupt_ends_the_asking() {
    let mut play = begun();
    play.skip();
    play.send([interrupt()]).unwrap();
    play.expect(
        &["user.interrupt · thread_status_idle end_turn · usage · status_idle end_turn"],
        &[],
    );
    assert_eq!(own_records(&play, own::kind::TOOLS_LISTED), 0);
}

#[test]
fn a_crash_asks_again_only_what_was_not_answered() {
    let mut play = begun();
    play.skip();
    play.crash();
    play.expect(&[], &["list"]);
    play.list(&[("notes", notes()), ("mail", notes())]);
    play.skip();
    play.crash();
    play.expect(&["model_request_end error · model_request_start"], &["model"]);
    play.answer(calls([("a", "mcp__notes__read_note")]));
    play.expect(&["agent.mcp_tool_use a notes read_note allow · model_request_end"], &["tool a"]);
    play.crash();
    play.expect(&[], &["tool a"]);
    play.result("a", "noted");
    play.expect(&["agent.mcp_tool_result a noted · model_request_start"], &["model"]);
    // The provider hears of the call by the name that it knows.
    let sent = format!("{:?}", play.request.as_ref().unwrap().items.last());
    assert!(sent.contains("mcp__notes__read_note"), "{sent}");
}

#[test]
fn a_call_of_a_server_waits_for_the_user_like_any_other() {
    let mut play = listed();
    play.answer(calls([("a", "mcp__notes__write_note"), ("b", "mcp__mail__send")]));
    play.expect(
        &[
            "agent.mcp_tool_use a notes write_note ask · agent.mcp_tool_use b mail send ask",
            "model_request_end",
            "thread_status_idle requires_action a b · usage · status_idle requires_action a b",
        ],
        &[],
    );
    play.crash();
    play.send([allow("a"), deny("b", Some("not now"))]).unwrap();
    play.expect(
        &[
            "user.tool_confirmation a allow · user.tool_confirmation b deny not now",
            "status_running · thread_status_running",
            "agent.mcp_tool_result b error Permission to use mcp__mail__send has been rejecte…",
        ],
        &["tool a"],
    );
    play.result("a", "written");
    // The session has come from its rest, so that the servers are asked again.
    play.expect(&["agent.mcp_tool_result a written"], &["list"]);
    play.list(&[("notes", notes())]);
    play.expect(&["error mcp_connection_failed_error exhausted · model_request_start"], &["model"]);
}

#[test]
fn an_interrupt_closes_the_calls_of_servers() {
    let mut play = listed();
    play.answer(calls([("a", "mcp__mail__send")]));
    play.skip();
    play.send([interrupt()]).unwrap();
    play.expect(
        &[
            "agent.mcp_tool_result a error The tool call was interrupted before it completed.…",
            "user.interrupt",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
    let mut play = listed();
    play.answer(calls([("a", "mcp__notes__read_note")]));
    play.skip();
    play.send([interrupt()]).unwrap();
    play.stops_land();
    play.expect(
        &[
            "agent.mcp_tool_result a error The tool call was interrupted before it completed.…",
            "user.interrupt",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn what_is_switched_off_or_cut_off_does_not_run() {
    let mut play = listed();
    let blocks = vec![
        script::call("a", "mcp__notes__wipe"),
        script::call("b", "mcp__notes__read"),
        cut("c", "mcp__notes__read_note"),
    ];
    play.answer(response(blocks, posthouse_model::Stop::ToolUse));
    play.expect(
        &[
            "agent.tool_use a mcp__notes__wipe deny · agent.tool_use b mcp__notes__read deny",
            "agent.mcp_tool_use c notes read_note deny · model_request_end",
            "agent.tool_result a error There is no tool \"mcp__notes__wipe\" that this agen…",
            "agent.tool_result b error There is no tool \"mcp__notes__read\" that this agen…",
            "agent.mcp_tool_result c error The tool call was cut off: its input is no complet…",
            "model_request_start",
        ],
        &["model"],
    );
}

/// Lists of a server whose tools take more than their share of any window.
fn many() -> Vec<(&'static str, Vec<crate::tools::ServerTool>)> {
    let topic = ["invoice", "issue", "photo", "route", "contract"];
    let tool = |number: usize| {
        let text =
            format!("Creates a new {}. {}", topic[number % 5], "It is a long story. ".repeat(20));
        server_tool(&format!("create_{}_{number}", topic[number % 5]), &text)
    };
    vec![("notes", notes()), ("mail", (0..400).map(tool).collect())]
}

#[test]
fn too_many_tools_are_searched() {
    let mut play = begun();
    play.list(&many());
    play.skip();
    let own = &BOTH[..8];
    let find = [own, &["mcp__find_tools"]].concat();
    assert_eq!(shown(play.request.as_ref().unwrap()), find);
    let input = r#"{"query":"create an invoice","server":"mail"}"#;
    let blocks = vec![script::call_with("a", "mcp__find_tools", Some(input))];
    play.answer(response(blocks, posthouse_model::Stop::ToolUse));
    play.expect(&["agent.tool_use a mcp__find_tools allow · model_request_end"], &["tool a"]);
    let found = play.toolbox().find(&serde_json::from_str::<Box<_>>(input).unwrap());
    assert_eq!(found.names.len(), 8, "{found:?}");
    assert!(found.names.iter().all(|name| name.starts_with("mcp__mail__create_invoice_")));
    let loaded = ToolsLoaded { names: found.names.clone() };
    play.log(own::kind::TOOLS_LOADED, &loaded);
    play.result("a", &found.text);
    let names: Vec<&str> = found.names.iter().map(|name| &**name).collect();
    assert_eq!(shown(play.request.as_ref().unwrap()), [&find[..], &names].concat());
    // What is listed may be called, though it was not shown; then it is.
    play.skip();
    play.answer(calls([("b", "mcp__notes__read_note"), ("c", "mcp__notes__read_note")]));
    play.expect(
        &[
            "agent.mcp_tool_use b notes read_note allow · agent.mcp_tool_use c notes read_note allow",
            "model_request_end",
        ],
        &["tool b", "tool c"],
    );
    play.crash();
    play.result("b", "noted");
    play.result("c", "noted");
    let all = [&find[..], &names, &["mcp__notes__read_note"]].concat();
    assert_eq!(shown(play.request.as_ref().unwrap()), all);
    // With room for all, all are shown, and there is nothing to search.
    play.spec.window = 10_000_000;
    play.answer(calls([("d", "mcp__notes__read_note")]));
    play.result("d", "noted");
    assert_eq!(play.request.as_ref().unwrap().tools.len(), own.len() + 402);
    play.skip();
    play.answer(calls([("e", "mcp__find_tools")]));
    play.expect(
        &[
            "agent.tool_use e mcp__find_tools deny · model_request_end",
            "agent.tool_result e error There is no tool \"mcp__find_tools\" that this agent…",
            "model_request_start",
        ],
        &["model"],
    );
}

#[test]
fn lists_that_are_lost_are_asked_for_again() {
    let mut play = listed();
    play.answer(calls([("a", "mcp__notes__read_note")]));
    play.skip();
    play.log(own::kind::TOOLS_LISTED, &ToolsListed { servers: Vec::new() });
    play.result("a", "noted");
    play.expect(&["agent.mcp_tool_result a noted"], &["list"]);
    play.list(&[("notes", notes()), ("mail", notes())]);
    play.expect(&["model_request_start"], &["model"]);
}

#[test]
fn trouble_with_a_call_ends_no_turn_and_searches_have_a_price() {
    let mut play = listed();
    play.cost = Some(0);
    play.answer(calls([("a", "mcp__notes__read_note")]));
    let trouble = Trouble {
        server: "notes".into(),
        kind: TroubleKind::Authentication,
        message: "It asks for a login.".to_owned(),
    };
    play.append_lines(vec![line::server_trouble(&script::thread(), &trouble)]);
    let searched = Searched { call: "sevt_1".into(), requests: 3, cost: 30_000_000 };
    play.log(own::kind::SEARCHED, &searched);
    play.result("a", "noted");
    assert_eq!(play.status(), Status::Running);
    assert_eq!(play.in_flight(), ["model"]);
    let usage = play.summary().spending().render(0.0, true);
    assert_eq!(usage["server_tool_use"]["web_search_requests"], 3);
    assert_eq!(usage["server_tool_use"]["web_fetch_requests"], 0);
    assert_eq!(usage["list_cost"]["amount"], "3");
}

#[test]
fn an_agent_with_other_servers_is_not_held_to_the_old_lists() {
    let mut play = listed();
    play.answer(ends_with("Done."));
    play.update(|document| document.agent.mcp_servers.truncate(1));
    play.send([say("more")]).unwrap();
    play.list(&[("notes", notes())]);
    assert_eq!(shown(play.request.as_ref().unwrap()), BOTH[..10]);
    play.answer(ends_with("Done."));
    play.update(|document| document.agent.mcp_servers.clear());
    play.send([say("more")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
    assert_eq!(shown(play.request.as_ref().unwrap()), BOTH[..8]);
}
