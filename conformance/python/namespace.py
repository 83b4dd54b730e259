"""A network of the tests' own, in which public addresses, private ones, cloud metadata and a
resolver are played by programs of the test.

A test that is marked with `in_a_namespace` runs once more as a process of its own in fresh network
and mount namespaces, with the server that it starts. Nothing there has a way to the world. It needs
no root.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_MARK = "POSTHOUSE_TEST_IN_NAMESPACE"
# Of <linux/sockios.h>.
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP_AND_RUNNING = 0x41
_MS_BIND = 4096  # of <sys/mount.h>
# The longest that one test may take in there, in seconds.
_BOUND = 55


def in_a_namespace(test: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a test that takes only fixtures made inside of it: it has to be without arguments."""

    @functools.wraps(test)
    def moved() -> None:
        if os.environ.get(_MARK) == test.__name__:
            test()
            return
        place = Path(test.__code__.co_filename)
        enter = ["unshare", "--net", "--mount", "--propagation", "private"]
        if os.getuid() != 0:
            enter += ["--user", "--map-current-user", "--keep-caps"]
        command = [
            *enter,
            *(sys.executable, "-m", "pytest", "-q", "-x", "--capture=no"),
            f"{place}::{test.__name__}",
        ]
        ran = subprocess.run(
            command,
            env={**os.environ, _MARK: test.__name__},
            cwd=place.parent,
            capture_output=True,
            text=True,
            timeout=_BOUND,
            check=False,
        )
        if ran.returncode != 0 or "1 passed" not in ran.stdout:
            pytest.fail(f"{ran.stdout[-12000:]}\n{ran.stderr[-4000:]}", pytrace=False)

    return moved


def _interface(name: str, address: str) -> None:
    """Gives loopback one more address, by a name of its own; up with the first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        padded = name.encode().ljust(16, b"\0")

        def set_address(call: int, value: str) -> None:
            place = struct.pack("<2H4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, call, padded + place)

        if ":" in name:
            set_address(_SIOCSIFADDR, address)
            set_address(_SIOCSIFNETMASK, "255.255.255.255")
        fcntl.ioctl(control, _SIOCSIFFLAGS, padded + struct.pack("<H22x", _UP_AND_RUNNING))


class Resolver:
    """The one resolver of the namespace: answers what it is told, and keeps who was asked for."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        # A name with several addresses gets the next one with each question, and the last for
        # good.
        self.names = {name: list(addresses) for name, addresses in names.items()}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.53", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            asked, peer = self._socket.recvfrom(4096)
            labels, at = [], 12
            while asked[at]:
                labels.append(asked[at + 1 : at + 1 + asked[at]].decode("latin-1"))
                at += asked[at] + 1
            (kind,) = struct.unpack(">H", asked[at + 1 : at + 3])
            name = ".".join(labels).lower()
            self.asked.append(name)
            addresses = self.names.get(name)
            answer = b""
            if addresses and kind == 1:
                address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
                # A time to live of nothing: nobody may keep it.
                answer = struct.pack(">3HIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
            code = 0x8180 if addresses else 0x8183
            head = asked[:2] + struct.pack(">5H", code, 1, len(answer) // 16, 0, 0)
            self._socket.sendto(head + asked[12 : at + 5] + answer, peer)


@contextlib.contextmanager
def network(names: dict[str, list[str]], *addresses: str) -> Iterator[Resolver]:
    """Sets up the namespace: these addresses are on loopback, and these names in the resolver."""
    assert _MARK in os.environ, "outside of a namespace this would change the host"
    _interface("lo", "127.0.0.1")
    for number, address in enumerate(addresses):
        _interface(f"lo:{number}", address)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")
        settings.flush()
        os.chmod(settings.name, 0o644)
        target = os.path.realpath("/etc/resolv.conf")
        # mount(8) does it for root alone.
        done = ctypes.CDLL(None, use_errno=True).mount(
            settings.name.encode(), target.encode(), None, _MS_BIND, None
        )
        assert done == 0, os.strerror(ctypes.get_errno())
        yield Resolver(names)
