"""Traces: what stands in a log and on a stream, event by event, for every course of a turn."""

from __future__ import annotations

import anthropic
import pytest

from support import (
    ASKING_TOOLSET,
    INTERRUPT,
    RESCHEDULED,
    RUNNING,
    TOOLSET,
    WEATHER,
    answer,
    asked,
    calls,
    confirm,
    rested,
    stalled,
    started,
    story,
    system_message,
    text,
    wire,
)
from told import Told
from world import World

BASH = ("bash", {"command": "ls"})
ROME, OSLO = ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})


# --- plain turns and tools


def test_a_plain_turn(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    told = Told(world, client)
    told.send("hi")
    idle = told.until_idle()
    assert idle.stop_details is None
    told.tells(
        "session.status_running",
        "session.thread_status_running",
        "user.message(hi)",
        "span.model_request_start",
        "agent.message(hello)",
        "span.model_request_end",
        "session.thread_status_idle(end_turn)",
        "session.usage",
        "session.status_idle(end_turn)",
    )
    assert told.said() == [("user", ["hi"])]


def test_a_second_turn_knows_the_first(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"), text("again"))
    told = Told(world, client)
    told.send("hi")
    told.until_idle()
    told.send("more")
    told.until_idle()
    told.tells(
        *(*started("hi"), *asked("agent.message(hello)"), *rested()),
        *(*started("more"), *asked("agent.message(again)"), *rested()),
    )
    assert told.said() == [("user", ["hi"]), ("assistant", ["hello"]), ("user", ["more"])]


def test_a_tool_turn(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        {
            "steps": [
                {"text": "let me see"},
                {"tool_use": {"name": "bash", "input": {"command": "ls"}}},
            ]
        },
        text("nothing there", when={"has_tool_result_for": "bash"}),
    )
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    call = told.events[5]
    assert wire(call) == {
        "id": call.id,
        "type": "agent.tool_use",
        "name": "bash",
        "input": {"command": "ls"},
        "evaluated_permission": "allow",
        "evaluation": {"type": "always_allow"},
        "session_thread_id": None,
        "processed_at": wire(call)["processed_at"],
    }
    result = told.events[7]
    assert (result.tool_use_id, result.is_error) == (call.id, False)
    told.tells(
        *started("hi"),
        *asked("agent.message(let me see)", "agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(nothing there)"),
        *rested(),
    )
    assert [role for role, _ in told.said()] == ["user", "assistant", "user"]


def test_parallel_calls_give_their_results_in_order(
    world: World, client: anthropic.Anthropic
) -> None:
    read = ("read", {"file_path": "/a"})
    world.model.script(calls(BASH, read, BASH, read), text("done"))
    told = Told(world, client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    uses = [event.id for event in told.events if event.type == "agent.tool_use"]
    results = [event for event in told.events if event.type == "agent.tool_result"]
    assert [event.tool_use_id for event in results] == uses
    answers = [list(one) for one in told.said()[-1][1]]
    assert answers == [["ok"], ["error"], ["ok"], ["error"]]
    told.tells(
        *started("hi"),
        *asked(
            "agent.tool_use(bash,allow)",
            "agent.tool_use(read,allow)",
            "agent.tool_use(bash,allow)",
            "agent.tool_use(read,allow)",
        ),
        *story(results),
        *asked("agent.message(done)"),
        *rested(),
    )


def test_a_tool_that_is_not_there(world: World, client: anthropic.Anthropic) -> None:
    disabled = {**TOOLSET, "configs": [{"name": "bash", "enabled": False}]}
    world.model.script(calls(BASH, ("fly", {})), text("pity"), allow_prefix_change=True)
    told = Told(world, client, tools=[disabled])
    told.send("hi")
    told.until_idle()
    use = [event for event in told.events if event.type == "agent.tool_use"][0]
    assert (use.evaluated_permission, use.evaluation) == ("deny", None)
    told.tells(
        *started("hi"),
        *asked("agent.tool_use(bash,deny)", "agent.tool_use(fly,deny)"),
        *["agent.tool_result(error)"] * 2,
        *asked("agent.message(pity)"),
        *rested(),
    )
    offered = [tool["name"] for tool in world.model.requests()[0]["tools"]]
    assert "bash" not in offered and "read" in offered


def test_a_custom_tool(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME), text("sunny", when={"has_tool_result_for": "weather"}))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle("requires_action")
    (call,) = told.calls()
    use = told.events[4]
    assert (use.id, use.input, use.session_thread_id) == (call, {"city": "Rome"}, None)
    told.send(answer(call, "25 degrees"))
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked("agent.custom_tool_use(weather)"),
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.message(sunny)"),
        *rested(),
    )
    assert told.said() == [
        ("user", ["hi"]),
        ("assistant", ["weather"]),
        ("user", [{"ok": "25 degrees"}]),
    ]


def test_a_custom_tool_that_fails(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME), text("pity"))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle()
    told.send(answer(told.calls()[0], "no such city", is_error=True))
    told.until_idle("end_turn")
    assert told.said()[-1] == ("user", [{"error": "no such city"}])


def test_inputs_are_kept_to_the_letter(world: World, client: anthropic.Anthropic) -> None:
    given = {"z": 1, "a": {"y": [1.50, None, True], "b": 'Ü\n"\\\u2028'}, "": {}, "list": []}
    tool = {**WEATHER, "input_schema": {"type": "object"}}
    world.model.script(calls(("weather", given)), text("ok"))
    told = Told(world, client, tools=[tool])
    told.send("hi")
    told.until_idle()
    shown = wire(told.events[4])["input"]
    assert shown == given and list(shown) == list(given)
    told.send(answer(told.calls()[0], "x"))
    told.until_idle()
    # That the model gets it back in its own order is among the model's checks.


# --- confirmations and answers


@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_always_ask(world: World, client: anthropic.Anthropic, verdict: str) -> None:
    world.model.script(calls(BASH), text("fine", when={"has_tool_result_for": "bash"}))
    told = Told(world, client, tools=[ASKING_TOOLSET])
    told.send("hi")
    told.until_idle("requires_action")
    (call,) = told.calls()
    use = wire(told.events[4])
    assert (use["id"], use["evaluation"]) == (call, {"type": "always_ask"})
    told.send(confirm(call, verdict))
    told.until_idle("end_turn")
    told.tells(
        *started("hi"),
        *asked("agent.tool_use(bash,ask)"),
        *rested("requires_action"),
        f"user.tool_confirmation({verdict})",
        *RUNNING,
        f"agent.tool_result({'ok' if verdict == 'allow' else 'error'})",
        *asked("agent.message(fine)"),
        *rested(),
    )


def test_the_model_is_told_why_it_was_denied(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(BASH), text("fine"), calls(BASH), text("fine"))
    told = Told(world, client, tools=[ASKING_TOOLSET])
    wording = "Permission to use bash has been rejected."
    for fields, words in (
        ({"deny_message": "keep the build"}, f"{wording} Rejection message: keep the build"),
        ({}, wording),
    ):
        told.send("hi")
        told.until_idle("requires_action")
        told.send(confirm(told.calls()[0], "deny", **fields))
        told.until_idle("end_turn")
        result = [event for event in told.events if event.type == "agent.tool_result"][-1]
        assert [block.text for block in result.content] == [words]
        assert told.said()[-1] == ("user", [{"error": words}])
        confirmation = [event for event in told.events if event.type == "user.tool_confirmation"][
            -1
        ]
        assert confirmation.deny_message == fields.get("deny_message")


def test_partial_answers(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME, OSLO, ROME), text("done"))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle()
    first, second, third = told.calls()
    told.send(answer(second, "snow"))
    told.until_idle()
    assert told.calls() == [first, third]
    told.send(answer(third, "sun"))
    told.until_idle()
    assert told.calls() == [first]
    told.send(answer(first, "rain"))
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(*["agent.custom_tool_use(weather)"] * 3),
        *rested("requires_action"),
        *("user.custom_tool_result", *rested("requires_action")),
        *("user.custom_tool_result", *rested("requires_action")),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.message(done)"),
        *rested(),
    )
    # Whatever the order of the answers: results stand in the order of the calls.
    assert told.said()[-1] == ("user", [{"ok": "rain"}, {"ok": "snow"}, {"ok": "sun"}])


def test_all_answers_in_one_batch(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME, OSLO), text("done"))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle()
    first, second = told.calls()
    told.send(answer(second, "b"), answer(first, "a"))
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(*["agent.custom_tool_use(weather)"] * 2),
        *rested("requires_action"),
        *["user.custom_tool_result"] * 2,
        *RUNNING,
        *asked("agent.message(done)"),
        *rested(),
    )


def test_a_mixed_batch(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME, BASH, ("read", {"file_path": "/a"}), OSLO), text("done"))
    told = Told(world, client, tools=[ASKING_TOOLSET, WEATHER])
    told.send("hi")
    told.until_idle()
    rome, bash, oslo = told.calls()
    told.send(confirm(bash, "deny"), answer(oslo, "snow"))
    told.until_idle()
    assert told.calls() == [rome]
    told.send(answer(rome, "sun"))
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(
            "agent.custom_tool_use(weather)",
            "agent.tool_use(bash,ask)",
            "agent.tool_use(read,allow)",
            "agent.custom_tool_use(weather)",
        ),
        # What may run has run while the rest is awaited.
        "agent.tool_result(error)",
        *rested("requires_action"),
        *("user.tool_confirmation(deny)", "user.custom_tool_result", *rested("requires_action")),
        "user.custom_tool_result",
        *RUNNING,
        "agent.tool_result(error)",
        *asked("agent.message(done)"),
        *rested(),
    )
    results = [list(one) for one in told.said()[-1][1]]
    assert results == [["ok"], ["error"], ["error"], ["ok"]]


def test_an_answer_before_the_idle_event(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME), text("done"))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    use = told.until("agent.custom_tool_use")
    # It may be sent as soon as the call is seen; what comes of it is the same.
    told.send(answer(use.id, "sun"))
    told.until_idle("end_turn")
    seen = [word for word in story(told.events) if "idle(requires_action)" not in word]
    assert (
        seen.count("user.custom_tool_result") == 1 and seen[-1] == "session.status_idle(end_turn)"
    )
    assert told.said()[-1] == ("user", [{"ok": "sun"}])


def test_answers_and_a_system_message(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME), text("done"))
    told = Told(world, client, tools=[WEATHER])
    told.send("hi")
    told.until_idle()
    told.send(answer(told.calls()[0], "sun"), system_message("be brief"))
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked("agent.custom_tool_use(weather)"),
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        "system.message(be brief)",
        *asked("agent.message(done)"),
        *rested(),
    )
    assert told.said()[2:] == [("user", [{"ok": "sun"}]), ("system", ["be brief"])]


# --- messages while the agent works


def test_a_message_during_a_turn_is_steered_into_it(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(
        {"steps": [{"pause_ms": 700}, {"tool_use": {"name": "bash", "input": {}}}]},
        text("both"),
    )
    told = Told(world, client, tools=[TOOLSET])
    told.send("one")
    told.until("span.model_request_start")
    told.send("two")
    told.until_idle()
    told.tells(
        *started("one"),
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(error)",
        "user.message(two)",
        *asked("agent.message(both)"),
        *rested(),
    )
    assert [role for role, _ in told.said()] == ["user", "assistant", "user"]
    assert told.said()[-1][1][1] == "two"


def test_a_message_during_the_last_request_prolongs_the_turn(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script({"steps": [{"pause_ms": 700}, {"text": "first"}]}, text("second"))
    told = Told(world, client)
    told.send("one")
    told.until("span.model_request_start")
    told.send("two", "three")
    told.until_idle()
    told.tells(
        *started("one"),
        *asked("agent.message(first)"),
        *("user.message(two)", "user.message(three)"),
        *asked("agent.message(second)"),
        *rested(),
    )
    assert told.said() == [("user", ["one"]), ("assistant", ["first"]), ("user", ["two", "three"])]


def test_a_system_message_beside_a_message(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"), text("oui"))
    told = Told(world, client, system="Be kind.")
    told.send("hi")
    told.until_idle()
    told.send("more", system_message("speak French"))
    told.until_idle()
    told.tells(
        *(*started("hi"), *asked("agent.message(hello)"), *rested()),
        *started("more"),
        "system.message(speak French)",
        *asked("agent.message(oui)"),
        *rested(),
    )
    assert told.said()[2:] == [("user", ["more"]), ("system", ["speak French"])]
    # It is appended, and replaces nothing.
    assert "Be kind." in str(world.model.requests()[-1]["system"])


# --- interrupts


def test_an_interrupt_while_the_model_speaks(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(stalled("never whole"), text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until("span.model_request_start")
    world.model.wait_for_requests(1)
    told.send(INTERRUPT)
    told.until_idle()
    told.send("again")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(error=True),
        "user.interrupt",
        *rested(),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )
    # Neither the words nor the interrupt have reached the conversation.
    assert told.said() == [("user", ["hi", "again"])]


def test_an_interrupt_goes_ahead_of_what_waits(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(stalled(), text("hello"))
    told = Told(world, client)
    told.send("one")
    told.until("span.model_request_start")
    world.model.wait_for_requests(1)
    told.send("two")
    told.send(INTERRUPT)
    told.until_idle()
    told.until_idle()
    told.tells(
        *started("one"),
        *asked(error=True),
        "user.interrupt",
        *rested(),
        *(*started("two"), *asked("agent.message(hello)"), *rested()),
    )


def test_an_interrupt_and_a_message_in_one_batch(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(stalled(), text("hello"))
    told = Told(world, client)
    told.send("one")
    told.until("span.model_request_start")
    world.model.wait_for_requests(1)
    told.send(INTERRUPT, "two")
    told.until_idle()
    told.until_idle()
    told.tells(
        *started("one"),
        *asked(error=True),
        "user.interrupt",
        *rested(),
        *(*started("two"), *asked("agent.message(hello)"), *rested()),
    )


def test_an_interrupt_while_answers_are_awaited(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(calls(ROME, BASH), text("hello"))
    told = Told(world, client, tools=[WEATHER, ASKING_TOOLSET])
    told.send("hi")
    told.until_idle("requires_action")
    weather, bash = told.calls()
    told.send(INTERRUPT)
    told.until_idle("end_turn")
    assert world.status(told.session_id) == "idle"
    # A call that was closed takes no answer any more; a late one does no harm.
    told.send(answer(weather, "late"))
    told.send(confirm(bash))
    told.send("again")
    told.until_idle("end_turn")
    told.tells(
        *started("hi"),
        *asked("agent.custom_tool_use(weather)", "agent.tool_use(bash,ask)"),
        *rested("requires_action"),
        "agent.tool_result(error)",
        "user.interrupt",
        *rested(),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )
    closed, again = told.said()[-1][1][:2], told.said()[-1][1][2]
    assert [list(one) for one in closed] == [["error"], ["error"]] and again == "again"


def test_an_interrupt_while_a_retry_is_awaited(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"status": 529, "headers": {"retry-after": "60"}}, text("hello"))
    told = Told(world, client)
    told.send("hi")
    told.until("session.status_rescheduled")
    assert world.status(told.session_id) == "rescheduling"
    told.send(INTERRUPT)
    told.until_idle()
    told.send("again")
    told.until_idle()
    told.tells(
        *started("hi"),
        *asked(error=True),
        "session.error(model_overloaded_error,retrying)",
        *RESCHEDULED,
        "user.interrupt",
        *rested(),
        *(*started("again"), *asked("agent.message(hello)"), *rested()),
    )
