//! How much of the disk a session uses, and the watch that ends what uses too much.
//!
//! Measures and tells. It removes nothing and ends nothing itself; who is over a limit is said to a
//! callback. What is deleted and still open is not seen here: for that there is the host's reserve.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::tree::{Closed, Step, Tree, walk};

/// Folders inside of folders that are measured. What is deeper can't be told from hiding.
pub const DEPTH: usize = 128;

/// How often a tree is measured at most.
const EACH: Duration = Duration::from_secs(1);

/// The part of one processor that all measuring together may take is one of this.
const SHARE: u32 = 10;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of blocks on disk, each file once, however many names it has.
    pub bytes: u64,
    /// Entries of folders.
    pub entries: u64,
    /// Folders that could not be looked into: deeper than [`DEPTH`], or closed to us.
    pub hidden: u64,
    /// Whether everything was counted. If not, there is at least this much.
    pub complete: bool,
}

/// Measures a tree. `stop` is asked at each entry with what was counted so far, and ends it.
///
/// # Errors
///
/// When the tree can't be opened or read.
pub fn usage(path: &Path, mut stop: impl FnMut(&Usage) -> bool) -> io::Result<Usage> {
    let tree = Tree::open(path)?;
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let first = tree.open_folder(Path::new(""))?;
    usage.complete = walk(first, DEPTH, Closed::Open, |step| {
        match step {
            Step::Entry(_, found) => {
                usage.entries += 1;
                // A folder's count of links is its folders. A file's second name costs nothing.
                let folder = rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir();
                if folder || found.st_nlink < 2 || linked.insert((found.st_dev, found.st_ino)) {
                    let blocks = u64::try_from(found.st_blocks).unwrap_or(0);
                    usage.bytes = usage.bytes.saturating_add(blocks.saturating_mul(512));
                }
            }
            Step::Skipped => usage.hidden += 1,
            Step::Down(_) | Step::Up => return true,
        }
        !stop(&usage)
    })?;
    Ok(usage)
}

/// Bytes that an ordinary user can still write where `path` is.
///
/// # Errors
///
/// When the file system can't be asked.
pub fn host_free(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What the watch has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// A tree is over its limit.
    Over {
        /// Whose.
        id: String,
        /// What was counted until it was clear.
        usage: Usage,
        /// What is too much, for the one who reads the result.
        what: String,
    },
    /// The host's disk falls below its reserve. Told once each second for as long as it lasts.
    Host {
        /// Bytes that are free.
        free: u64,
        /// The watched trees with the bytes that each took when it was last measured, the largest
        /// first.
        largest: Vec<(String, u64)>,
    },
}

/// Watches the trees of living cages on a thread of its own. The thread ends with it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    trees: BTreeMap<String, Watched>,
    ended: bool,
}

#[derive(Debug, Clone)]
struct Watched {
    path: PathBuf,
    bytes: u64,
    entries: u64,
    /// What was there when the watch began, as far as it was too much: whoever has come back to
    /// tidy up may keep it for as long as it does not grow.
    found: Option<Usage>,
    last: Usage,
    /// When it is measured next.
    due: Instant,
    /// Tells a tree from a later one of the same id.
    since: Instant,
}

impl Watch {
    /// Starts to watch. `folder` is where the trees are, and `reserve` the bytes that stay free
    /// there. `tell` is called on the watch's own thread and must not block it for long.
    ///
    /// # Errors
    ///
    /// When there is no thread for it.
    pub fn new(
        folder: PathBuf,
        reserve: u64,
        tell: impl Fn(Alarm) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { book: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let run = move || watch(&own, &folder, reserve, &tell);
        // The thread ends when the watch is dropped.
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins to watch the tree at `path`. One of the same id is forgotten.
    pub fn add(&self, id: &str, path: PathBuf, bytes: u64, entries: u64) {
        let now = Instant::now();
        let last = Usage::default();
        let watched = Watched { path, bytes, entries, found: None, last, due: now, since: now };
        self.shared.lock().trees.insert(id.to_owned(), watched);
        self.shared.changed.notify_all();
    }

    /// Stops to watch a tree. A measure that is under way ends soon; it is told no more.
    pub fn remove(&self, id: &str) {
        self.shared.lock().trees.remove(id);
    }

    /// What a tree took when it was last measured.
    pub fn last(&self, id: &str) -> Option<Usage> {
        self.shared.lock().trees.get(id).map(|watched| watched.last)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing in the book is half written when a thread dies.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(shared: &Shared, folder: &Path, reserve: u64, tell: &impl Fn(Alarm)) {
    let mut host_due = Instant::now();
    loop {
        let next = {
            let mut book = shared.lock();
            loop {
                if book.ended {
                    return;
                }
                let now = Instant::now();
                let next = book.trees.iter().min_by_key(|(_, watched)| watched.due);
                let next = next.map(|(id, watched)| (id.clone(), watched.clone()));
                // Without a tree there is nothing that could fill the disk, and no reason to wake.
                let Some((id, watched)) = next else {
                    book = shared.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                if watched.due <= now || host_due <= now {
                    break (watched.due <= now).then_some((id, watched));
                }
                let wait = watched.due.min(host_due) - now;
                let waited = shared.changed.wait_timeout(book, wait);
                book = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        look_at_host(shared, folder, reserve, &mut host_due, tell);
        if let Some((id, watched)) = next {
            let mut host = || look_at_host(shared, folder, reserve, &mut host_due, tell);
            look_at(shared, &id, &watched, &mut host, tell);
        }
    }
}

fn look_at_host(
    shared: &Shared,
    folder: &Path,
    reserve: u64,
    due: &mut Instant,
    tell: &impl Fn(Alarm),
) {
    let now = Instant::now();
    if *due > now {
        return;
    }
    *due = now + EACH;
    match host_free(folder) {
        Ok(free) if free < reserve => {
            let mut largest: Vec<_> = {
                let book = shared.lock();
                book.trees.iter().map(|(id, watched)| (id.clone(), watched.last.bytes)).collect()
            };
            largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            tell(Alarm::Host { free, largest });
        }
        Ok(_) => (),
        Err(error) => tracing::warn!(%error, "the free space of the host's disk is not known"),
    }
}

fn look_at(
    shared: &Shared,
    id: &str,
    watched: &Watched,
    host: &mut impl FnMut(),
    tell: &impl Fn(Alarm),
) {
    let started = Instant::now();
    let mut count = 0_u32;
    let measured = usage(&watched.path, |usage| {
        count = count.wrapping_add(1);
        if count.is_multiple_of(1024) {
            host();
            if !shared.lock().still(id, watched) {
                return true;
            }
        }
        watched.found.is_some() && over(usage, watched).is_some()
    });
    let took = started.elapsed();
    let alarm = {
        let mut book = shared.lock();
        if !book.still(id, watched) {
            return;
        }
        let trees = u32::try_from(book.trees.len()).unwrap_or(u32::MAX);
        let Some(own) = book.trees.get_mut(id) else { return };
        own.due = Instant::now() + pause(took, trees);
        match measured {
            Ok(usage) => {
                own.last = usage;
                own.keep_in_mind(&usage);
                over(&usage, own).map(|what| Alarm::Over { id: id.to_owned(), usage, what })
            }
            Err(error) => {
                tracing::warn!(session = id, %error, "a session's disk could not be measured");
                None
            }
        }
    };
    // Not under the lock: who is told will want to remove it.
    if let Some(alarm) = alarm {
        tell(alarm);
    }
}

/// How many times its limit a tree may have when a watch begins. What is more is not borne.
const BORNE: u64 = 64;

impl Watched {
    /// The first look sets what is borne, and each later one lowers it.
    fn keep_in_mind(&mut self, usage: &Usage) {
        let least = Usage { bytes: self.bytes, entries: self.entries, ..Usage::default() };
        let found = self.found.unwrap_or(Usage {
            bytes: self.bytes.saturating_mul(BORNE),
            entries: self.entries.saturating_mul(BORNE),
            hidden: u64::MAX,
            complete: true,
        });
        self.found = Some(Usage {
            bytes: found.bytes.min(usage.bytes).max(least.bytes),
            entries: found.entries.min(usage.entries).max(least.entries),
            hidden: found.hidden.min(usage.hidden),
            complete: true,
        });
    }
}

impl Book {
    fn still(&self, id: &str, watched: &Watched) -> bool {
        !self.ended && self.trees.get(id).is_some_and(|own| own.since == watched.since)
    }
}

/// How long a tree is left alone after a look that took `took`, so that all `trees` together take
/// their share and no more, and a slow one delays itself, not the others.
fn pause(took: Duration, trees: u32) -> Duration {
    took.saturating_mul(SHARE.saturating_mul(trees)).max(EACH)
}

fn over(usage: &Usage, watched: &Watched) -> Option<String> {
    let least = Usage { bytes: watched.bytes, entries: watched.entries, ..Usage::default() };
    let borne = watched.found.unwrap_or(least);
    if usage.bytes > borne.bytes {
        return Some(format!("more than {} bytes on disk", watched.bytes));
    }
    if usage.entries > borne.entries {
        return Some(format!("more than {} files and folders", watched.entries));
    }
    (usage.hidden > borne.hidden).then(|| {
        format!("folders that can't be measured; at most {DEPTH} inside of each other can be")
    })
}

#[cfg(test)]
mod tests;
