//! Cages whose life does not go as planned: they are killed, their server stops, what they were
//! started for is over before they stand.

use std::fs;

use posthouse_testkit::Reply;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::server::{PATIENCE, Process, SOON, Server, Setup, all_gone, until};

const AGAIN: &str = "[The sandbox was started again: ";
const UPLOADS: &str = "/mnt/session/uploads";

/// Starts a call that would take for ever; returns the server's children, the launcher first.
async fn begin(server: &Server, session: &str) -> Vec<Process> {
    let sign = server.tree(session, "workspace/begun");
    fs::remove_file(&sign).ok();
    let command = "touch /workspace/begun; sleep 60";
    server.model.push(Reply::tool_use("bash", json!({ "command": command })));
    server.model.push(Reply::text("Done."));
    server.say(session, "Sleep.").await;
    until(PATIENCE, "the command did not run", async || sign.exists()).await;
    server.started()
}

#[tokio::test]
async fn a_cage_that_dies_ends_its_call_and_not_its_session() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    // First the helper, which is the launcher's child; then the launcher.
    for victim in [1, 0] {
        let processes = begin(&server, &session).await;
        processes[victim].kill();
        server.idle(&session, SOON).await;
        all_gone(&processes[victim..]).await;
        let call = server.calls(&session).await.pop().unwrap().unwrap();
        assert!(call.is_error && call.text.starts_with("The sandbox has ended"), "{call:?}");
        let ran = server.bash(&session, "ls").await;
        assert!(ran.text.starts_with(AGAIN) && ran.text.ends_with("]\nbegun\n"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_leaves_nothing() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    let processes = begin(&server, &session).await;
    server.signal(Signal::TERM);
    server.signal(Signal::TERM);
    server.died().await;
    all_gone(&processes).await;
    assert!(server.begin(None).await);
    server.idle(&session, PATIENCE).await;
    let call = server.calls(&session).await.pop().unwrap().unwrap();
    assert!(call.is_error, "{call:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_a_word_keeps_no_cage() {
    let config = "[sandbox]\nwarm_seconds = 1\n";
    let server = Server::start(Setup { config, ..Setup::default() }).await;
    let agent = json!({
        "name": "Asks",
        "model": "claude-sonnet-5",
        "tools": [{
            "type": "agent_toolset_20260401",
            "configs": [{ "name": "bash", "permission_policy": { "type": "always_ask" } }],
        }],
    });
    let agent = server.post("/v1/agents", agent).await.ok();
    let session = server.session_of(&agent["id"], Value::Null, json!([])).await;
    let write = json!({ "file_path": "a", "content": "x" });
    let reply = Reply::tool_use("bash", json!({ "command": "cat a" }));
    server.model.push(reply.and_tool_use("write", write));
    server.model.push(Reply::text("Done."));
    server.say(&session, "Go.").await;
    server.idle(&session, PATIENCE).await;
    server.alone().await;
    let events = server.events(&session).await;
    let call = events.iter().find(|event| event["name"] == "bash").unwrap();
    let word =
        json!({ "type": "user.tool_confirmation", "tool_use_id": call["id"], "result": "allow" });
    server.send(&session, word).await;
    server.idle(&session, PATIENCE).await;
    let ran = server.calls(&session).await;
    assert!(ran[0].as_ref().unwrap().text.ends_with("]\nx"), "{ran:?}");
    server.alone().await;
}

#[tokio::test]
async fn an_interrupt_does_not_wait_for_a_cage_that_is_slow_to_start() {
    let config = "[sandbox]\nwarm_seconds = 1\n";
    let mut server = Server::start(Setup { config, ..Setup::default() }).await;
    server.kill().await;
    server.delay = Some("1500");
    assert!(server.begin(None).await);
    let session = server.plain_session().await;
    server.model.push(Reply::tool_use("bash", json!({ "command": "touch ran" })));
    server.say(&session, "Go.").await;
    let called = async || !server.calls(&session).await.is_empty();
    until(PATIENCE, "no call", called).await;
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
    let ran = server.bash(&session, "ls -A").await;
    assert_eq!(ran.text, "(no output)");

    // Nor does its session's end; and what was on its way does not outlive it.
    let session = server.plain_session().await;
    server.model.push(Reply::tool_use("bash", json!({ "command": "touch ran" })));
    server.say(&session, "Go.").await;
    let called = async || !server.calls(&session).await.is_empty();
    until(PATIENCE, "no call", called).await;
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
    server.delete(&format!("/v1/sessions/{session}")).await.ok();
    server.alone().await;
    assert!(!server.sandbox(&session).exists());
}

#[tokio::test]
async fn files_of_the_user_appear_where_he_has_named_them() {
    let mut server = Server::start(Setup::default()).await;
    let there = [
        "/workspace/in/a.txt",
        "/tmp/b.txt",
        "/home/agent/c.txt",
        "/g.txt",
        "/data/deep/er/h.txt",
        "/root/i.txt",
        "/opt/a b/ü.txt",
        "/var/lib/j.txt",
    ];
    // What is the host's or the cage's own stays that.
    let not_there = ["/usr/e.txt", "/proc/k", "/etc/passwd", "/bin/m"];
    let mut resources = Vec::new();
    for place in there.into_iter().chain(not_there) {
        let file = server.upload("x", place.as_bytes(), None).await;
        resources.push(json!({ "type": "file", "file_id": file["id"], "mount_path": place }));
    }
    let session = server.session(Value::Null, json!(resources)).await;
    let look = |place: &str| ("bash", json!({ "command": format!("cat '{place}'") }));
    let copies: Vec<_> = there.into_iter().chain(not_there).collect();
    let uploads: Vec<_> = copies.iter().map(|place| look(&format!("{UPLOADS}{place}"))).collect();
    let literals: Vec<_> = copies.iter().map(|place| look(place)).collect();
    let ran = server.turn(&session, &[&uploads, &literals]).await;
    for (ran, place) in ran.iter().zip(&copies) {
        assert_eq!(ran.text, **place);
    }
    for (ran, place) in ran[copies.len()..].iter().zip(&copies) {
        assert_eq!(ran.text == **place, there.contains(place), "{place}: {ran:?}");
    }
}

#[tokio::test]
async fn what_tools_put_in_the_place_of_a_cages_folders_is_not_followed() {
    let mut server = Server::start(Setup::default()).await;
    let outside = server.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let file = server.upload("x", b"mine", None).await;
    let mount = json!({ "type": "file", "file_id": file["id"], "mount_path": "x" });
    let session = server.session(Value::Null, json!([mount])).await;
    let command = format!(
        "mv /mnt/session /mnt/old && mkdir /mnt/session && ln -s {0} /mnt/session/outputs && \
         ln -s {0} /mnt/session/uploads && ln -s {0}/secret /mnt/secret; ls /mnt",
        outside.display()
    );
    let ran = server.bash(&session, &command).await;
    assert_eq!(ran.text, "old\nsecret\nsession\n");
    let path = format!("/v1/files?scope_id={session}");
    let outputs = async || {
        let list = server.get(&path).await.ok();
        let files = list["data"].as_array().unwrap().clone();
        files.iter().filter(|file| file["downloadable"] == true).count()
    };
    assert_eq!(outputs().await, 0);
    let kill = format!("/posthouse/v1/sandboxes/{session}/kill");
    server.post(&kill, Value::Null).await.ok();
    let ran =
        server.bash(&session, "cat /mnt/session/uploads/x; echo > /mnt/session/outputs/y").await;
    assert!(ran.text.ends_with("]\nmine"), "{ran:?}");
    assert_eq!(outputs().await, 1);
    let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn files_of_a_session_that_is_unknown_are_deleted_at_the_start() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    server.bash(&session, "echo kept > a").await;
    server.kill().await;
    let unknown = server.sandbox("sesn_01ABCDEFGHJKMNPQRSTVWXYZ");
    fs::create_dir_all(unknown.join("tree/workspace")).unwrap();
    assert!(server.begin(None).await);
    assert!(!unknown.exists());
    let ran = server.bash(&session, "cat a").await;
    assert!(ran.text.ends_with("]\nkept\n"), "{ran:?}");
}

#[tokio::test]
async fn outputs_are_there_however_a_turn_has_ended() {
    let server = Server::start(Setup::default()).await;
    let agent = json!({
        "name": "Both",
        "model": "claude-sonnet-5",
        "tools": [
            { "type": "agent_toolset_20260401" },
            { "type": "custom", "name": "ask", "description": "d", "input_schema": { "type": "object" } },
        ],
    });
    let agent = server.post("/v1/agents", agent).await.ok();
    let session = server.session_of(&agent["id"], Value::Null, json!([])).await;
    let write = |name: &str| {
        let command = format!("echo {name} > /mnt/session/outputs/{name}");
        Reply::tool_use("bash", json!({ "command": command }))
    };
    let listed = async |count: usize| {
        let list = server.get(&format!("/v1/files?scope_id={session}")).await.ok();
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{list}");
    };
    // It waits for the client.
    server.model.push(write("one").and_tool_use("ask", json!({})));
    server.say(&session, "Go.").await;
    server.idle(&session, PATIENCE).await;
    listed(1).await;
    let events = server.events(&session).await;
    let asked = events.iter().find(|event| event["type"] == "agent.custom_tool_use").unwrap();
    // The provider refuses.
    server.model.push(write("two"));
    server.model.push(Reply::status(400).with_message("a bad request"));
    let content = json!([{ "type": "text", "text": "yes" }]);
    let answer = json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": asked["id"], "content": content,
    });
    server.send(&session, answer).await;
    server.idle(&session, PATIENCE).await;
    listed(2).await;
    // Somebody interrupts, one call that runs and one that waits for its end.
    let command = "echo > /mnt/session/outputs/three; touch /workspace/begun; sleep 60";
    let reply = Reply::tool_use("bash", json!({ "command": command }));
    // Which of the two comes first is not said.
    server.model.push(reply.and_tool_use("bash", json!({ "command": command })));
    server.say(&session, "Go.").await;
    let sign = server.tree(&session, "workspace/begun");
    until(PATIENCE, "the command did not run", async || sign.exists()).await;
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
    listed(3).await;
    let calls = server.calls(&session).await;
    assert_eq!(calls.len(), 4);
    assert!(calls[2..].iter().all(|call| call.as_ref().is_some_and(|call| call.is_error)));
    let ran = server.bash(&session, "ls").await;
    assert!(ran.text.ends_with("begun\n"), "{ran:?}");
}

#[tokio::test]
async fn a_file_that_is_taken_away_is_gone_from_both_places() {
    let mut server = Server::start(Setup::default()).await;
    let file = server.upload("x", b"mine", None).await;
    let mount = json!({ "type": "file", "file_id": file["id"], "mount_path": "/workspace/in/x" });
    let session = server.session(Value::Null, json!([mount])).await;
    assert_eq!(server.bash(&session, "cat in/x").await.text, "mine");
    let path = format!("/v1/sessions/{session}/resources");
    let list = server.get(&path).await.ok();
    let id = list["data"][0]["id"].as_str().unwrap();
    server.delete(&format!("{path}/{id}")).await.ok();
    for place in ["in/x".to_owned(), format!("{UPLOADS}/workspace/in/x")] {
        let ran = server.bash(&session, &format!("cat {place}")).await;
        assert!(ran.is_error && ran.text.contains("No such file"), "{ran:?}");
    }
}

#[tokio::test]
async fn the_door_lets_through_to_the_mcp_servers_that_a_session_has_now() {
    let server = Server::start(Setup::default()).await;
    let of = |host: &str| {
        json!({
            "mcp_servers": [{ "type": "url", "name": "a", "url": format!("https://{host}/mcp") }],
            "tools": [
                { "type": "agent_toolset_20260401" },
                { "type": "mcp_toolset", "mcp_server_name": "a" },
            ],
        })
    };
    let mut body = of("10.1.2.3");
    body["name"] = "Servers".into();
    body["model"] = "claude-sonnet-5".into();
    let agent = server.post("/v1/agents", body).await.ok();
    let networking = json!({ "type": "limited", "allow_mcp_servers": true });
    let session = server.session_of(&agent["id"], networking, json!([])).await;
    let lets_through = async |host: &str| {
        let list = server.get("/posthouse/v1/sandboxes").await.ok();
        let expected = json!([{ "host": host, "rule": "mcp_servers" }]);
        assert_eq!(list["data"][0]["allowlist"], expected);
    };
    server.bash(&session, "true").await;
    lets_through("10.1.2.3").await;
    let path = format!("/v1/sessions/{session}");
    server.post(&path, json!({ "agent": of("10.4.5.6") })).await.ok();
    // One that lives keeps what it was made with.
    server.bash(&session, "true").await;
    lets_through("10.1.2.3").await;
    let kill = format!("/posthouse/v1/sandboxes/{session}/kill");
    server.post(&kill, Value::Null).await.ok();
    server.bash(&session, "true").await;
    lets_through("10.4.5.6").await;
}
