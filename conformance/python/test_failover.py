"""Failover: when a model can't answer, the next of the agent's models does, and all are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from providers import KINDS, MODELS, Providers
from support import (
    RESCHEDULED,
    RUNNING,
    WEATHER,
    answer,
    asked,
    call_ids,
    calls,
    failing,
    message,
    rested,
    stalled,
    started,
    story,
    text,
    turn,
)
from world import wait_until

CONFIG = """
[providers.dead]
kind = "openai_responses"
base_url = "http://127.0.0.1:9/v1"

[models.pony-1]
window = 1000
thinking = "none"

[models.pony-4]
window = 4000
thinking = "none"
"""
NEXT = dict(zip(KINDS, [*list(KINDS)[1:], "anthropic"], strict=True))
LONG_CALL = {"tool_use": {"name": "weather", "input": {"city": "Rome " * 2000}, "chunk": 100}}

# What goes wrong: the reply, the error that ordinary clients are told of, whether the model may be
# back later.
FAILURES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "429": ({"status": 429, "headers": {"retry-after": "60"}}, "model_rate_limited_error", True),
    "529": ({"status": 529}, "model_overloaded_error", True),
    "503": ({"status": 503}, "model_overloaded_error", True),
    "500": ({"status": 500}, "model_request_failed_error", True),
    "cut in a text": (
        {"steps": [{"text": "half a sentence"}, {"cut": True}]},
        "model_request_failed_error",
        True,
    ),
    "cut in arguments": (
        {"steps": [LONG_CALL], "cut_after_bytes": 5000},
        "model_request_failed_error",
        True,
    ),
    "an error inside": (
        {
            "steps": [
                {"text": "half a sentence"},
                {"error": {"type": "overloaded_error", "message": "full"}},
            ]
        },
        "model_overloaded_error",
        True,
    ),
    "401": ({"status": 401}, "model_request_failed_error", False),
    "402": ({"status": 402}, "billing_error", False),
    "404": ({"status": 404}, "model_request_failed_error", False),
    "too long": ({"status": 400}, "compaction_limit_reached_error", False),
}
# Where a provider's own words are those of any other failure, so is the error.
NOT_TOLD = {
    ("openai", "an error inside"),
    ("house", "an error inside"),
}
# How each provider says that a prompt is too long.
TOO_LONG: dict[str, dict[str, Any]] = {
    "anthropic": {"message": "prompt is too long: 200001 tokens > 200000 maximum"},
    "openai": {"error": {"code": "context_length_exceeded"}},
    "house": {"error": {"code": "context_length_exceeded"}},
    "gemini": {
        "message": "The input token count (1048577) exceeds the maximum number of tokens allowed"
        " (1048576)."
    },
}


@pytest.fixture(scope="module")
def new_world() -> Callable[[], Providers]:
    """Servers of this module have four providers, one that is dead, and two small models."""
    return lambda: Providers(CONFIG)


def session_of(world: Providers, *models: str, **agent: Any) -> str:
    """A session whose agent names these models, the first as its own."""
    first, *others = models
    extra = {"posthouse": {"fallback": others}}
    return world.session(model=first, extra_body=extra, **agent)


def own(world: Providers, session: str, kind: str) -> list[dict[str, Any]]:
    """What posthouse's own events of a kind hold."""
    log = world.own_log(session)
    return [one["data"] for one in log if one["type"] == f"posthouse.{kind}"]


def substitutions(world: Providers, session: str) -> list[tuple[str, str, bool]]:
    """Who gave way to whom, and whether the first may be back later."""
    found = own(world, session, "model_substituted")
    assert all(one["reason"] for one in found)
    return [(one["from"], one["to"], one["transient"]) for one in found]


def spans(world: Providers, session: str) -> list[Any]:
    """What the starts of model requests say beside the hosted fields."""
    kind = "span.model_request_start"
    return [one.get("posthouse") for one in world.log(session) if one["type"] == kind]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("first", KINDS)
def test_the_next_model_answers_in_the_same_turn(
    world: Providers, client: anthropic.Anthropic, first: str, failure: str
) -> None:
    second = NEXT[first]
    reply, error, transient = FAILURES[failure]
    if failure == "too long":
        reply = {**reply, **TOO_LONG[first]}
    if (first, failure) in NOT_TOLD:
        error = "model_request_failed_error"
    world.model.script(reply, text("here I am"))
    session = session_of(world, MODELS[first], MODELS[second], tools=[WEATHER])
    told = turn(client, session, "go")
    assert story(told) == [
        *started("go"),
        *asked(error=True),
        f"session.error({error},retrying)",
        *asked("agent.message(here I am)"),
        *rested(),
    ]
    (mistake,) = [one for one in told if one.type == "session.error"]
    assert f"{MODELS[second]} takes over for this turn" in mistake.error.message
    assert [one.provider for one in world.sent()] == [first, second]
    assert "half a sentence" not in world.sent()[1].text
    assert substitutions(world, session) == [(MODELS[first], MODELS[second], transient)]
    named = {"model": MODELS[second], "substituted_for": MODELS[first]}
    assert spans(world, session) == [None, named]
    # What the first has used before it failed is paid, too.
    used = [*own(world, session, "request_failed"), *own(world, session, "response")]
    usage = client.beta.sessions.retrieve(session).usage
    assert usage.input_tokens == sum(one["usage"]["input_tokens"] for one in used)
    assert usage.output_tokens == sum(one["usage"]["output_tokens"] for one in used)


def test_a_provider_that_is_not_there_is_passed_over(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script(text("here I am"))
    session = session_of(world, "dead/gpt-5.2", MODELS["gemini"])
    told = turn(client, session, "go")
    assert told[-1].stop_reason.type == "end_turn"
    assert substitutions(world, session) == [("dead/gpt-5.2", MODELS["gemini"], True)]


def test_a_window_that_is_too_small_is_known_before_asking(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script(text("here I am"))
    session = session_of(world, "house/pony-1", MODELS["anthropic"])
    told = turn(client, session, "a long way " * 1000)
    assert told[-1].stop_reason.type == "end_turn"
    assert [one.provider for one in world.sent()] == ["anthropic"]
    assert substitutions(world, session) == [("house/pony-1", MODELS["anthropic"], False)]


def test_it_stays_for_the_turn_and_the_next_one_begins_with_the_first(
    world: Providers, client: anthropic.Anthropic
) -> None:
    """Down the whole list in one turn, with calls that one makes and the next goes on with."""
    one_call = {"steps": [{"thinking": "hm"}, *calls(("weather", {"city": "Rome"}))["steps"]]}
    world.model.script(
        one_call,
        failing(529),
        one_call,
        failing(500),
        one_call,
        failing(429),
        one_call,
        text("at last"),
        text("as ever"),
    )
    session = session_of(world, *MODELS.values(), tools=[WEATHER])
    told = turn(client, session, "go")
    for _ in range(4):
        told += turn(client, session, *(answer(one, "sunny") for one in call_ids(told)))
    assert told[-1].stop_reason.type == "end_turn"
    names = list(KINDS)
    asked_for = [one for name in names for one in (name, name)]
    assert [one.provider for one in world.sent()] == asked_for
    turn(client, session, "again")
    assert [one.provider for one in world.sent()] == [*asked_for, "anthropic"]
    models = list(MODELS.values())
    assert substitutions(world, session) == [
        (before, after, True) for before, after in zip(models, models[1:], strict=False)
    ]
    assert spans(world, session)[-1] is None
    # The first gets its own thinking back, and nobody else's.
    assert world.sent()[-1].text.count('"type":"thinking"') == 1


def test_when_all_fail_it_waits_and_begins_with_the_first(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script(failing(529), failing(401), failing(500), text("back again"))
    session = session_of(world, MODELS["gemini"], MODELS["house"], MODELS["openai"])
    told = turn(client, session, "go")
    assert story(told) == [
        *started("go"),
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *asked(error=True),
        "session.error(model_request_failed_error,retrying)",
        *asked(error=True),
        "session.error(model_request_failed_error,retrying)",
        *RESCHEDULED,
        *RUNNING,
        *asked("agent.message(back again)"),
        *rested(),
    ]
    asked_for = ["gemini", "house", "openai", "gemini"]
    assert [one.provider for one in world.sent()] == asked_for
    assert spans(world, session)[-1] is None


def test_when_none_can_come_back_the_turn_ends(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script({"status": 401}, {"status": 404}, {"status": 403}, text("hello"))
    session = session_of(world, MODELS["openai"], MODELS["anthropic"], MODELS["gemini"])
    told = turn(client, session, "go")
    assert story(told)[-4:] == [
        "session.error(model_request_failed_error,exhausted)",
        *rested("retries_exhausted"),
    ]
    assert [one.provider for one in world.sent()] == ["openai", "anthropic", "gemini"]
    # The next turn begins where all turns begin.
    again = turn(client, session, "again")
    assert again[-1].stop_reason.type == "end_turn"
    assert world.sent()[-1].provider == "openai"


def test_a_small_model_does_not_cost_the_large_one_its_memory(
    world: Providers, client: anthropic.Anthropic
) -> None:
    """What was left out for a small window is there again for a large one."""
    world.model.script(
        calls(("weather", {"city": "Rome"})),
        text("long"),
        failing(529),
        text("small"),
        text("large"),
    )
    session = session_of(world, MODELS["openai"], "house/pony-4", tools=[WEATHER])
    (call,) = call_ids(turn(client, session, "one"))
    turn(client, session, answer(call, "sunny " * 3000))
    turn(client, session, "two")
    turn(client, session, "three")
    seen = [(one.model, one.text.count("sunny ")) for one in world.sent()]
    own_model = MODELS["openai"].split("/")[1]
    counts = [(own_model, 0), *[(own_model, 3000)] * 2, ("pony-4", 0), (own_model, 3000)]
    assert seen == counts


def test_a_history_that_is_too_long_for_a_model_is_not_lost(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script(text("long"), text("back"))
    session = world.session(model=MODELS["gemini"])
    turn(client, session, "a long way " * 1000)
    world.switch(session, "house/pony-1")
    told = turn(client, session, "now you")
    assert "session.error(compaction_limit_reached_error,exhausted)" in story(told)
    assert told[-1].stop_reason.type == "retries_exhausted"
    world.switch(session, MODELS["gemini"])
    assert turn(client, session, "you again")[-1].stop_reason.type == "end_turn"
    assert [one.provider for one in world.sent()] == ["gemini", "gemini"]
    assert "now you" in world.sent()[-1].text


def test_a_switched_session_takes_its_new_list(
    world: Providers, client: anthropic.Anthropic
) -> None:
    world.model.script(failing(529), text("here"), failing(529), text("there"))
    session = session_of(world, MODELS["anthropic"], MODELS["openai"])
    turn(client, session, "one")
    world.switch(session, MODELS["house"], fallback=[MODELS["gemini"]])
    turn(client, session, "two")
    asked_for = ["anthropic", "openai", "house", "gemini"]
    assert [one.provider for one in world.sent()] == asked_for


def test_a_provider_that_is_no_longer_configured_gives_way(mortal: Providers) -> None:
    world = mortal
    client = world.client()
    world.model.script(text("before"), text("after"))
    alone = world.session(model=MODELS["house"])
    session = session_of(world, MODELS["house"], MODELS["gemini"])
    turn(client, session, "one")
    config = world.folder / "config.toml"
    config.write_text(config.read_text().replace("[providers.house]", "[providers.stable]"))
    world.restart()
    client = world.client()
    assert turn(client, session, "two")[-1].stop_reason.type == "end_turn"
    assert [one.provider for one in world.sent()] == ["house", "gemini"]
    assert substitutions(world, session) == [(MODELS["house"], MODELS["gemini"], False)]
    # Without another model the turn ends, and the error says what is there.
    told = turn(client, alone, "two")
    assert told[-1].stop_reason.type == "retries_exhausted"
    (mistake,) = [one for one in told if one.type == "session.error"]
    assert "house/horse-1" in mistake.error.message and "stable" in mistake.error.message
    # The session is not lost.
    world.switch(alone, "stable/horse-1")
    world.model.append(text("again"))
    assert turn(client, alone, "three")[-1].stop_reason.type == "end_turn"


def test_a_kill_between_two_models(mortal: Providers) -> None:
    world = mortal
    client = world.client()
    world.model.script(failing(529), stalled("half a sentence"), text("here I am"))
    session = session_of(world, MODELS["gemini"], MODELS["anthropic"])
    client.beta.sessions.events.send(session, events=[message("go")])
    world.model_requests(2)
    kind = "span.model_request_start"
    wait_until(
        lambda: [one["type"] for one in world.log(session)].count(kind) == 2, "the second start"
    )
    world.restart()
    wait_until(lambda: world.status(session) == "idle", "the end of the turn")
    assert story(world.log(session)) == [
        *started("go"),
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *asked(error=True),
        *asked("agent.message(here I am)"),
        *rested(),
    ]
    assert [one.provider for one in world.sent()] == ["gemini", "anthropic", "anthropic"]
    assert substitutions(world, session) == [(MODELS["gemini"], MODELS["anthropic"], True)]
    named = {"model": MODELS["anthropic"], "substituted_for": MODELS["gemini"]}
    assert spans(world, session) == [None, named, named]


