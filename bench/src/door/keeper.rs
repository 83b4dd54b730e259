//! A keeper of one secret, which answers at once, or once the use is on disk.
//!
//! It stands for a vault without its database: what a door's work costs is the door's.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use posthouse_sandbox::door::{Decision, Keeper, Secret, Started, Unavailable, Use, Work};
use secrecy::SecretString;

use super::entry::{PLACEHOLDER, SECRET, VALUE};
use crate::floor::{DurableFile, PIECE};

/// The keeper. Its secret may go to [`SECRET`] alone.
#[derive(Debug)]
pub(crate) struct OneSecret {
    secrets: Arc<[Secret]>,
    ledger: Option<Arc<Mutex<DurableFile>>>,
    uses: AtomicUsize,
}

impl OneSecret {
    /// One whose uses are written to a file, or to none.
    pub(crate) fn new(ledger: Option<DurableFile>) -> Arc<Self> {
        let secret = Secret {
            name: "BENCH_TOKEN".into(),
            credential: "vcrd_bench".into(),
            vault: "vlt_bench".into(),
            placeholder: PLACEHOLDER.into(),
            hosts: Some(vec![SECRET.to_owned()]),
            header: true,
            body: true,
            value: SecretString::from(VALUE),
        };
        Arc::new(Self {
            secrets: Arc::new([secret]),
            ledger: ledger.map(|file| Arc::new(Mutex::new(file))),
            uses: AtomicUsize::new(0),
        })
    }

    /// How many uses it was told of.
    pub(crate) fn uses(&self) -> usize {
        self.uses.load(Ordering::Relaxed)
    }
}

impl Keeper for OneSecret {
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>> {
        Box::pin(std::future::ready(Ok(Arc::clone(&self.secrets))))
    }

    fn used(&self, uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>> {
        self.uses.fetch_add(uses.len(), Ordering::Relaxed);
        let Some(file) = &self.ledger else { return Box::pin(std::future::ready(Ok(()))) };
        let file = Arc::clone(file);
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                uses.iter().all(|_| file.append(&PIECE).is_ok())
            });
            if written.await.unwrap_or(false) { Ok(()) } else { Err(Unavailable) }
        })
    }

    fn decided(&self, _decision: Decision) {}

    fn started(&self, _started: Started) {}
}
