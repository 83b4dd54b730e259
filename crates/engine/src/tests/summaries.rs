//! The row of a session: what it has used and cost, how long it has worked, how it is shown.

use std::cell::Cell;

use posthouse_model::{FailureKind, Usage};
use posthouse_store::{Error, log::SessionRow};
use serde_json::{Value, json};

use super::{
    play::Play,
    script::{allow, calls, ends_with, failed, interrupt, say, tell},
};
use crate::{sessions, summary::Spending};

fn answer(play: &mut Play, usage: Usage, cost: Option<u64>) {
    play.cost = cost;
    let mut response = ends_with("Hello.");
    response.usage = usage;
    play.answer(response);
}

fn row(play: &Play) -> SessionRow {
    let last = play.records.last().unwrap();
    SessionRow {
        id: "sesn_1".to_owned(),
        number: 1,
        workspace: "w".to_owned(),
        agent: ("agent_1".to_owned(), 1),
        environment: "env_1".to_owned(),
        created_at: play.records[0].at,
        archived_at: play.summary().ended_at,
        fence: 1,
        holder: None,
        shown: 0,
        status: play.status().as_str().to_owned(),
        head: last.seq,
        input_head: 0,
        last_at: last.at,
        chain_hash: String::new(),
        fold: play.fold().to_owned(),
    }
}

fn show(play: &Play) -> Value {
    let shown = sessions::show(&row(play), play.document(), &[], play.now).unwrap();
    serde_json::from_str(&shown).unwrap()
}

fn show_thread(play: &Play) -> Value {
    let shown = sessions::show_threads(&row(play), play.document(), play.now).unwrap();
    assert_eq!(shown.len(), 1);
    serde_json::from_str(&shown[0].2).unwrap()
}

/// The newest `session.usage`.
fn told(play: &Play) -> Value {
    let is_usage = |record: &&posthouse_store::Record| &*record.kind == "session.usage";
    let record = play.records.iter().rfind(is_usage).unwrap();
    serde_json::from_str::<Value>(&record.payload).unwrap()["usage"].clone()
}

#[test]
fn usage_adds_up_over_turns_and_failures() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    let one = Usage {
        input_tokens: 1,
        output_tokens: 20,
        cache_read_input_tokens: 300,
        cache_write_5m_tokens: 4_000,
        cache_write_1h_tokens: 50_000,
    };
    let mut failure = failed(FailureKind::Overloaded);
    failure.usage = one;
    play.fail(&failure);
    play.wake();
    answer(&mut play, one, Some(9_000_000));
    play.send([say("hi")]).unwrap();
    play.send([interrupt()]).unwrap();
    answer(&mut play, one, Some(9_000_000));
    let usage = told(&play);
    assert_eq!(usage["input_tokens"], 3);
    assert_eq!(usage["output_tokens"], 60);
    assert_eq!(usage["cache_read_input_tokens"], 900);
    assert_eq!(
        usage["cache_creation"],
        json!({ "ephemeral_5m_input_tokens": 12_000, "ephemeral_1h_input_tokens": 150_000 })
    );
    assert_eq!(usage["list_cost"], json!({ "amount": "2", "currency": "USD" }), "1.9 cents");
    let shown = show(&play)["usage"].clone();
    assert_eq!(shown["list_cost"], usage["list_cost"]);
    assert_eq!(shown["output_tokens"], usage["output_tokens"]);
}

#[test]
fn list_cost_is_whole_cents_half_a_cent_is_one() {
    for (nanodollars, cents) in [
        (0, "0"),
        (1, "0"),
        (4_999_999, "0"),
        (5_000_000, "1"),
        (14_999_999, "1"),
        (15_000_000, "2"),
        (1_230_000_000, "123"),
    ] {
        let spending = Spending { cost: nanodollars, ..Spending::default() };
        let shown = spending.render(0.0, true);
        assert_eq!(shown["list_cost"]["amount"], cents, "{nanodollars}");
    }
}

#[test]
fn what_has_no_price_has_no_list_cost() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    // Without tokens nothing is missing from the sum.
    play.cost = None;
    play.fail_with(FailureKind::Overloaded);
    play.wake();
    assert!(!play.summary().spending().unpriced);
    answer(&mut play, Usage { input_tokens: 1, ..Usage::default() }, None);
    assert_eq!(told(&play)["list_cost"], Value::Null);
    play.send([say("hi")]).unwrap();
    answer(&mut play, Usage::default(), Some(1));
    assert_eq!(told(&play)["list_cost"], Value::Null, "part of it stays unknown");
}

#[test]
fn only_time_at_work_is_active() {
    let mut play = Play::new();
    let active = |play: &Play| show(play)["usage"]["active_seconds"].as_f64().unwrap();
    let near = |seconds: f64, wanted: f64| (seconds - wanted).abs() < 0.001;
    play.pass(10);
    assert!(near(active(&play), 0.0));
    play.send([say("hi")]).unwrap();
    play.pass(2);
    assert!(near(active(&play), 2.0), "it grows live");
    play.answer(calls([("a", "write"), ("b", "weather")]));
    play.pass(100);
    assert!(near(active(&play), 2.0), "waiting for a client is no work");
    play.send([tell("b", "sunny")]).unwrap();
    play.pass(100);
    play.send([allow("a")]).unwrap();
    play.pass(3);
    play.result("a", "wrote");
    play.fail_with(FailureKind::Overloaded);
    play.pass(30);
    assert!(near(active(&play), 5.0), "waiting for the next attempt is no work");
    play.wake();
    play.pass(4);
    play.answer(ends_with("Done."));
    assert!(near(told(&play)["active_seconds"].as_f64().unwrap(), 9.0));
    play.pass(1_000);
    play.archive();
    play.pass(1_000);
    let shown = show(&play);
    assert!(near(shown["stats"]["active_seconds"].as_f64().unwrap(), 9.0));
    let duration = shown["stats"]["duration_seconds"].as_f64().unwrap();
    assert!(near(duration, 1_249.0), "an archive ends it: {duration}");
    assert_eq!(shown["status"], "terminated");
}

#[test]
fn a_session_is_shown_from_its_first_moment_on() {
    let mut play = Play::new();
    let shown = show(&play);
    assert_eq!(shown["status"], "idle");
    assert_eq!(shown["usage"]["cache_creation"], Value::Null);
    assert_eq!(shown["usage"]["list_cost"]["amount"], "0");
    let thread = show_thread(&play);
    assert_eq!((&thread["usage"], &thread["stats"]), (&Value::Null, &Value::Null));
    play.send([say("hi")]).unwrap();
    let thread = show_thread(&play);
    assert_eq!(thread["status"], "running");
    assert_eq!(thread["usage"], Value::Null, "until the thread has come to rest");
    assert_eq!(thread["stats"]["startup_seconds"], 0.0);
    play.answer(ends_with("Hello."));
    let usage = show_thread(&play)["usage"].clone();
    let counts = ["input_tokens", "output_tokens", "cache_read_input_tokens"];
    assert!(counts.iter().all(|name| usage[*name].is_u64()), "{usage}");
}

#[test]
fn a_turn_begins_with_what_has_begun_it() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    let begins = |play: &Play| {
        let start = usize::try_from(play.summary().turn_start).unwrap();
        play.records[start - 1].kind.to_string()
    };
    assert_eq!(begins(&play), "session.status_running");
    assert_eq!(play.summary().turn_end, 0);
    play.answer(calls([("a", "weather"), ("b", "clock")]));
    assert_eq!(play.summary().turn_end, play.records.last().unwrap().seq);
    play.send([tell("a", "sunny")]).unwrap();
    play.send([tell("b", "noon")]).unwrap();
    assert_eq!(begins(&play), "user.custom_tool_result", "an answer stands before the statuses");
    assert!(play.records.last().unwrap().seq > play.summary().turn_end);
    play.answer(ends_with("Done."));
    assert_eq!(play.summary().turn_ended_at, play.records.last().unwrap().at);
}

#[test]
fn the_document_is_written_only_when_it_changes() {
    let mut play = Play::new();
    play.send([say("hi")]).unwrap();
    play.answer(ends_with("Hello."));
    let before = play.document().to_owned();
    let asked = Cell::new(0);
    let document = || {
        asked.set(asked.get() + 1);
        Ok::<_, Error>(before.clone())
    };
    let rest = &play.records[1..];
    let first = sessions::fold_row(None, &play.records[..1], &document).unwrap();
    assert_eq!(first.document.as_deref(), Some(before.as_str()));
    let folded = sessions::fold_row(Some(&first.fold), rest, &document).unwrap();
    assert_eq!((folded.document, asked.get()), (None, 0), "nothing large is read or written");
    assert!(folded.ends_turn);

    let from = play.records.len();
    play.update(|document| document.title = Some("T".to_owned()));
    let changed = sessions::fold_row(Some(&folded.fold), &play.records[from..], &document).unwrap();
    assert_eq!(asked.get(), 1);
    assert_eq!(changed.document.as_deref(), Some(play.document()));
}

#[test]
fn a_damaged_row_is_said_to_be_one() {
    let play = Play::new();
    let none = || -> Result<String, Error> { unreachable!("no record asks for it") };
    let damaged = sessions::fold_row(Some("{"), &play.records[..0], &none);
    assert!(matches!(damaged, Err(Error::Damaged(_))));
    let mut foreign = play.records[0].clone();
    foreign.kind = "agent.message".into();
    foreign.thread = "sthr_nobody".into();
    let damaged = sessions::fold_row(Some(play.fold()), &[foreign], &none);
    assert!(matches!(damaged, Err(Error::Damaged(_))));
}

#[test]
fn a_session_shows_its_vaults_and_one_of_old_has_none() {
    let play = Play::new();
    let shown = |vaults: Value| {
        let mut opened = play.records[0].clone();
        let mut payload: Value = serde_json::from_str(&opened.payload).unwrap();
        payload.as_object_mut().unwrap().shift_remove("vault_ids");
        if !vaults.is_null() {
            payload["vault_ids"] = vaults;
        }
        opened.payload = payload.to_string().into();
        let folded = sessions::fold_row(None, &[opened], &|| Ok(String::new())).unwrap();
        let row = SessionRow { fold: folded.fold, ..row(&play) };
        let shown = sessions::show(&row, &folded.document.unwrap(), &[], play.now).unwrap();
        serde_json::from_str::<Value>(&shown).unwrap()["vault_ids"].take()
    };
    assert_eq!(shown(Value::Null), json!([]), "a log that was written before there were any");
    assert_eq!(shown(json!(["vlt_2", "vlt_1"])), json!(["vlt_2", "vlt_1"]));
}
