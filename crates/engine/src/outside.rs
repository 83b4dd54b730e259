//! The world outside of the server, as sessions reach it: the MCP servers of their agents, and the web.
//!
//! Holds which connections a session has and for how long: while it works and a little after. What a
//! session's connection and a server's state behind it are, no other session sees. How a protocol goes is
//! known elsewhere, and so is what the harness makes of an answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use posthouse_mcp::client::{Connection, Error};
use posthouse_net::Guard;
use posthouse_protocol::agent::McpServer;
use posthouse_web::{fetch::Reader, search::Search};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    task::JoinSet,
    time::{Instant, timeout},
};

use self::{
    link::{Identity, Link, Open},
    web::Web,
};
use crate::{
    tools::{
        Destination, Hands, Listing, Outside, OutsideCall, Standpoint, ToolFuture, ToolOutcome,
        Work,
    },
    vault::Vaults,
};

mod headers;
mod link;
mod mcp;
mod reach;
#[cfg(test)]
mod tests;
mod trouble;
mod web;

/// How long servers have to take note that all connections end.
const CLOSE: Duration = Duration::from_secs(2);
/// How long a connection stays that nobody needs, in a session that has not said that it rests.
const UNUSED: Duration = Duration::from_secs(30 * 60);
/// The most bytes of lists that still hold and are kept for sessions that rest.
const RESTING_LISTS: usize = 64 << 20;

/// Everything that the world outside is made of.
pub struct OutsideParts {
    /// The way out.
    pub guard: Guard,
    /// The credentials of sessions.
    pub vaults: Vaults,
    /// The sandboxes, in which servers over input and output run.
    pub hands: Arc<dyn Hands>,
    /// What MCP servers may take.
    pub mcp: McpSettings,
    /// Reads pages.
    pub reader: Reader,
    /// The search back end, where one is configured.
    pub search: Option<Search>,
}

/// What MCP servers may take, and how long connections to them are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpSettings {
    /// For starting a server in a sandbox, and from the first byte to the end of the handshake.
    pub connect: Duration,
    /// For a whole list of tools.
    pub list: Duration,
    /// For a call without a sign of life.
    pub silence: Duration,
    /// For a whole call.
    pub call: Duration,
    /// The most tools that are taken of one server.
    pub tools: usize,
    /// The most bytes of one message.
    pub message_bytes: usize,
    /// How long a connection stays after its session has come to rest.
    pub keep: Duration,
    /// The most connections of all sessions together.
    pub connections: usize,
}

impl Default for McpSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            list: Duration::from_secs(30),
            silence: Duration::from_secs(300),
            call: Duration::from_secs(1800),
            tools: 2000,
            message_bytes: 16 << 20,
            keep: Duration::from_secs(60),
            connections: 1000,
        }
    }
}

/// The world outside. Clones share everything.
#[derive(Clone)]
pub struct Connected {
    room: Arc<Room>,
}

/// What calls and lists share.
struct Room {
    guard: Guard,
    vaults: Vaults,
    hands: Arc<dyn Hands>,
    settings: McpSettings,
    web: Web,
    sessions: Mutex<Sessions>,
    /// One for each connection that is open or about to be. Closed when the server stops.
    permits: Arc<Semaphore>,
    /// Connections that end, which takes each a few seconds at most.
    closing: Mutex<JoinSet<()>>,
}

type Sessions = HashMap<Arc<str>, Session>;

/// What is kept for a session.
#[derive(Default)]
struct Session {
    /// Since when it rests; none while it works.
    rests: Option<Instant>,
    links: Vec<Arc<Link>>,
}

impl Connected {
    /// A world that nothing is connected to yet.
    #[must_use]
    pub fn new(parts: OutsideParts) -> Self {
        let OutsideParts { guard, vaults, hands, mcp, reader, search } = parts;
        let permits = Arc::new(Semaphore::new(mcp.connections));
        let room = Room {
            guard,
            vaults,
            hands,
            settings: mcp,
            web: Web { reader, search },
            sessions: Mutex::default(),
            permits,
            closing: Mutex::default(),
        };
        Self { room: Arc::new(room) }
    }
}

impl Outside for Connected {
    fn list(&self, from: Arc<Standpoint>) -> Work<Vec<Listing>> {
        let room = Arc::clone(&self.room);
        room.wakes(&from.session);
        Box::pin(async move {
            let servers = &from.agent.mcp_servers;
            join_all(servers.iter().map(|server| room.listing(&from, server))).await
        })
    }

    fn call(&self, from: Arc<Standpoint>, call: OutsideCall) -> ToolFuture {
        let room = Arc::clone(&self.room);
        room.wakes(&from.session);
        Box::pin(async move {
            let OutsideCall { call, to } = call;
            match to {
                Destination::Page(shown) => room.web.fetch(&from, &call, &shown).await,
                Destination::Search => room.web.search(&from, &call).await,
                Destination::Server(name) => {
                    let server = from.agent.mcp_servers.iter().find(|one| one.name() == &*name);
                    let Some(server) = server else {
                        let text = format!("The agent has no MCP server {name:?} any more.");
                        return ToolOutcome::error(text);
                    };
                    room.call(&from, server, &call).await
                }
            }
        })
    }

    fn rest(&self, session: &Arc<str>) {
        if let Some(session) = self.room.sessions().get_mut(session) {
            session.rests = Some(Instant::now());
        }
    }

    fn forget(&self, session: &str) {
        let gone = self.room.sessions().remove(session);
        let links = gone.map(|session| session.links).unwrap_or_default();
        self.room.close(links.iter().filter_map(|link| link.take()));
    }

    fn sweep(&self) {
        self.room.sweep(Instant::now());
    }

    fn stop(&self) -> Work<()> {
        let room = Arc::clone(&self.room);
        Box::pin(async move {
            room.permits.close();
            let sessions = std::mem::take(&mut *room.sessions());
            let links = sessions.into_values().flat_map(|session| session.links);
            room.close(links.filter_map(|link| link.take()));
            let mut closing = std::mem::take(&mut *room.closing());
            let ended = async { while closing.join_next().await.is_some() {} };
            // Who does not take note has had the chance.
            let _ = timeout(CLOSE, ended).await;
        })
    }
}

impl Room {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closing(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session works, whatever it has said before.
    fn wakes(&self, session: &str) {
        if let Some(session) = self.sessions().get_mut(session) {
            session.rests = None;
        }
    }

    /// The link of a session to a server. One of another identity to the same server ends: its
    /// credential, its address or its agent have changed.
    fn link(&self, session: &Arc<str>, identity: Identity) -> Arc<Link> {
        let mut replaced = Vec::new();
        let mut sessions = self.sessions();
        let links = &mut sessions.entry(Arc::clone(session)).or_default().links;
        let found = links.iter().find(|link| link.identity == identity).map(Arc::clone);
        let link = found.unwrap_or_else(|| {
            let of_before =
                |link: &Arc<Link>| link.identity.server == identity.server && !link.is_at_work();
            replaced.extend(links.extract_if(.., |link| of_before(link)));
            let link = Arc::new(Link::new(identity));
            links.push(Arc::clone(&link));
            link
        });
        drop(sessions);
        self.close(replaced.iter().filter_map(|link| link.take()));
        link
    }

    /// The right to have one more connection. The one that nobody has needed for the longest time
    /// makes room for it.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => {
                return Err(Error::Connection("this posthouse is about to stop".to_owned()));
            }
            Err(TryAcquireError::NoPermits) => {}
        }
        let idle = {
            let sessions = self.sessions();
            let links = sessions.values().flat_map(|session| &session.links);
            let idle = links.filter(|link| !link.is_at_work() && link.is_open());
            idle.min_by_key(|link| link.used()).and_then(|link| link.take())
        };
        let Some(Open { connection, permit, .. }) = idle else {
            let most = self.settings.connections;
            return Err(Error::Connection(format!(
                "{most} connections to MCP servers are at work, the most that the operator allows \
                 (`mcp.connections`); try again later"
            )));
        };
        self.end(connection);
        Ok(permit)
    }

    /// Ends what has not been needed for a while.
    fn sweep(&self, now: Instant) {
        let mut ended = Vec::new();
        let mut resting = Vec::new();
        let mut sessions = self.sessions();
        for session in sessions.values_mut() {
            let rests = session.rests.is_some_and(|since| now >= since + self.settings.keep);
            session.links.retain(|link| {
                if link.is_at_work() {
                    return true;
                }
                let unused = now.saturating_duration_since(link.used()) >= UNUSED;
                if rests || unused {
                    ended.extend(link.take());
                    return link.forget_unless_it_holds(now);
                }
                true
            });
            if rests {
                resting.extend(session.links.iter().map(Arc::clone));
            }
        }
        resting.sort_by_key(|link| std::cmp::Reverse(link.used()));
        let mut bytes = 0;
        for link in resting {
            bytes += link.list_bytes();
            if bytes > RESTING_LISTS {
                link.forget_list();
            }
        }
        sessions.retain(|_, session| !session.links.is_empty());
        drop(sessions);
        self.close(ended);
    }

    /// Ends connections, each in its own time.
    fn close(&self, ended: impl IntoIterator<Item = Open>) {
        for Open { connection, .. } in ended {
            self.end(connection);
        }
    }

    fn end(&self, connection: Connection) {
        let mut closing = self.closing();
        while closing.try_join_next().is_some() {}
        closing.spawn(connection.close());
    }

    /// Who a session is to a server.
    fn identity(&self, from: &Standpoint, server: &McpServer) -> Result<Identity, Error> {
        let credential = match server.url() {
            None => None,
            Some(url) => {
                let found = self.vaults.matching(&from.workspace, &from.vaults, url);
                found.map_err(|error| {
                    tracing::error!(session = %from.session, %error, "vaults can't be read");
                    Error::Connection("the session's vaults can't be read now".to_owned())
                })?
            }
        };
        Ok(Identity {
            server: server.clone(),
            vaults: Arc::clone(&from.vaults),
            credential,
            elicitation: from.agent.posthouse.mcp_elicitation,
        })
    }
}
