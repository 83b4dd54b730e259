//! What `posthouse run` works with: the agent, the environment and the session, each made
//! through the public API, or found again when it was made before.

use std::path::Path;

use posthouse_model::{Catalog, Providers};
use posthouse_store::record::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::home::Home;
use crate::{Error, client::Client};

/// The metadata key by which things that this command has made are found again.
const MARK: &str = "posthouse_run";

/// What agents and environments are called that nobody has named.
const NAME: &str = "posthouse run";

/// The model when neither flag nor file nor configuration names one.
pub(super) const USUAL_MODEL: &str = "claude-sonnet-5-5";

/// The longest title that is made of a task, in characters.
const LONGEST_TITLE: usize = 80;

/// Reads an agent's create body from a YAML file. What its keys may be is the server's to say.
///
/// # Errors
/// [`Error::Usage`] that names the file, and the line when it is no YAML.
pub(super) fn read(path: &Path) -> Result<Value, Error> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("--agent {shown}: can't be read: {error}")))?;
    let body: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(":{}", at.line()));
        let bare = error.without_snippet().to_string();
        Error::Usage(format!("--agent {shown}{place}: {}", bare.replace('\n', " ").trim()))
    })?;
    if body.is_object() {
        return Ok(body);
    }
    Err(Error::Usage(format!(
        "--agent {shown}: is no agent; write `name: …`, `model: …`, `system: …`, `tools: …`"
    )))
}

/// The agent that is asked for when there is no file.
pub(super) fn usual() -> Value {
    json!({ "name": NAME, "tools": [{ "type": "agent_toolset_20260401" }] })
}

/// Writes the models that take over into an agent's create body, over those of its file.
pub(super) fn set_fallback(body: &mut Value, models: &[String]) {
    match &mut body["posthouse"] {
        Value::Object(own) => drop(own.insert("fallback".into(), models.into())),
        missing @ Value::Null => *missing = json!({ "fallback": models }),
        // The server says what is wrong with it.
        _ => {}
    }
}

/// A model that the configured providers serve: the usual one, else the first that the
/// configuration describes itself, else the newest that a provider has listed.
pub(super) fn usual_model(providers: &Providers) -> Option<String> {
    if providers.resolve(USUAL_MODEL).is_ok() {
        return Some(USUAL_MODEL.to_owned());
    }
    let built_in = Catalog::built_in();
    let own = || providers.catalog().names().filter(|name| built_in.spec(name).is_none());
    let names = providers.names();
    let bare = own().map(str::to_owned).find(|name| providers.resolve(name).is_ok());
    let prefixed = || Some(format!("{}/{}", names.first()?, own().next()?));
    let listed = || providers.offers().into_iter().next().map(|offer| offer.id);
    bare.or_else(prefixed).or_else(listed)
}

/// Finds the agent of this very body, or makes it.
///
/// # Errors
/// [`Error::Refused`] with the file in front of what is wrong with it, and those of the client.
pub(super) async fn agent(
    client: &Client,
    mut body: Value,
    file: Option<&Path>,
) -> Result<String, Error> {
    let mark = hex(&Sha256::digest(body.to_string()));
    for agent in client.all("/v1/agents?limit=100").await? {
        // One that was changed since is not what was asked for.
        let same = agent["metadata"][MARK] == *mark && agent["version"] == 1;
        if same && agent["archived_at"].is_null() {
            return id(&agent, client);
        }
    }
    match &mut body["metadata"] {
        Value::Object(metadata) => drop(metadata.insert(MARK.into(), mark.into())),
        missing @ Value::Null => *missing = json!({ MARK: mark }),
        // The server says what is wrong with it.
        _ => {}
    }
    let made = client.post("/v1/agents", &body).await.map_err(|error| match (error, file) {
        (Error::Refused { status, message, request_id }, Some(file)) => {
            let message = format!("--agent {}: {message}", file.display());
            Error::Refused { status, message, request_id }
        }
        (error, _) => error,
    })?;
    id(&made, client)
}

/// Finds the environment of this command, or makes it.
///
/// # Errors
/// Those of the client.
pub(super) async fn environment(client: &Client) -> Result<String, Error> {
    const KIND: &str = "unrestricted";
    let config = json!({ "type": "cloud", "networking": { "type": "unrestricted" } });
    for environment in client.all("/v1/environments?limit=100").await? {
        let same = environment["metadata"][MARK] == KIND
            && environment["config"]["networking"]["type"] == KIND;
        if same && environment["archived_at"].is_null() {
            return id(&environment, client);
        }
    }
    let body = json!({ "name": NAME, "config": config, "metadata": { MARK: KIND } });
    id(&client.post("/v1/environments", &body).await?, client)
}

/// Gives a session other models.
///
/// # Errors
/// Those of the client.
pub(super) async fn switch(home: &Home, session: &str, models: Value) -> Result<(), Error> {
    let client = home.place.client()?;
    client.post(&format!("/v1/sessions/{session}"), &json!({ "posthouse": models })).await.map(drop)
}

/// Opens a session.
///
/// # Errors
/// Those of the client.
pub(super) async fn session(
    client: &Client,
    agent: &str,
    environment: &str,
    title: Option<&str>,
    task: &str,
) -> Result<String, Error> {
    let line = task.trim().lines().next().unwrap_or_default();
    let cut: String = line.chars().take(LONGEST_TITLE).collect();
    let title = title.unwrap_or(&cut);
    let body = json!({ "agent": agent, "environment_id": environment, "title": title });
    id(&client.post("/v1/sessions", &body).await?, client)
}

/// An id of the server's, which goes into addresses and onto the terminal as it is.
fn id(thing: &Value, client: &Client) -> Result<String, Error> {
    let plain = |id: &&str| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    thing["id"].as_str().filter(plain).map(str::to_owned).ok_or_else(|| Error::Strange {
        url: client.url().to_owned(),
        what: "what was made has no id".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, String> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn an_agent_file_is_a_create_body() {
        let body = parse(
            "name: Coder\nmodel: {id: claude-opus-5-5, effort: high}\nsystem: |\n  Be\n  brief.\n\
             tools:\n- type: agent_toolset_20260401\n  configs:\n  - {name: bash, enabled: false}\n\
             metadata:\n  team: 'a'\n",
        );
        let expected = json!({
            "name": "Coder",
            "model": { "id": "claude-opus-5-5", "effort": "high" },
            "system": "Be\nbrief.\n",
            "tools": [{
                "type": "agent_toolset_20260401",
                "configs": [{ "name": "bash", "enabled": false }],
            }],
            "metadata": { "team": "a" },
        });
        assert_eq!(body.unwrap(), expected);
        assert_eq!(parse("{\"name\": \"J\"}").unwrap(), json!({ "name": "J" }));
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        for (text, line) in [
            ("name: a\nmodel: [b\n", ":"),
            ("name: a\nname: b\n", "agent.yaml:2"),
            ("name: a\n\tmodel: b\n", "agent.yaml:1"),
            ("- a\n", "is no agent"),
            ("", "is no agent"),
            ("a: &a [x]\nb: *missing\n", "agent.yaml:2"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("agent.yaml") && error.contains(line), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        // Aliases that multiply are cut short.
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in
            ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars())
        {
            let aliases = vec![format!("*{before}"); 9].join(", ");
            bomb.push_str(&format!("{name}: &{name} [{aliases}]\n"));
        }
        assert!(parse(&bomb).is_err());
        assert!(
            read(Path::new("/nowhere/agent.yaml")).unwrap_err().to_string().contains("/nowhere")
        );
    }

    #[test]
    fn models_that_take_over_are_written_beside_what_a_file_says() {
        for (text, expected) in [
            ("name: a", json!({ "fallback": ["m"] })),
            ("posthouse:", json!({ "fallback": ["m"] })),
            ("posthouse: {fallback: [a, b], other: 1}", json!({ "fallback": ["m"], "other": 1 })),
            ("posthouse: a text", json!("a text")),
            ("posthouse: [1]", json!([1])),
        ] {
            let mut body = parse(text).unwrap();
            set_fallback(&mut body, &["m".to_owned()]);
            assert_eq!(body["posthouse"], expected, "{text}");
        }
    }

    #[test]
    fn without_a_provider_there_is_no_usual_model() {
        assert_eq!(usual_model(&Providers::new(Vec::new(), Catalog::built_in())), None);
        assert!(Catalog::built_in().spec(USUAL_MODEL).is_some());
    }
}
