//! The whole life of a cage, from nothing to nothing: beside bubblewrap, runc, crun and gVisor.
//!
//! Everybody does the same in turn, so that what disturbs the machine disturbs all of them. Ours
//! starts, runs `/bin/true` by its shell, and ends; the others run the same by a shell of the
//! same kind, and once more without one.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use crate::{
    Outcome,
    measure::{Report, Row, Samples},
    own::Life,
    peers::{Peer, Ready},
    setup::Setup,
    worker::Worker,
};

/// A program alone.
pub(crate) const PROGRAM: [&str; 1] = ["/bin/true"];
/// The same by a shell, which may not put the program in its own place.
pub(crate) const BY_SHELL: [&str; 5] = ["/bin/bash", "--noprofile", "--norc", "-c", "/bin/true; :"];
/// In how many rounds those take part once that take long.
const SELDOM: usize = 4;

/// A command that is run again and again: in a peer, or bare.
struct Entry {
    name: String,
    words: Vec<String>,
    samples: Samples,
    every: usize,
    /// Done by the ordinary user's worker.
    by_user: bool,
}

/// The parts of our cages' lives.
#[derive(Default)]
struct Lives {
    start: Samples,
    call: Samples,
    end: Samples,
    both: Samples,
    whole: Samples,
}

impl Lives {
    fn push(&mut self, life: Life) {
        let Life { start, call, end } = life;
        self.start.push(start);
        self.call.push(call);
        self.end.push(end);
        self.both.push(start + end);
        self.whole.push(start + call + end);
    }
}

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new("cage", "median to that of bwrap with the same command");
    let is_root = rustix::process::geteuid().is_root();
    let (owner, other) = if is_root { ("root", Some(setup.user)) } else { ("user", None) };
    let mut worker = Worker::start(setup, None)?;
    let mut as_user = other.map(|user| Worker::start(setup, Some(user))).transpose()?;
    let folder = setup.make_folder()?;
    let mut entries = entries(&mut report, &mut worker, folder.path(), as_user.is_some())?;
    let (mut lives, mut users_lives, mut firsts) =
        (Lives::default(), Lives::default(), Samples::default());
    // The first of each makes what all its cages share.
    let Life { start, .. } = worker.life(false)?;
    report.fact(
        format!("posthouse, {owner}: start of a server's first cage"),
        millis(start),
        "ms",
        "",
    );
    if let Some(as_user) = &mut as_user {
        let Life { start, .. } = as_user.life(false)?;
        report.fact("posthouse, user: start of a server's first cage", millis(start), "ms", "");
    }
    for round in 0..setup.choose(200, 5) {
        setup.go_on()?;
        for entry in entries.iter_mut().filter(|entry| round % entry.every == 0) {
            let by = match (&mut as_user, entry.by_user) {
                (Some(as_user), true) => as_user,
                _ => &mut worker,
            };
            let time = by.program(&entry.words);
            entry.samples.push(time.map_err(|failure| format!("{}: {failure}", entry.name))?);
        }
        lives.push(worker.life(false)?);
        if let Some(as_user) = &mut as_user {
            users_lives.push(as_user.life(false)?);
        }
        if round % SELDOM == 0 {
            let Life { start, call, end } = worker.life(true)?;
            firsts.push(start + call + end);
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for entry in entries {
        rows.push(entry.samples.row(entry.name));
    }
    let ours = add_ours(owner, lives, firsts, &mut rows);
    if as_user.is_some() {
        let users = add_ours("user", users_lives, Samples::default(), &mut rows);
        report.fact("posthouse: user to root", users / ours, "x", "at most 1.15");
    }
    let of = |name: &str| rows.iter().find(|row| row.name() == name).map(Row::median);
    let (bare, by_shell) = (of("bwrap: program"), of("bwrap: by a shell"));
    for (peer, aim) in [
        ("bwrap", "at most 0.60"),
        ("runc", "at most 0.12"),
        ("crun", ""),
        ("gVisor", "at most 0.025"),
    ] {
        let row = rows
            .iter()
            .find(|row| row.name().starts_with(peer) && row.name().ends_with("by a shell"));
        if let Some(row) = row {
            report.fact(format!("posthouse, {owner}, to {peer}"), ours / row.median(), "x", aim);
        }
    }
    let rows = rows.into_iter().map(|row| {
        let baseline = match row.name().rsplit(": ").next() {
            Some("program" | "start and end") => bare,
            Some("by a shell" | "by a shell, launcher first") => by_shell,
            _ => None,
        };
        row.times_longer(baseline)
    });
    report.add(rows);
    Ok(report)
}

/// Adds what is said of our cages; returns the whole life's median.
fn add_ours(owner: &str, lives: Lives, firsts: Samples, rows: &mut Vec<Row>) -> f64 {
    let name = |what: &str| format!("posthouse, {owner}: {what}");
    let parts = [(lives.start, "start"), (lives.call, "first call"), (lives.end, "end")];
    rows.extend(parts.map(|(samples, part)| samples.row(name(part))));
    let whole = lives.whole.row(name("by a shell"));
    let median = whole.median();
    rows.push(lives.both.row(name("start and end")));
    rows.push(whole);
    if firsts.count() > 0 {
        rows.push(firsts.row(name("by a shell, launcher first")));
    }
    median
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Everybody who can take part, tried once.
fn entries(
    report: &mut Report,
    worker: &mut Worker,
    folder: &Path,
    with_user: bool,
) -> Outcome<Vec<Entry>> {
    let words = |command: &[&str]| command.iter().map(|word| (*word).to_owned()).collect();
    let bare = |name: &str, command: &[&str]| Entry {
        name: name.to_owned(),
        words: words(command),
        samples: Samples::default(),
        every: 1,
        by_user: false,
    };
    let mut entries =
        vec![bare("no sandbox: program", &PROGRAM), bare("no sandbox: by a shell", &BY_SHELL)];
    for ready in find_peers(report, worker, folder, &Peer::ALL)? {
        let every = if ready.peer == Peer::Gvisor { SELDOM } else { 1 };
        for (what, command) in [("program", &PROGRAM[..]), ("by a shell", &BY_SHELL[..])] {
            let name = format!("{}: {what}", ready.name());
            let words = ready.command(command)?;
            entries.push(Entry { words, every, ..bare(&name, command) });
        }
        if with_user && ready.peer == Peer::Bubblewrap {
            let words = ready.command(&BY_SHELL)?;
            entries.push(Entry { words, by_user: true, ..bare("bwrap, user: by a shell", &[]) });
        }
    }
    Ok(entries)
}

/// Finds the peers that work here. The others are named in the report.
pub(crate) fn find_peers(
    report: &mut Report,
    worker: &mut Worker,
    folder: &Path,
    peers: &[Peer],
) -> Outcome<Vec<Ready>> {
    // A runtime that has become somebody else has to get to its root.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let mut found = Vec::new();
    for peer in peers.iter().copied() {
        let ready = match Ready::new(peer, folder) {
            Ok(ready) => ready,
            Err(reason) => {
                report.note(reason);
                continue;
            }
        };
        let mut ways = vec![ready.clone()];
        if peer == Peer::Gvisor {
            ways.push(ready.with_ptrace());
        }
        for ready in ways {
            match worker.program(&ready.command(&PROGRAM)?) {
                Ok(_) => {
                    found.push(ready);
                    break;
                }
                Err(failure) => report.note(format!("{}: fails here: {failure}", ready.name())),
            }
        }
    }
    Ok(found)
}
