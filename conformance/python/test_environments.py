"""Environments: made, read, changed, listed, archived, deleted."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from support import wire
from world import World

CLOUD = {
    "type": "cloud",
    "networking": {"type": "unrestricted"},
    "packages": {
        "type": "packages",
        **{name: [] for name in ("apt", "cargo", "gem", "go", "npm", "pip")},
    },
}
LIMITED = {
    **CLOUD,
    "networking": {
        "type": "limited",
        "allowed_hosts": [],
        "allow_mcp_servers": False,
        "allow_package_managers": False,
    },
}
# Hosts are shown as they were sent: in their letters and their order.
OPENED = {
    **CLOUD,
    "networking": {
        "type": "limited",
        "allowed_hosts": ["API.Example.com", "*.example.org", "10.1.2.3", "api.example.com"],
        "allow_mcp_servers": True,
        "allow_package_managers": True,
    },
}


def test_a_bare_environment_is_shown_in_full(client: anthropic.Anthropic) -> None:
    environment = client.beta.environments.create(name="bare")
    shown = wire(environment)
    for name in ("id", "created_at", "updated_at"):
        del shown[name]
    assert shown == {
        "type": "environment",
        "name": "bare",
        "description": None,
        "config": CLOUD,
        "metadata": {},
        "scope": "organization",
        "archived_at": None,
    }
    assert client.beta.environments.retrieve(environment.id) == environment


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        (None, CLOUD),
        ({"type": "cloud"}, CLOUD),
        ({"type": "cloud", "networking": None, "packages": None}, CLOUD),
        ({"type": "cloud", "networking": {"type": "limited"}}, LIMITED),
        ({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": []}}, LIMITED),
        ({"type": "cloud", "packages": {"pip": [], "npm": None}}, CLOUD),
        (CLOUD, CLOUD),
        (LIMITED, LIMITED),
        (OPENED, OPENED),
    ],
)
def test_configurations_are_written_out(
    client: anthropic.Anthropic, config: Any, shown: dict[str, Any]
) -> None:
    made = client.beta.environments.create(name="config", config=config)
    assert wire(made)["config"] == shown
    assert client.beta.environments.retrieve(made.id) == made


def test_changes(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(
        name="a", description="b", metadata={"a": "1", "b": "2", "c": "3"}
    )
    changed = client.beta.environments.update(
        made.id,
        name="n",
        description="",
        metadata={"a": None, "b": "", "d": "4"},
        config={"type": "cloud", "networking": {"type": "limited"}},
    )
    assert (changed.name, changed.description) == ("n", "")
    assert changed.metadata == {"c": "3", "d": "4"}
    assert wire(changed)["config"] == LIMITED
    assert changed.created_at == made.created_at and changed.updated_at > made.updated_at
    cleared = client.beta.environments.update(made.id, description=None)
    assert cleared.description is None
    assert wire(cleared)["config"] == LIMITED
    kept = client.beta.environments.update(made.id, config={"type": "cloud"})
    assert wire(kept)["config"] == LIMITED
    assert client.beta.environments.retrieve(made.id) == kept


def test_a_change_of_a_limited_network_keeps_what_is_not_sent(client: anthropic.Anthropic) -> None:
    def change(**networking: Any) -> Any:
        config: Any = {"type": "cloud", "networking": {"type": "limited", **networking}}
        changed = client.beta.environments.update(made.id, config=config)
        assert client.beta.environments.retrieve(made.id) == changed
        return wire(changed)["config"]["networking"]

    config: Any = OPENED
    made = client.beta.environments.create(name="limited", config=config)
    expected = dict(OPENED["networking"])
    assert change() == expected
    assert change(allowed_hosts=None, allow_mcp_servers=None, allow_package_managers=None) == expected
    for name, value in [
        ("allow_mcp_servers", False),
        ("allowed_hosts", ["a.example"]),
        ("allow_package_managers", False),
        ("allowed_hosts", []),
    ]:
        expected[name] = value
        assert change(**{name: value}) == expected
    # The other type, and back: nothing of before is left.
    change(allowed_hosts=["a.example"], allow_package_managers=True)
    client.beta.environments.update(
        made.id, config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    assert change() == LIMITED["networking"]


def test_passthrough_hosts_are_an_extension(client: anthropic.Anthropic) -> None:
    def update(extension: Any) -> Any:
        changed = client.beta.environments.update(made.id, extra_body={"posthouse": extension})
        return wire(changed).get("posthouse")

    hosts = {"passthrough_hosts": ["Pinned.example.com", "*.pinned.example"]}
    made = client.beta.environments.create(name="pinned", extra_body={"posthouse": hosts})
    assert wire(made)["posthouse"] == hosts
    kept = client.beta.environments.update(made.id, description="d")
    assert wire(kept)["posthouse"] == hosts
    assert update({}) == hosts
    assert update({"passthrough_hosts": ["a.example"]}) == {"passthrough_hosts": ["a.example"]}
    for nothing in (None, {"passthrough_hosts": None}, {"passthrough_hosts": []}):
        assert update(hosts) == hosts
        assert update(nothing) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "example.com:443",
            '`allowed_hosts` entry "example.com:443" contains a port. Entries must be bare hostnames '
            "without ports.",
        ),
        (
            "https://example.com",
            '`allowed_hosts` entry "https://example.com" contains a URL scheme. Entries must be bare '
            'hostnames like "google.com".',
        ),
        ("example.com/x", '"example.com/x" contains a path'),
        ("*", '"*" has a *'),
        ("*.*.example.com", '"*.*.example.com" has a *'),
        ("example.*", '"example.*" has a *'),
        ("::1", '"::1" is an IPv6 address'),
        ("127.1", '"127.1" is no IPv4 address in its usual form'),
        ("user@example.com", '"user@example.com" contains a user'),
        ("bücher.example", "beyond ASCII"),
        ("a" * 254, "is longer than 253 characters"),
        ("", "is empty"),
    ],
)
def test_what_is_no_host_is_refused(
    client: anthropic.Anthropic, entry: str, message: str
) -> None:
    networking: Any = {"type": "limited", "allowed_hosts": ["a.example", entry]}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.create(
            name="x", config={"type": "cloud", "networking": networking}
        )
    told = str(caught.value.api_message)
    if message.startswith("`"):
        assert told == message
    else:
        assert told.startswith("config.networking.allowed_hosts[1]: ")
        assert message in told and "; send a name" in told


def test_archive(world: World, client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="old")
    agent = world.agent()
    session = client.beta.sessions.create(agent=agent, environment_id=made.id)
    archived = client.beta.environments.archive(made.id)
    assert archived.archived_at is not None
    assert client.beta.environments.archive(made.id) == archived
    assert client.beta.environments.retrieve(made.id) == archived
    assert made.id not in [one.id for one in client.beta.environments.list()]
    assert made.id in [one.id for one in client.beta.environments.list(include_archived=True)]
    assert client.beta.sessions.retrieve(session.id).environment_id == made.id
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, name="new")
    assert caught.value.error_code == "environment_archived"
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(agent=agent, environment_id=made.id)
    assert caught.value.api_message == f"Environment {made.id} is archived."


def test_delete_works_although_sessions_refer_to_it(
    world: World, client: anthropic.Anthropic
) -> None:
    made = client.beta.environments.create(name="doomed")
    session = client.beta.sessions.create(agent=world.agent(), environment_id=made.id)
    deleted = client.beta.environments.delete(made.id)
    assert (deleted.id, deleted.type) == (made.id, "environment_deleted")
    with pytest.raises(anthropic.NotFoundError):
        client.beta.environments.retrieve(made.id)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.environments.delete(made.id)
    assert client.beta.sessions.retrieve(session.id).environment_id == made.id


def test_names_may_repeat_and_the_newest_is_first(client: anthropic.Anthropic) -> None:
    made = [client.beta.environments.create(name="twin").id for _ in range(3)]
    assert [one.id for one in client.beta.environments.list()][:3] == made[::-1]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"description": "x" * 1025}, "description"),
        ({"scope": "account"}, "scope"),
        ({"config": {"type": "self_hosted"}}, "config.type"),
        ({"config": {"type": "cloud", "packages": {"pip": ["pandas"]}}}, "config.packages.pip"),
        (
            {
                "config": {
                    "type": "cloud",
                    "networking": {"type": "limited", "allowed_hosts": ["a.b"] * 1001},
                }
            },
            "config.networking.allowed_hosts",
        ),
        (
            {
                "config": {
                    "type": "cloud",
                    "networking": {"type": "limited", "allow_mcp_servers": "yes"},
                }
            },
            "config.networking.allow_mcp_servers",
        ),
        (
            {
                "config": {
                    "type": "cloud",
                    "networking": {"type": "unrestricted", "allow_mcp_servers": False},
                }
            },
            "config.networking.allow_mcp_servers",
        ),
        ({"config": {"type": "cloud", "image": "debian"}}, "config.image"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    client: anthropic.Anthropic, fields: dict[str, Any], path: str
) -> None:
    before = [one.id for one in client.beta.environments.list()]
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.create(**{"name": "x", **fields})
    assert path in str(caught.value.api_message)
    assert [one.id for one in client.beta.environments.list()] == before


def test_the_type_of_a_configuration_stays(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="cloud")
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, config={"type": "self_hosted"})
    assert caught.value.error_code == "invalid_config_type_change"


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    async_client: anthropic.AsyncAnthropic,
) -> None:
    made = await async_client.beta.environments.create(name="async")
    changed = await async_client.beta.environments.update(made.id, name="changed")
    assert await async_client.beta.environments.retrieve(made.id) == changed
    assert (await async_client.beta.environments.delete(made.id)).type == "environment_deleted"
