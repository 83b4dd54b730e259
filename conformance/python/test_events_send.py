"""Sending events: what is accepted, what is echoed, what is refused, and what lists say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import anthropic
import pytest
from anthropic.types.beta.sessions.beta_managed_agents_session_event_type import (
    BetaManagedAgentsSessionEventType,
)

from support import (
    ASKING_TOOLSET,
    INTERRUPT,
    TOOLSET,
    WEATHER,
    answer,
    asked,
    call_ids,
    calls,
    confirm,
    message,
    rested,
    stalled,
    started,
    story,
    system_message,
    take_until,
    text,
    turn,
    until_idle,
    wire,
)
from world import BOUND, MODEL_WITHOUT_SYSTEM_MESSAGES, World, wait_until

UNKNOWN_EVENT = "sevt_0123456789abcdefABCDEF01"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_the_echo_of_a_message_is_not_processed_yet(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(stalled(), text("heard"))
    session_id = world.session()
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("first")])
        take_until(stream, lambda event: event.type == "span.model_request_start")
        world.model.wait_for_requests(1)
        sent = client.beta.sessions.events.send(session_id, events=[message("second")])
        assert sent.data is not None
        (echo,) = sent.data
        assert wire(echo) == {
            **message("second"),
            "id": echo.id,
            "processed_at": None,
        }
        # What waits stands last in the list, and first in the list that is read backward.
        assert world.log(session_id)[-1] == wire(echo)
        bounded = client.beta.sessions.events.list(session_id, created_at_gt="2026-01-01T00:00:00Z")
        assert echo.id not in [event.id for event in bounded]
        newest_first = client.beta.sessions.events.list(session_id, order="desc", limit=1)
        assert [event.id for event in newest_first.data] == [echo.id]
        client.beta.sessions.events.send(session_id, events=[INTERRUPT])
        # It is processed once it is taken, and keeps its id.
        taken = take_until(stream, lambda event: event.id == echo.id)[-1]
        assert taken.processed_at is not None


def test_all_content_is_kept_as_sent_and_reaches_the_model(
    world: World, client: anthropic.Anthropic
) -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": 'Ünï "quotes" \\ \n\t\u2028 and \U0001f40e'},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "title": "Spec",
            "context": "v2",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        },
    ]
    world.model.script(text("seen"))
    session_id = world.session()
    events = turn(client, session_id, {"type": "user.message", "content": content})
    (kept,) = [event for event in world.log(session_id) if event["type"] == "user.message"]
    assert kept["content"] == content
    (streamed,) = [event for event in events if event.type == "user.message"]
    assert wire(streamed)["content"] == content
    (request,) = world.model.requests()
    received = [
        {name: value for name, value in block.items() if name != "cache_control"}
        for block in request["messages"][-1]["content"]
    ]
    assert received == content


def test_results_of_custom_tools_may_have_all_content(
    world: World, client: anthropic.Anthropic
) -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "sunny"},
        {
            "type": "search_result",
            "source": "https://example.com",
            "title": "t",
            "content": [{"type": "text", "text": "x"}],
            "citations": {"enabled": True},
        },
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ]
    world.model.script(
        calls(("weather", {"city": "Rome"})),
        text("thanks", when={"has_tool_result_for": "weather"}),
    )
    session_id = world.session(tools=[WEATHER])
    (call,) = call_ids(turn(client, session_id, "hi"))
    events = turn(client, session_id, {**answer(call, ""), "content": content})
    assert wire(events[0])["content"] == content
    result = world.model.requests()[-1]["messages"][-1]["content"][0]
    assert result["type"] == "tool_result" and result["content"] == content


@pytest.mark.parametrize("fields", [{}, {"content": None}, {"content": []}, {"is_error": None}])
def test_a_result_may_be_empty(
    world: World, client: anthropic.Anthropic, fields: dict[str, Any]
) -> None:
    world.model.script(calls(("weather", {})), text("nothing, then"))
    session_id = world.session(tools=[WEATHER])
    (call,) = call_ids(turn(client, session_id, "hi"))
    bare = {"type": "user.custom_tool_result", "custom_tool_use_id": call, **fields}
    events = turn(client, session_id, bare)
    assert story(events)[-1] == "session.status_idle(end_turn)"
    assert not events[0].is_error


def test_the_echo_of_a_result_is_processed(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("weather", {})), text("ok"))
    session_id = world.session(tools=[WEATHER])
    (call,) = call_ids(turn(client, session_id, "hi"))
    with client.beta.sessions.events.stream(session_id) as stream:
        sent = client.beta.sessions.events.send(session_id, events=[answer(call, "warm")])
        assert sent.data is not None
        (echo,) = sent.data
        assert echo.processed_at is not None
        assert until_idle(stream)[0] == echo


def test_the_order_of_a_batch_is_kept(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("all three"))
    session_id = world.session()
    events = turn(client, session_id, "a", "b", "c")
    wanted = [*started("a", "b", "c"), *asked("agent.message(all three)"), *rested()]
    assert story(events) == wanted
    texts = [block["text"] for block in world.model.requests()[0]["messages"][-1]["content"]]
    assert texts == ["a", "b", "c"]


def test_a_batch_is_taken_whole_or_not_at_all(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session()
    wrong: Any
    for wrong in (
        {"type": "user.message", "content": []},
        answer(UNKNOWN_EVENT, "x"),
        confirm(UNKNOWN_EVENT),
    ):
        with pytest.raises(anthropic.BadRequestError, match=r"events\[1\]"):
            client.beta.sessions.events.send(session_id, events=[message("ok"), wrong])
    assert world.log(session_id) == []
    assert world.status(session_id) == "idle"


@pytest.mark.parametrize(
    ("event", "wording"),
    [
        (
            {"type": "tool_confirmation"},
            'Failed to parse request: events[0].type: "tool_confirmation" is not a valid value',
        ),
        ({"type": "agent.message", "content": []}, "events[0].type"),
        ({"type": "session.status_idle"}, "events[0].type"),
        ({}, "events[0].type"),
        ({"type": "user.message"}, "events[0].content"),
        ({"type": "user.message", "content": "hi"}, "events[0].content"),
        ({"type": "user.message", "content": [{"type": "text", "text": ""}]}, "events[0].content"),
        ({"type": "user.message", "content": [{"type": "redacted"}]}, "events[0].content"),
        ({"type": "user.message", "content": [{"type": "video"}]}, "events[0].content"),
        ({**message("x"), "id": "sevt_mine"}, "unknown field"),
        ({**message("x"), "session_thread_id": "sthr_1"}, "unknown field"),
        (
            {
                "type": "user.message",
                "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
            },
            "events[0].content",
        ),
        (
            {
                "type": "user.message",
                "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}],
            },
            "events[0].content",
        ),
        ({"type": "user.tool_confirmation", "tool_use_id": UNKNOWN_EVENT}, "events[0].result"),
        (confirm(UNKNOWN_EVENT, "maybe"), "events[0].result"),
        (confirm(UNKNOWN_EVENT, "allow", deny_message="no"), "deny_message"),
        (confirm(UNKNOWN_EVENT, "deny", deny_message="x" * 10_001), "deny_message"),
        (confirm(""), "events[0].tool_use_id"),
        (confirm("x" * 129), "events[0].tool_use_id"),
        (
            {"type": "user.tool_result", "tool_use_id": UNKNOWN_EVENT, "content": []},
            "events[0]",
        ),
        (
            {
                "type": "user.define_outcome",
                "description": "d",
                "rubric": {"type": "text", "content": "r"},
            },
            "events[0]",
        ),
        ({"type": "system.message", "content": []}, "events[0].content"),
        (
            {
                "type": "system.message",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}}
                ],
            },
            "events[0].content",
        ),
        (
            {"type": "user.interrupt", "session_thread_id": "sthr_0123456789abcdefABCDEF01"},
            "events[0]",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(
    world: World, client: anthropic.Anthropic, event: Any, wording: str
) -> None:
    session_id = world.session()
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.events.send(session_id, events=[event])
    assert wording in str(caught.value.api_message)
    assert world.log(session_id) == []


@pytest.mark.parametrize(
    "body", [{}, {"events": []}, {"events": None}, {"events": [message("x")], "x": 1}]
)
def test_bodies_are_checked(world: World, body: dict[str, Any]) -> None:
    session_id = world.session()
    assert world.raw().post(f"/v1/sessions/{session_id}/events", json=body).status_code == 400
    assert world.log(session_id) == []


def test_no_message_while_answers_are_awaited(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("weather", {"city": "a"}), ("weather", {"city": "b"})))
    session_id = world.session(tools=[WEATHER])
    ids = call_ids(turn(client, session_id, "hi"))
    before = world.log(session_id)
    for events in ([message("hello?")], [system_message("hello?")]):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.events.send(session_id, events=events)
        for call in ids:
            assert call in str(caught.value.api_message)
    assert world.log(session_id) == before


def test_the_first_answer_wins(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("weather", {"city": "a"}), ("weather", {"city": "b"})), text("so so"))
    session_id = world.session(tools=[WEATHER])
    first, second = call_ids(turn(client, session_id, "hi"))
    turn(client, session_id, answer(first, "rain"))
    before = world.log(session_id)
    client.beta.sessions.events.send(session_id, events=[answer(first, "sun")])
    assert world.log(session_id) == before
    turn(client, session_id, answer(second, "snow"))
    before = world.log(session_id)
    # The same when the turn is over.
    for call in (first, second):
        client.beta.sessions.events.send(session_id, events=[answer(call, "sun")])
    assert world.log(session_id) == before
    assert world.status(session_id) == "idle"
    results = world.model.requests()[-1]["messages"][-1]["content"]
    assert [one["content"][0]["text"] for one in results] == ["rain", "snow"]


def test_the_first_confirmation_wins(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("bash", {"command": "ls"})), text("as you wish"))
    session_id = world.session(tools=[ASKING_TOOLSET])
    (call,) = call_ids(turn(client, session_id, "hi"))
    turn(client, session_id, confirm(call, "deny"))
    before = world.log(session_id)
    client.beta.sessions.events.send(session_id, events=[confirm(call, "allow")])
    assert world.log(session_id) == before


def test_answers_to_unknown_calls_are_refused(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        calls(("weather", {})), text("done"), calls(("bash", {"command": "ls"})), text("done")
    )
    session_id = world.session(tools=[WEATHER, TOOLSET])
    (call,) = call_ids(turn(client, session_id, "hi"))
    for wrong in (
        answer(UNKNOWN_EVENT, "x"),
        confirm(UNKNOWN_EVENT),
        confirm(call),
        answer("toolu_1", "x"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=r"events\[0\]"):
            client.beta.sessions.events.send(session_id, events=[wrong])
    turn(client, session_id, answer(call, "x"))
    allowed = turn(client, session_id, "and now?")
    (bash,) = [event.id for event in allowed if event.type == "agent.tool_use"]
    # That one was allowed by its policy: nobody has asked.
    with pytest.raises(anthropic.BadRequestError, match=bash):
        client.beta.sessions.events.send(session_id, events=[confirm(bash)])


def test_an_interrupt_at_rest_changes_nothing(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("done"))
    session_id = world.session()
    (thread,) = client.beta.sessions.threads.list(session_id)
    interrupt: Any
    for interrupt in (INTERRUPT, {**INTERRUPT, "session_thread_id": thread.id}):
        sent = client.beta.sessions.events.send(session_id, events=[interrupt])
        assert sent.data is not None and sent.data[0].type == "user.interrupt"
    assert world.log(session_id) == []
    turn(client, session_id, "hi")
    before = world.log(session_id)
    client.beta.sessions.events.send(session_id, events=[INTERRUPT])
    assert world.log(session_id) == before


def test_system_messages_have_their_place(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session()
    for events in (
        [system_message("a"), message("b")],
        [message("a"), system_message("b"), system_message("c")],
        [system_message("b"), system_message("c")],
    ):
        with pytest.raises(anthropic.BadRequestError, match=r"events\["):
            client.beta.sessions.events.send(session_id, events=events)
    assert world.log(session_id) == []


def test_a_model_without_system_messages_takes_none(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(model=MODEL_WITHOUT_SYSTEM_MESSAGES)
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.events.send(
            session_id,
            events=[message("a"), system_message("b")],
        )
    assert caught.value.error_code == "model_does_not_support_mid_conversation_system"
    assert world.log(session_id) == []


def test_many_clients_of_one_session(world: World) -> None:
    world.model.script({"times": 0, "steps": [{"echo": True}]})
    session_id = world.session()
    begun = threading.Barrier(8)

    def talk(name: int) -> list[str]:
        mine = world.client()
        begun.wait(BOUND)
        said = [f"{name}.{number}" for number in range(5)]
        for one in said:
            mine.beta.sessions.events.send(session_id, events=[message(one)])
        return said

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(talk, range(8)))
    wait_until(lambda: world.status(session_id) == "idle", "idle")
    log = world.log(session_id)
    heard = [event["content"][0]["text"] for event in log if event["type"] == "user.message"]
    # All of them, once each, and those of one client in the order in which it sent them.
    assert sorted(heard) == sorted(one for said in sent for one in said)
    for name, said in enumerate(sent):
        assert [one for one in heard if one.startswith(f"{name}.")] == said


def test_a_long_message(world: World, client: anthropic.Anthropic) -> None:
    words = "0123456789abcdef\u00fc\n" * 100_000
    world.model.script(text("long indeed"))
    session_id = world.session()
    events = turn(client, session_id, words)
    assert events[2].content[0].text == words
    assert world.log(session_id)[2]["content"][0]["text"] == words
    assert world.model.requests()[0]["messages"][0]["content"][0]["text"] == words


def test_lists_filter_by_type_and_time(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("one"), text("two"))
    session_id = world.session()
    turn(client, session_id, "a")
    turn(client, session_id, "b")
    log = list(client.beta.sessions.events.list(session_id))

    def listed(**query: Any) -> list[Any]:
        return list(client.beta.sessions.events.list(session_id, **query))

    assert listed(order="asc") == log
    assert listed(order="desc") == log[::-1]
    assert story(listed(types=["agent.message", "user.message"])) == [
        "user.message(a)",
        "agent.message(one)",
        "user.message(b)",
        "agent.message(two)",
    ]
    for kind in get_args(BetaManagedAgentsSessionEventType):
        assert listed(types=[kind]) == [event for event in log if event.type == kind]
    middle = log[7]
    assert listed(created_at_gt=middle.processed_at) == log[8:]
    assert listed(created_at_gte=middle.processed_at) == log[7:]
    assert listed(created_at_lt=middle.processed_at) == log[:7]
    assert listed(created_at_lte=middle.processed_at) == log[:8]
    assert listed(created_at_gt=log[2].processed_at, created_at_lt=middle.processed_at) == log[3:7]
    assert listed(created_at_gte=middle.processed_at, order="desc", types=["agent.message"]) == [
        event for event in log[7:] if event.type == "agent.message"
    ]
    # Old clients repeat the bare name.
    http = world.raw()
    path = f"/v1/sessions/{session_id}/events"
    query = {"types": ["agent.message", "user.message"], "beta": "true"}
    assert len(http.get(path, params=query).json()["data"]) == 4
    assert http.get(path, params={"types[]": "agent.dance"}).status_code == 400
    assert http.get(path, params={"types[]": "session.deleted"}).status_code == 400


def test_own_records_are_shown_to_those_who_ask(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("one"))
    session_id = world.session()
    events = turn(client, session_id, "a")
    http = world.raw()
    path = f"/v1/sessions/{session_id}/events"
    shown = http.get(path, params={"posthouse_events": "true"}).json()["data"]
    own = [event for event in shown if event["type"].startswith("posthouse.")]
    assert "posthouse.session_opened" in [event["type"] for event in own]
    others = [event for event in shown if event not in own]
    assert story(others) == story(events) == story(world.log(session_id))
    assert http.get(path, params={"posthouse_events": "perhaps"}).status_code == 400
