"""No secret shows: secrets of every kind are made, changed, used, refreshed, probed and provoked
into errors, and then everything that a server keeps, writes or says is searched for them.

Who may see one is named: the origin that a credential allows, and the MCP server and token endpoint
that it is for.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from canary import Canaries, forms
from door import Site, new_world, origins, shared_site, site
from origins import API, BLOCKED, MCP, TOKENS, Origins
from world import API_KEY, World, binary

SERVER = f"https://{MCP}"
ENDPOINT = f"https://{TOKENS}/token"


class Traced(World):
    """A server that writes down all that it can."""

    def variables(self) -> dict[str, str]:
        return {**super().variables(), "POSTHOUSE_LOG": "trace", "RUST_BACKTRACE": "full"}


@pytest.fixture(scope="module")
def new_world(origins: Origins) -> Callable[..., World]:
    """Makes servers that know the origins and write everything down."""
    return lambda more="": Traced(origins.config(more=more))


class Story:
    """One credential after the other, with everything that can be done to it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.canaries = Canaries()
        self.api = site.client.beta.vaults.credentials
        self.vault = site.client.beta.vaults.create(display_name="of the canaries").id
        # Credentials' addresses are all different, for each is allowed once.
        self._number = 0
        self.answers: list[bytes] = []

    def server(self) -> str:
        """The MCP server, by an address of its own."""
        self._number += 1
        return f"{SERVER}/{self._number}"

    def make(self, auth: dict[str, Any]) -> str:
        """Makes a credential; returns its id."""
        return self.api.create(self.vault, auth=auth).id  # type: ignore[arg-type]

    def oauth(self, name: str, endpoint_auth: dict[str, Any], **more: Any) -> dict[str, Any]:
        """What an `mcp_oauth` credential is made of."""
        refresh = {
            "token_endpoint": ENDPOINT,
            "client_id": "client",
            "refresh_token": self.canaries(f"{name}-refresh"),
            "token_endpoint_auth": endpoint_auth,
        }
        return {
            "type": "mcp_oauth",
            "mcp_server_url": self.server(),
            "access_token": self.canaries(f"{name}-access"),
            "refresh": refresh,
            **more,
        }

    def validate(self, credential: str) -> dict[str, Any]:
        """Probes one."""
        told = self.api.mcp_oauth_validate(credential, vault_id=self.vault)
        return told.to_dict(mode="json")

    def refused(self, method: str, path: str, body: Any, **headers: str) -> None:
        """Sends what is no good, as it stands, and keeps the refusal."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.site.raw.request(
            method, path, content=data, headers={"content-type": "application/json", **headers}
        )
        assert 400 <= response.status_code < 500, (path, body, response.text)
        self.answers.append(response.content)


def tell_of_variables(story: Story) -> None:
    """`environment_variable`: made, used in every place, sent to others, changed, ended."""
    site, canaries = story.site, story.canaries
    first, second = canaries("variable"), canaries("variable-changed")
    credential = site.secret(story.vault, "TOKEN", first, API)
    unused = site.secret(story.vault, "UNUSED", canaries("unused"), BLOCKED)
    sandbox = site.sandbox(site.limited(API), story.vault)
    use = [
        {
            "do": "http",
            "url": f"https://{API}/",
            "headers": [["Authorization", "Bearer $TOKEN$"]],
        },
        {"do": "http", "url": f"https://{API}/", "body": "$TOKEN$", "size": 2 << 20},
        {"do": "http", "url": f"http://{API}/", "headers": [["X-Key", "$TOKEN$"]]},
        {"do": "http", "url": f"https://{API}/?key=$TOKEN$"},
        {"do": "http", "url": f"https://{BLOCKED}/", "headers": [["X-Key", "$TOKEN$"]]},
        {
            "do": "http",
            "url": f"https://{API}/",
            "headers": [["Host", BLOCKED], ["X", "$TOKEN$"]],
        },
        {
            "do": "http",
            "url": f"https://{API}/",
            "method": "TRACE",
            "headers": [["X", "$TOKEN$"]],
        },
        {"do": "http2", "host": API, "requests": [{"path": "/", "headers": [["x", "$TOKEN$"]]}]},
    ]
    sandbox.tasks(*use)
    update = {"type": "environment_variable", "secret_value": second}
    story.api.update(credential, vault_id=story.vault, auth=update)  # type: ignore[arg-type]
    sandbox.tasks(*use[:2])
    sandbox.shell("env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/self/mountinfo")
    sandbox.kill()
    sandbox.tasks(*use[:1])
    # They were used: otherwise all of this would prove nothing.
    came = site.origins.main.received()
    assert first.encode() in came and second.encode() in came
    story.api.archive(unused, vault_id=story.vault)


def tell_of_tokens(story: Story) -> None:
    """The kinds that are for MCP servers: made, changed, probed, refreshed, refused with spite."""
    site, canaries = story.site, story.canaries
    grants = site.origins.authorizations
    bearer = story.make(
        {"type": "static_bearer", "mcp_server_url": story.server(), "token": canaries("bearer")}
    )
    story.api.update(
        bearer,
        vault_id=story.vault,
        auth={"type": "static_bearer", "token": canaries("bearer-changed")},
    )
    header: Any = {
        "type": "posthouse_header",
        "mcp_server_url": story.server(),
        "header_name": "x-mcp-key",
        "token": canaries("header"),
    }
    named = story.make(header)
    change: Any = {"type": "posthouse_header", "token": canaries("header-changed")}
    story.api.update(named, vault_id=story.vault, auth=change)
    # A token that is good.
    good = story.oauth("good", {"type": "none"})
    grants.valid.add(good["access_token"])
    assert story.validate(story.make(good))["status"] == "valid"
    # One that is refused; the next is asked for with each kind of client's secret.
    for kind in ("client_secret_basic", "client_secret_post"):
        ended = story.oauth(kind, {"type": kind, "client_secret": canaries(f"{kind}-secret")})
        grants.next = [(canaries(f"{kind}-next"), canaries(f"{kind}-next-refresh"))]
        credential = story.make(ended)
        told = story.validate(credential)
        assert told["status"] == "valid", told
        update: Any = {
            "type": "mcp_oauth",
            "access_token": canaries(f"{kind}-changed"),
            "refresh": {
                "refresh_token": canaries(f"{kind}-changed-refresh"),
                "token_endpoint_auth": {
                    "type": kind,
                    "client_secret": canaries(f"{kind}-changed-secret"),
                },
            },
        }
        story.api.update(credential, vault_id=story.vault, auth=update)
        # Nobody has a grant for it any more, and the refusal repeats all that came.
        grants.next = []
        assert story.validate(credential)["status"] in ("invalid", "unknown")
        for status in (401, 403, 500, 200):
            grants.spiteful = status
            story.validate(credential)
        grants.spiteful = None
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    story.make(story.oauth("later", {"type": "none"}, expires_at=later.isoformat()))
    story.api.archive(bearer, vault_id=story.vault)


def provoke(story: Story) -> None:
    """Secrets in requests that are refused: what is wrong with them is said without them."""
    canaries, vault = story.canaries, story.vault
    path = f"/v1/vaults/{vault}/credentials"
    variable = {
        "type": "environment_variable",
        "secret_name": "TOKEN",
        "networking": {"type": "unrestricted"},
    }
    oauth = {"type": "mcp_oauth", "mcp_server_url": f"{SERVER}/wrong"}
    refresh = {"token_endpoint": ENDPOINT, "client_id": "client"}
    bearer = {"type": "static_bearer", "mcp_server_url": f"{SERVER}/wrong"}
    secret = canaries("refused")
    nested: list[Any] = [{"x": secret}, [secret], {secret: 1}]
    wrong: list[Any] = [
        # A name that is taken.
        {"auth": {**variable, "secret_value": secret}},
        # Values that are none.
        {"auth": {**variable, "secret_name": "A", "secret_value": secret + "\n"}},
        {"auth": {**variable, "secret_name": "A", "secret_value": secret * 4000}},
        *({"auth": {**variable, "secret_name": "A", "secret_value": one}} for one in nested),
        *({"auth": {**bearer, "token": one}} for one in nested),
        *({"auth": {**oauth, "access_token": one}} for one in nested),
        {"auth": {**bearer, "token": secret * 4000}},
        {"auth": {**bearer, "token": secret + "\r\nX: y"}},
        # Where it does not belong.
        {"auth": {**variable, "secret_name": secret, "secret_value": secret}},
        {"auth": {**variable, "secret_value": secret, "secret_values": secret}},
        {"auth": {**bearer, "token": secret, "secret_value": secret}},
        {"auth": {**bearer, "token": secret, "type": "static"}},
        {"auth": {"token": secret}},
        {"auth": {**oauth, "access_token": secret, "expires_at": "2001-01-01T00:00:00Z"}},
        {"auth": {**oauth, "access_token": secret, "refresh": {"refresh_token": secret}}},
        {
            "auth": {
                **oauth,
                "access_token": "a",
                "refresh": {**refresh, "refresh_token": [secret]},
            }
        },
        {
            "auth": {
                **oauth,
                "access_token": "a",
                "refresh": {
                    **refresh,
                    "refresh_token": secret,
                    "token_endpoint_auth": {"type": "none", "client_secret": secret},
                },
            }
        },
        {"token": secret},
        [secret],
    ]
    for body in wrong:
        story.refused("POST", path, body)
    # What is no JSON, or not whole.
    whole = json.dumps(
        {"auth": {**variable, "secret_name": "A", "secret_value": secret}}
    ).encode()
    for data in (
        whole[:-1],
        whole[:-3],
        whole + b"}",
        whole.replace(b":", b";", 2),
        b"{" + whole,
    ):
        story.refused("POST", path, data)
    story.refused("POST", path.replace(vault, "vlt_0123456789abcdefABCDEF01"), json.loads(whole))
    story.refused("POST", path, json.loads(whole), authorization="Bearer wrong")
    story.refused("PUT", path, json.loads(whole))
    # One that is there, changed into what it is not.
    there = story.site.secret(vault, "THERE", canaries("there"), API)
    for auth in (
        {"type": "static_bearer", "token": secret},
        {"type": "environment_variable", "secret_value": {"a": secret}},
        {"type": "environment_variable", "secret_value": secret, "secret_name": "B"},
        {"type": "environment_variable", "secret_value": secret, "injection_location": None},
    ):
        story.refused("POST", f"{path}/{there}", {"auth": auth})
    # The same key with another body.
    again = {"idempotency-key": "canary"}
    made = story.site.raw.post(path, json=json.loads(whole), headers=again)
    assert made.status_code == 200, made.text
    other = json.loads(whole.replace(b'"A"', b'"OTHER"'))
    story.refused("POST", path, other, **again)


def everything_said(story: Story) -> list[bytes]:
    """All that the API tells of it."""
    site = story.site
    paths = ["/v1/vaults", f"/v1/vaults/{story.vault}/credentials", "/v1/sessions"]
    paths += ["/posthouse/v1/credential_uses", "/v1/agents", "/v1/environments"]
    said = list(story.answers)
    for path in paths:
        entries = site.world.pages(path, limit=100)
        assert entries != [], path
        said.append(json.dumps(entries).encode())
    for session in site.world.pages("/v1/sessions", limit=100):
        said.append(json.dumps(site.world.log(session["id"])).encode())
        path = f"/posthouse/v1/sandboxes/{session['id']}/records"
        said.append(json.dumps(site.world.pages(path, limit=100)).encode())
    said.append(site.raw.get("/posthouse/v1/sandboxes").content)
    # What clients have been told on the way, refusals included.
    said += [one.body for one in site.world.recorder.exchanges]
    return said


def test_no_secret_shows_anywhere(site: Site, tmp_path: Path) -> None:
    story, world = Story(site), site.world
    canaries = story.canaries
    tell_of_variables(story)
    tell_of_tokens(story)
    provoke(story)
    # The controls: what is no secret is kept, and is found in plain and in other forms.
    control = Canaries()
    title = control("control")
    shown = forms(control("control-in-base64"))["base64 at 0"].decode()
    site.client.beta.sessions.create(
        agent=world.agent(), environment_id=world.environment(), title=f"{title} {shown}"
    )
    data = world.folder / "data"
    said = everything_said(story)
    log = world.folder / "server.log"
    assert b"TRACE" in log.read_bytes(), "a server that says nothing proves nothing"
    model = [json.dumps(world.model._call("GET", "/requests")).encode()]
    process = Path(f"/proc/{world._program.process.pid}")
    own = [(process / name).read_bytes() for name in ("cmdline",)]
    described = subprocess.run(
        [binary("POSTHOUSE_BIN", "posthouse"), "openapi"], capture_output=True, check=True
    ).stdout
    lines = [command_line(world, *words) for words in COMMANDS]
    found = [
        *canaries.found_among("API", said),
        *canaries.found_among("model", model),
        *canaries.found_among("process", own),
        *canaries.found_among("openapi", [described]),
        *canaries.found_among("command line", lines),
        *canaries.found_below(data),
        *canaries.found_in_file(log),
        # Those that may not have got them.
        *canaries.found_among("origins", [site.origins.received(without=(API, MCP, TOKENS))]),
    ]
    assert found == []
    # A backup that is taken while it runs, and what is left after it was killed.
    shutil.copytree(data, tmp_path / "backup", ignore_dangling_symlinks=True)
    world.kill()
    assert canaries.found_below(tmp_path / "backup") + canaries.found_below(data) == []
    controls = "\n".join(control.found_below(data))
    assert "control (plain)" in controls and "control-in-base64 (base64 at 0)" in controls
    assert {one.split(": ")[1] for one in control.found_among("API", said)} >= {"control (plain)"}
    world.start()
    # The vault can still be opened: it was there all the time.
    sandbox = site.sandbox(site.limited(API), story.vault)
    site.origins.clear()
    sandbox.get(f"https://{API}/after", headers=[["X-Key", "$TOKEN$"]])
    assert canaries.values["variable-changed"].encode() in site.origins.main.received()
    site.client.beta.vaults.archive(story.vault)
    site.client.beta.vaults.delete(story.vault)
    assert canaries.found_below(data) + list(canaries.found_in_file(log)) == []


COMMANDS = [("sessions", "list"), ("sandboxes", "list"), ("keys", "list"), ("doctor",)]


def command_line(world: World, *words: str) -> bytes:
    """What the command line says."""
    places = ["--data", str(world.folder / "data")]
    if words == ("doctor",):
        places += ["--config", str(world.folder / "config.toml")]
    ran = subprocess.run(
        [binary("POSTHOUSE_BIN", "posthouse"), *words, *places],
        env={**world.variables(), "POSTHOUSE_API_KEY": API_KEY},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.stdout != b"", ran.stderr
    return ran.stdout + ran.stderr


def test_an_archived_secret_is_wiped(site: Site) -> None:
    """Not only out of sight: the sealed text is gone from the table."""
    vault = site.vault()
    kept = site.secret(vault, "KEPT", "value-one-0123456789", API)
    gone = site.secret(vault, "GONE", "value-two-0123456789", API)
    site.client.beta.vaults.credentials.archive(gone, vault_id=vault)
    assert sealed(site, kept) and not sealed(site, gone)
    site.client.beta.vaults.archive(vault)
    assert not sealed(site, kept)
    with pytest.raises(anthropic.BadRequestError):
        site.secret(vault, "MORE", "value", API)


def sealed(site: Site, credential: str) -> bool:
    """Whether a credential's row holds a sealed value."""
    with tempfile.TemporaryDirectory() as folder:
        # The server holds the database; a copy with its log of writes is as good.
        for path in (site.world.folder / "data").glob("posthouse.db*"):
            shutil.copy(path, folder)
        with contextlib.closing(sqlite3.connect(f"{folder}/posthouse.db")) as database:
            asked = "SELECT sealed FROM credentials WHERE id = ?"
            (found,) = database.execute(asked, (credential,)).fetchone()
    return found is not None
