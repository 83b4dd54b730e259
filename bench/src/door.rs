//! Requests out of a cage: through the door in each of its ways, beside the same on the host and
//! by the designs with a proxy. And what it costs to put a secret into one.
//!
//! Each order is a client's process of its own, wherever it runs; times are taken in there. All
//! names are fixed to one origin on loopback. A way counts only when the client trusts the
//! authority that must be at its end: the cage's own where the door ends TLS, the origin's
//! elsewhere.

mod client;
mod entry;
mod keeper;
mod origin;
mod relay;
mod scene;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Subcommand;
use tokio::{runtime::Builder, task::JoinSet};

use self::{
    entry::{Ask, Entry, Way, What},
    origin::Origin,
    scene::Scene,
};
use crate::{
    Outcome,
    measure::{Report, Row},
    setup::Setup,
};

/// How many requests of an order come first and do not count.
const WARM: usize = 5;
/// What the answer to a download holds; in quick runs less.
const GIBIBYTE: u64 = 1 << 30;

/// A part in this bench, played by a process of its own.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Part {
    /// The origin.
    Origin,
    /// A client, for one order.
    Client { order: String },
    /// The proxy of the other designs.
    Proxy { folder: PathBuf, known: String },
    /// Their relay.
    Relay { folder: PathBuf },
}

/// Plays a part.
pub(crate) fn play(part: Part) -> ExitCode {
    match try_to_play(part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("posthouse-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn try_to_play(part: Part) -> Outcome<()> {
    match part {
        // One thread: it shall not be the one that needs both cores.
        Part::Origin => until_told(Builder::new_current_thread(), async {
            let (origin, hello) = Origin::bind().await?;
            println!("{}", serde_json::to_string(&hello)?);
            origin.serve().await
        }),
        Part::Client { order } => {
            let times = client::follow(&serde_json::from_str(&order)?)?;
            let times: Vec<_> = times.iter().map(|time| time.as_nanos() as u64).collect();
            println!("{}", serde_json::to_string(&times)?);
            Ok(())
        }
        Part::Proxy { folder, known } => {
            let known = serde_json::from_str(&known)?;
            // As many threads as the server's runtime has in benches.
            let mut threads = Builder::new_multi_thread();
            threads.worker_threads(2);
            until_told(threads, relay::proxy(folder, known))
        }
        Part::Relay { folder } => relay::relay(&folder),
    }
}

/// Plays until standard input ends, on a thread of the runtime's.
fn until_told(
    mut threads: Builder,
    play: impl Future<Output = Outcome<()>> + Send + 'static,
) -> Outcome<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // Whoever waits for this may have failed meanwhile.
        let _ = tell.send(ended);
    });
    threads.enable_all().build()?.block_on(async {
        let mut playing = JoinSet::new();
        playing.spawn(play);
        tokio::select! {
            failed = playing.join_next() => failed.map_or(Ok(()), |failed| failed?),
            _ = told => Ok(()),
        }
    })
}

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new(
        "door",
        "median to that of the same on the host; with a secret, to the same without it",
    );
    let mut scene = Scene::build(setup, &mut report)?;
    requests(setup, &mut scene, &mut report)?;
    downloads(setup, &mut scene, &mut report)?;
    Ok(report)
}

/// Everything but downloads, in turn.
fn requests(setup: &Setup, scene: &mut Scene, report: &mut Report) -> Outcome<()> {
    use Way::{Bytes, Host, Limited, Listener, Passthrough, Relay, Written};
    let mut entries = Vec::new();
    let ways = [Host, Listener, Relay, Bytes, Limited, Passthrough];
    for (ask, secure) in
        [(Ask::New, false), (Ask::New, true), (Ask::Kept, false), (Ask::Kept, true)]
    {
        let possible = ways.into_iter().filter(|way| secure || *way != Passthrough);
        entries.extend(possible.map(|way| Entry::new(ask, secure, way)));
    }
    entries.extend([Host, Limited].map(|way| Entry::new(Ask::Post, true, way)));
    for ask in [Ask::SecretHeader, Ask::SecretBody] {
        entries.extend([Limited, Written].map(|way| Entry::new(ask, true, way)));
    }
    entries.retain(|entry| scene.has(entry.way));
    let warm = setup.choose(WARM, 2);
    let mut sent = 0;
    for round in 0..setup.choose(40, 2) {
        // Forth and back: nobody shall always follow the same.
        let order: Box<dyn Iterator<Item = &mut Entry>> = match round % 2 {
            0 => Box::new(entries.iter_mut()),
            _ => Box::new(entries.iter_mut().rev()),
        };
        for entry in order {
            let count = match entry.ask {
                Ask::New => setup.choose(25, 5),
                _ => setup.choose(50, 10),
            };
            if entry.ask.has_secret() {
                sent += warm + count;
            }
            for time in one(setup, scene, entry, warm, count)? {
                entry.samples.push(time);
            }
        }
    }
    let uses = scene.uses();
    if uses < sent {
        return Err(format!("{uses} uses of the secret were told of; {sent} were made").into());
    }
    let rows = rows(entries);
    tell(report, &rows);
    report.add(rows.into_iter().map(|(.., row)| row));
    Ok(())
}

/// Downloads, and what they cost whatever stands between.
fn downloads(setup: &Setup, scene: &mut Scene, report: &mut Report) -> Outcome<()> {
    use Way::{Bytes, Host, Limited, Listener, Passthrough, Relay};
    let length = setup.choose(GIBIBYTE, GIBIBYTE / 16);
    let rounds = setup.choose(3, 1);
    let mut entries = Vec::new();
    for (secure, ways) in [
        (false, &[Host, Listener, Relay, Bytes, Limited][..]),
        (true, &[Host, Bytes, Limited, Passthrough][..]),
    ] {
        let ways = ways.iter().filter(|way| scene.has(**way));
        entries.extend(ways.map(|way| Entry::new(Ask::Download(length), secure, *way)));
    }
    for _ in 0..rounds {
        for entry in &mut entries {
            let before = scene.processor_seconds(entry.way);
            for time in one(setup, scene, entry, 0, 1)? {
                entry.samples.push(time);
            }
            entry.between += scene.processor_seconds(entry.way) - before;
        }
    }
    let gibibytes = (length * rounds as u64) as f64 / GIBIBYTE as f64;
    let costs: Vec<_> = entries
        .iter()
        .filter(|entry| entry.way != Host)
        .map(|entry| (entry.name(), entry.between / gibibytes))
        .collect();
    for (_, row) in rows(entries) {
        let rate = (length >> 20) as f64 / (row.median() / 1e3);
        report.fact(format!("{}, at the median", row.name()), rate, "MiB/s", "");
        report.add([row]);
    }
    for (name, cost) in costs {
        report.fact(format!("{name}, processor time between, a GiB"), cost, "s", "");
    }
    Ok(())
}

/// Has an entry's client follow one order.
fn one(
    setup: &Setup,
    scene: &mut Scene,
    entry: &Entry,
    warm: usize,
    count: usize,
) -> Outcome<Vec<Duration>> {
    setup.go_on()?;
    let order = entry.order(scene, warm, count);
    let times = scene.send(entry.way, &order);
    times.map_err(|failure| format!("{}: {failure}", entry.name()).into())
}

/// What is known of an entry: what it is, and its row.
type Found = (What, Row);

/// The entries' rows, each with the ratio to its baseline.
fn rows(entries: Vec<Entry>) -> Vec<Found> {
    let medians: Vec<_> = entries
        .iter()
        .map(|entry| (entry.what(), entry.samples.clone().row("").median()))
        .collect();
    let median = |of| medians.iter().find(|(one, _)| *one == of).map(|(_, median)| *median);
    let row = |entry: Entry| {
        let (what, name, baseline) = (entry.what(), entry.name(), entry.baseline());
        let ratio = (baseline != what).then(|| median(baseline)).flatten();
        (what, entry.samples.row(name).times_longer(ratio))
    };
    entries.into_iter().map(row).collect()
}

/// Says what is aimed at, and what else is no ratio to the host.
fn tell(report: &mut Report, rows: &[Found]) {
    let median = |of| rows.iter().find(|(one, _)| *one == of).map(|(_, row)| row.median());
    for (secure, door) in [
        (false, Way::Bytes),
        (false, Way::Limited),
        (true, Way::Bytes),
        (true, Way::Limited),
        (true, Way::Passthrough),
    ] {
        let Some(own) = median((Ask::New, secure, door)) else { continue };
        let what = format!("new, {}, {door}", if secure { "TLS" } else { "plain" });
        // The aims are those of a connection that is not looked into.
        let aim = |aim: &'static str| if secure || door != Way::Bytes { "" } else { aim };
        if let Some(other) = median((Ask::New, secure, Way::Host)) {
            report.fact(
                format!("{what}, over the host"),
                (own - other) * 1e3,
                "us",
                aim("at most 50"),
            );
        }
        for (way, most) in [(Way::Relay, "at most 0.70"), (Way::Listener, "at most 1.25")] {
            if let Some(other) = median((Ask::New, secure, way)) {
                report.fact(format!("{what}, to {way}"), own / other, "x", aim(most));
            }
        }
    }
    for (with, without, what) in [
        (Ask::SecretHeader, Ask::Kept, "a header"),
        (Ask::SecretBody, Ask::Post, "a body of 1 KiB"),
    ] {
        for way in [Way::Limited, Way::Written] {
            let pair = median((with, true, way)).zip(median((without, true, Way::Limited)));
            if let Some((with, without)) = pair {
                let name = format!("a secret in {what}, {way}");
                report.fact(name, (with - without) * 1e3, "us", "");
            }
        }
    }
}
