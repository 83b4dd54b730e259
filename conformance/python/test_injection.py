"""Secrets that never enter: a sandbox holds placeholders, and the door puts the values in, where
and only where the credential allows it.

What an origin was given is read from the origin's own record. Nothing here sends it back to the
sandbox.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import secrets as chance
from typing import Any

import anthropic
import pytest

from door import INSIDE, Sandbox, Site, new_world, origins, shared_site, site
from origin import Request
from origins import API, APEX, BELOW, BLOCKED, PINNED, TWIN
from support import INTERRUPT, TOOLSET, bash, message, text, turn
from world import MODEL, wait_until

PLACEHOLDER = re.compile(r"phs_[A-Za-z0-9]{32}")


def value(name: str = "secret") -> str:
    """A value that nobody has seen before."""
    return f"{name}-{chance.token_hex(16)}"


def asked(site: Site, path: str) -> list[Request]:
    """What came for a path, to any origin, without its query."""
    every = {id(one): one for one in site.origins.names.values()}
    return [one for origin in every.values() for one in origin.requests if one.path == path]


def given(site: Site, path: str) -> Request:
    """The one request that came for a path."""
    (found,) = asked(site, path)
    return found


def placeholder(sandbox: Sandbox, name: str = "TOKEN") -> str:
    """What stands for a secret inside."""
    (found,) = sandbox.shell(f'printf %s "${name}"')
    return found


def bearer(site: Site, sandbox: Sandbox, url: str, name: str = "TOKEN") -> str:
    """What an origin gets when a secret is sent as a bearer token."""
    path = f"/{chance.token_hex(8)}"
    told = sandbox.get(url + path, headers=[["Authorization", f"Bearer ${name}$"]])
    assert told.get("status") == 200, told
    return (given(site, path).header("authorization") or "").removeprefix("Bearer ")


# --- placeholders


def test_what_stands_in_the_variable_is_a_placeholder(site: Site) -> None:
    first, second = value(), value()
    vault = site.vault(TOKEN=(first, [API]), OTHER=(second, [API]))
    environment = site.limited(API)
    sandbox = site.sandbox(environment, vault)
    one, two, shown = sandbox.shell('printf %s "$TOKEN"', 'printf %s "$OTHER"', "env")
    assert PLACEHOLDER.fullmatch(one) and PLACEHOLDER.fullmatch(two) and one != two
    assert f"TOKEN={one}\n" in shown and first not in shown and second not in shown
    sandbox.kill()
    # The first answer of a new sandbox begins with a line that says so.
    note, _, again = placeholder(sandbox).partition("\n")
    assert "started again" in note and again == one
    assert placeholder(site.sandbox(environment, vault)) != one
    # A session without the vault has no such variable.
    (unset,) = site.sandbox(environment).shell('printf "<%s>" "$TOKEN"')
    assert unset == "<>"


# --- where it is put in

HEADERS = [
    ("Authorization", "Bearer $TOKEN$", "Bearer {value}"),
    ("X-Api-Key", "$TOKEN$", "{value}"),
    ("Cookie", "a=b; session=$TOKEN$; c=d", "a=b; session={value}; c=d"),
    ("X-Both", "$TOKEN$:$OTHER$:$TOKEN$", "{value}:{other}:{value}"),
    ("X-Near", "phs_$TOKEN$phs_", "phs_{value}phs_"),
    ("X-Signature", '{"key":"$TOKEN$"}', '{{"key":"{value}"}}'),
    ("Proxy-Authorization", "x", None),
]


@pytest.mark.parametrize("scheme", ["https", "http", "h2"])
def test_values_are_put_into_headers(site: Site, scheme: str) -> None:
    """By plain HTTP, too: the operator has fixed this name."""
    first, second = value(), value()
    sandbox = site.sandbox(
        site.limited(API), site.vault(TOKEN=(first, [API]), OTHER=(second, [API]))
    )
    headers = [[name, sent] for name, sent, _ in HEADERS]
    if scheme == "h2":
        requests = [{"path": "/in", "headers": [[name.lower(), sent] for name, sent in headers]}]
        sandbox.task("http2", host=API, requests=requests)
    else:
        sandbox.get(f"{scheme}://{API}/in", headers=headers)
    request = given(site, "/in")
    for name, _, expected in HEADERS:
        if expected is not None:
            whole = expected.format(value=first, other=second)
            assert request.header(name.lower()) == whole, name
    assert request.connection.tls is (scheme != "http")


def test_values_are_put_into_basic_credentials(site: Site) -> None:
    secret = value()
    sandbox = site.sandbox(site.limited(API), site.vault(TOKEN=(secret, [API])))
    ask = "curl --silent --output /dev/null"
    sandbox.shell(
        f'{ask} --user "builder:$TOKEN" https://{API}/password',
        f'{ask} --user "$TOKEN:" https://{API}/name',
        f'{ask} --user "builder:plain" https://{API}/neither',
    )
    for path, plain in [
        ("/password", f"builder:{secret}"),
        ("/name", f"{secret}:"),
        ("/neither", "builder:plain"),
    ]:
        sent = (given(site, path).header("authorization") or "").removeprefix("Basic ")
        assert base64.b64decode(sent).decode() == plain


def test_values_are_put_into_bodies(site: Site) -> None:
    secret = value()
    sandbox = site.sandbox(site.limited(API), site.vault(TOKEN=(secret, [API])))
    stand_in = placeholder(sandbox)
    url = f"https://{API}"
    head, rest = stand_in[:11], stand_in[11:]
    sandbox.tasks(
        {"do": "http", "url": f"{url}/json", "body": '{"key": "$TOKEN$", "b": 1}'},
        {"do": "http", "url": f"{url}/form", "body": "a=b&key=$TOKEN$&c=%24TOKEN"},
        {"do": "http", "url": f"{url}/twice", "body": "$TOKEN$$TOKEN$ $TOKEN$"},
        {"do": "http", "url": f"{url}/pieces", "pieces": ["a", "$TOKEN$", "b", head, rest, "c"]},
        {"do": "http", "url": f"{url}/letters", "pieces": ["<", *stand_in, ">"]},
        {"do": "http", "url": f"{url}/large", "body": "$TOKEN$", "size": 3 << 20},
        {"do": "http", "url": f"{url}/none", "body": "nothing of it here"},
        {
            "do": "http2",
            "host": API,
            "requests": [{"path": "/h2", "method": "POST", "size": 50_000, "body": "$TOKEN$"}],
        },
    )
    sandbox.shell(
        f'curl --silent --form "key=$TOKEN" --form file=@/etc/hostname {url}/multipart',
        f'(head -c 3145700 /dev/zero | tr "\\0" y; printf %s "$TOKEN"; printf end) | '
        f"curl --silent --data-binary @- {url}/end",
        f'(head -c 3145700 /dev/zero | tr "\\0" y; printf %s "$TOKEN"; printf end) | '
        f"curl --silent --http1.1 --header 'Transfer-Encoding: chunked' --data-binary @- {url}/late",
    )
    expected = {
        "/json": f'{{"key": "{secret}", "b": 1}}',
        "/form": f"a=b&key={secret}&c=%24TOKEN",
        "/twice": f"{secret}{secret} {secret}",
        "/pieces": f"a{secret}b{secret}c",
        "/letters": f"<{secret}>",
        "/large": secret + "x" * (3 << 20),
        "/none": "nothing of it here",
        "/h2": "z" * 50_000 + secret,
        "/end": "y" * 3_145_700 + secret + "end",
        "/late": "y" * 3_145_700 + secret + "end",
    }
    for path, body in expected.items():
        request = given(site, path)
        assert request.body == body.encode(), (path, len(request.body), len(body))
        length = request.header("content-length")
        assert length is None or int(length) == len(body), path
    form = given(site, "/multipart").body
    assert f'name="key"\r\n\r\n{secret}\r\n'.encode() in form
    assert stand_in.encode() not in site.origins.main.received()


def test_elsewhere_in_a_request_it_stays_a_placeholder(site: Site) -> None:
    """The address, names of headers, and bodies that are compressed are no place for a secret."""
    secret = value()
    sandbox = site.sandbox(site.limited(API), site.vault(TOKEN=(secret, [API])))
    stand_in = placeholder(sandbox)
    packed = gzip.compress(stand_in.encode()).decode("latin-1")
    sandbox.tasks(
        {"do": "http", "url": f"https://{API}/query?key=$TOKEN$"},
        {"do": "http", "url": f"https://{API}/path/$TOKEN$"},
        {"do": "http", "url": f"https://{API}/name", "headers": [["X-$TOKEN$", "a"]]},
        {"do": "http", "url": f"https://{API}/method", "method": "$TOKEN$"},
        {
            "do": "http",
            "url": f"https://{API}/packed",
            "body": packed,
            "headers": [["Content-Encoding", "gzip"]],
        },
        {"do": "http", "url": f"https://{API}/other", "body": stand_in.upper() + stand_in[:-1]},
        {"do": "http", "url": f"https://{API}/in", "headers": [["X-A", "$TOKEN$"]]},
    )
    assert given(site, "/query").target == f"/query?key={stand_in}"
    assert given(site, f"/path/{stand_in}").target == f"/path/{stand_in}"
    names = [name.lower() for name, _ in given(site, "/name").headers]
    assert f"x-{stand_in}".lower() in names
    assert given(site, "/packed").body == packed.encode("latin-1")
    assert given(site, "/other").body.decode() == stand_in.upper() + stand_in[:-1]
    # The control: in a header it is put in.
    assert given(site, "/in").header("x-a") == secret
    assert site.origins.main.received().count(secret.encode()) == 1


@pytest.mark.parametrize(
    ("location", "header", "body"),
    [
        ({}, True, True),
        ({"injection_location": {"header": True}}, True, False),
        ({"injection_location": {"body": True}}, False, True),
        ({"injection_location": {"header": True, "body": True}}, True, True),
    ],
)
def test_a_location_that_is_not_allowed_is_left_alone(
    site: Site, location: dict[str, Any], header: bool, body: bool
) -> None:
    secret = value()
    vault = site.vault()
    site.secret(vault, "TOKEN", secret, API, **location)
    sandbox = site.sandbox(site.limited(API), vault)
    stand_in = placeholder(sandbox)
    sandbox.get(
        f"https://{API}/in", method="POST", headers=[["X-Key", "$TOKEN$"]], body="<$TOKEN$>"
    )
    basic = f'curl --silent --output /dev/null --user "a:$TOKEN" https://{API}/basic'
    sandbox.shell(basic)
    request = given(site, "/in")
    assert request.header("x-key") == (secret if header else stand_in)
    assert request.body.decode() == f"<{secret if body else stand_in}>"
    sent = (given(site, "/basic").header("authorization") or "").removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"a:{secret if header else stand_in}"


def test_web_sockets_begin_with_a_request(site: Site) -> None:
    secret = value()
    sandbox = site.sandbox(site.limited(API), site.vault(TOKEN=(secret, [API])))
    stand_in = placeholder(sandbox)
    told = sandbox.task(
        "websocket",
        host=API,
        tls=True,
        messages=[stand_in],
        headers=[["Authorization", "Bearer $TOKEN$"]],
    )
    assert given(site, "/ws").header("authorization") == f"Bearer {secret}"
    # What is said in it afterwards is neither header nor body.
    assert told["said"] == [stand_in]


# --- to whom


@pytest.mark.parametrize(
    ("hosts", "reached"),
    [
        ([API], [API]),
        ([API, TWIN], [API, TWIN]),
        (["*.wild.example.test"], [*BELOW]),
        (["API.example.TEST"], [API]),
        ([], [API, TWIN, APEX, *BELOW]),
    ],
)
def test_only_its_hosts_get_it(site: Site, hosts: list[str], reached: list[str]) -> None:
    """Everybody else gets the placeholder: it is neither stripped nor a reason to refuse."""
    secret = value()
    every = [API, TWIN, APEX, *BELOW]
    sandbox = site.sandbox(
        site.limited(API, TWIN, APEX, "*.wild.example.test"), site.vault(TOKEN=(secret, hosts))
    )
    stand_in = placeholder(sandbox)
    asked_of = {
        f"/{scheme}/{host}": {
            "do": "http",
            "url": f"{scheme}://{host}/{scheme}/{host}",
            "headers": [["X-Key", "$TOKEN$"]],
        }
        for scheme in ("https", "http")
        for host in every
    }
    sandbox.tasks(*asked_of.values())
    for path in asked_of:
        expected = secret if path.rpartition("/")[2] in reached else stand_in
        assert given(site, path).header("x-key") == expected, path


def test_hosts_that_are_passed_through_get_nothing(site: Site) -> None:
    secret = value()
    sandbox = site.sandbox(
        site.limited(API, passthrough=[PINNED]), site.vault(TOKEN=(secret, [API, PINNED]))
    )
    stand_in = placeholder(sandbox)
    assert bearer(site, sandbox, f"https://{API}") == secret
    ask = f'curl --silent --insecure --header "X-Key: $TOKEN" https://{PINNED}/pinned'
    assert sandbox.shell(ask) == ["ok\n"]
    assert given(site, "/pinned").header("x-key") == stand_in


def test_in_an_unrestricted_environment_as_well(site: Site) -> None:
    secret = value()
    sandbox = site.sandbox(site.unrestricted(), site.vault(TOKEN=(secret, [API])))
    stand_in = placeholder(sandbox)
    assert bearer(site, sandbox, f"https://{API}") == secret
    ask = f'curl --silent --insecure --header "X-Key: $TOKEN" https://{BLOCKED}/elsewhere'
    assert sandbox.shell(ask) == ["ok\n"]
    assert given(site, "/elsewhere").header("x-key") == stand_in


# --- whose it is


def test_each_session_has_its_own(site: Site) -> None:
    """Never by host for everybody."""
    mine, theirs = value("mine"), value("theirs")
    environment = site.limited(API)
    first = site.sandbox(environment, site.vault(TOKEN=(mine, [API])))
    second = site.sandbox(environment, site.vault(TOKEN=(theirs, [API])))
    nobody = site.sandbox(environment)
    assert bearer(site, first, f"https://{API}") == mine
    assert bearer(site, second, f"https://{API}") == theirs
    assert bearer(site, first, f"https://{API}") == mine
    stolen = placeholder(first)
    for other in (second, nobody):
        path = f"/{chance.token_hex(8)}"
        other.get(f"https://{API}{path}", headers=[["Authorization", stolen]], body=stolen)
        request = given(site, path)
        assert (request.header("authorization"), request.body.decode()) == (stolen, stolen)


def test_the_first_vault_wins(site: Site) -> None:
    one, two = value("one"), value("two")
    first, second = site.vault(TOKEN=(one, [API])), site.vault(TOKEN=(two, [API]), MORE=(two, []))
    sandbox = site.sandbox(site.limited(API), first, second)
    assert bearer(site, sandbox, f"https://{API}") == one
    assert bearer(site, sandbox, f"https://{API}", "MORE") == two
    turned = site.sandbox(site.limited(API), second, first)
    assert bearer(site, turned, f"https://{API}") == two


def test_a_vault_of_another_workspace_is_not_there(site: Site) -> None:
    made = site.raw.post("/posthouse/v1/workspaces", json={"name": chance.token_hex(8)}).json()
    key = site.raw.post(
        "/posthouse/v1/keys",
        json={"name": "other", "scopes": ["*:*"], "workspace_id": made["id"]},
    ).json()
    other = site.world.client(api_key=key["secret"])
    agent = other.beta.agents.create(name="a", model=MODEL, tools=[TOOLSET]).id
    environment = other.beta.environments.create(name="e").id
    mine = site.vault(TOKEN=(value(), [API]))
    theirs = other.beta.vaults.create(display_name="theirs").id
    create = other.beta.sessions.create
    assert create(agent=agent, environment_id=environment, vault_ids=[theirs]).vault_ids == [
        theirs
    ]
    for vaults in ([mine], [theirs, mine], ["vlt_0123456789abcdefABCDEF01"]):
        with pytest.raises(anthropic.APIStatusError) as refused:
            create(agent=agent, environment_id=environment, vault_ids=vaults)
        assert refused.value.status_code in (400, 404)
    site.client.beta.vaults.archive(mine)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        site.sandbox(site.limited(API), mine)


# --- changes while a session runs


def test_a_change_is_in_force_in_a_running_call(site: Site) -> None:
    """One call sends without a pause; new values, and the end of them, show in what arrives."""
    first, second = value("first"), value("second")
    vault = site.vault()
    credential = site.secret(vault, "TOKEN", first, API)
    sandbox = site.sandbox(site.limited(API, TWIN), vault)
    stand_in = placeholder(sandbox)
    task = {"do": "http", "url": f"https://{API}/on", "headers": [["X-Key", "$TOKEN$"]]}
    loop = f"while true; do {INSIDE} '{json.dumps([task])}' >/dev/null; done"
    site.world.model.script(bash(loop), text("done"), allow_prefix_change=True)
    events = site.client.beta.sessions.events
    events.send(sandbox.id, events=[message("go")])

    def arrives(expected: str) -> None:
        """From now on, and for good."""
        site.origins.clear()
        keys = [expected]

        def has_come() -> bool:
            keys[:] = [one.header("x-key") or "" for one in list(site.origins.main.requests)]
            return expected in keys

        wait_until(has_come, f"the next value, {expected}")
        count = len(keys)
        wait_until(lambda: has_come() and len(keys) > count + 2, "three more")
        at = keys.index(expected)
        assert set(keys[at:]) == {expected}

    api = site.client.beta.vaults.credentials
    arrives(first)
    api.update(
        credential,
        vault_id=vault,
        auth={"type": "environment_variable", "secret_value": second},
    )
    arrives(second)
    api.update(
        credential,
        vault_id=vault,
        auth={
            "type": "environment_variable",
            "networking": {"type": "limited", "allowed_hosts": [TWIN]},
        },
    )
    arrives(stand_in)
    api.update(
        credential,
        vault_id=vault,
        auth={"type": "environment_variable", "networking": {"type": "unrestricted"}},
    )
    arrives(second)
    api.archive(credential, vault_id=vault)
    arrives(stand_in)
    site.secret(vault, "TOKEN", first, API)
    arrives(first)
    site.client.beta.vaults.delete(vault)
    arrives(stand_in)
    events.send(sandbox.id, events=[INTERRUPT])
    wait_until(lambda: site.world.status(sandbox.id) == "idle", "rest")


# --- what is written down


def test_every_use_is_in_the_ledger(site: Site) -> None:
    secret = value()
    vault = site.vault()
    credential = site.secret(vault, "TOKEN", secret, API)
    site.secret(vault, "UNUSED", value(), API)
    sandbox = site.sandbox(site.limited(API, TWIN), vault)
    sandbox.tasks(
        {"do": "http", "url": f"https://{API}/a", "headers": [["X-Key", "$TOKEN$"]]},
        {"do": "http", "url": f"http://{API}/b", "method": "PUT", "body": "<$TOKEN$>"},
        {"do": "http", "url": f"https://{TWIN}/c", "headers": [["X-Key", "$TOKEN$"]]},
        {"do": "http", "url": f"https://{API}/d"},
    )
    uses = site.uses(session_id=sandbox.id)
    for one in uses:
        assert one["type"] == "credential_use" and one["id"].startswith("vcuse_")
        assert (one["vault_id"], one["credential_id"]) == (vault, credential)
        assert (one["session_id"], one["kind"], one["host"]) == (sandbox.id, "egress", API)
    calls = [one["id"] for one in site.world.log(sandbox.id) if one["type"] == "agent.tool_use"]
    put, get = uses
    assert (put["method"], put["port"], put["location"]) == (
        "PUT",
        80,
        {"header": False, "body": True},
    )
    assert (get["method"], get["port"], get["location"]["header"]) == ("GET", 443, True)
    assert put["event_ids"] == get["event_ids"] == [calls[-1]]
    for query in ({"vault_id": vault}, {"credential_id": credential}):
        assert site.uses(**query) == uses
    recorded = sandbox.records("injection")
    assert [(one["host"], one["method"], one["credential_id"]) for one in recorded] == [
        (API, "PUT", credential),
        (API, "GET", credential),
    ]
    # The ledger outlives what it speaks of.
    site.client.beta.vaults.delete(vault)
    site.client.beta.sessions.delete(sandbox.id)
    assert site.uses(vault_id=vault) == uses


def test_a_secret_that_can_go_nowhere_is_told_of_at_once(site: Site) -> None:
    vault = site.vault()
    lost = site.secret(vault, "LOST", value(), BLOCKED)
    site.secret(vault, "TOKEN", value(), API)
    sandbox = site.sandbox(site.limited(API), vault)
    (event,) = site.world.log(sandbox.id)
    assert (event["type"], event["error"]["type"]) == (
        "session.error",
        "credential_host_unreachable_error",
    )
    error = event["error"]
    assert (error["credential_id"], error["vault_id"]) == (lost, vault)
    assert error["retry_status"] == {"type": "exhausted"} and BLOCKED in error["message"]
    # The session goes on.
    site.world.model.script(text("hello"))
    assert [one.type for one in turn(site.client, sandbox.id, "hi")][-1] == "session.status_idle"
    fine = site.sandbox(site.unrestricted(), vault)
    assert site.world.log(fine.id) == []
