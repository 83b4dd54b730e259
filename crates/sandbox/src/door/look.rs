//! Connections that are looked into: what is spoken in one decides how it is carried.
//!
//! Under a list (strict), what is neither TLS nor HTTP goes nowhere, and the origin is dialled when
//! it is known who is asked for. Without one, whatever can't be looked into passes as it is.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Rule, State,
    connection::Way,
    opening::{self, Opening},
    pump,
    relay::{self, Version},
    tls,
    watched::Watched,
    web::{self, Refusal},
};

/// How long a connection may say nothing at its beginning, or take over it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Room for what is read first: a usual ClientHello.
const FIRST: usize = 2048;

/// A connection that is looked into.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) state: Arc<State>,
    pub(super) way: Way,
    /// Whether there is a list.
    pub(super) strict: bool,
}

/// Looks into a connection and carries it.
pub(super) async fn into(mut stream: TcpStream, state: &Arc<State>, way: Way) {
    let strict = state.hosts.are_listed();
    let look = Look { state: Arc::clone(state), way, strict };
    let mut first = BytesMut::with_capacity(FIRST);
    let mut outside = None;
    if !strict {
        let dialled = match look.state.dial(&look.way, look.way.rule).await {
            Ok(dialled) => dialled,
            Err(error) => {
                let refusal = Refusal::unanswered(look.way.pinned.host(), &error);
                return refuse(stream, state, &refusal).await;
            }
        };
        // Where the other side speaks first it is not HTTP, and nothing holds it up.
        let (mut one, mut other) = ([0], [0]);
        let inside_first = tokio::select! {
            biased;
            spoken = stream.peek(&mut one) => spoken.is_ok(),
            _ = dialled.peek(&mut other) => false,
            () = sleep(pump::IDLE) => return pump::reset(stream),
        };
        if !inside_first {
            return pump::carry(stream, dialled).await;
        }
        outside = Some(dialled);
    }
    match timeout(PATIENCE, opening::read(&mut stream, &mut first)).await {
        Ok(Ok(Opening::Tls)) => tls::carry(stream, first, outside, look).await,
        Ok(Ok(Opening::Http1)) => look.plain(stream, first, outside, Version::Http1).await,
        Ok(Ok(Opening::Http2)) => look.plain(stream, first, outside, Version::Http2).await,
        Ok(Ok(Opening::Other)) => look.other(stream, &first, outside).await,
        // Nothing was said, so nothing is refused.
        Ok(Ok(Opening::Silent) | Err(_)) | Err(_) => {}
    }
}

/// Tells whoever speaks HTTP, also within TLS, why it goes nowhere.
pub(super) async fn refuse(mut stream: TcpStream, state: &State, refusal: &Refusal) {
    let mut first = BytesMut::with_capacity(FIRST);
    let until = Instant::now() + web::PATIENCE;
    match timeout_at(until, opening::read(&mut stream, &mut first)).await {
        Ok(Ok(Opening::Tls)) => tls::refuse(stream, first, state, refusal).await,
        Ok(Ok(Opening::Http2)) => {
            web::refuse_http2(Watched::new(stream, first), refusal).await;
        }
        Ok(Ok(Opening::Other)) => pump::reset(stream),
        // Who says nothing is told as well.
        _ => web::refuse(stream, first, until, refusal).await,
    }
}

impl Look {
    /// The connection to the origin, where there is none yet.
    pub(super) async fn outside(
        &self,
        dialled: Option<TcpStream>,
        rule: Rule,
    ) -> Result<TcpStream, Refusal> {
        match dialled {
            Some(stream) => Ok(stream),
            None => self
                .state
                .dial(&self.way, rule)
                .await
                .map_err(|error| Refusal::unanswered(self.way.pinned.host(), &error)),
        }
    }

    /// Lets bytes pass as they are.
    pub(super) async fn pass(
        &self,
        stream: TcpStream,
        first: &[u8],
        dialled: Option<TcpStream>,
        rule: Rule,
    ) {
        match self.outside(dialled, rule).await {
            Ok(mut outside) => match outside.write_all(first).await {
                Ok(()) => pump::carry(stream, outside).await,
                Err(_) => pump::reset(stream),
            },
            Err(_) => pump::reset(stream),
        }
    }

    /// Takes note that what is spoken is nothing that the door carries.
    pub(super) fn refuse_protocol(&self) {
        self.state.decided(self.way.pinned.host(), Some(self.way.port), false, Rule::Protocol);
    }

    /// Neither TLS nor HTTP.
    async fn other(self, stream: TcpStream, first: &[u8], dialled: Option<TcpStream>) {
        if self.strict {
            self.refuse_protocol();
            return pump::reset(stream);
        }
        self.pass(stream, first, dialled, self.way.rule).await;
    }

    /// HTTP without TLS. Values go in only where the operator has opened the way, and never where
    /// TLS would be left alone.
    async fn plain(
        self,
        stream: TcpStream,
        first: BytesMut,
        dialled: Option<TcpStream>,
        version: Version,
    ) {
        match self.outside(dialled, self.way.rule).await {
            Ok(outside) => {
                let pinned = &self.way.pinned;
                let injects =
                    self.state.guard.is_opened(pinned) && !self.state.hosts.pass(pinned.host());
                let inside = Watched::new(stream, first);
                relay::carry(inside, outside, self, relay::Kind { version, tls: false, injects })
                    .await;
            }
            Err(refusal) if version == Version::Http2 => {
                web::refuse_http2(Watched::new(stream, first), &refusal).await;
            }
            Err(refusal) => {
                let until = Instant::now() + web::PATIENCE;
                web::refuse(stream, first, until, &refusal).await;
            }
        }
    }
}
