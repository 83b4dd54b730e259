//! The scripted model: a server that plays model providers over their real wires, as a script says.
//!
//! Holds the server's life. Never calls out, and never keeps anything on disk.

mod anthropic;
mod body;
mod captured;
mod chat;
mod checks;
mod connection;
mod conversations;
mod failure;
mod fixtures;
mod frames;
mod gemini;
mod listings;
mod openai;
mod outline;
mod playable;
mod prompt_cache;
mod responses;
mod routes;
pub(crate) mod script;
mod stage;
mod transcript;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::net::TcpSocket;
use tokio::sync::oneshot;

pub use self::captured::Captured;
use self::connection::{CuttableListener, Scissors};
use self::script::{Reply, Script};
use self::stage::Stage;
use crate::Error;

// A bench opens thousands of connections at once; a connection that does not fit is retried after a whole second.
const BACKLOG: u32 = 4_096;

/// A running scripted model. It serves on a thread of its own, so that neither a paused clock nor a blocked runtime
/// of the test disturbs it.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    violations_allowed: AtomicBool,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Stage>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Shared")
    }
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        // What a panic left behind is still worth asserting on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptedModel {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If the script cannot be played or nothing can be listened on: a test cannot go on without its model.
    pub async fn start(script: impl Into<Script>) -> Self {
        match Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), script.into()).await {
            Ok(model) => model,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the script cannot be played or the address cannot be listened on.
    pub async fn listen(address: SocketAddr, script: Script) -> Result<Self, Error> {
        script.check()?;
        let shared = Shared(Arc::new(Mutex::new(Stage::new(script))));
        let (stop, stopped) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn(move || serve(address, served, started, stopped))
            .map_err(Error::Thread)?;
        let lost = |_| Err(std::io::Error::other("the thread ended"));
        let address =
            start.await.unwrap_or_else(lost).map_err(|source| Error::Listen { address, source })?;
        let violations_allowed = AtomicBool::new(false);
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread), violations_allowed })
    }

    /// What to use as a provider's base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests to the provider's routes, oldest first: the last 10,000, or fewer if they exceed 256 MiB.
    #[must_use]
    pub fn requests(&self) -> Vec<Captured> {
        self.shared.stage().requests()
    }

    /// What the real API would have refused, and what it would have charged for twice: at most the first 1,000.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.stage().violations().to_vec()
    }

    /// The violations, which are then forgotten; for a test that provokes some and wants no others.
    #[must_use]
    pub fn take_violations(&self) -> Vec<String> {
        self.shared.stage().take_violations()
    }

    /// Keeps [`Drop`] from panicking when there were violations.
    pub fn allow_violations(&self) {
        self.violations_allowed.store(true, Ordering::Relaxed);
    }

    /// Replaces the script and forgets requests, conversations and cached prefixes. Violations stay.
    ///
    /// # Panics
    /// If the script cannot be played.
    pub fn set_script(&self, script: impl Into<Script>) {
        let script = script.into();
        if let Err(error) = script.check() {
            panic!("{error}");
        }
        self.shared.stage().set_script(script);
    }

    /// Appends a reply to the script.
    ///
    /// # Panics
    /// If the reply cannot be played.
    pub fn push(&self, reply: Reply) {
        if let Err(error) = reply.check("reply") {
            panic!("{error}");
        }
        self.shared.stage().push([reply]);
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let violations = self.violations();
        if !violations.is_empty()
            && !self.violations_allowed.load(Ordering::Relaxed)
            && !std::thread::panicking()
        {
            panic!("the scripted model saw violations:\n  {}", violations.join("\n  "));
        }
    }
}

// The runtime ends with the thread, and every connection with it.
fn serve(
    address: SocketAddr,
    shared: Shared,
    started: oneshot::Sender<std::io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let listener = match listener(address) {
            Ok(listener) => listener,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(listener.local_addr());
        let service = routes::router(shared).into_make_service_with_connect_info::<Scissors>();
        tokio::select! {
            _ = axum::serve(CuttableListener(listener), service) => {}
            _ = stopped => {}
        }
    });
}

fn listener(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
