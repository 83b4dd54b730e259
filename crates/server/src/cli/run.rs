//! `posthouse run`: gives an agent a task and shows what it does, through the public API of a
//! server that runs, or of one that is started here for as long as it takes.

mod agent;
mod home;
mod turn;

use std::{
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use self::{
    home::Home,
    turn::{Ended, Past, Turn},
};
use super::{
    Signals, note, place::PlaceArguments, say_text, screen::Look, sessions::session_id, variable,
};
use crate::Error;

const EXIT_CODES: &str = "\
Exit codes:
  0    the agent has finished its turn
  1    it has failed: an error that was not overcome, a session that was ended, a server that
       can't be reached or has refused
  2    what was typed can't be done
  3    it waits for an answer: to a tool call that needs your word, or of a tool of a program
  4    the turn has ended for another reason: a limit, or a refusal of the model
  130  it was interrupted

Ctrl-C (or SIGTERM) interrupts the agent; a second one leaves at once.";

/// `posthouse run …`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct RunArguments {
    /// What to do; `-` or nothing reads it from standard input
    task: Option<String>,
    /// The model; with --session the session goes on with it
    /// [default: the file's, else the first that the configuration can use]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A model that takes over when the one before it can't answer; may be given several times
    #[arg(long, value_name = "MODEL")]
    fallback: Vec<String>,
    /// An agent: a YAML file with name, model, system, tools, …
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Go on with a session; without a task, with what waits or is under way in it
    #[arg(
        long, value_name = "ID", value_parser = session_id,
        conflicts_with_all = ["agent", "title", "environment"],
    )]
    session: Option<String>,
    /// The new session's title
    #[arg(long, value_name = "TITLE")]
    title: Option<String>,
    /// The environment of the new session [default: one without restrictions]
    #[arg(long, value_name = "ID")]
    environment: Option<String>,
    /// Print the session's events as JSON, one per line
    #[arg(long)]
    json: bool,
    /// The configuration file, for a server that is started here
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArguments,
}

impl RunArguments {
    /// What is asked of models, as the object `posthouse` of a session's update; `None` when
    /// nothing is.
    fn models(&self) -> Option<Value> {
        let mut models = serde_json::Map::new();
        if let Some(model) = &self.model {
            models.insert("model".into(), model.as_str().into());
        }
        if !self.fallback.is_empty() {
            models.insert("fallback".into(), self.fallback.clone().into());
        }
        (!models.is_empty()).then(|| models.into())
    }
}

/// Runs what was typed.
///
/// # Errors
/// When the server can't be reached or refuses, or the input can't be used.
pub(super) async fn run(arguments: RunArguments) -> Result<ExitCode, Error> {
    let mut interrupts = Signals::new()?;
    let prepared = unless(&mut interrupts, async {
        // What was typed is checked before a server is looked for.
        let body = arguments.agent.as_deref().map(agent::read).transpose()?;
        let task = read_task(arguments.task.as_deref(), arguments.session.is_some()).await?;
        let home = Home::find(&arguments.place, arguments.config.clone()).await?;
        Ok((body, task, home))
    });
    let Some((body, task, home)) = prepared.await? else { return Ok(Ended::Left.code()) };
    let outcome = play(&arguments, body, task, &home, &mut interrupts).await;
    let at_once = matches!(outcome, Ok(Ended::Left));
    tokio::select! {
        () = home.stop(at_once) => {}
        _ = interrupts.next() => {}
    }
    outcome.map(Ended::code)
}

async fn play(
    arguments: &RunArguments,
    body: Option<Value>,
    task: Option<String>,
    home: &Home,
    interrupts: &mut Signals,
) -> Result<Ended, Error> {
    let began = Instant::now();
    let prepared = unless(interrupts, async {
        match (&arguments.session, arguments.models()) {
            (Some(session), Some(models)) => {
                agent::switch(home, session, models).await?;
                Ok((session.clone(), Past::Switched))
            }
            (Some(session), None) => Ok((session.clone(), Past::Old)),
            (None, _) => {
                let task = task.as_deref().unwrap_or_default();
                Ok((new_session(arguments, body, task, home).await?, Past::New))
            }
        }
    });
    let Some((session, past)) = prepared.await? else { return Ok(Ended::Left) };
    let look = look(arguments.json);
    if !look.live {
        note(&format!("session {session}"));
    }
    let mut turn = Turn::new(home, &session, look, arguments.json);
    let played = turn.play(task, past, interrupts).await;
    say_text(&turn.close());
    if look.live {
        say_text(&format!("{}\n", look.dim(&turn.summary(began.elapsed()))));
    }
    match &played {
        Ok(Ended::Left) => note(&home.left(&session)),
        Ok(Ended::Waits) | Err(_) if !look.live => {
            note(&format!("go on with: {}", home.command(&session)));
        }
        _ => {}
    }
    played
}

async fn new_session(
    arguments: &RunArguments,
    body: Option<Value>,
    task: &str,
    home: &Home,
) -> Result<String, Error> {
    let client = home.place.client()?;
    let mut body = body.unwrap_or_else(agent::usual);
    if let Some(model) = &arguments.model {
        body["model"] = model.as_str().into();
    } else if body["model"].is_null() {
        body["model"] = home.model()?.into();
    }
    if !arguments.fallback.is_empty() {
        agent::set_fallback(&mut body, &arguments.fallback);
    }
    let agent = agent::agent(&client, body, arguments.agent.as_deref()).await?;
    let environment = match &arguments.environment {
        Some(environment) => environment.clone(),
        None => agent::environment(&client).await?,
    };
    agent::session(&client, &agent, &environment, arguments.title.as_deref(), task).await
}

/// Does the work, unless somebody interrupts it.
async fn unless<T>(
    interrupts: &mut Signals,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<Option<T>, Error> {
    tokio::select! {
        done = work => done.map(Some),
        _ = interrupts.next() => Ok(None),
    }
}

/// What is to be done. Nothing, when a session is to go on by itself.
async fn read_task(typed: Option<&str>, goes_on: bool) -> Result<Option<String>, Error> {
    let task = match typed {
        None if std::io::stdin().is_terminal() => None,
        None | Some("-") => {
            // Nobody waits for this when the command is interrupted.
            let read = tokio::task::spawn_blocking(|| {
                let mut text = String::new();
                std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
            });
            let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let wrong =
                |error| Error::Usage(format!("task: standard input can't be read: {error}"));
            Some(read.map_err(wrong)?)
        }
        Some(task) => Some(task.to_owned()),
    };
    match task.filter(|task| !task.trim().is_empty()) {
        None if !goes_on || typed.is_some() => {
            Err(Error::Usage("task: is empty; say what to do: posthouse run \"…\"".into()))
        }
        task => Ok(task),
    }
}

/// How standard output wants things shown.
fn look(json: bool) -> Look {
    let output = std::io::stdout();
    if json || !output.is_terminal() {
        return Look::PLAIN;
    }
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let colour = given("NO_COLOR").is_none() && given("TERM").is_none_or(|term| term != "dumb");
    let size = rustix::termios::tcgetwinsize(&output);
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    let width = if columns == 0 { 80 } else { columns.max(20) };
    Look { colour, live: true, width }
}
