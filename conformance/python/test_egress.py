"""Where a sandbox can connect to, by its environment. Everything that is connected to is on loopback
and the test's own."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support import TOOLSET, bash, results, text, turn


class Origin:
    """An HTTP server on loopback, and who has asked it."""

    def __init__(self) -> None:
        origin = self
        self.asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                origin.asked.append(f"{self.headers['host']} {self.path}")
                self.send_response(200)
                self.send_header("content-length", "5")
                self.end_headers()
                self.wfile.write(b"here\n")

            def log_message(self, *arguments: Any) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A web server that sandboxes may know."""
    made = Origin()
    yield made
    made.close()


FETCH = """python3 - <<'END'
import socket, urllib.error, urllib.request
try:
    print(urllib.request.urlopen("ADDRESS", timeout=5).read().decode(), end="")
except (OSError, urllib.error.URLError) as error:
    print("refused", type(error).__name__)
END"""


def test_what_a_network_allows(origin: Origin, make_world: Any) -> None:
    world = make_world(f'[egress.resolve]\n"origin.test" = "127.0.0.1:{origin.port}"\n')
    client = world.client()
    limited = client.beta.environments.create(
        name="limited", config={"type": "cloud", "networking": {"type": "limited"}}
    ).id
    fetch = FETCH.replace("ADDRESS", "http://origin.test/x")
    direct = FETCH.replace("ADDRESS", f"http://127.0.0.1:{origin.port}/direct")
    server = FETCH.replace("ADDRESS", f"{world.url}/v1/agents")
    name = "getent hosts origin.test || echo unknown"
    world.model.script(
        *(bash(fetch, direct, server, name), text("out")),
        *(bash(fetch, direct, server, name), text("in")),
        allow_prefix_change=True,
    )
    open_session = world.session(tools=[TOOLSET])
    closed_session = world.session(environment=limited, tools=[TOOLSET])
    reached = results(turn(client, open_session, "fetch"))
    assert reached[0] == "here\n"
    assert all(one.startswith("refused ") for one in reached[1:3]), reached
    # Tools see an address that is none of the host's.
    assert reached[3].startswith("198.18.") and reached[3].endswith(" origin.test\n")
    assert origin.asked == ["origin.test /x"]
    refused = results(turn(client, closed_session, "fetch"))
    assert all(one.startswith("refused ") for one in refused[:3]), refused
    assert refused[3] == "unknown\n"
    assert origin.asked == ["origin.test /x"]
