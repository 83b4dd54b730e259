//! The tool `bash`: its input, its queue, and the words around what a command has printed.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Answer, INTERRUPTED, Outcome, Stop, Workplace,
    input::Input,
    place::Place,
    shell::{End, Ran, Shell},
    turn::{Turn, lock},
};

/// How long a command may take that does not say it.
const USUAL: Duration = Duration::from_secs(120);

/// The longest command in bytes.
const LONGEST_COMMAND: usize = 2 << 20;

const FRESH: &str = "[This is a fresh shell: the directory, variables and background processes of \
    the former one are gone.]";

/// The shell of a session, and who waits for it.
#[derive(Default)]
pub(crate) struct Bash {
    turn: Turn,
    shell: Mutex<Option<Shell>>,
    note: Mutex<Option<String>>,
}

impl Bash {
    /// Says `note` in front of the next result.
    pub(crate) fn note(&self, note: &str) {
        // One line, whatever it was.
        let line = note.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
        *lock(&self.note) = Some(line);
    }

    pub(crate) fn run(
        &self,
        workplace: &Workplace,
        place: &Place,
        input: &Value,
        stop: &Stop,
    ) -> Answer {
        let input = Input::new("bash", input, &["command", "restart", "timeout_ms"])?;
        let command = input.optional_text("command")?.filter(|command| !command.is_empty());
        let restart = input.flag("restart")?;
        let allowed = time_allowed(&input, workplace.longest_call)?;
        if command.is_none() && !restart {
            return Err("bash: command is required".to_owned());
        }
        if let Some(command) = command {
            if command.contains('\0') {
                return Err("command: holds a NUL; bash knows none".to_owned());
            }
            if command.len() > LONGEST_COMMAND {
                return Err(format!(
                    "command: {} bytes; at most {LONGEST_COMMAND} are taken, write a file instead",
                    command.len()
                ));
            }
        }
        let Some(_turn) = self.turn.take(stop) else {
            return Err(format!("{INTERRUPTED} The command was not started."));
        };
        let mut shell = lock(&self.shell);
        if restart {
            *shell = None;
            *lock(&self.note) = None;
        }
        let Some(command) = command else {
            return Ok(Outcome::text("bash session restarted"));
        };
        let deadline = Instant::now() + allowed;
        if shell.as_ref().is_some_and(Shell::has_ended) {
            *shell = None;
            self.say_fresh();
        }
        let running = match shell.as_mut() {
            Some(running) => running,
            None => shell.insert(Shell::start(workplace, place).map_err(|error| {
                format!(
                    "The shell {} can't be started in {}: {error}",
                    workplace.shell.display(),
                    workplace.directory.display()
                )
            })?),
        };
        let (ran, mut text) = running.run(command, deadline, stop);
        if !matches!(ran, Ran::Done(_)) {
            *shell = None;
        }
        if let Some(note) = lock(&self.note).take() {
            text.insert_str(0, &format!("{note}\n"));
        }
        if restart {
            text.insert_str(0, "bash session restarted\n");
        }
        if !matches!(ran, Ran::Done(_)) {
            self.say_fresh();
        }
        Ok(outcome(ran, text, allowed))
    }

    /// The next result says that its shell is fresh, unless it has a better reason to.
    fn say_fresh(&self) {
        lock(&self.note).get_or_insert_with(|| FRESH.to_owned());
    }
}

fn time_allowed(input: &Input<'_>, longest: Duration) -> Result<Duration, String> {
    match input.count("timeout_ms")? {
        0 => Ok(USUAL.min(longest)),
        asked => {
            let asked = Duration::from_millis(asked);
            if asked > longest {
                return Err(format!(
                    "timeout_ms: {}; at most {} is allowed here",
                    asked.as_millis(),
                    longest.as_millis()
                ));
            }
            Ok(asked)
        }
    }
}

/// The result of a command that has printed `text`.
fn outcome(ran: Ran, mut text: String, allowed: Duration) -> Outcome {
    let last = match ran {
        Ran::Done(0) => None,
        Ran::Done(code) => Some(match signal_of(code) {
            Some(signal) => format!("[exit code {code}: killed by signal {signal}]"),
            None => format!("[exit code {code}]"),
        }),
        Ran::Ended(End::Code(code)) => Some(format!(
            "[exit code {code}: the shell has ended, and everything that it had started was killed]"
        )),
        Ran::Ended(End::Signal(signal)) => Some(format!(
            "[the shell was killed by signal {signal}, and everything that it had started was \
             killed]"
        )),
        Ran::Ended(End::Unknown) => {
            Some("[the shell has ended, and everything that it had started was killed]".to_owned())
        }
        Ran::TimedOut => Some(format!(
            "[timed out after {} ms: the shell and everything that it had started were killed]",
            allowed.as_millis()
        )),
        Ran::Stopped => {
            Some(format!("{INTERRUPTED} The shell and everything that it had started were killed."))
        }
    };
    if let Some(last) = last {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&last);
    } else if text.is_empty() {
        text.push_str("(no output)");
    }
    let is_error = !matches!(ran, Ran::Done(0) | Ran::Ended(End::Code(0)));
    Outcome { is_error, ..Outcome::text(text) }
}

/// The signal that an exit code stands for: bash adds 128 to it.
fn signal_of(code: i32) -> Option<i32> {
    (129..=128 + 64).contains(&code).then(|| code - 128)
}
