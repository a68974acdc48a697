"""A client that reads an answer piece by piece and may leave in the middle of it."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import h11
import httpx
import msgspec
import trio

Header = tuple[bytes, bytes]


class Reading:
    """An answer whose head has come."""

    def __init__(self, stream: trio.SocketStream, wire: h11.Connection, head: h11.Response) -> None:
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        self._stream = stream
        self._wire = wire
        self._rest = b""

    async def piece(self) -> bytes:
        """The next bytes of the body, b"" after its end. Raises RemoteProtocolError for a cut."""
        event = await next_event(self._stream, self._wire)
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def line(self) -> bytes:
        """The next line of the body without its end, b"" after the last."""
        while b"\n" not in self._rest:
            piece = await self.piece()
            if not piece:
                return b""
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    async def rest(self) -> bytes:
        """All that is left of the body."""
        body = self._rest
        while piece := await self.piece():
            body += piece
        return body


@asynccontextmanager
async def post(url: str, path: str, document: object) -> AsyncGenerator[Reading]:
    """POST a JSON document; leaving the block hangs up."""
    async with await connect(url) as stream:
        wire = h11.Connection(h11.CLIENT)
        body = msgspec.json.encode(document)
        headers = [("Host", "localhost"), ("Content-Length", str(len(body)))]
        await send(stream, wire, [h11.Request(method="POST", target=path, headers=headers)])
        await send(stream, wire, [h11.Data(body), h11.EndOfMessage()])
        head = await next_event(stream, wire)
        assert isinstance(head, h11.Response)
        yield Reading(stream, wire, head)


async def connect(url: str) -> trio.SocketStream:
    """A connection to the server at `url`."""
    address = httpx.URL(url)
    return await trio.open_tcp_stream(address.host, address.port or 80)


async def send(
    stream: trio.SocketStream, wire: h11.Connection, events: Iterable[h11.Event]
) -> None:
    """Send these events of a request."""
    for event in events:
        await stream.send_all(wire.send(event) or b"")


async def next_event(
    stream: trio.SocketStream, wire: h11.Connection
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    """The next event of an answer. Raises RemoteProtocolError where it breaks off."""
    while True:
        event = wire.next_event()
        if event is not h11.NEED_DATA:
            return event
        wire.receive_data(await stream.receive_some())
