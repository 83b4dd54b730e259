//! Drives `posthouse-cage`, the stand-in of the server: starts it, asks it, sorts its answers.
//!
//! Judges nothing. A question without an answer fails the test after a minute and a half.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::place::{self, User};

/// Makes of a case that takes a user two tests: one as root, one as an ordinary user.
macro_rules! for_both {
    ($($(#[doc = $doc:expr])* #[test] fn $case:ident($user:ident: User) $body:block)*) => {
        $(
            $(#[doc = $doc])*
            fn $case($user: $crate::place::User) $body

            mod $case {
                #[test]
                fn as_root() {
                    if $crate::place::User::Root.is_possible(stringify!($case)) {
                        super::$case($crate::place::User::Root);
                    }
                }

                #[test]
                fn as_an_ordinary_user() {
                    super::$case($crate::place::User::Ordinary);
                }
            }
        )*
    };
}
pub(crate) use for_both;

/// Set in the server's environment: nothing of it may be seen inside.
pub(crate) const SECRET: &str = "canary-of-the-servers-environment-7f3a";

const PATIENCE: Duration = Duration::from_secs(90);

/// A running `posthouse-cage`.
pub(crate) struct Driver {
    /// Where it keeps what belongs to sessions.
    pub(crate) folder: PathBuf,
    pub(crate) process: Mutex<Child>,
    input: Mutex<Option<ChildStdin>>,
    answers: Arc<Answers>,
    /// What has no name of a call is asked one at a time.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Answers {
    held: Mutex<Held>,
    news: Condvar,
}

#[derive(Default)]
struct Held {
    of_calls: BTreeMap<String, Vec<Value>>,
    others: Vec<Value>,
    noise: Vec<String>,
    ended: bool,
}

/// What one driver is started with.
pub(crate) fn settings() -> Value {
    json!({
        "isolation": "namespaces",
        "memory": 512 << 20, "processes": 128, "cpus": 2.0,
        "disk": 256 << 20, "entries": 20_000, "open_files": 1024, "file_size": 128 << 20,
        "call_ms": 60_000, "warm_ms": 600_000,
    })
}

/// The driver that cases share which leave no traces for others.
pub(crate) fn shared(user: User) -> &'static Driver {
    static ROOT: OnceLock<Driver> = OnceLock::new();
    static ORDINARY: OnceLock<Driver> = OnceLock::new();
    let cell = match user {
        User::Root => &ROOT,
        User::Ordinary => &ORDINARY,
    };
    cell.get_or_init(|| Driver::start(user, &json!({})))
}

impl Driver {
    /// One of its own, in a folder of its own, with these settings besides the usual ones.
    pub(crate) fn start(user: User, more: &Value) -> Self {
        Self::start_in(user, &place::folder(user, "data"), more)
    }

    /// One of its own, in a folder that may have been used before.
    pub(crate) fn start_in(user: User, folder: &Path, more: &Value) -> Self {
        let mut settings = settings();
        settings["folder"] = json!(folder);
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let mut command = Command::new(place::program("posthouse-cage"));
        command
            .arg(settings.to_string())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", folder)
            .env("ANTHROPIC_API_KEY", SECRET)
            .env("POSTHOUSE_SECRET", SECRET)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(id) = user.becomes() {
            // Other groups are given up with it.
            command.uid(id).gid(id);
        }
        let mut process = command.spawn().unwrap();
        let answers = Arc::new(Answers::default());
        let output = process.stdout.take().unwrap();
        let sorted = Arc::clone(&answers);
        std::thread::spawn(move || sort(output, &sorted));
        let errors = process.stderr.take().unwrap();
        let kept = Arc::clone(&answers);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                kept.held.lock().unwrap().noise.push(line);
            }
        });
        Self {
            folder: folder.to_owned(),
            input: Mutex::new(process.stdin.take()),
            process: Mutex::new(process),
            answers,
            turn: Mutex::new(()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// A session that nobody else has.
    pub(crate) fn session(&self) -> Session<'_> {
        let number = next_number();
        let name = format!("sesn_attack{}x{number}", std::process::id());
        self.session_named(&name, number)
    }

    /// A session of a name, for a life after another one.
    pub(crate) fn session_named(&self, name: &str, number: u32) -> Session<'_> {
        let networking = json!("none");
        Session { driver: self, name: name.to_owned(), number, networking, mounts: Vec::new() }
    }

    pub(crate) fn send(&self, line: &Value) {
        let mut input = self.input.lock().unwrap();
        let input = input.as_mut().expect("the driver still takes lines");
        // A driver that was killed takes nothing; whoever waits for an answer is told.
        let _ = writeln!(input, "{line}").and_then(|()| input.flush());
    }

    /// Asks what has no call, and waits for the answer that has this member.
    pub(crate) fn ask(&self, question: &Value, member: &str) -> Value {
        let _turn = self.turn.lock().unwrap();
        self.send(question);
        self.wait(question, |held| {
            let fits = |value: &Value| value.get(member).is_some() || value.get("failed").is_some();
            held.others.iter().position(fits).map(|place| held.others.remove(place))
        })
    }

    /// The answer about a call that has this member, or says that it failed.
    pub(crate) fn about(&self, call: &str, member: &str) -> Value {
        self.wait(&json!({"call": call, "member": member}), |held| {
            let answers = held.of_calls.get_mut(call)?;
            let fits = |value: &Value| value.get(member).is_some() || value.get("failed").is_some();
            answers.iter().position(fits).map(|place| answers.remove(place))
        })
    }

    fn wait(&self, question: &Value, mut find: impl FnMut(&mut Held) -> Option<Value>) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut held = self.answers.held.lock().unwrap();
        loop {
            if let Some(answer) = find(&mut held) {
                return answer;
            }
            let noise = held.noise.join("\n");
            assert!(!held.ended, "the driver has ended before an answer to {question}\n{noise}");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer to {question}\n{noise}");
            held = self.answers.news.wait_timeout(held, left).unwrap().0;
        }
    }

    /// What is live, by session.
    pub(crate) fn live(&self) -> Vec<Value> {
        let answer = self.ask(&json!({"do": "list"}), "live");
        answer["live"].as_array().unwrap_or_else(|| panic!("no list: {answer}")).clone()
    }

    /// Everything that it has said on its own output for errors.
    pub(crate) fn noise(&self) -> String {
        self.answers.held.lock().unwrap().noise.join("\n")
    }

    /// Ends it the hard way and waits until it is gone.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends it the usual way: its input ends.
    pub(crate) fn end(&self) {
        *self.input.lock().unwrap() = None;
        self.process.lock().unwrap().wait().unwrap();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        *self.input.lock().unwrap() = None;
        let mut process = self.process.lock().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while process.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = process.kill();
                let _ = process.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn sort(output: impl Read, answers: &Answers) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let mut held = answers.held.lock().unwrap();
        match serde_json::from_slice::<Value>(&line) {
            Ok(value) => match value.get("call").and_then(Value::as_str) {
                Some(call) => held.of_calls.entry(call.to_owned()).or_default().push(value),
                None => held.others.push(value),
            },
            Err(error) => held.noise.push(format!("{error}: {}", String::from_utf8_lossy(&line))),
        }
        drop(held);
        answers.news.notify_all();
    }
    answers.held.lock().unwrap().ended = true;
    answers.news.notify_all();
}

/// Numbers decide the host's users of a cage, so no two sessions of this process share one.
pub(crate) fn next_number() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// One session of a driver.
#[derive(Clone)]
pub(crate) struct Session<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) networking: Value,
    mounts: Vec<Value>,
}

/// A program that runs beside a session's tools.
pub(crate) struct Program<'a> {
    driver: &'a Driver,
    call: String,
}

impl Program<'_> {
    fn ask(&self, order: &str, member: &str, more: Value) -> Value {
        let mut question = more;
        question["do"] = json!(order);
        question["call"] = json!(self.call);
        self.driver.send(&question);
        self.driver.about(&self.call, member)
    }

    /// Whether it took all of it.
    pub(crate) fn tell(&self, text: &str) -> bool {
        self.ask("tell", "told", json!({"text": text}))["told"] == true
    }

    /// What it says next: at most so many bytes, nothing at the end of its output, and what has
    /// happened to it when it has ended.
    pub(crate) fn hear(&self, bytes: usize) -> Result<String, String> {
        let answer = self.ask("hear", "heard", json!({"bytes": bytes}));
        answer["heard"].as_str().map(str::to_owned).ok_or_else(|| answer["failed"].to_string())
    }

    /// What it says until its next line ends.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        while !line.ends_with('\n') {
            line += &self.hear(1).unwrap();
        }
        line.pop();
        line
    }

    /// What happens to it after all that it says.
    pub(crate) fn end(&self) -> String {
        loop {
            match self.hear(1 << 16) {
                Ok(said) => assert!(!said.is_empty(), "it goes on without a word"),
                Err(end) => return end,
            }
        }
    }

    pub(crate) fn drop(&self) {
        assert_eq!(self.ask("drop", "dropped", json!({}))["dropped"], true);
    }
}

/// What came of a call.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    /// There was no outcome: why.
    pub(crate) failed: Option<String>,
}

impl Said {
    pub(crate) fn of(answer: &Value) -> Self {
        let outcome = &answer["outcome"];
        let blocks = outcome["content"].as_array();
        let texts = blocks.into_iter().flatten().filter_map(|block| block["text"].as_str());
        Self {
            text: texts.collect::<Vec<_>>().join("\n"),
            is_error: outcome["is_error"].as_bool().unwrap_or(true),
            failed: answer.get("failed").map(ToString::to_string),
        }
    }

    /// The text of a call that succeeded.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert!(self.failed.is_none() && !self.is_error, "{self:?}");
        self.text
    }
}

impl<'a> Session<'a> {
    pub(crate) fn unrestricted(mut self) -> Self {
        self.networking = json!("unrestricted");
        self
    }

    /// With a file of the host's, read-only, at this path.
    pub(crate) fn mount(mut self, path: &str, source: &Path) -> Self {
        self.mounts.push(json!({"path": path, "source": source}));
        self
    }

    /// With the probe at `/tmp/probe`, ready to be started.
    pub(crate) fn with_probe(self) -> Self {
        let path = "/mnt/session/uploads/posthouse-probe";
        let session = self.mount(path, &place::program("posthouse-probe"));
        session.bash(&format!("cp {path} /tmp/probe && chmod 755 /tmp/probe")).fine();
        session
    }

    /// Lets a call begin; its name.
    pub(crate) fn begin(&self, tool: &str, input: &Value) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let call = format!("sevt_attack{}x{count}", std::process::id());
        self.begin_named(&call, tool, input);
        call
    }

    pub(crate) fn begin_named(&self, call: &str, tool: &str, input: &Value) {
        self.driver.send(&json!({
            "do": "call", "session": self.name, "number": self.number,
            "networking": self.networking, "mounts": self.mounts,
            "call": call, "name": tool, "input": input,
        }));
    }

    pub(crate) fn begin_bash(&self, command: &str) -> String {
        self.begin("bash", &json!({"command": command}))
    }

    pub(crate) fn outcome(&self, call: &str) -> Said {
        Said::of(&self.driver.about(call, "outcome"))
    }

    pub(crate) fn call(&self, tool: &str, input: &Value) -> Said {
        self.outcome(&self.begin(tool, input))
    }

    pub(crate) fn bash(&self, command: &str) -> Said {
        self.call("bash", &json!({"command": command}))
    }

    pub(crate) fn stop(&self, call: &str) {
        self.driver.send(&json!({"do": "stop", "call": call}));
        self.driver.about(call, "stopped");
    }

    /// Starts a program beside the tools. What came of it, in words, when it was not started.
    pub(crate) fn program(&self, command: &str, args: &[&str]) -> Result<Program<'a>, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let call = format!("program{}x{count}", std::process::id());
        self.driver.send(&json!({
            "do": "program", "session": self.name, "number": self.number, "call": call,
            "command": command, "args": args, "env": {"OWN": "its own"},
        }));
        let answer = self.driver.about(&call, "began");
        match answer["failed"].as_str() {
            Some(failed) => Err(failed.to_owned()),
            None => Ok(Program { driver: self.driver, call }),
        }
    }

    /// One that the shell runs.
    #[track_caller]
    pub(crate) fn shell_program(&self, script: &str) -> Program<'a> {
        self.program("bash", &["-c", script]).unwrap()
    }

    /// Keeps a text as that of a call; its path.
    pub(crate) fn keep(&self, call: &str, text: &str) -> Result<String, String> {
        self.driver.send(&json!({
            "do": "keep", "session": self.name, "number": self.number, "call": call, "text": text,
        }));
        let answer = self.driver.about(call, "kept");
        answer["kept"].as_str().map(str::to_owned).ok_or_else(|| answer["failed"].to_string())
    }

    pub(crate) fn kill(&self) -> bool {
        let answer = self.driver.ask(&json!({"do": "kill", "session": self.name}), "killed");
        answer["killed"].as_bool().unwrap_or_else(|| panic!("{answer}"))
    }

    pub(crate) fn delete(&self) {
        let answer = self.driver.ask(&json!({"do": "delete", "session": self.name}), "deleted");
        assert_eq!(answer["deleted"], true, "{answer}");
    }

    /// What it may use from now on; null for a vault that does not answer.
    pub(crate) fn give(&self, secrets: &Value) {
        self.driver
            .ask(&json!({"do": "secrets", "session": self.name, "secrets": secrets}), "given");
    }

    /// What was written down of its cages: `started`, `uses`, `decisions`.
    pub(crate) fn record(&self) -> Value {
        let answer = self.driver.ask(&json!({"do": "record", "session": self.name}), "record");
        answer["record"].clone()
    }

    /// What it has put out: path and size.
    pub(crate) fn outputs(&self) -> Vec<(String, u64)> {
        let answer = self.driver.ask(&json!({"do": "outputs", "session": self.name}), "outputs");
        let listed = answer["outputs"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let pair = |one: &Value| {
            Some((one["path"].as_str()?.to_owned(), one["size"].as_u64().unwrap_or_default()))
        };
        listed.iter().filter_map(pair).collect()
    }

    pub(crate) fn recover(&self, call: &str) -> (String, Said) {
        let question = json!({"do": "recover", "session": self.name, "call": call});
        self.driver.send(&question);
        let answer = self.driver.about(call, "found");
        let found = answer["found"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        (found, Said::of(&answer))
    }

    /// What the driver tells of this session's cage, if it is live.
    pub(crate) fn live(&self) -> Option<Value> {
        self.driver.live().into_iter().find(|one| one["session_id"] == self.name.as_str())
    }

    /// Runs one attempt with an argument; whether it succeeded, and what was told.
    pub(crate) fn probe(&self, attempt: &str) -> (bool, String) {
        let line = self.bash(&format!("/tmp/probe --target 1 '{attempt}'")).fine();
        told(&line)
    }
}

/// The same attempt out here.
pub(crate) fn probe_outside(attempt: &str) -> (bool, String) {
    let output = Command::new(place::program("posthouse-probe")).arg(attempt).output().unwrap();
    told(&String::from_utf8_lossy(&output.stdout))
}

fn told(text: &str) -> (bool, String) {
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = lines.next_back().unwrap_or_else(|| panic!("no probe has spoken: {text}"));
    (told["allowed"] == true, told["detail"].as_str().unwrap_or_default().to_owned())
}
