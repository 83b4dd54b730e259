"""The web of the tests: sites on loopback with pages, robots.txt and redirects of their own, a
search engine that speaks as each of the known ones does, and agents that read and search in it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anthropic
import pytest

from origin import PATIENCE, Origin, Request, Response
from origins import Origins
from support import calls, text, turn, wire
from world import World

SITE = "site.example.test"
OTHER = "other.example.test"
BELOW = "deep.site.example.test"
# Sites whose robots.txt says something; those above have none.
ROBOTS: dict[str, Response] = {
    "shut.example.test": Response(b"User-agent: *\nDisallow: /\n"),
    "shut-to-us.example.test": Response(
        b"User-agent: Posthouse-User\nDisallow: /private\nAllow: /private/but\n\n"
        b"User-agent: *\nAllow: /\n"
    ),
    "shut-to-others.example.test": Response(
        b"user-agent: *\ndisallow: /\n\nuser-agent: posthouse-user\nallow: /\n"
    ),
    "patterns.example.test": Response(
        "\ufeffUser-agent: *\nDisallow: /*.pdf$\nDisallow: /caf\u00e9\n".encode()
    ),
    "broken.example.test": Response(b"", 503),
    "forbidding.example.test": Response(b"no", 403),
    "moved.example.test": Response(b"", 301, [("location", f"https://{OTHER}/moved-robots")]),
    "endless.example.test": Response(b"", 302, [("location", "/robots.txt?again")]),
    "html.example.test": Response(
        b"<html>User-agent: *\nDisallow: /</html>", headers=[("content-type", "text/html")]
    ),
}
# What answers for the search engines.
ENGINE = "engine.example.test"
HTML = [("content-type", "text/html; charset=utf-8")]
PLAIN = [("content-type", "text/plain; charset=utf-8")]

Page = Response | Callable[[Request], Response]


def page(
    body: str | bytes | Iterable[bytes], kind: str | None = "text/html", **headers: str
) -> Response:
    """A page."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    given = [] if kind is None else [("content-type", kind)]
    return Response(body.encode() if isinstance(body, str) else body, 200, given + named)


def redirect(location: str | None, status: int = 302) -> Response:
    """A redirect. A location goes out in UTF-8."""
    sent = [] if location is None else [("location", location.encode().decode("latin-1"))]
    return Response(b"", status, sent)


class Sites:
    """The handler of all sites: what stands at a path, whatever the host.

    `/to/URL` redirects, `/hops/N` redirects so many times, and what is unknown says where it is.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.gate = threading.Event()

    def __call__(self, request: Request) -> Response:
        host = (request.header("host") or "").partition(":")[0]
        if request.path == "/robots.txt":
            return ROBOTS.get(host, Response(b"none", 404))
        if request.path == "/moved-robots":
            return Response(b"User-agent: *\nDisallow: /no\n")
        found = self.pages.get(request.path)
        if found is not None:
            return found(request) if callable(found) else found
        kind, _, rest = request.path.removeprefix("/").partition("/")
        if kind == "to":
            return redirect(unquote(rest))
        if kind == "hops":
            return page("arrived") if rest == "0" else redirect(f"/hops/{int(rest) - 1}")
        if kind == "status":
            return Response(b"<h1>An error</h1>", int(rest), HTML)
        return page(f"<title>{host}</title><p>You are at {request.path}.</p>")

    def wait(self) -> None:
        """Holds an answer back until the gate is opened."""
        self.gate.wait(PATIENCE)


class Engine:
    """The handler of a search engine. Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Response = Response(b"{}")

    def finds(self, answer: Any) -> None:
        """What is answered from now on."""
        kind = [("content-type", "application/json")]
        self.answer = Response(json.dumps(answer).encode(), headers=kind)

    def __call__(self, request: Request) -> Response:
        return self.answer


class Web(Origins):
    """The origins of all tests, with sites and an engine beside them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sites, self.searching = Sites(), Engine()
        hosts = (SITE, OTHER, BELOW, *ROBOTS)
        # Whoever reads pages speaks HTTP/1.1.
        self.site = self._origin(self.sites, *hosts, alpn=("http/1.1",))
        self.engine = self._origin(self.searching, ENGINE, alpn=("http/1.1",))
        self.names |= {**dict.fromkeys(hosts, self.site), ENGINE: self.engine}

    def put(self, path: str, found: Page) -> str:
        """Puts a page onto all sites; returns its address on the first."""
        self.sites.pages[path] = found
        return f"https://{SITE}{path}"

    def asked(self) -> list[str]:
        """The pages that were asked for, with their hosts and without robots.txt."""
        return [
            f"{one.header('host')}{one.target}"
            for one in self.site.requests
            if one.path != "/robots.txt"
        ]

    def robots_asked(self) -> list[str]:
        """The hosts whose robots.txt was asked for."""
        return [one.header("host") or "" for one in self.site.requests if one.path == "/robots.txt"]


class Surfer:
    """A session that reads and searches what a test says, and the results as they are on the
    wire."""

    def __init__(
        self,
        world: World,
        *,
        tools: list[Any] | None = None,
        environment: str | None = None,
        session: str | None = None,
        **agent: Any,
    ) -> None:
        self.world, self.client = world, world.client()
        given = [toolset()] if tools is None else tools
        self.session = session or world.session(environment=environment, tools=given, **agent)
        self.events: list[Any] = []

    def fetch(self, *urls: str, shown: str | None = None) -> list[Result]:
        """Reads pages, all in one turn. `shown` is what the user says; all addresses by default."""
        told = " ".join(urls) if shown is None else shown
        return self.call(*(("web_fetch", {"url": url}) for url in urls), say=told)

    def search(self, *queries: str) -> list[Result]:
        """Searches, all in one turn."""
        return self.call(*(("web_search", {"query": query}) for query in queries))

    def call(self, *of: tuple[str, dict[str, Any]], say: str = "go") -> list[Result]:
        """Calls tools, all in one turn; results in the order of the calls."""
        self.world.model.append(calls(*of), text("done"))
        self.events = turn(self.client, self.session, say)
        return self.results()

    def results(self) -> list[Result]:
        """The results of the last turn, in the order of its calls."""
        told = [wire(event) for event in self.events]
        by_call = {one["tool_use_id"]: one for one in told if one["type"] == "agent.tool_result"}
        return [Result(by_call[one["id"]]) for one in told if one["type"] == "agent.tool_use"]


class Result:
    """A result of a tool of the web."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.blocks: list[dict[str, Any]] = event["content"]
        self.is_error: bool = event["is_error"]

    def __repr__(self) -> str:
        return f"{'ERROR ' if self.is_error else ''}{json.dumps(self.blocks)[:2000]}"

    @property
    def error(self) -> str:
        """What is wrong: the whole text."""
        assert self.is_error, self
        (block,) = self.blocks
        assert block["type"] == "text", self
        words = block["text"]
        assert isinstance(words, str)
        return words

    @property
    def code(self) -> str:
        """What is wrong, in one word."""
        found = re.fullmatch(r"Web (?:fetch|search) error: (\w+) — .+\.", self.error)
        assert found, self.error
        return found[1]

    @property
    def document(self) -> dict[str, Any]:
        """The page, which is all there is."""
        assert not self.is_error, self
        (block,) = self.blocks
        assert block["type"] == "document" and block["context"] is None, self
        return block

    @property
    def page(self) -> str:
        """The text of the page."""
        source = self.document["source"]
        assert set(source) == {"type", "media_type", "data"}, source
        assert (source["type"], source["media_type"]) == ("text", "text/plain"), source
        words = source["data"]
        assert isinstance(words, str)
        return words

    @property
    def body(self) -> str:
        """The text of the page without what stands before it."""
        return re.sub(r"\A---\n.*?\n---\n\n", "", self.page, flags=re.DOTALL)

    @property
    def hits(self) -> list[dict[str, Any]]:
        """What a search has found."""
        assert not self.is_error, self
        assert all(block["type"] == "search_result" for block in self.blocks), self
        return self.blocks


def toolset(*configs: dict[str, Any], **fetch: Any) -> dict[str, Any]:
    """A toolset; `fetch` are options of `web_fetch`."""
    own = [{"name": "web_fetch", **fetch}] if fetch else []
    return {"type": "agent_toolset_20260401", "configs": [*configs, *own]}


def limited(client: anthropic.Anthropic, *hosts: str, **more: Any) -> str:
    """Makes an environment that reaches these hosts alone; returns its id."""
    networking: Any = {"type": "limited", "allowed_hosts": list(hosts), **more}
    config: Any = {"type": "cloud", "networking": networking}
    return client.beta.environments.create(name="limited", config=config).id


@pytest.fixture(scope="module")
def shared_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The web of a module."""
    made = Web(tmp_path_factory.mktemp("web"))
    yield made
    made.close()


@pytest.fixture
def web(shared_web: Web) -> Web:
    """The same, and nobody has come yet."""
    shared_web.clear()
    shared_web.sites.pages.clear()
    shared_web.sites.gate.clear()
    return shared_web


@pytest.fixture(scope="module")
def new_world(shared_web: Web) -> Callable[..., World]:
    """Makes servers that know it."""
    return lambda more="": World(shared_web.config(more=more))
