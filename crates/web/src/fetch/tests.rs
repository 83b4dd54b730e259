//! Pages of a small server on loopback: what is followed, what is refused, and where it ends.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use posthouse_net::Rules;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

/// What a site answers.
enum Reply {
    /// Written and closed.
    Whole(Vec<u8>),
    /// The same, and then nothing, without an end.
    Silence(Vec<u8>),
    /// Written once, and then the second again and again, up to so many times.
    Again(Vec<u8>, Vec<u8>, usize),
}

fn page(head: &str, body: impl AsRef<[u8]>) -> Reply {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body.as_ref());
    Reply::Whole(bytes)
}

fn ok(kind: &str, body: impl AsRef<[u8]>) -> Reply {
    page(&format!("200 OK\r\nContent-Type: {kind}"), body)
}

fn to(location: &str) -> Reply {
    page(&format!("302 Found\r\nLocation: {location}"), "")
}

/// Sites on loopback. They are asked as `<name>.example`, at any port.
struct Sites {
    at: SocketAddr,
    /// `<host><path>` of each request, and the rest of its head.
    seen: Arc<Mutex<Vec<(String, String)>>>,
    _serving: JoinSet<()>,
}

impl Sites {
    async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let mut serving = JoinSet::new();
        let (seen_by, answer) = (Arc::clone(&seen), Arc::new(answer));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&seen_by), Arc::clone(&answer)));
            }
        });
        Self { at, seen, _serving: serving }
    }

    fn guard(&self) -> Guard {
        let names = ["a.example", "www.a.example", "b.example"];
        let resolve = names.map(|name| (name.to_owned(), self.at)).into();
        Guard::new(Rules { resolve, ..Rules::default() }, vec![])
    }

    fn reader(&self, robots: bool) -> Reader {
        Reader::new(self.guard(), Settings { robots, ..Settings::default() })
    }

    /// Asked for since the last look.
    fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().drain(..).map(|(path, _)| path).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    answer: Arc<impl Fn(&str) -> Reply>,
) {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = format!("{host}{path}");
    seen.lock().unwrap().push((path.clone(), head));
    // Whoever has read enough goes away, and the rest fails.
    match answer(&path) {
        Reply::Whole(bytes) => drop(stream.write_all(&bytes).await),
        Reply::Silence(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut buffer).await;
        }
        Reply::Again(first, again, times) => {
            let mut written = stream.write_all(&first).await;
            for _ in 0..times {
                if written.is_err() {
                    return;
                }
                written = stream.write_all(&again).await;
            }
        }
    }
}

fn wanted(url: &str) -> Wanted {
    Wanted { url: read_url(url).unwrap(), domains: Domains::default(), max_content_tokens: None }
}

async fn read(reader: &Reader, url: &str) -> Result<Page, FetchError> {
    reader.fetch(&wanted(url)).await
}

async fn refused(reader: &Reader, url: &str) -> FetchError {
    read(reader, url).await.expect_err(url)
}

fn text(page: Page) -> String {
    match page.body {
        Body::Text(text) => text,
        Body::Pdf(_) => panic!("a PDF"),
    }
}

#[tokio::test]
async fn pages_are_read_by_their_kind() {
    let sites = Sites::start(|path| match path {
        "a.example/html" => ok("text/html", "<title>T</title><p>a <a href=x>b</a>"),
        "a.example/text" => ok("text/plain", "a\0 <b>"),
        "a.example/json" => ok("application/json", "{\"a\": 1}"),
        "a.example/latin" => ok("text/plain; charset=iso-8859-1", b"\xfc"),
        "a.example/untold" => page("200 OK", "<!doctype html><p>a"),
        "a.example/empty" => page("204 No Content", ""),
        "a.example/pdf" => ok("application/pdf", "%PDF-1.7 \u{0}"),
        "a.example/sniffed" => ok("application/octet-stream", "%PDF-1.7"),
        "a.example/image" => ok("image/png", "?"),
        "a.example/binary" => page("200 OK", "\u{1}\u{0}"),
        "a.example/zip" => page("200 OK\r\nContent-Encoding: gzip", "?"),
        _ => page("404 Not Found", ""),
    })
    .await;
    let reader = sites.reader(false);
    for (path, expected) in [
        ("html", "---\ntitle: T\n---\n\na [b](http://a.example/x)"),
        ("text", "a <b>"),
        ("json", "{\"a\": 1}"),
        ("latin", "ü"),
        ("untold", "a"),
        ("empty", ""),
    ] {
        let page = read(&reader, &format!("http://a.example/{path}")).await.unwrap();
        assert_eq!(page.title.is_some(), path == "html");
        assert_eq!(text(page), expected, "{path}");
    }
    for (path, expected) in [("pdf", "%PDF-1.7 \u{0}"), ("sniffed", "%PDF-1.7")] {
        let page = read(&reader, &format!("http://a.example/{path}")).await.unwrap();
        assert_eq!(page.body, Body::Pdf(expected.into()), "{path}");
    }
    for path in ["image", "binary", "zip"] {
        let error = refused(&reader, &format!("http://a.example/{path}")).await;
        assert_eq!(error.code, "unsupported_content_type", "{error}");
    }
    let (_, head) = sites.seen.lock().unwrap()[0].clone();
    assert!(head.contains("user-agent: posthouse-user/"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn a_refusal_of_the_site_says_what_to_do() {
    let sites = Sites::start(|path| match path.rsplit('/').next().unwrap() {
        "429" => page("429 Slow\r\nRetry-After: 7", ""),
        "nothing" => Reply::Whole(vec![]),
        "odd" => Reply::Whole(b"SSH-2.0-x\r\n\r\n".to_vec()),
        "cut" => page("200 OK\r\nContent-Length: 9", "a"),
        "nowhere" => page("302 Found", ""),
        "headers" => Reply::Again(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec(), 1 << 15),
        status => page(&format!("{status} Status"), "<p>secret"),
    })
    .await;
    let reader = sites.reader(false);
    for (path, code, says) in [
        ("404", "url_not_accessible", "status 404. There is no such page"),
        ("403", "url_not_accessible", "status 403. It wants a sign-in"),
        ("503", "url_not_accessible", "status 503. Try once more"),
        ("304", "url_not_accessible", "status 304"),
        ("429", "too_many_requests", "after 7 seconds"),
        ("nothing", "url_not_accessible", "Try once more"),
        ("odd", "url_not_accessible", "not answered as HTTP does"),
        ("cut", "url_not_accessible", "in the middle"),
        ("nowhere", "url_not_accessible", "does not say where"),
        ("headers", "url_not_accessible", "not answered as HTTP does"),
    ] {
        let error = refused(&reader, &format!("http://a.example/{path}")).await;
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.advice.contains(says), "{path}: {error}");
    }
    // TLS is not spoken there.
    assert_eq!(refused(&reader, "https://a.example/").await.code, "url_not_accessible");
}

#[tokio::test]
async fn redirects_are_followed_while_each_is_allowed() {
    let sites = Sites::start(|path| match path {
        "a.example/one" => to("/two?x#y"),
        "a.example/two?x" => to("//b.example/three"),
        "b.example/three" => ok("text/plain", "here"),
        "a.example/circle" => to("/circle#again"),
        "a.example/far" => to("/0"),
        "a.example/private" => to("http://127.0.0.1:9/"),
        "a.example/file" => to("file:///etc/passwd"),
        "a.example/user" => to("http://user:secret@b.example/"),
        "a.example/long" => to(&format!("/{}", "x".repeat(LONGEST_URL))),
        "a.example/gone" => to("http://b.example/gone"),
        "b.example/gone" => page("410 Gone", ""),
        other => {
            let hop = other.rsplit('/').next().and_then(|hop| hop.parse::<u64>().ok());
            hop.map_or_else(|| page("404 Not Found", ""), |hop| to(&format!("/{}", hop + 1)))
        }
    })
    .await;
    let reader = sites.reader(false);
    let page = read(&reader, "http://a.example/one").await.unwrap();
    assert_eq!(page.url.as_str(), "http://b.example/three");
    assert_eq!(text(page), "here");
    assert_eq!(sites.asked(), ["a.example/one", "a.example/two?x", "b.example/three"]);
    for (path, code, says, asked) in [
        ("circle", "url_not_accessible", "in a circle", 1),
        ("far", "url_not_accessible", "more than 10 times", 11),
        ("private", "url_not_allowed", "the page redirects, and there: 127.0.0.1 is", 1),
        ("file", "url_not_accessible", "only http and https", 1),
        ("user", "url_not_accessible", "user or a password", 1),
        ("long", "url_not_accessible", "at most 2048", 1),
        ("gone", "url_not_accessible", "and there: the site answers with status 410", 2),
    ] {
        let error = refused(&reader, &format!("http://a.example/{path}")).await;
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.advice.contains(says) && !error.advice.contains("secret"), "{path}: {error}");
        assert_eq!(sites.asked().len(), asked, "{path}");
    }
    // The rules for hosts hold for each hop.
    let allowed = Some(vec!["a.example".to_owned()]);
    let domains = Domains { allowed, ..Domains::default() };
    let error =
        reader.fetch(&Wanted { domains, ..wanted("http://a.example/one") }).await.unwrap_err();
    assert_eq!(error.code, "url_not_allowed");
    assert!(error.advice.contains("there: the host b.example is not among"), "{error}");
    assert_eq!(sites.asked(), ["a.example/one", "a.example/two?x"]);

    let url = |text| Url::parse(text).unwrap();
    let down = check_next(&url("https://a.example/"), &url("http://a.example/")).unwrap_err();
    assert!(down.advice.contains("from https to http"), "{down}");
    assert_eq!(check_next(&url("http://a.example/"), &url("https://a.example/")), Ok(()));
}

#[tokio::test]
async fn a_long_page_is_cut_and_a_long_pdf_refused() {
    let fifty = |kind: &str, first: &str| {
        let length = 50 << 20;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        Reply::Again((head + first).into_bytes(), b"word ".repeat(1 << 18), 41)
    };
    let sites = Sites::start(move |path| match path {
        "a.example/html" => fifty("text/html", "<p>"),
        "a.example/text" => fifty("text/plain", ""),
        "a.example/pdf" => fifty("application/pdf", "%PDF-1.7"),
        "a.example/sniffed" => fifty("text/html", "%PDF-1.7"),
        "a.example/short" => ok("text/plain", "äbcdefgh"),
        _ => ok("text/html", "<title>T</title><p>abcdefgh ijkl"),
    })
    .await;
    let reader = sites.reader(false);
    for path in ["html", "text"] {
        let text = text(read(&reader, &format!("http://a.example/{path}")).await.unwrap());
        assert!(text.starts_with("word word"), "{path}");
        assert!(text.ends_with("[Cut here: the page is longer than can be fetched.]"), "{path}");
        assert!(text.len() < CHARACTERS + 100, "{path}");
    }
    for path in ["pdf", "sniffed"] {
        let error = refused(&reader, &format!("http://a.example/{path}")).await;
        assert_eq!(error.code, "content_too_large");
        assert!(error.advice.contains("larger than 4500000 bytes"), "{error}");
    }
    for (path, tokens, expected) in [
        ("short", 1, Some("äbcd")),
        ("short", 2, None),
        ("short", u64::MAX, None),
        ("other", 7, Some("---\ntitle: T\n---\n\nabcdefgh i")),
    ] {
        let max_content_tokens = Some(tokens);
        let wanted = Wanted { max_content_tokens, ..wanted(&format!("http://a.example/{path}")) };
        let text = text(reader.fetch(&wanted).await.unwrap());
        let expected = expected.map_or("äbcdefgh".to_owned(), |cut| {
            format!("{cut}\n\n[Cut here: the page is longer than max_content_tokens of this tool allows.]")
        });
        assert_eq!(text, expected, "{path} {tokens}");
    }
}

#[tokio::test]
async fn who_drips_is_left() {
    let sites = Sites::start(|path| match path {
        "a.example/head" => Reply::Silence(b"HTTP/1.1 200 OK\r\n".to_vec()),
        _ => Reply::Silence(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\na".to_vec()),
    })
    .await;
    let settings =
        Settings { robots: false, time: Duration::from_millis(200), ..Settings::default() };
    let reader = Reader::new(sites.guard(), settings);
    for path in ["head", "body"] {
        let error = refused(&reader, &format!("http://a.example/{path}")).await;
        assert_eq!(error.code, "url_not_accessible");
        assert!(error.advice.contains("not there in time"), "{error}");
    }
}

#[tokio::test]
async fn robots_are_asked_once_and_obeyed() {
    let rules = "User-agent: posthouse-user\nDisallow: /no\nAllow: /no/but?yes";
    let sites = Sites::start(move |path| match path {
        "a.example/robots.txt" => ok("text/plain", rules),
        "www.a.example/robots.txt" => to("http://a.example/robots.txt"),
        "b.example/robots.txt" => page("500 Status", ""),
        "a.example:8080/robots.txt" => to("/robots.txt"),
        "a.example:8443/robots.txt" => page("403 Status", ""),
        "a.example/go" => to("/no"),
        _ => ok("text/plain", "here"),
    })
    .await;
    let reader = sites.reader(true);
    for (url, allowed, asked) in [
        ("http://a.example/yes", true, 2),
        ("http://a.example/no", false, 0),
        ("http://a.example/%6Eo", false, 0),
        ("http://a.example/no/but?yes#no", true, 1),
        // A redirect is a page like any other.
        ("http://a.example/go", false, 1),
        ("http://a.example/robots.txt", true, 1),
        ("http://www.a.example/no", false, 2),
        ("http://www.a.example/yes", true, 1),
        ("http://b.example/", false, 1),
        ("http://b.example/", false, 0),
        ("http://a.example:8443/no", true, 2),
    ] {
        let read = read(&reader, url).await;
        let code = read.as_ref().err().map(|error| error.code);
        assert_eq!(code, (!allowed).then_some("url_not_allowed"), "{url}: {read:?}");
        assert_eq!(sites.asked().len(), asked, "{url}");
    }
    let error = refused(&reader, "http://a.example/no").await;
    assert!(error.advice.starts_with("the robots.txt of a.example does not allow"), "{error}");
    // Redirects of a robots.txt without an end: as if there were none.
    assert!(read(&reader, "http://a.example:8080/no").await.is_ok());
    assert_eq!(sites.asked().len(), REDIRECTS_OF_ROBOTS + 2);
    assert!(read(&sites.reader(false), "http://a.example/no").await.is_ok());
}

#[tokio::test]
async fn where_robots_lie_out_of_reach_nobody_else_is_locked_out() {
    let sites = Sites::start(|path| match path {
        "www.a.example/robots.txt" => to("http://b.example/robots.txt"),
        "b.example/robots.txt" => page("404 Status", ""),
        _ => ok("text/plain", "here"),
    })
    .await;
    let reader = sites.reader(true);
    let domains = Domains { allowed: Some(vec!["a.example".to_owned()]), ..Domains::default() };
    let narrow = Wanted { domains, ..wanted("http://www.a.example/") };
    assert_eq!(reader.fetch(&narrow).await.unwrap_err().code, "url_not_allowed");
    assert!(!sites.asked().iter().any(|asked| asked.starts_with("b.example")));
    assert!(read(&reader, "http://www.a.example/").await.is_ok());
    // What is known by now tells whether this page may be read, and shows nothing else.
    assert!(reader.fetch(&narrow).await.is_ok());
}

#[tokio::test]
async fn no_private_address_is_dialled_however_it_is_written() {
    let guard = Guard::new(Rules::default(), vec![]);
    let reader = Reader::new(guard.clone(), Settings::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "localhost",
        "LOCALHOST.",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    ] {
        for url in [
            format!("http://{host}/"),
            format!("https://{host}:8443/"),
            format!("http://{host}:22/"),
            format!("http:\\\\{host}"),
        ] {
            let error = refused(&reader, &url).await;
            assert_eq!(error.code, "url_not_allowed", "{url}: {error}");
        }
    }
    // Other ports are for hosts that the operator opens.
    let error = refused(&reader, "http://93.184.216.34:22/").await;
    assert!(error.advice.contains("a port at which no pages are read"), "{error}");
    assert_eq!(guard.dialled(), 0);
}

#[test]
fn odd_addresses_are_refused_before_anything_is_asked() {
    let long = format!("https://a.example/{}", "x".repeat(LONGEST_URL));
    let grows = format!("https://a.example/{}", "ü".repeat(LONGEST_URL / 4));
    for (text, code) in [
        ("", "invalid_tool_input"),
        ("a.example", "invalid_tool_input"),
        ("/a", "invalid_tool_input"),
        ("https://", "invalid_tool_input"),
        ("https:///", "invalid_tool_input"),
        ("ftp://a.example/", "invalid_tool_input"),
        ("file:///etc/passwd", "invalid_tool_input"),
        ("javascript:alert(1)", "invalid_tool_input"),
        ("data:text/plain,a", "invalid_tool_input"),
        ("gopher://127.0.0.1/", "invalid_tool_input"),
        ("https://user@a.example/", "invalid_tool_input"),
        ("https://:secret@a.example/", "invalid_tool_input"),
        ("https://a.example@127.0.0.1/", "invalid_tool_input"),
        ("https://a.example:99999/", "invalid_tool_input"),
        ("https://a b.example/", "invalid_tool_input"),
        ("https://a.exa\nmple/", "invalid_tool_input"),
        ("https://a.example/\u{0}", "invalid_tool_input"),
        ("https://[::1", "invalid_tool_input"),
        ("https://[fe80::1%25lo]/", "invalid_tool_input"),
        ("https://256.1.1.1/", "invalid_tool_input"),
        (long.as_str(), "url_too_long"),
        (grows.as_str(), "url_too_long"),
    ] {
        let error = read_url(text).expect_err(text);
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(!error.advice.contains("secret"));
    }
    for (text, expected) in [
        (" https://a.example ", "https://a.example/"),
        ("HTTP://A.Example:80/ü", "http://a.example/%C3%BC"),
        ("https://a.example/@b", "https://a.example/@b"),
    ] {
        assert_eq!(read_url(text).unwrap().as_str(), expected);
    }
}
