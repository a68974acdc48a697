"""HTTP/1.1 on one trio stream: h11 for the grammar, and control over every byte for the faults.

A web framework would be in the way here: a scripted target must be able to fall silent before its
headers, to break off in the middle of a body and to send what no framework lets through.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

import h11
import trio

from foreman.embedded.clock import Clock

log = logging.getLogger(__name__)

Header = tuple[bytes, bytes]

READ_SIZE = 64 * 1024
MAX_HEAD = 1024 * 1024  # bytes of request line and headers, as Go's server
CLOSE_GRACE = 1.0  # seconds for the goodbye of a connection


class Severed(Exception):
    """This exchange is over without an end: the connection is broken off."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request's head. Header names are as they were sent."""

    method: str
    target: bytes
    path: str
    headers: tuple[Header, ...]

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Exchange:
    """One request and its answer."""

    def __init__(
        self, stream: trio.abc.Stream, wire: h11.Connection, head: Request, clock: Clock
    ) -> None:
        self.request = head
        self.arrived = trio.current_time()
        self.started = False
        self.granted: list[Header] = []  # headers that every answer to this request carries
        self.body_read = trio.Event()
        self._stream = stream
        self._wire = wire
        self._clock = clock
        self._unsent = b""

    async def read(self) -> bytes:
        """The next part of the request's body; b"" at its end. Raises Severed."""
        while not self.body_read.is_set():
            event = await self._next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                self.body_read.set()
        return b""

    async def read_all(self) -> bytes:
        """The whole body. Raises Severed."""
        parts: list[bytes] = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    async def respond(self, status: int, headers: Iterable[Header] = (), body: bytes = b"") -> None:
        """Answer at once, with a Content-Length. Raises Severed."""
        await self.start(status, [*headers, (b"Content-Length", b"%d" % len(body))])
        await self.finish(body)

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Begin an answer; the head goes out with the first of the body. Raises Severed."""
        await self._discard_body()
        response = h11.Response(
            status_code=status,
            headers=[*headers, *self.granted, (b"Date", self._clock.http_date())],
            reason=_reason(status),
        )
        self.started = True
        self._unsent = self._wire.send(response) or b""

    async def send(self, data: bytes = b"") -> None:
        """A part of the answer's body, on its way at once. Raises Severed."""
        body = self._encode(data)
        await self._write(self._unsent + body)

    async def finish(self, data: bytes = b"") -> None:
        """End the answer, with a last part of its body. Raises Severed."""
        body = self._encode(data)
        end = self._wire.send(h11.EndOfMessage()) or b""
        await self._write(self._unsent + body + end)

    def _encode(self, data: bytes) -> bytes:
        if not data or self.request.method == "HEAD":
            return b""
        return self._wire.send(h11.Data(data)) or b""

    async def _discard_body(self) -> None:
        while await self.read():
            pass

    async def _write(self, data: bytes) -> None:
        self._unsent = b""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Severed from error

    async def _next_event(self) -> object:
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                raise Severed from error
            if event is not h11.NEED_DATA:
                return event
            if self._wire.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._write(self._wire.send(go_on) or b"")
            await _feed(self._stream, self._wire)


Handle = Callable[[Exchange], Awaitable[None]]


async def converse(stream: trio.abc.Stream, clock: Clock, handle: Handle) -> None:
    """Answer one connection's requests until it ends. Never raises but Cancelled.

    A client that goes away while its request is handled cancels the handler, as in Go.
    """
    wire = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        with contextlib.suppress(Severed):
            while (head := await _next_head(stream, wire)) is not None:
                await _exchange(stream, wire, Exchange(stream, wire, head, clock), handle)
                wire.start_next_cycle()
    except h11.LocalProtocolError:
        pass  # the connection cannot go on: asked to close, or a body was left half read
    except Exception:
        log.exception("an exchange failed")
    finally:
        with trio.move_on_after(CLOSE_GRACE, shield=True):
            await stream.aclose()


async def _exchange(
    stream: trio.abc.Stream, wire: h11.Connection, exchange: Exchange, handle: Handle
) -> None:
    gone = False

    async def watch() -> None:
        nonlocal gone
        await exchange.body_read.wait()
        try:
            await _feed(stream, wire)  # what comes now belongs to the next request
        except Severed:
            gone = True
            nursery.cancel_scope.cancel()

    failure: Severed | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            await handle(exchange)
        except Severed as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure or gone:
        raise Severed


async def _next_head(stream: trio.abc.Stream, wire: h11.Connection) -> Request | None:
    while True:
        try:
            event = wire.next_event()
        except h11.RemoteProtocolError:
            await _refuse(stream, wire)
            return None
        if isinstance(event, h11.Request):
            target = bytes(event.target)
            path = unquote(target.partition(b"?")[0].decode("latin-1"))
            method = event.method.decode("ascii", "replace")
            return Request(method, target, path, tuple(event.headers.raw_items()))
        if event is not h11.NEED_DATA:
            return None
        await _feed(stream, wire)


async def _feed(stream: trio.abc.Stream, wire: h11.Connection) -> None:
    try:
        data = await stream.receive_some(READ_SIZE)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise Severed from error
    if not data:
        raise Severed
    wire.receive_data(bytes(data))


async def _refuse(stream: trio.abc.Stream, wire: h11.Connection) -> None:
    if wire.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    body = b"400 Bad Request"
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Connection: close\r\n\r\n" + body
        )


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"status code %d" % status
