//! Runs tool calls in cages without a server: for tests, benches and the curious.
//!
//! `posthouse-cage SETTINGS` takes the settings as one JSON object, then orders as lines of JSON
//! on standard input, and answers each with a line on standard output, in the order in which
//! they are done. The end of the input ends it and every cage.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use posthouse_net::{Guard, Rules};
use posthouse_sandbox::{
    Allowed, Cages, Isolation, Mount, Networking, Place, Program, ProgramPipe, Rule, Settings,
    Source, Used,
    door::{Decision, Keeper, Secret, Started, Unavailable, Use, Work},
    journal::Found,
    launcher,
    settings::Start,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Builder,
    sync::mpsc,
    task::AbortHandle,
};

/// How long an order to speak with a program waits for it.
const HEARING: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    folder: PathBuf,
    isolation: Isolation,
    memory: Option<u64>,
    processes: Option<u32>,
    cpus: Option<f64>,
    disk: Option<u64>,
    entries: Option<u64>,
    open_files: Option<u64>,
    file_size: Option<u64>,
    call_ms: Option<u64>,
    warm_ms: Option<u64>,
    delay_ms: u64,
    allow_private: Vec<String>,
    resolve: BTreeMap<String, SocketAddr>,
    /// A file of certificates that origins are checked against, too.
    trusted_roots: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    Call {
        session: Arc<str>,
        #[serde(default)]
        number: i64,
        #[serde(default)]
        networking: Network,
        #[serde(default)]
        mounts: Vec<Mounted>,
        call: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    Stop {
        call: String,
    },
    Recover {
        session: String,
        call: String,
    },
    Rest {
        session: String,
    },
    /// Keeps the session's cage from being ended for want of use, or does so no more.
    Hold {
        session: String,
        on: bool,
    },
    List,
    Kill {
        session: String,
    },
    Outputs {
        session: String,
    },
    /// What the session may use from now on. None stands for a vault that does not answer.
    Secrets {
        session: Arc<str>,
        secrets: Option<Vec<Given>>,
    },
    /// What was written down of the session's cages.
    Record {
        session: Arc<str>,
    },
    Mounts {
        session: String,
        mounts: Vec<Mounted>,
    },
    Delete {
        session: String,
    },
    /// Starts a program, whose pipe is kept under the name of `call`.
    Program {
        session: Arc<str>,
        #[serde(default)]
        number: i64,
        call: String,
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// Writes to a program.
    Tell {
        call: String,
        text: String,
    },
    /// Reads what a program says, once and at most so many bytes.
    Hear {
        call: String,
        bytes: usize,
    },
    /// Drops a program's pipe.
    Drop {
        call: String,
    },
    /// Puts a text into a file, as if it were too long for a model.
    Keep {
        session: Arc<str>,
        #[serde(default)]
        number: i64,
        call: String,
        text: String,
    },
}

/// What keeps cages, by their sessions.
type Holds = Mutex<HashMap<String, Used>>;

/// The pipes of programs.
type Pipes = Arc<tokio::sync::Mutex<HashMap<String, ProgramPipe>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Network {
    Unrestricted,
    /// These hosts alone.
    Limited(Vec<String>),
    #[default]
    None,
}

/// A secret, as an order gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: String,
    placeholder: String,
    value: String,
    hosts: Option<Vec<String>>,
    #[serde(default)]
    header: bool,
    #[serde(default)]
    body: bool,
}

impl fmt::Debug for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Given").field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<Given> for Secret {
    fn from(given: Given) -> Self {
        let Given { name, placeholder, value, hosts, header, body } = given;
        Self {
            credential: format!("vcrd_{name}").into(),
            vault: "vlt_driver".into(),
            name: name.into(),
            placeholder: placeholder.into(),
            value: value.into(),
            hosts,
            header,
            body,
        }
    }
}

/// Keeps what one session was given, and in memory what would be written down.
#[derive(Debug)]
struct Recorder(Mutex<Held>);

#[derive(Debug)]
struct Held {
    secrets: Option<Arc<[Secret]>>,
    uses: Vec<Use>,
    decisions: Vec<Decision>,
    started: Vec<Started>,
}

impl Recorder {
    fn new() -> Self {
        let (uses, decisions, started) = (Vec::new(), Vec::new(), Vec::new());
        Self(Mutex::new(Held { secrets: Some(Arc::new([])), uses, decisions, started }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) -> Value {
        let held = self.held();
        let decisions = held.decisions.iter().map(|Decision { host, port, allowed, rule }| {
            json!({ "host": host, "port": port, "allowed": allowed, "rule": rule })
        });
        let decisions: Vec<_> = decisions.collect();
        json!({ "uses": held.uses, "decisions": decisions, "started": held.started })
    }
}

impl Keeper for Recorder {
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>> {
        let secrets = self.held().secrets.clone().ok_or(Unavailable);
        Box::pin(std::future::ready(secrets))
    }

    fn used(&self, uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>> {
        self.held().uses.extend(uses);
        Box::pin(std::future::ready(Ok(())))
    }

    fn decided(&self, decision: Decision) {
        self.held().decisions.push(decision);
    }

    fn started(&self, started: Started) {
        self.held().started.push(started);
    }
}

/// The keeper of each session.
type Recorders = Mutex<HashMap<Arc<str>, Arc<Recorder>>>;

fn recorder_of(recorders: &Recorders, session: &Arc<str>) -> Arc<Recorder> {
    let mut recorders = recorders.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(Recorder::new());
    Arc::clone(recorders.entry(Arc::clone(session)).or_insert_with(new))
}

#[derive(Debug, Deserialize)]
struct Mounted {
    path: PathBuf,
    literal: Option<PathBuf>,
    source: PathBuf,
}

fn main() -> ExitCode {
    if launcher::is_called() {
        launcher::main();
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({ "fatal": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run() -> Result<(), Failure> {
    let text = std::env::args().nth(1).ok_or("say the settings as one JSON object")?;
    let options: Options = serde_json::from_str(&text)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(serve(options));
    // A read of the standard input that nobody needs any more must not keep it.
    runtime.shutdown_background();
    done
}

async fn serve(options: Options) -> Result<(), Failure> {
    let cages = Cages::new(settings(&options), guard(&options)?)?;
    say(&json!({ "ready": true }));
    let running: Arc<Mutex<HashMap<String, AbortHandle>>> = Arc::default();
    let recorders = Recorders::default();
    let pipes = Pipes::default();
    let holds = Holds::default();
    let mut lines = read_input();
    let mut seconds = tokio::time::interval(Duration::from_millis(100));
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = seconds.tick() => {
                cages.sweep();
                continue;
            }
        };
        let Some(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Order::Hold { session, on }) => hold(&cages, &holds, session, on),
            Ok(order) => follow(&cages, &running, &recorders, &pipes, order),
            Err(error) => say(&json!({ "bad": error.to_string() })),
        }
    }
    cages.end_all();
    Ok(())
}

fn hold(cages: &Cages, holds: &Holds, session: String, on: bool) {
    let mut holds = holds.lock().unwrap_or_else(PoisonError::into_inner);
    let held = cages.hold(&session).filter(|_| on);
    let is_held = held.is_some();
    match held {
        Some(held) => drop(holds.insert(session, held)),
        None => drop(holds.remove(&session)),
    }
    say(&json!({ "held": is_held }));
}

/// The lines of standard input, read by a thread that blocks.
fn read_input() -> mpsc::UnboundedReceiver<String> {
    let (line, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for read in std::io::stdin().lines().map_while(Result::ok) {
            if line.send(read).is_err() {
                break;
            }
        }
    });
    lines
}

#[expect(clippy::disallowed_methods, reason = "ends with its order, or with the program")]
fn follow(
    cages: &Arc<Cages>,
    running: &Arc<Mutex<HashMap<String, AbortHandle>>>,
    recorders: &Recorders,
    pipes: &Pipes,
    order: Order,
) {
    let cages = Arc::clone(cages);
    let lock = |running: &Mutex<HashMap<String, AbortHandle>>, call: &str| {
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(call)
    };
    match order {
        Order::Call { session, number, networking, mounts, call, name, input } => {
            let listed = |host| Allowed { host, rule: Rule::AllowedHosts };
            let allowed = match networking {
                Network::Unrestricted => None,
                Network::Limited(hosts) => Some(hosts.into_iter().map(listed).collect()),
                Network::None => Some(Vec::new()),
            };
            let networking = Networking { allowed, passthrough: Vec::new() };
            let mounts = source_of(mounts);
            let place = Place { mounts, ..place(recorders, session, number, networking) };
            let (id, of_task) = (call.clone(), Arc::clone(running));
            let task = tokio::spawn(async move {
                let answer = match cages.call(&place, &call, &name, input, ()).await {
                    Ok(outcome) => json!({ "call": call, "outcome": outcome }),
                    Err(refused) => json!({ "call": call, "failed": refused.to_string() }),
                };
                lock(&of_task, &call);
                say(&answer);
            });
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            running.insert(id, task.abort_handle());
        }
        Order::Stop { call } => {
            let stopped = lock(running, &call).map(|task| task.abort()).is_some();
            say(&json!({ "call": call, "stopped": stopped }));
        }
        Order::Program { session, number, call, command, args, env } => {
            let closed = Networking { allowed: Some(Vec::new()), passthrough: Vec::new() };
            let place = place(recorders, session, number, closed);
            let program = Program { command, args, env: env.into_iter().collect() };
            let pipes = Arc::clone(pipes);
            tokio::spawn(async move {
                match cages.start_program(&place, program).await {
                    Ok(pipe) => {
                        pipes.lock().await.insert(call.clone(), pipe);
                        say(&json!({ "call": call, "began": true }));
                    }
                    Err(refused) => say(&json!({ "call": call, "failed": refused.to_string() })),
                }
            });
        }
        Order::Tell { .. } | Order::Hear { .. } | Order::Drop { .. } => {
            let pipes = Arc::clone(pipes);
            tokio::spawn(async move { say(&speak(&pipes, order).await) });
        }
        Order::Keep { session, number, call, text } => {
            let place = place(recorders, session, number, Networking::default());
            match cages.keep_text(&place, &call, &text) {
                Ok(path) => say(&json!({ "call": call, "kept": path })),
                Err(error) => say(&json!({ "call": call, "failed": error.to_string() })),
            }
        }
        Order::Rest { session } => {
            cages.rest(&session);
            say(&json!({ "rested": session }));
        }
        Order::List => {
            say(&json!({ "live": cages.live() }));
        }
        Order::Secrets { session, secrets } => {
            let secrets = secrets.map(|given| given.into_iter().map(Secret::from).collect());
            recorder_of(recorders, &session).held().secrets = secrets;
            say(&json!({ "given": session }));
        }
        Order::Record { session } => {
            say(&json!({ "record": recorder_of(recorders, &session).show() }));
        }
        order => {
            tokio::spawn(async move { say(&slow(&cages, order).await) });
        }
    }
}

/// A session's place without files of the user's.
fn place(recorders: &Recorders, session: Arc<str>, number: i64, networking: Networking) -> Place {
    let keeper = recorder_of(recorders, &session);
    Place { session, number, networking, keeper, mounts: source_of(Vec::new()) }
}

async fn speak(pipes: &Pipes, order: Order) -> Value {
    match order {
        // The pipe is kept for who speaks next, also when this one waits.
        Order::Tell { call, text } => {
            let taken = pipes.lock().await.remove(&call);
            let Some(mut pipe) = taken else { return json!({ "call": call, "failed": "busy" }) };
            let told = tokio::time::timeout(HEARING, pipe.write_all(text.as_bytes())).await;
            pipes.lock().await.insert(call.clone(), pipe);
            match told {
                Ok(Ok(())) => json!({ "call": call, "told": true }),
                Ok(Err(error)) => json!({ "call": call, "failed": error.to_string() }),
                Err(_) => json!({ "call": call, "told": false }),
            }
        }
        Order::Hear { call, bytes } => {
            let taken = pipes.lock().await.remove(&call);
            let Some(mut pipe) = taken else { return json!({ "call": call, "failed": "busy" }) };
            let mut buffer = vec![0; bytes];
            let heard = tokio::time::timeout(HEARING, pipe.read(&mut buffer)).await;
            pipes.lock().await.insert(call.clone(), pipe);
            match heard {
                Ok(Ok(count)) => {
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    json!({ "call": call, "heard": text, "over": count == 0 })
                }
                Ok(Err(error)) => json!({ "call": call, "failed": error.to_string() }),
                Err(_) => json!({ "call": call, "heard": "", "over": false }),
            }
        }
        Order::Drop { call } => {
            let dropped = pipes.lock().await.remove(&call).is_some();
            json!({ "call": call, "dropped": dropped })
        }
        _ => Value::Null,
    }
}

async fn slow(cages: &Cages, order: Order) -> Value {
    match order {
        Order::Recover { session, call } => match cages.find_call(&session, &call).await {
            Found::Finished(outcome) => {
                json!({ "call": call, "found": "finished", "outcome": outcome })
            }
            Found::Unknown => json!({ "call": call, "found": "unknown" }),
            Found::NeverRan => json!({ "call": call, "found": "never_ran" }),
        },
        Order::Kill { session } => json!({ "killed": cages.kill(&session).await }),
        Order::Delete { session } => match cages.delete(&session).await {
            Ok(()) => json!({ "deleted": true }),
            Err(error) => json!({ "deleted": false, "failed": error.to_string() }),
        },
        Order::Mounts { session, mounts } => {
            match cages.mounts_changed(&session, &source_of(mounts)) {
                Ok(()) => json!({ "mounted": true }),
                Err(error) => json!({ "mounted": false, "failed": error.to_string() }),
            }
        }
        Order::Outputs { session } => match cages.outputs(&session) {
            Ok(outputs) => {
                let outputs: Vec<_> = outputs
                    .iter()
                    .map(|one| json!({ "path": one.path.to_string_lossy(), "size": one.size }))
                    .collect();
                json!({ "outputs": outputs })
            }
            Err(error) => json!({ "failed": error.to_string() }),
        },
        Order::Call { .. }
        | Order::Program { .. }
        | Order::Tell { .. }
        | Order::Hear { .. }
        | Order::Drop { .. }
        | Order::Keep { .. }
        | Order::Stop { .. }
        | Order::List
        | Order::Rest { .. }
        | Order::Secrets { .. }
        | Order::Record { .. }
        | Order::Hold { .. } => Value::Null,
    }
}

fn source_of(mounts: Vec<Mounted>) -> Source {
    let mounts: Vec<_> = mounts
        .into_iter()
        .map(|Mounted { path, literal, source }| Mount { path, literal, source })
        .collect();
    Arc::new(move || Ok(mounts.clone()))
}

fn settings(options: &Options) -> Settings {
    let mut limits = posthouse_sandbox::Limits::default();
    limits.memory = options.memory.unwrap_or(limits.memory);
    limits.processes = options.processes.unwrap_or(limits.processes);
    limits.cpus = options.cpus.unwrap_or(limits.cpus);
    limits.disk = options.disk.unwrap_or(limits.disk);
    limits.entries = options.entries.unwrap_or(limits.entries);
    limits.open_files = options.open_files.unwrap_or(limits.open_files);
    limits.file_size = options.file_size.unwrap_or(limits.file_size);
    limits.call = options.call_ms.map_or(limits.call, Duration::from_millis);
    Settings {
        isolation: options.isolation,
        limits,
        warm: Duration::from_millis(options.warm_ms.unwrap_or(30_000)),
        start: Start::Lazy,
        folder: options.folder.clone(),
        helper: "/proc/self/exe".into(),
        delay: Duration::from_millis(options.delay_ms),
    }
}

fn guard(options: &Options) -> Result<Guard, Failure> {
    let mut rules = Rules { resolve: options.resolve.clone(), ..Rules::default() };
    for network in &options.allow_private {
        rules.allow_private.push(network.parse()?);
    }
    if let Some(file) = &options.trusted_roots {
        rules.trusted_roots = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    }
    Ok(Guard::new(rules, Vec::new()))
}

fn say(answer: &Value) {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    // Nobody reads any more: then nobody is told.
    let _ = writeln!(output, "{answer}").and_then(|()| output.flush());
}
