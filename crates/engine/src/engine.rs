//! The engine: wakes sessions, and knows which of them are being worked on.
//!
//! One drive per session and process; the lease in the session's row settles it between
//! processes.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use posthouse_model::Providers;
use posthouse_protocol::id::IdKind;
use posthouse_store::{Error, Faults, Log, log::Handed};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{
    cache::Cache,
    clock::{Chance, Clock},
    drive::{self, Stopped},
    step::Limits,
    tools::{Hands, Outside},
};

/// How long a drive that has failed waits before it tries again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row it tries. After that the session waits for its next input or the next
/// start.
const MOST_FAILURES: u32 = 30;

/// Everything that an engine is made of.
pub struct Parts {
    /// The logs.
    pub log: Log,
    /// The models.
    pub providers: Providers,
    /// The tools that work in sandboxes.
    pub hands: Arc<dyn Hands>,
    /// The tools from outside.
    pub outside: Arc<dyn Outside>,
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
    pub(crate) outside: Arc<dyn Outside>,
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
        let Parts { log, providers, hands, outside, limits, clock, chance, boot, idle } = parts;
        Self {
            core: Arc::new(Core {
                log,
                providers,
                hands,
                outside,
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

    /// The tools from outside.
    #[must_use]
    pub fn outside(&self) -> &Arc<dyn Outside> {
        &self.core.outside
    }

    /// The tools that work in sandboxes.
    #[must_use]
    pub fn hands(&self) -> &Arc<dyn Hands> {
        &self.core.hands
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
        let sessions = self.core.log.take_over().await?;
        for session in &sessions {
            self.wake(session);
        }
        Ok(sessions.len())
    }

    /// Sees to it that a session is worked on, now and by one drive. Cheap, and never wrong to
    /// call once too often.
    pub fn wake(&self, session: &str) {
        self.wake_with(session, None);
    }

    /// Like [`Self::wake`], with the append that has woken it, which need not be read then.
    pub fn wake_with(&self, session: &str, handed: Option<Box<Handed>>) {
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
        let work = work_on(core, Arc::clone(&session), Arc::clone(&poked), handed);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when the session is at rest; `stop` waits for it and aborts it"
        )]
        let task = tokio::task::spawn(work).abort_handle();
        drives.insert(session, Driven { again: false, poked, task: Some(task) });
    }

    /// Tells the tools that what is mounted into a session may have changed.
    pub async fn mounts_changed(&self, session: &str) {
        self.core.hands.mounts_changed(session).await;
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
async fn work_on(
    core: Arc<Core>,
    session: Arc<str>,
    poked: Arc<Notify>,
    mut handed: Option<Box<Handed>>,
) {
    let mut failures = 0;
    loop {
        let drive = drive::drive(&core, &session, &poked, handed.take());
        // A panic is a fault of ours; it must not leave the session in nobody's hands.
        let result = AssertUnwindSafe(drive).catch_unwind().await;
        let failed = match result {
            Ok(Ok(()) | Err(Stopped::Stale)) => false,
            Ok(Err(Stopped::Crash(_))) => {
                core.drives().remove(&session);
                core.ended.notify_waiters();
                return;
            }
            Ok(Err(Stopped::Log(reason))) => {
                tracing::error!(%session, reason, "the log can't be continued");
                if let Err(error) = drive::give_up(&core, &session).await {
                    tracing::error!(%session, %error, "the session was not ended");
                }
                false
            }
            Ok(Err(Stopped::Store(error))) => {
                tracing::error!(%session, %error, "the store failed");
                true
            }
            Err(_) => {
                tracing::error!(%session, "the harness has panicked");
                true
            }
        };
        failures = if failed { failures + 1 } else { 0 };
        if failed && failures < MOST_FAILURES {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        // Looking and leaving are one, so that no wake falls in between.
        let mut drives = core.drives();
        match drives.get_mut(&session) {
            Some(driven) if driven.again => driven.again = false,
            _ => {
                drives.remove(&session);
                core.ended.notify_waiters();
                return;
            }
        }
    }
}
