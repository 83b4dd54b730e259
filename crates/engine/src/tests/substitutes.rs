//! Agents that name several models: who answers when one of them can't.

use posthouse_model::FailureKind;
use serde_json::{Value, json};

use super::{
    play::Play,
    script::{calls, ends_with, opened, say, tell},
};
use crate::own;

const EXHAUSTED: &str =
    "thread_status_idle retries_exhausted · usage · status_idle retries_exhausted";
const AGAIN: &str = "thread_status_rescheduled · status_rescheduled";

/// An agent with two more models, which has just been asked something.
fn asked() -> Play {
    let mut opened = opened();
    let model =
        |id: &str| json!({ "id": id, "effort": null, "speed": "standard", "inference_geo": null });
    opened.agent.posthouse =
        serde_json::from_value(json!({ "fallback": [model("second/m"), model("third/m")] }))
            .unwrap();
    let mut play = Play::of(opened);
    play.send([say("go")]).unwrap();
    play.skip();
    play
}

fn model(play: &Play) -> &str {
    &play.state.threads[0].model(&play.state.agent).id
}

/// What the log says of models that took over: from, to, whether the first may come back.
fn substitutions(play: &Play) -> Vec<(String, String, bool)> {
    let of = |record: &&posthouse_store::Record| *record.kind == *own::kind::MODEL_SUBSTITUTED;
    let read = |record: &posthouse_store::Record| {
        let kept: own::ModelSubstituted = serde_json::from_str(&record.payload).unwrap();
        (kept.from, kept.to, kept.transient)
    };
    play.records.iter().filter(of).map(read).collect()
}

fn last_start(play: &Play) -> Value {
    let kind = posthouse_protocol::event::kind::REQUEST_START;
    let start = play.records.iter().rfind(|record| *record.kind == *kind).unwrap();
    serde_json::from_str(&start.payload).unwrap()
}

#[test]
fn the_next_model_takes_over_in_the_same_turn_and_the_log_says_so() {
    for kind in [
        FailureKind::Overloaded,
        FailureKind::RateLimited,
        FailureKind::Transient,
        FailureKind::Hopeless,
        FailureKind::Billing,
        FailureKind::TooLong,
    ] {
        let mut play = asked();
        assert_eq!(last_start(&play).get("posthouse"), None);
        play.fail_with(kind);
        assert_eq!(model(&play), "second/m", "{kind:?}");
        let told = substitutions(&play);
        let expected = ("test/model".to_owned(), "second/m".to_owned(), kind.is_transient());
        assert_eq!(told, [expected]);
        let span = json!({ "model": "second/m", "substituted_for": "test/model" });
        assert_eq!(last_start(&play)["posthouse"], span);
    }
}

#[test]
fn it_stays_for_the_turn_and_the_next_turn_begins_with_the_agents_own() {
    let mut play = asked();
    play.fail_with(FailureKind::Overloaded);
    play.answer(calls([("c", "weather")]));
    play.send([tell("c", "sunny")]).unwrap();
    assert_eq!(model(&play), "second/m");
    play.answer(ends_with("Sunny."));
    play.send([say("again")]).unwrap();
    assert_eq!(model(&play), "test/model");
    assert_eq!(last_start(&play).get("posthouse"), None);
}

#[test]
fn a_turn_that_waits_for_its_client_goes_on_with_the_model_that_it_is_given() {
    let mut play = asked();
    play.fail_with(FailureKind::Overloaded);
    play.answer(calls([("c", "weather")]));
    play.update(|document| document.agent.system = Some("Be brief.".into()));
    assert_eq!(model(&play), "second/m", "the models are the same");
    play.update(|document| document.agent.model.id = "other/m".into());
    assert_eq!(model(&play), "other/m");
    play.send([tell("c", "sunny")]).unwrap();
    assert_eq!(last_start(&play).get("posthouse"), None);
    play.fail_with(FailureKind::Hopeless);
    assert_eq!(model(&play), "second/m", "all of its fallback models stand behind it");
}

#[test]
fn when_all_have_failed_it_waits_and_begins_with_the_first() {
    let mut play = asked();
    play.fail_with(FailureKind::RateLimited);
    play.fail_with(FailureKind::Hopeless);
    assert_eq!(model(&play), "third/m");
    play.skip();
    play.jitter = 0.5;
    play.fail_with(FailureKind::Hopeless);
    play.expect(
        &["model_request_end error · error model_request_failed_error retrying", AGAIN],
        &["sleep 249 ms"],
    );
    assert_eq!(model(&play), "test/model");
    play.wake();
    play.skip();
    play.answer(ends_with("Back."));
    assert_eq!(substitutions(&play).len(), 2);
}

#[test]
fn when_none_can_come_back_the_turn_ends() {
    let mut play = asked();
    for _ in 0..2 {
        play.fail_with(FailureKind::Hopeless);
    }
    play.skip();
    play.fail_with(FailureKind::Billing);
    play.expect(&["model_request_end error · error billing_error exhausted", EXHAUSTED], &[]);
    play.send([say("now?")]).unwrap();
    assert_eq!(model(&play), "test/model");
}

#[test]
fn a_crash_between_two_models_goes_on_with_the_second() {
    let mut play = asked();
    play.fail_with(FailureKind::Overloaded);
    play.crash();
    assert_eq!(model(&play), "second/m");
    play.answer(ends_with("Here."));
    assert_eq!(substitutions(&play).len(), 1);
}
