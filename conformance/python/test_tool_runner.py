"""The SDK's own tool runner, answering a session's custom tools. It is asynchronous only."""

from __future__ import annotations

import threading
from typing import Any

import anthropic
import anyio
import pytest
from anthropic import beta_async_tool, beta_tool
from anthropic.lib.tools import ToolError

from support import (
    ASKING_TOOLSET,
    RUNNING,
    asked,
    calls,
    confirm,
    message,
    rested,
    started,
    story,
    text,
)
from world import BOUND, World

pytestmark = pytest.mark.anyio

ROME, OSLO = ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})


@beta_async_tool
async def weather(city: str) -> str:
    """Says how the weather is.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


@beta_tool
def clock(zone: str) -> str:
    """Says how late it is.

    Args:
        zone: Where.
    """
    assert threading.current_thread() is not threading.main_thread()
    return f"noon in {zone}"


@beta_async_tool
async def broken() -> str:
    """Never works."""
    raise ToolError("out of order")


def declared(*tools: Any) -> list[dict[str, Any]]:
    """The declarations of SDK tools, as an agent takes them."""
    definitions = [tool.to_dict() for tool in tools]
    return [
        {
            "type": "custom",
            "name": one["name"],
            "description": one["description"],
            "input_schema": one["input_schema"],
        }
        for one in definitions
    ]


async def run(
    client: anthropic.AsyncAnthropic, session_id: str, *tools: Any, max_idle: float = 0.3
) -> list[Any]:
    """Runs the runner until the session has been at rest for a moment."""
    with anyio.fail_after(2 * BOUND):
        runner = client.beta.sessions.events.tool_runner(session_id, tools=tools, max_idle=max_idle)
        return [call async for call in runner]


async def test_a_turn_with_tools(world: World, async_client: anthropic.AsyncAnthropic) -> None:
    world.model.script(
        calls(ROME),
        calls(("clock", {"zone": "Oslo"}), when={"last_user_contains": "sunny in Rome"}),
        text("done", when={"last_user_contains": "noon in Oslo"}),
    )
    session_id = world.session(tools=declared(weather, clock))
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    done = await run(async_client, session_id, weather, clock)
    assert [(one.name, one.event.input, one.is_error, one.posted) for one in done] == [
        ("weather", {"city": "Rome"}, False, True),
        ("clock", {"zone": "Oslo"}, False, True),
    ]
    assert story(world.log(session_id)) == [
        *started("hi"),
        *asked("agent.custom_tool_use(weather)"),
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.custom_tool_use(clock)"),
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.message(done)"),
        *rested(),
    ]
    sent = [one for one in world.recorder.exchanges if one.method == "POST"]
    assert "session-tool-runner" in sent[-1].headers["x-stainless-helper"]


async def test_parallel_calls_and_errors(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(calls(ROME, ("broken", {}), OSLO), text("done"))
    session_id = world.session(tools=declared(weather, broken))
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    done = await run(async_client, session_id, weather, broken)
    assert [(one.name, one.is_error, one.posted) for one in done] == [
        ("weather", False, True),
        ("broken", True, True),
        ("weather", False, True),
    ]
    results = world.model.requests()[-1]["messages"][-1]["content"]
    told = [(one["content"][0]["text"], one.get("is_error", False)) for one in results]
    assert told == [("sunny in Rome", False), ("out of order", True), ("sunny in Oslo", False)]


async def test_the_runner_catches_up_with_what_it_has_missed(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(calls(ROME), text("done"))
    session_id = world.session(tools=declared(weather))
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    with anyio.fail_after(BOUND):
        while world.log(session_id)[-1:] == [] or world.status(session_id) != "idle":
            await anyio.sleep(0.01)
    done = await run(async_client, session_id, weather)
    assert [one.posted for one in done] == [True]
    assert story(world.log(session_id))[-1] == "session.status_idle(end_turn)"
    # Everything is answered now: a second runner has nothing to do.
    before = world.log(session_id)
    assert await run(async_client, session_id, weather) == []
    assert world.log(session_id) == before


async def test_a_call_of_somebody_else_is_left_to_them(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(calls(ROME, ("clock", {"zone": "UTC"})), text("done"))
    session_id = world.session(tools=declared(weather, clock))
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    seen: dict[str, list[Any]] = {"weather": [], "clock": []}

    async def serve(name: str, tool: Any) -> None:
        seen[name] = await run(async_client, session_id, tool)

    async with anyio.create_task_group() as group:
        group.start_soon(serve, "weather", weather)
        group.start_soon(serve, "clock", clock)
    for name, done in seen.items():
        assert {(one.name, one.posted) for one in done if one.posted} == {(name, True)}
    log = story(world.log(session_id))
    assert log.count("user.custom_tool_result") == 2
    assert log[-1] == "session.status_idle(end_turn)"


async def test_confirmations_are_left_to_the_user(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    # The server runs `bash`; a runner that also sees the call holds it until the verdict.
    world.model.script(calls(("bash", {"command": "ls"}), ROME), text("done"))
    session_id = world.session(tools=[ASKING_TOOLSET, *declared(weather)])
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    done: list[Any] = []
    with anyio.fail_after(2 * BOUND):
        runner = async_client.beta.sessions.events.tool_runner(
            session_id, tools=[weather], max_idle=0.3
        )
        async for call in runner:
            done.append(call)
            if call.name == "weather":
                (bash,) = [
                    one["id"] for one in world.log(session_id) if one["type"] == "agent.tool_use"
                ]
                await async_client.beta.sessions.events.send(
                    session_id, events=[confirm(bash, "deny")]
                )
    assert [(one.name, one.posted, one.confirmation) for one in done] == [
        ("weather", True, None),
        ("bash", False, "deny"),
    ]
    log = story(world.log(session_id))
    assert log[-1] == "session.status_idle(end_turn)"
    assert log.count("agent.tool_result(error)") == 1


async def test_the_end_of_a_session_ends_the_runner(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(text("hello"))
    session_id = world.session(tools=declared(weather))
    await async_client.beta.sessions.events.send(session_id, events=[message("hi")])
    async with anyio.create_task_group() as group:
        done: list[Any] = []

        async def serve() -> None:
            done.append(await run(async_client, session_id, weather, max_idle=60))

        group.start_soon(serve)
        with anyio.fail_after(BOUND):
            while world.status(session_id) != "idle":
                await anyio.sleep(0.01)
            while not any("/stream" in one.path for one in world.recorder.exchanges):
                await anyio.sleep(0.01)
        await async_client.beta.sessions.archive(session_id)
    assert done == [[]]


async def test_the_runner_survives_the_death_of_the_server(mortal: World) -> None:
    @beta_async_tool
    async def deadly(city: str) -> str:
        """Says how the weather is, and kills the server meanwhile.

        Args:
            city: Where.
        """
        mortal.restart()
        return f"sunny in {city}"

    mortal.model.script(calls(("deadly", {"city": "Rome"})), text("done"))
    session_id = mortal.session(tools=declared(deadly))
    async with mortal.async_client(max_retries=2) as client:
        await client.beta.sessions.events.send(session_id, events=[message("hi")])
        done = await run(client, session_id, deadly, max_idle=0.5)
    assert [(one.name, one.posted) for one in done] == [("deadly", True)]
    assert story(mortal.log(session_id)) == [
        *started("hi"),
        *asked("agent.custom_tool_use(deadly)"),
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.message(done)"),
        *rested(),
    ]
