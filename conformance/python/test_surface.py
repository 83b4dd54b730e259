"""The whole surface: `openapi.json` is valid, and every route answers as it says, to current and to
older clients; the object `posthouse`."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from described import Description
from support import ASKING_TOOLSET, WEATHER, bash, call_ids, confirm, message, text, until_idle
from world import API_KEY, MODEL, World

TAIL = "0123456789abcdefABCDEF01"
OTHER = "claude-opus-4-6"

# Of these no request succeeds in this version.
NEVER = {"updateResource", "archiveThread"}
# These speak the Model Context Protocol: test_mcp_suite_server and test_mcp_agents hold them to it.
MCP = {"sendMcpMessage", "listenToMcp", "endMcpSession"}


@pytest.fixture(scope="module")
def description() -> Description:
    """What the server says of itself."""
    return Description()


def test_the_description_is_valid(description: Description) -> None:
    errors = [error.message for error in OpenAPIV31SpecValidator(description.document).iter_errors()]
    assert errors == []


def test_every_example_is_what_its_schema_says(description: Description) -> None:
    seen = 0
    for path, methods in description.document["paths"].items():
        for method, operation in methods.items():
            bodies = list(operation["responses"].values())
            bodies = [one for one in bodies if "$ref" not in one]
            if "requestBody" in operation:
                bodies.append(operation["requestBody"])
            for body in bodies:
                for media in body.get("content", {}).values():
                    if "example" in media:
                        problems = description.check_value(media["example"], media["schema"])
                        assert problems == [], f"{method} {path}"
                        seen += 1
    for name, schema in description.document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            for example in described.get("examples", []):
                assert description.check_value(example, described) == [], f"{name}.{field}"
                seen += 1
    assert seen > 80


def test_the_check_notices_what_is_not_described(
    world: World, client: anthropic.Anthropic, description: Description
) -> None:
    client.beta.agents.create(name="a", model=MODEL, tools=[ASKING_TOOLSET])
    whole = world.recorder.exchanges[-1].body
    body = json.loads(whole)
    assert description.check_answer("createAgent", 200, whole) == []
    assert description.check_answer("createAgent", 418, whole) != []
    for path in ([], ["model"], ["tools", 0], ["tools", 0, "configs", 0]):
        for change in (lambda one: one.update(colour=1), lambda one: one.popitem()):
            changed = json.loads(json.dumps(body))
            place = changed
            for step in path:
                place = place[step]
            change(place)
            assert description.check_answer("createAgent", 200, json.dumps(changed).encode()) != []


def walk(world: World, http: httpx2.Client, suffix: str = "") -> None:
    """Asks every route for something that it can do, and most for something that they can't."""

    def call(method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        glue = "&" if "?" in path else "?"
        address = path + (glue + suffix if suffix else "")
        response = http.request(method, address, json=body) if body is not None else http.request(
            method, address
        )
        assert response.status_code == status, f"{method} {path}: {response.text}"
        return response.json() if "json" in response.headers["content-type"] else None

    # Keys and workspaces.
    call("GET", "/posthouse/v1/workspaces?limit=1")
    workspace = call("POST", "/posthouse/v1/workspaces", {"name": f"of a walk {suffix}"})
    body = {"name": "k", "scopes": ["agents:read"], "workspace_id": workspace["id"]}
    key = call("POST", "/posthouse/v1/keys", body)
    call("GET", "/posthouse/v1/keys?limit=1")
    call("POST", f"/posthouse/v1/keys/{key['id']}/revoke")
    call("POST", "/posthouse/v1/root_key/rotate")
    # Agents.
    tools = [
        {
            **ASKING_TOOLSET,
            "configs": [
                *ASKING_TOOLSET["configs"],
                {"name": "read", "enabled": False},
                {
                    "name": "web_fetch",
                    "enabled": False,
                    "allowed_domains": ["docs.rs"],
                    "max_content_tokens": 20_000,
                    "url_sources": {
                        "user_input": "all",
                        "client_tool_results": {
                            "type": "except",
                            "tools": [{"type": "tool_reference", "name": WEATHER["name"]}],
                        },
                        "server_tool_results": {
                            "type": "only",
                            "tools": [{"type": "tool_reference", "name": "web_search"}],
                        },
                    },
                },
                {
                    "name": "web_search",
                    "enabled": False,
                    "blocked_domains": ["example.com/private"],
                    "user_location": {"type": "approximate", "country": "DE"},
                },
            ],
        },
        WEATHER,
    ]
    agent = call(
        "POST",
        "/v1/agents",
        {
            "name": "walker",
            "model": {"id": MODEL, "effort": {"type": "low"}},
            "tools": tools,
            "metadata": {"a": "b"},
            "posthouse": {"fallback": [OTHER], "mcp_elicitation": "defaults"},
        },
    )
    call(
        "POST",
        "/v1/agents",
        {
            "name": "connected",
            "model": MODEL,
            "mcp_servers": [
                {"type": "url", "name": "docs", "url": "https://mcp.example.com/mcp"},
                {"type": "posthouse_stdio", "name": "local", "command": "x", "env": {"A": "1"}},
            ],
            "tools": [
                {"type": "mcp_toolset", "mcp_server_name": "docs"},
                {
                    "type": "mcp_toolset",
                    "mcp_server_name": "local",
                    "configs": [{"name": "search", "enabled": False}],
                },
            ],
        },
    )
    one = f"/v1/agents/{agent['id']}"
    call("POST", one, {"description": "d", "version": 1})
    call("POST", one, {"description": "e", "version": 1}, status=409)
    call("POST", "/v1/agents", {"name": ""}, status=400)
    call("GET", one)
    call("GET", f"{one}?version=1")
    call("GET", f"{one}?version=9", status=404)
    call("GET", f"{one}/versions?limit=1")
    call("GET", "/v1/agents?limit=1&include_archived=true")
    # Environments.
    environment = call(
        "POST",
        "/v1/environments",
        {
            "name": "e",
            "config": {
                "type": "cloud",
                "networking": {"type": "limited", "allowed_hosts": ["a.example"]},
            },
            "posthouse": {"passthrough_hosts": ["pinned.example"]},
        },
    )
    place = f"/v1/environments/{environment['id']}"
    call("POST", place, {"description": "d"})
    call("GET", place)
    call("GET", "/v1/environments?limit=1")
    # Files.
    response = http.post(
        f"/v1/files?{suffix}",
        files={"file": ("a.txt", b"a", "text/plain")},
        data={"expires_in_seconds": "3600"},
    )
    assert response.status_code == 200, response.text
    file_id = response.json()["id"]
    call("GET", f"/v1/files/{file_id}")
    call("GET", f"/v1/files/{file_id}/content", status=400)
    call("GET", "/v1/files?limit=1")
    call("GET", f"/v1/files?ids[]={file_id}&ids={file_id}")
    # Models.
    call("GET", "/v1/models?limit=1&lifecycle[]=active")
    call("GET", f"/v1/models/{MODEL}")
    # Vaults.
    vault = call("POST", "/v1/vaults", {"display_name": "v", "metadata": {"a": "b"}})
    safe = f"/v1/vaults/{vault['id']}"
    call("POST", safe, {"display_name": "w"})
    call("GET", safe)
    call("GET", "/v1/vaults?limit=1&include_archived=true")
    server = "https://127.0.0.1:1/mcp"
    proof = {"type": "client_secret_basic", "client_secret": "s"}
    refresh = {
        "client_id": "c",
        "token_endpoint": "https://127.0.0.1:1/token",
        "refresh_token": "r",
        "token_endpoint_auth": proof,
        "scope": "read",
        "resource": server,
    }
    limited = {"type": "limited", "allowed_hosts": ["api.example.com"]}
    kept = []
    for auth in (
        {
            "type": "mcp_oauth",
            "mcp_server_url": server,
            "access_token": "t",
            "expires_at": "2036-01-01T00:00:00Z",
            "refresh": refresh,
        },
        {"type": "static_bearer", "mcp_server_url": f"{server}?2", "token": "t"},
        {
            "type": "environment_variable",
            "secret_name": "A",
            "secret_value": "v",
            "networking": limited,
            "injection_location": {"header": True},
        },
        {
            "type": "posthouse_header",
            "mcp_server_url": f"{server}?3",
            "header_name": "x-key",
            "token": "t",
        },
    ):
        made = call("POST", f"{safe}/credentials", {"auth": auth, "display_name": "c"})
        call("POST", f"{safe}/credentials", {"auth": auth}, status=409)
        kept.append(f"{safe}/credentials/{made['id']}")
        call("POST", kept[-1], {"auth": {"type": auth["type"]}, "display_name": None})
        call("GET", kept[-1])
    call("POST", f"{kept[0]}/mcp_oauth_validate")
    call("POST", f"{kept[1]}/mcp_oauth_validate", status=400)
    call("GET", f"{safe}/credentials?limit=2")
    call("POST", f"{kept[1]}/archive")
    call("DELETE", kept[1])
    call("GET", f"/posthouse/v1/credential_uses?vault_id={vault['id']}&limit=1")
    # Sessions.
    world.model.script(bash("echo made > /mnt/session/outputs/made.txt"), text("done"))
    session = call(
        "POST",
        "/v1/sessions",
        {
            "agent": {"type": "agent_with_overrides", "id": agent["id"], "version": 2},
            "environment_id": environment["id"],
            "title": "t",
            "resources": [{"type": "file", "file_id": file_id}],
            "vault_ids": [vault["id"]],
        },
    )
    session_id = session["id"]
    here = f"/v1/sessions/{session_id}"
    sdk = world.client()
    with sdk.beta.sessions.events.stream(
        session_id, event_deltas=["agent.message", "agent.thinking"]
    ) as stream:
        call("POST", f"{here}/events", {"events": [message("go")]})
        (asked,) = call_ids(until_idle(stream))
        call("POST", f"{here}/events", {"events": [confirm(asked)]})
        until_idle(stream)
    call("GET", "/posthouse/v1/sandboxes")
    call("GET", f"/posthouse/v1/sandboxes/{session_id}/records")
    call("GET", f"/posthouse/v1/sandboxes/{session_id}/records?types[]=deny&limit=1")
    call("POST", f"/posthouse/v1/sandboxes/{session_id}/kill")
    call("GET", here)
    call("POST", here, {"title": None, "posthouse": {"model": OTHER, "fallback": []}})
    call("POST", here, {"agent": {"tools": []}, "metadata": {"x": "y"}})
    call("POST", here, {"vault_ids": []}, status=400)
    for query in ("statuses[]=idle", "statuses=idle&statuses=running", "limit=1", "order=asc"):
        call("GET", f"/v1/sessions?agent_id={agent['id']}&{query}")
    call("GET", f"{here}/events")
    call("GET", f"{here}/events?posthouse_events=true")
    call("GET", f"{here}/events?types[]=session.updated&order=desc&after_seq=1&before_seq=999")
    (resource,) = call("GET", f"{here}/resources")["data"]
    call("GET", f"{here}/resources/{resource['id']}")
    call("POST", f"{here}/resources/{resource['id']}", {"authorization_token": "t"}, status=400)
    more = {"type": "file", "file_id": file_id, "mount_path": "more"}
    added = call("POST", f"{here}/resources", more)
    call("DELETE", f"{here}/resources/{added['id']}")
    (thread,) = call("GET", f"{here}/threads?statuses[]=idle")["data"]
    inner = f"{here}/threads/{thread['id']}"
    call("GET", inner)
    call("GET", f"{inner}/events?limit=2")
    call("POST", f"{inner}/archive", status=400)
    outputs = call("GET", f"/v1/files?scope_id={session_id}")["data"]
    for output in outputs:
        if output["downloadable"]:
            call("GET", f"/v1/files/{output['id']}/content")
    # The end.
    call("POST", f"{here}/archive")
    for path in (f"{here}/events/stream", f"{inner}/stream"):
        # Of a session that is over a stream has nothing more to say, and ends.
        with http.stream("GET", f"{path}?after=0&{suffix}") as ended:
            assert ended.status_code == 200
            ended.read()
    call("DELETE", here)
    call("GET", here, status=404)
    call("DELETE", f"/v1/files/{file_id}")
    call("POST", f"{one}/archive")
    call("POST", f"{place}/archive")
    call("DELETE", place)
    call("POST", f"{safe}/archive")
    call("DELETE", safe)


def judge(world: World, description: Description) -> set[str]:
    """Holds all that was answered against the description; returns what has succeeded."""
    succeeded = set()
    problems = []
    for exchange in world.recorder.exchanges:
        name = description.name_of(exchange.method, exchange.path)
        assert name is not None, f"{exchange.method} {exchange.path} is not described"
        if exchange.status == 200:
            succeeded.add(name)
        if exchange.body:
            problems += description.check_answer(name, exchange.status, exchange.body)
    assert problems == []
    return succeeded


def test_every_route_answers_as_described(world: World, description: Description) -> None:
    walk(world, world.raw())
    missing = set(description.operations()) - judge(world, description) - NEVER - MCP
    assert missing == set(), f"no request to {sorted(missing)} has succeeded"


def test_older_clients_are_served_the_same(world: World, description: Description) -> None:
    old = world.raw(key=None)
    old.headers["x-api-key"] = API_KEY
    old.headers["anthropic-version"] = "2023-06-01"
    old.headers["anthropic-beta"] = "managed-agents-2026-04-01"
    walk(world, old, "beta=true")
    judge(world, description)


def test_streams_are_as_described(
    world: World, client: anthropic.Anthropic, description: Description
) -> None:
    world.model.script({"steps": [{"thinking": "hm"}, {"text": "hi there"}]})
    session_id = world.session()
    schema = {"$ref": "#/components/schemas/StreamedEvent"}
    seen = []
    with client.beta.sessions.events.with_streaming_response.stream(
        session_id, event_deltas=["agent.message"]
    ) as response:
        client.beta.sessions.events.send(session_id, events=[message("hello")])
        for line in response.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                assert description.check_value(event, schema) == []
                seen.append(event["type"])
                if event["type"] == "session.status_idle":
                    break
    assert {"event_start", "event_delta", "agent.message", "agent.thinking"} <= set(seen)


def test_what_the_description_refuses_is_refused(
    world: World, description: Description
) -> None:
    """A few bodies on which schema and server have to agree; the tables' own tests send all."""
    http = world.raw()
    for body, good in [
        ({"name": "a", "model": MODEL}, True),
        ({"name": "a", "model": {"id": MODEL, "speed": None}}, True),
        ({"name": "a", "model": MODEL, "skills": []}, True),
        ({"name": "a", "model": MODEL, "skills": [1]}, False),
        ({"name": "a"}, False),
        ({"name": "x" * 257, "model": MODEL}, False),
        ({"name": "a", "model": MODEL, "colour": 1}, False),
        ({"name": "a", "model": MODEL, "metadata": {"k": None}}, False),
        ({"name": "a", "model": MODEL, "posthouse": {"fallback": [OTHER] * 9}}, False),
        ({"name": "a", "model": MODEL, "tools": [{"type": "mcp_toolset"}]}, False),
    ]:
        assert (description.check_request("createAgent", body) == []) is good, body
        assert (http.post("/v1/agents", json=body).status_code == 200) is good, body


def test_the_sdk_passes_the_extension_through(
    world: World, client: anthropic.Anthropic
) -> None:
    extension = {"posthouse": {"fallback": [OTHER]}}
    agent = client.beta.agents.create(name="a", model=MODEL, extra_body=extension)
    shown = agent.to_dict()["posthouse"]
    assert [one["id"] for one in shown["fallback"]] == [OTHER]
    session = client.beta.sessions.create(agent=agent.id, environment_id=world.environment())
    assert session.agent.to_dict()["posthouse"] == shown
    switch = {"posthouse": {"model": OTHER, "fallback": [MODEL]}}
    switched = client.beta.sessions.update(session.id, extra_body=switch)
    assert switched.agent.model.id == OTHER
    (event,) = client.beta.sessions.events.list(session.id, types=["session.updated"])
    assert event.agent is not None and event.agent.model.id == OTHER
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.beta.sessions.update(session.id, extra_body={"posthouse": {"model": None}})
    details = refused.value.body["error"]["details"]
    assert details == {"error_code": "agent_model_required"}
