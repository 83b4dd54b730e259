//! What a request may ask for on a connection, and what leaves of it.

use http::Request;

use super::*;

fn target() -> Target {
    Target { host: "a.example".to_owned(), port: 8443, tls: true }
}

/// A request of HTTP/1.1 with these headers; of HTTP/2 where the target is whole.
fn parts(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn a_request_goes_to_the_connections_host_alone() {
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    let ok = [
        ("GET", "/", one, &[("host", "a.example")][..]),
        ("GET", "/", Version::HTTP_10, &[("host", "a.example")]),
        ("GET", "/", one, &[("host", "A.Example")]),
        ("GET", "/", one, &[("host", "a.example.")]),
        ("GET", "/", one, &[("host", "a.example:8443")]),
        ("GET", "/", one, &[("host", "a.example:443")]),
        ("OPTIONS", "*", one, &[("host", "a.example")]),
        ("GET", "https://a.example/x", one, &[("host", "a.example")]),
        ("M-SEARCH", "/", one, &[("host", "a.example")]),
        ("POST", "/", one, &[("host", "a.example"), ("transfer-encoding", "Chunked")]),
        ("GET", "https://a.example/", two, &[]),
        ("GET", "https://a.example/", two, &[("host", "a.example")]),
        ("GET", "/", two, &[("host", "a.example")]),
    ];
    for (method, uri, version, headers) in ok {
        let checked = target().check(&parts(method, uri, version, headers));
        assert!(checked.is_ok(), "{method} {uri} {headers:?}: {checked:?}");
    }
    let (mismatch, protocol) = (Rule::Mismatch, Rule::Protocol);
    for (method, uri, version, headers, rule, host) in [
        ("GET", "/", one, &[("host", "b.example")][..], mismatch, "b.example"),
        ("GET", "/", one, &[("host", "b.example:443")], mismatch, "b.example"),
        ("GET", "/", one, &[("host", "10.0.0.1")], mismatch, "10.0.0.1"),
        ("GET", "/", one, &[], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "a.example:80")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "a.example:99999")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "a.example, b.example")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "b.example@a.example")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "a.example"), ("host", "a.example")], mismatch, "a.example"),
        ("GET", "/", one, &[("host", "a.example"), ("host", "b.example")], mismatch, "a.example"),
        ("GET", "https://b.example/", one, &[("host", "a.example")], mismatch, "b.example"),
        ("GET", "https://a.example/", one, &[("host", "b.example")], mismatch, "b.example"),
        ("GET", "https://a.example/", one, &[], mismatch, "a.example"),
        ("GET", "http://a.example/", one, &[("host", "a.example")], mismatch, "a.example"),
        ("GET", "https://x@a.example/", one, &[("host", "a.example")], mismatch, "a.example"),
        ("GET", "a.example:443", one, &[("host", "a.example")], mismatch, "a.example"),
        ("GET", "https://b.example/", two, &[], mismatch, "b.example"),
        ("GET", "https://a.example/", two, &[("host", "b.example")], mismatch, "b.example"),
        ("GET", "https://x:y@a.example/", two, &[], mismatch, "a.example"),
        ("GET", "/", two, &[], mismatch, "a.example"),
        ("CONNECT", "a.example:443", one, &[("host", "a.example")], protocol, "a.example"),
        ("CONNECT", "https://a.example/", two, &[], protocol, "a.example"),
        ("TRACE", "/", one, &[("host", "a.example")], protocol, "a.example"),
        ("GET", "*", one, &[("host", "a.example")], protocol, "a.example"),
        ("GET", "*", two, &[("host", "a.example")], protocol, "a.example"),
        (
            "POST",
            "/",
            one,
            &[("host", "a.example"), ("transfer-encoding", "gzip, chunked")],
            protocol,
            "a.example",
        ),
        (
            "POST",
            "/",
            one,
            &[
                ("host", "a.example"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            protocol,
            "a.example",
        ),
    ] {
        let checked = target().check(&parts(method, uri, version, headers));
        let refusal = checked.expect_err(&format!("{method} {uri} {headers:?}"));
        assert_eq!((refusal.rule, &*refusal.host), (Some(rule), host), "{uri} {headers:?}");
    }
    // A target that is no path is none of a request: it could be joined to a host somewhere.
    for path in ["evil.example/x", "@evil.example/", ":80@evil.example/"] {
        assert!(path.parse::<PathAndQuery>().is_err(), "{path}");
    }
    let plain = Target { tls: false, port: 80, ..target() };
    assert!(plain.check(&parts("GET", "/", one, &[("host", "a.example:80")])).is_ok());
    assert!(plain.check(&parts("GET", "/", one, &[("host", "a.example:443")])).is_err());
}

fn prepared(mut parts: request::Parts) -> (String, Vec<(String, String)>, bool) {
    let websocket = target().prepare(&mut parts);
    let headers = parts.headers.iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (parts.uri.to_string(), headers, websocket)
}

#[test]
fn what_concerns_one_connection_alone_is_not_passed_on() {
    let owned = |headers: &[(&str, &str)]| -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let headers = [
        ("host", "a.example"),
        ("connection", "keep-alive, X-Mine, host, Content-Length"),
        ("connection", "HTTP2-Settings, Upgrade"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("expect", "100-continue"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers, deflate"),
        ("x-mine", "1"),
        ("x-other", "2"),
    ];
    let (uri, left, websocket) = prepared(parts("POST", "/a?b", Version::HTTP_11, &headers));
    let expected =
        [("connection", "te"), ("host", "a.example"), ("te", "trailers"), ("x-other", "2")];
    assert_eq!((uri.as_str(), left, websocket), ("/a?b", owned(&expected), false));
    let asked = [("host", "a.example"), ("connection", "Upgrade"), ("upgrade", "WebSocket")];
    let (_, left, websocket) = prepared(parts("GET", "/", Version::HTTP_11, &asked));
    let expected = [("connection", "upgrade"), ("host", "a.example"), ("upgrade", "websocket")];
    assert_eq!((left, websocket), (owned(&expected), true));
    for (method, version) in [("POST", Version::HTTP_11), ("GET", Version::HTTP_10)] {
        let (_, left, websocket) = prepared(parts(method, "/", version, &asked));
        assert_eq!((left, websocket), (owned(&[("host", "a.example")]), false));
    }
}

#[test]
fn a_target_is_written_as_its_version_wants_it() {
    let host = [("host", "a.example:8443")];
    for (uri, version, headers, expected, left) in [
        ("https://a.example/x?y", Version::HTTP_11, &host[..], "/x?y", 1),
        ("https://a.example", Version::HTTP_11, &host, "/", 1),
        ("*", Version::HTTP_11, &host, "*", 1),
        ("https://a.example/x", Version::HTTP_2, &host, "https://a.example/x", 0),
        ("/x", Version::HTTP_2, &host, "https://a.example:8443/x", 0),
    ] {
        let (uri, headers, _) = prepared(parts("OPTIONS", uri, version, headers));
        assert_eq!((uri.as_str(), headers.len()), (expected, left));
    }
}
