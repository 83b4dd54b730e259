//! What of a session's files is looked at and put there from outside, while its tools may do whatever
//! they like to them.

use std::{fs, io, path::Path};

use super::{Cages, Place, Source, folder::Folder, identity};
use crate::{
    settings::Isolation,
    tools::{SPILL, spilled},
    tree,
};

/// Where in a tree tools put what the user should have.
const OUTPUTS: &str = "mnt/session/outputs";
/// How much of that is looked at.
const OUTPUT_BOUNDS: tree::Bounds =
    tree::Bounds { entries: 20_000, time: std::time::Duration::from_secs(10) };

impl Cages {
    /// Says that what is mounted has changed; what can appear in a live cage does at once.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn mounts_changed(&self, session: &str, source: &Source) -> io::Result<()> {
        let folder = Folder::of(&self.settings, session)
            .map_err(|refused| io::Error::other(refused.to_string()))?;
        // One that is about to be made reads the list later than now.
        if !folder.exists() {
            return Ok(());
        }
        self.slot(&session.into()).mount(&folder, source).map(drop)
    }

    /// The files that a session's tools have put where the user finds them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn outputs(&self, session: &str) -> io::Result<Vec<tree::Entry>> {
        let Some(tree) = self.tree(session)? else { return Ok(Vec::new()) };
        match tree.files_below(Path::new(OUTPUTS), OUTPUT_BOUNDS) {
            Ok(listing) => Ok(listing.files),
            // The tools may have put anything there, or nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Opens one of them, whose path is as [`Self::outputs`] gave it.
    ///
    /// # Errors
    /// Those of the file system; also when something else is there by now.
    pub fn open_output(&self, session: &str, path: &Path) -> io::Result<fs::File> {
        let tree = self.tree(session)?.ok_or(io::ErrorKind::NotFound)?;
        tree.open_file(&Path::new(OUTPUTS).join(path))
    }

    /// Whether a session has files.
    #[must_use]
    pub fn has_files(&self, session: &str) -> bool {
        Folder::of(&self.settings, session).is_ok_and(|folder| folder.exists())
    }

    /// Puts a text that is too long for a model where results of tools go that are, in a file named
    /// after its call. Gives its path as the session's tools know it. The session has to have files.
    ///
    /// # Errors
    /// Those of the file system; also when the session has put something in the way.
    pub fn keep_text(&self, place: &Place, call: &str, text: &str) -> io::Result<String> {
        let tree = self.tree(&place.session)?.ok_or(io::ErrorKind::NotFound)?;
        let owner = identity::of(self.settings.isolation, place.number)?.owner();
        let path = Path::new(SPILL).join(spilled(call, 0));
        let below = path.strip_prefix("/").unwrap_or(&path);
        tree.put(below, text.as_bytes(), owner.map(|id| (id, id)))?;
        let seen = match self.settings.isolation {
            Isolation::Namespaces => path,
            Isolation::None => Folder::of(&self.settings, &place.session)
                .map_err(|refused| io::Error::other(refused.to_string()))?
                .tree()
                .join(below),
        };
        Ok(seen.to_string_lossy().into_owned())
    }

    fn tree(&self, session: &str) -> io::Result<Option<tree::Tree>> {
        let Ok(folder) = Folder::of(&self.settings, session) else { return Ok(None) };
        if !folder.exists() {
            return Ok(None);
        }
        tree::Tree::open(&folder.tree()).map(Some)
    }
}
