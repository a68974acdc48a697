"""One client's connection, in place of Hypercorn's own: whatever happens on it stays on it.

Hypercorn brings the ASGI streams, the websocket framing and h11. What it leaves open is closed
here: an error ends its own connection and nothing else, a client has a deadline wherever the server
waits for it, a client that goes away is noticed, and an answer leaves in as few packets as the
app's messages allow.
"""

import logging
import os
import select
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from math import inf
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Data
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]

from actors.exchange import Apps, ASGIApp
from foreman.http1 import StrictConnection, is_websocket, without_deflate

Peer = tuple[str, int] | None

log = logging.getLogger("foreman.edge")

LINGER = 2.0  # s of reading on after the last byte out: closing over unread data is a reset, and a
#               reset takes back the 413 that a client still busy sending has not read yet
LAST_CALL = 0.5  # s; while the server stops, how long a connection that is idle may still ask. Who
#                  asks learns with the answer that it is the last, and nobody sends into a close
READ_PIECE = 65536  # bytes
WRITE_PIECE = 65536  # bytes; what a reader must take within `write` seconds
FRAMES = 64  # of a websocket that leave together
READ_AHEAD = 16384  # bytes kept of what a client sends before its last request is answered


@dataclass(frozen=True, slots=True)
class Patience:
    """How long (s) the server waits: for a whole head, for the next request, for a write.

    `silence` is how long a websocket may say nothing: not even that it heard a ping.
    """

    head: float
    idle: float
    write: float
    silence: float = inf


class Phase(Enum):
    """What the connection waits for.

    Its first byte, the rest of a head, the next request, the app, a pong, its end.
    """

    FRESH = auto()
    HEAD = auto()
    IDLE = auto()
    BUSY = auto()
    WEBSOCKET = auto()
    CLOSING = auto()


_UNASKED = (Phase.FRESH, Phase.IDLE)


class ClientStream:
    """A socket's stream that can also send what the kernel takes at once.

    `send_all` needs a deadline and costs a turn of the event loop: for one event to a thousand
    websockets that is two thirds of the work.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_all = stream.send_all

    def has_bytes(self) -> bool:
        """Whether something has come (the end counts) that was not read yet."""
        ready = select.poll()
        ready.register(self.socket.fileno(), select.POLLIN)
        return bool(ready.poll(0))

    def send_nowait(self, data: bytes) -> int:
        """How many bytes of it went out. Raises trio.BrokenResourceError."""
        try:
            return os.write(self.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error


class Connection:
    """Serves one accepted stream. `run` raises nothing but cancellation."""

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        patience: Patience,
        stream: ClientStream,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._write_stall = patience.write
        self._writing = trio.Lock()
        self._at_once = 0  # bytes sent since the event loop last had a turn here
        self._reading = trio.CancelScope()
        self._draining = False
        self._phase = Phase.FRESH
        self._wait = {
            Phase.FRESH: patience.head,
            Phase.HEAD: patience.head,
            Phase.IDLE: patience.idle,
            Phase.BUSY: inf,
            Phase.WEBSOCKET: patience.silence,
            Phase.CLOSING: LINGER,
        }
        self._enter(Phase.FRESH)

    async def run(self) -> None:
        peer = None
        try:
            socket = self._stream.socket
            peer = parse_socket_addr(socket.family, socket.getpeername())
            await self._converse(peer, parse_socket_addr(socket.family, socket.getsockname()))
        except* Exception as group:  # noqa: BLE001  this client's, whatever it is
            errors = ", ".join(map(repr, _leaves(group)))
            log.warning("connection from %s dropped: %s", peer, errors)
        finally:
            self._abort()

    def drain(self) -> None:
        """From here on an answer says that it is the last, and who is idle has LAST_CALL to ask.

        An answer whose head went out before cannot say so; one more may follow it.
        """
        self._draining = True
        if self._phase in _UNASKED:
            self._enter(self._phase)

    async def _converse(self, client: Peer, server: Peer) -> None:
        async with trio.open_nursery() as nursery:
            apps = Apps(nursery, self._flush, partial(self._enter, Phase.WEBSOCKET))
            self._protocol = _Protocol(
                self._app,
                self._config,
                self._context,
                apps,
                (client, server),
                self._carry_out,
                self._receive,
                lambda: self._draining,
            )
            with suppress(EOFError):
                while True:
                    with self._reading:
                        await self._read()
                    if not self._came_late():
                        break
                    self._reading = trio.CancelScope()
                    self._enter(self._phase)
            apps.hang_up()

    def _came_late(self) -> bool:
        """Whether a request came in the very moment in which the wait for it ended."""
        if self._phase in _UNASKED:
            return self._stream.has_bytes()
        begun = self._phase in (Phase.HEAD, Phase.BUSY)
        return begun and trio.current_time() < self._reading.deadline

    async def _read(self) -> None:
        while True:
            data = await self._receive()
            if self._phase is Phase.IDLE or (self._draining and self._phase is Phase.FRESH):
                self._enter(Phase.HEAD)
            elif self._phase is Phase.FRESH:
                self._phase = Phase.HEAD  # its time runs since the connection
            elif self._phase is Phase.WEBSOCKET:
                self._enter(Phase.WEBSOCKET)  # anything it says is a sign of life
            if self._phase is not Phase.CLOSING:
                await self._protocol.handle(RawData(data))

    async def _receive(self) -> bytes:
        """Raises EOFError when nothing more will come."""
        try:
            data = await self._stream.receive_some(READ_PIECE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            raise EOFError
        return data

    async def _carry_out(self, event: Event) -> None:
        """What the protocol wants done to the stream."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            self._enter(Phase.IDLE if event.idle else Phase.BUSY)
        elif self._phase is not Phase.CLOSING:
            self._enter(Phase.CLOSING)
            with suppress(OSError):
                self._stream.socket.shutdown(trio.socket.SHUT_WR)
            if self._protocol.heard_out:
                self._reading.cancel()
            await self._protocol.handle(Closed())

    async def _flush(self) -> None:
        await self._protocol.flush()

    async def _write(self, data: bytes) -> None:
        try:
            self._writing.acquire_nowait()  # saves a trip through the scheduler
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            await self._send_in_time(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._abort()
            await self._protocol.handle(Closed())
            await trio.lowlevel.checkpoint()  # an app that only sends must not spin here
        except trio.Cancelled:
            self._abort()  # nobody knows how much went out, so nothing may follow it
            raise
        finally:
            self._writing.release()

    async def _send_in_time(self, data: bytes) -> None:
        for start in range(self._send_at_once(data), len(data), WRITE_PIECE):
            self._at_once = 0
            with trio.fail_after(self._write_stall):
                await self._stream.send_all(data[start : start + WRITE_PIECE])

    def _send_at_once(self, data: bytes) -> int:
        """How many bytes went out without a turn of the event loop; others have theirs in time."""
        if self._at_once + len(data) > WRITE_PIECE:
            return 0
        sent = self._stream.send_nowait(data)
        self._at_once += sent
        return sent

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        wait = self._wait[phase]
        if self._draining and phase in _UNASKED:
            wait = min(wait, LAST_CALL)
        self._reading.deadline = trio.current_time() + wait

    def _abort(self) -> None:
        self._stream.socket.close()


class _Protocol(H11Protocol):
    """HTTP/1.1 and websockets, with no way up to HTTP/2."""

    connection: Any  # a StrictConnection, or Hypercorn's stand-in for it on a websocket

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        apps: Apps,
        peers: tuple[Peer, Peer],
        carry_out: Callable[[Event], Awaitable[None]],
        receive: Callable[[], Awaitable[bytes]],
        draining: Callable[[], bool],
    ) -> None:
        super().__init__(
            cast(Any, app),  # called by `Apps` alone, which takes plain ASGI
            config,
            context,
            cast(Any, apps),
            ConnectionState({}),
            False,  # no TLS
            *peers,
            carry_out,
        )
        self._http = StrictConnection(config.h11_max_incomplete_size)
        self.connection = self._http
        self.can_read = _ReadAhead(self._http, receive)
        self._apps = apps
        self._draining = draining
        self._outgoing: list[bytes] = []

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(self.stream, WSStream) and self._overlong(self.stream):
            await self.send(Closed())  # it was told 1009; whatever else it sends would be kept

    def _overlong(self, stream: WSStream) -> bool:
        return stream.buffer.length > self.config.websocket_max_message_size

    @property
    def heard_out(self) -> bool:
        """Whether the client has finished its request and begun no other."""
        finished = self._http.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
        return finished and not self._http.trailing_data[0]

    async def flush(self) -> None:
        """Hand over what has gathered, in one piece."""
        if self._outgoing:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            await self.send(RawData(data))

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Data) and (self._apps.holding or self._outgoing):
            self._outgoing.append(event.data)
            if not self._apps.holding or len(self._outgoing) == FRAMES:
                await self.flush()
        else:
            await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if self._http.our_state in _ANSWERED:
            return  # an app that accepts a handshake which Hypercorn has refused meanwhile
        if isinstance(event, h11.Response) and self._draining():
            event = _last(event)
        try:
            self._outgoing.append(self.connection.send(event))
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.InformationalResponse):
            await self.flush()
        elif isinstance(event, h11.EndOfMessage):
            await self.flush()
            if self._http.our_state is h11.MUST_CLOSE:
                await self.send(Closed())  # Hypercorn keeps refused handshakes open

    async def _check_protocol(self, event: h11.Request) -> None:
        """Offers of HTTP/2 are ignored, as RFC 9110 7.8 allows."""

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(without_deflate(request) if is_websocket(request) else request)


def _last(response: h11.Response) -> h11.Response:
    """The answer, with the word that none will follow: h11 then closes after it."""
    headers = [(name, value) for name, value in response.headers if name != b"connection"]
    return h11.Response(
        status_code=response.status_code, headers=[*headers, (b"connection", b"close")]
    )


_ANSWERED = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)


class _ReadAhead:
    """Hypercorn's `can_read` event: set when the next request may be parsed.

    Hypercorn stops reading until then. A client can make that happen (bytes after its request, an
    `Upgrade: h2c`), and its leaving must be noticed all the same: so this wait reads.
    """

    def __init__(self, http: h11.Connection, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._http = http
        self._receive = receive
        self._until_set = trio.CancelScope()

    def is_set(self) -> bool:
        return self._until_set.cancel_called

    async def clear(self) -> None:
        self._until_set = trio.CancelScope()

    async def set(self) -> None:
        self._until_set.cancel()

    async def wait(self) -> None:
        with self._until_set:
            while len(self._http.trailing_data[0]) < READ_AHEAD:
                self._http.receive_data(await self._receive())
            await trio.sleep_forever()


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            yield error
