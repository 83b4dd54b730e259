//! Many cages at once: what an idle one holds in memory, and what the next one takes to start.
//!
//! The cages are this very process' own. "Idle" is said of two states: a cage that has only been
//! started, and one that has had a call and keeps its shell.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    Outcome,
    cage::find_peers,
    machine::{MachineMemory, Share, memory, processes_with, share_of, with_descendants},
    measure::{Report, Samples},
    own::{Own, Tool},
    peers::Peer,
    setup::Setup,
    worker::Worker,
};

/// How many of gVisor's are started.
const PEERS: usize = 5;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new("density", "median to that of the first cages");
    let count = setup.cages;
    raise_open_files(&mut report);
    let folder = setup.make_folder()?;
    let mut own = Own::new(&folder.path().join("sandboxes"))?;
    // The launcher and its first cage bring what all share.
    let first = own.place();
    own.start(&first)?;
    std::thread::sleep(Duration::from_millis(200));
    let before = State::now()?;
    let part = count.div_ceil(5).clamp(1, 100);
    let (mut starts, mut firsts, mut lasts) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut places = Vec::with_capacity(count);
    for index in 0..count {
        setup.go_on()?;
        let place = own.place();
        let took = own.start(&place).map_err(|failure| format!("cage {index}: {failure}"))?;
        starts.push(took);
        if index < part {
            firsts.push(took);
        }
        if index >= count - part {
            lasts.push(took);
        }
        places.push(place);
    }
    let alive = own.live().len();
    if alive != count + 1 {
        return Err(format!("{alive} of {} cages are alive", count + 1).into());
    }
    std::thread::sleep(Duration::from_millis(500));
    let cages: Vec<u32> =
        own.live().iter().map(|live| live.pid).filter(|pid| !before.all.contains(pid)).collect();
    let ours = tell(&mut report, "started", &cages, before.since()?, count, "at most 0.5");
    let mut calls = Samples::default();
    for place in &places {
        setup.go_on()?;
        calls.push(own.call(place, Tool::Builtin)?);
    }
    std::thread::sleep(Duration::from_millis(500));
    let all = with_descendants(&cages);
    tell(&mut report, "with its shell", &all, before.since()?, count, "");
    report.fact("processes of an idle cage with its shell", each(all.len() as f64, count), "", "");
    let starts = starts.row(format!("start, {count} one after the other"));
    let firsts = firsts.row(format!("start, the first {part}"));
    let lasts = lasts.row(format!("start, the last {part}")).longer_than(&firsts);
    let slower = lasts.p95() / firsts.p95();
    report.fact("start, p95 of the last to the first", slower, "x", "at most 2");
    report.add([starts, firsts, lasts]);
    report.add([calls.row("first call of each, with all alive")]);
    drop(own);
    gvisor(setup, &mut report, ours)?;
    Ok(report)
}

/// What there was before the cages.
struct State {
    machine: MachineMemory,
    /// This process' own memory that is no file, in KiB.
    bench: f64,
    all: Vec<u32>,
}

/// What has been added, in KiB.
struct Added {
    available: f64,
    kernel: f64,
    bench: f64,
}

impl State {
    fn now() -> Outcome<Self> {
        let bench = memory(std::process::id())?.anonymous;
        let all = with_descendants(&[std::process::id()]);
        Ok(Self { machine: MachineMemory::now(), bench, all })
    }

    fn since(&self) -> Outcome<Added> {
        let (machine, bench) = (MachineMemory::now(), memory(std::process::id())?.anonymous);
        Ok(Added {
            available: self.machine.available - machine.available,
            kernel: machine.kernel - self.machine.kernel,
            bench: bench - self.bench,
        })
    }
}

fn each(sum: f64, count: usize) -> f64 {
    sum / count.max(1) as f64
}

/// Says what a cage holds; returns the part of its processes, in KiB.
fn tell(
    report: &mut Report,
    what: &str,
    processes: &[u32],
    added: Added,
    count: usize,
    aim: &'static str,
) -> f64 {
    let Share { proportional, own } = share_of(processes);
    let mut fact = |name: &str, kib: f64, aim| {
        report.fact(format!("per cage, {what}: {name}"), each(kib, count) / 1024.0, "MiB", aim);
    };
    fact("its processes, proportional", proportional, aim);
    fact("its processes, their own pages", own, "");
    fact("the server's side", added.bench, "");
    fact("the kernel's objects, stacks and tables", added.kernel, "");
    fact("less available on the machine, all together", added.available, "");
    each(proportional, count)
}

/// A few of gVisor's, asleep.
fn gvisor(setup: &Setup, report: &mut Report, ours: f64) -> Outcome<()> {
    let folder = setup.make_folder()?;
    let mut worker = Worker::start(setup, None)?;
    let found = find_peers(report, &mut worker, folder.path(), &[Peer::Gvisor])?;
    let Some(ready) = found.into_iter().next() else { return Ok(()) };
    let names: Vec<_> = (0..setup.choose(PEERS, 2)).map(|number| format!("idle{number}")).collect();
    let mut started = Ok(());
    for name in &names {
        let words = ready.detached(name, &["/bin/sleep", "600"])?;
        started = started.and(worker.program(&words).map(drop));
    }
    std::thread::sleep(Duration::from_millis(500));
    let processes = with_descendants(&processes_with(&ready.state().display().to_string()));
    let Share { proportional, own } = share_of(&processes);
    for name in &names {
        // Whatever was not started needs no end.
        let _ = worker.program(&ready.delete(name));
    }
    started?;
    let (proportional, own) = (each(proportional, names.len()), each(own, names.len()));
    let name = ready.name();
    let mut fact = |what: &str, value, unit, aim| {
        report.fact(format!("per sandbox of {name}, asleep: {what}"), value, unit, aim);
    };
    fact("its processes, proportional", proportional / 1024.0, "MiB", "");
    fact("its processes, their own pages", own / 1024.0, "MiB", "");
    fact("to ours, started, proportional", proportional / ours, "x", "at least 25");
    Ok(())
}

/// A cage takes a handful of descriptors of its server.
fn raise_open_files(report: &mut Report) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        report.note(format!("the limit of open files stays at {:?}: {error}", limit.current));
    }
}
