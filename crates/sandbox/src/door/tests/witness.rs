//! The keeper of the tests: it has the secrets that it was given, and remembers everything.

use std::future::ready;

use super::*;

/// What does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Closed {
    #[default]
    Nothing,
    Vault,
    Ledger,
}

/// The keeper.
#[derive(Debug, Default)]
pub(super) struct Witness {
    secrets: Mutex<Vec<Secret>>,
    closed: Mutex<Closed>,
    uses: Mutex<Vec<Use>>,
    decisions: Mutex<Vec<Decision>>,
}

impl Witness {
    pub(super) fn give(&self, secrets: Vec<Secret>) {
        *locked(&self.secrets) = secrets;
    }

    pub(super) fn close(&self, closed: Closed) {
        *locked(&self.closed) = closed;
    }

    pub(super) fn uses(&self) -> Vec<Use> {
        locked(&self.uses).clone()
    }

    pub(super) fn decisions(&self) -> Vec<Decision> {
        locked(&self.decisions).clone()
    }

    /// Whether it was refused, by this rule.
    pub(super) fn refused(&self, host: &str, port: u16, rule: Rule) -> bool {
        let refused = Decision { host: host.to_owned(), port: Some(port), allowed: false, rule };
        locked(&self.decisions).contains(&refused)
    }
}

impl Keeper for Witness {
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>> {
        let closed = *locked(&self.closed) == Closed::Vault;
        let secrets = locked(&self.secrets).clone().into();
        Box::pin(ready(if closed { Err(Unavailable) } else { Ok(secrets) }))
    }

    fn used(&self, uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>> {
        if *locked(&self.closed) == Closed::Ledger {
            return Box::pin(ready(Err(Unavailable)));
        }
        locked(&self.uses).extend(uses);
        Box::pin(ready(Ok(())))
    }

    fn decided(&self, decision: Decision) {
        locked(&self.decisions).push(decision);
    }

    fn started(&self, _started: Started) {}
}
