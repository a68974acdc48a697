"""HTTP/1.1 connections to one server: h11 on trio, kept open between requests.

Everything a relay needs and nothing else: no redirects, cookies, decoding or proxies.
"""

import os
import ssl
from collections.abc import AsyncIterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import h11
import trio

READ_PIECE = 65536  # bytes
HEAD_LIMIT = 100 * 1024  # bytes of a response's head
KEPT = 60.0  # seconds that a connection may be idle
SMALL = 65536  # bytes of body that leave together with the head: one packet, one system call


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is; `tls` verifies its certificate against `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Connection:
    """One request at a time; iterate it for the body of the answer.

    Raises trio.BrokenResourceError or h11.ProtocolError when the answer cannot be had.
    """

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._stream, self._socket = stream, self._plain.socket
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._idle_since = 0.0

    async def ask(
        self, request: h11.Request, body: bytes, upload: AsyncIterable[bytes] | None
    ) -> h11.Response:
        """Send the request with its body, or with what `upload` yields; the answer's head."""
        with suppress(trio.BrokenResourceError):  # a server may refuse a body before it hangs up
            await self._send(request, body, upload)
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the answer's body, as it arrives."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        raise StopAsyncIteration

    def rest(self) -> bool:
        """Make ready for the next request. False when it is not fit for one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._idle_since = trio.current_time()
        return True

    def is_fresh(self) -> bool:
        """Whether, after a rest, the server can be taken to be there still."""
        return trio.current_time() - self._idle_since < KEPT and not self._socket.is_readable()

    def close(self) -> None:
        """At once: to a server, that is what cancels a request."""
        self._socket.close()

    async def _send(
        self, request: h11.Request, body: bytes, upload: AsyncIterable[bytes] | None
    ) -> None:
        head = self._encoded(request)
        if upload is None and len(body) <= SMALL:
            await self._send_whole(
                head + self._encoded(h11.Data(body)) + self._encoded(h11.EndOfMessage())
            )
            return
        await self._stream.send_all(head)
        if upload is None:
            await self._stream.send_all(self._encoded(h11.Data(body)))
        else:
            async for piece in upload:
                await self._stream.send_all(self._encoded(h11.Data(piece)))
        await self._stream.send_all(self._encoded(h11.EndOfMessage()))

    async def _send_whole(self, data: bytes) -> None:
        """What the kernel takes goes at once: `send_all` would cost two turns of the event loop."""
        if self._stream is self._plain:
            try:
                data = data[os.write(self._socket.fileno(), data) :]
            except BlockingIOError:
                pass
            except OSError as error:
                raise trio.BrokenResourceError from error
        if data:
            await self._stream.send_all(data)

    def _encoded(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        return self._http.send(event) or b""

    async def _event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(READ_PIECE)))
        return event


@dataclass(slots=True)
class Pool:
    """At most as many connections as `places` has room for. Raises OSError or trio.TooSlowError."""

    address: Address
    connect_timeout: float
    places: trio.Semaphore
    _idle: list[Connection] = field(default_factory=list[Connection])

    async def take(self) -> Connection:
        """A connection, to be given back."""
        try:
            self.places.acquire_nowait()  # saves a trip through the scheduler
        except trio.WouldBlock:
            await self.places.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_fresh():
                    return connection
                connection.close()
            return await self._connect()
        except BaseException:
            self.places.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep it, unless it was left within an answer: that one is closed."""
        if connection.rest():
            self._idle.append(connection)
        else:
            connection.close()
        self.places.release()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> Connection:
        where = self.address
        with trio.fail_after(self.connect_timeout):
            stream = await trio.open_tcp_stream(where.host, where.port)
            if where.tls is None:
                return Connection(stream)
            secure = trio.SSLStream(stream, where.tls, server_hostname=where.host)
            try:
                await secure.do_handshake()
            except BaseException:
                stream.socket.close()
                raise
            return Connection(secure)
