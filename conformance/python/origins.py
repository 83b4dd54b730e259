"""The small world that sandboxes connect to: origins on loopback behind names that end in
`.example.test`, with an authority of their own. The server's configuration fixes each name; nothing
else is ever dialled.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import trustme

import registries
from origin import PATIENCE, Handler, Origin, Request, Response, Wire

# Who may fetch the closed repository.
GIT_USER = "builder"
GIT_TOKEN = "git-token-of-the-closed-repository-0123456789"

API = "api.example.test"
# At the same origin and in the same certificate as `API`.
TWIN = "twin.example.test"
APEX = "wild.example.test"
BELOW = ("a.wild.example.test", "a.b.wild.example.test")
BLOCKED = "blocked.example.test"
PINNED = "pinned.example.test"
OPAQUE = "opaque.example.test"
MISNAMED = "misnamed.example.test"
EXPIRED = "expired.example.test"
SELF_MADE = "self-made.example.test"
CLOSED_PORT = "silent.example.test"
GIT = "git.example.test"
PYPI = "pypi.example.test"
NPM = "npm.example.test"
MCP = "mcp.example.test"
TOKENS = "tokens.example.test"

# What large downloads consist of, over and over.
_BLOCK = hashlib.shake_256(b"large").digest(1 << 16)


def pieces(length: int) -> Iterator[bytes]:
    """A large body."""
    while length > 0:
        yield _BLOCK[:length]
        length -= len(_BLOCK)


def digest_of(length: int) -> str:
    """The SHA-256 of a large body."""
    found = hashlib.sha256()
    for piece in pieces(length):
        found.update(piece)
    return found.hexdigest()


class Web:
    """The handler of usual origins.

    Most paths are answered with `ok` and nothing of what came: what a door has put into a request
    is looked for in the origin's record, and does not get back to the sandbox. `/echo` says it all.
    """

    def __init__(self) -> None:
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self.origin: Origin | None = None

    def gate(self, key: str) -> threading.Event:
        """What `/stream/KEY` waits for after its first piece."""
        with self._lock:
            return self._gates.setdefault(key, threading.Event())

    def __call__(self, request: Request) -> Response:
        kind, _, rest = request.path.removeprefix("/").partition("/")
        if kind == "echo":
            return _echo(request)
        if kind == "stream":
            return Response(self._stream(rest))
        if kind == "go":
            self.gate(rest).set()
            return Response(b"gone\n")
        if kind == "seen":
            assert self.origin is not None
            return Response(json.dumps(rest.encode() in self.origin.received()).encode())
        if kind == "large":
            return Response(pieces(int(rest)))
        if kind == "sink":
            told = {
                "length": len(request.body),
                "sha256": hashlib.sha256(request.body).hexdigest(),
            }
            return Response(json.dumps(told).encode())
        if kind == "to":
            return Response(b"", 302, [("location", unquote(rest))])
        if kind == "401":
            return Response(b"who?", 401, [("www-authenticate", "Bearer")])
        if kind == "coalesce":
            # Tells an HTTP/2 client that other names may come over this connection.
            return Response(b"ok\n", headers=[("alt-svc", f'h2="{BLOCKED}:443"')])
        return Response(b"ok\n")

    def _stream(self, key: str) -> Iterator[bytes]:
        yield b"first\n"
        said = self.gate(key).wait(PATIENCE)
        yield b"second\n" if said else b"nobody has asked for more\n"


def _echo(request: Request) -> Response:
    told = {
        "protocol": request.protocol,
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": request.body.decode("latin-1"),
        "sni": request.connection.sni,
        "tls": request.connection.tls,
    }
    return Response(json.dumps(told).encode(), headers=[("content-type", "application/json")])


def opaque(wire: Wire) -> None:
    """What is no HTTP: says each line back."""
    wire.send(b"* hello, this is a protocol of lines\n")
    while True:
        wire.send(b"you said " + wire.until(b"\n"))


@dataclass
class Authorizations:
    """What the MCP server and the token endpoint of the tests take and give."""

    # Tokens that the MCP server takes.
    valid: set[str] = field(default_factory=set)
    # What the token endpoint gives next: access and refresh token. None left: 400.
    next: list[tuple[str, str]] = field(default_factory=list)
    # Answers of both are refusals with this status, when it is set, which repeat what came.
    spiteful: int | None = None

    def mcp(self, request: Request) -> Response:
        """An MCP server over Streamable HTTP, in plain JSON."""
        given = (request.header("authorization") or "").removeprefix("Bearer ")
        given = request.header("x-mcp-key") or given
        shown = json.dumps([request.headers, request.body.decode("latin-1")]).encode()
        kind = [("content-type", "application/json")]
        if self.spiteful is not None:
            return Response(shown, self.spiteful, kind)
        if given not in self.valid:
            return Response(shown, 401, [("www-authenticate", "Bearer"), *kind])
        if request.method != "POST":
            return Response(b"", 405)
        call = json.loads(request.body)
        if "id" not in call:
            return Response(b"", 202)
        result: dict[str, Any] = {"tools": []}
        if call["method"] == "initialize":
            result = {
                "protocolVersion": call["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "test", "version": "1"},
            }
        body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
        return Response(body, headers=kind)

    def token(self, request: Request) -> Response:
        """A token endpoint."""
        shown = json.dumps([request.headers, request.body.decode("latin-1")]).encode()
        kind = [("content-type", "application/json")]
        if self.spiteful is not None:
            return Response(shown, self.spiteful, kind)
        form = parse_qs(request.body.decode())
        if not self.next or form.get("grant_type") != ["refresh_token"]:
            refusal = {"error": "invalid_grant", "error_description": shown.decode()}
            return Response(json.dumps(refusal).encode(), 400, kind)
        access, refresh = self.next.pop(0)
        self.valid.add(access)
        told = {"access_token": access, "refresh_token": refresh, "expires_in": 3600}
        return Response(json.dumps({**told, "token_type": "Bearer"}).encode(), headers=kind)


class Origins:
    """All of them, and the names by which a server knows them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA(organization_name="origins of the tests")
        self.roots = folder / "origins.pem"
        self.authority.cert_pem.write_to_path(str(self.roots))
        self.authorizations = Authorizations()
        self.web = Web()
        self.main = self._origin(self.web, API, TWIN, APEX, *BELOW)
        self.web.origin = self.main
        self.blocked = self._origin(Web(), BLOCKED)
        self.pinned = self._origin(Web(), PINNED)
        self.opaque = self._origin(None, OPAQUE, raw=opaque)
        self.git = self._origin(registries.git(folder / "git", GIT_USER, GIT_TOKEN), GIT)
        self.pypi = self._origin(registries.pypi(), PYPI)
        self.npm = self._origin(registries.npm(f"https://{NPM}"), NPM)
        self.mcp = self._origin(self.authorizations.mcp, MCP)
        self.tokens = self._origin(self.authorizations.token, TOKENS)
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        self.misnamed = self._origin(Web(), "somebody-else.example.test")
        expired = self.authority.issue_cert(
            EXPIRED, not_before=past - datetime.timedelta(days=9), not_after=past
        )
        self.expired = Origin(Web(), certificate=expired.configure_cert)
        self.self_made = Origin(
            Web(), certificate=trustme.CA().issue_cert(SELF_MADE).configure_cert
        )
        self.names: dict[str, Origin] = {
            **dict.fromkeys((API, TWIN, APEX, *BELOW), self.main),
            BLOCKED: self.blocked,
            PINNED: self.pinned,
            OPAQUE: self.opaque,
            MISNAMED: self.misnamed,
            EXPIRED: self.expired,
            SELF_MADE: self.self_made,
            GIT: self.git,
            PYPI: self.pypi,
            NPM: self.npm,
            MCP: self.mcp,
            TOKENS: self.tokens,
        }

    def _origin(self, handler: Handler | None, *names: str, **settings: Any) -> Origin:
        certificate = self.authority.issue_cert(*names).configure_cert
        return Origin(handler, certificate=certificate, **settings)

    def config(self, *, egress: str = "", more: str = "") -> str:
        """The server's configuration; `egress` stands in the table of that name."""
        fixed = "".join(
            f'"{name}" = "127.0.0.1:{one.port}"\n' for name, one in self.names.items()
        )
        return (
            f"[egress]\ntrusted_roots = {json.dumps(str(self.roots))}\n{egress}\n"
            # Nobody listens there.
            f'[egress.resolve]\n{fixed}"{CLOSED_PORT}" = "127.0.0.1:9"\n{more}\n'
        )

    def clear(self) -> None:
        """All forget who has come."""
        for one in self.names.values():
            one.clear()

    def received(self, *, without: tuple[str, ...] = ()) -> bytes:
        """All that was sent to any of them, but to those of these names."""
        spared = {id(self.names[name]) for name in without}
        every = {id(one): one for one in self.names.values() if id(one) not in spared}
        return b"\n".join(one.received() for one in every.values())

    def close(self) -> None:
        """Ends all."""
        for one in {id(one): one for one in self.names.values()}.values():
            one.close()
