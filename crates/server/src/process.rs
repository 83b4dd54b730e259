//! What a process does to itself first: nobody gets its memory as a file, and it may open as many
//! files as the host lets it.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

use crate::Error;

/// The longest core, in bytes. Not 0: of 1 the kernel starts no handler either, and what is started
/// from here must not have less.
const CORE: u64 = 1;

/// The most descriptors that are asked for.
const DESCRIPTORS: u64 = 1 << 18;

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

/// Raises the number of descriptors as far as the host allows. The usual 1024 is less than what two
/// sandboxes may want. Best effort: what is left is shared out.
pub fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_descriptors_are_allowed_as_the_host_lets_us_have() {
        let before = getrlimit(Resource::Nofile);
        allow_many_descriptors();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        let wanted = before.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
        assert!(after.current.is_none_or(|current| current >= wanted));
    }
}
