//! The first bytes of a connection: what is going to be spoken. No more is read than tells it.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A record of a TLS handshake.
    Tls,
    /// A request of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Something else.
    Other,
    /// Nothing: it was closed.
    Silent,
}

/// RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest name of a method. Those that are registered are shorter.
const METHOD: usize = 24;

/// Reads until it is clear. `bytes` holds what was read. Cancelled, it has lost nothing.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
) -> io::Result<Opening> {
    loop {
        if let Some(opening) = judge(bytes) {
            return Ok(opening);
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(if bytes.is_empty() { Opening::Silent } else { Opening::Other });
        }
    }
}

/// What begins so, or nothing if more has to be seen.
fn judge(bytes: &[u8]) -> Option<Opening> {
    const HANDSHAKE: u8 = 0x16;
    match bytes {
        [] => return None,
        [HANDSHAKE, ..] => return Some(Opening::Tls),
        _ if bytes.starts_with(PREFACE) => return Some(Opening::Http2),
        _ if PREFACE.starts_with(bytes) => return None,
        _ => {}
    }
    let letters = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    let end = bytes.iter().position(|byte| !letters(byte));
    match end {
        None if bytes.len() <= METHOD => None,
        None | Some(0) => Some(Opening::Other),
        Some(end) if end > METHOD || bytes[end] != b' ' => Some(Opening::Other),
        Some(end) => judge_target(&bytes[..end], &bytes[end + 1..]),
    }
}

/// What may stand behind a method: a path, everything, all of a URL, or behind one method a host.
fn judge_target(method: &[u8], target: &[u8]) -> Option<Opening> {
    const WHOLE: &[u8] = b"http";
    match target {
        [] => None,
        [b'/' | b'*', ..] => Some(Opening::Http1),
        _ if method == b"CONNECT" => Some(Opening::Http1),
        _ => {
            let length = target.len().min(WHOLE.len());
            match target[..length].eq_ignore_ascii_case(&WHOLE[..length]) {
                true if length < WHOLE.len() => None,
                true => Some(Opening::Http1),
                false => Some(Opening::Other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_spoken() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Opening::Http1)),
            (b"VERSION-CONTROL /a HTTP/1.1", Some(Opening::Http1)),
            (b"OPTIONS *", Some(Opening::Http1)),
            (b"CONNECT a.example:443", Some(Opening::Http1)),
            (b"GET http://a.example/", Some(Opening::Http1)),
            (b"\x16\x03\x01", Some(Opening::Tls)),
            (PREFACE, Some(Opening::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSX", Some(Opening::Http1)),
            (b"PRI * HT", None),
            (b"", None),
            (b"GE", None),
            (b"GET", None),
            (b"GET ", None),
            (b"get / HTTP/1.1", Some(Opening::Other)),
            (b"GET\t/", Some(Opening::Other)),
            (b"GET  /", Some(Opening::Other)),
            (b" GET /", Some(Opening::Other)),
            (b"\r\nGET /", Some(Opening::Other)),
            (b"SSH-2.0-OpenSSH_9.6p1 Debian-4\r\n", Some(Opening::Other)),
            (b"EHLO\r\n", Some(Opening::Other)),
            (b"EHLO me.example\r\n", Some(Opening::Other)),
            (b"GET a.example:443 HTTP/1.1", Some(Opening::Other)),
            (b"GET htt", None),
            (b"\0\0\0\x54\xffSMB", Some(Opening::Other)),
            (&[b'A'; METHOD + 1], Some(Opening::Other)),
            (b"\x80\x2e\x01", Some(Opening::Other)),
        ] {
            assert_eq!(judge(bytes), expected, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_tell_the_same() {
        for (whole, expected) in [
            (PREFACE, Opening::Http2),
            (b"POST /a HTTP/1.1\r\n\r\n", Opening::Http1),
            (b"PATCH", Opening::Other),
            (b"", Opening::Silent),
        ] {
            let mut slow = one_by_one(whole);
            let mut bytes = BytesMut::new();
            assert_eq!(read(&mut slow, &mut bytes).await.unwrap(), expected);
            assert!(whole.starts_with(&bytes));
        }
    }

    /// Gives one byte at a time.
    fn one_by_one(whole: &'static [u8]) -> impl AsyncRead + Unpin {
        struct Slow(&'static [u8]);
        impl AsyncRead for Slow {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _context: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                if let Some((first, rest)) = self.0.split_first() {
                    buffer.put_slice(&[*first]);
                    self.0 = rest;
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        Slow(whole)
    }
}
