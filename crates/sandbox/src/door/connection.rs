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

use super::{Rule, State, locked, names, pump, resolver, web};

const DNS: u16 = 53;
const HTTP: u16 = 80;

/// Why a connection goes nowhere.
struct Refusal {
    host: String,
    rule: Rule,
    reason: String,
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
                let place = Arc::clone(&state.places).acquire_owned().await;
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

async fn serve(stream: TcpStream, state: &State) {
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
    let outside = match state.way(address).await {
        Ok((pinned, rule)) => match state.guard.connect(&pinned, port).await {
            Err(ConnectError::Refused(refused)) => Err(Refusal {
                host: pinned.host().to_owned(),
                rule: Rule::Guard,
                reason: refused.to_string(),
            }),
            answered => {
                state.decided(pinned.host(), Some(port), true, rule);
                Ok(answered)
            }
        },
        Err(refusal) => Err(refusal),
    };
    match outside {
        Ok(Ok(outside)) => {
            let _ = stream.set_nodelay(true);
            pump::carry(stream, outside).await;
        }
        Ok(Err(_)) => pump::reset(stream),
        Err(Refusal { host, rule, reason }) => {
            state.decided(&host, Some(port), false, rule);
            if port == HTTP {
                web::refuse(stream, &host, &reason).await;
            } else {
                pump::reset(stream);
            }
        }
    }
}

impl State {
    /// Where a connection to an address goes, and by which rule.
    async fn way(&self, address: Ipv4Addr) -> Result<(Pinned, Rule), Refusal> {
        if names::stands_for_a_name(address) {
            return self.way_by_name(address).await;
        }
        let refusal = |rule, reason: String| Refusal { host: address.to_string(), rule, reason };
        let rule = self.hosts.allows(&address.to_string()).map_err(|rule| {
            refusal(rule, "the environment's networking lets no plain addresses through".to_owned())
        })?;
        match self.guard.literal(IpAddr::V4(address)) {
            Ok(pinned) => Ok((pinned, rule)),
            Err(refused) => Err(refusal(Rule::Guard, refused.to_string())),
        }
    }

    async fn way_by_name(&self, address: Ipv4Addr) -> Result<(Pinned, Rule), Refusal> {
        let meaning = locked(&self.names).meaning(address, Instant::now());
        let Some(names::Meaning { mut pinned, fresh }) = meaning else {
            return Err(Refusal {
                host: address.to_string(),
                rule: Rule::Unknown,
                reason: "the address stands for no name; resolve the name again".to_owned(),
            });
        };
        let rule = self.hosts.allows(pinned.host()).map_err(|rule| Refusal {
            host: pinned.host().to_owned(),
            rule,
            reason: "the environment's networking does not list it".to_owned(),
        })?;
        // Programs that keep an address for hours get the name's newer ones. Where it can't be
        // resolved now, the old ones were checked as well.
        if !fresh && let Ok(newer) = self.guard.resolve(pinned.host()).await {
            locked(&self.names).pin(newer.clone(), Instant::now());
            pinned = newer;
        }
        Ok((pinned, rule))
    }
}
