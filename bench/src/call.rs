//! A tool call in a cage that stands, beside the same on the host.

use crate::{
    Outcome,
    cage::BY_SHELL,
    measure::{Report, Samples},
    own::Tool,
    setup::Setup,
    worker::Worker,
};

const KINDS: [(Tool, &str); 3] = [
    (Tool::Program, "bash: /bin/true"),
    (Tool::Builtin, "bash: :"),
    (Tool::Read, "read: a small file"),
];

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report =
        Report::new("call", "median to that of the host: by a shell that stands, or a plain read");
    let is_root = rustix::process::geteuid().is_root();
    measure(setup, &mut report, if is_root { "root" } else { "user" }, None)?;
    if is_root {
        measure(setup, &mut report, "user", Some(setup.user))?;
    }
    Ok(report)
}

fn measure(setup: &Setup, report: &mut Report, name: &str, user: Option<u32>) -> Outcome<()> {
    let mut worker = Worker::start(setup, user)?;
    let by_shell: Vec<_> = BY_SHELL.iter().map(|word| (*word).to_owned()).collect();
    let mut fresh = Samples::default();
    let mut pairs = KINDS.map(|_| (Samples::default(), Samples::default()));
    // The first starts the cage, the next ones its shell and whatever else is lazy.
    for _ in 0..3 {
        for (tool, _) in KINDS {
            worker.call(tool)?;
            worker.on_host(tool)?;
        }
    }
    for _ in 0..setup.choose(2_000, 20) {
        setup.go_on()?;
        for ((tool, _), (ours, hosts)) in KINDS.into_iter().zip(&mut pairs) {
            hosts.push(worker.on_host(tool)?);
            ours.push(worker.call(tool)?);
        }
        fresh.push(worker.program(&by_shell)?);
    }
    let fresh = fresh.row(format!("host, {name}: new bash: /bin/true"));
    for ((tool, what), (ours, hosts)) in KINDS.into_iter().zip(pairs) {
        let hosts = hosts.row(format!("host, {name}: {what}"));
        let ours = ours.row(format!("cage, {name}: {what}")).longer_than(&hosts);
        if matches!(tool, Tool::Program) {
            let to_fresh = ours.median() / fresh.median();
            report.fact(format!("cage, {name}, to a new bash"), to_fresh, "x", "at most 1.10");
        }
        report.add([hosts, ours]);
    }
    report.add([fresh]);
    Ok(())
}
