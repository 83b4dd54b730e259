//! Thousands of sessions in which anything happens at any time, each from a seed.
//!
//! Every record goes by the rules, every crash compares the folds, and in the end everything
//! comes to rest with nothing lost. `POSTHOUSE_SEEDS=N` plays N seeds.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use posthouse_model::{Block, Failure, FailureKind, Stop};
use posthouse_protocol::event::ClientEvent;

use super::{
    play::Play,
    script::{
        self, allow, call, cut, deny, ends_with, failed, instruct, interrupt, response, said, say,
        tell, thought,
    },
};
use crate::summary::{Awaits, Status};

const SEEDS: u64 = 600;
const STEPS: u64 = 30;
/// In one of so many seeds the log is folded from its beginning on every record.
const THOROUGH_EACH: u64 = 100;

#[test]
fn anything_can_happen_at_any_time() {
    let seeds = std::env::var("POSTHOUSE_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds = seeds.unwrap_or(SEEDS);
    let (next, turns) = (AtomicU64::new(1), AtomicU64::new(0));
    let play_some = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed > seeds {
                return;
            }
            let played = std::panic::catch_unwind(|| play(seed));
            let rests = played.unwrap_or_else(|_| panic!("seed {seed} breaks a rule, see above"));
            turns.fetch_add(rests, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(play_some);
        play_some();
    });
    let turns = turns.into_inner();
    assert!(turns > seeds * 3, "only {turns} turns have ended");
}

/// Plays one session to its end; returns how often it came to rest.
fn play(seed: u64) -> u64 {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let opened = match seed % 3 {
        0 => script::opened_with_servers(),
        _ => script::opened(),
    };
    let mut play = Play::of(opened);
    play.thorough = seed.is_multiple_of(THOROUGH_EACH);
    play.limits.requests_per_turn = 4 + u32::try_from(chance.below(8)).unwrap();
    let mut sent = 0;
    for _ in 0..STEPS {
        play.jitter = [0.0, 0.3, 1.0][chance.index(3)];
        if chance.below(5) == 0 && play.late.is_empty() {
            play.late = vec![line(&play, &mut chance, &mut sent)];
        }
        match chance.below(16) {
            0..=3 => {
                let (one, two) =
                    (line(&play, &mut chance, &mut sent), line(&play, &mut chance, &mut sent));
                // A refusal leaves no trace.
                let before = play.records.len();
                let pair = chance.below(4) == 0;
                let echo = if pair { play.send([one, two]) } else { play.send([one]) };
                assert!(echo.is_ok() || play.records.len() == before);
            }
            4 => answer_all(&mut play, &mut chance),
            5 => play.crash(),
            6 => play.stops_land(),
            7 => play.pass(1 + i64::try_from(chance.below(200)).unwrap()),
            8 if play.status() == Status::Idle => {
                play.update(|document| document.title = Some(chance.below(99).to_string()));
            }
            _ => land(&mut play, &mut chance),
        }
    }
    settle(&mut play);
    let rests = play.kinds(0).iter().filter(|kind| **kind == "session.status_idle").count();
    if chance.below(4) == 0 {
        play.archive();
        play.crash();
        assert_eq!(play.status(), Status::Terminated);
    }
    rests as u64
}

/// Whatever a client may send.
fn line(play: &Play, chance: &mut Chance, sent: &mut u32) -> ClientEvent {
    *sent += 1;
    let open: Vec<_> = play.summary().threads[0].open.clone();
    match chance.below(10) {
        0..=3 => say(&format!("message {sent}")),
        4 => instruct(&format!("instruction {sent}")),
        5 => interrupt(),
        6 => allow("sevt_unknown"),
        _ if open.is_empty() => say(&format!("message {sent}")),
        _ => {
            let open = &open[chance.index(open.len())];
            // Now and then the wrong answer, and a second one.
            let confirms = (open.awaits == Awaits::Confirmation) != (chance.below(8) == 0);
            match (confirms, chance.below(2)) {
                (true, 0) => allow(&open.id),
                (true, _) => deny(&open.id, Some("no")),
                (false, _) => tell(&open.id, "told"),
            }
        }
    }
}

fn answer_all(play: &mut Play, chance: &mut Chance) {
    let open: Vec<_> = play.summary().unanswered().cloned().collect();
    for open in open {
        let answer = match open.awaits {
            Awaits::Confirmation if chance.below(2) == 0 => allow(&open.id),
            Awaits::Confirmation => deny(&open.id, None),
            Awaits::Result => tell(&open.id, "told"),
        };
        play.send([answer]).unwrap();
    }
}

/// One of the flights ends somehow.
fn land(play: &mut Play, chance: &mut Chance) {
    let flights = play.in_flight();
    if flights.is_empty() {
        return;
    }
    let flight = &flights[chance.index(flights.len())];
    if let Some(call) = flight.strip_prefix("tool ") {
        play.result(call, "done");
    } else if flight == "model" {
        answer(play, chance);
    } else if flight == "list" {
        list(play, chance);
    } else {
        play.wake();
    }
}

/// Some of the MCP servers answer; now and then the lists are lost.
fn list(play: &mut Play, chance: &mut Chance) {
    let lists = [("notes", script::notes()), ("mail", script::notes())];
    match chance.below(5) {
        0 => play.list(&[]),
        1 => play.list(&lists[..1]),
        2 => play.list(&lists[1..]),
        _ => play.list(&lists),
    }
}

fn answer(play: &mut Play, chance: &mut Chance) {
    let kinds = [
        FailureKind::Overloaded,
        FailureKind::RateLimited,
        FailureKind::Transient,
        FailureKind::Hopeless,
        FailureKind::Billing,
        FailureKind::TooLong,
    ];
    if chance.below(4) == 0 {
        let retry_after = (chance.below(2) == 0).then(|| Duration::from_secs(chance.below(400)));
        play.fail(&Failure { retry_after, ..failed(kinds[chance.index(kinds.len())]) });
        return;
    }
    let blocks = (0..chance.below(5)).map(|_| block(chance)).collect();
    let stop = match chance.below(12) {
        0 => Stop::MaxTokens,
        1 => Stop::Pause,
        2 => Stop::WindowExceeded,
        3 => Stop::Refusal { category: None, explanation: None },
        4..=6 => Stop::EndTurn,
        _ => Stop::ToolUse,
    };
    play.answer(response(blocks, stop));
}

fn block(chance: &mut Chance) -> Block {
    let tools = [
        "bash",
        "read",
        "write",
        "write",
        "edit",
        "weather",
        "clock",
        "teleport",
        "mcp__notes__read_note",
        "mcp__notes__wipe",
        "mcp__mail__write_note",
    ];
    let (id, tool) = (format!("toolu_{}", chance.next()), tools[chance.index(tools.len())]);
    match chance.below(8) {
        0 => thought(),
        1 | 2 => said("so"),
        3 => said(""),
        4 => cut(&id, tool),
        _ => call(&id, tool),
    }
}

/// Nobody disturbs any more: everything comes to its end.
fn settle(play: &mut Play) {
    play.late.clear();
    for _ in 0..500 {
        play.stops_land();
        let flights = play.in_flight();
        match flights.first().map(String::as_str) {
            Some("model") => play.answer(ends_with("Done.")),
            Some("list") => play.list(&[]),
            Some(flight) => match flight.strip_prefix("tool ") {
                Some(call) => play.result(call, "done"),
                None => play.wake(),
            },
            None if play.status() != Status::Idle => panic!("stuck"),
            None if play.summary().unanswered().next().is_none() => break,
            None => answer_all(play, &mut Chance(1)),
        }
    }
    assert!(play.in_flight().is_empty(), "still at work");
    assert_eq!(play.summary().waiting.len(), 0, "input waits for ever");
    let sent = play.kinds(0).iter().filter(|kind| **kind == "user.message").count();
    let heard = play.state.threads[0].entries.iter();
    let heard = heard.filter(|entry| matches!(entry.item, posthouse_model::Item::User(_))).count();
    assert_eq!(heard, sent, "every message is in the conversation, once");
    play.crash();
}

/// A small xorshift generator.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The low bits of a xorshift are its worst.
        (self.next() >> 16) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}
