//! `posthouse keys`: makes, shows and revokes the keys of a running server, through the public API
//! alone. A secret is said once and kept nowhere.

use clap::{Args, Subcommand};
use posthouse_protocol::{Micros, id::IdKind};
use serde_json::{Value, json};

use super::{
    place::PlaceArguments,
    plain::{harmless_json, one_line},
    say_text as say, workspaces,
};
use crate::{Error, api::call::now, client::Client};

/// `posthouse keys …`.
#[derive(Debug, Args)]
pub(super) struct KeysArguments {
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
    /// Make a key and show its secret, this once.
    Create(NewArguments),
    /// All keys, the newest first.
    List,
    /// Let a key in no more, and end what it has open.
    Revoke {
        /// The key's id
        #[arg(value_parser = key_id)]
        key: String,
    },
}

#[derive(Debug, Args)]
struct NewArguments {
    /// What the key is called
    name: String,
    /// What it may do, such as agents:read, sessions:* or *:read; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "all")]
    scopes: Vec<String>,
    /// Let it do everything
    #[arg(long, conflicts_with = "scopes")]
    all: bool,
    /// The workspace whose things it opens, by name or id
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// How long it is good for: 90s, 30m, 12h, 30d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<i64>,
    /// Let it work in all workspaces, and see what passes between server and provider
    #[arg(long)]
    admin: bool,
}

/// Runs what was typed.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(super) async fn run(arguments: KeysArguments) -> Result<(), Error> {
    let client = arguments.place.place()?.client()?;
    match arguments.command {
        Command::Create(new) => create(&client, new, arguments.json).await,
        Command::List => list(&client, arguments.json).await,
        Command::Revoke { key } => {
            let path = format!("/posthouse/v1/keys/{key}/revoke");
            let revoked = client.post(&path, &json!({})).await?;
            say(&match arguments.json {
                true => format!("{}\n", harmless_json(&revoked)),
                false => format!("revoked {key}\n"),
            });
            Ok(())
        }
    }
}

async fn create(client: &Client, new: NewArguments, json: bool) -> Result<(), Error> {
    let scopes = if new.all { vec!["*:*".to_owned()] } else { new.scopes };
    let mut body = json!({ "name": new.name, "scopes": scopes, "admin": new.admin });
    if let Some(workspace) = new.workspace {
        body["workspace_id"] = workspaces::find(client, &workspace).await?.into();
    }
    if let Some(micros) = new.expires_in {
        body["expires_at"] = now().plus(micros).to_rfc3339().into();
    }
    let key = client.post("/posthouse/v1/keys", &body).await?;
    if json {
        say(&format!("{}\n", harmless_json(&key)));
        return Ok(());
    }
    let text = |name: &str| one_line(key[name].as_str().unwrap_or("-"));
    let admin = if key["admin"] == true { ", as an administrator" } else { "" };
    let expires = key["expires_at"].as_str().map_or("never".to_owned(), one_line);
    say(&format!(
        "key        {}  {}\nopens      {} of {}{admin}\nexpires    {expires}\nsecret     {}\n           \
         shown this once; keep it\n",
        text("id"),
        text("name"),
        scopes_of(&key),
        text("workspace_id"),
        text("secret"),
    ));
    Ok(())
}

async fn list(client: &Client, json: bool) -> Result<(), Error> {
    let keys = client.all("/posthouse/v1/keys?limit=1000").await?;
    let now = now();
    for key in &keys {
        say(&if json { format!("{}\n", harmless_json(key)) } else { line(key, now) });
    }
    if keys.is_empty() && !json {
        say("no keys but those that live in memory\n");
    }
    Ok(())
}

/// One key on one line.
fn line(key: &Value, now: Micros) -> String {
    let text = |name: &str| one_line(key[name].as_str().unwrap_or("-"));
    let expires = key["expires_at"].as_str().and_then(Micros::parse);
    let state = match expires {
        _ if key["revoked_at"].is_string() => "revoked",
        Some(end) if end <= now => "expired",
        _ if key["admin"] == true => "admin",
        _ => "live",
    };
    let until = expires.map_or("no end".to_owned(), |end| format!("to {}", end.to_date()));
    format!(
        "{}  {state:<7}  {}  {}  {until:<13}  {}  {}\n",
        text("id"),
        text("hint"),
        text("workspace_id"),
        text("name"),
        scopes_of(key),
    )
}

fn scopes_of(key: &Value) -> String {
    let scopes = key["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() { "nothing".to_owned() } else { one_line(&texts.join(", ")) }
}

/// Ids go into addresses as they are.
fn key_id(text: &str) -> Result<String, String> {
    if IdKind::Key.is_well_formed(text) {
        return Ok(text.to_owned());
    }
    Err("is no key's id; they look like key_…".to_owned())
}

/// A length of time in microseconds.
fn duration(text: &str) -> Result<i64, String> {
    let wrong = || "is no time; send a number with s, m, h or d, such as 30d".to_owned();
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: i64 = digits.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    // A hundred years: what lies beyond is a slip of the finger.
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds <= 36_525 * 24 * 3600);
    seconds.map(|seconds| seconds * 1_000_000).ok_or_else(|| "is more than 100 years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line() {
        let mut key = json!({
            "type": "api_key", "id": "key_1", "name": "ci\u{1b}[2J", "workspace_id": "wrkspc_1",
            "scopes": ["agents:read", "files:*"], "admin": false, "hint": "phk_ab...wxyz",
            "expires_at": "2026-01-02T00:00:00.000000Z", "revoked_at": null,
        });
        let at = |text: &str| Micros::parse(text).unwrap();
        let (before, after) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let rest = "phk_ab...wxyz  wrkspc_1  to 2026-01-02  ci\u{fffd}[2J  agents:read, files:*\n";
        assert_eq!(line(&key, before), format!("key_1  live     {rest}"));
        assert_eq!(line(&key, after), format!("key_1  expired  {rest}"));
        key["admin"] = true.into();
        assert!(line(&key, before).starts_with("key_1  admin    "));
        key["revoked_at"] = "2026-01-01T00:00:00.000000Z".into();
        assert!(line(&key, after).starts_with("key_1  revoked  "));
        let bare = json!({ "id": "key_1" });
        assert_eq!(line(&bare, after), "key_1  live     -  -  no end         -  nothing\n");
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(seconds * 1_000_000));
        }
        for wrong in
            ["", "d", "30", "0d", "-1d", "1y", "1.5d", "99999999999999999d", "1é", "40000d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
