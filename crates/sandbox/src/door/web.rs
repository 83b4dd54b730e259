//! Tells a program in a cage in words why its request goes nowhere. Every answer that is the
//! door's own is made here.
//!
//! Bytes from inside are read up to a bound, for a short time, and only to find the host's name.

use std::{borrow::Cow, convert::Infallible, future::ready, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use posthouse_net::{ConnectError, Host};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use super::{Rule, streams};

const LONGEST: usize = 16 << 10;
/// How long a request is waited for that is to be refused, and the same for the answer to leave.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// What is read and thrown away after the answer, so that it is not lost to a reset.
const REST: usize = 1 << 20;

/// Why something goes nowhere.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What was asked for: a name, or an address where none is known.
    pub(super) host: String,
    /// What has decided, where the door has decided anything.
    pub(super) rule: Option<Rule>,
    pub(super) reason: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(
        host: impl Into<String>,
        rule: Rule,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (host, reason) = (host.into(), reason.into());
        Self { status: StatusCode::FORBIDDEN, host, rule: Some(rule), reason }
    }

    /// What to say where an origin gives no connection.
    pub(super) fn unanswered(host: &str, error: &ConnectError) -> Self {
        let (status, rule) = match error {
            ConnectError::Refused(_) => (StatusCode::FORBIDDEN, Some(Rule::Guard)),
            ConnectError::Untrusted { .. } => (StatusCode::BAD_GATEWAY, Some(Rule::Certificate)),
            ConnectError::Failed { .. } => (StatusCode::BAD_GATEWAY, None),
            ConnectError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
        };
        Self { status, host: host.to_owned(), rule, reason: error.to_string().into() }
    }

    /// The words, for a host.
    fn words(&self, host: &str) -> String {
        format!("posthouse: no connection from this sandbox to {host}: {}\n", self.reason)
    }

    /// The answer to a request.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.words(&self.host)));
        *response.status_mut() = self.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }

    fn written(&self, host: &str) -> String {
        let words = self.words(host);
        format!(
            "HTTP/1.1 {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{words}",
            self.status,
            words.len()
        )
    }
}

/// Answers a request of HTTP/1, of which `head` was read already and the rest is waited for until
/// then, and closes. Where the refusal is for an address, the request's own word for the host
/// wins, for it is what the program knows.
pub(super) async fn refuse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut head: BytesMut,
    until: Instant,
    refusal: &Refusal,
) {
    let _ = timeout_at(until, async {
        while head.len() < LONGEST && !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(length) if length > 0) {
                break;
            }
        }
    })
    .await;
    let is_address = matches!(Host::parse(&refusal.host), Ok(Host::Address(_)));
    let named = named_host(&head).filter(|_| is_address);
    let answer = refusal.written(named.as_deref().unwrap_or(&refusal.host));
    let _ = timeout(PATIENCE, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        let mut read = 0;
        while read < REST {
            match stream.read(&mut rest).await? {
                0 => break,
                length => read += length,
            }
        }
        Ok::<_, std::io::Error>(())
    })
    .await;
}

/// Answers whatever is asked over HTTP/2 for a short time.
pub(super) async fn refuse_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    refusal: &Refusal,
) {
    let (_tasks, streams) = streams::pair();
    let response = refusal.response();
    let answer = service_fn(move |_| ready(Ok::<_, Infallible>(response.clone())));
    let served = http2::Builder::new(streams).serve_connection(TokioIo::new(stream), answer);
    let _ = timeout(PATIENCE, served).await;
}

/// The host that a request names, if it is well formed.
fn named_host(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let value =
        head.split("\r\n").skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        })?;
    Named::read(value).map(|named| named.host)
}

/// A host as a request names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// A name in lower case, or an address.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Named {
    /// Reads `host` or `host:port`; nothing else, and nobody's name before an `@`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, Some(port.parse().ok()?))
            }
            _ => (text, None),
        };
        let host = match Host::parse(host).ok()? {
            Host::Name(name) => name,
            Host::Address(address) => address.to_string(),
        };
        Some(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_request_is_read_if_it_is_one() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: Example.com:80\r\n\r\n", Some("example.com")),
            ("GET / HTTP/1.1\r\nA: b\r\nhOST:10.0.0.1\r\n\r\n", Some("10.0.0.1")),
            ("GET / HTTP/1.1\r\n\r\nHost: late.example\r\n", None),
            ("GET / HTTP/1.1\r\nHost: <b>\r\n\r\n", None),
            ("Host: first.example\r\n\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(named_host(head.as_bytes()).as_deref(), expected, "{head:?}");
        }
        assert_eq!(named_host(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), None);
    }
}
