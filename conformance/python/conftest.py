"""Fixtures: a server for each test module, clients for each test, and checks after each of them."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from types import FrameType

import anthropic
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from world import World

# No test takes longer than this, in seconds; one that hangs says where.
TEST_BOUND = 60

_worlds: list[World] = []


@pytest.fixture(scope="module")
def new_world() -> Callable[..., World]:
    """Makes a server; modules that need another kind of server have their own."""
    return World


@pytest.fixture(scope="module")
def shared_world(new_world: Callable[..., World]) -> Iterator[World]:
    """One server for all tests of a module."""
    world = new_world()
    _worlds.append(world)
    yield world
    _worlds.remove(world)
    world.close()


@pytest.fixture
def world(shared_world: World) -> World:
    """The module's server, with an empty script."""
    shared_world.begin()
    return shared_world


@pytest.fixture
def mortal(new_world: Callable[..., World]) -> Iterator[World]:
    """A server of the test's own, to be killed."""
    world = new_world()
    world.begin()
    _worlds.append(world)
    yield world
    _worlds.remove(world)
    world.close()


@pytest.fixture
def make_world(new_world: Callable[..., World]) -> Iterator[Callable[[str], World]]:
    """Makes servers of the test's own, each with a configuration file of its own."""
    made: list[World] = []

    def make(config: str) -> World:
        world = new_world(config)
        world.begin()
        made.append(world)
        _worlds.append(world)
        return world

    yield make
    for world in made:
        _worlds.remove(world)
        world.close()


@pytest.fixture
def client(world: World) -> anthropic.Anthropic:
    """An SDK client that does not retry."""
    return world.client()


@pytest.fixture
async def async_client(world: World) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """An asynchronous SDK client that does not retry."""
    async with world.async_client() as client:
        yield client


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


def _expired(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the test takes longer than {TEST_BOUND} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Bounds a test, and fails it when a response, a log or a model request was not right."""
    signal.signal(signal.SIGALRM, _expired)
    signal.alarm(TEST_BOUND)
    try:
        result = yield
        problems = [problem for world in _worlds for problem in world.settle()]
    finally:
        signal.alarm(0)
    if problems:
        # The same problem with each entry of a list is one line.
        shown = "\n".join(dict.fromkeys(re.sub(r"\[\d+\]", "[…]", one) for one in problems))
        pytest.fail(f"{len(problems)} things are not as they have to be:\n{shown}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the server has written when a test fails."""
    report = yield
    if report.when == "call" and report.failed:
        for world in _worlds:
            errors = world.server_errors()
            if errors:
                report.sections.append(("server's standard error", errors))
            # A failed test leaves nothing behind for the next one.
            try:
                world.settle()
            except Exception as error:
                report.sections.append(("settling", repr(error)))
    return report
