//! Connections that begin with TLS: whom the handshake names, and the door's end of it.
//!
//! The origin's handshake comes first, so that the one inside offers what the origin speaks. Each
//! connection inside has one outside of its own: no two requests of different connections meet.

use std::io;

use bytes::BytesMut;
use posthouse_net::Host;
use rustls::server::{Accepted, Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{StartHandshake, client, server};

use super::{
    Rule, State,
    look::{Look, PATIENCE},
    opening::{self, Opening},
    pump,
    relay::{self, Kind, Version},
    watched::Watched,
    web::{self, Refusal},
};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";
/// The longest ClientHello that is read. Usual ones have less than two thousand bytes.
const LONGEST: usize = 32 << 10;

/// What a client says first.
struct Hello {
    accepted: Accepted,
    /// The name that it asks for, in lower case.
    name: Option<String>,
    /// The protocols that it offers (ALPN); nothing where it offers none.
    protocols: Option<Protocols>,
}

#[derive(Debug, Clone, Copy)]
struct Protocols {
    http1: bool,
    http2: bool,
}

/// What is done with a connection.
enum Course {
    End,
    Pass(Rule),
    Refuse(Refusal),
    Break,
}

/// Carries a connection of which `first` was read.
pub(super) async fn carry(
    mut stream: TcpStream,
    mut first: BytesMut,
    dialled: Option<TcpStream>,
    look: Look,
) {
    let hello = match timeout(PATIENCE, read(&mut stream, &mut first)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData && !look.strict => {
            return look.pass(stream, &first, dialled, look.way.rule).await;
        }
        Ok(Err(error)) => {
            if error.kind() == io::ErrorKind::InvalidData {
                look.refuse_protocol();
            }
            return pump::reset(stream);
        }
        Err(_) => return pump::reset(stream),
    };
    match course(&look, &hello) {
        Course::End => end(stream, hello, dialled, look).await,
        Course::Pass(rule) => look.pass(stream, &first, dialled, rule).await,
        Course::Refuse(refusal) => {
            look.state.refused(&refusal, look.way.port);
            say(stream, hello, &look.state, &refusal).await;
        }
        Course::Break => {
            look.refuse_protocol();
            pump::reset(stream);
        }
    }
}

/// Ends TLS for the name that is asked for, and tells why the connection goes nowhere.
pub(super) async fn refuse(
    mut stream: TcpStream,
    mut first: BytesMut,
    state: &State,
    refusal: &Refusal,
) {
    match timeout(PATIENCE, read(&mut stream, &mut first)).await {
        Ok(Ok(hello)) => say(stream, hello, state, refusal).await,
        Ok(Err(_)) | Err(_) => pump::reset(stream),
    }
}

/// Reads a ClientHello. `bytes` holds all that was read. What is none is invalid data.
async fn read(stream: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    let mut taken = 0;
    let accepted = loop {
        while taken < bytes.len() {
            taken += acceptor.read_tls(&mut &bytes[taken..]).map_err(invalid)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) if bytes.len() < LONGEST => {}
            Ok(None) => return Err(invalid("the ClientHello is too long")),
            Err((error, _)) => return Err(invalid(error)),
        }
        bytes.reserve(1024);
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let hello = accepted.client_hello();
    let name = hello.server_name().map(|name| match Host::parse(name) {
        Ok(Host::Name(name)) => name,
        // It is nobody's, and is shown as it is.
        Ok(Host::Address(_)) | Err(_) => name.to_ascii_lowercase(),
    });
    let protocols = hello.alpn().map(|offered| {
        offered.fold(Protocols { http1: false, http2: false }, |offered, one| Protocols {
            http1: offered.http1 || one == HTTP1,
            http2: offered.http2 || one == HTTP2,
        })
    });
    Ok(Hello { name, protocols, accepted })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The name that is asked for, the one that its address stands for, and the policy decide.
fn course(look: &Look, hello: &Hello) -> Course {
    let host = look.way.pinned.host();
    let mismatch =
        |asked: &str, reason: String| Course::Refuse(Refusal::new(asked, Rule::Mismatch, reason));
    match &hello.name {
        Some(name) if name != host => {
            return mismatch(name, format!("the connection was made for {host}"));
        }
        Some(_) if look.state.hosts.pass(host) => return Course::Pass(Rule::Passthrough),
        None if look.way.by_name && !look.strict => return Course::Pass(look.way.rule),
        None if look.way.by_name => {
            let reason = "the TLS handshake does not say whom it is for (SNI)".to_owned();
            return mismatch(host, reason);
        }
        Some(_) | None => {}
    }
    match hello.protocols {
        Some(Protocols { http1: false, http2: false }) if look.strict => Course::Break,
        Some(Protocols { http1: false, http2: false }) => Course::Pass(look.way.rule),
        Some(_) | None => Course::End,
    }
}

/// Ends the TLS of a connection and carries what is in it.
async fn end(stream: TcpStream, hello: Hello, dialled: Option<TcpStream>, look: Look) {
    let origin = match origin(&hello, dialled, &look).await {
        Ok(origin) => origin,
        Err(refusal) => return say(stream, hello, &look.state, &refusal).await,
    };
    let protocol = origin.get_ref().1.alpn_protocol();
    let host = look.way.pinned.host();
    let Some(inside) = shake_hands(stream, hello, &look.state, host, protocol).await else {
        return;
    };
    let version = match protocol {
        Some(HTTP2) => Some(Version::Http2),
        Some(_) => Some(Version::Http1),
        None => None,
    };
    within(inside, origin, version, look).await;
}

/// The origin's side of it, with what the client offers.
async fn origin(
    hello: &Hello,
    dialled: Option<TcpStream>,
    look: &Look,
) -> Result<client::TlsStream<TcpStream>, Refusal> {
    let way = &look.way;
    let offered: &[&[u8]] = match hello.protocols {
        Some(Protocols { http1: true, http2: true }) => &[HTTP2, HTTP1],
        Some(Protocols { http1: false, http2: true }) => &[HTTP2],
        Some(_) | None => &[HTTP1],
    };
    let outside = look.outside(dialled, way.rule).await?;
    let secured = look.state.guard.secure(outside, &way.pinned, way.port, offered).await;
    secured.map_err(|error| {
        let refusal = Refusal::unanswered(way.pinned.host(), &error);
        look.state.refused(&refusal, way.port);
        refusal
    })
}

/// The client's side of it. Nothing, if the client does not like it.
async fn shake_hands(
    stream: TcpStream,
    hello: Hello,
    state: &State,
    host: &str,
    protocol: Option<&[u8]>,
) -> Option<server::TlsStream<TcpStream>> {
    // Who offers nothing is told nothing.
    let protocol = protocol.filter(|_| hello.protocols.is_some());
    let config = state.authority.server_config(host, protocol).ok()?;
    let started = StartHandshake::from_parts(hello.accepted, stream);
    timeout(PATIENCE, started.into_stream(config)).await.ok()?.ok()
}

/// Carries what is spoken inside TLS. `version` is what was agreed on, if anything was.
async fn within(
    mut inside: server::TlsStream<TcpStream>,
    mut origin: client::TlsStream<TcpStream>,
    version: Option<Version>,
    look: Look,
) {
    let mut first = BytesMut::with_capacity(1024);
    let mut answer = BytesMut::new();
    let opening = timeout(PATIENCE, async {
        let reads = opening::read(&mut inside, &mut first);
        if look.strict || version == Some(Version::Http2) {
            return reads.await.map(Some);
        }
        // Where the other side speaks first it is not HTTP, and nothing holds it up.
        tokio::select! {
            biased;
            opening = reads => opening.map(Some),
            _ = origin.read_buf(&mut answer) => Ok(None),
        }
    })
    .await;
    let spoken = match opening {
        Ok(Ok(Some(Opening::Http1))) => Some(Version::Http1),
        Ok(Ok(Some(Opening::Http2))) => Some(Version::Http2),
        Ok(Ok(Some(Opening::Tls | Opening::Other) | None)) => None,
        Ok(Ok(Some(Opening::Silent)) | Err(_)) | Err(_) => return,
    };
    match spoken {
        Some(spoken) if version.is_none_or(|version| version == spoken) => {
            let kind = Kind { version: spoken, tls: true, injects: true };
            relay::carry(Watched::new(inside, first), origin, look, kind).await;
        }
        _ if look.strict => {
            look.refuse_protocol();
            Watched::new(inside, first).watch().break_off();
        }
        _ => {
            let mut inside = Watched::new(inside, first);
            let watch = inside.watch();
            if !answer.is_empty() && inside.write_all(&answer).await.is_err() {
                return;
            }
            pump::carry_any(inside, origin, &watch).await;
        }
    }
}

/// Tells why the connection goes nowhere, within its TLS.
async fn say(stream: TcpStream, hello: Hello, state: &State, refusal: &Refusal) {
    let protocol = match hello.protocols {
        Some(Protocols { http1: true, .. }) => Some(HTTP1),
        Some(Protocols { http2: true, .. }) => Some(HTTP2),
        Some(_) => return pump::reset(stream),
        None => None,
    };
    let asked = hello.name.clone().unwrap_or_else(|| refusal.host.clone());
    let Some(inside) = shake_hands(stream, hello, state, &asked, protocol).await else { return };
    if protocol == Some(HTTP2) {
        web::refuse_http2(inside, refusal).await;
    } else {
        let until = Instant::now() + web::PATIENCE;
        web::refuse(inside, BytesMut::with_capacity(1024), until, refusal).await;
    }
}
