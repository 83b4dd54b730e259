"""Two thousand tools of twenty servers: a model request stays small, tools are searched and found, and
what was found stays, also across a restart of the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_servers import (
    HandMade,
    Place,
    errors,
    mortal_place,
    new_world,
    of_kind,
    offered,
    origins,
    place,
    results,
    servers,
    settings,
)
from origins import Origins
from support import TOOLSET, WEATHER, asked, calls, message, rested, started, story, text
from world import wait_until

FIND = "mcp__find_tools"
SERVERS = [f"s{number:02}" for number in range(20)]
EACH = 100
# What the definitions of a request may take: about five thousand tokens.
MOST = 20_000
# What each tool of a server is for; only the words tell them apart.
THINGS = ["invoice", "parcel", "meeting", "ticket", "recipe", "invoices", "garden", "train", "song", "map"]
VERBS = ["create", "list", "archive", "delete", "share", "print", "rename", "move", "count", "find"]


def tools(server: str) -> list[dict[str, Any]]:
    """A hundred tools, described at some length."""
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": f"Which {name} it is about, as the user says it."}
            for name in ("identifier", "reason", "account")
        },
    }
    found = [
        {
            "name": f"{verb}_{thing}",
            "description": f"Lets {server} {verb} any {thing} of the account. " + "It is quick. " * 10,
            "inputSchema": schema,
        }
        for verb in VERBS
        for thing in THINGS
    ]
    if server == "s13":
        found[42] = {
            "name": "reticulate",
            "description": "Reticulates the splines of a zeppelin.",
            "inputSchema": {"type": "object", "properties": {"altitude": {"type": "integer"}}},
        }
    return found


@pytest.fixture(scope="module")
def crowd(origins: Origins) -> Iterator[dict[str, HandMade]]:
    """The twenty."""
    made = {name: HandMade(origins, name) for name in SERVERS}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def ports(crowd: dict[str, HandMade]) -> dict[str, int]:
    """Where they are."""
    return {name: one.origin.port for name, one in crowd.items()}


@pytest.fixture(autouse=True)
def filled(crowd: dict[str, HandMade]) -> None:
    """Each has its tools."""
    for name, one in crowd.items():
        one.reset()
        one.tools = tools(name)
        for tool in one.tools:
            one.runs[tool["name"]] = lambda call, name=name: f"{name}: {json.dumps(call.arguments)}"


def definitions(place: Place, request: int) -> tuple[list[str], int]:
    """The tools of MCP servers that a model request shows, and how long their definitions are."""
    shown = [
        one
        for one in place.world.model.requests()[request]["tools"]
        if one["name"].startswith("mcp__")
    ]
    return [one["name"] for one in shown], len(json.dumps(shown))


def test_two_thousand_tools(place: Place, crowd: dict[str, HandMade]) -> None:
    splines = "mcp__s13__reticulate"
    place.world.model.script(
        calls((FIND, {"query": "reticulate the splines"})),
        calls((splines, {"altitude": 300})),
        calls((FIND, {"query": "archive an invoice", "server": "s04"})),
        calls(("mcp__s04__archive_invoice", {"identifier": "7"})),
        text("done"),
        allow_prefix_change=True,
    )
    told = place.told(*SERVERS, tools=(TOOLSET, WEATHER))
    told.send("go")
    told.until_idle("end_turn")
    assert errors(told.events) == []
    names, length = definitions(place, 0)
    assert names == [FIND] and length < MOST
    # It says whom there is to search.
    (shown,) = [one for one in place.world.model.requests()[0]["tools"] if one["name"] == FIND]
    assert "s13" in shown["description"] and "100" in shown["description"]
    assert {"bash", "weather"} <= set(offered(place.world, 0))
    for request in range(1, 5):
        found, length = definitions(place, request)
        assert found[:2] == [FIND, splines] and length < MOST
    assert "mcp__s04__archive_invoice" in definitions(place, 3)[0]
    # What was there stays where it was.
    before = definitions(place, 1)[0]
    assert definitions(place, 4)[0][: len(before)] == before
    finds = of_kind(told.events, "agent.tool_use")
    assert [one.name for one in finds] == [FIND, FIND]
    answers = [one.content[0].text for one in of_kind(told.events, "agent.tool_result")]
    assert splines in answers[0] and "zeppelin" in answers[0]
    assert "mcp__s04__archive_invoice" in answers[1] and "mcp__s05" not in answers[1]
    assert results(told.events) == ['s13: {"altitude": 300}', 's04: {"identifier": "7"}']
    told.tells(
        *started("go"),
        *asked(f"agent.tool_use({FIND},allow)"),
        "agent.tool_result(ok)",
        *asked("agent.mcp_tool_use(s13/reticulate,allow)"),
        "agent.mcp_tool_result(ok)",
        *asked(f"agent.tool_use({FIND},allow)"),
        "agent.tool_result(ok)",
        *asked("agent.mcp_tool_use(s04/archive_invoice,allow)"),
        "agent.mcp_tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    )


def test_searches_that_find_nothing_or_are_wrong(place: Place) -> None:
    place.world.model.script(
        calls(
            (FIND, {"query": "qwertyuiop"}),
            (FIND, {"query": "invoice", "server": "s99"}),
            (FIND, {"question": "invoice"}),
            (FIND, {"query": "x" * 100_000}),
        ),
        text("done"),
    )
    told = place.told(*SERVERS)
    told.send("go")
    told.until_idle("end_turn")
    answers = of_kind(told.events, "agent.tool_result")
    assert [one.is_error for one in answers] == [False, True, True, False]
    assert "s13" in answers[1].content[0].text
    assert definitions(place, 1)[0] == [FIND]
    assert all(len(one.content[0].text) < 5000 for one in answers)


def test_a_tool_that_was_not_searched_for_may_be_called(place: Place) -> None:
    place.world.model.script(
        calls(("mcp__s03__share_map", {"account": "a"})), text("done"), allow_prefix_change=True
    )
    told = place.told(*SERVERS)
    told.send("go")
    told.until_idle("end_turn")
    assert results(told.events) == ['s03: {"account": "a"}']


def test_what_was_found_outlives_the_server(mortal_place: Place) -> None:
    place = mortal_place
    splines = "mcp__s13__reticulate"
    place.world.model.script(
        calls((FIND, {"query": "zeppelin"})), text("found"), allow_prefix_change=True
    )
    told = place.told(*SERVERS)
    told.send("go")
    told.until_idle("end_turn")
    place.world.restart()
    place.world.model.append(calls((splines, {})), text("done"))
    client = place.world.client()
    client.beta.sessions.events.send(told.session_id, events=[message("again")])
    wait_until(lambda: results(place.world.log(told.session_id)) == ["s13: {}"], "a result", 20)
    wait_until(
        lambda: story(place.world.log(told.session_id))[-1] == "session.status_idle(end_turn)",
        "rest",
    )
    assert definitions(place, 2)[0][:2] == [FIND, splines]


def test_few_tools_are_not_searched(place: Place) -> None:
    """The control: with one server's, all are shown."""
    place.world.model.script(text("done"))
    told = place.told("s00")
    told.send("go")
    told.until_idle()
    names, length = definitions(place, 0)
    assert FIND not in names and len(names) == EACH and length > MOST
