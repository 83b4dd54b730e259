"""Agents as tools: called by the official Python SDK's client in both of its ways, and by a session of another
posthouse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client

from mcp_agents import PATH, UNSEEN, asks_first, chatters, expose, fails
from support import WEATHER, calls, message, stalled, text, turn, wire
from world import API_KEY, BOUND, MODEL, World

pytestmark = pytest.mark.anyio

# How the client shakes hands: by the older way, and by that of 2026-07-28.
BOTH = pytest.mark.parametrize("mode", ("legacy", "auto"))
GENERAL = ["session_follow", "session_answer", "session_result", "session_stop"]


class Asked:
    """Somebody who is asked, and answers each time the same."""

    def __init__(self, action: Any = "cancel", **form: Any) -> None:
        self.questions: list[Any] = []
        self._answer = types.ElicitResult(action=action, content=form or None)

    async def __call__(self, _context: Any, params: Any) -> types.ElicitResult:
        self.questions.append(params)
        return self._answer


@asynccontextmanager
async def connected(
    world: World, mode: str, asked: Asked | None = None, *, key: str = API_KEY
) -> AsyncIterator[Client]:
    """A client of the server."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=BOUND) as http:
        transport = streamable_http_client(world.url + PATH, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=asked) as client:
            yield client


def said(result: types.CallToolResult) -> str:
    """The text of an answer, which is one block."""
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


def found(result: types.CallToolResult) -> dict[str, Any]:
    """The structured content of an answer."""
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def named(what: str, mode: str) -> str:
    """The name of an agent's tool; each is one agent's alone."""
    return f"{what}_{mode}"


@BOTH
async def test_an_agent_is_started_and_tells_how_it_is_going(world: World, mode: str) -> None:
    name = named("research", mode)
    agent = chatters(world, name)
    told: list[str | None] = []

    async def hear(_progress: float, _total: float | None, words: str | None) -> None:
        told.append(words)

    async with connected(world, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert [*tools][-4:] == GENERAL
        assert tools[name].input_schema["required"] == ["message"]
        done = await client.call_tool(name, {"message": "Look."}, progress_callback=hear)
        assert not done.is_error
        assert said(done) == "And now I am done."
        state = found(done)
        assert (state["status"], state["stop_reason"]["type"]) == ("idle", "end_turn")
        assert (state["open_calls"], state["errors"]) == ([], [])
        assert told == ["First I look.", "Calls web_fetch.", "And now I am done."]
        # All that was said, and the last of it with the files.
        session = {"session_id": state["session_id"]}
        followed = await client.call_tool("session_follow", session)
        assert said(followed) == "First I look.\n\nAnd now I am done."
        result = await client.call_tool("session_result", session)
        assert said(result) == "And now I am done."
        assert found(result)["files"] == []
        # It is a session like any other, and goes on with the next message.
        shown = wire(world.client().beta.sessions.retrieve(state["session_id"]))
        assert shown["agent"]["id"] == agent
        again = await client.call_tool(name, {"message": "Once more.", **session})
        assert found(again)["session_id"] == state["session_id"]
        asked = [one for one in world.log(state["session_id"]) if one["type"] == "user.message"]
        assert [one["content"][0]["text"] for one in asked] == ["Look.", "Once more."]


@BOTH
@pytest.mark.parametrize("allow", (True, False))
async def test_somebody_is_asked_for_leave(world: World, mode: str, allow: bool) -> None:
    name = named(f"careful_{allow}".lower(), mode)
    asks_first(world, name)
    asked = Asked("accept", allow=allow, note="Not there.")
    async with connected(world, mode, asked) as client:
        done = await client.call_tool(name, {"message": "Do it."})
        assert said(done) == "I have my answer."
    (question,) = asked.questions
    assert UNSEEN["url"] in question.message
    log = world.log(found(done)["session_id"])
    (confirmation,) = (one for one in log if one["type"] == "user.tool_confirmation")
    assert confirmation["result"] == ("allow" if allow else "deny")
    assert confirmation["deny_message"] == (None if allow else "Not there.")


@BOTH
async def test_who_can_t_be_asked_answers_by_a_tool(world: World, mode: str) -> None:
    name, other = named("alone", mode), named("weatherman", mode)
    asks_first(world, name)
    expose(
        world,
        other,
        text("It is sunny.", when={"has_tool_result_for": "weather"}),
        calls(("weather", {"city": "Rome"})),
        tools=[WEATHER],
    )
    async with connected(world, mode) as client:
        waits = await client.call_tool(name, {"message": "Do it."})
        (call,) = found(waits)["open_calls"]
        assert (call["name"], call["awaits"]) == ("web_fetch", "confirmation")
        assert call["input"] == UNSEEN
        answer = {"session_id": found(waits)["session_id"], "tool_use_id": call["id"]}
        done = await client.call_tool("session_answer", {**answer, "allow": True})
        assert said(done) == "I have my answer."

        waits = await client.call_tool(other, {"message": "How is the weather?"})
        (call,) = found(waits)["open_calls"]
        assert (call["name"], call["awaits"]) == ("weather", "result")
        answer = {"session_id": found(waits)["session_id"], "tool_use_id": call["id"]}
        wrong = await client.call_tool("session_answer", {**answer, "allow": True})
        assert wrong.is_error and "result: is missing" in said(wrong)
        done = await client.call_tool("session_answer", {**answer, "result": "Sun."})
        assert said(done) == "It is sunny."


@BOTH
async def test_an_agent_that_works_is_stopped_and_one_that_fails_says_so(
    world: World, mode: str
) -> None:
    name, other = named("slow", mode), named("broken", mode)
    expose(world, name, stalled())
    fails(world, other)
    async with connected(world, mode) as client:
        begun = await client.call_tool(name, {"message": "Go.", "wait_seconds": 0})
        assert found(begun)["status"] == "running"
        session = {"session_id": found(begun)["session_id"]}
        stopped = await client.call_tool("session_stop", session)
        assert found(stopped)["status"] == "idle"
        failed = await client.call_tool(other, {"message": "Go."})
        assert failed.is_error and "nothing doing" in said(failed)


async def test_a_stranger_is_not_let_in(world: World) -> None:
    response = httpx2.post(world.url + PATH, json={}, headers={"authorization": "Bearer x"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_session_calls_an_agent_of_another_posthouse(
    world: World, make_world: Callable[[str], World]
) -> None:
    chatters(world, "colleague")
    asks_first(world, "careful_colleague")
    outer = make_world('[egress]\nallow_private = ["127.0.0.0/8"]\n')
    client = outer.client(timeout=3 * BOUND).beta
    vault = client.vaults.create(display_name="colleagues").id
    url = world.url + PATH
    client.vaults.credentials.create(
        vault, auth={"type": "static_bearer", "mcp_server_url": url, "token": API_KEY}
    )
    agent = client.agents.create(
        name="caller",
        model=MODEL,
        mcp_servers=[{"type": "url", "name": "other", "url": url}],
        tools=[
            {
                "type": "mcp_toolset",
                "mcp_server_name": "other",
                "default_config": {"permission_policy": {"type": "always_allow"}},
            }
        ],
    )
    session = client.sessions.create(
        agent=agent.id, environment_id=outer.environment(), vault_ids=[vault]
    ).id
    outer.model.script(
        calls(
            ("mcp__other__colleague", {"message": "Look for me."}),
            ("mcp__other__careful_colleague", {"message": "Do it for me."}),
        ),
        text("They have looked."),
    )
    events = [wire(one) for one in turn(outer.client(), session, message("Ask the others."))]
    results = {
        one["mcp_tool_use_id"]: one for one in events if one["type"] == "agent.mcp_tool_result"
    }
    answers = {
        one["name"]: results[one["id"]] for one in events if one["type"] == "agent.mcp_tool_use"
    }
    assert answers["colleague"]["content"][0]["text"] == "And now I am done."
    assert not answers["colleague"]["is_error"]
    # Nobody sits in front of a session: it declines, and the other agent is told.
    assert answers["careful_colleague"]["content"][0]["text"] == "I have my answer."
    told = [body for body in world.model.requests() if "You play careful_colleague." in str(body)]
    (denied,) = told[-1]["messages"][-1]["content"]
    assert denied["is_error"], denied
    assert API_KEY not in str(outer.log(session))
