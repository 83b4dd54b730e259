//! Named points at which a test may end the process, and nothing else.
//!
//! Every place where a crash could come between an effect and its record has a name here. In
//! a running server a point costs one comparison.

use std::sync::Arc;

use thiserror::Error;

/// All points, in the order in which a turn passes them.
pub const POINTS: &[&str] = &[
    "input.before_append",
    "input.after_append",
    "append.before_commit",
    "append.after_commit",
    "wake.before_claim",
    "wake.after_claim",
    "list.after_start",
    "list.before_append",
    "list.after_append",
    "model.before_request",
    "model.during_response",
    "model.before_append",
    "model.after_append",
    "tool.before_start",
    "tool.after_start",
    "tool.before_append",
    "tool.after_append",
    "plan.before_append",
    "plan.after_append",
];

/// A fault that was injected: whoever meets it stops where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("crashed at {0}")]
pub struct Crash(pub &'static str);

type Judge = dyn Fn(&'static str) -> Result<(), Crash> + Send + Sync;

/// Decides at each point whether to go on. The default always goes on.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Judge>>);

impl Faults {
    /// Asks `judge` at every point. It may also never return.
    pub fn new(judge: impl Fn(&'static str) -> Result<(), Crash> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(judge)))
    }

    /// Passes a point.
    ///
    /// # Errors
    /// [`Crash`] when a test wants the caller to stop here.
    #[inline]
    pub fn point(&self, name: &'static str) -> Result<(), Crash> {
        match &self.0 {
            None => Ok(()),
            Some(judge) => {
                debug_assert!(POINTS.contains(&name), "{name} is not in the list of points");
                judge(name)
            }
        }
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(armed)" } else { "Faults(none)" })
    }
}
