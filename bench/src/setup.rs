//! What was asked for: which binaries, which disk, how long.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use tempfile::TempDir;

use crate::{Outcome, machine};

/// What was said on the command line.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The server's binary [default: beside this one]
    #[arg(long, global = true, env = "POSTHOUSE_BENCH_SERVER", value_name = "FILE")]
    server: Option<PathBuf>,
    /// Let this scripted model answer, in a process of its own, instead of the instant one
    #[arg(long, global = true, env = "POSTHOUSE_BENCH_MODEL", value_name = "FILE")]
    scripted_model: Option<PathBuf>,
    /// Where data folders are made; must be on a disk [default: the folder above this binary]
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The ordinary user that workers of `cage` and `call` become when this is run by root
    #[arg(long, global = true, value_name = "ID", default_value_t = 1000)]
    user: u32,
    /// The Python whose MCP client is compared with in `mcp`
    #[arg(long, global = true, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// How many cages are alive at once in `density` [default: 500, quick: 20]
    #[arg(long, global = true, value_name = "COUNT")]
    cages: Option<usize>,
    /// A few seconds in all: to see that it runs, not for figures
    #[arg(long, global = true)]
    quick: bool,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

/// The same, with everything found.
pub(crate) struct Setup {
    /// The server's binary.
    pub(crate) server: PathBuf,
    /// The scripted model's binary, when that is to answer.
    pub(crate) scripted_model: Option<PathBuf>,
    /// Where data folders are made.
    pub(crate) folder: PathBuf,
    /// Whom workers become that are not to be root.
    pub(crate) user: u32,
    /// The Python whose MCP client is compared with.
    pub(crate) python: PathBuf,
    /// How many cages are alive at once.
    pub(crate) cages: usize,
    /// Whether this is but a smoke run.
    pub(crate) quick: bool,
    /// Whether to print JSON.
    pub(crate) json: bool,
    stop: Arc<AtomicBool>,
}

impl Setup {
    /// Finds what the flags leave open. Not every bench needs a server.
    pub(crate) fn new(flags: Flags, with_server: bool, stop: Arc<AtomicBool>) -> Outcome<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let server = flags.server.unwrap_or_else(|| beside.join("posthouse"));
        let needed = with_server.then_some(&server).into_iter().chain(&flags.scripted_model);
        for binary in needed {
            if !binary.is_file() {
                let missing = binary.display();
                let build = "cargo build --release -p posthouse -p posthouse-testkit";
                return Err(format!("{missing} is not there; build it with `{build}`").into());
            }
        }
        let folder = flags.folder.unwrap_or_else(|| beside.parent().unwrap_or(beside).to_owned());
        if machine::file_system(&folder) == "tmpfs" {
            eprintln!(
                "posthouse-bench: {} is no disk: fsync costs nothing there",
                folder.display()
            );
        }
        Ok(Self {
            server,
            scripted_model: flags.scripted_model,
            folder,
            user: flags.user,
            python: flags.python,
            cages: flags.cages.unwrap_or(if flags.quick { 20 } else { 500 }),
            quick: flags.quick,
            json: flags.json,
            stop,
        })
    }

    /// A data folder that is gone when it is dropped.
    pub(crate) fn make_folder(&self) -> Outcome<TempDir> {
        let folder =
            tempfile::Builder::new().prefix("posthouse-bench-").tempdir_in(&self.folder)?;
        Ok(folder)
    }

    /// One number for figures, another for smoke runs.
    pub(crate) fn choose<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Fails once a signal has come.
    pub(crate) fn go_on(&self) -> Outcome<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err("stopped by a signal".into()),
            false => Ok(()),
        }
    }
}
