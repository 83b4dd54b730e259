"""The SDK's own retries: a server may die under it, and nothing is lost and nothing doubled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import pytest

from recorder import Meddle
from support import (
    WEATHER,
    answer,
    asked,
    call_ids,
    calls,
    message,
    rested,
    started,
    story,
    text,
    turn,
    until_idle,
)
from world import BOUND, MODEL, World, wait_until

ECHO = {"times": 0, "steps": [{"echo": True}]}


def at_rest(world: World, session_id: str) -> list[dict[str, Any]]:
    """Waits until a session rests; returns its log."""
    wait_until(lambda: world.status(session_id) == "idle", "idle")
    return world.log(session_id)


def said(log: list[dict[str, Any]]) -> list[str]:
    """The user's messages."""
    return [event["content"][0]["text"] for event in log if event["type"] == "user.message"]


def dying(world: World, *, before: bool = False, when: str = "POST", times: int = 1) -> Meddle:
    """The server dies at the first requests of that method: before it has got one, or with the
    answer on its way. Then it is started again."""
    left = times

    def meddle(request: httpx2.Request, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        nonlocal left
        if left == 0 or request.method != when:
            return send()
        left -= 1
        if not before:
            send().read()
        world.restart()
        raise httpx2.ReadError("the connection was reset", request=request)

    return meddle


@pytest.mark.parametrize("before", [True, False])
def test_a_message_survives_the_death_of_the_server(mortal: World, before: bool) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    client = mortal.client(meddle=dying(mortal, before=before), max_retries=2)
    sent = client.beta.sessions.events.send(session_id, events=[message("hi")])
    log = at_rest(mortal, session_id)
    assert said(log) == ["hi"]
    # The retry was told the very event that the first attempt has made.
    assert sent.data is not None
    assert [event.id for event in sent.data] == [
        event["id"] for event in log if event["type"] == "user.message"
    ]
    posts = [one for one in mortal.recorder.exchanges if one.path.endswith("/events")]
    counts = [one.retry_count for one in posts if one.method == "POST"]
    assert counts == ([1] if before else [0, 1])


def test_a_message_survives_one_death_after_the_other(mortal: World) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    client = mortal.client(meddle=dying(mortal, times=2), max_retries=3)
    client.beta.sessions.events.send(session_id, events=[message("hi")])
    assert said(at_rest(mortal, session_id)) == ["hi"]
    posts = [one for one in mortal.recorder.exchanges if one.path.endswith("/events")]
    assert [one.retry_count for one in posts if one.method == "POST"] == [0, 1, 2]


def test_an_answer_survives_the_death_of_the_server(mortal: World) -> None:
    mortal.model.script(calls(("weather", {"city": "Rome"})), text("thanks", times=0))
    session_id = mortal.session(tools=[WEATHER])
    (call,) = call_ids(turn(mortal.client(), session_id, "hi"))
    client = mortal.client(meddle=dying(mortal), max_retries=2)
    client.beta.sessions.events.send(session_id, events=[answer(call, "sun")])
    log = at_rest(mortal, session_id)
    assert story(log).count("user.custom_tool_result") == 1
    assert story(log)[-1] == "session.status_idle(end_turn)"


@pytest.mark.parametrize("before", [True, False])
def test_nothing_is_made_twice(mortal: World, before: bool) -> None:
    environment_id = mortal.environment()

    def retrying() -> anthropic.Anthropic:
        return mortal.client(meddle=dying(mortal, before=before), max_retries=2)

    agent = retrying().beta.agents.create(name="once", model=MODEL)
    assert [one.id for one in mortal.client().beta.agents.list()] == [agent.id]
    changed = retrying().beta.agents.update(agent.id, version=1, name="changed")
    assert changed.version == 2
    made = retrying().beta.environments.create(name="once")
    assert [one.id for one in mortal.client().beta.environments.list()] == [made.id, environment_id]
    session = retrying().beta.sessions.create(agent=agent.id, environment_id=environment_id)
    assert [one.id for one in mortal.client().beta.sessions.list()] == [session.id]
    updated = retrying().beta.sessions.update(session.id, title="t")
    assert updated.title == "t"
    assert story(mortal.log(session.id)) == ["session.updated"]
    archived = retrying().beta.sessions.archive(session.id)
    assert archived.status == "terminated"
    assert story(mortal.log(session.id))[1:] == [
        "session.thread_status_terminated",
        "session.status_terminated",
    ]


def test_reads_survive_as_well(mortal: World) -> None:
    agent = mortal.agent()
    client = mortal.client(meddle=dying(mortal, when="GET"), max_retries=2)
    assert [one.id for one in client.beta.agents.list()] == [agent]


def test_a_server_that_dies_again_and_again(mortal: World) -> None:
    chance = random.Random(7)
    mortal.model.script(ECHO)
    session_id = mortal.session()
    done = threading.Event()
    words = [f"message {number}" for number in range(40)]

    def talk() -> list[str]:
        """Sends one message after the other; each counts once it was acknowledged."""
        client = mortal.client(max_retries=30, timeout=BOUND)
        ids: list[str] = []
        try:
            for one in words:
                sent = client.beta.sessions.events.send(session_id, events=[message(one)])
                assert sent.data is not None
                ids += [event.id for event in sent.data]
                time.sleep(chance.uniform(0, 0.05))
        finally:
            done.set()
        return ids

    deaths = 0
    with ThreadPoolExecutor(1) as pool:
        talking = pool.submit(talk)
        while not done.wait(chance.uniform(0.02, 0.4)) and deaths < 8:
            mortal.restart()
            deaths += 1
        ids = talking.result(4 * BOUND)
    log = at_rest(mortal, session_id)
    assert deaths >= 2
    assert any(one.retry_count for one in mortal.recorder.exchanges)
    assert said(log) == words
    assert [event["id"] for event in log if event["type"] == "user.message"] == ids


def test_many_clients_and_a_server_that_dies(mortal: World) -> None:
    mortal.model.script(ECHO)
    agent = mortal.agent()
    sessions = [mortal.session(agent) for _ in range(4)]
    words = [f"message {number}" for number in range(8)]
    begun = threading.Barrier(len(sessions) + 1)

    def talk(session_id: str) -> None:
        client = mortal.client(max_retries=30, timeout=BOUND)
        begun.wait(BOUND)
        for one in words:
            client.beta.sessions.events.send(session_id, events=[message(one)])

    with ThreadPoolExecutor(len(sessions)) as pool:
        talking = [pool.submit(talk, session_id) for session_id in sessions]
        begun.wait(BOUND)
        for _ in range(3):
            time.sleep(0.05)
            mortal.restart()
        for one in talking:
            one.result(4 * BOUND)
    for session_id in sessions:
        assert said(at_rest(mortal, session_id)) == words


# --- what is no retry


def post(http: httpx2.Client, session_id: str, words: str, **headers: str) -> httpx2.Response:
    """Sends a message; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"events": [message(words)]}
    return http.post(f"/v1/sessions/{session_id}/events", json=body, headers=named)


def test_two_equal_messages_both_arrive(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(ECHO)
    session_id = world.session()
    for _ in range(2):
        client.beta.sessions.events.send(session_id, events=[message("yes")])
    assert said(at_rest(world, session_id)) == ["yes", "yes"]


def test_two_equal_events_in_one_batch_both_arrive(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(ECHO)
    session_id = world.session()
    turn(client, session_id, "yes", "yes")
    assert said(world.log(session_id)) == ["yes", "yes"]


def test_a_retry_of_what_was_answered_is_a_new_message(world: World) -> None:
    # The first answer has gone out whole, and the server lives: this is another "yes".
    world.model.script(ECHO)
    session_id = world.session()
    http = world.raw()
    first = post(http, session_id, "yes").json()
    second = post(http, session_id, "yes", x_stainless_retry_count="1").json()
    assert first["data"][0]["id"] != second["data"][0]["id"]
    assert said(at_rest(world, session_id)) == ["yes", "yes"]


def test_each_message_is_matched_once(mortal: World) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    first = post(mortal.raw(), session_id, "yes").json()
    mortal.restart()
    http = mortal.raw()
    again = post(http, session_id, "yes", x_stainless_retry_count="1").json()
    assert again["data"][0]["id"] == first["data"][0]["id"]
    third = post(http, session_id, "yes", x_stainless_retry_count="1").json()
    assert third["data"][0]["id"] != first["data"][0]["id"]
    assert said(at_rest(mortal, session_id)) == ["yes", "yes"]


def test_only_a_retry_is_matched_after_a_death(mortal: World) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    other = mortal.session()
    post(mortal.raw(), session_id, "yes")
    mortal.restart()
    http = mortal.raw()
    post(http, session_id, "yes", x_stainless_retry_count="0")
    post(http, session_id, "no", x_stainless_retry_count="1")
    post(http, other, "yes", x_stainless_retry_count="1")
    assert said(at_rest(mortal, session_id)) == ["yes", "yes", "no"]
    assert said(at_rest(mortal, other)) == ["yes"]


def test_a_message_that_was_refused_may_be_sent_again(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(calls(("weather", {})), text("ok"), text("now"))
    session_id = world.session(tools=[WEATHER])
    (call,) = call_ids(turn(client, session_id, "hi"))
    http = world.raw()
    assert post(http, session_id, "later").status_code == 400
    turn(client, session_id, answer(call, "sun"))
    sent = post(http, session_id, "later", x_stainless_retry_count="1")
    assert sent.status_code == 200
    assert said(at_rest(world, session_id)) == ["hi", "later"]


# --- keys


def test_the_same_key_is_the_same_message(mortal: World) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    http = mortal.raw()
    first = post(http, session_id, "yes", idempotency_key="k1")
    for _ in range(2):
        assert post(http, session_id, "yes", idempotency_key="k1").content == first.content
    mortal.restart()
    assert post(mortal.raw(), session_id, "yes", idempotency_key="k1").content == first.content
    other = post(mortal.raw(), session_id, "yes", idempotency_key="k2")
    assert other.json()["data"][0]["id"] != first.json()["data"][0]["id"]
    assert said(at_rest(mortal, session_id)) == ["yes", "yes"]


def test_the_same_key_at_the_same_time(world: World) -> None:
    world.model.script(ECHO)
    session_id = world.session()
    begun = threading.Barrier(8)

    def send() -> bytes:
        http = world.raw()
        begun.wait(BOUND)
        return post(http, session_id, "yes", idempotency_key="k3").content

    with ThreadPoolExecutor(8) as pool:
        answers = {one.result(BOUND) for one in [pool.submit(send) for _ in range(8)]}
    assert len(answers) == 1
    assert said(at_rest(world, session_id)) == ["yes"]


def test_a_key_is_of_one_message(world: World) -> None:
    world.model.script(ECHO)
    session_id = world.session()
    http = world.raw()
    assert post(http, session_id, "yes", idempotency_key="k4").status_code == 200
    refused = post(http, session_id, "no", idempotency_key="k4")
    assert 400 <= refused.status_code < 500
    assert refused.headers["x-should-retry"] == "false"
    assert said(at_rest(world, session_id)) == ["yes"]


def test_keys_make_agents_and_sessions_once(world: World) -> None:
    http = world.raw()
    body: dict[str, Any] = {"name": "keyed", "model": MODEL}
    headers = {"idempotency-key": "k5"}
    agents = {http.post("/v1/agents", json=body, headers=headers).json()["id"] for _ in range(3)}
    assert len(agents) == 1
    body = {"agent": agents.pop(), "environment_id": world.environment()}
    headers = {"idempotency-key": "k6"}
    made = {http.post("/v1/sessions", json=body, headers=headers).json()["id"] for _ in range(3)}
    assert len(made) == 1


# --- other ends


def test_a_stopped_server_says_so(mortal: World) -> None:
    mortal.model.script(ECHO)
    session_id = mortal.session()
    client = mortal.client(max_retries=10)
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("one")])
        until_idle(stream)
        assert mortal.stop() == 0
        # The stream has ended; nothing is left hanging.
        assert list(stream) == []
    mortal.start()
    assert story(turn(client, session_id, "two")) == [
        *started("two"),
        *asked("agent.message(two)"),
        *rested(),
    ]
