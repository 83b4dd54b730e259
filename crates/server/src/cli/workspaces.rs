//! `posthouse workspaces`: makes and shows the workspaces of a running server, through the public
//! API alone.

use clap::{Args, Subcommand};
use posthouse_protocol::id::IdKind;
use serde_json::{Value, json};

use super::{
    place::PlaceArguments,
    plain::{harmless, harmless_json, one_line},
    say_text as say,
};
use crate::{Error, client::Client};

const PATH: &str = "/posthouse/v1/workspaces";

/// `posthouse workspaces …`.
#[derive(Debug, Args)]
pub(super) struct WorkspacesArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Print JSON, one thing per line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a workspace.
    Create {
        /// What it is called; no two have the same name
        name: String,
    },
    /// All workspaces, the newest first.
    List,
}

/// Runs what was typed.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(super) async fn run(arguments: WorkspacesArguments) -> Result<(), Error> {
    let client = arguments.place.place()?.client()?;
    let shown = match arguments.command {
        Command::Create { name } => vec![client.post(PATH, &json!({ "name": name })).await?],
        Command::List => all(&client).await?,
    };
    for workspace in &shown {
        say(&if arguments.json {
            format!("{}\n", harmless_json(workspace))
        } else {
            line(workspace)
        });
    }
    Ok(())
}

/// The id of the workspace that somebody has named.
///
/// # Errors
/// [`Error::Usage`] when none is called so, else those of the list.
pub(super) async fn find(client: &Client, named: &str) -> Result<String, Error> {
    if IdKind::Workspace.is_well_formed(named) {
        return Ok(named.to_owned());
    }
    let found = all(client).await?.into_iter().find(|workspace| workspace["name"] == named);
    found.and_then(|workspace| workspace["id"].as_str().map(str::to_owned)).ok_or_else(|| {
        let named = harmless(named);
        Error::Usage(format!(
            "no workspace is called {named}; `posthouse workspaces list` shows all"
        ))
    })
}

async fn all(client: &Client) -> Result<Vec<Value>, Error> {
    client.all(&format!("{PATH}?limit=1000")).await
}

/// One workspace on one line.
fn line(workspace: &Value) -> String {
    let text = |name: &str| one_line(workspace[name].as_str().unwrap_or("-"));
    let created: String = text("created_at").chars().take(19).collect();
    format!("{}  {created}  {}\n", text("id"), text("name"))
}
