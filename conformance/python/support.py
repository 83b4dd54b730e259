"""What tests say often: replies for the script, events to send, and events as one word each."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2

from strict import Frame, FrameReader
from world import BOUND

# --- replies of the scripted model


def text(words: str, **reply: Any) -> dict[str, Any]:
    """A reply that says something."""
    return {"steps": [{"text": words}], **reply}


def calls(*names_and_inputs: tuple[str, dict[str, Any]], **reply: Any) -> dict[str, Any]:
    """A reply that calls tools."""
    steps = [{"tool_use": {"name": name, "input": value}} for name, value in names_and_inputs]
    return {"steps": steps, **reply}


def stalled(words: str = "thinking about it") -> dict[str, Any]:
    """A reply that begins and never ends: it holds a turn open."""
    return {"steps": [{"text": words}, {"stall": True}]}


def failing(status: int, **reply: Any) -> dict[str, Any]:
    """A reply that is an error. Of those that are tried again the next attempt is at once."""
    return {"status": status, "headers": {"retry-after": "0"}, **reply}


def bash(*commands: str, **reply: Any) -> dict[str, Any]:
    """A reply that calls `bash`, once for each command, all at once."""
    return calls(*(("bash", {"command": command}) for command in commands), **reply)


# --- tools of agents

TOOLSET: Any = {"type": "agent_toolset_20260401"}
ASKING_TOOLSET: Any = {
    "type": "agent_toolset_20260401",
    "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
}
WEATHER: Any = {
    "type": "custom",
    "name": "weather",
    "description": "Says how the weather is.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}

# --- files


def png(width: int, height: int) -> bytes:
    """An image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + b"\xff\x80\x00" * width for _ in range(height))
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)

# --- events to send


def message(words: str) -> Any:
    """A `user.message`."""
    return {"type": "user.message", "content": [{"type": "text", "text": words}]}


def system_message(words: str) -> Any:
    """A `system.message`."""
    return {"type": "system.message", "content": [{"type": "text", "text": words}]}


def answer(call: str, words: str, **fields: Any) -> Any:
    """A `user.custom_tool_result`."""
    content = [{"type": "text", "text": words}]
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": call,
        "content": content,
        **fields,
    }


def confirm(call: str, result: str = "allow", **fields: Any) -> Any:
    """A `user.tool_confirmation`."""
    return {"type": "user.tool_confirmation", "tool_use_id": call, "result": result, **fields}


INTERRUPT: Any = {"type": "user.interrupt"}

# --- what came back


def wire(value: Any) -> dict[str, Any]:
    """An object of the SDK as the JSON that it was made of."""
    # Without the SDK's warnings of what it does not know: `strict.py` has looked at it.
    shown = value if isinstance(value, dict) else value.to_dict(mode="json", warnings=False)
    assert isinstance(shown, dict)
    return shown


def words(event: Any) -> str:
    """An event as one word: its type, and in brackets what matters of it."""
    value = wire(event)
    kind = value["type"]
    told: list[str] = []
    if kind in ("user.message", "agent.message", "system.message"):
        told = ["|".join(block.get("text", block["type"]) for block in value["content"])]
    elif kind in ("agent.tool_use", "agent.custom_tool_use"):
        told = [value["name"], *filter(None, [value.get("evaluated_permission")])]
    elif kind == "agent.mcp_tool_use":
        called = f"{value['mcp_server_name']}/{value['name']}"
        told = [called, *filter(None, [value.get("evaluated_permission")])]
    elif kind in ("agent.tool_result", "agent.mcp_tool_result"):
        told = ["error" if value["is_error"] else "ok"]
    elif kind == "user.tool_confirmation":
        told = [value["result"]]
    elif kind == "span.model_request_end":
        told = ["error"] if value["is_error"] else []
    elif kind == "session.error":
        told = [value["error"]["type"], value["error"]["retry_status"]["type"]]
    elif "stop_reason" in value:
        told = [value["stop_reason"]["type"]]
    return f"{kind}({','.join(told)})" if told else kind


def story(events: Iterable[Any]) -> list[str]:
    """Events, one word each."""
    return [words(event) for event in events]


RUNNING = ["session.status_running", "session.thread_status_running"]
RESCHEDULED = ["session.thread_status_rescheduled", "session.status_rescheduled"]
TERMINATED = ["session.thread_status_terminated", "session.status_terminated"]


def started(*said: str) -> list[str]:
    """The beginning of a turn."""
    return [*RUNNING, *(f"user.message({one})" for one in said)]


def asked(*said: str, error: bool = False) -> list[str]:
    """One model request, with what came of it."""
    end = "span.model_request_end(error)" if error else "span.model_request_end"
    return ["span.model_request_start", *said, end]


def rested(reason: str = "end_turn") -> list[str]:
    """The end of a turn."""
    idle = [f"session.thread_status_idle({reason})", "session.usage"]
    return [*idle, f"session.status_idle({reason})"]


def results(events: Iterable[Any]) -> list[str]:
    """What the sandbox's tools have answered, in the order of the calls: texts, and other blocks
    by their types. Errors have a mark in front."""
    values = [wire(event) for event in events]
    places = {one["id"]: at for at, one in enumerate(values) if one["type"] == "agent.tool_use"}
    answers = [one for one in values if one["type"] == "agent.tool_result"]
    # A log has them as they come; those of calls that are not in sight stand first.
    answers.sort(key=lambda one: places.get(one["tool_use_id"], -1))
    return [
        ("ERROR " if one["is_error"] else "")
        + "".join(block.get("text", block["type"]) for block in one["content"])
        for one in answers
    ]


# --- streams


def is_idle(event: Any, *reasons: str) -> bool:
    """Whether an event says that the session has come to rest, for one of these reasons."""
    if event.type != "session.status_idle":
        return False
    return not reasons or event.stop_reason.type in reasons


def until_idle(events: Iterable[Any], *reasons: str) -> list[Any]:
    """Reads a stream up to and with the next `session.status_idle`."""
    return take_until(events, lambda event: is_idle(event, *reasons))


def take_until(events: Iterable[Any], ends: Any) -> list[Any]:
    """Reads a stream up to and with the first event for which `ends` holds."""
    seen: list[Any] = []
    end = time.monotonic() + BOUND
    for event in events:
        seen.append(event)
        if ends(event):
            return seen
        assert time.monotonic() < end, f"not within {BOUND:g} s; so far {story(seen)}"
    raise AssertionError(f"the stream has ended; so far {story(seen)}")


def turn(client: anthropic.Anthropic, session_id: str, *events: Any) -> list[Any]:
    """Opens a stream, sends, and reads until the session rests."""
    sent = [message(one) if isinstance(one, str) else one for one in events]
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=sent)
        return until_idle(stream)


def call_ids(events: Iterable[Any]) -> list[str]:
    """The ids that the last idle event waits for."""
    for event in reversed(list(events)):
        if event.type == "session.status_idle":
            assert event.stop_reason.type == "requires_action", event.stop_reason
            return list(event.stop_reason.event_ids)
    raise AssertionError("no session.status_idle")


class RawStream:
    """A stream read frame by frame, without the SDK."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._chunks = response.iter_raw()
        self._reader = FrameReader()
        self._ready: list[Frame] = []

    def __iter__(self) -> Iterator[Frame]:
        """Frames that hold an event, and no pings."""
        return (frame for frame in self.all_frames() if frame.data and frame.event != "ping")

    def all_frames(self) -> Iterator[Frame]:
        """All frames, comments and pings as well."""
        end = time.monotonic() + 2 * BOUND
        while True:
            while self._ready:
                yield self._ready.pop(0)
            assert time.monotonic() < end, f"not within {2 * BOUND:g} s"
            try:
                self._ready += self._reader.feed(next(self._chunks))
            except StopIteration:
                return

    def until(self, kind: str) -> list[Frame]:
        """Frames up to and with the first event of a type."""
        seen: list[Frame] = []
        for frame in self:
            seen.append(frame)
            if frame.event == kind:
                return seen
        raise AssertionError(f"the stream has ended; so far {[one.event for one in seen]}")


@contextmanager
def raw_stream(
    http: httpx2.Client,
    session_id: str,
    *,
    last_event_id: str | None = None,
    query: dict[str, Any] | None = None,
    path: str = "events/stream",
) -> Iterator[RawStream]:
    """Opens a stream without the SDK."""
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    address = f"/v1/sessions/{session_id}/{path}"
    with http.stream("GET", address, params=query or {}, headers=headers) as response:
        if response.status_code != 200:
            response.read()
            raise AssertionError(f"{response.status_code}: {response.text}")
        yield RawStream(response)
