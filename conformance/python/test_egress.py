"""Where a sandbox can connect to, by its environment. Everything that is connected to is on loopback
and the test's own."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from support import TOOLSET, bash, results, text, turn
from world import World


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
except urllib.error.HTTPError as error:
    print("answered", error.code, error.read().decode(), end="")
except (OSError, urllib.error.URLError) as error:
    print("refused", type(error).__name__)
END"""


def limited(client: anthropic.Anthropic, **networking: Any) -> str:
    """An environment that reaches nothing but that."""
    config: Any = {"type": "cloud", "networking": {"type": "limited", **networking}}
    return client.beta.environments.create(name="limited", config=config).id


def records(world: World, session_id: str, kind: str) -> list[dict[str, Any]]:
    """The records of one kind of a session's sandboxes, the oldest first."""
    path = f"/posthouse/v1/sandboxes/{session_id}/records?types[]={kind}"
    response = world.raw().get(path)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found[::-1]


def test_what_a_network_allows(origin: Origin, make_world: Any) -> None:
    world = make_world(f'[egress.resolve]\n"origin.test" = "127.0.0.1:{origin.port}"\n')
    client = world.client()
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
    closed_session = world.session(environment=limited(client), tools=[TOOLSET])
    reached = results(turn(client, open_session, "fetch"))
    assert reached[0] == "here\n"
    assert all(one.startswith("refused ") for one in reached[1:3]), reached
    # Tools see an address that is none of the host's.
    assert reached[3].startswith("198.18.") and reached[3].endswith(" origin.test\n")
    assert origin.asked == ["origin.test /x"]
    refused = results(turn(client, closed_session, "fetch"))
    # The name has an address, so that who connects to it can be told.
    assert refused[0].startswith("answered 403 ") and "origin.test" in refused[0], refused
    assert all(one.startswith("refused ") for one in refused[1:3]), refused
    assert refused[3].startswith("198.18."), refused
    assert origin.asked == ["origin.test /x"]


def test_a_list_lets_through_what_it_names_and_all_of_it_is_recorded(
    origin: Origin, make_world: Any
) -> None:
    hosts = ("api.origin.test", "a.b.origin.test", "origin.test", "else.test")
    resolve = "".join(f'"{host}" = "127.0.0.1:{origin.port}"\n' for host in hosts)
    world = make_world(f"[egress.resolve]\n{resolve}")
    client = world.client()
    environment = limited(client, allowed_hosts=["API.origin.test", "*.b.origin.test"])
    session_id = world.session(environment=environment, tools=[TOOLSET])
    fetches = [FETCH.replace("ADDRESS", f"http://{host}/x") for host in hosts]
    world.model.script(bash(*fetches), text("done"))
    events = turn(client, session_id, "fetch")
    told = results(events)
    assert told[:2] == ["here\n", "here\n"], told
    for host, one in zip(hosts[2:], told[2:], strict=True):
        assert one.startswith("answered 403 ") and host in one, told
    assert origin.asked == [f"{host} /x" for host in hosts[:2]]
    ids = [event.id for event in events if event.type == "agent.tool_use"]
    allowed = records(world, session_id, "allow")
    denied = records(world, session_id, "deny")
    assert {(one["host"], one["rule"]) for one in allowed} == {
        (host, "allowed_hosts") for host in hosts[:2]
    }
    assert {(one["host"], one["rule"]) for one in denied} == {
        (host, "not_listed") for host in hosts[2:]
    }
    for one in allowed + denied:
        (call,) = one["event_ids"]
        assert call == ids[hosts.index(one["host"])]


def test_a_credential_that_gets_nowhere_is_told_at_the_start(
    world: World, client: anthropic.Anthropic
) -> None:
    def variable(name: str, *hosts: str) -> str:
        networking: Any = {"type": "limited", "allowed_hosts": list(hosts)}
        auth: Any = {
            "type": "environment_variable",
            "secret_name": name,
            "secret_value": "s3cret",
            "networking": networking if hosts else {"type": "unrestricted"},
        }
        return client.beta.vaults.credentials.create(vault.id, auth=auth).id

    vault = client.beta.vaults.create(display_name="keys")
    variable("FINE", "api.example.com")
    variable("PARTLY", "*.example.com")
    variable("ANYWHERE")
    lost = variable("LOST", "api.example.com", "other.example", "*.far.example")
    agent = world.agent()
    environment = limited(client, allowed_hosts=["API.example.com"])
    world.model.script(text("hello"))
    session = client.beta.sessions.create(
        agent=agent, environment_id=environment, vault_ids=[vault.id]
    )
    (told,) = client.beta.sessions.events.list(session.id)
    assert told.type == "session.error"
    assert told.error.type == "credential_host_unreachable_error"
    assert (told.error.credential_id, told.error.vault_id) == (lost, vault.id)
    assert told.error.retry_status.type == "exhausted"
    assert "other.example, *.far.example" in told.error.message
    assert "api.example.com" not in told.error.message
    # The session goes on.
    assert session.status == "idle"
    assert turn(client, session.id, "hi")[-1].type == "session.status_idle"
    # Where everything is open, nothing is out of reach.
    free = client.beta.sessions.create(
        agent=agent, environment_id=world.environment(), vault_ids=[vault.id]
    )
    assert list(client.beta.sessions.events.list(free.id)) == []
