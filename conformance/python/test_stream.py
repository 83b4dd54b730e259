"""Streams: who sees what from where on, and that a cut connection loses and doubles nothing."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import pytest

from strict import Frame, FrameReader
from support import (
    INTERRUPT,
    TERMINATED,
    TOOLSET,
    WEATHER,
    asked,
    call_ids,
    calls,
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
    wire,
)
from world import API_KEY, BOUND, World, wait_until

# The longest silence on a stream, in seconds.
PING_EVERY = 15
ONE_TURN = [*started("hi"), *asked("agent.message(hello)"), *rested()]


@pytest.fixture(scope="module", autouse=True)
def first_ping(shared_world: World) -> Future[float]:
    """Waits for a ping while the other tests run: seconds until the first one on a quiet stream."""
    session_id = shared_world.session()
    found: Future[float] = Future()

    def wait() -> None:
        begun = time.monotonic()
        timeout = httpx2.Timeout(BOUND, read=PING_EVERY + BOUND)
        headers = {"authorization": f"Bearer {API_KEY}"}
        try:
            with (
                httpx2.Client(base_url=shared_world.url, headers=headers, timeout=timeout) as http,
                raw_stream(http, session_id) as stream,
            ):
                for frame in stream.all_frames():
                    # Not the one that opens the stream.
                    if frame.event == "ping" and time.monotonic() - begun > 1:
                        return found.set_result(time.monotonic() - begun)
            raise AssertionError("the stream has ended")
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return found


# --- from where on


def test_open_then_send(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    events = turn(client, session_id, "hi")
    assert story(events) == ONE_TURN
    assert [wire(event)["id"] for event in events] == [
        event["id"] for event in world.log(session_id)
    ]


def test_what_is_streamed_is_what_is_listed(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        {"steps": [{"thinking": "hm"}, {"text": "a"}, {"tool_use": {"name": "bash", "input": {}}}]},
        text("b"),
    )
    session_id = world.session(tools=[TOOLSET])
    http = world.raw()
    with raw_stream(http, session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        frames = stream.until("session.status_idle")
    assert [frame.json for frame in frames] == world.log(session_id)


def test_send_then_stream_while_the_turn_runs(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"steps": [{"pause_ms": 700}, {"text": "hello"}]})
    session_id = world.session()
    client.beta.sessions.events.send(session_id, events=[message("hi")])
    world.model.wait_for_requests(1)
    with client.beta.sessions.events.stream(session_id) as stream:
        assert story(until_idle(stream)) == ONE_TURN


def end_unseen(world: World, client: anthropic.Anthropic, session_id: str) -> None:
    """Runs a turn to its end without anybody being shown it."""
    client.beta.sessions.events.send(session_id, events=[message("hi")])
    world.model.wait_for_requests(1)
    # Nothing can be asked here: whatever shows the end uses up what is to be tested.
    time.sleep(0.5)


def test_send_then_stream_after_the_turn(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"), text("again"))
    session_id = world.session()
    end_unseen(world, client, session_id)
    with client.beta.sessions.events.stream(session_id) as stream:
        assert story(until_idle(stream)) == ONE_TURN
        # The replay passes into what follows without a seam.
        client.beta.sessions.events.send(session_id, events=[message("more")])
        wanted = [*started("more"), *asked("agent.message(again)"), *rested()]
        assert story(until_idle(stream)) == wanted


def test_a_turn_is_replayed_once(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"), text("again"))
    session_id = world.session()
    end_unseen(world, client, session_id)
    with client.beta.sessions.events.stream(session_id) as stream:
        until_idle(stream)
    # A stale idle would end a client that waits for the next one.
    events = turn(client, session_id, "more")
    assert story(events) == [*started("more"), *asked("agent.message(again)"), *rested()]


@pytest.mark.parametrize("look", ["retrieve", "events", "thread", "stream"])
def test_what_was_shown_is_not_replayed(
    world: World, client: anthropic.Anthropic, look: str
) -> None:
    world.model.script(text("hello"), text("again"))
    session_id = world.session()
    if look == "stream":
        with client.beta.sessions.events.stream(session_id) as stream:
            client.beta.sessions.events.send(session_id, events=[message("hi")])
            until_idle(stream)
    else:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        if look == "retrieve":
            wait_until(lambda: world.status(session_id) == "idle", "idle")
        elif look == "events":
            wait_until(lambda: story(world.log(session_id))[-3:] == rested(), "idle")
        else:
            (thread,) = client.beta.sessions.threads.list(session_id)
            events = client.beta.sessions.threads.events
            with events.stream(thread.id, session_id=session_id) as stream:
                take_until(stream, lambda event: event.type == "session.thread_status_idle")
            wait_until(lambda: world.status(session_id) == "idle", "idle")
    wanted = [*started("more"), *asked("agent.message(again)"), *rested()]
    assert story(turn(client, session_id, "more")) == wanted


def test_a_client_that_waits_for_answers_first_is_told_of_them(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(calls(("weather", {"city": "Rome"})), text("done"))
    session_id = world.session(tools=[WEATHER])
    end_unseen(world, client, session_id)
    with client.beta.sessions.events.stream(session_id) as stream:
        seen = until_idle(stream)
        assert len(call_ids(seen)) == 1
    assert story(seen) == [
        *started("hi"),
        *asked("agent.custom_tool_use(weather)"),
        *rested("requires_action"),
    ]


def test_every_event_of_a_stream_is_in_the_list_already(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(*(calls(("bash", {"command": str(i)})) for i in range(5)), text("end"))
    session_id = world.session(tools=[TOOLSET])
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        event: Any
        for event in stream:
            assert event.id in [one["id"] for one in world.log(session_id)]
            if event.type == "session.status_idle":
                assert world.status(session_id) == "idle"
                break


def test_two_streams_see_the_same(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("bash", {"command": "ls"})), text("hello"))
    session_id = world.session(tools=[TOOLSET])
    other = world.client()
    with (
        client.beta.sessions.events.stream(session_id) as first,
        other.beta.sessions.events.stream(session_id) as second,
    ):
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        assert until_idle(first) == until_idle(second)


def test_many_streams_see_the_same(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(("bash", {"command": "ls"})), text("hello"))
    session_id = world.session(tools=[TOOLSET])
    everybody_listens = threading.Barrier(11)

    def read() -> list[str]:
        with world.client().beta.sessions.events.stream(session_id) as stream:
            everybody_listens.wait(BOUND)
            return [event.id for event in until_idle(stream)]

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(10)]
        everybody_listens.wait(BOUND)
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        seen = [reader.result(2 * BOUND) for reader in readers]
    assert seen == [[event["id"] for event in world.log(session_id)]] * 10


# --- going on


def whole_log(world: World, session_id: str, last: str, **query: Any) -> list[Frame]:
    """All frames of a session at rest, read from the very beginning."""
    with raw_stream(world.raw(), session_id, query={"after": 0, **query}) as stream:
        frames: list[Frame] = []
        for frame in stream:
            frames.append(frame)
            if frame.json["id"] == last:
                return frames
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("way", ["header", "query"])
def test_a_stream_goes_on_at_any_event(world: World, client: anthropic.Anthropic, way: str) -> None:
    world.model.script(calls(("weather", {})), text("b"), text("c"))
    session_id = world.session(tools=[WEATHER])
    (call,) = call_ids(turn(client, session_id, "x", "y", "z"))
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": call}
    turn(client, session_id, answer)
    turn(client, session_id, "more")
    log = world.log(session_id)
    frames = whole_log(world, session_id, log[-1]["id"])
    assert [frame.json for frame in frames] == log
    positions = [frame.id for frame in frames]
    assert len(set(positions)) == len(positions)
    http = world.raw()
    for index, position in enumerate(positions[:-1]):
        assert position is not None
        at = {"last_event_id": position} if way == "header" else {"query": {"after": position}}
        with raw_stream(http, session_id, **at) as stream:
            rest: list[Frame] = []
            for frame in stream:
                rest.append(frame)
                if frame.json["id"] == log[-1]["id"]:
                    break
        assert rest == frames[index + 1 :]


def test_at_the_end_there_is_nothing_but_the_future(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(text("hello"), text("again"))
    session_id = world.session()
    turn(client, session_id, "hi")
    last = whole_log(world, session_id, world.log(session_id)[-1]["id"])[-1]
    with raw_stream(world.raw(), session_id, last_event_id=last.id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("more")])
        seen = stream.until("session.status_idle")
    assert story(frame.json for frame in seen) == [
        *started("more"),
        *asked("agent.message(again)"),
        *rested(),
    ]


def test_the_primary_thread_goes_on_as_well(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    turn(client, session_id, "hi")
    log = world.log(session_id)
    (thread,) = client.beta.sessions.threads.list(session_id)
    path = f"threads/{thread.id}/stream"
    last = [event["type"] for event in log].index("session.thread_status_idle")
    with raw_stream(world.raw(), session_id, query={"after": 0}, path=path) as stream:
        frames = stream.until("session.thread_status_idle")
    assert [frame.json for frame in frames] == log[: last + 1]
    with raw_stream(world.raw(), session_id, last_event_id=frames[2].id, path=path) as stream:
        assert stream.until("session.thread_status_idle") == frames[3:]


@pytest.mark.parametrize("position", ["x", "-1", "1.5.2", "9" * 30])
def test_positions_that_are_none_are_refused(world: World, position: str) -> None:
    session_id = world.session()
    http = world.raw()
    path = f"/v1/sessions/{session_id}/events/stream"
    assert http.get(path, params={"after": position}).status_code == 400
    assert http.get(path, headers={"last-event-id": position}).status_code == 400


@pytest.mark.parametrize("end", ["archive", "delete"])
@pytest.mark.parametrize("view", ["session", "thread"])
def test_streams_end_with_the_session(
    world: World, client: anthropic.Anthropic, end: str, view: str
) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    turn(client, session_id, "hi")
    (thread,) = client.beta.sessions.threads.list(session_id)
    path = "events/stream" if view == "session" else f"threads/{thread.id}/stream"
    with raw_stream(world.raw(), session_id, path=path) as stream:
        if end == "archive":
            client.beta.sessions.archive(session_id)
        else:
            client.beta.sessions.delete(session_id)
        told = [frame.event for frame in stream]
    assert told == (TERMINATED if end == "archive" else ["session.deleted"])


def test_a_session_that_is_over_is_read_to_its_end(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    turn(client, session_id, "hi")
    client.beta.sessions.archive(session_id)
    # Nothing more can come, so the stream ends behind the last event.
    with raw_stream(world.raw(), session_id, query={"after": 0}) as stream:
        assert [frame.json for frame in stream] == world.log(session_id)


def test_own_records_fill_the_gaps(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    turn(client, session_id, "hi")
    log = world.log(session_id)
    frames = whole_log(world, session_id, log[-1]["id"], posthouse_events="true")
    own = [frame for frame in frames if str(frame.event).startswith("posthouse.")]
    assert [frame.event for frame in own][0] == "posthouse.session_opened"
    assert [frame.json for frame in frames if frame not in own] == log


def test_two_hundred_cuts_lose_and_double_nothing(
    world: World, client: anthropic.Anthropic
) -> None:
    chance = random.Random(20_000)
    steps: list[dict[str, Any]] = [
        {"thinking": "a thought", "pause_ms": 2},
        {"text": "x" * 700, "chunk": 50, "pause_ms": 1},
        {"tool_use": {"name": "bash", "input": {"command": "y" * 300}}},
    ]
    world.model.script(
        {"times": 0, "when": {"has_tool_result_for": "bash"}, "steps": steps[:2]},
        {"times": 0, "steps": steps},
    )
    session_id = world.session(tools=[TOOLSET])
    enough = threading.Event()

    def talk() -> int:
        """Turn after turn, until there were enough cuts."""
        talker = world.client()
        turns = 0
        while not enough.is_set():
            turn(talker, session_id, f"turn {turns}")
            turns += 1
        return turns

    frames: list[Frame] = []
    with ThreadPoolExecutor(1) as pool:
        talking = pool.submit(talk)
        try:
            for cut in range(200):
                frames += read_until_cut(world, session_id, frames, chance, cut)
        finally:
            enough.set()
        turns = talking.result(2 * BOUND)
    log = world.log(session_id)
    last = log[-1]["id"]
    at = frames[-1].id if frames else "0"
    if not frames or frames[-1].json["id"] != last:
        with raw_stream(world.raw(), session_id, last_event_id=at) as stream:
            for frame in stream:
                frames.append(frame)
                if frame.json["id"] == last:
                    break
    assert [frame.json for frame in frames] == log
    assert story(log).count("session.status_idle(end_turn)") == turns >= 2


def read_until_cut(
    world: World, session_id: str, frames: list[Frame], chance: random.Random, cut: int
) -> list[Frame]:
    """Goes on behind `frames`, and loses the connection after some number of bytes."""
    position = (frames[-1].id if frames else None) or "0"
    reader = FrameReader()
    seen: list[Frame] = []
    left = chance.randrange(1, 2500)
    timeout = httpx2.Timeout(BOUND, read=PING_EVERY + BOUND)
    with httpx2.Client(base_url=world.url, timeout=timeout) as http:
        headers = {"authorization": f"Bearer {API_KEY}"}
        query = {}
        if cut % 2:
            headers["last-event-id"] = position
        else:
            query["after"] = position
        path = f"/v1/sessions/{session_id}/events/stream"
        with http.stream("GET", path, params=query, headers=headers) as response:
            assert response.status_code == 200
            for chunk in response.iter_raw():
                # Only these bytes have arrived; what the chunk holds beyond is lost.
                seen += reader.feed(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break
    return [frame for frame in seen if frame.data and frame.event != "ping"]


# --- the connection itself


def test_headers(world: World) -> None:
    session_id = world.session()
    http = world.raw()
    # The SDK asks for JSON, old ones and browsers for an event stream.
    for accept in ("application/json", "text/event-stream", "*/*"):
        path = f"/v1/sessions/{session_id}/events/stream"
        with http.stream("GET", path, headers={"accept": accept}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in response.headers
            # Something comes at once, so that clients behind a proxy see it open.
            begun = time.monotonic()
            assert next(response.iter_raw())
            assert time.monotonic() - begun < 2


def test_previews_are_of_known_kinds(world: World) -> None:
    session_id = world.session()
    http = world.raw()
    path = f"/v1/sessions/{session_id}/events/stream"
    assert http.get(path, params={"event_deltas[]": "agent.tool_use"}).status_code == 400
    assert http.get(path, params={"event_deltas[]": ["agent.message"] * 101}).status_code == 400
    for name in ("event_deltas[]", "event_deltas"):
        with http.stream("GET", path, params={name: "agent.message"}) as response:
            assert response.status_code == 200


def test_one_run_event_in_a_turn_of_many_requests(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(calls(("bash", {})), calls(("bash", {})), text("end"))
    session_id = world.session(tools=[TOOLSET])
    told = story(turn(client, session_id, "hi"))
    assert told.count("session.status_running") == told.count("session.status_idle(end_turn)") == 1


def test_a_stream_outlives_many_turns(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(*(text(f"answer {i}") for i in range(5)))
    session_id = world.session()
    with client.beta.sessions.events.stream(session_id) as stream:
        for i in range(5):
            client.beta.sessions.events.send(session_id, events=[message(f"question {i}")])
            wanted = [*started(f"question {i}"), *asked(f"agent.message(answer {i})"), *rested()]
            assert story(until_idle(stream)) == wanted


def test_a_client_that_leaves_disturbs_nobody(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(stalled(), text("hello"))
    session_id = world.session()
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        take_until(stream, lambda event: event.type == "span.model_request_start")
        world.model.wait_for_requests(1)
    assert world.status(session_id) == "running"
    client.beta.sessions.events.send(session_id, events=[INTERRUPT])
    wait_until(lambda: world.status(session_id) == "idle", "idle")
    assert story(turn(client, session_id, "again"))[-1] == "session.status_idle(end_turn)"


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(text("hello"))
    session_id = world.session()
    seen: list[Any] = []
    async with await async_client.beta.sessions.events.stream(session_id) as stream:
        await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
        async for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break
    assert story(seen) == ONE_TURN


def test_a_quiet_stream_pings(world: World, first_ping: Future[float]) -> None:
    assert first_ping.result(PING_EVERY + BOUND) <= PING_EVERY + 1
