"""All kinds of providers alike: one agent file, caches that hold, keys that go nowhere else."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from providers import KEYS, KINDS, MODELS, Providers, Sent, calls_and_results, strangers
from support import WEATHER, answer, call_ids, calls, png, results, story, text, turn, wire
from world import BOUND, binary

AGENT = """
name: Any model's
model: {model}
system: Be as brief as a horse.
tools:
- type: agent_toolset_20260401
"""
IMAGE = base64.b64encode(png(5, 4)).decode()


@pytest.fixture(scope="module")
def new_world() -> Callable[[], Providers]:
    """Servers of this module have four providers and an Ollama, and say all they can."""
    return lambda: Providers(ollama=True, POSTHOUSE_LOG="trace")


def command(world: Providers, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program beside the server, with the same configuration."""
    environment = {**world.variables(), "POSTHOUSE_CONFIG": str(world.folder / "config.toml")}
    return subprocess.run(
        [binary("POSTHOUSE_BIN", "posthouse"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def test_what_is_wrong_with_a_request_is_found() -> None:
    """The checks of this suite find something where there is something."""
    own, other = KEYS["openai"][1], KEYS["gemini"][1]
    call = '{"type":"function_call","call_id":"%s"}'
    result = '{"type":"function_call_output","call_id":"%s"}'

    def sent(*entries: str, **headers: str) -> Sent:
        return Sent("openai", "/v1/responses", headers, '{"input":[%s]}' % ",".join(entries))

    right = sent(call % "a", call % "b", result % "b", result % "a", authorization=f"Bearer {own}")
    assert strangers(right) == calls_and_results(right) == []
    assert right.entries()[1] == call % "b"
    for wrong in (
        sent(authorization=f"Bearer {other}"),
        sent(authorization=own, cookie=other),
        sent(authorization=own, cookie=own),
        sent(f'"{own}"', authorization=own),
        sent(),
    ):
        assert strangers(wrong)
    for entries in (
        [call % "a"],
        [result % "a"],
        [call % "a", result % "b"],
        [call % "a", call % "a", result % "a", result % "a"],
        [call % "a", result % "a", result % "a"],
        [call % "a b", result % "a b"],
        [call % ("a" * 65), result % ("a" * 65)],
    ):
        assert calls_and_results(sent(*entries))


# --- one agent file --------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS.values(), "scripted", "ollama/scripted:8b"])
def test_the_same_agent_file_works_with_every_kind(world: Providers, model: str) -> None:
    """A text, one call, calls side by side, one that fails, and an image."""
    draw = {"command": f"echo {IMAGE} | base64 -d > /workspace/horse.png; echo drawn"}
    world.model.script(
        {"steps": [{"thinking": "hm"}, {"text": "First this."}, *calls(("bash", draw))["steps"]]},
        {
            "steps": [
                {"thinking": "and now"},
                *calls(
                    ("read", {"file_path": "/workspace/horse.png"}),
                    ("read", {"file_path": "/workspace/nothing"}),
                    ("bash", {"command": "echo out; exit 3"}),
                )["steps"],
            ]
        },
        text("All done."),
    )
    file = world.folder / "agent.yaml"
    file.write_text(AGENT.format(model=json.dumps(model)))
    done = command(world, "run", "--url", world.url, "--agent", str(file), "--json", "go")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "agent.message(First this.)" in story(events)
    assert "agent.message(All done.)" in story(events)
    first, image, missing, failed = results(events)
    assert (first.strip(), image) == ("drawn", "image")
    assert missing.startswith("ERROR ") and "out" in failed and "3" in failed
    provider = {"scripted": "ollama"}.get(model, model.split("/")[0])
    sent = world.sent()
    assert [one.provider for one in sent] == [provider] * 3
    # In the command, and as the image that it has made.
    assert sent[2].text.count(IMAGE) == 2
    assert "drawn" in sent[1].text and "/workspace/nothing" in sent[2].text


def test_all_providers_are_listed(world: Providers, client: anthropic.Anthropic) -> None:
    listed = {wire(one)["posthouse"]["provider"] for one in client.models.list()}
    assert listed == {*KINDS, "ollama"}
    assert client.models.retrieve("scripted").id == "scripted:latest"


# --- caches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", KINDS)
def test_most_of_a_long_session_comes_from_the_cache(
    world: Providers, client: anthropic.Anthropic, provider: str
) -> None:
    """Thirty turns, a call in each third."""
    session = world.session(model=MODELS[provider], tools=[WEATHER], system="Ride on. " * 400)
    lines = "The horse is fed, the rider rested, and the letters are in the bag. " * 4
    for number in range(30):
        opening = {"steps": [{"thinking": f"hm {number}"}, {"text": lines}]}
        with_call = number % 3 == 0
        if with_call:
            call = calls(("weather", {"city": f"Rome {number}"}))["steps"]
            world.model.append({"steps": [*opening["steps"], *call]}, text("Sunny."))
        else:
            world.model.append(opening)
        told = turn(client, session, f"{number}: {lines}")
        if with_call:
            (open_call,) = call_ids(told)
            turn(client, session, answer(open_call, lines))
    usage = client.beta.sessions.retrieve(session).usage
    assert usage.cache_creation is not None
    read = usage.cache_read_input_tokens
    total = read + usage.input_tokens + usage.cache_creation.ephemeral_5m_input_tokens
    print(f"{provider}: {read / total:.1%} of {total} input tokens from the cache")
    assert read / total > 0.8, (read, total)
    assert len(world.sent()) == 40


# --- keys ------------------------------------------------------------------------------------


# How each refuses in words of the provider, not of the model.
REFUSALS: dict[str, Callable[[str], Any]] = {
    "anthropic": lambda words: {
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": "cyber", "explanation": words},
    },
    "openai": lambda words: {
        "stop_reason": "failed",
        "stop_details": {"code": "cyber_policy_violation", "message": words},
    },
    "house": lambda words: {"steps": [{"text": "no"}], "stop_reason": "refusal"},
    # Its categories are none that the types of Anthropic's SDK know, which is what is checked here.
    "gemini": lambda words: text("hello"),
}


def test_no_key_is_seen_anywhere(mortal: Providers) -> None:
    """Providers repeat their keys in whatever they say, and nobody hears of it."""
    world = mortal
    client = world.client()
    for name, (_, key) in KEYS.items():
        for words in (f"Incorrect API key provided: {key}.", f"key='{key}'x"):
            world.model.script(
                {"status": 401, "message": words},
                {"steps": [{"error": {"type": "invalid_request_error", "message": words}}]},
                REFUSALS[name](words),
                text("hello"),
            )
            session = world.session(model=MODELS[name])
            for one in ("one", "two", "three", "four"):
                turn(client, session, one)
    seen = [
        *(world.own_text(session) for session in [one.id for one in client.beta.sessions.list()]),
        *(json.dumps(wire(one)) for one in client.beta.sessions.list()),
        *(json.dumps(wire(one)) for one in client.beta.agents.list()),
        *(json.dumps(wire(one)) for one in client.models.list()),
    ]
    for arguments in (["doctor"], ["models"], ["models", "--json"]):
        done = command(world, *arguments)
        seen += [done.stdout, done.stderr]
    world.stop()
    whole = (world.folder / "server.log").read_text("utf-8", "replace")
    assert "DEBUG" in whole or "TRACE" in whole
    seen.append(whole)
    assert any("[secret]" in one for one in seen)
    found = [name for name, (_, key) in KEYS.items() if any(key in one for one in seen)]
    assert found == []
    for file in (world.folder / "data").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [name for name, (_, key) in KEYS.items() if key.encode() in content], file
    world.start()


def test_each_key_goes_to_its_provider_alone(
    world: Providers, client: anthropic.Anthropic
) -> None:
    """Lists of models as well; `settle` looks at every request."""
    for name in KINDS:
        world.model.script(text("hello"))
        turn(client, world.session(model=MODELS[name]), "hi")
        (one,) = world.sent(name)
        places = [place for place, value in one.headers.items() if KEYS[name][1] in value]
        wanted = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
        assert places == [wanted.get(name, "authorization")]
    world.model.script(text("hello"))
    turn(client, world.session(model="scripted"), "hi")
    (one,) = world.sent("ollama")
    assert not {"authorization", "x-api-key", "x-goog-api-key"} & set(one.headers)
