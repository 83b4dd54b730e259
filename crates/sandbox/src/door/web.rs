//! Tells a program in a cage in words why its request goes nowhere, where it speaks plain HTTP.
//!
//! Bytes from inside are read up to a bound, for a short time, and only to find the host's name.

use std::time::Duration;

use posthouse_net::Host;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LONGEST: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read and thrown away after the answer, so that it is not lost to a reset.
const REST: usize = 1 << 20;

/// Answers a request with 403, names the host and the reason, and closes. `host` is what the
/// connection was for; the request's own word for it wins, for it is what the program knows.
pub(super) async fn refuse(mut stream: TcpStream, host: &str, reason: &str) {
    let mut head = Vec::new();
    let _ = timeout(PATIENCE, async {
        while head.len() < LONGEST && !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(length) if length > 0) {
                break;
            }
        }
    })
    .await;
    let named = named_host(&head).unwrap_or_else(|| host.to_owned());
    let answer = answer(&named, reason);
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

fn answer(host: &str, reason: &str) -> String {
    let body = format!("posthouse: no connection from this sandbox to {host}: {reason}\n");
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The host that a request names, if it is well formed.
fn named_host(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let value =
        head.split("\r\n").skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        })?;
    let host = match value.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => value,
    };
    match Host::parse(host).ok()? {
        Host::Name(name) => Some(name),
        Host::Address(address) => Some(address.to_string()),
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
