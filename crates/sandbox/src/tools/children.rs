//! Ends everything that a shell has started. It knows nothing of shells or calls.
#![expect(unsafe_code, reason = "kill(-1) has no safe form")]

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use super::Children;

/// The longest that killing may take. What is still there then hangs in the kernel.
const LONGEST: Duration = Duration::from_secs(2);

/// Kills everything that the shell `shell` has started, and the shell. Its process must not have
/// been reaped yet, so that its number means no other.
pub(crate) fn kill(children: Children, shell: Pid) {
    // Were this not the first process of its own namespace, kill(-1) would end whatever else
    // runs as this user.
    if children == Children::Namespace && getpid().is_init() {
        // SAFETY: takes numbers and touches no memory of ours.
        let _nobody_left = unsafe { libc::kill(-1, libc::SIGKILL) };
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
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Living processes of the shell's session and group, and living descendants of all of them.
fn members(shell: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let shell = shell.as_raw_nonzero().get();
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
        let state = fields.next().unwrap_or_default().to_owned();
        let numbers: Vec<i32> = fields.take(3).filter_map(|field| field.parse().ok()).collect();
        if let &[parent, group, session] = numbers.as_slice() {
            processes.push((pid, state, parent, group, session));
        }
    }
    let mut inside: HashSet<i32> = HashSet::from([shell]);
    loop {
        let before = inside.len();
        for (pid, _, parent, group, session) in &processes {
            if inside.contains(parent) || *group == shell || *session == shell {
                inside.insert(*pid);
            }
        }
        if inside.len() == before {
            break;
        }
    }
    processes
        .iter()
        .filter(|(pid, state, ..)| inside.contains(pid) && !matches!(state.as_str(), "Z" | "X"))
        .filter_map(|(pid, ..)| Pid::from_raw(*pid))
        .collect()
}
