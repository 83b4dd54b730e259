//! What can go wrong outside of a request: at start, on the command line, as a client.

use std::{net::SocketAddr, path::PathBuf};

use posthouse_engine::vault::{VaultError, root::file::KeyFileError};

/// What has failed. Its text is for whoever typed the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error("configuration: {0}")]
    Config(String),
    /// The configuration file can't be read.
    #[error("the configuration file {path} can't be read")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] posthouse_store::Error),
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address can be reached from elsewhere and no key was set.
    #[error(
        "{0} can be reached from other machines: set POSTHOUSE_API_KEY to a secret of your own, \
         or listen on 127.0.0.1"
    )]
    OpenWithoutKey(SocketAddr),
    /// A file of the data folder can't be written or read.
    #[error("{path} can't be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file of root keys can't be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A vault can't be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A root key was not given to all vaults.
    #[error("the rotation is not complete: {0}; to go on: posthouse vaults rotate-key --finish")]
    Rotation(String),
    /// The process can't be kept from others.
    #[error("the memory of this process can't be kept from others")]
    Process(#[source] rustix::io::Errno),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The runtime can't start.
    #[error("the runtime can't start")]
    Runtime(#[source] std::io::Error),
    /// No server can be reached.
    #[error("no server runs for {place}; start one with `posthouse serve`")]
    NoServer {
        /// The data folder or the address.
        place: String,
    },
    /// The server has refused a request.
    #[error("{message} (HTTP {status}, {request_id})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says.
        message: String,
        /// The request's id, for the server's log.
        request_id: String,
    },
    /// The connection to the server has failed.
    #[error("the connection to {url} has failed")]
    Connection {
        /// The server's address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server has sent something that is not understood.
    #[error("the server at {url} sent something else than posthouse would: {what}")]
    Strange {
        /// The server's address.
        url: String,
        /// What is odd about it.
        what: String,
    },
    /// Nobody was signed in to an MCP server.
    #[error("not signed in: {0}")]
    SignIn(String),
    /// What was typed can't be done.
    #[error("{0}")]
    Usage(String),
    /// The demo did not see what it should.
    #[error("the demo has failed: {0}")]
    Demo(String),
}

impl Error {
    /// The error and everything behind it, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Transparent errors would say the same twice.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }
}
