"""Addresses, resolvers, and what is public: a server and its sandboxes in a network of their own,
in which everything that a door could be led to really listens.

Each test says first that the origins can be reached from where the server is, and last that nobody
has come to those that must not be reached.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import anthropic

from door import REFUSAL, ROOTS, Sandbox, Site, is_refused
from namespace import Resolver, in_a_namespace, network
from origin import Origin
from origins import Origins, Web
from world import World

# Addresses of the public internet, which are played here.
FIRST, SECOND = "93.184.216.34", "151.101.1.69"
METADATA = "169.254.169.254"
ALIYUN = "100.100.100.200"
PRIVATE = ("10.0.0.7", "172.16.5.4", "192.168.1.1", "169.254.1.1", "100.64.0.1")
HERE = "127.0.0.5"
PUBLIC_NAME = "public.example.org"
OTHER_NAME = "other.example.org"
REBINDING = "rebinding.example.org"
PRIVATE_NAME = "private.example.org"
METADATA_NAME = "metadata.example.org"
LOOPBACK_NAME = "loopback.example.org"
PORTS = (80, 443, 8080)


@dataclass
class Scene:
    """The network with its origins and a server."""

    site: Site
    resolver: Resolver
    # By address and port.
    origins: dict[tuple[str, int], Origin] = field(default_factory=dict)

    def came(self, *addresses: str) -> list[tuple[str, int]]:
        """Which of these addresses somebody has connected to."""
        return [at for at, one in self.origins.items() if at[0] in addresses and one.connections]

    def forbidden(self) -> list[tuple[str, int]]:
        """Where somebody came who must not."""
        return self.came(*PRIVATE, METADATA, ALIYUN, HERE)

    def clear(self) -> None:
        """All forget who has come."""
        for one in self.origins.values():
            one.clear()
        self.resolver.asked.clear()


@contextlib.contextmanager
def scene(*, egress: str = "") -> Iterator[Scene]:
    """Sets it up, and shows that each origin can be reached by who is not in a cage."""
    names = {
        PUBLIC_NAME: [FIRST],
        OTHER_NAME: [SECOND],
        REBINDING: [FIRST, *PRIVATE, METADATA, HERE],
        PRIVATE_NAME: [PRIVATE[0]],
        METADATA_NAME: [METADATA],
        LOOPBACK_NAME: [HERE],
    }
    with network(names, FIRST, SECOND, METADATA, ALIYUN, *PRIVATE) as resolver:
        with TemporaryDirectory() as folder:
            origins = Origins(Path(folder) / "origins")
            certificate = origins.authority.issue_cert(*names, FIRST, METADATA).configure_cert
            placed = {
                (address, port): Origin(Web(), certificate=certificate, address=(address, port))
                for address in (FIRST, SECOND, METADATA, ALIYUN, *PRIVATE, HERE)
                for port in PORTS
            }
            for address, port in placed:
                with socket.create_connection((address, port), timeout=5) as stream:
                    stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert stream.recv(12) == b"HTTP/1.1 200", (address, port)
            for name, addresses in names.items():
                if len(addresses) == 1:
                    assert socket.gethostbyname(name) == addresses[0]
            world = World(origins.config(egress=egress))
            try:
                made = Scene(Site(world, origins), resolver, placed)
                made.clear()
                yield made
            finally:
                world.close()


def reached(sandbox: Sandbox, *urls: str) -> list[int | None]:
    """The status of each, or none where there was no answer. Certificates are not looked at."""
    told = sandbox.tasks(
        *({"do": "http", "url": url, "verify": False, "patience": 5.0} for url in urls)
    )
    return [one.get("status") for one in told]


@in_a_namespace
def test_without_a_list_only_the_public_is_reached() -> None:
    with scene() as here:
        sandbox = here.site.sandbox(here.site.unrestricted())
        public = [
            *(f"http://{PUBLIC_NAME}/", f"https://{PUBLIC_NAME}/", f"http://{FIRST}/"),
            *(f"https://{FIRST}/", f"http://{PUBLIC_NAME}:8080/", f"http://{OTHER_NAME}/"),
        ]
        assert reached(sandbox, *public) == [200] * len(public)
        assert len(here.came(FIRST)) == 3 and here.came(SECOND) == [(SECOND, 80)]
        names = (PRIVATE_NAME, METADATA_NAME, LOOPBACK_NAME)
        private = [
            f"{scheme}://{host}{port}/latest/meta-data/"
            for host in (*PRIVATE, METADATA, ALIYUN, *names)
            for scheme, port in (("http", ""), ("https", ""), ("http", ":8080"))
        ]
        assert all(one in (None, 403) for one in reached(sandbox, *private))
        assert here.forbidden() == []


@in_a_namespace
def test_an_address_may_be_written_in_any_way() -> None:
    """curl and Python read forms that a list does not know; what is dialled is what counts."""
    with scene() as here:
        sandbox = here.site.sandbox(here.site.unrestricted())
        whole = int.from_bytes(socket.inet_aton(METADATA))
        private = int.from_bytes(socket.inet_aton(PRIVATE[0]))
        forms = [
            *(str(whole), f"0x{whole:x}", f"0{whole:o}", "0xa9.0xfe.0xa9.0xfe"),
            *("0251.0376.0251.0376", "169.254.43518", "169.16689662", f"{METADATA}."),
            *(str(private), f"0x{private:x}", "10.7", "012.0.0.7", "10.0.7"),
            *(f"[::ffff:{METADATA}]", "[::ffff:a9fe:a9fe]", f"[64:ff9b::{METADATA}]"),
            *(f"[::{METADATA}]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]", "[::1]", "[::]"),
            *("0.0.0.0", "0", "127.1", "localhost", "①⑥⑨.254.169.254", "169。254。169。254"),
        ]
        ask = "curl --silent --globoff --max-time 3 --output /dev/null --write-out '%{http_code}\\n'"
        control = sandbox.shell(f"{ask} http://{FIRST}/; {ask} http://1572395042/")
        assert control == ["200\n200\n"]
        here.clear()
        (told,) = sandbox.shell("; ".join(f"{ask} 'http://{one}/'" for one in forms))
        assert set(told.split()) <= {"000", "403"}, dict(zip(forms, told.split(), strict=False))
        assert here.forbidden() == []


@in_a_namespace
def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """DNS rebinding: what was checked is what is dialled."""
    with scene() as here:
        sandbox = here.site.sandbox(here.site.unrestricted())
        told = reached(sandbox, *[f"http://{REBINDING}/"] * 12, *[f"https://{REBINDING}/"] * 4)
        assert told[0] == 200
        # It was asked for often enough to show all its faces, or it was not asked again.
        faces = 16 - here.resolver.asked.count(REBINDING)
        assert faces >= 0 and here.came(FIRST)
        assert here.forbidden() == []


@in_a_namespace
def test_a_redirect_leads_to_no_private_address() -> None:
    with scene() as here:
        sandbox = here.site.sandbox(here.site.unrestricted())
        follow = "curl --silent --location --insecure --max-time 5 --output /dev/null"
        follow += " --write-out '%{http_code} %{num_redirects}\\n'"
        targets = [
            *(f"http:%2F%2F{METADATA}%2Flatest", f"http:%2F%2F{PRIVATE[0]}%2F"),
            *(f"https:%2F%2F{PRIVATE_NAME}%2F", f"http:%2F%2F{LOOPBACK_NAME}%2F"),
        ]
        good, *bad = sandbox.shell(
            f"{follow} http://{PUBLIC_NAME}/to/http:%2F%2F{OTHER_NAME}%2F",
            *(f"{follow} http://{PUBLIC_NAME}/to/{one}" for one in targets),
        )
        assert good == "200 1\n"
        # The redirect is the last that is seen, or there is a refusal after it.
        assert all("403 1\n" in one or "302 1\n" in one for one in bad), bad
        assert here.forbidden() == []


@in_a_namespace
def test_no_name_that_is_not_listed_gets_to_a_resolver() -> None:
    with scene() as here:
        free = here.site.sandbox(here.site.unrestricted())
        assert reached(free, f"http://{OTHER_NAME}/") == [200]
        assert OTHER_NAME in here.resolver.asked
        held = here.site.sandbox(here.site.limited(PUBLIC_NAME))
        assert reached(held, f"http://{PUBLIC_NAME}/", f"https://{PUBLIC_NAME}/") == [200, 200]
        assert PUBLIC_NAME in here.resolver.asked
        here.clear()
        told = held.tasks(
            *({"do": "http", "url": f"http://{name}/"} for name in (OTHER_NAME, PRIVATE_NAME)),
            {"do": "dns", "name": f"secret.{OTHER_NAME}"},
            {"do": "dns", "name": f"secret.{PUBLIC_NAME}"},
            {"do": "dns", "name": f"secret.{OTHER_NAME}", "kind": 16, "tcp": True},
            {"do": "dns", "name": f"secret.{OTHER_NAME}", "server": "8.8.8.8"},
            {
                "do": "dns",
                "name": f"secret.{OTHER_NAME}",
                "server": "127.0.0.53",
                "patience": 2.0,
            },
            {"do": "dns", "name": f"secret.{PUBLIC_NAME}", "kind": 15},
        )
        assert is_refused(told[0], OTHER_NAME) and is_refused(told[1], PRIVATE_NAME)
        asked = [one for one in here.resolver.asked if one != PUBLIC_NAME]
        assert asked == []
        assert here.came(FIRST, SECOND) == [] and here.forbidden() == []


@in_a_namespace
def test_a_list_is_of_names_and_not_of_addresses() -> None:
    """An address that a listed name has is no way around the list, and its ports are the web's."""
    with scene() as here:
        listed = here.site.sandbox(here.site.limited(PUBLIC_NAME, SECOND))
        web = [f"http://{PUBLIC_NAME}/", f"https://{PUBLIC_NAME}/", f"http://{SECOND}/"]
        assert reached(listed, *web) == [200] * 3
        (unknown,) = listed.tasks({"do": "http", "url": f"http://{FIRST}/"})
        assert is_refused(unknown, FIRST), unknown
        here.clear()
        others = [
            *(f"https://{FIRST}/", f"http://{FIRST}:8080/", f"http://{METADATA}/"),
            *(f"http://{PRIVATE[0]}/", f"http://{PRIVATE[0]}:8080/", "http://[2606:4700::1]/"),
        ]
        assert all(one in (None, 403) for one in reached(listed, *others))
        # Ports that are not the web's are cut off, in words nowhere.
        for host in (PUBLIC_NAME, SECOND):
            told = listed.task("raw", host=host, port=8080, send=["GET / HTTP/1.1\r\n\r\n"])
            assert told.get("received", "") == "", told
        assert here.came(FIRST, SECOND) == [] and here.forbidden() == []
        assert (PUBLIC_NAME, 8080, False, "port") in listed.decisions()


@in_a_namespace
def test_what_a_list_names_is_still_the_guards_to_refuse() -> None:
    with scene() as here:
        names = (PRIVATE_NAME, METADATA_NAME, LOOPBACK_NAME)
        sandbox = here.site.sandbox(
            here.site.limited(PUBLIC_NAME, *names, PRIVATE[0], METADATA, REBINDING)
        )
        assert reached(sandbox, f"https://{PUBLIC_NAME}/") == [200]
        for told in sandbox.tasks(
            *({"do": "http", "url": f"{scheme}://{host}/"} for host in (*names, PRIVATE[0], METADATA)
              for scheme in ("http", "https"))
        ):  # fmt: skip
            assert told.get("status") in (None, 403), told
            if "body" in told:
                assert told["body"].startswith(REFUSAL)
        assert set(reached(sandbox, *[f"https://{REBINDING}/"] * 10)) <= {200, 403, 502, None}
        assert here.forbidden() == []
        # A name that leads nowhere else is refused before anybody can connect.
        refused = {(name, None, False, "guard") for name in names}
        refused |= {(PRIVATE[0], port, False, "guard") for port in (80, 443)}
        assert refused <= sandbox.decisions()


@in_a_namespace
def test_what_the_operator_opens_is_open() -> None:
    """The control of the guard: the same addresses, with a rule that opens them."""
    with scene(egress=f'allow_private = ["{PRIVATE[0]}/32", "{METADATA}/32"]') as here:
        sandbox = here.site.sandbox(here.site.unrestricted())
        opened = [f"http://{PRIVATE[0]}/", f"http://{PRIVATE_NAME}/", f"http://{METADATA}/"]
        assert reached(sandbox, *opened) == [200] * 3
        assert reached(sandbox, f"http://{PRIVATE[1]}/") in ([None], [403])
        assert here.came(PRIVATE[1], HERE) == []


@in_a_namespace
def test_the_server_itself_is_out_of_reach() -> None:
    with scene(egress='allow_private = ["127.0.0.0/8", "10.0.0.0/8"]\n') as here:
        world = here.site.world
        own = world.url.removeprefix("http://").rpartition(":")[2]
        here.resolver.names["server.example.org"] = ["127.0.0.1"]
        sandbox = here.site.sandbox(here.site.unrestricted())
        # What else is on loopback is open now.
        assert reached(sandbox, f"http://{LOOPBACK_NAME}/") == [200]
        told = reached(sandbox, f"http://server.example.org:{own}/v1/agents")
        assert told in ([None], [403]), told


@in_a_namespace
def test_a_secret_goes_nowhere_without_tls() -> None:
    """By plain HTTP to an address that nobody has opened the placeholder stays what it is."""
    with scene(egress=f'allow_private = ["{PRIVATE[0]}/32"]') as here:
        secret = "secret-of-plain-http-0123456789"
        vault = here.site.vault(TOKEN=(secret, [PUBLIC_NAME, PRIVATE_NAME]))
        for environment in (
            here.site.unrestricted(),
            here.site.limited(PUBLIC_NAME, PRIVATE_NAME),
        ):
            here.clear()
            sandbox = here.site.sandbox(environment, vault)
            (placeholder,) = sandbox.shell('printf %s "$TOKEN"')
            header = [["Authorization", "Bearer $TOKEN$"]]
            ask = {"do": "http", "headers": header}
            told = sandbox.tasks(
                {**ask, "url": f"https://{PUBLIC_NAME}/secure"},
                {**ask, "url": f"http://{PUBLIC_NAME}/plain"},
                {**ask, "url": f"http://{PRIVATE_NAME}/opened"},
                {**ask, "url": f"https://{FIRST}/address", "verify": False},
            )
            assert [one.get("status") for one in told[:3]] == [200] * 3, told
            given = {
                one.path: one.header("authorization")
                for at in ((FIRST, 80), (FIRST, 443), (PRIVATE[0], 80))
                for one in here.origins[at].requests
            }
            assert given["/secure"] == given["/opened"] == f"Bearer {secret}"
            assert given["/plain"] == f"Bearer {placeholder}"
            assert given.get("/address") in (None, f"Bearer {placeholder}")


@in_a_namespace
def test_without_a_list_only_hosts_of_secrets_are_looked_into() -> None:
    with scene() as here:
        vault = here.site.vault(TOKEN=("value-of-a-secret-0123456789", [PUBLIC_NAME]))
        bare = here.site.sandbox(here.site.unrestricted())
        kept = here.site.sandbox(here.site.unrestricted(), vault)
        spared = here.site.sandbox(here.site.unrestricted(passthrough=[PUBLIC_NAME]), vault)

        def issuer(sandbox: Sandbox, host: str, **fields: str) -> str:
            return str(sandbox.task("certificate", host=host, verify=False, **fields))

        own = issuer(bare, PUBLIC_NAME)
        assert own == issuer(spared, PUBLIC_NAME)
        assert own != issuer(kept, PUBLIC_NAME)
        assert issuer(bare, OTHER_NAME) == issuer(kept, OTHER_NAME)
        # And what is no HTTP passes there as it is.
        opaque = {"do": "raw", "host": PUBLIC_NAME, "port": 8080, "send": ["no http at all\n\n"]}
        kept.tasks(opaque)
        assert b"no http at all" in here.origins[FIRST, 8080].received()
        (refused,) = kept.tasks({"do": "http", "url": f"https://{PUBLIC_NAME}/", "roots": ROOTS})
        assert "CERTIFICATE_VERIFY_FAILED" in refused["error"]


@in_a_namespace
def test_the_addresses_of_credentials_lead_nowhere_private() -> None:
    """SSRF by the server's own requests: the MCP server's address, the token endpoint's, and where
    either of them redirects to."""
    with scene() as here:
        api = here.site.client.beta.vaults
        vault = api.create(display_name="of other places").id

        def probe(server: str, endpoint: str) -> str:
            """The status of a probe, or the refusal to make the credential."""
            auth = {
                "type": "mcp_oauth",
                "mcp_server_url": server,
                "access_token": "access-0123456789",
                "refresh": {
                    "token_endpoint": endpoint,
                    "client_id": "client",
                    "refresh_token": "refresh-0123456789",
                    "token_endpoint_auth": {"type": "none"},
                },
            }
            try:
                made = api.credentials.create(vault, auth=auth)  # type: ignore[arg-type]
            except anthropic.BadRequestError as refusal:
                return str(refusal.status_code)
            told = api.credentials.mcp_oauth_validate(made.id, vault_id=vault)
            api.credentials.delete(made.id, vault_id=vault)
            return str(told.status)

        public = f"https://{PUBLIC_NAME}"
        # The control: an honest server is asked.
        probe(f"{public}/mcp", f"{public}/token")
        assert "/mcp" in here.origins[FIRST, 443].asked()
        whole = int.from_bytes(socket.inet_aton(METADATA))
        hosts = [
            *PRIVATE,
            *(METADATA, ALIYUN, HERE, PRIVATE_NAME, METADATA_NAME, LOOPBACK_NAME, "localhost"),
            *(str(whole), f"0x{whole:x}", f"[::ffff:{METADATA}]", f"user@{METADATA}", "[::1]"),
            *(f"{PUBLIC_NAME}@{METADATA}", f"{PUBLIC_NAME}#@{METADATA}", f"{METADATA}."),
        ]
        told = []
        for host in hosts:
            for scheme in ("https", "http"):
                told.append(probe(f"{scheme}://{host}/mcp", f"{public}/token"))
                told.append(probe(f"{public}/401", f"{scheme}://{host}/token"))
        redirects = [f"http://{METADATA}/", f"https://{PRIVATE_NAME}/", f"https://{PRIVATE[0]}/"]
        for target in redirects:
            away = f"{public}/to/{quote(target, safe='')}"
            told.append(probe(away, f"{public}/token"))
            told.append(probe(f"{public}/401", away))
        assert set(told) <= {"400", "unknown", "invalid"}, told
        assert here.forbidden() == []


# --- what is without end


def memory_of(site: Site) -> int:
    """What the server has in memory, in KiB."""
    status = Path(f"/proc/{site.world._program.process.pid}/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1])


@in_a_namespace
def test_names_without_end_are_bounded() -> None:
    with scene() as here:
        sandbox = here.site.sandbox(here.site.limited(PUBLIC_NAME))
        assert reached(sandbox, f"https://{PUBLIC_NAME}/") == [200]
        old = sandbox.task("dns", name=PUBLIC_NAME)["answers"][0]
        here.clear()
        before = memory_of(here.site)
        flood = {"do": "flood", "count": 250_000, "below": OTHER_NAME}
        (told,) = sandbox.tasks(flood)
        # 50 MB of questions, of which the kernel may have dropped some.
        assert told["sent"] > 10_000
        # Whoever waits is still answered, and an old address leads to its name or to nobody.
        assert reached(sandbox, f"https://{PUBLIC_NAME}/") == [200]
        url = f"https://{PUBLIC_NAME}/"
        assert sandbox.get(url, connect=old, verify=False).get("status") in (200, 403, None)
        assert set(here.resolver.asked) <= {PUBLIC_NAME} and here.came(SECOND) == []
        assert memory_of(here.site) - before < 128 << 10
        assert len(sandbox.records("deny")) < 5_000
        data = here.site.world.folder / "data"
        assert sum(one.stat().st_size for one in data.glob("posthouse.db*")) < 64 << 20


@in_a_namespace
def test_blocked_requests_without_end_are_few_rows() -> None:
    with scene() as here:
        sandbox = here.site.sandbox(here.site.limited(PUBLIC_NAME))
        script = f"""python3 - <<'END'
import socket
refused = 0
for number in range(1500):
    stream = socket.create_connection((f"host-{{number % 500}}.{OTHER_NAME}", 80), timeout=10)
    stream.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    refused += b" 403 " in stream.recv(4096)
    stream.close()
print(refused)
END"""
        assert sandbox.shell(script) == ["1500\n"]
        rows = sandbox.records("deny")
        assert 0 < len(rows) <= 1500
        # None is lost, whether it has a row of its own or not.
        assert sum(one["count"] for one in rows) >= 1500
        assert here.resolver.asked == [] and here.came(SECOND) == []
