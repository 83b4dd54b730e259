//! The six tools through the whole of it: a model that asks for them, a real server, real cages.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use posthouse_testkit::{Reply, Script};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{Host, PATIENCE, SOON, Server, Setup, User, all_gone, until};

/// An image of one point.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const PDF: &str = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]\
                   /Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
const AGAIN: &str = "[The sandbox was started again: ";
const UPLOADS: &str = "/mnt/session/uploads";

fn bash(command: &str) -> (&'static str, Value) {
    ("bash", json!({ "command": command }))
}

#[tokio::test]
async fn six_tools_work_in_one_turn() {
    six_tools(User::Own).await;
}

#[tokio::test]
async fn six_tools_work_for_an_ordinary_user() {
    six_tools(User::Ordinary).await;
}

async fn six_tools(user: User) {
    let mut server = Server::start(Setup { user, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let path = "/workspace/a.txt";
    let first = [
        // The slowest comes first, and is the first in all lists nevertheless.
        bash("mkdir -p /tmp/sub && cd /tmp/sub && KEPT=five; sleep 0.3; pwd"),
        ("write", json!({ "file_path": path, "content": "one\ntwo\n" })),
        ("write", json!({ "file_path": "b.txt", "content": "two" })),
    ];
    let second = [
        ("read", json!({ "file_path": path })),
        ("grep", json!({ "pattern": "two" })),
        ("glob", json!({ "pattern": "*.txt" })),
        ("read", json!({ "file_path": "missing" })),
    ];
    let third =
        [("edit", json!({ "file_path": path, "old_string": "one", "new_string": "three" }))];
    let ran = server.turn(&session, &[&first, &second, &third]).await;
    assert_eq!(ran.len(), 8);
    assert_eq!(ran[0].text, "/tmp/sub\n");
    assert_eq!(ran[3].text, "1\tone\n2\ttwo");
    let mut found: Vec<_> = ran[4].text.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["a.txt:2:two", "b.txt:1:two"]);
    let mut found: Vec<_> = ran[5].text.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["a.txt", "b.txt"]);
    let failed: Vec<_> = ran.iter().map(|one| one.is_error).collect();
    assert_eq!(failed, [false, false, false, false, false, false, true, false], "{ran:?}");
    // The model has them all, each beside its call.
    let requests = server.asked();
    let messages = requests[1].body["messages"].as_array().unwrap();
    let [called, given] = &messages[messages.len() - 2..] else { panic!("{messages:?}") };
    let ids = |blocks: &Value, field: &str| -> Vec<Value> {
        let blocks = blocks["content"].as_array().unwrap().iter();
        blocks.map(|block| block[field].clone()).filter(|id| !id.is_null()).collect()
    };
    assert_eq!(ids(called, "id").len(), 3);
    assert_eq!(ids(called, "id"), ids(given, "tool_use_id"));

    let kept = server.bash(&session, "pwd; echo $KEPT; cat /workspace/a.txt; exit 3").await;
    assert!(kept.text.starts_with("/tmp/sub\nfive\nthree\ntwo\n[exit code 3"), "{kept:?}");
    assert!(kept.is_error);
    // Its own files, and not those of another session.
    let other = server.plain_session().await;
    let ran = server.bash(&other, "ls -A /workspace; id -u; echo $HOME").await;
    assert_eq!(ran.text, "1000\n/home/agent\n");
}

#[tokio::test]
async fn images_and_documents_reach_the_model() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    let make = format!("printf %s '{PNG}' | base64 -d > a.png; printf %s '{PDF}' > a.pdf");
    let read = [
        ("read", json!({ "file_path": "a.png" })),
        ("read", json!({ "file_path": "/workspace/a.pdf" })),
    ];
    let ran = server.turn(&session, &[&[bash(&make)], &read]).await;
    assert_eq!(ran[0].text, "(no output)");
    let given = server.given();
    assert_eq!(given.len(), 2);
    let source =
        |media: &str, data: &str| json!({ "type": "base64", "media_type": media, "data": data });
    let image = json!([{ "type": "image", "source": source("image/png", PNG) }]);
    assert_eq!(given[0]["content"], image);
    assert_eq!(ran[1].event["content"], image);
    let document = &given[1]["content"][0];
    assert_eq!(document["type"], "document");
    assert_eq!(document["source"], source("application/pdf", &STANDARD.encode(PDF)));
}

#[tokio::test]
async fn a_sandbox_is_there_when_a_tool_is_named_and_not_before() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    server.turn(&session, &[]).await;
    assert_eq!(server.started(), []);
    assert!(!server.sandbox(&session).exists());
    // The response never ends, but has named a tool.
    let call = Reply::text("Let me look.").and_tool_use("bash", json!({ "command": "true" }));
    server.model.push(call.and_stall());
    server.say(&session, "Look.").await;
    until(PATIENCE, "no sandbox was started", async || !server.sandboxes().await.is_empty()).await;
    let live = server.sandboxes().await;
    assert_eq!(live.len(), 1);
    assert_eq!(live[0]["session_id"], session.as_str());
    assert_eq!((&live[0]["calls"], &live[0]["busy"]), (&json!(0), &json!(false)));
    assert!(server.calls(&session).await.is_empty() && !server.is_idle(&session).await);
    let pid = u32::try_from(live[0]["pid"].as_u64().unwrap()).unwrap();
    assert!(server.started().iter().any(|one| one.id == pid));
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
    assert_eq!(server.bash(&session, "echo fine").await.text, "fine\n");
}

#[tokio::test]
async fn an_eager_sandbox_is_there_before_the_model_is_asked() {
    let config = "[sandbox]\nstart = \"eager\"\n";
    let mut server = Server::start(Setup { config, ..Setup::default() }).await;
    let session = server.plain_session().await;
    server.model.push(Reply::text("Thinking").and_stall());
    server.say(&session, "Hello.").await;
    let asked = async || !server.asked().is_empty();
    until(PATIENCE, "the model was not asked", asked).await;
    assert_eq!(server.sandboxes().await.len(), 1);
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
}

#[tokio::test]
async fn nothing_but_files_outlives_a_rest_or_a_crash() {
    rests_and_crashes(User::Own).await;
}

#[tokio::test]
async fn nothing_but_files_outlives_a_rest_or_a_crash_of_an_ordinary_user() {
    rests_and_crashes(User::Ordinary).await;
}

async fn rests_and_crashes(user: User) {
    let config = "[sandbox]\nwarm_seconds = 3\n";
    let mut server = Server::start(Setup { config, user, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let ran = server.bash(&session, "echo 1 > /tmp/t; echo 2 > w; KEPT=1; sleep 300 & pwd").await;
    assert_eq!(ran.text, "/workspace\n");
    let processes = server.started();
    assert!(processes.len() >= 4, "launcher, helper, shell, sleep: {processes:?}");
    server.alone().await;
    all_gone(&processes).await;
    assert!(server.sandboxes().await.is_empty());

    let look = "cat /tmp/t w; echo \"<$KEPT>\"; jobs; cd /tmp";
    let ran = server.bash(&session, look).await;
    let (note, rest) = ran.text.split_once('\n').unwrap();
    assert!(note.starts_with(AGAIN) && note.ends_with("gone.]"), "{note}");
    assert_eq!(rest, "1\n2\n<>\n");
    // Said once.
    assert_eq!(server.bash(&session, "pwd").await.text, "/tmp\n");

    let left = server.kill().await;
    assert!(left.len() >= 3, "{left:?}");
    all_gone(&left).await;
    assert!(server.begin(None).await);
    assert_eq!(server.started(), []);
    let ran = server.bash(&session, look).await;
    assert!(ran.text.starts_with(AGAIN) && ran.text.ends_with("gone.]\n1\n2\n<>\n"), "{ran:?}");
}

#[tokio::test]
async fn an_interrupt_ends_a_call_and_all_that_it_has_started() {
    interrupts(User::Own).await;
}

#[tokio::test]
async fn an_interrupt_of_an_ordinary_user_ends_as_much() {
    interrupts(User::Ordinary).await;
}

async fn interrupts(user: User) {
    let mut server = Server::start(Setup { user, ..Setup::default() }).await;
    let session = server.plain_session().await;
    // One of them has left the shell's session.
    let command = "echo begun > /workspace/begun; setsid sleep 61 & sleep 60; echo > after";
    let interrupted = begin_sleep(&server, &session, command).await;
    server.send(&session, json!({ "type": "user.interrupt" })).await;
    server.idle(&session, SOON).await;
    all_gone(&interrupted).await;
    let call = server.calls(&session).await.pop().unwrap().unwrap();
    assert!(call.is_error && call.text.contains("interrupted"), "{call:?}");
    let ran = server.bash(&session, "ls").await;
    assert!(ran.text.ends_with("]\nbegun\n"), "it says that the shell is fresh: {ran:?}");

    // The same by a kill, which takes the cage as well.
    fs::remove_file(server.tree(&session, "workspace/begun")).unwrap();
    begin_sleep(&server, &session, command).await;
    let live = server.sandboxes().await;
    assert_eq!((&live[0]["session_id"], &live[0]["busy"]), (&json!(session), &json!(true)));
    let helper = live[0]["pid"].as_u64().unwrap();
    let cage: Vec<_> = server.started();
    assert!(cage.iter().any(|one| u64::from(one.id) == helper));
    let kill = |id: &str| format!("/posthouse/v1/sandboxes/{id}/kill");
    server.post(&kill("sesn_01ABCDEFGHJKMNPQRSTVWXYZ"), Value::Null).await.refused(404);
    let killed = server.post(&kill(&session), Value::Null).await.ok();
    assert_eq!(killed["was_live"], true);
    server.idle(&session, SOON).await;
    assert!(server.sandboxes().await.is_empty());
    let launcher = server.started();
    assert!(launcher.len() <= 1, "{launcher:?}");
    all_gone(&cage.into_iter().filter(|one| !launcher.contains(one)).collect::<Vec<_>>()).await;
    let ran = server.bash(&session, "ls").await;
    assert!(ran.text.starts_with(AGAIN) && ran.text.ends_with("]\nbegun\n"), "{ran:?}");
}

/// Starts a command and waits until it has left its sign; returns what it runs as.
async fn begin_sleep(server: &Server, session: &str, command: &str) -> Vec<crate::server::Process> {
    let before = server.started();
    server.model.push(Reply::tool_use("bash", json!({ "command": command })));
    server.say(session, "Sleep.").await;
    let sign = server.tree(session, "workspace/begun");
    until(PATIENCE, "the command did not run", async || sign.exists()).await;
    let helper = server.sandboxes().await[0]["pid"].as_u64().unwrap();
    let mut running = server.started();
    // Launcher and helper are first, and stay.
    running.retain(|one| !before.contains(one) && u64::from(one.id) != helper);
    let launcher = if before.is_empty() { 1 } else { 0 };
    running.split_off(launcher)
}

#[tokio::test]
async fn outputs_are_there_when_the_session_says_that_it_rests() {
    outputs(User::Own, 20).await;
}

#[tokio::test]
async fn outputs_of_an_ordinary_user_are_there_too() {
    outputs(User::Ordinary, 3).await;
}

async fn outputs(user: User, turns: usize) {
    let mut server = Server::start(Setup { user, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let listed = |list: Value| -> BTreeMap<String, Value> {
        let files = list["data"].as_array().unwrap().clone();
        files.into_iter().map(|file| (file["filename"].to_string(), file)).collect()
    };
    let path = format!("/v1/files?scope_id={session}&limit=1000");
    for turn in 0..turns {
        let command =
            format!("head -c {} /dev/urandom > /mnt/session/outputs/{turn}.bin", turn * 999);
        server.script(&[&[bash(&command)]]);
        let mut stream = server.stream(&session).await;
        server.say(&session, "Write.").await;
        loop {
            let frame = timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
            if frame.event["type"] == "session.status_idle" {
                break;
            }
        }
        let files = listed(server.get(&path).await.ok());
        assert_eq!(files.len(), turn + 1, "turn {turn}: {files:?}");
        let file = &files[&format!("\"{turn}.bin\"")];
        assert_eq!(
            (&file["downloadable"], &file["size_bytes"]),
            (&json!(true), &json!(turn * 999))
        );
        let content = content(&server, file).await;
        let written = server.tree(&session, &format!("mnt/session/outputs/{turn}.bin"));
        assert!(content == fs::read(written).unwrap(), "turn {turn}: other bytes");
    }
    // A change makes a file of its own; what is no file is none.
    let command = "cd /mnt/session/outputs; echo changed > 0.bin; ln -s /etc/passwd passwd; \
                   ln -s 0.bin link; mkfifo fifo; mkdir -p deep/er; echo d > deep/er/d.txt; \
                   ln 0.bin hard; mkdir dir; exit 0";
    server.bash(&session, command).await;
    let list = server.get(&path).await.ok();
    let data = list["data"].as_array().unwrap();
    let names: Vec<_> = data.iter().map(|file| file["filename"].as_str().unwrap()).collect();
    let many = |name: &str| names.iter().filter(|one| **one == name).count();
    assert_eq!(many("0.bin"), 2, "{names:?}");
    let d = data.iter().find(|file| file["filename"].as_str().unwrap().ends_with("d.txt")).unwrap();
    assert_eq!(content(&server, d).await, b"d\n");
    for name in ["passwd", "link", "fifo"] {
        assert_eq!(many(name), 0, "{names:?}");
    }
    let newest = data.iter().find(|file| file["filename"] == "0.bin").unwrap();
    assert_eq!(content(&server, newest).await, b"changed\n");
    // Nothing new, nothing twice.
    server.bash(&session, "true").await;
    assert_eq!(server.get(&path).await.ok(), list);
}

async fn content(server: &Server, file: &Value) -> Vec<u8> {
    let path = format!("/v1/files/{}/content", file["id"].as_str().unwrap());
    let response = server.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_crash_just_before_the_rest_loses_no_output() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    let path = format!("/v1/files?scope_id={session}");
    // The first append of the model's after the call is the one that ends the turn.
    for (turn, fault) in ["model.before_append:2", "model.after_append:2", "tool.after_append:1"]
        .into_iter()
        .enumerate()
    {
        server.kill().await;
        assert!(server.begin(Some(fault)).await);
        let command = format!("echo {turn} > /mnt/session/outputs/{turn}.txt");
        let finish = Reply::text("Done.").when_result_of("bash").forever();
        let call = Reply::tool_use("bash", json!({ "command": command }));
        server.model.set_script(Script::of([finish, call.forever()]));
        server.say(&session, "Write.").await;
        server.died().await;
        assert!(server.begin(None).await);
        server.idle(&session, PATIENCE).await;
        let list = server.get(&path).await.ok();
        let newest = &list["data"][0];
        assert_eq!(list["data"].as_array().unwrap().len(), turn + 1, "{fault}: {list}");
        assert_eq!(content(&server, newest).await, format!("{turn}\n").as_bytes());
    }
}

#[tokio::test]
async fn files_of_the_user_come_and_go_while_a_session_lives() {
    let mut server = Server::start(Setup::default()).await;
    let one = server.upload("one.txt", b"first", None).await;
    let mount = |file: &Value, path: &str| json!({ "type": "file", "file_id": file["id"], "mount_path": path });
    let resources = json!([mount(&one, "/data/one.txt")]);
    let session = server.session(Value::Null, resources).await;
    let look = format!(
        "cat {UPLOADS}/data/one.txt /data/one.txt; echo; \
         echo x 2>/dev/null >> {UPLOADS}/data/one.txt || echo kept; \
         rm -f {UPLOADS}/data/one.txt 2>/dev/null || echo kept; \
         touch {UPLOADS}/new 2>/dev/null || echo kept"
    );
    assert_eq!(server.bash(&session, &look).await.text, "firstfirst\nkept\nkept\nkept\n");
    let read = [("read", json!({ "file_path": "/data/one.txt" }))];
    assert_eq!(server.turn(&session, &[&read]).await[0].text, "1\tfirst");

    // One more, then one less, while the cage is warm.
    let two = server.upload("two.txt", b"second", None).await;
    let path = format!("/v1/sessions/{session}/resources");
    let added = server.post(&path, mount(&two, "two.txt")).await.ok();
    let ran = server.bash(&session, &format!("cat {UPLOADS}/two.txt; ls {UPLOADS}")).await;
    assert_eq!(ran.text, "seconddata\ntwo.txt\n");
    let foreign = server.upload("three.txt", b"third", None).await;
    server.post(&path, mount(&foreign, "/opt/three.txt")).await.ok();
    let ran = server.bash(&session, "cat /opt/three.txt").await;
    assert!(ran.text.ends_with("third"), "{ran:?}");
    server.delete(&format!("{path}/{}", added["id"].as_str().unwrap())).await.ok();
    let ran = server.bash(&session, &format!("ls {UPLOADS}; cat {UPLOADS}/two.txt")).await;
    assert!(ran.text.starts_with("data\nopt\n") && ran.is_error, "{ran:?}");

    // In the middle of a turn: the next call sees it.
    let four = server.upload("four.txt", b"fourth", None).await;
    let wait =
        format!("touch begun; until cat {UPLOADS}/four.txt 2>/dev/null; do sleep 0.01; done");
    fs::remove_file(server.tree(&session, "workspace/begun")).ok();
    server.script(&[&[bash(&wait)], &[bash(&format!("cat {UPLOADS}/four.txt"))]]);
    server.say(&session, "Wait for it.").await;
    let sign = server.tree(&session, "workspace/begun");
    until(PATIENCE, "the command did not run", async || sign.exists()).await;
    server.post(&path, mount(&four, "four.txt")).await.ok();
    server.idle(&session, PATIENCE).await;
    let last = server.calls(&session).await.pop().unwrap().unwrap();
    assert_eq!(last.text, "fourth");
    // What tools did to the user's own file was nothing.
    assert_eq!(content_of_blob(&server, b"first"), 1);
}

/// How many contents of the server are exactly this.
fn content_of_blob(server: &Server, bytes: &[u8]) -> usize {
    let entries = fs::read_dir(server.data().join("files")).unwrap();
    entries.filter(|entry| fs::read(entry.as_ref().unwrap().path()).unwrap() == bytes).count()
}

#[tokio::test]
async fn an_expired_file_is_not_mounted() {
    let mut server = Server::start(Setup::default()).await;
    let file = server.upload("old.txt", b"old", Some("3600")).await;
    let mount = json!({ "type": "file", "file_id": file["id"], "mount_path": "old.txt" });
    let session = server.session(Value::Null, json!([mount])).await;
    let ran = server.bash(&session, &format!("cat {UPLOADS}/old.txt")).await;
    assert_eq!(ran.text, "old");
    server.kill().await;
    // Its time comes while nobody looks.
    let options = posthouse_store::Options {
        folder: server.data(),
        durability: posthouse_store::Durability::Disk,
        faults: posthouse_store::Faults::default(),
    };
    let database = posthouse_store::Database::open(options).unwrap();
    let later = posthouse_protocol::Micros(posthouse::api::call::now().0 + 7200 * 1_000_000);
    let expire = posthouse_store::tables::files::expire;
    database.write(move |connection| expire(connection, later)).await.unwrap();
    database.close();
    drop(database);
    assert!(server.begin(None).await);
    let ran = server.bash(&session, &format!("ls {UPLOADS}; cat {UPLOADS}/old.txt")).await;
    assert!(ran.is_error && !ran.text.contains("\nold"), "{ran:?}");
}

#[tokio::test]
async fn the_door_lets_out_what_the_environment_allows() {
    networks(User::Own).await;
}

#[tokio::test]
async fn the_door_of_an_ordinary_user_lets_out_no_more() {
    networks(User::Ordinary).await;
}

async fn networks(user: User) {
    let visits = Arc::new(AtomicUsize::new(0));
    let count = async |State(visits): State<Arc<AtomicUsize>>| {
        visits.fetch_add(1, Ordering::SeqCst);
        "hello from outside"
    };
    let router = Router::new().route("/", get(count)).with_state(Arc::clone(&visits));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    let setup = Setup { user, ..Setup::default() };
    let resolve = format!("[egress]\nresolve = {{ \"origin.test\" = \"{address}\" }}\n");
    let mut server = Server::with(setup, resolve, Script::default()).await;
    let fetch = |to: &str, port: u16| {
        let request = format!("GET / HTTP/1.0\\r\\nHost: {to}\\r\\n\\r\\n");
        let talk = format!("exec 3<>/dev/tcp/{to}/{port} && printf '{request}' >&3 && cat <&3");
        bash(&format!("timeout 5 bash -c \"{}\" 2>&1", talk.replace('"', "\\\"")))
    };
    let free = server.plain_session().await;
    let own: u16 = server.url.rsplit(':').next().unwrap().parse().unwrap();
    let calls = [
        fetch("origin.test", 80),
        fetch("127.0.0.1", address.port()),
        fetch("127.0.0.1", own),
        fetch("localhost", own),
        fetch("missing.test", 80),
    ];
    let ran = server.turn(&free, &[&calls]).await;
    assert!(ran[0].text.ends_with("\r\n\r\nhello from outside"), "{ran:?}");
    assert_eq!(visits.load(Ordering::SeqCst), 1, "{ran:?}");
    assert!(ran[1..].iter().all(|one| one.is_error), "{ran:?}");

    let limited = json!({ "type": "limited", "allowed_hosts": [] });
    let closed = server.session(limited, json!([])).await;
    let ran = server.turn(&closed, &[&[fetch("origin.test", 80), fetch("127.0.0.1", own)]]).await;
    let refused = "no connection from this sandbox to origin.test";
    assert!(ran[0].text.starts_with("HTTP/1.1 403") && ran[0].text.contains(refused), "{ran:?}");
    assert!(ran[1].is_error, "{ran:?}");
    assert_eq!(visits.load(Ordering::SeqCst), 1, "{ran:?}");
}

#[tokio::test]
async fn where_the_host_forbids_isolation_tools_say_what_mends_it() {
    let mut server = Server::start(Setup { host: Host::NoNamespaces, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let ran = server.turn(&session, &[&[bash("id > /tmp/ran-outside"), bash("id")]]).await;
    for one in &ran {
        assert!(one.is_error, "{one:?}");
        assert!(one.text.contains("max_user_namespaces"), "{one:?}");
        assert!(one.text.contains("sysctl"), "{one:?}");
    }
    assert!(server.sandboxes().await.is_empty());
    assert!(fs::metadata("/tmp/ran-outside").is_err());
    // The turn went on, and so does the session.
    assert_eq!(server.events(&session).await.last().unwrap()["stop_reason"]["type"], "end_turn");
    server.turn(&session, &[]).await;
    let doctor = server.command(&["doctor"]).output().await.unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(said.contains("max_user_namespaces") && said.contains("sysctl"), "{said}");

    // With namespaces, but with nobody whom tools could be but root.
    let mut server = Server::start(Setup { host: Host::RootAlone, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let ran = server.bash(&session, "id").await;
    assert!(ran.is_error && ran.text.contains("no other users to give"), "{ran:?}");

    let config = "[sandbox]\nisolation = \"none\"\n";
    let mut server =
        Server::start(Setup { host: Host::NoNamespaces, config, ..Setup::default() }).await;
    let session = server.plain_session().await;
    let write = [("write", json!({ "file_path": "/workspace/a", "content": "here" }))];
    let ran = server.turn(&session, &[&write, &[bash("cat a; pwd")]]).await;
    assert!(!ran[0].is_error, "{ran:?}");
    assert!(ran[1].text.starts_with("[This sandbox is not isolated: "), "{ran:?}");
    let folder = fs::canonicalize(server.tree(&session, "workspace")).unwrap();
    assert!(ran[1].text.ends_with(&format!("]\nhere{}\n", folder.display())), "{ran:?}");
    let live = server.sandboxes().await;
    assert_eq!(live[0]["isolation"]["technology"], "none");
    let left = server.started();
    server.kill().await;
    all_gone(&left).await;
}

#[tokio::test]
async fn a_session_that_is_deleted_takes_its_sandbox_with_it() {
    let mut server = Server::start(Setup::default()).await;
    let session = server.plain_session().await;
    let command = "mkdir -p deep/er; echo > deep/er/x; chmod 0 deep; ln -s / root; mkfifo f; \
                   sleep 300 & exit 0";
    server.bash(&session, command).await;
    server.bash(&session, "sleep 300 & true").await;
    assert!(server.sandbox(&session).exists());
    server.delete(&format!("/v1/sessions/{session}")).await.ok();
    let folder = server.data().join("sandboxes");
    let left = async || {
        let names = fs::read_dir(&folder).unwrap().map(|one| one.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("sesn_")).count() == 0
    };
    until(SOON, "its files are left", left).await;
    assert!(server.sandboxes().await.is_empty());
    assert!(server.started().len() <= 1);
}
