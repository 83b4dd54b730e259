//! The real binary as a server, in a process of its own and with cages of its own, and a client
//! that knows how to hold a turn.
//!
//! Holds no cases. What a server leaves behind dies with the test that has started it.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use posthouse::client::{Client, Events};
use posthouse_testkit::{Captured, Reply, ScriptedModel};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    app::{self, KEY},
    files::{BOUNDARY, form},
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end of a cage may take.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// Nobody, as all of Linux knows them.
const NOBODY: u32 = 65_534;

/// Who a server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests.
    Own,
    /// An ordinary user. That is the same when the tests are not run by root.
    Ordinary,
}

/// How a server is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// The configuration file.
    pub(crate) config: &'static str,
    /// Who it runs as.
    pub(crate) user: User,
    /// What it is started in.
    pub(crate) host: Host,
}

/// What a server is started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The host, as it is.
    Whole,
    /// A user namespace that has no user but root.
    RootAlone,
    /// The same, and it may have no other namespace below it.
    NoNamespaces,
}

impl Default for Setup {
    fn default() -> Self {
        Self { config: "", user: User::Own, host: Host::Whole }
    }
}

/// A server, its folder, and the model behind it.
pub(crate) struct Server {
    pub(crate) model: ScriptedModel,
    pub(crate) url: String,
    /// How much longer each cage takes to start, in milliseconds.
    pub(crate) delay: Option<&'static str>,
    setup: Setup,
    http: reqwest::Client,
    folder: TempDir,
    child: Option<Child>,
    agent: Option<Value>,
}

/// What came of a call: the event, and its texts.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) event: Value,
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

/// A call that the model is to make.
pub(crate) type Wanted<'a> = (&'a str, Value);

impl Server {
    /// A server with a model that knows no replies yet.
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::with(setup, String::new(), posthouse_testkit::Script::default()).await
    }

    /// The same with more of a configuration, and a script.
    pub(crate) async fn with(
        setup: Setup,
        more: String,
        script: posthouse_testkit::Script,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let home = folder.path();
        let open = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(home, open(0o755)).unwrap();
        fs::create_dir(home.join("data")).unwrap();
        let config = format!("{}\n{more}\n", setup.config);
        fs::write(home.join("config.toml"), config).unwrap();
        fs::write(home.join("log"), "").unwrap();
        let mut server = Self {
            model: ScriptedModel::start(script).await,
            url: String::new(),
            delay: None,
            setup,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            folder,
            child: None,
            agent: None,
        };
        if server.ordinary() {
            // Where the tests were built is nobody else's business.
            let program = server.home().join("posthouse");
            fs::copy(env!("CARGO_BIN_EXE_posthouse"), &program).unwrap();
            fs::set_permissions(&program, open(0o755)).unwrap();
            chown(server.data(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        server.begin(None).await;
        server
    }

    fn ordinary(&self) -> bool {
        self.setup.user == User::Ordinary && rustix::process::geteuid().is_root()
    }

    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// Where the files of a session are.
    pub(crate) fn sandbox(&self, session: &str) -> PathBuf {
        self.data().join("sandboxes").join(session)
    }

    /// What its tools see at a path, seen from outside.
    pub(crate) fn tree(&self, session: &str, path: &str) -> PathBuf {
        self.sandbox(session).join("tree").join(path)
    }

    /// The program with those arguments, in the server's own surroundings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let program: PathBuf = match self.ordinary() {
            true => self.home().join("posthouse"),
            false => env!("CARGO_BIN_EXE_posthouse").into(),
        };
        let script = match self.setup.host {
            Host::Whole => None,
            Host::RootAlone => Some("exec \"$0\" \"$@\""),
            Host::NoNamespaces => {
                Some("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"")
            }
        };
        let mut command = Command::new(script.map_or(program.as_path(), |_| Path::new("unshare")));
        if let Some(script) = script {
            command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(&program);
        }
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home())
            .env("POSTHOUSE_CONFIG", self.home().join("config.toml"))
            // Relative, as people type it.
            .env("POSTHOUSE_DATA", "data")
            .current_dir(self.home())
            .env("POSTHOUSE_API_KEY", KEY)
            .env("ANTHROPIC_API_KEY", "sk-test")
            .env("ANTHROPIC_BASE_URL", self.model.url())
            .kill_on_drop(true)
            .stdin(Stdio::null());
        if self.ordinary() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts the process, with a fault. False when it ended before it listened.
    pub(crate) async fn begin(&mut self, fault: Option<&str>) -> bool {
        assert!(self.child.is_none(), "it runs");
        let log = fs::File::options().append(true).open(self.home().join("log")).unwrap();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        if let Some(delay) = self.delay {
            command.env("POSTHOUSE_CAGE_DELAY_MS", delay);
        }
        if let Some(fault) = fault {
            command.env("POSTHOUSE_FAULT", fault);
        }
        let mut child = command.stderr(log).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let Some(line) = line else {
            child.wait().await.unwrap();
            return false;
        };
        let url = line.split_whitespace().last().unwrap();
        assert!(url.starts_with("http://"), "{line}");
        self.url = url.to_owned();
        self.child = Some(child);
        true
    }

    /// `kill -9`. Returns what it had started, which may still be there.
    pub(crate) async fn kill(&mut self) -> Vec<Process> {
        let left = self.started();
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
        left
    }

    /// Waits until it has died of its fault.
    pub(crate) async fn died(&mut self) {
        let mut child = self.child.take().unwrap();
        timeout(PATIENCE, child.wait()).await.expect("its fault was never met").unwrap();
    }

    /// Sends it a signal and does not wait.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.as_ref().and_then(Child::id).unwrap();
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Whether its process has ended, of whatever.
    pub(crate) fn has_died(&mut self) -> bool {
        let dead = match &mut self.child {
            Some(child) => child.try_wait().unwrap().is_some(),
            None => true,
        };
        if dead {
            self.child = None;
        }
        dead
    }

    /// Every process that it has started, and those of these.
    pub(crate) fn started(&self) -> Vec<Process> {
        let server = self.child.as_ref().and_then(Child::id).unwrap();
        descendants(server)
    }

    /// Waits until it has no child at all.
    pub(crate) async fn alone(&self) {
        until(SOON, "it still has children", async || self.started().is_empty()).await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(KEY)
    }

    pub(crate) async fn get(&self, path: &str) -> app::Reply {
        app::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> app::Reply {
        let request = self.request(Method::POST, path);
        app::send(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    pub(crate) async fn delete(&self, path: &str) -> app::Reply {
        app::send(self.request(Method::DELETE, path)).await
    }

    /// Uploads a file that expires after so many seconds, or never.
    pub(crate) async fn upload(&self, name: &str, content: &[u8], expires: Option<&str>) -> Value {
        let head = format!("; filename=\"{name}\"\r\ncontent-type: text/plain");
        let mut parts = vec![("file", head.as_str(), content)];
        if let Some(seconds) = expires {
            parts.push(("expires_in_seconds", "", seconds.as_bytes()));
        }
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.request(Method::POST, "/v1/files").header("content-type", kind);
        app::send(request.body(form(&parts))).await.ok()
    }

    /// A new session whose agent has all tools. `networking` may be null.
    pub(crate) async fn session(&mut self, networking: Value, resources: Value) -> String {
        if self.agent.is_none() {
            let body = json!({
                "name": "Hands",
                "model": "claude-sonnet-5",
                "tools": [{ "type": "agent_toolset_20260401" }],
            });
            self.agent = Some(self.post("/v1/agents", body).await.ok()["id"].clone());
        }
        let agent = self.agent.clone().unwrap();
        self.session_of(&agent, networking, resources).await
    }

    /// A new session of that agent.
    pub(crate) async fn session_of(
        &self,
        agent: &Value,
        networking: Value,
        resources: Value,
    ) -> String {
        let mut environment = json!({ "name": "e" });
        if !networking.is_null() {
            environment["config"] = json!({ "type": "cloud", "networking": networking });
        }
        let environment = self.post("/v1/environments", environment).await.ok();
        let body = json!({
            "agent": agent,
            "environment_id": environment["id"],
            "resources": resources,
        });
        let session = self.post("/v1/sessions", body).await.ok();
        session["id"].as_str().unwrap().to_owned()
    }

    /// A session without anything of its own.
    pub(crate) async fn plain_session(&mut self) -> String {
        self.session(Value::Null, json!([])).await
    }

    /// Says something, and does not wait.
    pub(crate) async fn say(&self, session: &str, text: &str) {
        let content = json!([{ "type": "text", "text": text }]);
        let event = json!({ "type": "user.message", "content": content });
        self.send(session, event).await;
    }

    /// Sends one event.
    pub(crate) async fn send(&self, session: &str, event: Value) {
        let body = json!({ "events": [event] });
        self.post(&format!("/v1/sessions/{session}/events"), body).await.ok();
    }

    pub(crate) async fn is_idle(&self, session: &str) -> bool {
        self.get(&format!("/v1/sessions/{session}")).await.ok()["status"] == "idle"
    }

    /// Waits until a session rests.
    pub(crate) async fn idle(&self, session: &str, patience: Duration) {
        until(patience, "the session does not rest", async || self.is_idle(session).await).await;
    }

    pub(crate) async fn events(&self, session: &str) -> Vec<Value> {
        let list = self.get(&format!("/v1/sessions/{session}/events?limit=1000")).await.ok();
        assert_eq!(list["next_page"], Value::Null);
        list["data"].as_array().unwrap().clone()
    }

    /// Everything that a session says from now on.
    pub(crate) async fn stream(&self, session: &str) -> Events {
        let client = Client::new(self.url.clone(), KEY).unwrap();
        client.stream(&format!("/v1/sessions/{session}/events/stream"), None).await.unwrap()
    }

    /// All calls of a session, each with what came of it.
    pub(crate) async fn calls(&self, session: &str) -> Vec<Option<Ran>> {
        calls(&self.events(session).await)
    }

    /// Scripts a turn: each step is one response with its calls, and then the model is done.
    pub(crate) fn script(&self, steps: &[&[Wanted<'_>]]) {
        for step in steps {
            let reply = step.iter().fold(Reply::default(), |reply, (name, input)| {
                reply.and_tool_use(*name, input.clone())
            });
            self.model.push(reply);
        }
        self.model.push(Reply::text("Done."));
    }

    /// Holds a turn; returns what came of its calls, in their order.
    pub(crate) async fn turn(&self, session: &str, steps: &[&[Wanted<'_>]]) -> Vec<Ran> {
        let before = self.calls(session).await.len();
        self.script(steps);
        self.say(session, "Go on.").await;
        self.idle(session, PATIENCE).await;
        let ran = self.calls(session).await.split_off(before);
        ran.into_iter().map(|ran| ran.expect("a call without a result")).collect()
    }

    /// One command in the shell, and what came of it.
    pub(crate) async fn bash(&self, session: &str, command: &str) -> Ran {
        let ran = self.turn(session, &[&[("bash", json!({ "command": command }))]]).await;
        ran.into_iter().next().unwrap()
    }

    /// The sandboxes that are alive.
    pub(crate) async fn sandboxes(&self) -> Vec<Value> {
        let list = self.get("/posthouse/v1/sandboxes").await.ok();
        list["data"].as_array().unwrap().clone()
    }

    /// The model requests, without what only asks for the list of models.
    pub(crate) fn asked(&self) -> Vec<Captured> {
        let all = self.model.requests().into_iter();
        all.filter(|request| request.method == "POST").collect()
    }

    /// What the model was given as the results of its last calls.
    pub(crate) fn given(&self) -> Vec<Value> {
        let requests = self.asked();
        let messages = requests.last().unwrap().body["messages"].as_array().unwrap().clone();
        let last = messages.iter().rfind(|message| message["role"] == "user").unwrap();
        let blocks = last["content"].as_array().unwrap();
        blocks.iter().filter(|block| block["type"] == "tool_result").cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home().join("log")).unwrap_or_default();
            eprintln!("the server said:\n{log}");
        }
    }
}

/// All calls of a list of events, each with what came of it. No call has two results.
pub(crate) fn calls(events: &[Value]) -> Vec<Option<Ran>> {
    let mut results: HashMap<&str, &Value> = HashMap::new();
    for event in events.iter().filter(|event| event["type"] == "agent.tool_result") {
        let of = event["tool_use_id"].as_str().unwrap();
        assert!(results.insert(of, event).is_none(), "a second result: {event}");
    }
    let calls = events.iter().filter(|event| event["type"] == "agent.tool_use");
    let found = calls.map(|call| results.remove(call["id"].as_str().unwrap()).map(ran)).collect();
    assert!(results.is_empty(), "results without calls: {results:?}");
    found
}

fn ran(event: &Value) -> Ran {
    let blocks = event["content"].as_array().unwrap_or_else(|| panic!("no content: {event}"));
    let text: Vec<_> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    let is_error = event["is_error"].as_bool().unwrap_or(false);
    Ran { text: text.join("\n"), is_error, event: event.clone() }
}

/// Waits until something holds.
pub(crate) async fn until(patience: Duration, otherwise: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < patience, "{otherwise}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A process on this host, told from a later one of the same number by its birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
    parent: u32,
    born: String,
}

impl Process {
    /// Whatever a process is called, and zombies are none.
    fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let alive = !matches!(fields.first(), Some(&"Z" | &"X"));
        let parent = fields.get(1)?.parse().ok()?;
        alive.then_some(Self { id, parent, born: (*fields.get(19)?).to_owned() })
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.id).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn lives(&self) -> bool {
        Self::read(self.id).is_some_and(|now| now.born == self.born)
    }
}

fn descendants(of: u32) -> Vec<Process> {
    let names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let all: Vec<_> = names.filter_map(|name| Process::read(name.parse().ok()?)).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.id);
            found.push(process.clone());
        }
    }
    found
}

/// Waits until none of these runs any more.
pub(crate) async fn all_gone(processes: &[Process]) {
    let gone = async || !processes.iter().any(Process::lives);
    until(SOON, "processes are left", gone).await;
}
