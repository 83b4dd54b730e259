//! Whom programs in a cage trust, as files: a folder like the host's own, which cages share, and one
//! file with everybody in it, which each cage has for itself.
//!
//! Holds no key. The folder has the host's public certificates; that of the cage's authority is in
//! the cage's file alone, to which the folder leads.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;

use super::{copy, write};
use crate::door::NAME_HASH;

/// The folder, in `/etc`.
pub(crate) const FOLDER: &str = "ssl/certs";
/// The file, in `/etc`. What programs of other systems look for leads to it.
pub(crate) const BUNDLE: &str = "ssl/certs/ca-certificates.crt";
/// Its name in the folder.
const NAME: &str = "ca-certificates.crt";
/// Where systems have theirs: Debian and most others, Red Hat, openSUSE, Alpine.
const USUAL: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Other names of the file, in `/etc`.
pub(super) const ELSEWHERE: [&str; 5] = [
    "ssl/cert.pem",
    "ssl/ca-bundle.pem",
    "pki/tls/cert.pem",
    "pki/tls/certs/ca-bundle.crt",
    "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];
/// Other names of the file in the folder, where the host has them.
const IN_FOLDER: [&str; 3] = ["ca-bundle.crt", "ca-bundle.trust.crt", "ca-bundle.pem"];
/// A certificate that Debian makes for the host itself. The host's name is in it.
const OF_THE_HOST: &[u8] = b"ssl-cert-snakeoil";
/// What the names of such folders begin with.
const PREFIX: &str = ".certificates-";
/// One that is not complete. It is deleted at the next start.
const PARTIAL: &str = ".certificates.deleted";

/// The host's public authorities, as it has them in one file. Empty where it has none.
pub(crate) fn public_authorities() -> Vec<u8> {
    let found = USUAL.iter().find_map(|path| fs::read(path).ok().filter(|text| !text.is_empty()));
    found.unwrap_or_default()
}

/// The text of a cage's file: the host's authorities, the operator's, and at the end its own.
pub(crate) fn bundle(public: &[u8], more: &[CertificateDer<'_>], own: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(public.len() + own.len() + 1);
    text.extend_from_slice(public);
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    for certificate in more {
        text.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        // Lines of 64 letters (RFC 7468).
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    text.extend_from_slice(own.as_bytes());
    text
}

/// The folder, made below `sandboxes` when the host's has changed since, or another version has
/// made it. No cage may be alive.
pub(crate) fn make(sandboxes: &Path) -> io::Result<PathBuf> {
    let host = Path::new("/etc").join(FOLDER);
    let changed = fs::metadata(&host).and_then(|metadata| metadata.modified());
    let changed = changed.unwrap_or(SystemTime::UNIX_EPOCH);
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = sandboxes.join(format!("{PREFIX}{}-{changed}", env!("CARGO_PKG_VERSION")));
    if folder.is_dir() {
        return Ok(folder);
    }
    for entry in fs::read_dir(sandboxes)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    // Complete or not there.
    let partial = sandboxes.join(PARTIAL);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fill(&host, &partial)?;
    fs::rename(&partial, &folder)?;
    Ok(folder)
}

fn fill(host: &Path, folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    // A cage's file is mounted over this one.
    write(&folder.join(NAME), b"")?;
    // A host without such a folder has nothing to take over.
    for entry in fs::read_dir(host).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        let target = folder.join(&name);
        if name == NAME || is_of_the_host(&name) {
            continue;
        }
        if IN_FOLDER.iter().any(|other| name == *other) {
            symlink(NAME, target)?;
        } else if entry.file_type()?.is_symlink() {
            follow(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target, 0)?;
        }
    }
    // OpenSSL takes every certificate of the file that such a link leads to.
    let mut links = (0..).map(|number| folder.join(format!("{NAME_HASH}.{number}")));
    match links.find(|link| link.symlink_metadata().is_err()) {
        Some(link) => symlink(NAME, link),
        None => Ok(()),
    }
}

/// Takes over a link to something beside it or among the host's programs, and the content of any
/// other.
fn follow(link: &Path, target: &Path) -> io::Result<()> {
    let to = fs::read_link(link)?;
    if to.components().count() == 1 {
        return if is_of_the_host(to.as_os_str()) { Ok(()) } else { symlink(to, target) };
    }
    match link.canonicalize() {
        Ok(to) if to.starts_with("/usr") => symlink(to, target),
        Ok(to) => copy(&to, target, 0),
        // It leads nowhere on the host either.
        Err(_) => Ok(()),
    }
}

fn is_of_the_host(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(OF_THE_HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_like_the_hosts_and_tells_nothing_of_it() {
        let data = tempfile::TempDir::new().unwrap();
        let (host, folder) = (data.path().join("host"), data.path().join("folder"));
        fs::create_dir_all(host.join("java")).unwrap();
        for (name, text) in [
            (NAME, "all"),
            ("ca-bundle.crt", "all"),
            ("own.pem", "own"),
            ("ssl-cert-snakeoil.pem", "host"),
            ("java/cacerts", "java"),
        ] {
            write(&host.join(name), text.as_bytes()).unwrap();
        }
        write(&data.path().join("far.pem"), b"far").unwrap();
        for (to, name) in [
            ("own.pem", "0a0b0c0d.0"),
            ("ssl-cert-snakeoil.pem", "1a0b0c0d.0"),
            ("../far.pem", "far.pem"),
            ("/nowhere/at/all.pem", "nowhere.pem"),
            ("/usr/bin/env", "program.pem"),
            ("own.pem", "d94b19a9.0"),
        ] {
            symlink(to, host.join(name)).unwrap();
        }
        fill(&host, &folder).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let known = [
            "0a0b0c0d.0",
            "ca-bundle.crt",
            NAME,
            "d94b19a9.0",
            "d94b19a9.1",
            "far.pem",
            "java",
            "own.pem",
            "program.pem",
        ];
        assert_eq!(names, known);
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(
            (read(NAME), read("0a0b0c0d.0"), read("far.pem")),
            ("".into(), "own".into(), "far".into())
        );
        assert_eq!(read("java/cacerts"), "java");
        assert!(!folder.join("far.pem").is_symlink() && folder.join("program.pem").is_symlink());
        for name in ["ca-bundle.crt", "d94b19a9.1"] {
            assert_eq!(fs::read_link(folder.join(name)).unwrap(), Path::new(NAME));
        }
    }

    #[test]
    fn it_is_made_once_for_each_state_of_the_host() {
        let data = tempfile::TempDir::new().unwrap();
        let old = data.path().join(format!("{PREFIX}0-0"));
        fs::create_dir_all(&old).unwrap();
        fs::create_dir_all(data.path().join(PARTIAL)).unwrap();
        let first = make(data.path()).unwrap();
        write(&first.join("mark"), b"").unwrap();
        assert_eq!(make(data.path()).unwrap(), first);
        assert!(first.join("mark").exists() && !old.exists());
        assert!(!data.path().join(PARTIAL).exists());
    }

    #[test]
    fn the_file_has_everybody_and_its_own_last() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["more.test".to_owned()]).unwrap();
        let more = params.self_signed(&key).unwrap();
        let own = "-----BEGIN CERTIFICATE-----\nown\n-----END CERTIFICATE-----\n";
        let text = bundle(b"public", std::slice::from_ref(more.der()), own);
        let text = String::from_utf8(text).unwrap();
        let rest = text.strip_prefix("public\n").unwrap().strip_suffix(own).unwrap();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(rest), lines(&more.pem()));
        assert_eq!(bundle(b"", &[], own), own.as_bytes());
    }
}
