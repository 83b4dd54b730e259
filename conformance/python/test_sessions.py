"""Sessions: made in all forms, read, changed, listed, archived, deleted; their primary thread."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from support import (
    INTERRUPT,
    RUNNING,
    TERMINATED,
    TOOLSET,
    WEATHER,
    asked,
    call_ids,
    calls,
    is_idle,
    message,
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
from world import MODEL, World

NO_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": None,
    "active_seconds": 0.0,
    "list_cost": {"amount": "0", "currency": "USD"},
    "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
}


def test_a_bare_session_is_shown_in_full(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(
        name="a", model=MODEL, system="s", tools=[TOOLSET, WEATHER], metadata={"not": "copied"}
    )
    session = client.beta.sessions.create(agent=agent.id, environment_id=world.environment())
    copied = wire(agent)
    for name in ("metadata", "created_at", "updated_at", "archived_at"):
        del copied[name]
    shown = wire(session)
    duration = shown["stats"].pop("duration_seconds")
    assert 0 <= duration < 10
    for name in ("id", "created_at", "updated_at"):
        del shown[name]
    assert shown == {
        "type": "session",
        "agent": copied,
        "environment_id": world.environment(),
        "status": "idle",
        "title": None,
        "metadata": {},
        "resources": [],
        "vault_ids": [],
        "budget": None,
        "usage": NO_USAGE,
        "stats": {"active_seconds": 0.0},
        "outcome_evaluations": [],
        "deployment_id": None,
        "archived_at": None,
    }
    read = wire(client.beta.sessions.retrieve(session.id))
    read["stats"] = wire(session)["stats"]
    assert read == wire(session)
    assert world.log(session.id) == []


def test_an_agent_can_be_named_in_three_ways(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="one", model=MODEL)
    client.beta.agents.update(agent.id, name="two")
    environment_id = world.environment()

    def name_of(reference: Any) -> tuple[str, int]:
        made = client.beta.sessions.create(agent=reference, environment_id=environment_id)
        return made.agent.name, made.agent.version

    assert name_of(agent.id) == ("two", 2)
    assert name_of({"type": "agent", "id": agent.id}) == ("two", 2)
    assert name_of({"type": "agent", "id": agent.id, "version": 1}) == ("one", 1)
    assert name_of({"type": "agent_with_overrides", "id": agent.id}) == ("two", 2)
    assert name_of({"type": "agent_with_overrides", "id": agent.id, "version": 1}) == ("one", 1)


def test_overrides(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(
        name="base", model={"id": MODEL, "effort": "low"}, system="s", tools=[WEATHER]
    )
    environment_id = world.environment()

    def overridden(**fields: Any) -> dict[str, Any]:
        reference: Any = {"type": "agent_with_overrides", "id": agent.id, **fields}
        made = client.beta.sessions.create(agent=reference, environment_id=environment_id)
        return wire(made.agent)

    base = overridden()
    assert overridden(system=None) == {**base, "system": None}
    assert overridden(system="t") == {**base, "system": "t"}
    assert overridden(tools=None) == {**base, "tools": []}
    assert overridden(tools=[]) == {**base, "tools": []}
    assert overridden(mcp_servers=None, skills=[]) == base
    high = {**base["model"], "effort": {"type": "high"}}
    assert overridden(model=MODEL) == {**base, "model": high}
    assert overridden(model={"id": MODEL, "effort": "max"}) == {
        **base,
        "model": {**high, "effort": {"type": "max"}},
    }
    with pytest.raises(anthropic.BadRequestError) as caught:
        overridden(model=None)
    assert caught.value.error_code == "agent_model_required"
    for fields in (
        {"mcp_servers": [{"type": "url", "name": "a", "url": "https://a.example"}]},
        {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]},
        {"name": "another"},
    ):
        with pytest.raises(anthropic.BadRequestError, match=next(iter(fields))):
            overridden(**fields)
    assert client.beta.agents.retrieve(agent.id) == agent


def test_overrides_reach_the_model(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    agent = client.beta.agents.create(name="base", model=MODEL, system="base", tools=[WEATHER])
    reference: Any = {
        "type": "agent_with_overrides",
        "id": agent.id,
        "model": {"id": "claude-sonnet-5", "effort": "low"},
        "system": "You are overridden.",
        "tools": None,
    }
    session = client.beta.sessions.create(agent=reference, environment_id=world.environment())
    turn(client, session.id, "hi")
    (request,) = world.model.requests()
    assert request["model"] == "claude-sonnet-5"
    assert "You are overridden." in str(request["system"]) and "base" not in str(request["system"])
    assert not request.get("tools")
    assert request["output_config"]["effort"] == "low"


def test_initial_events_start_the_session(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("both heard"))
    session = client.beta.sessions.create(
        agent=world.agent(),
        environment_id=world.environment(),
        initial_events=[message("one"), message("two")],
        title="t",
        metadata={"k": "v"},
    )
    assert (session.status, session.title, session.metadata) == ("running", "t", {"k": "v"})
    with client.beta.sessions.events.stream(session.id) as stream:
        seen = until_idle(stream)
    wanted = [*started("one", "two"), *asked("agent.message(both heard)"), *rested()]
    assert story(seen) == wanted
    assert story(world.log(session.id)) == wanted


def test_no_initial_events_are_none(world: World, client: anthropic.Anthropic) -> None:
    session = client.beta.sessions.create(
        agent=world.agent(), environment_id=world.environment(), initial_events=[]
    )
    assert session.status == "idle"
    assert world.log(session.id) == []


@pytest.mark.parametrize(
    ("events", "path"),
    [
        ([message("ok"), {"type": "user.message", "content": []}], "initial_events[1].content"),
        ([{"type": "user.interrupt"}], "initial_events[0]"),
        (
            [{"type": "system.message", "content": [{"type": "text", "text": "x"}]}],
            "initial_events[0]",
        ),
        (
            [
                {
                    "type": "user.define_outcome",
                    "description": "d",
                    "rubric": {"type": "text", "content": "r"},
                }
            ],
            "initial_events[0]",
        ),
        ([message("x")] * 51, "initial_events"),
    ],
)
def test_initial_events_are_taken_whole_or_not_at_all(
    world: World, client: anthropic.Anthropic, events: list[Any], path: str
) -> None:
    agent = world.agent()
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(
            agent=agent,
            environment_id=world.environment(),
            initial_events=events,
        )
    assert path in str(caught.value.api_message)
    assert list(client.beta.sessions.list(agent_id=agent)) == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"vault_ids": ["zzz"]}, "vault_ids[0]"),
        ({"resources": [{"type": "github_repository", "url": "https://x/y"}]}, "resources"),
        (
            {"budget": {"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}}},
            "budget",
        ),
        ({"title": "x" * 501}, "title"),
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    world: World, client: anthropic.Anthropic, fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(
            agent=world.agent(),
            environment_id=world.environment(),
            **fields,
        )
    assert path in str(caught.value.api_message)


def test_unknown_references_are_named(world: World, client: anthropic.Anthropic) -> None:
    agent, environment_id = world.agent(), world.environment()
    tail = "0123456789abcdefABCDEF01"
    with pytest.raises(anthropic.NotFoundError, match=f"agent_{tail}"):
        client.beta.sessions.create(agent=f"agent_{tail}", environment_id=environment_id)
    with pytest.raises(anthropic.NotFoundError, match=f"env_{tail}"):
        client.beta.sessions.create(agent=agent, environment_id=f"env_{tail}")
    with pytest.raises(anthropic.NotFoundError, match="agent.version: 999 not found"):
        client.beta.sessions.create(
            agent={"type": "agent", "id": agent, "version": 999}, environment_id=environment_id
        )


def test_the_agent_of_a_session_is_a_snapshot(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="before", model=MODEL)
    session = client.beta.sessions.create(agent=agent.id, environment_id=world.environment())
    client.beta.agents.update(agent.id, name="after")
    client.beta.agents.archive(agent.id)
    assert client.beta.sessions.retrieve(session.id).agent == session.agent
    world.model.script(text("still here"))
    assert story(turn(client, session.id, "hi"))[-1] == "session.status_idle(end_turn)"


def test_updates_leave_events_of_what_has_changed(
    world: World, client: anthropic.Anthropic
) -> None:
    session = client.beta.sessions.create(
        agent=world.agent(), environment_id=world.environment(), metadata={"a": "1", "b": "2"}
    )
    with client.beta.sessions.events.stream(session.id) as stream:
        updated = client.beta.sessions.update(session.id, title="t")
        assert updated.title == "t" and updated.updated_at > session.updated_at
        client.beta.sessions.update(session.id, metadata={"a": None, "c": "3"})
        client.beta.sessions.update(session.id, title=None)
        client.beta.sessions.update(session.id, agent={"tools": [WEATHER]})
        client.beta.sessions.update(session.id, title="t", metadata={"c": "4"}, agent={"tools": []})
        # Nothing changes, so nothing is said.
        client.beta.sessions.update(session.id, title="t", metadata={"c": "4", "z": None})
        client.beta.sessions.update(session.id)
        client.beta.sessions.update(session.id, title="last")
        seen = take_until(stream, lambda event: event.title == "last")
    after = client.beta.sessions.retrieve(session.id)
    assert (after.title, after.metadata, after.agent.tools) == ("last", {"b": "2", "c": "4"}, [])
    shown = [wire(event) for event in seen]
    for event in shown:
        for name in ("id", "type", "processed_at"):
            del event[name]
    with_tools = {**wire(session.agent), "tools": [WEATHER]}
    assert shown == [
        {"title": "t"},
        {"metadata": {"b": "2", "c": "3"}},
        {"title": None},
        {"agent": with_tools},
        {"agent": {**with_tools, "tools": []}, "title": "t", "metadata": {"b": "2", "c": "4"}},
        {"title": "last"},
    ]
    assert story(world.log(session.id)) == ["session.updated"] * 6


@pytest.mark.parametrize(
    "fields",
    [
        {"vault_ids": ["vlt_0123456789abcdefABCDEF01"]},
        {"budget": {"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}}},
        {"agent": {"system": "new"}},
        {"agent": {"model": MODEL}},
        {"title": "x" * 501},
    ],
)
def test_updates_that_can_not_be_honoured_are_refused(
    world: World, client: anthropic.Anthropic, fields: dict[str, Any]
) -> None:
    session_id = world.session()
    before = client.beta.sessions.retrieve(session_id).updated_at
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.update(session_id, **fields)
    assert client.beta.sessions.retrieve(session_id).updated_at == before


def test_a_running_session_keeps_its_agent_and_can_not_be_put_away(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(stalled())
    session_id = world.session()
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("go")])
        take_until(stream, lambda event: event.type == "span.model_request_start")
        assert client.beta.sessions.retrieve(session_id).status == "running"
        with pytest.raises(anthropic.BadRequestError):
            client.beta.sessions.update(session_id, agent={"tools": []})
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.archive(session_id)
        assert str(caught.value.api_message).startswith(
            f'Session {session_id} cannot be archived while its status is "running".'
        )
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.delete(session_id)
        assert caught.value.api_message == (
            "Cannot delete session while it is running. "
            "Send an interrupt event or wait for the session to complete."
        )
        # A title is no part of the agent.
        assert client.beta.sessions.update(session_id, title="busy").title == "busy"
        client.beta.sessions.events.send(session_id, events=[INTERRUPT])
        until_idle(stream)
    # The status has flipped with the idle event: a delete is taken at once.
    assert client.beta.sessions.delete(session_id).type == "session_deleted"


def test_archive(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("done"))
    session_id = world.session()
    turn(client, session_id, "hi")
    with client.beta.sessions.events.stream(session_id) as stream:
        archived = client.beta.sessions.archive(session_id)
        # The stream ends by itself.
        assert story(stream) == TERMINATED
    assert archived.status == "terminated" and archived.archived_at is not None
    again = client.beta.sessions.archive(session_id)
    assert again == archived
    assert client.beta.sessions.retrieve(session_id) == archived
    wanted = [*started("hi"), *asked("agent.message(done)"), *rested(), *TERMINATED]
    assert story(world.log(session_id)) == wanted
    for change in (
        lambda: client.beta.sessions.events.send(session_id, events=[message("more")]),
        lambda: client.beta.sessions.events.send(session_id, events=[INTERRUPT]),
        lambda: client.beta.sessions.update(session_id, title="t"),
    ):
        with pytest.raises(anthropic.BadRequestError):
            change()
    assert story(world.log(session_id)) == wanted
    (thread,) = client.beta.sessions.threads.list(session_id)
    assert thread.status == "terminated"


def test_a_session_that_waits_for_answers_can_be_archived(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(calls(("weather", {"city": "Rome"})))
    session_id = world.session(tools=[WEATHER])
    turn(client, session_id, "hi")
    assert client.beta.sessions.archive(session_id).status == "terminated"


def test_delete(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("done"))
    session_id = world.session()
    turn(client, session_id, "hi")
    with client.beta.sessions.events.stream(session_id) as stream:
        deleted = client.beta.sessions.delete(session_id)
        assert (deleted.id, deleted.type) == (session_id, "session_deleted")
        # The stream ends by itself.
        assert story(stream) == ["session.deleted"]
    for read in (
        lambda: client.beta.sessions.retrieve(session_id),
        lambda: client.beta.sessions.events.list(session_id),
        lambda: client.beta.sessions.events.stream(session_id),
        lambda: client.beta.sessions.threads.list(session_id),
        lambda: client.beta.sessions.events.send(session_id, events=[message("x")]),
        lambda: client.beta.sessions.archive(session_id),
        lambda: client.beta.sessions.delete(session_id),
    ):
        with pytest.raises(anthropic.NotFoundError):
            read()


def test_list_filters(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="listed", model=MODEL)
    other = world.session()
    environment_id = world.environment()
    made = [
        client.beta.sessions.create(agent=agent.id, environment_id=environment_id) for _ in range(2)
    ]
    client.beta.agents.update(agent.id, name="second version")
    made.append(client.beta.sessions.create(agent=agent.id, environment_id=environment_id))
    ids = [one.id for one in made]
    client.beta.sessions.archive(ids[1])

    def listed(**query: Any) -> list[str]:
        found = client.beta.sessions.list(agent_id=agent.id, **query)
        return [one.id for one in found]

    assert listed() == [ids[2], ids[0]]
    assert listed(order="asc") == [ids[0], ids[2]]
    assert listed(include_archived=True) == ids[::-1]
    assert listed(agent_version=1) == [ids[0]]
    assert listed(agent_version=2) == [ids[2]]
    assert listed(statuses=["idle"]) == [ids[2], ids[0]]
    assert listed(statuses=["running", "rescheduling"]) == []
    assert listed(statuses=["terminated"], include_archived=True) == [ids[1]]
    assert listed(statuses=["idle", "terminated"], include_archived=True) == ids[::-1]
    assert listed(created_at_gt=made[0].created_at) == [ids[2]]
    assert listed(created_at_gte=made[0].created_at) == [ids[2], ids[0]]
    assert listed(created_at_lt=made[2].created_at) == [ids[0]]
    assert listed(created_at_lte=made[2].created_at) == [ids[2], ids[0]]
    assert listed(deployment_id="depl_0123456789abcdefABCDEF01") == []
    assert listed(memory_store_id="memstore_0123456789abcdefABCDEF01") == []
    assert other not in listed(include_archived=True)
    # Old clients repeat the bare name.
    http = world.raw()
    query = {"agent_id": agent.id, "statuses": ["idle", "running"], "beta": "true"}
    page = http.get("/v1/sessions", params=query).json()
    assert [one["id"] for one in page["data"]] == [ids[2], ids[0]]


def test_usage_is_the_sum_of_the_requests(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        calls(("bash", {"command": "ls"}), usage={"input_tokens": 100, "output_tokens": 10}),
        text("done", usage={"input_tokens": 200, "output_tokens": 20}),
        text("again", usage={"input_tokens": 300, "output_tokens": 30}),
    )
    session_id = world.session(tools=[TOOLSET])
    first = turn(client, session_id, "one")
    second = turn(client, session_id, "two")
    spans = [
        event.model_usage for event in [*first, *second] if event.type == "span.model_request_end"
    ]
    assert [(one.input_tokens, one.output_tokens) for one in spans] == [
        (100, 10),
        (200, 20),
        (300, 30),
    ]
    reported = [event for event in second if event.type == "session.usage"]
    session = client.beta.sessions.retrieve(session_id)
    for usage in (reported[0].usage, session.usage):
        assert (usage.input_tokens, usage.output_tokens) == (600, 60)
        assert usage.cache_read_input_tokens == sum(one.cache_read_input_tokens for one in spans)
        written = usage.cache_creation
        assert written is not None
        assert (written.ephemeral_5m_input_tokens or 0) + (
            written.ephemeral_1h_input_tokens or 0
        ) == sum(one.cache_creation_input_tokens for one in spans)
    assert session.stats.active_seconds and session.stats.duration_seconds
    assert session.stats.active_seconds <= session.stats.duration_seconds


def test_costs_are_counted_by_the_price_list(world: World, client: anthropic.Anthropic) -> None:
    # 5 and 25 dollars a million: 2 dollars, and 1 dollar.
    tokens = {
        "input_tokens": 400_000,
        "output_tokens": 40_000,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    }
    world.model.script(text("dear", usage=tokens))
    session_id = world.session()
    events = turn(client, session_id, "hi")
    (reported,) = [event.usage for event in events if event.type == "session.usage"]
    cost = client.beta.sessions.retrieve(session_id).usage.list_cost
    assert cost is not None and cost == reported.list_cost
    assert (cost.amount, cost.currency) == ("300", "USD")


def test_the_primary_thread(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(text("hello"))
    session_id = world.session(tools=[WEATHER])
    session = client.beta.sessions.retrieve(session_id)
    (thread,) = client.beta.sessions.threads.list(session_id)
    shown = wire(thread)
    agent = wire(session.agent)
    del agent["multiagent"]
    for name in ("id", "created_at", "updated_at"):
        del shown[name]
    assert shown == {
        "type": "session_thread",
        "session_id": session_id,
        "parent_thread_id": None,
        "workflow_run_id": None,
        "agent": agent,
        "status": "idle",
        "stats": None,
        "usage": None,
        "archived_at": None,
    }
    with client.beta.sessions.threads.events.stream(thread.id, session_id=session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("hi")])
        seen = take_until(stream, lambda event: event.type == "session.thread_status_idle")
    running = [event for event in seen if event.type == "session.thread_status_running"]
    assert [event.session_thread_id for event in running] == [thread.id]
    assert running[0].agent_name == session.agent.name
    listed = list(client.beta.sessions.threads.events.list(thread.id, session_id=session_id))
    assert story(listed) == story(world.log(session_id))
    after = client.beta.sessions.threads.retrieve(thread.id, session_id=session_id)
    assert after.status == "idle" and after.usage is not None and after.stats is not None
    assert isinstance(after.usage.input_tokens, int) and after.stats.startup_seconds is not None
    assert [one.id for one in client.beta.sessions.threads.list(session_id, statuses=["idle"])] == [
        thread.id
    ]
    assert list(client.beta.sessions.threads.list(session_id, statuses=["running"])) == []
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.threads.archive(thread.id, session_id=session_id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.threads.retrieve(
            "sthr_0123456789abcdefABCDEF01", session_id=session_id
        )
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.threads.retrieve(thread.id, session_id=world.session())


def test_a_new_set_of_tools_counts_from_the_next_turn(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(
        text("no tools"),
        calls(("weather", {"city": "Rome"})),
    )
    session_id = world.session()
    turn(client, session_id, "one")
    client.beta.sessions.update(session_id, agent={"tools": [WEATHER]})
    seen = turn(client, session_id, "two")
    assert len(call_ids(seen)) == 1
    first, second = world.model.requests()
    assert not first.get("tools")
    assert [tool["name"] for tool in second["tools"]] == ["weather"]


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    world.model.script(text("hello"))
    session = await async_client.beta.sessions.create(
        agent=world.agent(), environment_id=world.environment()
    )
    seen = []
    async with await async_client.beta.sessions.events.stream(session.id) as stream:
        await async_client.beta.sessions.events.send(session.id, events=[message("hi")])
        async for event in stream:
            seen.append(event)
            if is_idle(event):
                break
    wanted = [*RUNNING, "user.message(hi)", *asked("agent.message(hello)"), *rested()]
    assert story(seen) == wanted
    assert (
        story([one async for one in async_client.beta.sessions.events.list(session.id)]) == wanted
    )
    await async_client.beta.sessions.update(session.id, title="t")
    await async_client.beta.sessions.archive(session.id)
    assert (await async_client.beta.sessions.delete(session.id)).type == "session_deleted"
