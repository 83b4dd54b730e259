"""What git, pip and npm ask for: repositories over smart HTTP, a simple index, a registry.

Each holds one tiny thing that is made here. Nothing is taken from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

from origin import Handler, Request, Response

# What the one file in the repositories and packages says.
WORDS = "tiny and honest"


def _git(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.test",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.test",
    }
    made = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )
    return made.stdout.decode().strip()


def git(folder: Path, user: str, token: str) -> Handler:
    """Two repositories, `open.git` and `closed.git`; the second asks for a name and a token. Both
    take pushes."""
    folder.mkdir(parents=True)
    work = folder / "work"
    work.mkdir()
    _git(work, "init", "--quiet", "--initial-branch=main")
    (work / "README").write_text(WORDS + "\n")
    _git(work, "add", "README")
    _git(work, "commit", "--quiet", "--message=first")
    for name in ("open.git", "closed.git"):
        _git(folder, "clone", "--quiet", "--bare", str(work), name)
        _git(folder / name, "config", "http.receivepack", "true")
    backend = _git(work, "--exec-path") + "/git-http-backend"
    wanted = base64.b64encode(f"{user}:{token}".encode()).decode()

    def handle(request: Request) -> Response:
        allowed = request.header("authorization") == f"Basic {wanted}"
        if request.path.startswith("/closed.git") and not allowed:
            return Response(b"who?", 401, [("www-authenticate", 'Basic realm="closed"')])
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            # The tester's own id need not be the owner's.
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REMOTE_USER": user if allowed else "",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.target.partition("?")[2],
            "CONTENT_TYPE": request.header("content-type") or "",
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": request.header("content-encoding") or "",
            "GIT_PROTOCOL": request.header("git-protocol") or "",
        }
        ran = subprocess.run(
            [backend], input=request.body, env=environment, capture_output=True, check=False
        )
        head, _, body = ran.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split(" ")[0])
            elif name:
                headers.append((name.lower(), value))
        return Response(body, status, headers)

    return handle


def _wheel() -> bytes:
    packed = io.BytesIO()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("tiny.py", f"WORDS = {WORDS!r}\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


def pypi() -> Handler:
    """A simple index (PEP 503) with one wheel, `tiny`."""
    wheel = _wheel()
    digest = hashlib.sha256(wheel).hexdigest()
    name = "tiny-1.0-py3-none-any.whl"
    page = f'<!DOCTYPE html><a href="/packages/{name}#sha256={digest}">{name}</a>'.encode()

    def handle(request: Request) -> Response:
        if request.path == "/simple/tiny/":
            return Response(page, headers=[("content-type", "text/html")])
        if request.path == f"/packages/{name}":
            return Response(wheel, headers=[("content-type", "application/octet-stream")])
        return Response(b"no such thing", 404)

    return handle


def npm(address: str) -> Handler:
    """A registry with one package, `tiny`. `address` is where clients find it."""
    packed = io.BytesIO()
    manifest = {"name": "tiny", "version": "1.0.0", "main": "index.js"}
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in [
            ("package/package.json", json.dumps(manifest)),
            ("package/index.js", f"module.exports = {json.dumps(WORDS)};\n"),
        ]:
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = packed.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    described = {
        **manifest,
        "dist": {"tarball": f"{address}/tiny/-/tiny-1.0.0.tgz", "integrity": integrity},
    }
    document = {
        "name": "tiny",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": described},
    }

    def handle(request: Request) -> Response:
        if request.path == "/tiny":
            body = json.dumps(document).encode()
            return Response(body, headers=[("content-type", "application/json")])
        if request.path == "/tiny/-/tiny-1.0.0.tgz":
            return Response(data, headers=[("content-type", "application/octet-stream")])
        return Response(b"{}", 404)

    return handle
