//! What can fail in this room before a test has begun. Never holds failures that a script asked for.

use std::net::SocketAddr;

/// Why a scripted model did not start, or did not take a script.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The script cannot be played; the message names the place, as in `replies[0].steps[2]: …`.
    #[error("the script is not valid: {0}")]
    Script(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The thread that serves could not be started.
    #[error("cannot start the thread of the scripted model")]
    Thread(#[source] std::io::Error),
}
