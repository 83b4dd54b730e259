//! What a process that holds secrets does to itself first: nobody gets its memory as a file.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::Error;

/// The longest core, in bytes. Not 0: of 1 the kernel starts no handler either, and what is started
/// from here must not have less.
const CORE: u64 = 1;

/// Makes this process one of which the kernel writes no core, and whose memory no other process of
/// the same user reads. To be called before anything secret is known; threads inherit it.
///
/// # Errors
/// [`Error::Process`].
pub fn keep_memory_private() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::Process)?;
    let core = Some(CORE);
    match setrlimit(Resource::Core, Rlimit { current: core, maximum: core }) {
        // The host's own limit is lower, or this has been done before.
        Err(rustix::io::Errno::PERM) => Ok(()),
        outcome => outcome.map_err(Error::Process),
    }
}
