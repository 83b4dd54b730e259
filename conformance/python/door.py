"""A server that knows the origins of `origins.py`, and sandboxes in which commands and tasks are
run: what the tests of door and vault stand on. Their modules import the fixtures at its end.
"""

from __future__ import annotations

import functools
import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from origins import Origins
from support import TOOLSET, bash, message, results, text
from world import World, wait_until

UPLOADS = "/mnt/session/uploads"
INSIDE = f"python3 {UPLOADS}/inside.py"
PACKAGES = f"{UPLOADS}/packages.zip"
# The authority of the origins, for programs that see their own certificates.
ROOTS = f"{UPLOADS}/origins.pem"
# How long what a sandbox does in one turn may take, in seconds.
TURN = 45.0
# Packages that programs inside use; all are pure Python.
_PACKAGES = (
    *("h2", "hpack", "hyperframe", "httpx", "httpcore", "h11", "anyio", "idna", "certifi"),
    *("requests", "urllib3", "pip"),
)
# What a task says of a host that is not let through.
REFUSAL = "posthouse: no connection from this sandbox to "


@functools.cache
def _packages() -> bytes:
    """The packages of the tests' own Python that programs inside use, as one archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _PACKAGES:
            module = __import__(name)
            assert module.__file__ is not None
            folder = Path(module.__file__).parent
            for path in sorted(folder.rglob("*")):
                if path.suffix in (".py", ".pem", ".typed", ".txt"):
                    archive.write(path, f"{name}/{path.relative_to(folder)}")
        import typing_extensions

        archive.write(typing_extensions.__file__, "typing_extensions.py")
    return packed.getvalue()


class Site:
    """A server and the origins that its sandboxes may know."""

    def __init__(self, world: World, origins: Origins) -> None:
        self.world, self.origins = world, origins
        self.client = world.client()
        self.raw = world.raw()

    def config(self, *hosts: str, **fields: Any) -> dict[str, Any]:
        """A `limited` environment's configuration."""
        networking = {"type": "limited", "allowed_hosts": list(hosts), **fields}
        return {"type": "cloud", "networking": networking}

    def limited(self, *hosts: str, passthrough: Iterable[str] = (), **fields: Any) -> str:
        """Makes an environment with these hosts; returns its id."""
        own = {"posthouse": {"passthrough_hosts": list(passthrough)}} if passthrough else {}
        made = self.client.beta.environments.create(
            name=f"limited {uuid.uuid4().hex}",
            config=self.config(*hosts, **fields),  # type: ignore[arg-type]
            extra_body=own,
        )
        return made.id

    def unrestricted(self, *, passthrough: Iterable[str] = ()) -> str:
        """Makes an environment without a list; returns its id."""
        own = {"posthouse": {"passthrough_hosts": list(passthrough)}} if passthrough else {}
        made = self.client.beta.environments.create(
            name=f"unrestricted {uuid.uuid4().hex}",
            config={"type": "cloud", "networking": {"type": "unrestricted"}},
            extra_body=own,
        )
        return made.id

    def vault(self, **secrets: tuple[str, Iterable[str]]) -> str:
        """Makes a vault with secrets, each a value and its hosts; returns its id."""
        made = self.client.beta.vaults.create(display_name="of the tests")
        for name, (value, hosts) in secrets.items():
            self.secret(made.id, name, value, *hosts)
        return made.id

    def secret(self, vault: str, name: str, value: str, *hosts: str, **fields: Any) -> str:
        """Makes an `environment_variable` credential; without hosts it has no list of its own.
        Returns its id."""
        networking: dict[str, Any] = {"type": "unrestricted"}
        if hosts:
            networking = {"type": "limited", "allowed_hosts": list(hosts)}
        auth = {"type": "environment_variable", "secret_name": name, "secret_value": value}
        made = self.client.beta.vaults.credentials.create(
            vault,
            auth={**auth, "networking": networking, **fields},  # type: ignore[arg-type,typeddict-item]
        )
        return made.id

    def sandbox(
        self, environment: str, *vaults: str, files: dict[str, str] | None = None
    ) -> Sandbox:
        """Opens a session. `files` are ids of more files, by their mount paths."""
        mounts = {"inside.py": _inside(), "packages.zip": _packages()}
        mounts["origins.pem"] = self.origins.roots.read_bytes()
        resources = [
            {"type": "file", "file_id": self.file(name, data), "mount_path": name}
            for name, data in mounts.items()
        ]
        resources += [
            {"type": "file", "file_id": one, "mount_path": path}
            for path, one in (files or {}).items()
        ]
        made = self.client.beta.sessions.create(
            agent=self.world.agent(tools=[TOOLSET]),
            environment_id=environment,
            resources=resources,  # type: ignore[arg-type]
            **({"vault_ids": list(vaults)} if vaults else {}),  # type: ignore[arg-type]
        )
        return Sandbox(self, made.id)

    def file(self, name: str, data: bytes) -> str:
        """Uploads a file once for each server; returns its id."""
        kept: dict[tuple[str, bytes], str] = self.world.__dict__.setdefault("_uploaded", {})
        if (name, data) not in kept:
            uploaded = self.client.files.upload(file=(name, data, "application/octet-stream"))
            kept[name, data] = uploaded.id
        return kept[name, data]

    def uses(self, **query: Any) -> list[dict[str, Any]]:
        """The ledger, newest first."""
        return self.world.pages("/posthouse/v1/credential_uses", **query)


@functools.cache
def _inside() -> bytes:
    return (Path(__file__).parent / "inside.py").read_bytes()


class Sandbox:
    """A session whose model does what the test says."""

    def __init__(self, site: Site, session_id: str) -> None:
        self.site, self.id = site, session_id

    def shell(self, *commands: str, bound: float = TURN) -> list[str]:
        """Runs commands, each as one call of `bash`; returns what they print."""
        world = self.site.world
        before = len(world.log(self.id))
        world.model.script(bash(*commands), text("done"), allow_prefix_change=True)
        self.site.client.beta.sessions.events.send(self.id, events=[message("go")])
        wait_until(lambda: world.status(self.id) == "idle", f"a turn of {self.id}", bound)
        events = world.log(self.id)[before:]
        assert [one["type"] for one in events if one["type"] == "session.error"] == []
        return results(events)

    def tasks(self, *tasks: dict[str, Any], at_once: bool = False) -> list[dict[str, Any]]:
        """Has tasks of `inside.py` done in one call, one after the other or some at a time;
        returns what each tells."""
        command = f"{INSIDE} {'--at-once' if at_once else ''} <<'END'\n{json.dumps(tasks)}\nEND"
        (printed,) = self.shell(command)
        told = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        assert len(told) == len(tasks), printed
        return told

    def task(self, do: str, **fields: Any) -> dict[str, Any]:
        """Has one task done."""
        (told,) = self.tasks({"do": do, **fields})
        return told

    def get(self, url: str, **fields: Any) -> dict[str, Any]:
        """Has one request sent."""
        return self.task("http", url=url, **fields)

    def records(self, *kinds: str) -> list[dict[str, Any]]:
        """The session's records, newest first."""
        path = f"/posthouse/v1/sandboxes/{self.id}/records"
        return self.site.world.pages(
            path, limit=100, **({"types[]": list(kinds)} if kinds else {})
        )

    def decisions(self) -> set[tuple[str, int | None, bool, str]]:
        """Which hosts and ports were allowed and denied, and by which rule."""
        return {
            (one["host"], one["port"], one["kind"] == "allow", one["rule"])
            for one in self.records("allow", "deny")
        }

    def kill(self) -> None:
        """Ends the sandbox; the next call gets a new one."""
        path = f"/posthouse/v1/sandboxes/{self.id}/kill"
        response = self.site.raw.post(path, json={})
        assert response.status_code == 200, response.text


def is_refused(told: dict[str, Any], host: str) -> bool:
    """Whether a task was answered with the door's 403, which names the host."""
    return told.get("status") == 403 and told["body"].startswith(f"{REFUSAL}{host}: ")


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origins]:
    """The origins of a module."""
    made = Origins(tmp_path_factory.mktemp("origins"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def new_world(origins: Origins) -> Callable[..., World]:
    """Makes servers that know the origins."""
    return lambda more="": World(origins.config(more=more))


@pytest.fixture(scope="module")
def shared_site(shared_world: World, origins: Origins) -> Site:
    """The module's server and origins."""
    return Site(shared_world, origins)


@pytest.fixture
def site(world: World, shared_site: Site) -> Site:
    """The same, and nobody has come yet."""
    shared_site.origins.clear()
    return shared_site
