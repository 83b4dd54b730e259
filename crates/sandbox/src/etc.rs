//! The `/etc` of cages: made from nothing, with only what programs need to find their way.
//!
//! Of the host's own it takes the library cache, the alternatives' links, the time zone and the
//! public [`certificates`]. No user, host name or address of the host is in it.

pub(crate) mod certificates;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use crate::launcher::INSIDE_ID;
pub(crate) use certificates::{BUNDLE, public_authorities};

/// What of the host's is copied: where libraries are, and small settings of programs.
const COPIED: [&str; 5] =
    ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/openssl.cnf", "mime.types"];
/// What of the host's is mounted, where it is, if the host has it: links to programs.
pub(crate) const ALTERNATIVES: &str = "alternatives";
/// Folders below a copied one are copied so deep.
const DEEPEST: u32 = 4;

/// Makes the folder anew; it is the same for all cages of a server.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    let id = INSIDE_ID;
    for (name, text) in [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/bash\n\
                 agent:x:{id}:{id}:agent:/home/agent:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("root:x:0:\ntty:x:5:\nagent:x:{id}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        ("hostname", "sandbox\n".to_owned()),
        // Every address leads to the door, so any will do that no program takes for itself.
        ("resolv.conf", "nameserver 198.18.0.1\noptions timeout:10 attempts:1\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("host.conf", "multi on\n".to_owned()),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
    ] {
        write(&folder.join(name), text.as_bytes())?;
    }
    let make = |path: &Path| fs::DirBuilder::new().mode(0o755).recursive(true).create(path);
    for name in COPIED {
        let source = Path::new("/etc").join(name);
        let target = folder.join(name);
        if source.symlink_metadata().is_ok() {
            target.parent().map_or(Ok(()), make)?;
            copy(&source, &target, 0)?;
        }
    }
    if has_alternatives() {
        make(&folder.join(ALTERNATIVES))?;
    }
    make(&folder.join(certificates::FOLDER))?;
    for name in certificates::ELSEWHERE {
        let link = folder.join(name);
        link.parent().map_or(Ok(()), make)?;
        symlink(Path::new("/etc").join(BUNDLE), link)?;
    }
    for name in ["protocols", "services"] {
        if let Ok(text) = fs::read(Path::new("/etc").join(name)) {
            write(&folder.join(name), &text)?;
        }
    }
    match fs::canonicalize("/etc/localtime") {
        Ok(zone) if zone.starts_with("/usr/share/zoneinfo") => {
            symlink(zone, folder.join("localtime"))
        }
        _ => Ok(()),
    }
}

/// Whether the host has such a folder in its own, and not by a link.
pub(crate) fn has_alternatives() -> bool {
    Path::new("/etc").join(ALTERNATIVES).symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Copies what everybody may read. Links stay links: where they lead out of what a cage sees,
/// they lead nowhere.
fn copy(source: &Path, target: &Path, depth: u32) -> io::Result<()> {
    let metadata = source.symlink_metadata()?;
    if metadata.is_symlink() {
        symlink(fs::read_link(source)?, target)
    } else if metadata.is_dir() {
        fs::DirBuilder::new().mode(0o755).recursive(true).create(target)?;
        if depth < DEEPEST && metadata.permissions().mode() & 0o005 == 0o005 {
            for entry in fs::read_dir(source)? {
                let entry = entry?;
                copy(&entry.path(), &target.join(entry.file_name()), depth + 1)?;
            }
        }
        Ok(())
    } else if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
        write(target, &fs::read(source)?)
    } else {
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etc_of_cages_tells_nothing_of_the_host() {
        let folder = tempfile::TempDir::new().unwrap();
        let etc = folder.path().join("etc");
        make(&etc).unwrap();
        make(&etc).unwrap();
        let passwd = fs::read_to_string(etc.join("passwd")).unwrap();
        assert_eq!(passwd.lines().count(), 3, "{passwd}");
        assert!(!etc.join("shadow").exists() && !etc.join("machine-id").exists());
        let mut names: Vec<_> = fs::read_dir(&etc)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let known = [
            "alternatives",
            "group",
            "host.conf",
            "hostname",
            "hosts",
            "ld.so.cache",
            "ld.so.conf",
            "ld.so.conf.d",
            "localtime",
            "mime.types",
            "nsswitch.conf",
            "passwd",
            "pki",
            "protocols",
            "resolv.conf",
            "services",
            "shells",
            "ssl",
        ];
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
    }
}
