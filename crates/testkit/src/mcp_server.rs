//! A fake MCP server: tools that are easily asserted on, and every way to misbehave that a client has
//! to bear. Its JSON-RPC is written by hand, so that it can be wrong.
//!
//! Holds the server's life. Never calls out, and never keeps anything on disk.

mod routes;
mod stdio;
mod stream;
mod switches;
mod talk;
mod tools;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use axum::serve::ListenerExt as _;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{broadcast, oneshot},
};

use self::talk::Stage;
pub use self::{
    stdio::serve_stdio,
    switches::{Hostility, Switches},
    talk::Asked,
};
use crate::Error;

/// A running fake MCP server, on a thread of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct McpServer {
    address: SocketAddr,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What requests share. Clones are the same.
#[derive(Debug, Clone)]
struct Shared {
    stage: Arc<Mutex<Stage>>,
    changes: broadcast::Sender<()>,
}

impl Shared {
    fn new(switches: Switches) -> Self {
        let stage = Stage { switches, ..Stage::default() };
        Self { stage: Arc::new(Mutex::new(stage)), changes: broadcast::channel(16).0 }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // What a panic left behind is still worth asserting on.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> broadcast::Receiver<()> {
        self.changes.subscribe()
    }

    fn change_tools(&self) {
        self.stage().edition += 1;
        self.tell_change();
    }

    fn tell_change(&self) {
        if self.stage().switches.list_changed {
            // Perhaps nobody listens.
            let _ = self.changes.send(());
        }
    }

    fn forget(&self) {
        let mut stage = self.stage();
        stage.asked.clear();
        stage.abandoned.clear();
        stage.counts.clear();
    }
}

impl McpServer {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If nothing can be listened on: a test cannot go on without its server.
    pub async fn start(switches: Switches) -> Self {
        match Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), switches).await {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn listen(address: SocketAddr, switches: Switches) -> Result<Self, Error> {
        let shared = Shared::new(switches);
        let (stop, stopped) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("mcp-server".to_owned())
            .spawn(move || serve(address, served, started, stopped))
            .map_err(Error::Thread)?;
        let lost = |_| Err(std::io::Error::other("the thread ended"));
        let address =
            start.await.unwrap_or_else(lost).map_err(|source| Error::Listen { address, source })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of its endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What it was asked, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.stage().asked.clone()
    }

    /// The ids of requests that were cancelled, or whose stream was left before its end.
    #[must_use]
    pub fn abandoned(&self) -> Vec<Value> {
        self.shared.stage().abandoned.clone()
    }

    /// How often each tool was called.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.stage().counts.clone()
    }

    /// The sessions that it knows.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        self.shared.stage().sessions.clone()
    }

    /// Changes how it behaves from the next request on.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.shared.stage().switches);
    }

    /// Adds a tool, and tells who listens.
    pub fn change_tools(&self) {
        self.shared.change_tools();
    }

    /// Forgets all sessions: they answer 404 from now on.
    pub fn forget_sessions(&self) {
        self.shared.stage().sessions.clear();
    }

    /// Forgets what it was asked, and how often.
    pub fn forget(&self) {
        self.shared.forget();
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(listener.local_addr());
        // Answers leave in more than one write, and the second must not wait for the first to be seen.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::select! {
            _ = axum::serve(listener, routes::router(shared)) => {}
            _ = stopped => {}
        }
    });
}
