//! Hands that work in cages: what the harness, the log and the files of a session have to do with
//! its sandbox.
//!
//! Knows what is mounted in a cage and which calls run in it, starts it when a model names its
//! tools, and takes in what the tools have put out before a session rests. How a cage is made
//! and kept is the sandbox's own business.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use posthouse_protocol::{Micros, file, id::IdKind};
use posthouse_sandbox::{
    Cages, Mount, Place, Refused, Source,
    journal::Found,
    settings::Start,
    tools::{LOOKS, Outcome},
    tree::Entry,
};
use posthouse_store::{
    Blobs, Error, Log,
    log::Range,
    tables::{
        files::{self, Insertion, NewFile},
        outputs, resources,
    },
};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    clock::{Chance, Clock},
    sessions,
    tools::{Hands, Pipe, Program, ToolCall, ToolFuture, ToolOutcome, UNKNOWN_OUTCOME, Work},
    vault::{KeeperOf, Vaults},
};

pub mod networking;

/// How many files of one session are taken in at one rest. More wait for the next.
const MOST_OUTPUTS: usize = 1000;

/// Everything that caged hands are made of.
pub struct CagedParts {
    /// The cages.
    pub cages: Arc<Cages>,
    /// The logs.
    pub log: Log,
    /// The contents of files.
    pub blobs: Blobs,
    /// The secrets of sessions, and what their sandboxes have done.
    pub vaults: Vaults,
    /// The most bytes of one file.
    pub file_bytes: u64,
    /// The most bytes of all files together.
    pub quota_bytes: u64,
    /// Time.
    pub clock: Clock,
    /// Ids.
    pub chance: Chance,
}

impl CagedParts {
    fn mounts(&self, session: &str) -> Result<Vec<Mount>, Error> {
        let id = session.to_owned();
        let rows =
            self.log.database().read(move |connection| resources::of_session(connection, &id))?;
        Ok(rows
            .into_iter()
            // What has expired is not mounted any more.
            .filter_map(|row| {
                Some(Mount {
                    path: row.mount_path.into(),
                    literal: row.literal_path.map(PathBuf::from),
                    source: self.blobs.path(&row.blob?),
                })
            })
            .collect())
    }
}

/// Hands that work in cages. Clones share everything.
#[derive(Clone)]
pub struct Caged {
    parts: Arc<CagedParts>,
    /// What cages of sessions at work are made with.
    places: Arc<Mutex<HashMap<Arc<str>, Place>>>,
    /// The last call of each session at work: calls reach a sandbox in the model's order.
    turns: Arc<Mutex<HashMap<Arc<str>, oneshot::Receiver<()>>>>,
    running: Running,
}

/// A call that a sandbox has, and whether it only looks.
type Given = (Arc<str>, bool);
/// What sandboxes have, by their sessions and in the order in which it was given to them.
type Calls = HashMap<Arc<str>, Vec<Given>>;

/// The calls that sandboxes have and nobody has answered. Clones share everything.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Calls>>);

impl Running {
    fn sessions(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call as given until what comes back is dropped.
    fn begin(&self, call: &ToolCall) -> Begun {
        let given = (Arc::clone(&call.call), LOOKS.contains(&&*call.name));
        self.sessions().entry(Arc::clone(&call.session)).or_default().push(given);
        let (session, call) = (Arc::clone(&call.session), Arc::clone(&call.call));
        Begun { running: self.clone(), session, call }
    }

    /// Tells which of a session's calls run now, whenever it is asked: what only looks runs
    /// together, and everything else alone and in its order.
    fn of(&self, session: &Arc<str>) -> Arc<dyn Fn() -> Vec<Arc<str>> + Send + Sync> {
        let (running, session) = (self.clone(), Arc::clone(session));
        Arc::new(move || {
            let sessions = running.sessions();
            let given = sessions.get(&session).map_or(&[][..], Vec::as_slice);
            let looks = given.iter().take_while(|(_, looks)| *looks).count();
            // A change waits for all before it.
            given[..looks.max(1).min(given.len())].iter().map(|(id, _)| Arc::clone(id)).collect()
        })
    }
}

/// A call that runs, whether it ends or is interrupted.
struct Begun {
    running: Running,
    session: Arc<str>,
    call: Arc<str>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut sessions = self.running.sessions();
        let Some(calls) = sessions.get_mut(&self.session) else { return };
        calls.retain(|(call, _)| *call != self.call);
        if calls.is_empty() {
            sessions.remove(&self.session);
        }
    }
}

impl Caged {
    /// Hands that hold nothing yet.
    #[must_use]
    pub fn new(parts: CagedParts) -> Self {
        Self {
            parts: Arc::new(parts),
            places: Arc::default(),
            turns: Arc::default(),
            running: Running::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Arc<str>, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session's cage is made with, as its log and its resources say.
    fn place(&self, session: &Arc<str>) -> Result<Place, Error> {
        if let Some(place) = self.places().get(session) {
            return Ok(place.clone());
        }
        let log = &self.parts.log;
        let (row, document) = log
            .row_and_document(session)?
            .ok_or_else(|| Error::Damaged("no such session".into()))?;
        let now = sessions::read_document(&document)?;
        let opened = sessions::read_opened(&log.read(row.number, &Range::first())?)?;
        let networking = networking::networking(&opened, &now.agent.mcp_servers)
            .map_err(|error| Error::Damaged(error.to_string()))?;
        let session = Arc::clone(session);
        let keeper = self.parts.vaults.keeper(KeeperOf {
            session: Arc::clone(&session),
            workspace: row.workspace.as_str().into(),
            vaults: opened.vault_ids.into(),
            calls: self.running.of(&session),
        });
        let place = Place {
            session: Arc::clone(&session),
            number: row.number,
            networking,
            keeper,
            mounts: self.source(&session),
        };
        self.places().insert(session, place.clone());
        Ok(place)
    }

    /// What is mounted, as it is when somebody asks.
    fn source(&self, session: &Arc<str>) -> Source {
        let (parts, session) = (Arc::clone(&self.parts), Arc::clone(session));
        Arc::new(move || parts.mounts(&session).map_err(std::io::Error::other))
    }

    /// A place in the order of a session's calls: what to wait for, and what to drop.
    fn turn(&self, session: &Arc<str>) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (done, next) = oneshot::channel();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        (turns.insert(Arc::clone(session), next), done)
    }

    async fn run(
        self,
        call: ToolCall,
        before: Option<oneshot::Receiver<()>>,
        turn: oneshot::Sender<()>,
    ) -> ToolOutcome {
        if let Some(before) = before {
            // Dropped, not sent: the call before is on its way, or never will be.
            let _ = before.await;
        }
        let place = match self.place(&call.session) {
            Ok(place) => place,
            Err(error) => {
                tracing::error!(session = %call.session, %error, "a sandbox can't be described");
                return ToolOutcome::error("The sandbox can't be started; nothing was run.");
            }
        };
        let input: Value = match serde_json::from_str(call.input.get()) {
            Ok(input) => input,
            Err(error) => return ToolOutcome::error(format!("The input is no JSON: {error}")),
        };
        let _begun = self.running.begin(&call);
        match self.parts.cages.call(&place, &call.call, &call.name, input, turn).await {
            Ok(outcome) => of(outcome),
            Err(refused) => {
                tracing::warn!(session = %call.session, %refused, "there is no sandbox");
                ToolOutcome::error(refused.to_string())
            }
        }
    }

    /// Keeps a text as the result of a call. A session without files gets them with its sandbox.
    async fn keep_in(&self, place: Place, call: &Arc<str>, text: String) -> Result<String, String> {
        let cages = &self.parts.cages;
        if !cages.has_files(&place.session) {
            cages.start(place.clone()).await.map_err(|refused| refused.to_string())?;
        }
        let (cages, call) = (Arc::clone(cages), Arc::clone(call));
        let kept = tokio::task::spawn_blocking(move || cages.keep_text(&place, &call, &text));
        kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Takes in what the tools have put out and nobody has taken in yet.
    async fn take_in(&self, session: &Arc<str>) -> Result<(), Error> {
        let (cages, of) = (Arc::clone(&self.parts.cages), Arc::clone(session));
        let found = tokio::task::spawn_blocking(move || cages.outputs(&of)).await;
        let mut found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(%session, %error, "a session's outputs can't be listed");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        if found.is_empty() {
            return Ok(());
        }
        let row = self.parts.log.row(session)?;
        let Some(row) = row else { return Ok(()) };
        let number = row.number;
        let known: HashSet<(String, String)> = self
            .parts
            .log
            .database()
            .read(move |connection| outputs::of_session(connection, number))?
            .into_iter()
            .collect();
        found.retain(|entry| !known.contains(&(name_of(&entry.path), stamp(entry))));
        // The oldest first, so that the newest is listed first.
        found.sort_by(|one, other| (one.changed, &one.path).cmp(&(other.changed, &other.path)));
        found.truncate(MOST_OUTPUTS);
        for entry in found {
            self.take_in_one(session, &row.workspace, number, entry).await?;
        }
        Ok(())
    }

    async fn take_in_one(
        &self,
        session: &Arc<str>,
        workspace: &str,
        number: i64,
        entry: Entry,
    ) -> Result<(), Error> {
        let (parts, of, path) = (Arc::clone(&self.parts), Arc::clone(session), entry.path.clone());
        let copied = tokio::task::spawn_blocking(move || {
            let source = parts.cages.open_output(&of, &path).map_err(|error| error.to_string())?;
            parts.blobs.take_in(source, parts.file_bytes).map_err(|error| error.to_string())
        });
        let mut content = match copied.await {
            Ok(Ok(content)) => content,
            Ok(Err(error)) => {
                // Gone again, too large, or something else by now: there is no file then.
                tracing::info!(%session, error, "an output was not taken in");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let at = self.parts.clock.now();
        let base = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let base = file::output_filename(&base);
        let mime_type = file::sniff(&content.head, &base).to_owned();
        let new = NewFile {
            id: IdKind::File.mint(at, self.parts.chance.bytes()),
            filename: base,
            mime_type,
            at,
            expires_at: None,
        };
        let (path, stamp) = (name_of(&entry.path), stamp(&entry));
        let (workspace, session_id) = (workspace.to_owned(), session.to_string());
        let quota = self.parts.quota_bytes;
        let stored = self
            .parts
            .log
            .database()
            .write::<_, Error>(move |connection| {
                let stored = files::insert_output(
                    connection,
                    &workspace,
                    &session_id,
                    new,
                    &mut content,
                    quota,
                )?;
                if matches!(stored, Insertion::Stored(_)) {
                    outputs::keep(connection, number, &path, &stamp)?;
                }
                Ok(stored)
            })
            .await?;
        if stored == Insertion::QuotaExceeded {
            tracing::warn!(%session, "an output was not taken in: the storage quota is used up");
        }
        Ok(())
    }
}

impl Hands for Caged {
    fn call(&self, call: ToolCall) -> ToolFuture {
        let (before, turn) = self.turn(&call.session);
        Box::pin(self.clone().run(call, before, turn))
    }

    fn recover(&self, call: ToolCall) -> ToolFuture {
        let hands = self.clone();
        let (before, turn) = self.turn(&call.session);
        Box::pin(async move {
            match hands.parts.cages.find_call(&call.session, &call.call).await {
                Found::Finished(outcome) => of(outcome),
                Found::Unknown => ToolOutcome::error(UNKNOWN_OUTCOME),
                Found::NeverRan => hands.run(call, before, turn).await,
            }
        })
    }

    fn expect(&self, session: &Arc<str>) {
        // The call that follows meets the same refusal and tells it.
        let Ok(place) = self.place(session) else { return };
        let starting = self.parts.cages.start(place);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends when the sandbox stands or is refused"
        )]
        tokio::task::spawn(async move {
            let _ = starting.await;
        });
    }

    fn before_model(&self, session: &Arc<str>) -> Option<Work<()>> {
        if self.parts.cages.settings().start == Start::Lazy {
            return None;
        }
        let place = self.place(session).ok()?;
        let starting = self.parts.cages.start(place);
        Some(Box::pin(async move {
            let _ = starting.await;
        }))
    }

    fn rest(&self, session: &Arc<str>) -> Option<Work<()>> {
        self.places().remove(session);
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        if !self.parts.cages.knows(session) {
            return None;
        }
        let hands = self.clone();
        let session = Arc::clone(session);
        Some(Box::pin(async move {
            if let Err(error) = hands.take_in(&session).await {
                tracing::error!(%session, %error, "outputs were not taken in");
            }
            hands.parts.cages.rest(&session);
        }))
    }

    fn mounts_changed(&self, session: &str) -> Work<()> {
        let hands = self.clone();
        let session: Arc<str> = session.into();
        Box::pin(async move {
            let changed = tokio::task::spawn_blocking(move || {
                let source = hands.source(&session);
                hands.parts.cages.mounts_changed(&session, &source)
            });
            if let Ok(Err(error)) = changed.await {
                tracing::error!(%error, "a session's uploads were not brought up to date");
            }
        })
    }

    fn live(&self) -> Vec<(Arc<str>, Value)> {
        let live = self.parts.cages.live();
        live.into_iter()
            .map(|one| {
                let mut shown = serde_json::to_value(&one).unwrap_or_default();
                shown["started_at"] = Micros(one.started_at).to_rfc3339().into();
                (one.session_id, shown)
            })
            .collect()
    }

    fn kill(&self, session: &str) -> Work<bool> {
        let (cages, session) = (Arc::clone(&self.parts.cages), session.to_owned());
        Box::pin(async move { cages.kill(&session).await })
    }

    fn delete(&self, session: &str) -> Work<()> {
        self.places().remove(session);
        let (cages, session) = (Arc::clone(&self.parts.cages), session.to_owned());
        #[expect(clippy::disallowed_methods, reason = "ends when the files are deleted")]
        let deleting = tokio::task::spawn(async move {
            if let Err(error) = cages.delete(&session).await {
                tracing::error!(session, %error, "a session's files were not deleted");
            }
        });
        // A caller who leaves does not stop it halfway.
        Box::pin(async move {
            let _ = deleting.await;
        })
    }

    fn start_server(
        &self,
        session: &Arc<str>,
        program: Program,
    ) -> Work<Result<Box<dyn Pipe>, String>> {
        let (hands, session) = (self.clone(), Arc::clone(session));
        Box::pin(async move {
            let place = hands.place(&session).map_err(|error| {
                tracing::error!(%session, %error, "a sandbox can't be described");
                "The sandbox can't be started.".to_owned()
            })?;
            let Program { name, command, args, env } = program;
            let program =
                posthouse_sandbox::Program { command, args, env: env.into_iter().collect() };
            match hands.parts.cages.start_program(&place, program).await {
                Ok(pipe) => Ok(Box::new(pipe) as Box<dyn Pipe>),
                Err(Refused::Program(why)) => Err(format!("The program of {name:?} {why}")),
                Err(refused) => {
                    tracing::warn!(%session, %refused, "there is no sandbox");
                    Err(refused.to_string())
                }
            }
        })
    }

    fn hold(&self, session: &str) -> Option<Box<dyn Send + Sync>> {
        self.parts.cages.hold(session).map(|used| Box::new(used) as Box<dyn Send + Sync>)
    }

    fn keep_text(&self, call: &ToolCall, text: String) -> Work<Option<String>> {
        let (hands, call) = (self.clone(), call.clone());
        Box::pin(async move {
            let session = &call.session;
            let kept = match hands.place(session) {
                Ok(place) => hands.keep_in(place, &call.call, text).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = &kept {
                tracing::warn!(%session, error, "a long result was not kept in a file");
            }
            kept.ok()
        })
    }

    fn sweep(&self) {
        self.parts.cages.sweep();
    }

    fn stop(&self) -> Work<()> {
        let cages = Arc::clone(&self.parts.cages);
        Box::pin(async move { cages.stop().await })
    }
}

fn of(Outcome { content, is_error }: Outcome) -> ToolOutcome {
    ToolOutcome { content, is_error, ..ToolOutcome::default() }
}

/// A path as a text, without loss: one that is no text is written in hex.
fn name_of(path: &Path) -> String {
    match path.to_str() {
        Some(path) => path.to_owned(),
        None => {
            let bytes = posthouse_store::record::hex(path.as_os_str().as_encoded_bytes());
            format!("\0{bytes}")
        }
    }
}

/// What tells a file from the same file after a change.
fn stamp(entry: &Entry) -> String {
    format!("{} {} {} {}", entry.size, entry.modified, entry.changed, entry.inode)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn call(session: &str, id: &str, name: &str) -> ToolCall {
        ToolCall {
            session: session.into(),
            thread: "sthr_1".into(),
            call: id.into(),
            name: name.into(),
            input: Arc::from(RawValue::from_string("{}".into()).unwrap()),
        }
    }

    #[test]
    fn a_session_s_calls_are_those_that_run_now() {
        let running = Running::default();
        let calls = running.of(&"one".into());
        let told = || calls().iter().map(|call| call.to_string()).collect::<Vec<_>>();
        assert_eq!(told(), [""; 0]);
        let read = running.begin(&call("one", "1", "read"));
        let grep = running.begin(&call("one", "2", "grep"));
        let bash = running.begin(&call("one", "3", "bash"));
        let late = running.begin(&call("one", "4", "glob"));
        let other = running.begin(&call("two", "5", "bash"));
        assert_eq!(told(), ["1", "2"]);
        drop(read);
        assert_eq!(told(), ["2"]);
        drop(grep);
        assert_eq!(told(), ["3"]);
        // One that was interrupted before it had begun is none any more.
        drop(late);
        let next = running.begin(&call("one", "6", "bash"));
        assert_eq!(told(), ["3"]);
        drop(bash);
        assert_eq!(told(), ["6"]);
        drop(next);
        assert_eq!(told(), [""; 0]);
        assert_eq!(running.of(&"two".into())(), ["5".into()]);
        drop(other);
        assert!(running.sessions().is_empty(), "nothing is kept of sessions at rest");
    }
}
