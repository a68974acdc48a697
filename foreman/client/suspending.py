"""A Transport on trio: HTTP through httpx, events through a websocket."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self, TypeVar

import httpx
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from foreman.client import asking
from foreman.client.errors import Unreachable
from foreman.client.http import options, unreachable
from foreman.client.transport import CONNECT_LIMIT, SILENCE_LIMIT, Reply, Request

T = TypeVar("T")

PONG_LIMIT = 20.0  # seconds
CLOSE_LIMIT = 2.0  # seconds to take leave
CLOSED_WELL = 1000


class _Chunks:
    """A body's bytes as they come."""

    def __init__(self, url: str, body: AsyncIterator[bytes]) -> None:
        self._url = url
        self._body = body

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._body)
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from None

    async def abandon(self) -> None:
        """End httpx's reading, however far it is.

        It reads through a chain of generators; to close the first leaves the others to the garbage
        collector. Cancelled in the middle of a read, all of them end.
        """
        with trio.CancelScope() as scope, suppress(httpx.HTTPError):
            scope.cancel("the rest is not wanted")
            async for _ in self._body:
                pass


class SocketMessages:
    """What comes through a websocket until it is closed with 1000."""

    def __init__(self, url: str, socket: WebSocketConnection) -> None:
        self._url = url
        self._socket = socket

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            message = await self._next()
        except ConnectionClosed as closed:
            if closed.reason is not None and closed.reason.code == CLOSED_WELL:
                raise StopAsyncIteration from None
            raise Unreachable(self._url, str(closed), sent=True) from None
        return message.encode() if isinstance(message, str) else message

    async def _next(self) -> str | bytes:
        """The next message; one who says nothing for long is asked whether it is still there."""
        while True:
            with trio.move_on_after(SILENCE_LIMIT):
                return await self._socket.get_message()
            try:
                with trio.fail_after(PONG_LIMIT):
                    await self._socket.ping()
            except trio.TooSlowError:
                raise Unreachable(self._url, "no pong", sent=True) from None


class TrioTransport:
    """A Transport for trio. `headers` go with each request for a websocket."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str], patience: float) -> None:
        self._client = client
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._url = str(client.base_url).rstrip("/")
        self.patience = patience

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        """See Transport."""
        try:
            response = await self._client.send(
                self._client.build_request(**options(request)), stream=True
            )
        except httpx.HTTPError as error:
            raise unreachable(self._url, error) from None
        chunks = _Chunks(self._url, response.aiter_raw())
        try:
            yield Reply(response.status_code, response.headers, chunks)
        finally:
            with trio.move_on_after(CLOSE_LIMIT, shield=True):
                await _hang_up(response, chunks)

    @asynccontextmanager
    async def subscribe(self, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Through a websocket."""
        connected = False
        try:
            async with _websocket(self._url, request.target, self._headers) as socket:
                connected = True
                yield SocketMessages(self._url, socket)
        except ConnectionRejected as rejected:
            headers = {name.decode(): value.decode() for name, value in rejected.headers or ()}
            asking.refuse(rejected.status_code, headers, rejected.body or b"")
        except (ConnectionClosed, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(self._url, reason, sent=connected) from None

    async def blocking(self, call: Callable[[], T]) -> T:
        """In a thread."""
        return await trio.to_thread.run_sync(call)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def clock(self) -> float:
        """See Transport."""
        return trio.current_time()


async def _hang_up(response: httpx.Response, chunks: _Chunks) -> None:
    if response.is_stream_consumed:  # httpx's word for: somebody has begun to read
        await chunks.abandon()
    await response.aclose()


@asynccontextmanager
async def _websocket(
    base: str, target: str, headers: list[tuple[bytes, bytes]]
) -> AsyncGenerator[WebSocketConnection]:
    """A connection that is closed in any case: trio-websocket leaves one the other side closed."""
    url = httpx.URL(base)
    with trio.fail_after(CONNECT_LIMIT):
        stream = await _dial(url)
    async with stream:
        with _single_error():
            async with trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_LIMIT):
                    socket = await wrap_client_stream(
                        nursery,
                        stream,
                        url.netloc.decode(),
                        url.path.rstrip("/") + target,
                        extra_headers=headers,
                    )
                yield socket
                nursery.cancel_scope.cancel("hanging up says enough")


async def _dial(url: httpx.URL) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if url.scheme == "http":
        return await trio.open_tcp_stream(url.host, url.port or 80)
    return await trio.open_ssl_over_tcp_stream(url.host, url.port or 443, https_compatible=True)


@contextmanager
def _single_error() -> Generator[None]:
    """What is raised inside, out of the group that a nursery puts it into."""
    try:
        yield
    except BaseExceptionGroup as group:
        error, *others = group.exceptions
        if others:
            raise
        raise error from None
