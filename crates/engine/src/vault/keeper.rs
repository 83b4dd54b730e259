//! The keeper of one session's secrets: what of its vaults its sandbox may use by a placeholder.
//!
//! What was opened is kept for as long as nothing has changed, and [`LIFE`] at most. A change in this
//! process is seen at once, one that another process has made in [`LOOK`].

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use posthouse_protocol::credential::{Auth, Networking};
use posthouse_sandbox::door::{Decision, Keeper, Secret, Started, Unavailable, Use, Work};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time::Instant};

use super::{VaultError, Vaults, envelope::LIFE, held::Held};
use crate::ledger::{Account, Behalf};

/// How long nobody looks whether another process has changed something.
const LOOK: Duration = Duration::from_millis(500);
/// What is hashed in front of session and name.
const LABEL: &str = "posthouse placeholder";

/// Whose keeper it is.
pub struct KeeperOf {
    /// The session.
    pub session: Arc<str>,
    /// Its workspace: vaults of others yield nothing.
    pub workspace: Arc<str>,
    /// Its vaults. The first one wins where two have the same variable.
    pub vaults: Arc<[String]>,
    /// The ids of the tool calls that are running.
    pub calls: Arc<dyn Fn() -> Vec<Arc<str>> + Send + Sync>,
}

/// A credential whose values can't reach one of the hosts that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The credential.
    pub credential: String,
    /// Its vault.
    pub vault: String,
    /// The host, as the credential names it.
    pub host: String,
}

pub(super) struct SessionKeeper {
    vaults: Vaults,
    of: KeeperOf,
    account: Arc<Account>,
    known: Mutex<Known>,
}

/// What was read, and how it went.
#[derive(Default)]
struct Known {
    kept: Option<Kept>,
    /// The last time that it could not be opened. Requests that wait for a key service which does
    /// not answer wait for it once, not one after the other.
    failed: Option<(u64, Instant)>,
}

/// What was opened.
struct Kept {
    generation: u64,
    looked: Instant,
    opened: Instant,
    held: Vec<Held>,
    secrets: Arc<[Secret]>,
}

impl Kept {
    /// Whether this is what would be opened again.
    fn holds(&self, held: &[Held], now: Instant) -> bool {
        self.held == held && now < self.opened + LIFE
    }
}

impl SessionKeeper {
    pub(super) fn new(vaults: Vaults, of: KeeperOf) -> Self {
        let account = Arc::new(Account::new(Arc::clone(&of.session)));
        Self { vaults, of, account, known: Mutex::default() }
    }

    async fn current(&self) -> Result<Arc<[Secret]>, Unavailable> {
        let mut known = self.known.lock().await;
        // Before anything is read: a change after it is seen the next time.
        let generation = self.generation().load(Ordering::Acquire);
        let now = Instant::now();
        let is_new = |seen: u64, at: Instant| seen == generation && now.duration_since(at) < LOOK;
        if let Some(kept) = &known.kept
            && is_new(kept.generation, kept.looked)
        {
            return Ok(Arc::clone(&kept.secrets));
        }
        if known.failed.is_some_and(|(seen, at)| is_new(seen, at)) {
            return Err(Unavailable);
        }
        match self.look(known.kept.take(), generation, now).await {
            Ok(kept) => {
                let secrets = Arc::clone(&kept.secrets);
                *known = Known { kept: Some(kept), failed: None };
                Ok(secrets)
            }
            Err(error) => {
                known.failed = Some((generation, Instant::now()));
                tracing::error!(session = %self.of.session, %error, "its secrets can't be opened");
                Err(Unavailable)
            }
        }
    }

    /// What the vaults hold now; opened again only where it is not what it was.
    async fn look(
        &self,
        former: Option<Kept>,
        generation: u64,
        now: Instant,
    ) -> Result<Kept, VaultError> {
        let held = self.vaults.held(&self.of.workspace, &self.of.vaults)?;
        if let Some(former) = former.filter(|former| former.holds(&held, now)) {
            return Ok(Kept { generation, looked: now, ..former });
        }
        let secrets = self.open(&held).await?.into();
        Ok(Kept { generation, looked: now, opened: now, held, secrets })
    }

    fn generation(&self) -> &AtomicU64 {
        &self.vaults.room.generation
    }

    async fn open(&self, held: &[Held]) -> Result<Vec<Secret>, VaultError> {
        let mut secrets = Vec::new();
        for variable in variables(held)? {
            let opened = variable.held.open(&self.vaults).await?;
            let hosts = match variable.networking {
                Networking::Unrestricted => None,
                Networking::Limited { allowed_hosts } => {
                    Some(allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect())
                }
            };
            secrets.push(Secret {
                placeholder: placeholder(&self.of.session, &variable.name),
                name: variable.name.into(),
                credential: variable.held.row.id.as_str().into(),
                vault: variable.held.row.vault.as_str().into(),
                hosts,
                header: variable.header,
                body: variable.body,
                value: opened.secret_value.ok_or(VaultError::Sealed)?,
            });
        }
        Ok(secrets)
    }
}

impl fmt::Debug for SessionKeeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = (&self.of.session, &self.of.vaults);
        formatter.debug_tuple("SessionKeeper").field(&of.0).field(&of.1).finish()
    }
}

impl Keeper for SessionKeeper {
    fn secrets(&self) -> Work<'_, Result<Arc<[Secret]>, Unavailable>> {
        Box::pin(self.current())
    }

    fn used(&self, uses: Vec<Use>) -> Work<'_, Result<(), Unavailable>> {
        Box::pin(async {
            let behalf = Behalf {
                workspace: Arc::clone(&self.of.workspace),
                session: Some(Arc::clone(&self.of.session)),
                event_ids: (self.of.calls)(),
            };
            let ledger = &self.vaults.room.ledger;
            ledger.injected(&behalf, &self.of.session, uses).await.map_err(|error| {
                tracing::error!(session = %self.of.session, %error, "a use can't be written down");
                Unavailable
            })
        })
    }

    fn decided(&self, decision: Decision) {
        self.vaults.room.ledger.decided(&self.account, decision, (self.of.calls)());
    }

    fn started(&self, started: Started) {
        self.vaults.room.ledger.started(&self.account, started);
    }
}

/// A credential that is a variable, and comes first among those of its name.
struct Variable<'a> {
    held: &'a Held,
    name: String,
    networking: Networking,
    header: bool,
    body: bool,
}

fn variables(held: &[Held]) -> Result<Vec<Variable<'_>>, VaultError> {
    let (mut names, mut variables) = (HashSet::new(), Vec::new());
    for held in held {
        let auth = held.auth()?;
        let Auth::EnvironmentVariable { secret_name, networking, injection_location } = auth else {
            continue;
        };
        if names.insert(secret_name.clone()) {
            let (header, body) = (injection_location.header, injection_location.body);
            variables.push(Variable { held, name: secret_name, networking, header, body });
        }
    }
    Ok(variables)
}

/// What stands for a value inside of a session. It hangs on names alone, and so tells nothing of
/// the value and stays when the value changes.
fn placeholder(session: &str, name: &str) -> Arc<str> {
    let mut hash = Sha256::new();
    for part in [LABEL, session, name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = posthouse_store::record::hex(&hash.finalize()[..16]);
    format!("phs_{hash}").into()
}

impl Vaults {
    /// The variables of these vaults with a host that an environment does not let through, once
    /// for each host. `allows` is asked with each host that a credential names; one that names
    /// none goes wherever the environment does.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub fn unreachable(
        &self,
        workspace: &str,
        vaults: &[String],
        allows: impl Fn(&str) -> bool,
    ) -> Result<Vec<Unreachable>, VaultError> {
        let held = self.held(workspace, vaults)?;
        let mut unreachable = Vec::new();
        for variable in variables(&held)? {
            let Networking::Limited { allowed_hosts } = variable.networking else { continue };
            for host in allowed_hosts.into_iter().filter(|host| !allows(host)) {
                let (credential, vault) =
                    (variable.held.row.id.clone(), variable.held.row.vault.clone());
                unreachable.push(Unreachable { credential, vault, host });
            }
        }
        Ok(unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_long_ago_is_opened_again() {
        let now = Instant::now();
        let secrets = Vec::new().into();
        let kept = Kept { generation: 0, looked: now, opened: now, held: Vec::new(), secrets };
        assert!(kept.holds(&[], now + LIFE / 2) && !kept.holds(&[], now + LIFE));
    }
}
