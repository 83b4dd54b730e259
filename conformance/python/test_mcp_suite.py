"""Every scenario for clients of the official MCP conformance suites, through the whole of posthouse: the
suite's server is an agent's MCP server, a session's model calls its tools, `vaults connect` signs in.

A scenario is passed when the suite has no objection at all, not even a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mcp_suite import (
    BOUND,
    NEXT,
    OLDEST,
    RELEASED,
    STATELESS,
    Case,
    Desk,
    Verdict,
    at_once,
    listed,
    missing,
    required,
)
from mcp_suite_user import User
from world import World

CONFIG = """
[egress]
# Where the suites' servers are.
allow_private = ["127.0.0.0/8", "::1/128"]
"""

# Of 0.1.16, which knows revisions up to 2025-11-25.
OF_RELEASED = (
    "initialize",
    "tools_call",
    "elicitation-sep1034-client-defaults",
    "sse-retry",
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
    "auth/2025-03-26-oauth-metadata-backcompat",
    "auth/2025-03-26-oauth-endpoint-fallback",
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/client-credentials-jwt",
    "auth/client-credentials-basic",
    "auth/cross-app-access-complete-flow",
)
# What 2026-07-28 requires, and what is run for it without a score.
OF_STATELESS = (
    "tools_call",
    "request-metadata",
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/authorization-server-migration",
    "auth/iss-supported",
    "auth/iss-not-advertised",
    "auth/iss-supported-missing",
    "auth/iss-wrong-issuer",
    "auth/iss-unexpected",
    "auth/iss-normalized",
    "auth/metadata-issuer-mismatch",
    "sep-2322-client-request-state",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
    "auth/client-credentials-jwt",
    "auth/client-credentials-basic",
    "auth/enterprise-managed-authorization",
    "auth/dpop",
    "auth/dpop-nonce",
    "auth/wif-jwt-bearer",
    "json-schema-2020-12-preservation",
)
# Of a revision that is gone, as the newer suite has it.
OF_OLD = ("auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback")
# With a server that speaks 2025-06-18 at most.
OF_OLDEST = ("initialize", "tools_call")
# What the newer suite has beyond that: skills, of which nothing is used here.
OF_NOBODY = (
    "sep-2640-client-no-prefetch",
    "sep-2640-client-verify-digest",
    "sep-2640-client-verify-size",
    "sep-2640-client-verify-frontmatter",
)

CASES = [
    *(Case(RELEASED, scenario) for scenario in OF_RELEASED),
    *(Case(NEXT, scenario, STATELESS) for scenario in OF_STATELESS),
    *(Case(NEXT, scenario) for scenario in OF_OLD),
    *(Case(NEXT, scenario, OLDEST) for scenario in OF_OLDEST),
]

# What is not passed: a check that is missed, and why. A case that begins to pass fails until it is
# taken out.
NOT_PASSED: dict[str, tuple[str, str]] = {
    "released-auth/2025-03-26-oauth-metadata-backcompat": (
        "token-request",
        "its server names an issuer that stands elsewhere, which has to be refused (RFC 8414, 3.3); "
        "the newer suite's server of that name is in order",
    ),
    "released-auth/cross-app-access-complete-flow": (
        "complete-flow-token-exchange",
        "an extension: sign-in by a company's identity provider",
    ),
    "2026-07-28-auth/enterprise-managed-authorization": (
        "complete-flow-token-exchange",
        "the same extension by its later name",
    ),
    "2026-07-28-auth/dpop": (
        "sep-1932-client-token-request-proof",
        "an extension: tokens that are bound to a key",
    ),
    "2026-07-28-auth/dpop-nonce": ("sep-1932-client-as-nonce", "the same extension"),
    "2026-07-28-auth/wif-jwt-bearer": (
        "wif-grant-type",
        "an extension: workload identity federation",
    ),
    "2026-07-28-json-schema-2020-12-preservation": (
        "sep-2106-client-composition-keywords-preserved",
        "models are shown schemas without allOf and anyOf at the top: providers refuse a whole "
        "request for them",
    ),
}

# Where signing in has to fail, and with what.
REFUSED: dict[str, str] = {
    "auth/resource-mismatch": "not signed in: Protected resource metadata at ",
    "auth/iss-supported-missing": "not signed in: Authorization server response missing required",
    "auth/iss-wrong-issuer": "not signed in: Authorization server issuer mismatch",
    "auth/iss-unexpected": "not signed in: Authorization server issuer mismatch",
    "auth/iss-normalized": "not signed in: Authorization server issuer mismatch",
    "auth/metadata-issuer-mismatch": "not signed in: Authorization server issuer mismatch",
    "auth/scope-retry-limit": "still refused after 3 times",
}


@pytest.fixture(scope="module")
def suite_world() -> Iterator[World]:
    """A server for all scenarios at once."""
    world = World(CONFIG)
    world.environment()
    yield world
    world.close()


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, suite_world: World
) -> Iterator[dict[Case, Future[Verdict]]]:
    """The verdicts on all cases that were chosen. Several are worked on at a time, in order."""
    desk = Desk(lambda task: User(suite_world, task).play())
    with ThreadPoolExecutor(at_once()) as pool:
        chosen = [
            item.callspec.params["case"]
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and item.module is request.module
            and item.originalname == test_a_scenario.__name__
        ]
        yield {case: pool.submit(desk.run, case) for case in chosen}
        pool.shutdown(cancel_futures=True)
    desk.close()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_scenario(
    case: Case, verdicts: dict[Case, Future[Verdict]], suite_world: World
) -> None:
    verdict = verdicts[case].result(timeout=BOUND)
    if str(case) in NOT_PASSED:
        missed, _ = NOT_PASSED[str(case)]
        assert any(one.startswith(f"{missed}: ") for one in verdict.objections), verdict.story()
        return
    assert not verdict.objections, verdict.story() + suite_world.server_errors()
    if case.scenario in REFUSED:
        assert REFUSED[case.scenario] in verdict.said, verdict.story()


def test_no_model_request_would_have_been_refused(
    verdicts: dict[Case, Future[Verdict]], suite_world: World
) -> None:
    for verdict in verdicts.values():
        verdict.result(timeout=BOUND)
    assert suite_world.model.take_violations() == []


def test_every_scenario_for_clients_is_a_case() -> None:
    assert missing(OF_RELEASED, listed(RELEASED, "client")) == ([], [])
    assert missing(OF_STATELESS, required(STATELESS, "client")) == ([], [])
    beyond, gone = missing([*OF_RELEASED, *OF_STATELESS, *OF_NOBODY], listed(NEXT, "client"))
    assert beyond == []
    # The newer suite has another name for it.
    assert gone == ["auth/cross-app-access-complete-flow"]
