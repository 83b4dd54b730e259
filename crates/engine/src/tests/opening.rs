//! How a session is opened: what it says before anything happens in it.

use posthouse_model::Stop;
use posthouse_protocol::Micros;
use posthouse_store::Draft;
use serde_json::{Value, json};

use super::{
    play::Play,
    script::{self, response, said, say},
};
use crate::{own::SessionOpened, sessions, summary::Status, vault::Unreachable};

const AT: Micros = Micros(1_790_000_000_000_000);

fn unreachable(credential: &str, host: &str) -> Unreachable {
    Unreachable { credential: credential.into(), vault: "vlt_1".into(), host: host.into() }
}

fn found() -> [Unreachable; 3] {
    [
        unreachable("vcrd_1", "a.example"),
        unreachable("vcrd_1", "*.b.example"),
        unreachable("vcrd_2", "a.example"),
    ]
}

fn payload(draft: &Draft) -> Value {
    serde_json::from_str(&draft.payload).unwrap()
}

#[test]
fn each_credential_that_gets_nowhere_has_one_event_with_its_hosts() {
    let (drafts, wakes) =
        sessions::open(&script::opened(), &found(), Vec::new(), AT, &mut || [7; 16]).unwrap();
    assert!(!wakes);
    let kinds: Vec<_> = drafts.iter().map(|draft| draft.kind).collect();
    assert_eq!(kinds, ["session_opened", "session.error", "session.error"]);
    let event = payload(&drafts[1]);
    assert!(event["id"].as_str().unwrap().starts_with("sevt_"));
    assert_eq!(
        event["error"],
        json!({
            "type": "credential_host_unreachable_error",
            "credential_id": "vcrd_1",
            "vault_id": "vlt_1",
            "message": "The environment does not let this credential's value through to a.example, \
                        *.b.example.",
            "retry_status": { "type": "exhausted" },
        })
    );
    assert_eq!(payload(&drafts[2])["error"]["credential_id"], "vcrd_2");
}

#[test]
fn a_session_that_says_so_is_at_rest_and_works_like_any_other() {
    let mut play = Play::open(&script::opened(), &found());
    let error = "error credential_host_unreachable_error exhausted";
    play.expect(&[error, error], &[]);
    assert_eq!(play.status(), Status::Idle);
    assert!(play.plan().append.is_empty(), "there is no turn to be ended");
    play.send([say("hi")]).unwrap();
    play.expect(
        &["status_running · thread_status_running · user.message hi", "model_request_start"],
        &["model"],
    );
    play.answer(response(vec![said("Hello.")], Stop::EndTurn));
    play.expect(
        &[
            "agent.message Hello. · model_request_end",
            "thread_status_idle end_turn · usage · status_idle end_turn",
        ],
        &[],
    );
}

#[test]
fn a_session_that_says_so_takes_its_first_events_behind_it() {
    let (drafts, wakes) =
        sessions::open(&script::opened(), &found(), vec![say("hi")], AT, &mut || [7; 16]).unwrap();
    assert!(wakes);
    let kinds: Vec<_> = drafts.iter().map(|draft| draft.kind).collect();
    let first = ["session_opened", "session.error", "session.error", "user.message"];
    assert_eq!(kinds[..4], first);
    // The place by which the message is known is the one that it has.
    let taken = drafts.iter().find(|draft| draft.kind == "input_taken").map(payload);
    assert_eq!(taken.unwrap()["seq"], 4);
}

#[test]
fn a_log_of_before_reads_as_one_without_vaults_and_passthrough_hosts() {
    let mut opened = serde_json::to_value(script::opened()).unwrap();
    let members = opened.as_object_mut().unwrap();
    members.shift_remove("vault_ids");
    assert_eq!(members.shift_remove("passthrough_hosts"), None, "nothing is not written");
    let read: SessionOpened = serde_json::from_value(opened).unwrap();
    assert!(read.vault_ids.is_empty() && read.passthrough_hosts.is_empty());
}
