//! Starting and stopping a server.
//!
//! Start: key check → database and migrations → bind → root keys → keys → workers → listening. Stop: accept
//! nothing more, tell streams to end, let workers finish within the grace, close the database.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::serve::ListenerExt as _;
use posthouse_engine::{
    Chance, Clock, Connected, Engine, OutsideParts, Parts, VaultParts, Vaults, sessions, step,
};
use posthouse_model::Providers;
use posthouse_store::{
    Blobs, Database, Durability, Log, Options,
    answers::{self, Unwritten},
    tables::files,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::{
    Error,
    api::{self, App, Shared, call::now},
    config::Config,
    crash, egress,
    keys::{Keys, Opened},
    local::LocalServer,
    root_keys::Keyring,
    rules::ProviderRules,
    sandbox, web,
};

/// How long a stop waits for what is under way.
pub const GRACE: Duration = Duration::from_secs(10);

/// How often what nobody needs any more is forgotten: answers that can't be given again, and
/// states of sessions at rest.
const SWEEP: Duration = Duration::from_secs(15);

/// How often sandboxes are looked at that nobody needs any more.
const TICK: Duration = Duration::from_secs(1);

/// A server that listens.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The same for clients on this machine, `http://127.0.0.1:8787`.
    pub url: String,
    /// The first API key, when it was made just now: the only time that it is known.
    pub generated_key: Option<String>,
    /// What its handlers share.
    pub app: Shared,
    local: LocalServer,
    config: Config,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    sweeping: JoinHandle<()>,
    learning: JoinHandle<()>,
}

/// Starts a server; it listens when this returns.
///
/// # Errors
/// [`Error::OpenWithoutKey`], [`Error::Store`], [`Error::Bind`], [`Error::File`],
/// [`Error::KeyFile`], [`Error::Config`].
pub async fn start(config: Config) -> Result<Running, Error> {
    if !config.listen.ip().is_loopback() && config.api_key.is_none() {
        return Err(Error::OpenWithoutKey(config.listen));
    }
    let database = Database::open(Options {
        folder: config.data.clone(),
        durability: Durability::Disk,
        faults: crash::from_environment(),
    })?;
    let blobs = Blobs::open(&config.data)?;
    let left = blobs.sweep(&database)?;
    if left > 0 {
        tracing::info!(left, "deleted what a crash had left of files");
    }
    let bind = |source| Error::Bind { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let guard = egress::guard(&config, address)?;
    let keyring = Keyring::open(&config, &guard)?;
    for (root_key, vaults) in keyring.missing(&database)? {
        tracing::error!(
            root_key,
            vaults,
            "vaults can't be opened: their root key is not among those that are configured"
        );
    }
    let vaults = Vaults::new(VaultParts {
        database: database.clone(),
        keys: keyring.keys(),
        guard: guard.clone(),
        clock: Clock::System,
        chance: Chance::system(),
    });
    let Opened { keys, token, generated } =
        Keys::open(&database, config.api_key.as_deref(), now()).await?;
    let mut boot = [0; 16];
    getrandom::fill(&mut boot).map_err(Error::Random)?;
    let (stop, stopping) = watch::channel(false);
    let boot = posthouse_store::record::hex(&boot);
    let log = Log::new(database.clone(), Arc::new(sessions::fold_row));
    // Sessions that are about to go on may have names that only a list explains.
    config.providers.learn_local().await;
    let hands = sandbox::hands(&config, guard.clone(), &log, &blobs, &vaults)?;
    let outside = Connected::new(OutsideParts {
        guard: guard.clone(),
        vaults: vaults.clone(),
        hands: Arc::clone(&hands),
        mcp: config.mcp.servers.clone(),
        reader: web::reader(&config, guard.clone()),
        search: web::search(&config, guard.clone())?,
    });
    let engine = Engine::new(Parts {
        log,
        providers: config.providers.clone(),
        hands,
        outside: Arc::new(outside),
        limits: step::Limits {
            requests_per_turn: config.limits.model_requests_per_turn,
            search: config.web.search.is_some(),
        },
        clock: Clock::System,
        chance: Chance::system(),
        boot: boot.as_str().into(),
        idle: !config.harness,
    });
    engine.take_over().await?;
    let app = Arc::new(App {
        rules: Arc::new(ProviderRules {
            providers: config.providers.clone(),
            search: config.web.search.is_some(),
        }),
        engine: engine.clone(),
        vaults,
        guard,
        keyring,
        database: database.clone(),
        blobs: blobs.clone(),
        files: config.files,
        keys,
        boot,
        unwritten: Unwritten::default(),
        stopping: stopping.clone(),
        mcp: api::mcp::endpoint(&config),
    });
    let learning = spawn_learn(config.providers.clone(), stopping.clone());
    let sweeping = spawn_sweep(database, blobs, engine, stopping.clone());
    let url = format!("http://{}", reachable(address));
    let local = LocalServer { url: url.clone(), token, pid: std::process::id() };
    local.write(&config.data)?;
    let serving = spawn_serve(listener, Arc::clone(&app), stopping);
    Ok(Running {
        address,
        url,
        generated_key: generated,
        app,
        local,
        config,
        stop,
        serving,
        sweeping,
        learning,
    })
}

impl Running {
    /// The token of this start.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.local.token
    }

    /// The configuration that it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Stops; what is not done after `grace` is dropped and goes on after the next start.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let serving = timeout(grace, &mut self.serving);
        // Both have the same grace, at the same time: requests may wait for sessions.
        let ((), served) = tokio::join!(self.app.engine.stop(grace), serving);
        if served.is_err() {
            self.serving.abort();
        }
        self.app.mcp.end();
        // Before the sandboxes, in which some of it lives.
        self.app.engine.outside().stop().await;
        self.app.engine.hands().stop().await;
        // No door is left that could decide anything.
        self.app.vaults.flush_records().await;
        self.sweeping.abort();
        self.learning.abort();
        self.local.remove(&self.config.data);
        let app = Arc::clone(&self.app);
        // Closing waits for the committer, which may still have a queue.
        let _ = tokio::task::spawn_blocking(move || app.database.close()).await;
    }
}

/// Ends when the server stops and the last connection is done.
#[expect(clippy::disallowed_methods, reason = "ends with `stopping`; `Running::stop` waits for it")]
fn spawn_serve(
    listener: TcpListener,
    app: Shared,
    mut stopping: watch::Receiver<bool>,
) -> JoinHandle<std::io::Result<()>> {
    // Events are small and shall leave at once.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection can't be told not to wait");
        }
    });
    tokio::spawn(async move {
        axum::serve(listener, api::router(app))
            .with_graceful_shutdown(async move {
                // A sender that is gone has stopped, too.
                let _ = stopping.wait_for(|stop| *stop).await;
            })
            .await
    })
}

/// Ends when the server stops.
#[expect(clippy::disallowed_methods, reason = "ends with `stopping`; `Running::stop` aborts it")]
fn spawn_sweep(
    database: Database,
    blobs: Blobs,
    engine: Engine,
    mut stopping: watch::Receiver<bool>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut swept = Instant::now();
        while timeout(TICK, stopping.wait_for(|stop| *stop)).await.is_err() {
            engine.outside().sweep();
            engine.hands().sweep();
            if swept.elapsed() < SWEEP {
                continue;
            }
            swept = Instant::now();
            engine.sweep();
            let at = now();
            let swept = database.write(move |connection| answers::prune(connection, at)).await;
            if let Err(error) = swept {
                tracing::warn!(%error, "old answers were not deleted");
            }
            if let Err(error) = expire_files(&database, &blobs, &engine).await {
                tracing::warn!(%error, "old files were not deleted");
            }
        }
    })
}

/// Ends when the server stops.
#[expect(clippy::disallowed_methods, reason = "ends with `stopping`; `Running::stop` aborts it")]
fn spawn_learn(providers: Providers, mut stopping: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = providers.keep_learning() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    })
}

/// Takes their contents from files whose time has come.
async fn expire_files(
    database: &Database,
    blobs: &Blobs,
    engine: &Engine,
) -> Result<(), posthouse_store::Error> {
    let at = now();
    for session in database.write(move |connection| files::expire(connection, at)).await? {
        engine.mounts_changed(&session).await;
    }
    blobs.bury(database).await.map(drop)
}

/// An address that connects from this machine, for one that may stand for all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(_) if address.ip().is_unspecified() => [127, 0, 0, 1].into(),
        SocketAddr::V6(_) if address.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}
