//! What a door knows of the world that it belongs to: a session's secrets, and who writes down what
//! the door has done.
//!
//! The door never learns whose session it serves. Values are asked for when a request needs them
//! and are kept nowhere.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use secrecy::SecretString;
use serde::Serialize;

use crate::{
    cages::Isolated,
    settings::{Allowed, Limits, Rule},
};

/// Something under way.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The keeper of one session's secrets and records. A cage's door has one.
pub trait Keeper: Send + Sync + fmt::Debug {
    /// The secrets that the session may use now. Asked with every request, so that what has
    /// changed a moment ago is in force; cheap when nothing has.
    ///
    /// # Errors
    /// [`Unavailable`] when they can't be opened. Nothing is sent then that might need one.
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>>;

    /// Writes down that values are about to be put into a request, which leaves when this is done.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be written; then the request does not leave.
    fn used(&self, uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>>;

    /// Takes note of a decision. Never waits.
    fn decided(&self, decision: Decision);

    /// Takes note of a cage that stands. Never waits.
    fn started(&self, started: Started);
}

/// The vault, or its ledger, does not answer. The text is for whoever is in the cage.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the session's secrets are not available now; try again later")]
pub struct Unavailable;

/// A secret that a session may use by its placeholder.
#[derive(Debug, Clone)]
pub struct Secret {
    /// The variable that holds the placeholder in the cage.
    pub name: Arc<str>,
    /// The credential, `vcrd_…`.
    pub credential: Arc<str>,
    /// Its vault, `vlt_…`.
    pub vault: Arc<str>,
    /// What stands for the value inside. Letters, digits and `_`, the same for the whole session.
    pub placeholder: Arc<str>,
    /// The hosts to which the value may go, written as in [`Allowed::host`]. None stands for every
    /// host that the environment lets through; where that has no list, for those with names alone.
    pub hosts: Option<Vec<String>>,
    /// Whether it may go in values of headers.
    pub header: bool,
    /// Whether it may go in bodies.
    pub body: bool,
    /// The value.
    pub value: SecretString,
}

/// One use of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The credential.
    pub credential: Arc<str>,
    /// Its vault.
    pub vault: Arc<str>,
    /// Where the value goes.
    pub host: String,
    /// The port that was asked for.
    pub port: u16,
    /// The request's method.
    pub method: String,
    /// Whether the value was in a header.
    pub header: bool,
    /// Whether it is looked for in the body, and so may have been in it: a body is sent while it
    /// is read.
    pub body: bool,
}

/// One decision of the door.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The name, or the address where none is known.
    pub host: String,
    /// The port, or none where a name was asked for.
    pub port: Option<u16>,
    /// Whether it was let through.
    pub allowed: bool,
    /// What has decided.
    pub rule: Rule,
}

/// What a cage that stands is, as far as it is in force.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// How it is kept apart.
    pub isolation: Isolated,
    /// The version of this program.
    pub version: &'static str,
    /// The host's kernel.
    pub kernel: String,
    /// What it may use.
    pub limits: Limits,
    /// The hosts that its door lets through, or null when it lets through all public ones.
    pub allowlist: Option<Vec<Allowed>>,
    /// The hosts whose TLS is not ended.
    pub passthrough: Vec<String>,
}

/// The keeper of a cage without a session: it has no secrets and writes nothing down. For
/// programs that measure or attack cages.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Keeper for Nobody {
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>> {
        Box::pin(std::future::ready(Ok(Arc::new([]) as Arc<[Secret]>)))
    }

    fn used(&self, _uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn decided(&self, _decision: Decision) {}

    fn started(&self, _started: Started) {}
}
