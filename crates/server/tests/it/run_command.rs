//! `posthouse run` into a pipe: the binary itself, its own server or one that runs, and a
//! scripted model at the other end.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::{get, post},
};
use posthouse::{local::LocalServer, start::start};
use posthouse_testkit::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::command_line::{posthouse, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// `posthouse run` with a provider behind it.
fn command(folder: &TempDir, model: &ScriptedModel) -> Command {
    let mut command = posthouse(folder);
    command.env("ANTHROPIC_API_KEY", "k").env("ANTHROPIC_BASE_URL", model.url()).arg("run");
    command
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join(".local/share/posthouse")
}

/// The session that a run has named on standard error.
fn session(error: &str) -> String {
    let id = error.split_whitespace().find(|word| word.starts_with("sesn_"));
    id.unwrap_or_else(|| panic!("no session in {error:?}")).to_owned()
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// An agent whose every tool call waits for a word.
const ASKING: &str = "name: Asking\nmodel: claude-sonnet-5\ntools:\n- type: agent_toolset_20260401\n  \
                      default_config: {permission_policy: {type: always_ask}}\n";

#[tokio::test]
async fn a_run_needs_no_server_and_leaves_none_behind() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Reply::text("Hello there.").forever()).await;
    let (code, out, error) = run(command(&folder, &model).arg("say hello")).await;
    assert_eq!((code, out.as_str()), (0, "Hello there.\n"), "{error}");
    assert_eq!(error, format!("posthouse: session {}\n", session(&error)));
    assert!(LocalServer::read(&data(&folder)).is_none());
    // A task may come from elsewhere, too.
    let mut again = command(&folder, &model);
    again.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = again.stderr(Stdio::null()).args(["--title", "T", "-"]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"say hello again").await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"Hello there.\n"[..]));

    // Agent and environment were made once, sessions twice, and no key was spent unseen.
    let mut config = crate::app::config(&data(&folder), vec![]);
    config.api_key = None;
    let running = start(config).await.unwrap();
    assert!(running.generated_key.is_some());
    let client = posthouse::client::Client::new(running.url.clone(), running.token()).unwrap();
    let agents = client.all("/v1/agents").await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0]["name"], "posthouse run");
    assert_eq!(agents[0]["tools"][0]["type"], "agent_toolset_20260401");
    let environments = client.all("/v1/environments").await.unwrap();
    assert_eq!(environments.len(), 1);
    assert_eq!(environments[0]["config"]["networking"]["type"], "unrestricted");
    let sessions = client.all("/v1/sessions").await.unwrap();
    let titles: Vec<&str> = sessions.iter().map(|one| one["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["T", "say hello"]);
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn json_is_the_events_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Reply::text("Hello").in_chunks(2, Duration::ZERO)).await;
    let (code, out, _) = run(command(&folder, &model).args(["--json", "hi"])).await;
    assert_eq!(code, 0);
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"user.message"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"session.status_idle"), "{kinds:?}");
    assert!(kinds.contains(&"agent.message") && kinds.contains(&"session.usage"), "{kinds:?}");
    assert!(kinds.iter().all(|kind| !kind.starts_with("event_")), "{kinds:?}");
}

#[tokio::test]
async fn the_exit_code_says_how_it_ended() {
    let folder = TempDir::new().unwrap();
    let refused = Reply::text("No.").with_stop_reason("refusal");
    let model = ScriptedModel::start(Script::of([
        refused.when_user_says("bad thing").forever(),
        Reply::status(400).with_message("a bad request").when_user_says("broken").forever(),
        Reply::tool_use("bash", json!({ "command": "rm -rf x" })).when_user_says("rm").forever(),
        Reply::tool_use("weather", json!({ "city": "Graz" })).when_user_says("rain").forever(),
    ]))
    .await;
    model.allow_violations();
    let (code, out, error) = run(command(&folder, &model).arg("a bad thing")).await;
    assert_eq!(code, 4, "{out}{error}");
    assert!(error.contains("the model has refused"), "{error}");

    let (code, out, _) = run(command(&folder, &model).arg("broken")).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.starts_with("error: ") && out.contains("a bad request"), "{out}");

    // A call waits for a word, and nobody is there who could give it.
    let agent = write(&folder, "asking.yaml", ASKING);
    let (code, out, error) = run(command(&folder, &model).args(["--agent", &agent, "rm it"])).await;
    assert_eq!((code, out.as_str()), (3, "▸ bash  rm -rf x\n"));
    assert!(error.contains("waits for your word on:\n  ▸ bash  rm -rf x\n"), "{error}");
    let go_on = format!("posthouse run --session {}", session(&error));
    assert!(error.contains(&go_on), "{error}");
    // It still does, and says so again.
    let waiting = session(&error);
    let (code, out, error) = run(command(&folder, &model).args(["--session", &waiting])).await;
    assert_eq!((code, out.as_str()), (3, ""), "{error}");
    assert!(error.contains("▸ bash  rm -rf x"), "{error}");

    let custom = "name: Custom\nmodel: claude-sonnet-5\ntools:\n- type: custom\n  name: weather\n  \
                  description: d\n  input_schema: {type: object}\n";
    let agent = write(&folder, "custom.yaml", custom);
    let (code, _, error) = run(command(&folder, &model).args(["--agent", &agent, "rain?"])).await;
    assert_eq!(code, 3);
    assert!(error.contains("user.custom_tool_result") && error.contains("▸ weather"), "{error}");

    let mut command = posthouse(&folder);
    command.env("POSTHOUSE_API_KEY", "k").args(["run", "--url", "http://127.0.0.1:1", "x"]);
    let (code, _, error) = run(&mut command).await;
    assert_eq!(code, 1);
    assert!(error.contains("no server runs for http://127.0.0.1:1"), "{error}");
    let (code, _, error) = run(posthouse(&folder).args(["run", "x"])).await;
    assert_eq!(code, 1);
    assert!(error.contains("ANTHROPIC_API_KEY"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_before_anything_is_done() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Reply::text("never").forever()).await;
    let broken = write(&folder, "broken.yaml", "name: a\nmodel: b\n  tools: [\n");
    let list = write(&folder, "list.yaml", "- a\n");
    let session = "sesn_01ABCDEFGHJKMNPQRSTVWXYZ";
    for (arguments, what) in [
        (vec!["  "], "task: is empty"),
        (vec![], "task: is empty"),
        (vec!["--session", session, "--title", "t", "x"], "--title"),
        (vec!["--session", "x", "y"], "they look like sesn_"),
        (vec!["--agent", "/nowhere.yaml", "x"], "/nowhere.yaml: can't be read"),
        (vec!["--agent", &broken, "x"], "broken.yaml:3: "),
        (vec!["--agent", &list, "x"], "list.yaml: is no agent"),
        (vec!["--no-such-flag", "x"], "--no-such-flag"),
    ] {
        let (code, out, error) = run(command(&folder, &model).args(&arguments)).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {error}");
        assert!(error.contains(what), "{arguments:?}: {error}");
    }
    assert!(!data(&folder).exists());
    // What the keys may be is the server's to say.
    let unknown = write(&folder, "unknown.yaml", "name: a\ncolour: red\n");
    let (code, _, error) = run(command(&folder, &model).args(["--agent", &unknown, "x"])).await;
    assert_eq!(code, 1);
    assert!(error.contains("unknown.yaml: ") && error.contains("colour"), "{error}");
    let (code, _, error) = run(command(&folder, &model).args(["--model", "other-1", "x"])).await;
    assert_eq!(code, 1);
    assert!(error.contains("other-1") && error.contains("anthropic"), "{error}");
    let (code, out, _) = run(command(&folder, &model).arg("--help")).await;
    assert_eq!(code, 0);
    assert!(out.contains("Exit codes:") && out.contains("130"), "{out}");
}

/// A server of the same folder in a process of its own.
async fn serve(folder: &TempDir, model: &ScriptedModel) -> (Child, String) {
    let mut server = posthouse(folder)
        .env("ANTHROPIC_API_KEY", "k")
        .env("ANTHROPIC_BASE_URL", model.url())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    (server, first.split_whitespace().last().unwrap().to_owned())
}

#[tokio::test]
async fn a_session_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Script::of([
        Reply::text("One.").when_user_says("first"),
        Reply::text("Two.").when_user_says("second"),
        Reply::text("Three.").when_user_says("third"),
    ]))
    .await;
    let (_, out, error) = run(command(&folder, &model).arg("first")).await;
    assert_eq!(out, "One.\n", "{error}");
    let session = session(&error);
    let (code, out, error) =
        run(command(&folder, &model).args(["--session", &session, "second"])).await;
    assert_eq!((code, out.as_str()), (0, "Two.\n"), "{error}");
    let (code, _, error) = run(command(&folder, &model).args(["--session", &session])).await;
    assert_eq!(code, 2);
    assert!(error.contains("nothing is under way"), "{error}");

    // A server that runs is used, and stays.
    let (mut server, url) = serve(&folder, &model).await;
    let before = LocalServer::read(&data(&folder)).unwrap();
    assert_eq!((before.url.as_str(), Some(before.pid)), (url.as_str(), server.id()));
    let mut command = posthouse(&folder);
    let (code, out, error) = run(command.args(["run", "--session", &session, "third"])).await;
    assert_eq!((code, out.as_str()), (0, "Three.\n"), "{error}");
    assert_eq!(LocalServer::read(&data(&folder)).unwrap().token, before.token);
    let missing = "sesn_01ABCDEFGHJKMNPQRSTVWXYZ";
    let (code, _, error) = run(posthouse(&folder).args(["run", "--session", missing, "x"])).await;
    assert_eq!(code, 1);
    assert!(error.contains("404"), "{error}");
    // What it left behind when it is killed is no server.
    server.kill().await.unwrap();
    model.push(Reply::text("Four."));
    let mut command = self::command(&folder, &model);
    let (code, out, error) = run(command.args(["--session", &session, "fourth"])).await;
    assert_eq!((code, out.as_str()), (0, "Four.\n"), "{error}");
}

#[tokio::test]
async fn a_session_is_given_another_model() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Reply::text("Yes.").forever()).await;
    let (_server, url) = serve(&folder, &model).await;
    let token = LocalServer::read(&data(&folder)).unwrap().token;
    let client = posthouse::client::Client::new(url, token).unwrap();
    let (code, _, error) = run(posthouse(&folder).args(["run", "--json", "first"])).await;
    assert_eq!(code, 0, "{error}");
    let session = session(&error);
    let other = "claude-opus-4-6";
    let asked_for = async || {
        let shown = client.get(&format!("/v1/sessions/{session}")).await.unwrap();
        let agent = &shown["agent"];
        (agent["model"]["id"].clone(), agent["posthouse"]["fallback"][0]["id"].clone())
    };
    // Without a task that is all there is to do.
    let switch = ["run", "--session", &session, "--model", other];
    let (code, out, error) = run(posthouse(&folder).args(switch)).await;
    assert_eq!((code, out.as_str()), (0, ""), "{error}");
    assert_eq!(asked_for().await, (json!(other), Value::Null));

    let more = ["run", "--session", &session, "--fallback", "claude-haiku-4-5", "second"];
    let (code, out, error) = run(posthouse(&folder).args(more)).await;
    assert_eq!((code, out.as_str()), (0, "Yes.\n"), "{error}");
    assert_eq!(asked_for().await, (json!(other), json!("claude-haiku-4-5")));
    let asked: Vec<Value> = model.requests().iter().map(|one| one.body["model"].clone()).collect();
    assert_eq!(asked.last(), Some(&json!(other)), "{asked:?}");

    let wrong = ["run", "--session", &session, "--model", "nobody-1"];
    let (code, _, error) = run(posthouse(&folder).args(wrong)).await;
    assert_eq!(code, 1);
    assert!(error.contains("posthouse.model: no configured provider"), "{error}");
}

#[tokio::test]
async fn calls_that_wait_are_answered_from_elsewhere() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Script::of([
        Reply::tool_use("bash", json!({ "command": "ls" })).when_user_says("list"),
        Reply::text("As you wish.").when_result_of("bash"),
    ]))
    .await;
    let (_server, _) = serve(&folder, &model).await;
    let agent = write(&folder, "asking.yaml", ASKING);
    let mut command = posthouse(&folder);
    let (code, _, error) = run(command.args(["run", "--agent", &agent, "list it"])).await;
    assert_eq!(code, 3, "{error}");
    let session = session(&error);
    let hint = error.lines().find(|line| line.contains("sessions allow")).unwrap();
    let call = hint.split_whitespace().last().unwrap();
    let mut command = posthouse(&folder);
    let (code, out, error) =
        run(command.args(["sessions", "deny", &session, call, "rather not"])).await;
    assert_eq!(code, 0, "{out}{error}");
    // The turn goes on, or is over already when it is looked at.
    let (_, shown, _) = run(posthouse(&folder).args(["run", "--session", &session])).await;
    let settled = async {
        loop {
            let (_, out, _) = run(posthouse(&folder).args(["sessions", "show", &session])).await;
            if out.contains("agent  As you wish.") {
                return out;
            }
        }
    };
    let all = timeout(PATIENCE, settled).await.unwrap();
    assert!(all.contains("rather not"), "{all}");
    assert!(shown.is_empty() || shown.contains("As you wish."), "{shown}");
}

async fn signal(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn an_interrupt_reaches_the_agent() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Reply::text("Hm").and_stall().forever()).await;
    let mut child = command(&folder, &model)
        .args(["--json", "think"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut kinds = Vec::new();
    let story = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let event: Value = serde_json::from_str(&line).unwrap();
            let kind = event["type"].as_str().unwrap().to_owned();
            if kind == "span.model_request_start" {
                signal(&child).await;
            }
            kinds.push(kind);
        }
    };
    timeout(PATIENCE, story).await.unwrap();
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(kinds.contains(&"user.interrupt".to_owned()), "{kinds:?}");
    assert_eq!(kinds.last().unwrap(), "session.status_idle");
}

/// A server that plays one stream, whatever is asked of it, and keeps what it was sent.
async fn fake(stream: String, hangs: bool) -> (String, Arc<std::sync::Mutex<Vec<Value>>>) {
    type Kept = (String, bool, Arc<std::sync::Mutex<Vec<Value>>>);
    async fn events(State((stream, hangs, _)): State<Kept>) -> impl IntoResponse {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(stream)]);
        let rest = futures_util::stream::once(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(String::new())
        });
        let body = axum::body::Body::from_stream(futures_util::StreamExt::chain(first, rest));
        ([(CONTENT_TYPE, "text/event-stream")], body)
    }
    async fn sent(State((_, hangs, kept)): State<Kept>, Json(body): Json<Value>) -> Json<Value> {
        let interrupt = body["events"][0]["type"] == "user.interrupt";
        kept.lock().unwrap().push(body);
        if interrupt && hangs {
            std::future::pending::<()>().await;
        }
        Json(json!({ "data": [{ "id": "sevt_own" }] }))
    }
    let nothing = || async { Json(json!({ "data": [], "next_page": null })) };
    let made = |id: &'static str| move || async move { Json(json!({ "id": id })) };
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let router = Router::new()
        .route("/v1/agents", get(nothing).post(made("agent_1")))
        .route("/v1/environments", get(nothing).post(made("env_1")))
        .route("/v1/sessions", post(made("sesn_1")))
        .route("/v1/sessions/{id}/events", post(sent))
        .route("/v1/sessions/{id}/events/stream", get(events))
        .with_state((stream, hangs, Arc::clone(&kept)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, kept)
}

fn frames(events: &[Value]) -> String {
    let frame = |(index, event): (usize, &Value)| format!("id: {index}\ndata: {event}\n\n");
    events.iter().enumerate().map(frame).collect()
}

fn text(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

fn remote(folder: &TempDir, url: &str) -> Command {
    let mut command = posthouse(folder);
    command.args(["run", "--url", url, "--api-key", "k", "work"]);
    command
}

#[tokio::test]
async fn what_an_agent_does_is_plain_and_stable_in_a_pipe() {
    let folder = TempDir::new().unwrap();
    let many: Vec<String> = (1..=20).map(|line| format!("line {line}")).collect();
    let call = |id: &str, name: &str, input: Value| json!({ "type": "agent.tool_use", "id": id, "name": name, "input": input });
    let result = |of: &str, content: Value, is_error: bool| {
        json!({
            "type": "agent.tool_result", "id": format!("sevt_r{of}"), "tool_use_id": of,
            "content": content, "is_error": is_error,
        })
    };
    let retry = json!({
        "type": "overloaded", "message": "The provider is overloaded.",
        "retry_status": { "type": "retrying" },
    });
    let idle = |id: &str| {
        let reason = json!({ "type": "end_turn" });
        json!({ "type": "session.status_idle", "id": id, "stop_reason": reason })
    };
    let (url, kept) = fake(
        frames(&[
            // The end of what was under way before the task came.
            idle("sevt_0"),
            json!({ "type": "user.message", "id": "sevt_own", "content": text("work") }),
            json!({ "type": "session.status_running", "id": "sevt_1" }),
            json!({ "type": "session.error", "id": "sevt_2", "error": retry }),
            json!({ "type": "agent.thinking", "id": "sevt_3" }),
            json!({ "type": "agent.message", "id": "sevt_4", "content": text("I look around.") }),
            call("sevt_5", "bash", json!({ "command": "ls -la\npwd" })),
            result("sevt_5", text(&many.join("\n")), false),
            call("sevt_6", "read", json!({ "file_path": "/mnt/session/uploads/a.png" })),
            result("sevt_6", json!([{ "type": "image", "source": {} }]), false),
            call("sevt_7", "bash", json!({ "command": "printf '\u{1b}]0;x\u{7}'" })),
            result("sevt_7", text("\u{1b}]52;c;eA==\u{7}\u{202e}\0\r\n\u{1b}[2J"), true),
            json!({ "type": "agent.message", "id": "sevt_8", "content": text("\u{1b}[31mDone\n") }),
            idle("sevt_9"),
        ]),
        false,
    )
    .await;
    let (code, out, error) = run(&mut remote(&folder, &url)).await;
    let expected = "error: The provider is overloaded. (it is tried again)\n\
        I look around.\n\
        ▸ bash  ls -la ⏎ pwd\n\
        \u{20} line 1\n  line 2\n  line 3\n  line 4\n  line 5\n  line 6\n  line 7\n  line 8\n\
        \u{20} … 12 more lines\n\
        ▸ read  /mnt/session/uploads/a.png\n\
        \u{20} [image]\n\
        ▸ bash  printf '\u{fffd}]0;x\u{fffd}'\n\
        \u{20} failed: \u{fffd}]52;c;eA==\u{fffd}\u{fffd}\u{fffd}\n\
        \u{20} \u{fffd}[2J\n\
        \u{fffd}[31mDone\n";
    assert_eq!((code, out.as_str()), (0, expected), "{error}");
    let expected = json!([{ "events": [{ "type": "user.message", "content": text("work") }] }]);
    assert_eq!(json!(*kept.lock().unwrap()), expected);
}

#[tokio::test]
async fn a_second_interrupt_leaves_at_once() {
    let folder = TempDir::new().unwrap();
    let own = json!({ "type": "user.message", "id": "sevt_own", "content": text("work") });
    let begun = json!({ "type": "agent.message", "id": "sevt_1", "content": text("begun") });
    let (url, _) = fake(frames(&[own, begun]), true).await;
    let mut child =
        remote(&folder, &url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = [0; 6];
    let mut stdout = child.stdout.take().unwrap();
    timeout(PATIENCE, stdout.read_exact(&mut out)).await.unwrap().unwrap();
    assert_eq!(&out, b"begun\n");
    signal(&child).await;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = Vec::new();
    let story = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("once more leaves at once") {
                signal(&child).await;
            }
            lines.push(line);
        }
    };
    timeout(PATIENCE, story).await.unwrap();
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    let last = lines.last().unwrap();
    assert!(last.contains("the agent goes on at the server: posthouse run --url"), "{lines:?}");
    assert!(last.ends_with("--session sesn_1"), "{lines:?}");
}
