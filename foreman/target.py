"""The seam to the one Ollama server: bytes out, bytes in, errors that tell "asleep" from "no".

Statuses are never raised; only what kept an answer from arriving is, as TargetUnreachable or
TargetLost. The connections themselves are those of `foreman.upstream`.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import h11
import trio

from foreman.errors import TargetLost, TargetUnreachable
from foreman.tracing import (
    NO_SPAN,
    NO_TRACER,
    TRACEPARENT,
    Role,
    Span,
    SpanContext,
    Tracer,
    Value,
    traceparent,
)
from foreman.upstream import Address, Connection, Pool
from foreman.wire import Header, Request

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Not the target's business, or harmful to it: a foreign Origin alone earns a bare 403 from Ollama,
# the client's Authorization is for foreman, and what comes back must be readable as it passes.
_KEPT_BACK = HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",  # `_framing` says it
    b"cookie",
    b"expect",
    b"host",
    b"origin",
    b"referer",
    b"x-api-key",
}


def onward(headers: tuple[Header, ...]) -> list[Header]:
    """The client's headers that go to the target."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    return [
        (name, value)
        for name, value in headers
        if name not in _KEPT_BACK and name not in named and not name.startswith(b"sec-")
    ]


def backward(headers: Iterable[Header]) -> tuple[Header, ...]:
    """The target's headers that go to the client; CORS and Date are foreman's own."""
    return tuple(
        (name, value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if name not in HOP_BY_HOP
        and name not in (b"date", b"server")
        and not name.startswith(b"access-control-")
        and not (name == b"vary" and value.lower() == b"origin")
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose head has come; iterate `body` for its bytes as they arrive."""

    status: int
    headers: tuple[Header, ...]
    body: AsyncIterable[bytes]

    async def read(self, limit: int = 64 << 20) -> bytes:
        """The whole body. Raises TargetLost when it breaks off or exceeds `limit` bytes."""
        collected = bytearray()
        async for chunk in self.body:
            collected += chunk
            if len(collected) > limit:
                raise TargetLost(f"the body is larger than {limit} bytes")
        return bytes(collected)


class Target:
    """One connection pool to the target. Each actor that speaks to it has its own.

    `url` is the base URL (http or https), `token` an optional bearer token for it,
    `connect_timeout` in seconds. Requests that are traced are so here, too, and say so to the
    target. Use it as an async context manager.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        connect_timeout: float = 5.0,
        connections: int = 16,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        base = urlsplit(url.rstrip("/"))
        tls = ssl.create_default_context() if base.scheme == "https" else None
        host = base.hostname or ""
        self._prefix = base.path.encode()
        self._fixed: list[Header] = [
            (b"Host", base.netloc.rpartition("@")[2].encode()),
            (b"Accept-Encoding", b"identity"),
        ]
        if token:
            self._fixed.append((b"Authorization", b"Bearer " + token.encode()))
        address = Address(host, base.port or (443 if tls else 80), tls)
        self._pool = Pool(address, connect_timeout, trio.Semaphore(connections))
        self._tracer = tracer
        self._shown = f"{base.scheme}://{base.netloc}{base.path}"
        self._place: dict[str, Value] = {"server.address": host, "server.port": address.port}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.close()

    @asynccontextmanager
    async def send(
        self, request: Request, upload: AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[Answer]:
        """Send `request` (or its headers and then `upload`) and yield the answer's head.

        Leaving the block early cancels the request at the target. Raises TargetUnreachable when no
        connection could be made and TargetLost when it broke, also from iterating the body.
        """
        span = NO_SPAN
        if request.trace is not None:
            span = self._span(request, request.trace)
        try:
            connection = await self._connection()
            try:
                response = await self._ask(connection, request, upload, span.context)
                _answered(span, response.status_code)
                headers = backward(response.headers)
                yield Answer(response.status_code, headers, _Body(connection))
            finally:
                self._pool.give_back(connection)
        except BaseException as error:
            span.fail("cancelled" if isinstance(error, trio.Cancelled) else type(error).__name__)
            raise
        finally:
            span.end()

    async def fetch(self, request: Request, limit: int = 64 << 20) -> tuple[Answer, bytes]:
        """Send and read it all; for small answers. Raises as `send` does."""
        async with self.send(request) as answer:
            return answer, await answer.read(limit)

    def _span(self, request: Request, parent: SpanContext) -> Span:
        method = request.method.decode()
        path = request.path.partition(b"?")[0].decode()  # a query may hold anything
        said: dict[str, Value] = {"http.request.method": method, "url.full": self._shown + path}
        return self._tracer.begin(method, parent, Role.CLIENT, attributes=said | self._place)

    async def _connection(self) -> Connection:
        try:
            return await self._pool.take()
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            raise TargetUnreachable(_reason(error)) from error

    async def _ask(
        self,
        connection: Connection,
        request: Request,
        upload: AsyncIterable[bytes] | None,
        trace: SpanContext | None,
    ) -> h11.Response:
        headers = [*self._fixed, *onward(request.headers), *_framing(request, upload is not None)]
        if trace is not None:  # the target's spans, should it have any, are children of ours
            headers = [each for each in headers if each[0] != TRACEPARENT]
            headers.append((TRACEPARENT, traceparent(trace)))
        try:
            outgoing = h11.Request(
                method=request.method, target=self._prefix + request.path, headers=headers
            )
            return await connection.ask(outgoing, request.body, upload)
        except (trio.BrokenResourceError, h11.ProtocolError) as error:
            raise TargetLost(_reason(error)) from error


def _answered(span: Span, status: int) -> None:
    span.set({"http.response.status_code": status})
    if status >= 400:
        span.fail(str(status))


def _framing(request: Request, uploads: bool) -> list[Header]:
    """How the target can tell where the request's body ends."""
    if uploads:
        length = dict(request.headers).get(b"content-length")
        return [(b"Content-Length", length) if length else (b"Transfer-Encoding", b"chunked")]
    if request.body or request.method not in (b"GET", b"HEAD"):
        return [(b"Content-Length", b"%d" % len(request.body))]
    return []


class _Body:
    """The response's bytes, with the connection's errors turned into ours."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._connection)
        except (trio.BrokenResourceError, h11.ProtocolError) as error:
            raise TargetLost(_reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
