"""Every method of the SDK's clients, found by reflection and called for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import anyio
import pytest

from calls import CALLS, MCP_SERVER, TAIL
from reflection import Stage, discover, given
from support import message, text, until_idle
from world import API_KEY, BOUND, MODEL, World

pytestmark = pytest.mark.anyio

CLIENTS: dict[str, Callable[[], Any]] = {
    "sync": lambda: anthropic.Anthropic(api_key="none"),
    "async": lambda: anthropic.AsyncAnthropic(api_key="none"),
}
METHODS = {kind: discover(make()) for kind, make in CLIENTS.items()}
EACH = [(kind, method) for kind, methods in METHODS.items() for method in methods]


@pytest.fixture
async def make_client(world: World) -> AsyncIterator[Callable[[str], Any]]:
    """Makes a client of either kind."""
    async with world.async_client() as asynchronous:
        yield lambda kind: world.client() if kind == "sync" else asynchronous


def test_the_clients_have_the_same_methods_and_each_has_a_call() -> None:
    helpers = {"events.tool_runner", "work.poller", "work.worker"}
    only_async = set(METHODS["async"]) - set(METHODS["sync"])
    assert {one.split(".", 2)[2] for one in only_async} == helpers
    assert set(METHODS["sync"]) <= set(METHODS["async"])
    assert set(CALLS) == set(METHODS["async"])
    assert len(METHODS["sync"]) > 50


@pytest.mark.parametrize(("kind", "method"), EACH)
async def test_every_method(
    world: World, make_client: Callable[[str], Any], kind: str, method: str
) -> None:
    stage = Stage(world, make_client(kind), method)
    stage.report("fails")
    assert method in CALLS, f"{method} is new in the SDK: add its call to calls.py"
    call = CALLS[method]
    with anyio.fail_after(2 * BOUND):
        if call.refused is None:
            await call.run(stage)
        else:
            with pytest.raises(call.refused) as caught:
                await call.run(stage)
            error = caught.value
            assert error.api_message and call.words in error.api_message
            assert error.type in ("not_found_error", "invalid_request_error")
    statuses = {one.status for one in stage.exchanges}
    wanted = {200} if call.refused is None else {call.refused.status_code}
    assert statuses == wanted, "a method is called only when something goes over the wire for it"
    stage.report(call.outcome, call.note)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_raw_responses(make_client: Callable[[str], Any], kind: str, world: World) -> None:
    client = make_client(kind)
    agent = world.agent()

    def stage(method: str) -> Stage:
        return Stage(world, client, method)

    raw = await stage("beta.agents.with_raw_response.retrieve").call(agent)
    shown = await given(raw.parse())
    assert shown.id == agent and raw.headers["request-id"] == shown._request_id
    listed = await stage("beta.agents.versions.with_raw_response.list").call(agent)
    assert [one.version for one in (await given(listed.parse())).data] == [1]
    made = await stage("beta.with_raw_response.agents.create").call(name="raw", model=MODEL)
    assert (await given(made.parse())).name == "raw"
    manager = client.beta.agents.with_streaming_response.retrieve(agent)
    if kind == "sync":
        with manager as streamed:
            assert streamed.parse().id == agent
    else:
        async with manager as streamed:
            assert (await streamed.parse()).id == agent


async def test_a_session_gets_another_model(world: World, client: anthropic.Anthropic) -> None:
    other = "claude-opus-4-6"
    session = world.session()
    changed = client.beta.sessions.update(session, extra_body={"posthouse": {"model": other}})
    assert changed.agent.model.id == other
    updated = world.log(session)[-1]
    assert updated["type"] == "session.updated"
    assert updated["agent"]["model"]["id"] == other
    world.model.script(text("hello", when={"model": other}))
    with client.beta.sessions.events.stream(session) as stream:
        client.beta.sessions.events.send(session, events=[message("hi")])
        until_idle(stream, "end_turn")
    with pytest.raises(anthropic.BadRequestError, match=r"posthouse\.horse"):
        client.beta.sessions.update(session, extra_body={"posthouse": {"horse": "fast"}})


# --- clients of both generations

OLD = {
    "x-api-key": API_KEY,
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "managed-agents-2026-04-01,files-api-2025-04-14",
}
NEW = {"authorization": f"Bearer {API_KEY}"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/agents",
        "/v1/agents/{agent}",
        "/v1/agents/{agent}/versions",
        "/v1/environments",
        "/v1/environments/{environment}",
        "/v1/sessions?limit=1&include_archived=true",
        "/v1/sessions/{session}",
        "/v1/sessions/{session}/events",
        "/v1/sessions/{session}/resources",
        "/v1/sessions/{session}/threads",
        "/v1/files",
        "/v1/files/{file}",
        "/v1/vaults",
        "/v1/vaults/{vault}",
        "/v1/vaults/{vault}/credentials",
        "/v1/vaults/{vault}/credentials/{credential}",
        "/v1/models",
        f"/v1/models/{MODEL}",
    ],
)
async def test_old_and_new_clients_read_the_same(world: World, path: str) -> None:
    client = world.client()
    agent, session = world.agent(), world.session()
    # How long a session has been there is told until it is archived.
    client.beta.sessions.archive(session)
    vault = client.beta.vaults.create(display_name="Ada").id
    ids = {
        "agent": agent,
        "environment": world.environment(),
        "session": session,
        "file": client.files.upload(file=("a.csv", b"a,b\n", "text/csv")).id,
        "vault": vault,
        "credential": client.beta.vaults.credentials.create(
            vault, auth={"type": "static_bearer", "mcp_server_url": MCP_SERVER, "token": "t"}
        ).id,
    }
    http = world.raw(key=None)
    address = path.format(**ids)
    beta = "&beta=true" if "?" in address else "?beta=true"
    old = http.get(address + beta, headers=OLD)
    new = http.get(address, headers=NEW)
    assert (old.status_code, new.status_code) == (200, 200)
    assert old.json() == new.json()


async def test_an_old_client_does_a_whole_turn(world: World) -> None:
    world.model.script(text("hello"))
    http = world.raw(key=None)

    def post(path: str, **body: Any) -> Any:
        response = http.post(path, json=body, headers=OLD, params={"beta": "true"})
        assert response.status_code == 200, response.text
        return response.json()

    agent = post("/v1/agents", name="old", model=MODEL)["id"]
    environment = post("/v1/environments", name="old")["id"]
    session = post("/v1/sessions", agent=agent, environment_id=environment)["id"]
    parts = {"file": ("a.csv", b"a,b\n", "text/csv")}
    file = http.post("/v1/files", files=parts, headers=OLD, params={"beta": "true"}).json()["id"]
    path = f"/v1/sessions/{session}"
    assert post(f"{path}/resources", type="file", file_id=file)["file_id"] != ""
    stream = f"{path}/events/stream"
    with http.stream("GET", stream, headers=OLD, params={"beta": "true"}) as response:
        post(f"{path}/events", events=[message("hi")])
        seen = ""
        for part in response.iter_text():
            seen += part
            if "event: session.status_idle" in seen:
                break
    assert "event: agent.message" in seen
    # Reading, archiving and deleting with what the SDKs of today send.
    assert http.get(path, headers=NEW).json()["status"] == "idle"
    assert post(f"{path}/archive")["archived_at"] is not None
    gone = http.delete(path, headers=OLD, params={"beta": "true"})
    assert gone.json() == {"id": session, "type": "session_deleted"}
    missing = http.get(f"/v1/sessions/sesn_{TAIL}", headers=OLD, params={"beta": "true"})
    assert missing.status_code == 404
