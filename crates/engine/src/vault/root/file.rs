//! Root keys in a file: one line of base64 each, the one that seals first.
//!
//! The file is its owner's alone, is replaced whole or not at all, and lies on disk before anybody
//! learns of a new key. Which keys are still needed is not known here.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    RootKey,
    local::{self, LocalKey, WrongKeys},
};

/// The longest file that is read, in bytes: more than a thousand keys.
const LONGEST: u64 = 64 << 10;
/// Who else may do anything with a file, as bits of its mode.
const OTHERS: u32 = 0o077;

/// A file of root keys, whether or not it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
}

/// Why a file of keys can't be used. The texts hold nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system does not let us.
    #[error("{path} can't be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("{path} is open to others (mode {mode:04o}); right would be 0600: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What it holds is wrong.
    #[error("{path}: {wrong}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: WrongKeys,
    },
    /// Another process is changing it.
    #[error("{path} is being changed by another process; wait for it")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The key that seals is not the one that was expected.
    #[error("the first key of {path} is not {expected} any more; nothing was removed")]
    Changed {
        /// The file.
        path: PathBuf,
        /// The name of the key that should seal.
        expected: String,
    },
    /// There is no chance to make a key of.
    #[error("this host gives no random numbers")]
    Random,
}

/// The right to change the file, for as long as it lives.
#[derive(Debug)]
pub struct ChangingKeys<'a> {
    file: &'a KeyFile,
    /// The folder, locked. Not the file, which is replaced.
    folder: File,
}

impl KeyFile {
    /// The file at a path.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in it, the one that seals first.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(&self) -> Result<Vec<Arc<dyn RootKey>>, KeyFileError> {
        let (text, _) = self.text()?;
        let keys = self.keys(&text)?;
        Ok(keys.into_iter().map(|key| key as Arc<dyn RootKey>).collect())
    }

    /// The same; a file that is not there is made, with one key.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_or_make(&self) -> Result<Vec<Arc<dyn RootKey>>, KeyFileError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return self.read(),
        }
        let changing = self.change()?;
        let fresh = self.fresh();
        let key = local::make().ok_or(KeyFileError::Random)?;
        changing.write(&fresh, &[&key], None)?;
        // Unlike a rename it replaces nothing; and a crash leaves no half of a file.
        match fs::hard_link(&fresh, &self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(self.failed(error));
            }
            _ => {}
        }
        fs::remove_file(&fresh).map_err(|error| self.failed(error))?;
        changing.folder.sync_all().map_err(|error| self.failed(error))?;
        self.read()
    }

    /// Keeps everybody else from changing the file.
    ///
    /// # Errors
    /// [`KeyFileError::Busy`], [`KeyFileError::File`].
    pub fn change(&self) -> Result<ChangingKeys<'_>, KeyFileError> {
        let folder = match self.target()?.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let folder = File::open(folder).map_err(|error| self.failed(error))?;
        match folder.try_lock() {
            Ok(()) => Ok(ChangingKeys { file: self, folder }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(KeyFileError::Busy { path: self.path.clone() })
            }
            Err(fs::TryLockError::Error(source)) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> KeyFileError {
        KeyFileError::File { path: self.path.clone(), source }
    }

    /// The file itself, where the path is a link to it.
    fn target(&self) -> Result<PathBuf, KeyFileError> {
        match fs::canonicalize(&self.path) {
            Ok(path) => Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(self.path.clone()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Where the next file is written before it takes this one's place.
    fn fresh(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }

    /// What stands in the file, and whose it is.
    fn text(&self) -> Result<(Zeroizing<String>, (u32, u32)), KeyFileError> {
        let file = File::open(&self.path).map_err(|error| self.failed(error))?;
        let metadata = file.metadata().map_err(|error| self.failed(error))?;
        if metadata.mode() & OTHERS != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(KeyFileError::Open { path: self.path.clone(), mode });
        }
        if !metadata.is_file() || metadata.len() > LONGEST {
            return Err(self.failed(io::Error::other("it is no file of keys")));
        }
        // Whole from the start: one that grows would leave parts of itself behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize));
        let read = file.take(LONGEST).read_to_string(&mut text);
        read.map_err(|error| self.failed(error))?;
        Ok((text, (metadata.uid(), metadata.gid())))
    }

    fn keys(&self, text: &str) -> Result<Vec<Arc<LocalKey>>, KeyFileError> {
        local::read(text.lines())
            .map_err(|wrong| KeyFileError::Wrong { path: self.path.clone(), wrong })
    }
}

impl ChangingKeys<'_> {
    /// Makes a key that seals from now on; the others still open. Its name.
    ///
    /// # Errors
    /// [`KeyFileError`]; then the file is as it was.
    pub fn add(&self) -> Result<String, KeyFileError> {
        let (text, owner) = self.file.text()?;
        self.file.keys(&text)?;
        let key = local::make().ok_or(KeyFileError::Random)?;
        let lines = std::iter::once(key.as_str()).chain(lines(&text));
        self.replace(&lines.collect::<Vec<_>>(), owner)?;
        let keys = self.file.keys(&key)?;
        Ok(keys.first().map(|key| key.name().to_owned()).unwrap_or_default())
    }

    /// Removes all keys but the one that seals, which must be the one of this name. The names of
    /// those that are gone.
    ///
    /// # Errors
    /// [`KeyFileError`]; then the file is as it was.
    pub fn keep_first(&self, expected: &str) -> Result<Vec<String>, KeyFileError> {
        let (text, owner) = self.file.text()?;
        let keys = self.file.keys(&text)?;
        let names: Vec<String> = keys.iter().map(|key| key.name().to_owned()).collect();
        if names.first().is_none_or(|first| first != expected) {
            let (path, expected) = (self.file.path.clone(), expected.to_owned());
            return Err(KeyFileError::Changed { path, expected });
        }
        if names.len() > 1 {
            self.replace(&lines(&text).take(1).collect::<Vec<_>>(), owner)?;
        }
        Ok(names.into_iter().skip(1).collect())
    }

    fn replace(&self, lines: &[&str], owner: (u32, u32)) -> Result<(), KeyFileError> {
        let failed = |error| self.file.failed(error);
        let target = self.file.target()?;
        let fresh = KeyFile::at(&target).fresh();
        self.write(&fresh, lines, Some(owner))?;
        fs::rename(&fresh, &target).map_err(failed)?;
        self.folder.sync_all().map_err(failed)
    }

    /// Writes a file of its owner's alone, and waits until it lies on disk.
    fn write(
        &self,
        path: &Path,
        lines: &[&str],
        owner: Option<(u32, u32)>,
    ) -> Result<(), KeyFileError> {
        let failed = |error| self.file.failed(error);
        match fs::remove_file(path) {
            // What a crash has left.
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if let Some((user, group)) = owner {
            let made = file.metadata().map_err(failed)?;
            if (made.uid(), made.gid()) != (user, group) {
                // Root may change the keys of a server that is somebody else.
                fchown(&file, Some(user), Some(group)).map_err(failed)?;
            }
        }
        for line in lines {
            file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        }
        file.sync_all().map_err(failed)
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
