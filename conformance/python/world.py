"""A server, a scripted model behind it, and SDK clients in front: what the tests stand on.

Processes listen on free loopback ports and keep their data in temporary folders. Every wait has a
bound.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2

from recorder import AsyncStrictTransport, Meddle, Recorder, StrictTransport

# How long anything may take before a test gives up on it, in seconds.
BOUND = 10.0
API_KEY = "conformance-key"
# A model with thinking, effort and system messages in the middle of a conversation.
MODEL = "claude-opus-5"
# A model that takes no system messages in the middle of a conversation.
MODEL_WITHOUT_SYSTEM_MESSAGES = "claude-opus-4-6"

_ROOT = Path(__file__).resolve().parents[2]


def binary(variable: str, name: str) -> str:
    """The path of a program: from the environment, or where cargo puts it."""
    path = Path(os.environ.get(variable) or _ROOT / "target" / "debug" / name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; build it, or set {variable}")
    return str(path)


def wait_until(condition: Callable[[], Any], what: str, bound: float = BOUND) -> Any:
    """Asks again and again until the answer is true, and returns it."""
    end = time.monotonic() + bound
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {bound:g} s")


class Program:
    """A child process that says where it listens."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._errors = log.open("ab")
        # The whole environment is given: nothing of the tester's own settings gets in.
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._lines: list[str] = []
        self._url: str | None = None
        self._said = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._said.wait(BOUND) or self._url is None:
            self.kill()
            raise RuntimeError(f"{command[0]} does not listen: {self._lines} {self.errors()}")
        self.url: str = self._url

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace")
            self._lines.append(line.rstrip())
            found = re.search(r"listening on (http://[0-9.:]+)", line)
            if found and self._url is None:
                self._url = found[1]
                self._said.set()
        self._said.set()

    def errors(self) -> str:
        """The last of what it has written to standard error."""
        return self.log.read_text("utf-8", "replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.process.kill()
        self._gone()

    def stop(self) -> int:
        """SIGTERM, and waits until it is gone; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._gone()

    def _gone(self) -> int:
        status = self.process.wait(timeout=2 * BOUND)
        self._reader.join(BOUND)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
        return status


class ScriptedModel:
    """The testkit's model server, steered over HTTP."""

    def __init__(self, folder: Path) -> None:
        command = [binary("POSTHOUSE_SCRIPTED_MODEL_BIN", "posthouse-scripted-model")]
        self._program = Program(command, {"PATH": os.defpath}, folder / "model.log")
        self.url = self._program.url

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data)
        with urllib.request.urlopen(request, timeout=BOUND) as response:
            text = response.read()
        return json.loads(text) if text else None

    def script(self, *replies: dict[str, Any], **settings: Any) -> None:
        """Replaces the script."""
        self._call("PUT", "/script", {"replies": list(replies), **settings})

    def append(self, *replies: dict[str, Any]) -> None:
        """Adds replies at the end of the script."""
        self._call("POST", "/script/replies", list(replies))

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests for a message since the script was set."""
        return [one["body"] for one in self.captured()]

    def captured(self) -> list[dict[str, Any]]:
        """The same with their heads and times."""
        seen = self._call("GET", "/requests")
        return [one for one in seen if one["path"] == "/v1/messages"]

    def wait_for_requests(self, count: int) -> list[dict[str, Any]]:
        """Waits until so many requests have come."""
        wait_until(lambda: len(self.requests()) >= count, f"{count} model requests")
        return self.requests()

    def take_violations(self) -> list[str]:
        """What the real API would have refused since the last time."""
        found = self._call("DELETE", "/violations")
        assert isinstance(found, list)
        return found

    def stop(self) -> None:
        """Ends the process."""
        self._program.kill()


class World:
    """A server with its model, and the clients that tests have made for it.

    `config` is the server's configuration file.
    """

    def __init__(self, config: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="posthouse-conformance-")
        self.folder = Path(self._folder.name)
        (self.folder / "config.toml").write_text(config)
        self.model = ScriptedModel(self.folder)
        self.recorder = Recorder()
        self._closers: list[Callable[[], None]] = []
        self._environment_id: str | None = None
        try:
            self._program = self._start("127.0.0.1:0")
        except BaseException:
            self.model.stop()
            raise
        self.url = self._program.url
        self._own = self.raw()
        self._plain = self.client()

    # --- the process

    def _start(self, listen: str) -> Program:
        command = [
            *(binary("POSTHOUSE_BIN", "posthouse"), "serve"),
            *("--listen", listen, "--data", str(self.folder / "data")),
            *("--config", str(self.folder / "config.toml")),
        ]
        return Program(command, self.variables(), self.folder / "server.log")

    def variables(self) -> dict[str, str]:
        """The server's environment, whole."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "POSTHOUSE_API_KEY": API_KEY,
            "ANTHROPIC_API_KEY": "key-of-the-scripted-model",
            "ANTHROPIC_BASE_URL": self.model.url,
            # The tester's own Ollama stays out: nobody listens there.
            "OLLAMA_HOST": "127.0.0.1:9",
        }

    def kill(self) -> None:
        """Kills the server with SIGKILL: nothing in it gets to say goodbye."""
        self._program.kill()

    def start(self) -> None:
        """Starts the server again, on the same port and the same data."""
        self._program = self._start(self.url.removeprefix("http://"))

    def restart(self) -> None:
        """SIGKILL, then a start on the same port and the same data."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """Stops the server in order; returns its exit status."""
        return self._program.stop()

    def server_errors(self) -> str:
        """The last of what the server has written to standard error."""
        return self._program.errors()

    # --- clients

    def client(self, *, meddle: Meddle | None = None, **options: Any) -> anthropic.Anthropic:
        """An SDK client whose responses are all checked."""
        http = httpx2.Client(transport=StrictTransport(self.recorder, meddle), timeout=BOUND)
        self._closers.append(http.close)
        settings = {"api_key": API_KEY, "timeout": BOUND, "max_retries": 0, **options}
        return anthropic.Anthropic(base_url=self.url, http_client=http, **settings)

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """The same, asynchronous. The caller closes it."""
        http = httpx2.AsyncClient(transport=AsyncStrictTransport(self.recorder), timeout=BOUND)
        settings = {"api_key": API_KEY, "timeout": BOUND, "max_retries": 0, **options}
        return anthropic.AsyncAnthropic(base_url=self.url, http_client=http, **settings)

    def raw(self, *, key: str | None = API_KEY) -> httpx2.Client:
        """A bare HTTP client, for what no SDK does. Its responses are checked just as well."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            transport=StrictTransport(self.recorder),
            timeout=BOUND,
        )
        self._closers.append(http.close)
        return http

    # --- things to test with

    def environment(self) -> str:
        """The id of an environment that all tests of this world share."""
        if self._environment_id is None:
            made = self._plain.beta.environments.create(name="conformance")
            self._environment_id = made.id
        return self._environment_id

    def agent(self, **settings: Any) -> str:
        """Makes an agent; returns its id."""
        settings = {"name": "tester", "model": MODEL, **settings}
        return self._plain.beta.agents.create(**settings).id

    def session(
        self,
        agent: str | None = None,
        *,
        environment: str | None = None,
        more: dict[str, Any] | None = None,
        **agent_settings: Any,
    ) -> str:
        """Makes a session, with an agent of its own unless one is given; returns its id. `more` are
        members of the request."""
        agent = agent or self.agent(**agent_settings)
        environment = environment or self.environment()
        made = self._plain.beta.sessions.create(
            agent=agent, environment_id=environment, **(more or {})
        )
        return made.id

    def log(self, session_id: str) -> list[dict[str, Any]]:
        """All events of a session, by the list, as they are on the wire."""
        return self.pages(f"/v1/sessions/{session_id}/events", limit=1000)

    def pages(self, path: str, **query: Any) -> list[Any]:
        """All entries of a list, as they are on the wire."""
        entries: list[Any] = []
        while True:
            response = self._own.get(path, params=query)
            assert response.status_code == 200, response.text
            page = response.json()
            entries += page["data"]
            if page["next_page"] is None:
                return entries
            query["page"] = page["next_page"]

    def status(self, session_id: str) -> str:
        """A session's status."""
        return self._plain.beta.sessions.retrieve(session_id).status

    # --- the end of a test

    def begin(self) -> None:
        """Before a test: an empty script and an empty record."""
        self.model.script()
        self.recorder.clear()

    def settle(self) -> list[str]:
        """After a test: brings its sessions to rest and says what was wrong with anything."""
        problems: list[str] = []
        for session_id in list(self.recorder.sessions):
            response = self._own.get(f"/v1/sessions/{session_id}")
            if response.status_code == 404:
                continue
            if response.json()["status"] in ("running", "rescheduling"):
                self._interrupt(session_id)
            problems += check_log(self.log(session_id))
        problems += self.recorder.problems
        problems += [f"model: {one}" for one in self.model.take_violations()]
        self.recorder.clear()
        return problems

    def _interrupt(self, session_id: str) -> None:
        events = [{"type": "user.interrupt"}]
        self._own.post(f"/v1/sessions/{session_id}/events", json={"events": events})
        wait_until(
            lambda: self.status(session_id) not in ("running", "rescheduling"),
            f"{session_id} comes to rest after an interrupt",
        )

    def close(self) -> None:
        """Ends everything."""
        for close in self._closers:
            close()
        self._program.kill()
        self.model.stop()
        self._folder.cleanup()


# --- what is true of every log ---------------------------------------------------------------

# What may follow `session.status_idle`: what a client has sent or done, and what begins a turn.
_AFTER_IDLE = {
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "system.message",
    "session.status_running",
    "session.updated",
    "session.thread_status_terminated",
    # An interrupt of a session that waits for answers closes the open calls, and answers that
    # leave others open make it say again what it waits for.
    "agent.tool_result",
    "agent.mcp_tool_result",
    "session.thread_status_idle",
}


# What each kind of call is answered with.
_RESULTS = {
    "agent.tool_use": "agent.tool_result",
    "agent.mcp_tool_use": "agent.mcp_tool_result",
    "agent.custom_tool_use": "user.custom_tool_result",
}


def check_log(events: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a session's whole log; every log has to pass."""
    problems: list[str] = []
    kinds = [event["type"] for event in events]
    ids = [event["id"] for event in events]
    if len(set(ids)) != len(ids):
        problems.append("log: an id occurs twice")
    times = [event["processed_at"] for event in events]
    taken = [time for time in times if time is not None]
    if times[: len(taken)] != taken:
        problems.append("log: what is not yet processed does not stand last")
    if taken != sorted(taken):
        problems.append("log: processed_at runs backwards")
    if len(set(taken)) != len(taken):
        problems.append("log: two events have the same processed_at")
    for index, kind in enumerate(kinds[:-1]):
        if kind == "session.status_idle" and kinds[index + 1] not in _AFTER_IDLE:
            problems.append(f"log: {kinds[index + 1]} follows session.status_idle")
    for index, kind in enumerate(kinds):
        if kind == "session.status_idle":
            before = kinds[max(0, index - 2) : index]
            if before != ["session.thread_status_idle", "session.usage"]:
                problems.append(f"log: before session.status_idle stand {before}")
            elif events[index]["stop_reason"] != events[index - 2]["stop_reason"]:
                problems.append("log: thread and session stop for different reasons")
    problems += _check_spans(events)
    problems += _check_calls(events)
    return [f"{problem}; the log is {kinds}" for problem in problems]


def _check_spans(events: list[dict[str, Any]]) -> list[str]:
    problems: list[str] = []
    open_span: str | None = None
    for event in events:
        if event["type"] == "span.model_request_start":
            if open_span:
                problems.append("log: a model request starts inside of another")
            open_span = event["id"]
        elif event["type"] == "span.model_request_end":
            if event["model_request_start_id"] != open_span:
                problems.append("log: a model request ends that has not started")
            open_span = None
        elif event["type"] == "session.status_idle" and open_span:
            problems.append("log: idle with an open model request")
    return problems


def _check_calls(events: list[dict[str, Any]]) -> list[str]:
    """Ids in stop reasons and results name calls that stand before them and are still open."""
    problems: list[str] = []
    calls: dict[str, str] = {}
    answered: set[str] = set()
    for event in events:
        kind = event["type"]
        if kind in _RESULTS:
            calls[event["id"]] = kind
        names = ("tool_use_id", "custom_tool_use_id", "mcp_tool_use_id")
        named = next(filter(None, (event.get(name) for name in names)), None)
        if named and named not in calls:
            problems.append(f"log: {kind} names {named}, which is no call before it")
        if kind in _RESULTS.values() and kind != _RESULTS.get(calls.get(str(named), "")):
            problems.append(f"log: {kind} answers {calls.get(str(named))}")
        if kind in (*_RESULTS.values(), "user.tool_confirmation"):
            key = f"{kind} {named}"
            if key in answered:
                problems.append(f"log: a second {key}")
            answered |= {key, str(named)}
        reason = event.get("stop_reason") or {}
        for call in reason.get("event_ids", []):
            if call not in calls or call in answered:
                problems.append(f"log: {kind} waits for {call}, which is no open call")
        if reason.get("type") == "requires_action" and not reason["event_ids"]:
            problems.append(f"log: {kind} waits for nothing")
    return problems
