//! Sessions that list and call the tools of servers on loopback and at the end of pipes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    peer::{Peer, Program},
    world::{World, at, program, standpoint, text},
};
use crate::{
    outside::McpSettings,
    tools::{Outside as _, Standpoint, ToolOutcome, TroubleKind},
    vault::tests::{
        bench::token,
        server::{Seen, Server},
    },
};

const URL: &str = "http://server.test/mcp";

fn session(id: &str) -> Arc<Standpoint> {
    standpoint(id, &["vlt_1"], vec![at("peer", URL)])
}

/// Waits until something has come about.
async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it has not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn ended_sessions(server: &Server) -> Vec<String> {
    let ended =
        |seen: &Seen| (seen.method == "DELETE").then(|| seen.header("mcp-session-id").to_owned());
    server.seen().iter().filter_map(ended).collect()
}

#[tokio::test]
async fn a_session_has_a_connection_of_its_own_for_as_long_as_it_works() {
    let peer = Peer::with(&["echo", "fail", "whoami"]);
    let server = peer.serve().await;
    let world = World::new(Some(server.address), McpSettings::default());
    let (one, two) = (session("sesn_1"), session("sesn_2"));
    let [listing] = &world.list(&one).await[..] else { panic!() };
    let tools = listing.outcome.as_ref().unwrap();
    assert_eq!((&*listing.server, tools[0].name.as_str()), ("peer", "echo"));
    assert_eq!(tools[0].description, "Does echo.");
    let idempotent: Vec<bool> = tools.iter().map(|tool| tool.idempotent).collect();
    assert_eq!(idempotent, [false, false, true]);

    let echoed = world.call(&one, "sevt_1", "peer", "echo", json!({ "a": 1 })).await;
    assert_eq!(echoed, ToolOutcome::text("{\"a\":1}"));
    let failed = world.call(&one, "sevt_2", "peer", "fail", json!({})).await;
    assert_eq!(failed, ToolOutcome::error("it has failed"));
    let refused = world.call(&one, "sevt_3", "peer", "none", json!({})).await;
    assert!(refused.is_error && refused.trouble.is_none());
    assert!(text(&refused).contains("has refused the call: no such tool"), "{refused:?}");

    world.call(&two, "sevt_4", "peer", "echo", json!({})).await;
    assert_eq!(peer.count("initialize"), 2, "one for each session");

    world.outside.forget("sesn_1");
    until(|| !ended_sessions(&server).is_empty()).await;
    assert_eq!(ended_sessions(&server), ["session-1"]);
    world.outside.stop().await;
    assert_eq!(ended_sessions(&server), ["session-1", "session-2"]);
    let late = world.call(&two, "sevt_5", "peer", "echo", json!({})).await;
    assert!(text(&late).contains("about to stop"), "{late:?}");
}

#[tokio::test]
async fn a_server_gets_the_credential_as_it_is_now() {
    let peer = Peer::with(&["whoami"]);
    let server = peer.serve().await;
    let world = World::new(Some(server.address), McpSettings::default());
    let bench = &world.bench;
    bench.vault("vlt_1").await;
    peer.lets_in("one");
    let from = session("sesn_1");
    let [listing] = &world.list(&from).await[..] else { panic!() };
    let trouble = listing.outcome.as_ref().unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Authentication);
    assert!(trouble.message.contains("None of the session's vaults (vlt_1)"), "{trouble:?}");
    assert!(trouble.message.contains("connect vlt_1 URL --scope \"read write\"`"), "{trouble:?}");

    let bearer = json!({ "type": "static_bearer", "mcp_server_url": URL });
    bench.credential("vlt_1", "vcrd_1", bearer, token("one")).await;
    assert_eq!(world.names(&from).await.unwrap(), ["whoami"]);
    // Another token of the same credential needs no other connection. The server says what it was
    // sent, and nobody hears it.
    peer.lets_in("canary-two");
    bench.put("vlt_1", "vcrd_1", &token("canary-two")).await;
    let who = world.call(&from, "sevt_1", "peer", "whoami", json!({})).await;
    assert_eq!(who, ToolOutcome::text("Bearer [REDACTED]"));
    assert!(server.seen().iter().any(|seen| seen.header("authorization") == "Bearer canary-two"));
    assert_eq!(peer.count("initialize"), 1);
    let used = bench.uses();
    assert!(used.iter().any(|one| one["event_ids"] == json!(["sevt_1"])), "{used:?}");

    peer.lets_in("three");
    let outcome = world.call(&from, "sevt_2", "peer", "whoami", json!({})).await;
    let trouble = outcome.trouble.clone().unwrap();
    assert_eq!(trouble.kind, TroubleKind::Authentication);
    assert!(trouble.message.contains("with credential vcrd_1 of vlt_1"), "{trouble:?}");
    assert!(text(&outcome).ends_with("Nothing was called."), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("canary"));
    assert!(world.names(&from).await.is_err());
    bench.put("vlt_1", "vcrd_1", &token("three")).await;
    assert_eq!(world.names(&from).await.unwrap(), ["whoami"]);
}

#[tokio::test]
async fn calls_at_once_make_one_connection_and_one_attempt() {
    let peer = Peer::with(&["echo"]);
    let server = peer.serve().await;
    let world = World::new(Some(server.address), McpSettings::default());
    let from = session("sesn_1");
    let ids: Vec<String> = (0..8).map(|number| format!("sevt_{number}")).collect();
    let calls = |world| join_all(ids.iter().map(move |id| call(world, id)));
    async fn call(world: &World, id: &str) -> ToolOutcome {
        world.call(&session("sesn_1"), id, "peer", "echo", json!({ "id": id })).await
    }
    let outcomes = calls(&world).await;
    for (id, outcome) in ids.iter().zip(outcomes) {
        assert_eq!(outcome, ToolOutcome::text(json!({ "id": id }).to_string()));
    }
    assert_eq!(peer.count("initialize"), 1);

    // Nobody listens where this one leads.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::new(Some(address), McpSettings::default());
    for outcome in calls(&world).await {
        assert!(outcome.is_error && text(&outcome).ends_with("Nothing was called."));
        assert_eq!(outcome.trouble.unwrap().kind, TroubleKind::Connection);
    }
    assert_eq!(world.bench.guard.dialled(), 1);
    assert!(world.names(&from).await.unwrap_err().contains("can't be used now"));
    assert_eq!(world.bench.guard.dialled(), 2, "the next turn tries again");
}

#[tokio::test]
async fn the_connection_that_nobody_needs_makes_room() {
    let peer = Peer::with(&["echo"]);
    let server = peer.serve().await;
    let settings = McpSettings { connections: 1, ..McpSettings::default() };
    let world = World::new(Some(server.address), settings);
    for id in ["sesn_1", "sesn_2", "sesn_1"] {
        let echoed = world.call(&session(id), "sevt_1", "peer", "echo", json!({})).await;
        assert_eq!(echoed, ToolOutcome::text("{}"));
    }
    assert_eq!(peer.count("initialize"), 3);
    until(|| ended_sessions(&server).len() == 2).await;
    assert_eq!(world.outside.room.permits.available_permits(), 0);
    world.outside.forget("sesn_1");
    assert_eq!(world.outside.room.permits.available_permits(), 1);
}

/// A session with one server in its sandbox.
fn caged() -> Arc<Standpoint> {
    standpoint("sesn_1", &[], vec![program("peer", "serve")])
}

/// Lets the peer answer at the end of each pipe that is opened.
fn serve(world: &World, peer: &Arc<Peer>) -> Program {
    let (started, pipe) = world.programs.0.lock().unwrap().pop().unwrap();
    assert_eq!((started.name.as_str(), started.command.as_str()), ("peer", "serve"));
    assert_eq!((started.args, started.env["A"].as_str()), (vec!["--quiet".to_owned()], "b"));
    peer.speak(pipe)
}

/// The names of the tools, from a program that is started for it.
async fn names_of_another(
    world: &World,
    peer: &Arc<Peer>,
    from: &Arc<Standpoint>,
) -> (Vec<String>, Program) {
    let listing = world.names(from);
    let starting = async {
        until(|| !world.programs.0.lock().unwrap().is_empty()).await;
        serve(world, peer)
    };
    let (names, program) = tokio::join!(listing, starting);
    (names.unwrap(), program)
}

#[tokio::test]
async fn a_program_in_the_sandbox_lives_as_long_as_its_session_works() {
    let settings = McpSettings { keep: Duration::ZERO, ..McpSettings::default() };
    let (world, peer) = (World::new(None, settings), Peer::with(&["echo"]));
    let from = caged();
    let (names, first) = names_of_another(&world, &peer, &from).await;
    assert_eq!(names, ["echo"]);
    // It tells of changes, and has told of none.
    assert_eq!(world.names(&from).await.unwrap(), ["echo"]);
    assert_eq!(peer.count("tools/list"), 1);
    peer.has(&["echo", "fail"]);
    first.tells_of_changes();
    let room = &world.outside.room;
    until(|| {
        let sessions = room.sessions();
        sessions["sesn_1"].links[0].list(tokio::time::Instant::now()).is_none()
    })
    .await;
    assert_eq!(world.names(&from).await.unwrap(), ["echo", "fail"]);
    assert_eq!((peer.count("tools/list"), peer.count("initialize")), (2, 1));

    // It dies, and the next turn has another one.
    drop(first);
    let is_open = || room.sessions()["sesn_1"].links[0].connection().is_some();
    until(|| !is_open()).await;
    let (names, second) = names_of_another(&world, &peer, &from).await;
    assert_eq!(names, ["echo", "fail"]);

    world.outside.rest(&from.session);
    world.outside.sweep();
    second.ended().await;
    assert!(room.sessions().is_empty());
}

#[tokio::test]
async fn a_sandbox_is_held_while_its_server_is_asked() {
    let world = World::new(None, McpSettings::default());
    let holders = || Arc::strong_count(&world.programs.1) - 1;
    let from = caged();
    // Nobody answers at the other end of the pipe.
    let mut calling = Box::pin(world.call(&from, "sevt_1", "peer", "echo", json!({})));
    assert!(futures_util::poll!(&mut calling).is_pending());
    assert_eq!(holders(), 1);
    drop(calling);
    assert_eq!(holders(), 0, "an interrupt lets it go");
    let mut listing = Box::pin(world.list(&from));
    assert!(futures_util::poll!(&mut listing).is_pending());
    assert_eq!(holders(), 1);
    drop(listing);
    assert_eq!(holders(), 0);
    // What runs elsewhere needs no sandbox.
    world.call(&session("sesn_1"), "sevt_2", "peer", "echo", json!({})).await;
    assert_eq!(holders(), 0);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_out_in_time() {
    let settings = McpSettings {
        connect: Duration::from_millis(50),
        list: Duration::from_millis(50),
        ..McpSettings::default()
    };
    let world = World::new(None, settings);
    // Nobody answers at the other end of the pipe.
    let trouble = world.names(&caged()).await.unwrap_err();
    assert!(trouble.contains("can't be used now"), "{trouble}");
    assert_eq!(world.outside.room.permits.available_permits(), 1000);
}
