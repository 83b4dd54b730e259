//! Ends what was started here: everything of a shell, everything below a warden, or everything at
//! all. It knows nothing of shells or calls.
#![expect(unsafe_code, reason = "kill(-1) has no safe form")]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    sync::{
        Mutex,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, waitpid,
};

use super::{Children, turn::lock};

/// The longest that killing may take. What is still there then hangs in the kernel.
const LONGEST: Duration = Duration::from_secs(2);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// The wardens of this process: what is below them is no shell's.
static WARDENS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
/// The shell of this process, whose end others wait for; 0 when there is none.
static SHELL: AtomicI32 = AtomicI32::new(0);

/// Notes which shell this process has.
pub(super) fn note_shell(shell: Pid) {
    SHELL.store(shell.as_raw_nonzero().get(), Ordering::SeqCst);
}

/// Starts a warden. Nothing is killed meanwhile.
pub(super) fn keep_warden(start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Pid> {
    let mut wardens = lock(&WARDENS);
    let pid = start()?;
    wardens.insert(pid.as_raw_nonzero().get());
    Ok(pid)
}

/// Forgets a warden that is about to be reaped.
pub(super) fn drop_warden(pid: Pid) {
    lock(&WARDENS).remove(&pid.as_raw_nonzero().get());
}

/// Kills everything that the shell `shell` has started, and the shell. Its process must not have
/// been reaped yet, so that its number means no other.
pub(crate) fn kill(children: Children, shell: Pid) {
    // Were this not the first process of its own namespace, kill(-1) would end whatever else
    // runs as this user.
    if children == Children::Namespace && getpid().is_init() {
        kill_all_but_programs();
        return;
    }
    let deadline = Instant::now() + LONGEST;
    loop {
        let mut found = members(shell);
        found.retain(|member| *member != shell);
        let _gone = kill_process_group(shell, Signal::KILL);
        let _gone = kill_process(shell, Signal::KILL);
        for member in &found {
            let _gone = kill_process(*member, Signal::KILL);
        }
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        // They were told; now see whether one of them has started another meanwhile.
        std::thread::sleep(LOOK);
    }
}

/// Kills everything in the namespace but this process, at once, and buries those that nobody waits
/// for. Does nothing where there is no namespace of ours.
pub(super) fn kill_all() {
    if !getpid().is_init() {
        return;
    }
    kill_everybody();
    let own = getpid().as_raw_nonzero().get();
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        let shell = SHELL.load(Ordering::SeqCst);
        let is_warden = |pid: i32| lock(&WARDENS).contains(&pid);
        let mut left = processes();
        left.retain(|one| one.pid != own && one.pid != shell && !is_warden(one.pid));
        if left.is_empty() {
            return;
        }
        for orphan in left.iter().filter(|one| one.parent == own && !one.is_alive()) {
            let _status = waitpid(Pid::from_raw(orphan.pid), WaitOptions::NOHANG);
        }
        std::thread::sleep(LOOK);
    }
}

fn kill_everybody() {
    // SAFETY: takes numbers and touches no memory of ours.
    let _nobody_left = unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Kills everything in the namespace but this process, wardens, and what is below them.
fn kill_all_but_programs() {
    let deadline = Instant::now() + LONGEST;
    loop {
        // Held, so that no warden comes between the look and the kill.
        let wardens = lock(&WARDENS);
        // At once, or what forks fast enough would live on.
        if wardens.is_empty() || Instant::now() > deadline {
            kill_everybody();
            return;
        }
        let (found, unclear) = others(&processes(), &wardens);
        for process in &found {
            let _gone = kill_process(*process, Signal::KILL);
        }
        if found.is_empty() && !unclear {
            return;
        }
        drop(wardens);
        std::thread::sleep(LOOK);
    }
}

/// The living that no warden is above, and whether there are some of whom it is not clear: their
/// parent has died between two looks.
fn others(processes: &[Process], wardens: &BTreeSet<i32>) -> (Vec<Pid>, bool) {
    let own = getpid().as_raw_nonzero().get();
    let parents: HashMap<i32, i32> = processes.iter().map(|one| (one.pid, one.parent)).collect();
    let (mut found, mut unclear) = (Vec::new(), false);
    for one in processes.iter().filter(|one| one.pid != own && one.is_alive()) {
        let mut at = one.pid;
        let is_other = loop {
            if wardens.contains(&at) {
                break false;
            }
            match parents.get(&at) {
                Some(parent) if *parent == own => break true,
                Some(parent) => at = *parent,
                None => {
                    unclear = true;
                    break false;
                }
            }
        };
        if is_other {
            found.extend(Pid::from_raw(one.pid));
        }
    }
    (found, unclear)
}

/// Living descendants of a warden, itself not counted.
pub(super) fn below(warden: Pid) -> Vec<Pid> {
    let warden = warden.as_raw_nonzero().get();
    let all = processes();
    let mut inside = HashSet::from([warden]);
    grow(&all, &mut inside, |_| false);
    inside.remove(&warden);
    living(&all, &inside)
}

/// Living processes of the shell's session and group, and living descendants of all of them.
fn members(shell: Pid) -> Vec<Pid> {
    let shell = shell.as_raw_nonzero().get();
    let all = processes();
    let mut inside = HashSet::from([shell]);
    grow(&all, &mut inside, |one| one.group == shell || one.session == shell);
    living(&all, &inside)
}

/// Adds children, and whoever belongs to them.
fn grow(all: &[Process], inside: &mut HashSet<i32>, belongs: impl Fn(&Process) -> bool) {
    loop {
        let before = inside.len();
        for one in all {
            if inside.contains(&one.parent) || belongs(one) {
                inside.insert(one.pid);
            }
        }
        if inside.len() == before {
            return;
        }
    }
}

fn living(all: &[Process], inside: &HashSet<i32>) -> Vec<Pid> {
    let living = all.iter().filter(|one| inside.contains(&one.pid) && one.is_alive());
    living.filter_map(|one| Pid::from_raw(one.pid)).collect()
}

/// A process, as it was seen.
struct Process {
    pid: i32,
    state: u8,
    parent: i32,
    group: i32,
    session: i32,
}

impl Process {
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// All processes that can be seen.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut processes = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        // The name in brackets may hold anything, brackets too: what follows the last one counts.
        let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { continue };
        let text = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
        let mut fields = text.split_ascii_whitespace();
        let state = fields.next().and_then(|state| state.bytes().next()).unwrap_or_default();
        let numbers: Vec<i32> = fields.take(3).filter_map(|field| field.parse().ok()).collect();
        if let &[parent, group, session] = numbers.as_slice() {
            processes.push(Process { pid, state, parent, group, session });
        }
    }
    processes
}
