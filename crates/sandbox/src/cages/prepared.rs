//! What the cages of a server share, and the first of them makes: control groups, the made `/etc`,
//! and whom the host trusts.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use posthouse_net::Guard;

use super::GROUPS;
use crate::{cgroups::Cgroups, door::Authority, etc};

pub(super) struct Prepared {
    pub(super) cgroups: Arc<Cgroups>,
    /// The folder of the host's public certificates, as cages see it.
    pub(super) certificates: PathBuf,
    /// The host's public authorities, in one text.
    pub(super) public: Vec<u8>,
}

impl Prepared {
    /// Makes it, `/etc` at that place. `groups` is what the names of this server's control groups
    /// begin with. No cage may be alive.
    pub(super) fn make(sandboxes: &Path, etc: &Path, groups: &str) -> io::Result<Self> {
        let cgroups = Cgroups::probe();
        cgroups.sweep(groups);
        cgroups.sweep_dead(GROUPS);
        etc::make(etc)?;
        Ok(Self {
            cgroups: Arc::new(cgroups),
            certificates: etc::certificates::make(sandboxes)?,
            public: etc::public_authorities(),
        })
    }
}

/// Does beside a server's start what its first cage and its first connection would wait for: the
/// first use of randomness takes up to a tenth of a second, and so may whom the host trusts.
pub(super) fn warm_up(guard: &Guard) {
    let guard = guard.clone();
    let warm = move || {
        // Where it can't be made, the first cage says so.
        drop(Authority::new());
        guard.read_trusted_roots();
    };
    // Without the thread the first one waits.
    drop(thread::Builder::new().name("warming".to_owned()).spawn(warm));
}
