//! The helper at work: takes calls, runs tools, keeps the journal.
//!
//! One thread for each call and each program, and one that reads. The journal and the server's socket are its
//! own; what it starts inherits neither.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::Value;

use super::{
    orders::Orders,
    queue::{Queue, Ticket},
};
use crate::{
    frame::{self, FromHelper, ToHelper},
    journal,
    tools::{
        LOOKS, Outcome, Stop, Tools,
        program::{self, Program},
    },
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
    programs: Mutex<HashMap<u64, Stop>>,
    queue: Arc<Queue>,
}

/// Serves until the server is gone.
pub(crate) fn serve(server: UnixStream, journal: File, tools: Tools) -> io::Result<()> {
    let answers = Mutex::new(server.try_clone()?);
    let (running, programs, queue) = (Mutex::default(), Mutex::default(), Arc::default());
    let desk = Arc::new(Desk { tools, journal, answers, running, programs, queue });
    let mut orders = Orders::new(server);
    while let Some((order, beside)) = orders.next()? {
        match order {
            ToHelper::Call { call, name, input } => take(&desk, call, name, input)?,
            ToHelper::Stop { call } => {
                if let Some(stop) = lock(&desk.running).get(&call) {
                    stop.stop();
                }
            }
            ToHelper::Program { number, program } => begin(&desk, number, program, beside)?,
            ToHelper::EndProgram { number } => {
                if let Some(stop) = lock(&desk.programs).get(&number) {
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
        at_desk.tell(&FromHelper::Done { call, outcome });
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

/// Starts a program beside the calls.
fn begin(desk: &Arc<Desk>, number: u64, program: Program, beside: Vec<OwnedFd>) -> io::Result<()> {
    let usual = <[OwnedFd; 2]>::try_from(beside).map_err(|_| io::ErrorKind::InvalidData)?;
    let stop = Stop::new()?;
    let running = {
        let mut programs = lock(&desk.programs);
        programs.insert(number, stop.clone());
        programs.len()
    };
    let at_desk = Arc::clone(desk);
    let work = move || {
        let began = || at_desk.tell(&FromHelper::Began { number });
        let why = at_desk.tools.run_program(&program, usual, &stop, began);
        lock(&at_desk.programs).remove(&number);
        at_desk.tell(&FromHelper::Ended { number, why });
    };
    let refused = if running > program::MOST as usize {
        Some("can't be started: too many programs run already")
    } else {
        let spawned = thread::Builder::new().name("program".into()).stack_size(STACK).spawn(work);
        spawned.err().map(|_| "can't be started: the sandbox has too many processes")
    };
    if let Some(why) = refused {
        lock(&desk.programs).remove(&number);
        desk.tell(&FromHelper::Ended { number, why: why.to_owned() });
    }
    Ok(())
}

impl Desk {
    /// Tells the server. One that is gone ends the reader, and with it the helper.
    fn tell(&self, frame: &FromHelper) {
        let _ = frame::write(&mut *lock(&self.answers), frame);
    }

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
