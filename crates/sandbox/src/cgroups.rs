//! Limits that hold for all processes of a cage together: control groups, where the host gives any.
//!
//! Looks at where the server itself is and makes groups beneath it, never elsewhere. What can't be
//! had is reported with its reason; nobody is told of a limit that does not hold.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{inside::lockdown::RESERVE, settings::Limits};

/// The server's own group below a delegated one: of version 2, a group that gives controllers to
/// others holds no process itself.
const LEAF: &str = "server";

/// Said of what [`Cgroups::look`] finds and only [`Cgroups::probe`] prepares.
const LATER: &str = "the server prepares it when it starts";

/// Microseconds in which a group's processors are counted.
const PERIOD: u64 = 100_000;

/// How the limits of a cage are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceLevel {
    /// Memory and processes of all of a cage, by control groups of version 2.
    CgroupV2,
    /// The same, by version 1.
    CgroupV1,
    /// Processes of all of a cage, memory of each process: what every process has.
    Rlimits,
}

/// What a group can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Time of processors.
    Cpu,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name of its controller.
    pub fn controller(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// One resource, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Which.
    pub resource: Resource,
    /// How. [`ResourceLevel::Rlimits`] where there is no group for it; of processors that is no
    /// limit at all.
    pub level: ResourceLevel,
    /// Why not better. Empty where nothing is better.
    pub why: String,
    /// The folder beneath which groups are made.
    #[serde(skip)]
    base: Option<PathBuf>,
}

/// What the host gives.
#[derive(Debug, Clone)]
pub struct Cgroups {
    holds: Vec<Hold>,
}

/// Where this process stands, as the kernel says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The folder of its own group.
    own: PathBuf,
    /// Whether that is the top of what can be seen of this hierarchy.
    top: bool,
}

impl Cgroups {
    /// Looks what there is, and prepares it: in a delegated group of version 2 the server moves
    /// itself into a group `server`. Blocks for some milliseconds.
    pub fn probe() -> Self {
        Self::find(true)
    }

    /// Looks what there is and changes nothing that outlasts the call. A group of version 2 that is
    /// not prepared yet counts as there, but makes no groups.
    pub fn look() -> Self {
        Self::find(false)
    }

    fn find(prepare: bool) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::from(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), prepare)
    }

    fn from(groups: &str, mounts: &str, prepare: bool) -> Self {
        // Controllers stand in one version each, so that what one has the other lacks.
        let second = place(groups, mounts, None).and_then(|place| second_base(&place, prepare));
        let hold = |resource| {
            let tried = second.clone().and_then(|base| match base {
                Some(base) => try_second(&base, resource).map(|()| Some(base)),
                None => Ok(None),
            });
            let why_second = match tried {
                Ok(base) => {
                    let level = ResourceLevel::CgroupV2;
                    let why = if base.is_some() { "" } else { LATER };
                    return Hold { resource, level, why: why.to_owned(), base };
                }
                Err(why) => why,
            };
            let first = place(groups, mounts, Some(resource.controller()))
                .and_then(|place| try_first(&place.own, resource).map(|()| place.own));
            let (level, base, why_first) = match first {
                Ok(base) => (ResourceLevel::CgroupV1, Some(base), String::new()),
                Err(why) => (ResourceLevel::Rlimits, None, format!("; version 1: {why}")),
            };
            Hold { resource, level, why: format!("version 2: {why_second}{why_first}"), base }
        };
        Self { holds: Resource::ALL.map(hold).into() }
    }

    /// No groups at all, for servers and tests that do without.
    pub fn none(why: &str) -> Self {
        let level = ResourceLevel::Rlimits;
        let hold = |resource| Hold { resource, level, why: why.to_owned(), base: None };
        Self { holds: Resource::ALL.map(hold).into() }
    }

    /// The level as a whole: that of memory, if processes are held as well.
    pub fn level(&self) -> ResourceLevel {
        let of = |resource| {
            let found = self.holds.iter().find(|hold| hold.resource == resource);
            found.map_or(ResourceLevel::Rlimits, |hold| hold.level)
        };
        if of(Resource::Pids) == ResourceLevel::Rlimits {
            return ResourceLevel::Rlimits;
        }
        of(Resource::Memory)
    }

    /// Every resource, and who holds it.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Makes a group for a cage and sets its limits. `None` where the host gives none. `name` is one
    /// name, as `posthouse-<boot>-<number>`, that no other group has.
    ///
    /// # Errors
    ///
    /// When a group that the probe could make can't be made now. What was made is removed.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<Option<Group>> {
        if name.is_empty() || name == LEAF || name.starts_with('.') || name.contains('/') {
            let text = format!("{name:?} is no name for a group; one name without `/` is");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut group = Group { folders: Vec::new() };
        for hold in &self.holds {
            let Some(base) = &hold.base else { continue };
            let folder = base.join(name);
            if !group.folders.iter().any(|(known, _)| *known == folder) {
                fs::create_dir(&folder).map_err(|error| named(&folder, error))?;
                group.folders.push((folder.clone(), hold.level));
            }
            set(&folder, hold, limits)?;
        }
        Ok((!group.folders.is_empty()).then_some(group))
    }

    /// Removes groups whose names begin with `prefix`, and kills what is in them: what a crashed
    /// server has left. Answers how many there were. Call it before the first [`Cgroups::make`], and
    /// with a prefix that no other living server uses.
    pub fn sweep(&self, prefix: &str) -> usize {
        let bases: BTreeSet<_> = self
            .holds
            .iter()
            .filter_map(|hold| Some((hold.base.as_ref()?, hold)))
            .map(|(base, hold)| (base.clone(), hold.level == ResourceLevel::CgroupV2))
            .collect();
        let mut names = BTreeSet::new();
        for (base, second) in bases {
            for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let ours = name.to_str().is_some_and(|name| name.starts_with(prefix));
                if prefix.is_empty() || !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir())
                {
                    continue;
                }
                let level = if second { ResourceLevel::CgroupV2 } else { ResourceLevel::CgroupV1 };
                let group = Group { folders: vec![(entry.path(), level)] };
                if let Err(error) = group.kill() {
                    tracing::warn!(group = %entry.path().display(), %error, "a group was left");
                }
                names.insert(name);
            }
        }
        names.len()
    }

    /// Removes groups of servers that are gone for ever, whatever folder they worked on: those
    /// whose names begin with `prefix` and end in the number of a process that is not there and
    /// a number of its own. Kills nothing: what holds a process stays.
    pub fn sweep_dead(&self, prefix: &str) {
        let dead = |name: &str| {
            let mut parts = name.strip_prefix(prefix)?.rsplit('-').skip(1);
            let pid: u32 = parts.next()?.parse().ok()?;
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        };
        for base in self.holds.iter().filter_map(|hold| hold.base.as_ref()) {
            for entry in fs::read_dir(base).into_iter().flatten().flatten() {
                if entry.file_name().to_str().and_then(dead).is_some() {
                    gone(&entry.path());
                }
            }
        }
    }
}

/// The groups of one cage: one folder in each hierarchy that holds a resource.
///
/// Dropping it leaves the folders: [`Group::remove`] takes them away.
#[derive(Debug)]
pub struct Group {
    folders: Vec<(PathBuf, ResourceLevel)>,
}

impl Group {
    /// Takes a process in. What it starts from then on is in as well, what it has started is not.
    ///
    /// # Errors
    ///
    /// When there is no such process, or a hierarchy refuses.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for (folder, _) in &self.folders {
            write(&folder.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Kills everything that is in it. On version 1 process by process: who forks all the time may
    /// get away, so the end of a cage is that of its process 1, and this is for leftovers.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or processes are left after some rounds.
    pub fn kill(&self) -> io::Result<()> {
        for (folder, level) in &self.folders {
            if *level == ResourceLevel::CgroupV2 {
                // Since Linux 5.14; before, process by process as well.
                if write(&folder.join("cgroup.kill"), "1").is_ok() {
                    continue;
                }
            }
            kill_each(folder)?;
        }
        Ok(())
    }

    /// Bytes of memory in use now. `None` where nobody counts them.
    pub fn memory_now(&self) -> Option<u64> {
        self.folders.iter().find_map(|(folder, level)| {
            let file = match level {
                ResourceLevel::CgroupV2 => "memory.current",
                _ => "memory.usage_in_bytes",
            };
            fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        })
    }

    /// How many processes were killed because memory was at its limit.
    pub fn oom_kills(&self) -> u64 {
        let found = self.folders.iter().find_map(|(folder, level)| {
            let file = match level {
                ResourceLevel::CgroupV2 => "memory.events",
                _ => "memory.oom_control",
            };
            let text = fs::read_to_string(folder.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        });
        found.unwrap_or(0)
    }
}

impl Drop for Group {
    /// Removes the groups. The kernel keeps a group until its last process is reaped, so what can't
    /// be removed at once is tried again on a thread of its own, for ten seconds. What is left then
    /// is found by [`Cgroups::sweep`] at the next start.
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.folders);
        left.retain(|(folder, _)| !gone(folder));
        if left.is_empty() {
            return;
        }
        let retry = move || {
            for _ in 0..200 {
                std::thread::sleep(Duration::from_millis(50));
                left.retain(|(folder, _)| !gone(folder));
                if left.is_empty() {
                    return;
                }
            }
            for (folder, _) in &left {
                tracing::warn!(group = %folder.display(), "a control group could not be removed");
            }
        };
        // The thread ends within ten seconds. Without one, the next start sweeps.
        if let Err(error) = std::thread::Builder::new().name("cgroups".to_owned()).spawn(retry) {
            tracing::warn!(%error, "no thread to remove a control group");
        }
    }
}

fn gone(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn kill_each(folder: &Path) -> io::Result<()> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    let members = || -> io::Result<Vec<i32>> {
        let path = folder.join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    };
    for _ in 0..50 {
        let found = members()?;
        if found.is_empty() {
            return Ok(());
        }
        for number in found {
            let Some(pid) = Pid::from_raw(number) else { continue };
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // The number may belong to another process by now. The descriptor stays with whom it was
            // opened for, so who is in the group with it open is whom we mean.
            if members()?.contains(&number) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!(
        "{}: processes are left after they were killed",
        folder.display()
    )))
}

/// The group of this process: in the hierarchy of `controller`, or that of version 2 for `None`.
fn place(groups: &str, mounts: &str, controller: Option<&str>) -> Result<Place, String> {
    let what = controller.unwrap_or("version 2");
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match controller {
            None => number == "0" && names.is_empty(),
            Some(controller) => names.split(',').any(|name| name == controller),
        };
        ours.then_some(path)
    });
    let own = own.ok_or_else(|| format!("the kernel has no hierarchy for {what}"))?;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut after = after.split(' ');
        let (Some(kind), _, Some(options)) = (after.next(), after.next(), after.next()) else {
            continue;
        };
        let ours = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        let mut before = before.split(' ').skip(3);
        let (true, Some(root), Some(point)) = (ours, before.next(), before.next()) else {
            continue;
        };
        // What is mounted is `root` of the hierarchy, which in a container is not its top. Names
        // with spaces are written in octal; none of ours has any.
        let Ok(inner) = Path::new(own).strip_prefix(unescape(root)) else { continue };
        if inner.components().any(|part| part.as_os_str() == "..") {
            continue;
        }
        let own = Path::new(&unescape(point)).join(inner);
        return Ok(Place { own, top: inner.as_os_str().is_empty() });
    }
    Err(format!("the hierarchy for {what} is not mounted where the server's own group is seen"))
}

/// Undoes the octal of mountinfo: `\040` is a space.
fn unescape(text: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(text.to_owned(), |text, pair| text.replace(&pair[..4], &pair[4..]))
}

/// Where groups of version 2 can be made: the server's own group, if it is given to us.
/// `None` where they could, and are not to be prepared now.
fn second_base(place: &Place, prepare: bool) -> Result<Option<PathBuf>, String> {
    let own = &place.own;
    // From a former start in this very group, before an `exec`.
    if own.file_name().is_some_and(|name| name == LEAF)
        && let Some(base) = own.parent()
        && controllers(base, "cgroup.subtree_control").contains("memory")
    {
        return Ok(Some(base.to_owned()));
    }
    let available = controllers(own, "cgroup.controllers");
    let wanted: Vec<_> = Resource::ALL
        .map(Resource::controller)
        .into_iter()
        .filter(|name| available.contains(*name))
        .collect();
    if wanted.is_empty() {
        return Err("its controllers are not given to the server's group".to_owned());
    }
    // The true top of the hierarchy has no type, and may hold processes beside groups.
    let root = place.top && !own.join("cgroup.type").exists();
    // In a container the top of what is seen is the container's own; on a host with systemd it is
    // systemd's.
    let unclaimed = place.top && !Path::new("/run/systemd/system").exists();
    if !unclaimed && !delegated(own) {
        return Err(
            "the server's group is not delegated; start it as a unit with Delegate=yes".to_owned()
        );
    }
    let enabled = controllers(own, "cgroup.subtree_control");
    if wanted.iter().all(|name| enabled.contains(*name)) {
        return Ok(Some(own.clone()));
    }
    let control = own.join("cgroup.subtree_control");
    for path in [own, &control] {
        let access = rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
        access.map_err(|error| named(path, error.into()).to_string())?;
    }
    if !root {
        let me = std::process::id().to_string();
        let path = own.join("cgroup.procs");
        let members = fs::read_to_string(&path).map_err(|error| named(&path, error).to_string())?;
        if members.lines().any(|member| member != me) {
            return Err("other processes are in the server's group; start it as a unit of its own"
                .to_owned());
        }
        if !prepare {
            return Ok(None);
        }
        let leaf = own.join(LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(named(&leaf, error).to_string());
            }
            _ => (),
        }
        write(&leaf.join("cgroup.procs"), &me).map_err(|error| error.to_string())?;
    } else if !prepare {
        return Ok(None);
    }
    let text: Vec<_> = wanted.iter().map(|name| format!("+{name}")).collect();
    if let Err(error) = write(&control, &text.join(" ")) {
        if !root {
            // Back to where we were found; if even that is refused, the leaf is as good.
            let _ = write(&own.join("cgroup.procs"), &std::process::id().to_string());
            let _ = fs::remove_dir(own.join(LEAF));
        }
        return Err(error.to_string());
    }
    Ok(Some(own.clone()))
}

/// Whether a group was given to us: it belongs to this user, who is not root, or systemd says so.
fn delegated(own: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 && fs::metadata(own).is_ok_and(|found| found.uid() == user) {
        return true;
    }
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0_u8; 1];
        rustix::fs::getxattr(own, *name, &mut value).is_ok_and(|_| value == *b"1")
    })
}

fn controllers(folder: &Path, file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Makes a group, sets a limit, and removes it: what is writable by its mode may be refused still.
fn try_base(base: &Path, hold: &Hold) -> Result<(), String> {
    let name = format!("posthouse-probe-{}-{}", std::process::id(), hold.resource.controller());
    let folder = base.join(name);
    // Of a probe that was killed in the middle, by a process that had this number.
    let _ = fs::remove_dir(&folder);
    fs::create_dir(&folder).map_err(|error| named(&folder, error).to_string())?;
    let result = set(&folder, hold, &Limits::default()).and_then(|()| {
        // Opening is what is checked; who moves in is checked by the kernel once more.
        fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs")).map(drop)
    });
    let removed = fs::remove_dir(&folder);
    result.and(removed).map_err(|error| error.to_string())
}

fn try_first(base: &Path, resource: Resource) -> Result<(), String> {
    let level = ResourceLevel::CgroupV1;
    try_base(base, &Hold { resource, level, why: String::new(), base: None })
}

fn try_second(base: &Path, resource: Resource) -> Result<(), String> {
    if !controllers(base, "cgroup.subtree_control").contains(resource.controller()) {
        return Err(format!("the server's group has no {} to give", resource.controller()));
    }
    let level = ResourceLevel::CgroupV2;
    try_base(base, &Hold { resource, level, why: String::new(), base: None })
}

/// Sets the limit of one resource.
fn set(folder: &Path, hold: &Hold, limits: &Limits) -> io::Result<()> {
    let second = hold.level == ResourceLevel::CgroupV2;
    match hold.resource {
        Resource::Memory if second => {
            write(&folder.join("memory.max"), &limits.memory.to_string())?;
            // Where there is no swap there is no such file. `memory.oom.group` stays off: a tool that
            // was killed is a result, and the helper has to live to tell of it.
            best_effort(&folder.join("memory.swap.max"), "0");
            Ok(())
        }
        Resource::Memory => {
            write(&folder.join("memory.limit_in_bytes"), &limits.memory.to_string())?;
            best_effort(&folder.join("memory.memsw.limit_in_bytes"), &limits.memory.to_string());
            Ok(())
        }
        Resource::Pids => {
            let processes = limits.processes.saturating_add(RESERVE);
            write(&folder.join("pids.max"), &processes.to_string())
        }
        Resource::Cpu => {
            let quota = quota(limits.cpus);
            if second {
                return write(&folder.join("cpu.max"), &format!("{quota} {PERIOD}"));
            }
            write(&folder.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
            write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
        }
    }
}

/// Microseconds in each period. The kernel takes none below a millisecond.
fn quota(cpus: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let quota = (cpus * PERIOD as f64).clamp(1000.0, 1e12) as u64;
    quota
}

fn best_effort(path: &Path, text: &str) {
    if let Err(error) = write(path, text)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "a limit of swap was not set");
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    use io::Write as _;

    // Never `create`: a file that is not there is a limit that does not exist.
    let opened = fs::OpenOptions::new().write(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| named(path, error))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
