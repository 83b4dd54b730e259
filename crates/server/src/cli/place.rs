//! Where the server is that a command speaks to, and a stream of it that outlives cuts.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::{Instant, sleep};

use super::variable;
use crate::{
    Error,
    client::{Client, Events, Frame},
    config::{Config, Flags},
};

/// How long a cut stream may stay away.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// The flags that name a server.
#[derive(Debug, Args)]
pub(super) struct PlaceArguments {
    /// The data folder of the server on this machine
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data: Option<PathBuf>,
    /// The server's address, with its key in POSTHOUSE_API_KEY
    #[arg(long, value_name = "URL", global = true, conflicts_with = "data")]
    pub(super) url: Option<String>,
    /// The server's key; better in POSTHOUSE_API_KEY, where other users can't see it
    #[arg(long, value_name = "KEY", global = true, requires = "url")]
    pub(super) api_key: Option<String>,
}

impl PlaceArguments {
    /// The place that they name.
    ///
    /// # Errors
    /// [`Error::Config`] when an address comes without a key.
    pub(super) fn place(&self) -> Result<Place, Error> {
        let Some(url) = &self.url else {
            let flags = Flags { data: self.data.clone(), ..Flags::default() };
            return Ok(Place::Folder(Config::data_folder(&flags, &variable)?));
        };
        let key = self.api_key.clone().or_else(|| variable("POSTHOUSE_API_KEY"));
        let key = key.ok_or_else(|| {
            Error::Config("--url: needs the server's key in POSTHOUSE_API_KEY".into())
        })?;
        Ok(Place::Address { url: url.clone(), key: key.trim().to_owned() })
    }
}

/// Where the server is.
#[derive(Clone)]
pub(super) enum Place {
    /// It works on a data folder of this machine, and may come back elsewhere after a restart.
    Folder(PathBuf),
    /// It has an address and a key.
    Address {
        /// The address.
        url: String,
        /// The key.
        key: String,
    },
}

impl Place {
    /// A client of the server as it is now.
    ///
    /// # Errors
    /// [`Error::NoServer`], [`Error::Connection`].
    pub(super) fn client(&self) -> Result<Client, Error> {
        match self {
            Self::Folder(data) => Client::local(data),
            Self::Address { url, key } => Client::new(url, key),
        }
    }
}

/// What a stream that is followed gives.
pub(super) enum Next {
    /// A frame.
    Frame(Frame),
    /// The stream was cut; it goes on behind the last frame.
    Cut,
}

/// A stream, followed across cuts of the connection and restarts of the server.
pub(super) struct Follow {
    place: Place,
    path: String,
    last: Option<String>,
    open: Option<Events>,
    /// When the stream was last there.
    seen: Option<Instant>,
}

impl Follow {
    /// A stream that is not open yet.
    pub(super) fn new(place: Place, path: String) -> Self {
        Self { place, path, last: None, open: None, seen: None }
    }

    /// Opens the stream now, so that nothing which happens from here on is missed.
    ///
    /// # Errors
    /// Those of [`Client::stream`].
    pub(super) async fn open(&mut self) -> Result<(), Error> {
        let client = self.place.client()?;
        self.open = Some(client.stream(&self.path, self.last.as_deref()).await?);
        self.seen = Some(Instant::now());
        Ok(())
    }

    /// The next frame, or word of a cut. May be dropped and called again.
    ///
    /// # Errors
    /// When the stream can't be opened, or stays away for too long, or says what is no event.
    pub(super) async fn next(&mut self) -> Result<Next, Error> {
        loop {
            let Some(events) = &mut self.open else {
                self.open_again().await?;
                continue;
            };
            if let Some(frame) = events.next().await? {
                if frame.id.is_some() {
                    self.last.clone_from(&frame.id);
                }
                return Ok(Next::Frame(frame));
            }
            self.open = None;
            self.seen = Some(Instant::now());
            return Ok(Next::Cut);
        }
    }

    async fn open_again(&mut self) -> Result<(), Error> {
        if self.seen.is_some() {
            sleep(PAUSE).await;
        }
        match (self.open().await, self.seen) {
            (Err(error @ Error::Refused { status: 400..500, .. }), _) => Err(error),
            (Err(_), Some(since)) if since.elapsed() < PATIENCE => Ok(()),
            (opened, _) => opened,
        }
    }
}
