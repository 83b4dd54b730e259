"""A server made with the official Python SDK for MCP: over HTTP at every revision that the SDK knows,
or over its input and output.

It is a program of its own, with nothing of the tests in it: sandboxes run it, too. Over HTTP it serves
each way of connecting at a path of its own, and `/seen` tells what it has noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from typing import Any, Literal

import anyio
import mcp.server.runner
import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel

# What a call was begun and left with, by tool.
SEEN: dict[str, int] = {}


class Weather(BaseModel):
    """What a structured result consists of."""

    city: str
    degrees: float


class Choice(BaseModel):
    """What the user is asked for."""

    colour: str = "blue"


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0abc")) + chunk(b"IEND", b"")


PNG = base64.b64encode(_png()).decode()
PDF = base64.b64encode(b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n").decode()


def note(what: str) -> None:
    """Keeps that something has happened."""
    SEEN[what] = SEEN.get(what, 0) + 1


def made(name: str) -> MCPServer:
    """The server."""
    server = MCPServer(name)
    looks = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True)

    @server.tool(annotations=looks)
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def count() -> str:
        """Says how often it was called."""
        note("count")
        return str(SEEN["count"])

    @server.tool(annotations=looks)
    def weather(city: str) -> Weather:
        """Says how the weather is, in a structure."""
        return Weather(city=city, degrees=21.5)

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ToolError("it can't be done")

    @server.tool(structured_output=False)
    def blocks() -> list[types.ContentBlock]:
        """Gives one block of each kind."""
        notes = types.TextResourceContents(
            uri="test://notes", mime_type="text/plain", text="what the notes say"
        )
        paper = types.BlobResourceContents(
            uri="test://paper.pdf", mime_type="application/pdf", blob=PDF
        )
        odd = types.BlobResourceContents(
            uri="test://odd", mime_type="application/octet-stream", blob="AAEC"
        )
        link = types.ResourceLink(
            type="resource_link", uri="test://further", name="further", description="There is more."
        )
        return [
            types.TextContent(type="text", text="some words"),
            types.ImageContent(type="image", data=PNG, mime_type="image/png"),
            types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
            types.EmbeddedResource(type="resource", resource=notes),
            types.EmbeddedResource(type="resource", resource=paper),
            types.EmbeddedResource(type="resource", resource=odd),
            link,
        ]

    @server.tool()
    async def slow(seconds: float, ctx: Context[Any, Any]) -> str:
        """Takes its time, and reports how far it is."""
        note("slow")
        try:
            for step in range(10):
                await ctx.report_progress(step, 10, f"step {step}")
                await anyio.sleep(seconds / 10)
        except BaseException:
            note("slow left")
            raise
        return "done"

    @server.tool()
    async def ask(ctx: Context[Any, Any]) -> str:
        """Asks the user for a colour."""
        try:
            answer = await ctx.elicit("Which colour?", Choice)
        except Exception as error:
            return f"nobody was asked: {type(error).__name__}"
        return f"{answer.action}"

    return server


def watched(inner: Any, way: str, newest: str | None) -> Any:
    """The same application; the revisions of its clients are noted. With a newest revision, it is as an
    SDK serves it that does not know newer ones: it has never heard of their header."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = []
            for name, value in scope["headers"]:
                if name == b"mcp-protocol-version":
                    if newest is not None and value.decode() > newest:
                        continue
                    note(f"{way} {value.decode()}")
                headers.append((name, value))
            scope = {**scope, "headers": headers}
        await inner(scope, receive, send)

    return application


def hold_to(newest: str) -> None:
    """Has the process agree to no newer handshake."""
    known = tuple(one for one in mcp.server.runner.HANDSHAKE_PROTOCOL_VERSIONS if one <= newest)
    mcp.server.runner.HANDSHAKE_PROTOCOL_VERSIONS = known  # type: ignore[misc]
    mcp.server.runner.LATEST_HANDSHAKE_VERSION = newest  # type: ignore[misc]


async def serve(host: str, newest: str | None) -> None:
    """Serves over HTTP until the process is ended."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    if newest is not None:
        hold_to(newest)
    # The SDK's own protection against other names stays on.
    names = TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=[host, f"{host}:*", "127.0.0.1:*"]
    )
    ways: dict[str, dict[str, Any]] = {
        "events": {},
        "json": {"json_response": True},
        "stateless": {"stateless_http": True},
    }
    servers = {way: made(f"python {way}") for way in ways}
    mounts: list[Any] = []
    for way, server in servers.items():
        app = server.streamable_http_app(transport_security=names, **ways[way])
        mounts.append(Mount(f"/{way}", app=watched(app, way, newest)))
    sse = watched(made("python sse").sse_app(transport_security=names), "old", newest)

    async def seen(_request: Request) -> JSONResponse:
        return JSONResponse(SEEN)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for server in servers.values():
                await stack.enter_async_context(server.session_manager.run())
            yield

    application = Starlette(
        routes=[Route("/seen", seen), *mounts, Mount("/old", app=sse)], lifespan=lifespan
    )
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    settings = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(settings).serve(sockets=[listener])


def main() -> None:
    """Serves, as the command line says."""
    parser = argparse.ArgumentParser()
    transport: list[Literal["http", "stdio"]] = ["http", "stdio"]
    parser.add_argument("transport", choices=transport)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--newest")
    given = parser.parse_args()
    if given.transport == "http":
        asyncio.run(serve(given.host, given.newest))
        return
    if given.newest is not None:
        hold_to(given.newest)
    print(json.dumps({"variables": sorted(os.environ)}), file=sys.stderr)
    made("python stdio").run("stdio")


if __name__ == "__main__":
    main()
