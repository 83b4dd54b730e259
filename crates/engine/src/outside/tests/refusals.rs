//! What is refused before anything leaves.

use std::sync::Arc;

use posthouse_mcp::client::{Header, Headers as _};
use posthouse_protocol::{agent::Elicitation, environment::Networking};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::world::{World, at, program, standpoint, text};
use crate::{
    outside::{
        McpSettings,
        headers::SessionHeaders,
        link::{Identity, Link},
    },
    tools::{Standpoint, TroubleKind},
    vault::{Matching, tests::bench::token},
};

const URL: &str = "https://a.example/mcp";

#[tokio::test]
async fn each_server_has_its_own_trouble_and_nothing_fails_as_a_whole() {
    let world = World::new(None, McpSettings::default());
    let servers = vec![
        at("far", "https://far.example/mcp"),
        at("named", "https://user:canary@near.example/mcp"),
        at("none", "near.example"),
        program("missing", "missing"),
    ];
    let mut from = standpoint("sesn_1", &["vlt_1"], servers);
    Arc::get_mut(&mut from).unwrap().networking = Networking::Limited {
        allowed_hosts: vec!["near.example".into()],
        allow_mcp_servers: false,
        allow_package_managers: false,
    };
    let listings = world.list(&from).await;
    let told: Vec<_> = listings
        .iter()
        .map(|listing| {
            let trouble = listing.outcome.as_ref().unwrap_err();
            assert_eq!(trouble.server, listing.server);
            assert!(!trouble.message.contains("canary"));
            (&*listing.server, trouble.kind, trouble.message.as_str())
        })
        .collect();
    for ((name, kind, message), (server, expected, said)) in told.into_iter().zip([
        ("far", TroubleKind::Connection, "limited and does not let it through"),
        ("named", TroubleKind::Authentication, "a user or a password in it, which is not sent"),
        ("none", TroubleKind::Connection, "its address is none"),
        ("missing", TroubleKind::Connection, "no program \"missing\" is in the sandbox"),
    ]) {
        assert_eq!((name, kind), (server, expected));
        assert!(message.contains(said), "{message}");
    }

    // The same for calls: the model is told that nothing was called, and the session of the trouble.
    let outcome = world.call(&from, "sevt_1", "far", "echo", json!({})).await;
    assert!(outcome.is_error && text(&outcome).ends_with("Nothing was called."), "{outcome:?}");
    assert_eq!(outcome.trouble.unwrap().kind, TroubleKind::Connection);
    let outcome = world.call(&from, "sevt_2", "other", "echo", json!({})).await;
    assert_eq!(text(&outcome), "The agent has no MCP server \"other\" any more.");
    assert!(outcome.trouble.is_none());
    assert_eq!(world.bench.guard.dialled(), 0);
    // An attempt that has failed keeps no right to a connection.
    assert_eq!(world.outside.room.permits.available_permits(), 1000);
}

fn link(credential: Option<&str>) -> Link {
    let vault = "vlt_1".to_owned();
    let credential = credential.map(|id| Matching { vault, credential: id.to_owned() });
    Link::new(Identity {
        server: at("a", URL),
        vaults: Arc::new(["vlt_1".to_owned()]),
        credential,
        elicitation: Elicitation::Decline,
    })
}

fn headers(world: &World, from: &Standpoint, link: &Link) -> SessionHeaders {
    SessionHeaders::new(world.bench.vaults.clone(), from, URL, link)
}

#[tokio::test]
async fn a_request_carries_the_credential_that_its_connection_began_with_or_is_not_sent() {
    let world = World::new(None, McpSettings::default());
    let bench = &world.bench;
    bench.vault("vlt_1").await;
    let bearer = json!({ "type": "static_bearer", "mcp_server_url": URL });
    let from = standpoint("sesn_1", &["vlt_1"], vec![]);

    let anonymous = headers(&world, &from, &link(None));
    assert!(anonymous.header("POST", None).await.unwrap().is_none());
    assert!(bench.uses().is_empty());

    bench.credential("vlt_1", "vcrd_1", bearer, token("canary")).await;
    let refused = anonymous.header("POST", None).await.unwrap_err().to_string();
    assert!(refused.contains("another one") && !refused.contains("canary"), "{refused}");
    let other = headers(&world, &from, &link(Some("vcrd_2")));
    assert!(other.header("POST", None).await.is_err());

    let link = link(Some("vcrd_1"));
    let running = link.calls.begin(&"sevt_1".into());
    let known = headers(&world, &from, &link);
    let header = known.header("DELETE", None).await.unwrap().unwrap();
    drop(running);
    assert_eq!(header.name, "authorization");
    assert_eq!(header.value.expose_secret(), "Bearer canary");
    let used = &bench.uses()[0];
    assert_eq!(
        json!([used["session_id"], used["event_ids"], used["method"], used["host"]]),
        json!(["sesn_1", ["sevt_1"], "DELETE", "a.example"])
    );

    // What the server refuses and nothing refreshes is not sent again.
    let again = known.header("POST", Some(&header)).await.unwrap_err().to_string();
    assert!(again.contains("has refused credential vcrd_1 of vlt_1"), "{again}");
    // Another token of the same credential is.
    bench.put("vlt_1", "vcrd_1", &token("new")).await;
    let fresh: Header = known.header("POST", Some(&header)).await.unwrap().unwrap();
    assert_eq!(fresh.value.expose_secret(), "Bearer new");
}
