"""Files into a sandbox and out of it: uploads that are mounted, and what the agent puts out."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

from support import (
    ASKING_TOOLSET,
    INTERRUPT,
    PDF,
    TOOLSET,
    bash,
    calls,
    is_idle,
    message,
    png,
    results,
    text,
    turn,
    until_idle,
)
from world import World, wait_until

UPLOADS = "/mnt/session/uploads"
OUTPUTS = "/mnt/session/outputs"
CSV = b"item,price\noats,7\nhay,12\napples,23\n"
REPORT = b"3 rows, 42 in all\n"
COMPUTE = (
    f"awk -F, 'NR > 1 {{ n += 1; s += $2 }} END {{ print n \" rows, \" s \" in all\" }}' PATH"
    f" > {OUTPUTS}/report.txt"
)


@pytest.fixture
def csv(client: anthropic.Anthropic) -> str:
    """The id of an uploaded table."""
    return client.beta.files.upload(file=("prices.csv", CSV, "text/csv")).id


def session_with(world: World, client: anthropic.Anthropic, *resources: Any) -> str:
    """A session with these files mounted: ids, or pairs of id and path."""
    mounted: list[Any] = []
    for one in resources:
        file_id, path = one if isinstance(one, tuple) else (one, None)
        mounted.append({"type": "file", "file_id": file_id, "mount_path": path})
    return client.beta.sessions.create(
        agent=world.agent(tools=[TOOLSET]),
        environment_id=world.environment(),
        resources=mounted,
    ).id


def run(world: World, client: anthropic.Anthropic, session_id: str, *commands: str) -> list[str]:
    """A turn in which the agent runs these commands one after the other."""
    world.model.script(*(bash(one) for one in commands), text("done"))
    return results(turn(client, session_id, "go"))


def outputs(client: anthropic.Anthropic, session_id: str) -> list[Any]:
    """What a session has put out, newest first."""
    return [one for one in client.beta.files.list(scope_id=session_id) if one.downloadable]


def contents(client: anthropic.Anthropic, session_id: str) -> list[tuple[str, bytes]]:
    """Names and contents of what a session has put out, newest first."""
    listed = outputs(client, session_id)
    return [(one.filename, client.beta.files.download(one.id).read()) for one in listed]


# --- out


def test_a_table_becomes_a_report(
    world: World, client: anthropic.Anthropic, csv: str, tmp_path: Path
) -> None:
    session_id = session_with(world, client, csv)
    world.model.script(bash(COMPUTE.replace("PATH", f"{UPLOADS}/{csv}")), text("42"))
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("reckon")])
        for event in stream:
            if is_idle(event):
                # At this very moment, with the stream still open.
                listed = client.beta.files.list(scope_id=session_id)
                break
    report, copy = listed.data
    shown = report.to_dict(mode="json")
    assert shown == {
        "type": "file",
        "id": report.id,
        "filename": "report.txt",
        "mime_type": "text/plain",
        "size_bytes": len(REPORT),
        "created_at": shown["created_at"],
        "expires_at": None,
        "downloadable": True,
        "scope": {"type": "session", "id": session_id},
    }
    assert (copy.filename, copy.downloadable) == ("prices.csv", False)
    assert client.beta.files.retrieve_metadata(report.id) == report
    # All ways to get it.
    got = client.beta.files.download(report.id)
    assert got.read() == REPORT
    client.beta.files.download(report.id).write_to_file(tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_bytes() == REPORT
    with client.beta.files.with_streaming_response.download(report.id) as streamed:
        assert b"".join(streamed.iter_bytes()) == REPORT
        assert 'filename="report.txt"' in streamed.headers["content-disposition"]
    assert client.files.download(report.id).read() == REPORT
    # In no other scope, and gone when deleted.
    assert report.id not in [one.id for one in client.beta.files.list(scope_id=world.session())]
    assert report.id in [one.id for one in client.beta.files.list(limit=1000)]
    client.beta.files.delete(report.id)
    assert outputs(client, session_id) == []
    with pytest.raises(anthropic.NotFoundError, match="File not found."):
        client.beta.files.download(report.id)


@pytest.mark.anyio
async def test_asynchronously(world: World, async_client: anthropic.AsyncAnthropic) -> None:
    api, files = async_client.beta.sessions, async_client.beta.files
    table = await files.upload(file=("prices.csv", io.BytesIO(CSV), "text/csv"))
    session_id = world.session(tools=[TOOLSET])
    made = await api.resources.add(
        session_id, type="file", file_id=table.id, mount_path="/data/prices.csv"
    )
    assert made.mount_path == f"{UPLOADS}/data/prices.csv"
    world.model.script(bash(COMPUTE.replace("PATH", made.mount_path)), text("42"))
    async with await api.events.stream(session_id) as stream:
        await api.events.send(session_id, events=[message("reckon")])
        async for event in stream:
            if is_idle(event):
                break
    report, copy = [one async for one in files.list(scope_id=session_id)]
    assert await (await files.download(report.id)).read() == REPORT
    assert copy.id == made.file_id
    async with files.with_streaming_response.download(report.id) as streamed:
        assert b"".join([part async for part in streamed.iter_bytes()]) == REPORT


def test_outputs_are_there_at_every_rest(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[TOOLSET])
    for number in range(20):
        world.model.script(bash(f"echo {number} > {OUTPUTS}/n{number}.txt"), text("done"))
        with client.beta.sessions.events.stream(session_id) as stream:
            client.beta.sessions.events.send(session_id, events=[message("go")])
            until_idle(stream)
            newest = client.beta.files.list(scope_id=session_id, limit=1).data[0]
        assert newest.filename == f"n{number}.txt"
    assert contents(client, session_id) == [
        (f"n{number}.txt", f"{number}\n".encode()) for number in reversed(range(20))
    ]
    for limit in (1, 3, 20, 1000):
        listed = client.beta.files.list(scope_id=session_id, limit=limit)
        assert [one.filename for one in listed] == [f"n{i}.txt" for i in reversed(range(20))]


def test_every_kind_of_rest_brings_them(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[ASKING_TOOLSET])
    put = {"file_path": f"{OUTPUTS}/asked.txt", "content": "asked"}
    world.model.script(calls(("write", put)), bash("true"), text("done"))
    asked = turn(client, session_id, "go")
    assert asked[-1].stop_reason.type == "requires_action"
    assert contents(client, session_id) == [("asked.txt", b"asked")]
    turn(client, session_id, INTERRUPT)

    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash(f"echo cut > {OUTPUTS}/cut.txt; sleep 600"))
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("go")])
        folder = world.folder / "data" / "sandboxes"
        cut = folder / session_id / "tree/mnt/session/outputs/cut.txt"
        wait_until(lambda: cut.exists() and cut.read_text(), "it")
        client.beta.sessions.events.send(session_id, events=[INTERRUPT])
        until_idle(stream)
    assert contents(client, session_id) == [("cut.txt", b"cut\n")]


def test_forms_of_outputs(world: World, client: anthropic.Anthropic) -> None:
    image = png(3, 2)
    files: list[tuple[str, bytes, str]] = [
        ("table.csv", b"a,b\n1,2\n", "text/csv"),
        ("data.json", b'{"a": 1}\n', "application/json"),
        ("notes.md", b"# notes\n", "text/markdown"),
        ("plot.png", image, "image/png"),
        ("paper.pdf", PDF, "application/pdf"),
        ("empty.txt", b"", "text/plain"),
        ("Grüße \U0001f40e, (1).txt", b"hi", "text/plain"),
        ("raw", bytes(range(256)), "application/octet-stream"),
    ]
    uploaded = [client.beta.files.upload(file=("x", content)).id for _, content, _ in files]
    session_id = session_with(world, client, *uploaded)
    copies = [
        f"cp {UPLOADS}/{file_id} '{OUTPUTS}/{name}'"
        for file_id, (name, _, _) in zip(uploaded, files, strict=True)
    ]
    assert run(world, client, session_id, "\n".join(copies)) == ["(no output)"]
    listed = outputs(client, session_id)
    found = {
        one.filename: (client.beta.files.download(one.id).read(), one.mime_type) for one in listed
    }
    assert found == {name: (content, kind) for name, content, kind in files}


def test_folders_and_changes(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[TOOLSET])
    run(
        world,
        client,
        session_id,
        f"mkdir -p {OUTPUTS}/a/b && echo 1 > {OUTPUTS}/a/b/child.txt",
        f"echo 2 > {OUTPUTS}/top.txt",
    )
    assert contents(client, session_id) == [("top.txt", b"2\n"), ("child.txt", b"1\n")]
    before = outputs(client, session_id)
    # Nothing new, nothing twice.
    run(world, client, session_id, f"cat {OUTPUTS}/top.txt")
    assert outputs(client, session_id) == before
    # A change is a new file, and the old one stays what it was.
    run(world, client, session_id, f"echo 3 >> {OUTPUTS}/top.txt")
    assert contents(client, session_id) == [
        ("top.txt", b"2\n3\n"),
        ("top.txt", b"2\n"),
        ("child.txt", b"1\n"),
    ]
    assert outputs(client, session_id)[1:] == before
    # What the agent deletes was put out all the same; what a user deletes does not come back.
    client.beta.files.delete(before[1].id)
    run(world, client, session_id, f"rm {OUTPUTS}/top.txt")
    assert contents(client, session_id) == [("top.txt", b"2\n3\n"), ("top.txt", b"2\n")]


def test_only_files_are_put_out(world: World, client: anthropic.Anthropic) -> None:
    secret = world.folder / "secret.txt"
    secret.write_text("of the host")
    session_id = world.session(tools=[TOOLSET])
    told = run(
        world,
        client,
        session_id,
        f"cd {OUTPUTS} && ln -s {secret} a && ln -s /etc/passwd b && ln -s / c && mkfifo d"
        " && ln -s plain e && echo plain > plain && mkdir -p f && ln -s .. f/up"
        " && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; ls",
    )
    assert set("abcdefs") < set(told[0].split())
    assert contents(client, session_id) == [("plain", b"plain\n")]


def test_a_large_output_is_whole(
    world: World, client: anthropic.Anthropic, tmp_path: Path
) -> None:
    content = random.Random(7).randbytes(24 * 1024 * 1024)
    (tmp_path / "in.bin").write_bytes(content)
    file_id = client.beta.files.upload(file=tmp_path / "in.bin").id
    session_id = session_with(world, client, (file_id, "in.bin"))
    run(world, client, session_id, f"cat {UPLOADS}/in.bin {UPLOADS}/in.bin > {OUTPUTS}/out.bin")
    (made,) = outputs(client, session_id)
    assert made.size_bytes == 2 * len(content)
    client.beta.files.download(made.id).write_to_file(tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == 2 * content


def test_one_session_works_on_with_what_another_has_put_out(
    world: World, client: anthropic.Anthropic
) -> None:
    one = world.session(tools=[TOOLSET])
    run(world, client, one, f"echo passed on > {OUTPUTS}/draft.txt")
    (draft,) = outputs(client, one)
    other = session_with(world, client, (draft.id, "draft.txt"))
    assert run(world, client, other, f"cat {UPLOADS}/draft.txt") == ["passed on\n"]


def test_outputs_survive_the_server_and_the_session(mortal: World) -> None:
    client = mortal.client()
    session_id = mortal.session(tools=[TOOLSET])
    run(mortal, client, session_id, f"echo kept > {OUTPUTS}/kept.txt")
    mortal.restart()
    assert contents(client, session_id) == [("kept.txt", b"kept\n")]
    (kept,) = outputs(client, session_id)
    # Not taken in a second time.
    assert run(mortal, client, session_id, f"cat {OUTPUTS}/kept.txt")[0].endswith("kept\n")
    assert outputs(client, session_id) == [kept]
    client.beta.sessions.archive(session_id)
    assert contents(client, session_id) == [("kept.txt", b"kept\n")]


# --- in


def test_mounts_are_where_they_are_shown(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    session_id = session_with(
        world,
        client,
        csv,
        (csv, "probe.csv"),
        (csv, "data/deep/probe.csv"),
        (csv, "/tmp/probe.csv"),
        (csv, f"{UPLOADS}/own.csv"),
        (csv, "/mnt/user-data/x y.csv"),
    )
    mounted = [
        one.mount_path for one in client.beta.sessions.resources.list(session_id) if one.mount_path
    ]
    # A foreign path is there as well, to the letter.
    paths = [*mounted, "/tmp/probe.csv", "/mnt/user-data/x y.csv"]
    told = run(world, client, session_id, *(f"cat '{path}'" for path in paths))
    assert told == [CSV.decode()] * 8
    (found,) = run(world, client, session_id, f"cd {UPLOADS} && find . -type f | sort")
    assert found.split("\n")[:-1] == [
        *("./data/deep/probe.csv", f"./{csv}"),
        *("./mnt/user-data/x y.csv", "./own.csv", "./probe.csv", "./tmp/probe.csv"),
    ]


def test_mounts_can_only_be_read(world: World, client: anthropic.Anthropic, csv: str) -> None:
    session_id = session_with(world, client, (csv, "prices.csv"))
    path = f"{UPLOADS}/prices.csv"
    commands = [
        f"echo x >> {path}",
        f"rm -f {path}",
        f"mv {path} {UPLOADS}/other",
        f"chmod 777 {path}",
        f"touch {UPLOADS}/new",
        f"rm -rf {UPLOADS}",
    ]
    told = run(world, client, session_id, *commands, f"cat {path}")
    assert all(one.startswith("ERROR ") for one in told[:-1]), told
    assert told[-1] == CSV.decode()
    world.model.script(
        calls(("write", {"file_path": path, "content": "x"})),
        calls(("edit", {"file_path": path, "old_string": "oats", "new_string": "x"})),
        calls(("read", {"file_path": path, "view_range": [1, 2]})),
        text("done"),
    )
    told = results(turn(client, session_id, "again"))
    assert [one.startswith("ERROR ") for one in told] == [True, True, False]
    assert told[-1] == "1\titem,price\n2\toats,7"
    # Neither the copy nor what it was made of has changed.
    other = session_with(world, client, (csv, "prices.csv"))
    assert run(world, client, other, f"cat {path}") == [CSV.decode()]


def test_mounts_come_and_go_between_turns(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    api = client.beta.sessions.resources
    session_id = world.session(tools=[TOOLSET])
    look = f"ls {UPLOADS}; cd /tmp; echo $((turns += 1))"
    assert run(world, client, session_id, look) == ["1\n"]
    first = api.add(session_id, type="file", file_id=csv, mount_path="first.csv")
    second = api.add(session_id, type="file", file_id=csv, mount_path="second.csv")
    # At once, in the sandbox and in the shell that is there already.
    assert run(world, client, session_id, look) == ["first.csv\nsecond.csv\n2\n"]
    api.delete(first.id, session_id=session_id)
    assert run(world, client, session_id, look) == ["second.csv\n3\n"]
    # The path is free again, for another file.
    other = client.beta.files.upload(file=("other.csv", b"other\n", "text/csv")).id
    again = api.add(session_id, type="file", file_id=other, mount_path="first.csv")
    told = run(world, client, session_id, f"cat {UPLOADS}/first.csv", look)
    assert told == ["other\n", "first.csv\nsecond.csv\n4\n"]
    assert list(api.list(session_id)) == [second, again]
    # Those that are listed for the session are those that are mounted.
    copies = {one.id for one in client.beta.files.list(scope_id=session_id)}
    assert copies == {second.file_id, again.file_id}


def test_mounts_come_and_go_while_a_call_runs(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    api = client.beta.sessions.resources
    session_id = world.session(tools=[TOOLSET])
    path = f"{UPLOADS}/late.csv"
    world.model.script(
        bash(
            "touch /workspace/begun"
            f"; until [ -e {path} ]; do sleep 0.01; done; cat {path}; touch /workspace/seen"
            f"; while [ -e {path} ]; do sleep 0.01; done; echo gone"
        ),
        text("done"),
    )
    folder = world.folder / "data" / "sandboxes"
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("wait")])
        wait_until(lambda: list(folder.glob(f"{session_id}/**/begun")), "the command")
        made = api.add(session_id, type="file", file_id=csv, mount_path="late.csv")
        wait_until(lambda: list(folder.glob(f"{session_id}/**/seen")), "the file inside")
        api.delete(made.id, session_id=session_id)
        events = until_idle(stream)
    assert results(events) == [f"{CSV.decode()}gone\n"]


LOST = "what is mounted is read and put in place without a lock around both"


def test_mounts_come_and_go_while_a_sandbox_starts(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    api = client.beta.sessions.resources
    seen: list[str] = []
    for moment in range(10):
        session_id = session_with(world, client, (csv, "old.csv"))
        (old,) = api.list(session_id)
        world.model.script(bash("true"), text("done"))
        with client.beta.sessions.events.stream(session_id) as stream:
            client.beta.sessions.events.send(session_id, events=[message("go")])
            time.sleep(moment * 0.003)
            api.add(session_id, type="file", file_id=csv, mount_path="new.csv")
            api.delete(old.id, session_id=session_id)
            until_idle(stream)
        seen += run(world, client, session_id, f"ls {UPLOADS}")
    assert seen == ["new.csv\n"] * 10


@pytest.mark.anyio
async def test_many_mounts_come_at_once(
    world: World,
    client: anthropic.Anthropic,
    async_client: anthropic.AsyncAnthropic,
    csv: str,
) -> None:
    api = async_client.beta.sessions.resources
    session_id = world.session(tools=[TOOLSET])
    run(world, client, session_id, "true")
    for start in range(0, 40, 8):
        async with anyio.create_task_group() as group:
            for number in range(start, start + 8):
                group.start_soon(add, api, session_id, csv, f"{number:02}.csv")
        (told,) = run(world, client, session_id, f"ls {UPLOADS}")
        assert told.split() == [f"{number:02}.csv" for number in range(start + 8)]


async def add(api: Any, session_id: str, file_id: str, path: str) -> None:
    """Mounts a file."""
    await api.add(session_id, type="file", file_id=file_id, mount_path=path)


def test_a_foreign_path_that_comes_late_is_there_for_the_next_turn(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    api = client.beta.sessions.resources
    session_id = world.session(tools=[TOOLSET])
    run(world, client, session_id, "mkdir -p /mnt/user-data && echo own > /mnt/user-data/own")
    made = api.add(session_id, type="file", file_id=csv, mount_path="/mnt/user-data/p.csv")
    (told,) = run(world, client, session_id, "cat /mnt/user-data/own /mnt/user-data/p.csv")
    assert told.endswith(f"own\n{CSV.decode()}")
    api.delete(made.id, session_id=session_id)
    gone = "test ! -e /mnt/user-data/p.csv && cat /mnt/user-data/own"
    assert run(world, client, session_id, gone)[0].endswith("own\n")


def test_a_foreign_path_that_was_given_up_is_the_agents_again(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    session_id = session_with(world, client, (csv, "/mnt/user-data/p.csv"))
    run(world, client, session_id, "echo own > /mnt/user-data/own")
    (resource,) = client.beta.sessions.resources.list(session_id)
    client.beta.sessions.resources.delete(resource.id, session_id=session_id)
    mine = "cd /mnt/user-data && echo mine > p.csv && cat p.csv && ls"
    assert run(world, client, session_id, mine)[0].endswith("mine\nown\np.csv\n")


def test_a_foreign_path_leaves_the_agents_own_file_alone(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    session_id = world.session(tools=[TOOLSET])
    run(world, client, session_id, "echo own > /workspace/p.csv")
    client.beta.sessions.resources.add(
        session_id, type="file", file_id=csv, mount_path="/workspace/p.csv"
    )
    look = f"cat /workspace/p.csv; cat {UPLOADS}/workspace/p.csv"
    assert run(world, client, session_id, look)[0].endswith(f"own\n{CSV.decode()}")


def test_a_mount_stays_when_its_upload_is_deleted(
    world: World, client: anthropic.Anthropic, csv: str
) -> None:
    session_id = session_with(world, client, (csv, "prices.csv"))
    client.beta.files.delete(csv)
    assert run(world, client, session_id, f"cat {UPLOADS}/prices.csv") == [CSV.decode()]


def test_names_that_a_shell_would_stumble_over(
    world: World, client: anthropic.Anthropic
) -> None:
    names = ["with space.txt", "it's.txt", "$(id).txt", "-rf", "ü\U0001f40e.txt", "a;b.txt"]
    ids = [client.beta.files.upload(file=("x", name.encode())).id for name in names]
    session_id = session_with(world, client, *zip(ids, names, strict=True))
    world.model.script(
        calls(*(("read", {"file_path": f"{UPLOADS}/{name}"}) for name in names)), text("done")
    )
    assert results(turn(client, session_id, "read")) == [f"1\t{name}" for name in names]
