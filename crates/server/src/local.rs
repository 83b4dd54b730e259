//! The file that tells programs on this machine where the server is: `server.json` in the data
//! folder, readable by its owner alone. It holds the token of this start and nothing lasting.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Where a running server is, and what opens it.
#[derive(Clone, Serialize, Deserialize)]
pub struct LocalServer {
    /// The address, `http://127.0.0.1:8787`.
    pub url: String,
    /// The token of this start.
    pub token: String,
    /// The process.
    pub pid: u32,
}

impl LocalServer {
    /// Where the file is.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("server.json")
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, data: &Path) -> Result<(), Error> {
        let path = Self::path(data);
        let fail = |source| Error::File { path: path.clone(), source };
        let fresh = path.with_extension("json.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let json = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(fail)?;
        file.write_all(&json).map_err(fail)?;
        fs::rename(&fresh, &path).map_err(fail)
    }

    /// Reads the file; `None` when there is none or it is no such file.
    #[must_use]
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data)).ok()?).ok()
    }

    /// Removes the file when it is still this server's.
    pub fn remove(&self, data: &Path) {
        if Self::read(data).is_some_and(|found| found.token == self.token) {
            // A file that stays behind names a server that nobody reaches.
            let _ = fs::remove_file(Self::path(data));
        }
    }
}
