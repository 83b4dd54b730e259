"""One web server on loopback, as an origin that sandboxes connect to: plain or TLS on the same
port, HTTP/1.1, HTTP/2 and WebSocket. It keeps every byte that it has been sent.

It knows nothing of what it serves: that is its handler's. Nothing in it is polite to clients that
do something odd: what comes is kept, so that tests can see what a door lets through.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

# How long an origin waits for the other side, in seconds.
PATIENCE = 60.0
# What is kept of one connection, in bytes of each direction.
KEPT = 8 << 20
# The longest head of a request.
LONGEST_HEAD = 256 << 10
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Headers = list[tuple[str, str]]


@dataclass
class Connection:
    """A connection that has come, and what it brought."""

    tls: bool = False
    # The name that the client has asked for, and the protocol that was agreed on.
    sni: str | None = None
    alpn: str | None = None
    # Whether the handshake has come to an end.
    shaken: bool = False
    # What was sent, after decryption.
    received: bytearray = field(default_factory=bytearray)


@dataclass
class Request:
    """A request, as it came."""

    connection: Connection
    protocol: str
    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path alone."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """What stands behind the question mark."""
        return {
            name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()
        }

    def header(self, name: str) -> str | None:
        """The first header of a name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class Response:
    """An answer. A body that is no bytes is sent piece by piece."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: Headers = field(default_factory=list)


Handler = Callable[[Request], Response]
# Takes a whole connection instead of HTTP.
Raw = Callable[["Wire"], None]


class Wire:
    """A connection's bytes, which are kept on their way."""

    def __init__(self, stream: Any, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection
        self._ahead = b""

    def read(self, most: int = 65536) -> bytes:
        """What comes next; nothing at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead[:most], self._ahead[most:]
            return taken
        try:
            data: bytes = self.stream.recv(most)
        except (OSError, ValueError):
            return b""
        if len(self.connection.received) < KEPT:
            self.connection.received += data
        return data

    def exactly(self, length: int) -> bytes:
        """So many bytes; `EOFError` when there are fewer."""
        parts = []
        while length > 0:
            part = self.read(min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def until(self, mark: bytes, longest: int = LONGEST_HEAD) -> bytes:
        """All up to and with a mark."""
        seen = b""
        while mark not in seen:
            part = self.read()
            if not part or len(seen) > longest:
                raise EOFError
            seen += part
        end = seen.index(mark) + len(mark)
        self._ahead = seen[end:] + self._ahead
        return seen[:end]

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self.stream.sendall(data)


class Origin:
    """A web server on loopback.

    `certificate` puts what TLS needs into a context; without one there is no TLS. `raw` takes
    connections as they are, after TLS.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        certificate: Callable[[ssl.SSLContext], None] | None = None,
        alpn: tuple[str, ...] = ("h2", "http/1.1"),
        raw: Raw | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self._handler = handler or (lambda _request: Response())
        self._certificate, self._alpn, self._raw = certificate, alpn, raw
        self._open: set[Any] = set()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(address)
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Forgets who has come."""
        self.connections.clear()
        self.requests.clear()

    def asked(self) -> list[str]:
        """The targets of all requests."""
        return [one.target for one in self.requests]

    def received(self) -> bytes:
        """Everything that was sent here, of all connections."""
        return b"\n".join(bytes(one.received) for one in list(self.connections))

    def close(self) -> None:
        """Ends it, and all connections."""
        # A thread that waits in `accept` is woken by this, and not by `close`.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in list(self._open):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)

    # --- connections

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        connection = Connection()
        self.connections.append(connection)
        self._open.add(stream)
        ends: list[Any] = [stream]
        try:
            stream.settimeout(PATIENCE)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure: Any = stream
            if self._certificate and stream.recv(1, socket.MSG_PEEK) == b"\x16":
                secure = self._shake(stream, connection)
                ends.append(secure)
            wire = Wire(secure, connection)
            if self._raw is not None:
                self._raw(wire)
            elif connection.alpn == "h2" or _knows_http2(stream, connection):
                _Http2(self, wire).run()
            else:
                while self._http1(wire):
                    pass
        except (OSError, EOFError, ValueError, h2.exceptions.ProtocolError):
            # Whoever is cut off or talks nonsense has been recorded; that is all.
            pass
        finally:
            self._open.discard(stream)
            for end in reversed(ends):
                with contextlib.suppress(OSError, ValueError):
                    end.close()

    def _shake(self, stream: socket.socket, connection: Connection) -> ssl.SSLSocket:
        assert self._certificate is not None
        connection.tls = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate(context)
        if self._alpn:
            context.set_alpn_protocols(list(self._alpn))

        def named(_socket: Any, name: str | None, _context: Any) -> None:
            connection.sni = name

        context.sni_callback = named
        secure = context.wrap_socket(stream, server_side=True)
        connection.alpn = secure.selected_alpn_protocol()
        connection.shaken = True
        return secure

    def answer(self, request: Request) -> Response:
        """Keeps a request and answers it."""
        self.requests.append(request)
        return self._handler(request)

    # --- HTTP/1.1

    def _http1(self, wire: Wire) -> bool:
        """Serves one request; whether another may come."""
        head = wire.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, version = first.split(" ", 2)
        headers = [
            (name, value.strip()) for name, _, value in (one.partition(":") for one in lines)
        ]
        request = Request(wire.connection, version, method, target, headers)
        if (request.header("upgrade") or "").lower() == "websocket":
            self.answer(request)
            _websocket(wire, request)
            return False
        if (request.header("expect") or "").lower() == "100-continue":
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = _read_body(wire, request)
        response = self.answer(request)
        _send_http1(wire, request, response)
        return (request.header("connection") or "").lower() != "close"


def _read_body(wire: Wire, request: Request) -> bytes:
    if (request.header("transfer-encoding") or "").lower() == "chunked":
        parts = []
        while True:
            length = int(wire.until(b"\r\n").split(b";")[0], 16)
            if length == 0:
                while wire.until(b"\r\n") != b"\r\n":
                    pass
                return b"".join(parts)
            parts.append(wire.exactly(length))
            wire.exactly(2)
    return wire.exactly(int(request.header("content-length") or 0))


def _send_http1(wire: Wire, request: Request, response: Response) -> None:
    head = f"HTTP/1.1 {response.status} Whatever\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    body = response.body
    if isinstance(body, bytes):
        head += f"content-length: {len(body)}\r\n\r\n"
        wire.send(head.encode("latin-1") + (b"" if request.method == "HEAD" else body))
        return
    wire.send(f"{head}transfer-encoding: chunked\r\n\r\n".encode("latin-1"))
    for piece in body:
        wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    wire.send(b"0\r\n\r\n")


# --- WebSocket (RFC 6455)


def _websocket(wire: Wire, request: Request) -> None:
    """Shakes hands and says each message back until the other side closes."""
    key = (request.header("sec-websocket-key") or "").encode()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest()).decode()
    wire.send(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"sec-websocket-accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = wire.exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", wire.exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", wire.exactly(8))
        mask = wire.exactly(4) if second & 0x80 else bytes(4)
        data = bytes(one ^ mask[at % 4] for at, one in enumerate(wire.exactly(length)))
        head = bytes([first])
        if length < 126:
            head += bytes([length])
        elif length < 65536:
            head += bytes([126]) + struct.pack(">H", length)
        else:
            head += bytes([127]) + struct.pack(">Q", length)
        wire.send(head + data)
        if first & 0x0F == 8:
            return


# --- HTTP/2 (RFC 9113)


def _knows_http2(stream: socket.socket, connection: Connection) -> bool:
    """Whether the other side begins with HTTP/2 without having asked, as it may without TLS."""
    return not connection.tls and stream.recv(4, socket.MSG_PEEK) == b"PRI "


class _Http2:
    """One connection that speaks HTTP/2. Answers are sent one after the other."""

    def __init__(self, origin: Origin, wire: Wire) -> None:
        self._origin, self._wire = origin, wire
        # What a door lets through is looked at by the tests, not by this library.
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self._state = h2.connection.H2Connection(config)
        self._heads: dict[int, Headers] = {}
        self._bodies: dict[int, bytearray] = {}
        self._whole: list[int] = []
        self._reset: set[int] = set()

    def run(self) -> None:
        """Serves it to its end."""
        self._state.initiate_connection()
        self._flush()
        while True:
            while self._whole:
                self._respond(self._whole.pop(0))
            if not self._turn():
                return

    def _flush(self) -> None:
        data = self._state.data_to_send()
        if data:
            self._wire.send(data)

    def _turn(self) -> bool:
        """Takes in what has come; whether more may."""
        data = self._wire.read()
        if not data:
            return False
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                # What has a head is kept in the clear: the tests look for values in it.
                self._heads[event.stream_id] = list(event.headers)
                self._bodies[event.stream_id] = bytearray()
                shown = "".join(f"{name}: {value}\n" for name, value in event.headers)
                self._wire.connection.received += shown.encode("latin-1")
            elif isinstance(event, h2.events.DataReceived):
                self._bodies[event.stream_id] += event.data
                self._state.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            elif isinstance(event, h2.events.StreamEnded):
                self._whole.append(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self._reset.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                return False
        self._flush()
        return True

    def _respond(self, stream: int) -> None:
        fields = self._heads.pop(stream)
        pseudo = {name: value for name, value in fields if name.startswith(":")}
        headers = [one for one in fields if not one[0].startswith(":")]
        headers.append((":authority", pseudo.get(":authority", "")))
        request = Request(
            self._wire.connection,
            "HTTP/2",
            pseudo.get(":method", ""),
            pseudo.get(":path", ""),
            headers,
            bytes(self._bodies.pop(stream)),
        )
        response = self._origin.answer(request)
        if stream in self._reset:
            return
        head = [(":status", str(response.status)), *response.headers]
        body = response.body
        if isinstance(body, bytes):
            head.append(("content-length", str(len(body))))
            body = [body]
        self._state.send_headers(stream, head)
        self._flush()
        for piece in () if request.method == "HEAD" else body:
            if not self._send(stream, piece):
                return
        self._state.end_stream(stream)
        self._flush()

    def _send(self, stream: int, piece: bytes) -> bool:
        for at in range(0, len(piece), 16384):
            part = piece[at : at + 16384]
            while self._state.local_flow_control_window(stream) < len(part):
                if not self._turn() or stream in self._reset:
                    return False
            if stream in self._reset:
                return False
            self._state.send_data(stream, part)
            self._flush()
        return True
