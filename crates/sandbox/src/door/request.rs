//! What a request says of where it goes, and how it is passed on. Pure.
//!
//! A connection is for one host, and so is each request in it, in whatever way the request names
//! its host. What concerns one connection alone (RFC 9110, 7.6.1) is not passed on.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, Entry},
    request, response,
    uri::{PathAndQuery, Scheme},
};

use super::{
    Rule,
    web::{Named, Refusal},
};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const WEBSOCKET: &str = "websocket";
const TRAILERS: &str = "trailers";
/// What a message says to the next one alone, whether or not it says so.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];
/// What no `Connection` can take from a message.
const KEPT: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// Where all requests of a connection go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: String,
    /// The port that was asked for.
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    fn scheme(&self) -> Scheme {
        if self.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether a request goes here, and is one that is carried.
    pub(super) fn check(&self, parts: &request::Parts) -> Result<(), Refusal> {
        let protocol = |reason: &'static str| Refusal::new(&self.host, Rule::Protocol, reason);
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            return Err(protocol("the door carries neither CONNECT nor TRACE"));
        }
        let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next()
            && (!coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
                || codings.next().is_some())
        {
            return Err(protocol("the door carries no transfer coding but `chunked`"));
        }
        // What could be joined to a host somewhere.
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let is_path = path.starts_with('/') || path == "*" && parts.method == Method::OPTIONS;
        if !is_path {
            return Err(protocol("the request's target is no path"));
        }
        let mismatch =
            |host: &str, reason: &'static str| Err(Refusal::new(host, Rule::Mismatch, reason));
        let mut headers = parts.headers.get_all(header::HOST).iter();
        let header = headers.next();
        if headers.next().is_some() {
            return mismatch(&self.host, "the request names its host more than once");
        }
        let target = parts.uri.authority();
        let needs_header = parts.version != Version::HTTP_2 || target.is_none();
        if header.is_none() && needs_header {
            return mismatch(&self.host, "the request does not name its host");
        }
        match parts.uri.scheme() {
            Some(scheme) if *scheme != self.scheme() => {
                return mismatch(&self.host, "the request names another scheme");
            }
            None if target.is_some() => {
                return mismatch(&self.host, "the request's target has no path");
            }
            Some(_) | None => {}
        }
        let header = header.map(|value| value.to_str().unwrap_or_default());
        for text in target.map(|target| target.as_str()).into_iter().chain(header) {
            let Some(named) = Named::read(text) else {
                return mismatch(&self.host, "the request's host is malformed");
            };
            if named.host != self.host {
                let reason = format!("the connection was made for {}", self.host);
                return Err(Refusal::new(named.host, Rule::Mismatch, reason));
            }
            let usual = if self.tls { HTTPS } else { HTTP };
            if named.port.is_some_and(|port| port != self.port && port != usual) {
                return mismatch(&self.host, "the request names another port");
            }
        }
        Ok(())
    }

    /// Makes of a checked request the one that is passed on. Returns whether it asks for a
    /// WebSocket; no other upgrade is passed on.
    pub(super) fn prepare(&self, parts: &mut request::Parts) -> bool {
        let is_http2 = parts.version == Version::HTTP_2;
        let headers = &mut parts.headers;
        let websocket = !is_http2
            && parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && has_token(headers, &header::CONNECTION, "upgrade")
            && has_token(headers, &header::UPGRADE, WEBSOCKET);
        let trailers = has_token(headers, &header::TE, TRAILERS);
        remove_hops(headers);
        // The body is framed anew; `Expect` was answered, or is when the body is read.
        for name in [header::TRANSFER_ENCODING, header::TE, header::EXPECT] {
            headers.remove(name);
        }
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static(TRAILERS));
        }
        if websocket {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        } else if trailers && !is_http2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        self.direct(parts, is_http2);
        parts.version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        parts.extensions.clear();
        websocket
    }

    /// Writes the target as the version wants it: a path, or all of it and no `Host`.
    fn direct(&self, parts: &mut request::Parts, is_http2: bool) {
        if !is_http2 && parts.uri.authority().is_none() {
            return;
        }
        let mut target = std::mem::take(&mut parts.uri).into_parts();
        let path = target.path_and_query.take().filter(|path| !path.as_str().is_empty());
        let mut new = http::uri::Parts::default();
        new.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if is_http2 {
            let header = parts.headers.remove(header::HOST);
            let named = header.and_then(|value| value.as_bytes().try_into().ok());
            new.authority = target.authority.or(named);
            new.scheme = Some(self.scheme());
        }
        // Its parts were those of a target that was read.
        parts.uri = Uri::from_parts(new).unwrap_or_default();
    }
}

/// Makes of an origin's answer the one that is passed on.
pub(super) fn prepare_answer(parts: &mut response::Parts, upgraded: bool) {
    if upgraded {
        return;
    }
    let headers = &mut parts.headers;
    // Whoever sees it does not ask again over a connection that has ended.
    let closes = has_token(headers, &header::CONNECTION, "close");
    remove_hops(headers);
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn remove_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in HOP.iter().chain(&named) {
        if let Entry::Occupied(entry) = headers.entry(name) {
            entry.remove_entry_mult();
        }
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().flat_map(tokens).any(|one| one.eq_ignore_ascii_case(token))
}

/// The members of a list. What is not ASCII is no token.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests;
