//! `kill -9` around and inside of tool calls: what a tool does is done at most once, and every
//! call has one end that is true.
//!
//! `POSTHOUSE_KILLS=N` runs N seeds.

use std::{collections::BTreeMap, fs, time::Duration};

use posthouse_testkit::{Reply, Script};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::server::{PATIENCE, Server, Setup, User, all_gone, calls, until};

const SEEDS: u64 = 6;
const TURNS: u64 = 4;
/// Where the tools leave their traces.
const TRACES: &str = "workspace/traces";
const POINTS: [&str; 4] =
    ["tool.before_start", "tool.after_start", "tool.before_append", "tool.after_append"];
const UNKNOWN: &str = "unknown outcome: ";

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// With the result of its tool.
    Result,
    /// Nobody knows.
    Unknown,
}

/// A command that leaves a trace between two rests, and says so at its end.
fn command(name: &str, before: u64, after: u64) -> String {
    format!("sleep 0.{before:03}; echo {name} >> /{TRACES}; sleep 0.{after:03}; echo did {name}")
}

/// A model that asks for a command when it is told its name, and is done after the result.
fn script(commands: &[(String, Vec<String>)]) -> Script {
    let asks = commands.iter().map(|(word, commands)| {
        let calls = commands.iter().fold(Reply::default(), |reply, command| {
            reply.and_tool_use("bash", json!({ "command": command }))
        });
        calls.when_user_says(word).forever()
    });
    let done = Reply::text("Done.").when_result_of("bash").forever();
    Script::of([done].into_iter().chain(asks))
}

/// Every call has one end, no trace is doubled, and each end tells the truth.
async fn check(server: &Server, session: &str, told: &[&str], what: &str) -> Vec<End> {
    let traces = fs::read_to_string(server.tree(session, TRACES)).unwrap_or_default();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in traces.lines() {
        *times.entry(line).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{what}: done twice: {times:?}");
    let calls = calls(&server.events(session).await);
    assert_eq!(calls.len(), told.len(), "{what}: {calls:?}");
    let ends = calls.into_iter().zip(told).map(|(call, name)| {
        let call = call.unwrap_or_else(|| panic!("{what}: {name} has no end"));
        if call.text.ends_with(&format!("did {name}\n")) && !call.is_error {
            assert!(times.contains_key(name), "{what}: {name} says that it was done");
            End::Result
        } else {
            assert!(call.is_error && call.text.starts_with(UNKNOWN), "{what}: {call:?}");
            End::Unknown
        }
    });
    ends.collect()
}

#[tokio::test]
async fn each_point_around_a_call_has_its_end() {
    points(User::Own).await;
}

#[tokio::test]
async fn each_point_around_a_call_of_an_ordinary_user_has_its_end() {
    points(User::Ordinary).await;
}

/// With a journal of this life: before a start it is run, after one and before its first
/// instruction too, and what it had to say is not lost with the server.
async fn points(user: User) {
    for point in POINTS {
        let commands = [("first", 0, 0), ("second", 0, 0)]
            .map(|(name, before, after)| (name.to_owned(), vec![command(name, before, after)]));
        let setup = Setup { user, ..Setup::default() };
        let mut server = Server::with(setup, String::new(), script(&commands)).await;
        let session = server.plain_session().await;
        server.kill().await;
        // The first call goes well, the second meets the fault.
        assert!(server.begin(Some(&format!("{point}:2"))).await);
        server.say(&session, "first").await;
        server.idle(&session, PATIENCE).await;
        say(&server, &session, "second").await;
        server.died().await;
        // What is left has not been cleared up by anybody but the kernel.
        assert!(server.begin(None).await);
        server.idle(&session, PATIENCE).await;
        let ends = check(&server, &session, &["first", "second"], point).await;
        assert_eq!(ends, [End::Result, End::Result], "{point}");
    }
}

#[tokio::test]
async fn calls_that_never_ran_do_not_end_each_other_when_they_are_run_after_all() {
    let names = ["one", "two", "three"];
    let commands = [
        ("before".to_owned(), vec![command("before", 0, 0)]),
        ("go".to_owned(), names.map(|name| command(name, 300, 0)).to_vec()),
    ];
    let mut server = Server::with(Setup::default(), String::new(), script(&commands)).await;
    let session = server.plain_session().await;
    // A session without a journal would have to say that nobody knows.
    server.say(&session, "before").await;
    server.idle(&session, PATIENCE).await;
    server.kill().await;
    // So slow that none has begun when the server dies.
    server.delay = Some("5000");
    assert!(server.begin(Some("tool.after_start:3")).await);
    say(&server, &session, "go").await;
    server.died().await;
    server.delay = None;
    assert!(server.begin(None).await);
    server.idle(&session, PATIENCE).await;
    let told = ["before", "one", "two", "three"];
    let ends = check(&server, &session, &told, "run after all").await;
    assert_eq!(ends, [End::Result; 4]);
}

#[tokio::test]
async fn a_call_that_was_running_has_an_unknown_outcome_and_is_not_run_again() {
    for user in [User::Own, User::Ordinary] {
        let commands = [
            ("early", format!("echo early >> /{TRACES}; sleep 60; echo did early")),
            ("late", format!("sleep 60; echo late >> /{TRACES}; echo did late")),
        ]
        .map(|(name, command)| (name.to_owned(), vec![command]));
        let setup = Setup { user, ..Setup::default() };
        let mut server = Server::with(setup, String::new(), script(&commands)).await;
        let session = server.plain_session().await;
        let starts = |server: &Server| {
            let journal = fs::read_to_string(server.sandbox(&session).join("journal"));
            journal.unwrap_or_default().matches("{\"started\"").count()
        };
        let before = starts(&server);
        server.say(&session, "early").await;
        let begun = async || server.tree(&session, TRACES).exists();
        until(PATIENCE, "the call was not started", begun).await;
        assert_eq!(starts(&server), before + 1);
        again(&mut server, &session).await;
        let before = starts(&server);
        server.say(&session, "late").await;
        until(PATIENCE, "the call was not started", async || starts(&server) > before).await;
        again(&mut server, &session).await;
        let ends = check(&server, &session, &["early", "late"], "running").await;
        assert_eq!(ends, [End::Unknown, End::Unknown]);
        let traces = fs::read_to_string(server.tree(&session, TRACES)).unwrap();
        assert_eq!(traces, "early\n", "what was to come later never came");
    }
}

/// Ends a server in the middle of what its tools do, which end with it; and lets another one mend
/// what is left.
async fn again(server: &mut Server, session: &str) {
    let left = server.kill().await;
    all_gone(&left).await;
    assert!(server.begin(None).await);
    server.idle(session, PATIENCE).await;
}

#[tokio::test]
async fn tools_do_what_they_do_at_most_once() {
    let seeds = std::env::var("POSTHOUSE_KILLS").ok().and_then(|text| text.parse().ok());
    let mut ends: BTreeMap<End, usize> = BTreeMap::new();
    let mut kills = 0;
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let life = timeout(PATIENCE * 2, live(seed)).await;
        let (seen, killed) = life.unwrap_or_else(|_| panic!("seed {seed} is stuck"));
        kills += killed;
        for end in seen {
            *ends.entry(end).or_default() += 1;
        }
    }
    println!("{kills} kills, {ends:?}");
    assert!(kills > 0 && ends.contains_key(&End::Result), "{ends:?}");
}

/// Holds a conversation whose server is killed in every turn, by chance or at a point; returns
/// how the calls have ended and how often it was killed.
async fn live(seed: u64) -> (Vec<End>, u32) {
    let mut chance = Chance(seed);
    let mut commands = Vec::new();
    let mut told = Vec::new();
    for turn in 0..TURNS {
        let names: Vec<_> =
            (0..=chance.below(2)).map(|call| format!("s{seed}t{turn}c{call}")).collect();
        let asked = names.iter().map(|name| command(name, chance.below(60), chance.below(60)));
        commands.push((format!("turn {turn}"), asked.collect()));
        told.extend(names);
    }
    let user = if seed % 3 == 2 { User::Ordinary } else { User::Own };
    let setup = Setup { user, ..Setup::default() };
    let mut server = Server::with(setup, String::new(), script(&commands)).await;
    let session = server.plain_session().await;
    let mut kills = 0;
    for turn in 0..TURNS {
        let fault = (chance.below(2) == 0).then(|| {
            let point = POINTS[usize::try_from(chance.below(4)).unwrap()];
            format!("{point}:{}", chance.below(2) + 1)
        });
        if let Some(fault) = &fault {
            server.kill().await;
            assert!(server.begin(Some(fault)).await);
        }
        say(&server, &session, &format!("turn {turn}")).await;
        // One death in the turn, and at times another while it is mended.
        for again in [true, chance.below(3) == 0] {
            if !again {
                continue;
            }
            if fault.is_none() || kills % 2 == 1 {
                sleep(Duration::from_millis(chance.below(220))).await;
            } else {
                let rests = async {
                    while !server.has_died() && !rests(&server, &session).await {
                        sleep(Duration::from_millis(2)).await;
                    }
                };
                timeout(PATIENCE, rests).await.unwrap_or_else(|_| panic!("seed {seed} is stuck"));
            }
            if !server.has_died() {
                server.kill().await;
            }
            kills += 1;
            assert!(server.begin(None).await);
        }
        server.idle(&session, PATIENCE).await;
    }
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let what = format!("seed {seed}");
    (check(&server, &session, &told, &what).await, kills)
}

/// Says something to a server that may die of it before it has answered. The points lie behind
/// the commit of what was said.
async fn say(server: &Server, session: &str, text: &str) {
    let content = json!([{ "type": "text", "text": text }]);
    let body = json!({ "events": [{ "type": "user.message", "content": content }] });
    let path = format!("/v1/sessions/{session}/events");
    let request = server.request(reqwest::Method::POST, &path).body(body.to_string());
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 200);
    }
}

/// Whether a session rests; a server that has died under the question says nothing.
async fn rests(server: &Server, session: &str) -> bool {
    let path = format!("/v1/sessions/{session}");
    let Ok(sent) = server.request(reqwest::Method::GET, &path).send().await else { return false };
    let Ok(text) = sent.text().await else { return false };
    text.contains("\"status\":\"idle\"")
}

/// Numbers by chance, the same ones for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
