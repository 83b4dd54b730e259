//! The server that `posthouse run` works with: one that runs, here or elsewhere, or its own,
//! in this process and over the same data folder.

use std::{path::PathBuf, time::Duration};

use posthouse_store::record::hex;
use tokio::time::sleep;

use super::agent::usual_model;
use crate::{
    Error,
    cli::{
        place::{Place, PlaceArguments},
        tell_to_standard_error, variable,
    },
    config::{Config, Flags},
    start::{self, GRACE, Running},
};

/// How often a folder is looked at again whose server is just coming or going.
const TRIES: u32 = 20;

/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(250);

/// A server, and how it is reached.
pub(super) struct Home {
    /// Where it is.
    pub(super) place: Place,
    own: Option<Running>,
    /// The flags that name it, for commands that others may type.
    flags: String,
    config: Option<Config>,
}

impl Home {
    /// Finds the server that is meant, or starts one when none runs on this machine.
    ///
    /// # Errors
    /// When it can't be reached, or started.
    pub(super) async fn find(
        arguments: &PlaceArguments,
        file: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let mut flags = String::new();
        if let Some(url) = &arguments.url {
            flags.push_str(&format!(" --url {}", quoted(url)));
        }
        if let Some(data) = &arguments.data {
            flags.push_str(&format!(" --data {}", quoted(&data.display().to_string())));
        }
        let place = arguments.place()?;
        let told = Flags {
            listen: Some("127.0.0.1:0".into()),
            data: arguments.data.clone(),
            config: file,
        };
        if matches!(place, Place::Address { .. }) {
            return Ok(Self { place, own: None, flags, config: None });
        }
        let mut tries = 0;
        loop {
            if answers(&place).await? {
                // Its configuration may be another one; this is for a good guess alone.
                let config = Config::load(&told, &variable).ok();
                if let Some(config) = &config {
                    config.providers.learn_local().await;
                }
                return Ok(Self { place, own: None, flags, config });
            }
            tries += 1;
            match start_own(&told).await {
                Ok(own) => {
                    let key = own.token().to_owned();
                    let config = Some(own.config().clone());
                    let place = Place::Address { url: own.url.clone(), key };
                    return Ok(Self { place, own: Some(own), flags, config });
                }
                // Somebody has the folder and does not answer yet, or no more.
                Err(Error::Store(posthouse_store::Error::Locked { .. })) if tries < TRIES => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The model when nobody has named one.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration has none.
    pub(super) fn model(&self) -> Result<String, Error> {
        let providers = self.config.as_ref().map(|config| &config.providers);
        let Some(providers) = providers.filter(|one| !one.names().is_empty()) else {
            // The server knows what it can use; its refusal says what is configured.
            return Ok(super::agent::USUAL_MODEL.to_owned());
        };
        usual_model(providers).ok_or_else(|| {
            let names = providers.names();
            Error::Config(format!(
                "no model is known; name one with --model, as {}/NAME (configured providers: {})",
                names.first().unwrap_or(&"PROVIDER"),
                names.join(", ")
            ))
        })
    }

    /// The command that goes on with a session.
    pub(super) fn command(&self, session: &str) -> String {
        format!("posthouse run{} --session {session}", self.flags)
    }

    /// The command that lets a call run, when there is a server that hears it.
    pub(super) fn allow(&self, session: &str, call: &str) -> Option<String> {
        let flags = &self.flags;
        let running = self.own.is_none();
        running.then(|| format!("posthouse sessions{flags} allow {session} {call}"))
    }

    /// What becomes of an agent whose user has left.
    pub(super) fn left(&self, session: &str) -> String {
        let follow = self.command(session);
        match self.own {
            None => format!("left; the agent goes on at the server: {follow}"),
            Some(_) => format!("left; the agent goes on when a server runs again: {follow}"),
        }
    }

    /// Stops the server if it is its own: with what is under way finished, or at once.
    pub(super) async fn stop(self, at_once: bool) {
        if let Some(own) = self.own {
            own.stop(if at_once { Duration::ZERO } else { GRACE }).await;
        }
    }
}

/// An argument as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Whether a server answers there.
async fn answers(place: &Place) -> Result<bool, Error> {
    let asked = match place.client() {
        Ok(client) => client.get("/v1/agents?limit=1").await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(_) => Ok(true),
        // What a server that is gone has left leads nowhere, or to somebody else.
        Err(
            Error::NoServer { .. }
            | Error::Connection { .. }
            | Error::Strange { .. }
            | Error::Refused { status: 401 | 404, .. },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn start_own(flags: &Flags) -> Result<Running, Error> {
    let mut config = Config::load(flags, &variable)?;
    config.providers.learn_local().await;
    if config.providers.names().is_empty() {
        return Err(Error::Config(
            "no model can be reached: set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY to \
             your key, run Ollama, or write a [providers.NAME] into the configuration file"
                .into(),
        ));
    }
    if config.api_key.is_none() {
        // Otherwise a first start would make the first key of this folder, and show it nowhere.
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        config.api_key = Some(hex(&random));
    }
    tell_to_standard_error(&variable("POSTHOUSE_LOG").unwrap_or_else(|| "error".to_owned()))?;
    start::start(config).await
}
