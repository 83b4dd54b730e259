//! A worker: this program once more, as root or as an ordinary user, which does one thing at a
//! time and says how long it took.
//!
//! Whatever is compared is done by one and the same worker, so that it is started by the same
//! process and the same user. Orders are lines of JSON on standard input, one list of words
//! each; the answer is a line: times in nanoseconds, or an object that says what has failed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use posthouse_sandbox::Place;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Failure, Outcome,
    own::{Life, Own, SMALL_FILE, Tool},
    setup::Setup,
};

/// What a program finds in its environment when it is started beside a cage.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C")];

/// A worker, as seen by the bench. It ends, and its files go, when this is dropped.
pub(crate) struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where its files are, on the disk that was asked for.
    _folder: TempDir,
}

impl Worker {
    /// Starts one, as another user when one is given.
    pub(crate) fn start(setup: &Setup, user: Option<u32>) -> Outcome<Self> {
        let folder = setup.make_folder()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.env_clear().current_dir("/").arg("worker").arg(folder.path());
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user))?;
            command.uid(user).gid(user);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| {
                format!("the bench can't be started as user {user:?}: {error}; may it be read?")
            })?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("a worker without output")?);
        Ok(Self { child, orders, answers, _folder: folder })
    }

    /// Has one thing done.
    fn order(&mut self, words: &[&str]) -> Outcome<Vec<Duration>> {
        let orders = self.orders.as_mut().ok_or("the worker has ended")?;
        writeln!(orders, "{}", json!(words))?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("the worker has died at {words:?}").into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(reason) = answer["failed"].as_str() {
            return Err(reason.into());
        }
        let times = answer.as_array().ok_or("a worker's answer is no list")?;
        Ok(times.iter().filter_map(Value::as_u64).map(Duration::from_nanos).collect())
    }

    fn one(&mut self, words: &[&str]) -> Outcome<Duration> {
        let time = self.order(words)?;
        time.first().copied().ok_or_else(|| "a worker's answer is empty".into())
    }

    /// The life of one of our cages. `first` says that its launcher is to be started, too.
    pub(crate) fn life(&mut self, first: bool) -> Outcome<Life> {
        match self.order(&[if first { "first-life" } else { "life" }])?[..] {
            [start, call, end] => Ok(Life { start, call, end }),
            _ => Err("a life has three parts".into()),
        }
    }

    /// A call in a cage that stands.
    pub(crate) fn call(&mut self, tool: Tool) -> Outcome<Duration> {
        self.one(&["call", word_of(tool)])
    }

    /// The same on the host: by a shell that stands, or by reading the file.
    pub(crate) fn on_host(&mut self, tool: Tool) -> Outcome<Duration> {
        self.one(&["host", word_of(tool)])
    }

    /// Starts a program and waits for its good end.
    pub(crate) fn program(&mut self, words: &[String]) -> Outcome<Duration> {
        let mut order = vec!["program"];
        order.extend(words.iter().map(String::as_str));
        self.one(&order)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends with its orders, and takes its cages along.
        self.orders = None;
        let _ = self.child.wait();
    }
}

fn word_of(tool: Tool) -> &'static str {
    match tool {
        Tool::Program => "program",
        Tool::Builtin => "builtin",
        Tool::Read => "read",
    }
}

fn tool_of(word: &str) -> Outcome<Tool> {
    let all = [Tool::Program, Tool::Builtin, Tool::Read];
    let tool = all.into_iter().find(|tool| word_of(*tool) == word);
    tool.ok_or_else(|| format!("{word} is no tool").into())
}

/// Is a worker until there are no more orders.
pub(crate) fn main(folder: &Path) -> ExitCode {
    match serve(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("posthouse-bench: a worker has failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &Path) -> Outcome<()> {
    let mut desk = Desk { own: Own::new(&folder.join("sandboxes"))?, standing: None, shell: None };
    for line in std::io::stdin().lines() {
        let words: Vec<String> = serde_json::from_str(&line?)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = match desk.follow(&words) {
            Ok(times) => {
                json!(times.iter().map(|time| time.as_nanos() as u64).collect::<Vec<_>>())
            }
            Err(failure) => json!({ "failed": failure.to_string() }),
        };
        let mut output = std::io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

/// What a worker holds.
struct Desk {
    own: Own,
    /// The session of the cage that stands.
    standing: Option<Place>,
    /// The shell on the host.
    shell: Option<Shell>,
}

impl Desk {
    fn follow(&mut self, words: &[&str]) -> Outcome<Vec<Duration>> {
        match words {
            ["life"] => self.life(),
            ["first-life"] => {
                self.own.dismiss_launcher();
                self.life()
            }
            ["call", tool] => {
                let place = match self.standing.take() {
                    Some(place) => place,
                    None => self.own.place(),
                };
                let place = self.standing.insert(place);
                Ok(vec![self.own.call(place, tool_of(tool)?)?])
            }
            ["host", tool] => self.on_host(tool_of(tool)?),
            ["program", program, arguments @ ..] => Ok(vec![run_program(program, arguments)?]),
            _ => Err(format!("{words:?} is no order").into()),
        }
    }

    fn life(&mut self) -> Outcome<Vec<Duration>> {
        let Life { start, call, end } = self.own.life()?;
        Ok(vec![start, call, end])
    }

    fn on_host(&mut self, tool: Tool) -> Outcome<Vec<Duration>> {
        let shell = match self.shell.take() {
            Some(shell) => shell,
            None => Shell::start()?,
        };
        let shell = self.shell.insert(shell);
        let began = Instant::now();
        match tool {
            Tool::Program => shell.run("/bin/true")?,
            Tool::Builtin => shell.run(":")?,
            Tool::Read => drop(std::fs::read(SMALL_FILE)?),
        }
        Ok(vec![began.elapsed()])
    }
}

/// Time until a program has ended well. When it has not, it is run again to hear why.
fn run_program(program: &str, arguments: &[&str]) -> Outcome<Duration> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(ENVIRONMENT).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().map_err(|error| format!("{program}: {error}"))?;
    let passed = began.elapsed();
    if status.success() {
        return Ok(passed);
    }
    let again = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let said = [again.stderr, again.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("says nothing");
    Err(format!("{status}: {said}").into())
}

/// A shell on the host that stands, as the cage's does.
struct Shell {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Outcome<Self> {
        let mut child = Command::new("/bin/bash")
            .args(["--noprofile", "--norc"])
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let gone = || Failure::from("a shell without pipes");
        let (orders, answers) = (orders.ok_or_else(gone)?, answers.ok_or_else(gone)?);
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    fn run(&mut self, command: &str) -> Outcome<()> {
        self.orders.write_all(format!("{command}\necho $?\n").as_bytes())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim() {
            "0" => Ok(()),
            code => Err(format!("the host's shell has failed at {command}: {code:?}").into()),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // A shell that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
