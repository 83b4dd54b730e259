"""Servers made with the official SDKs for MCP, in both languages and at every revision: their tools are
listed, called and left, and every kind of block arrives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_servers import (
    Fake,
    Peer,
    Place,
    new_world,
    of_kind,
    offered,
    origins,
    place,
    python_peer,
    results,
    servers,
    settings,
    typescript_peer,
    url,
)
from support import INTERRUPT, asked, calls, rested, started, text, wire
from world import World, wait_until

OLDEST = "2025-06-18"
OLDER = "2025-11-25"
NEWEST = "2026-07-28"

# Each way of connecting: the peer, the path, and the revision that both have agreed on in the end.
WAYS = [
    ("python", "events", NEWEST),
    ("python", "json", NEWEST),
    ("python", "stateless", NEWEST),
    ("python-older", "events", OLDEST),
    ("python-older", "json", OLDEST),
    ("python-older", "stateless", OLDEST),
    ("typescript", "older", OLDER),
    ("typescript", "newer", NEWEST),
]
# Peers that say the same to everybody who asks for HTTP with SSE.
SSE = ("python", "old")


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Peer]]:
    """The servers of the SDKs."""
    folder = tmp_path_factory.mktemp("peers")
    made = {
        "python": python_peer(folder, "python"),
        "python-older": python_peer(folder, "python-older", OLDEST),
        "typescript": typescript_peer(folder),
    }
    yield made
    for one in made.values():
        one.close()


@pytest.fixture(scope="module")
def shared_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    """The testkit's server."""
    made = Fake(tmp_path_factory.mktemp("fake"))
    yield made
    made.close()


@pytest.fixture
def fake(shared_fake: Fake) -> Fake:
    """The same, as it is at the beginning."""
    shared_fake.reset()
    return shared_fake


@pytest.fixture(scope="module")
def ports(peers: dict[str, Peer], shared_fake: Fake) -> dict[str, int]:
    """All of them."""
    return {"fake": shared_fake.port, **{name: one.port for name, one in peers.items()}}


def address(peer: str, way: str) -> tuple[str, str]:
    """A server of an agent: its name, and where it is."""
    return "peer", url(peer, "/old/sse" if way == "old" else f"/{way}/mcp")


def ids(way: Any) -> str:
    """What a test's name says of a way."""
    return "-".join(way)


@pytest.mark.parametrize("way", [*WAYS, (*SSE, "2024-11-05")], ids=ids)
def test_tools_are_listed_and_called(
    place: Place, peers: dict[str, Peer], way: tuple[str, str, str]
) -> None:
    name, path, revision = way
    before = peers[name].seen()
    add, fail, count = "mcp__peer__add", "mcp__peer__fail", "mcp__peer__count"
    place.world.model.script(
        calls((add, {"a": 1, "b": 2}), (fail, {}), (count, {})), calls((count, {})), text("done")
    )
    told = place.told(address(name, path))
    told.send("go")
    told.until_idle("end_turn")
    first = before.get("count", 0) + 1
    sum_, failure, *counts = results(told.events)
    assert (sum_, counts) == ("3", [str(first), str(first + 1)])
    assert failure.startswith("ERROR ") and "it can't be done" in failure
    told.tells(
        *started("go"),
        *asked(
            "agent.mcp_tool_use(peer/add,allow)",
            "agent.mcp_tool_use(peer/fail,allow)",
            "agent.mcp_tool_use(peer/count,allow)",
        ),
        "agent.mcp_tool_result(ok)",
        "agent.mcp_tool_result(error)",
        "agent.mcp_tool_result(ok)",
        *asked("agent.mcp_tool_use(peer/count,allow)"),
        "agent.mcp_tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    )
    assert {add, fail, count} <= set(offered(place.world, 0))
    if path != "old":
        seen = peers[name].seen()
        assert seen[f"{path} {revision}"] > before.get(f"{path} {revision}", 0), seen


@pytest.mark.parametrize(
    "way",
    [("python", "events"), ("python-older", "events"), ("typescript", "older"), ("typescript", "newer"), SSE],
    ids=ids,
)
def test_a_server_is_told_of_an_interrupt(
    place: Place, peers: dict[str, Peer], way: tuple[str, str]
) -> None:
    """After progress, in the midst of a call; nothing of it is heard later."""
    name, path = way
    before = peers[name].seen()
    place.world.model.script(calls(("mcp__peer__slow", {"seconds": 20})), text("well"))
    told = place.told(address(name, path))
    told.send("go")
    told.until("agent.mcp_tool_use")
    wait_until(lambda: peers[name].seen().get("slow", 0) > before.get("slow", 0), "a call")
    told.send(INTERRUPT)
    told.until_idle("end_turn")
    (result,) = of_kind(told.events, "agent.mcp_tool_result")
    assert result.is_error
    left = before.get("slow left", 0)
    wait_until(lambda: peers[name].seen().get("slow left", 0) > left, "its end at the server")
    # The session goes on.
    place.world.model.script(calls(("mcp__peer__count", {})), text("well"), allow_prefix_change=True)
    told.send("again")
    told.until_idle("end_turn")
    assert not results(told.events)[-1].startswith("ERROR")


@pytest.mark.parametrize("way", [("python", "events"), ("python-older", "events"), SSE], ids=ids)
def test_every_kind_of_block(place: Place, way: tuple[str, str]) -> None:
    place.world.model.script(
        calls(("mcp__peer__blocks", {}), ("mcp__peer__weather", {"city": "Rome"})), text("done")
    )
    told = place.told(address(*way))
    told.send("go")
    told.until_idle("end_turn")
    blocks, weather = (wire(one) for one in of_kind(told.events, "agent.mcp_tool_result"))
    use = of_kind(told.events, "agent.mcp_tool_use")[0]
    assert set(blocks) == {
        *("id", "type", "processed_at", "mcp_tool_use_id", "content", "is_error"),
    }
    assert blocks["mcp_tool_use_id"] == use.id and blocks["is_error"] is False
    words, image, sound, notes, paper, odd, link = blocks["content"]
    assert words == {"type": "text", "text": "some words"}
    assert (image["type"], image["source"]["media_type"]) == ("image", "image/png")
    assert sound["type"] == "text" and "audio/wav" in sound["text"]
    assert notes["type"] in ("text", "document") and "what the notes say" in json.dumps(notes)
    assert (paper["type"], paper["source"]["media_type"]) == ("document", "application/pdf")
    assert odd["type"] == "text" and "test://odd" in odd["text"]
    assert link["type"] == "text" and "test://further" in link["text"]
    # A structure comes once: the server has put it into a text as well.
    (structure,) = weather["content"]
    assert json.loads(structure["text"]) == {"city": "Rome", "degrees": 21.5}
    # The model has seen the same.
    last = place.world.model.requests()[-1]["messages"][-1]["content"]
    kinds = [block["type"] for block in last[0]["content"]]
    assert kinds == [block["type"] for block in blocks["content"]]


@pytest.mark.parametrize("way", [("python", "events"), ("python-older", "events"), SSE], ids=ids)
def test_a_question_is_not_answered_for_the_user(place: Place, way: tuple[str, str]) -> None:
    place.world.model.script(calls(("mcp__peer__ask", {})), text("done"))
    told = place.told(address(*way))
    told.send("go")
    told.until_idle("end_turn")
    (answer,) = results(told.events)
    assert answer in ("decline", "cancel") or answer.startswith("nobody was asked"), answer


@pytest.mark.parametrize("revision", [OLDEST, OLDER, NEWEST])
@pytest.mark.parametrize("sse", [False, True])
def test_the_hand_written_server_at_each_revision(
    place: Place, fake: Fake, revision: str, sse: bool
) -> None:
    oldest = NEWEST if revision == NEWEST else OLDEST
    fake.switch(revision=revision, oldest=oldest, sse=sse, tools=25, page=10)
    place.world.model.script(
        calls(
            ("mcp__fake__add", {"a": 2, "b": 3}),
            ("mcp__fake__slow", {"ms": 100}),
            ("mcp__fake__structured", {}),
            ("mcp__fake__image", {}),
            ("mcp__fake__tool_0025", {"text": "ü"}),
            ("mcp__fake__fail", {}),
        ),
        text("done"),
    )
    told = place.told(("fake", url("fake")))
    told.send("go")
    told.until_idle("end_turn")
    order = {one.id: at for at, one in enumerate(of_kind(told.events, "agent.mcp_tool_use"))}
    answers = sorted(
        of_kind(told.events, "agent.mcp_tool_result"), key=lambda one: order[one.mcp_tool_use_id]
    )
    sum_, slow, structured, image, named, failure = results(answers)
    assert (sum_, slow, image) == ("5", "done", "image")
    assert json.loads(structured) == {"answer": 42}
    assert named == "tool_0025: ü" and failure == "ERROR it has failed"
    agreed = {one["headers"].get("mcp-protocol-version") for one in fake.asked("tools/call")}
    assert agreed == {revision}


def test_a_cut_stream_is_taken_up_again(place: Place, fake: Fake) -> None:
    """And the call is not made again."""
    fake.switch(sse=True, cut=3, retry_ms=10)
    place.world.model.script(
        calls(("mcp__fake__slow", {"ms": 200})), calls(("mcp__fake__count", {})), text("done")
    )
    told = place.told(("fake", url("fake")))
    told.send("go")
    told.until_idle("end_turn")
    assert results(told.events) == ["done", "1"]
    assert (fake.count("slow"), fake.count("count")) == (1, 1)


def test_one_handshake_serves_several_turns(place: Place, fake: Fake) -> None:
    """And one session of the server's; what it has said to be new is asked for again."""
    place.world.model.script(
        calls(("mcp__fake__count", {})), text("a"),
        calls(("mcp__fake__count", {})), text("b"),
        calls(("mcp__fake__change", {})), text("c"),
        text("d"),
        allow_prefix_change=True,
    )  # fmt: skip
    told = place.told(("fake", url("fake")))
    for _ in range(2):
        told.send("go")
        told.until_idle("end_turn")
    assert results(told.events) == ["1", "2"]
    # Before its stream of news is open, nobody can know that there are none.
    before = len(fake.asked("tools/list"))
    assert len(fake.asked("initialize")) == 1 and before <= 2
    sessions = {one["headers"]["mcp-session-id"] for one in fake.asked("tools/call")}
    assert len(sessions) == 1
    told.send("change")
    told.until_idle("end_turn")
    told.send("go")
    told.until_idle("end_turn")
    assert len(fake.asked("tools/list")) == before + 1
    assert "mcp__fake__added_1" in offered(place.world)


def test_a_forgotten_session_is_begun_anew(place: Place, fake: Fake) -> None:
    place.world.model.script(
        calls(("mcp__fake__echo", {"text": "one"})), text("a"),
        calls(("mcp__fake__echo", {"text": "two"})), text("b"),
    )  # fmt: skip
    told = place.told(("fake", url("fake")))
    told.send("go")
    told.until_idle("end_turn")
    fake.control("POST", "/forget-sessions")
    told.send("again")
    told.until_idle("end_turn")
    assert results(told.events) == ["one", "two"]
    assert len(fake.asked("initialize")) == 2


def test_two_sessions_of_one_agent_share_nothing(world: World, place: Place, fake: Fake) -> None:
    world.model.script(text("a"), text("b"))
    one, two = (place.told(("fake", url("fake"))) for _ in range(2))
    for told in (one, two):
        told.send("go")
        told.until_idle("end_turn")
    assert len(fake.asked("initialize")) == 2
    assert len(fake.control()["sessions"]) == 2
    # A session that is deleted says goodbye.
    place.client.beta.sessions.delete(one.session_id)
    wait_until(lambda: len(fake.control()["sessions"]) == 1, "the end of one")
