"""Checks responses against the SDK's own types, far more strictly than the SDK does.

The SDK itself is lenient: unknown fields are kept, missing ones read as `None`. Here an unknown
field, a missing field, a wrong type, an unknown member of a union and a timestamp in another form
are each a problem.
"""

from __future__ import annotations

import datetime
import inspect
import json
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import httpx2
from anthropic import _models
from anthropic.types.beta import BetaManagedAgentsMCPServerURLDefinition
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents
from anthropic.types.shared.error_type import ErrorType

from endpoints import Content, Events, Page
from own_types import OWN_MEMBERS

# The one field that the server may add anywhere.
EXTENSION_FIELD = "posthouse"

# Optional fields that may be left out; all others are null when they are unset.
MAY_BE_ABSENT: dict[str, set[str]] = {
    # Holds what has changed, and nothing else.
    "BetaManagedAgentsSessionUpdatedEvent": {"agent", "budget", "metadata", "title"},
    # The caller's own schema, given back as it was sent.
    "BetaManagedAgentsCustomToolInputSchema": {"properties", "required"},
    # What is unset is left out of `auth`, as the original API does it.
    "BetaManagedAgentsMCPOAuthAuthResponse": {"expires_at", "refresh"},
    "BetaManagedAgentsMCPOAuthRefreshResponse": {"resource", "scope"},
    # The caller's own block, given back as it was sent.
    "BetaManagedAgentsDocumentBlock": {"context", "title"},
}

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
IDENTIFIER = re.compile(r"[a-z]+_[0-9A-Za-z]{24,26}")
ID_PREFIXES: dict[str, str] = {
    "BetaManagedAgentsAgent": "agent_",
    "BetaManagedAgentsSessionAgent": "agent_",
    "BetaManagedAgentsSessionThreadAgent": "agent_",
    "BetaEnvironment": "env_",
    "BetaEnvironmentDeleteResponse": "env_",
    "BetaManagedAgentsSession": "sesn_",
    "BetaManagedAgentsDeletedSession": "sesn_",
    "BetaManagedAgentsSessionThread": "sthr_",
    "BetaFileMetadata": "file_",
    "BetaDeletedFile": "file_",
    "BetaManagedAgentsFileResource": "sesrsc_",
    "BetaManagedAgentsDeleteSessionResource": "sesrsc_",
    "BetaManagedAgentsVault": "vlt_",
    "BetaManagedAgentsDeletedVault": "vlt_",
    "BetaManagedAgentsCredential": "vcrd_",
    "BetaManagedAgentsDeletedCredential": "vcrd_",
}

# `request_too_large` is documented, though the SDK's list of types lacks it.
ERROR_TYPES = {*get_args(ErrorType), "request_too_large"}


# --- values ---------------------------------------------------------------------------------


def check(value: Any, annotation: Any, path: str, own_events: bool = False) -> list[str]:
    """All the ways in which `value` is not exactly what `annotation` says, as sentences."""
    origin = get_origin(annotation)
    if origin is typing.Annotated or getattr(origin, "__name__", "") == "Annotated":
        inner, *extra = get_args(annotation)
        tags = [one for one in extra if isinstance(one, _models.UnionDiscriminator)]
        if tags and value is not None:
            return _check_union(value, get_args(inner), tags[0].field_name, path, own_events)
        return check(value, inner, path)
    if origin is Union or origin is types.UnionType:
        variants = get_args(annotation)
        if value is None:
            return [] if type(None) in variants else [f"{path}: is null"]
        return _check_any(value, [one for one in variants if one is not type(None)], path)
    if _is_literal(annotation):
        choices = get_args(annotation)
        return [] if value in choices else [f"{path}: {value!r} is not one of {choices}"]
    if annotation in (object, Any):
        return []
    if value is None:
        return [] if annotation is type(None) else [f"{path}: is null"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: is {type(value).__name__}, not a list"]
        (entry,) = get_args(annotation)
        return [p for i, one in enumerate(value) for p in check(one, entry, f"{path}[{i}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{path}: is {type(value).__name__}, not an object"]
        _, entry = get_args(annotation)
        return [p for key, one in value.items() for p in check(one, entry, f"{path}.{key}")]
    if inspect.isclass(annotation) and issubclass(annotation, _models.BaseModel):
        if annotation is BetaManagedAgentsMCPServerURLDefinition and isinstance(value, dict):
            annotation = OWN_MEMBERS.get(str(value.get("type")), annotation)
        return _check_model(value, annotation, path)
    return _check_scalar(value, annotation, path)


def _is_literal(annotation: Any) -> bool:
    return getattr(get_origin(annotation), "__name__", str(get_origin(annotation))).endswith(
        "Literal"
    )


def _check_scalar(value: Any, annotation: Any, path: str) -> list[str]:
    if annotation is datetime.datetime:
        return _check_time(value, path)
    if annotation is bool:
        good = isinstance(value, bool)
    elif annotation is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    elif annotation is float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif annotation is str:
        good = isinstance(value, str)
    else:
        return [f"{path}: strict.py does not know {annotation!r}"]
    return [] if good else [f"{path}: is {type(value).__name__}, not {annotation.__name__}"]


def _check_time(value: Any, path: str) -> list[str]:
    if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
        return [f"{path}: {value!r} is no UTC timestamp with microseconds and Z"]
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError as error:
        return [f"{path}: {value!r}: {error}"]
    return []


def _check_union(
    value: Any, variants: tuple[Any, ...], tag: str, path: str, own_events: bool
) -> list[str]:
    nullable = [one for one in variants if one is not type(None)]
    if not isinstance(value, dict) or tag not in value:
        return [f"{path}: has no {tag!r} that tells which member of the union it is"]
    for variant in nullable:
        if value[tag] in get_args(_annotations(variant)[tag]):
            return _check_model(value, variant, path)
    if value[tag] in OWN_MEMBERS:
        return _check_model(value, OWN_MEMBERS[value[tag]], path)
    if own_events and str(value[tag]).startswith("posthouse"):
        return _check_own_event(value, path)
    return [f"{path}: {tag} {value[tag]!r} is not a member of the union"]


def _check_own_event(value: dict[str, Any], path: str) -> list[str]:
    problems = [f"{path}: has no {name!r}" for name in ("id", "processed_at") if name not in value]
    return problems + _check_time(value.get("processed_at"), f"{path}.processed_at")


def _check_any(value: Any, variants: list[Any], path: str) -> list[str]:
    """An untagged union: one member has to fit. The best fitting one tells what is wrong."""
    results = [check(value, variant, path) for variant in variants]
    return min(results, key=len, default=[])


_HINTS: dict[type, dict[str, Any]] = {}


def _annotations(model: Any) -> dict[str, Any]:
    """The fields of a model by their names on the wire, with the tags of their unions."""
    if model not in _HINTS:
        hints: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            hint = info.annotation
            for extra in info.metadata:
                hint = typing.Annotated[hint, extra]
            hints[info.alias or name] = hint
        _HINTS[model] = hints
    return _HINTS[model]


def _check_model(value: Any, model: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: is {type(value).__name__}, not an object"]
    name = model.__name__
    problems: list[str] = []
    known = _annotations(model)
    open_ended = "__pydantic_extra__" in model.__dict__.get("__annotations__", {})
    if not open_ended:
        problems += [
            f"{path}.{key}: unknown field; {name} has none of that name"
            for key in value
            if key not in {*known, EXTENSION_FIELD}
        ]
    may_be_absent = MAY_BE_ABSENT.get(name, set())
    for key, annotation in known.items():
        if key in value:
            problems += check(value[key], annotation, f"{path}.{key}")
        elif key not in may_be_absent:
            problems.append(f"{path}.{key}: missing; {name} has it, send null when it is unset")
        if key.endswith("_at") and annotation is str and key in value:
            problems += _check_time(value[key], f"{path}.{key}")
    problems += _check_id(value.get("id"), name, path)
    return problems


def _check_id(value: Any, model_name: str, path: str) -> list[str]:
    prefix = ID_PREFIXES.get(model_name)
    if prefix is None and model_name.endswith(("Event", "Preview")) and value is not None:
        prefix = "sevt_"
    if prefix is None:
        return []
    good = isinstance(value, str) and value.startswith(prefix) and IDENTIFIER.fullmatch(value)
    return [] if good else [f"{path}.id: {value!r} is no id that begins with {prefix}"]


# --- responses ------------------------------------------------------------------------------


def parse_json(text: str | bytes) -> Any:
    """Parses JSON; a key that occurs twice in an object is an error."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            raise ValueError(f"a key occurs twice among {names}")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def check_success(body: bytes, kind: Any, own_events: bool = False) -> list[str]:
    """Checks the body of a 200."""
    if isinstance(kind, Content):
        return []
    try:
        value = parse_json(body)
    except ValueError as error:
        return [f"body: is no JSON: {error}"]
    if kind is None:
        return ["body: a success from a path that is no endpoint"]
    if isinstance(kind, Page):
        return _check_page(value, kind, own_events)
    if kind is BetaManagedAgentsSendSessionEvents and value.get("data") is None:
        return ["body.data: is null; a success names the events that it has taken"]
    return check(value, kind, "body")


def _check_page(value: Any, page: Page, own_events: bool) -> list[str]:
    if not isinstance(value, dict):
        return ["body: is no object"]
    wanted = {"data"}
    if page.by_cursor:
        wanted |= {"next_page", "prev_page"} if page.both_ways else {"next_page"}
    if page.by_ids:
        wanted |= {"has_more", "first_id", "last_id"}
    if set(value) != wanted:
        return [f"body: has the fields {sorted(value)}, not {sorted(wanted)}"]
    problems: list[str] = []
    if page.by_ids:
        problems += _check_ends(value)
    for name in sorted(wanted & {"next_page", "prev_page"}):
        if value[name] is not None and not (isinstance(value[name], str) and value[name]):
            problems.append(f"body.{name}: {value[name]!r} is no cursor and not null")
    if not isinstance(value["data"], list):
        return [*problems, "body.data: is no list"]
    if not value["data"] and value.get("next_page") is not None:
        problems.append("body: an empty page with a cursor")
    for index, entry in enumerate(value["data"]):
        problems += check(entry, page.entry, f"body.data[{index}]", own_events)
    return problems


def _check_ends(value: dict[str, Any]) -> list[str]:
    ids = [entry["id"] for entry in value["data"]] or [None]
    problems = []
    if (value["first_id"], value["last_id"]) != (ids[0], ids[-1]):
        problems.append("body: first_id and last_id are not those of the entries")
    if "next_page" in value and value["has_more"] is not (value["next_page"] is not None):
        problems.append("body: has_more and next_page do not say the same")
    return problems


def check_error(status: int, body: bytes, headers: httpx2.Headers) -> list[str]:
    """Checks the body of a refusal."""
    try:
        value = parse_json(body)
    except ValueError as fault:
        return [f"error body: is no JSON: {fault}"]
    problems: list[str] = []
    if set(value) != {"type", "error", "request_id"} or value["type"] != "error":
        return [f"error body: is {value!r}"]
    error = value["error"]
    if not {"type", "message"} <= set(error) <= {"type", "message", "details"}:
        problems.append(f"error: has the fields {sorted(error)}")
    if error.get("type") not in ERROR_TYPES:
        problems.append(f"error.type: {error.get('type')!r} is not in the SDK's list")
    if not isinstance(error.get("message"), str) or not error["message"]:
        problems.append(f"error.message: is {error.get('message')!r}")
    details = error.get("details", {"error_code": ""})
    if not isinstance(details, dict) or not isinstance(details.get("error_code"), str):
        problems.append(f"error.details: is {details!r}, without an error_code")
    if value["request_id"] != headers.get("request-id"):
        problems.append(
            f"request_id: {value['request_id']!r} in the body, "
            f"{headers.get('request-id')!r} in the header"
        )
    if (status == 409 or status >= 500) and "x-should-retry" not in headers:
        problems.append("x-should-retry: missing, so that the SDK retries by its own rules")
    return problems


def check_content(headers: httpx2.Headers) -> list[str]:
    """Checks the head of a download: a browser must neither guess what it is nor show it."""
    problems: list[str] = []
    if headers.get("x-content-type-options") != "nosniff":
        problems.append("x-content-type-options: is not nosniff")
    if not headers.get("content-disposition", "").startswith("attachment; filename="):
        problems.append(f"content-disposition: {headers.get('content-disposition')!r}")
    if not headers.get("content-length", "").isdigit():
        problems.append("content-length: missing")
    return problems


def check_headers(headers: httpx2.Headers, streamed: bool, content: bool = False) -> list[str]:
    """Checks what every response has in its head."""
    problems: list[str] = []
    if not re.fullmatch(r"req_[0-9A-Za-z]{20,}", headers.get("request-id", "")):
        problems.append(f"request-id: {headers.get('request-id')!r}")
    wanted = "text/event-stream" if streamed else "application/json"
    if content:
        problems += check_content(headers)
    elif headers.get("content-type", "").split(";")[0].strip() != wanted:
        problems.append(f"content-type: {headers.get('content-type')!r}, not {wanted}")
    if headers.get("content-encoding", "identity") != "identity":
        problems.append(f"content-encoding: {headers['content-encoding']!r}")
    return problems


# --- server-sent events ---------------------------------------------------------------------


@dataclass
class Frame:
    """One frame of a stream."""

    event: str | None = None
    data: str | None = None
    id: str | None = None
    comment: bool = False

    @property
    def json(self) -> dict[str, Any]:
        """The data."""
        assert self.data is not None
        value = parse_json(self.data)
        assert isinstance(value, dict)
        return value


class FrameError(ValueError):
    """Bytes that are no frame as the SDKs read them."""


class FrameReader:
    """Cuts a stream's bytes into frames, as strictly as the most literal client would."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now."""
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        return [self._parse(one) for one in whole]

    @staticmethod
    def _parse(raw: bytes) -> Frame:
        frame = Frame()
        for line in raw.decode("utf-8").split("\n"):
            if "\r" in line:
                raise FrameError(f"a carriage return in {line!r}")
            if line.startswith(":"):
                frame.comment = True
                continue
            name, colon, value = line.partition(": ")
            if not colon or name not in ("event", "data", "id", "retry"):
                raise FrameError(f"the line {line!r}")
            if name != "retry":
                if getattr(frame, name) is not None:
                    raise FrameError(f"two {name!r} lines in {raw!r}")
                setattr(frame, name, value)
        return frame


class StreamChecker:
    """Checks one connection's frames, and that its previews are what the SDK's helper needs."""

    def __init__(self, kind: Events, own_events: bool) -> None:
        self._kind = kind
        self._own_events = own_events
        self._reader = FrameReader()
        self._previews: dict[str, list[str] | None] = {}
        self._finished: set[str] = set()

    def feed(self, data: bytes) -> list[str]:
        """Takes the next bytes; returns what is wrong with them."""
        try:
            frames = self._reader.feed(data)
        except (FrameError, UnicodeDecodeError) as error:
            return [f"stream: {error}"]
        return [problem for frame in frames for problem in self._check(frame)]

    def _check(self, frame: Frame) -> list[str]:
        if frame.event is None and frame.data is None:
            return [] if frame.comment else [f"stream: an empty frame {frame}"]
        if frame.event is None or frame.data is None:
            return [f"stream: the SDKs drop {frame}"]
        try:
            value = frame.json
        except (ValueError, AssertionError) as error:
            return [f"stream: {frame.data!r}: {error}"]
        if frame.event == "ping":
            return [] if value == {"type": "ping"} else [f"stream: a ping with {value}"]
        if frame.event == "error":
            wrong = (
                value.get("type") != "error"
                or value.get("error", {}).get("type") not in ERROR_TYPES
            )
            return [f"stream: an error frame with {value}"] if wrong else []
        problems: list[str] = []
        if frame.event != value.get("type"):
            problems.append(f"stream: event {frame.event!r} with type {value.get('type')!r}")
        problems += check(value, self._kind.entry, f"stream {frame.event}", self._own_events)
        if frame.event in ("event_start", "event_delta"):
            if frame.id is not None:
                problems.append(f"stream: a preview with the position {frame.id}")
        elif not frame.id and frame.event != "session.deleted":
            # Only of a deleted session there is nothing to go on with.
            problems.append(f"stream: {frame.event} has no id to go on from")
        return problems or self._check_preview(value)

    def _check_preview(self, value: dict[str, Any]) -> list[str]:
        kind = value["type"]
        if kind == "event_start":
            event = value["event"]
            if event["id"] in self._previews:
                return [f"previews: {event['id']} starts twice"]
            self._previews[event["id"]] = [] if event["type"] == "agent.message" else None
        elif kind == "event_delta":
            return self._check_delta(value)
        elif kind in ("agent.message", "agent.thinking"):
            self._finished.add(value["id"])
            texts = self._previews.get(value["id"])
            final = [block.get("text", "") for block in value.get("content", [])]
            for index, text in enumerate(texts or []):
                if index >= len(final) or not final[index].startswith(text):
                    return [f"previews: {text!r} is no beginning of {final!r} at {index}"]
        return []

    def _check_delta(self, value: dict[str, Any]) -> list[str]:
        event_id = value["event_id"]
        texts = self._previews.get(event_id)
        if texts is None:
            return [f"previews: a delta for {event_id}, which has not started"]
        if event_id in self._finished:
            return [f"previews: a delta for {event_id} behind its event"]
        index, text = value["delta"]["index"], value["delta"]["content"]["text"]
        if index > len(texts):
            return [f"previews: index {index} after {len(texts)} blocks of {event_id}"]
        if index == len(texts):
            texts.append("")
        texts[index] += text
        return []
