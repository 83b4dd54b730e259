//! What the system says of itself and of processes: `/proc`, and nothing else.

use std::{collections::HashMap, fs, path::Path, time::Instant};

use crate::Outcome;

/// How many ticks `/proc/PID/stat` counts a second; 100 on every Linux there is.
const TICKS: f64 = 100.0;

/// The machine in one line, with its load at this moment.
pub(crate) fn describe(folder: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (kernel, disk) = (kernel.trim(), file_system(folder));
    format!("{cores} cores, Linux {kernel}, data on {disk}, load {load} before")
}

/// The type of the file system that holds a folder.
pub(crate) fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = fields.filter(|(place, _)| folder.starts_with(place));
    holding.max_by_key(|(place, _)| place.len()).map_or("?", |(_, kind)| kind).to_owned()
}

/// Processor seconds that a process has used, all threads together.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // User and system time are the fields 14 and 15.
    sum_of_ticks(&stat, 11, 2)
}

/// Sums numbers behind the name in parentheses, which may hold spaces and is field 2.
fn sum_of_ticks(stat: &str, skip: usize, take: usize) -> f64 {
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = behind_name.split(' ').skip(skip).take(take);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// Bytes that a process has caused to be written to disk.
pub(crate) fn bytes_written(pid: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)
}

/// A process' memory in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Everything that is mapped and present.
    pub(crate) resident: f64,
    /// The part that is no file: heap and stacks.
    pub(crate) anonymous: f64,
}

/// A process' memory at this moment.
pub(crate) fn memory(pid: u32) -> Outcome<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.ok_or_else(|| format!("/proc/{pid}/status has no {name}"))
    };
    Ok(Memory { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
}

/// What processes hold in memory, in KiB.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Share {
    /// Pages, those that are shared in equal parts.
    pub(crate) proportional: f64,
    /// Pages that nobody else has.
    pub(crate) own: f64,
}

/// What processes hold together. One that has ended holds nothing.
pub(crate) fn share_of(processes: &[u32]) -> Share {
    let mut sum = Share::default();
    for pid in processes {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        sum.proportional += field(&rollup, "Pss:");
        sum.own += field(&rollup, "Private_Clean:") + field(&rollup, "Private_Dirty:");
    }
    sum
}

/// The memory of the whole machine, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineMemory {
    /// What programs could still have.
    pub(crate) available: f64,
    /// What the kernel keeps for itself: objects, stacks, page tables and numbers per processor.
    pub(crate) kernel: f64,
}

impl MachineMemory {
    /// At this moment.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"];
        Self {
            available: field(&text, "MemAvailable:"),
            kernel: kernel.iter().map(|name| field(&text, name)).sum(),
        }
    }
}

/// A line `name number kB` of a file of the system's.
fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}

/// Processes and everything that they have started, as far as it is alive.
pub(crate) fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in processes() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit(") ").next().unwrap_or_default();
        // The parent is the second field behind the name.
        if let Some(parent) = behind_name.split(' ').nth(1).and_then(|pid| pid.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = roots.to_vec();
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    all
}

/// Processes whose command line holds some text.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let holds = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(text)
    };
    processes().filter(holds).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Counts processor time of the server and of the bench itself over a stretch of time.
pub(crate) struct Load {
    server: u32,
    began: Instant,
    before: (f64, f64),
}

/// How many cores were busy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// With the server.
    pub(crate) server: f64,
    /// With the bench: its clients and its model.
    pub(crate) bench: f64,
}

impl Load {
    /// Begins to count.
    pub(crate) fn start(server: u32) -> Self {
        let before = (processor_seconds(server), processor_seconds(std::process::id()));
        Self { server, began: Instant::now(), before }
    }

    /// What was counted.
    pub(crate) fn cores(&self) -> Cores {
        let passed = self.began.elapsed().as_secs_f64();
        Cores {
            server: (processor_seconds(self.server) - self.before.0) / passed,
            bench: (processor_seconds(std::process::id()) - self.before.1) / passed,
        }
    }
}

/// Counts what all other processes of the machine do meanwhile: figures are of use only when
/// they do next to nothing.
pub(crate) struct Others {
    began: Instant,
    before: f64,
}

impl Others {
    /// Begins to count.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), before: Self::seconds() }
    }

    /// How many cores others have kept busy. Processes that this one has started count as its
    /// own once they have ended.
    pub(crate) fn cores(&self) -> f64 {
        let busy = Self::seconds() - self.before;
        // The system counts the whole in ticks and each process exactly: nothing may come out
        // below nothing.
        (busy / self.began.elapsed().as_secs_f64()).max(0.0)
    }

    fn seconds() -> f64 {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let all = stat.lines().next().unwrap_or_default().trim_start_matches("cpu ").trim_start();
        let ticks: Vec<f64> = all.split(' ').filter_map(|ticks| ticks.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let busy: f64 =
            ticks.iter().take(8).sum::<f64>() - ticks.iter().skip(3).take(2).sum::<f64>();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        busy / TICKS - sum_of_ticks(&own, 11, 4)
    }
}
