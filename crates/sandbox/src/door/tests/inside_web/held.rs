//! Requests that name another host, and what is not HTTP: each beside one that passes.

use super::{super::origin::ADDRESS, *};

/// Requests on a connection that was made for `api.example`, and what is said to each.
const NAMED: &[(&str, &str)] = &[
    ("GET / HTTP/1.1\r\nHost: other.example\r\n", "to other.example: "),
    ("GET / HTTP/1.1\r\nHost: unlisted.example\r\n", "to unlisted.example: "),
    ("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n", "to 10.0.0.1: "),
    ("GET / HTTP/1.1\r\nHost: api.example\r\nHost: other.example\r\n", "more than once"),
    ("GET / HTTP/1.1\r\nHost: api.example\r\nHost: api.example\r\n", "more than once"),
    ("GET https://other.example/ HTTP/1.1\r\nHost: api.example\r\n", "to other.example: "),
    ("GET https://api.example/ HTTP/1.1\r\nHost: other.example\r\n", "to other.example: "),
    ("GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n", "another scheme"),
    ("GET https://api.example@other.example/ HTTP/1.1\r\nHost: api.example\r\n", "malformed"),
    ("GET / HTTP/1.1\r\nHost: other.example@api.example\r\n", "malformed"),
    ("GET / HTTP/1.1\r\nHost: api.example:22\r\n", "another port"),
    ("GET / HTTP/1.1\r\nHost: 0x7f000001\r\n", "malformed"),
    ("GET / HTTP/1.1\r\nAccept: */*\r\n", "does not name its host"),
    ("CONNECT api.example:443 HTTP/1.1\r\nHost: api.example\r\n", "CONNECT"),
    ("CONNECT other.example:22 HTTP/1.1\r\nHost: other.example:22\r\n", "CONNECT"),
    ("TRACE / HTTP/1.1\r\nHost: api.example\r\n", "TRACE"),
];

impl Inside<'_> {
    pub(super) fn held(&self) {
        let api = at("api.example", 443);
        let asked = |host: &str| format!("GET /echo HTTP/1.1\r\nHost: {host}\r\n{CLOSE}");
        // The handshake. The positive control comes first.
        assert_said(self.ask("api.example", &asked("api.example")), "HTTP/1.1 200 ", "/echo");
        for name in ["other.example", "unlisted.example"] {
            let mut stream = self.own.secure(api, name, BOTH).unwrap();
            let said = say(&mut stream, &asked(name));
            assert_said(said, "HTTP/1.1 403 Forbidden\r\n", &format!("sandbox to {name}: "));
        }
        let nameless = self.own.clone().without_a_name();
        let mut stream = nameless.secure(api, "api.example", HTTP1).unwrap();
        assert_said(say(&mut stream, &asked("api.example")), "HTTP/1.1 403 ", "(SNI)");
        // An address that is listed has no name, and one that names itself is no address.
        let address = (ADDRESS.parse().unwrap(), 443);
        let mut stream = self.own.secure(address, ADDRESS, HTTP1).unwrap();
        assert_said(say(&mut stream, &asked(ADDRESS)), "HTTP/1.1 200 ", "/echo");
        let mut stream = self.own.secure(address, "api.example", HTTP1).unwrap();
        assert_said(say(&mut stream, &asked("api.example")), "HTTP/1.1 403 ", "to api.example: ");
        // Requests.
        for (text, part) in NAMED {
            let said = self.ask("api.example", &format!("{text}{CLOSE}"));
            assert_said(said, "HTTP/1.1 403 Forbidden\r\n", part);
            let plain = text.replace("api.example", "plain.example");
            let plain = match plain.contains("https:") {
                true => plain.replace("https:", "http:"),
                false => plain.replace("http:", "https:"),
            };
            let mut stream = connect(at("plain.example", 80)).unwrap();
            let said = say(&mut stream, &format!("{plain}{CLOSE}"));
            assert_said(said, "HTTP/1.1 403 Forbidden\r\n", part);
        }
        // Who waits for the word to go on is not told to.
        let text = "POST / HTTP/1.1\r\nHost: other.example\r\nContent-Length: 5\r\n\
                    Expect: 100-continue\r\n";
        let said = self.ask("api.example", &format!("{text}{CLOSE}"));
        assert_said(said, "HTTP/1.1 403 ", "to other.example: ");
        // A refused request takes neither those before nor those behind it along.
        let mut stream = self.own.secure(api, "api.example", HTTP1).unwrap();
        for host in ["api.example", "other.example", "api.example"] {
            let text =
                format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbody");
            stream.write_all(text.as_bytes()).unwrap();
            if host == "api.example" {
                assert!(read_until(&mut stream, "\n\nbody").starts_with("HTTP/1.1 200 "));
            } else {
                let said = read_until(&mut stream, "made for api.example\n");
                assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
            }
        }
        self.runtime.block_on(self.coalesced());
    }

    /// Requests for other hosts over one connection, as clients of HTTP/2 send them.
    async fn coalesced(&self) {
        let mut sender = self.own.http2(at("api.example", 443), "api.example").await;
        for (uri, host, status) in [
            ("https://api.example/echo", None, 200),
            ("https://other.example/echo", None, 403),
            ("https://unlisted.example/echo", None, 403),
            ("https://api.example/echo", Some("other.example"), 403),
            ("https://x@api.example/echo", None, 403),
            ("http://api.example/echo", None, 403),
            ("https://api.example:8443/echo", None, 403),
            ("https://api.example:443/echo", Some("api.example"), 200),
        ] {
            let mut asked = request("POST", uri, "body");
            if let Some(host) = host {
                asked.headers_mut().insert("host", host.parse().unwrap());
            }
            let (answered, text) = match sender.send_request(asked).await {
                Ok(answer) => read(answer).await,
                // What the protocol itself forbids ends the stream.
                Err(error) => (403, error.to_string()),
            };
            assert_eq!(answered, status, "{uri} {host:?}: {text}");
        }
        let mut connect = request("CONNECT", "https://api.example/", "");
        *connect.uri_mut() = "api.example:443".parse().unwrap();
        let answered = sender.send_request(connect).await;
        assert!(answered.is_err() || answered.is_ok_and(|answer| answer.status() == 403));
        let still = request("GET", "https://api.example/echo", "");
        assert_eq!(sender.send_request(still).await.unwrap().status(), 200);
    }

    pub(super) fn spoken(&self) {
        let api = at("api.example", 443);
        let head = "Host: api.example\r\n";
        // No other protocol: neither within TLS nor without, nor by its name.
        for text in [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "\x00\x01\x02\x03",
            "EHLO me.example\r\n",
            "get / HTTP/1.1\r\n",
        ] {
            let mut stream = self.own.secure(api, "api.example", HTTP1).unwrap();
            assert_break(say(&mut stream, text));
            assert_break(say(&mut connect(at("plain.example", 80)).unwrap(), text));
        }
        for protocols in [&[&b"imap"[..]][..], &[b"acme-tls/1"], &[b"http/1.0"]] {
            assert!(self.own.secure(api, "api.example", protocols).is_err());
        }
        // What was agreed on is what is spoken.
        let mut stream = self.own.secure(api, "api.example", BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        assert_break(say(&mut stream, &format!("GET / HTTP/1.1\r\n{head}{CLOSE}")));
        let mut stream = self.own.secure(at("mute.example", 443), "mute.example", BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), None);
        let text = format!("GET /echo HTTP/1.1\r\nHost: mute.example\r\n{CLOSE}");
        assert_said(say(&mut stream, &text), "HTTP/1.1 200 ", "GET /echo HTTP/1.1");
        // Half a handshake, and bytes that are none.
        let mut broken = connect(api).unwrap();
        assert_break(say(&mut broken, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"));
        // Upgrades to anything but a WebSocket are not passed on.
        for upgrade in ["h2c", "TLS/1.0", "websocket2"] {
            let text = format!(
                "GET /echo HTTP/1.1\r\n{head}Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\
                 Connection: Upgrade, HTTP2-Settings, close\r\n\r\n"
            );
            let said = self.ask("api.example", &text).unwrap();
            assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
            assert!(!said.to_ascii_lowercase().contains("upgrade"), "{said}");
            assert!(!said.contains("http2-settings"), "{said}");
        }
        self.smuggled();
        self.hostile();
        // Heads have a bound.
        let text = format!("GET / HTTP/1.1\r\n{head}A: {}\r\n\r\n", "a".repeat(200 << 10));
        let said = self.ask("api.example", &text);
        assert!(said.as_ref().map_or(true, |said| said.starts_with("HTTP/1.1 431 ")), "{said:?}");
        let text = format!("GET / HTTP/1.1\r\n{head}A: {}\r\n{CLOSE}", "a".repeat(30 << 10));
        assert_said(self.ask("api.example", &text), "HTTP/1.1 200 ", "aaaa");
    }

    /// Bytes that look like something, cut short, mixed up and left open.
    fn hostile(&self) {
        let mut state = 7_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let begins: [&[u8]; 4] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\nHost: api.example\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00",
            b"",
        ];
        let (secured, plain) = (at("api.example", 443), at("plain.example", 80));
        for round in 0..400 {
            let mut bytes = begins[round % begins.len()].to_vec();
            bytes.extend((0..random() % 600).map(|_| random() as u8));
            for _ in 0..random() % 3 {
                let place = random() % (bytes.len() + 1);
                bytes.insert(place, random() as u8);
            }
            if round % 3 == 0 {
                let Ok(mut stream) = self.own.secure(secured, "api.example", BOTH) else {
                    panic!()
                };
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                continue;
            }
            let mut stream = connect(if round % 2 == 0 { secured } else { plain }).unwrap();
            let _ = stream.write_all(&bytes);
            if round % 5 == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        let text = format!("GET /echo HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        assert_said(self.ask("api.example", &text), "HTTP/1.1 200 ", "GET /echo");
    }

    /// Requests that two servers in a row could read in two ways.
    fn smuggled(&self) {
        let hidden = "GET /hidden HTTP/1.1\r\nHost: api.example\r\n\r\n";
        let head = "POST /echo HTTP/1.1\r\nHost: api.example\r\n";
        // By the standard the coding wins, and the connection ends behind it. What is passed on
        // is framed anew, so that there is one way to read it.
        for lengths in [
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + hidden.len()),
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned(),
        ] {
            let said = self.ask("api.example", &format!("{head}{lengths}\r\n0\r\n\r\n{hidden}"));
            let said = said.unwrap_or_default();
            assert_eq!(said.matches("HTTP/1.1 200 ").count(), 1, "{said}");
            assert!(!said.contains("content-length: 5\n") && !said.contains("/hidden"), "{said}");
        }
        for (lengths, status) in [
            ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Transfer-Encoding : chunked\r\n", 400),
            ("Transfer-Encoding: chunked, identity\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 400),
            ("Transfer-Encoding: identity, chunked\r\n", 403),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 403),
            ("A: b\r\n Transfer-Encoding: chunked\r\n", 400),
            ("A: b\nTransfer-Encoding: chunked\r\n\x01: c\r\n", 400),
        ] {
            let said = self.ask("api.example", &format!("{head}{lengths}\r\n0\r\n\r\n{hidden}"));
            let said = said.unwrap_or_default();
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{lengths}: {said}");
            assert!(!said.contains("HTTP/1.1 200 ") && !said.contains("/hidden"), "{said}");
        }
        let text = "POST /echo HTTP/1.0\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                    0\r\n\r\n";
        assert_said(self.ask("api.example", text), "HTTP/1.1 400 ", "");
        // The positive control: two requests that are two are two.
        let text = format!("{head}Content-Length: 0\r\n\r\n{hidden}")
            .replace("/hidden HTTP/1.1\r\n", "/hidden HTTP/1.1\r\nConnection: close\r\n");
        let said = self.ask("api.example", &text).unwrap();
        assert_eq!(said.matches("HTTP/1.1 200 ").count(), 2, "{said}");
        assert!(said.contains("GET /hidden"), "{said}");
    }
}
