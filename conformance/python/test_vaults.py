"""Vaults and credentials: made, read, changed member by member, refused by name; what is secret in one
is in no answer."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from support import wire
from world import World

URL = "https://mcp.example.com/mcp"
NOBODY = "vlt_0123456789abcdefABCDEF01"
# Stands in every secret and in nothing else.
CANARY = "canary-0123456789"

BEARER: Any = {"type": "static_bearer", "mcp_server_url": URL, "token": CANARY}
HEADER: Any = {**BEARER, "type": "posthouse_header", "header_name": "X-Api-Key"}
VARIABLE: Any = {
    "type": "environment_variable",
    "secret_name": "TRACKER_TOKEN",
    "secret_value": CANARY,
    "networking": {"type": "limited", "allowed_hosts": ["API.example.com", "*.b.example"]},
}
REFRESH: Any = {
    "client_id": "client",
    "token_endpoint": "https://auth.example.com/token",
    "refresh_token": CANARY,
    "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": CANARY},
}
OAUTH: Any = {"type": "mcp_oauth", "mcp_server_url": URL, "access_token": CANARY}
FULL_OAUTH: Any = {
    **OAUTH,
    "expires_at": "2036-01-01T02:00:00+02:00",
    "refresh": {**REFRESH, "scope": "read write", "resource": URL},
}
SHOWN_REFRESH = {
    "client_id": "client",
    "token_endpoint": "https://auth.example.com/token",
    "token_endpoint_auth": {"type": "client_secret_basic"},
}


@pytest.fixture
def vault(client: anthropic.Anthropic) -> str:
    """A vault of the test's own."""
    return client.beta.vaults.create(display_name="Ada").id


@pytest.fixture
def make(client: anthropic.Anthropic, vault: str) -> Callable[..., Any]:
    """Makes a credential."""
    return lambda auth, **more: client.beta.vaults.credentials.create(vault, auth=auth, **more)


@pytest.fixture(autouse=True)
def nothing_told(world: World) -> Any:
    """Holds every answer of every test against the secrets."""
    yield
    told = [one.path for one in world.recorder.exchanges if CANARY.encode() in one.body]
    assert told == [], "an answer has a secret"


def refused(call: Callable[[], Any]) -> str:
    """What a call is refused with."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        call()
    message = str(caught.value.api_message)
    assert CANARY not in message
    return message


def test_a_vault_is_shown_in_full(client: anthropic.Anthropic) -> None:
    made = client.beta.vaults.create(display_name="Ada", metadata={"a": "b"})
    shown = wire(made)
    for name in ("id", "created_at", "updated_at"):
        del shown[name]
    assert shown == {
        "type": "vault",
        "display_name": "Ada",
        "metadata": {"a": "b"},
        "archived_at": None,
    }
    assert client.beta.vaults.retrieve(made.id) == made


def test_a_vault_is_changed(client: anthropic.Anthropic, vault: str) -> None:
    before = client.beta.vaults.retrieve(vault)
    assert client.beta.vaults.update(vault) == before
    assert client.beta.vaults.update(vault, display_name=None, metadata=None) == before
    changed = client.beta.vaults.update(vault, display_name="Bob", metadata={"a": "1", "b": ""})
    assert (changed.display_name, changed.metadata) == ("Bob", {"a": "1", "b": ""})
    assert changed.created_at == before.created_at and changed.updated_at > before.updated_at
    assert client.beta.vaults.update(vault, metadata={"a": None}).metadata == {"b": ""}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"display_name": ""}, "display_name: is empty"),
        ({"display_name": "x" * 256}, "display_name: has 256 characters"),
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata: has 17 keys"),
        ({"extra_body": {"colour": 1}}, 'unknown field "colour"'),
    ],
)
def test_what_no_vault_can_be_is_refused(
    client: anthropic.Anthropic, vault: str, fields: dict[str, Any], path: str
) -> None:
    vaults = client.beta.vaults
    assert path in refused(lambda: vaults.create(**{"display_name": "v", **fields}))
    assert path in refused(lambda: vaults.update(vault, **fields))


def test_an_archived_vault_takes_its_credentials_with_it(
    client: anthropic.Anthropic, vault: str, make: Callable[..., Any]
) -> None:
    made = [make(VARIABLE).id, make(BEARER).id]
    archived = client.beta.vaults.archive(vault)
    assert archived.archived_at is not None
    assert client.beta.vaults.archive(vault) == archived
    credentials = client.beta.vaults.credentials
    assert list(credentials.list(vault)) == []
    shown = list(credentials.list(vault, include_archived=True))
    assert [one.id for one in shown] == made[::-1]
    assert all(one.archived_at is not None for one in shown)
    gone = f"Vault {vault} is archived."
    assert refused(lambda: client.beta.vaults.update(vault, display_name="B")) == gone
    assert refused(lambda: make(OAUTH)) == gone
    assert vault not in [one.id for one in client.beta.vaults.list()]
    assert vault in [one.id for one in client.beta.vaults.list(include_archived=True)]
    assert client.beta.vaults.delete(vault).type == "vault_deleted"
    with pytest.raises(anthropic.NotFoundError):
        credentials.retrieve(made[0], vault_id=vault)


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        (OAUTH, {"type": "mcp_oauth", "mcp_server_url": URL}),
        (
            {**OAUTH, "expires_at": None, "refresh": None},
            {"type": "mcp_oauth", "mcp_server_url": URL},
        ),
        (
            FULL_OAUTH,
            {
                "type": "mcp_oauth",
                "mcp_server_url": URL,
                "expires_at": "2036-01-01T00:00:00Z",
                "refresh": {**SHOWN_REFRESH, "scope": "read write", "resource": URL},
            },
        ),
        (
            {**OAUTH, "refresh": {**REFRESH, "scope": "", "resource": None}},
            {"type": "mcp_oauth", "mcp_server_url": URL, "refresh": SHOWN_REFRESH},
        ),
        (
            {**OAUTH, "refresh": {**REFRESH, "token_endpoint_auth": {"type": "none"}}},
            {
                "type": "mcp_oauth",
                "mcp_server_url": URL,
                "refresh": {**SHOWN_REFRESH, "token_endpoint_auth": {"type": "none"}},
            },
        ),
        (BEARER, {"type": "static_bearer", "mcp_server_url": URL}),
        (
            HEADER,
            {"type": "posthouse_header", "mcp_server_url": URL, "header_name": "X-Api-Key"},
        ),
        (
            VARIABLE,
            {
                "type": "environment_variable",
                "secret_name": "TRACKER_TOKEN",
                "networking": VARIABLE["networking"],
                "injection_location": {"header": True, "body": True},
            },
        ),
        (
            {
                **VARIABLE,
                "networking": {"type": "unrestricted"},
                "injection_location": {"body": True},
                # Only what never goes into a header has lines.
                "secret_value": f"{CANARY}\n{CANARY}",
            },
            {
                "type": "environment_variable",
                "secret_name": "TRACKER_TOKEN",
                "networking": {"type": "unrestricted"},
                "injection_location": {"header": False, "body": True},
            },
        ),
    ],
)
def test_a_credential_is_shown_without_what_is_secret(
    client: anthropic.Anthropic,
    vault: str,
    make: Callable[..., Any],
    auth: dict[str, Any],
    shown: dict[str, Any],
) -> None:
    made = make(auth)
    seen = wire(made)
    for name in ("id", "created_at", "updated_at"):
        del seen[name]
    assert seen == {
        "type": "vault_credential",
        "vault_id": vault,
        "display_name": None,
        "metadata": {},
        "auth": shown,
        "archived_at": None,
    }
    assert client.beta.vaults.credentials.retrieve(made.id, vault_id=vault) == made
    assert list(client.beta.vaults.credentials.list(vault)) == [made]


LONG = CANARY + "x" * 65_536


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({**OAUTH, "access_token": ""}, "auth.access_token: is empty"),
        ({**OAUTH, "access_token": LONG}, "auth.access_token: has 65553 characters"),
        ({**OAUTH, "access_token": f"{CANARY}\n"}, "auth.access_token: holds a line end"),
        ({**OAUTH, "access_token": [CANARY]}, "auth.access_token: is a list"),
        ({**OAUTH, "mcp_server_url": "http://mcp.example.com"}, "auth.mcp_server_url: is http"),
        (
            {**OAUTH, "mcp_server_url": f"https://u:{CANARY}@mcp.example.com"},
            "auth.mcp_server_url: has a user name",
        ),
        ({**OAUTH, "mcp_server_url": f"{URL}#{CANARY}"}, "auth.mcp_server_url: has a fragment"),
        ({**OAUTH, "mcp_server_url": URL + "x" * 2048}, "auth.mcp_server_url: has 20"),
        (
            {**OAUTH, "expires_at": "2020-01-01T00:00:00Z"},
            "auth.expires_at must be in the future.",
        ),
        ({**OAUTH, "expires_at": "soon"}, "auth.expires_at: is"),
        ({**OAUTH, "refresh": {}}, "auth.refresh.token_endpoint: is missing"),
        (
            {**OAUTH, "refresh": {**REFRESH, "refresh_token": {"a": CANARY}}},
            "auth.refresh.refresh_token: is an object",
        ),
        (
            {**OAUTH, "refresh": {**REFRESH, "token_endpoint_auth": {"type": "none", "x": 1}}},
            'unknown field "auth.refresh.token_endpoint_auth.x"',
        ),
        (
            {
                **OAUTH,
                "refresh": {**REFRESH, "token_endpoint_auth": {"type": "client_secret_post"}},
            },
            "auth.refresh.token_endpoint_auth.client_secret: is missing",
        ),
        ({**BEARER, "token": None}, "auth.token: is null"),
        ({**BEARER, "header_name": "X"}, 'unknown field "auth.header_name"'),
        ({**HEADER, "header_name": "Host"}, "auth.header_name: Host belongs to the request"),
        ({**HEADER, "header_name": "a b"}, "auth.header_name: is no name of a header"),
        ({**VARIABLE, "secret_name": "1A"}, "auth.secret_name: is no name of a variable"),
        ({**VARIABLE, "secret_name": "A" * 256}, "auth.secret_name: has 256 characters"),
        ({**VARIABLE, "secret_name": "LD_PRELOAD"}, "auth.secret_name: LD_PRELOAD is reserved"),
        ({**VARIABLE, "secret_name": "https_proxy"}, "auth.secret_name: https_proxy is reserved"),
        ({**VARIABLE, "secret_value": f"{CANARY}\r\n"}, "auth.secret_value: holds a line end"),
        (
            {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": []}},
            "auth.networking.allowed_hosts: has 0 entries; send 1 to 16",
        ),
        (
            {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": ["a.b"] * 17}},
            "auth.networking.allowed_hosts: has 17 entries",
        ),
        (
            {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": ["a.b", "a.b:1"]}},
            '`allowed_hosts` entry "a.b:1" contains a port.',
        ),
        ({**VARIABLE, "networking": None}, "auth.networking: is null"),
        ({**VARIABLE, "injection_location": None}, "auth.injection_location: is null; "),
        ({**VARIABLE, "injection_location": {}}, "auth.injection_location: names no place"),
        (
            {**VARIABLE, "injection_location": {"header": None, "body": True}},
            "auth.injection_location.header: is null; send true or false, or leave it out",
        ),
        ({"type": "moon"}, "is not a valid value"),
        (None, "auth: is null"),
    ],
)
def test_what_no_credential_can_be_is_refused(
    client: anthropic.Anthropic,
    vault: str,
    make: Callable[..., Any],
    auth: Any,
    message: str,
) -> None:
    assert message in refused(lambda: make(auth))
    assert list(client.beta.vaults.credentials.list(vault, include_archived=True)) == []


@pytest.mark.parametrize(
    ("made", "change", "shown"),
    [
        (FULL_OAUTH, {"access_token": CANARY}, {}),
        (FULL_OAUTH, {"access_token": None, "expires_at": None, "refresh": None}, {}),
        (
            OAUTH,
            {"expires_at": datetime.datetime(2036, 1, 1, tzinfo=datetime.UTC)},
            {"expires_at": "2036-01-01T00:00:00Z"},
        ),
        (FULL_OAUTH, {"refresh": {"scope": None, "refresh_token": None}}, {}),
        (
            FULL_OAUTH,
            {"refresh": {"scope": "", "refresh_token": CANARY}},
            {"refresh": {**SHOWN_REFRESH, "resource": URL}},
        ),
        (
            FULL_OAUTH,
            {"refresh": {"token_endpoint_auth": {"type": "client_secret_post"}}},
            {},
        ),
        (BEARER, {"token": CANARY}, {}),
        (HEADER, {"token": CANARY}, {}),
        (VARIABLE, {"secret_value": None, "networking": None}, {}),
        (
            VARIABLE,
            {"networking": {"type": "unrestricted"}},
            {"networking": {"type": "unrestricted"}},
        ),
        (
            VARIABLE,
            {"injection_location": {"header": False}},
            {"injection_location": {"header": False, "body": True}},
        ),
        (VARIABLE, {"injection_location": {}}, {}),
    ],
)
def test_a_change_keeps_what_is_not_sent(
    client: anthropic.Anthropic,
    vault: str,
    make: Callable[..., Any],
    made: dict[str, Any],
    change: dict[str, Any],
    shown: dict[str, Any],
) -> None:
    before = make(made, display_name="n", metadata={"a": "b"})
    auth: Any = {"type": made["type"], **change}
    credentials = client.beta.vaults.credentials
    after = credentials.update(before.id, vault_id=vault, auth=auth)
    assert wire(after)["auth"] == {**wire(before)["auth"], **shown}
    assert (after.display_name, after.metadata) == ("n", {"a": "b"})
    assert after.created_at == before.created_at
    told = any(value is not None for value in change.values())
    assert told or after.updated_at == before.updated_at
    assert credentials.retrieve(before.id, vault_id=vault) == after


@pytest.mark.parametrize(
    ("made", "change", "message"),
    [
        (BEARER, {"mcp_server_url": f"{URL}/"}, 'unknown field "auth.mcp_server_url"'),
        (HEADER, {"header_name": "X"}, 'unknown field "auth.header_name"'),
        (VARIABLE, {"secret_name": "B"}, 'unknown field "auth.secret_name"'),
        (FULL_OAUTH, {"refresh": {"client_id": "c"}}, 'unknown field "auth.refresh.client_id"'),
        (
            FULL_OAUTH,
            {"refresh": {"token_endpoint": URL}},
            'unknown field "auth.refresh.token_endpoint"',
        ),
        (FULL_OAUTH, {"refresh": {"resource": URL}}, 'unknown field "auth.refresh.resource"'),
        (FULL_OAUTH, {"type": "static_bearer"}, "auth.type: can't be changed from mcp_oauth"),
        (FULL_OAUTH, {"expires_at": "2020-01-01T00:00:00Z"}, "must be in the future."),
        (
            FULL_OAUTH,
            {"refresh": {"token_endpoint_auth": {"type": "none"}}},
            "is not a valid value",
        ),
        (OAUTH, {"refresh": {"scope": "a"}}, "auth.refresh: was not given when"),
        (
            {**OAUTH, "refresh": {**REFRESH, "token_endpoint_auth": {"type": "none"}}},
            {
                "refresh": {
                    "token_endpoint_auth": {"type": "client_secret_post", "client_secret": CANARY}
                }
            },
            "auth.refresh.token_endpoint_auth: is none",
        ),
        (
            VARIABLE,
            {"injection_location": {"header": False, "body": False}},
            "auth.injection_location: names no place",
        ),
        (VARIABLE, {"injection_location": None}, "auth.injection_location: is null"),
        (
            {**VARIABLE, "secret_value": f"{CANARY}\n", "injection_location": {"body": True}},
            {"injection_location": {"header": True}},
            "auth.secret_value: holds a line end",
        ),
        (BEARER, {"token": f"{CANARY}\0"}, "auth.token: holds a line end"),
    ],
)
def test_changes_that_can_not_be_made_are_refused(
    client: anthropic.Anthropic,
    vault: str,
    make: Callable[..., Any],
    made: dict[str, Any],
    change: dict[str, Any],
    message: str,
) -> None:
    before = make(made)
    auth: Any = {"type": made["type"], **change}
    credentials = client.beta.vaults.credentials
    said = refused(lambda: credentials.update(before.id, vault_id=vault, auth=auth))
    assert message in said
    assert credentials.retrieve(before.id, vault_id=vault) == before


def test_names_and_pairs_of_a_credential_are_changed(
    client: anthropic.Anthropic, vault: str, make: Callable[..., Any]
) -> None:
    made = make(BEARER, display_name="", metadata={"a": "1", "b": "2"})
    assert made.display_name == ""
    credentials = client.beta.vaults.credentials
    changed = credentials.update(
        made.id, vault_id=vault, display_name="n", metadata={"a": None, "c": ""}
    )
    assert (changed.display_name, changed.metadata) == ("n", {"b": "2", "c": ""})
    assert credentials.update(made.id, vault_id=vault, metadata=None) == changed
    cleared = credentials.update(made.id, vault_id=vault, display_name=None)
    assert cleared.display_name is None
    said = refused(lambda: credentials.update(made.id, vault_id=vault, display_name=""))
    assert said.startswith("display_name: is empty")
    said = refused(lambda: make(HEADER, display_name="x" * 256))
    assert said.startswith("display_name: has 256 characters")


def test_a_server_has_one_live_credential_in_a_vault(
    world: World, client: anthropic.Anthropic, vault: str, make: Callable[..., Any]
) -> None:
    first = make(BEARER)
    # With its usual retries: the answer tells the SDK that none would help.
    retrying = client.with_options(max_retries=2)
    before = len(world.recorder.exchanges)
    with pytest.raises(anthropic.ConflictError) as caught:
        retrying.beta.vaults.credentials.create(
            vault, auth={**OAUTH, "mcp_server_url": "HTTPS://MCP.example.com:443/mcp/"}
        )
    assert len(world.recorder.exchanges) == before + 1
    assert str(caught.value.api_message).startswith("auth.mcp_server_url: another live")
    make({**BEARER, "mcp_server_url": f"{URL}?tenant=2"})
    credentials = client.beta.vaults.credentials
    archived = credentials.archive(first.id, vault_id=vault)
    assert archived.archived_at is not None
    assert credentials.archive(first.id, vault_id=vault) == archived
    said = refused(lambda: credentials.update(first.id, vault_id=vault, display_name="n"))
    assert said == "Credential is archived."
    said = refused(lambda: credentials.mcp_oauth_validate(first.id, vault_id=vault))
    assert said in ("Credential is archived.", "The request was invalid")
    make(OAUTH)
    deleted = credentials.delete(first.id, vault_id=vault)
    assert (deleted.id, deleted.type) == (first.id, "vault_credential_deleted")
    with pytest.raises(anthropic.NotFoundError):
        credentials.delete(first.id, vault_id=vault)


def test_a_session_has_its_vaults(world: World, client: anthropic.Anthropic, vault: str) -> None:
    other = client.beta.vaults.create(display_name="other").id
    agent, environment = world.agent(), world.environment()

    def create(*vaults: str) -> Any:
        return client.beta.sessions.create(
            agent=agent, environment_id=environment, vault_ids=list(vaults)
        )

    session = create(other, vault)
    assert session.vault_ids == [other, vault]
    assert client.beta.sessions.retrieve(session.id).vault_ids == [other, vault]
    assert "is the same as vault_ids[0]" in refused(lambda: create(vault, vault))
    assert "has 51 entries; send 0 to 50" in refused(lambda: create(*[vault] * 51))
    with pytest.raises(anthropic.NotFoundError, match=f"vault_ids: {NOBODY} not found"):
        create(vault, NOBODY)
    client.beta.vaults.archive(other)
    assert refused(lambda: create(other)) == f"Vault {other} is archived."
    client.beta.vaults.delete(vault)
    assert client.beta.sessions.retrieve(session.id).vault_ids == [other, vault]


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(
    async_client: anthropic.AsyncAnthropic,
) -> None:
    vault = (await async_client.beta.vaults.create(display_name="async")).id
    credentials = async_client.beta.vaults.credentials
    made = await credentials.create(vault, auth=FULL_OAUTH)
    changed = await credentials.update(made.id, vault_id=vault, display_name="n")
    assert [one async for one in credentials.list(vault)] == [changed]
    assert (await async_client.beta.vaults.delete(vault)).type == "vault_deleted"
