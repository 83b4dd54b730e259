"""`kill -9` at every stage of a turn: the turn goes on, and the log has no gap."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from strict import Frame
from support import (
    ASKING_TOOLSET,
    INTERRUPT,
    RESCHEDULED,
    RUNNING,
    TOOLSET,
    WEATHER,
    answer,
    asked,
    call_ids,
    calls,
    confirm,
    message,
    raw_stream,
    rested,
    stalled,
    started,
    story,
    take_until,
    text,
    turn,
    until_idle,
)
from world import BOUND, World, wait_until


def positions(mortal: World, session_id: str) -> list[Frame]:
    """Everything that a session at rest has to show, with its places."""
    last = mortal.log(session_id)[-1]["id"]
    frames: list[Frame] = []
    query = {"after": 0, "posthouse_events": "true"}
    with raw_stream(mortal.raw(), session_id, query=query) as stream:
        for frame in stream:
            frames.append(frame)
            if frame.json.get("id") == last:
                return frames
    raise AssertionError("the stream has ended")


def at_rest(mortal: World, session_id: str) -> list[dict[str, Any]]:
    """Waits until a session rests; returns its log, which is the same by list and by stream."""
    wait_until(lambda: mortal.status(session_id) == "idle", "idle")
    log = mortal.log(session_id)
    frames = positions(mortal, session_id)
    places = [tuple(int(part) for part in str(frame.id).split(".")) for frame in frames]
    numbers = [place[0] for place in places]
    assert numbers == sorted(numbers)
    wire = [frame.json for frame in frames if not str(frame.event).startswith("posthouse.")]
    assert wire == log
    return log


def send(mortal: World, session_id: str, *events: Any) -> list[str]:
    """Sends without looking; returns the ids that were acknowledged."""
    sent = mortal.client().beta.sessions.events.send(
        session_id, events=[message(one) if isinstance(one, str) else one for one in events]
    )
    assert sent.data is not None
    return [event.id for event in sent.data]


def test_during_a_response(mortal: World) -> None:
    mortal.model.script(stalled("never whole"), text("whole"))
    session_id = mortal.session()
    deltas: Any = ["agent.message"]
    client = mortal.client()
    with client.beta.sessions.events.stream(session_id, event_deltas=deltas) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        seen = take_until(stream, lambda event: event.type == "event_delta")
        mortal.kill()
    acknowledged = [event.id for event in seen if not event.type.startswith("event_")]
    mortal.start()
    log = at_rest(mortal, session_id)
    assert story(log) == [
        *started("hi"),
        *asked(error=True),
        *asked("agent.message(whole)"),
        *rested(),
    ]
    # What was seen is still there, at its place; what was only previewed is gone for good.
    assert [event["id"] for event in log][: len(acknowledged)] == acknowledged
    assert seen[-1].event_id not in str(log)
    first, second = mortal.model.requests()
    assert first == second


def test_a_turn_goes_on_although_nobody_asks(mortal: World) -> None:
    mortal.model.script(stalled(), text("whole"))
    session_id = mortal.session()
    send(mortal, session_id, "hi")
    mortal.model.wait_for_requests(1)
    mortal.restart()
    # No request to the server is needed for it to go on.
    mortal.model.wait_for_requests(2)
    assert story(at_rest(mortal, session_id))[-1] == "session.status_idle(end_turn)"


def test_a_stream_is_taken_up_where_it_broke(mortal: World) -> None:
    mortal.model.script(stalled(), text("whole"))
    session_id = mortal.session()
    with raw_stream(mortal.raw(), session_id) as stream:
        send(mortal, session_id, "hi")
        before = stream.until("span.model_request_start")
        mortal.model.wait_for_requests(1)
        mortal.restart()
    with raw_stream(mortal.raw(), session_id, last_event_id=before[-1].id) as stream:
        after = stream.until("session.status_idle")
    assert [frame.json for frame in [*before, *after]] == at_rest(mortal, session_id)


def test_again_and_again_during_responses(mortal: World) -> None:
    mortal.model.script(stalled(), stalled(), stalled(), text("whole"))
    session_id = mortal.session()
    send(mortal, session_id, "hi")
    for number in range(1, 4):
        mortal.model.wait_for_requests(number)
        mortal.restart()
    log = at_rest(mortal, session_id)
    spans = story(log)[3:-6]
    # A kill may come before the start of the request is on disk: then there is no trace of it.
    assert spans in [asked(error=True) * lost for lost in range(4)]
    assert story(log)[:3] == started("hi")
    assert story(log)[-6:] == [*asked("agent.message(whole)"), *rested()]


def test_between_tools(mortal: World) -> None:
    mortal.model.script(calls(("bash", {"command": "ls"})), stalled(), text("whole"))
    session_id = mortal.session(tools=[TOOLSET])
    with raw_stream(mortal.raw(), session_id) as stream:
        send(mortal, session_id, "hi")
        stream.until("agent.tool_result")
        stream.until("span.model_request_start")
        mortal.model.wait_for_requests(2)
        mortal.restart()
    assert story(at_rest(mortal, session_id)) == [
        *started("hi"),
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked(error=True),
        *asked("agent.message(whole)"),
        *rested(),
    ]


@pytest.mark.parametrize("tool", ["custom", "ask"])
def test_while_answers_are_awaited(mortal: World, tool: str) -> None:
    name = "weather" if tool == "custom" else "bash"
    mortal.model.script(calls((name, {}), (name, {})), text("done"))
    session_id = mortal.session(tools=[WEATHER if tool == "custom" else ASKING_TOOLSET])
    first, second = call_ids(turn(mortal.client(), session_id, "hi"))
    before = mortal.log(session_id)

    def reply_to(call: str) -> dict[str, Any]:
        reply: dict[str, Any]
        reply = answer(call, "sun") if tool == "custom" else confirm(call, "deny")
        return reply

    mortal.restart()
    assert mortal.log(session_id) == before
    assert mortal.status(session_id) == "idle"
    send(mortal, session_id, reply_to(second))
    mortal.restart()
    assert story(mortal.log(session_id))[-3:] == rested("requires_action")
    with mortal.client().beta.sessions.events.stream(session_id) as stream:
        send(mortal, session_id, reply_to(first))
        until_idle(stream, "end_turn")
    after = story(at_rest(mortal, session_id))[len(before) :]
    word = "user.custom_tool_result" if tool == "custom" else "user.tool_confirmation(deny)"
    results = [] if tool == "custom" else ["agent.tool_result(error)"] * 2
    assert after == [
        *(word, *rested("requires_action")),
        *(word, *RUNNING, *results),
        *asked("agent.message(done)"),
        *rested(),
    ]


def test_with_messages_waiting(mortal: World) -> None:
    mortal.model.script(stalled(), text("all heard"))
    session_id = mortal.session()
    ids = send(mortal, session_id, "one")
    mortal.model.wait_for_requests(1)
    ids += send(mortal, session_id, "two", "three")
    mortal.restart()
    log = at_rest(mortal, session_id)
    assert [event["id"] for event in log if event["type"] == "user.message"] == ids
    assert story(log)[-6:] == [*asked("agent.message(all heard)"), *rested()]
    assert story(log).count("session.status_running") == 1


def test_a_rest_of_a_wait_is_waited_out(mortal: World) -> None:
    mortal.model.script({"status": 529, "headers": {"retry-after": "3"}}, text("whole"))
    session_id = mortal.session()
    with raw_stream(mortal.raw(), session_id) as stream:
        send(mortal, session_id, "hi")
        stream.until("session.status_rescheduled")
    time.sleep(1)
    mortal.restart()
    assert mortal.status(session_id) == "rescheduling"
    log = at_rest(mortal, session_id)
    assert story(log) == [
        *started("hi"),
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *RESCHEDULED,
        *RUNNING,
        *asked("agent.message(whole)"),
        *rested(),
    ]
    first, second = (one["received_at_ms"] for one in mortal.model.captured())
    # The rest of the three seconds, and not three seconds more.
    assert 3000 <= second - first < 3900


def test_an_interrupt_survives(mortal: World) -> None:
    mortal.model.script(stalled(), text("after"))
    session_id = mortal.session()
    send(mortal, session_id, "hi")
    mortal.model.wait_for_requests(1)
    send(mortal, session_id, INTERRUPT)
    mortal.restart()
    log = at_rest(mortal, session_id)
    # Acknowledged is acknowledged: the turn is over, and the model is not asked again.
    assert story(log)[-4:] == ["user.interrupt", *rested()]
    assert len(mortal.model.requests()) == 1


def test_at_rest_nothing_happens(mortal: World) -> None:
    mortal.model.script(text("one"))
    session_id = mortal.session()
    turn(mortal.client(), session_id, "hi")
    before = mortal.log(session_id)
    session = mortal.client().beta.sessions.retrieve(session_id)
    for _ in range(2):
        mortal.restart()
    assert mortal.log(session_id) == before
    after = mortal.client().beta.sessions.retrieve(session_id)
    assert (after.usage, after.updated_at, after.agent) == (
        session.usage,
        session.updated_at,
        session.agent,
    )


def test_the_thinking_of_before_is_sent_again_to_the_letter(mortal: World) -> None:
    mortal.model.script(
        {
            "steps": [
                {"thinking": "a thought, kept"},
                {"text": "let me see"},
                {"tool_use": {"name": "weather", "input": {"b": 1, "a": [1.0, "ü"]}}},
            ]
        },
        text("done"),
        text("again"),
    )
    tool = {**WEATHER, "input_schema": {"type": "object"}}
    session_id = mortal.session(tools=[tool])
    (call,) = call_ids(turn(mortal.client(), session_id, "hi"))
    mortal.restart()
    turn(mortal.client(), session_id, answer(call, "sun"))
    mortal.restart()
    turn(mortal.client(), session_id, "more")
    # The model's own checks see each request: prefix, thinking and inputs to the letter.
    assert len(mortal.model.requests()) == 3


def test_at_random_moments_of_a_long_turn(mortal: World) -> None:
    chance = random.Random(11)
    steps = [
        {"thinking": "hm", "pause_ms": 4},
        {"text": "one step", "chunk": 2, "pause_ms": 4},
        {"tool_use": {"name": "bash", "input": {"command": "ls"}}, "pause_ms": 4},
    ]
    mortal.model.script(*({"steps": steps} for _ in range(12)), text("end", times=0))
    session_id = mortal.session(tools=[TOOLSET])
    ids = send(mortal, session_id, "hi")
    for number in range(8):
        time.sleep(chance.uniform(0, 0.15))
        if number % 3 == 1:
            ids += send(mortal, session_id, f"by the way {number}")
        mortal.restart()
    log = at_rest(mortal, session_id)
    assert [event["id"] for event in log if event["type"] == "user.message"] == ids
    uses = [event["id"] for event in log if event["type"] == "agent.tool_use"]
    results = [event["tool_use_id"] for event in log if event["type"] == "agent.tool_result"]
    assert uses == results
    assert story(log)[-6:-3] == asked("agent.message(end)")
    assert {event["is_error"] for event in log if event["type"] == "span.model_request_end"} <= {
        True,
        False,
    }


def test_many_sessions_go_on(mortal: World) -> None:
    agent = mortal.agent()
    mortal.model.script(
        *({"when": {"last_user_contains": f"session {i}"}, **stalled()} for i in range(10)),
        {"times": 0, "steps": [{"echo": True}]},
    )
    sessions = [mortal.session(agent) for _ in range(10)]
    for number, session_id in enumerate(sessions):
        send(mortal, session_id, f"session {number}")
    mortal.model.wait_for_requests(10)
    mortal.restart()
    with ThreadPoolExecutor(5) as pool:
        logs = list(pool.map(lambda one: at_rest(mortal, one), sessions))
    for number, log in enumerate(logs):
        assert story(log)[-5:-3] == [f"agent.message(session {number})", "span.model_request_end"]


def test_a_second_server_on_the_same_data_does_not_start(mortal: World) -> None:
    with pytest.raises(RuntimeError, match="does not listen"):
        mortal._start("127.0.0.1:0")
    # The first one has not noticed.
    mortal.model.script(text("hello"))
    assert (
        story(turn(mortal.client(), mortal.session(), "hi"))[-1] == "session.status_idle(end_turn)"
    )


def test_an_sdk_client_with_retries_notices_nothing(mortal: World) -> None:
    mortal.model.script(stalled(), text("whole"))
    session_id = mortal.session()
    client: anthropic.Anthropic = mortal.client(max_retries=10, timeout=BOUND)
    client.beta.sessions.events.send(session_id, events=[message("hi")])
    mortal.model.wait_for_requests(1)
    mortal.kill()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: list(client.beta.sessions.events.list(session_id)))
        mortal.start()
        log = reading.result(2 * BOUND)
    assert story(log)[:3] == started("hi")
