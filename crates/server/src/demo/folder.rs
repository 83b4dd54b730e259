//! A folder for the length of a demo. It knows nothing of what is put into it.

use std::path::{Path, PathBuf};

use crate::Error;

/// A folder that is gone when the demo is.
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes one that nobody else has, and that nobody else enters.
    pub(super) fn make() -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let name = format!("posthouse-demo-{}", posthouse_store::record::hex(&random));
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Deletes it with what is in it.
    pub(super) fn clear(&self) -> Result<(), Error> {
        std::fs::remove_dir_all(&self.0)
            .map_err(|source| Error::File { path: self.0.clone(), source })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What can't be deleted lies in a folder that the system cleans.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
