"""MCP servers that can't be used: what the session says of each, that it goes on with the others, and
that the next turn tries again. And the rules of networks: what an environment and the operator let
through.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import anthropic
import pytest

from mcp_servers import (
    JSON,
    Place,
    errors,
    host,
    new_world,
    of_kind,
    offered,
    origins,
    place,
    ports,
    results,
    served,
    servers,
    url,
)
from origin import Request, Response
from origins import API, CLOSED_PORT, EXPIRED, MISNAMED, OPAQUE, SELF_MADE
from support import calls, rested, started, story, text, wire
from world import wait_until

CONNECTION, AUTHENTICATION = "mcp_connection_failed_error", "mcp_authentication_failed_error"
BEARER = [("www-authenticate", "Bearer")]


@pytest.fixture(scope="module")
def settings() -> str:
    """Servers that do not answer are soon given up."""
    return "connect_seconds = 1\nlist_seconds = 1\nsilence_seconds = 1"


def status(code: int, headers: Any = (), body: bytes = b"") -> Any:
    """A server that answers every request with this status."""
    return lambda _request: Response(body, code, list(headers))


def hanging(_request: Request) -> Response:
    """A server that takes requests and never answers."""
    import time

    time.sleep(4)
    return Response(b"", 500)


def endless(_request: Request) -> Response:
    """A server whose answer begins and has no end."""

    def pieces() -> Any:
        while True:
            yield b" " * 4096

    return Response(pieces(), 200, list(JSON))


# What a server can be that is of no use: where it is, or what it does; the error; and what is said.
FAILURES: list[tuple[str, Any, str, str]] = [
    ("nothing listens", f"http://{CLOSED_PORT}/mcp", CONNECTION, CLOSED_PORT),
    ("no such name", "https://nowhere.example.invalid/mcp", CONNECTION, "nowhere.example.invalid"),
    ("no TLS that is trusted", f"https://{SELF_MADE}/mcp", CONNECTION, "certificate"),
    ("an old certificate", f"https://{EXPIRED}/mcp", CONNECTION, "certificate"),
    ("a certificate of somebody else", f"https://{MISNAMED}/mcp", CONNECTION, "certificate"),
    ("no HTTP", f"http://{OPAQUE}/mcp", CONNECTION, OPAQUE),
    ("no MCP", f"https://{API}/mcp", CONNECTION, "MCP"),
    ("a failure", status(500), CONNECTION, "500"),
    ("not found", status(404), CONNECTION, "404"),
    ("too many", status(429), CONNECTION, "429"),
    ("a page", status(200, [("content-type", "text/html")], b"<html>"), CONNECTION, "MCP"),
    ("nonsense", status(200, JSON, b"{]"), CONNECTION, ""),
    ("silence", hanging, CONNECTION, "1 second"),
    ("no end", endless, CONNECTION, ""),
    ("a redirect", status(307, [("location", "http://169.254.169.254/")]), CONNECTION, "redirect"),
    ("no credential", status(401, BEARER), AUTHENTICATION, "no vaults"),
    ("no credential, unnamed", status(401), AUTHENTICATION, "401"),
    (
        "more scopes",
        status(403, [("www-authenticate", 'Bearer error="insufficient_scope", scope="a b"')]),
        AUTHENTICATION,
        "a b",
    ),
    ("forbidden", status(403), CONNECTION, "403"),
]


@pytest.mark.parametrize(
    ("where", "kind", "says"), [one[1:] for one in FAILURES], ids=[one[0] for one in FAILURES]
)
def test_the_session_goes_on_without_a_server(
    place: Place, where: Any, kind: str, says: str
) -> None:
    address = where if isinstance(where, str) else url("one")
    if not isinstance(where, str):
        place.one.guard = where
    place.world.model.script(calls(("mcp__two__echo", {"text": "fine"})), text("done"))
    told = place.told(("lost", address), "two")
    told.send("go")
    told.until_idle("end_turn")
    (event,) = of_kind(told.events, "session.error")
    error = wire(event)["error"]
    assert (error["type"], error["mcp_server_name"]) == (kind, "lost"), error
    assert error["retry_status"] == {"type": "exhausted"}
    assert says in error["message"], error["message"]
    assert set(error) == {"type", "message", "mcp_server_name", "retry_status"}
    assert results(told.events) == ["fine"]
    assert not any("lost" in name for name in offered(place.world))
    seen = story(told.events)
    assert seen[:4] == [*started("go"), f"session.error({kind},exhausted)"]
    told.tells(*seen)


def test_the_next_turn_tries_again(place: Place) -> None:
    place.one.guard = status(503)
    place.world.model.script(
        text("a"), calls(("mcp__one__count", {})), text("b"), text("c"), allow_prefix_change=True
    )
    told = place.told("one")
    told.send("go")
    told.until_idle("end_turn")
    assert errors(told.events) == [(CONNECTION, "one")] and offered(place.world) == []
    place.one.guard = lambda _request: None
    told.send("again")
    told.until_idle("end_turn")
    assert errors(told.events) == [(CONNECTION, "one")] and results(told.events) == ["1"]
    # And a server that is gone again is told of again.
    place.one.guard = status(503)
    told.send("once more")
    told.until_idle("end_turn")
    assert errors(told.events) == [(CONNECTION, "one")] * 2
    assert story(told.events)[-3:] == rested()


def test_a_server_that_goes_away_in_a_turn(place: Place) -> None:
    """The call fails and says so; the session hears of it once."""
    place.one.tool("vanish", lambda _call: Response(b"", 502))
    place.world.model.script(
        calls(("mcp__one__vanish", {}), ("mcp__two__echo", {"text": "here"})), text("done")
    )
    told = place.told("one", "two")
    told.send("go")
    told.until_idle("end_turn")
    first, second = results(told.events)
    assert first.startswith("ERROR ") and "502" in first and second == "here"
    assert errors(told.events) == [(CONNECTION, "one")]
    assert story(told.events)[-3:] == rested()


def test_a_call_that_nobody_answers_ends(place: Place) -> None:
    place.one.tool("silent", lambda _call: hanging(_call.request))
    place.world.model.script(calls(("mcp__one__silent", {})), text("done"))
    told = place.told("one")
    told.send("go")
    told.until_idle("end_turn")
    (result,) = results(told.events)
    assert result.startswith("ERROR ") and "may or may not have had its effect" in result
    assert place.one.count("silent") == 1


def test_a_refusal_of_the_server_is_a_result(place: Place) -> None:
    """It is the tool's business, and no trouble with the server."""
    refusal = {"code": -32602, "message": "a: should be a number\x1b[2J"}
    place.one.tool(
        "picky",
        lambda call: Response(
            json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "error": refusal}).encode(),
            headers=list(JSON),
        ),
    )
    place.world.model.script(calls(("mcp__one__picky", {})), text("done"))
    told = place.told("one")
    told.send("go")
    told.until_idle("end_turn")
    (result,) = results(told.events)
    assert result.startswith("ERROR ") and "a: should be a number" in result
    assert "\x1b" not in result and errors(told.events) == []


def test_all_servers_are_asked_at_once(place: Place) -> None:
    """Twenty that do not answer hold a turn up as long as one."""
    place.one.guard = hanging
    many = [(f"s{number}", url("one", f"/{number}")) for number in range(18)]
    place.world.model.script(calls(("mcp__two__echo", {"text": "fine"})), text("done"))
    told = place.told(*many, "two")
    told.send("go")
    told.until_idle("end_turn")
    assert len(errors(told.events)) == 18 and results(told.events) == ["fine"]


# --- networks


def limited(place: Place, *hosts: str, allow_mcp_servers: bool = False) -> str:
    """An environment that lets nothing else through."""
    return place.limited(*hosts, allow_mcp_servers=allow_mcp_servers)


def test_a_limited_environment_refuses_the_session(place: Place) -> None:
    agent = place.world.agent(**served("one"))
    with pytest.raises(anthropic.BadRequestError) as refused:
        place.world.session(agent, environment=limited(place, "other.example.test"))
    told = str(refused.value)
    assert "one" in told and "allowed_hosts" in told and "allow_mcp_servers" in told


@pytest.mark.parametrize(
    ("hosts", "allow"),
    [([host("one")], False), (["*.mcp.example.test"], False), ([], True)],
    ids=["named", "wildcard", "all servers"],
)
def test_a_limited_environment_lets_through_what_it_names(
    place: Place, hosts: list[str], allow: bool
) -> None:
    environment = limited(place, *hosts, allow_mcp_servers=allow)
    session = place.world.session(environment=environment, **served("one"))
    place.world.model.script(calls(("mcp__one__count", {})), text("done"))
    place.client.beta.sessions.events.send(
        session, events=[{"type": "user.message", "content": [{"type": "text", "text": "go"}]}]
    )
    wait_until(lambda: results(place.world.log(session)) == ["1"], "a result")


def test_a_limited_environment_refuses_other_servers_of_a_running_session(place: Place) -> None:
    environment = limited(place, host("one"))
    session = place.world.session(environment=environment, **served("one"))
    with pytest.raises(anthropic.BadRequestError, match="allowed_hosts"):
        place.client.beta.sessions.update(session, agent=served("two"))  # type: ignore[arg-type]


def test_private_addresses_are_the_operators_to_open(place: Place) -> None:
    """Whatever they are called, and although somebody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
        many = [(f"s{at}", f"http://{one}:{port}/mcp") for at, one in enumerate(hosts)]
        place.world.model.script(calls(("mcp__two__echo", {"text": "fine"})), text("done"))
        told = place.told(*many, "two")
        told.send("go")
        told.until_idle("end_turn")
        said = [wire(one)["error"] for one in of_kind(told.events, "session.error")]
        assert [one["mcp_server_name"] for one in said] == [name for name, _ in many]
        for one in said:
            assert one["type"] == CONNECTION and "egress" in one["message"], one["message"]
        assert results(told.events) == ["fine"]
        with pytest.raises(TimeoutError):
            listener.accept()
