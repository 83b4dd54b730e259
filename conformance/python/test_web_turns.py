"""Tools of the web in the course of a turn: confirmations, interrupts, crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from origin import Request, Response
from support import (
    INTERRUPT,
    RUNNING,
    asked,
    call_ids,
    calls,
    confirm,
    message,
    rested,
    started,
    text,
    turn,
    wire,
)
from told import Told
from world import World, wait_until
from web_origins import ENGINE, SITE, Surfer, Web, page, shared_web, toolset, web

URL = f"https://{SITE}/slow"
ASKING = toolset(permission_policy={"type": "always_ask"})


@pytest.fixture(scope="module")
def new_world(shared_web: Web) -> Callable[..., World]:
    """Servers of this module search, too."""
    search = f'[web.search]\nbackend = "searxng"\nbase_url = "https://{ENGINE}"\n'
    return lambda: World(shared_web.config(more=search))


@pytest.mark.parametrize("result", ["allow", "deny"])
def test_a_confirmation(
    world: World, client: anthropic.Anthropic, web: Web, result: str
) -> None:
    world.model.script(calls(("web_fetch", {"url": URL})), text("done"))
    told = Told(world, client, tools=[ASKING])
    told.send(f"read {URL}")
    told.until_idle("requires_action")
    (call,) = told.calls()
    assert web.asked() == []
    why = {"deny_message": "not that one"} if result == "deny" else {}
    told.send(confirm(call, result, **why))
    told.until_idle("end_turn")
    told.tells(
        *started(f"read {URL}"),
        *asked("agent.tool_use(web_fetch,ask)"),
        *rested("requires_action"),
        f"user.tool_confirmation({result})",
        *RUNNING,
        f"agent.tool_result({'ok' if result == 'allow' else 'error'})",
        *asked("agent.message(done)"),
        *rested(),
    )
    assert web.asked() == ([f"{SITE}/slow"] if result == "allow" else [])
    (shown,) = [wire(one) for one in told.events if one.type == "agent.tool_result"]
    assert ("not that one" in str(shown["content"])) is (result == "deny")


def test_a_confirmed_address_is_still_checked(world: World, web: Web) -> None:
    """Who confirms a call does not show its address."""
    surfer = Surfer(world, tools=[ASKING])
    world.model.append(calls(("web_fetch", {"url": URL})))
    waiting = turn(surfer.client, surfer.session, "go")
    world.model.append(text("done"))
    events = turn(surfer.client, surfer.session, confirm(call_ids(waiting)[0]))
    (told,) = [wire(one) for one in events if one.type == "agent.tool_result"]
    assert "url_not_in_prior_context" in str(told["content"]) and web.asked() == []


def slow(web: Web) -> str:
    """A page that waits for the gate."""

    def answer(_request: Request) -> Response:
        web.sites.wait()
        return page("<p>late")

    return web.put("/slow", answer)


def test_an_interrupt(world: World, client: anthropic.Anthropic, web: Web) -> None:
    slow(web)
    world.model.script(calls(("web_fetch", {"url": URL}), ("web_fetch", {"url": URL})))
    told = Told(world, client, tools=[toolset()])
    told.send(f"read {URL}")
    wait_until(lambda: len(web.asked()) == 2, "two requests for the page")
    told.send(INTERRUPT)
    told.until_idle("end_turn")
    results = [wire(one) for one in told.events if one.type == "agent.tool_result"]
    assert [one["is_error"] for one in results] == [True, True]
    world.model.append(text("fine"))
    told.send("never mind")
    told.until_idle("end_turn")
    # Nobody waits any more for what was not wanted.
    web.sites.gate.set()
    assert len(web.asked()) == 2


def test_a_crash(mortal: World, web: Web) -> None:
    """A page that was under way is read again: it does nothing that would be done twice."""
    slow(web)
    web.searching.finds({"results": [{"url": "https://a.example/", "title": "A"}]})
    mortal.model.script(
        calls(("web_fetch", {"url": URL}), ("web_search", {"query": "mail"})), text("done")
    )
    client = mortal.client()
    session = mortal.session(tools=[toolset()])
    client.beta.sessions.events.send(session, events=[message(f"read {URL}")])
    wait_until(lambda: web.asked() and web.engine.requests, "both were asked")
    mortal.kill()
    web.sites.gate.set()
    mortal.start()
    wait_until(lambda: mortal.status(session) == "idle", "idle")
    log = mortal.log(session)
    results = [one for one in log if one["type"] == "agent.tool_result"]
    assert [one["is_error"] for one in results] == [False, False]
    kinds = [block["type"] for one in results for block in one["content"]]
    assert kinds == ["document", "search_result"]
    assert web.asked() == [f"{SITE}/slow"] * 2
    # The search's own result may have been there in time, or not.
    usage = wire(mortal.client().beta.sessions.retrieve(session))["usage"]
    assert usage["server_tool_use"]["web_search_requests"] == 1


def test_a_page_still_shows_its_links_after_a_restart(mortal: World, web: Web) -> None:
    web.put("/first", page("<a href=/second>second</a>"))
    surfer = Surfer(mortal)
    (first,) = surfer.fetch(f"https://{SITE}/first")
    assert not first.is_error
    mortal.restart()
    surfer.client = mortal.client()
    second, other = surfer.fetch(f"https://{SITE}/second", f"https://{SITE}/third", shown="go on")
    assert not second.is_error and other.code == "url_not_in_prior_context"


@pytest.mark.anyio
async def test_asynchronously(
    world: World, async_client: anthropic.AsyncAnthropic, web: Web
) -> None:
    world.model.script(calls(("web_fetch", {"url": f"https://{SITE}/x"})), text("done"))
    session = world.session(tools=[toolset()])
    events = async_client.beta.sessions.events
    async with await events.stream(session) as stream:
        await events.send(session, events=[message(f"https://{SITE}/x")])
        async for event in stream:
            if event.type == "agent.tool_result":
                (block,) = event.content or []
                assert block.type == "document" and block.source.type == "text"
                assert block.source.data.endswith("You are at /x.") and block.title == SITE
            if event.type == "session.status_idle":
                break
