//! What this host allows: looked at once, said plainly, with the one line that mends it.
//!
//! Blocks, for up to some seconds on a host that hangs. It changes nothing that outlasts the look:
//! whatever has to be tried is tried in namespaces of short-lived children ([`probe`]).

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    cgroups::{Cgroups, Resource, ResourceLevel},
    disk,
    inside::seccomp,
};

mod probe;

use probe::Tried;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is there.
    Ok,
    /// It is not, and cages can do without; the detail says what they lose.
    Degraded,
    /// It is not, and there are no cages.
    Missing,
}

/// One thing that cages need or can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found, in a sentence or less.
    pub detail: String,
    /// The one line that mends it.
    pub mend: Option<String>,
}

/// The program that tools run in.
const BASH: [&str; 2] = ["/bin/bash", "/usr/bin/bash"];

/// What Docker and Podman have to be told. The filter of system calls forbids to make namespaces,
/// the profile forbids to mount, and with parts of `/proc` masked the kernel lets nobody mount a
/// fresh one. No capability is needed, and no `--privileged`.
const CONTAINER: &str = "start the container with --security-opt seccomp=unconfined --security-opt \
                         apparmor=unconfined --security-opt systempaths=unconfined (Podman: \
                         --security-opt seccomp=unconfined --security-opt unmask=ALL)";

/// Ubuntu's answer to user namespaces.
const PROFILE: &str = "install -m 644 packaging/apparmor/posthouse /etc/apparmor.d/posthouse && \
                       apparmor_parser -r /etc/apparmor.d/posthouse";

/// Looks at everything. `folder` is where sessions' trees are, or will be.
pub fn examine(folder: &Path) -> Vec<Finding> {
    let facts = Facts::read();
    let tried = probe::run();
    let mut findings = vec![kernel(&facts), user(&facts), container(&facts)];
    findings.extend(spaces(&facts, &tried));
    findings.extend([landlock(), filter(), bash()]);
    findings.extend(limits(&Cgroups::look()));
    findings.push(room(folder));
    findings
}

/// Whether cages can be made at all, as far as the findings say.
pub fn allows_cages(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != State::Missing)
}

/// What the host says about itself, read once, so that the reasons can be tested without it.
#[derive(Debug, Clone, Default)]
struct Facts {
    release: String,
    root: bool,
    /// What kind of container this is in.
    container: Option<&'static str>,
    max_user_namespaces: Option<u64>,
    unprivileged_clone: Option<u64>,
    apparmor_restricts: Option<u64>,
    /// Whether a filter of system calls is on this process already.
    filtered: bool,
}

impl Facts {
    fn read() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let uname = rustix::system::uname();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let filtered = status
            .lines()
            .any(|line| line.strip_prefix("Seccomp:").is_some_and(|value| value.trim() != "0"));
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            root: rustix::process::geteuid().is_root(),
            container: container_kind(),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            filtered,
        }
    }
}

fn container_kind() -> Option<&'static str> {
    if Path::new("/.dockerenv").exists() {
        return Some("Docker");
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("Podman");
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let known = [
        ("kubepods", "Kubernetes"),
        ("docker", "Docker"),
        ("libpod", "Podman"),
        ("containerd", "containerd"),
        ("lxc", "LXC"),
    ];
    known.into_iter().find(|(word, _)| groups.contains(word)).map(|(_, name)| name)
}

fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding { name, state: State::Ok, detail: detail.into(), mend: None }
}

fn lacking(
    name: &'static str,
    state: State,
    detail: impl Into<String>,
    mend: impl Into<String>,
) -> Finding {
    Finding { name, state, detail: detail.into(), mend: Some(mend.into()) }
}

fn kernel(facts: &Facts) -> Finding {
    let release = &facts.release;
    let mut numbers = release.split(|one: char| !one.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    // Paths that can't be led astray since 5.6, mounts whose attributes are set by call since 5.12.
    let (Some(major), Some(minor)) = version else {
        return lacking(
            "kernel",
            State::Degraded,
            format!("Linux {release}: no version that is known"),
            "use Linux 5.12 or later",
        );
    };
    if (major, minor) < (5, 12) {
        let detail = format!("Linux {release} is too old for openat2 and mount_setattr");
        return lacking("kernel", State::Missing, detail, "use Linux 5.12 or later");
    }
    for (call, answer) in probe::calls() {
        if answer == Some(libc::ENOSYS) || answer == Some(libc::EPERM) {
            let detail = format!("Linux {release}, but the call {call} is refused");
            let mend = if facts.filtered { CONTAINER } else { "allow the call" };
            return lacking("kernel", State::Missing, detail, mend);
        }
    }
    ok("kernel", format!("Linux {release}"))
}

fn user(facts: &Facts) -> Finding {
    if facts.root {
        return ok("user", "root: each session has users of its own");
    }
    ok("user", "an ordinary user: sessions' files belong to it, and only cages keep them apart")
}

fn container(facts: &Facts) -> Finding {
    match facts.container {
        None => ok("container", "none"),
        Some(kind) => ok("container", format!("in a container of {kind}")),
    }
}

/// The namespaces, each on top of the last: of what comes after one that fails nothing is known.
fn spaces(facts: &Facts, tried: &Tried) -> Vec<Finding> {
    let mut findings = Vec::new();
    match tried.user {
        Ok(()) => findings.push(ok("user namespaces", "can be made")),
        Err(error) => {
            findings.push(no_user_namespace(facts, error));
            return findings;
        }
    }
    match tried.others {
        Ok(()) => {
            findings.push(ok("namespaces", "mount, process, network, IPC, host name, cgroup"))
        }
        Err(error) => {
            let detail = format!("can't be made: {}", said(error));
            findings.push(lacking("namespaces", State::Missing, detail, blame(facts, error)));
            return findings;
        }
    }
    findings.push(match tried.mount {
        Ok(()) => ok("mounts", "can be made in a namespace of our own"),
        Err(error) => {
            let detail = format!("can't be made: {}", said(error));
            lacking("mounts", State::Missing, detail, blame(facts, error))
        }
    });
    findings.push(match tried.proc {
        Ok(()) => ok("proc", "a fresh one can be mounted"),
        Err(error) => {
            let why = if error == libc::EPERM {
                "; parts of the one that is there are masked or mounted over"
            } else {
                ""
            };
            let detail = format!("a fresh one can't be mounted: {}{why}", said(error));
            let mend = if facts.container.is_some() {
                CONTAINER
            } else {
                "unmount what is mounted over parts of /proc"
            };
            lacking("proc", State::Missing, detail, mend)
        }
    });
    findings.push(match tried.network {
        Ok(()) => ok("network", "every address leads to the door"),
        Err(error) => {
            let detail = format!("addresses can't be led to the door: {}", said(error));
            lacking("network", State::Missing, detail, blame(facts, error))
        }
    });
    findings.push(match tried.transparent {
        Ok(()) => ok("nftables", "every port can be led to the door"),
        Err(error) => {
            let detail = format!("{}; the door answers on chosen ports only", said(error));
            lacking("nftables", State::Degraded, detail, "modprobe nf_tables nft_tproxy")
        }
    });
    findings
}

fn no_user_namespace(facts: &Facts, error: i32) -> Finding {
    let name = "user namespaces";
    let missing = |detail: &str, mend: &str| lacking(name, State::Missing, detail, mend);
    if facts.max_user_namespaces == Some(0) {
        return missing(
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=65536",
        );
    }
    // These two bind ordinary users; root with its capabilities passes both.
    if !facts.root && facts.unprivileged_clone == Some(0) {
        return missing(
            "kernel.unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    // Without a filter of a container, and as root in one as well: without the capability there it
    // is restricted just the same.
    let refused = matches!(error, libc::EPERM | libc::EACCES);
    if facts.apparmor_restricts == Some(1) && refused && facts.container.is_none() {
        return missing("AppArmor restricts user namespaces to programs with a profile", PROFILE);
    }
    match error {
        libc::ENOSPC | libc::EUSERS => missing(
            "there are as many as the host allows",
            "sysctl -w user.max_user_namespaces=65536",
        ),
        libc::EINVAL | libc::ENOSYS => {
            missing("the kernel has none", "use a kernel with CONFIG_USER_NS=y")
        }
        _ => missing(&format!("refused: {}", said(error)), blame(facts, error)),
    }
}

/// Who refuses, when it is not known better.
fn blame(facts: &Facts, error: i32) -> &'static str {
    if facts.container.is_some() || facts.filtered {
        return CONTAINER;
    }
    match error {
        libc::EPERM | libc::EACCES if facts.apparmor_restricts == Some(1) => PROFILE,
        libc::ENOSPC => "raise the limits user.max_*_namespaces with sysctl",
        _ => {
            "start posthouse where no policy (SELinux, a service's RestrictNamespaces=) forbids it"
        }
    }
}

fn said(error: i32) -> String {
    if error == probe::SILENT {
        return "the probe gave no answer".to_owned();
    }
    io::Error::from_raw_os_error(error).to_string()
}

fn landlock() -> Finding {
    match probe::landlock() {
        Ok(version) => ok("landlock", format!("version {version}")),
        Err(error) => {
            let why = match error {
                libc::EOPNOTSUPP => "in the kernel, but not switched on",
                libc::ENOSYS => "not in the kernel, or its calls are filtered",
                _ => "refused",
            };
            lacking(
                "landlock",
                State::Degraded,
                format!("{why}; cages rest on mounts and the filter of system calls alone"),
                "add landlock to the kernel's parameter lsm=",
            )
        }
    }
}

fn filter() -> Finding {
    if let Err(error) = seccomp::program() {
        return lacking("seccomp", State::Missing, error.to_string(), "use x86_64 or aarch64");
    }
    match probe::seccomp() {
        Ok(()) => ok("seccomp", "filters can be installed"),
        Err(error) => {
            let detail = format!("no filters: {}", said(error));
            lacking("seccomp", State::Missing, detail, "use a kernel with CONFIG_SECCOMP_FILTER=y")
        }
    }
}

fn bash() -> Finding {
    match BASH.iter().find(|path| Path::new(path).is_file()) {
        Some(path) => ok("bash", *path),
        None => lacking("bash", State::Missing, "not in /bin or /usr/bin", "install bash"),
    }
}

fn limits(cgroups: &Cgroups) -> Vec<Finding> {
    let finding = |hold: &crate::cgroups::Hold| {
        let name = match hold.resource {
            Resource::Memory => "memory limit",
            Resource::Pids => "process limit",
            Resource::Cpu => "processor limit",
        };
        let detail = match (hold.level, hold.resource) {
            (ResourceLevel::CgroupV2, _) => return ok(name, "cgroup v2"),
            (ResourceLevel::CgroupV1, _) => return ok(name, "cgroup v1"),
            (_, Resource::Memory) => {
                "rlimit of each process; of a cage as a whole, added up five times a second"
            }
            // A user namespace counts its own processes.
            (_, Resource::Pids) => return ok(name, "rlimit, which holds for a cage as a whole"),
            (_, Resource::Cpu) => "a choice of processors, which tools can undo",
        };
        let mend = "start it with systemd-run --user --scope -p Delegate=yes, or as a unit with \
                    Delegate=yes";
        lacking(name, State::Degraded, format!("{detail} ({})", hold.why), mend)
    };
    cgroups.holds().iter().map(finding).collect()
}

fn room(folder: &Path) -> Finding {
    // The folder may not exist before the first session.
    let existing = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    match disk::host_free(existing) {
        Ok(free) => {
            let free = free >> 20;
            ok("disk", format!("measured each second and ended when over; {free} MiB are free"))
        }
        Err(error) => {
            let detail = format!("{}: {error}", existing.display());
            lacking("disk", State::Degraded, detail, "choose another folder for sessions")
        }
    }
}

#[cfg(test)]
mod tests;
