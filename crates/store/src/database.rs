//! One SQLite file: a committer thread that groups writes, and a few readers.
//!
//! Writes of all callers meet in one queue. The committer takes what is there, runs it in one
//! transaction, commits with `synchronous=FULL`, and only then tells anybody. It knows nothing
//! of what the statements mean.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::sync::oneshot;

use crate::{Error, Faults};

/// The migrations in order; the database's `user_version` counts those that have run.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_spine.sql"),
    include_str!("../../../migrations/0002_files.sql"),
    include_str!("../../../migrations/0003_keys.sql"),
    include_str!("../../../migrations/0004_lists.sql"),
    include_str!("../../../migrations/0005_vaults.sql"),
];

/// How many writes share one transaction at most.
const GROUP: usize = 256;

/// What is deleted is overwritten where that writes no page more: copies of rows that once moved
/// would stay in pages otherwise, also of those that [`crate::tables`] deletes with more care.
pub(crate) const SECURE_DELETE: &str = "FAST";

/// How many statements each connection keeps prepared.
const PREPARED: usize = 96;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Power loss. The only choice for a server.
    #[default]
    Disk,
    /// Nothing but the process' own life: for simulations.
    None,
}

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder, made when missing.
    pub folder: PathBuf,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Where to crash.
    pub faults: Faults,
}

type Done = Box<dyn FnOnce(Result<(), Arc<Error>>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> (bool, Done) + Send>;

/// An open database; clones share it. The folder stays locked until it is closed or the
/// last clone is gone.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Mutex<Option<Sender<Job>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    file: PathBuf,
    faults: Faults,
    lock: Mutex<Option<Lock>>,
}

impl Database {
    /// Opens the database in a folder, locks the folder and brings the schema up to date.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has the folder, [`Error::Newer`] when the schema
    /// is from the future, else what the system says.
    pub fn open(options: Options) -> Result<Self, Error> {
        let Options { folder, durability, faults } = options;
        make_private_folder(&folder)
            .map_err(|source| Error::Folder { path: folder.clone(), source })?;
        let lock = lock(&folder)?;
        let file = folder.join("posthouse.db");
        // Whoever may look into the folder still may not read what is in it. SQLite gives its
        // other files the mode of this one.
        private_file(&file).map_err(|source| Error::Folder { path: file.clone(), source })?;
        let connection = connect(&file, false)?;
        let synchronous = match durability {
            Durability::Disk => "FULL",
            Durability::None => "OFF",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        migrate(&connection)?;
        let (sender, receiver) = channel();
        let committer = std::thread::Builder::new()
            .name("committer".into())
            .spawn({
                let faults = faults.clone();
                move || commit_forever(&connection, &receiver, &faults)
            })
            .map_err(|source| Error::Folder { path: folder, source })?;
        Ok(Self {
            inner: Arc::new(Inner {
                queue: Mutex::new(Some(sender)),
                committer: Mutex::new(Some(committer)),
                readers: Mutex::new(Vec::new()),
                file,
                faults,
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    /// Where the store may crash.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Runs `work` in a transaction and returns once it is durable. When `work` fails, nothing
    /// of it is kept.
    ///
    /// # Errors
    /// Those of `work`, and [`Error`] when the transaction could not be committed.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.write_then(work, |_| {}).await
    }

    /// Like [`Self::write`]; `after` runs on the committer's thread when the write is durable
    /// and before anybody else learns of it, in the order of the commits.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_then<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = work(connection);
            let keep = result.is_ok();
            let done: Done = Box::new(move |committed| {
                let outcome = match (committed, result) {
                    (Ok(()), Ok(value)) => {
                        after(&value);
                        Ok(value)
                    }
                    (_, Err(error)) => Err(error),
                    (Err(error), Ok(_)) => Err(E::from(copy(&error))),
                };
                // The caller may have gone; what it asked for is done all the same.
                let _ = reply.send(outcome);
            });
            (keep, done)
        });
        {
            let queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = queue.as_ref().is_some_and(|queue| queue.send(job).is_ok());
            if !sent {
                return Err(E::from(Error::Closed));
            }
        }
        answer.await.unwrap_or_else(|_| Err(E::from(Error::Closed)))
    }

    /// Reads on the calling thread: for looks at a few rows, which take microseconds.
    ///
    /// # Errors
    /// Those of `look`, and [`Error`] when no reader can be opened.
    pub fn read<T, E: From<Error>>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let pooled = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => connect(&self.inner.file, true)?,
        };
        let result = look(&connection);
        let mut readers = self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < 8 {
            readers.push(connection);
        }
        result
    }

    /// Reads on a thread that may block: for looks at many rows.
    ///
    /// # Errors
    /// Those of `look`, and [`Error`] when no reader can be opened.
    pub async fn read_many<T, E>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.read(look))
            .await
            .unwrap_or_else(|_| Err(E::from(Error::Closed)))
    }

    /// Writes what is queued, moves all of it into the one file, then closes and gives the folder
    /// free. Later writes fail with
    /// [`Error::Closed`].
    pub fn close(&self) {
        drop(self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self.inner.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // A committer that panicked has said so itself.
            let _ = committer.join();
        }
        self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.queue.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(committer) =
            self.committer.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            // The last clone may die on the committer's own thread, inside a callback.
            && committer.thread().id() != std::thread::current().id()
        {
            let _ = committer.join();
        }
    }
}

/// Takes jobs until the queue is closed and empty.
fn commit_forever(connection: &Connection, queue: &Receiver<Job>, faults: &Faults) {
    let mut done: Vec<Done> = Vec::with_capacity(GROUP);
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        while jobs.len() < GROUP
            && let Ok(job) = queue.try_recv()
        {
            jobs.push(job);
        }
        let outcome = commit(connection, jobs, &mut done, faults).map_err(Arc::new);
        if let Err(error) = &outcome {
            tracing::error!(%error, "a transaction failed");
            if !connection.is_autocommit() {
                // What a failed commit leaves open must not swallow the next group.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        for tell in done.drain(..) {
            tell(outcome.clone());
        }
    }
    // Whoever copies the file of a stopped server has everything. A reader that is still open
    // keeps the rest in the write-ahead log, where the next start finds it.
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the write-ahead log was not emptied");
    }
}

/// Runs a group in one transaction; a job that fails takes only its own writes with it.
fn commit(
    connection: &Connection,
    jobs: Vec<Job>,
    done: &mut Vec<Done>,
    faults: &Faults,
) -> Result<(), Error> {
    let run = |statement: &str| connection.prepare_cached(statement)?.execute([]).map(drop);
    run("BEGIN IMMEDIATE")?;
    // A savepoint copies each page that is changed: one job alone has the transaction itself.
    let alone = jobs.len() == 1;
    for job in jobs {
        if !alone {
            run("SAVEPOINT job")?;
        }
        let (keep, tell) = job(connection);
        done.push(tell);
        match (keep, alone) {
            (true, true) => {}
            (false, true) => {
                run("ROLLBACK")?;
                return Ok(());
            }
            (false, false) => {
                run("ROLLBACK TO job")?;
                run("RELEASE job")?;
            }
            (true, false) => run("RELEASE job")?,
        }
    }
    faults.point("append.before_commit")?;
    run("COMMIT")?;
    faults.point("append.after_commit")?;
    Ok(())
}

/// Errors of one commit go to many callers, and `rusqlite`'s can't be cloned.
fn copy(error: &Error) -> Error {
    match error {
        Error::Crash(crash) => Error::Crash(*crash),
        other => Error::Damaged(format!("a transaction was not committed: {other}")),
    }
}

fn connect(file: &Path, read_only: bool) -> Result<Connection, Error> {
    let flags = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
    };
    let connection = Connection::open_with_flags(file, flags)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "cache_size", if read_only { -2_000 } else { -8_000 })?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Plans must not depend on bound values: a bound LIMIT would be planned anew at each call.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if !read_only {
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "secure_delete", SECURE_DELETE)?;
    }
    Ok(connection)
}

fn migrate(connection: &Connection) -> Result<(), Error> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Error::Newer { found, known });
    }
    let start = usize::try_from(found).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(start) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;\n{migration}\nPRAGMA user_version = {};\nCOMMIT;",
            index + 1
        ))?;
    }
    Ok(())
}

fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// The folder is this process's for as long as it lives. The system ends it with the process,
/// however that ends.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing of the descriptor: a process that another thread is about to
        // start has a copy of it until it is executed, and would hold the folder as long.
        // A lock that can't be given up ends with its last descriptor all the same.
        let _ = self.0.unlock();
    }
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<Lock, Error> {
    let path = folder.join("lock");
    let fail = |source| Error::Folder { path: folder.to_owned(), source };
    let file = private_file(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(fail(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_database_gives_its_folder_free_though_a_copy_of_the_lock_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let options = || Options {
            folder: folder.path().to_owned(),
            durability: Durability::None,
            faults: Faults::default(),
        };
        let database = Database::open(options()).unwrap();
        // As a process has one that was forked a moment ago and is not executed yet.
        let copy = {
            let held = database.inner.lock.lock().unwrap();
            held.as_ref().unwrap().0.try_clone().unwrap()
        };
        assert!(matches!(Database::open(options()), Err(Error::Locked { .. })));
        database.close();
        Database::open(options()).unwrap();
        drop(copy);
    }
}
