"""Agents: made, read, changed by versions, listed, archived."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from support import TOOLSET, WEATHER, wire
from world import MODEL, World

DEFAULT_CONFIG = {"enabled": True, "permission_policy": {"type": "always_allow"}}
SERVER: Any = {"type": "url", "name": "docs", "url": "https://mcp.example.com/mcp"}
DOCS: Any = {"type": "mcp_toolset", "mcp_server_name": "docs"}


def test_a_bare_agent_is_shown_in_full(client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="bare", model=MODEL)
    shown = wire(agent)
    for name in ("id", "created_at", "updated_at"):
        del shown[name]
    assert shown == {
        "type": "agent",
        "name": "bare",
        "version": 1,
        "description": None,
        "model": {
            "id": MODEL,
            "effort": {"type": "high"},
            "speed": "standard",
            "inference_geo": None,
        },
        "system": None,
        "tools": [],
        "mcp_servers": [],
        "skills": [],
        "multiagent": None,
        "metadata": {},
        "execution_identity": {"type": "service_account"},
        "archived_at": None,
    }
    assert agent.created_at == agent.updated_at
    assert client.beta.agents.retrieve(agent.id) == agent


def test_everything_that_is_sent_comes_back(client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(
        name="full",
        model={"id": MODEL, "effort": "low", "speed": "fast", "inference_geo": "us"},
        description="for tests",
        system="Be brief.",
        tools=[TOOLSET, WEATHER],
        metadata={"team": "a", "stage": "b"},
        execution_identity={"type": "service_account"},
    )
    shown = wire(agent)
    assert shown["model"] == {
        "id": MODEL,
        "effort": {"type": "low"},
        "speed": "fast",
        "inference_geo": "us",
    }
    assert (shown["description"], shown["system"]) == ("for tests", "Be brief.")
    assert shown["metadata"] == {"team": "a", "stage": "b"}
    toolset = {"type": TOOLSET["type"], "default_config": DEFAULT_CONFIG, "configs": []}
    assert shown["tools"] == [toolset, WEATHER]


def test_configs_hold_what_was_sent_resolved(client: anthropic.Anthropic) -> None:
    sent: Any = {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": False},
        "configs": [
            {"name": "bash", "permission_policy": {"type": "always_ask"}},
            {"name": "read", "type": "read", "enabled": True},
        ],
    }
    agent = client.beta.agents.create(name="asking", model=MODEL, tools=[sent])
    (toolset,) = wire(agent)["tools"]
    allow, ask = {"type": "always_allow"}, {"type": "always_ask"}
    assert toolset == {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": False, "permission_policy": allow},
        "configs": [
            {"name": "bash", "type": "bash", "enabled": False, "permission_policy": ask},
            {"name": "read", "type": "read", "enabled": True, "permission_policy": allow},
        ],
    }


def test_mcp_servers_and_their_toolsets_are_shown_resolved(client: anthropic.Anthropic) -> None:
    local: Any = {"type": "posthouse_stdio", "name": "local", "command": "npx", "args": ["-y", "x"]}
    allow, ask = {"type": "always_allow"}, {"type": "always_ask"}
    of_local: Any = {
        "type": "mcp_toolset",
        "mcp_server_name": "local",
        "default_config": {"enabled": False},
        "configs": [{"name": "search", "enabled": True, "permission_policy": allow}, {"name": "y"}],
    }
    agent = client.beta.agents.create(
        name="mcp", model=MODEL, mcp_servers=[SERVER, local], tools=[DOCS, of_local]
    )
    assert wire(agent)["mcp_servers"] == [SERVER, {**local, "env": {}}]
    assert wire(agent)["tools"] == [
        {**DOCS, "default_config": {"enabled": True, "permission_policy": ask}, "configs": []},
        {
            **of_local,
            "default_config": {"enabled": False, "permission_policy": ask},
            "configs": [
                {"name": "search", "enabled": True, "permission_policy": allow},
                {"name": "y", "enabled": False, "permission_policy": ask},
            ],
        },
    ]
    same = client.beta.agents.update(
        agent.id, tools=wire(agent)["tools"], mcp_servers=wire(agent)["mcp_servers"]
    )
    assert same == agent
    # What comes of a change is what is checked.
    for change in ({"tools": []}, {"mcp_servers": []}, {"mcp_servers": [SERVER]}):
        with pytest.raises(anthropic.BadRequestError, match="mcp_servers"):
            client.beta.agents.update(agent.id, **change)
    cleared = client.beta.agents.update(
        agent.id, tools=[], extra_body={"mcp_servers": None}
    )
    assert (cleared.version, cleared.mcp_servers, cleared.tools) == (2, [], [])


@pytest.mark.parametrize(
    ("servers", "toolsets", "wording"),
    [
        (
            [],
            ["deepwiki"],
            'references server "deepwiki" which is not defined in mcp_servers',
        ),
        (
            ["deepwiki"],
            [],
            "mcp_servers [deepwiki] declared but no mcp_toolset in tools references them",
        ),
        (
            ["deepwiki"],
            ["deepwiki", "deepwiki"],
            'duplicate entry for server "deepwiki"; each MCP server may have at most one mcp_toolset',
        ),
    ],
)
def test_servers_and_toolsets_go_together_in_the_hosted_wording(
    client: anthropic.Anthropic, servers: list[str], toolsets: list[str], wording: str
) -> None:
    sent: Any = {
        "mcp_servers": [{**SERVER, "name": name} for name in servers],
        "tools": [{**DOCS, "mcp_server_name": name} for name in toolsets],
    }
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(name="x", model=MODEL, **sent)
    assert str(caught.value.api_message).endswith(wording)


def test_options_of_the_web_are_shown_resolved(client: anthropic.Anthropic) -> None:
    weather: Any = {"type": "tool_reference", "name": WEATHER["name"]}
    toolset: Any = {
        **TOOLSET,
        "configs": [
            {
                "name": "web_fetch",
                "allowed_domains": ["docs.rs"],
                "max_content_tokens": 20_000,
                "url_sources": {
                    "user_input": "none",
                    "client_tool_results": {"type": "only", "tools": [weather]},
                },
            },
            {
                "name": "web_search",
                "enabled": False,
                "blocked_domains": ["example.com/private"],
                "user_location": {"type": "approximate", "country": "DE"},
            },
        ],
    }
    agent = client.beta.agents.create(name="web", model=MODEL, tools=[toolset, WEATHER])
    fetch, search = wire(agent)["tools"][0]["configs"]
    allow = {"type": "always_allow"}
    assert fetch == {
        "type": "web_fetch",
        "name": "web_fetch",
        "enabled": True,
        "permission_policy": allow,
        "allowed_domains": ["docs.rs"],
        "blocked_domains": None,
        "max_content_tokens": 20_000,
        "url_sources": {
            "user_input": {"type": "none"},
            "client_tool_results": {"type": "only", "tools": [weather]},
            "server_tool_results": None,
        },
    }
    assert search == {
        "type": "web_search",
        "name": "web_search",
        "enabled": False,
        "permission_policy": allow,
        "allowed_domains": None,
        "blocked_domains": ["example.com/private"],
        "user_location": {
            "type": "approximate",
            "city": None,
            "region": None,
            "country": "DE",
            "timezone": None,
        },
    }
    for name, options, wording in [
        (
            "web_fetch",
            {"allowed_domains": ["a.com"], "blocked_domains": ["b.com"]},
            "Only one of allowed_domains or blocked_domains may be set.",
        ),
        (
            "web_search",
            {"allowed_domains": []},
            "allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
        (
            "web_fetch",
            {"allowed_domains": ["10.0.0.1"]},
            "allowed_domains.0: IP addresses are not supported; "
            'provide a plain hostname like "example.com"',
        ),
    ]:
        config: Any = {"name": name, "enabled": False, **options}
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.agents.create(
                name="x", model=MODEL, tools=[{**TOOLSET, "configs": [config]}]
            )
        assert str(caught.value.api_message).endswith(wording)


def test_a_change_makes_a_version(client: anthropic.Anthropic) -> None:
    first = client.beta.agents.create(
        name="v", model=MODEL, description="d", system="s", metadata={"a": "1", "b": "2"}
    )
    second = client.beta.agents.update(
        first.id,
        version=1,
        name="w",
        description=None,
        system="",
        metadata={"a": None, "c": "3"},
        tools=[TOOLSET],
    )
    assert (second.version, second.name) == (2, "w")
    assert (second.description, second.system) == (None, None)
    assert second.metadata == {"b": "2", "c": "3"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    third = client.beta.agents.update(first.id, tools=None)
    assert (third.version, third.tools) == (3, [])
    assert client.beta.agents.retrieve(first.id) == third
    assert client.beta.agents.retrieve(first.id, version=1) == first
    assert list(client.beta.agents.versions.list(first.id)) == [third, second, first]


def test_a_change_of_nothing_keeps_the_version(client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="same", model=MODEL, metadata={"a": "1"})
    for change in ({}, {"name": "same"}, {"metadata": {"a": "1", "z": None}}, {"version": 1}):
        assert client.beta.agents.update(agent.id, **change) == agent


def test_the_effort_is_kept_with_the_model_and_goes_with_another(
    client: anthropic.Anthropic,
) -> None:
    agent = client.beta.agents.create(
        name="effort", model={"id": MODEL, "effort": "low", "speed": "fast", "inference_geo": "us"}
    )
    agent = client.beta.agents.update(agent.id, model={"id": MODEL})
    model = wire(agent)["model"]
    assert model == {
        "id": MODEL,
        "effort": {"type": "low"},
        "speed": "standard",
        "inference_geo": None,
    }
    agent = client.beta.agents.update(agent.id, model="claude-opus-5-5")
    model = wire(agent)["model"]
    assert (model["id"], model["effort"]) == ("claude-opus-5-5", {"type": "medium"})


def test_a_stale_version_is_a_conflict(world: World) -> None:
    client = world.client(max_retries=2)
    agent = client.beta.agents.create(name="stale", model=MODEL)
    client.beta.agents.update(agent.id, name="fresh")
    world.recorder.exchanges.clear()
    with pytest.raises(anthropic.ConflictError) as caught:
        client.beta.agents.update(agent.id, version=1, name="fresh")
    assert caught.value.api_message == (
        "Concurrent modification detected. Please fetch the latest version and retry."
    )
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert [one.retry_count for one in world.recorder.exchanges] == [0]


def test_an_archived_agent_is_read_only(world: World, client: anthropic.Anthropic) -> None:
    agent = client.beta.agents.create(name="old", model=MODEL)
    client.beta.agents.update(agent.id, name="older")
    archived = client.beta.agents.archive(agent.id)
    assert archived.archived_at is not None and archived.version == 2
    assert client.beta.agents.archive(agent.id).archived_at == archived.archived_at
    for version in client.beta.agents.versions.list(agent.id):
        assert version.archived_at == archived.archived_at
    assert client.beta.agents.retrieve(agent.id, version=1).archived_at == archived.archived_at
    with pytest.raises(anthropic.BadRequestError, match="Cannot modify archived agent"):
        client.beta.agents.update(agent.id, name="new")
    with pytest.raises(anthropic.BadRequestError, match="is archived"):
        client.beta.sessions.create(agent=agent.id, environment_id=world.environment())
    with pytest.raises(anthropic.BadRequestError, match="is archived"):
        client.beta.sessions.create(
            agent={"type": "agent", "id": agent.id, "version": 1},
            environment_id=world.environment(),
        )


def test_archived_agents_are_listed_on_request(client: anthropic.Anthropic) -> None:
    kept = client.beta.agents.create(name="kept", model=MODEL)
    gone = client.beta.agents.create(name="gone", model=MODEL)
    client.beta.agents.archive(gone.id)
    assert [one.id for one in client.beta.agents.list()][:1] == [kept.id]
    assert gone.id not in [one.id for one in client.beta.agents.list()]
    both = [one.id for one in client.beta.agents.list(include_archived=True)]
    assert both[:2] == [gone.id, kept.id]


def test_lists_are_bounded_by_time(client: anthropic.Anthropic) -> None:
    agents = [client.beta.agents.create(name=f"t{i}", model=MODEL) for i in range(3)]
    found = client.beta.agents.list(
        created_at_gte=agents[1].created_at, created_at_lte=agents[1].created_at
    )
    assert [one.id for one in found] == [agents[1].id]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"model": None}, "model"),
        ({"model": {"id": MODEL, "effort": "extreme"}}, "model.effort"),
        ({"model": {"id": "claude-opus-4-6", "effort": "xhigh"}}, "model.effort"),
        ({"model": {"id": "claude-opus-4-6", "speed": "fast"}}, "model.speed"),
        ({"model": {"id": "claude-opus-4-5", "inference_geo": "us"}}, "model.inference_geo"),
        ({"system": "x" * 100_001}, "system"),
        ({"description": "x" * 2049}, "description"),
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"tools": [TOOLSET, TOOLSET]}, "tools.1"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{**WEATHER, "name": "bash"}, TOOLSET]}, "tools"),
        ({"tools": [{**WEATHER, "name": "two words"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "description": ""}]}, "tools[0].description"),
        ({"tools": [{**WEATHER, "input_schema": {"type": "array"}}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}, "tools.0.mcp_toolset"),
        (
            {
                "tools": [
                    {
                        **TOOLSET,
                        "configs": [{"name": "bash", "permission_policy": {"type": "auto"}}],
                    }
                ]
            },
            "tools[0].configs[0].permission_policy",
        ),
        (
            {"mcp_servers": [{"type": "url", "name": "a", "url": "https://a.example"}]},
            "mcp_servers",
        ),
        ({"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}, "skills"),
        ({"multiagent": {"type": "coordinator", "agents": [{"type": "self"}]}}, "multiagent"),
        (
            {"execution_identity": {"type": "aws_role", "role_arn": "arn:aws:iam::1:role/x"}},
            "execution_identity",
        ),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    client: anthropic.Anthropic, fields: dict[str, Any], path: str
) -> None:
    before = [one.id for one in client.beta.agents.list()]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(**{"name": "x", "model": MODEL, **fields})
    assert path in str(caught.value.api_message)
    assert [one.id for one in client.beta.agents.list()] == before


@pytest.mark.parametrize(
    ("config", "wording"),
    [
        (
            {"configs": [{"name": "find"}]},
            'Failed to parse request: tools[0].configs[0].name: "find" is not a valid value; '
            "expected one of bash, edit, glob, grep, read, web_fetch, web_search, write",
        ),
        (
            {"configs": [{"name": "bash", "permission_policy": {"type": "deny"}}]},
            "Failed to parse request: tools[0].configs[0].permission_policy.type: "
            '"deny" is not a valid value',
        ),
        (
            {"default_config": {"permission_policy": {"type": "deny"}}},
            "Failed to parse request: tools[0].default_config.permission_policy.type: "
            '"deny" is not a valid value',
        ),
        (
            {"configs": [{"name": "bash"}, {"name": "bash"}]},
            "tools.0.agent_toolset_20260401.configs.1: "
            'duplicate entry for tool "AGENT_TOOL_NAME_BASH"',
        ),
    ],
)
def test_refusals_of_tools_are_worded_as_the_hosted_ones(
    client: anthropic.Anthropic, config: dict[str, Any], wording: str
) -> None:
    toolset: Any = {**TOOLSET, **config}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(name="x", model=MODEL, tools=[toolset])
    assert str(caught.value.api_message).startswith(wording)


def test_two_toolsets_are_refused_in_the_hosted_wording(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.agents.create(name="x", model=MODEL, tools=[TOOLSET, TOOLSET])
    assert caught.value.api_message == (
        "tools.1.agent_toolset_20260401: duplicate entry; "
        "at most one agent_toolset_20260401 is allowed"
    )


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    async_client: anthropic.AsyncAnthropic,
) -> None:
    agent = await async_client.beta.agents.create(name="async", model=MODEL)
    changed = await async_client.beta.agents.update(agent.id, name="changed")
    assert [one async for one in async_client.beta.agents.versions.list(agent.id)] == [
        changed,
        agent,
    ]
    archived = await async_client.beta.agents.archive(agent.id)
    assert await async_client.beta.agents.retrieve(agent.id) == archived.model_copy(
        update={"updated_at": changed.updated_at}
    )
