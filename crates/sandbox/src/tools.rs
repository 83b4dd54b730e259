//! The six tools, as the helper runs them: `bash`, `read`, `write`, `edit`, `glob`, `grep`.
//!
//! Plain threads and blocking calls. Nothing here isolates: whoever makes a [`Tools`] has put
//! this process into a cage before, or was told to do without one. No input of a call is ever
//! trusted, and no call makes the process use more memory than its limits name.

mod bash;
mod children;
mod edit;
mod glob;
mod grep;
mod input;
mod notebook;
mod output;
mod place;
pub mod program;
mod read;
mod shell;
mod spill;
mod stop;
mod turn;
mod walk;
mod warden;
mod write;

#[cfg(test)]
mod tests;

use std::{os::fd::OwnedFd, panic, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use spill::spilled;
pub use stop::Stop;

use crate::settings::Limits;

/// The tools that change nothing. Each other one runs alone.
pub const LOOKS: [&str; 3] = ["read", "glob", "grep"];

/// Where results go that are too long for a model, inside.
pub(crate) const SPILL: &str = "/tmp/tool-results";

/// Where tools work.
#[derive(Debug, Clone)]
pub struct Workplace {
    /// `None` inside a cage, whose root is all there is. Without isolation, the session's tree:
    /// file tools take absolute paths below it and can't leave it.
    pub root: Option<PathBuf>,
    /// Where the shell starts and where relative paths begin: `/workspace`.
    pub directory: PathBuf,
    /// Where results go that are too long for a model: `/tmp/tool-results`.
    pub spill: PathBuf,
    /// The shell: `/bin/bash`, of version 4.4 or later.
    pub shell: PathBuf,
    /// The whole environment of the shell.
    pub environment: Vec<(String, String)>,
    /// The longest that one call may take.
    pub longest_call: Duration,
    /// How the processes of a shell are found when they have to end.
    pub children: Children,
    /// What a shell and its children may use less than this process; `None` leaves them what it
    /// has.
    pub limits: Option<Limits>,
}

/// How the processes of a shell are found when they have to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// This process is the first of a process namespace, and all others are the shell's. They
    /// are reaped here, too, so nobody else may wait for children.
    Namespace,
    /// The shell's session, its group and its descendants. A process that has left its session
    /// and lost its parent is not found.
    Group,
}

/// What came of a call.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Content blocks, as a `tool_result` of the Messages API takes them.
    pub content: Value,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl Outcome {
    /// A success in words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self { content: json!([{ "type": "text", "text": text }]), is_error: false }
    }

    /// An error in words.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }
}

/// What a tool answers: words for a failure, blocks for a success.
pub(crate) type Answer = Result<Outcome, String>;

/// What is said of a call that was ended from outside before it had a result.
pub(crate) const INTERRUPTED: &str = "[interrupted]";

/// The tools of one session. Shared by the threads that run calls.
pub struct Tools {
    workplace: Workplace,
    place: place::Place,
    bash: bash::Bash,
    /// Held by whoever changes a file: two edits of one file must not lose each other.
    changes: turn::Turn,
}

impl Tools {
    /// Starts nothing yet: the shell begins with the first command.
    #[must_use]
    pub fn new(mut workplace: Workplace) -> Self {
        if !rustix::process::getpid().is_init() {
            // There is no namespace of ours: whatever else runs as this user must not be killed
            // or reaped here.
            workplace.children = Children::Group;
        }
        Self {
            place: place::Place::new(&workplace),
            bash: bash::Bash::default(),
            changes: turn::Turn::default(),
            workplace,
        }
    }

    /// Runs one call and blocks until it has ended. `call` is its id, `stop` ends it early,
    /// within a second.
    pub fn run(&self, call: &str, name: &str, input: &Value, stop: &Stop) -> Outcome {
        // A tool that panics must not take the thread's work with it: the call gets an answer.
        let answer = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            if stop.is_stopped() {
                return Err(INTERRUPTED.to_owned());
            }
            match name {
                "bash" => self.bash.run(&self.workplace, &self.place, input, stop),
                "read" => read::run(&self.place, input, stop),
                "write" => write::run(&self.place, &self.changes, input, stop),
                "edit" => edit::run(&self.place, &self.changes, input, stop),
                "glob" => glob::run(&self.place, input, stop),
                "grep" => grep::run(&self.place, input, stop),
                _ => Err(format!(
                    "There is no tool {name:?} here; the tools are bash, read, write, edit, glob \
                     and grep."
                )),
            }
        }))
        .unwrap_or_else(|_| Err(format!("The tool {name} has failed inside.")));
        let outcome = answer.unwrap_or_else(Outcome::error);
        // The shell has a limit of its own, below which nothing is worth a file.
        if name == "bash" {
            return outcome;
        }
        spill::shorten(&self.place, &self.workplace.spill, call, outcome)
    }

    /// Runs a program beside the tools until it has ended, and says what has happened to it. `input`
    /// and `output` are its own. `began` is called when it was executed, `stop` ends it, with
    /// everything that it has started. The calling thread is used for nothing else meanwhile.
    pub(crate) fn run_program(
        &self,
        program: &program::Program,
        usual: [OwnedFd; 2],
        stop: &Stop,
        began: impl FnOnce(),
    ) -> String {
        program::run(&self.workplace, &self.place, program, usual, stop, began)
    }

    /// Says `note` in one line in front of the next result of `bash`: why its shell is fresh.
    pub fn note_fresh_shell(&self, note: &str) {
        self.bash.note(note);
    }
}
