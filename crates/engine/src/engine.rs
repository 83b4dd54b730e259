//! The engine: wakes sessions, and knows which of them are being worked on.
//!
//! One drive per session and process; the lease in the session's row settles it between
//! processes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use posthouse_model::Providers;
use posthouse_protocol::id::IdKind;
use posthouse_store::{Error, Faults, Log};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{
    cache::Cache,
    clock::{Chance, Clock},
    drive::{self, Stopped},
    step::Limits,
    tools::Hands,
};

/// The statuses of sessions that somebody has to work on.
const WORKING: &[&str] = &["running", "rescheduling"];

/// How long a drive waits before it tries a store again that has failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Everything that an engine is made of.
pub struct Parts {
    /// The logs.
    pub log: Log,
    /// The models.
    pub providers: Providers,
    /// The tools.
    pub hands: Arc<dyn Hands>,
    /// Settings.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// Ids and jitter.
    pub chance: Chance,
    /// The name of this process' life, which holds its leases.
    pub boot: Arc<str>,
    /// Whether it only takes input and works on nothing.
    pub idle: bool,
}

/// A running engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

/// What drives share.
pub(crate) struct Core {
    pub(crate) log: Log,
    pub(crate) providers: Providers,
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    pub(crate) boot: Arc<str>,
    pub(crate) cache: Cache,
    idle: bool,
    drives: Mutex<HashMap<Arc<str>, Driven>>,
    /// Told whenever a drive has ended.
    ended: Notify,
}

struct Driven {
    /// Whether something has come since the drive last looked.
    again: bool,
    poked: Arc<Notify>,
    task: Option<AbortHandle>,
}

impl Core {
    pub(crate) fn faults(&self) -> &Faults {
        self.log.database().faults()
    }

    pub(crate) fn new_event_id(&self) -> Arc<str> {
        IdKind::Event.mint(self.clock.now(), self.chance.bytes()).into()
    }

    fn drives(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Driven>> {
        self.drives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// An engine that works on nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { log, providers, hands, limits, clock, chance, boot, idle } = parts;
        Self {
            core: Arc::new(Core {
                log,
                providers,
                hands,
                limits,
                clock,
                chance,
                boot,
                idle,
                cache: Cache::default(),
                drives: Mutex::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// The logs.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.core.log
    }

    /// The models.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.core.providers
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The source of ids.
    #[must_use]
    pub fn chance(&self) -> &Chance {
        &self.core.chance
    }

    /// The name of this process' life, which holds its leases.
    #[must_use]
    pub fn boot(&self) -> &Arc<str> {
        &self.core.boot
    }

    /// Takes over everything that a former life has left: raises the fences of its leases and
    /// wakes every session that was at work. The folder's lock must be ours.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn take_over(&self) -> Result<usize, Error> {
        let sessions = self.core.log.take_over(WORKING).await?;
        for session in &sessions {
            self.wake(session);
        }
        Ok(sessions.len())
    }

    /// Sees to it that a session is worked on, now and by one drive. Cheap, and never wrong to
    /// call once too often.
    pub fn wake(&self, session: &str) {
        if self.core.idle {
            return;
        }
        let mut drives = self.core.drives();
        if let Some(driven) = drives.get_mut(session) {
            driven.again = true;
            driven.poked.notify_one();
            return;
        }
        let session: Arc<str> = session.into();
        let poked = Arc::new(Notify::new());
        let core = Arc::clone(&self.core);
        let work = work_on(core, Arc::clone(&session), Arc::clone(&poked));
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when the session is at rest; `stop` waits for it and aborts it"
        )]
        let task = tokio::task::spawn(work).abort_handle();
        drives.insert(session, Driven { again: false, poked, task: Some(task) });
    }

    /// How many sessions are being worked on.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.core.drives().len()
    }

    /// Forgets states that have not been needed for a while. To be called every few seconds.
    pub fn sweep(&self) {
        self.core.cache.sweep();
    }

    /// Waits until all drives have ended, at most `grace`, then ends them where they stand:
    /// their sessions go on at the next start.
    pub async fn stop(&self, grace: Duration) {
        let quiet = async {
            loop {
                let ended = self.core.ended.notified();
                if self.busy() == 0 {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(grace, quiet).await.is_err() {
            for (_, driven) in self.core.drives().drain() {
                if let Some(task) = driven.task {
                    task.abort();
                }
            }
        }
    }

    /// Ends all drives where they stand, as a crash would.
    pub fn abandon(&self) {
        for (_, driven) in self.core.drives().drain() {
            if let Some(task) = driven.task {
                task.abort();
            }
        }
    }
}

/// Drives a session until it is at rest and nothing more has come.
async fn work_on(core: Arc<Core>, session: Arc<str>, poked: Arc<Notify>) {
    loop {
        let result = drive::drive(&core, &session, &poked).await;
        match &result {
            Ok(()) => {}
            Err(Stopped::Stale) => tracing::debug!(%session, "another harness holds the session"),
            Err(Stopped::Crash(_)) => {}
            Err(Stopped::Log(reason)) => {
                tracing::error!(%session, reason, "the log can't be continued");
                if let Err(error) = drive::give_up(&core, &session).await {
                    tracing::error!(%session, %error, "the session was not ended");
                }
            }
            Err(Stopped::Store(error)) => tracing::error!(%session, %error, "the store failed"),
        }
        if matches!(result, Err(Stopped::Store(_))) {
            tokio::time::sleep(STORE_PAUSE).await;
        }
        let mut drives = core.drives();
        let again = match drives.get_mut(&session) {
            Some(driven) => std::mem::take(&mut driven.again),
            None => false,
        };
        let again = again || matches!(result, Err(Stopped::Store(_)));
        if !again || matches!(result, Err(Stopped::Crash(_))) {
            drives.remove(&session);
            core.ended.notify_waiters();
            return;
        }
    }
}
