//! The ledger: what credentials were used for, and what sandboxes are and have done.
//!
//! A use is durable before the request that it is about leaves. Decisions of doors come in floods,
//! so those that are alike are counted together and written a little later, and of those that are
//! not, so many at a time. No value is ever in it.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use posthouse_protocol::{
    Micros, Timestamp,
    credential::{InjectionLocation, Use, UseKind},
    id::IdKind,
    sandbox_record::{Decided, Injection, Sandbox, SandboxRecord, What},
};
use posthouse_sandbox::door::{Decision, Started};
use posthouse_store::{
    Database, Error,
    tables::{
        sandbox_records::{self, SandboxRecordRow},
        uses::{self, UseRow},
    },
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::clock::{Chance, Clock};

/// How long decisions are gathered.
const PERIOD: Duration = Duration::from_millis(250);
/// How many different decisions of one session are written one by one in a period.
const MOST: usize = 200;
/// How many a session may have written at once, and how many more in each second. A tool that
/// tries hosts all day fills no disk with them.
const BURST: f64 = 2000.0;
const RATE: f64 = 5.0;
/// How long those that are left out are counted before they are written.
const LEFT_OUT: Duration = Duration::from_secs(5);
/// The longest name of a host that is kept, in bytes: more than any real one has.
const HOST: usize = 255;
/// The same of a method.
const METHOD: usize = 64;

/// The ledger. Clones share everything.
#[derive(Clone)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    clock: Clock,
    chance: Chance,
    waiting: Mutex<Waiting>,
    /// Held from taking a batch until it is durable, so that whoever flushes finds nothing on
    /// its way.
    writing: tokio::sync::Mutex<()>,
}

/// The accounts that have something to be written.
#[derive(Default)]
struct Waiting {
    accounts: Vec<Arc<Account>>,
    /// Whether somebody is at work who will write it.
    attended: bool,
}

/// What one session has to be written down.
pub(crate) struct Account {
    session: Arc<str>,
    batch: Mutex<Batch>,
}

struct Batch {
    /// Whether the account is among those that wait.
    waiting: bool,
    decisions: HashMap<(Decision, Vec<Arc<str>>), Tally>,
    allowed_left_out: Option<Tally>,
    denied_left_out: Option<Tally>,
    started: Vec<(Micros, Started)>,
    /// How many more different decisions may be written one by one, and since when.
    allowance: (f64, Instant),
}

#[derive(Clone, Copy)]
struct Tally {
    first: Micros,
    last: Micros,
    count: u64,
}

impl Tally {
    fn one(at: Micros) -> Self {
        Self { first: at, last: at, count: 1 }
    }

    fn more(&mut self, at: Micros) {
        self.last = at;
        self.count += 1;
    }
}

impl Account {
    pub(crate) fn new(session: Arc<str>) -> Self {
        let batch = Batch {
            waiting: false,
            decisions: HashMap::new(),
            allowed_left_out: None,
            denied_left_out: None,
            started: Vec::new(),
            allowance: (BURST, Instant::now()),
        };
        Self { session, batch: Mutex::new(batch) }
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    fn count(&mut self, mut decision: Decision, calls: Vec<Arc<str>>, at: Micros) {
        cut(&mut decision.host, HOST);
        let room = self.decisions.len() < MOST && self.has_allowance(Instant::now());
        let left_out = match decision.allowed {
            true => &mut self.allowed_left_out,
            false => &mut self.denied_left_out,
        };
        match self.decisions.entry((decision, calls)) {
            Entry::Occupied(mut known) => known.get_mut().more(at),
            Entry::Vacant(place) if room => {
                self.allowance.0 -= 1.0;
                place.insert(Tally::one(at));
            }
            Entry::Vacant(_) => match left_out {
                Some(tally) => tally.more(at),
                None => *left_out = Some(Tally::one(at)),
            },
        }
    }

    fn has_allowance(&mut self, now: Instant) -> bool {
        let (left, since) = self.allowance;
        let grown = left + now.duration_since(since).as_secs_f64() * RATE;
        self.allowance = (grown.min(BURST), now);
        self.allowance.0 >= 1.0
    }

    /// Takes out what is to be written now. What was left out waits for more of its kind, unless
    /// all is asked for.
    fn take(&mut self, now: Micros, all: bool) -> Vec<(Micros, What)> {
        let mut taken: Vec<(Micros, What)> = Vec::new();
        let started = mem::take(&mut self.started).into_iter();
        taken.extend(started.map(|(at, started)| (at, What::Sandbox(standing(started)))));
        for ((decision, calls), tally) in self.decisions.drain() {
            let decided = Decided {
                host: Some(decision.host),
                port: decision.port,
                rule: word(&decision.rule),
                event_ids: calls,
                count: tally.count,
                last_at: Timestamp(tally.last),
            };
            taken.push((tally.first, of_kind(decision.allowed, decided)));
        }
        let age = i64::try_from(LEFT_OUT.as_micros()).unwrap_or(i64::MAX);
        for (allowed, left_out) in
            [(true, &mut self.allowed_left_out), (false, &mut self.denied_left_out)]
        {
            let due = left_out.take_if(|tally| all || tally.first.plus(age) <= now);
            let Some(tally) = due else { continue };
            let decided = Decided {
                host: None,
                port: None,
                rule: None,
                event_ids: Vec::new(),
                count: tally.count,
                last_at: Timestamp(tally.last),
            };
            taken.push((tally.first, of_kind(allowed, decided)));
        }
        taken.sort_by_key(|(at, _)| *at);
        taken
    }

    fn is_empty(&self) -> bool {
        self.decisions.is_empty()
            && self.started.is_empty()
            && self.allowed_left_out.is_none()
            && self.denied_left_out.is_none()
    }
}

/// Where a request goes that a credential is used in.
pub(crate) struct Request<'a> {
    pub(crate) kind: UseKind,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) method: &'a str,
    pub(crate) location: InjectionLocation,
}

/// On whose behalf it is used.
#[derive(Clone)]
pub(crate) struct Behalf {
    pub(crate) workspace: Arc<str>,
    pub(crate) session: Option<Arc<str>>,
    pub(crate) event_ids: Vec<Arc<str>>,
}

impl Ledger {
    pub(crate) fn new(database: Database, clock: Clock, chance: Chance) -> Self {
        let shared = Shared {
            database,
            clock,
            chance,
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Writes down a use of the server's own; durable when it returns.
    pub(crate) async fn used(
        &self,
        behalf: &Behalf,
        vault: &str,
        credential: &str,
        request: Request<'_>,
    ) -> Result<(), Error> {
        let row = self.use_row(behalf, vault, credential, request)?;
        self.shared.database.write(move |connection| uses::insert(connection, &[row])).await
    }

    /// Writes down what a session's door is about to put into requests; durable when it returns.
    pub(crate) async fn injected(
        &self,
        behalf: &Behalf,
        session: &Arc<str>,
        uses: Vec<posthouse_sandbox::door::Use>,
    ) -> Result<(), Error> {
        let (mut rows, mut records) = (Vec::new(), Vec::new());
        for mut one in uses {
            cut(&mut one.method, METHOD);
            let location = InjectionLocation { header: one.header, body: one.body };
            let request = Request {
                kind: UseKind::Egress,
                host: &one.host,
                port: one.port,
                method: &one.method,
                location,
            };
            rows.push(self.use_row(behalf, &one.vault, &one.credential, request)?);
            let injection = Injection {
                vault_id: one.vault,
                credential_id: one.credential,
                host: one.host,
                port: one.port,
                method: one.method,
                location,
                event_ids: behalf.event_ids.clone(),
            };
            let at = self.shared.clock.now();
            records.push(self.record(session, at, What::Injection(injection))?);
        }
        let write = self.shared.database.write(move |connection| {
            uses::insert(connection, &rows)?;
            sandbox_records::insert(connection, &records)
        });
        write.await
    }

    /// Takes note of a decision; it is written a little later.
    pub(crate) fn decided(&self, account: &Arc<Account>, decision: Decision, calls: Vec<Arc<str>>) {
        let at = self.shared.clock.now();
        self.note(account, |batch| batch.count(decision, calls, at));
    }

    /// Takes note of a sandbox that stands; it is written a little later.
    pub(crate) fn started(&self, account: &Arc<Account>, started: Started) {
        let at = self.shared.clock.now();
        self.note(account, |batch| batch.started.push((at, started)));
    }

    /// Writes all that was noted; durable when it returns.
    pub(crate) async fn flush(&self) {
        self.write(true).await;
    }

    fn note(&self, account: &Arc<Account>, change: impl FnOnce(&mut Batch)) {
        {
            let mut batch = account.batch();
            change(&mut batch);
            if mem::replace(&mut batch.waiting, true) {
                return;
            }
        }
        let mut waiting = self.waiting();
        waiting.accounts.push(Arc::clone(account));
        // Without a runtime it waits until somebody flushes.
        if waiting.attended || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        waiting.attended = true;
        let ledger = self.clone();
        #[expect(clippy::disallowed_methods, reason = "ends when all that was noted is written")]
        tokio::task::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                ledger.write(false).await;
                let mut waiting = ledger.waiting();
                if waiting.accounts.is_empty() {
                    waiting.attended = false;
                    return;
                }
            }
        });
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, all: bool) {
        let _alone = self.shared.writing.lock().await;
        let now = self.shared.clock.now();
        let accounts = mem::take(&mut self.waiting().accounts);
        let (mut rows, mut kept) = (Vec::new(), Vec::new());
        for account in accounts {
            let mut batch = account.batch();
            for (at, what) in batch.take(now, all) {
                match self.record(&account.session, at, what) {
                    Ok(row) => rows.push(row),
                    Err(error) => tracing::error!(%error, "a record of a sandbox can't be written"),
                }
            }
            batch.waiting = !batch.is_empty();
            if batch.waiting {
                drop(batch);
                kept.push(account);
            }
        }
        self.waiting().accounts.append(&mut kept);
        if rows.is_empty() && !all {
            return;
        }
        // Without rows as well: what somebody has handed over who has left meanwhile is in front
        // of it in the queue.
        let count = rows.len();
        // What was taken out is handed over before anything is waited for: a caller who leaves
        // takes nothing with it.
        let write = self
            .shared
            .database
            .write::<_, Error>(move |connection| sandbox_records::insert(connection, &rows));
        if let Err(error) = write.await {
            tracing::error!(%error, count, "records of sandboxes were not written");
        }
    }

    fn use_row(
        &self,
        behalf: &Behalf,
        vault: &str,
        credential: &str,
        request: Request<'_>,
    ) -> Result<UseRow, Error> {
        let at = self.shared.clock.now();
        let id = IdKind::CredentialUse.mint(at, self.shared.chance.bytes());
        let session = behalf.session.as_deref().map(str::to_owned);
        let body = Use {
            id: id.clone(),
            vault_id: vault.to_owned(),
            credential_id: credential.to_owned(),
            session_id: session.clone(),
            event_ids: behalf.event_ids.iter().map(ToString::to_string).collect(),
            kind: request.kind,
            host: request.host.to_owned(),
            port: request.port,
            method: request.method.to_owned(),
            location: request.location,
            created_at: Timestamp(at),
        };
        Ok(UseRow {
            id,
            workspace: behalf.workspace.to_string(),
            vault: vault.to_owned(),
            credential: credential.to_owned(),
            session,
            body: text(&body)?,
            at: at.0,
        })
    }

    fn record(
        &self,
        session: &Arc<str>,
        at: Micros,
        what: What,
    ) -> Result<SandboxRecordRow, Error> {
        let id = IdKind::SandboxRecord.mint(at, self.shared.chance.bytes());
        let kind = what.kind().to_owned();
        let record = SandboxRecord {
            id: id.clone(),
            session_id: Arc::clone(session),
            created_at: Timestamp(at),
            what,
        };
        let body = text(&record)?;
        Ok(SandboxRecordRow { id, session: session.to_string(), kind, body, at: at.0 })
    }
}

/// Cuts a text to so many bytes at most, between two characters.
pub(crate) fn cut(text: &mut String, most: usize) {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
}

fn of_kind(allowed: bool, decided: Decided) -> What {
    if allowed { What::Allow(decided) } else { What::Deny(decided) }
}

fn standing(started: Started) -> Sandbox {
    let value = |result: Result<Value, serde_json::Error>| result.unwrap_or_default();
    Sandbox {
        version: started.version.to_owned(),
        kernel: started.kernel,
        isolation: value(serde_json::to_value(started.isolation)),
        limits: value(serde_json::to_value(started.limits)),
        allowlist: value(serde_json::to_value(started.allowlist)),
        passthrough: started.passthrough,
    }
}

/// The word that an enum has in JSON.
fn word(value: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    value.as_str().map(str::to_owned)
}

fn text(body: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(body).map_err(|error| Error::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_has_used_up_its_allowance_has_its_say_again_later() {
        let account = Account::new("sesn_1".into());
        let mut batch = account.batch();
        let start = Instant::now();
        batch.allowance = (0.0, start);
        assert!(!batch.has_allowance(start));
        assert!(!batch.has_allowance(start + Duration::from_millis(100)));
        assert!(batch.has_allowance(start + Duration::from_millis(300)));
        // It never has more than at its beginning.
        assert!(batch.has_allowance(start + Duration::from_secs(1_000_000)));
        assert!(batch.allowance.0 <= BURST);
    }

    #[test]
    fn what_is_left_out_waits_for_more_of_its_kind() {
        let account = Account::new("sesn_1".into());
        let mut batch = account.batch();
        batch.allowance.0 = 0.0;
        let decision = |allowed| Decision {
            host: "a.example".into(),
            port: None,
            allowed,
            rule: posthouse_sandbox::Rule::NotListed,
        };
        batch.count(decision(false), Vec::new(), Micros(1_000_000));
        assert!(batch.take(Micros(2_000_000), false).is_empty() && !batch.is_empty());
        batch.count(decision(false), Vec::new(), Micros(3_000_000));
        batch.count(decision(true), Vec::new(), Micros(3_000_000));
        let taken = batch.take(Micros(6_000_000), false);
        let [(Micros(1_000_000), What::Deny(decided))] = &*taken else { panic!("{taken:?}") };
        assert_eq!((&decided.host, decided.count), (&None, 2));
        assert!(!batch.is_empty());
        assert_eq!(batch.take(Micros(6_000_000), true).len(), 1);
        assert!(batch.is_empty());
    }
}
