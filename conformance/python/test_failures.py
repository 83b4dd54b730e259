"""Traces of what goes wrong: errors and retries, cut responses, refusals, unusual ends."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import pytest

from support import (
    RESCHEDULED,
    RUNNING,
    TOOLSET,
    WEATHER,
    asked,
    calls,
    failing,
    rested,
    started,
    story,
    text,
    wire,
)
from told import Told
from world import MODEL, World

BASH = ("bash", {"command": "ls"})

RETRIED = [
    (529, "model_overloaded_error"),
    (429, "model_rate_limited_error"),
    (500, "model_request_failed_error"),
    (503, "model_overloaded_error"),
    (408, "model_request_failed_error"),
    (409, "model_request_failed_error"),
]


@pytest.mark.parametrize(("status", "error"), RETRIED)
def test_a_transient_error_is_tried_again(
    world: World, client: anthropic.Anthropic, status: int, error: str
) -> None:
    world.model.script(failing(status), text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(error=True),
        f"session.error({error},retrying)",
        *RESCHEDULED,
        *RUNNING,
        *asked("agent.message(hello)"),
        *rested(),
    )
    first, second = world.model.requests()
    assert first == second


def test_the_provider_says_when_to_come_back(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"status": 429, "headers": {"retry-after": "1"}}, text("hello"))
    told = Told(world, client)
    told.send("hi")
    begun = told.until("session.status_rescheduled").processed_at
    again = told.until("session.status_running").processed_at
    told.until_idle()
    assert 1 <= (again - begun).total_seconds() < 2


def test_a_message_while_a_retry_is_awaited_is_taken_with_it(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script({"status": 529, "headers": {"retry-after": "1"}}, text("hello"))
    told = Told(world, client)
    told.send("one")
    told.until("session.status_rescheduled")
    told.send("two")
    told.until_idle()
    told.tells(
        *started("one"),
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *RESCHEDULED,
        *RUNNING,
        "user.message(two)",
        *asked("agent.message(hello)"),
        *rested(),
    )


HOPELESS = [
    (400, "model_request_failed_error"),
    (401, "model_request_failed_error"),
    (403, "model_request_failed_error"),
    (404, "model_request_failed_error"),
    (402, "billing_error"),
]


@pytest.mark.parametrize(("status", "error"), HOPELESS)
def test_a_hopeless_error_ends_the_turn_and_not_the_session(
    world: World, client: anthropic.Anthropic, status: int, error: str
) -> None:
    world.model.script({"status": status, "message": "that will never do"}, text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle("retries_exhausted")
    assert len(world.model.requests()) == 1
    assert world.status(told.session_id) == "idle"
    told.send("again")
    told.until_idle("end_turn")
    told.tells(
        *started("hi"),
        *asked(error=True),
        f"session.error({error},exhausted)",
        *rested("retries_exhausted"),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )
    assert told.said() == [("user", ["hi", "again"])]


def test_an_error_after_tools_keeps_what_they_gave(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(calls(BASH), {"status": 400}, text("hello"))
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle("retries_exhausted")
    told.send("again")
    told.until_idle("end_turn")
    told.tells(
        *started("hi"),
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked(error=True),
        "session.error(model_request_failed_error,exhausted)",
        *rested("retries_exhausted"),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )


CUTS: list[tuple[dict[str, Any], str]] = [
    ({"steps": [{"text": "half a"}, {"cut": True}]}, "model_request_failed_error"),
    ({"steps": [{"text": "half a word"}], "cut_after_bytes": 300}, "model_request_failed_error"),
    ({"steps": [{"text": "x"}], "cut_after_bytes": 0}, "model_request_failed_error"),
    (
        {"steps": [{"tool_use": {"name": "bash", "input": {"a": "b"}, "chunk": 3}}, {"cut": True}]},
        "model_request_failed_error",
    ),
    (
        {"steps": [{"text": "half"}, {"error": {"type": "overloaded_error", "message": "no"}}]},
        "model_overloaded_error",
    ),
    (
        {"steps": [{"text": "half"}, {"error": {"type": "api_error", "message": "no"}}]},
        "model_request_failed_error",
    ),
]


@pytest.mark.parametrize(("reply", "error"), CUTS)
def test_a_cut_response_leaves_nothing_and_is_tried_again(
    world: World, client: anthropic.Anthropic, reply: dict[str, Any], error: str
) -> None:
    world.model.script(reply, text("whole"))
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(error=True),
        f"session.error({error},retrying)",
        *RESCHEDULED,
        *RUNNING,
        *asked("agent.message(whole)"),
        *rested(),
    )


def test_retries_wait_longer_and_longer(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"status": 529, "times": 2}, text("hello"))
    told = Told(world, client)
    told.send("hi")
    begun = time.monotonic()
    told.until_idle()
    # Half a second and a second at most, each with full jitter.
    assert time.monotonic() - begun < 1.5 + 1
    again = [
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *RESCHEDULED,
        *RUNNING,
    ]
    told.tells(*started("hi"), *again, *again, *asked("agent.message(hello)"), *rested())


def test_ten_attempts_and_no_more(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(failing(529, times=10), text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle("retries_exhausted")
    assert len(world.model.requests()) == 10
    again = [
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *RESCHEDULED,
        *RUNNING,
    ]
    told.send("again")
    told.until_idle("end_turn")
    told.tells(
        *started("hi"),
        *again * 9,
        *asked(error=True),
        "session.error(model_overloaded_error,exhausted)",
        *rested("retries_exhausted"),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        (
            {"type": "refusal", "category": "cyber", "explanation": "no"},
            {"type": "refusal", "category": "cyber", "explanation": "no"},
        ),
        (
            {"type": "refusal", "category": None, "explanation": None},
            {"type": "refusal", "category": None, "explanation": None},
        ),
        (None, {"type": "refusal", "category": None, "explanation": None}),
    ],
)
def test_a_refusal(
    world: World, client: anthropic.Anthropic, details: dict[str, Any] | None, shown: dict[str, Any]
) -> None:
    refusal = {"steps": [{"text": "I must not"}], "stop_reason": "refusal", "stop_details": details}
    world.model.script(refusal, text("gladly"))
    told = Told(world, client)
    told.send("bad")
    idle = told.until_idle("refusal")
    assert wire(idle)["stop_details"] == shown
    of_thread = wire(told.events[-3])
    assert of_thread["stop_details"] == shown
    told.send("good")
    told.until_idle("end_turn")
    told.tells(
        *started("bad"),
        *asked("agent.message(I must not)"),
        *rested("refusal"),
        *(*started("good"), *asked("agent.message(gladly)"), *rested()),
    )


def test_thinking_is_a_sign_and_no_text(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        {
            "steps": [
                {"thinking": "secret"},
                {"text": "a"},
                {"tool_use": {"name": "bash", "input": {}}},
            ]
        },
        {"steps": [{"redacted_thinking": "c2VjcmV0"}, {"thinking": "more"}, {"text": "b"}]},
    )
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    for event in told.events:
        if event.type == "agent.thinking":
            assert set(wire(event)) == {"id", "type", "processed_at"}
    assert "secret" not in str(world.log(told.session_id))
    words = story(told.events)
    assert words[:7] == [
        *started("hi"),
        "span.model_request_start",
        "agent.thinking",
        "agent.message(a)",
        "agent.tool_use(bash,allow)",
    ]
    assert words[-5:] == ["agent.message(b)", "span.model_request_end", *rested()]
    assert set(words[9:-5]) == {"span.model_request_start", "agent.thinking"}
    # That the model gets its own thinking back to the letter is among the model's checks.


def test_a_turn_of_tools_alone_has_no_empty_message(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(
        {"steps": [{"text": ""}, {"tool_use": {"name": "bash", "input": {}}}]}, text("end")
    )
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(error)",
        *asked("agent.message(end)"),
        *rested(),
    )


def test_the_end_of_the_output(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("cut he", stop_reason="max_tokens"), text("re"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.send("go on")
    told.until_idle()
    told.tells(
        *(*started("hi"), *asked("agent.message(cut he)"), *rested()),
        *(*started("go on"), *asked("agent.message(re)"), *rested()),
    )
    assert told.said()[1] == ("assistant", ["cut he"])


def test_the_end_of_the_output_inside_of_a_call(world: World, client: anthropic.Anthropic) -> None:
    half = {
        "block": {"type": "tool_use", "id": "toolu_half", "name": "weather", "input": {}},
        "deltas": [{"type": "input_json_delta", "partial_json": '{"city": "Ro'}],
    }
    world.model.script(
        {"steps": [half], "stop_reason": "max_tokens"},
        text("sorry"),
        allow_prefix_change=True,
    )
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle("end_turn")
    # A call that nobody can understand is put to nobody; the model learns what has happened.
    words = story(told.events)
    assert words[-5:] == ["agent.message(sorry)", "span.model_request_end", *rested()]
    assert not [event for event in told.events if event.type == "agent.custom_tool_use"]


def test_a_pause_is_gone_on_with(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("one moment", stop_reason="pause_turn"), text("here it is"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked("agent.message(one moment)"),
        *asked("agent.message(here it is)"),
        *rested(),
    )


def test_an_empty_response_ends_the_turn(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"steps": []}, text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.send("again")
    told.until_idle()
    told.tells(
        *(*started("hi"), *asked(), *rested()),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )


def test_several_texts_in_a_row_are_one_message(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"steps": [{"text": "a"}, {"text": "b"}]})
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.tells(*started("hi"), *asked("agent.message(a|b)"), *rested())


def test_a_change_of_model_between_sessions_changes_nothing_else(
    world: World, client: anthropic.Anthropic
) -> None:
    for model in (MODEL, "claude-haiku-4-5", "claude-sonnet-5-5"):
        world.model.script(text("hello"))
        told = Told(world, client, model=model)
        told.send("hi")
        told.until_idle()
        told.tells(*started("hi"), *asked("agent.message(hello)"), *rested())
        assert world.model.requests()[0]["model"] == model
