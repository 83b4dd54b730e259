//! One MCP server as one session has it: the connection, the list of its tools, and the calls that run.
//!
//! Knows when a list still holds. Opens and closes nothing itself.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use posthouse_mcp::client::{Connection, Error};
use posthouse_protocol::agent::{Elicitation, McpServer};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    tools::ServerTool,
    vault::{Carried, Matching},
};

/// What makes a link what it is. With another server, credential or manner it is another link: what a
/// server keeps for a connection belongs to one identity alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) server: McpServer,
    pub(super) vaults: Arc<[String]>,
    /// The credential that the vaults have for the server.
    pub(super) credential: Option<Matching>,
    pub(super) elicitation: Elicitation,
}

/// A session's link to a server.
pub(super) struct Link {
    pub(super) identity: Identity,
    /// Held by whoever connects, so that only one does.
    pub(super) connecting: tokio::sync::Mutex<()>,
    /// Held by whoever lists the tools.
    pub(super) listing: tokio::sync::Mutex<()>,
    pub(super) calls: Calls,
    /// What requests to the server have carried.
    pub(super) carried: Carried,
    state: Mutex<State>,
}

struct State {
    open: Option<Open>,
    listed: Option<Listed>,
    /// Why the last attempt to connect has failed, and when.
    failed: Option<(Instant, Error)>,
    used: Instant,
}

/// A connection that is open.
pub(super) struct Open {
    pub(super) connection: Connection,
    /// Tells it from others.
    pub(super) number: u64,
    /// Counts it among all connections.
    pub(super) permit: OwnedSemaphorePermit,
}

/// A list, and what says whether it still holds.
#[derive(Clone)]
pub(super) struct Listed {
    pub(super) tools: Arc<[ServerTool]>,
    /// Until when the server says that it holds.
    pub(super) until: Option<Instant>,
    /// The connection that has brought it.
    pub(super) by: u64,
    /// Whether that connection tells of changes.
    pub(super) tells: bool,
}

impl Listed {
    /// Whether it still holds. `may_have_changed` is what the connection that has brought it says, as
    /// long as it is open.
    pub(super) fn holds(&self, now: Instant, may_have_changed: Option<bool>) -> bool {
        let told = may_have_changed.filter(|_| self.tells);
        match self.until {
            Some(until) => now < until && told != Some(true),
            None => told == Some(false),
        }
    }

    fn bytes(&self) -> usize {
        let of_one = |tool: &ServerTool| {
            tool.name.len() + tool.description.len() + tool.input_schema.get().len()
        };
        self.tools.iter().map(of_one).sum()
    }
}

impl Link {
    pub(super) fn new(identity: Identity) -> Self {
        let state = State { open: None, listed: None, failed: None, used: Instant::now() };
        Self {
            identity,
            connecting: tokio::sync::Mutex::default(),
            listing: tokio::sync::Mutex::default(),
            calls: Calls::default(),
            carried: Carried::default(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody works with it. To be asked under the lock of the one list that it stands in:
    /// whoever works with it has taken it from there, and has it.
    pub(super) fn is_at_work(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// The connection with its number, unless it has ended.
    pub(super) fn connection(&self) -> Option<(Connection, u64)> {
        let mut state = self.state();
        state.used = Instant::now();
        // Nobody needs to be told of the end of what has ended.
        state.open.take_if(|open| open.connection.is_closed());
        state.open.as_ref().map(|open| (open.connection.clone(), open.number))
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// When it was last needed.
    pub(super) fn used(&self) -> Instant {
        self.state().used
    }

    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    /// Puts a new connection in its place, and gives its number.
    pub(super) fn opened(&self, connection: Connection, permit: OwnedSemaphorePermit) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.open = Some(Open { connection, number, permit });
        state.failed = None;
        number
    }

    pub(super) fn not_opened(&self, error: Error) {
        self.state().failed = Some((Instant::now(), error));
    }

    /// Why an attempt has failed that has ended since then.
    pub(super) fn failure_since(&self, then: Instant) -> Option<Error> {
        let state = self.state();
        let (_, error) = state.failed.as_ref().filter(|(at, _)| *at >= then)?;
        Some(error.clone())
    }

    /// Takes the connection out.
    pub(super) fn take(&self) -> Option<Open> {
        self.state().open.take()
    }

    /// Takes the connection out if it is this one.
    pub(super) fn take_one(&self, number: u64) -> Option<Open> {
        self.state().open.take_if(|open| open.number == number)
    }

    pub(super) fn keep_list(&self, listed: Listed) {
        self.state().listed = Some(listed);
    }

    /// The list, if it still holds.
    pub(super) fn list(&self, now: Instant) -> Option<Arc<[ServerTool]>> {
        let mut state = self.state();
        state.used = now;
        let listed = state.listed.as_ref()?;
        let by = state.open.as_ref().filter(|open| open.number == listed.by);
        let by = by.filter(|open| !open.connection.is_closed());
        let may_have_changed = by.map(|open| open.connection.may_have_changed());
        listed.holds(now, may_have_changed).then(|| Arc::clone(&listed.tools))
    }

    /// Forgets a list that does not hold without its connection. Whether one is left.
    pub(super) fn forget_unless_it_holds(&self, now: Instant) -> bool {
        let listed = &mut self.state().listed;
        listed.take_if(|listed| !listed.holds(now, None));
        listed.is_some()
    }

    pub(super) fn forget_list(&self) {
        self.state().listed = None;
    }

    pub(super) fn list_bytes(&self) -> usize {
        self.state().listed.as_ref().map_or(0, Listed::bytes)
    }
}

/// The calls that run on a link, by the ids of their events. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Arc<str>>>>);

impl Calls {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call until what comes back is dropped.
    pub(super) fn begin(&self, call: &Arc<str>) -> Begun {
        self.all().push(Arc::clone(call));
        Begun { calls: self.clone(), call: Arc::clone(call) }
    }

    pub(super) fn now(&self) -> Vec<Arc<str>> {
        self.all().clone()
    }
}

/// A call that runs, whether it ends or is interrupted.
pub(super) struct Begun {
    calls: Calls,
    call: Arc<str>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.calls.all().retain(|call| *call != self.call);
    }
}
