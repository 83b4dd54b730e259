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
    /// Whether this is but a smoke run.
    pub(crate) quick: bool,
    /// Whether to print JSON.
    pub(crate) json: bool,
    stop: Arc<AtomicBool>,
}

impl Setup {
    /// Finds what the flags leave open.
    pub(crate) fn new(flags: Flags, stop: Arc<AtomicBool>) -> Outcome<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let server = flags.server.unwrap_or_else(|| beside.join("posthouse"));
        for binary in [Some(&server), flags.scripted_model.as_ref()].into_iter().flatten() {
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
