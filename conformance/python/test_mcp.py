"""Tools of MCP servers in the course of a session: what stands in the log and on the stream, who is
asked, what a crash leaves, and which tools an agent has.
"""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from mcp_servers import (
    LOOKS,
    Gate,
    Place,
    errors,
    mortal_place,
    new_world,
    of_kind,
    offered,
    origins,
    place,
    ports,
    results,
    served,
    servers,
    settings,
    toolset,
    url,
)
from support import (
    INTERRUPT,
    RUNNING,
    TOOLSET,
    WEATHER,
    answer,
    asked,
    calls,
    confirm,
    message,
    rested,
    started,
    story,
    text,
    wire,
)
from told import Told
from world import BOUND, wait_until

ECHO = ("mcp__one__echo", {"text": "hello"})
COUNT = ("mcp__one__count", {})
UNKNOWN = "unknown outcome"


# --- the course of a turn


def test_a_call(place: Place) -> None:
    place.world.model.script(calls(ECHO), text("done", when={"has_tool_result_for": ECHO[0]}))
    told = place.told("one")
    told.send("go")
    told.until_idle()
    (use,) = of_kind(told.events, "agent.mcp_tool_use")
    (result,) = of_kind(told.events, "agent.mcp_tool_result")
    assert wire(use) == {
        "id": use.id,
        "type": "agent.mcp_tool_use",
        "mcp_server_name": "one",
        "name": "echo",
        "input": {"text": "hello"},
        "evaluated_permission": "allow",
        "evaluation": {"type": "always_allow"},
        "session_thread_id": None,
        "processed_at": wire(use)["processed_at"],
    }
    assert wire(result) == {
        "id": result.id,
        "type": "agent.mcp_tool_result",
        "mcp_tool_use_id": use.id,
        "content": [{"type": "text", "text": "hello"}],
        "is_error": False,
        "processed_at": wire(result)["processed_at"],
    }
    told.tells(
        *started("go"),
        *asked("agent.mcp_tool_use(one/echo,allow)"),
        "agent.mcp_tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    )
    assert told.said() == [
        ("user", ["go"]),
        ("assistant", ["mcp__one__echo"]),
        ("user", [{"ok": "hello"}]),
    ]
    (shown,) = [one for one in place.world.model.requests()[0]["tools"] if one["name"] == ECHO[0]]
    assert "Does echo." in shown["description"]
    assert shown["input_schema"]["required"] == ["text"]


def test_tools_of_all_kinds_in_one_answer(place: Place) -> None:
    place.two.tool("fails", lambda _call: {"content": [], "isError": True})
    place.world.model.script(
        calls(
            ECHO,
            ("weather", {"city": "Rome"}),
            ("bash", {"command": "echo from the sandbox"}),
            ("mcp__two__fails", {}),
            ("mcp__two__nothing", {}),
            COUNT,
        ),
        text("done"),
    )
    told = place.told("one", "two", tools=(TOOLSET, WEATHER))
    told.send("go")
    told.until_idle("requires_action")
    told.send(answer(told.calls()[0], "sun"))
    told.until_idle("end_turn")
    uses = [one for one in story(told.events) if "_use(" in one]
    assert uses == [
        "agent.mcp_tool_use(one/echo,allow)",
        "agent.custom_tool_use(weather)",
        "agent.tool_use(bash,allow)",
        "agent.mcp_tool_use(two/fails,allow)",
        "agent.tool_use(mcp__two__nothing,deny)",
        "agent.mcp_tool_use(one/count,allow)",
    ]
    answers = [list(one) for one in told.said()[-1][1]]
    assert answers == [["ok"], ["ok"], ["ok"], ["error"], ["error"], ["ok"]]
    assert place.two.calls == [("fails", {})]
    told.tells(*story(told.events))


def test_an_interrupt(place: Place) -> None:
    gate = Gate()
    place.one.tool("wait", gate)
    place.world.model.script(calls(("mcp__one__wait", {})), text("never"))
    told = place.told("one")
    told.send("go")
    told.until("agent.mcp_tool_use")
    assert gate.entered.wait(BOUND)
    told.send(INTERRUPT)
    told.until_idle("end_turn")
    wait_until(lambda: place.one.asked("notifications/cancelled"), "that the server is told")
    gate.go.set()
    told.tells(
        *started("go"),
        *asked("agent.mcp_tool_use(one/wait,allow)"),
        "agent.mcp_tool_result(error)",
        "user.interrupt",
        *rested(),
    )
    assert place.one.count("wait") == 1


# --- who is asked


@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_by_default_the_user_is_asked(place: Place, verdict: str) -> None:
    place.world.model.script(calls(ECHO, COUNT), text("fine"))
    told = place.told("one", policy=None)
    told.send("go")
    told.until_idle("requires_action")
    echo, count = told.calls()
    uses = [wire(one) for one in of_kind(told.events, "agent.mcp_tool_use")]
    assert [one["id"] for one in uses] == [echo, count]
    assert [one["evaluation"] for one in uses] == [{"type": "always_ask"}] * 2
    assert place.one.calls == []
    told.send(confirm(count, "deny", deny_message="not today"))
    told.until_idle("requires_action")
    assert told.calls() == [echo]
    told.send(confirm(echo, verdict))
    told.until_idle("end_turn")
    first, second = ("ok", "error") if verdict == "allow" else ("error", "error")
    tail = [f"agent.mcp_tool_result({one})" for one in (first, second)]
    seen = story(told.events)
    assert seen[: len(started("go")) + 4] == [
        *started("go"),
        *asked("agent.mcp_tool_use(one/echo,ask)", "agent.mcp_tool_use(one/count,ask)"),
    ]
    assert sorted(one for one in seen if "result" in one) == sorted(tail)
    given = {
        one.mcp_tool_use_id: one.content[0].text
        for one in of_kind(told.events, "agent.mcp_tool_result")
    }
    assert given[count].endswith("has been rejected. Rejection message: not today")
    assert "Permission to use" in given[count]
    if verdict == "allow":
        assert given[echo] == "hello" and place.one.calls == [("echo", {"text": "hello"})]
    else:
        assert place.one.calls == []
    assert seen[-7:] == [*seen[-7:-6], *asked("agent.message(fine)"), *rested()]
    told.tells(*seen)


def test_permissions_are_per_tool(place: Place) -> None:
    """The name in a configuration is the server's own."""
    place.one.tool("third", lambda _call: "three")
    place.world.model.script(
        calls(ECHO, COUNT, ("mcp__one__third", {})), text("fine"), allow_prefix_change=True
    )
    entry = toolset(
        "one",
        {"name": "echo", "permission_policy": {"type": "always_ask"}},
        {"name": "count", "enabled": False},
        {"name": "of_no_server"},
    )
    told = Told(
        place.world,
        place.client,
        mcp_servers=[{"type": "url", "name": "one", "url": url("one")}],
        tools=[entry],
    )
    told.send("go")
    told.until_idle("requires_action")
    (echo,) = told.calls()
    uses = [one for one in story(told.events) if "_use(" in one]
    assert uses == [
        "agent.mcp_tool_use(one/echo,ask)",
        # What is disabled is there as little as what does not exist.
        "agent.tool_use(mcp__one__count,deny)",
        "agent.mcp_tool_use(one/third,allow)",
    ]
    told.send(confirm(echo))
    told.until_idle("end_turn")
    assert offered(place.world, 0) == ["mcp__one__echo", "mcp__one__third"]
    assert sorted(place.one.calls) == [("echo", {"text": "hello"}), ("third", {})]


def test_only_what_is_enabled(place: Place) -> None:
    place.world.model.script(text("a"))
    entry = toolset("one", {"name": "count", "enabled": True}, enabled=False)
    told = Told(
        place.world,
        place.client,
        mcp_servers=[{"type": "url", "name": "one", "url": url("one")}],
        tools=[entry],
    )
    told.send("go")
    told.until_idle()
    assert offered(place.world) == ["mcp__one__count"]


# --- crashes


def test_a_confirmation_outlives_the_server(mortal_place: Place) -> None:
    """Before it, and between it and the call's end: the tool has run once."""
    place = mortal_place
    place.world.model.script(calls(COUNT), text("fine"))
    told = place.told("one", policy=None)
    told.send("go")
    told.until_idle("requires_action")
    (call,) = told.calls()
    place.world.restart()
    client = place.world.client()
    session = client.beta.sessions.retrieve(told.session_id)
    assert session.status == "idle"
    client.beta.sessions.events.send(told.session_id, events=[confirm(call)])
    wait_until(lambda: place.world.status(told.session_id) == "idle", "rest")
    log = place.world.log(told.session_id)
    wait_until(lambda: place.world.log(told.session_id)[-1]["type"] == "session.status_idle", "rest")
    log = place.world.log(told.session_id)
    assert results(log) == ["1"] and place.one.count("count") == 1
    assert story(log) == [
        *started("go"),
        *asked("agent.mcp_tool_use(one/count,ask)"),
        *rested("requires_action"),
        "user.tool_confirmation(allow)",
        *RUNNING,
        "agent.mcp_tool_result(ok)",
        *asked("agent.message(fine)"),
        *rested(),
    ]
    place.world.restart()
    assert place.world.log(told.session_id) == log and place.one.count("count") == 1


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_crash_while_a_call_runs(mortal_place: Place, idempotent: bool) -> None:
    """What may have had its effect is not done again, unless the server says that it does no harm."""
    place = mortal_place
    gate = Gate()
    place.one.tool("wait", gate, **({"annotations": LOOKS} if idempotent else {}))
    place.world.model.script(calls(ECHO, ("mcp__one__wait", {})), text("fine"))
    session = place.world.session(**served("one"))
    place.client.beta.sessions.events.send(session, events=[message("go")])
    assert gate.entered.wait(BOUND)
    # The other one's result is there already.
    wait_until(lambda: results(place.world.log(session)) == ["hello"], "a result")
    place.world.kill()
    gate.go.set()
    place.world.start()
    wait_until(lambda: place.world.status(session) == "idle", "rest")
    log = place.world.log(session)
    assert story(log)[-1] == "session.status_idle(end_turn)"
    first, second = results(log)
    assert first == "hello" and place.one.count("echo") == 1
    if idempotent:
        assert second == "let go" and place.one.count("wait") == 2
    else:
        assert second.startswith("ERROR ") and UNKNOWN in second and place.one.count("wait") == 1
    assert place.world.model.requests()[-1]["messages"][-1]["role"] == "user"


def test_a_crash_while_tools_are_listed(mortal_place: Place) -> None:
    place = mortal_place
    entered = Gate()

    def listed(_message: dict[str, Any]) -> dict[str, Any]:
        entered(None)  # type: ignore[arg-type]
        return {"tools": place.one.tools}

    place.one.methods["tools/list"] = listed
    place.world.model.script(calls(ECHO), text("fine"))
    session = place.world.session(**served("one"))
    place.client.beta.sessions.events.send(session, events=[message("go")])
    assert entered.entered.wait(BOUND)
    place.world.kill()
    entered.go.set()
    place.world.start()
    wait_until(lambda: place.world.status(session) == "idle", "rest")
    log = place.world.log(session)
    assert results(log) == ["hello"] and story(log).count("user.message(go)") == 1


def test_tools_are_the_same_after_a_crash_between_requests(mortal_place: Place) -> None:
    """The lists of the turn are kept: the server has none to give any more, and is not asked."""
    place = mortal_place
    gate = Gate()
    place.one.tool("wait", gate, annotations=LOOKS)
    place.world.model.script(calls(("mcp__one__wait", {})), calls(ECHO), text("fine"))
    session = place.world.session(**served("one"))
    place.client.beta.sessions.events.send(session, events=[message("go")])
    assert gate.entered.wait(BOUND)
    place.world.kill()
    gate.go.set()
    place.one.methods["tools/list"] = lambda _message: {"tools": []}
    place.world.start()
    wait_until(lambda: place.world.status(session) == "idle", "rest")
    assert results(place.world.log(session)) == ["let go", "hello"]
    shown = [sorted(offered(place.world, at)) for at in range(3)]
    assert shown[0] == shown[1] == shown[2] and ECHO[0] in shown[0]


# --- other servers and tools for a session


def test_a_session_may_have_other_servers_than_its_agent(place: Place) -> None:
    place.two.tool("only_two", lambda _call: "two")
    agent = place.world.agent(**served("one"))
    override: Any = {
        "type": "agent_with_overrides",
        "id": agent,
        "mcp_servers": served("two")["mcp_servers"],
        "tools": [toolset("two")],
    }
    made = place.client.beta.sessions.create(
        agent=override, environment_id=place.world.environment()
    )
    assert [one.name for one in made.agent.mcp_servers] == ["two"]
    place.world.model.script(calls(("mcp__two__only_two", {})), text("fine"))
    place.client.beta.sessions.events.send(made.id, events=[message("go")])
    wait_until(lambda: results(place.world.log(made.id)) == ["two"], "a result")
    assert place.one.told == []


def test_a_session_that_rests_gets_others(place: Place) -> None:
    place.world.model.script(
        calls(COUNT), text("a"), calls(("mcp__two__echo", {"text": "x"})), text("b"),
        allow_prefix_change=True,
    )  # fmt: skip
    told = place.told("one")
    told.send("go")
    told.until_idle("end_turn")
    update = place.client.beta.sessions.update
    changed = update(told.session_id, agent=served("two"))  # type: ignore[arg-type]
    assert [one.name for one in changed.agent.mcp_servers] == ["two"]
    assert story(told.until("session.updated") and told.events)[-1] == "session.updated"
    told.send("again")
    told.until_idle("end_turn")
    assert results(told.events) == ["1", "x"]
    assert sorted(offered(place.world)) == ["mcp__two__count", "mcp__two__echo"]
    # A toolset without its server, and a server without its toolset.
    for wrong in ({"tools": []}, {"mcp_servers": []}):
        with pytest.raises(anthropic.BadRequestError, match="mcp_servers"):
            update(told.session_id, agent=wrong)  # type: ignore[arg-type]
    told.tells(*story(told.events))


def test_servers_are_not_changed_while_it_runs(place: Place) -> None:
    gate = Gate()
    place.one.tool("wait", gate)
    place.world.model.script(calls(("mcp__one__wait", {})), text("a"))
    told = place.told("one")
    told.send("go")
    assert gate.entered.wait(BOUND)
    with pytest.raises(anthropic.APIStatusError) as refused:
        place.client.beta.sessions.update(told.session_id, agent=served("two"))  # type: ignore[arg-type]
    assert refused.value.status_code in (400, 409)
    gate.go.set()
    told.until_idle("end_turn")
    assert results(told.events) == ["let go"]


def test_a_policy_that_has_changed_holds_for_the_next_turn(place: Place) -> None:
    place.world.model.script(calls(COUNT), text("a"), calls(COUNT), text("b"))
    told = place.told("one")
    told.send("go")
    told.until_idle("end_turn")
    place.client.beta.sessions.update(
        told.session_id,
        agent={"tools": [toolset("one", policy="always_ask")]},  # type: ignore[arg-type]
    )
    told.send("again")
    told.until_idle("requires_action")
    assert place.one.count("count") == 1
    told.send(confirm(told.calls()[0], "deny"))
    told.until_idle("end_turn")
    assert place.one.count("count") == 1


def test_an_agent_without_servers_has_none(place: Place) -> None:
    """The control of everything here: nobody is asked, and nothing is written down."""
    place.world.model.script(text("hello"))
    told = Told(place.world, place.client, tools=[TOOLSET])
    told.send("hi")
    told.until_idle()
    told.tells(*started("hi"), *asked("agent.message(hello)"), *rested())
    assert not any(name.startswith("mcp__") for name in offered(place.world))
    assert errors(told.events) == [] and all(one.told == [] for one in place.servers.values())
