"""What the success of each endpoint has to be: the SDK's own type of it, or that of `own_types.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from anthropic.types.beta import (
    BetaDeletedFile,
    BetaEnvironment,
    BetaEnvironmentDeleteResponse,
    BetaFileMetadata,
    BetaManagedAgentsAgent,
    BetaManagedAgentsDeletedSession,
    BetaManagedAgentsDeletedVault,
    BetaManagedAgentsSession,
    BetaManagedAgentsVault,
    BetaModelInfo,
)
from anthropic.types.beta.sessions import (
    BetaManagedAgentsDeleteSessionResource,
    BetaManagedAgentsFileResource,
    BetaManagedAgentsSendSessionEvents,
    BetaManagedAgentsSessionEvent,
    BetaManagedAgentsSessionResource,
    BetaManagedAgentsSessionThread,
    BetaManagedAgentsStreamSessionEvents,
)
from anthropic.types.beta.sessions.beta_managed_agents_stream_session_thread_events import (
    BetaManagedAgentsStreamSessionThreadEvents,
)
from anthropic.types.beta.vaults import (
    BetaManagedAgentsCredential,
    BetaManagedAgentsCredentialValidation,
    BetaManagedAgentsDeletedCredential,
)

from own_types import OWN_ROUTES


@dataclass(frozen=True)
class Page:
    """A list's response: its entries, whether it can be read backward, whether it also names its
    first and last entry, for clients that page by ids, and whether it has cursors at all."""

    entry: Any
    both_ways: bool = False
    by_ids: bool = False
    by_cursor: bool = True


@dataclass(frozen=True)
class Content:
    """A response that is a file's bytes."""


@dataclass(frozen=True)
class Events:
    """A stream's response: server-sent events of one union."""

    entry: Any


_ID = r"[^/]+"
_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/agents", BetaManagedAgentsAgent),
    ("GET", "/v1/agents", Page(BetaManagedAgentsAgent)),
    ("GET", f"/v1/agents/{_ID}", BetaManagedAgentsAgent),
    ("POST", f"/v1/agents/{_ID}", BetaManagedAgentsAgent),
    ("POST", f"/v1/agents/{_ID}/archive", BetaManagedAgentsAgent),
    ("GET", f"/v1/agents/{_ID}/versions", Page(BetaManagedAgentsAgent)),
    ("POST", "/v1/environments", BetaEnvironment),
    ("GET", "/v1/environments", Page(BetaEnvironment)),
    ("GET", f"/v1/environments/{_ID}", BetaEnvironment),
    ("POST", f"/v1/environments/{_ID}", BetaEnvironment),
    ("POST", f"/v1/environments/{_ID}/archive", BetaEnvironment),
    ("DELETE", f"/v1/environments/{_ID}", BetaEnvironmentDeleteResponse),
    ("POST", "/v1/files", BetaFileMetadata),
    ("GET", "/v1/files", Page(BetaFileMetadata, by_ids=True)),
    ("GET", f"/v1/files/{_ID}", BetaFileMetadata),
    ("GET", f"/v1/files/{_ID}/content", Content()),
    ("DELETE", f"/v1/files/{_ID}", BetaDeletedFile),
    # With the field that only the beta namespace knows: the answer does not depend on who asks.
    ("GET", "/v1/models", Page(BetaModelInfo, by_ids=True, by_cursor=False)),
    ("GET", "/v1/models/.+", BetaModelInfo),
    ("POST", "/v1/sessions", BetaManagedAgentsSession),
    ("GET", "/v1/sessions", Page(BetaManagedAgentsSession, both_ways=True)),
    ("GET", f"/v1/sessions/{_ID}", BetaManagedAgentsSession),
    ("POST", f"/v1/sessions/{_ID}", BetaManagedAgentsSession),
    ("POST", f"/v1/sessions/{_ID}/archive", BetaManagedAgentsSession),
    ("DELETE", f"/v1/sessions/{_ID}", BetaManagedAgentsDeletedSession),
    ("POST", f"/v1/sessions/{_ID}/events", BetaManagedAgentsSendSessionEvents),
    ("GET", f"/v1/sessions/{_ID}/events", Page(BetaManagedAgentsSessionEvent)),
    ("GET", f"/v1/sessions/{_ID}/events/stream", Events(BetaManagedAgentsStreamSessionEvents)),
    ("POST", f"/v1/sessions/{_ID}/resources", BetaManagedAgentsFileResource),
    ("GET", f"/v1/sessions/{_ID}/resources", Page(BetaManagedAgentsSessionResource)),
    ("GET", f"/v1/sessions/{_ID}/resources/{_ID}", BetaManagedAgentsSessionResource),
    (
        "DELETE",
        f"/v1/sessions/{_ID}/resources/{_ID}",
        BetaManagedAgentsDeleteSessionResource,
    ),
    ("GET", f"/v1/sessions/{_ID}/threads", Page(BetaManagedAgentsSessionThread)),
    ("GET", f"/v1/sessions/{_ID}/threads/{_ID}", BetaManagedAgentsSessionThread),
    ("POST", f"/v1/sessions/{_ID}/threads/{_ID}/archive", BetaManagedAgentsSessionThread),
    ("GET", f"/v1/sessions/{_ID}/threads/{_ID}/events", Page(BetaManagedAgentsSessionEvent)),
    (
        "GET",
        f"/v1/sessions/{_ID}/threads/{_ID}/stream",
        Events(BetaManagedAgentsStreamSessionThreadEvents),
    ),
    ("POST", "/v1/vaults", BetaManagedAgentsVault),
    ("GET", "/v1/vaults", Page(BetaManagedAgentsVault)),
    ("GET", f"/v1/vaults/{_ID}", BetaManagedAgentsVault),
    ("POST", f"/v1/vaults/{_ID}", BetaManagedAgentsVault),
    ("POST", f"/v1/vaults/{_ID}/archive", BetaManagedAgentsVault),
    ("DELETE", f"/v1/vaults/{_ID}", BetaManagedAgentsDeletedVault),
    ("POST", f"/v1/vaults/{_ID}/credentials", BetaManagedAgentsCredential),
    ("GET", f"/v1/vaults/{_ID}/credentials", Page(BetaManagedAgentsCredential)),
    ("GET", f"/v1/vaults/{_ID}/credentials/{_ID}", BetaManagedAgentsCredential),
    ("POST", f"/v1/vaults/{_ID}/credentials/{_ID}", BetaManagedAgentsCredential),
    ("POST", f"/v1/vaults/{_ID}/credentials/{_ID}/archive", BetaManagedAgentsCredential),
    ("DELETE", f"/v1/vaults/{_ID}/credentials/{_ID}", BetaManagedAgentsDeletedCredential),
    (
        "POST",
        f"/v1/vaults/{_ID}/credentials/{_ID}/mcp_oauth_validate",
        BetaManagedAgentsCredentialValidation,
    ),
]
ROUTES = [
    (method, re.compile(pattern), kind) for method, pattern, kind in [*_ROUTES, *OWN_ROUTES]
]


def response_kind(method: str, path: str) -> Any:
    """What a success of that endpoint must be; `None` for a path that is no endpoint."""
    for route_method, pattern, kind in ROUTES:
        if method == route_method and pattern.fullmatch(path):
            return kind
    return None
