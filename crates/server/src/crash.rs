//! Ends this process at a named point, for the crash tests: `POSTHOUSE_FAULT=POINT:N` ends it
//! with SIGKILL when the point is passed for the N-th time, `POSTHOUSE_FAULT=*:N` at the N-th
//! point of any name. Whoever sets a server's environment can stop it anyway.

use std::sync::atomic::{AtomicU64, Ordering};

use posthouse_store::{Faults, fault::POINTS};

/// What the environment asks for; nothing in any ordinary life.
pub(crate) fn from_environment() -> Faults {
    let wanted = std::env::var("POSTHOUSE_FAULT").ok();
    let parsed = wanted.as_deref().and_then(parse);
    if wanted.is_some() && parsed.is_none() {
        tracing::warn!(points = POINTS.join(", "), "POSTHOUSE_FAULT is ignored: write POINT:N");
    }
    let Some((point, count)) = parsed else { return Faults::default() };
    let passed = AtomicU64::new(0);
    Faults::new(move |name| {
        let here = point.is_none_or(|point| point == name);
        if here && passed.fetch_add(1, Ordering::Relaxed) + 1 == count {
            // SIGKILL to oneself can't fail and leaves no time to tidy up, which is the point.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            loop {
                std::thread::park();
            }
        }
        Ok(())
    })
}

/// The point (any when `None`) and the count.
fn parse(wanted: &str) -> Option<(Option<&'static str>, u64)> {
    let (name, count) = wanted.split_once(':')?;
    let count = count.parse().ok().filter(|count| *count > 0)?;
    if name == "*" {
        return Some((None, count));
    }
    POINTS.iter().find(|point| **point == name).map(|point| (Some(*point), count))
}
