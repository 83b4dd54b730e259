//! Our own cages, driven through the library as the server drives them.
//!
//! Holds no figures: it does one thing at a time and says how long each part took.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use posthouse_net::{Guard, Rules};
use posthouse_sandbox::{
    Cages, Isolation, Limits, Live, Networking, Place, Settings, door::Nobody, settings::Start,
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::Outcome;

/// How long the last cage may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// The parts of one cage's life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// Until it stands.
    pub(crate) start: Duration,
    /// Its first call.
    pub(crate) call: Duration,
    /// Until none of its processes is left.
    pub(crate) end: Duration,
}

/// Cages like a server's, and the runtime that they need.
pub(crate) struct Own {
    runtime: Runtime,
    cages: Arc<Cages>,
    sessions: i64,
    calls: u64,
}

impl Own {
    /// Cages whose files are in a folder.
    pub(crate) fn new(folder: &Path) -> Outcome<Self> {
        Self::with_rules(folder, Rules::default())
    }

    /// The same, whose connections to the outside follow an operator's rules.
    pub(crate) fn with_rules(folder: &Path, rules: Rules) -> Outcome<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let settings = Settings {
            isolation: Isolation::Namespaces,
            limits: Limits::default(),
            // A sweep lets go of whatever is not in use; nobody sweeps unasked.
            warm: Duration::ZERO,
            start: Start::Lazy,
            folder: folder.to_owned(),
            helper: "/proc/self/exe".into(),
            delay: Duration::ZERO,
        };
        let _inside = runtime.enter();
        let cages = Cages::new(settings, Guard::new(rules, Vec::new()))?;
        drop(_inside);
        Ok(Self { runtime, cages, sessions: 0, calls: 0 })
    }

    /// A session that nobody has had before.
    pub(crate) fn place(&mut self) -> Place {
        self.sessions += 1;
        Place {
            session: format!("sesn_bench{}", self.sessions).into(),
            number: self.sessions,
            networking: Networking::default(),
            keeper: Arc::new(Nobody),
            mounts: Arc::new(|| Ok(Vec::new())),
        }
    }

    /// Starts a session's cage; returns how long it took to stand.
    pub(crate) fn start(&self, place: &Place) -> Outcome<Duration> {
        let (cages, place) = (Arc::clone(&self.cages), place.clone());
        self.on_runtime(async move {
            let began = Instant::now();
            cages.start(place.clone()).await?;
            Ok(began.elapsed())
        })
    }

    /// Runs a tool; returns how long its result took.
    pub(crate) fn call(&mut self, place: &Place, tool: Tool) -> Outcome<Duration> {
        let (cages, place, call) = (Arc::clone(&self.cages), place.clone(), self.next_call());
        self.on_runtime(async move {
            let began = Instant::now();
            run(&cages, &place, &call, tool).await?;
            Ok(began.elapsed())
        })
    }

    /// Runs a command; returns what it has printed. The cage is started if it does not stand.
    pub(crate) fn bash(&mut self, place: &Place, command: &str) -> Outcome<String> {
        let (cages, place, call) = (Arc::clone(&self.cages), place.clone(), self.next_call());
        let input = json!({ "command": command });
        self.on_runtime(async move {
            let outcome = cages.call(&place, &call, "bash", input, ()).await?;
            match outcome.content[0]["text"].as_str() {
                Some(text) if !outcome.is_error => Ok(text.to_owned()),
                Some(text) => Err(text.into()),
                None => Err(format!("bash was answered with {}", outcome.content).into()),
            }
        })
    }

    /// The whole life of a cage with one call, of a session without a past. Its files stay, as
    /// they do in earnest: some file systems are slow to make folders where others were deleted.
    pub(crate) fn life(&mut self) -> Outcome<Life> {
        let (cages, place, call) = (Arc::clone(&self.cages), self.place(), self.next_call());
        self.on_runtime(async move {
            let began = Instant::now();
            cages.start(place.clone()).await?;
            let standing = Instant::now();
            run(&cages, &place, &call, Tool::Program).await?;
            let done = Instant::now();
            if !cages.kill(&place.session).await {
                return Err("the cage had ended before it was killed".into());
            }
            Ok(Life { start: standing - began, call: done - standing, end: done.elapsed() })
        })
    }

    /// Sends the launcher away, so that the next cage has to wait for a new one.
    pub(crate) fn dismiss_launcher(&self) {
        self.cages.sweep();
        // Its thread is still waiting for the process to be gone.
        std::thread::sleep(Duration::from_millis(10));
    }

    /// All cages that are alive.
    pub(crate) fn live(&self) -> Vec<Live> {
        self.cages.live()
    }

    fn next_call(&mut self) -> String {
        self.calls += 1;
        format!("sevt_bench{}", self.calls)
    }

    /// On a thread of the runtime, where the server's calls are, too: whoever waits from outside
    /// would count being woken.
    #[expect(clippy::disallowed_methods, reason = "waited for on the spot")]
    fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        self.runtime.block_on(async { tokio::task::spawn(work).await? })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.cages.end_all();
        let began = Instant::now();
        while !self.cages.live().is_empty() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    /// `bash` with a program.
    Program,
    /// `bash` with what the shell does by itself.
    Builtin,
    /// `read` of a small file.
    Read,
}

/// A small file that is the same inside and outside.
pub(crate) const SMALL_FILE: &str = "/usr/lib/os-release";

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Program | Self::Builtin => "bash",
            Self::Read => "read",
        }
    }

    fn input(self) -> Value {
        match self {
            Self::Program => json!({ "command": "/bin/true" }),
            Self::Builtin => json!({ "command": ":" }),
            Self::Read => json!({ "file_path": SMALL_FILE }),
        }
    }
}

async fn run(cages: &Cages, place: &Place, call: &str, tool: Tool) -> Outcome<()> {
    let outcome = cages.call(place, call, tool.name(), tool.input(), ()).await?;
    let text = outcome.content[0]["text"].as_str().unwrap_or_default();
    // A shell that had to be started anew says so.
    let good = !outcome.is_error && (tool.name() != "bash" || text == "(no output)");
    match good {
        true => Ok(()),
        false => Err(format!("{} was answered with {}", tool.name(), outcome.content).into()),
    }
}
