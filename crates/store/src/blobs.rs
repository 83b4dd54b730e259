//! Contents of files: one file on disk for each, in a private folder of the data folder.
//!
//! A content is written under another name, made durable and renamed before any row speaks of
//! it, so that a row never names what is not there whole. A crash in between leaves a file that
//! no row knows; the next start deletes it. Names are random and never made of what a client has
//! sent. What a content means is not known here.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use crate::{Database, Error, record::hex, tables::files};

/// How many of its first bytes a new content remembers, for whoever wants to know what it is.
pub const HEAD: usize = 4096;

/// What a content that is still being written has at the end of its name.
const PART: &str = ".part";

/// Readable by everybody: a link to it in a sandbox belongs to another user there. Nobody else
/// gets into the folder.
const MODE: u32 = 0o444;

/// Why a content was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It has more bytes than are allowed.
    #[error("the content has more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: u64,
    },
    /// The disk failed.
    #[error("the content can't be written to {path}")]
    Disk {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was to be copied is no ordinary file: reading it might never end.
    #[error("the source is no regular file")]
    NotRegular,
    /// There is no random name.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The contents of one data folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: Arc<Path>,
}

/// A content that is on disk whole and that no row knows yet. Dropped before
/// [`NewBlob::keep`], it is deleted again.
#[derive(Debug)]
pub struct NewBlob {
    /// Its random name, 32 hexadecimal digits.
    pub id: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its first bytes, at most [`HEAD`].
    pub head: Vec<u8>,
    place: Place,
}

/// A content that is being written. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    folder: Arc<Path>,
    id: String,
    file: File,
    hash: Sha256,
    size: u64,
    limit: u64,
    head: Vec<u8>,
    place: Place,
}

/// A file that is deleted when this is dropped, unless it is to stay.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    stays: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.stays {
            // What can't be deleted now, the next start deletes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Blobs {
    /// The contents in the folder `files` of a data folder, which is made when missing.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(data: &Path) -> Result<Self, Error> {
        let folder = data.join("files");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        // A folder that somebody has copied here may have another mode.
        made.and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o700)))
            .map_err(|source| Error::Folder { path: folder.clone(), source })?;
        Ok(Self { folder: folder.into() })
    }

    /// Where a content is. `blob` comes from a row and never from a client.
    #[must_use]
    pub fn path(&self, blob: &str) -> PathBuf {
        self.folder.join(blob)
    }

    /// Begins a content of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BlobError::Disk`], [`BlobError::Random`].
    pub fn begin(&self, limit: u64) -> Result<Incoming, BlobError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(BlobError::Random)?;
        let id = hex(&random);
        let path = self.folder.join(format!("{id}{PART}"));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| BlobError::Disk { path: path.clone(), source })?;
        Ok(Incoming {
            folder: Arc::clone(&self.folder),
            id,
            file,
            hash: Sha256::new(),
            size: 0,
            limit,
            head: Vec::new(),
            place: Place { path, stays: false },
        })
    }

    /// Copies an open regular file into the store, from where it stands to its end. It may grow
    /// meanwhile, and may belong to somebody hostile. Blocks.
    ///
    /// # Errors
    /// [`BlobError`]; then nothing is kept.
    pub fn take_in(&self, mut source: File, limit: u64) -> Result<NewBlob, BlobError> {
        let mut incoming = self.begin(limit)?;
        if !source.metadata().map_err(|error| incoming.failed(error))?.is_file() {
            return Err(BlobError::NotRegular);
        }
        let mut part = vec![0; 128 * 1024];
        loop {
            let count = match source.read(&mut part) {
                Ok(0) => return incoming.finish(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(incoming.failed(error)),
            };
            incoming.write(&part[..count])?;
        }
    }

    /// Opens a content for reading. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, blob: &str) -> io::Result<File> {
        File::open(self.path(blob))
    }

    /// Deletes the contents that no file shows any more, first from the disk, then their rows.
    /// Returns how many.
    ///
    /// # Errors
    /// [`Error`] when the database fails. What can't be deleted stays for the next time.
    pub async fn bury(&self, database: &Database) -> Result<usize, Error> {
        let dead = database.read(files::dead)?;
        if dead.is_empty() {
            return Ok(0);
        }
        let blobs = self.clone();
        let gone = tokio::task::spawn_blocking(move || {
            dead.into_iter().filter(|blob| blobs.remove(blob)).collect::<Vec<String>>()
        });
        let Ok(gone) = gone.await else { return Ok(0) };
        let count = gone.len();
        database
            .write(move |connection| {
                gone.iter().try_for_each(|blob| files::forget(connection, blob))
            })
            .await?;
        Ok(count)
    }

    /// Deletes what a crash has left: files of ours that no row knows. To be called before
    /// anything else writes. Returns how many.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::Database`].
    pub fn sweep(&self, database: &Database) -> Result<usize, Error> {
        let known: HashSet<String> = database.read(files::contents)?;
        let fail = |source| Error::Folder { path: self.folder.to_path_buf(), source };
        let mut count = 0;
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            // Whatever else lies here is not ours to delete.
            let Some(name) = name.to_str() else { continue };
            let is_part = name.strip_suffix(PART).is_some_and(is_id);
            if is_part || (is_id(name) && !known.contains(name)) {
                fs::remove_file(self.folder.join(name)).map_err(fail)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Whether the content is gone.
    fn remove(&self, blob: &str) -> bool {
        if !is_id(blob) {
            tracing::error!(blob, "a row names a content that can't be one");
            return false;
        }
        match fs::remove_file(self.path(blob)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(blob, %error, "a content was not deleted");
                false
            }
        }
    }
}

impl Incoming {
    /// Appends bytes. Blocks.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Disk`]; what was written is of no use then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.limit {
            return Err(BlobError::TooLarge { limit: self.limit });
        }
        let wanted = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| self.failed(error))?;
        self.size = size;
        Ok(())
    }

    /// Makes the content durable and gives it its name. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Disk`]; then nothing is kept.
    pub fn finish(mut self) -> Result<NewBlob, BlobError> {
        let path = self.folder.join(&self.id);
        let placed = self
            .file
            .set_permissions(Permissions::from_mode(MODE))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.place.path, &path));
        placed.map_err(|error| self.failed(error))?;
        // From here on it is the new name that goes when something fails.
        self.place.path = path;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.failed(error))?;
        Ok(NewBlob {
            id: self.id,
            size: self.size,
            sha256: hex(&self.hash.finalize()),
            head: self.head,
            place: self.place,
        })
    }

    fn failed(&self, source: io::Error) -> BlobError {
        BlobError::Disk { path: self.place.path.clone(), source }
    }
}

impl NewBlob {
    /// The content stays: a row knows it from here on.
    pub(crate) fn keep(&mut self) {
        self.place.stays = true;
    }
}

/// Whether a name has the form of those that are given here.
fn is_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use crate::{Durability, Faults, Options};

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        database: Database,
        blobs: Blobs,
    }

    impl Bench {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let database = Database::open(Options {
                folder: folder.path().to_owned(),
                durability: Durability::None,
                faults: Faults::default(),
            })
            .unwrap();
            let blobs = Blobs::open(folder.path()).unwrap();
            Self { folder, database, blobs }
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path().join("files")).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    fn write(blobs: &Blobs, bytes: &[u8], limit: u64) -> Result<NewBlob, BlobError> {
        let mut incoming = blobs.begin(limit)?;
        for part in bytes.chunks(3) {
            incoming.write(part)?;
        }
        incoming.finish()
    }

    #[tokio::test]
    async fn a_content_is_private_whole_and_read_only() {
        let bench = Bench::open();
        let mut blob = write(&bench.blobs, b"hello", 5).unwrap();
        assert!(is_id(&blob.id));
        assert_eq!((blob.size, &*blob.head), (5, &b"hello"[..]));
        assert!(blob.sha256.starts_with("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c"));
        blob.keep();
        let path = bench.blobs.path(&blob.id);
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        let folder = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        drop(blob);
        assert!(path.exists());
        assert_eq!(bench.names().len(), 1);
    }

    #[tokio::test]
    async fn what_is_too_large_cut_or_not_wanted_leaves_nothing() {
        let bench = Bench::open();
        let error = write(&bench.blobs, b"hello!", 5).unwrap_err();
        assert!(matches!(error, BlobError::TooLarge { limit: 5 }));
        let mut cut = bench.blobs.begin(5).unwrap();
        cut.write(b"hel").unwrap();
        assert_eq!(bench.names().len(), 1);
        drop(cut);
        drop(write(&bench.blobs, b"hello", 5).unwrap());
        assert_eq!(bench.names(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_open_file_is_copied() {
        let bench = Bench::open();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&[7; 300_000]).unwrap();
        source.rewind().unwrap();
        let copy = source.try_clone().unwrap();
        let error = bench.blobs.take_in(copy, 299_999).unwrap_err();
        assert!(matches!(error, BlobError::TooLarge { .. }));
        let device = File::open("/dev/zero").unwrap();
        assert!(matches!(bench.blobs.take_in(device, 5), Err(BlobError::NotRegular)));
        assert_eq!(bench.names(), Vec::<String>::new());
        source.rewind().unwrap();
        let blob = bench.blobs.take_in(source, 300_000).unwrap();
        assert_eq!((blob.size, blob.head.len()), (300_000, HEAD));
        let mut read = Vec::new();
        bench.blobs.read(&blob.id).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, [7; 300_000]);
    }

    #[tokio::test]
    async fn what_a_crash_has_left_is_swept_and_nothing_else() {
        let bench = Bench::open();
        let mut known = write(&bench.blobs, b"known", 5).unwrap();
        let mut orphan = write(&bench.blobs, b"orphan", 6).unwrap();
        let mut part = bench.blobs.begin(9).unwrap();
        orphan.keep();
        part.place.stays = true;
        drop((orphan, part));
        let foreign = bench.folder.path().join("files/notes.txt");
        fs::write(&foreign, "somebody's").unwrap();
        let id = known.id.clone();
        bench
            .database
            .write(move |connection| files::add_content(connection, &mut known, 100))
            .await
            .unwrap();
        assert_eq!(bench.names().len(), 4);
        assert_eq!(bench.blobs.sweep(&bench.database).unwrap(), 2);
        assert!(foreign.exists() && bench.blobs.path(&id).exists());
        assert_eq!(bench.blobs.sweep(&bench.database).unwrap(), 0);
    }
}
