"""The six tools in a real sandbox, as users of the SDK meet them."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import anthropic
import anyio
import pytest
from anthropic import beta_async_tool
from anthropic.lib.sessions import accumulate_managed_agents_event

from support import (
    ASKING_TOOLSET,
    INTERRUPT,
    PDF,
    RUNNING,
    TOOLSET,
    asked,
    bash,
    calls,
    confirm,
    is_idle,
    message,
    png,
    rested,
    results,
    started,
    story,
    take_until,
    text,
    turn,
    until_idle,
    wire,
)
from told import Told
from world import World, wait_until

# Counts the processes in sight that sleep.
SLEEPERS = "cat /proc/[0-9]*/comm 2>/dev/null | grep -cx sleep || true"
SCRIPT = 'import sys\nprint("Grüße,", sum(int(one) for one in sys.argv[1:]))\n'


def tool_results(world: World) -> list[dict[str, Any]]:
    """What the model has last been told of its calls."""
    content = world.model.requests()[-1]["messages"][-1]["content"]
    return [block for block in content if block["type"] == "tool_result"]


# --- what the tools do


def test_a_script_is_written_and_run(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        calls(("write", {"file_path": "/workspace/add/sum.py", "content": SCRIPT})),
        bash("python3 add/sum.py 1 2 39"),
        text("42"),
    )
    told = Told(world, client, tools=[TOOLSET])
    told.send("add them up")
    told.until_idle("end_turn")
    wrote = f"wrote {len(SCRIPT.encode())} bytes to /workspace/add/sum.py"
    assert results(told.events) == [wrote, "Grüße, 42\n"]
    result = next(event for event in told.events if event.type == "agent.tool_result")
    call = next(event for event in told.events if event.type == "agent.tool_use")
    assert wire(result) == {
        "id": result.id,
        "type": "agent.tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": wrote}],
        "is_error": False,
        "processed_at": wire(result)["processed_at"],
    }
    assert told.said() == [
        ("user", ["add them up"]),
        ("assistant", ["write"]),
        ("user", [{"ok": wrote}]),
        ("assistant", ["bash"]),
        ("user", [{"ok": "Grüße, 42\n"}]),
    ]
    told.tells(
        *started("add them up"),
        *asked("agent.tool_use(write,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(42)"),
        *rested(),
    )


@pytest.mark.anyio
async def test_asynchronously(world: World, async_client: anthropic.AsyncAnthropic) -> None:
    api = async_client.beta.sessions
    world.model.script(
        calls(("write", {"file_path": "a.txt", "content": "one\ntwo\n"})),
        calls(("read", {"file_path": "/workspace/a.txt"})),
        text("done"),
    )
    session_id = world.session(tools=[TOOLSET])
    seen: list[Any] = []
    async with await api.events.stream(session_id) as stream:
        await api.events.send(session_id, events=[message("go")])
        async for event in stream:
            seen.append(event)
            if is_idle(event):
                break
    assert results(seen) == ["wrote 8 bytes to a.txt", "1\tone\n2\ttwo"]
    listed = [event async for event in api.events.list(session_id, types=["agent.tool_result"])]
    assert [one.id for one in listed] == [
        event.id for event in seen if event.type == "agent.tool_result"
    ]


def test_six_tools(world: World, client: anthropic.Anthropic) -> None:
    notes = "/workspace/notes"
    world.model.script(
        bash(f"mkdir -p {notes}/deep && printf 'alpha\\nbeta\\ngamma\\n' > {notes}/a.md"),
        calls(
            ("write", {"file_path": f"{notes}/deep/b.md", "content": "beta too\n"}),
            ("edit", {"file_path": f"{notes}/a.md", "old_string": "alpha", "new_string": "omega"}),
        ),
        calls(
            ("read", {"file_path": f"{notes}/a.md"}),
            ("read", {"file_path": f"{notes}/a.md", "view_range": [2, 2]}),
            ("glob", {"pattern": "**/*.md", "path": notes}),
            ("glob", {"pattern": "*.rs", "path": notes}),
            ("grep", {"pattern": "^b.ta", "path": notes}),
            ("grep", {"pattern": "nothing"}),
        ),
        text("done"),
    )
    session_id = world.session(tools=[TOOLSET])
    told = results(turn(client, session_id, "go"))
    assert told[:3] == [
        "(no output)",
        f"wrote 9 bytes to {notes}/deep/b.md",
        f"edited {notes}/a.md (1 replacement(s))",
    ]
    assert told[3:5] == ["1\tomega\n2\tbeta\n3\tgamma", "2\tbeta"]
    assert sorted(told[5].split("\n")) == [f"{notes}/a.md", f"{notes}/deep/b.md"]
    assert told[6] == "No files found"
    assert sorted(told[7].split("\n")) == [
        f"{notes}/a.md:2:beta",
        f"{notes}/deep/b.md:1:beta too",
    ]
    assert told[8:] == ["No matches found"]
    # The model gets them in the order of its calls.
    assert [one["content"][0]["text"] for one in tool_results(world)] == told[3:]


def test_commands_run_in_the_order_of_their_calls(
    world: World, client: anthropic.Anthropic
) -> None:
    session_id = world.session(tools=[TOOLSET])
    for _ in range(5):
        world.model.script(
            bash("rm -f order", *(f"echo {one} >> order" for one in range(6)), "paste -sd, order"),
            text("done"),
        )
        told = results(turn(client, session_id, "count"))
        assert told == ["(no output)"] * 7 + ["0,1,2,3,4,5\n"]


def test_what_goes_wrong_is_told_to_the_model(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        bash("echo out; echo err >&2; (exit 3)"),
        calls(("bash", {"command": "sleep 30", "timeout_ms": 200})),
        calls(
            ("bash", {}),
            ("read", {"file_path": "/workspace/missing"}),
            ("edit", {"file_path": "/etc/passwd", "old_string": "root", "new_string": "me"}),
            ("write", {"file_path": "/usr/bin/mine", "content": "x"}),
            ("read", {"path": "/etc/passwd"}),
        ),
        text("so it goes"),
    )
    session_id = world.session(tools=[TOOLSET])
    told = results(turn(client, session_id, "go"))
    assert all(one.startswith("ERROR ") for one in told), told
    assert told[0] == "ERROR out\nerr\n[exit code 3]"
    assert "timed out after 200 ms" in told[1]
    assert "command is required" in told[2]
    assert "/workspace/missing" in told[3]
    assert "/etc/passwd" in told[4]
    assert "/usr/bin/mine" in told[5]
    assert "path: unknown field" in told[6]
    assert [one["is_error"] for one in tool_results(world)] == [True] * 5


def test_an_image_and_a_document_reach_the_model(
    world: World, client: anthropic.Anthropic
) -> None:
    image = png(16, 9)
    uploaded = client.beta.files.upload(file=("paper.pdf", PDF, "application/pdf"))
    encoded = base64.b64encode(image).decode()
    world.model.script(
        bash(f"echo {encoded} | base64 -d > /tmp/plot.png"),
        calls(
            ("read", {"file_path": "/tmp/plot.png"}),
            ("read", {"file_path": "/mnt/session/uploads/paper.pdf"}),
        ),
        text("I see"),
    )
    resource: Any = {"type": "file", "file_id": uploaded.id, "mount_path": "paper.pdf"}
    session_id = client.beta.sessions.create(
        agent=world.agent(tools=[TOOLSET]),
        environment_id=world.environment(),
        resources=[resource],
    ).id
    events = turn(client, session_id, "look")
    assert results(events) == ["(no output)", "image", "document"]
    uses = [event.id for event in events if event.type == "agent.tool_use"]
    shown = [event for event in events if event.type == "agent.tool_result"]
    # They stand in the log as they come.
    shown.sort(key=lambda event: uses.index(event.tool_use_id))
    wanted = [("image", "image/png", image), ("document", "application/pdf", PDF)]
    for event, sent, (kind, media, content) in zip(
        shown[1:], tool_results(world), wanted, strict=True
    ):
        (block,) = event.content
        assert (block.type, block.source.type, block.source.media_type) == (kind, "base64", media)
        assert base64.b64decode(block.source.data) == content
        (told,) = sent["content"]
        assert (told["type"], told["source"]) == (kind, wire(block)["source"])
        assert not sent.get("is_error")


def test_inputs_are_shown_as_the_model_has_written_them(
    world: World, client: anthropic.Anthropic
) -> None:
    inputs: list[tuple[str, dict[str, Any]]] = [
        ("edit", {"new_string": "ü\u2028\\", "old_string": "<&>\t", "file_path": "no/such"}),
        ("bash", {"timeout_ms": 5000, "restart": False, "command": "echo \U0001f40e"}),
        ("write", {"content": "", "file_path": "/workspace/empty"}),
        ("bash", {"command": "true", "description": "no field", "z": {"b": [1.5, None], "a": 1}}),
    ]
    world.model.script(calls(*inputs), text("done"))
    session_id = world.session(tools=[TOOLSET])
    events = turn(client, session_id, "go")
    uses = [event for event in events if event.type == "agent.tool_use"]
    listed = [one for one in world.log(session_id) if one["type"] == "agent.tool_use"]
    assert [one.id for one in uses] == [one["id"] for one in listed]
    for (name, value), use, entry in zip(inputs, uses, listed, strict=True):
        assert (use.name, use.input, entry["input"]) == (name, value, value)
        # The order of keys as well, also in depth.
        assert repr(use.input) == repr(entry["input"]) == repr(value)
    told = results(events)
    assert told[1:3] == ["\U0001f40e\n", "wrote 0 bytes to /workspace/empty"]
    assert told[0].startswith("ERROR ") and told[3].startswith("ERROR description: unknown field")


def test_a_big_result_is_kept_in_a_file(world: World, client: anthropic.Anthropic) -> None:
    numbers = [f"{one:09d}" for one in range(1, 12_001)]
    whole = "\n".join(f"{at}\t{one}" for at, one in enumerate(numbers, 1))
    world.model.script(
        bash("seq -f %09.0f 1 12000 > numbers"),
        calls(("read", {"file_path": "numbers"})),
        text("long"),
    )
    session_id = world.session(tools=[TOOLSET])
    _, told = results(turn(client, session_id, "count"))
    found = re.match(r"\[This result has (\d+) characters; all of it is in (/\S+?)\. ", told)
    assert found is not None, told[:200]
    assert int(found[1]) == len(whole) > 100_000 > len(told)
    assert whole[:50_000] in told and told.endswith(whole[-20_000:])
    assert tool_results(world)[0]["content"] == [{"type": "text", "text": told}]
    world.model.script(
        bash(f"sha256sum < {found[2]}"),
        calls(("read", {"file_path": found[2], "view_range": [12_000, 0]})),
        text("all there"),
    )
    again = results(turn(client, session_id, "is it whole?"))
    assert again == [
        f"{hashlib.sha256(whole.encode()).hexdigest()}  -\n",
        "12000\t12000\t000012000",
    ]


def test_a_shell_shows_the_end_of_what_it_prints(
    world: World, client: anthropic.Anthropic
) -> None:
    whole = "".join(f"{one}\n" for one in range(1, 40_001))
    world.model.script(bash("seq 1 40000"), text("long"))
    session_id = world.session(tools=[TOOLSET])
    (told,) = results(turn(client, session_id, "count"))
    assert told == "[output truncated]\n" + whole[-100 * 1024 :]
    assert tool_results(world)[0]["content"] == [{"type": "text", "text": told}]


def test_an_output_without_end_ends(world: World, client: anthropic.Anthropic) -> None:
    command = {"command": "yes 0123456789", "timeout_ms": 1000}
    world.model.script(calls(("bash", command)), bash("echo alive"), text("stopped"))
    session_id = world.session(tools=[TOOLSET])
    endless, after = results(turn(client, session_id, "go"))
    assert endless.startswith("ERROR ") and "timed out after 1000 ms" in endless
    assert len(endless) < 200_000
    assert after.endswith("alive\n")


# --- what stays


def test_state_stays_from_turn_to_turn(world: World, client: anthropic.Anthropic) -> None:
    notes = {"file_path": "/tmp/NOTES.md", "content": "# first turn\n"}
    world.model.script(
        bash("mkdir -p /mnt/user/data && cd /mnt/user/data"),
        bash("export COLOUR=green; f() { echo $1; }"),
        calls(("write", notes), ("bash", {"command": "pwd; echo $COLOUR > kept; f 7"})),
        text("noted"),
        calls(
            ("read", {"file_path": "/tmp/NOTES.md"}), ("read", {"file_path": "/mnt/user/data/kept"})
        ),
        bash("echo $COLOUR $PWD; echo x >> ~/x; ls /root /home"),
        text("remembered"),
    )
    session_id = world.session(tools=[TOOLSET])
    first = results(turn(client, session_id, "note it"))
    assert first[:2] == ["(no output)"] * 2
    assert first[2:] == ["wrote 13 bytes to /tmp/NOTES.md", "/mnt/user/data\n7\n"]
    second = results(turn(client, session_id, "and now?"))
    assert second[:2] == ["1\t# first turn", "1\tgreen"]
    assert second[2] == "green /mnt/user/data\n/home:\nagent\n\n/root:\n"


def test_files_outlive_the_server_and_processes_do_not(mortal: World) -> None:
    client = mortal.client()
    mortal.model.script(
        bash("cd /tmp; echo kept > a; export GONE=1; sleep 600 & echo $!"),
        text("ok"),
        bash(f"cat /tmp/a; echo $GONE$PWD; {SLEEPERS}"),
        text("ok"),
    )
    session_id = mortal.session(tools=[TOOLSET])
    turn(client, session_id, "one")
    mortal.restart()
    (told,) = results(turn(client, session_id, "two"))
    note, *rest = told.splitlines()
    assert note.startswith("[") and note.endswith("]"), told
    assert rest == ["kept", "/workspace", "0"]


def test_sessions_do_not_see_each_other(world: World, client: anthropic.Anthropic) -> None:
    look = "cat /workspace/secret /tmp/secret /mnt/secret; ls -A /workspace /tmp"
    world.model.script(
        bash("for d in /workspace /tmp /mnt ~; do echo mine > $d/secret; done; sleep 600 &"),
        text("hidden"),
        bash(look, SLEEPERS),
        text("nothing"),
        allow_prefix_change=True,
    )
    one, other = world.session(tools=[TOOLSET]), world.session(tools=[TOOLSET])
    turn(client, one, "hide")
    found, sleepers = results(turn(client, other, "seek"))
    assert "mine" not in found
    assert found.count("No such file or directory") == 3
    assert sleepers == "0\n"


# --- a word to say


def test_a_call_waits_for_its_word(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        bash("echo ran >> /workspace/log; echo hello", "echo never >> /workspace/log"),
        calls(("read", {"file_path": "/workspace/log"})),
        text("done"),
    )
    told = Told(world, client, tools=[ASKING_TOOLSET])
    told.send("go")
    told.until_idle("requires_action")
    first, second = told.calls()
    told.send(confirm(first))
    told.until_idle("requires_action")
    assert told.calls() == [second]
    told.send(confirm(second, "deny", deny_message="not that"))
    told.until_idle("end_turn")
    allowed, denied, log = results(told.events)
    assert allowed == "hello\n"
    assert denied.startswith("ERROR ") and "not that" in denied
    # What was allowed ran once, what was refused never.
    assert log == "1\tran"
    assert told.said()[2] == ("user", [{"ok": "hello\n"}, {"error": denied.removeprefix("ERROR ")}])


def test_a_word_that_never_comes_runs_nothing(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        bash("echo ran > /workspace/log"),
        calls(("glob", {"pattern": "*"})),
        text("done"),
    )
    session_id = world.session(tools=[ASKING_TOOLSET])
    turn(client, session_id, "go")
    turn(client, session_id, INTERRUPT)
    told = results(turn(client, session_id, "what is there?"))
    assert told == ["No files found"]


# --- an end to it


def test_an_interrupt_ends_what_runs(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        bash("echo begun > /workspace/begun; (sleep 601; echo late > late) & sleep 602; echo over"),
        bash(f"ls; {SLEEPERS}"),
        text("gone"),
    )
    session_id = world.session(tools=[TOOLSET])
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("sleep")])
        take_until(stream, lambda event: event.type == "span.model_request_end")
        begun = world.folder / "data" / "sandboxes"
        wait_until(lambda: list(begun.glob(f"{session_id}/**/begun")), "the command")
        client.beta.sessions.events.send(session_id, events=[INTERRUPT])
        events = until_idle(stream)
    (told,) = results(events)
    assert told.startswith("ERROR ") and "interrupted" in told
    assert story(events)[-1] == "session.status_idle(end_turn)"
    (after,) = results(turn(client, session_id, "and now?"))
    assert after.splitlines()[-2:] == ["begun", "0"]


def test_a_message_meanwhile_waits_for_the_result(
    world: World, client: anthropic.Anthropic
) -> None:
    world.model.script(
        bash("until [ -e /workspace/go ]; do sleep 0.02; done; echo awake"), text("both seen")
    )
    session_id = world.session(tools=[TOOLSET])
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("wait")])
        take_until(stream, lambda event: event.type == "span.model_request_end")
        client.beta.sessions.events.send(session_id, events=[message("one more thing")])
        folder = world.folder / "data" / "sandboxes"
        (workspace,) = wait_until(lambda: workspaces(folder, session_id), "the sandbox")
        (workspace / "go").write_text("")
        events = until_idle(stream)
    assert story(events) == [
        "agent.tool_result(ok)",
        "user.message(one more thing)",
        *asked("agent.message(both seen)"),
        *rested(),
    ]
    last = world.model.requests()[-1]["messages"][-1]["content"]
    assert [block["type"] for block in last] == ["tool_result", "text"]


def workspaces(folder: Any, session_id: str) -> list[Any]:
    """Where a session's working directory is on disk."""
    return list(folder.glob(f"{session_id}/tree/workspace"))


# --- beside other things


def test_the_accumulator_meets_tools(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        {
            "steps": [
                {"text": "let me look around", "chunk": 4, "pause_ms": 1},
                {"tool_use": {"name": "bash", "input": {"command": "echo here"}}},
            ]
        },
        text("I was there", when={"has_tool_result_for": "bash"}),
    )
    session_id = world.session(tools=[TOOLSET])
    with client.beta.sessions.events.stream(session_id, event_deltas=["agent.message"]) as stream:
        client.beta.sessions.events.send(session_id, events=[message("go")])
        events = until_idle(stream)
    grown: dict[str, Any] = {}
    snapshot: Any = None
    for event in events:
        snapshot = accumulate_managed_agents_event(snapshot, event)
        if snapshot is not None and snapshot.type == "agent.message":
            grown[snapshot.id] = "".join(block.text for block in snapshot.content)
    assert list(grown.values()) == ["let me look around", "I was there"]
    assert [one.id for one in events if one.type == "agent.message"] == list(grown)
    without = [event for event in events if not event.type.startswith("event_")]
    assert story(without) == [
        *started("go"),
        *asked("agent.message(let me look around)", "agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(I was there)"),
        *rested(),
    ]


@pytest.mark.anyio
async def test_the_tool_runner_beside_the_sandbox(
    world: World, async_client: anthropic.AsyncAnthropic
) -> None:
    @beta_async_tool
    async def price(item: str) -> str:
        """Says what something costs.

        Args:
            item: What.
        """
        while world.status(session_id) != "idle":
            await anyio.sleep(0.01)
        return f"{item} costs 7"

    declared = price.to_dict()
    custom = {
        "type": "custom",
        **{name: declared[name] for name in ("name", "description", "input_schema")},
    }
    world.model.script(
        calls(("bash", {"command": "echo 6 > n; cat n"}), ("price", {"item": "oats"})),
        bash("echo $(($(cat n) * 7))"),
        text("42"),
    )
    session_id = world.session(tools=[TOOLSET, custom])
    await async_client.beta.sessions.events.send(session_id, events=[message("reckon")])
    done: list[Any] = []
    with anyio.fail_after(20):
        runner = async_client.beta.sessions.events.tool_runner(
            session_id, tools=[price], max_idle=0.3
        )
        async for call in runner:
            done.append(call)
    assert [(one.name, one.is_error) for one in done if one.posted] == [("price", False)]
    log = world.log(session_id)
    assert results(log) == ["6\n", "42\n"]
    told = story(log)
    assert told == [
        *started("reckon"),
        *asked("agent.tool_use(bash,allow)", "agent.custom_tool_use(price)"),
        "agent.tool_result(ok)",
        *rested("requires_action"),
        "user.custom_tool_result",
        *RUNNING,
        *asked("agent.tool_use(bash,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(42)"),
        *rested(),
    ]
    sent = world.model.requests()[1]["messages"][-1]["content"]
    assert [block["content"][0]["text"] for block in sent] == ["6\n", "oats costs 7"]


def test_a_tool_that_is_off_is_neither_offered_nor_run(
    world: World, client: anthropic.Anthropic
) -> None:
    toolset = {**TOOLSET, "configs": [{"name": "bash", "enabled": False}]}
    world.model.script(
        bash("echo ran > /workspace/log"), calls(("glob", {"pattern": "*"})), text("none")
    )
    session_id = world.session(tools=[toolset])
    events = turn(client, session_id, "go")
    offered = [one["name"] for one in world.model.requests()[0]["tools"]]
    assert offered == ["read", "write", "edit", "glob", "grep", "web_fetch"]
    refused, found = results(events)
    assert refused.startswith("ERROR ") and found == "No files found"
