"""What somebody does with posthouse to have an MCP server used: makes an agent and a session, sends messages,
and signs in where a session says that it was not let in.

The model is scripted by what it was shown: it calls each of the server's tools, by the names and schemas
that stand in its own request.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import httpx2

from mcp_suite import Task
from recorder import Recorder, StrictTransport
from support import calls, is_idle, message, text, wire
from world import API_KEY, MODEL, World, binary, check_log

# How long a turn may take, and a sign-in, in seconds.
PATIENCE = 30.0
# How often somebody signs in to one server before he gives up.
SIGN_INS = 3
# The agent's name for the server.
SERVER = "under_test"
# The scenarios whose servers have no tools.
WITHOUT_TOOLS = ("initialize", "request-metadata")
# The address at which the suites' authorization servers expect a client's description.
DESCRIPTION = "https://conformance-test.local/client-metadata.json"
# A client that has no other name.
DESCRIBED = "auth/basic-cimd"


class NotSignedIn(Exception):
    """`posthouse vaults connect` has failed, with what it has said."""


class User:
    """One user, one scenario."""

    def __init__(self, world: World, task: Task) -> None:
        self.world, self.task = world, task
        self.recorder = Recorder()
        transport = StrictTransport(self.recorder)
        self._http = httpx2.Client(transport=transport, timeout=PATIENCE)
        self._sdk = anthropic.Anthropic(
            base_url=world.url, api_key=API_KEY, http_client=self._http, max_retries=0
        ).beta
        # By this the scripted model tells this user's requests from others'.
        self._mark = f"mark-{secrets.token_hex(8)}"
        # What was seen and done so far.
        self._told: list[str] = []
        self._scopes: list[str] = []

    def play(self) -> tuple[bool, str]:
        """Has the session use the server until it has, and signs in as often as it takes.

        Returns whether it has, with all answers as they have to be, and what was seen.
        """
        try:
            self._play()
        except Exception as error:
            return False, "\n".join([*self._told, f"{type(error).__name__}: {error}"])
        return True, "\n".join(self._told)

    def _play(self) -> None:
        try:
            self._begin()
            refusal = self._use()
            for _ in range(SIGN_INS):
                if refusal is None:
                    break
                self._sign_in(refusal)
                refusal = self._use()
            if refusal is not None:
                raise NotSignedIn(f"still refused after {SIGN_INS} times: {refusal}")
        finally:
            problems = self._end()
            self._told += problems
        assert not problems, "an answer or the log is not as it has to be"

    # --- what is done

    def _begin(self) -> None:
        self._vault = self._sdk.vaults.create(display_name=self.task.scenario).id
        agent = self._sdk.agents.create(
            name="conformance",
            model=MODEL,
            system=f"You are asked by {self._mark}.",
            mcp_servers=[{"type": "url", "name": SERVER, "url": self.task.server}],
            tools=[
                {
                    "type": "mcp_toolset",
                    "mcp_server_name": SERVER,
                    "default_config": {"permission_policy": {"type": "always_allow"}},
                }
            ],
            extra_body={"posthouse": {"mcp_elicitation": "defaults"}},
        )
        made = self._sdk.sessions.create(
            agent=agent.id, environment_id=self.world.environment(), vault_ids=[self._vault]
        )
        self._session = made.id

    def _use(self) -> str | None:
        """Two turns: the model sees the tools, the model calls them. Returns with what the session was
        not let in, if it was not."""
        self._script(text("I have seen them."))
        refusal = self._turn("Look at your tools.")
        if refusal is not None:
            return refusal
        wanted = self._wanted()
        if not wanted:
            assert self.task.scenario in WITHOUT_TOOLS, "the model sees no tools"
            return None
        self._script(calls(*wanted), text("I have called them."))
        return self._turn("Call them.")

    def _script(self, *replies: dict[str, Any]) -> None:
        when = {"system_contains": self._mark}
        self.world.model.append(*({**reply, "when": when} for reply in replies))

    def _turn(self, words: str) -> str | None:
        refusal: str | None = None
        end = time.monotonic() + PATIENCE
        with self._sdk.sessions.events.stream(self._session) as stream:
            self._sdk.sessions.events.send(self._session, events=[message(words)])
            for event in stream:
                refusal = self._note(wire(event)) or refusal
                if is_idle(event):
                    return refusal
                assert time.monotonic() < end, f"no rest within {PATIENCE:g} s: {self._told}"
        raise AssertionError(f"the stream has ended: {self._told}")

    def _note(self, event: dict[str, Any]) -> str | None:
        """Keeps what an event says; returns the message when it is that the session was not let in."""
        kind = event["type"]
        if kind == "session.error":
            error = event["error"]
            self._told.append(f"{error['type']}: {error['message']}")
            assert error["type"] == "mcp_authentication_failed_error", error
            return str(error["message"])
        elif kind == "agent.mcp_tool_use":
            assert event["mcp_server_name"] == SERVER, event
            self._told.append(f"calls {event['name']} with {event['input']}")
        elif kind == "agent.mcp_tool_result":
            said = [block.get("text", block["type"]) for block in event["content"]]
            self._told.append(f"{'error' if event['is_error'] else 'result'}: {said}")
        return None

    def _sign_in(self, refusal: str) -> None:
        """Does what the session's error says that helps."""
        told = re.search(r"`posthouse vaults connect (\S+) URL(?: --scope \"([^\"]*)\")?`", refusal)
        assert told is not None and told[1] == self._vault, refusal
        arguments = [self._vault, self.task.server, *self._as_whom()]
        self._scopes += [one for one in (told[2] or "").split() if one not in self._scopes]
        if told[2]:
            arguments += ["--scope", " ".join(self._scopes)]
        self._told.append(connect(self.world, arguments, self._secret()))

    def _as_whom(self) -> list[str]:
        """The options that say which client asks."""
        context = self.task.context
        if self.task.scenario == DESCRIBED:
            return ["--client-id", DESCRIPTION]
        options: list[str] = []
        if "client_id" in context:
            options += ["--client-id", context["client_id"]]
        if "client_secret" in context:
            options += ["--client-secret-env", "CLIENT_SECRET"]
        if self.task.scenario.startswith("auth/client-credentials"):
            options.append("--client-credentials")
        if "private_key_pem" in context:
            key = Path(tempfile.mkdtemp(dir=self.world.folder)) / "key.pem"
            key.write_text(context["private_key_pem"])
            algorithm = context["signing_algorithm"]
            options += ["--private-key-file", str(key), "--algorithm", algorithm]
        return options

    def _secret(self) -> dict[str, str]:
        secret = self.task.context.get("client_secret")
        return {} if secret is None else {"CLIENT_SECRET": secret}

    # --- what the model calls

    def _wanted(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls that the scenario wants, by the model's names of the tools."""
        requests = (body for body in self.world.model.requests() if self._mark in str(body))
        *_, newest = requests
        tools = {one["name"]: one["input_schema"] for one in newest.get("tools", [])}
        self._told.append(f"the model sees {sorted(tools)}")
        named = self.task.context.get("toolCalls")
        if named is None:
            schemas = {_own_name(name): schema for name, schema in tools.items()}
            return [(name, _fitting(schema, schemas)) for name, schema in tools.items()]
        wanted = [(f"mcp__{SERVER}__{one['name']}", one["arguments"]) for one in named]
        assert all(name in tools for name, _ in wanted), (wanted, tools)
        return wanted

    def _end(self) -> list[str]:
        """Returns what was wrong with anything. With the session its connection ends, for which some
        of the suite's servers wait."""
        problems: list[str] = []
        for session in self.recorder.sessions:
            problems += check_log(self.world.log(session))
            self._sdk.sessions.delete(session)
        self._http.close()
        return [*problems, *self.recorder.problems]


def _own_name(name: str) -> str:
    return name.removeprefix(f"mcp__{SERVER}__")


def _fitting(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """An input with what a schema requires. Where a schema is wanted it is that of the tool that the
    suite looks at, as the model was shown it."""
    examples: dict[str, Any] = {
        "number": 1.5,
        "integer": 1,
        "string": "test",
        "boolean": True,
        "object": schemas.get("json_schema_2020_12_tool", {}),
        "array": [],
    }
    members = schema.get("properties", {})
    required = schema.get("required", [])
    return {name: examples[members[name].get("type", "string")] for name in required}


def connect(world: World, arguments: list[str], variables: dict[str, str]) -> str:
    """Runs `posthouse vaults connect`, follows the address that it prints as a browser does whose user
    agrees, and returns what it has said."""
    command = [
        *(binary("POSTHOUSE_BIN", "posthouse"), "vaults", "connect", "--no-browser"),
        *("--data", str(world.folder / "data"), "--config", str(world.folder / "config.toml")),
        *arguments,
    ]
    process = subprocess.Popen(
        command,
        env={**world.variables(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    late = threading.Timer(PATIENCE, process.kill)
    late.start()
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith(("http://", "https://")):
                said.append(_agree(line.strip()))
        status = process.wait()
    finally:
        late.cancel()
        process.kill()
        process.wait()
    if status != 0:
        raise NotSignedIn(f"status {status}: {' | '.join(said)}")
    return " | ".join(said)


def _agree(address: str) -> str:
    """Opens an address and goes where it leads: to a port of this machine."""
    with httpx2.Client(timeout=PATIENCE) as browser:
        page = browser.get(address)
        back = page.headers.get("location")
        if back is None:
            raise NotSignedIn(f"{address} leads nowhere: {page.status_code} {page.text[:500]}")
        assert back.startswith("http://127.0.0.1:"), back
        return f"{page.status_code}, then {browser.get(back).status_code}"
