//! What the log keeps of an effect's end, piece by piece.

use std::{sync::Arc, time::Duration};

use posthouse_model::{ModelSpec, Stop, WireKind};
use posthouse_protocol::{Micros, event::kind as wire};
use serde_json::Value;

use super::{
    play::Play,
    script::{call_with, response, said, thought},
};
use crate::{
    line::{Line, Scribe},
    own::{RetryScheduled, StopKind},
    settle::{self, Asked, Moment, Previewed, next_attempt},
    state::Thread,
    toolbox::Toolbox,
};

const NOW: Micros = Micros(1_000_000_000_000);

/// The toolbox and the thread of a session that has just begun.
fn belongings() -> (Toolbox, Thread) {
    let play = Play::new();
    (play.toolbox(), play.state.threads[0].clone())
}

fn wait(retry: RetryScheduled) -> Duration {
    Duration::from_micros(u64::try_from(retry.not_before.0 - NOW.0).unwrap())
}

fn after(attempt: u32, seconds_ago: i64) -> RetryScheduled {
    let since = NOW.plus(-seconds_ago * 1_000_000);
    RetryScheduled { attempt, not_before: since, since }
}

#[test]
fn waits_double_up_to_half_a_minute_with_full_jitter() {
    for (attempt, longest) in
        [(0, 500), (1, 1_000), (2, 2_000), (5, 16_000), (6, 30_000), (8, 30_000)]
    {
        let before = (attempt > 0).then(|| after(attempt, 1));
        let wait = |chance| {
            let retry = next_attempt(before.as_ref(), None, Moment { now: NOW, chance }).unwrap();
            assert_eq!(retry.attempt, attempt + 1);
            wait(retry)
        };
        assert_eq!(wait(0.0), Duration::ZERO);
        assert_eq!(wait(1.0), Duration::from_millis(longest));
        assert_eq!(wait(0.5), Duration::from_millis(longest) / 2);
        // A source of chance that is out of bounds does no harm.
        assert_eq!(wait(7.0), Duration::from_millis(longest));
        assert_eq!(wait(-7.0), Duration::ZERO);
    }
}

#[test]
fn attempts_and_minutes_are_bounded() {
    let next = |attempt, seconds_ago, chance| {
        next_attempt(Some(&after(attempt, seconds_ago)), None, Moment { now: NOW, chance })
    };
    assert!(next(8, 0, 0.0).is_some());
    assert!(next(9, 0, 0.0).is_none());
    assert!(next(u32::MAX - 1, 0, 0.0).is_none());
    assert!(next(5, 570, 1.0).is_some());
    assert!(next(8, 571, 1.0).is_none(), "the wait itself counts");
    let since = next(5, 570, 0.0).unwrap().since;
    assert_eq!(since, NOW.plus(-570_000_000), "counted from the first failure");
}

#[test]
fn a_wait_that_the_provider_names_wins_up_to_five_minutes() {
    let next = |before: Option<RetryScheduled>, seconds: u64, chance| {
        let moment = Moment { now: NOW, chance };
        next_attempt(before.as_ref(), Some(Duration::from_secs(seconds)), moment)
    };
    for (wanted, waited) in [(0, 0), (7, 7), (300, 300), (301, 300), (1 << 60, 300)] {
        let retry = next(None, wanted, 0.5).unwrap();
        assert_eq!(wait(retry), Duration::from_secs(waited), "{wanted}");
    }
    assert!(next(Some(after(1, 400)), 300, 0.0).is_none());
}

fn settle(
    blocks: Vec<posthouse_model::Block>,
    stop: Stop,
    previewed: &Previewed,
) -> Vec<(String, Value)> {
    let asked = Asked {
        span: "sevt_span".into(),
        provider: "test".into(),
        wire: WireKind::Anthropic,
        model: "m".to_owned(),
        spec: Arc::new(ModelSpec::unknown(WireKind::Anthropic)),
        fast: false,
        inference_geo: None,
    };
    let mut count = 0;
    let mut random = || {
        count += 1;
        [count; 16]
    };
    let mut scribe = Scribe { now: NOW, random: &mut random };
    let (toolbox, thread) = belongings();
    let response = response(blocks, stop);
    let lines =
        settle::response(&toolbox, &thread, &asked, response, Some(7), previewed, &mut scribe);
    let drafts = scribe.write(&crate::summary::Summary::default(), lines);
    let parsed = |draft: &posthouse_store::Draft| {
        (draft.kind.to_owned(), serde_json::from_str(&draft.payload).unwrap())
    };
    drafts.iter().map(parsed).collect()
}

#[test]
fn events_keep_the_ids_that_were_shown_in_previews() {
    let shown = |index: usize, id: &str| (index, Arc::from(id));
    let previewed: Previewed =
        [shown(0, "sevt_thinking"), shown(1, "sevt_text"), shown(2, "sevt_text")].into();
    let blocks =
        vec![thought(), said("a"), said("b"), call_with("x", "bash", Some("{}")), said("c")];
    let lines = settle(blocks, Stop::ToolUse, &previewed);
    let ids: Vec<_> = lines[..3].iter().map(|(_, payload)| payload["id"].clone()).collect();
    assert_eq!(ids[..2], ["sevt_thinking", "sevt_text"]);
    let kinds: Vec<_> = lines.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            wire::AGENT_THINKING,
            wire::AGENT_MESSAGE,
            wire::AGENT_TOOL_USE,
            wire::AGENT_MESSAGE,
            wire::REQUEST_END,
            "response",
        ]
    );
    assert_ne!(lines[3].1["id"], "sevt_text");
    assert_eq!(lines[1].1["content"].as_array().unwrap().len(), 2);
}

#[test]
fn a_response_is_kept_to_the_letter_and_names_its_calls() {
    let blocks = vec![
        said("a"),
        call_with("toolu_1", "bash", Some("{}")),
        call_with("toolu_2", "nope", Some("{}")),
    ];
    let lines = settle(blocks, Stop::ToolUse, &Previewed::new());
    let (kind, kept) = lines.last().unwrap();
    assert_eq!(kind, "response");
    assert_eq!(kept["blocks"].as_array().unwrap().len(), 3);
    assert_eq!(kept["cost"], 7);
    assert_eq!(kept["stop"], serde_json::to_value(StopKind::ToolUse).unwrap());
    assert_eq!(kept["calls"][0]["block"], 1);
    assert_eq!(kept["calls"][0]["call_id"], "toolu_1");
    assert_eq!(kept["calls"][0]["event"], lines[1].1["id"]);
    assert_eq!(kept["calls"][0].get("refused"), None);
    assert!(kept["calls"][1]["refused"].as_str().unwrap().contains("nope"));
}

#[test]
fn a_call_s_input_is_what_the_model_wrote_on_one_line() {
    let raw = "{\"b\" :  1.50,\r\n \"a\": \"x\\ny\", \"b2\":1e3}";
    let asked = Asked {
        span: "s".into(),
        provider: "test".into(),
        wire: WireKind::Anthropic,
        model: "m".to_owned(),
        spec: Arc::new(ModelSpec::unknown(WireKind::Anthropic)),
        fast: false,
        inference_geo: None,
    };
    let mut random = || [1; 16];
    let mut scribe = Scribe { now: NOW, random: &mut random };
    let response = response(vec![call_with("x", "bash", Some(raw))], Stop::ToolUse);
    let (toolbox, thread) = belongings();
    let lines =
        settle::response(&toolbox, &thread, &asked, response, None, &Previewed::new(), &mut scribe);
    let Line::Ready { payload, .. } = &lines[0] else { panic!("no call") };
    assert!(payload.contains(r#""input":{"b" :  1.50,   "a": "x\ny", "b2":1e3}"#), "{payload}");
    assert!(!payload.contains(['\n', '\r']));
}

#[test]
fn each_permission_is_told_on_its_call() {
    let calls = [("a", "bash"), ("b", "write"), ("c", "edit"), ("d", "weather")];
    let blocks = calls.map(|(id, name)| call_with(id, name, Some("{}"))).into();
    let lines = settle(blocks, Stop::ToolUse, &Previewed::new());
    let told: Vec<String> = lines[..4]
        .iter()
        .map(|(kind, call)| {
            format!("{kind} {} {}", call["evaluated_permission"], call["evaluation"])
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"agent.tool_use "allow" {"type":"always_allow"}"#,
            r#"agent.tool_use "ask" {"type":"always_ask"}"#,
            r#"agent.tool_use "deny" null"#,
            "agent.custom_tool_use null null",
        ]
    );
    let custom = lines[3].1.as_object().unwrap();
    assert!(!custom.contains_key("evaluated_permission"));
    assert_eq!(custom["session_thread_id"], Value::Null);
}
