"""The scenarios for servers of the official MCP conformance suites, against the server whose tools are agents.

Agents play the suite's tools as far as agents can. What the server does not offer is refused as the
protocol says, and stands in a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from mcp_agents import KeyRelay, asks_first, chatters, expose, fails
from mcp_suite import (
    BOUND,
    NEXT,
    OLDEST,
    RELEASED,
    STATEFUL,
    STATELESS,
    Case,
    Verdict,
    at_once,
    listed,
    missing,
    required,
    run,
)
from support import text
from world import World

OF_RELEASED = (
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "tools-call-elicitation",
    "server-sse-polling",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
)
OF_OLDEST = ("server-initialize", "ping", "tools-list", "tools-call-simple-text")
OF_STATEFUL = ("server-session-lifecycle",)
OF_STATELESS = (
    "server-stateless",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
    "input-required-result-request-state",
    "input-required-result-missing-input-response",
    "input-required-result-result-type",
    "input-required-result-unsupported-methods",
    "input-required-result-tampered-state",
    "input-required-result-validate-input",
)

CASES = [
    *(Case(RELEASED, scenario) for scenario in OF_RELEASED),
    *(Case(NEXT, scenario, OLDEST) for scenario in OF_OLDEST),
    *(Case(NEXT, scenario, STATEFUL) for scenario in OF_STATEFUL),
    *(Case(NEXT, scenario, STATELESS) for scenario in OF_STATELESS),
]

# Of scenarios that look at several things, the checks of what is not offered. All others are passed.
NOT_OFFERED: dict[str, set[str]] = {
    # Tools that want sampling or write logs.
    "2026-07-28-server-stateless": {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-server-no-log-without-loglevel",
    },
    # Prompts and resources.
    "2026-07-28-caching": {
        "sep-2549-prompts-list-caching-hints",
        "sep-2549-resources-list-caching-hints",
        "sep-2549-resources-templates-list-caching-hints",
    },
}

# What is not played at all, and why. The tests behind the suite show how it is refused.
NOT_PLAYED: dict[str, tuple[str, ...]] = {
    "there are no prompts": (
        "prompts-list",
        "prompts-get-simple",
        "prompts-get-with-args",
        "prompts-get-embedded-resource",
        "prompts-get-with-image",
        "input-required-result-non-tool-request",
    ),
    "there are no resources": (
        "resources-list",
        "resources-read-text",
        "resources-read-binary",
        "resources-templates-read",
        "resources-subscribe",
        "resources-unsubscribe",
        "sep-2164-resource-not-found",
    ),
    "there are no logs and no completions": (
        "logging-set-level",
        "tools-call-with-logging",
        "completion-complete",
    ),
    "agents answer in text": (
        "tools-call-image",
        "tools-call-audio",
        "tools-call-embedded-resource",
        "tools-call-mixed-content",
    ),
    "clients are asked for confirmations, by one form": (
        "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
        "input-required-result-basic-elicitation",
        "input-required-result-multi-round",
        "input-required-result-ignore-extra-params",
    ),
    "clients are asked for neither sampling nor roots": (
        "tools-call-sampling",
        "input-required-result-basic-sampling",
        "input-required-result-basic-list-roots",
        "input-required-result-multiple-input-requests",
        "input-required-result-capability-check",
    ),
    "all agents have the same schema, of plain members without headers": (
        "json-schema-2020-12",
        "http-custom-header-server-validation",
    ),
    "there are no tasks": (
        "tasks-lifecycle",
        "tasks-capability-negotiation",
        "tasks-wire-fields",
        "tasks-request-state-removal",
        "tasks-mrtr-input",
        "tasks-request-headers",
        "tasks-dispatch-and-envelope",
        "tasks-status-notifications",
        "tasks-required-task-error",
        "tasks-mrtr-composition",
    ),
    "there are no skills over MCP": (
        "sep-2640-skills-directory",
        "sep-2640-skills-enumeration",
        "sep-2640-skills-manifest",
    ),
}

# Methods that are not there. The one for a whole list may be sent without parameters.
METHODS: dict[str, dict[str, Any]] = {
    "prompts/list": {},
    "prompts/get": {"name": "test_simple_prompt"},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "test://static-text"},
    "resources/subscribe": {"uri": "test://static-text"},
    "resources/unsubscribe": {"uri": "test://static-text"},
    "logging/setLevel": {"level": "debug"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "test_simple_prompt"},
        "argument": {"name": "a", "value": "b"},
    },
    "tasks/get": {"taskId": "1"},
    "tasks/cancel": {"taskId": "1"},
    "skills/list": {},
    "no/such": {},
}


@pytest.fixture(scope="module")
def relay() -> Iterator[KeyRelay]:
    """A server whose agents play the suite's tools, as the suite reaches it."""
    world = World()
    expose(world, "test_simple_text", text("This is a simple text response for testing."))
    expose(world, "test_reconnection", text("There again."))
    fails(world, "test_error_handling")
    chatters(world, "test_tool_with_progress")
    for name in ("elicitation", "request_state", "tampered_state"):
        asks_first(world, f"test_input_required_result_{name}")
    for name in ("test_elicitation", "test_streaming_elicitation"):
        asks_first(world, name)
    relay = KeyRelay(world)
    yield relay
    relay.close()
    violations = world.model.take_violations()
    world.close()
    assert violations == []


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, relay: KeyRelay
) -> Iterator[dict[Case, Future[Verdict]]]:
    """The verdicts on all cases that were chosen."""
    chosen = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and item.originalname == test_a_scenario.__name__
    ]
    with ThreadPoolExecutor(at_once()) as pool:
        yield {case: pool.submit(run, case, "server", "--url", relay.url) for case in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_scenario(case: Case, verdicts: dict[Case, Future[Verdict]]) -> None:
    verdict = verdicts[case].result(timeout=BOUND)
    if str(case) in NOT_OFFERED:
        missed = {one["id"] for one in verdict.checks if one["status"] in ("FAILURE", "WARNING")}
        assert missed == NOT_OFFERED[str(case)], verdict.story()
        assert verdict.found("SUCCESS"), verdict.story()
        return
    assert not verdict.objections, verdict.story()


def test_every_scenario_for_servers_is_played_or_stands_in_the_table() -> None:
    not_played = {one for scenarios in NOT_PLAYED.values() for one in scenarios}
    for played, there in (
        (OF_RELEASED, listed(RELEASED, "server")),
        (OF_RELEASED + OF_STATEFUL, required(STATEFUL, "server")),
        (OF_STATELESS, required(STATELESS, "server")),
        (OF_RELEASED + OF_STATEFUL + OF_STATELESS, listed(NEXT, "server")),
    ):
        beyond, _ = missing({*played, *not_played}, there)
        assert beyond == []
        assert not_played.isdisjoint(played)
    assert not_played <= {*listed(RELEASED, "server"), *listed(NEXT, "server")}


def ask(relay: KeyRelay, revision: str, method: str, params: dict[str, Any]) -> httpx2.Response:
    """One request of the protocol, at a revision; in a session of its own where there are any."""
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": revision,
    }
    client = {"name": "conformance", "version": "1"}
    with httpx2.Client(headers=headers, timeout=BOUND) as http:
        if revision == STATELESS:
            meta = {
                "io.modelcontextprotocol/protocolVersion": revision,
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            http.headers["mcp-method"] = method
            for name in ("name", "uri", "taskId"):
                if name in params:
                    http.headers["mcp-name"] = params[name]
            params = {**params, "_meta": meta}
        else:
            begun = {"protocolVersion": revision, "capabilities": {}, "clientInfo": client}
            opened = http.post(relay.url, json=request("initialize", begun))
            http.headers["mcp-session-id"] = opened.headers["mcp-session-id"]
            http.post(relay.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        return http.post(relay.url, json=request(method, params))


def request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A request as it is written."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def error(response: httpx2.Response) -> dict[str, Any]:
    """The error of an answer, which may be a stream of one event."""
    answer = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line.removeprefix("data:").strip() for line in answer.splitlines()]
        answer = next(line for line in lines if line.startswith("{"))
    read: dict[str, Any] = httpx2.Response(200, text=answer).json()
    assert read["id"] == 1
    found = read["error"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("revision", (OLDEST, STATEFUL, STATELESS))
def test_what_is_not_offered_is_refused_as_the_protocol_says(
    revision: str, relay: KeyRelay
) -> None:
    for method, params in METHODS.items():
        response = ask(relay, revision, method, params)
        assert error(response)["code"] == -32601, (method, response.text)
        if revision == STATELESS:
            assert response.status_code == 404, (method, response.text)
    response = ask(relay, revision, "tools/call", {"name": "image", "arguments": {}})
    assert error(response)["code"] == -32602, response.text
