//! `posthouse demo`: the whole road without a key and without a network.
//!
//! A provider that is scripted and says so answers through the real server, log, harness, sandbox
//! and public API. The demo drives them with the client that everybody else could be, and fails
//! when what it sees is not what it should be. Where the host allows no sandbox it says so, and
//! never that it has passed.

mod folder;
mod scripted;
mod visit;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use posthouse_model::{Catalog, Provider, Providers};
use posthouse_sandbox::host::{self, Finding, State};

use self::{folder::TemporaryFolder, scripted::Scripted, visit::Visit};
use crate::{
    Error,
    cli::say,
    client::Client,
    config::{Config, Egress, Files, Limits, Mcp, Sandbox, Vault, Web},
    sandbox::FOLDER,
    start::{self, Running},
};

/// How long it waits for its own server to stop.
const GRACE: Duration = Duration::from_secs(2);

/// The model that the scripted provider serves.
const MODEL: &str = "demo/scripted";

/// What the provider asks a shell to do in the first turn, and after the restart.
const COMMANDS: [&str; 2] = [
    "uname -sr; id -un; echo 'written by a shell in a sandbox' > /mnt/session/outputs/hello.txt; \
     ls -l /mnt/session/outputs",
    "cat /mnt/session/outputs/hello.txt",
];

/// The file that the shell writes.
const FILE: (&str, &str) = ("hello.txt", "written by a shell in a sandbox\n");

/// What a tool's refusal begins with where the host allows no sandbox.
const NOT_ALLOWED: &str = "This host does not allow sandboxes";

/// A part that can be left out, to show that the demo needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Nothing listens.
    Server,
    /// What was written is gone after the restart.
    Log,
    /// Nobody works on sessions.
    Harness,
    /// Nobody answers to the model's name.
    Provider,
    /// The program that makes sandboxes is not there.
    Sandbox,
}

/// How a demo has ended that has not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything was shown.
    Passed,
    /// The host allows no sandbox: no tool was run, and all else was shown.
    WithoutSandbox,
}

/// Runs the demo. `helper` is the program that is executed as the sandbox's helper: the binary of
/// this very package.
///
/// # Errors
/// [`Error::Demo`] and others that say what was not as it should be.
pub async fn run(without: Option<Part>, helper: PathBuf) -> Result<Ending, Error> {
    let folder = TemporaryFolder::make()?;
    say!("posthouse demo: a scripted model, no key, no network");
    let helper = match without {
        Some(Part::Sandbox) => folder.path().join("no-such-program"),
        _ => helper,
    };
    let stage = Stage { folder: folder.path().to_owned(), helper, without };
    let running = stage.open().await?;
    say!("       server on {}, data in {}", running.url, folder.path().display());
    let client = client(&running)?;
    let running = match without {
        Some(Part::Server) => {
            running.stop(GRACE).await;
            None
        }
        _ => Some(running),
    };
    let played = stage.play(&client).await;
    if let Some(running) = running {
        running.stop(GRACE).await;
    }
    let (mut visit, ending) = played?;
    say!("       server stopped; opening its database again");
    if without == Some(Part::Log) {
        folder.clear()?;
    }
    let running = stage.open().await?;
    let played = play_again(&self::client(&running)?, &mut visit, ending).await;
    running.stop(GRACE).await;
    played?;
    match ending {
        Ending::Passed => say!("demo passed"),
        Ending::WithoutSandbox => {
            say!("demo ended without a sandbox: no tool was run, no file was made; all else works");
        }
    }
    Ok(ending)
}

/// What the demo is played on, twice on the same folder.
struct Stage {
    folder: PathBuf,
    helper: PathBuf,
    without: Option<Part>,
}

impl Stage {
    async fn open(&self) -> Result<Running, Error> {
        let providers: Vec<Arc<dyn Provider>> = match self.without {
            Some(Part::Provider) => Vec::new(),
            _ => vec![Arc::new(Scripted { commands: COMMANDS })],
        };
        start::start(Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: self.folder.clone(),
            log: String::new(),
            api_key: None,
            providers: Providers::new(providers, Catalog::built_in()),
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            egress: Egress::default(),
            vault: Vault::default(),
            web: Web::default(),
            helper: self.helper.clone(),
            files: Files::default(),
            mcp: Mcp::default(),
            harness: self.without != Some(Part::Harness),
        })
        .await
    }

    /// The first turn, and what it leaves.
    async fn play(&self, client: &Client) -> Result<(Visit, Ending), Error> {
        let mut visit = Visit::begin(client, MODEL).await?;
        let (result, failed) = visit.turn(client, "Hello! Who are you, and can you work?").await?;
        let ending = if failed {
            self.why_not(&result).await?;
            Ending::WithoutSandbox
        } else {
            say!("       sandbox: {}", visit.sandbox(client).await?);
            let (name, content) = visit.file(client).await?;
            if (name.as_str(), content.as_str()) != FILE {
                return Err(Error::Demo(format!(
                    "the file that was downloaded is {name:?} and holds {content:?}"
                )));
            }
            say!("       downloaded and compared: it is what the shell has written");
            Ending::Passed
        };
        visit.compare(client, "the list").await?;
        say!("       the list shows the same {} events as the stream", visit.seen.len());
        Ok((visit, ending))
    }

    /// Says why no tool was run, when the host is why.
    async fn why_not(&self, result: &str) -> Result<(), Error> {
        let folder = self.folder.join(FOLDER);
        // It tries things out, which blocks.
        let looked = tokio::task::spawn_blocking(move || missing(&folder)).await;
        let missing = looked.unwrap_or_default();
        let hosts_fault = result.starts_with(NOT_ALLOWED) && !missing.is_empty();
        if self.without == Some(Part::Sandbox) || !hosts_fault {
            return Err(Error::Demo(format!("the tool has failed: {result}")));
        }
        say!("       this host allows no sandbox, so no tool was run; what is missing:");
        for finding in missing {
            say!("       {}: {}", finding.name, finding.detail);
            if let Some(mend) = finding.mend {
                say!("       to mend it: {mend}");
            }
        }
        Ok(())
    }
}

fn missing(folder: &Path) -> Vec<Finding> {
    let mut findings = host::examine(folder);
    findings.retain(|finding| finding.state == State::Missing);
    findings
}

/// What is the same after the restart, and a second turn on it.
async fn play_again(client: &Client, visit: &mut Visit, ending: Ending) -> Result<(), Error> {
    if let Err(error) = visit.compare(client, "the log after the restart").await {
        let reason = error.with_causes();
        return Err(Error::Demo(format!("the log does not hold the session: {reason}")));
    }
    say!("       the log holds the same {} events", visit.seen.len());
    if ending == Ending::WithoutSandbox {
        return Ok(());
    }
    let (result, failed) = visit.turn(client, "Is your file still there?").await?;
    if failed || !result.ends_with(FILE.1.trim_end()) && !result.ends_with(FILE.1) {
        return Err(Error::Demo(format!("the file did not survive the restart: {result}")));
    }
    visit.compare(client, "the list").await?;
    say!("       the file has survived the restart; its sandbox is a new one");
    Ok(())
}

fn client(running: &Running) -> Result<Client, Error> {
    Client::new(running.url.clone(), running.token())
}
