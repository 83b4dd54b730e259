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


Rule = Literal[
    "unrestricted",
    "allowed_hosts",
    "package_managers",
    "mcp_servers",
    "passthrough",
    "not_listed",
    "port",
    "guard",
    "unknown",
    "mismatch",
    "protocol",
    "certificate",
]


class AllowedHost(_models.BaseModel):
    """A host that a sandbox may reach, and why."""

    host: str
    rule: Rule


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
    allowlist: list[AllowedHost] | None
    passthrough: list[str]


class Sandboxes(_models.BaseModel):
    """All that live. They are few, and come at once."""

    data: list[Sandbox]


class KilledSandbox(_models.BaseModel):
    """What came of a kill."""

    type: Literal["sandbox_killed"]
    session_id: str
    was_live: bool


class SandboxStartRecord(_models.BaseModel):
    """A sandbox was made."""

    type: Literal["sandbox_record"]
    id: str
    session_id: str
    created_at: datetime.datetime
    kind: Literal["sandbox"]
    version: str
    kernel: str
    isolation: SandboxIsolation
    limits: SandboxLimits
    allowlist: list[AllowedHost] | None
    passthrough: list[str]


class SandboxDecisionRecord(_models.BaseModel):
    """A door has let something through, or refused it; of those that were too many, how many."""

    type: Literal["sandbox_record"]
    id: str
    session_id: str
    created_at: datetime.datetime
    kind: Literal["allow", "deny"]
    host: str | None
    port: int | None
    rule: Rule | None
    event_ids: list[str]
    count: int
    last_at: datetime.datetime


class InjectionLocation(_models.BaseModel):
    """Where in a request a secret went."""

    header: bool
    body: bool


class SandboxInjectionRecord(_models.BaseModel):
    """A door has put a secret into a request."""

    type: Literal["sandbox_record"]
    id: str
    session_id: str
    created_at: datetime.datetime
    kind: Literal["injection"]
    vault_id: str
    credential_id: str
    host: str
    port: int
    method: str
    location: InjectionLocation
    event_ids: list[str]


class SandboxRecords(_models.BaseModel):
    """A page of records."""

    data: list[SandboxStartRecord | SandboxDecisionRecord | SandboxInjectionRecord]
    next_page: str | None


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


class PosthouseHeader(_models.BaseModel):
    """A credential for a header of an MCP server: a member that the SDK's union lacks."""

    type: Literal["posthouse_header"]
    mcp_server_url: str
    header_name: str


class StdioMcpServer(_models.BaseModel):
    """An MCP server that runs in the sandbox: where the SDK knows servers behind addresses alone."""

    type: Literal["posthouse_stdio"]
    name: str
    command: str
    args: list[str]
    env: dict[str, str]


class InjectionLocation(_models.BaseModel):
    """Where in a request a value was put."""

    header: bool
    body: bool


class CredentialUse(_models.BaseModel):
    """One use of a credential."""

    type: Literal["credential_use"]
    id: str
    vault_id: str
    credential_id: str
    session_id: str | None
    event_ids: list[str]
    kind: Literal["egress", "mcp", "refresh", "validate"]
    host: str
    port: int
    method: str
    location: InjectionLocation
    created_at: datetime.datetime


class CredentialUses(_models.BaseModel):
    """A page of the ledger."""

    data: list[CredentialUse]
    next_page: str | None


# Members of the SDK's unions that it does not know, by their tags. Where the SDK has one model alone,
# it is as if it had a union.
OWN_MEMBERS: dict[str, Any] = {
    "posthouse_header": PosthouseHeader,
    "posthouse_stdio": StdioMcpServer,
}

OWN_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/posthouse/v1/sandboxes", Sandboxes),
    ("POST", r"/posthouse/v1/sandboxes/[^/]+/kill", KilledSandbox),
    ("GET", r"/posthouse/v1/sandboxes/[^/]+/records", SandboxRecords),
    ("GET", "/posthouse/v1/credential_uses", CredentialUses),
    ("GET", "/posthouse/v1/keys", ApiKeys),
    ("POST", "/posthouse/v1/keys", NewApiKey),
    ("POST", r"/posthouse/v1/keys/[^/]+/revoke", ApiKey),
    ("POST", "/posthouse/v1/root_key/rotate", RotatedRootKey),
    ("GET", "/posthouse/v1/workspaces", Workspaces),
    ("POST", "/posthouse/v1/workspaces", Workspace),
]
