"""Credentials of vaults for MCP servers: which one a server gets and how, when it is refreshed, that
many sessions never use a refresh token twice, and that nobody else learns of any.
"""

from __future__ import annotations

import datetime
import json
import secrets as chance
import threading
import time

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import anthropic
import pytest

from canary import Canaries
from mcp_servers import (
    JSON,
    Place,
    errors,
    host,
    new_world,
    of_kind,
    origins,
    place,
    ports,
    results,
    served,
    servers,
    settings,
    url,
)
from origin import Request, Response
from support import calls, message, story, text, wire
from told import Told
from world import MODEL, wait_until

AUTHENTICATION = "mcp_authentication_failed_error"
SERVER = url("one", scheme="https")
TOKENS = url("two", "/token", scheme="https")
SIGN_IN = [("www-authenticate", 'Bearer error="invalid_token"')]


def value(name: str = "token") -> str:
    """A value that nobody has seen before."""
    return f"{name}-{chance.token_hex(12)}"


class Door:
    """Lets only those into a server who have the right header."""

    def __init__(self, place: Place, *values: str, header: str = "authorization") -> None:
        self.valid, self.header = set(values), header
        # The values that have come, in order.
        self.came: list[str | None] = []
        place.one.guard = self

    def __call__(self, request: Request) -> Response | None:
        came = request.header(self.header)
        if self.header == "authorization" and came is not None:
            came = came.removeprefix("Bearer ")
        self.came.append(came)
        if came in self.valid:
            return None
        return Response(b"{}", 401, [*SIGN_IN, *JSON])


class Tokens:
    """A token endpoint whose refresh tokens are good for one use; each use of an old one is kept."""

    def __init__(self, place: Place, door: Door, first: str, *, lasts: int = 3600) -> None:
        self.door, self.lasts = door, lasts
        self.current = first
        self.used: list[str] = []
        self.stale: list[str] = []
        # Takes over: a refusal.
        self.refusal: Response | None = None
        self.access: list[str] = []
        self._lock = threading.Lock()
        place.two.guard = self

    def __call__(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if self.refusal is not None:
            return self.refusal
        with self._lock:
            given = form.get("refresh_token", "")
            self.used.append(given)
            if given != self.current:
                self.stale.append(given)
                return Response(b'{"error": "invalid_grant"}', 400, list(JSON))
            self.current = value("refresh")
            access = value("access")
            self.access.append(access)
            # Whoever asks at the same time has time to do so.
            time.sleep(0.05)
            self.door.valid.add(access)
            told = {"access_token": access, "refresh_token": self.current, "token_type": "Bearer"}
            return Response(json.dumps({**told, "expires_in": self.lasts}).encode(), 200, list(JSON))


def bearer(token: str, server: str = SERVER) -> dict[str, Any]:
    """A token that is never refreshed."""
    return {"type": "static_bearer", "mcp_server_url": server, "token": token}


def oauth(access: str, refresh: str, *, seconds: float | None = None) -> dict[str, Any]:
    """An access token, what renews it, and how long it lasts yet."""
    made: dict[str, Any] = {
        "type": "mcp_oauth",
        "mcp_server_url": SERVER,
        "access_token": access,
        "refresh": {
            "client_id": "client",
            "token_endpoint": TOKENS,
            "refresh_token": refresh,
            "token_endpoint_auth": {"type": "none"},
        },
    }
    if seconds is not None:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        made["expires_at"] = end.isoformat().replace("+00:00", "Z")
    return made


def vault_with(place: Place, *auths: dict[str, Any]) -> str:
    """A vault with credentials; returns its id."""
    vault = place.vault()
    for auth in auths:
        place.credential(vault, auth)
    return vault


def told_with(place: Place, *vaults: str, server: str = SERVER) -> Told:
    """A session with these vaults."""
    more = {"vault_ids": list(vaults)} if vaults else None
    return place.told(("one", server), more=more)


def counted(place: Place, told: Told, times: int = 1) -> list[str]:
    """What so many turns bring, each with one call."""
    for _ in range(times):
        place.world.model.append(calls(("mcp__one__count", {})), text("done"))
        told.send("go")
        told.until_idle("end_turn")
    return results(told.events)


# --- which one, and how


@pytest.mark.parametrize(
    "written", [SERVER, f"{SERVER}/", f"HTTPS://{host('one').upper()}:443/mcp"], ids=repr
)
def test_a_bearer_token(place: Place, written: str) -> None:
    """However the address of the server is written."""
    token = value()
    door = Door(place, token)
    told = told_with(place, vault_with(place, bearer(token)), server=written)
    assert counted(place, told) == ["1"]
    assert set(door.came) == {token} and errors(told.events) == []


def test_a_header_of_another_name(place: Place) -> None:
    token = value()
    door = Door(place, token, header="x-api-key")
    auth = {**bearer(token), "type": "posthouse_header", "header_name": "X-Api-Key"}
    told = told_with(place, vault_with(place, auth))
    assert counted(place, told) == ["1"] and set(door.came) == {token}
    assert not any(one.header("authorization") for one in place.one.origin.requests)


@pytest.mark.parametrize("elsewhere", [url("one", "/other", "https"), url("one", "/mcp?q=1", "https")])
def test_a_credential_for_another_address_is_not_sent(place: Place, elsewhere: str) -> None:
    token = value()
    door = Door(place, token)
    told = told_with(place, vault_with(place, bearer(token, elsewhere)))
    place.world.model.script(text("done"))
    told.send("go")
    told.until_idle("end_turn")
    assert set(door.came) == {None} and errors(told.events) == [(AUTHENTICATION, "one")]


def test_the_first_vault_wins(place: Place) -> None:
    first, second = value("first"), value("second")
    door = Door(place, first, second)
    one, two, none = (
        vault_with(place, bearer(first)),
        vault_with(place, bearer(second)),
        vault_with(place),
    )
    assert counted(place, told_with(place, none, one, two)) == ["1"]
    assert set(door.came) == {first}
    door.came.clear()
    assert counted(place, told_with(place, two, one)) == ["2"]
    assert set(door.came) == {second}


def test_a_wrong_token_is_named_and_not_shown(place: Place) -> None:
    token = value("wrong")
    door = Door(place, value("right"))
    vault = vault_with(place, bearer(token))
    told = told_with(place, vault)
    place.world.model.script(text("done"))
    told.send("go")
    told.until_idle("end_turn")
    (event,) = of_kind(told.events, "session.error")
    assert errors(told.events) == [(AUTHENTICATION, "one")]
    assert vault in event.error.message and token not in json.dumps(wire(event))
    assert token in door.came


def test_a_vault_of_another_workspace_is_not_there(place: Place) -> None:
    made = place.raw.post("/posthouse/v1/workspaces", json={"name": chance.token_hex(8)}).json()
    key = place.raw.post(
        "/posthouse/v1/keys",
        json={"name": "other", "scopes": ["*:*"], "workspace_id": made["id"]},
    ).json()
    other = place.world.client(api_key=key["secret"])
    mine = vault_with(place, bearer(value()))
    agent = other.beta.agents.create(name="a", model=MODEL, **served(("one", SERVER)))
    environment = other.beta.environments.create(name="e").id
    with pytest.raises(anthropic.APIStatusError) as refused:
        other.beta.sessions.create(
            agent=agent.id, environment_id=environment, vault_ids=[mine]
        )
    assert refused.value.status_code in (400, 404)


def test_changes_hold_in_a_running_session(place: Place) -> None:
    """Rotated, archived, and given anew."""
    first, second = value("first"), value("second")
    door = Door(place, first)
    vault = vault_with(place)
    credential = place.credential(vault, bearer(first))
    told = told_with(place, vault)
    place.world.model.script(allow_prefix_change=True)
    assert counted(place, told) == ["1"]
    api = place.client.beta.vaults.credentials
    api.update(credential, vault_id=vault, auth={"type": "static_bearer", "token": second})
    door.valid = {second}
    assert counted(place, told) == ["1", "2"]
    api.archive(credential, vault_id=vault)
    place.world.model.append(text("nothing"))
    door.came.clear()
    told.send("go")
    told.until_idle("end_turn")
    assert set(door.came) <= {None} and errors(told.events) == [(AUTHENTICATION, "one")]
    place.credential(vault, bearer(second))
    assert counted(place, told) == ["1", "2", "3"]


# --- refreshing


@pytest.mark.parametrize("known", [True, False], ids=["before it expires", "when it is refused"])
def test_a_token_is_refreshed(place: Place, known: bool) -> None:
    """And the session hears nothing of it."""
    old, refresh = value("old"), value("refresh")
    door = Door(place)
    tokens = Tokens(place, door, refresh)
    auth = oauth(old, refresh, seconds=20 if known else None)
    told = told_with(place, vault_with(place, auth))
    place.world.model.script()
    assert counted(place, told, 2) == ["1", "2"] and errors(told.events) == []
    assert tokens.used == [refresh]
    came = [one for one in door.came if one is not None]
    # What is about to expire is not tried any more.
    assert (old in came) is not known and came[-1] == tokens.access[0]


def test_a_token_that_expires_in_a_session_is_refreshed_each_time(place: Place) -> None:
    refresh = value("refresh")
    door = Door(place)
    # They are as good as expired when they come.
    tokens = Tokens(place, door, refresh, lasts=1)
    told = told_with(place, vault_with(place, oauth(value("old"), refresh, seconds=1)))
    place.world.model.script()
    assert counted(place, told, 2) == ["1", "2"]
    assert len(tokens.used) >= 2 and tokens.stale == []


def test_a_refresh_that_is_refused(place: Place) -> None:
    """The session goes on without the server, and takes it up again when it can."""
    old, refresh = value("old"), value("refresh")
    door = Door(place)
    tokens = Tokens(place, door, refresh)
    tokens.refusal = Response(
        json.dumps({"error": "invalid_grant", "error_description": f"{refresh} is old"}).encode(),
        400,
        list(JSON),
    )
    told = told_with(place, vault_with(place, oauth(old, refresh)))
    place.world.model.script(text("nothing"), allow_prefix_change=True)
    told.send("go")
    told.until_idle("end_turn")
    (event,) = of_kind(told.events, "session.error")
    assert errors(told.events) == [(AUTHENTICATION, "one")]
    assert refresh not in event.error.message and old not in event.error.message
    # Somebody has put it right.
    door.valid.add(old)
    assert counted(place, told) == ["1"]


def test_ten_sessions_use_no_refresh_token_twice(place: Place) -> None:
    """Again and again: each time all of them find the token refused at the same moment."""
    refresh = value("refresh")
    door = Door(place)
    tokens = Tokens(place, door, refresh)
    vault = vault_with(place, oauth(value("old"), refresh))
    agent = place.world.agent(**served(("one", SERVER)))
    create = place.client.beta.sessions.create
    environment = place.world.environment()
    sessions = [
        create(agent=agent, environment_id=environment, vault_ids=[vault]).id for _ in range(10)
    ]
    for turn in range(1, 4):
        # None of those that are out is good any more.
        door.valid.clear()
        place.world.model.script(
            {"times": 0, "when": {"has_tool_result_for": "mcp__one__count"}, **text("done")},
            {"times": 0, **calls(("mcp__one__count", {}))},
        )

        def go(session: str) -> list[str]:
            client = place.world.client()
            before = len(place.world.log(session))
            client.beta.sessions.events.send(session, events=[message(f"go {session}")])
            wait_until(
                lambda: story(place.world.log(session)[before:])[-1:]
                == ["session.status_idle(end_turn)"],
                "rest",
                30,
            )
            return story(place.world.log(session)[before:])

        with ThreadPoolExecutor(10) as pool:
            for course in pool.map(go, sessions):
                assert "agent.mcp_tool_result(ok)" in course, course
                assert not any(one.startswith("session.error") for one in course), course
        assert len(tokens.used) == turn, "one refresh for all of them"
    assert tokens.stale == [] and len(set(tokens.used)) == len(tokens.used)


# --- what is written down


def test_every_use_is_in_the_ledger(place: Place) -> None:
    token = value()
    Door(place, token)
    vault = vault_with(place)
    credential = place.credential(vault, bearer(token))
    told = told_with(place, vault)
    assert counted(place, told) == ["1"]
    uses = place.uses(session_id=told.session_id)
    assert len(uses) == len(place.one.origin.requests)
    for one in uses:
        assert (one["vault_id"], one["credential_id"]) == (vault, credential)
        assert (one["kind"], one["host"], one["port"]) == ("mcp", host("one"), 443)
        assert one["location"] == {"header": True, "body": False}
    (call,) = [one.id for one in of_kind(told.events, "agent.mcp_tool_use")]
    assert [one["event_ids"] for one in uses if one["event_ids"]] == [[call]]


def test_no_token_is_in_anything_that_the_server_keeps_or_says(place: Place) -> None:
    """Although the server and the token endpoint repeat what they are sent, wherever they can."""
    canaries = Canaries()
    plain = {
        name: canaries(name).translate(str.maketrans({letter: "-" for letter in "+/=~"}))
        for name in ("access", "refresh", "next")
    }
    canaries.values.update(plain)
    door = Door(place, plain["next"])

    def spiteful(request: Request) -> Response | None:
        refused = door(request)
        if refused is None:
            return None
        body = json.dumps([request.headers, request.body.decode("latin-1")]).encode()
        came = (request.header("authorization") or "").removeprefix("Bearer ")
        scope = ("www-authenticate", f'Bearer scope="{came}", error_description="{came}"')
        return Response(body, 401, [scope, *JSON])

    place.one.guard = spiteful
    place.one.tool(
        "repeat",
        lambda call: json.dumps([call.request.headers, plain["next"], plain["next"][::-1]]),
        description=f"It was {plain['next']}.",
    )
    place.one.tool(
        "blob",
        lambda call: {
            "content": [
                {"type": "text", "text": call.request.header("authorization") or "nothing"},
                {
                    "type": "resource",
                    "resource": {"uri": f"x://{plain['next']}", "text": plain["next"]},
                },
            ],
            "structuredContent": {plain["next"]: plain["next"]},
        },
    )
    place.one.tool(
        "refuse",
        lambda call: Response(
            json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": call.message["id"],
                    "error": {"code": -32000, "message": f"not with {plain['next']}"},
                }
            ).encode(),
            headers=list(JSON),
        ),
    )

    def endpoint(request: Request) -> Response:
        told = {"access_token": plain["next"], "refresh_token": plain["refresh"]}
        return Response(json.dumps({**told, "token_type": "Bearer"}).encode(), 200, list(JSON))

    place.two.guard = endpoint
    vault = vault_with(place, oauth(plain["access"], plain["refresh"]))
    place.world.model.script(
        calls(("mcp__one__repeat", {}), ("mcp__one__blob", {}), ("mcp__one__refuse", {})),
        text("done"),
    )
    told = told_with(place, vault)
    told.send("go")
    told.until_idle("end_turn")
    assert len(results(told.events)) == 3 and errors(told.events) == []
    # And at last nobody is let in any more.
    door.valid.clear()
    place.two.guard = lambda request: Response(request.body, 400)
    place.world.model.append(text("well"))
    told.send("again")
    told.until_idle("end_turn")
    other = told_with(place, vault)
    place.world.model.append(text("well"))
    other.send("and who are you")
    other.until_idle("end_turn")
    assert errors(other.events) == [(AUTHENTICATION, "one")]
    told.events += other.events
    # The control: the server was given it.
    assert plain["next"] in door.came
    # A tool may say it backwards: what has no form of its own left is nobody's to find.
    del canaries.values["refresh"]
    said = [json.dumps(wire(one)).encode() for one in told.events]
    said += [one.body for one in place.world.recorder.exchanges]
    said += [json.dumps(one).encode() for one in place.world.model.captured()]
    said.append(place.world.server_errors().encode())
    found = [one for one in canaries.found_among("said", said) if "reversed" not in one]
    assert found == []
    kept = canaries.found_below(place.world.folder)
    assert [one for one in kept if "reversed" not in one] == []


