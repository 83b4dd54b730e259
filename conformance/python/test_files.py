"""Files by the SDK: taken in, listed, shown and deleted. What can be downloaded comes from
sandboxes (`test_outputs.py`), so that here only its refusal is seen."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic._exceptions import APIStatusError
from anthropic.types import FileNotDownloadableError

from world import World, wait_until

TAIL = "0123456789abcdefABCDEF01"


def refusal(caught: pytest.ExceptionInfo[APIStatusError]) -> tuple[int, str]:
    """Status and message."""
    return caught.value.status_code, str(caught.value.api_message)


def test_a_file_is_shown_in_full(world: World, client: anthropic.Anthropic) -> None:
    made = client.beta.files.upload(file=("notes.txt", b"hello", "text/plain"))
    shown = made.to_dict(mode="json")
    assert shown == {
        "type": "file",
        "id": made.id,
        "filename": "notes.txt",
        "mime_type": "text/plain",
        "size_bytes": 5,
        "created_at": shown["created_at"],
        "expires_at": None,
        "downloadable": False,
        "scope": None,
    }
    assert client.beta.files.retrieve_metadata(made.id) == made
    assert client.files.retrieve_metadata(made.id).id == made.id
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.type) == (made.id, "file_deleted")
    with pytest.raises(anthropic.NotFoundError, match="File not found."):
        client.files.retrieve_metadata(made.id)
    with pytest.raises(anthropic.NotFoundError, match="File not found."):
        client.files.delete(made.id)


def test_every_form_of_a_file(client: anthropic.Anthropic, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n1,2\n")
    forms: list[tuple[Any, str, str]] = [
        # The SDK sends no name with these.
        (b"plain bytes", "unnamed", "application/octet-stream"),
        (io.BytesIO(b"a stream"), "unnamed", "application/octet-stream"),
        (path, "data.csv", "text/csv"),
        (("named.md", b"# hi"), "named.md", "text/markdown"),
        (("x/y/../z.bin", b"\0\1", "application/x-mine"), "z.bin", "application/x-mine"),
        (("Grüße, \U0001f600.txt", b"x", "text/plain"), "Grüße, \U0001f600.txt", "text/plain"),
        (("%41 +;=.txt", b"x", "text/plain"), "%41 +;=.txt", "text/plain"),
        ((None, b"%PDF-1.7", "application/pdf"), "unnamed.pdf", "application/pdf"),
    ]
    for file, name, kind in forms:
        made = client.files.upload(file=file)
        assert (made.filename, made.mime_type) == (name, kind), file


@pytest.mark.anyio
async def test_asynchronously(async_client: anthropic.AsyncAnthropic, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("{}")
    made = [
        await async_client.files.upload(file=b"bytes"),
        await async_client.files.upload(file=("a.txt", b"x")),
        await async_client.beta.files.upload(file=path, expires_in_seconds=3600),
    ]
    assert made[2].expires_at is not None
    assert (made[2].expires_at - made[2].created_at).total_seconds() == 3600
    listed = [file.id async for file in async_client.files.list(limit=2)]
    assert listed[:3] == [one.id for one in reversed(made)]
    with pytest.raises(anthropic.BadRequestError, match="is not downloadable"):
        await async_client.files.download(made[0].id)
    assert (await async_client.files.delete(made[0].id)).type == "file_deleted"


def test_a_large_file_passes_whole(
    world: World, client: anthropic.Anthropic, tmp_path: Path
) -> None:
    content = random.Random(1).randbytes(40 * 1024 * 1024)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    made = client.files.upload(file=path)
    assert made.size_bytes == len(content)
    folder = world.folder / "data" / "files"
    assert any(one.read_bytes() == content for one in folder.iterdir())
    client.files.delete(made.id)


def test_a_life_can_be_bounded(client: anthropic.Anthropic) -> None:
    for seconds in (3_600, 7_776_000):
        made = client.files.upload(file=b"x", expires_in_seconds=seconds)
        assert made.expires_at is not None
        assert (made.expires_at - made.created_at).total_seconds() == seconds
    for seconds in (0, 3_599, 7_776_001):
        with pytest.raises(anthropic.BadRequestError, match="expires_in_seconds: is "):
            client.files.upload(file=b"x", expires_in_seconds=seconds)


def test_what_was_uploaded_is_not_handed_out(client: anthropic.Anthropic) -> None:
    made = client.files.upload(file=b"secret")
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.files.download(made.id)
    assert refusal(caught) == (400, f"File '{made.id}' is not downloadable")
    assert isinstance(caught.value, FileNotDownloadableError)
    assert caught.value.details.error_code == "file_not_downloadable"
    with (
        pytest.raises(anthropic.BadRequestError),
        client.beta.files.with_streaming_response.download(made.id),
    ):
        raise AssertionError("it was handed out")


@pytest.mark.parametrize("name", ["a:b", "a?", "a<b>", "a|b", "a*b", "..", "x" * 256])
def test_names_that_are_none(client: anthropic.Anthropic, name: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match="file.filename: "):
        client.files.upload(file=(name, b"x", "text/plain"))


def test_forms_that_are_none(world: World) -> None:
    http = world.raw()
    whole: dict[str, Any] = {"file": ("a", b"x")}
    for form, words in [
        ({"files": {"upload": ("a", b"x")}}, 'unknown field "upload"'),
        ({"files": {**whole, "purpose": (None, b"x")}}, 'unknown field "purpose"'),
        ({"files": whole, "data": {"expires_in_seconds": "soon"}}, "expires_in_seconds"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, "file: is sent twice"),
        ({"json": {"file": "x"}}, "content-type: is "),
        ({}, "content-type: is "),
    ]:
        response = http.post("/v1/files", **form)
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]


def test_lists_are_paged(world: World, client: anthropic.Anthropic) -> None:
    ids = [client.files.upload(file=(f"{i}.txt", b"x")).id for i in range(7)][::-1]
    assert [one.id for one in client.files.list()][:7] == ids
    for limit in (1, 2, 3, 1000):
        assert [one.id for one in client.files.list(limit=limit)][:7] == ids
        assert [one.id for one in client.beta.files.list(limit=limit)][:7] == ids
    # By ids, as clients of before did, and on from there by cursors.
    after = client.beta.files.list(limit=2, extra_query={"after_id": ids[1]})
    assert [one.id for one in after][:5] == ids[2:]
    before = client.beta.files.list(limit=2, extra_query={"before_id": ids[5]})
    assert [one.id for one in before] == [*ids[3:5], *ids[1:3], ids[0]]

    named = client.files.list(ids=[ids[4], f"file_{TAIL}", ids[2], ids[2]])
    assert [one.id for one in named.data] == [ids[2], ids[4]]
    assert named.next_page is None
    assert client.files.list(ids=[f"file_{TAIL}"]).data == []
    with pytest.raises(anthropic.BadRequestError, match="ids"):
        client.files.list(ids=ids, limit=2)
    with pytest.raises(anthropic.BadRequestError, match="ids: has 101 entries"):
        client.files.list(ids=[f"file_{i}" for i in range(101)])
    for limit in (0, 1001):
        with pytest.raises(anthropic.BadRequestError, match="limit"):
            client.files.list(limit=limit)
    with pytest.raises(anthropic.BadRequestError, match="invalid page cursor"):
        client.files.list(page="page_x")


def test_a_client_of_before_is_understood(world: World) -> None:
    http = world.raw()
    headers = {"anthropic-beta": "files-api-2025-04-14", "anthropic-version": "2023-06-01"}
    form = {"file": ("a.txt", b"x", "text/plain")}
    beta = {"beta": "true"}
    made = http.post("/v1/files", files=form, headers=headers, params=beta).json()
    listed = http.get("/v1/files", headers=headers, params={**beta, "limit": 1}).json()
    assert (listed["first_id"], listed["last_id"]) == (made["id"], made["id"])
    assert listed["data"] == [made]
    query = {**beta, "limit": 1000, "after_id": made["id"]}
    rest = http.get("/v1/files", headers=headers, params=query).json()
    assert rest["has_more"] is False
    assert made["id"] not in [one["id"] for one in rest["data"]]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"/v1/files/file_{TAIL}", 404, "File not found."),
        (f"/v1/files/file_{TAIL}/content", 404, "File not found."),
        ("/v1/files/x", 400, "Invalid file ID."),
        ("/v1/files/..%2fposthouse.db/content", 400, "Invalid file ID."),
    ],
)
def test_files_that_are_none(world: World, path: str, status: int, words: str) -> None:
    response = world.raw().get(path)
    assert (response.status_code, response.json()["error"]["message"]) == (status, words)


def test_a_retry_does_not_upload_twice(world: World) -> None:
    lost = 1

    def meddle(request: httpx2.Request, send: Any) -> httpx2.Response:
        nonlocal lost
        if lost == 0 or request.method != "POST":
            return send()
        lost -= 1
        send().read()
        world.restart()
        raise httpx2.ReadError("the connection was reset", request=request)

    # The server has taken the file, and dies with the answer on its way.
    client = world.client(meddle=meddle, max_retries=2)
    made = client.files.upload(file=("once.txt", b"once"))
    named = [one for one in client.files.list(limit=1000) if one.filename == "once.txt"]
    assert [one.id for one in named] == [made.id]


def test_a_file_survives_the_death_of_the_server(world: World, client: anthropic.Anthropic) -> None:
    made = client.files.upload(file=b"kept")
    folder = world.folder / "data" / "files"
    count = len(list(folder.iterdir()))
    world.restart()
    assert wait_until(lambda: client.files.retrieve_metadata(made.id), "the file") == made
    assert len(list(folder.iterdir())) == count
