"""A server with four providers: one scripted model that speaks all wires, at an address for each.

Before the model stands one relay for each provider. It passes bytes on as they are and keeps the
requests to the letter, so that a test sees what went to whom: which key, which bytes.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import wire_types
from world import World, wait_until

# The variables of the providers' keys, and the keys.
KEYS = {
    "anthropic": ("KEY_OF_ANTHROPIC", "sk-ant-api03-first-0123456789abcdef"),
    "openai": ("KEY_OF_OPENAI", "sk-proj-second-0123456789abcdef"),
    "house": ("KEY_OF_THE_HOUSE", "house-third-0123456789abcdef"),
    "gemini": ("KEY_OF_GEMINI", "AIzaSyFourth-0123456789abcdefghijklmnopq"),
}
KINDS = {
    "anthropic": "anthropic",
    "openai": "openai_responses",
    "house": "openai_chat",
    "gemini": "gemini",
}
# What each dialect's own SDK takes as an address, behind the host.
PATHS = {"anthropic": "", "openai": "/v1", "house": "/v1", "gemini": ""}
# A model of each; all think, and have a price.
MODELS = {
    "anthropic": "anthropic/claude-opus-5",
    "openai": "openai/gpt-6.2-sol",
    "house": "house/horse-1",
    "gemini": "gemini/gemini-3.8-flash",
}
# USD per million tokens: input that was not cached, input read from the cache and written to it
# (for five minutes), output. The first, second and fourth by the server's own table.
PRICES = {
    "anthropic": (5.0, 0.5, 6.25, 25.0),
    "openai": (2.0, 0.1, 2.5, 10.0),
    "house": (1.0, 0.25, 1.5, 4.0),
    "gemini": (0.75, 0.075, 0.75, 3.75),
}
# Those that take `system.message` events.
WITH_SYSTEM_MESSAGES = ("anthropic", "openai", "house")
# What the SDK of each says of a body.
CHECKS: dict[str, Callable[[Any], list[str]]] = {
    "anthropic": wire_types.anthropic_messages,
    "openai": wire_types.openai_responses,
    "house": wire_types.openai_chat,
    "gemini": wire_types.gemini,
    "ollama": wire_types.openai_chat,
}
# Where the conversation stands in a body.
MEMBERS = {
    "anthropic": "messages",
    "openai": "input",
    "house": "messages",
    "gemini": "contents",
    "ollama": "messages",
}
# Servers of open models send these and want them back; the types of OpenAI don't know them.
THOUGHTS = ("reasoning_content", "reasoning")

HOUSE_MODEL = """
[models.horse-1]
window = 500000
max_output = 32000
thinking = "adaptive"
mid_conversation_system = true

[models.horse-1.prices]
input = "1.00"
output = "4.00"
cache_read = "0.25"
cache_write_5m = "1.50"
cache_write_1h = "2.00"
"""


@dataclass(frozen=True)
class Sent:
    """A request as it went to a provider."""

    provider: str
    path: str
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The body, read."""
        return json.loads(self.text)

    @property
    def model(self) -> str:
        """The model that it asks."""
        named = re.search(r"/models/([^:]+):", self.path)
        return named[1] if named else str(self.body["model"])

    def entries(self) -> list[str]:
        """The conversation's entries, each to the letter."""
        return raw_list(self.text, MEMBERS[self.provider])


def raw_member(text: str, name: str) -> str:
    """A member of a JSON object, as it was written."""
    at, decoder = 1, json.JSONDecoder()
    while True:
        found, at = decoder.raw_decode(text, at)
        start = at + 1
        _, at = decoder.raw_decode(text, start)
        if found == name:
            return text[start:at]
        assert text[at] == ",", f"{name} is not there"
        at += 1


def raw_list(text: str, name: str) -> list[str]:
    """The elements of a list in a JSON object, each as it was written."""
    whole, decoder = raw_member(text, name), json.JSONDecoder()
    elements, at = [], 1
    while whole[at] != "]":
        _, end = decoder.raw_decode(whole, at)
        elements.append(whole[at:end])
        at = end + (whole[end] == ",")
    return elements


class Relay:
    """An address of one provider. Keeps the requests, and passes all bytes on."""

    def __init__(self, provider: str, target: str, keep: Callable[[Sent], None]) -> None:
        self._provider, self._keep = provider, keep
        host, port = target.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pump in ((client, server, self._read), (server, client, None)):
                threading.Thread(target=_pump, args=pump, daemon=True).start()

    def _read(self, seen: bytearray) -> None:
        """Takes the whole requests off what was seen."""
        while (end := seen.find(b"\r\n\r\n")) >= 0:
            first, *lines = seen[:end].decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in pairs}
            whole = end + 4 + int(headers.get("content-length", "0"))
            if len(seen) < whole:
                return
            text = seen[end + 4 : whole].decode()
            del seen[:whole]
            self._keep(Sent(self._provider, first.split(" ")[1], headers, text))

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()


def _pump(
    source: socket.socket, sink: socket.socket, read: Callable[[bytearray], None] | None
) -> None:
    seen = bytearray()
    try:
        while data := source.recv(65536):
            if read:
                seen += data
                read(seen)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone, and so is the other.
        for end in (source, sink):
            end.close()


class Providers(World):
    """A server with four providers and, if wanted, an Ollama, and what went to each of them."""

    def __init__(self, config: str = "", *, ollama: bool = False, **variables: str) -> None:
        self._config, self._ollama, self._variables = config, ollama, variables
        self._sent: list[Sent] = []
        self.relays: dict[str, Relay] = {}
        super().__init__()

    def _start(self, listen: str) -> Any:
        if not self.relays:
            for name in [*KINDS, *(["ollama"] if self._ollama else [])]:
                self.relays[name] = Relay(name, self.model.url, self._sent.append)
            entries = [
                f'[providers.{name}]\nkind = "{kind}"\n'
                f'base_url = "{self.relays[name].url}{PATHS[name]}"\n'
                f'api_key_env = "{KEYS[name][0]}"\n'
                for name, kind in KINDS.items()
            ]
            text = "\n".join([*entries, HOUSE_MODEL, self._config])
            (self.folder / "config.toml").write_text(text)
        return super()._start(listen)

    def variables(self) -> dict[str, str]:
        """The server's environment, with the keys of all providers."""
        plain = super().variables()
        del plain["ANTHROPIC_API_KEY"], plain["ANTHROPIC_BASE_URL"]
        if self._ollama:
            plain["OLLAMA_HOST"] = self.relays["ollama"].url
        return {**plain, **dict(KEYS.values()), **self._variables}

    def begin(self) -> None:
        """Before a test: nothing was sent."""
        super().begin()
        self._sent.clear()

    def sent(self, provider: str | None = None) -> list[Sent]:
        """Requests for answers of models, oldest first, to one provider or to all."""
        # Lists of models, and an Ollama's facts of them, have no conversation.
        asked = [one for one in list(self._sent) if one.text and not one.path.endswith("/api/show")]
        return [one for one in asked if provider in (None, one.provider)]

    def all_sent(self) -> list[Sent]:
        """All requests, those for lists of models as well."""
        return list(self._sent)

    def settle(self) -> list[str]:
        """What is wrong, also with what was sent to whom."""
        problems = super().settle()
        for number, one in enumerate(self.sent()):
            problems += [f"{one.provider}, request {number}: {p}" for p in self.faults(one)]
        problems += [f"{one.provider} got {p}" for one in self._sent for p in strangers(one)]
        self._sent.clear()
        return problems

    def faults(self, sent: Sent) -> list[str]:
        """What the provider's own types, and the rules of calls, say against a request."""
        body = sent.body
        if CHECKS[sent.provider] is wire_types.openai_chat:
            for entry in body["messages"]:
                for name in THOUGHTS:
                    entry.pop(name, None)
        return CHECKS[sent.provider](body) + calls_and_results(sent)

    def model_requests(self, count: int) -> list[Sent]:
        """Waits until so many requests have gone to models, and returns them."""
        wait_until(lambda: len(self.sent()) >= count, f"{count} requests to models")
        return self.sent()

    def switch(self, session_id: str, model: Any, **more: Any) -> Any:
        """Gives a session another model."""
        extra = {"posthouse": {"model": model, **more}}
        return self._plain.beta.sessions.update(session_id, extra_body=extra)

    def own_log(self, session_id: str) -> list[dict[str, Any]]:
        """A session's whole log, with posthouse's own events."""
        path = f"/v1/sessions/{session_id}/events"
        return self.pages(path, limit=1000, posthouse_events="true")

    def own_text(self, session_id: str) -> str:
        """The same as it came."""
        query = {"limit": 1000, "posthouse_events": "true"}
        response = self._own.get(f"/v1/sessions/{session_id}/events", params=query)
        assert response.json()["next_page"] is None
        return response.text

    def close(self) -> None:
        """Ends everything."""
        super().close()
        for relay in self.relays.values():
            relay.close()


def strangers(sent: Sent) -> list[str]:
    """Keys of others in a request, and an own one that stands elsewhere than in its header."""
    found = []
    for name, (_, key) in KEYS.items():
        places = [place for place, value in sent.headers.items() if key in value]
        if name != sent.provider and places:
            found.append(f"the key of {name} in {places}")
        if name == sent.provider and len(places) != 1:
            found.append(f"its key in {places}")
        if key in sent.path or key in sent.text:
            found.append(f"the key of {name} outside of a header")
    return found


# --- calls ----------------------------------------------------------------------------------

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def calls_and_results(sent: Sent) -> list[str]:
    """What is wrong with the calls of a request and their results."""
    calls, results = pairs(sent)
    named = [one for one in calls if one is not None]
    problems = [f"call id {one!r}" for one in named if not CALL_ID.fullmatch(one)]
    if len(set(named)) != len(named):
        problems.append(f"a call id stands twice in {named}")
    if sorted(map(str, calls)) != sorted(map(str, results)):
        problems.append(f"calls {calls} have the results {results}")
    return problems


def pairs(sent: Sent) -> tuple[list[str | None], list[str | None]]:
    """The ids of all calls in a request, and of all results."""
    calls: list[str | None] = []
    results: list[str | None] = []
    for entry in sent.body[MEMBERS[sent.provider]]:
        if sent.provider == "openai":
            kind = entry.get("type")
            calls += [entry["call_id"]] if kind == "function_call" else []
            results += [entry["call_id"]] if kind == "function_call_output" else []
        elif sent.provider in ("house", "ollama"):
            calls += [call["id"] for call in entry.get("tool_calls", [])]
            results += [entry["tool_call_id"]] if entry["role"] == "tool" else []
        elif sent.provider == "anthropic":
            kinds = [(block["type"], block) for block in entry["content"]]
            calls += [block["id"] for kind, block in kinds if kind == "tool_use"]
            results += [block["tool_use_id"] for kind, block in kinds if kind == "tool_result"]
        else:
            found = [part["functionCall"] for part in entry["parts"] if "functionCall" in part]
            calls += [call.get("id") for call in found]
            found = [p["functionResponse"] for p in entry["parts"] if "functionResponse" in p]
            results += [result.get("id") for result in found]
    return calls, results
