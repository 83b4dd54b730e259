//! The stand: a server in its own process on a fresh folder, with a model behind it.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Outcome,
    http::{Connection, Events, Wire},
    model::InstantModel,
    setup::Setup,
};

/// The key of the servers that are started here.
pub(crate) const KEY: &str = "a-key-for-benches";

/// The event that ends a turn.
pub(crate) const IDLE: &str = "session.status_idle";

/// How long a process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// The model that agents name. It has a price, so that costs are computed as in earnest.
const MODEL: &str = "claude-haiku-4-5";

/// A process that listens; it ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts a command and waits until it says where it listens.
    fn start(command: &mut Command) -> Outcome<Self> {
        let name = command.get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} can't be started: {error}"))?;
        let output = child.stdout.take().ok_or("a process without output")?;
        let mut process = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let (found, address) = mpsc::channel();
        // Ends with the process; it reads on so that the pipe never fills.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let place = line.split("http://").nth(1).and_then(|place| place.parse().ok());
                if let Some(place) = place {
                    // Only the first place is waited for.
                    let _ = found.send(place);
                }
            }
        });
        process.address = address
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("{name} has not said where it listens"))?;
        if !process.address.ip().is_loopback() {
            return Err(format!("{name} listens on {}", process.address).into());
        }
        Ok(process)
    }

    /// A server on a data folder, with its model at an address.
    pub(crate) fn server(setup: &Setup, data: &Path, model: SocketAddr) -> Outcome<Self> {
        Self::server_with(setup, data, model, &Sandbox::default(), "")
    }

    /// The same with sandboxes as they are wanted, and more settings, as its file has them.
    fn server_with(
        setup: &Setup,
        data: &Path,
        model: SocketAddr,
        sandbox: &Sandbox,
        settings: &str,
    ) -> Outcome<Self> {
        let mut command = Command::new(&setup.server);
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let start = sandbox.start.map(|start| format!("[sandbox]\nstart = \"{start}\"\n"));
        let settings = start.unwrap_or_default() + settings;
        if !settings.is_empty() {
            // Beside the data folder, which the server makes.
            let file = data.with_extension("toml");
            std::fs::write(&file, settings)?;
            command.arg("--config").arg(file);
        }
        if !sandbox.delay.is_zero() {
            command.env("POSTHOUSE_CAGE_DELAY_MS", sandbox.delay.as_millis().to_string());
        }
        command
            .env("HOME", data)
            .env("POSTHOUSE_LOG", "warn")
            .env("POSTHOUSE_API_KEY", KEY)
            .env("ANTHROPIC_API_KEY", "no-key")
            .env("ANTHROPIC_BASE_URL", format!("http://{model}"));
        Self::start(&mut command)
    }

    /// The process' number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a server's sandboxes are started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sandbox {
    /// `lazy` or `eager`; unsaid, the server decides.
    pub(crate) start: Option<&'static str>,
    /// How much longer each start takes.
    pub(crate) delay: Duration,
}

/// Who answers model requests.
enum Model {
    Instant(InstantModel),
    Scripted(Process),
}

/// A server with everything that it needs. The server ends first, the folder goes last.
pub(crate) struct Stand {
    /// The server.
    pub(crate) server: Process,
    model: Model,
    /// The data folder, for floors that write to the same disk.
    pub(crate) folder: TempDir,
    environment: String,
    create_session: Wire,
    create_caged_session: Wire,
}

impl Stand {
    /// Builds it and makes an agent and an environment.
    pub(crate) fn build(setup: &Setup) -> Outcome<Self> {
        Self::build_with(setup, &Sandbox::default(), "", setup.scripted_model.as_deref())
    }

    /// Builds one whose instant model can call tools, and whose agent may. Sessions that
    /// [`Self::session`] makes have none, those of [`Self::caged_session`] do.
    pub(crate) fn build_caged(setup: &Setup, sandbox: &Sandbox) -> Outcome<Self> {
        Self::build_with(setup, sandbox, "", None)
    }

    /// Builds one whose server has these settings, as its file has them, and whose instant model can
    /// call tools.
    pub(crate) fn build_configured(setup: &Setup, settings: &str) -> Outcome<Self> {
        Self::build_with(setup, &Sandbox::default(), settings, None)
    }

    fn build_with(
        setup: &Setup,
        sandbox: &Sandbox,
        settings: &str,
        scripted_model: Option<&Path>,
    ) -> Outcome<Self> {
        let folder = setup.make_folder()?;
        let model = match scripted_model {
            None => Model::Instant(InstantModel::start()?),
            Some(binary) => {
                let script = folder.path().join("script.json");
                let echo = json!({ "steps": [{ "echo": true }], "times": 0 });
                std::fs::write(&script, json!({ "replies": [echo], "record": false }).to_string())?;
                let mut command = Command::new(binary);
                command.env_clear().arg("--script").arg(script);
                Model::Scripted(Process::start(&mut command)?)
            }
        };
        let address = match &model {
            Model::Instant(model) => model.address(),
            Model::Scripted(model) => model.address(),
        };
        let data = folder.path().join("data");
        let server = Process::server_with(setup, &data, address, sandbox, settings)?;
        let mut connection = Connection::open(server.address())?;
        let system = "You are measured.";
        let bare = json!({ "name": "Bench", "model": MODEL, "system": system });
        let mut caged = bare.clone();
        caged["tools"] = json!([{
            "type": "agent_toolset_20260401",
            "default_config": { "permission_policy": { "type": "always_allow" } },
        }]);
        let environment = create(&mut connection, "/v1/environments", &json!({ "name": "bench" }))?;
        let create_session = sessions_of(&mut connection, &environment, &bare)?;
        let create_caged_session = sessions_of(&mut connection, &environment, &caged)?;
        Ok(Self { server, model, folder, environment, create_session, create_caged_session })
    }

    /// Makes an agent; the request that makes a session of it.
    pub(crate) fn sessions_of(&self, connection: &mut Connection, agent: &Value) -> Outcome<Wire> {
        sessions_of(connection, &self.environment, agent)
    }

    /// Deletes a session that is at rest.
    pub(crate) fn delete_session(connection: &mut Connection, session: &str) -> Outcome<()> {
        let request = format!(
            "DELETE /v1/sessions/{session} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY}\r\n\r\n"
        );
        connection.exchange(&Wire::whole(&request), 200)?;
        Ok(())
    }

    /// Makes a session with the tools of a sandbox.
    pub(crate) fn caged_session(&self, connection: &mut Connection) -> Outcome<String> {
        id_of(connection.exchange(&self.create_caged_session, 200)?)
    }

    /// Ends a session's sandbox, so that the next call of a tool needs a new one.
    pub(crate) fn kill_sandbox(connection: &mut Connection, session: &str) -> Outcome<()> {
        let path = format!("/posthouse/v1/sandboxes/{session}/kill");
        connection.exchange(&Wire::post(&path, KEY, "{}"), 200)?;
        Ok(())
    }

    /// The request that makes a session.
    pub(crate) fn create_session(&self) -> &Wire {
        &self.create_session
    }

    /// Makes a session.
    pub(crate) fn session(&self, connection: &mut Connection) -> Outcome<String> {
        id_of(connection.exchange(&self.create_session, 200)?)
    }

    /// The instant model, unless a scripted one stands in for it.
    pub(crate) fn instant_model(&self) -> Option<&InstantModel> {
        match &self.model {
            Model::Instant(model) => Some(model),
            Model::Scripted(_) => None,
        }
    }

    /// Where the model listens.
    pub(crate) fn model_address(&self) -> SocketAddr {
        match &self.model {
            Model::Instant(model) => model.address(),
            Model::Scripted(model) => model.address(),
        }
    }

    /// A connection to the server.
    pub(crate) fn connect(&self) -> Outcome<Connection> {
        Connection::open(self.server.address())
    }

    /// Follows a session, previews of messages included.
    pub(crate) fn follow(&self, session: &str) -> Outcome<Events> {
        let path = format!("/v1/sessions/{session}/events/stream?event_deltas[]=agent.message");
        self.connect()?.into_events(&Wire::get(&path, KEY))
    }
}

/// The request that says something to a session.
pub(crate) fn message_to(session: &str) -> Wire {
    let content = json!([{ "type": "text", "text": "How are things on the road this morning?" }]);
    let body = json!({ "events": [{ "type": "user.message", "content": content }] });
    Wire::post(&format!("/v1/sessions/{session}/events"), KEY, &body.to_string())
}

fn create(connection: &mut Connection, path: &str, body: &Value) -> Outcome<String> {
    id_of(connection.exchange(&Wire::post(path, KEY, &body.to_string()), 200)?)
}

fn sessions_of(connection: &mut Connection, environment: &str, agent: &Value) -> Outcome<Wire> {
    let agent = create(connection, "/v1/agents", agent)?;
    let session = json!({ "agent": agent, "environment_id": environment });
    Ok(Wire::post("/v1/sessions", KEY, &session.to_string()))
}

/// The id of what an answer shows.
pub(crate) fn id_of(answer: &[u8]) -> Outcome<String> {
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(answer["id"].as_str().ok_or("what was made has no id")?.to_owned())
}
