"""Agents that a server offers as tools of its own MCP server, each with a model that plays a part, and a
relay for clients that can't send a key.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from support import calls, failing, text
from world import API_KEY, World

# Where a server is an MCP server.
PATH = "/posthouse/v1/mcp"

# An address that nobody has shown: fetching it is refused at once, and needs nothing.
UNSEEN = {"url": "https://unseen.example/"}
FETCHING: Any = {
    "type": "agent_toolset_20260401",
    "default_config": {"enabled": False},
    "configs": [{"name": "web_fetch", "enabled": True}],
}
ASKING: Any = {
    "type": "agent_toolset_20260401",
    "default_config": {"enabled": False},
    "configs": [
        {"name": "web_fetch", "enabled": True, "permission_policy": {"type": "always_ask"}}
    ],
}


def expose(world: World, name: str, *replies: dict[str, Any], **settings: Any) -> str:
    """Makes an agent that is the tool `name`, whose model plays those replies for ever, the first that
    fits; returns its id."""
    mark = f"You play {name}."
    world.model.append(
        *(
            {**reply, "times": 0, "when": {**reply.get("when", {}), "system_contains": mark}}
            for reply in replies
        )
    )
    exposed = {"name": name, "environment_id": world.environment()}
    return world.agent(
        name=name, system=mark, extra_body={"posthouse": {"mcp_tool": exposed}}, **settings
    )


def asks_first(world: World, name: str) -> str:
    """Exposes an agent that makes one call for which it needs leave, then ends."""
    answered = {"has_tool_result_for": "web_fetch"}
    return expose(
        world,
        name,
        text("I have my answer.", when=answered),
        calls(("web_fetch", UNSEEN)),
        tools=[ASKING],
    )


def chatters(world: World, name: str) -> str:
    """Exposes an agent that says something, calls a tool and says something else."""
    answered = {"has_tool_result_for": "web_fetch"}
    call = {"tool_use": {"name": "web_fetch", "input": UNSEEN}}
    return expose(
        world,
        name,
        text("And now I am done.", when=answered),
        {"steps": [{"text": "First I look."}, call]},
        tools=[FETCHING],
    )


def fails(world: World, name: str) -> str:
    """Exposes an agent whose model always refuses the request."""
    return expose(world, name, failing(400, message="nothing doing"))


class KeyRelay:
    """Passes requests on to a server, with a key, and with a message to the agent where a call of a tool
    that begins with `test_` has none: the suite's tools take no arguments.

    Everything else goes through as it is, in both directions.
    """

    def __init__(self, world: World) -> None:
        host, port = world.url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{PATH}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for work in (_pass_requests, _pass_answers):
                threading.Thread(target=work, args=(client, server), daemon=True).start()


def _pass_requests(client: socket.socket, server: socket.socket) -> None:
    seen = client.makefile("rb")
    try:
        while first := seen.readline():
            lines = [first]
            while (line := seen.readline()) not in (b"\r\n", b""):
                lines.append(line)
            length = 0
            for line in lines:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = _with_message(seen.read(length))
            kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
            head = [*kept, b"x-api-key: " + API_KEY.encode() + b"\r\n"]
            if length:
                head.append(b"content-length: %d\r\n" % len(body))
            server.sendall(b"".join(head) + b"\r\n" + body)
    except OSError:
        pass
    finally:
        _end(client, server)


def _with_message(body: bytes) -> bytes:
    try:
        request = json.loads(body)
        parameters = request["params"]
        is_ours = request["method"] == "tools/call" and parameters["name"].startswith("test_")
    except (ValueError, KeyError, TypeError, AttributeError):
        return body
    if not is_ours:
        return body
    parameters["arguments"] = {"message": "Go on.", **(parameters.get("arguments") or {})}
    return json.dumps(request).encode()


def _pass_answers(client: socket.socket, server: socket.socket) -> None:
    try:
        while data := server.recv(65536):
            client.sendall(data)
    except OSError:
        pass
    finally:
        _end(client, server)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
