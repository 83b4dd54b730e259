"""Switching: a session goes from one provider's model to another's and back, and loses nothing."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from typing import Any

import anthropic
import pytest

from providers import (
    KINDS,
    MODELS,
    PRICES,
    WITH_SYSTEM_MESSAGES,
    Providers,
    Sent,
    raw_list,
    raw_member,
)
from support import (
    PDF,
    TOOLSET,
    WEATHER,
    answer,
    call_ids,
    calls,
    message,
    png,
    stalled,
    system_message,
    text,
    turn,
    wire,
)
from world import API_KEY, BOUND, binary, wait_until

SYSTEM = "Be as brief as a horse."
USERS_IMAGE = base64.b64encode(png(3, 2)).decode()
TOOLS_IMAGE = base64.b64encode(png(5, 4)).decode()
DOCUMENT = base64.b64encode(PDF).decode()
# So long that a request costs cents.
FILLER = "The road is long. " * 3000


@pytest.fixture(scope="module")
def new_world() -> type[Providers]:
    """Servers of this module have four providers."""
    return Providers


# --- one session, all providers --------------------------------------------------------------


@pytest.mark.parametrize("home", KINDS)
def test_a_session_goes_to_every_other_provider_and_comes_back(
    world: Providers, client: anthropic.Anthropic, home: str
) -> None:
    session = world.session(
        model=MODELS[home], tools=[TOOLSET, WEATHER], system=SYSTEM, name="traveller"
    )
    others = [name for name in KINDS if name != home]
    route = [home, *(stop for other in others for stop in (other, home))]
    for number, provider in enumerate(route):
        if number:
            switched = world.switch(session, MODELS[provider])
            assert switched.agent.model.id == MODELS[provider]
        leg(world, client, session, provider, number)

    # Three hops away and back: every switch is an event with the whole agent.
    events = world.log(session)
    updates = [one for one in events if one["type"] == "session.updated"]
    assert [one["agent"]["model"]["id"] for one in updates] == [MODELS[one] for one in route[1:]]
    assert all(one["agent"]["system"] == SYSTEM for one in updates)
    check_requests(world, route)
    check_natives(world, session)
    check_money(world, client, session)


def leg(
    world: Providers, client: anthropic.Anthropic, session: str, provider: str, number: int
) -> None:
    """A turn with everything in it: thinking, parallel calls, an image, errors, an answer."""
    here = f"{provider} {number}"
    inputs = [
        ("read", {"file_path": "/workspace/horse.png"}),
        ("read", {"file_path": f"/workspace/none-{number}"}),
        ("weather", {"city": f"Rome {number}", "exact": 1.50, "also": ["ü", {}]}),
        ("weather", {"city": f"Graz {number}"}),
    ]
    first = calls(*inputs)["steps"]
    opening = [{"thinking": f"thought of {here}, first"}, {"text": f"begun by {here}"}, *first]
    draw = f"echo {TOOLS_IMAGE} | base64 -d > /workspace/horse.png"
    drawing = calls(("bash", {"command": draw}))["steps"]
    before = {"steps": [{"thinking": f"thought of {here}, before"}, *drawing]}
    replies = [before] if number == 0 else []
    closing = {"steps": [{"thinking": f"thought of {here}, last"}, {"text": f"ended by {here}"}]}
    world.model.append(*replies, {"steps": opening}, closing)

    said = message(f"question {number}")
    if number == 0:
        said["content"] += [
            {"type": "image", "source": base64_source("image/png", USERS_IMAGE)},
            {"type": "document", "source": base64_source("application/pdf", DOCUMENT)},
            {"type": "text", "text": FILLER},
        ]
    sent = [said]
    if provider in WITH_SYSTEM_MESSAGES:
        sent.append(system_message(f"order {number}"))
    waiting = turn(client, session, *sent)
    sunny, failed = call_ids(waiting)
    told = answer(sunny, f"sunny {number}")
    told["content"].append({"type": "image", "source": base64_source("image/png", USERS_IMAGE)})
    rest = turn(client, session, told, answer(failed, f"no map {number}", is_error=True))
    assert rest[-1].stop_reason.type == "end_turn", [wire(one) for one in rest]

    events = world.log(session)
    ours = [one for one in events if one["type"] == "agent.tool_result"][-2:]
    by_error = {one["is_error"]: one["content"] for one in ours}
    assert by_error[False][-1]["source"]["data"] == TOOLS_IMAGE, by_error
    assert by_error[True][0]["type"] == "text"


def base64_source(media_type: str, data: str) -> dict[str, str]:
    return {"type": "base64", "media_type": media_type, "data": data}


def check_requests(world: Providers, route: list[str]) -> None:
    """What is in each request, and what must not be."""
    sent = world.sent()
    # The first turn has one more, for the drawing.
    assert [one.provider for one in sent] == [route[0], *(p for p in route for _ in range(2))]
    before: dict[str, Sent] = {}
    for index, one in enumerate(sent):
        number = max(index - 1, 0) // 2
        second = index > 1 and index % 2 == 0
        check_history(one, route, number, second, drawn=index > 0)
        if one.provider in before:
            # Everything that went there once goes there again, to the letter, at the same place.
            earlier = [unmarked(entry) for entry in before[one.provider].entries()]
            now = [unmarked(entry) for entry in one.entries()]
            if one.provider == "house":
                assert earlier[0] == now[0]
            assert now[: len(earlier)] == earlier
        before[one.provider] = one


def check_history(
    sent: Sent, route: list[str], number: int, second: bool, drawn: bool
) -> None:
    body = sent.text
    assert SYSTEM in body
    for at, provider in enumerate(route[: number + 1]):
        here = f"{provider} {at}"
        assert f"question {at}" in body
        if provider in WITH_SYSTEM_MESSAGES:
            assert f"order {at}" in body
        if at < number or second:
            for words in (f"begun by {here}", f"Rome {at}", f"Graz {at}", f"none-{at}"):
                assert words in body, words
            assert f"sunny {at}" in body and f"no map {at}" in body
        if at < number:
            assert f"ended by {here}" in body
        if provider != sent.provider:
            assert f"thought of {here}" not in body
    # The user's own and one in each answer; in the command that drew it and in each result.
    seen = 1 + number + second
    assert [body.count(one) for one in (USERS_IMAGE, TOOLS_IMAGE)] == [seen, seen - (not drawn)]
    # Servers that nobody has described get no documents, and are told so.
    assert body.count(DOCUMENT) == (sent.provider != "house")
    if sent.provider == "house":
        assert "Here stood a document" in body
    signatures = {"anthropic": '"sig_', "openai": '"enc_', "gemini": '"sigA'}
    for provider, mark in signatures.items():
        # The first request of a provider has nothing of its own to send back.
        assert mark not in body or sent.provider == provider


def unmarked(entry: str) -> str:
    """An entry of a conversation without what marks the places to cache, which wander."""
    return entry.replace(',"cache_control":{"type":"ephemeral"}', "")


def check_natives(world: Providers, session: str) -> None:
    """A provider's answers are in the last request to it as the log has them: the same bytes."""
    events = raw_list(world.own_text(session), "data")
    kept = [raw_member(one, "data") for one in events if '"posthouse.response"' in one[:200]]
    last = {one.provider: one.text for one in world.sent()}
    for provider in KINDS:
        # What was answered to the last request was never sent back.
        answers = [one for one in kept if json.loads(one)["provider"] == provider][:-1]
        blocks = [block for one in answers for block in raw_list(one, "blocks")]
        assert len(blocks) >= 5
        for block in blocks:
            assert written(provider, block) in last[provider], block


def written(provider: str, block: str) -> str:
    """A block as it stands in a request."""
    if provider != "house":
        return block
    # Fragments become one message.
    inner = block[1:-1]
    return raw_list(block, "tool_calls")[0] if "tool_calls" in json.loads(block) else inner


def check_money(world: Providers, client: anthropic.Anthropic, session: str) -> None:
    """Tokens and cost of all providers add up, each at its own price."""
    total, cost = dict.fromkeys(("input", "output", "read", "written"), 0), 0.0
    for event in world.own_log(session):
        if event["type"] != "posthouse.response":
            continue
        data = event["data"]
        usage = data["usage"]
        numbers = [
            usage["input_tokens"],
            usage["cache_read_input_tokens"],
            usage["cache_write_5m_tokens"],
            usage["output_tokens"],
        ]
        dollars = sum(n * p for n, p in zip(numbers, PRICES[data["provider"]], strict=True)) / 1e6
        assert data["cost"] == round(dollars * 1e9)
        cost += dollars
        for name, number in zip(("input", "read", "written", "output"), numbers, strict=True):
            total[name] += number
    usage = client.beta.sessions.retrieve(session).usage
    assert usage.input_tokens == total["input"]
    assert usage.output_tokens == total["output"]
    assert usage.cache_read_input_tokens == total["read"]
    assert usage.cache_creation.ephemeral_5m_input_tokens == total["written"]
    assert total["read"] > 0
    assert usage.list_cost is not None and cost > 0.05
    assert abs(float(usage.list_cost.amount) - cost * 100) <= 0.5, (usage.list_cost, cost)


# --- what a switch is ------------------------------------------------------------------------


def updates(world: Providers, session: str) -> list[dict[str, Any]]:
    """The `session.updated` events of a session."""
    return [one for one in world.log(session) if one["type"] == "session.updated"]


def test_a_switch_that_can_not_be_is_refused_by_its_field(
    world: Providers, client: anthropic.Anthropic
) -> None:
    session = world.session(model=MODELS["anthropic"])
    for model, told in [
        ("nobody/knows", "posthouse.model"),
        ("llama-imaginary", "posthouse.model"),
        ({"id": MODELS["gemini"], "speed": "fast"}, "posthouse.model"),
        ({"id": MODELS["openai"], "effort": "huge"}, "posthouse.model.effort"),
        ({"id": MODELS["openai"], "inference_geo": "us"}, "posthouse.model"),
        ({"id": ""}, "posthouse.model.id"),
        (7, "posthouse.model"),
        (None, "posthouse.model"),
    ]:
        with pytest.raises(anthropic.BadRequestError) as error:
            world.switch(session, model)
        assert told in str(error.value), (model, str(error.value))
    assert client.beta.sessions.retrieve(session).agent.model.id == MODELS["anthropic"]
    assert updates(world, session) == []


def test_the_same_model_again_is_no_event(world: Providers) -> None:
    session = world.session(model=MODELS["anthropic"])
    world.switch(session, MODELS["anthropic"])
    assert updates(world, session) == []
    world.switch(session, MODELS["house"])
    world.switch(session, MODELS["house"])
    assert len(updates(world, session)) == 1


def test_a_session_at_work_is_not_switched(world: Providers, client: anthropic.Anthropic) -> None:
    world.model.script(stalled(), text("done"))
    session = world.session(model=MODELS["openai"], tools=[WEATHER])
    client.beta.sessions.events.send(session, events=[message("go")])
    world.model_requests(1)
    with pytest.raises(anthropic.BadRequestError) as error:
        world.switch(session, MODELS["gemini"])
    assert "at work" in str(error.value)
    client.beta.sessions.events.send(session, events=[{"type": "user.interrupt"}])
    wait_until(lambda: world.status(session) == "idle", "the interrupt")
    world.switch(session, MODELS["gemini"])
    turn(client, session, "again")
    assert [one.provider for one in world.sent()] == ["openai", "gemini"]


def test_a_session_that_waits_for_an_answer_may_be_switched(
    world: Providers, client: anthropic.Anthropic
) -> None:
    """The call is one provider's, its result goes to another."""
    for origin in KINDS:
        for target in KINDS:
            if origin == target:
                continue
            world.model.script(
                {"steps": [{"thinking": "hm"}, *calls(("weather", {"city": "Rome"}))["steps"]]},
                text("done"),
            )
            session = world.session(model=MODELS[origin], tools=[WEATHER])
            (call,) = call_ids(turn(client, session, "go"))
            world.switch(session, MODELS[target])
            rest = turn(client, session, answer(call, "sunny"))
            assert rest[-1].stop_reason.type == "end_turn", (origin, target)
            assert "sunny" in world.sent(target)[-1].text


def test_an_archived_session_is_not_switched(world: Providers, client: anthropic.Anthropic) -> None:
    session = world.session(model=MODELS["openai"])
    client.beta.sessions.archive(session)
    with pytest.raises(anthropic.BadRequestError) as error:
        world.switch(session, MODELS["gemini"])
    assert "archived" in str(error.value)


def test_a_switch_survives_a_kill_and_the_command_line_switches_as_well(
    mortal: Providers,
) -> None:
    world = mortal
    client = world.client()
    world.model.script(
        {"steps": [{"thinking": "hm"}, {"text": "one"}]},
        text("two"),
        text("three"),
    )
    session = world.session(model=MODELS["anthropic"])
    turn(client, session, "first")
    world.switch(session, MODELS["gemini"])
    world.restart()
    client = world.client()
    assert client.beta.sessions.retrieve(session).agent.model.id == MODELS["gemini"]
    turn(client, session, "second")

    command = [binary("POSTHOUSE_BIN", "posthouse"), "run", "--session", session]
    command += ["--model", MODELS["openai"], "--url", world.url, "third"]
    environment = {"PATH": os.defpath, "HOME": str(world.folder), "POSTHOUSE_API_KEY": API_KEY}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "three"), done.stderr
    assert [one.provider for one in world.sent()] == ["anthropic", "gemini", "openai"]
    last = world.sent()[-1]
    assert last.model == "gpt-6.2-sol"
    assert [re.findall(r"first|one|second|two|third", last.text)] == [
        ["first", "one", "second", "two", "third"]
    ]
    assert [one["agent"]["model"]["id"] for one in updates(world, session)] == [
        MODELS["gemini"],
        MODELS["openai"],
    ]
