//! When a list holds, which calls run, and which links a session has.

use std::{sync::Arc, time::Duration};

use posthouse_protocol::agent::Elicitation;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::world::{World, at};
use crate::{
    outside::{
        McpSettings, RESTING_LISTS,
        link::{Calls, Identity, Link, Listed},
    },
    tools::{Outside as _, ServerTool},
    vault::Matching,
};

fn identity(url: &str, credential: Option<&str>) -> Identity {
    Identity {
        server: at("one", url),
        vaults: Arc::new(["vlt_1".to_owned()]),
        credential: credential.map(|id| Matching { vault: "vlt_1".into(), credential: id.into() }),
        elicitation: Elicitation::Decline,
    }
}

fn listed(until: Option<Instant>, tells: bool) -> Listed {
    Listed { tools: Arc::new([]), until, by: 1, tells }
}

#[test]
fn a_list_holds_as_long_as_its_server_says() {
    let now = Instant::now();
    let later = Some(now + Duration::from_secs(1));
    // The connection's word: none when it has ended, else whether the list may have changed.
    for (until, tells, word, holds) in [
        (None, false, None, false),
        (None, false, Some(true), false),
        (None, true, None, false),
        (None, true, Some(false), true),
        (None, true, Some(true), false),
        (later, false, None, true),
        (later, false, Some(true), true),
        (later, true, None, true),
        (later, true, Some(false), true),
        (later, true, Some(true), false),
        (Some(now), true, Some(false), false),
        (Some(now), false, None, false),
    ] {
        let list = listed(until, tells);
        assert_eq!(list.holds(now, word), holds, "{until:?} {tells} {word:?}");
    }
}

#[test]
fn a_list_without_its_connection_is_kept_while_its_time_lasts() {
    let link = Link::new(identity("https://a.example", None));
    let now = Instant::now();
    link.keep_list(listed(Some(now + Duration::from_secs(60)), true));
    assert!(link.list(now).is_some());
    assert!(link.forget_unless_it_holds(now + Duration::from_secs(59)));
    assert!(!link.forget_unless_it_holds(now + Duration::from_secs(60)));
    assert!(link.list(now).is_none());
}

#[test]
fn a_call_runs_until_it_ends_or_is_interrupted() {
    let calls = Calls::default();
    let (one, two) = (calls.begin(&"1".into()), calls.begin(&"2".into()));
    assert_eq!(calls.now(), ["1".into(), "2".into()]);
    drop(one);
    assert_eq!(calls.now(), ["2".into()]);
    drop(two);
    assert!(calls.now().is_empty());
}

#[tokio::test]
async fn a_session_has_one_link_to_a_server_and_another_for_another_identity() {
    let world = World::new(None, McpSettings::default());
    let room = &world.outside.room;
    let count = |session: &str| room.sessions().get(session).map_or(0, |one| one.links.len());
    let session: Arc<str> = "sesn_1".into();
    let first = room.link(&session, identity("https://a.example", None));
    let again = room.link(&session, identity("https://a.example", None));
    assert!(Arc::ptr_eq(&first, &again));
    let theirs = room.link(&"sesn_2".into(), identity("https://a.example", None));
    assert!(!Arc::ptr_eq(&first, &theirs), "no two sessions share anything");
    drop(again);

    // Somebody works with the first one, so it stays beside the one with a credential.
    let known = room.link(&session, identity("https://a.example", Some("vcrd_1")));
    assert!(!Arc::ptr_eq(&first, &known));
    assert_eq!(count("sesn_1"), 2);
    // Nobody does any more: both go when there is another one.
    drop((first, known));
    drop(room.link(&session, identity("https://a.example", Some("vcrd_2"))));
    assert_eq!(count("sesn_1"), 1);
    drop(room.link(&session, identity("https://b.example", None)));
    assert_eq!(count("sesn_1"), 2);

    world.outside.forget("sesn_1");
    assert_eq!((count("sesn_1"), count("sesn_2")), (0, 1));
}

#[tokio::test]
async fn a_session_that_rests_is_forgotten_after_a_while() {
    let settings = McpSettings { keep: Duration::from_secs(60), ..McpSettings::default() };
    let world = World::new(None, settings);
    let room = &world.outside.room;
    let session: Arc<str> = "sesn_1".into();
    let linked = || room.link(&session, identity("https://a.example", None));
    // Moments of this test are too short to matter.
    let sweep_after = |seconds| {
        room.sweep(Instant::now() + Duration::from_secs(seconds));
        room.sessions().len()
    };
    let link = linked();
    world.outside.rest(&session);
    assert_eq!(sweep_after(61), 1, "somebody works with it");
    drop(link);
    assert_eq!(sweep_after(58), 1);
    assert_eq!(sweep_after(61), 0);

    // It goes on before the time is over.
    drop(linked());
    world.outside.rest(&session);
    room.wakes(&session);
    assert_eq!(sweep_after(1700), 1);
    // It never says that it rests, and nobody needs what it has.
    assert_eq!(sweep_after(1801), 0);

    // A list that holds is kept without a connection.
    linked().keep_list(listed(Some(Instant::now() + Duration::from_secs(600)), false));
    world.outside.rest(&session);
    assert_eq!(sweep_after(590), 1);
    assert_eq!(sweep_after(601), 0);
}

#[tokio::test]
async fn lists_of_sessions_that_rest_have_bounds() {
    let world = World::new(None, McpSettings::default());
    let room = &world.outside.room;
    let tool = ServerTool {
        name: "one".into(),
        description: "x".repeat(RESTING_LISTS / 2),
        input_schema: Arc::from(RawValue::from_string("{}".into()).unwrap()),
        idempotent: false,
    };
    for session in ["sesn_1", "sesn_2"] {
        let session: Arc<str> = session.into();
        let link = room.link(&session, identity("https://a.example", None));
        let until = Some(Instant::now() + Duration::from_secs(600));
        link.keep_list(Listed { tools: Arc::new([tool.clone()]), ..listed(until, false) });
        world.outside.rest(&session);
    }
    let later = Instant::now() + Duration::from_secs(100);
    room.sweep(later);
    let kept = |session: &str| {
        let sessions = room.sessions();
        sessions.get(session).is_some_and(|one| one.links[0].list(later).is_some())
    };
    assert_eq!((kept("sesn_1"), kept("sesn_2")), (false, true), "the newest is kept");
}

#[tokio::test]
async fn there_are_no_more_connections_than_the_operator_allows() {
    let settings = McpSettings { connections: 2, ..McpSettings::default() };
    let world = World::new(None, settings);
    let room = &world.outside.room;
    let (one, two) = (room.permit().unwrap(), room.permit().unwrap());
    let refused = room.permit().unwrap_err().to_string();
    assert!(refused.starts_with("2 connections") && refused.contains("mcp.connections"));
    drop(one);
    drop(room.permit().unwrap());
    world.outside.stop().await;
    let refused = room.permit().unwrap_err().to_string();
    assert!(refused.contains("about to stop"), "{refused}");
    drop(two);
}
