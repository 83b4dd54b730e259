"""One call of each method of the SDK, and what has to come of it.

Those that the server refuses stand here as well, with the reason that `docs/COMPATIBILITY.md` gives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anthropic
from anthropic import beta_async_tool

from reflection import Stage, given
from support import TOOLSET, WEATHER, bash, calls, is_idle, message, text, turn
from world import API_KEY, MODEL, wait_until

TAIL = "0123456789abcdefABCDEF01"
WORK = f"work_{TAIL}"
REPORT = b"7 horses\n"


@dataclass(frozen=True)
class Call:
    """How a method is called, and why it is refused if it is."""

    run: Callable[[Stage], Awaitable[None]]
    refused: type[anthropic.APIStatusError] | None = None
    # "refused" is for good, "not yet" until the server can do it.
    outcome: str = "works"
    note: str = ""
    # What the refusal's message has to say.
    words: str = ""


CALLS: dict[str, Call] = {}

Run = Callable[[Stage], Awaitable[None]]


def works(*methods: str, note: str = "") -> Callable[[Run], Run]:
    """Says that these methods work when they are called like this."""

    def keep(run: Run) -> Run:
        CALLS.update({method: Call(run, note=note) for method in methods})
        return run

    return keep


def refused(
    method: str, error: type[anthropic.APIStatusError], outcome: str, note: str, words: str
) -> Callable[[Run], Run]:
    """Says that this method is refused, and how."""

    def keep(run: Run) -> Run:
        CALLS[method] = Call(run, error, outcome, note, words)
        return run

    return keep


# --- agents


@works("beta.agents.create")
async def create_agent(stage: Stage) -> None:
    made = await stage.call(name="clerk", model=MODEL, system="Be brief.", tools=[TOOLSET, WEATHER])
    assert (made.name, made.model.id, made.version) == ("clerk", MODEL, 1)
    assert [tool.type for tool in made.tools] == ["agent_toolset_20260401", "custom"]


@works("beta.agents.retrieve")
async def retrieve_agent(stage: Stage) -> None:
    agent = stage.world.agent()
    assert (await stage.call(agent)).id == agent


@works("beta.agents.update")
async def update_agent(stage: Stage) -> None:
    agent = stage.world.agent()
    changed = await stage.call(agent, version=1, name="renamed")
    assert (changed.id, changed.name, changed.version) == (agent, "renamed", 2)


@works("beta.agents.list")
async def list_agents(stage: Stage) -> None:
    made = [stage.world.agent() for _ in range(3)]
    # More than one page, so the pager has to ask again.
    assert [one.id for one in await stage.every(limit=2)][:3] == made[::-1]


@works("beta.agents.archive")
async def archive_agent(stage: Stage) -> None:
    assert (await stage.call(stage.world.agent())).archived_at is not None


@works("beta.agents.versions.list")
async def list_versions(stage: Stage) -> None:
    agent = stage.world.agent()
    await stage.other("beta.agents.update", agent, version=1, name="renamed")
    assert [one.version for one in await stage.every(agent, limit=1)] == [2, 1]


# --- environments


def new_environment(stage: Stage) -> str:
    """The id of an environment of this test's own."""
    return stage.world.client().beta.environments.create(name="stable").id


@works("beta.environments.create")
async def create_environment(stage: Stage) -> None:
    made = await stage.call(name="stable", description="hay", metadata={"a": "b"})
    assert (made.name, made.description, made.metadata) == ("stable", "hay", {"a": "b"})


@works("beta.environments.retrieve")
async def retrieve_environment(stage: Stage) -> None:
    environment = stage.world.environment()
    assert (await stage.call(environment)).id == environment


@works("beta.environments.update")
async def update_environment(stage: Stage) -> None:
    changed = await stage.call(new_environment(stage), description="straw")
    assert (changed.name, changed.description) == ("stable", "straw")


@works("beta.environments.list")
async def list_environments(stage: Stage) -> None:
    made = [new_environment(stage) for _ in range(3)]
    assert [one.id for one in await stage.every(limit=2)][:3] == made[::-1]


@works("beta.environments.delete")
async def delete_environment(stage: Stage) -> None:
    environment = new_environment(stage)
    gone = await stage.call(environment)
    assert (gone.id, gone.type) == (environment, "environment_deleted")


@works("beta.environments.archive")
async def archive_environment(stage: Stage) -> None:
    assert (await stage.call(new_environment(stage))).archived_at is not None


# --- the queue of work for environments that somebody else hosts


def no_work(method: str) -> Callable[[Run], Run]:
    """Says that this method waits for the work queue."""
    name = f"beta.environments.work.{method}"
    return refused(name, anthropic.NotFoundError, "not yet", "self-hosted work queue", "Not found")


@no_work("retrieve")
@no_work("ack")
@no_work("stop")
async def act_on_work(stage: Stage) -> None:
    await stage.call(WORK, environment_id=stage.world.environment())


@no_work("update")
async def update_work(stage: Stage) -> None:
    await stage.call(WORK, environment_id=stage.world.environment(), metadata={"a": "b"})


@no_work("heartbeat")
async def heartbeat(stage: Stage) -> None:
    environment = stage.world.environment()
    await stage.call(WORK, environment_id=environment, desired_ttl_seconds=60)


@no_work("list")
async def list_work(stage: Stage) -> None:
    await stage.every(stage.world.environment())


@no_work("poll")
@no_work("stats")
async def look_at_work(stage: Stage) -> None:
    await stage.call(stage.world.environment())


@no_work("poller")
async def poll_for_work(stage: Stage) -> None:
    # The key of the server stands for the key of an environment: a route that is none is refused
    # to both.
    await stage.every(
        environment_id=stage.world.environment(), environment_key=API_KEY, drain=True
    )


@no_work("worker")
async def work(stage: Stage) -> None:
    worker = await stage.call(environment_id=stage.world.environment(), environment_key=API_KEY)
    with stage.watching():
        await worker.run()


# --- sessions


@works("beta.sessions.create")
async def create_session(stage: Stage) -> None:
    agent, environment = stage.world.agent(), stage.world.environment()
    made = await stage.call(agent=agent, environment_id=environment, title="a day out")
    assert (made.agent.id, made.title, made.status) == (agent, "a day out", "idle")


@works("beta.sessions.retrieve")
async def retrieve_session(stage: Stage) -> None:
    session = stage.world.session()
    assert (await stage.call(session)).id == session


@works("beta.sessions.update")
async def update_session(stage: Stage) -> None:
    changed = await stage.call(stage.world.session(), title="renamed", metadata={"a": "b"})
    assert (changed.title, changed.metadata) == ("renamed", {"a": "b"})


@works("beta.sessions.list")
async def list_sessions(stage: Stage) -> None:
    agent = stage.world.agent()
    made = [stage.world.session(agent) for _ in range(3)]
    assert [one.id for one in await stage.every(agent_id=agent, limit=2)] == made[::-1]


@works("beta.sessions.delete")
async def delete_session(stage: Stage) -> None:
    session = stage.world.session()
    gone = await stage.call(session)
    assert (gone.id, gone.type) == (session, "session_deleted")


@works("beta.sessions.archive")
async def archive_session(stage: Stage) -> None:
    assert (await stage.call(stage.world.session())).archived_at is not None


def talk(stage: Stage) -> str:
    """A session in which something was said."""
    stage.world.model.script(text("hello"))
    session = stage.world.session()
    turn(stage.world.client(), session, "hi")
    return session


@works("beta.sessions.events.send")
async def send_event(stage: Stage) -> None:
    stage.world.model.script(text("hello"))
    taken = await stage.call(stage.world.session(), events=[message("hi")])
    assert [one.type for one in taken.data] == ["user.message"]


@works("beta.sessions.events.list")
async def list_events(stage: Stage) -> None:
    session = talk(stage)
    kinds = [one.type for one in await stage.every(session, limit=3)]
    assert kinds[0] == "session.status_running" and kinds[-1] == "session.status_idle"
    assert "agent.message" in kinds


def say(stage: Stage, session: str) -> Callable[[], None]:
    """Something to do while a stream is open: to say something."""
    stage.world.model.script(text("hello"))
    events = stage.world.client().beta.sessions.events
    return lambda: events.send(session, events=[message("hi")]) and None


@works("beta.sessions.events.stream")
async def stream_events(stage: Stage) -> None:
    session = stage.world.session()
    heard = await stage.heard(is_idle, say(stage, session), session)
    assert [one.type for one in heard if one.type.startswith("agent.")] == ["agent.message"]


@beta_async_tool
async def weather(city: str) -> str:
    """Says how the weather is.

    Args:
        city: Where.
    """
    return f"sunny in {city}"


@works("beta.sessions.events.tool_runner", note="a helper over these routes")
async def run_tools(stage: Stage) -> None:
    stage.world.model.script(calls(("weather", {"city": "Rome"})), text("done"))
    session = stage.world.session(tools=[WEATHER])
    await stage.other("beta.sessions.events.send", session, events=[message("hi")])
    wait_until(lambda: stage.world.status(session) == "idle", "the session asks for the weather")
    done = await stage.every(session, tools=[weather], max_idle=0.1)
    assert [(one.name, one.is_error, one.posted) for one in done] == [("weather", False, True)]


# --- resources of sessions


async def mounted(stage: Stage) -> tuple[str, Any]:
    """A session with a resource."""
    session = stage.world.session()
    file = await stage.other("beta.files.upload", file=("a.csv", b"a,b\n", "text/csv"))
    add = "beta.sessions.resources.add"
    return session, await stage.other(add, session, type="file", file_id=file.id)


@works("beta.sessions.resources.add")
async def add_resource(stage: Stage) -> None:
    file = await stage.other("beta.files.upload", file=("a.csv", b"a,b\n", "text/csv"))
    made = await stage.call(
        stage.world.session(), type="file", file_id=file.id, mount_path="/data/a.csv"
    )
    assert (made.type, made.mount_path) == ("file", "/mnt/session/uploads/data/a.csv")


@works("beta.sessions.resources.retrieve")
async def retrieve_resource(stage: Stage) -> None:
    session, resource = await mounted(stage)
    assert (await stage.call(resource.id, session_id=session)).id == resource.id


@works("beta.sessions.resources.list")
async def list_resources(stage: Stage) -> None:
    session, resource = await mounted(stage)
    assert [one.id for one in await stage.every(session)] == [resource.id]


@works("beta.sessions.resources.delete")
async def delete_resource(stage: Stage) -> None:
    session, resource = await mounted(stage)
    assert (await stage.call(resource.id, session_id=session)).id == resource.id


@refused(
    "beta.sessions.resources.update",
    anthropic.BadRequestError,
    "not yet",
    "changes the token of a repository; only files can be mounted",
    "authorization_token: only a github_repository has one",
)
async def update_resource(stage: Stage) -> None:
    session, resource = await mounted(stage)
    await stage.call(resource.id, session_id=session, authorization_token="secret")


# --- threads of sessions


def with_thread(stage: Stage) -> tuple[str, str]:
    """A session in which something was said, and its thread."""
    session = talk(stage)
    (thread,) = stage.world.client().beta.sessions.threads.list(session)
    return session, thread.id


@works("beta.sessions.threads.list")
async def list_threads(stage: Stage) -> None:
    session, thread = with_thread(stage)
    assert [one.id for one in await stage.every(session)] == [thread]


@works("beta.sessions.threads.retrieve")
async def retrieve_thread(stage: Stage) -> None:
    session, thread = with_thread(stage)
    assert (await stage.call(thread, session_id=session)).id == thread


@refused(
    "beta.sessions.threads.archive",
    anthropic.BadRequestError,
    "refused",
    "a session has its primary thread only, which is archived with it",
    "The primary thread can't be archived",
)
async def archive_thread(stage: Stage) -> None:
    session, thread = with_thread(stage)
    await stage.call(thread, session_id=session)


@works("beta.sessions.threads.events.list")
async def list_thread_events(stage: Stage) -> None:
    session, thread = with_thread(stage)
    heard = await stage.every(thread, session_id=session, limit=3)
    assert "agent.message" in [one.type for one in heard]


@works("beta.sessions.threads.events.stream")
async def stream_thread_events(stage: Stage) -> None:
    session, thread = with_thread(stage)
    heard = await stage.heard(
        lambda event: event.type == "session.thread_status_idle",
        say(stage, session),
        thread,
        session_id=session,
    )
    assert "agent.message" in [one.type for one in heard]


# --- vaults

# Out of every server's reach: a probe of it dials nothing.
MCP_SERVER = "https://127.0.0.1:1/mcp"


async def new_vault(stage: Stage) -> str:
    """The id of a vault."""
    return (await stage.other("beta.vaults.create", display_name="Ada")).id


@works("beta.vaults.create")
async def create_vault(stage: Stage) -> None:
    made = await stage.call(display_name="Ada", metadata={"a": "b"})
    assert (made.type, made.display_name, made.metadata) == ("vault", "Ada", {"a": "b"})


@works("beta.vaults.retrieve")
async def retrieve_vault(stage: Stage) -> None:
    vault = await new_vault(stage)
    assert (await stage.call(vault)).id == vault


@works("beta.vaults.update")
async def update_vault(stage: Stage) -> None:
    changed = await stage.call(await new_vault(stage), display_name="Bob", metadata={"a": "b"})
    assert (changed.display_name, changed.metadata) == ("Bob", {"a": "b"})


@works("beta.vaults.list")
async def list_vaults(stage: Stage) -> None:
    made = [await new_vault(stage) for _ in range(3)]
    assert [one.id for one in await stage.every(limit=2)][:3] == made[::-1]


@works("beta.vaults.archive")
async def archive_vault(stage: Stage) -> None:
    assert (await stage.call(await new_vault(stage))).archived_at is not None


@works("beta.vaults.delete")
async def delete_vault(stage: Stage) -> None:
    vault = await new_vault(stage)
    gone = await stage.call(vault)
    assert (gone.id, gone.type) == (vault, "vault_deleted")


async def held(stage: Stage, name: str = "TOKEN") -> tuple[str, str]:
    """A vault with a credential."""
    vault = await new_vault(stage)
    return vault, await keep(stage, vault, name)


async def keep(stage: Stage, vault: str, name: str) -> str:
    """A credential of a vault, for a variable of that name."""
    auth = {
        "type": "environment_variable",
        "secret_name": name,
        "secret_value": "s",
        "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
    }
    return (await stage.other("beta.vaults.credentials.create", vault, auth=auth)).id


@works("beta.vaults.credentials.create")
async def create_credential(stage: Stage) -> None:
    vault = await new_vault(stage)
    auth = {"type": "static_bearer", "mcp_server_url": MCP_SERVER, "token": "t"}
    made = await stage.call(vault, auth=auth, display_name="n")
    assert (made.vault_id, made.display_name, made.auth.type) == (vault, "n", "static_bearer")


@works("beta.vaults.credentials.retrieve")
async def retrieve_credential(stage: Stage) -> None:
    vault, credential = await held(stage)
    assert (await stage.call(credential, vault_id=vault)).id == credential


@works("beta.vaults.credentials.update")
async def update_credential(stage: Stage) -> None:
    vault, credential = await held(stage)
    auth = {"type": "environment_variable", "injection_location": {"body": False}}
    changed = await stage.call(credential, vault_id=vault, auth=auth)
    location = changed.auth.injection_location
    assert (changed.id, location.header, location.body) == (credential, True, False)


@works("beta.vaults.credentials.list")
async def list_credentials(stage: Stage) -> None:
    vault, first = await held(stage)
    made = [first, await keep(stage, vault, "TWO"), await keep(stage, vault, "THREE")]
    assert [one.id for one in await stage.every(vault, limit=2)] == made[::-1]


@works("beta.vaults.credentials.archive")
async def archive_credential(stage: Stage) -> None:
    vault, credential = await held(stage)
    assert (await stage.call(credential, vault_id=vault)).archived_at is not None


@works("beta.vaults.credentials.delete")
async def delete_credential(stage: Stage) -> None:
    vault, credential = await held(stage)
    gone = await stage.call(credential, vault_id=vault)
    assert (gone.id, gone.type) == (credential, "vault_credential_deleted")


@works("beta.vaults.credentials.mcp_oauth_validate")
async def validate_credential(stage: Stage) -> None:
    vault = await new_vault(stage)
    auth = {"type": "mcp_oauth", "mcp_server_url": MCP_SERVER, "access_token": "t"}
    made = await stage.other("beta.vaults.credentials.create", vault, auth=auth)
    found = await stage.call(made.id, vault_id=vault)
    assert (found.credential_id, found.vault_id) == (made.id, vault)
    assert (found.status, found.has_refresh_token, found.refresh) == ("unknown", False, None)


# --- files, by both of the SDK's namespaces


async def uploaded(stage: Stage) -> str:
    """The id of a file."""
    return (await stage.other("files.upload", file=("a.csv", b"a,b\n", "text/csv"))).id


@works("files.upload", "beta.files.upload")
async def upload_file(stage: Stage) -> None:
    made = await stage.call(file=("a.csv", b"a,b\n", "text/csv"))
    assert (made.filename, made.mime_type, made.size_bytes) == ("a.csv", "text/csv", 4)


@works("files.list", "beta.files.list")
async def list_files(stage: Stage) -> None:
    made = [await uploaded(stage) for _ in range(3)]
    assert [one.id for one in await stage.every(limit=2)][:3] == made[::-1]


@works("files.retrieve_metadata", "beta.files.retrieve_metadata")
async def retrieve_metadata(stage: Stage) -> None:
    file = await uploaded(stage)
    assert (await stage.call(file)).id == file


@works("files.delete", "beta.files.delete")
async def delete_file(stage: Stage) -> None:
    file = await uploaded(stage)
    assert (await stage.call(file)).id == file


@works("files.download", "beta.files.download", note="what an agent has put out")
async def download_file(stage: Stage) -> None:
    said = REPORT.decode().strip()
    stage.world.model.script(bash(f"echo {said} > /mnt/session/outputs/report.txt"), text("done"))
    session = stage.world.session(tools=[TOOLSET])
    client = stage.world.client()
    turn(client, session, "go")
    (report,) = client.beta.files.list(scope_id=session)
    content = await stage.call(report.id)
    assert await given(content.read()) == REPORT


# --- models


@works("models.list", "beta.models.list")
async def list_models(stage: Stage) -> None:
    listed = await stage.every(limit=1)
    assert len(listed) > 1 and {one.type for one in listed} == {"model"}
    assert len({one.id for one in listed}) == len(listed)


@works("models.retrieve", "beta.models.retrieve")
async def retrieve_model(stage: Stage) -> None:
    shown = await stage.call(MODEL)
    assert (shown.id, shown.type) == (MODEL, "model")
