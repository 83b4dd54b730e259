"""Files that are mounted into sessions, by the SDK."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import FileNotDownloadableError

from support import stalled, text
from world import World

TAIL = "0123456789abcdefABCDEF01"
UPLOADS = "/mnt/session/uploads"


@pytest.fixture
def file_id(client: anthropic.Anthropic) -> str:
    """A file that was uploaded."""
    return client.files.upload(file=("data.csv", b"a,b\n", "text/csv")).id


def create(world: World, client: anthropic.Anthropic, resources: Any) -> Any:
    """A session with resources."""
    agent, environment = world.agent(), world.environment()
    return client.beta.sessions.create(
        agent=agent, environment_id=environment, resources=resources
    )


def test_a_session_with_files_is_shown_in_full(
    world: World, client: anthropic.Anthropic, file_id: str
) -> None:
    session = create(
        world,
        client,
        [
            {"type": "file", "file_id": file_id, "mount_path": None},
            {"type": "file", "file_id": file_id, "mount_path": "probe.txt"},
            {"type": "file", "file_id": file_id, "mount_path": "data/probe.txt"},
            {"type": "file", "file_id": file_id, "mount_path": "/tmp/probe.txt"},
            {"type": "file", "file_id": file_id, "mount_path": f"{UPLOADS}/own.txt"},
            {"type": "file", "file_id": file_id, "mount_path": "/mnt/user-data/x.csv"},
        ],
    )
    below = [
        file_id,
        "probe.txt",
        "data/probe.txt",
        "tmp/probe.txt",
        "own.txt",
        "mnt/user-data/x.csv",
    ]
    assert [one.mount_path for one in session.resources] == [f"{UPLOADS}/{one}" for one in below]
    # Each is the session's own copy.
    copies = [one.file_id for one in session.resources]
    assert len({*copies, file_id}) == 7
    assert client.beta.sessions.retrieve(session.id).resources == session.resources
    (listed,) = client.beta.sessions.list(agent_id=session.agent.id)
    assert listed.resources == session.resources
    scoped = client.beta.files.list(scope_id=session.id)
    assert [one.id for one in scoped] == copies[::-1]
    copy = client.beta.files.retrieve_metadata(copies[0])
    assert copy.scope is not None and copy.scope.to_dict() == {"type": "session", "id": session.id}
    assert (copy.filename, copy.mime_type, copy.size_bytes) == ("data.csv", "text/csv", 4)
    assert copy.downloadable is False
    with pytest.raises(FileNotDownloadableError):
        client.files.download(copies[0])


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["../x"], 'Invalid file resource: mount path "../x" escapes /uploads/'),
        (["a/../../x"], 'Invalid file resource: mount path "a/../../x" escapes /uploads/'),
        (
            ["dupe.txt", "dupe.txt"],
            "Invalid file resource: `mount_path` overlaps another resource: /uploads/dupe.txt",
        ),
        (
            ["a/b", "/a/b/c"],
            "Invalid file resource: `mount_path` overlaps another resource: /uploads/a/b/c",
        ),
    ],
)
def test_paths_are_refused_in_the_hosted_wording(
    world: World, client: anthropic.Anthropic, file_id: str, paths: list[str], words: str
) -> None:
    resources = [{"type": "file", "file_id": file_id, "mount_path": path} for path in paths]
    with pytest.raises(anthropic.BadRequestError) as caught:
        create(world, client, resources)
    assert caught.value.api_message == words
    session = create(world, client, resources[:-1])
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.resources.add(
            session.id, type="file", file_id=file_id, mount_path=paths[-1]
        )
    assert caught.value.api_message == words


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({"type": "github_repository", "url": "https://github.com/a/b"}, "github_repository"),
        ({"type": "memory_store", "memory_store_id": f"memstore_{TAIL}"}, "memory_store"),
        ({"type": "moon"}, "resources"),
        ({"type": "file"}, "file_id"),
        ({"type": "file", "file_id": "x"}, "file_id"),
        ({"type": "file", "file_id": f"file_{TAIL}", "mode": "rw"}, "mode"),
    ],
)
def test_what_can_not_be_mounted_is_refused_by_name(
    world: World, client: anthropic.Anthropic, resource: Any, words: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=words):
        create(world, client, [resource])


def test_files_that_are_not_there_are_named(world: World, client: anthropic.Anthropic) -> None:
    gone = client.files.upload(file=b"x").id
    client.files.delete(gone)
    for missing in (gone, f"file_{TAIL}"):
        with pytest.raises(anthropic.NotFoundError, match=missing):
            create(world, client, [{"type": "file", "file_id": missing}])
        session_id = world.session()
        with pytest.raises(anthropic.NotFoundError, match=missing):
            client.beta.sessions.resources.add(session_id, type="file", file_id=missing)


def test_resources_live_and_go(world: World, client: anthropic.Anthropic, file_id: str) -> None:
    api = client.beta.sessions.resources
    session_id = world.session()
    made = [
        api.add(session_id, type="file", file_id=file_id, mount_path=f"{i}.csv") for i in range(5)
    ]
    assert [one.mount_path for one in made] == [f"{UPLOADS}/{i}.csv" for i in range(5)]
    assert list(api.list(session_id)) == made
    for limit in (1, 2, 5, 1000):
        assert list(api.list(session_id, limit=limit)) == made
    assert api.retrieve(made[0].id, session_id=session_id) == made[0]
    with pytest.raises(anthropic.BadRequestError, match="authorization_token"):
        api.update(made[0].id, session_id=session_id, authorization_token="t")
    deleted = api.delete(made[0].id, session_id=session_id)
    assert (deleted.id, deleted.type) == (made[0].id, "session_resource_deleted")
    for call in (api.retrieve, api.delete):
        with pytest.raises(anthropic.NotFoundError, match="Resource not found."):
            call(made[0].id, session_id=session_id)
    with pytest.raises(anthropic.NotFoundError, match="File not found."):
        client.files.retrieve_metadata(made[0].file_id)
    assert list(api.list(session_id)) == made[1:]
    assert client.beta.sessions.retrieve(session_id).resources == made[1:]


@pytest.mark.anyio
async def test_asynchronously(world: World, async_client: anthropic.AsyncAnthropic) -> None:
    api = async_client.beta.sessions.resources
    file = await async_client.files.upload(file=b"x")
    session_id = world.session()
    made = await api.add(session_id, type="file", file_id=file.id)
    assert made.mount_path == f"{UPLOADS}/{file.id}"
    assert [one async for one in api.list(session_id)] == [made]
    assert await api.retrieve(made.id, session_id=session_id) == made
    assert (await api.delete(made.id, session_id=session_id)).id == made.id


def test_while_the_session_is_at_work(
    world: World, client: anthropic.Anthropic, file_id: str
) -> None:
    world.model.script(stalled())
    session_id = world.session()
    event: Any = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}
    client.beta.sessions.events.send(session_id, events=[event])
    assert world.status(session_id) == "running"
    made = client.beta.sessions.resources.add(session_id, type="file", file_id=file_id)
    client.beta.sessions.resources.delete(made.id, session_id=session_id)
    # It leaves no trace in the log.
    assert not any("resource" in one["type"] for one in world.log(session_id))


def test_an_archive_keeps_and_closes_them(
    world: World, client: anthropic.Anthropic, file_id: str
) -> None:
    session = create(world, client, [{"type": "file", "file_id": file_id}])
    (made,) = session.resources
    archived = client.beta.sessions.archive(session.id)
    assert archived.resources == [made]
    assert client.files.retrieve_metadata(made.file_id).id == made.file_id
    api = client.beta.sessions.resources
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        api.add(session.id, type="file", file_id=file_id, mount_path="x")
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        api.delete(made.id, session_id=session.id)
    client.beta.sessions.delete(session.id)
    with pytest.raises(anthropic.NotFoundError, match="File not found."):
        client.files.retrieve_metadata(made.file_id)
    # The file that it was made of stays.
    assert client.files.retrieve_metadata(file_id).id == file_id


def test_a_session_that_begins_with_an_event_has_its_files(
    world: World, client: anthropic.Anthropic, file_id: str
) -> None:
    world.model.script(text("seen"))
    event: Any = {"type": "user.message", "content": [{"type": "text", "text": "look"}]}
    resource: Any = {"type": "file", "file_id": file_id}
    session = client.beta.sessions.create(
        agent=world.agent(),
        environment_id=world.environment(),
        resources=[resource],
        initial_events=[event],
    )
    assert session.status == "running"
    assert [one.mount_path for one in session.resources] == [f"{UPLOADS}/{file_id}"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/sessions/sesn_{}/resources", 404, "Session not found."),
        ("GET", "/v1/sessions/x/resources", 400, "Invalid session ID."),
        ("GET", "/v1/sessions/{session}/resources/x", 400, "Invalid resource ID."),
        ("GET", "/v1/sessions/{session}/resources/sesrsc_{}", 404, "Resource not found."),
        ("DELETE", "/v1/sessions/{session}/resources/sesrsc_{}", 404, "Resource not found."),
    ],
)
def test_resources_that_are_none(
    world: World, method: str, path: str, status: int, words: str
) -> None:
    address = path.replace("{session}", world.session()).format(TAIL)
    response = world.raw().request(method, address)
    assert (response.status_code, response.json()["error"]["message"]) == (status, words)
