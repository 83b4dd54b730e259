"""A session whose whole course is followed, and told in words at its end."""

from __future__ import annotations

from typing import Any

import anthropic

from support import call_ids, message, story, take_until, until_idle, wire
from world import World


class Told:
    """A session whose stream is open, and everything that it has told so far."""

    def __init__(self, world: World, client: anthropic.Anthropic, **agent: Any) -> None:
        self.world, self._client = world, client
        self.session_id = world.session(**agent)
        self._stream = client.beta.sessions.events.stream(self.session_id)
        self.events: list[Any] = []

    def send(self, *events: Any) -> None:
        """Sends; texts are messages."""
        sent = [message(one) if isinstance(one, str) else one for one in events]
        self._client.beta.sessions.events.send(self.session_id, events=sent)

    def until(self, kind: str) -> Any:
        """Reads on to the next event of that type."""
        self.events += take_until(self._stream, lambda event: event.type == kind)
        return self.events[-1]

    def until_idle(self, *reasons: str) -> Any:
        """Reads on to the next rest."""
        self.events += until_idle(self._stream, *reasons)
        return self.events[-1]

    def calls(self) -> list[str]:
        """The calls that the last idle event waits for."""
        return call_ids(self.events)

    def tells(self, *wanted: str) -> None:
        """The whole story, on the stream and in the list."""
        self._stream.close()
        assert story(self.events) == list(wanted), story(self.events)
        log = self.world.log(self.session_id)
        assert [wire(event) for event in self.events] == log

    def said(self, request: int = -1) -> list[tuple[str, list[Any]]]:
        """The conversation of a model request: roles, and contents in short."""
        return [
            (one["role"], [short(block) for block in one["content"]])
            for one in self.world.model.wait_for_requests(1)[request]["messages"]
        ]


def short(block: dict[str, Any]) -> Any:
    """A content block of a model request, in short."""
    if block["type"] == "text":
        return block["text"]
    if block["type"] == "tool_use":
        return block["name"]
    if block["type"] == "tool_result":
        texts = [one.get("text", one["type"]) for one in block.get("content", [])]
        return {"error" if block.get("is_error") else "ok": "".join(texts)}
    return block["type"]
