"""The responses of `/posthouse/v1`, which no SDK knows, as types for `strict.py`."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from anthropic import _models


class SandboxIsolation(_models.BaseModel):
    """How a sandbox is kept apart: what is in force."""

    technology: Literal["namespaces", "none"]
    own_ids: bool
    landlock: int | None
    seccomp: bool
    limits: Literal["cgroup_v2", "cgroup_v1", "rlimits"]
    disk: str
    door: Literal["all_ports", "listed_ports", "none"]
    lowered: list[str]


class SandboxLimits(_models.BaseModel):
    """What a sandbox may use, by the names and in the units of the configuration."""

    memory: int
    processes: int
    cpus: float
    disk: int
    entries: int
    open_files: int
    file_size: int
    call_seconds: float


class Sandbox(_models.BaseModel):
    """A sandbox that lives."""

    type: Literal["sandbox"]
    session_id: str
    pid: int
    started_at: datetime.datetime
    calls: int
    busy: bool
    isolation: SandboxIsolation
    limits: SandboxLimits
    memory_bytes: int | None


class Sandboxes(_models.BaseModel):
    """All that live. They are few, and come at once."""

    data: list[Sandbox]


class KilledSandbox(_models.BaseModel):
    """What came of a kill."""

    type: Literal["sandbox_killed"]
    session_id: str
    was_live: bool


class ApiKey(_models.BaseModel):
    """A key, without its secret."""

    type: Literal["api_key"]
    id: str
    name: str
    workspace_id: str
    scopes: list[str]
    admin: bool
    hint: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revoked_at: datetime.datetime | None


class NewApiKey(ApiKey):
    """A key that was made just now: the one answer with its secret."""

    secret: str


class ApiKeys(_models.BaseModel):
    """A page of keys."""

    data: list[ApiKey]
    next_page: str | None


class RotatedRootKey(_models.BaseModel):
    """What came of a rotation of the root key."""

    type: Literal["root_key_rotated"]
    root_key: str
    rewrapped: int
    pending: int


class Workspace(_models.BaseModel):
    """A workspace."""

    type: Literal["workspace"]
    id: str
    name: str
    created_at: datetime.datetime


class Workspaces(_models.BaseModel):
    """A page of workspaces."""

    data: list[Workspace]
    next_page: str | None


OWN_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/posthouse/v1/sandboxes", Sandboxes),
    ("POST", r"/posthouse/v1/sandboxes/[^/]+/kill", KilledSandbox),
    ("GET", "/posthouse/v1/keys", ApiKeys),
    ("POST", "/posthouse/v1/keys", NewApiKey),
    ("POST", r"/posthouse/v1/keys/[^/]+/revoke", ApiKey),
    ("POST", "/posthouse/v1/root_key/rotate", RotatedRootKey),
    ("GET", "/posthouse/v1/workspaces", Workspaces),
    ("POST", "/posthouse/v1/workspaces", Workspace),
]
