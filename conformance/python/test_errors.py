"""Refusals: their form, their status, their words, and what the SDK makes of them."""

from __future__ import annotations

import json
import socket
from typing import Any

import anthropic
import httpx2
import pytest

from strict import check_error
from support import message
from world import API_KEY, BOUND, MODEL, World

TAIL = "0123456789abcdefABCDEF01"


def refusal(response: httpx2.Response) -> tuple[int, str, str]:
    """Status, type and message. That the whole has the right form is checked everywhere."""
    error = response.json()["error"]
    return response.status_code, error["type"], error["message"]


def test_body_and_header_name_the_same_request(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.beta.agents.retrieve(f"agent_{TAIL}")
    error = caught.value
    assert isinstance(error.body, dict)
    assert error.body["request_id"] == error.request_id == error.response.headers["request-id"]
    assert (error.status_code, error.type, error.api_message) == (
        404,
        "not_found_error",
        "Agent not found.",
    )


def test_successes_name_their_request_too(client: anthropic.Anthropic) -> None:
    first = client.beta.agents.create(name="a", model=MODEL)
    second = client.beta.agents.retrieve(first.id)
    assert first._request_id and second._request_id and first._request_id != second._request_id


def test_raw_responses(client: anthropic.Anthropic) -> None:
    made = client.beta.agents.with_raw_response.create(name="raw", model=MODEL)
    assert made.headers["request-id"] == made.parse()._request_id
    with client.beta.agents.with_streaming_response.retrieve(made.parse().id) as response:
        assert response.parse() == made.parse()


# --- who asks


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": API_KEY},
        {"authorization": f"Basic {API_KEY}"},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"authorization": f"Bearer {API_KEY}", "x-api-key": "wrong"},
        {"authorization": "Bearer wrong", "x-api-key": API_KEY},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/agents"),
        ("POST", "/v1/agents"),
        ("GET", "/v1/environments"),
        ("GET", f"/v1/sessions/sesn_{TAIL}"),
        ("POST", f"/v1/sessions/sesn_{TAIL}/events"),
        ("GET", f"/v1/sessions/sesn_{TAIL}/events/stream"),
    ],
)
def test_without_a_key_there_is_nothing(
    world: World, headers: dict[str, str], method: str, path: str
) -> None:
    response = world.raw(key=None).request(method, path, headers=headers)
    # Whether a key is missing or wrong can't be told.
    assert refusal(response) == (401, "authentication_error", "Authentication failed")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {API_KEY}"},
        {"authorization": f"bearer {API_KEY}"},
        {"x-api-key": API_KEY},
        {"authorization": f"Bearer {API_KEY}", "x-api-key": API_KEY},
        {"x-api-key": API_KEY, "anthropic-version": "2023-06-01"},
        {"x-api-key": API_KEY, "anthropic-version": "1999-01-01"},
        {"x-api-key": API_KEY, "anthropic-beta": "managed-agents-2026-04-01"},
        {"x-api-key": API_KEY, "anthropic-beta": "no-such-thing,agent-memory-2026-07-22"},
    ],
)
def test_a_key_may_come_in_both_ways_and_versions_do_not_matter(
    world: World, headers: dict[str, str]
) -> None:
    http = world.raw(key=None)
    assert http.get("/v1/agents", headers=headers).status_code == 200
    assert http.get("/v1/agents", headers=headers, params={"beta": "true"}).status_code == 200


def test_the_sdk_says_what_is_wrong_with_the_key(world: World) -> None:
    with pytest.raises(anthropic.AuthenticationError, match="Authentication failed"):
        list(world.client(api_key="wrong", max_retries=2).beta.agents.list())
    assert [one.status for one in world.recorder.exchanges] == [401]


def test_the_workspace_is_the_one_of_the_key(client: anthropic.Anthropic) -> None:
    made = client.beta.agents.with_raw_response.create(name="a", model=MODEL)
    workspace = made.headers["anthropic-workspace-id"]
    agent = made.parse()
    assert client.beta.agents.retrieve(agent.id, workspace_id=workspace) == agent
    with pytest.raises(anthropic.PermissionDeniedError):
        client.beta.agents.retrieve(agent.id, workspace_id=f"wrkspc_{TAIL}")


def test_an_old_client_is_understood(world: World) -> None:
    http = world.raw(key=None)
    headers = {"x-api-key": API_KEY, "anthropic-version": "2023-06-01"}
    beta = {"beta": "true"}
    body = {"name": "old", "model": MODEL}
    made = http.post("/v1/agents", json=body, headers=headers, params=beta).json()
    again = http.get(f"/v1/agents/{made['id']}", headers=headers, params=beta).json()
    assert made == again


# --- what is not there


@pytest.mark.parametrize("key", [API_KEY, None])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/agents/x/y/z"),
        ("GET", f"/v1/sessions/sesn_{TAIL}/stream"),
        ("GET", f"/v1/sessions/sesn_{TAIL}/threads/sthr_{TAIL}/events/stream"),
    ],
)
def test_paths_that_are_none(world: World, key: str | None, method: str, path: str) -> None:
    response = world.raw(key=key).request(method, path)
    assert refusal(response) == (404, "not_found_error", "Not found")


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/v1/agents/agent_{}", "Agent not found."),
        ("POST", "/v1/agents/agent_{}", "Agent not found."),
        ("POST", "/v1/agents/agent_{}/archive", "Agent not found."),
        ("GET", "/v1/agents/agent_{}/versions", "Agent not found."),
        ("GET", "/v1/environments/env_{}", "Environment not found."),
        ("POST", "/v1/environments/env_{}", "Environment not found."),
        ("POST", "/v1/environments/env_{}/archive", "Environment not found."),
        ("DELETE", "/v1/environments/env_{}", "Environment not found."),
        ("GET", "/v1/sessions/sesn_{}", "Session not found."),
        ("POST", "/v1/sessions/sesn_{}", "Session not found."),
        ("POST", "/v1/sessions/sesn_{}/archive", "Session not found."),
        ("DELETE", "/v1/sessions/sesn_{}", "Session not found."),
        ("GET", "/v1/sessions/sesn_{}/events", "Session not found."),
        ("GET", "/v1/sessions/sesn_{}/events/stream", "Session not found."),
        ("GET", "/v1/sessions/sesn_{}/threads", "Session not found."),
    ],
)
def test_ids_that_nobody_has_are_not_found(
    world: World, method: str, path: str, words: str
) -> None:
    response = world.raw().request(method, path.format(TAIL))
    assert refusal(response) == (404, "not_found_error", words)


def test_events_for_a_session_that_nobody_has(world: World) -> None:
    body = {"events": [message("hi")]}
    response = world.raw().post(f"/v1/sessions/sesn_{TAIL}/events", json=body)
    assert refusal(response) == (404, "not_found_error", "Session not found.")


def test_versions_that_are_not_there(client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="a", model=MODEL)
    with pytest.raises(anthropic.NotFoundError, match="Agent version not found."):
        client.beta.agents.retrieve(agent.id, version=2)


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/v1/agents/{}", "Invalid agent ID."),
        ("POST", "/v1/agents/{}/archive", "Invalid agent ID."),
        ("GET", "/v1/agents/{}/versions", "Invalid agent ID."),
        ("GET", "/v1/environments/{}", "Invalid environment ID."),
        ("DELETE", "/v1/environments/{}", "Invalid environment ID."),
        ("GET", "/v1/sessions/{}", "Invalid session ID."),
        ("DELETE", "/v1/sessions/{}", "Invalid session ID."),
        ("GET", "/v1/sessions/{}/events", "Invalid session ID."),
        ("GET", "/v1/sessions/{}/events/stream", "Invalid session ID."),
        ("GET", "/v1/sessions/{}/threads", "Invalid session ID."),
    ],
)
@pytest.mark.parametrize(
    "malformed", ["x", f"vlt_{TAIL}", "sesn_", "agent_a-b", "..%2f", "env_%00"]
)
def test_malformed_ids_are_refused(
    world: World, method: str, path: str, words: str, malformed: str
) -> None:
    response = world.raw().request(method, path.format(malformed))
    assert refusal(response) == (400, "invalid_request_error", words)


def test_malformed_ids_in_bodies_are_refused(world: World, client: anthropic.Anthropic) -> None:
    environment_id = world.environment()
    with pytest.raises(anthropic.BadRequestError, match="agent"):
        client.beta.sessions.create(agent="x", environment_id=environment_id)
    with pytest.raises(anthropic.BadRequestError, match="environment_id"):
        client.beta.sessions.create(agent=world.agent(), environment_id="x")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/agents"),
        ("PUT", "/v1/agents"),
        ("PATCH", "/v1/agents/agent_{}"),
        ("DELETE", "/v1/agents/agent_{}"),
        ("GET", "/v1/agents/agent_{}/archive"),
        ("PUT", "/v1/sessions/sesn_{}/events"),
        ("POST", "/v1/sessions/sesn_{}/events/stream"),
        ("DELETE", "/v1/sessions/sesn_{}/threads"),
    ],
)
def test_methods_that_are_none(world: World, method: str, path: str) -> None:
    response = world.raw().request(method, path.format(TAIL))
    assert refusal(response) == (405, "invalid_request_error", "Method Not Allowed")


# --- bodies and queries


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/agents", {"name": "x", "model": MODEL, "client_id": 1}, "client_id"),
        (
            "/v1/agents",
            {"name": "x", "model": {"id": MODEL, "temperature": 1}},
            "model.temperature",
        ),
        (
            "/v1/agents",
            {
                "name": "x",
                "model": MODEL,
                "tools": [
                    {"type": "agent_toolset_20260401", "configs": [{"name": "bash", "x": 1}]}
                ],
            },
            "tools[0].configs[0].x",
        ),
        ("/v1/environments", {"name": "x", "image": "debian"}, "image"),
        ("/v1/sessions", {"agent": "agent_1", "environment_id": "env_1", "tags": []}, "tags"),
        ("/v1/sessions/{session}", {"titel": "x"}, "titel"),
        ("/v1/sessions/{session}/events", {"events": [message("x")], "wait": True}, "wait"),
        (
            "/v1/sessions/{session}/events",
            {"events": [{**message("x"), "priority": 1}]},
            "events[0].priority",
        ),
    ],
)
def test_unknown_fields_are_refused_in_the_hosted_wording(
    world: World, path: str, body: dict[str, Any], field: str
) -> None:
    address = path.format(session=world.session())
    response = world.raw().post(address, json=body)
    wording = f'Failed to parse request body: unknown field "{field}"'
    assert refusal(response) == (400, "invalid_request_error", wording)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"{'name': 1}",
        b'{"name": "x"} x',
        b"\xff",
        b'{"name": "\xff"}',
    ],
)
def test_bodies_that_are_no_object_are_refused(world: World, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = world.raw().post("/v1/agents", content=content, headers=headers)
    assert refusal(response)[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/agents", "limits=1"),
        ("/v1/agents", "include_archived=maybe"),
        ("/v1/agents", "created_at[gte]=yesterday"),
        ("/v1/agents", "created_at[about]=2026-01-01T00:00:00Z"),
        ("/v1/agents/{agent}", "version=x"),
        ("/v1/agents/{agent}", "version=0"),
        ("/v1/sessions", "order=up"),
        ("/v1/sessions", "statuses[]=busy"),
        ("/v1/sessions", "agent_id=x&agent_id=y"),
        ("/v1/sessions/{session}", "expand=all"),
        ("/v1/sessions/{session}/events", "order=random"),
        ("/v1/sessions/{session}/events/stream", "since=1"),
        ("/v1/sessions/{session}/threads", "statuses[]=busy"),
    ],
)
def test_queries_are_checked(world: World, path: str, query: str) -> None:
    agent = world.agent()
    address = path.format(agent=agent, session=world.session(agent))
    response = world.raw().get(f"{address}?{query}")
    name = query.split("=")[0].split("[")[0]
    status, kind, words = refusal(response)
    assert (status, kind) == (400, "invalid_request_error")
    assert name in words


def test_times_are_understood_in_every_form(world: World) -> None:
    http = world.raw()
    for time in (
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.123456Z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T05:04:05+02:00",
    ):
        assert http.get("/v1/agents", params={"created_at[gte]": time}).status_code == 200


@pytest.mark.parametrize("empty", [None, [], {}])
@pytest.mark.parametrize("field", ["skills", "multiagent"])
def test_nothing_may_be_asked_of_what_is_not_supported(
    world: World, field: str, empty: object
) -> None:
    body = {"name": "x", "model": MODEL, field: empty}
    assert world.raw().post("/v1/agents", json=body).status_code == 200


@pytest.mark.parametrize("empty", [None, [], {}])
def test_nothing_may_be_asked_of_a_session(world: World, empty: object) -> None:
    body = {"agent": world.agent(), "environment_id": world.environment(), "budget": empty}
    assert world.raw().post("/v1/sessions", json=body).status_code == 200


def test_posts_without_a_body(world: World) -> None:
    http = world.raw()
    agent = world.agent()
    session = world.session(agent)
    # The SDK names a type even where there is no body.
    headers = {"content-type": "application/json", "content-length": "0"}
    for path in (f"/v1/sessions/{session}/archive", f"/v1/agents/{agent}/archive"):
        assert http.post(path, headers=headers).status_code == 200
        assert http.post(path, json={}).status_code == 200
        assert http.post(path, json={"force": True}).status_code == 400


def test_a_body_that_is_too_large(world: World) -> None:
    # Its head says so, and the server does not wait for the body.
    head = [
        "POST /v1/agents HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {API_KEY}",
        "content-type: application/json",
        f"content-length: {32 * 1024 * 1024 + 1}",
        "connection: close",
    ]
    address = httpx2.URL(world.url)
    with socket.create_connection((address.host, address.port), timeout=BOUND) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = connection.makefile("rb")
        assert answer.readline().split()[1] == b"413"
        lines = iter(lambda: answer.readline().strip().decode(), "")
        headers = httpx2.Headers(dict(line.split(": ", 1) for line in lines))
        body = answer.read(int(headers["content-length"]))
    assert check_error(413, body, headers) == []
    assert json.loads(body)["error"]["type"] == "request_too_large"


def test_metadata_may_be_long_but_not_too_long(client: anthropic.Anthropic) -> None:
    metadata = {f"{i:02}" + "k" * 62: "ü" * 512 for i in range(16)}
    agent = client.beta.agents.create(name="x" * 256, model=MODEL, metadata=metadata)
    assert agent.metadata == metadata
    with pytest.raises(anthropic.BadRequestError, match="metadata"):
        client.beta.agents.update(agent.id, metadata={"one": "more"})
