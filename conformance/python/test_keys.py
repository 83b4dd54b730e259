"""Keys and workspaces: what the SDK sees of a key that is narrow, ended or of elsewhere."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import anthropic
import pytest

from support import message, text, turn
from world import MODEL, World, wait_until

KEYS = "/posthouse/v1/keys"
WORKSPACES = "/posthouse/v1/workspaces"


def make(world: World, *scopes: str, **fields: Any) -> dict[str, Any]:
    """Makes a key; returns it with its secret."""
    response = world.raw().post(KEYS, json={"name": "test", "scopes": list(scopes), **fields})
    assert response.status_code == 200, response.text
    made = response.json()
    assert isinstance(made, dict)
    return made


def workspace(world: World) -> str:
    """Makes a workspace; returns its id."""
    response = world.raw().post(WORKSPACES, json={"name": uuid.uuid4().hex})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def revoke(world: World, key: dict[str, Any]) -> None:
    """Revokes a key."""
    response = world.raw().post(f"{KEYS}/{key['id']}/revoke", json={})
    assert response.status_code == 200, response.text
    assert response.json()["revoked_at"] is not None


def test_a_key_does_what_its_scopes_name(world: World) -> None:
    key = make(world, "agents:read", "agents:create", "files:*")
    client = world.client(api_key=key["secret"])
    agent = client.beta.agents.create(name="a", model=MODEL)
    assert client.beta.agents.retrieve(agent.id).id == agent.id
    uploaded = client.beta.files.upload(file=("a.txt", b"x", "text/plain"))
    client.beta.files.delete(uploaded.id)
    for attempt, scope in [
        (lambda: client.beta.agents.archive(agent.id), "agents:archive"),
        (lambda: client.beta.agents.update(agent.id, version=1, name="b"), "agents:update"),
        (lambda: client.beta.environments.list(), "environments:read"),
        (lambda: client.beta.environments.create(name="e"), "environments:create"),
        (lambda: client.beta.sessions.list(), "sessions:read"),
    ]:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            attempt()
        assert caught.value.type == "permission_error"
        assert caught.value.api_message is not None
        assert caught.value.api_message.endswith(f"; it needs the scope {scope}.")


def test_a_narrow_key_has_a_whole_turn(world: World) -> None:
    session_id = world.session()
    key = make(world, "sessions:read", "events:read", "events:create")
    world.model.script(text("hello"))
    events = turn(world.client(api_key=key["secret"]), session_id, "hi")
    assert events[-1].type == "session.status_idle"


def test_a_key_is_shown_in_full(world: World) -> None:
    end = datetime.datetime(2199, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    made = make(world, "agents:read", name="mine", expires_at=end.isoformat())
    secret = made.pop("secret")
    assert made == {
        "type": "api_key",
        "id": made["id"],
        "name": "mine",
        "workspace_id": "wrkspc_default",
        "scopes": ["agents:read"],
        "admin": False,
        "hint": f"{secret[:6]}...{secret[-4:]}",
        "created_at": made["created_at"],
        "expires_at": "2199-01-02T03:04:05.000000Z",
        "revoked_at": None,
    }
    assert made in world.pages(KEYS)


def test_a_revoked_key_is_one_that_nobody_knows(world: World) -> None:
    key = make(world, "*:*")
    client = world.client(api_key=key["secret"])
    client.beta.agents.list()
    revoke(world, key)
    for secret in [key["secret"], "phk_never-was"]:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            world.client(api_key=secret).beta.agents.list()
        assert caught.value.api_message == "Authentication failed"
    world.restart()
    with pytest.raises(anthropic.AuthenticationError):
        client.beta.agents.list()


def test_a_stream_ends_with_the_key_that_has_opened_it(world: World) -> None:
    session_id = world.session()
    key = make(world, "*:*")
    with world.client(api_key=key["secret"]).beta.sessions.events.stream(session_id) as stream:
        revoke(world, key)
        assert list(stream) == []


def test_an_expired_key_is_one_that_nobody_knows(world: World) -> None:
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    key = make(world, "*:*", expires_at=end.isoformat())
    raw = world.raw(key=key["secret"])
    wait_until(lambda: raw.get("/v1/agents").status_code == 401, "the end of the key")
    assert raw.get("/v1/agents").json()["error"]["message"] == "Authentication failed"


def test_workspaces_are_apart(world: World) -> None:
    ours, theirs = workspace(world), workspace(world)
    client = world.client(api_key=make(world, "*:*", workspace_id=ours)["secret"])
    other = world.client(api_key=make(world, "*:*", workspace_id=theirs)["secret"])
    agent = client.beta.agents.create(name="a", model=MODEL)
    environment = client.beta.environments.create(name="e")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    uploaded = client.beta.files.upload(file=("a.txt", b"x", "text/plain"))
    for attempt in [
        lambda: other.beta.agents.retrieve(agent.id),
        lambda: other.beta.environments.delete(environment.id),
        lambda: other.beta.sessions.retrieve(session.id),
        lambda: other.beta.sessions.delete(session.id),
        lambda: other.beta.sessions.events.send(session.id, events=[message("hi")]),
        lambda: other.beta.sessions.events.list(session.id),
        lambda: other.beta.sessions.events.stream(session.id),
        lambda: other.beta.files.retrieve_metadata(uploaded.id),
        lambda: other.beta.sessions.create(agent=agent.id, environment_id=environment.id),
    ]:
        with pytest.raises(anthropic.NotFoundError):
            attempt()
    assert list(other.beta.agents.list()) == []
    assert list(other.beta.sessions.list(agent_id=agent.id)) == []
    assert list(other.beta.files.list(scope_id=session.id)) == []
    # An administrator says in which workspace he works; nobody else has a choice.
    admin = world.client(default_headers={"anthropic-workspace-id": ours})
    assert admin.beta.sessions.retrieve(session.id).id == session.id
    with pytest.raises(anthropic.NotFoundError):
        world.client().beta.sessions.retrieve(session.id)
    with pytest.raises(anthropic.PermissionDeniedError):
        other.with_options(default_headers={"anthropic-workspace-id": ours}).beta.agents.list()


def test_nobody_makes_a_key_that_opens_more_than_his_own(world: World) -> None:
    raw = world.raw(key=make(world, "keys:*")["secret"])
    for fields, start in [
        ({"scopes": ["keys:read", "agents:read"]}, "scopes[1]: opens more than your key does"),
        ({"scopes": ["*:*"]}, "scopes[0]: opens more than your key does"),
        ({"scopes": ["keys:*"], "admin": True}, "admin: your key is no administrator's"),
        ({"scopes": ["keys:*"], "workspace_id": "wrkspc_1"}, "workspace_id: is not your key's"),
    ]:
        response = raw.post(KEYS, json={"name": "n", **fields})
        assert response.status_code == 403, response.text
        assert response.json()["error"]["message"].startswith(start), response.text
    assert raw.post(KEYS, json={"name": "n", "scopes": ["keys:read"]}).status_code == 200
