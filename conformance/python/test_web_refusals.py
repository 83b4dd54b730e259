"""What `web_fetch` does not read, and where redirects lead: statuses, robots, circles, addresses
that are nobody's business. All addresses were shown by the user, so that it is not the rule of
sources that refuses.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import anthropic
import pytest

from namespace import Resolver, in_a_namespace, network
from origin import Origin, Request, Response
from origins import CLOSED_PORT, EXPIRED, MISNAMED, OPAQUE, SELF_MADE
from world import World
from web_origins import (
    BELOW,
    OTHER,
    SITE,
    Result,
    Sites,
    Surfer,
    Web,
    limited,
    page,
    redirect,
    shared_web,
    toolset,
    web,
)

# The longest that a page may take here, in seconds.
PATIENCE = 2


@pytest.fixture(scope="module")
def new_world(shared_web: Web) -> Callable[..., World]:
    """Makes servers that wait for no page for long."""
    return lambda: World(shared_web.config(more=f"[web.fetch]\nseconds = {PATIENCE}\n"))


def to(url: str) -> str:
    """A page that redirects there."""
    return f"https://{SITE}/to/{quote(url, safe='')}"


def arrives(results: list[Result]) -> list[str]:
    """Where each has arrived, or the code of its error."""

    def place(one: Result) -> str:
        if one.is_error:
            return one.code
        found = re.search(r"You are at (\S+)\.$", one.body)
        return str(one.document["title"]) + found[1] if found else one.body

    return [place(one) for one in results]


# --- what sites answer


def test_statuses(world: World, web: Web) -> None:
    statuses = [400, 401, 403, 404, 410, 418, 451, 500, 502, 503, 304]
    refused = Surfer(world).fetch(*(f"https://{SITE}/status/{one}" for one in statuses))
    for status, one in zip(statuses, refused, strict=True):
        assert one.code == "url_not_accessible" and f"status {status}" in one.error, one
        # What a page of an error says is nobody's page.
        assert "An error" not in one.error
    assert "There is no such page" in refused[3].error and "Try once more" in refused[7].error
    # Each was asked for once: a model tries again, and nobody else.
    assert len(web.asked()) == len(statuses)


def test_too_many_requests(world: World, web: Web) -> None:
    said = web.put("/busy", Response(b"", 429, [("retry-after", "17")]))
    unsaid = web.put("/busier", Response(b"", 429, [("retry-after", "<b>soon</b>")]))
    one, other = Surfer(world).fetch(said, unsaid)
    assert (one.code, other.code) == ("too_many_requests", "too_many_requests")
    assert "Try again after 17 seconds" in one.error and "Try again later" in other.error


def test_who_does_not_answer(world: World, web: Web) -> None:
    def drip(_request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            while True:
                yield b"drop "
                time.sleep(0.05)

        return page(pieces())

    def silent(_request: Request) -> Response:
        web.sites.wait()
        return page("late")

    def cut(_request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"<p>half"
            raise OSError

        return page(pieces())

    urls = [web.put("/drip", drip), web.put("/silent", silent), web.put("/cut", cut)]
    urls += [f"https://{OPAQUE}/", f"http://{OPAQUE}/", f"http://{CLOSED_PORT}/"]
    dripped, waited, half, *broken = Surfer(world).fetch(*urls)
    web.sites.gate.set()
    assert {one.code for one in (dripped, waited, half, *broken)} == {"url_not_accessible"}
    assert "not there in time" in dripped.error and "not there in time" in waited.error
    assert "in the middle of the page" in half.error
    for one, host in zip(broken, (OPAQUE, OPAQUE, CLOSED_PORT), strict=True):
        assert host in one.error or "not there in time" in one.error, one


def test_certificates(world: World, web: Web) -> None:
    hosts = (MISNAMED, EXPIRED, SELF_MADE)
    for host, one in zip(
        hosts, Surfer(world).fetch(*(f"https://{host}/" for host in hosts)), strict=True
    ):
        assert one.code == "url_not_accessible", one
        assert f"{host}: its certificate is not trusted" in one.error, one
        assert web.names[host].asked() == []


# --- redirects


def test_redirects_are_followed(world: World, web: Web) -> None:
    web.put("/a/relative", redirect("../b?c#d", 301))
    web.put("/a/other", redirect(f"//{OTHER}/there", 303))
    web.put("/a/fragment", redirect("#down", 307))
    urls = [
        f"https://{SITE}/a/relative",
        f"https://{SITE}/a/other",
        f"http://{SITE}/to/{quote(f'https://{BELOW}/deep', safe='')}",
        f"https://{SITE}/hops/10",
    ]
    assert arrives(Surfer(world).fetch(*urls)) == [
        f"{SITE}/b",
        f"{OTHER}/there",
        f"{BELOW}/deep",
        "arrived",
    ]


def test_redirects_that_lead_nowhere(world: World, web: Web) -> None:
    web.put("/ping", redirect("/pong"))
    web.put("/pong", redirect("/ping"))
    rows = {
        f"https://{SITE}/hops/11": "redirects more than 10 times",
        f"https://{SITE}/ping": "in a circle",
        web.put("/self", redirect("/self")): "in a circle",
        web.put("/self-with", redirect("#fragment", 308)): "in a circle",
        web.put("/lost", redirect(None)): "does not say where",
        web.put("/odd", redirect("https://[::1")): "does not say where",
        to(f"http://{SITE}/down"): "from https to http",
        to(f"https://user:word@{SITE}/x"): "a user or a password",
        to("file:///etc/passwd"): "only http and https",
        to("ftp://site.example.test/x"): "only http and https",
        to("data:text/html,hi"): "only http and https",
        to("javascript:alert(1)"): "only http and https",
    }
    for why, one in zip(rows.values(), Surfer(world).fetch(*rows), strict=True):
        assert one.code == "url_not_accessible" and why in one.error, (why, one)
    assert f"{SITE}/down" not in web.asked()
    (long,) = Surfer(world).fetch(web.put("/longer", redirect("/" + "x" * 3000)))
    assert long.code == "url_not_accessible" and "at most 2048" in long.error


def test_redirects_obey_every_rule(world: World, web: Web, client: anthropic.Anthropic) -> None:
    port = web.site.port
    away = [
        f"http://127.0.0.1:{port}/x",
        f"http://[::1]:{port}/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/x",
        f"{world.url}/v1/agents",
        "http://10.0.0.1/",
    ]
    plain = [f"http://{SITE}/to/{quote(url, safe='')}" for url in away]
    refused = Surfer(world).fetch(*plain)
    assert [one.code for one in refused] == ["url_not_allowed"] * len(refused)
    assert all("the page redirects, and there: " in one.error for one in refused), refused
    # The agent's lists, and the environment's.
    blocked = Surfer(world, tools=[toolset(blocked_domains=[OTHER])])
    allowed = Surfer(world, tools=[toolset(allowed_domains=[SITE])])
    inside = Surfer(world, environment=limited(client, SITE))
    web.clear()
    for surfer in (blocked, allowed, inside):
        one, other = surfer.fetch(to(f"https://{OTHER}/no"), to(f"https://{SITE}/yes"))
        assert one.code == "url_not_allowed" and OTHER in one.error, one
        assert arrives([other]) == [f"{SITE}/yes"]
    assert not [one for one in web.asked() if one.startswith(OTHER)]


# --- robots


def test_robots(world: World, web: Web) -> None:
    rows: list[tuple[str, bool]] = [
        (f"https://{SITE}/any", True),
        ("https://shut.example.test/any", False),
        ("https://shut.example.test/", False),
        ("https://shut-to-us.example.test/public", True),
        ("https://shut-to-us.example.test/private/x", False),
        ("https://shut-to-us.example.test/privately", False),
        ("https://shut-to-us.example.test/private/but/x", True),
        ("https://shut-to-us.example.test/%70rivate", False),
        ("https://shut-to-others.example.test/any", True),
        ("https://patterns.example.test/a/b.pdf", False),
        ("https://patterns.example.test/a/b.pdf?x", True),
        ("https://patterns.example.test/caf%C3%A9", False),
        ("https://patterns.example.test/cafe", True),
        ("https://broken.example.test/any", False),
        ("https://forbidding.example.test/any", True),
        ("https://moved.example.test/no/x", False),
        ("https://moved.example.test/yes", True),
        ("https://html.example.test/any", True),
    ]
    results = Surfer(world).fetch(*(url for url, _ in rows))
    for (url, allowed), one in zip(rows, results, strict=True):
        assert one.is_error is not allowed, (url, one)
        if not allowed:
            assert one.code == "url_not_allowed" and "robots.txt" in one.error, one
    read = {one.partition("/")[2] for one in web.asked()} - {"moved-robots"}
    assert len([one for one in web.asked() if "/moved-robots" not in one]) == sum(
        allowed for _, allowed in rows
    ), read
    # A site is asked once, whoever wants its pages.
    assert web.robots_asked().count("shut.example.test") <= 2
    web.clear()
    Surfer(world).fetch("https://shut.example.test/again", "https://patterns.example.test/again")
    assert web.robots_asked() == []
    # A redirect leads to no page that must not be read.
    (led,) = Surfer(world).fetch(to("https://shut.example.test/secret"))
    assert led.code == "url_not_allowed"
    assert "there: the robots.txt of shut.example.test" in led.error
    assert "shut.example.test/secret" not in web.asked()


def test_robots_that_never_end(world: World, web: Web) -> None:
    """After five redirects it is as if there were none (RFC 9309, 2.3.1.2)."""
    (one,) = Surfer(world).fetch("https://endless.example.test/any")
    assert arrives([one]) == ["endless.example.test/any"]
    assert len(web.robots_asked()) == 6


def test_robots_may_be_left_alone(web: Web) -> None:
    config = '[web.fetch]\nrobots = false\nuser_agent = "our-reader/2.0 (+https://example.com)"\n'
    world = World(web.config(more=config))
    try:
        world.begin()
        (one,) = Surfer(world).fetch("https://shut.example.test/any")
        assert not one.is_error and web.robots_asked() == []
        assert web.site.requests[-1].header("user-agent") == "our-reader/2.0 (+https://example.com)"
    finally:
        world.close()


# --- addresses

# Addresses of the public internet, which are played here.
PUBLIC, SECOND = "93.184.216.34", "151.101.1.69"
METADATA = "169.254.169.254"
PRIVATE = ("10.0.0.7", "172.16.5.4", "192.168.1.1", "169.254.1.1", "100.64.0.1", "100.100.100.200")
HERE = "127.0.0.5"
PUBLIC_NAME = "public.example.org"
REBINDING = "rebinding.example.org"
NAMES = {
    PUBLIC_NAME: [PUBLIC],
    "second.example.org": [SECOND],
    # The first question is for its robots.txt, the second for its page.
    REBINDING: [PUBLIC, METADATA, PRIVATE[0], HERE],
    "private.example.org": [PRIVATE[0]],
    "metadata.example.org": [METADATA],
    "loopback.example.org": [HERE],
}


@dataclass
class Scene:
    """A network in which everything that could be read really listens."""

    world: World
    resolver: Resolver
    origins: dict[tuple[str, int], Origin] = field(default_factory=dict)

    def came(self, *addresses: str) -> list[tuple[str, int]]:
        """Which of these addresses somebody has connected to."""
        return [at for at, one in self.origins.items() if at[0] in addresses and one.connections]

    def forbidden(self) -> list[tuple[str, int]]:
        """Where somebody came who must not."""
        return self.came(*PRIVATE, METADATA, HERE)


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """Sets it up, and shows that each can be reached."""
    with network(NAMES, PUBLIC, SECOND, METADATA, *PRIVATE) as resolver:
        with TemporaryDirectory() as folder:
            web = Web(Path(folder) / "web")
            certificate = web.authority.issue_cert(*NAMES, PUBLIC).configure_cert
            origins = {
                (address, port): Origin(
                    Sites(), certificate=certificate, alpn=("http/1.1",), address=(address, port)
                )
                for address in (PUBLIC, SECOND, METADATA, *PRIVATE, HERE)
                for port in (80, 443, 8080, 8081)
            }
            for at, one in origins.items():
                with socket.create_connection(at, timeout=5) as stream:
                    stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert stream.recv(12) == b"HTTP/1.1 200", at
                one.clear()
            world = World(web.config())
            world.begin()
            try:
                yield Scene(world, resolver, origins)
                assert world.settle() == []
            finally:
                world.close()


# Addresses that must not be read, in every way in which somebody reads them.
_WHOLE = int.from_bytes(socket.inet_aton(METADATA))
_INSIDE = int.from_bytes(socket.inet_aton(PRIVATE[0]))
FORMS = [
    *(METADATA, f"{METADATA}.", str(_WHOLE), f"0x{_WHOLE:x}", f"0{_WHOLE:o}"),
    *("0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "169.16689662"),
    *(str(_INSIDE), f"0x{_INSIDE:x}", "10.7", "012.0.0.7", "10.0.7", "0012.0x0.0.07"),
    *(f"[::ffff:{METADATA}]", "[::ffff:a9fe:a9fe]", f"[64:ff9b::{METADATA}]"),
    *(f"[::{METADATA}]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "[::1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[fe80::1]", "[ff02::1]", "[64:ff9b:1::a00:7]"),
    *("0.0.0.0", "0", "127.1", "2130706433", "localhost", "localhost.", "a.localhost"),
    *("①⑥⑨.254.169.254", "169。254。169。254", "１２７.0.0.1", "%31%32%37.0.0.1"),
    *PRIVATE,
    *("255.255.255.255", "224.0.0.1", "192.0.0.170", "198.18.0.1", "240.0.0.1"),
    *("private.example.org", "metadata.example.org", "LOOPBACK.example.org."),
]


@in_a_namespace
def test_only_what_is_public_is_read() -> None:
    with scene() as here:
        surfer = Surfer(here.world)
        control = [f"http://{PUBLIC}/a", "http://1572395042/b", f"https://{PUBLIC_NAME}/c"]
        assert [one.is_error for one in surfer.fetch(*control)] == [False] * 3
        assert here.came(PUBLIC) == [(PUBLIC, 80), (PUBLIC, 443)]
        urls = [f"http://{form}/x" for form in FORMS]
        urls += [f"https://{PRIVATE[0]}/x", f"http://{METADATA}:8080/x", f"http://{HERE}:8081/x"]
        urls += [f"http://{PUBLIC_NAME}/to/{quote(f'http://{one}/x', safe='')}" for one in FORMS]
        for url, one in zip(urls, surfer.fetch(*urls), strict=True):
            # It is the guard that refuses, and not that nobody has shown it or is there.
            absent = {"url_not_accessible"} if "localhost" in url else set()
            assert one.code in {"url_not_allowed", *absent}, (url, one)
        assert here.forbidden() == []

        # A name that changes its mind gets nobody anywhere.
        (rebound,) = Surfer(here.world).fetch(f"http://{REBINDING}/x")
        assert rebound.code == "url_not_allowed", rebound
        assert here.resolver.asked.count(REBINDING) >= 2 and here.forbidden() == []
        (lost,) = Surfer(here.world).fetch("https://nobody.example.org/")
        assert lost.code == "url_not_accessible" and "has no address" in lost.error

        # Nor are there pages at any port.
        rows = {
            f"http://{PUBLIC_NAME}:8080/x": True,
            f"http://{PUBLIC_NAME}:443/x": True,
            f"http://{PUBLIC_NAME}:80/x": True,
            f"http://{PUBLIC_NAME}:8081/x": False,
            f"http://{PUBLIC_NAME}:22/x": False,
            f"http://{PUBLIC_NAME}:6379/x": False,
            f"http://{PUBLIC_NAME}/to/{quote(f'http://{PUBLIC_NAME}:8081/x', safe='')}": False,
        }
        for (url, read), one in zip(rows.items(), surfer.fetch(*rows), strict=True):
            assert one.is_error is not read, (url, one)
            if not read:
                assert one.code == "url_not_allowed" and "a port at which no pages" in one.error
        assert (PUBLIC, 8081) not in here.came(PUBLIC)


def test_what_is_no_page_of_the_web(world: World, web: Web) -> None:
    urls = [
        *(f"https://user:word@{SITE}/", f"https://user@{SITE}/", f"http://@{SITE}:word@{OTHER}/"),
        *("file:///etc/passwd", "ftp://site.example.test/", "gopher://site.example.test/"),
        *("data:text/html,hi", "javascript:alert(1)", "about:blank", "ws://site.example.test/"),
        *(f"view-source:https://{SITE}/", "https://", "//site.example.test/x", "/x", ""),
        *(f"https:\\\\user@{SITE}", "https://a b.example.test/", "http://[::1", "http://a:99999/"),
    ]
    results = Surfer(world).fetch(*urls, shown="look at " + " ".join(urls))
    assert [one.code for one in results] == ["invalid_tool_input"] * len(urls)
    assert web.asked() == [] and web.robots_asked() == []
    bad: list[object] = [None, 1, ["https://site.example.test/"], {"url": "x"}]
    surfer = Surfer(world)
    told = surfer.call(*(("web_fetch", {"url": one}) for one in bad), ("web_fetch", {}))
    assert [one.code for one in told] == ["invalid_tool_input"] * 5
    long = f"https://{SITE}/{'x' * 2048}"
    (one,) = Surfer(world).fetch(long)
    assert one.code == "url_too_long", one
