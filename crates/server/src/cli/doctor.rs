//! `posthouse doctor`: what this host allows, where the data is, which providers there are and
//! whether a server runs. Looks and prints; changes nothing, and shows no key.

mod vault;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use posthouse_model::Standing;
use posthouse_sandbox::{
    host::{self, State},
    settings::Isolation,
};
use posthouse_web::search::{Engine, Settings};
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;
use serde_json::json;

use super::{
    plain::{harmless, harmless_json, one_line},
    say_text as say, variable,
};
use crate::{
    Error,
    client::Client,
    config::{Config, Flags, ListedProvider},
    local::LocalServer,
};

/// `posthouse doctor …`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 when tools can run, 1 when they can't.")]
pub(super) struct DoctorArguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The data folder [default: posthouse in the XDG data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file [default: posthouse/config.toml in the XDG config folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    name: String,
    state: State,
    detail: String,
    mend: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    tools_can_run: bool,
    sandbox: Vec<Finding>,
    data: Vec<Finding>,
    configuration: Vec<Finding>,
    server: Finding,
}

/// Runs what was typed.
///
/// # Errors
/// [`Error::Config`] when not even the data folder is known.
pub(super) async fn run(arguments: DoctorArguments) -> Result<ExitCode, Error> {
    let flags =
        Flags { listen: None, data: arguments.data.clone(), config: arguments.config.clone() };
    let loaded = Config::load(&flags, &variable);
    let folder = Config::data_folder(&flags, &variable)?;
    // Whatever else is wrong with the configuration, this is known.
    let isolation = Config::sandbox(&flags, &variable)
        .map_or(Isolation::default(), |sandbox| sandbox.isolation);
    let listed = Config::listed_providers(&flags, &variable).unwrap_or_default();
    let standing = match &loaded {
        Ok(config) => {
            config.providers.learn_local().await;
            config.providers.standing()
        }
        Err(_) => Vec::new(),
    };
    let mut configuration = providers(listed, &standing);
    match loaded {
        Ok(config) => {
            configuration.push(search(config.web.search.as_ref()));
            // It looks at files and at the database, which blocks.
            let looked = tokio::task::spawn_blocking(move || vault::findings(&config)).await;
            configuration.extend(looked.unwrap_or_else(|error| {
                let detail = format!("the look has failed: {error}");
                vec![finding("root key", State::Missing, detail, None)]
            }));
        }
        Err(error) => {
            configuration.insert(0, finding("file", State::Missing, error.with_causes(), None));
        }
    }
    let looked = folder.clone();
    // It tries things out, which blocks.
    let sandbox = tokio::task::spawn_blocking(move || sandbox(&looked, isolation)).await;
    let sandbox = sandbox.unwrap_or_else(|error| {
        vec![finding("sandbox", State::Missing, format!("the look has failed: {error}"), None)]
    });
    let report = Report {
        tools_can_run: can_run(&sandbox, isolation),
        sandbox,
        data: data(&folder),
        configuration,
        server: server(&folder).await,
    };
    if arguments.json {
        say(&format!("{}\n", harmless_json(&json!(report))));
    } else {
        say(&print(&report));
    }
    Ok(if report.tools_can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finding(
    name: impl Into<String>,
    state: State,
    detail: impl Into<String>,
    mend: Option<&str>,
) -> Finding {
    Finding { name: name.into(), state, detail: detail.into(), mend: mend.map(str::to_owned) }
}

/// Who searches the web. Nobody is asked.
fn search(settings: Option<&Settings>) -> Finding {
    let Some(settings) = settings else {
        let detail = "none: agents can't have web_search";
        let mend = "to have it, set web.search.backend";
        return finding("web search", State::Ok, detail, Some(mend));
    };
    let who = match &settings.engine {
        Engine::Brave => "brave",
        Engine::Searxng => "searxng",
        Engine::Tavily => "tavily",
        Engine::Serpapi => "serpapi",
        Engine::Messages { model } | Engine::Responses { model } => model,
    };
    finding("web search", State::Ok, format!("{who} at {}", settings.base_url), None)
}

/// What the host allows to cages.
fn sandbox(data: &Path, isolation: Isolation) -> Vec<Finding> {
    match isolation {
        Isolation::Namespaces => examine(data),
        Isolation::None => vec![finding(
            "isolation",
            State::Degraded,
            "none, by the configuration: tools run on this host as the server's user",
            Some("set sandbox.isolation to \"namespaces\""),
        )],
    }
}

/// What the sandbox itself finds on this host.
fn examine(data: &Path) -> Vec<Finding> {
    let found = host::examine(data).into_iter();
    found.map(|one| finding(one.name, one.state, one.detail, one.mend.as_deref())).collect()
}

fn can_run(sandbox: &[Finding], isolation: Isolation) -> bool {
    let missing = sandbox.iter().any(|one| one.state == State::Missing);
    isolation == Isolation::None || !(sandbox.is_empty() || missing)
}

/// Whether the folder can be worked in, and how much fits into it.
fn data(folder: &Path) -> Vec<Finding> {
    let shown = folder.display();
    let there = folder.ancestors().find(|path| path.exists());
    let Some(there) = there else {
        return vec![finding("folder", State::Missing, format!("{shown}: no such place"), None)];
    };
    let writable = access(there, Access::WRITE_OK | Access::EXEC_OK);
    let folder = match writable {
        Ok(()) if there == folder => finding("folder", State::Ok, shown.to_string(), None),
        Ok(()) => finding("folder", State::Ok, format!("{shown}, made at the first start"), None),
        Err(error) => {
            let detail = format!("{shown}: {} can't be written: {error}", there.display());
            let mend = "make it writable for this user, or name another one with --data";
            finding("folder", State::Missing, detail, Some(mend))
        }
    };
    let space = match statvfs(there) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let state = if free < 1 << 30 { State::Degraded } else { State::Ok };
            finding("space", state, format!("{} MiB free", free >> 20), None)
        }
        Err(error) => finding("space", State::Degraded, format!("is not known: {error}"), None),
    };
    vec![folder, space]
}

/// The providers by name, what each one speaks, whether its key is set (never the key), and of
/// those on this machine what they list. Providers elsewhere are not asked: `posthouse models`
/// shows what they list.
fn providers(listed: Vec<ListedProvider>, standing: &[Standing]) -> Vec<Finding> {
    let found = standing.iter().filter(|one| one.found).map(|one| ListedProvider {
        name: one.name.clone(),
        wire: one.wire,
        variable: None,
        has_key: false,
        needs_key: false,
    });
    let all: Vec<ListedProvider> = listed.into_iter().chain(found).collect();
    if all.is_empty() {
        let mend = "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or run Ollama";
        return vec![finding("provider", State::Missing, "none is configured", Some(mend))];
    }
    let provider = |one: ListedProvider| {
        let stands = standing.iter().find(|standing| standing.name == one.name);
        let near = stands.filter(|standing| standing.local).and_then(|one| one.lists.as_ref());
        let name = format!("provider {}", one.name);
        let wire = one.wire.as_str();
        let mut detail = match &one.variable {
            Some(variable) if one.has_key => format!("{wire}, its key is in {variable}"),
            Some(variable) if one.needs_key => {
                let detail = format!("{wire}, its key is missing: {variable} is not set");
                let mend = "set it where the server is started";
                return finding(name, State::Missing, detail, Some(mend));
            }
            Some(variable) => format!("{wire}, no key is sent: {variable} is not set"),
            None => format!("{wire}, no key is sent"),
        };
        match near {
            Some(Ok(models)) => detail.push_str(&format!(", lists {models} models")),
            Some(Err(message)) => {
                let mend = "start it; plain names of its models lead nowhere until then";
                let detail = format!("{detail}, lists no models: {message}");
                return finding(name, State::Degraded, detail, Some(mend));
            }
            None => {}
        }
        finding(name, State::Ok, detail, None)
    };
    all.into_iter().map(provider).collect()
}

async fn server(folder: &Path) -> Finding {
    let Some(local) = LocalServer::read(folder) else {
        return finding("server", State::Ok, "none runs on this data folder", None);
    };
    let asked = match Client::new(local.url.clone(), local.token) {
        Ok(client) => client.get("/v1/agents?limit=1").await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(_) => finding(
            "server",
            State::Ok,
            format!("runs at {}, process {}", local.url, local.pid),
            None,
        ),
        Err(error) => finding(
            "server",
            State::Degraded,
            format!("{} does not answer: {}", local.url, error.with_causes()),
            Some("it was killed or hangs; a new start puts it right"),
        ),
    }
}

/// The report for people.
fn print(report: &Report) -> String {
    let mut text = String::new();
    let mut section = |title: &str, findings: &[Finding]| {
        text.push_str(&format!("{title}\n"));
        let width = findings.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
        for one in findings {
            let state = match one.state {
                State::Ok => "ok",
                State::Missing => "missing",
                State::Degraded => "degraded",
            };
            let (name, detail) = (harmless(&one.name), one_line(&one.detail));
            text.push_str(&format!("  {state:<8}  {name:<width$}  {detail}\n"));
            if let Some(mend) = &one.mend {
                for line in harmless(mend).trim().lines() {
                    text.push_str(&format!("            {line}\n"));
                }
            }
        }
    };
    section("sandbox", &report.sandbox);
    section("data", &report.data);
    section("configuration", &report.configuration);
    section("server", std::slice::from_ref(&report.server));
    text.push_str(if report.tools_can_run { "tools can run\n" } else { "tools can't run\n" });
    text
}

#[cfg(test)]
mod tests {
    use posthouse_model::WireKind;

    use super::*;

    #[test]
    fn tools_run_when_nothing_is_missing() {
        let ok = finding("namespaces", State::Ok, "", None);
        let degraded = finding("cgroups", State::Degraded, "", None);
        let missing = finding("seccomp", State::Missing, "", None);
        let cages = Isolation::Namespaces;
        assert!(can_run(&[ok.clone(), degraded], cages));
        assert!(!can_run(&[ok, missing.clone()], cages));
        assert!(!can_run(&[], cages), "what was not looked at is not known to work");
        assert!(can_run(&[missing], Isolation::None));
    }

    #[test]
    fn findings_are_printed_with_what_mends_them() {
        let report = Report {
            tools_can_run: false,
            sandbox: vec![
                finding("user namespaces", State::Missing, "are forbidden\n", Some("do\nthis")),
                finding("cgroups", State::Degraded, "none", None),
            ],
            data: vec![finding("folder", State::Ok, "/d\u{1b}[2J", None)],
            configuration: Vec::new(),
            server: finding("server", State::Ok, "none", None),
        };
        let expected = "sandbox\n  missing   user namespaces  are forbidden\n            do\n            this\n  degraded  cgroups          none\ndata\n  ok        folder  /d\u{fffd}[2J\nconfiguration\nserver\n  ok        server  none\ntools can't run\n";
        assert_eq!(print(&report), expected);
        assert_eq!(json!(report)["sandbox"][0]["state"], "missing");
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_looked_for_above() {
        let folder = tempfile::TempDir::new().unwrap();
        let found = data(&folder.path().join("not/there"));
        assert!(found.iter().all(|one| one.state != State::Missing), "{found:?}");
        assert!(found[0].detail.contains("made at the first start"), "{found:?}");
        assert!(found[1].detail.contains("MiB free"), "{found:?}");
    }

    #[test]
    fn providers_are_shown_with_how_they_stand_and_without_keys() {
        let one = |name: &str, variable: Option<&str>, has_key, needs_key| ListedProvider {
            name: name.into(),
            wire: WireKind::OpenaiChat,
            variable: variable.map(str::to_owned),
            has_key,
            needs_key,
        };
        let stands = |name: &str, found, lists| Standing {
            name: name.into(),
            wire: WireKind::OpenaiChat,
            local: true,
            found,
            lists: Some(lists),
        };
        let listed = vec![
            one("a", Some("V"), true, true),
            one("b", Some("W"), false, true),
            one("c", Some("X"), false, false),
            one("d", None, false, false),
        ];
        let standing =
            [stands("d", false, Err("no connection".to_owned())), stands("ollama", true, Ok(2))];
        let found = providers(listed, &standing);
        let shown: Vec<_> =
            found.iter().map(|one| (one.state, one.name.as_str(), one.detail.as_str())).collect();
        let expected = [
            (State::Ok, "provider a", "openai_chat, its key is in V"),
            (State::Missing, "provider b", "openai_chat, its key is missing: W is not set"),
            (State::Ok, "provider c", "openai_chat, no key is sent: X is not set"),
            (
                State::Degraded,
                "provider d",
                "openai_chat, no key is sent, lists no models: no connection",
            ),
            (State::Ok, "provider ollama", "openai_chat, no key is sent, lists 2 models"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(providers(Vec::new(), &[])[0].state, State::Missing);
    }
}
