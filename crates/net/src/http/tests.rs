//! What requests look like on the wire, what of an answer is taken, and that no odd URL is dialled.
//! Connects to loopback alone.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::guard::Rules;

const LIMITS: Limits = Limits { time: Duration::from_secs(10), body_bytes: 1 << 20 };

/// An origin on loopback that answers every connection alike, and what it was sent.
struct Origin {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Origin {
    async fn start(answer: &'static str) -> Self {
        Self::with(answer.as_bytes().to_vec(), None).await
    }

    async fn with(answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let mut serving = JoinSet::new();
        let seen_by = Arc::clone(&seen);
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &answer, &seen_by).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, &answer, &seen_by).await,
                        // Whoever does not trust it goes away.
                        Err(_) => continue,
                    },
                }
            }
        });
        Self { at, seen, _serving: serving }
    }

    /// A guard that knows it as `origin.example`.
    fn guard(&self, roots: Vec<CertificateDer<'static>>) -> Guard {
        let rules = Rules {
            resolve: [("origin.example".to_owned(), self.at)].into(),
            trusted_roots: roots,
            ..Rules::default()
        };
        Guard::new(rules, vec![])
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().concat()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &[u8],
    seen: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let Ok(read) = stream.read(&mut buffer).await else { return };
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_its_connection_is_not_the_callers() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n\r\nhi").await;
    let guard = origin.guard(vec![]);
    let request = Request::post("http://origin.example./path/a%2Fb?x=1&y=a%20b")
        .header("host", "elsewhere.example")
        .header("transfer-encoding", "chunked")
        .header("content-length", "99")
        .header("proxy-authorization", "Basic eA==")
        .header("connection", "keep-alive, x-mine")
        .header("x-mine", "1")
        .body(Bytes::from_static(b"grant_type=refresh_token"))
        .unwrap();
    let answer = send(&guard, request, LIMITS).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hi"[..]));
    assert_eq!(answer.headers()["x-a"], "b");
    let seen = origin.seen().to_lowercase();
    assert!(seen.starts_with("post /path/a%2fb?x=1&y=a%20b http/1.1\r\n"), "{seen}");
    for line in [
        "host: origin.example\r\n",
        "content-length: 24\r\n",
        "connection: close\r\n",
        "x-mine: 1\r\n",
        &format!("user-agent: {USER_AGENT}\r\n"),
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    for gone in ["elsewhere", "chunked", "99", "keep-alive", "proxy"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    let request = Request::get(format!("http://origin.example:{}?q", origin.at.port()))
        .header("user-agent", "other/1")
        .body(Bytes::new())
        .unwrap();
    send(&guard, request, LIMITS).await.unwrap();
    let seen = origin.seen.lock().unwrap()[1].to_lowercase();
    assert!(seen.starts_with("get /?q http/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: origin.example:{}\r\n", origin.at.port())), "{seen}");
    assert!(seen.contains("user-agent: other/1\r\n") && !seen.contains("posthouse"), "{seen}");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let origin = Origin::start(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/\r\n\
         content-length: 0\r\n\r\n",
    )
    .await;
    let guard = origin.guard(vec![]);
    let answer = send(&guard, get("http://origin.example/"), LIMITS).await.unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()["location"], "http://169.254.169.254/");
    assert_eq!((guard.dialled(), guard.looked_up()), (1, 0));
}

#[tokio::test]
async fn what_is_read_is_bounded() {
    let small = Limits { body_bytes: 8, ..LIMITS };
    let too_large = "the answer of origin.example is longer than 8 bytes";
    let no_http = "origin.example has not answered as HTTP does";
    let long: &'static str =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(300_000)).leak();
    for (answer, said) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789", Some(too_large)),
        ("HTTP/1.1 200 OK\r\n\r\n123456789", Some(too_large)),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
            Some(too_large),
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n12", Some(no_http)),
        ("SSH-2.0-OpenSSH\r\n\r\n", Some(no_http)),
        ("", Some(no_http)),
        (long, Some(no_http)),
    ] {
        let origin = Origin::start(answer).await;
        let got = send(&origin.guard(vec![]), get("http://origin.example/"), small).await;
        let shown: String = answer.chars().take(80).collect();
        match (got, said) {
            (Ok(got), None) => assert_eq!(got.body().len(), 8),
            (Ok(_), Some(said)) => panic!("{shown}: was taken; {said}"),
            (Err(error), Some(said)) => assert_eq!(error.to_string(), said, "{shown}"),
            (got, said) => panic!("{shown}: {got:?}, not {said:?}"),
        }
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let rules = Rules { resolve: [("mute.example".to_owned(), at)].into(), ..Rules::default() };
    let guard = Guard::new(rules, vec![]);
    let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
    for url in ["http://mute.example/?secret", "https://mute.example/?secret"] {
        let error = send(&guard, get(url), limits).await.unwrap_err();
        assert_eq!(error.to_string(), "mute.example has not answered in time");
    }
    drop(listener);
    let error = send(&guard, get("http://mute.example/?secret"), LIMITS).await.unwrap_err();
    // Where the operator's rule leads is not for whoever has asked.
    assert_eq!(error.to_string(), "mute.example port 80: no connection");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(!source.contains("127.0.0.1"), "{source}");
}

#[tokio::test]
async fn a_body_is_read_as_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = Rules {
        resolve: [("origin.example".to_owned(), listener.local_addr().unwrap())].into(),
        ..Rules::default()
    };
    let (go_on, told) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(head).await.unwrap();
        told.await.unwrap();
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        // The other side closes when it has all.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let guard = Guard::new(rules, vec![]);
    let mut answer = open(&guard, get("http://origin.example/")).await.unwrap();
    assert_eq!(format!("{:?}", answer.body()), "Streamed { host: \"origin.example\", .. }");
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(&first.into_data().unwrap()[..], b"one");
    go_on.send(()).unwrap();
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&rest[..], b"two");
    serving.join_all().await;
}

fn acceptor(made: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_is_for_the_host_that_was_named_and_for_roots_that_are_trusted() {
    let made = rcgen::generate_simple_self_signed(["origin.example".to_owned()]).unwrap();
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let origin = Origin::with(answer, Some(acceptor(&made))).await;
    let root = made.cert.der().clone();
    let guard = origin.guard(vec![root.clone()]);
    let answer = send(&guard, get("https://origin.example/"), LIMITS).await.unwrap();
    assert_eq!(answer.status(), 204);
    let error = send(&origin.guard(vec![]), get("https://origin.example/"), LIMITS).await;
    let error = error.unwrap_err();
    assert!(matches!(error, SendError::Connect(ConnectError::Untrusted { .. })), "{error}");
    let rules = Rules {
        resolve: [("other.example".to_owned(), origin.at)].into(),
        trusted_roots: vec![root],
        ..Rules::default()
    };
    let other = Guard::new(rules, vec![]);
    let error = send(&other, get("https://other.example/"), LIMITS).await.unwrap_err();
    assert!(matches!(error, SendError::Connect(ConnectError::Untrusted { .. })), "{error}");
    assert_eq!(origin.seen.lock().unwrap().len(), 1);
}

/// A resolver for tests, to whom everything is public.
fn public(_: &str) -> io::Result<Vec<IpAddr>> {
    Ok(vec![IpAddr::from([93, 184, 216, 34])])
}

#[tokio::test]
async fn plain_http_is_for_hosts_that_the_operator_has_opened() {
    let guard = Guard::with_resolver(Rules::default(), vec![], public);
    for url in ["http://public.example/", "http://93.184.216.34/", "http://public.example:443/"] {
        let error = send(&guard, get(url), LIMITS).await.unwrap_err();
        assert!(matches!(error, SendError::Plain { .. }), "{url}: {error}");
    }
    assert_eq!(guard.dialled(), 0);
}

/// Hosts that somebody somewhere takes for an address of this machine or of a cloud's metadata.
const ODD_HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "0.0.0.0.",
    "2130706433",
    "2852039166",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0.0.1",
    "0xa9fea9fe",
    "017700000001",
    "0177.0.0.1",
    "0251.0376.0251.0376",
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.43518",
    "10.0.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:169.254.169.254]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:7f00:1::1]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[::1%251]",
    "[::1].",
    "[127.0.0.1]",
    "::1",
    "127.0.0.1%00",
    "127.0.0.1%2f",
    "127.0.0.1%23",
    "%31%32%37.0.0.1",
    "%6c%6f%63alhost",
    "127。0。0。1",
    "１２７.0.0.1",
    "①②⑦.⓪.⓪.①",
    "ⓛocalhost",
    "localhost\u{ad}",
    "loc\u{200d}alhost",
    "a@127.0.0.1",
    "a:b@127.0.0.1",
    "public.example@127.0.0.1",
    "127.0.0.1@public.example",
    "127.0.0.1:80@public.example",
    "public.example%40127.0.0.1",
    "public.example\\@127.0.0.1",
    "127.0.0.1\\@public.example",
    "127.0.0.1\\.public.example",
    "public.example&@127.0.0.1",
    "127.0.0.1 public.example",
    "127.0.0.1\tpublic.example",
    "127.0.0.1\r\nhost:public.example",
    "127.0.0.1\0.public.example",
    "*.example",
    "..",
    ".",
    "",
    "-a.example",
    "a..example",
];

/// How the plain names end that a client makes of some, which reads URLs as browsers do.
const PLAIN_NAMES: &[&str] = &["public.example", "localhost"];

fn loopback(_: &str) -> io::Result<Vec<IpAddr>> {
    Ok(vec![IpAddr::from([127, 0, 0, 1])])
}

#[tokio::test]
async fn no_odd_url_is_dialled() {
    let guard = Guard::with_resolver(Rules::default(), vec![], loopback);
    let forms: [(&str, &str); 6] = [
        ("https://", "/"),
        ("https://", ":443/x?y"),
        ("https:///", "/"),
        ("https:", "/"),
        ("https:\\\\", "/"),
        ("HTTPS://", ""),
    ];
    let (mut tried, mut read) = (0, 0);
    for host in ODD_HOSTS {
        for (before, after) in forms {
            let text = format!("{before}{host}{after}");
            // As it is, and as a client would write it that reads URLs as browsers do.
            let as_browsers = url::Url::parse(&text).map(String::from).ok();
            for text in [Some(text), as_browsers].into_iter().flatten() {
                tried += 1;
                let Ok(uri) = text.parse::<Uri>() else { continue };
                read += 1;
                let (name, before) = (uri.host().unwrap_or_default().to_owned(), guard.looked_up());
                let request = Request::get(uri).body(Bytes::new()).unwrap();
                let error = open(&guard, request).await.unwrap_err();
                let may = PLAIN_NAMES.iter().any(|end| name.ends_with(end));
                assert!(may || guard.looked_up() == before, "{text:?}: {name}: {error}");
            }
        }
    }
    assert!(tried > 500 && read > 100, "{tried} tried, {read} read");
    assert_eq!(guard.dialled(), 0);
}

#[test]
fn a_url_says_where_it_leads_or_why_not() {
    let read = |text: &str| Target::read(&Method::GET, &text.parse().unwrap());
    let target = read("https://[2001:DB8::1]:8443/a?b").unwrap();
    assert_eq!((target.host.as_str(), target.port), ("2001:DB8::1", 8443));
    assert_eq!(read("http://a.example").unwrap().port, 80);
    assert_eq!(read("https://a.example").unwrap().path, "/");
    for (text, what) in [
        ("ftp://a.example/", "is no https URL"),
        ("/path", "is no https URL"),
        ("a.example", "is no https URL"),
        ("*", "is no https URL"),
        ("https://u@a.example/", "has a user or a password"),
        ("https://u:p@a.example/", "has a user or a password"),
        ("https://a.example:/", "has a port that is none"),
        ("https://a.example:0/", "has a port that is none"),
        ("https://a.example:65536/", "has a port that is none"),
    ] {
        let said = read(text).unwrap_err().to_string();
        assert!(said.contains(what), "{text}: {said}");
    }
    let uri = "https://a.example/".parse().unwrap();
    assert!(Target::read(&Method::CONNECT, &uri).is_err());
}

#[tokio::test]
async fn pages_are_asked_over_plain_http_but_at_few_ports() {
    let origin = Origin::start("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").await;
    let ask = async |guard: &Guard, uri: &str, ports: &[u16]| {
        open_page(guard, Request::get(uri).body(Bytes::new()).unwrap(), ports).await.map(drop)
    };
    // What the operator has opened is asked at any port.
    let opened = origin.guard(vec![]);
    ask(&opened, "http://origin.example:1234/", &[80]).await.unwrap();
    // A public host, which nobody answers for: only what is refused before is looked at.
    let closed = Guard::new(Rules::default(), vec![]);
    for uri in ["http://93.184.216.34:22/", "https://93.184.216.34:8443/"] {
        let refused = ask(&closed, uri, &[80, 443]).await;
        assert!(matches!(refused, Err(SendError::Url(_))), "{uri} {refused:?}");
    }
    let private = ask(&closed, "http://127.0.0.1/", &[80]).await;
    assert!(matches!(private, Err(SendError::Connect(ConnectError::Refused(_)))), "{private:?}");
    assert_eq!(closed.dialled(), 0);
}
