//! What clients see of a log, and where.

use std::collections::{BTreeSet, HashMap};

use posthouse_model::Stop;
use posthouse_store::{Record, Seq};
use serde_json::Value;

use super::{
    play::Play,
    script::{call_with, calls, ends_with, instruct, interrupt, response, said, say, tell},
    trace,
};
use crate::view::{self, Shown, View};

fn show(play: &Play, own: bool) -> Vec<Shown> {
    trace::shown(&play.records, 0, &View { own })
}

fn event(shown: &Shown) -> Value {
    serde_json::from_str(&shown.json).unwrap()
}

/// A turn with everything in it that is queued.
fn story() -> Play {
    let mut play = Play::new();
    play.send([say("one"), say("two"), instruct("three")]).unwrap();
    play.answer(response(vec![said("Hm."), call_with("a", "bash", Some("{}"))], Stop::ToolUse));
    play.send([say("four")]).unwrap();
    play.result("a", "done");
    play.answer(calls([("b", "weather")]));
    play.send([tell("b", "sunny")]).unwrap();
    play.send([interrupt()]).unwrap();
    play.send([say("five")]).unwrap();
    play.stops_land();
    play.answer(ends_with("Bye."));
    play
}

#[test]
fn each_event_is_shown_once_in_the_order_of_its_place() {
    let play = story();
    for own in [false, true] {
        let shown = show(&play, own);
        assert!(shown.is_sorted_by_key(|one| one.place));
        let places: BTreeSet<_> = shown.iter().map(|one| one.place).collect();
        assert_eq!(places.len(), shown.len(), "no two events share a place");
        let mut ids = BTreeSet::new();
        for one in &shown {
            let event = event(one);
            assert_eq!(event["type"], one.kind);
            assert_eq!(event["processed_at"], one.at.unwrap().to_rfc3339());
            assert!(ids.insert(event["id"].to_string()), "{event}");
        }
        assert!(shown.is_sorted_by_key(|one| one.at));
    }
    let sent = ["one", "two", "three", "four", "five"];
    let texts: Vec<_> = show(&play, false)
        .iter()
        .map(event)
        .filter(|event| {
            ["user.message", "system.message"].contains(&event["type"].as_str().unwrap())
        })
        .map(|event| event["content"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, sent);
}

#[test]
fn own_records_are_shown_only_to_those_who_asked() {
    let play = story();
    let plain = show(&play, false);
    assert!(plain.iter().all(|one| !one.kind.starts_with("posthouse")));
    let all = show(&play, true);
    let (own, rest): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|one| one.kind.starts_with("posthouse."));
    let jsons = |shown: &[Shown]| shown.iter().map(|one| one.json.clone()).collect::<Vec<_>>();
    assert_eq!(jsons(&rest), jsons(&plain));
    // What was taken is shown by the event itself.
    let own_kind = |kind: &str| !kind.contains('.') && kind != "input_taken";
    let own_records = play.records.iter().filter(|one| own_kind(&one.kind)).count();
    assert_eq!(own.len(), own_records);
    assert_eq!(event(&own[0])["data"]["session"], "sesn_1");
}

#[test]
fn input_that_was_taken_together_has_places_and_times_of_its_own() {
    let mut play = Play::new();
    play.send([say("one"), say("two"), say("three")]).unwrap();
    let shown = show(&play, false);
    let messages: Vec<_> = shown.iter().filter(|one| one.kind == "user.message").collect();
    assert_eq!(messages.len(), 3);
    assert!(messages.windows(2).all(|two| two[0].place < two[1].place && two[0].at < two[1].at));
}

#[test]
fn what_waits_stands_last_and_only_once() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    play.send([say("one"), say("two")]).unwrap();
    let before = show(&play, false).len();
    let waiting: Vec<Record> = play
        .summary()
        .waiting
        .iter()
        .map(|seq| play.records[usize::try_from(seq - 1).unwrap()].clone())
        .collect();
    let shown: Vec<_> = waiting.iter().map(view::waiting).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.is_sorted_by_key(|one| one.place));
    assert!(shown[0].place > show(&play, false).last().unwrap().place);
    for one in &shown {
        assert_eq!((one.at, &event(one)["processed_at"]), (None, &Value::Null));
    }
    play.answer(ends_with("Gone."));
    assert!(play.summary().waiting.is_empty());
    assert_eq!(show(&play, false).len(), before + 2 + 2 + 1, "with message, end and start");
}

#[test]
fn no_line_break_of_the_model_reaches_a_line() {
    let mut play = Play::new();
    play.send([say("a\nb")]).unwrap();
    let input = "{\n  \"command\": \"ls\\nls\",\r\n  \"timeout_ms\": 1\n}";
    play.answer(response(
        vec![said("one\r\ntwo"), call_with("a", "bash", Some(input))],
        Stop::ToolUse,
    ));
    play.result("a", "x\ny");
    let shown = show(&play, true);
    assert!(shown.iter().all(|one| !one.json.contains(['\n', '\r'])));
    let uses = shown.iter().find(|one| one.kind == "agent.tool_use").unwrap();
    assert_eq!(event(uses)["input"]["command"], "ls\nls", "those of its texts stay");
    // Also where a record of old still has them.
    let mut old = play.records.iter().find(|one| &*one.kind == "agent.tool_use").unwrap().clone();
    old.payload = old.payload.replace("\"name\"", "\n\"name\"").into();
    let mut none = |seq: Seq| -> Result<Record, String> { Err(format!("{seq}")) };
    let shown = View::default().show(&old, &mut none).unwrap().unwrap();
    assert!(!shown.json.contains('\n'));
    old.kind = "user.message".into();
    assert!(!view::waiting(&old).json.contains('\n'));
}

#[test]
fn a_queued_record_is_fetched_when_it_is_not_at_hand() {
    let mut play = Play::new();
    play.send([say("go")]).unwrap();
    let taken = play.records.iter().find(|one| &*one.kind == "input_taken").unwrap();
    let nothing = HashMap::new();
    let mut fetched = Vec::new();
    let mut queued = view::finder(&nothing, |seq| {
        fetched.push(seq);
        Ok(play.records.get(usize::try_from(seq - 1).unwrap()).cloned())
    });
    let shown = View::default().show(taken, &mut queued).unwrap();
    assert_eq!(shown.unwrap().kind, "user.message");
    drop(queued);
    assert_eq!(fetched, [2]);
    let mut lost = view::finder(&nothing, |_| Ok(None));
    assert_eq!(View::default().show(taken, &mut lost), Err("record 2 is missing".to_owned()));
}
