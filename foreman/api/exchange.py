"""One HTTP exchange on the raw ASGI messages: read the body within limits, answer in pieces.

Ollama's routes are relayed as bytes, so they stand on ASGI itself; foreman's own are a Quart app.
"""

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any, Self
from urllib.parse import quote

import trio

from foreman.tracing import NO_SPAN
from foreman.wire import Header

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

OWNER = "foreman.owner"  # in the scope of own routes: whose jobs may be seen
PATH_MARKS = "/:@!$&'()*+,;="  # stand for themselves in a path; `small:latest` stays readable
STREAMS = (b"application/x-ndjson", b"text/event-stream")
SLOWEST = 16384  # bytes a second; what a client must send on average after its first seconds


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class BodyTooLarge(Exception):
    """More than `limit` bytes of body."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is larger than {limit} bytes")


class BodyTooSlow(Exception):
    """The body did not arrive in time."""


class Exchange:
    """A request and the answer to it. `headers` have lower-case names, as ASGI gives them.

    `extra` headers go out with whatever head is sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: tuple[Header, ...] = tuple(scope["headers"])
        self.extra: list[Header] = []
        self.client = ""  # the name of its token, once that was checked
        self.status = 0  # as sent; 0 while nothing is committed
        self.span = NO_SPAN  # of the whole of it
        self.head_at = 0.0  # when it was (perf_counter)
        self._streams = False  # the head that went out promised lines or events
        self._midway = False  # and one of them has begun
        self._receive = receive
        self._send = send
        self._read_all = False

    @property
    def committed(self) -> bool:
        """A status has gone out; it can no longer change."""
        return self.status != 0

    @property
    def takes_more(self) -> bool:
        """The answer is a stream between two lines or events: one more can follow."""
        return self._streams and not self._midway

    @property
    def target(self) -> bytes:
        """What to ask the target for."""
        path = quote(self.path, safe=PATH_MARKS).encode()
        return path + b"?" + self.query if self.query else path

    def header(self, name: bytes) -> bytes:
        """The value of the first header of that (lower-case) name, or nothing."""
        return next((value for found, value in self.headers if found == name), b"")

    async def body(self, limit: int, seconds: float) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTooSlow or ClientGone.

        It may take `seconds`, and one more for each SLOWEST bytes that have come.
        """
        if (length := self.header(b"content-length")).isdigit() and int(length) > limit:
            raise BodyTooLarge(limit)
        chunks: list[bytes] = []
        size = 0
        deadline = trio.current_time() + seconds
        while (chunk := await self.read(deadline - trio.current_time())) is not None:
            size += len(chunk)
            deadline += len(chunk) / SLOWEST
            if size > limit:
                raise BodyTooLarge(limit)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read(self, seconds: float) -> bytes | None:
        """The next piece of the body, None after the last. Raises BodyTooSlow or ClientGone."""
        if self._read_all:
            return None
        try:
            with trio.fail_after(max(0.0, seconds)):
                message = await self._receive()
        except trio.TooSlowError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._read_all = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Send the head: from now on the status can no longer change."""
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers]})

    async def send(self, message: Message) -> None:
        """Send an ASGI message; the extra headers join the head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.head_at = perf_counter()
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._streams = kind.startswith(STREAMS)
            message["headers"] = [*message["headers"], *self.extra]
        await self._send(message)

    async def write(self, chunk: bytes) -> None:
        """Send a piece of the body, at once."""
        self._midway = not chunk.endswith((b"\n", b" "))
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes = b"") -> None:
        """End the body. An exchange that is left without this is cut: the client sees an error."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def reply(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Answer in one go; a HEAD gets the headers alone."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.finish(b"" if self.method == "HEAD" else body)


class Upload:
    """The body of an exchange as an iterable for the target, never more than a piece in memory."""

    def __init__(self, exchange: Exchange, seconds: float) -> None:
        self._exchange = exchange
        self._seconds = seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._exchange.read(self._seconds)
        if chunk is None:
            raise StopAsyncIteration
        return chunk
