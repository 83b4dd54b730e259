//! The inside half of the scenes in which the door looks into what passes.

use std::{
    io::{ErrorKind, Read, Write},
    net::Ipv4Addr,
    path::Path,
};

use ::http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::runtime::Runtime;

use super::{
    LARGE,
    cage::{address_of, connect, pattern},
    client::{Client, fed, read, read_until, request, say},
};
use crate::inside::trial::World;

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
const HTTP1: &[&[u8]] = &[b"http/1.1"];
const CLOSE: &str = "Connection: close\r\n\r\n";

struct Inside<'a> {
    /// Trusts the cage's own authority.
    own: Client,
    /// Trusts the origin's.
    other: Client,
    world: &'a World,
    runtime: Runtime,
}

/// Plays a scene.
pub(super) fn play(scene: &str, folder: &Path, world: &World) {
    let inside = Inside {
        own: Client::new(&folder.join("authority.pem")),
        other: Client::new(&folder.join("origin.pem")),
        world,
        runtime: Runtime::new().unwrap(),
    };
    match scene {
        "http" => inside.http(),
        "held" => inside.held(),
        "spoken" => inside.spoken(),
        "blocked" => inside.blocked(),
        "pinned" => inside.pinned(),
        "secrets" => inside.secrets(),
        "open" => inside.open(),
        "origins" => inside.origins(),
        _ => panic!("no such scene: {scene}"),
    }
}

fn at(name: &str, port: u16) -> (Ipv4Addr, u16) {
    (address_of(name), port)
}

fn assert_said(answer: std::io::Result<String>, begin: &str, part: &str) {
    let answer = answer.unwrap();
    assert!(answer.starts_with(begin) && answer.contains(part), "{begin} {part}: {answer}");
}

fn assert_break(answer: std::io::Result<String>) {
    let kind = answer.as_ref().map_err(std::io::Error::kind);
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    assert!(matches!(kind, Err(kind) if kinds.contains(&kind)), "{answer:?}");
}

impl Inside<'_> {
    /// Says something over TLS of HTTP/1.1, and reads up to the end.
    fn ask(&self, name: &str, text: &str) -> std::io::Result<String> {
        say(&mut self.own.secure(at(name, 443), name, HTTP1)?, text)
    }

    fn http(&self) {
        let api = at("api.example", 443);
        // Two requests, one connection; the second has a body of unknown length.
        let mut stream = self.own.secure(api, "api.example", HTTP1).unwrap();
        stream.write_all(b"GET /echo?a HTTP/1.1\r\nHost: api.example\r\nA: b\r\n\r\n").unwrap();
        let first = read_until(&mut stream, "a: b\nhost: api.example\n\n");
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        assert!(first.contains("GET /echo?a HTTP/1.1\n"), "{first}");
        let text = "POST /echo HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        assert_said(say(&mut stream, text), "HTTP/1.1 200 ", "\n\nhello world");
        let text = text.replace("POST", "GET");
        assert_said(self.ask("api.example", &text), "HTTP/1.1 200 ", "\n\nhello world");
        // Who waits for the word to go on gets it, without the origin.
        let mut stream = self.own.secure(api, "api.example", HTTP1).unwrap();
        let text = "POST /echo HTTP/1.1\r\nHost: api.example\r\nContent-Length: 5\r\n\
                    Expect: 100-continue\r\nConnection: close\r\n\r\n";
        stream.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_until(&mut stream, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        assert_said(say(&mut stream, "there"), "HTTP/1.1 200 ", "\n\nthere");
        // Older ones, those without a body, and trailers.
        let text = "GET /echo HTTP/1.0\r\nHost: api.example\r\n\r\n";
        assert_said(self.ask("api.example", text), "HTTP/1.", "GET /echo HTTP/1.1");
        let text = format!("HEAD /echo HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        let head = self.ask("api.example", &text).unwrap();
        assert!(head.contains("content-length: ") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(!head.contains("content-length: 0"), "{head}");
        let text =
            format!("GET /trailers HTTP/1.1\r\nHost: api.example\r\nTE: trailers\r\n{CLOSE}");
        assert_said(self.ask("api.example", &text), "HTTP/1.1 200 ", "0\r\nx-sum: 0\r\n");
        // Names below a star, without a protocol agreed on, and origins that speak less.
        let text = format!("GET /echo HTTP/1.1\r\nHost: a.wild.example\r\n{CLOSE}");
        assert_said(self.ask("a.wild.example", &text), "HTTP/1.1 200 ", "GET /echo");
        let mut stream = self.own.secure(api, "api.example", &[]).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), None);
        let text = format!("GET https://api.example/x HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        assert_said(say(&mut stream, &text), "HTTP/1.1 200 ", "GET /x HTTP/1.1");
        let stream = self.own.secure(api, "api.example", BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let stream = self.own.secure(at("old.example", 443), "old.example", BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Large ones, and another port of a host whose place the operator has fixed.
        let mut stream = self.own.secure((api.0, 8443), "api.example", HTTP1).unwrap();
        let text = format!("GET /large HTTP/1.1\r\nHost: api.example:8443\r\n{CLOSE}");
        stream.write_all(text.replace("HTTP/1.1", "HTTP/1.0").as_bytes()).unwrap();
        read_until(&mut stream, "\r\n\r\n");
        let mut bytes = Vec::with_capacity(LARGE);
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(0, LARGE), "{} bytes came", bytes.len());
        // Without TLS, in both versions.
        let text = format!("GET /echo HTTP/1.1\r\nHost: plain.example\r\n{CLOSE}");
        let mut plain = connect(at("plain.example", 80)).unwrap();
        assert_said(say(&mut plain, &text), "HTTP/1.1 200 ", "host: plain.example");
        // Who has said all and closes that direction gets his answer all the same.
        let mut plain = connect(at("plain.example", 80)).unwrap();
        plain.write_all(b"GET /echo HTTP/1.1\r\nHost: plain.example\r\n\r\n").unwrap();
        plain.shutdown(std::net::Shutdown::Write).unwrap();
        assert_said(say(&mut plain, ""), "HTTP/1.1 200 ", "host: plain.example");
        // What breaks outside breaks inside.
        let text = format!("GET /short HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        assert_break(self.ask("api.example", &text));
        let mut plain = connect(at("plain.example", 80)).unwrap();
        assert_break(say(&mut plain, &text.replace("api.", "plain.").replace("1.1", "1.0")));
        for tls in [true, false] {
            self.websocket(tls);
        }
        self.runtime.block_on(self.http2());
    }

    fn websocket(&self, tls: bool) {
        let name = if tls { "api.example" } else { "plain.example" };
        let text = format!(
            "GET /websocket HTTP/1.1\r\nHost: {name}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        fn talk(stream: &mut (impl Read + Write), text: &str) {
            stream.write_all(text.as_bytes()).unwrap();
            let head = read_until(stream, "\r\n\r\n").to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
            assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
            assert_eq!(read_until(stream, "hello"), "hello");
            for word in ["one", "two", "three"] {
                stream.write_all(word.as_bytes()).unwrap();
                stream.flush().unwrap();
                assert_eq!(read_until(stream, word), word);
            }
        }
        let to = at(name, if tls { 443 } else { 80 });
        if tls {
            let mut stream = self.own.secure(to, name, HTTP1).unwrap();
            talk(&mut stream, &text);
            stream.conn.send_close_notify();
            assert_eq!(read_until(&mut stream, "bye"), "bye");
        } else {
            let mut stream = connect(to).unwrap();
            talk(&mut stream, &text);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_until(&mut stream, "bye"), "bye");
        }
    }

    async fn http2(&self) {
        let api = at("api.example", 443);
        let mut sender = self.own.http2(api, "api.example").await;
        // Many at a time over one connection.
        let many: Vec<_> = (0..50)
            .map(|number| {
                let uri = format!("https://api.example/echo/{number}");
                sender.send_request(request("POST", &uri, "body"))
            })
            .collect();
        for (number, answer) in many.into_iter().enumerate() {
            let (status, text) = read(answer.await.unwrap()).await;
            let begin = format!("POST https://api.example/echo/{number} HTTP/2.0\n");
            assert!(status == 200 && text.starts_with(&begin), "{text}");
            assert!(text.ends_with("\n\nbody"), "{text}");
        }
        let large = request("GET", "https://api.example/large", "");
        let large = sender.send_request(large).await.unwrap().into_body().collect().await.unwrap();
        assert!(large.to_bytes() == pattern(0, LARGE));
        // Frame by frame: an answer begins before its request has ended. Trailers both ways.
        let mut sender = self.own.http2_of(api, "api.example").await;
        let (frames, body) = fed();
        let streamed =
            Request::builder().method("POST").uri("https://api.example/back").body(body).unwrap();
        let answer = sender.send_request(streamed);
        frames.send(Frame::data("first".into())).await.unwrap();
        let mut answer = answer.await.unwrap().into_body();
        for word in ["first", "second", "third"] {
            if word != "first" {
                frames.send(Frame::data(word.into())).await.unwrap();
            }
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(frames);
        assert!(answer.collect().await.unwrap().to_bytes().is_empty());
        let (frames, body) = fed();
        let trailed = Request::builder()
            .method("POST")
            .uri("https://api.example/trailers")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let answer = sender.send_request(trailed);
        frames.send(Frame::data("seven b".into())).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", HeaderValue::from_static("1"));
        frames.send(Frame::trailers(trailers)).await.unwrap();
        drop(frames);
        let collected = answer.await.unwrap().into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!(
            (&trailers["x-sum"], &trailers["x-mine"]),
            (&"7".parse().unwrap(), &"1".parse().unwrap())
        );
        // Without TLS, for those who know that the other side speaks it.
        let stream = tokio::net::TcpStream::connect(at("plain.example", 80)).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
        tokio::spawn(connection);
        let plain = request("GET", "http://plain.example/echo", "");
        let (status, text) = read(sender.send_request(plain).await.unwrap()).await;
        assert!(status == 200 && text.contains("HTTP/2.0"), "{text}");
    }
}

mod held;
mod told;
