//! A cage's TCP connections: where each was meant to go, whether it may, and the way there.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use posthouse_net::{ConnectError, Pinned};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{Rule, State, hosts::Pattern, locked, look, names, pump, resolver, web::Refusal};

const DNS: u16 = 53;
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Where a connection goes.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) pinned: Pinned,
    /// The port that was asked for.
    pub(super) port: u16,
    /// The rule by which it may be reached.
    pub(super) rule: Rule,
    /// Whether it was asked for by a name.
    pub(super) by_name: bool,
}

/// Accepts for as long as the door is open, and serves never more than there are places.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    // Ends with this future, which ends with the door.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                // The one in hand waits here, all others in the kernel's queue.
                let Some(place) = state.places.take().await else { return };
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    serve(stream, &state).await;
                    drop(place);
                });
            }
            // Most often the server has no descriptors left; those who wait keep waiting.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, state: &Arc<State>) {
    // The kernel has put the address that was dialled here.
    let Ok(SocketAddr::V4(meant)) = stream.local_addr() else { return pump::reset(stream) };
    let (address, port) = (*meant.ip(), meant.port());
    if port == DNS {
        return resolver::serve_connection(stream, state).await;
    }
    if address.is_loopback() {
        // The cage's own loopback, whoever has opened the server's.
        return pump::reset(stream);
    }
    let _ = stream.set_nodelay(true);
    match state.way(address, port).await {
        // Boxed: most of what waits is in neither of these two.
        Ok(way) if state.looks_into(&way).await => {
            Box::pin(look::into(stream, state, way)).await;
        }
        Ok(way) => pass(stream, state, &way).await,
        Err(refusal) => {
            state.refused(&refusal, port);
            if matches!(port, HTTP | HTTPS) {
                Box::pin(look::refuse(stream, state, &refusal)).await;
            } else {
                pump::reset(stream);
            }
        }
    }
}

/// Lets bytes pass, whatever they say.
async fn pass(stream: TcpStream, state: &Arc<State>, way: &Way) {
    match state.dial(way, way.rule).await {
        Ok(outside) => pump::carry(stream, outside).await,
        Err(ConnectError::Refused(refused)) if matches!(way.port, HTTP | HTTPS) => {
            let refusal = Refusal::unanswered(way.pinned.host(), &refused.into());
            Box::pin(look::refuse(stream, state, &refusal)).await;
        }
        Err(_) => pump::reset(stream),
    }
}

impl State {
    /// Dials, and takes note of what was decided by it.
    pub(super) async fn dial(&self, way: &Way, rule: Rule) -> Result<TcpStream, ConnectError> {
        let answered = self.guard.connect(&way.pinned, way.port).await;
        let (allowed, rule) = match &answered {
            Err(ConnectError::Refused(_)) => (false, Rule::Guard),
            _ => (true, rule),
        };
        self.decided(way.pinned.host(), Some(way.port), allowed, rule);
        answered
    }

    /// Takes note of a refusal, where it is a decision.
    pub(super) fn refused(&self, refusal: &Refusal, port: u16) {
        if let Some(rule) = refusal.rule {
            self.decided(&refusal.host, Some(port), false, rule);
        }
    }

    /// Where a connection to an address goes, and by which rule.
    async fn way(&self, address: Ipv4Addr, port: u16) -> Result<Way, Refusal> {
        let by_name = names::stands_for_a_name(address);
        let (pinned, rule) = if by_name {
            self.way_by_name(address).await?
        } else {
            let host = address.to_string();
            let rule = self.hosts.allows(&host).map_err(|rule| {
                let reason = "the environment's networking does not list this address";
                Refusal::new(&host, rule, reason)
            })?;
            let pinned = self.guard.literal(IpAddr::V4(address));
            let refused = |refused| Refusal::unanswered(&host, &ConnectError::Refused(refused));
            (pinned.map_err(refused)?, rule)
        };
        if self.hosts.are_listed() && !is_web(&pinned, port) {
            let reason = "the environment's networking lets only web ports through";
            return Err(Refusal::new(pinned.host(), Rule::Port, reason));
        }
        Ok(Way { pinned, port, rule, by_name })
    }

    async fn way_by_name(&self, address: Ipv4Addr) -> Result<(Pinned, Rule), Refusal> {
        let not_listed = |host: &str, rule| {
            Refusal::new(host, rule, "the environment's networking does not list it")
        };
        let meaning = locked(&self.names).meaning(address, Instant::now());
        let (mut pinned, fresh) = match meaning {
            Some(names::Meaning::Name { pinned, fresh }) => (pinned, fresh),
            Some(names::Meaning::Blocked(name)) => return Err(not_listed(&name, Rule::NotListed)),
            None => {
                let reason = "the address stands for no name; resolve the name again";
                return Err(Refusal::new(address.to_string(), Rule::Unknown, reason));
            }
        };
        let rule =
            self.hosts.allows(pinned.host()).map_err(|rule| not_listed(pinned.host(), rule))?;
        // Programs that keep an address for hours get the name's newer ones. Where it can't be
        // resolved now, the old ones were checked as well.
        if !fresh && let Ok(newer) = self.guard.resolve(pinned.host()).await {
            locked(&self.names).pin(newer.clone(), Instant::now());
            pinned = newer;
        }
        Ok((pinned, rule))
    }

    /// Whether a connection is looked into: under a list all are, otherwise those that may need
    /// one of the session's secrets.
    async fn looks_into(&self, way: &Way) -> bool {
        let host = way.pinned.host();
        if self.hosts.are_listed() {
            return true;
        }
        if !is_web(&way.pinned, way.port) || self.hosts.pass(host) {
            return false;
        }
        // What is asked for by its address has seldom a certificate for it: only where a secret
        // names the address.
        let goes = |hosts: &Option<Vec<String>>| match hosts {
            None => way.by_name,
            Some(hosts) => hosts.iter().any(|one| Pattern::read(one).holds(host)),
        };
        match self.keeper.secrets().await {
            Ok(secrets) => secrets.iter().any(|secret| goes(&secret.hosts)),
            // It may need one. What comes of it is said to each request.
            Err(_) => way.by_name,
        }
    }
}

/// Whether a port is one of the web's. Where the operator has said where a name leads, all are.
fn is_web(pinned: &Pinned, port: u16) -> bool {
    matches!(port, HTTP | HTTPS) || pinned.is_fixed()
}
