"""What is said inside of a connection that is let through: who is asked for, by how many names, and
where one request ends and the next begins.

A connection is for one host. Whatever is said in it, no origin hears of another one, and none gets
a request that the door has not seen as one.
"""

from __future__ import annotations

from typing import Any

import pytest

from door import REFUSAL, Sandbox, Site, is_refused, new_world, origins, shared_site, site
from origins import API, BLOCKED, TWIN

# What no origin may ever be asked for.
FORBIDDEN = "/forbidden"


@pytest.fixture(scope="module")
def sandbox(shared_site: Site) -> Sandbox:
    """A sandbox that may reach two names of one origin."""
    return shared_site.sandbox(shared_site.limited(API, TWIN))


def address(sandbox: Sandbox, host: str) -> str:
    """The address that stands for a name inside."""
    (found,) = sandbox.task("dns", name=host)["answers"]
    return str(found)


def intact(site: Site) -> None:
    """Nobody was asked for anything in another's name, and the blocked origin for nothing."""
    assert site.origins.blocked.connections == []
    for one in site.origins.main.requests:
        named = one.header(":authority") or one.header("host") or ""
        host = named.lower().removesuffix(":443").removesuffix(":80")
        assert host in (API, TWIN), (host, one.target)
        if one.connection.tls:
            assert host == one.connection.sni, (host, one.connection.sni, one.target)
        names = [value for name, value in one.headers if name.lower() == "host"]
        assert len(names) <= 1, names
        assert not one.target.startswith(("http:", "https:")), one.target
        assert FORBIDDEN not in one.target, one


# --- names


def test_the_name_in_tls_is_the_name_of_the_address(site: Site, sandbox: Sandbox) -> None:
    at = {host: address(sandbox, host) for host in (API, TWIN, BLOCKED)}
    get = {"do": "http", "url": f"https://{API}/", "verify": False}
    control, *refused = sandbox.tasks(
        {**get, "connect": at[API], "sni": API},
        {**get, "connect": at[API], "sni": BLOCKED},
        {**get, "connect": at[API], "sni": TWIN},
        {**get, "connect": at[TWIN], "sni": API},
        {**get, "connect": at[BLOCKED], "sni": API},
        {**get, "connect": at[API], "sni": None},
        {**get, "connect": at[API], "sni": f"{API}.{BLOCKED}"},
        {**get, "connect": "198.18.77.77", "sni": API},
        {**get, "connect": "198.51.100.9", "sni": API},
    )
    assert control["status"] == 200
    for told in refused:
        assert told.get("status") in (None, 403), told
    assert len(site.origins.main.requests) == 1
    intact(site)


HOSTS = [
    [["Host", BLOCKED]],
    [["Host", TWIN]],
    [["Host", f"{API}:8443"]],
    [["Host", f"user@{API}"]],
    [["Host", f"{API}, {BLOCKED}"]],
    [["Host", f"{API} {BLOCKED}"]],
    [["Host", f"{BLOCKED}#@{API}"]],
    [["Host", ""]],
    [["Host", API], ["Host", BLOCKED]],
    [["Host", BLOCKED], ["Host", API]],
    [["Host", API], ["Host", API]],
    [["Host", API], ["host", BLOCKED]],
    [["Host", "127.0.0.1"]],
    [["Host", f"{API}\x00.{BLOCKED}"]],
]


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_host_that_is_said_is_the_host_that_is_meant(
    site: Site, sandbox: Sandbox, scheme: str
) -> None:
    url = f"{scheme}://{API}"
    plain = {"do": "raw", "host": API, "port": 443 if scheme == "https" else 80, "quiet": 1.0}
    bare = [
        {**plain, "tls": scheme == "https", "send": [f"GET {FORBIDDEN} HTTP/1.{minor}\r\n\r\n"]}
        for minor in (0, 1)
    ]
    fine, *told = sandbox.tasks(
        {"do": "http", "url": f"{url}/", "headers": [["Host", API.upper()]]},
        *(
            {"do": "http", "url": f"{url}{FORBIDDEN}/{number}", "headers": headers}
            for number, headers in enumerate(HOSTS)
        ),
        *bare,
        at_once=True,
    )
    assert fine["status"] == 200
    for headers, one in zip(HOSTS, told, strict=False):
        assert one.get("status") in (None, 400, 403), (headers, one)
    assert all(" 200 " not in one.get("received", "") for one in told[-2:])
    intact(site)


TARGETS = [
    f"https://{BLOCKED}{FORBIDDEN}",
    f"http://{BLOCKED}{FORBIDDEN}",
    f"https://{TWIN}{FORBIDDEN}",
    f"https://user:password@{API}{FORBIDDEN}",
    f"https://{API}:8443{FORBIDDEN}",
    f"https://{API}@{BLOCKED}{FORBIDDEN}",
    f"ftp://{API}{FORBIDDEN}",
    f"file://{FORBIDDEN}",
    f"{BLOCKED}:443",
]


def test_a_whole_address_as_target_is_held_as_well(site: Site, sandbox: Sandbox) -> None:
    url = f"https://{API}/"
    whole, *told = sandbox.tasks(
        {"do": "http", "url": url, "target": f"https://{API}/fine"},
        *({"do": "http", "url": url, "target": target} for target in TARGETS),
        at_once=True,
    )
    assert whole["status"] == 200
    for target, one in zip(TARGETS, told, strict=True):
        # What is not HTTP's target is not taken for HTTP: the connection is closed.
        assert one.get("status") in (None, 400, 403), (target, one)
    assert site.origins.main.asked() == ["/fine"]
    assert {rule for _, _, allowed, rule in sandbox.decisions() if not allowed} >= {
        "mismatch",
        "protocol",
    }
    intact(site)


# --- methods and upgrades that would make a tunnel of it


@pytest.mark.parametrize("target", [f"{BLOCKED}:443", f"{API}:443", f"{API}:22", "127.0.0.1:22"])
def test_nobody_gets_a_tunnel_by_connect(site: Site, sandbox: Sandbox, target: str) -> None:
    for told in sandbox.tasks(
        {"do": "http", "url": f"https://{API}/", "method": "CONNECT", "target": target},
        {"do": "http", "url": f"http://{API}/", "method": "CONNECT", "target": target},
        {"do": "http", "url": f"http://{BLOCKED}/", "method": "CONNECT", "target": target},
    ):
        assert told.get("status") in (None, 400, 403, 405, 501), told
    (second,) = sandbox.tasks(
        {
            "do": "http2",
            "host": API,
            "requests": [
                {"path": "/"},
                {"method": "CONNECT", "authority": target, "path": None, "scheme": None},
                {"method": "CONNECT", "headers": [[":protocol", "websocket"]]},
            ],
        }
    )
    assert all(one.get("status") != 200 for one in second["answers"][1:]), second
    assert "CONNECT" not in [one.method for one in site.origins.main.requests]
    # The control: the same by a method that asks for nothing odd.
    assert sandbox.get(f"https://{API}/")["status"] == 200
    intact(site)


def test_no_request_is_said_back_by_trace(site: Site, sandbox: Sandbox) -> None:
    for told in sandbox.tasks(
        {"do": "http", "url": f"https://{API}/echo", "method": "TRACE"},
        {"do": "http", "url": f"http://{API}/echo", "method": "TRACE"},
    ):
        assert told.get("status") in (400, 403, 405, 501), told
    (second,) = sandbox.tasks({"do": "http2", "host": API, "requests": [{"method": "TRACE"}]})
    assert all(one.get("status") != 200 for one in second["answers"]), second
    assert "TRACE" not in [one.method for one in site.origins.main.requests]


def test_only_web_sockets_leave_http(site: Site, sandbox: Sandbox) -> None:
    settings = ["HTTP2-Settings", "AAMAAABkAAQAAP__"]
    upgrade = {"do": "http", "url": f"http://{API}/echo"}
    told = sandbox.tasks(
        {
            **upgrade,
            "headers": [["Connection", "Upgrade, HTTP2-Settings"], ["Upgrade", "h2c"], settings],
        },
        {**upgrade, "headers": [["Connection", "Upgrade"], ["Upgrade", "TLS/1.0"]]},
        {**upgrade, "headers": [["Connection", "Upgrade"], ["Upgrade", "posthouse"]]},
        # Prior knowledge, without TLS: that is HTTP, and held to its host.
        {
            "do": "http2",
            "host": API,
            "tls": False,
            "requests": [
                {"scheme": "http", "path": "/known"},
                {"scheme": "http", "path": FORBIDDEN, "authority": TWIN},
                {"scheme": "http", "path": FORBIDDEN, "authority": BLOCKED},
                {"scheme": "http", "path": FORBIDDEN, "authority": None},
                {"scheme": "https", "path": FORBIDDEN},
            ],
        },
        {"do": "websocket", "host": API, "tls": True, "messages": ["control"]},
    )
    assert all(one.get("status") in (200, 400, 403, 501) for one in told[:3]), told
    for one in site.origins.main.requests:
        asked = (one.header("upgrade") or "").lower()
        assert asked in ("", "websocket"), asked
        assert one.header("http2-settings") is None
    known, *held = told[3]["answers"]
    assert known["status"] == 200, told[3]
    assert all(one.get("status") != 200 for one in held), told[3]
    assert told[4]["said"] == ["control"]
    intact(site)


# --- HTTP/2


def test_one_connection_is_for_one_host(site: Site, sandbox: Sandbox) -> None:
    """An origin with a certificate for both names would take both over one connection."""
    (told,) = sandbox.tasks(
        {
            "do": "http2",
            "host": API,
            "requests": [
                {"path": "/coalesce"},
                {"authority": TWIN, "path": FORBIDDEN},
                {"authority": BLOCKED, "path": FORBIDDEN},
                {"authority": f"user@{API}", "path": FORBIDDEN},
                {"authority": f"{API}:8443", "path": FORBIDDEN},
                {"path": FORBIDDEN, "headers": [["host", BLOCKED]]},
                {"authority": None, "path": FORBIDDEN, "headers": [["host", BLOCKED]]},
                {"path": "/", "headers": [["x-a", "fine"]]},
            ],
        }
    )
    first, *refused, last = told["answers"]
    assert first["status"] == 200, told
    # A server may end the connection at nonsense; it never answers it.
    assert last.get("status", 200) == 200
    for one in refused:
        assert one.get("status") in (None, 400, 403, 421), told
    assert [one.get("status") for one in refused[:2]] == [403, 403], told
    assert refused[0]["body"].startswith(f"{REFUSAL}{TWIN}: ")
    assert (TWIN, 443, False, "mismatch") in sandbox.decisions()
    intact(site)


ODD: list[dict[str, Any]] = [
    {"headers": [[":authority", BLOCKED]]},
    {"headers": [["host", API], ["host", BLOCKED]]},
    {"headers": [["x-a", f"b\r\nhost: {BLOCKED}"]]},
    {"headers": [[f"x-a\r\nhost: {BLOCKED}\r\nx-b", "c"]]},
    {"headers": [["transfer-encoding", "chunked"]], "method": "POST", "body": "0\r\n\r\nGET"},
    {"headers": [["content-length", "3"]], "method": "POST", "body": "more than three"},
    {"headers": [["connection", "upgrade"], ["upgrade", "h2c"]]},
    {"path": f"https://{BLOCKED}{FORBIDDEN}"},
    {"path": f"/ HTTP/1.1\r\nHost: {BLOCKED}\r\n\r\nGET {FORBIDDEN}"},
    {"path": ""},
    {"method": f"GET {FORBIDDEN} HTTP/1.1\r\nHost: {BLOCKED}\r\n\r\nGET"},
]


def test_what_would_be_two_requests_of_http_1_is_none_of_http_2(
    site: Site, sandbox: Sandbox
) -> None:
    http2 = {"do": "http2", "host": API, "patience": 5.0}
    before, *told, after = sandbox.tasks(
        {**http2, "requests": [{"path": "/control"}]},
        *({**http2, "requests": [{"path": "/odd", **one}]} for one in ODD),
        {**http2, "requests": [{"path": "/control"}]},
        at_once=True,
    )
    assert [one["answers"][0].get("status") for one in (before, after)] == [200, 200]
    for odd, one in zip(ODD, told, strict=True):
        for answer in one.get("answers", []):
            # Some of it may be dropped on the way; then what is left is an honest request.
            assert answer.get("status") in (None, 200, 400, 403), (odd, one)
    intact(site)
    for request in site.origins.main.requests:
        assert request.header("transfer-encoding") is None and request.header("upgrade") is None


# --- where requests end (request smuggling)

INNER = f"GET {FORBIDDEN} HTTP/1.1\r\nHost: {BLOCKED}\r\n\r\n"
POST = f"POST /odd HTTP/1.1\r\nHost: {API}\r\n"


HIDDEN: dict[str, str] = dict([
        ("CL.TE", f"{POST}Content-Length: {len(INNER) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n"
                  f"0\r\n\r\n{INNER}"),
        ("TE.CL", f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
                  f"{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n"),
        ("TE.TE", f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
                  f"0\r\n\r\n{INNER}"),
        ("space before the colon", f"{POST}Transfer-Encoding : chunked\r\n"
                                   f"Content-Length: {len(INNER)}\r\n\r\n{INNER}"),
        ("odd coding", f"{POST}Transfer-Encoding: xchunked\r\nContent-Length: {len(INNER)}"
                       f"\r\n\r\n{INNER}"),
        ("coding twice", f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{INNER}"),
        ("vertical tab", f"{POST}Transfer-Encoding:\x0bchunked\r\nContent-Length: {len(INNER)}"
                         f"\r\n\r\n{INNER}"),
        ("folded line", f"{POST}X-A: b\r\n Transfer-Encoding: chunked\r\n"
                        f"Content-Length: {len(INNER)}\r\n\r\n{INNER}"),
        ("folded host", f"GET /odd HTTP/1.1\r\nHost:\r\n {BLOCKED}\r\n\r\n"),
        ("bare line feeds", f"POST /odd HTTP/1.1\nHost: {API}\nContent-Length: {len(INNER)}"
                            f"\n\n{INNER}"),
        ("bare carriage return", f"{POST}X-A: b\rHost: {BLOCKED}\r\nContent-Length: 0\r\n\r\n"),
        ("two lengths", f"{POST}Content-Length: 0\r\nContent-Length: {len(INNER)}\r\n\r\n{INNER}"),
        ("list of lengths", f"{POST}Content-Length: 0, {len(INNER)}\r\n\r\n{INNER}"),
        ("length with a sign", f"{POST}Content-Length: +{len(INNER)}\r\n\r\n{INNER}"),
        ("length below zero", f"{POST}Content-Length: -1\r\n\r\n{INNER}"),
        ("length in hex", f"{POST}Content-Length: 0x{len(INNER):x}\r\n\r\n{INNER}"),
        ("length too large", f"{POST}Content-Length: 18446744073709551617\r\n\r\n{INNER}"),
        ("chunk too large", f"{POST}Transfer-Encoding: chunked\r\n\r\n"
                            f"10000000000000000\r\n\r\n0\r\n\r\n{INNER}"),
        ("chunk's extension", f"{POST}Transfer-Encoding: chunked\r\n\r\n"
                              f"0;\n{INNER}\r\n\r\n"),
        ("chunk without an end", f"{POST}Transfer-Encoding: chunked\r\n\r\n"
                                 f"1\r\nZZ0\r\n\r\n{INNER}"),
        ("trailer", f"{POST}Transfer-Encoding: chunked\r\n\r\n0\r\nHost: {BLOCKED}\r\n"
                    f"Content-Length: 9\r\n\r\n"),
        ("body of a GET", f"GET /odd HTTP/1.1\r\nHost: {API}\r\nContent-Length: {len(INNER)}"
                          f"\r\n\r\n{INNER}"),
        ("no space", f"GET\t/odd\tHTTP/1.1\r\nHost: {BLOCKED}\r\n\r\n"),
        ("zero byte", f"{POST}X-A: b\x00\r\nHost: {BLOCKED}\r\n\r\n"),
        ("header without a colon", f"{POST}Host {BLOCKED}\r\n\r\n{INNER}"),
        ("version 0.9", f"GET {FORBIDDEN}\r\n\r\n"),
        ("version 1.7", f"GET {FORBIDDEN} HTTP/1.7\r\nHost: {BLOCKED}\r\n\r\n"),
        ("hop by hop", f"GET /odd HTTP/1.1\r\nHost: {API}\r\nConnection: Host, close\r\n\r\n"),
        ("second request", f"GET /fine HTTP/1.1\r\nHost: {API}\r\n\r\n{INNER}"),
])  # fmt: skip


@pytest.mark.parametrize("tls", [True, False])
def test_no_request_hides_in_another(site: Site, sandbox: Sandbox, tls: bool) -> None:
    raw = {"do": "raw", "host": API, "port": 443 if tls else 80, "tls": tls, "quiet": 2.0}
    honest = f"GET /one HTTP/1.1\r\nHost: {API}\r\n\r\nGET /two HTTP/1.1\r\nHost: {API}\r\n\r\n"
    (control,) = sandbox.tasks({**raw, "send": [honest]})
    # Two in one go are two; the origin reads them one after the other.
    assert control["received"].count(" 200 ") == 2
    assert site.origins.main.asked() == ["/one", "/two"]
    told = sandbox.tasks(*({**raw, "send": [sent]} for sent in HIDDEN.values()), at_once=True)
    intact(site)
    for name, one in zip(HIDDEN, told, strict=True):
        # One at most may have been understood as it was meant to look.
        assert one.get("received", "").count(" 200 ") <= 1, (name, one)


def test_heads_have_a_bound(site: Site, sandbox: Sandbox) -> None:
    fine, long, many = sandbox.tasks(
        {"do": "http", "url": f"https://{API}/", "long_header": 8000},
        {"do": "http", "url": f"https://{API}/", "long_header": 2_000_000},
        {"do": "http", "url": f"https://{API}/", "more_headers": 5000},
    )
    assert fine["status"] == 200
    for told in (long, many):
        assert told.get("status") in (None, 400, 403, 431), told
    assert len(site.origins.main.requests) == 1


def test_what_is_refused_once_is_no_bar_to_the_next(site: Site, sandbox: Sandbox) -> None:
    told = sandbox.tasks(
        {"do": "http", "url": f"https://{BLOCKED}/"},
        {"do": "http", "url": f"https://{API}/", "headers": [["Host", BLOCKED]]},
        {"do": "http", "url": f"https://{API}/"},
    )
    assert is_refused(told[0], BLOCKED) and is_refused(told[1], BLOCKED)
    assert told[2]["status"] == 200
    assert sandbox.decisions() >= {
        (BLOCKED, 443, False, "not_listed"),
        (BLOCKED, 443, False, "mismatch"),
        (API, 443, True, "allowed_hosts"),
    }
