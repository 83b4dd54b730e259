//! How much a conversation fills of its model's window, and what is left out to make it fit.

use posthouse_model::{FailureKind, Item, ToolResult, Usage};

use super::{
    play::Play,
    script::{calls, ends_with, say},
};
use crate::{prompt, state::estimate, summary::Status};

const WINDOW: u64 = 10_000;

fn play() -> Play {
    let mut play = Play::new();
    play.thorough = false;
    play.spec.window = WINDOW;
    play
}

/// About how many tokens the newest request has.
fn sent(play: &Play) -> u64 {
    let tokens = |item: &Item| match item {
        Item::User(content) => estimate(content.get()),
        Item::System(text) => estimate(text),
        Item::ToolResults(results) => results.iter().map(|one| estimate(one.content.get())).sum(),
        Item::Assistant { .. } => 10,
    };
    play.request.as_ref().unwrap().items.iter().map(tokens).sum()
}

fn shown(play: &Play) -> Vec<String> {
    play.request.as_ref().unwrap().items.iter().map(|item| format!("{item:?}")).collect()
}

fn is_trimmed(result: &ToolResult) -> bool {
    result.content.get().contains(prompt::TRIMMED)
}

/// The model calls a tool, as a provider that counts tokens, and gets so many tokens.
fn call_for(play: &mut Play, name: &str, tokens: usize) {
    let mut response = calls([(name, "bash")]);
    response.usage = Usage { input_tokens: sent(play), output_tokens: 10, ..Usage::default() };
    play.answer(response);
    play.result(name, &"1234".repeat(tokens));
}

#[test]
fn four_bytes_are_a_token_and_a_picture_is_a_picture() {
    assert_eq!(estimate(""), 1);
    assert_eq!(estimate(&"x".repeat(400)), 101);
    let picture = |data: &str| {
        format!(
            r#"[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]"#
        )
    };
    let (small, large) = (picture("aGk="), picture(&"A".repeat(4_000_000)));
    assert_eq!(estimate(&small), estimate(&large));
    assert!((1_600..1_700).contains(&estimate(&large)));
    let both = format!("[{small},{large}]");
    assert!((3_200..3_300).contains(&estimate(&both)));
    // Members can come in any order.
    let backwards =
        format!(r#"{{"source":{{"data":"{}","type":"base64"}}}}"#, "A".repeat(4_000_000));
    assert!((1_600..1_700).contains(&estimate(&backwards)));
    // Text is text, also when it speaks of such things, or comes as a document.
    let text = r#"[{"type":"text","text":"use \"base64\" with \"data\":\"…\""}]"#;
    assert!(estimate(text) < 30);
    let document =
        format!(r#"{{"type":"text","media_type":"text/plain","data":"{}"}}"#, "x".repeat(40_000));
    assert!(estimate(&document) > 10_000);
    // What is cut off anywhere is still counted.
    for end in (0..small.len()).step_by(7) {
        assert!(estimate(&small[..end]) < 1_700);
    }
}

#[test]
fn what_is_cut_stays_cut_and_the_cut_seldom_moves() {
    let mut play = play();
    play.send([say("go")]).unwrap();
    let (mut before, mut moves, mut most) = (shown(&play), 0, 0);
    for round in 0..100 {
        call_for(&mut play, &format!("call_{round}"), 300);
        let now = shown(&play);
        if now[..before.len()] != before {
            moves += 1;
        }
        most = most.max(sent(&play));
        before = now;
    }
    assert!(most <= WINDOW * 8 / 10 + 10, "{most} tokens were sent");
    // Each move frees three tenths of the window: room for about ten such results.
    assert!((5..=12).contains(&moves), "the cut has moved {moves} times in 100 requests");
    let trimmed =
        |item: &Item| matches!(item, Item::ToolResults(all) if all.iter().all(is_trimmed));
    let items = &play.request.as_ref().unwrap().items;
    let first_whole = items
        .iter()
        .position(|item| matches!(item, Item::ToolResults(_)) && !trimmed(item))
        .unwrap();
    assert!(!items[first_whole..].iter().any(trimmed), "the oldest go first");
    assert_eq!(items.len(), 201, "only results are left out, and each leaves a notice");
}

#[test]
fn neither_retries_nor_crashes_move_the_cut() {
    let mut play = play();
    play.send([say("go")]).unwrap();
    let mut round = 0;
    while play.state.threads[0].trimmed_before == 0 {
        call_for(&mut play, &format!("call_{round}"), 900);
        round += 1;
    }
    let first = shown(&play);
    for _ in 0..6 {
        play.fail_with(FailureKind::Overloaded);
        play.wake();
        assert_eq!(shown(&play), first);
        play.crash();
        assert_eq!(shown(&play), first);
    }
    play.answer(ends_with("Done."));
    assert_eq!(play.status(), Status::Idle);
}

/// The model ends its turn, as a provider that counts tokens, and is asked again in that window.
fn ask_in(play: &mut Play, window: u64) {
    let mut response = ends_with("Done.");
    response.usage = Usage { input_tokens: sent(play), output_tokens: 10, ..Usage::default() };
    play.answer(response);
    play.spec.window = window;
    play.send([say("next")]).unwrap();
}

#[test]
fn a_small_window_is_cut_for_itself_alone() {
    const LARGE: u64 = 10 * WINDOW;
    let mut play = play();
    play.spec.window = LARGE;
    play.send([say("go")]).unwrap();
    for round in 0..4 {
        call_for(&mut play, &format!("call_{round}"), 3_000);
    }
    ask_in(&mut play, LARGE);
    let large = shown(&play);
    assert!(!large.iter().any(|item| item.contains(prompt::TRIMMED)), "there is room for all");
    for _ in 0..3 {
        ask_in(&mut play, WINDOW);
        let small = shown(&play);
        let cut = small.iter().filter(|item| item.contains(prompt::TRIMMED)).count();
        assert_eq!(cut, 3, "as many as it takes, and the same each time");
        play.crash();
        assert!(shown(&play) == small);
        ask_in(&mut play, LARGE);
        assert!(shown(&play)[..large.len()] == large, "all of it is there again");
        assert!(sent(&play) > 12_000);
    }
    // What fits no window of some size fits none that is smaller.
    let thread = &play.state.threads[0];
    assert!(thread.cut(WINDOW) > 0 && thread.cut(WINDOW / 2) == thread.cut(WINDOW));
    assert_eq!(thread.cut(LARGE), 0);
}

#[test]
fn what_can_not_be_made_to_fit_is_not_sent() {
    let mut play = play();
    play.send([say(&"1234".repeat(9_600))]).unwrap();
    let kinds = play.kinds(0);
    assert!(!kinds.contains(&"span.model_request_start"), "{kinds:?}");
    assert!(play.records.iter().any(|one| one.payload.contains("compaction_limit_reached_error")));
    assert_eq!(play.status(), Status::Idle);
    play.crash();
    // A model with more room takes it.
    play.spec.window = 10 * WINDOW;
    play.send([say("and now?")]).unwrap();
    assert_eq!(play.in_flight(), ["model"]);
}

#[test]
fn results_make_room_for_a_large_message() {
    let mut play = play();
    play.send([say("go")]).unwrap();
    for round in 0..6 {
        call_for(&mut play, &format!("call_{round}"), 1_000);
    }
    play.send([say(&"1234".repeat(6_000))]).unwrap();
    let mut response = ends_with("So far.");
    response.usage = Usage { input_tokens: sent(&play), ..Usage::default() };
    play.answer(response);
    assert_eq!(play.in_flight(), ["model"]);
    assert!(sent(&play) <= WINDOW * 95 / 100);
}
