"""What runs inside of a sandbox: a client that does as it is told, down to single bytes.

It is given a list of tasks as JSON, as an argument or on standard input, and prints a line of JSON
for each. Of Python it needs the standard library alone; HTTP/2 comes with `h2`, from the archive
that is mounted beside this file. What it connects to is named in its tasks. It runs in sandboxes
only.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import time
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages.zip"))

# How long any step may take, in seconds, unless the task says otherwise.
PATIENCE = 15.0
# What is shown of a body, in bytes.
SHOWN = 1 << 13


def dial(task: dict[str, Any], host: str, port: int) -> socket.socket:
    """Connects, to `connect` instead when the task names it."""
    to = task.get("connect") or host
    if isinstance(to, list):
        to, port = to
    return socket.create_connection((to, port), timeout=task.get("patience", PATIENCE))


def shake(
    task: dict[str, Any], stream: socket.socket, name: str, alpn: list[str]
) -> ssl.SSLSocket:
    """TLS as usual programs do it; `sni` and `verify` of the task change that."""
    context = ssl.create_default_context(cafile=task.get("roots"))
    if task.get("verify") is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    sni = task.get("sni", name)
    if sni is None:
        context.check_hostname = False
    return context.wrap_socket(stream, server_hostname=sni)


def shown(body: bytes) -> str:
    """A body as text of its bytes."""
    return body[:SHOWN].decode("latin-1")


def target_of(url: Any) -> str:
    """What a request asks for."""
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


# --- HTTP/1.1


def read_response(stream: Any, method: str, hidden: bool = False) -> dict[str, Any]:
    """Reads one answer."""
    response = http.client.HTTPResponse(stream, method=method)
    response.begin()
    digest, kept, length = hashlib.sha256(), b"", 0
    while True:
        piece = response.read(1 << 16)
        if not piece:
            break
        digest.update(piece)
        length += len(piece)
        kept += piece[: SHOWN - len(kept)]
    return {
        "status": response.status,
        "headers": [[name.lower(), value] for name, value in response.getheaders()],
        "body": "" if hidden else shown(kept),
        "length": length,
        "sha256": digest.hexdigest(),
    }


def do_http(task: dict[str, Any]) -> dict[str, Any]:
    """One request. `target`, `headers`, `connect` and `sni` replace what the URL says; a `hidden`
    body is not told."""
    url = urlsplit(task["url"])
    secure = url.scheme == "https"
    host = url.hostname or ""
    method = task.get("method", "GET")
    stream: Any = dial(task, host, url.port or (443 if secure else 80))
    told: dict[str, Any] = {}
    if secure:
        stream = shake(task, stream, host, task.get("alpn", ["http/1.1"]))
        told["alpn"] = stream.selected_alpn_protocol()
    headers = [list(one) for one in task.get("headers", [])]
    headers += [[f"X-{at}", "b"] for at in range(task.get("more_headers", 0))]
    if "long_header" in task:
        headers.append(["X-Long", "b" * task["long_header"]])
    if not any(name.lower() == "host" for name, _ in headers):
        headers.insert(0, ["Host", url.netloc.rpartition("@")[2]])
    body = task.get("body", "").encode("latin-1") + b"x" * task.get("size", 0)
    pieces = task.get("pieces")
    if pieces is not None:
        headers.append(["Transfer-Encoding", "chunked"])
        encoded = [one.encode("latin-1") for one in pieces]
        body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in encoded) + b"0\r\n\r\n"
    elif body or method in ("POST", "PUT"):
        headers.append(["Content-Length", str(len(body))])
    head = f"{method} {task.get('target', target_of(url))} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    stream.sendall(head.encode("latin-1") + b"\r\n")
    try:
        stream.sendall(body)
    except OSError:
        # A server that refuses need not read all.
        told["cut"] = True
    return {**told, **read_response(stream, method, task.get("hidden", False))}


def do_raw(task: dict[str, Any]) -> dict[str, Any]:
    """Sends bytes, and shows what comes until the end, or until nothing comes for a while."""
    stream: Any = dial(task, task["host"], task["port"])
    told: dict[str, Any] = {"connected": True}
    if task.get("tls"):
        stream = shake(task, stream, task["host"], task.get("alpn", []))
        told["issuer"] = issuer(stream)
    stream.settimeout(task.get("quiet", 3.0))
    seen = b""
    try:
        for one in task.get("send", []):
            stream.sendall(one.encode("latin-1"))
        while len(seen) < SHOWN and task.get("until", "\0").encode() not in seen:
            part = stream.recv(1 << 16)
            if not part:
                told["ended"] = True
                break
            seen += part
    except (TimeoutError, OSError) as error:
        told["error"] = type(error).__name__
    return {**told, "received": shown(seen)}


def issuer(stream: Any) -> str:
    """Who has signed the certificate of the other side."""
    found = stream.getpeercert() or {}
    pairs = [pair for group in found.get("issuer", ()) for pair in group]
    return ", ".join(f"{name}={value}" for name, value in pairs)


def do_certificate(task: dict[str, Any]) -> dict[str, Any]:
    """Shakes hands and says who signed the certificate."""
    stream = shake(task, dial(task, task["host"], 443), task["host"], [])
    data = stream.getpeercert(binary_form=True) or b""
    return {"issuer": issuer(stream), "sha256": hashlib.sha256(data).hexdigest()}


# --- streams in both directions


def do_stream(task: dict[str, Any]) -> dict[str, Any]:
    """Reads the first piece of an answer; only then has the rest of it sent."""
    host, key = task["host"], task["key"]

    def ask(path: str) -> Any:
        stream: Any = dial(task, host, 443 if task["tls"] else 80)
        if task["tls"]:
            stream = shake(task, stream, host, ["http/1.1"])
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        response = http.client.HTTPResponse(stream)
        response.begin()
        return response

    response = ask(f"/stream/{key}")
    first = response.read1(1 << 16)
    ask(f"/go/{key}").read()
    return {"first": shown(first), "rest": shown(response.read())}


def do_upload(task: dict[str, Any]) -> dict[str, Any]:
    """Sends the first piece of a body; the rest when the origin has seen it."""
    host, needle = task["host"], task["key"]
    stream = shake(task, dial(task, host, 443), host, ["http/1.1"])
    piece = f"{needle:<64}".encode()
    head = f"POST /sink HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(piece), piece))
    end = time.monotonic() + PATIENCE
    seen = False
    while not seen and time.monotonic() < end:
        asked = do_http({"url": f"https://{host}/seen/{needle}"})
        seen = asked["body"] == "true"
    stream.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(piece), piece))
    return {"seen": seen, **read_response(stream, "POST")}


def do_websocket(task: dict[str, Any]) -> dict[str, Any]:
    """Shakes hands and has each message said back."""
    host = task["host"]
    stream: Any = dial(task, host, 443 if task["tls"] else 80)
    if task["tls"]:
        stream = shake(task, stream, host, ["http/1.1"])
    key = base64.b64encode(os.urandom(16)).decode()
    more = "".join(f"{name}: {value}\r\n" for name, value in task.get("headers", []))
    stream.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
    )
    reader = stream.makefile("rb")
    status = int(reader.readline().split()[1])
    head = []
    while (line := reader.readline().strip()) != b"":
        head.append(line.decode("latin-1").lower())
    if status != 101:
        return {"status": status, "head": head}
    told = []
    for message in task["messages"]:
        data, mask = message.encode(), os.urandom(4)
        masked = bytes(one ^ mask[at % 4] for at, one in enumerate(data))
        size = b"\xfe" + struct.pack(">H", len(data))
        if len(data) < 126:
            size = bytes([0x80 | len(data)])
        stream.sendall(b"\x81" + size + mask + masked)
        length = reader.read(2)[1] & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", reader.read(2))
        told.append(reader.read(length).decode())
    return {"status": status, "head": head, "said": told}


# --- HTTP/2


def do_http2(task: dict[str, Any]) -> dict[str, Any]:
    """Several requests over one connection: all are sent, then all answers are read."""
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions

    host = task["host"]
    stream: Any = dial(task, host, 443 if task.get("tls", True) else 80)
    if task.get("tls", True):
        stream = shake(task, stream, host, ["h2"])
        if stream.selected_alpn_protocol() != "h2":
            return {"alpn": stream.selected_alpn_protocol()}
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding="latin-1",
        # What is said here is odd on purpose.
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    state = h2.connection.H2Connection(config)
    state.initiate_connection()
    stream.sendall(state.data_to_send())
    answers: dict[int, dict[str, Any]] = {}
    bodies: dict[int, bytes] = {}
    open_streams = set()
    for one in task["requests"]:
        number = state.get_next_available_stream_id()
        head = [
            (":method", one.get("method", "GET")),
            (":scheme", one.get("scheme", "https")),
            (":authority", one.get("authority", host)),
            (":path", one.get("path", "/")),
        ]
        head = [(name, value) for name, value in head if value is not None]
        head += [(name, value) for name, value in one.get("headers", [])]
        body = b"z" * one.get("size", 0) + one.get("body", "").encode("latin-1")
        state.send_headers(number, head, end_stream=not body)
        answers[number] = {"body": "", "headers": []}
        open_streams.add(number)
        stream.sendall(state.data_to_send())
        if body:
            bodies[number] = body

    def pump() -> None:
        """Sends of the bodies what the other side takes now."""
        for number, body in list(bodies.items()):
            while body and number in open_streams:
                room = min(state.local_flow_control_window(number), 16384, len(body))
                if room == 0:
                    break
                state.send_data(number, body[:room], end_stream=room == len(body))
                body = body[room:]
            bodies[number] = body
        stream.sendall(state.data_to_send())

    pump()
    gone = None
    while open_streams and gone is None:
        data = stream.recv(1 << 16)
        if not data:
            gone = "end"
            break
        try:
            events = state.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            gone = type(error).__name__
            break
        for event in events:
            answer = answers.get(getattr(event, "stream_id", None) or 0, {})
            if isinstance(event, h2.events.ResponseReceived):
                fields = dict(event.headers)
                answer["status"] = int(fields[":status"])
                answer["headers"] = [list(one) for one in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                answer["body"] = (answer["body"] + shown(event.data))[:SHOWN]
                answer["length"] = answer.get("length", 0) + len(event.data)
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                open_streams.discard(event.stream_id)
                if isinstance(event, h2.events.StreamReset):
                    answer["reset"] = int(event.error_code)
            elif isinstance(event, h2.events.ConnectionTerminated):
                gone = "goaway"
        if gone is None:
            pump()
    return {"alpn": "h2", "answers": list(answers.values()), "gone": gone}


# --- names and datagrams


def question(name: str, kind: int) -> bytes:
    """A question of DNS, by RFC 1035."""
    head = struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".") if one)
    return head + labels + b"\0" + struct.pack(">2H", kind, 1)


def do_dns(task: dict[str, Any]) -> dict[str, Any]:
    """Asks the resolver, or another `server`, for a name; `tcp` by TCP."""
    with open("/etc/resolv.conf") as settings:
        servers = [line.split()[1] for line in settings if line.startswith("nameserver")]
    server = (task.get("server", servers[0]), 53)
    asked = question(task["name"], task.get("kind", 1))
    if task.get("tcp"):
        stream = socket.create_connection(server, timeout=PATIENCE)
        stream.sendall(struct.pack(">H", len(asked)) + asked)
        reader = stream.makefile("rb")
        (length,) = struct.unpack(">H", reader.read(2))
        answer = reader.read(length)
    else:
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.settimeout(task.get("patience", PATIENCE))
        datagram.sendto(asked, server)
        answer = datagram.recv(4096)
    _, flags, _, count, _, _ = struct.unpack(">6H", answer[:12])
    at, found = len(asked), []
    for _ in range(count):
        while answer[at] != 0 and answer[at] < 0xC0:
            at += answer[at] + 1
        at += 2 if answer[at] >= 0xC0 else 1
        kind, _, _, length = struct.unpack(">2HIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        at += 10 + length
        found.append(socket.inet_ntoa(data) if kind == 1 else f"{kind}:{data.hex()}")
    return {"code": flags & 15, "answers": found}


def do_udp(task: dict[str, Any]) -> dict[str, Any]:
    """Sends a datagram and waits a moment for one."""
    host = task["host"]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    datagram = socket.socket(family, socket.SOCK_DGRAM)
    datagram.settimeout(1.0)
    datagram.connect((host, task["port"]))
    datagram.send(task.get("send", "hello?").encode())
    return {"received": shown(datagram.recv(4096))}


def do_flood(task: dict[str, Any]) -> dict[str, Any]:
    """Asks for so many names that nobody has, with something written into them."""
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent = 0
    for number in range(task["count"]):
        label = hashlib.sha256(b"%d" % number).hexdigest()[:60]
        name = ".".join([label, label, label, task["below"]])
        try:
            datagram.sendto(question(name, 1), ("198.18.0.1", 53))
            sent += 1
        except OSError:
            pass
    return {"sent": sent}


def told(task: dict[str, Any]) -> dict[str, Any]:
    """Does one task. Placeholders stand in variables; tasks name them as `$NAME$`."""
    text = json.dumps(task)
    for name, value in os.environ.items():
        text = text.replace(f"${name}$", json.dumps(value)[1:-1])
    task = json.loads(text)
    try:
        found: dict[str, Any] = globals()[f"do_{task['do']}"](task)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    return found


def main() -> None:
    """Does all tasks: one after the other, or some at a time."""
    at_once = "--at-once" in sys.argv
    given = [one for one in sys.argv[1:] if one != "--at-once"]
    tasks = json.loads(given[0] if given else sys.stdin.read())
    with concurrent.futures.ThreadPoolExecutor(16 if at_once else 1) as pool:
        for one in pool.map(told, tasks):
            print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
