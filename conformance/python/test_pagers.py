"""Lists of more than one page, read by the SDK's own pagers, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from support import message, text, turn
from world import MODEL, World, wait_until

COUNT = 7


@pytest.fixture(scope="module")
def agent_id(shared_world: World) -> str:
    """An agent with several versions."""
    client = shared_world.client()
    agent = client.beta.agents.create(name="paged", model=MODEL)
    for number in range(2, COUNT + 1):
        client.beta.agents.update(agent.id, name=f"version {number}")
    return agent.id


@pytest.fixture(scope="module")
def vault_id(shared_world: World) -> str:
    """A vault."""
    return shared_world.client().beta.vaults.create(display_name="paged").id


@pytest.fixture(scope="module")
def session_ids(shared_world: World, agent_id: str) -> list[str]:
    """Several sessions of that agent, the oldest first."""
    client = shared_world.client()
    environment_id = shared_world.environment()
    made = [
        client.beta.sessions.create(agent=agent_id, environment_id=environment_id)
        for _ in range(COUNT)
    ]
    return [one.id for one in made]


@pytest.fixture(scope="module")
def talk(shared_world: World, agent_id: str) -> str:
    """A session with a log of several turns."""
    shared_world.model.script(*(text(f"answer {i}") for i in range(4)))
    session_id = shared_world.session()
    for i in range(4):
        turn(shared_world.client(), session_id, f"question {i}")
    return session_id


def check_pager(world: World, pager: Callable[..., Any], limits: tuple[int, ...]) -> list[Any]:
    """Reads a list in pages of different sizes: always the same entries. Returns them."""
    whole = list(pager())
    assert len(whole) >= COUNT
    for limit in limits:
        world.recorder.exchanges.clear()
        paged = list(pager(limit=limit))
        assert [one.id for one in paged] == [one.id for one in whole]
        assert paged == whole
        # As many requests as there are pages, and no empty one at the end.
        assert len(world.recorder.exchanges) == -(-len(whole) // limit)
    return whole


def test_agents(world: World, client: anthropic.Anthropic, agent_id: str) -> None:
    for number in range(COUNT):
        client.beta.agents.create(name=f"agent {number}", model=MODEL)
    whole = check_pager(world, client.beta.agents.list, (1, 2, 3, 100))
    assert len(whole) <= 20
    for number in range(COUNT, 21):
        client.beta.agents.create(name=f"agent {number}", model=MODEL)
    # Without a limit a page has twenty entries.
    page = client.beta.agents.list()
    assert len(page.data) == 20 and page.next_page is not None
    assert [one.created_at for one in whole] == sorted(
        (one.created_at for one in whole), reverse=True
    )


def test_versions(world: World, client: anthropic.Anthropic, agent_id: str) -> None:
    def pager(**query: Any) -> Any:
        return client.beta.agents.versions.list(agent_id, **query)

    whole = check_pager(world, pager, (1, 2, 3, 7, 100))
    assert [one.version for one in whole] == list(range(COUNT, 0, -1))


def test_environments(world: World, client: anthropic.Anthropic) -> None:
    made = [client.beta.environments.create(name=f"paged {i}").id for i in range(COUNT)]
    whole = check_pager(world, client.beta.environments.list, (1, 2, 5, 1000))
    assert [one.id for one in whole][:COUNT] == made[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sessions(
    world: World, client: anthropic.Anthropic, agent_id: str, session_ids: list[str], order: Any
) -> None:
    wanted = session_ids if order == "asc" else session_ids[::-1]
    for limit in (1, 2, 3, 7, 100, 1000):
        query: Any = {"agent_id": agent_id, "order": order, "limit": limit}
        assert [one.id for one in client.beta.sessions.list(**query)] == wanted


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 6])
def test_sessions_backward(
    world: World,
    client: anthropic.Anthropic,
    agent_id: str,
    session_ids: list[str],
    order: Any,
    limit: int,
) -> None:
    def page(cursor: str | None) -> Any:
        at = anthropic.omit if cursor is None else cursor
        return client.beta.sessions.list(agent_id=agent_id, order=order, limit=limit, page=at)

    forward = [page(None)]
    while forward[-1].next_page is not None:
        forward.append(page(forward[-1].next_page))
    assert forward[0].prev_page is None
    assert all(one.prev_page is not None for one in forward[1:])
    wanted = session_ids if order == "asc" else session_ids[::-1]
    assert [one.id for part in forward for one in part.data] == wanted
    # Back again: the same pages with the same rows in the same order.
    here = forward[-1]
    for before in forward[-2::-1]:
        here = page(here.prev_page)
        assert [one.id for one in here.data] == [one.id for one in before.data]
        assert here.next_page is not None
    assert here.prev_page is None
    # And forward from there.
    again = page(here.next_page)
    assert [one.id for one in again.data] == [one.id for one in forward[1].data]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_events(world: World, client: anthropic.Anthropic, talk: str, order: Any) -> None:
    def pager(**query: Any) -> Any:
        return client.beta.sessions.events.list(talk, order=order, **query)

    whole = check_pager(world, pager, (1, 2, 5, 9, 36, 1000))
    log = [event["id"] for event in world.log(talk)]
    assert [event.id for event in whole] == (log if order == "asc" else log[::-1])


def test_filtered_events(world: World, client: anthropic.Anthropic, talk: str) -> None:
    kinds: Any = ["user.message", "agent.message"]
    whole = list(client.beta.sessions.events.list(talk, types=kinds))
    assert len(whole) == 8
    for limit in (1, 3, 8):
        paged = client.beta.sessions.events.list(talk, types=kinds, limit=limit)
        assert list(paged) == whole


def test_events_of_a_thread(world: World, client: anthropic.Anthropic, talk: str) -> None:
    (thread,) = client.beta.sessions.threads.list(talk, limit=1)

    def pager(**query: Any) -> Any:
        return client.beta.sessions.threads.events.list(thread.id, session_id=talk, **query)

    whole = check_pager(world, pager, (1, 4, 1000))
    assert [event.id for event in whole] == [event["id"] for event in world.log(talk)]


def test_events_that_wait_are_paged_too(world: World, client: anthropic.Anthropic) -> None:
    world.model.script({"steps": [{"stall": True}]}, text("all heard"))
    session_id = world.session()
    client.beta.sessions.events.send(session_id, events=[message("0")])
    world.model.wait_for_requests(1)
    wait_until(lambda: len(world.log(session_id)) == 4, "the request is in the log")
    for number in range(1, 5):
        client.beta.sessions.events.send(session_id, events=[message(str(number))])
    for order in ("asc", "desc"):
        whole = list(client.beta.sessions.events.list(session_id, order=order))
        assert len(whole) == 8
        for limit in (1, 2, 3):
            query: Any = {"order": order, "limit": limit}
            assert list(client.beta.sessions.events.list(session_id, **query)) == whole


def test_what_is_added_meanwhile_moves_nothing(
    world: World, client: anthropic.Anthropic, agent_id: str
) -> None:
    agent = client.beta.agents.create(name="moving", model=MODEL)
    environment_id = world.environment()

    def make() -> str:
        return client.beta.sessions.create(agent=agent.id, environment_id=environment_id).id

    made = [make() for _ in range(4)]
    first = client.beta.sessions.list(agent_id=agent.id, limit=2)
    make()
    second = first.get_next_page()
    assert [one.id for one in [*first.data, *second.data]] == made[::-1]


@pytest.mark.anyio
async def test_the_asynchronous_pagers_do_the_same(
    world: World,
    async_client: anthropic.AsyncAnthropic,
    agent_id: str,
    session_ids: list[str],
    talk: str,
) -> None:
    found = [one.id async for one in async_client.beta.sessions.list(agent_id=agent_id, limit=2)]
    assert found == session_ids[::-1]
    log = [event["id"] for event in world.log(talk)]
    events = async_client.beta.sessions.events
    assert [one.id async for one in events.list(talk, limit=5)] == log
    assert [one.id async for one in events.list(talk, limit=5, order="desc")] == log[::-1]


# --- cursors and limits that are none

LISTS = [
    ("/v1/agents", 100),
    ("/v1/agents/{agent}/versions", 100),
    ("/v1/environments", 1000),
    ("/v1/vaults", 100),
    ("/v1/vaults/{vault}/credentials", 100),
    ("/posthouse/v1/credential_uses", 1000),
    ("/v1/sessions", 1000),
    ("/v1/sessions/{session}/events", 1000),
    ("/v1/sessions/{session}/threads", 1000),
]


@pytest.mark.parametrize(("path", "most"), LISTS)
def test_limits_out_of_range_are_refused(
    world: World, agent_id: str, talk: str, vault_id: str, path: str, most: int
) -> None:
    http = world.raw()
    address = path.format(agent=agent_id, session=talk, vault=vault_id)
    assert http.get(address, params={"limit": most}).status_code == 200
    assert http.get(address, params={"limit": 1}).status_code == 200
    for limit in (0, -1, most + 1, "x", "1.5"):
        refused = http.get(address, params={"limit": limit})
        assert refused.status_code == 400, limit
        assert "limit" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("path", "_most"), LISTS)
@pytest.mark.parametrize("cursor", ["x", "page_", "page_AAAA", "page_!", "page_eyJrIjoiIn0"])
def test_cursors_that_are_none_are_refused(
    world: World, agent_id: str, talk: str, vault_id: str, path: str, _most: int, cursor: str
) -> None:
    address = path.format(agent=agent_id, session=talk, vault=vault_id)
    refused = world.raw().get(address, params={"page": cursor})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "invalid page cursor"


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/{session}/events"])
def test_a_cursor_keeps_its_order(
    world: World, agent_id: str, session_ids: list[str], talk: str, path: str
) -> None:
    http = world.raw()
    address = path.format(session=talk)
    for order, other in (("asc", "desc"), ("desc", "asc")):
        page = http.get(address, params={"limit": 1, "order": order}).json()["next_page"]
        refused = http.get(address, params={"limit": 1, "order": other, "page": page})
        assert refused.status_code == 400
        wording = "page token order does not match request"
        assert refused.json()["error"]["message"] == wording
        # The size of a page may change on the way.
        assert (
            http.get(address, params={"limit": 3, "order": order, "page": page}).status_code == 200
        )


def test_a_cursor_outside_of_the_bounds_is_refused(
    world: World, client: anthropic.Anthropic, agent_id: str, session_ids: list[str]
) -> None:
    first = client.beta.sessions.list(agent_id=agent_id, order="asc", limit=2)
    assert first.next_page is not None
    late = client.beta.sessions.retrieve(session_ids[-1]).created_at
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.list(
            agent_id=agent_id, order="asc", page=first.next_page, created_at_gte=late
        )


def test_a_cursor_keeps_to_its_list(world: World, agent_id: str, talk: str) -> None:
    http = world.raw()
    page = http.get("/v1/agents", params={"limit": 1}).json()["next_page"]
    if page is None:
        world.agent()
        page = http.get("/v1/agents", params={"limit": 1}).json()["next_page"]
    for path in ("/v1/environments", "/v1/sessions", f"/v1/sessions/{talk}/events"):
        assert http.get(path, params={"page": page}).status_code == 400
