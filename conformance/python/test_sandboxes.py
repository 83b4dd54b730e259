"""`/posthouse/v1/sandboxes`: when a sandbox lives, how it is shown, and how it is ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support import (
    ASKING_TOOLSET,
    TOOLSET,
    WEATHER,
    asked,
    bash,
    calls,
    confirm,
    call_ids,
    message,
    rested,
    results,
    started,
    story,
    take_until,
    text,
    turn,
    until_idle,
)
from world import BOUND, World, wait_until

TAIL = "0123456789abcdefABCDEF01"


def sandboxes(world: World) -> dict[str, dict[str, Any]]:
    """Those that live, by their sessions."""
    response = world.raw().get("/posthouse/v1/sandboxes")
    assert response.status_code == 200, response.text
    return {one["session_id"]: one for one in response.json()["data"]}


def kill(world: World, session_id: str) -> bool:
    """Ends one; says whether there was one."""
    response = world.raw().post(f"/posthouse/v1/sandboxes/{session_id}/kill", json={})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer == {
        "type": "sandbox_killed",
        "session_id": session_id,
        "was_live": answer["was_live"],
    }
    return bool(answer["was_live"])


def is_alive(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def folder_of(world: World, session_id: str) -> list[Path]:
    """What a session has on disk."""
    return list((world.folder / "data" / "sandboxes").glob(f"*{session_id}*"))


def test_a_sandbox_is_shown_in_full(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash("true"), bash("true"), text("done"))
    turn(client, session_id, "go")
    shown = sandboxes(world)[session_id]
    # The types of all fields are checked beneath.
    assert shown["type"] == "sandbox"
    assert (shown["calls"], shown["busy"]) == (2, False)
    assert is_alive(shown["pid"])
    isolation = shown["isolation"]
    assert (isolation["technology"], isolation["seccomp"]) == ("namespaces", True)
    assert shown["limits"] == {
        "memory": 2 << 30,
        "processes": 512,
        "cpus": 2.0,
        "disk": 10 << 30,
        "entries": 1_000_000,
        "open_files": 4096,
        "file_size": 10 << 30,
        "call_seconds": 1800,
    }
    assert (shown["allowlist"], shown["passthrough"]) == (None, [])
    turn_before = shown["started_at"]
    world.model.script(bash("true"), text("done"))
    turn(client, session_id, "again")
    again = sandboxes(world)[session_id]
    assert (again["pid"], again["started_at"], again["calls"]) == (shown["pid"], turn_before, 3)


def records(world: World, session_id: str, query: str = "") -> list[dict[str, Any]]:
    """What a session's sandboxes have done, the newest first."""
    response = world.raw().get(f"/posthouse/v1/sandboxes/{session_id}/records{query}")
    assert response.status_code == 200, response.text
    assert response.json()["next_page"] is None
    found: list[dict[str, Any]] = response.json()["data"]
    assert all(one["session_id"] == session_id for one in found)
    return found


def test_the_list_that_is_shown_is_the_one_that_was_asked_for(
    world: World, client: anthropic.Anthropic
) -> None:
    hosts = ["API.example.com", "*.example.org", "10.1.2.3"]
    networking: Any = {"type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": True}
    environment = client.beta.environments.create(
        name="limited",
        config={"type": "cloud", "networking": networking},
        extra_body={"posthouse": {"passthrough_hosts": ["pinned.example.com"]}},
    )
    session_id = world.session(environment=environment.id, tools=[TOOLSET])
    world.model.script(bash("true"), text("done"))
    turn(client, session_id, "go")
    listed = [{"host": host, "rule": "allowed_hosts"} for host in hosts]
    listed.append({"host": "pinned.example.com", "rule": "passthrough"})
    shown = sandboxes(world)[session_id]
    assert (shown["allowlist"], shown["passthrough"]) == (listed, ["pinned.example.com"])
    # What a sandbox was made with is written down, and holds the same.
    (made,) = records(world, session_id, "?types[]=sandbox")
    same = ("allowlist", "passthrough", "isolation", "limits")
    assert {name: made[name] for name in same} == {name: shown[name] for name in same}
    # A change of the environment is for sessions to come.
    client.beta.environments.update(
        environment.id,
        config={"type": "cloud", "networking": {"type": "limited", "allow_package_managers": True}},
    )
    kill(world, session_id)
    world.model.script(bash("true"), text("done"))
    turn(client, session_id, "again")
    assert sandboxes(world)[session_id]["allowlist"] == listed
    assert len(records(world, session_id, "?types[]=sandbox")) == 2
    later = world.session(environment=environment.id, tools=[TOOLSET])
    world.model.script(bash("true"), text("done"))
    turn(client, later, "go")
    managers = [one for one in sandboxes(world)[later]["allowlist"] if one not in listed]
    assert {"host": "pypi.org", "rule": "package_managers"} in managers
    assert {one["rule"] for one in managers} == {"package_managers"}


def test_who_wants_no_tool_has_no_sandbox(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[TOOLSET, WEATHER])
    world.model.script(text("hello"), calls(("weather", {"city": "Rome"})))
    turn(client, session_id, "hi")
    turn(client, session_id, "and the weather?")
    assert session_id not in sandboxes(world)
    assert folder_of(world, session_id) == []
    assert kill(world, session_id) is False


def test_it_starts_while_the_model_still_speaks(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(tools=[TOOLSET])
    use = {"tool_use": {"name": "bash", "input": {"command": "echo run"}}}
    world.model.script({"steps": [{"text": "well"}, use, {"stall": True}]})
    client.beta.sessions.events.send(session_id, events=[message("go")])
    shown = wait_until(lambda: sandboxes(world).get(session_id), "the sandbox")
    assert world.status(session_id) == "running"
    assert (shown["calls"], shown["busy"]) == (0, False)


def test_a_kill_ends_a_call_and_everything_in_it(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash("echo kept > kept; setsid sleep 600 & touch begun; sleep 601"))
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("go")])
        events = take_until(stream, lambda event: event.type == "span.model_request_end")
        folder = world.folder / "data" / "sandboxes"
        wait_until(lambda: list(folder.glob(f"{session_id}/**/begun")), "the command")
        shown = sandboxes(world)[session_id]
        assert (shown["calls"], shown["busy"]) == (1, True)
        assert kill(world, session_id) is True
        # Whoever is told that it is gone can rely on that.
        assert not is_alive(shown["pid"])
        assert session_id not in sandboxes(world)
        events += until_idle(stream)
    assert story(events) == [
        *started("go"),
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(error)",
        "user.interrupt",
        *rested(),
    ]
    assert kill(world, session_id) is False
    # The next turn has a new one, with the files of before.
    world.model.script(bash("cat kept"), text("still here"))
    (told,) = results(turn(client, session_id, "go on"))
    note, kept = told.splitlines()
    assert note.startswith("[") and kept == "kept"
    assert sandboxes(world)[session_id]["pid"] != shown["pid"]


def test_a_kill_at_rest_says_nothing_in_the_log(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash("true"), text("done"))
    turn(client, session_id, "go")
    before = world.log(session_id)
    assert kill(world, session_id) is True
    assert world.log(session_id) == before
    assert world.status(session_id) == "idle"


def test_a_kill_leaves_an_open_question_open(world: World, client: anthropic.Anthropic) -> None:
    session_id = world.session(tools=[ASKING_TOOLSET])
    world.model.script(
        calls(("glob", {"pattern": "*"})), bash("echo ran"), text("done")
    )
    events = turn(client, session_id, "go")
    assert kill(world, session_id) is True
    assert world.status(session_id) == "idle"
    told = results(turn(client, session_id, *(confirm(call) for call in call_ids(events))))
    assert told[-1].endswith("ran\n")


def test_others_go_on(world: World, client: anthropic.Anthropic) -> None:
    one, other = world.session(tools=[TOOLSET]), world.session(tools=[TOOLSET])
    world.model.script(bash("export KEPT=yes"), text("done"), bash("export KEPT=yes"), text("done"))
    turn(client, one, "go")
    turn(client, other, "go")
    assert {one, other} <= set(sandboxes(world))
    assert kill(world, one) is True
    assert other in sandboxes(world)
    world.model.script(bash("echo $KEPT"), text("done"))
    assert results(turn(client, other, "go on")) == ["yes\n"]


def test_a_session_takes_its_sandbox_and_files_with_it(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash("sleep 600 &"), text("done"))
    turn(client, session_id, "go")
    pid = sandboxes(world)[session_id]["pid"]
    assert folder_of(world, session_id)
    client.beta.sessions.delete(session_id)
    assert session_id not in sandboxes(world)
    assert not is_alive(pid)
    assert folder_of(world, session_id) == []


def test_it_goes_when_nobody_needs_it(make_world: Any) -> None:
    world = make_world("[sandbox]\nwarm_seconds = 1\n")
    client = world.client()
    session_id = world.session(tools=[TOOLSET])
    world.model.script(bash("cd /tmp; pwd > where; sleep 600 &"), text("done"))
    turn(client, session_id, "go")
    pid = sandboxes(world)[session_id]["pid"]
    wait_until(lambda: sandboxes(world) == {}, "it is gone")
    wait_until(lambda: not is_alive(pid), "its process is gone")
    world.model.script(bash("pwd; cat /tmp/where"), text("done"))
    (told,) = results(turn(client, session_id, "and now?"))
    note, *rest = told.splitlines()
    assert note.startswith("[") and rest == ["/workspace", "/tmp"]


def test_a_limit_of_the_operator_holds(make_world: Any) -> None:
    world = make_world('[sandbox]\ncall_seconds = 1\nfile_size = "1MiB"\nprocesses = 32\n')
    client = world.client()
    session_id = world.session(tools=[TOOLSET])
    world.model.script(
        bash("head -c 2000000 /dev/zero > big; stat -c %s big"),
        bash("for i in $(seq 100); do sleep 600 & done; echo started"),
        bash("sleep 600", "echo alive"),
        text("done"),
    )
    told = results(turn(client, session_id, "go"))
    assert told[0].endswith("1048576\n")
    assert "Resource temporarily unavailable" in told[1]
    assert "timed out after 1000 ms" in told[2]
    assert told[3].endswith("alive\n")
    limits = sandboxes(world)[session_id]["limits"]
    assert (limits["call_seconds"], limits["file_size"], limits["processes"]) == (1, 1 << 20, 32)


def test_a_started_server_has_none(mortal: World) -> None:
    client = mortal.client()
    session_id = mortal.session(tools=[TOOLSET])
    mortal.model.script(bash("sleep 600 &"), text("done"))
    turn(client, session_id, "go")
    pid = sandboxes(mortal)[session_id]["pid"]
    mortal.kill()
    end = time.monotonic() + BOUND
    while is_alive(pid):
        assert time.monotonic() < end, "the sandbox outlives its server"
        time.sleep(0.01)
    mortal.start()
    assert sandboxes(mortal) == {}


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/posthouse/v1/sandboxes/sesn_{}/kill", 404, "Session not found."),
        ("POST", "/posthouse/v1/sandboxes/x/kill", 400, "Invalid session ID."),
        ("POST", "/posthouse/v1/sandboxes/{session}/kill?a=1", 400, "a"),
        ("GET", "/posthouse/v1/sandboxes?limit=1", 400, "limit"),
        ("DELETE", "/posthouse/v1/sandboxes", 405, ""),
        ("GET", "/posthouse/v1/sandboxes/sesn_{}/records", 404, "Session not found."),
        ("GET", "/posthouse/v1/sandboxes/x/records", 400, "Invalid session ID."),
        ("GET", "/posthouse/v1/sandboxes/{session}/records?types[]=all", 400, "types"),
        ("GET", "/posthouse/v1/sandboxes/{session}/records?limit=0", 400, "limit"),
        ("POST", "/posthouse/v1/sandboxes/{session}/records", 405, ""),
        ("GET", "/posthouse/v1/sandboxes/{session}", 404, ""),
    ],
)
def test_what_can_not_be_asked(
    world: World, method: str, path: str, status: int, words: str
) -> None:
    address = path.replace("{session}", world.session()).format(TAIL)
    response = world.raw().request(method, address)
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["message"]


def test_a_kill_takes_no_fields(world: World) -> None:
    address = f"/posthouse/v1/sandboxes/{world.session()}/kill"
    response = world.raw().post(address, json={"force": True})
    assert response.status_code == 400
    assert 'unknown field "force"' in response.json()["error"]["message"]


def test_a_kill_takes_no_idempotency_key(world: World) -> None:
    address = f"/posthouse/v1/sandboxes/{world.session()}/kill"
    response = world.raw().post(address, json={}, headers={"idempotency-key": "k"})
    assert response.status_code == 400
    assert "Idempotency-Key: can't be honoured" in response.json()["error"]["message"]


def test_who_has_no_sandbox_has_no_records(world: World) -> None:
    assert records(world, world.session()) == []


def test_nobody_without_a_key(world: World) -> None:
    stranger = world.raw(key=None)
    assert stranger.get("/posthouse/v1/sandboxes").status_code == 401
    path = f"/posthouse/v1/sandboxes/{world.session()}/records"
    assert stranger.get(path).status_code == 401
    path = f"/posthouse/v1/sandboxes/{world.session()}/kill"
    assert stranger.post(path, json={}).status_code == 401
