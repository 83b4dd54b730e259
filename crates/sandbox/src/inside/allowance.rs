//! Limits of a whole cage where no control group holds them: memory and processors.
//!
//! The kernel's own limits there are those of single processes. So the helper, which sees every
//! process of its cage, adds their memory up and ends the largest when it is too much; between
//! two looks a cage can have more. Processors are a choice of processors.

use std::{
    fs, io,
    thread::{self, Builder},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::CpuSet,
};

/// How often memory is added up.
const EVERY: Duration = Duration::from_millis(200);
/// The stack of the thread that does.
const STACK: usize = 64 << 10;

/// Keeps this process and its children to a number of processors. Best effort: without, a cage
/// is only less fair.
pub(super) fn choose_processors(wanted: f64, seed: u32) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let there: Vec<_> = (0..CpuSet::MAX_CPU).filter(|one| allowed.is_set(*one)).collect();
    let wanted = wanted.ceil().max(1.0);
    if there.is_empty() || wanted >= there.len() as f64 {
        return;
    }
    let mut chosen = CpuSet::new();
    // Not the first ones for everybody.
    for one in there.iter().cycle().skip(seed as usize % there.len()).take(wanted as usize) {
        chosen.set(*one);
    }
    // Refused only where somebody has taken processors away meanwhile.
    let _ = rustix::thread::sched_setaffinity(None, &chosen);
}

/// Watches the memory of all other processes, for as long as this one lives.
pub(super) fn watch_memory(most: u64) -> io::Result<()> {
    let watch = move || {
        loop {
            thread::sleep(EVERY);
            // Several may have to go before there is room again.
            while let Some(largest) = largest_if_over(most) {
                let _ = kill_process(largest, Signal::KILL);
                thread::sleep(Duration::from_millis(5));
            }
        }
    };
    Builder::new().name("memory".into()).stack_size(STACK).spawn(watch).map(drop)
}

/// The process with the most memory of its own, when all together have too much.
fn largest_if_over(most: u64) -> Option<Pid> {
    let page = rustix::param::page_size() as u64;
    let (mut sum, mut largest, mut name) = (0, 0, None);
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid == 1 {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path().join("statm")) else { continue };
        let mut pages = text.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        let own = resident.saturating_sub(shared) * page;
        sum += own;
        if own > largest {
            (largest, name) = (own, Pid::from_raw(pid));
        }
    }
    if sum > most { name } else { None }
}
