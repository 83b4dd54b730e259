//! One cage that is alive: its process, its calls, its door.
//!
//! What comes from its helper is data from a hostile place. A cage ends for one reason, which is
//! what the calls that were open are told.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use posthouse_net::Guard;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt as _, Interest, unix::AsyncFd},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot, watch},
};

use super::{
    Place, Refused,
    folder::{Folder, Link, WRITABLE},
    lock,
    orders::{self, Order},
    program::{self, Waiting},
};
use crate::{
    cgroups::{Cgroups, Group, ResourceLevel},
    door::{Authority, Door, Started},
    frame::{self, FromHelper, Setup, ToHelper},
    launcher::{self, Identity, Launcher},
    settings::{Allowed, Isolation, Limits, Networking, Settings},
    tools::Outcome,
};

/// How long a helper may take to make its cage, beyond any artificial delay.
const STARTING: Duration = Duration::from_secs(30);
/// Said before the first result of a shell that is not the session's first.
const AGAIN: &str = "[The sandbox was started again: files are as they were; the shell's \
                     directory and variables and all processes are gone.]";

/// Why a cage has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was cold, or had to be made anew.
    Cold,
    /// Somebody has killed it.
    Killed,
    /// The server stops.
    Stopped,
    /// It has filled its disk.
    Disk(String),
    /// Its helper is gone.
    Lost,
}

/// A cage that is alive, as it is shown.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename = "sandbox")]
pub struct Live {
    /// The session.
    pub session_id: Arc<str>,
    /// The helper's process on the host.
    pub pid: u32,
    /// When it was started, in microseconds since 1970.
    #[serde(skip)]
    pub started_at: i64,
    /// How many calls it has had.
    pub calls: u64,
    /// Whether one is running.
    pub busy: bool,
    /// How it is kept apart.
    pub isolation: Isolated,
    /// What it may use.
    pub limits: Limits,
    /// What its processes use, in bytes, where it is counted.
    pub memory_bytes: Option<u64>,
    /// The hosts that its door lets through, as it holds them; none for all public ones.
    pub allowlist: Option<Vec<Allowed>>,
    /// The hosts whose TLS its door does not end.
    pub passthrough: Vec<String>,
}

/// How a cage is kept apart: what is in force, not what was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Isolated {
    /// The technology.
    pub technology: Isolation,
    /// Whether it has a range of user ids of its own.
    pub own_ids: bool,
    /// Landlock's version, where the kernel has it.
    pub landlock: Option<u32>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// What holds the limits of memory, processes and processors.
    pub limits: ResourceLevel,
    /// What holds the limit of disk.
    pub disk: &'static str,
    /// Which connections reach the door: `all_ports`, `listed_ports`, or `none` without one.
    pub door: &'static str,
    /// Limits that the host's own have lowered.
    pub lowered: Vec<String>,
}

/// What a cage is made of.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) guard: &'a Guard,
    pub(super) launcher: &'a Launcher,
    pub(super) cgroups: &'a Arc<Cgroups>,
    pub(super) etc: &'a Path,
    pub(super) certificates: &'a Path,
    pub(super) root: &'a Path,
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) place: &'a Place,
    pub(super) folder: Folder,
    pub(super) fresh: bool,
    pub(super) links: Vec<Link>,
    pub(super) unlink: Vec<PathBuf>,
    pub(super) journal: File,
    /// Whom the cage trusts, and who ends its TLS. None for one without a door.
    pub(super) authority: Option<Arc<Authority>>,
    /// Variables that it has for the sake of its door.
    pub(super) environment: Vec<(String, String)>,
}

pub(super) struct Cage {
    session: Arc<str>,
    pid: u32,
    process: OwnedFd,
    pub(super) folder: Folder,
    pub(super) links: Vec<Link>,
    isolated: Isolated,
    limits: Limits,
    /// What its door holds; without a door there is no list.
    networking: Networking,
    started: SystemTime,
    calls: AtomicU64,
    open: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    /// The programs that run beside the calls.
    pub(super) programs: Mutex<HashMap<u64, Waiting>>,
    /// The number of the next one.
    pub(super) next_program: AtomicU64,
    /// To whom on the host its files belong, where that is not the server.
    pub(super) owner: Option<u32>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    group: Mutex<Option<Group>>,
    door: Mutex<Option<Door>>,
    ended: Mutex<Option<Ended>>,
    gone: watch::Sender<bool>,
}

impl Cage {
    /// Makes a cage and waits until it stands.
    pub(super) async fn make(parts: Parts<'_>) -> Result<Arc<Self>, Refused> {
        let fail = |step: &str, error: &dyn std::fmt::Display| Refused::Step {
            step: step.to_owned(),
            reason: error.to_string(),
        };
        let isolation = parts.settings.isolation;
        let (ours, theirs) = StdStream::pair().map_err(|error| fail("opening a socket", &error))?;
        let forked = parts.launcher.start(isolation, parts.identity, theirs.into(), parts.journal);
        let launched = match tokio::time::timeout(STARTING, forked).await {
            Ok(forked) => forked.map_err(|error| fail("forking", &error))?,
            Err(_) => return Err(fail("forking", &"the launcher did not answer in time")),
        };
        let guard = Orphan { process: Some(launched.process) };
        // Noted before it may run anything, so that whatever runs can be found again.
        parts.folder.note(launched.pid).map_err(|error| fail("noting its process", &error))?;
        let level = match isolation {
            Isolation::Namespaces => parts.cgroups.level(),
            Isolation::None => ResourceLevel::Rlimits,
        };
        // Entering a group may wait for the kernel longer than all the rest takes.
        let limited =
            limit(isolation, parts.cgroups, parts.name, parts.settings.limits, launched.pid);
        let setup = Setup {
            isolation,
            tree: parts.folder.tree(),
            writable: WRITABLE.map(|(name, inside)| (name.to_owned(), inside.into())).into(),
            uploads: parts.folder.uploads(),
            links: parts.links.clone(),
            unlink: parts.unlink,
            etc: parts.etc.to_path_buf(),
            certificates: parts.certificates.to_path_buf(),
            authorities: parts.folder.authorities(),
            environment: parts.environment,
            root: parts.root.to_path_buf(),
            limits: parts.settings.limits,
            level,
            seed: launched.pid,
            drop_groups: matches!(parts.identity, Identity::Range(_)),
            note: note(isolation, parts.fresh, &parts.folder),
            delay_ms: u64::try_from(parts.settings.delay.as_millis()).unwrap_or(u64::MAX),
        };
        let delay = parts.settings.delay;
        let talk = async {
            ours.set_nonblocking(true)?;
            let mut socket = UnixStream::from_std(ours)?;
            socket.write_all(&frame::bytes(&ToHelper::Setup(Box::new(setup)))?).await?;
            let (ready, descriptors) = orders::first_frame(&socket).await?;
            io::Result::Ok((socket, ready, descriptors))
        };
        let talk = tokio::time::timeout(STARTING + delay, talk);
        let (answered, limited) = tokio::join!(talk, limited);
        let (socket, answer, descriptors) = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(fail("starting its helper", &error)),
            Err(_) => return Err(fail("starting its helper", &"it did not answer in time")),
        };
        let ready = match answer {
            FromHelper::Ready(ready) => ready,
            FromHelper::Failed { step, reason } => return Err(Refused::Step { step, reason }),
            FromHelper::Done { .. } | FromHelper::Began { .. } | FromHelper::Ended { .. } => {
                return Err(fail("starting its helper", &"it is confused"));
            }
        };
        // No tool runs before it is limited. A helper that has failed is told of first: its end
        // is why it could not be limited.
        let group = limited.map_err(|error| fail("setting its limits", &error))?;
        let door = open_door(parts.place, parts.guard, parts.authority, descriptors)
            .map_err(|error| fail("opening its door", &error))?;
        let isolated = Isolated {
            technology: isolation,
            own_ids: matches!(parts.identity, Identity::Range(_)),
            landlock: ready.report.as_ref().and_then(|report| report.landlock),
            seccomp: ready.report.as_ref().is_some_and(|report| report.seccomp),
            limits: level,
            disk: "watched",
            door: match (isolation, ready.all_ports) {
                (Isolation::None, _) => "none",
                (Isolation::Namespaces, true) => "all_ports",
                (Isolation::Namespaces, false) => "listed_ports",
            },
            lowered: ready.report.map(|report| report.lower).unwrap_or_default(),
        };
        let started = started(&isolated, parts.settings.limits, parts.place);
        let (orders, outgoing) = mpsc::unbounded_channel();
        let cage = Arc::new(Self {
            session: Arc::clone(&parts.place.session),
            pid: launched.pid,
            process: guard.keep().map_err(|error| fail("keeping its process", &error))?,
            folder: parts.folder,
            links: parts.links,
            networking: match isolation {
                Isolation::None => Networking::default(),
                Isolation::Namespaces => parts.place.networking.clone(),
            },
            isolated,
            limits: parts.settings.limits,
            started: SystemTime::now(),
            calls: AtomicU64::new(0),
            open: Mutex::default(),
            programs: Mutex::default(),
            next_program: AtomicU64::new(0),
            owner: parts.identity.owner(),
            orders,
            group: Mutex::new(group),
            door: Mutex::new(door),
            ended: Mutex::default(),
            gone: watch::Sender::new(false),
        });
        let (incoming, out) = socket.into_split();
        spawn(orders::write(out, outgoing));
        spawn(keep(Arc::clone(&cage), incoming));
        parts.place.keeper.started(started);
        Ok(cage)
    }

    /// Runs a call. Dropping the future interrupts it.
    pub(super) async fn call(
        self: &Arc<Self>,
        call: &str,
        name: &str,
        input: Value,
        turn: impl Send,
    ) -> Outcome {
        let (done, outcome) = oneshot::channel();
        lock(&self.open).insert(call.to_owned(), done);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let stop = StopOnDrop { cage: Arc::clone(self), call: Some(call.to_owned()) };
        let order = ToHelper::Call { call: call.to_owned(), name: name.to_owned(), input };
        match frame::bytes(&order) {
            Ok(bytes) => {
                // One that has ended meanwhile answers every open call with its reason.
                let _ = self.orders.send(bytes.into());
                if *self.gone.borrow() {
                    self.close_calls();
                }
            }
            Err(error) => {
                lock(&self.open).remove(call);
                return Outcome::error(format!("The call can't be sent to the sandbox: {error}"));
            }
        }
        drop(turn);
        let outcome = outcome.await;
        stop.done();
        outcome.unwrap_or_else(|_| Outcome::error(self.reason()))
    }

    /// Ends it, at once and with everything in it. The first reason is the one that counts.
    pub(super) fn end(&self, why: Ended) {
        lock(&self.ended).get_or_insert(why);
        launcher::kill(&self.process);
    }

    /// Whether it is about to be gone.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.ended).is_some() || self.is_gone()
    }

    /// Whether none of its processes is left.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until none of its processes is left.
    pub(super) async fn gone(&self) {
        let mut gone = self.gone.subscribe();
        // The sender lives in this very cage.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Calls back when it is gone.
    pub(super) fn when_gone(self: &Arc<Self>, then: impl FnOnce() + Send + 'static) {
        let cage = Arc::clone(self);
        spawn(async move {
            cage.gone().await;
            then();
        });
    }

    pub(super) fn show(&self, running: usize) -> Live {
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Live {
            session_id: Arc::clone(&self.session),
            pid: self.pid,
            started_at: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            calls: self.calls.load(Ordering::Relaxed),
            busy: running > 0,
            isolation: self.isolated.clone(),
            limits: self.limits,
            memory_bytes: lock(&self.group).as_ref().and_then(Group::memory_now),
            allowlist: self.networking.allowed.clone(),
            passthrough: self.networking.passthrough.clone(),
        }
    }

    fn close_calls(&self) {
        let open: Vec<_> = lock(&self.open).drain().collect();
        let reason = self.reason();
        for (_, done) in open {
            // Nobody waits for a call that was interrupted.
            let _ = done.send(Outcome::error(reason.clone()));
        }
    }

    /// What an open call is told when its cage has ended.
    fn reason(&self) -> String {
        format!(
            "The sandbox has ended while the tool was running: {}. The tool may or may not have \
             had its effect; check before calling it again. Files are kept, processes are gone.",
            self.why()
        )
    }

    /// What has happened to a program whose cage has ended, in words that follow its name.
    pub(super) fn end_of_program(&self) -> String {
        format!("has ended with its sandbox: {}", self.why())
    }

    fn why(&self) -> String {
        let ended = lock(&self.ended);
        let why = match &*ended {
            Some(Ended::Killed) => "it was killed by the operator",
            Some(Ended::Stopped) => "the server was stopped",
            Some(Ended::Disk(reason)) => reason,
            Some(Ended::Cold) => "it was ended",
            Some(Ended::Lost) | None => "its helper has died, perhaps for want of memory",
        };
        why.to_owned()
    }
}

/// What is said before the first result of a shell.
fn note(isolation: Isolation, fresh: bool, folder: &Folder) -> Option<String> {
    if isolation == Isolation::None {
        let tree = folder.tree();
        return Some(format!(
            "[This sandbox is not isolated: in the shell, /workspace is {0}/workspace and /mnt is \
             {0}/mnt.]",
            tree.display()
        ));
    }
    (!fresh).then(|| AGAIN.to_owned())
}

/// What is written down of a cage that stands.
fn started(isolated: &Isolated, limits: Limits, place: &Place) -> Started {
    // Without a door, networking is not enforced.
    let Networking { allowed, passthrough } = match isolated.technology {
        Isolation::Namespaces => place.networking.clone(),
        Isolation::None => Networking::default(),
    };
    Started {
        isolation: isolated.clone(),
        version: env!("CARGO_PKG_VERSION"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        limits,
        allowlist: allowed,
        passthrough,
    }
}

/// Puts a process into a group of its own, with the limits of a cage.
async fn limit(
    isolation: Isolation,
    cgroups: &Arc<Cgroups>,
    name: String,
    limits: Limits,
    pid: u32,
) -> io::Result<Option<Group>> {
    if isolation == Isolation::None {
        return Ok(None);
    }
    let cgroups = Arc::clone(cgroups);
    let limited = tokio::task::spawn_blocking(move || {
        let Some(group) = cgroups.make(&name, &limits)? else { return Ok(None) };
        group.add(pid).map(|()| Some(group))
    });
    limited.await.map_err(io::Error::other)?
}

/// A process that is ended unless somebody keeps it.
struct Orphan {
    process: Option<OwnedFd>,
}

impl Orphan {
    fn keep(mut self) -> io::Result<OwnedFd> {
        self.process.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            launcher::kill(process);
        }
    }
}

/// Stops a call whose caller is gone.
struct StopOnDrop {
    cage: Arc<Cage>,
    call: Option<String>,
}

impl StopOnDrop {
    fn done(mut self) {
        self.call = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            lock(&self.cage.open).remove(&call);
            if let Ok(bytes) = frame::bytes(&ToHelper::Stop { call }) {
                let _ = self.cage.orders.send(bytes.into());
            }
        }
    }
}

fn open_door(
    place: &Place,
    guard: &Guard,
    authority: Option<Arc<Authority>>,
    mut descriptors: Vec<OwnedFd>,
) -> io::Result<Option<Door>> {
    let Some(authority) = authority else { return Ok(None) };
    let names = descriptors.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
    let listeners = descriptors.into_iter().map(Into::into).collect();
    let keeper = Arc::clone(&place.keeper);
    Door::open(listeners, names.into(), &place.networking, guard, keeper, authority).map(Some)
}

/// Hears what a helper says until it says no more, then clears up behind it.
async fn keep(cage: Arc<Cage>, mut incoming: OwnedReadHalf) {
    while let Ok(Some(frame)) = frame::receive::<FromHelper>(&mut incoming).await {
        // Nobody waits for what was interrupted.
        match frame {
            FromHelper::Done { call, outcome } => {
                if let Some(done) = lock(&cage.open).remove(&call) {
                    let _ = done.send(outcome);
                }
            }
            FromHelper::Began { number } => {
                let mut programs = lock(&cage.programs);
                let began = programs.get_mut(&number).and_then(|waiting| waiting.began.take());
                let _ = began.map(|began| began.send(()));
            }
            FromHelper::Ended { number, why } => {
                if let Some(waiting) = lock(&cage.programs).remove(&number) {
                    let _ = waiting.ended.send(program::account(why));
                }
            }
            FromHelper::Ready(_) | FromHelper::Failed { .. } => break,
        }
    }
    let out_of_memory = lock(&cage.group).as_ref().is_some_and(|group| group.oom_kills() > 0);
    cage.end(Ended::Lost);
    if out_of_memory {
        tracing::info!(session = %cage.session, "a sandbox was out of memory");
    }
    until_gone(&cage.process).await;
    cage.folder.forget();
    drop(lock(&cage.door).take());
    drop(lock(&cage.group).take());
    cage.gone.send_replace(true);
    cage.close_calls();
    lock(&cage.programs).clear();
}

/// Waits until a process is gone, and with it all of its namespace.
async fn until_gone(process: &OwnedFd) {
    let Ok(process) = process.try_clone() else { return };
    // SAFETY: the descriptor is owned by what it is registered with, and neither changed nor
    // taken out before that is dropped.
    #[expect(unsafe_code, reason = "the owner of the descriptor promises to keep it")]
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    if let Ok(watched) = watched {
        // Readable means gone.
        let _ = watched.readable().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with the cage's process")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::task::spawn(work);
}
