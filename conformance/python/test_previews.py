"""Previews: the SDK's own accumulator over real streams, and what it relies on."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.lib.sessions import AccumulatedEvent, accumulate_managed_agents_event

from support import (
    INTERRUPT,
    TOOLSET,
    asked,
    is_idle,
    message,
    raw_stream,
    rested,
    started,
    story,
    take_until,
    until_idle,
)
from world import World

BOTH = ["agent.message", "agent.thinking"]
POEM = "The mail went on, \U0001f40e by \U0001f40e, whatever the weather. " * 4


def spoken(words: str, **step: Any) -> dict[str, Any]:
    """A reply that speaks slowly enough to be heard."""
    return {"steps": [{"text": words, "chunk": 7, "pause_ms": 2, **step}]}


def texts(event: AccumulatedEvent | None) -> list[str]:
    """The texts of a message's blocks."""
    assert event is not None
    return [block.text for block in event.content if block.type == "text"]


def previewed(
    client: anthropic.Anthropic, session_id: str, *kinds: str, send: str | None = "hi"
) -> list[Any]:
    """One turn, with previews of these kinds."""
    deltas: Any = list(kinds)
    with client.beta.sessions.events.stream(session_id, event_deltas=deltas) as stream:
        if send is not None:
            client.beta.sessions.events.send(session_id, events=[message(send)])
        return until_idle(stream)


def without_previews(events: list[Any]) -> list[Any]:
    """What is left without previews."""
    return [event for event in events if not event.type.startswith("event_")]


def test_the_accumulator_sees_a_message_grow(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(spoken(POEM))
    session_id = world.session()
    events = previewed(client, session_id, "agent.message")
    snapshot: AccumulatedEvent | None = None
    grown: list[str] = []
    for event in events:
        snapshot = accumulate_managed_agents_event(snapshot, event)
        if event.type == "event_delta":
            grown.append("".join(texts(snapshot)))
    assert texts(snapshot) == [POEM]
    # Each state is a beginning of the whole, and each delta brings something.
    assert len(grown) > 10
    assert all(POEM.startswith(one) for one in grown)
    assert grown == sorted(set(grown), key=len)
    assert grown[-1] == POEM
    kinds = [event.type for event in events]
    start, final = kinds.index("event_start"), kinds.index("agent.message")
    assert kinds[start - 1] == "span.model_request_start"
    assert kinds[start + 1 : final] == ["event_delta"] * len(grown)
    assert events[start].event.id == events[final].id == events[start + 1].event_id
    assert story(without_previews(events)) == [
        *started("hi"),
        *asked(f"agent.message({POEM})"),
        *rested(),
    ]


def test_deltas_come_as_the_model_speaks(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"steps": [{"text": "now"}, {"stall": True}]})
    session_id = world.session()
    deltas: Any = ["agent.message"]
    with client.beta.sessions.events.stream(session_id, event_deltas=deltas) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        # The response never ends, so the event itself never comes.
        seen = take_until(stream, lambda event: event.type == "event_delta")
        assert seen[-1].delta.content.text == "now"
        previewed_id = seen[-1].event_id
        client.beta.sessions.events.send(session_id, events=[INTERRUPT])
        rest = until_idle(stream)
    # What closes the preview is the end of the request; the id is never used again.
    assert rest[0].type == "span.model_request_end" and rest[0].is_error
    assert previewed_id not in str(world.log(session_id))


def test_a_new_attempt_has_a_new_id(world: World, client: anthropic.Anthropic) -> None:
    cut = {"steps": [{"text": "half a"}, {"pause_ms": 300}, {"cut": True}]}
    world.model.script(cut, spoken("whole"))
    session_id = world.session()
    events = previewed(client, session_id, "agent.message")
    starts = [event.event.id for event in events if event.type == "event_start"]
    (final,) = [event.id for event in events if event.type == "agent.message"]
    assert len(starts) == 2 and starts[0] != starts[1] == final
    assert starts[0] not in str(world.log(session_id))


def test_several_blocks_are_several_indices(world: World, client: anthropic.Anthropic) -> None:
    blocks = [{"text": words, "chunk": 2, "pause_ms": 1} for words in ("first", "second", "third")]
    world.model.script({"steps": blocks})
    session_id = world.session()
    events = previewed(client, session_id, "agent.message")
    indices = [event.delta.index for event in events if event.type == "event_delta"]
    assert indices == sorted(indices) and set(indices) == {0, 1, 2}
    snapshot: AccumulatedEvent | None = None
    for event in events:
        if event.type.startswith("event_"):
            snapshot = accumulate_managed_agents_event(snapshot, event)
    assert texts(snapshot) == ["first", "second", "third"]


def test_messages_before_and_after_tools_are_previewed_apart(
    world: World, client: anthropic.Anthropic
) -> None:
    use = {"tool_use": {"name": "bash", "input": {"command": "ls"}, "chunk": 3}}
    world.model.script({"steps": [{"text": "before", "chunk": 2}, use]}, spoken("after"))
    session_id = world.session(tools=[TOOLSET])
    events = previewed(client, session_id, "agent.message")
    messages = {event.id: texts(event) for event in events if event.type == "agent.message"}
    assert list(messages.values()) == [["before"], ["after"]]
    heard: dict[str, str] = {}
    for event in events:
        if event.type == "event_delta":
            heard[event.event_id] = heard.get(event.event_id, "") + event.delta.content.text
    assert {key: [value] for key, value in heard.items()} == messages


def test_thinking_is_announced_and_not_told(world: World, client: anthropic.Anthropic) -> None:
    thinking = {"thinking": "a secret thought", "chunk": 3, "pause_ms": 1}
    world.model.script({"steps": [thinking, {"text": "said", "chunk": 2, "pause_ms": 1}]})
    session_id = world.session()
    events = previewed(client, session_id, *BOTH)
    kinds = [event.type for event in events]
    assert [kind for kind in kinds if kind != "event_delta"] == [
        "session.status_running",
        "session.thread_status_running",
        "user.message",
        "span.model_request_start",
        "event_start",
        "event_start",
        "agent.thinking",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    starts = [event.event for event in events if event.type == "event_start"]
    assert [start.type for start in starts] == ["agent.thinking", "agent.message"]
    by_id = {event.id: event.type for event in without_previews(events)}
    assert [by_id[start.id] for start in starts] == ["agent.thinking", "agent.message"]
    assert {event.event_id for event in events if event.type == "event_delta"} == {starts[1].id}
    snapshot: AccumulatedEvent | None = None
    for event in events:
        snapshot = accumulate_managed_agents_event(snapshot, event)
    assert texts(snapshot) == ["said"]


@pytest.mark.parametrize(
    ("kinds", "seen"),
    [
        ([], set()),
        (["agent.message"], {"agent.message"}),
        (["agent.thinking"], {"agent.thinking"}),
        (BOTH, set(BOTH)),
    ],
)
def test_each_connection_gets_what_it_asked_for(
    world: World, client: anthropic.Anthropic, kinds: list[str], seen: set[str]
) -> None:
    world.model.script({"steps": [{"thinking": "hm"}, {"text": "x", "pause_ms": 2}]})
    session_id = world.session()
    deltas: Any = kinds or anthropic.omit
    with (
        client.beta.sessions.events.stream(session_id, event_deltas=deltas) as stream,
        world.client().beta.sessions.events.stream(session_id) as plain,
    ):
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        events, others = until_idle(stream), until_idle(plain)
    assert {event.event.type for event in events if event.type == "event_start"} == seen
    assert any(event.type == "event_delta" for event in events) == ("agent.message" in seen)
    assert without_previews(events) == others
    assert story(others) == story(world.log(session_id))


def test_a_connection_in_the_middle_gets_no_half_message(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script({"steps": [{"text": "early "}, {"pause_ms": 700}, {"text": "late"}]})
    session_id = world.session()
    deltas: Any = ["agent.message"]
    with client.beta.sessions.events.stream(session_id, event_deltas=deltas) as first:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        take_until(first, lambda event: event.type == "event_delta")
        with client.beta.sessions.events.stream(session_id, event_deltas=deltas) as second:
            late = until_idle(second)
        until_idle(first)
    # The helper would raise at a delta whose start it has not seen.
    snapshot: AccumulatedEvent | None = None
    for event in late:
        snapshot = accumulate_managed_agents_event(snapshot, event)
    assert texts(snapshot) == ["early ", "late"]


def test_the_primary_thread_has_previews_too(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(spoken("hello there"))
    session_id = world.session()
    (thread,) = client.beta.sessions.threads.list(session_id)
    deltas: Any = ["agent.message"]
    with client.beta.sessions.threads.events.stream(
        thread.id, session_id=session_id, event_deltas=deltas
    ) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        seen = take_until(stream, lambda event: event.type == "session.thread_status_idle")
    heard = "".join(event.delta.content.text for event in seen if event.type == "event_delta")
    assert heard == "hello there"


def test_previews_are_never_replayed(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(spoken("hello there"))
    session_id = world.session()
    previewed(client, session_id, "agent.message")
    query = {"after": 0, "event_deltas[]": "agent.message"}
    with raw_stream(world.raw(), session_id, query=query) as stream:
        frames = stream.until("session.status_idle")
    assert [frame.json for frame in frames] == world.log(session_id)


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(spoken(POEM))
    session_id = world.session()
    snapshot: AccumulatedEvent | None = None
    events = async_client.beta.sessions.events
    async with await events.stream(session_id, event_deltas=["agent.message"]) as stream:
        await events.send(session_id, events=[message("hi")])
        async for event in stream:
            snapshot = accumulate_managed_agents_event(snapshot, event)
            if snapshot and event.type == "event_delta":
                assert POEM.startswith("".join(texts(snapshot)))
            if is_idle(event):
                break
    assert texts(snapshot) == [POEM]
