"""Watches every response on its way from the wire to the SDK, and keeps a record of it.

The checks of `strict.py` sit in the transport below the SDK's HTTP client, so nothing that a test
receives can pass around them. Problems are collected, and a test that has any fails.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from described import DESCRIPTION
from endpoints import Content, Events, response_kind
from strict import StreamChecker, check_error, check_headers, check_success


@dataclass
class Exchange:
    """One attempt at one request, as it went over the wire."""

    method: str
    path: str
    headers: httpx2.Headers
    status: int
    response_headers: httpx2.Headers
    body: bytes = b""

    @property
    def retry_count(self) -> int:
        """The SDK's own count of retries."""
        return int(self.headers.get("x-stainless-retry-count", "0"))


@dataclass
class Recorder:
    """What all clients of a server have received, and what was wrong with it."""

    exchanges: list[Exchange] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self.exchanges.clear()
            self.problems.clear()
            self.sessions.clear()

    def begin(self, request: httpx2.Request, response: httpx2.Response) -> Watch:
        """A response has come; its body is to be shown to the watch."""
        exchange = Exchange(
            request.method,
            request.url.path,
            request.headers,
            response.status_code,
            response.headers,
        )
        with self._lock:
            self.exchanges.append(exchange)
        return Watch(self, exchange, "posthouse_events=true" in str(request.url))

    def blame(self, exchange: Exchange, problems: list[str]) -> None:
        """Keeps what is wrong with a response."""
        with self._lock:
            self.problems += [f"{exchange.method} {exchange.path}: {one}" for one in problems]

    def opened(self, session_id: str) -> None:
        """Remembers a session that a test has made."""
        with self._lock:
            if session_id not in self.sessions:
                self.sessions.append(session_id)


class Watch:
    """Looks at one response's body as it comes in."""

    def __init__(self, recorder: Recorder, exchange: Exchange, own_events: bool) -> None:
        self._recorder = recorder
        self._exchange = exchange
        self._own_events = own_events
        self._kind = response_kind(exchange.method, exchange.path)
        self._body = bytearray()
        self._stream: StreamChecker | None = None
        streamed = exchange.status == 200 and isinstance(self._kind, Events)
        if streamed:
            self._stream = StreamChecker(self._kind, own_events)
        content = exchange.status == 200 and isinstance(self._kind, Content)
        recorder.blame(exchange, check_headers(exchange.response_headers, streamed, content))

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        if self._stream is not None:
            self._recorder.blame(self._exchange, self._stream.feed(data))
        else:
            self._body += data

    def finish(self) -> None:
        """The body has ended in order."""
        if self._stream is not None:
            return
        exchange = self._exchange
        exchange.body = bytes(self._body)
        if exchange.status == 200:
            problems = check_success(exchange.body, self._kind, self._own_events)
            if not problems and (exchange.method, exchange.path) == ("POST", "/v1/sessions"):
                self._recorder.opened(json.loads(exchange.body)["id"])
        elif exchange.status >= 400:
            problems = check_error(exchange.status, exchange.body, exchange.response_headers)
        else:
            problems = [f"status {exchange.status}; every success is 200"]
        name = DESCRIPTION.name_of(exchange.method, exchange.path)
        if name is not None and not problems:
            problems = DESCRIPTION.check_answer(name, exchange.status, exchange.body)
        self._recorder.blame(exchange, problems)


class _Watched(httpx2.SyncByteStream):
    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._watch.feed(chunk)
            yield chunk
        self._watch.finish()

    def close(self) -> None:
        self._inner.close()


class _AsyncWatched(httpx2.AsyncByteStream):
    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._watch.feed(chunk)
            yield chunk
        self._watch.finish()

    async def aclose(self) -> None:
        await self._inner.aclose()


def _with_stream(response: httpx2.Response, stream: Any) -> httpx2.Response:
    return httpx2.Response(
        status_code=response.status_code,
        headers=response.headers,
        stream=stream,
        extensions=response.extensions,
    )


Meddle = Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]


class StrictTransport(httpx2.BaseTransport):
    """The real transport, with every response checked on its way up.

    `meddle` stands between the SDK and the wire: it gets each request and the way to send it, and
    may send it, lose the answer, or fail as a network does.
    """

    def __init__(self, recorder: Recorder, meddle: Meddle | None = None) -> None:
        self._recorder = recorder
        self._inner = httpx2.HTTPTransport()
        self._meddle = meddle

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        def send() -> httpx2.Response:
            response = self._inner.handle_request(request)
            watch = self._recorder.begin(request, response)
            return _with_stream(response, _Watched(response.stream, watch))

        return self._meddle(request, send) if self._meddle else send()

    def close(self) -> None:
        self._inner.close()


class AsyncStrictTransport(httpx2.AsyncBaseTransport):
    """The same for the asynchronous client."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        watch = self._recorder.begin(request, response)
        return _with_stream(response, _AsyncWatched(response.stream, watch))

    async def aclose(self) -> None:
        await self._inner.aclose()
