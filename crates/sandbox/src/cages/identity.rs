//! Who the tools of a cage are on the host, and what its control groups are called.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use crate::{launcher::Identity, settings::Isolation};

/// The first of the host's user ids that cages get; above everything that is in use elsewhere.
const FIRST_ID: u32 = 0x7000_0000;
/// How many sessions have ids of their own before they are given a second time. Two sessions
/// with the same ids still see nothing of each other.
const RANGES: i64 = 4096;
/// How many ids a range has.
const RANGE: u32 = 65_536;
/// Nobody, where there is no range to give.
const NOBODY: u32 = 65_534;

/// Who a session's tools are on the host: never its root, unless there is no isolation and they
/// are whoever the server is.
pub(super) fn of(isolation: Isolation, number: i64) -> io::Result<Identity> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() || isolation == Isolation::None {
        return Ok(Identity::Single { uid: uid.as_raw(), gid: gid.as_raw() });
    }
    let range = u32::try_from(number.rem_euclid(RANGES)).unwrap_or(0);
    let first = FIRST_ID + range * RANGE;
    let covered = |first, count| {
        covers("/proc/self/uid_map", first, count) && covers("/proc/self/gid_map", first, count)
    };
    if covered(first, RANGE) {
        Ok(Identity::Range(first))
    } else if covered(NOBODY, 1) {
        Ok(Identity::Single { uid: NOBODY, gid: NOBODY })
    } else {
        Err(io::Error::other(
            "this root has no other users to give; run the server as an ordinary user, or give its \
             user namespace more ids",
        ))
    }
}

/// Whether this process' own ids reach over all of these.
fn covers(map: &str, first: u32, wanted: u32) -> bool {
    let Ok(map) = fs::read_to_string(map) else { return false };
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let [start, _, count] = numbers[..] else { return false };
        start <= u64::from(first) && u64::from(first) + u64::from(wanted) <= start + count
    })
}

/// What the names of control groups begin with: the same for every server that ever works on
/// this folder, and for no other.
pub(super) fn group_names(folder: &Path) -> io::Result<String> {
    let metadata = fs::metadata(folder)?;
    Ok(format!("{}{:x}-{:x}-", super::GROUPS, metadata.dev(), metadata.ino()))
}
