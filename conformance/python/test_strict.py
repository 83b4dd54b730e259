"""The checker itself: what is right passes, and each way of being wrong is found."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx2
import pytest

import strict
from endpoints import response_kind

AT = "2026-11-20T10:00:00.000001Z"
EVENT_ID = "sevt_0123456789abcdefABCDEF01"
SESSION_ID = "sesn_0123456789abcdefABCDEF01"

IDLE: dict[str, Any] = {
    "id": EVENT_ID,
    "type": "session.status_idle",
    "stop_reason": {"type": "requires_action", "event_ids": [EVENT_ID]},
    "stop_details": None,
    "processed_at": AT,
}
USAGE: dict[str, Any] = {
    "id": EVENT_ID,
    "type": "session.usage",
    "usage": {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 0,
        "cache_creation": None,
        "active_seconds": 0.5,
        "list_cost": {"amount": "0", "currency": "USD"},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
    },
    "budget": None,
    "processed_at": AT,
}
UPDATED = {"id": EVENT_ID, "type": "session.updated", "title": None, "processed_at": AT}


def problems(event: dict[str, Any], own_events: bool = False) -> list[str]:
    """What is wrong with a page of one event."""
    kind = response_kind("GET", f"/v1/sessions/{SESSION_ID}/events")
    body = json.dumps({"data": [event], "next_page": None}).encode()
    return strict.check_success(body, kind, own_events)


def changed(event: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one member changed, or taken out when `value` is `...`."""
    event = copy.deepcopy(event)
    *parents, last = path.split(".")
    place: Any = event
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return event


@pytest.mark.parametrize("event", [IDLE, USAGE, UPDATED])
def test_what_is_right_passes(event: dict[str, Any]) -> None:
    assert problems(event) == []
    assert problems({**event, "posthouse": {"seq": 1}}) == []


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (IDLE, "extra", 1),
        (IDLE, "stop_reason.extra", 1),
        (IDLE, "stop_details", ...),
        (IDLE, "stop_reason", ...),
        (IDLE, "stop_reason", None),
        (IDLE, "stop_reason.type", "bored"),
        (IDLE, "stop_reason.event_ids", None),
        (IDLE, "stop_reason.event_ids", [1]),
        (IDLE, "type", "session.status_lazy"),
        (IDLE, "type", ...),
        (IDLE, "id", "toolu_0123456789abcdefABCDEF01"),
        (IDLE, "id", None),
        (IDLE, "processed_at", None),
        (IDLE, "processed_at", "2026-11-20T10:00:00.001Z"),
        (IDLE, "processed_at", "2026-11-20T10:00:00.000001+00:00"),
        (IDLE, "processed_at", "2026-13-20T10:00:00.000001Z"),
        (IDLE, "processed_at", 1),
        (USAGE, "usage.input_tokens", "1"),
        (USAGE, "usage.input_tokens", True),
        (USAGE, "usage.input_tokens", 1.5),
        (USAGE, "usage.list_cost.currency", "EUR"),
        (USAGE, "usage.server_tool_use.web_fetch_requests", ...),
        (USAGE, "budget", ...),
    ],
)
def test_what_is_wrong_is_found(event: dict[str, Any], path: str, value: Any) -> None:
    assert len(problems(changed(event, path, value))) == 1


def test_own_events_pass_only_for_those_who_asked() -> None:
    own = {"id": "posthouse_1", "type": "posthouse.request", "data": {}, "processed_at": AT}
    assert problems(own, own_events=True) == []
    assert len(problems(own)) == 1


def test_pages_have_their_fields_and_no_others() -> None:
    forward = response_kind("GET", "/v1/agents")
    both_ways = response_kind("GET", "/v1/sessions")
    assert strict.check_success(b'{"data":[],"next_page":null}', forward) == []
    assert strict.check_success(b'{"data":[],"next_page":null,"prev_page":null}', both_ways) == []
    assert strict.check_success(b'{"data":[],"next_page":null,"prev_page":null}', forward)
    assert strict.check_success(b'{"data":[],"next_page":null}', both_ways)
    assert strict.check_success(b'{"data":[],"next_page":"page_x"}', forward)
    assert strict.check_success(b'{"data":[]}', forward)
    assert strict.check_success(b'{"data":[],"data":[],"next_page":null}', forward)


def test_errors_are_checked() -> None:
    def of(status: int, body: dict[str, Any], headers: dict[str, str]) -> list[str]:
        return strict.check_error(status, json.dumps(body).encode(), httpx2.Headers(headers))

    error = {"type": "not_found_error", "message": "no"}
    body = {"type": "error", "error": error, "request_id": "req_1"}
    assert of(404, body, {"request-id": "req_1"}) == []
    assert of(404, body, {"request-id": "req_2"})
    assert of(409, body, {"request-id": "req_1"})
    assert of(404, {**body, "error": {**error, "type": "lost"}}, {"request-id": "req_1"})
    assert of(404, {**body, "error": {**error, "details": None}}, {"request-id": "req_1"})


def frame(event: dict[str, Any], position: int | None = 7) -> bytes:
    """An event as a frame."""
    place = "" if position is None else f"id: {position}\n"
    return f"event: {event['type']}\n{place}data: {json.dumps(event)}\n\n".encode()


def checker() -> strict.StreamChecker:
    """A checker of a session's stream."""
    kind = response_kind("GET", f"/v1/sessions/{SESSION_ID}/events/stream")
    return strict.StreamChecker(kind, own_events=False)


def test_frames_are_checked() -> None:
    whole = b": hello\n\n" + frame(IDLE) + b'event: ping\ndata: {"type":"ping"}\n\n'
    one_by_one = checker()
    assert [p for i in range(len(whole)) for p in one_by_one.feed(whole[i : i + 1])] == []
    data = json.dumps(IDLE).encode()
    for wrong in (
        b"data: " + data + b"\n\n",
        b"event: session.usage\nid: 1\ndata: " + data + b"\n\n",
        b"event: session.status_idle\ndata: " + data + b"\n\n",
        b"event: session.status_idle\nid: 1\ndata:" + data + b"\n\n",
        b"event: session.status_idle\nid: 1\ndata: {\ndata: }\n\n",
        b"event: session.status_idle\r\nid: 1\ndata: " + data + b"\n\n",
        b"\n\n",
    ):
        assert checker().feed(wrong), wrong


def test_previews_are_checked() -> None:
    start = {"type": "event_start", "event": {"type": "agent.message", "id": EVENT_ID}}

    def delta(index: int, words: str) -> dict[str, Any]:
        content = {"type": "text", "text": words}
        inner = {"type": "content_delta", "index": index, "content": content}
        return {"type": "event_delta", "event_id": EVENT_ID, "delta": inner}

    def final(*texts: str) -> dict[str, Any]:
        content = [{"type": "text", "text": one} for one in texts]
        return {"id": EVENT_ID, "type": "agent.message", "content": content, "processed_at": AT}

    def of(*events: dict[str, Any]) -> list[str]:
        watching = checker()
        found: list[str] = []
        for event in events:
            preview = event["type"].startswith("event_")
            found += watching.feed(frame(event, None if preview else 7))
        return found

    assert of(start, delta(0, "a"), delta(0, "b"), delta(1, "c"), final("abc", "cd")) == []
    assert of(final("never announced")) == []
    assert of(delta(0, "a"))
    assert of(start, start)
    assert of(start, delta(1, "a"))
    assert of(start, delta(0, "a"), final("b"))
    assert of(start, delta(0, "a"), delta(1, "b"), final("a"))
    assert of(start, final("a"), delta(0, "a"))


def test_the_servers_own_routes_are_checked_as_well() -> None:
    kind = response_kind("POST", f"/posthouse/v1/sandboxes/{SESSION_ID}/kill")
    killed = {"type": "sandbox_killed", "session_id": SESSION_ID, "was_live": True}
    assert strict.check_success(json.dumps(killed).encode(), kind) == []
    for path, value in [("was_live", ...), ("was_live", 1), ("extra", 1), ("type", "sandbox")]:
        wrong = json.dumps(changed(killed, path, value)).encode()
        assert len(strict.check_success(wrong, kind)) == 1, path
    assert response_kind("GET", "/posthouse/v1/sandboxes") is not None
    assert response_kind("GET", f"/posthouse/v1/sandboxes/{SESSION_ID}") is None


def test_pages_of_models_have_ends_and_no_cursors() -> None:
    model: dict[str, Any] = {
        "id": "local/qwen3",
        "type": "model",
        "display_name": "qwen3",
        "lifecycle": "active",
        "created_at": AT,
        **dict.fromkeys(("allowed_fallback_models", "capabilities", "line", "max_tokens")),
        **dict.fromkeys(("max_input_tokens", "deprecated_at", "retires_at")),
    }
    page = {"data": [model], "has_more": True, "first_id": model["id"], "last_id": model["id"]}
    kind = response_kind("GET", "/v1/models")
    assert strict.check_success(json.dumps(page).encode(), kind) == []
    for path, value in [
        ("next_page", None),
        ("has_more", ...),
        ("first_id", "other"),
        ("data", []),
    ]:
        wrong = json.dumps(changed(page, path, value)).encode()
        assert len(strict.check_success(wrong, kind)) == 1, path
    one = response_kind("GET", f"/v1/models/{model['id']}")
    assert strict.check_success(json.dumps(model).encode(), one) == []
    for path, value in [("line", ...), ("lifecycle", "asleep"), ("horse", 1)]:
        wrong = json.dumps(changed(model, path, value)).encode()
        assert len(strict.check_success(wrong, one)) == 1, path
