"""MCP servers that run in the session's sandbox and speak over their input and output: one made with the
official SDK, and small ones written by hand, good and bad.
"""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

from door import UPLOADS
from mcp_servers import (
    PEER,
    Place,
    errors,
    new_world,
    of_kind,
    offered,
    origins,
    place,
    ports,
    results,
    servers,
)
from support import INTERRUPT, TOOLSET, asked, bash, calls, rested, started, story, text, wire
from support import results as sandbox_results
from told import Told
from world import wait_until

CONNECTION = "mcp_connection_failed_error"
COUNT = ("mcp__local__count", {})
# What the SDK needs; native parts included.
_PACKAGES = (
    *("mcp", "mcp_types", "anyio", "pydantic", "pydantic_core", "annotated_types", "starlette"),
    *("sse_starlette", "uvicorn", "httpx2", "httpcore2", "opentelemetry", "idna", "sniffio", "click"),
    *("python_multipart", "typing_inspection", "jwt", "jsonschema", "jsonschema_specifications"),
    *("referencing", "attr", "attrs", "rpds", "h11", "truststore", "cryptography"),
)

# A server that is as small as one can be. It counts, says what it sees, and does as it is told.
SMALL = r"""
import json, os, subprocess, sys, time
count = 0
def text(said): return {"content": [{"type": "text", "text": said}]}
def say(value): sys.stdout.write(json.dumps(value) + "\n"); sys.stdout.flush()
names = ["count", "see", "die", "wait", "child", "noise", "flood"]
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        if message["method"] == "notifications/cancelled": open("/tmp/cancelled", "a").write("x")
        continue
    method, result = message["method"], None
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "small", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": one, "inputSchema": {"type": "object"}} for one in names]}
    elif method == "tools/call":
        name = message["params"]["name"]
        if name == "count":
            count += 1
            result = text(str(count))
        elif name == "see":
            seen = {"variables": dict(os.environ), "folder": os.getcwd(), "user": os.getuid(),
                    "descriptors": sorted(os.listdir("/proc/self/fd")), "pid": os.getpid()}
            result = text(json.dumps(seen))
        elif name == "die":
            sys.stderr.write("it was too much\n"); sys.stderr.flush(); os._exit(3)
        elif name == "wait":
            open("/tmp/waiting", "w").close(); time.sleep(30); result = text("waited")
        elif name == "child":
            subprocess.Popen(["sleep", "12345"], start_new_session=True); result = text("born")
        elif name == "noise":
            print("this is no message"); print("{}"); print("[]"); print('"x"', flush=True)
            result = text("after the noise")
        elif name == "flood":
            while True: sys.stdout.write("x" * 65536)
    if result is None:
        say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})
    else:
        say({"jsonrpc": "2.0", "id": message["id"], "result": result})
"""
# How many of the children sleep.
SLEEPERS = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 1234[5]' || true"


@functools.cache
def packages() -> bytes:
    """The SDK with all that it needs, as one archive."""
    packed = io.BytesIO()
    site = Path(sysconfig.get_paths()["purelib"])
    kept = (".py", ".so", ".pem", ".typed", ".json", ".txt", "METADATA", "entry_points.txt")

    def only(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.isdir() or entry.name.endswith(kept):
            return None if "__pycache__" in entry.name else entry
        return None

    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name in _PACKAGES:
            if (site / name).is_dir():
                archive.add(site / name, name, filter=only)
        for path in sorted([*site.glob("_cffi_backend*.so"), *site.glob("mcp*.dist-info")]):
            archive.add(path, path.name, filter=only)
        archive.add(site / "typing_extensions.py", "typing_extensions.py")
    return packed.getvalue()


def local(command: str, *args: str, **env: str) -> dict[str, Any]:
    """A server of an agent that runs in the sandbox."""
    return {
        "type": "posthouse_stdio",
        "name": "local",
        "command": command,
        "args": list(args),
        "env": env,
    }


SMALL_SERVER = local("python3", "-c", SMALL, GREETING="hello there")


def mounted(place: Place, **files: bytes) -> dict[str, Any]:
    """What a session is made with to have these files."""
    resources = [
        {
            "type": "file",
            "file_id": place.file(name.replace("__", "."), data),
            "mount_path": name.replace("__", "."),
        }
        for name, data in files.items()
    ]
    return {"resources": resources}


def go(told: Told, *replies: dict[str, Any]) -> list[str]:
    """One turn; returns what the MCP tools have given in it."""
    before = len(told.events)
    told.world.model.script(*replies, text("done"), allow_prefix_change=True)
    told.send("go")
    told.until_idle("end_turn")
    return results(told.events[before:])


def test_a_server_of_the_official_sdk(place: Place) -> None:
    version = "import sys; print(*sys.version_info[:2])"
    found = subprocess.run(["/usr/bin/python3", "-c", version], capture_output=True, text=True)
    if found.stdout.split() != [str(one) for one in sys.version_info[:2]]:
        pytest.skip("the SDK's native parts are for another Python than the host's own")
    unpack = f"mkdir -p /tmp/sdk && tar -xzf {UPLOADS}/sdk.tar.gz -C /tmp/sdk"
    start = f"{unpack} && exec env PYTHONPATH=/tmp/sdk python3 {UPLOADS}/peer.py stdio"
    more = mounted(place, sdk__tar__gz=packages(), peer__py=PEER.read_bytes())
    told = place.told(local("sh", "-c", start), more=more, tools=(TOOLSET,))
    answers = go(
        told,
        calls(
            ("mcp__local__add", {"a": 20, "b": 22}),
            COUNT,
            ("mcp__local__blocks", {}),
            ("mcp__local__slow", {"seconds": 0.2}),
            ("mcp__local__fail", {}),
        ),
    )
    said = [one.error.message for one in of_kind(told.events, "session.error")]
    assert said == []
    assert answers[:2] == ["42", "1"] and answers[3] == "done" and answers[4].startswith("ERROR ")
    assert "some words" in answers[2] and "image" in answers[2]
    assert {"bash", "mcp__local__add"} <= set(offered(place.world, 0))
    # It is the same one in the next turn.
    assert go(told, calls(COUNT)) == ["2"]


def test_its_life(place: Place) -> None:
    """It starts with the first turn, stays between turns, and ends with its sandbox."""
    told = place.told(SMALL_SERVER, tools=(TOOLSET,))
    assert told.session_id not in place.raw.get("/posthouse/v1/sandboxes").text
    assert go(told, calls(COUNT, COUNT)) == ["1", "2"]
    assert go(told, calls(COUNT)) == ["3"]
    # Killed, it is started anew with the next turn, and its tools can be called.
    path = f"/posthouse/v1/sandboxes/{told.session_id}/kill"
    assert place.raw.post(path, json={}).status_code == 200
    assert go(told, calls(COUNT)) == ["1"]
    # Its own end is the end of that call alone.
    (died,) = go(told, calls(("mcp__local__die", {})))
    assert died.startswith("ERROR ")
    assert go(told, calls(COUNT)) == ["1"]
    seen = story(told.events)
    assert seen[: len(started("go")) + 3] == [
        *started("go"),
        "span.model_request_start",
        *["agent.mcp_tool_use(local/count,allow)"] * 2,
    ]
    told.tells(*seen)


def test_it_lives_where_the_tools_of_the_sandbox_live(place: Place) -> None:
    told = place.told(SMALL_SERVER, tools=(TOOLSET,))
    (seen,) = go(told, bash("id -u; pwd; echo $GREETING; env | sort"), calls(("mcp__local__see", {})))
    (shell,) = sandbox_results(told.events)
    user, folder, greeting, *_ = shell.split("\n")
    found = json.loads(seen)
    assert (str(found["user"]), found["folder"]) == (user, folder)
    # Its environment is its own.
    assert found["variables"]["GREETING"] == "hello there" and greeting == ""
    # Input, output, errors, and the folder that is being listed.
    assert len(found["descriptors"]) == 4, found["descriptors"]
    for name, value in found["variables"].items():
        assert "conformance-key" not in value and "scripted-model" not in value, name


def test_an_interrupt(place: Place) -> None:
    told = place.told(SMALL_SERVER, tools=(TOOLSET,))
    place.world.model.script(calls(("mcp__local__wait", {})), text("never"))
    told.send("go")
    told.until("agent.mcp_tool_use")
    told.send(INTERRUPT)
    told.until_idle("end_turn")
    assert results(told.events)[-1].startswith("ERROR ")
    assert story(told.events)[-3:] == rested()


def test_noise_is_passed_over(place: Place) -> None:
    told = place.told(SMALL_SERVER)
    assert go(told, calls(("mcp__local__noise", {}), COUNT)) == ["after the noise", "1"]
    assert errors(told.events) == []


def test_a_flood_ends_the_connection(place: Place) -> None:
    """And nothing else: the next turn has a server again."""
    told = place.told(SMALL_SERVER, tools=(TOOLSET,))
    (flood,) = go(told, calls(("mcp__local__flood", {})), bash("echo here"))
    assert flood.startswith("ERROR ") and sandbox_results(told.events) == ["here\n"]
    assert go(told, calls(COUNT)) == ["1"]


def test_children_end_with_it(place: Place) -> None:
    told = place.told(SMALL_SERVER, tools=(TOOLSET,))
    assert go(told, calls(("mcp__local__child", {})), bash(SLEEPERS)) == ["born"]
    assert int(sandbox_results(told.events)[-1]) >= 1
    go(told, calls(("mcp__local__die", {})))
    go(told, bash(f"sleep 0.5; {SLEEPERS}"))
    assert sandbox_results(told.events)[-1].strip() == "0"


FAILURES = [
    ("no such program", local("no-such-program"), "no-such-program"),
    ("ends at once", local("sh", "-c", "echo the key is missing >&2; exit 7"), "the key is missing"),
    ("says nothing", local("sleep", "60"), ""),
    ("closes its output", local("sh", "-c", "exec >&-; sleep 60"), ""),
    ("speaks of other things", local("sh", "-c", "yes hello"), ""),
    ("one endless line", local("sh", "-c", "cat /dev/zero"), ""),
    ("dies of a signal", local("sh", "-c", "kill -9 $$"), ""),
    ("much on its errors", local("sh", "-c", "yes error >&2 & sleep 0.1; kill $!; exit 1"), "error"),
]


@pytest.fixture(scope="module")
def settings() -> str:
    """Programs that do not answer are soon given up; the SDK's one takes a while to be unpacked."""
    return 'connect_seconds = 8\nlist_seconds = 3\nsilence_seconds = 3\nmessage_size = "1MiB"'


@pytest.mark.parametrize(
    ("server", "says"), [one[1:] for one in FAILURES], ids=[one[0] for one in FAILURES]
)
def test_programs_that_are_no_servers(place: Place, server: dict[str, Any], says: str) -> None:
    told = place.told(server, "two", tools=(TOOLSET,))
    place.world.model.script(
        calls(("mcp__two__echo", {"text": "fine"})), bash("echo here"), text("done")
    )
    told.send("go")
    told.until("session.error")
    told.until_idle("end_turn")
    (event,) = of_kind(told.events, "session.error")
    assert errors(told.events) == [(CONNECTION, "local")]
    assert says in event.error.message and len(event.error.message) < 2000, event.error.message
    assert results(told.events) == ["fine"] and sandbox_results(told.events) == ["here\n"]


def test_a_session_that_is_deleted_leaves_no_program(place: Place) -> None:
    told = place.told(SMALL_SERVER)
    assert go(told, calls(COUNT)) == ["1"]
    alive = place.raw.get("/posthouse/v1/sandboxes").json()["data"]
    assert told.session_id in str(alive)
    place.client.beta.sessions.delete(told.session_id)
    wait_until(
        lambda: told.session_id not in place.raw.get("/posthouse/v1/sandboxes").text, "its end"
    )


def test_the_course_is_that_of_any_server(place: Place) -> None:
    told = place.told(SMALL_SERVER)
    go(told, calls(COUNT))
    told.tells(
        *started("go"),
        *asked("agent.mcp_tool_use(local/count,allow)"),
        "agent.mcp_tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    )
