"""Finds every method of the SDK's resources, and watches what a call of one sends and gets.

What the calls are stands in `calls.py`. Both clients of the SDK go through the same calls: a `Stage`
waits for what the asynchronous one gives and takes what the other one gives.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
from anthropic._resource import AsyncAPIResource, SyncAPIResource

from recorder import Exchange
from support import take_until
from world import World

# The namespaces that posthouse serves, as they are found on a client.
NAMESPACES = [
    *("beta.agents", "beta.environments", "beta.sessions", "beta.vaults", "beta.files"),
    *("beta.models", "files", "models"),
]
# Not methods of the API: other views of the same methods.
_VIEWS = {"with_raw_response", "with_streaming_response"}
# Where the results of a run go, for `compatibility.py`; without it they go nowhere.
RESULTS = "POSTHOUSE_CONFORMANCE_RESULTS"

_IDS = {
    "agent": "agent_id",
    "env": "environment_id",
    "sesn": "session_id",
    "sthr": "thread_id",
    "sesrsc": "resource_id",
    "file": "file_id",
    "vlt": "vault_id",
    "vcrd": "credential_id",
    "work": "work_id",
}


def at(client: Any, path: str) -> Any:
    """What a dotted path names on a client."""
    for name in path.split("."):
        client = getattr(client, name)
    return client


def discover(client: Any) -> list[str]:
    """The dotted names of all methods of the namespaces, in order."""
    return sorted(name for one in NAMESPACES for name in _methods(at(client, one), one))


def _methods(resource: Any, path: str) -> Iterator[str]:
    for name in dir(type(resource)):
        if name.startswith("_") or name in _VIEWS:
            continue
        if inspect.isfunction(inspect.getattr_static(type(resource), name)):
            yield f"{path}.{name}"
            continue
        below = getattr(resource, name)
        if isinstance(below, SyncAPIResource | AsyncAPIResource):
            yield from _methods(below, f"{path}.{name}")


def route(exchange: Exchange) -> str:
    """A request without what differs from call to call."""
    path = re.sub(r"(?<=/)([a-z]+)_[0-9A-Za-z]{24}", _named, exchange.path)
    path = re.sub(r"^/v1/models/.+", "/v1/models/{model_id}", path)
    return f"{exchange.method} {path}"


def _named(found: re.Match[str]) -> str:
    return "{" + _IDS[found[1]] + "}"


async def given(answer: Any) -> Any:
    """What a client of either kind answers."""
    return await answer if inspect.isawaitable(answer) else answer


class Stage:
    """One client, a world behind it, and the method that is to be called."""

    def __init__(self, world: World, client: Any, method: str) -> None:
        self.world, self.client, self.method = world, client, method
        self.exchanges: list[Exchange] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes what goes over the wire for that of the method."""
        before = len(self.world.recorder.exchanges)
        try:
            yield
        finally:
            self.exchanges += self.world.recorder.exchanges[before:]

    async def call(self, *arguments: Any, **named: Any) -> Any:
        """Calls the method."""
        with self.watching():
            return await self.other(self.method, *arguments, **named)

    async def other(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls another method, to prepare or to look."""
        return await given(at(self.client, method)(*arguments, **named))

    async def every(self, *arguments: Any, **named: Any) -> list[Any]:
        """Calls the method, which is a list's, and reads all pages."""
        with self.watching():
            pager = at(self.client, self.method)(*arguments, **named)
            if hasattr(pager, "__aiter__"):
                return [one async for one in pager]
            return list(pager)

    async def heard(
        self, ends: Callable[[Any], bool], then: Callable[[], None], *arguments: Any, **named: Any
    ) -> list[Any]:
        """Calls the method, which is a stream's, does something, and reads to its end."""
        stream = await self.call(*arguments, **named)
        then()
        if not hasattr(stream, "__aiter__"):
            with stream:
                return take_until(stream, ends)
        heard: list[Any] = []
        async with stream:
            async for event in stream:
                heard.append(event)
                if ends(event):
                    return heard
        raise AssertionError("the stream has ended")

    def report(self, outcome: str, note: str = "") -> None:
        """Writes down how the method fares; what is written last counts."""
        folder = os.environ.get(RESULTS)
        if not folder:
            return
        name = "python" if isinstance(self.client, anthropic.Anthropic) else "python-async"
        line = {
            "sdk": name,
            "method": self.method,
            "routes": sorted({route(one) for one in self.exchanges}),
            "outcome": outcome,
            "note": note,
        }
        with (Path(folder) / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
