//! Cages, as the server sees them: one for each session that needs one, and none for others.
//!
//! A cage is started when its session first wants a tool, stays while the session is at work and
//! a while longer, and leaves nothing but files. No cage is started for a session while an older
//! one of it is alive.

mod cage;
mod environment;
mod files;
mod folder;
mod identity;
mod orders;
mod prepared;
mod program;
mod slot;

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use posthouse_net::Guard;
use serde_json::Value;
use thiserror::Error;

use self::{
    cage::{Cage, Ended, Parts},
    folder::Folder,
    prepared::Prepared,
    slot::Slot,
};
pub use self::{
    cage::{Isolated, Live},
    folder::Mount,
    program::ProgramPipe,
    slot::Used,
};
use crate::{
    disk::{Alarm, Watch},
    door::{Authority, Keeper},
    etc, host, journal,
    launcher::Launcher,
    settings::{Isolation, Networking, Settings},
    tools::Outcome,
};

/// A cage whose session neither calls nor comes to rest is ended after this time.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// Stands between a session and the number of its cage in the names of what is watched.
const WATCHED: char = ' ';
/// What the names of all control groups of all servers begin with.
const GROUPS: &str = "posthouse-";
/// What must stay free on the host's disk.
const RESERVE: u64 = 512 << 20;

/// Tells the files that the user provides to a session as they are when it is asked.
pub type Source = Arc<dyn Fn() -> io::Result<Vec<Mount>> + Send + Sync>;

/// Whose cage, and what it is made with.
#[derive(Clone)]
pub struct Place {
    /// The session's id.
    pub session: Arc<str>,
    /// The session's number, which gives it its ids.
    pub number: i64,
    /// Where it may connect to.
    pub networking: Networking,
    /// Has its secrets and writes down what its door does.
    pub keeper: Arc<dyn Keeper>,
    /// The files that the user provides.
    pub mounts: Source,
}

/// Why there is no cage.
#[derive(Debug, Clone, Error)]
pub enum Refused {
    /// The host does not allow it. Says what is missing and what mends it.
    #[error("{0}")]
    Host(String),
    /// A step has failed.
    #[error("the sandbox can't be started: {step}: {reason}")]
    Step {
        /// What was done.
        step: String,
        /// Why it failed.
        reason: String,
    },
    /// A session's id is no name of a folder.
    #[error("{0:?} is no session")]
    NoSession(String),
    /// A program can't be started. Says why in words that follow its name.
    #[error("{0}")]
    Program(String),
}

/// The cages of a server.
pub struct Cages {
    settings: Settings,
    guard: Guard,
    launcher: Launcher,
    /// What the names of this server's control groups begin with.
    groups: String,
    watch: Watch,
    boot: String,
    /// What cages share: the made `/etc`, and a folder to mount roots on.
    etc: PathBuf,
    root: PathBuf,
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    next: AtomicU64,
    /// What cages share and the first one makes: a server's start need not wait for it.
    prepared: tokio::sync::OnceCell<Arc<Prepared>>,
    myself: Weak<Self>,
}

impl Cages {
    /// Cages for a server that has just started: what a former life has left is ended first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(mut settings: Settings, guard: Guard) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&settings.folder)?;
        // The launcher and its cages work in other folders than this process.
        settings.folder = settings.folder.canonicalize()?;
        let (etc, root) = (settings.folder.join(".etc"), settings.folder.join(".root"));
        fs::create_dir_all(&root)?;
        folder::end_leftovers(&settings.folder)?;
        let boot = journal::boot()?;
        let groups = identity::group_names(&settings.folder)?;
        // Both tell of what has happened to somebody who does not exist yet.
        let myself: Arc<OnceLock<Weak<Self>>> = Arc::default();
        let later = |myself: &Arc<OnceLock<Weak<Self>>>| {
            let myself = Arc::clone(myself);
            move || myself.get().and_then(Weak::upgrade)
        };
        let (lost, over) = (later(&myself), later(&myself));
        let launcher = Launcher::new(settings.helper.clone(), move || {
            if let Some(cages) = lost() {
                cages.end_all();
            }
        })?;
        let watch = Watch::new(settings.folder.clone(), RESERVE, move |alarm| {
            if let Some(cages) = over() {
                cages.on_alarm(alarm);
            }
        })?;
        let cages = Arc::new_cyclic(|weak| Self {
            launcher,
            watch,
            guard,
            groups,
            boot,
            etc,
            root,
            slots: Mutex::default(),
            next: AtomicU64::new(0),
            prepared: tokio::sync::OnceCell::new(),
            myself: Weak::clone(weak),
            settings,
        });
        let _ = myself.set(Arc::downgrade(&cages));
        if cages.settings.isolation == Isolation::Namespaces {
            prepared::warm_up(&cages.guard);
        }
        Ok(cages)
    }

    /// What they are made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says that a session will want a tool, so that its cage is there when it does. Returns
    /// when it stands.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn start(
        self: &Arc<Self>,
        place: Place,
    ) -> impl Future<Output = Result<(), Refused>> + Send + 'static {
        let slot = self.slot(&place.session);
        // Now, and not when the work begins: a rest that is told of from here on comes after.
        let used = Used::of(&slot);
        let cages = Arc::clone(self);
        async move {
            let _used = used;
            cages.cage(&slot, &place).await.map(drop)
        }
    }

    /// Runs a tool. Dropping the future interrupts it. `turn` is dropped when the call is on its
    /// way, or will not be: calls run in the order in which they were sent.
    ///
    /// # Errors
    /// [`Refused`] when there is no cage; then nothing was run.
    pub async fn call(
        &self,
        place: &Place,
        call: &str,
        name: &str,
        input: Value,
        turn: impl Send,
    ) -> Result<Outcome, Refused> {
        let slot = self.slot(&place.session);
        let _used = Used::of(&slot);
        let cage = self.cage(&slot, place).await?;
        Ok(cage.call(call, name, input, turn).await)
    }

    /// What is known of a call that was started in a former life. Ends what is left of its cage
    /// first.
    pub async fn find_call(&self, session: &str, call: &str) -> journal::Found {
        let Ok(folder) = Folder::of(&self.settings, session) else {
            return journal::Found::Unknown;
        };
        let slot = self.slot(&session.into());
        // No cage is started meanwhile, and one of this life, which works on another call that
        // was open, is not a former one's.
        let held = slot.cage.lock().await;
        let ours = held.as_ref().is_some_and(|cage| !cage.is_gone());
        let (boot, call) = (self.boot.clone(), call.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            if !ours {
                folder.end_former()?;
            }
            io::Result::Ok(journal::find(&folder.journal(), &boot, &call))
        });
        found.await.ok().and_then(Result::ok).unwrap_or(journal::Found::Unknown)
    }

    /// Says that a session has come to rest: no call of it is open any more. Its cage stays warm
    /// for a while.
    pub fn rest(&self, session: &str) {
        let Some(slot) = self.find(session) else { return };
        let mut used = lock(&slot.use_);
        used.resting = true;
        used.last = Instant::now();
        if used.calls == 0
            && let Ok(folder) = Folder::of(&self.settings, session)
        {
            // A journal that was not cleared is only longer.
            let _ = journal::clear(&folder.journal(), &self.boot);
        }
    }

    /// All cages that are alive.
    #[must_use]
    pub fn live(&self) -> Vec<Live> {
        let slots: Vec<_> = lock(&self.slots).values().cloned().collect();
        let mut all: Vec<_> = slots
            .iter()
            .filter_map(|slot| slot.live().map(|cage| cage.show(lock(&slot.use_).calls)))
            .collect();
        all.sort_by(|one, other| one.session_id.cmp(&other.session_id));
        all
    }

    /// Ends a session's cage with everything in it, at once. True when there was one.
    pub async fn kill(&self, session: &str) -> bool {
        let Some(slot) = self.find(session) else { return false };
        let cage = match slot.live() {
            Some(cage) => cage,
            // One that is being started is waited for.
            None => match slot.cage.lock().await.clone() {
                Some(cage) if !cage.is_gone() => cage,
                _ => return false,
            },
        };
        cage.end(Ended::Killed);
        cage.gone().await;
        true
    }

    /// Ends a session's cage and deletes its files.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn delete(&self, session: &str) -> io::Result<()> {
        let slot = self.find(session);
        // A cage that is being started is waited for, and none comes after it.
        let held = match &slot {
            Some(slot) => {
                slot.deleted.store(true, Ordering::Relaxed);
                Some(slot.cage.lock().await)
            }
            None => None,
        };
        if let Some(Some(cage)) = held.as_deref() {
            cage.end(Ended::Killed);
            cage.gone().await;
        }
        lock(&self.slots).remove(session);
        let Ok(folder) = Folder::of(&self.settings, session) else { return Ok(()) };
        let deleted = tokio::task::spawn_blocking(move || {
            folder.end_former()?;
            folder.delete()
        });
        deleted.await.map_err(io::Error::other)?
    }

    /// Ends the cages that have been cold for long enough. To be called every second or so.
    pub fn sweep(&self) {
        let slots: Vec<_> = lock(&self.slots)
            .iter()
            .map(|(session, slot)| (Arc::clone(session), Arc::clone(slot)))
            .collect();
        let mut some = false;
        for (session, slot) in slots {
            let cage = slot.live();
            // Held while a cage is ended, so that no call comes in between.
            let used = lock(&slot.use_);
            let patience = if used.resting { self.settings.warm } else { FORGOTTEN };
            if used.calls > 0 || used.last.elapsed() < patience {
                some = true;
                continue;
            }
            match cage {
                Some(cage) => {
                    some = true;
                    cage.end(Ended::Cold);
                }
                None => {
                    drop(used);
                    let mut slots = lock(&self.slots);
                    // Nobody holds it but the map and this very function: nobody is about to
                    // start a cage in it.
                    if Arc::strong_count(&slot) == 2 {
                        slots.remove(&session);
                    }
                }
            }
        }
        if !some {
            self.launcher.dismiss();
        }
    }

    /// Ends all cages and waits until they are gone.
    pub async fn stop(&self) {
        self.end_all();
        let slots: Vec<_> = lock(&self.slots).values().cloned().collect();
        for cage in slots.iter().filter_map(|slot| slot.live()) {
            cage.gone().await;
        }
        self.launcher.dismiss();
    }

    /// Deletes what is left of sessions that `known` does not know any more: a crash came between
    /// their end and that of their files. To be called before any cage is started.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn delete_unknown(&self, known: impl Fn(&str) -> bool) -> io::Result<()> {
        folder::delete_unknown(&self.settings, known)
    }

    /// Whether a session has files, or a cage that is started or about to be.
    #[must_use]
    pub fn knows(&self, session: &str) -> bool {
        self.find(session).is_some() || self.has_files(session)
    }

    /// Ends all cages, now.
    pub fn end_all(&self) {
        for slot in lock(&self.slots).values() {
            if let Some(cage) = slot.live() {
                cage.end(Ended::Stopped);
            }
        }
    }

    /// A cage that fills its disk ends, and so does the largest when the host's is full.
    fn on_alarm(&self, alarm: Alarm) {
        let (session, reason) = match alarm {
            Alarm::Over { id, what, .. } => (id, what),
            Alarm::Host { free, largest } => {
                let Some((id, _)) = largest.into_iter().next() else { return };
                (id, format!("the host's disk is full ({free} bytes are left)"))
            }
        };
        let session = session.split(WATCHED).next().unwrap_or_default();
        if let Some(slot) = self.find(session)
            && let Some(cage) = slot.live()
        {
            tracing::info!(session, reason, "a sandbox was ended for its disk");
            cage.end(Ended::Disk(reason));
        }
    }

    fn find(&self, session: &str) -> Option<Arc<Slot>> {
        lock(&self.slots).get(session).cloned()
    }

    fn slot(&self, session: &Arc<str>) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        Arc::clone(slots.entry(Arc::clone(session)).or_default())
    }

    /// The session's cage, started when there is none.
    async fn cage(&self, slot: &Arc<Slot>, place: &Place) -> Result<Arc<Cage>, Refused> {
        let mut held = slot.cage.lock().await;
        if slot.deleted.load(Ordering::Relaxed) {
            return Err(Refused::NoSession(place.session.to_string()));
        }
        if let Some(cage) = &*held {
            // Links are made at the start alone; a call that runs is not ended for one.
            let renewed = cage.links != *lock(&slot.mounting) && lock(&slot.use_).calls <= 1;
            if !cage.has_ended() && !renewed {
                return Ok(Arc::clone(cage));
            }
            cage.end(Ended::Cold);
            cage.gone().await;
            *held = None;
        }
        let cage = match self.make(slot, place).await {
            Ok(cage) => cage,
            Err(refused) => return Err(self.explain(refused).await),
        };
        *held = Some(Arc::clone(&cage));
        *lock(&slot.live) = Some(Arc::clone(&cage));
        Ok(cage)
    }

    async fn make(&self, slot: &Arc<Slot>, place: &Place) -> Result<Arc<Cage>, Refused> {
        let step = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| Refused::Step { step, reason: error.to_string() }
        };
        // Where there is no door, nobody would put a value in the place of its placeholder.
        let isolated = self.settings.isolation == Isolation::Namespaces;
        let environment = if isolated {
            let secrets = place.keeper.secrets().await;
            let secrets = secrets.map_err(io::Error::other).map_err(step("asking for secrets"))?;
            environment::of(&secrets)
        } else {
            Vec::new()
        };
        let (sandboxes, etc) = (self.settings.folder.clone(), self.etc.clone());
        let groups = self.groups.clone();
        let prepared = self.prepared.get_or_try_init(|| async {
            let made =
                tokio::task::spawn_blocking(move || Prepared::make(&sandboxes, &etc, &groups));
            made.await.map_err(io::Error::other)?.map(Arc::new)
        });
        let prepared = prepared.await.map_err(step("making /etc"))?;
        let identity = identity::of(self.settings.isolation, place.number)
            .map_err(step("choosing its users"))?;
        let folder = Folder::of(&self.settings, &place.session)?;
        let (slot, source) = (Arc::clone(slot), Arc::clone(&place.mounts));
        let boot = self.boot.clone();
        let (shared, guard) = (Arc::clone(prepared), self.guard.clone());
        let owner = identity.owner();
        let made = tokio::task::spawn_blocking(move || {
            folder.end_former()?;
            let fresh = folder.make(owner)?;
            let links = slot.mount(&folder, &source)?;
            let unlink = folder.replace_links(&links)?;
            let journal = journal::open(&folder.journal(), &boot)?;
            // Here, for it may wait for the first use of randomness.
            let authority = isolated.then(Authority::new).transpose();
            let authority = authority.map_err(|error| {
                io::Error::other(format!("its authority can't be made: {error}"))
            })?;
            if let Some(own) = &authority {
                let more = guard.trusted_roots();
                let own = own.certificate_pem();
                folder.write_authorities(&etc::certificates::bundle(&shared.public, more, &own))?;
            }
            io::Result::Ok((folder, fresh, links, unlink, journal, authority.map(Arc::new)))
        });
        let (folder, fresh, links, unlink, journal, authority) = made
            .await
            .map_err(io::Error::other)
            .and_then(|made| made)
            .map_err(step("making the session's folder"))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let parts = Parts {
            settings: &self.settings,
            guard: &self.guard,
            launcher: &self.launcher,
            cgroups: &prepared.cgroups,
            etc: &self.etc,
            certificates: &prepared.certificates,
            root: &self.root,
            name: format!("{}{}-{number}", self.groups, std::process::id()),
            identity,
            place,
            folder,
            fresh,
            links,
            unlink,
            journal,
            authority,
            environment,
        };
        let next = parts.folder.clone();
        let cage = Cage::make(parts).await?;
        if fresh {
            // Beside the cage's first call; without one, the next start makes its own.
            drop(tokio::task::spawn_blocking(move || next.make_spare()));
        }
        let limits = &self.settings.limits;
        // Of this cage, so that the end of an older one of the session does not end it.
        let watched = format!("{}{WATCHED}{number}", place.session);
        self.watch.add(&watched, cage.folder.tree(), limits.disk, limits.entries);
        let cages = Weak::clone(&self.myself);
        cage.when_gone(move || {
            if let Some(cages) = cages.upgrade() {
                cages.watch.remove(&watched);
            }
        });
        Ok(cage)
    }

    /// What is missing on the host, if that is why a cage can't be made.
    async fn explain(&self, refused: Refused) -> Refused {
        if self.settings.isolation == Isolation::None {
            return refused;
        }
        let folder = self.settings.folder.clone();
        let examined = tokio::task::spawn_blocking(move || host::examine(&folder)).await;
        let missing: Vec<_> = examined
            .unwrap_or_default()
            .into_iter()
            .filter(|finding| finding.state == host::State::Missing)
            .map(|finding| match finding.mend {
                Some(mend) => format!("{}: {} (to mend it: {mend})", finding.name, finding.detail),
                None => format!("{}: {}", finding.name, finding.detail),
            })
            .collect();
        if missing.is_empty() {
            return refused;
        }
        Refused::Host(format!(
            "This host does not allow sandboxes, so no tool was run. {}. `posthouse doctor` tells \
             more.",
            missing.join("; ")
        ))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
