//! The helper at work: takes calls, runs tools, keeps the journal.
//!
//! One thread for each call, and one that reads. The journal and the server's socket are its
//! own; what it starts inherits neither.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::Value;

use super::queue::{Queue, Ticket};
use crate::{
    frame::{self, FromHelper, ToHelper},
    journal,
    tools::{LOOKS, Outcome, Stop, Tools},
};

/// Room for a call's thread. Searches recurse, results do not lie on the stack.
const STACK: usize = 1 << 20;

/// What is said of a call that was stopped before it had begun.
const INTERRUPTED: &str = "[interrupted before it had begun]";

/// What the threads share.
struct Desk {
    tools: Tools,
    journal: File,
    answers: Mutex<UnixStream>,
    running: Mutex<HashMap<String, Stop>>,
    queue: Arc<Queue>,
}

/// Serves until the server is gone.
pub(crate) fn serve(mut server: UnixStream, journal: File, tools: Tools) -> io::Result<()> {
    let answers = Mutex::new(server.try_clone()?);
    let (running, queue) = (Mutex::default(), Arc::default());
    let desk = Arc::new(Desk { tools, journal, answers, running, queue });
    while let Some(order) = frame::read::<ToHelper>(&mut server)? {
        match order {
            ToHelper::Call { call, name, input } => take(&desk, call, name, input)?,
            ToHelper::Stop { call } => {
                if let Some(stop) = lock(&desk.running).get(&call) {
                    stop.stop();
                }
            }
            ToHelper::Setup(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

fn take(desk: &Arc<Desk>, call: String, name: String, input: Value) -> io::Result<()> {
    let stop = Stop::new()?;
    lock(&desk.running).insert(call.clone(), stop.clone());
    let (at_desk, id) = (Arc::clone(desk), call.clone());
    // Drawn here, where calls come in the order in which the model made them.
    let ticket = desk.queue.draw(!LOOKS.contains(&name.as_str()));
    let work = move || {
        let outcome = at_desk.run(&call, &name, &input, &stop, ticket);
        lock(&at_desk.running).remove(&call);
        // A server that is gone ends the reader, and with it the helper.
        let _ = frame::write(&mut *lock(&at_desk.answers), &FromHelper::Done { call, outcome });
    };
    if thread::Builder::new().stack_size(STACK).spawn(work).is_err() {
        lock(&desk.running).remove(&id);
        let text = "The sandbox has too many processes: the tool was not started. End some of them \
                    (restart the shell), then call it again.";
        let done = FromHelper::Done { call: id, outcome: Outcome::error(text) };
        frame::write(&mut *lock(&desk.answers), &done)?;
    }
    Ok(())
}

impl Desk {
    fn run(&self, call: &str, name: &str, input: &Value, stop: &Stop, turn: Ticket) -> Outcome {
        if !turn.wait(stop) {
            return Outcome::error(INTERRUPTED);
        }
        if journal::started(&self.journal, call).is_err() {
            return Outcome::error(
                "The sandbox's journal can't be written, so the tool was not run.",
            );
        }
        let outcome = self.tools.run(call, name, input, stop);
        // Without this line the outcome is unknown after a crash, and that is said then.
        let _ = journal::finished(&self.journal, call, &outcome);
        outcome
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
