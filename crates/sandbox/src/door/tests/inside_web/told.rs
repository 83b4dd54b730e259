//! What is refused in words, what passes untouched, and where values go.

use super::{
    super::{
        cage::{assert_broken, echo},
        origin::ADDRESS,
    },
    *,
};

const HTTP2: &[&[u8]] = &[b"h2"];

fn get(host: &str) -> String {
    format!("GET /echo HTTP/1.1\r\nHost: {host}\r\n{CLOSE}")
}

impl Inside<'_> {
    pub(super) fn blocked(&self) {
        // The positive controls: over TLS by a name, and by an address.
        assert_said(self.ask("api.example", &get("api.example")), "HTTP/1.1 200 ", "GET /echo");
        let listed = (ADDRESS.parse().unwrap(), 443);
        let mut stream = self.own.secure(listed, ADDRESS, HTTP1).unwrap();
        assert_said(say(&mut stream, &get(ADDRESS)), "HTTP/1.1 200 ", "GET /echo");
        // A name that is not listed has an address, at which the refusal is said.
        let blocked = address_of("unlisted.example");
        let words = "posthouse: no connection from this sandbox to unlisted.example: ";
        let mut plain = connect((blocked, 80)).unwrap();
        assert_said(say(&mut plain, &get("unlisted.example")), "HTTP/1.1 403 Forbidden\r\n", words);
        for protocols in [BOTH, HTTP1, &[]] {
            let mut stream =
                self.own.secure((blocked, 443), "unlisted.example", protocols).unwrap();
            let said = say(&mut stream, &get("unlisted.example"));
            assert_said(said, "HTTP/1.1 403 Forbidden\r\n", words);
        }
        self.runtime.block_on(async {
            let mut sender = self.own.http2((blocked, 443), "unlisted.example").await;
            let asked = request("POST", "https://unlisted.example/", "body");
            let (status, text) = read(sender.send_request(asked).await.unwrap()).await;
            assert!(status == 403 && text.starts_with(words), "{text}");
        });
        // Addresses that are not listed, or that the guard refuses.
        for (address, part) in [
            ("93.184.216.35", "does not list this address"),
            ("10.0.0.1", "is private, not public"),
            ("198.19.7.7", "stands for no name"),
        ] {
            let to = (address.parse().unwrap(), 443);
            let mut stream = self.own.secure(to, address, HTTP1).unwrap();
            assert_said(say(&mut stream, &get(address)), "HTTP/1.1 403 ", part);
            let mut plain = connect((to.0, 80)).unwrap();
            let said = say(&mut plain, &get("asked.example"));
            assert_said(said, "HTTP/1.1 403 ", "sandbox to asked.example: ");
        }
        // The web's ports alone.
        for port in [1, 22, 8080] {
            assert_broken((blocked, port));
        }
        for port in [22, 7777, 8443] {
            assert_broken((listed.0, port));
        }
        assert!(self.own.secure((blocked, 443), "unlisted.example", HTTP2).is_ok());
    }

    pub(super) fn pinned(&self) {
        let token = "GET /echo HTTP/1.1\r\nAuthorization: Bearer ph_token\r\nConnection: close\r\n";
        let asked = |host: &str| format!("{token}Host: {host}\r\n\r\n");
        // The positive control: what is not pinned is looked into.
        let said = self.ask("api.example", &asked("api.example"));
        assert_said(said, "HTTP/1.1 200 ", "authorization: Bearer value-of-token\n");
        let pinned = at("pinned.example", 443);
        assert!(self.own.secure(pinned, "pinned.example", HTTP1).is_err());
        let mut stream = self.other.secure(pinned, "pinned.example", BOTH).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        drop(stream);
        stream = self.other.secure(pinned, "pinned.example", HTTP1).unwrap();
        let said = say(&mut stream, &asked("pinned.example"));
        assert_said(said, "HTTP/1.1 200 ", "authorization: Bearer ph_token\n");
        let mut plain = connect(at("plain.example", 80)).unwrap();
        let said = say(&mut plain, &asked("plain.example"));
        assert_said(said, "HTTP/1.1 200 ", "authorization: Bearer ph_token\n");
        // By its name at its own address alone.
        let api = at("api.example", 443);
        assert!(self.other.secure(api, "pinned.example", HTTP1).is_err());
        let mut stream = self.own.secure(api, "pinned.example", HTTP1).unwrap();
        assert_said(
            say(&mut stream, &asked("pinned.example")),
            "HTTP/1.1 403 ",
            "to pinned.example",
        );
        let mut stream = self.own.secure(pinned, "api.example", HTTP1).unwrap();
        assert_said(say(&mut stream, &asked("api.example")), "HTTP/1.1 403 ", "to api.example");
        let nameless = self.own.clone().without_a_name();
        let mut stream = nameless.secure(pinned, "pinned.example", HTTP1).unwrap();
        assert_said(say(&mut stream, &asked("pinned.example")), "HTTP/1.1 403 ", "(SNI)");
    }

    /// A request with both placeholders in its headers and its body.
    fn with_placeholders(&self, host: &str) -> String {
        let body = "token=ph_token&part=ph_part&again=ph_part";
        format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer ph_token\r\nA: ph_part\r\n\
             Content-Length: {}\r\n{CLOSE}{body}",
            body.len()
        )
    }

    pub(super) fn secrets(&self) {
        let asked = self.with_placeholders("api.example");
        let said = self.ask("api.example", &asked).unwrap();
        let body = "token=ph_token&part=value-of-part&again=value-of-part";
        for part in [
            "authorization: Bearer value-of-token\n".to_owned(),
            "a: ph_part\n".to_owned(),
            format!("content-length: {}\n", body.len()),
            format!("\n\n{body}"),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        // As git says it: `x:ph_token`.
        let text = "GET /echo HTTP/1.1\r\nHost: api.example\r\n\
                    Authorization: Basic eDpwaF90b2tlbg==\r\nConnection: close\r\n\r\n";
        let basic = "authorization: Basic eDp2YWx1ZS1vZi10b2tlbg==\n";
        assert_said(self.ask("api.example", text), "HTTP/1.1 200 ", basic);
        // In pieces, and of a length that nobody has told.
        let text = "POST /echo HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n5\r\n-ph_p\r\n4\r\nart-\r\n0\r\n\r\n";
        assert_said(self.ask("api.example", text), "HTTP/1.1 200 ", "\n\n-value-of-part-");
        // Longer than what is read ahead.
        let long = "x".repeat(3 << 20);
        let text = format!(
            "POST /echo HTTP/1.1\r\nHost: api.example\r\nContent-Length: {}\r\n{CLOSE}{long}ph_part",
            long.len() + 7
        );
        let said = self.ask("api.example", &text).unwrap();
        assert!(said.ends_with("xvalue-of-part"), "{}", said.len());
        // A compressed body is no text.
        let text = "POST /echo HTTP/1.1\r\nHost: api.example\r\nContent-Encoding: gzip\r\n\
                    Content-Length: 7\r\nConnection: close\r\n\r\nph_part";
        assert_said(self.ask("api.example", text), "HTTP/1.1 200 ", "\n\nph_part");
        self.runtime.block_on(async {
            let mut sender = self.own.http2(at("api.example", 443), "api.example").await;
            let mut asked = request("POST", "https://api.example/echo", "a ph_part b");
            asked.headers_mut().insert("x-key", "ph_token".parse().unwrap());
            let (_, text) = read(sender.send_request(asked).await.unwrap()).await;
            assert!(text.contains("x-key: value-of-token\n"), "{text}");
            assert!(text.ends_with("\n\na value-of-part b"), "{text}");
            // Without one there is nothing to put in, nor to write down.
            let asked = request("POST", "https://api.example/echo", "nothing");
            let (_, text) = read(sender.send_request(asked).await.unwrap()).await;
            assert!(text.ends_with("\n\nnothing"), "{text}");
        });
        // Elsewhere it travels on as it is: to another host, ...
        let literal =
            ["authorization: Bearer ph_token\n", "token=ph_token&part=ph_part&again=ph_part"];
        let said = self.ask("other.example", &self.with_placeholders("other.example")).unwrap();
        assert!(literal.iter().all(|part| said.contains(part)), "{said}");
        // ... to a place that is not opened without TLS, where with TLS it goes in, ...
        let public: Ipv4Addr = ADDRESS.parse().unwrap();
        let mut plain = connect((public, 80)).unwrap();
        let said = say(&mut plain, &self.with_placeholders(ADDRESS)).unwrap();
        assert!(literal.iter().all(|part| said.contains(part)), "{said}");
        let mut stream = self.own.secure((public, 443), ADDRESS, HTTP1).unwrap();
        let said = say(&mut stream, &self.with_placeholders(ADDRESS)).unwrap();
        assert!(said.contains("authorization: Bearer value-of-token\n"), "{said}");
        assert!(said.ends_with(literal[1]), "{said}");
        // ... and in a path. A place that the operator has opened gets it without TLS.
        let mut plain = connect(at("plain.example", 80)).unwrap();
        let said = say(&mut plain, &self.with_placeholders("plain.example")).unwrap();
        assert!(said.contains("authorization: Bearer value-of-token\n"), "{said}");
        let text = format!("GET /echo?ph_token HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        assert_said(self.ask("api.example", &text), "HTTP/1.1 200 ", "/echo?ph_token ");
        self.taken_back(at("api.example", 443));
    }

    /// One connection, over which the same is said while the vault changes.
    fn taken_back(&self, api: (Ipv4Addr, u16)) {
        let mut stream = self.own.secure(api, "api.example", HTTP1).unwrap();
        let asked = b"POST /echo HTTP/1.1\r\nHost: api.example\r\nAuthorization: ph_token\r\n\
                      Content-Length: 3\r\n\r\nend";
        stream.write_all(asked).unwrap();
        let said = read_until(&mut stream, "\n\nend");
        assert!(said.contains("authorization: value-of-token\n"), "{said}");
        for _ in ["the vault", "its ledger"] {
            self.world.stepped();
            stream.write_all(asked).unwrap();
            let said = read_until(&mut stream, "later\n");
            assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
            assert!(said.contains("secrets are not available now"), "{said}");
        }
        self.world.stepped();
        stream.write_all(asked).unwrap();
        let said = read_until(&mut stream, "\n\nend");
        assert!(said.contains("authorization: value-of-token\n"), "{said}");
        self.world.stepped();
        stream.write_all(asked).unwrap();
        let said = read_until(&mut stream, "\n\nend");
        assert!(said.contains("authorization: ph_token\n"), "{said}");
        self.world.stepped();
    }

    pub(super) fn open(&self) {
        let asked = |host: &str| {
            format!("GET /echo HTTP/1.1\r\nHost: {host}\r\nAuthorization: ph_token\r\n{CLOSE}")
        };
        let said = self.ask("api.example", &asked("api.example"));
        assert_said(said, "HTTP/1.1 200 ", "authorization: value-of-token\n");
        // Whoever needs no secret is left alone, and so is what is pinned or has no name.
        for name in ["other.example", "pinned.example"] {
            let mut stream = self.other.secure(at(name, 443), name, BOTH).unwrap();
            drop(stream);
            stream = self.other.secure(at(name, 443), name, HTTP1).unwrap();
            assert_said(
                say(&mut stream, &asked(name)),
                "HTTP/1.1 200 ",
                "authorization: ph_token\n",
            );
        }
        let public = (ADDRESS.parse().unwrap(), 443);
        let mut stream = self.other.secure(public, ADDRESS, HTTP1).unwrap();
        assert_said(
            say(&mut stream, &asked(ADDRESS)),
            "HTTP/1.1 200 ",
            "authorization: ph_token\n",
        );
        let stream = self.other.secure(at("api.example", 443), ADDRESS, HTTP1).unwrap();
        drop(stream);
        // Another name on its connection is refused here, too.
        let mut stream = self.own.secure(at("api.example", 443), "other.example", HTTP1).unwrap();
        assert_said(say(&mut stream, &asked("other.example")), "HTTP/1.1 403 ", "to other.example");
        // What is not HTTP passes as it is, whoever speaks first.
        let mut stream = self.own.secure(at("raw.example", 443), "raw.example", &[]).unwrap();
        for word in ["\x01\x02\x03", "hello"] {
            stream.write_all(word.as_bytes()).unwrap();
            assert_eq!(read_until(&mut stream, word), word);
        }
        let mut stream = self.own.secure(at("banner.example", 443), "banner.example", &[]).unwrap();
        assert_eq!(read_until(&mut stream, "\r\n"), "220 who is there?\r\n");
        assert_eq!(say(&mut stream, "you").unwrap(), "you");
        echo(at("echo.example", 443), b"hello");
        let mut greeted = connect(at("greeter.example", 80)).unwrap();
        assert_eq!(read_until(&mut greeted, "\r\n"), "220 greetings\r\n");
        assert_eq!(say(&mut greeted, "you").unwrap(), "you");
        self.world.stepped();
        let mut plain = connect(at("plain.example", 80)).unwrap();
        let said = say(&mut plain, &asked("plain.example"));
        assert_said(said, "HTTP/1.1 200 ", "authorization: value-of-token\n");
        for (client, value) in [(&self.other, "ph_token"), (&self.own, "value-of-token")] {
            let mut stream = client.secure(public, ADDRESS, HTTP1).unwrap();
            let value = format!("authorization: {value}\n");
            assert_said(say(&mut stream, &asked(ADDRESS)), "HTTP/1.1 200 ", &value);
            self.world.stepped();
        }
    }

    pub(super) fn origins(&self) {
        assert_said(self.ask("api.example", &get("api.example")), "HTTP/1.1 200 ", "GET /echo");
        for (name, status, part) in [
            ("stranger.example", 502, "certificate is not trusted"),
            ("impostor.example", 502, "certificate is not trusted"),
            ("gone.example", 502, "no connection"),
            ("own.example", 403, "is this server"),
        ] {
            let begin = format!("HTTP/1.1 {status} ");
            let said = self.ask(name, &self.with_placeholders(name));
            assert_said(said, &begin, part);
            self.runtime.block_on(async {
                let mut sender = self.own.http2(at(name, 443), name).await;
                let asked = request("GET", &format!("https://{name}/"), "");
                let (answered, text) = read(sender.send_request(asked).await.unwrap()).await;
                assert!(answered == status && text.contains(part), "{text}");
            });
        }
        let mut plain = connect(at("gone.example", 80)).unwrap();
        assert_said(say(&mut plain, &get("gone.example")), "HTTP/1.1 502 ", "to gone.example: ");
    }
}
