//! Other sandboxes, each asked for what a cage is: empty namespaces, the host's programs
//! read-only, fresh `/proc`, `/dev` and `/tmp`, no network, an ordinary user without capabilities.
//!
//! None of them is installed here; who is missing or fails is named in the report.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::Outcome;

/// Where programs are looked for.
const FOLDERS: [&str; 5] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"];
/// Folders of the root that are programs: links on some hosts and folders on others.
const PROGRAMS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// The host's ids that a container has. Nobody else has them.
const FIRST_ID: u32 = 0x6000_0000;

/// Who else can run a program apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// bubblewrap: namespaces, no seccomp filter, no limits.
    Bubblewrap,
    /// runc, what Docker runs. Without Docker itself and without its filter.
    Runc,
    /// crun, the same in C.
    Crun,
    /// gVisor: a kernel of its own in between. A stronger class of isolation.
    Gvisor,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Bubblewrap, Self::Runc, Self::Crun, Self::Gvisor];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bwrap",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Gvisor => "runsc",
        }
    }

    /// The package of Debian and Ubuntu.
    fn package(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Gvisor => "runsc",
        }
    }

    /// Where it is, or how it gets there.
    pub(crate) fn find(self) -> Result<PathBuf, String> {
        let places = FOLDERS.iter().map(|folder| Path::new(folder).join(self.name()));
        places
            .into_iter()
            .find(|place| place.is_file())
            .ok_or_else(|| format!("{}: missing; apt-get install {}", self.name(), self.package()))
    }
}

/// A peer that was found, with everything that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Who it is.
    pub(crate) peer: Peer,
    program: PathBuf,
    /// Where its containers are described.
    folder: PathBuf,
    /// Which way gVisor catches system calls.
    platform: &'static str,
}

impl Ready {
    /// Prepares a peer below a folder that it may traverse.
    pub(crate) fn new(peer: Peer, folder: &Path) -> Result<Self, String> {
        let program = peer.find()?;
        let folder = folder.join(peer.name());
        let ready = Self { peer, program, folder, platform: "systrap" };
        ready.make_root().map_err(|error| format!("{}: {error}", peer.name()))?;
        Ok(ready)
    }

    /// The same with gVisor's older way, which all its versions know.
    pub(crate) fn with_ptrace(mut self) -> Self {
        self.platform = "ptrace";
        self
    }

    /// Its name, and what has to be said with it.
    pub(crate) fn name(&self) -> String {
        match self.peer {
            Peer::Gvisor => format!("gVisor ({})", self.platform),
            peer => peer.name().to_owned(),
        }
    }

    /// The words that run a command in it and wait for its end.
    pub(crate) fn command(&self, command: &[&str]) -> Outcome<Vec<String>> {
        let mut words = vec![self.program.display().to_string()];
        if self.peer == Peer::Bubblewrap {
            words.extend(bubblewrap());
            words.extend(command.iter().map(|word| (*word).to_owned()));
            return Ok(words);
        }
        // One bundle for each command: describing it is no part of running it.
        let bundle = self.folder.join(bundle_name(command));
        if !bundle.is_dir() {
            fs::create_dir(&bundle)?;
            let config = container(&self.folder.join("root"), command);
            fs::write(bundle.join("config.json"), config.to_string())?;
        }
        if self.peer == Peer::Gvisor {
            words.extend([format!("--platform={}", self.platform), "--network=none".to_owned()]);
        }
        words.extend(["--root".to_owned(), self.state().display().to_string()]);
        words.extend(["run".to_owned(), "--bundle".to_owned(), bundle.display().to_string()]);
        words.push("bench".to_owned());
        Ok(words)
    }

    /// The words that start a command in it under a name and leave it there.
    pub(crate) fn detached(&self, name: &str, command: &[&str]) -> Outcome<Vec<String>> {
        let mut words = self.command(command)?;
        words.pop();
        words.extend(["--detach".to_owned(), name.to_owned()]);
        Ok(words)
    }

    /// The words that end what was left there.
    pub(crate) fn delete(&self, name: &str) -> Vec<String> {
        let program = self.program.display().to_string();
        let state = self.state().display().to_string();
        [program.as_str(), "--root", &state, "delete", "--force", name].map(str::to_owned).into()
    }

    /// Where it notes its containers. Stands in the command line of each of gVisor's processes.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// An empty root: links, and places to mount on.
    fn make_root(&self) -> std::io::Result<()> {
        let root = self.folder.join("root");
        fs::create_dir_all(&root)?;
        for folder in [&self.folder, &root] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        for name in ["usr", "proc", "dev", "tmp"] {
            fs::create_dir(root.join(name))?;
        }
        for (name, link) in programs() {
            match link {
                Some(link) => symlink(link, root.join(name))?,
                None => fs::create_dir(root.join(name))?,
            }
        }
        Ok(())
    }
}

fn bundle_name(command: &[&str]) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    command.join(" ").chars().map(plain).collect()
}

/// The folders of programs, and where those point that are links.
fn programs() -> Vec<(&'static str, Option<PathBuf>)> {
    let present = PROGRAMS.into_iter().filter(|name| Path::new("/").join(name).exists());
    present.map(|name| (name, fs::read_link(Path::new("/").join(name)).ok())).collect()
}

fn bubblewrap() -> Vec<String> {
    let mut words: Vec<String> = [
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--hostname",
        "sandbox",
        "--setenv",
        "PATH",
        "/usr/bin:/bin",
        "--ro-bind",
        "/usr",
        "/usr",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/run",
        "--dir",
        "/workspace",
        "--chdir",
        "/workspace",
    ]
    .map(str::to_owned)
    .into();
    for (name, link) in programs() {
        let place = format!("/{name}");
        match link {
            Some(link) => words.extend(["--symlink".into(), link.display().to_string(), place]),
            None => words.extend(["--ro-bind".into(), place.clone(), place]),
        }
    }
    words
}

/// A container in the form of the Open Container Initiative.
fn container(root: &Path, command: &[&str]) -> Value {
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev"],
        }),
    ];
    let folders = programs().into_iter().filter(|(_, link)| link.is_none());
    for name in folders.map(|(name, _)| name).chain(["usr"]) {
        let place = format!("/{name}");
        mounts.push(json!({
            "destination": place, "type": "bind", "source": place,
            "options": ["rbind", "ro", "nosuid", "nodev"],
        }));
    }
    let spaces = ["pid", "network", "ipc", "uts", "mount", "user"];
    let ids = json!([{ "containerID": 0, "hostID": FIRST_ID, "size": 65_536 }]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 1000, "gid": 1000 },
            "args": command,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": [], "effective": [], "permitted": [], "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": true,
        },
        "root": { "path": root, "readonly": true },
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {
            "namespaces": spaces.map(|space| json!({ "type": space })),
            "uidMappings": ids,
            "gidMappings": ids,
            "maskedPaths": ["/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
