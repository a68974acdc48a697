"""One answer on its way: the dialect's bytes, streamed or whole, with the fault that strikes it."""

import trio

from foreman.embedded.chunk import Chunk, joined
from foreman.embedded.dialect import JSON, Dialect
from foreman.embedded.failures import Failed
from foreman.embedded.http1 import Exchange, Severed
from foreman.embedded.script import (
    Cut,
    EndEarly,
    ErrorLine,
    Fault,
    Garble,
    Hang,
    HugeLine,
)


class Ended(Exception):
    """The answer is complete, earlier than the engine thinks."""


class Reply:
    """Collects the chunks of a call and sends them as they come, or all at the end."""

    def __init__(
        self, exchange: Exchange, dialect: Dialect, *, streams: bool, fault: Fault | None
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._streams = streams
        self._fault = fault
        self._chunks: list[Chunk] = []
        self._sent = 0  # bytes of body
        self._running = False

    async def chunk(self, chunk: Chunk) -> None:
        """Take one chunk. Raises Severed, Ended, or Failed by order of the fault."""
        if self._due():
            await self._strike()
        self._chunks.append(chunk)
        if self._streams:
            await self._send(self._dialect.frames(chunk))

    async def end(self) -> None:
        """Finish: nothing more comes."""
        if self._streams:
            await self._exchange.finish()
        elif self._chunks:
            await self.whole(joined(self._chunks))

    async def whole(self, chunk: Chunk) -> None:
        """Answer with one object, whether or not the call streams."""
        body = self._dialect.whole(chunk)
        match self._fault:
            case Garble():
                body = self._fault.line.encode("utf-8", "replace")
            case HugeLine():
                body = b" " * self._fault.size + body
            case Cut():
                await self._break_off(body)
            case _:
                pass
        await self._exchange.respond(200, self._headers(self._dialect.whole_type), body)

    async def error(self, status: int, text: str) -> None:
        """Answer with a failure: its status if nothing went out yet, else as the stream's end."""
        if self._exchange.started:
            await self._exchange.finish(self._dialect.broken(text))
            return
        # A stream that fails before its first chunk says so in JSON without a charset.
        kind = JSON if self._streams and self._running else self._dialect.error_type
        body = self._dialect.error(status, text)
        await self._exchange.respond(status, [(b"Content-Type", kind)], body)

    def run(self) -> None:
        """From here on a failure is the runner's, no longer the handler's."""
        self._running = True

    def _due(self) -> bool:
        return getattr(self._fault, "after_tokens", None) == len(self._chunks)

    async def _strike(self) -> None:
        match self._fault:
            case Hang():
                if self._streams:
                    await self._send(b"")
                await trio.sleep_forever()
            case Cut() if self._streams:
                await self._send(b"")
                raise Severed
            case Garble() if self._streams:
                await self._send(self._fault.line.encode() + b"\n")
            case HugeLine() if self._streams:
                await self._send(b'{"x":"' + b"x" * self._fault.size + b'"}\n')
            case ErrorLine():
                raise Failed(500, self._fault.text)
            case EndEarly():
                raise Ended
            case _:
                pass

    async def _send(self, data: bytes) -> None:
        if not self._exchange.started:
            await self._exchange.start(200, self._headers(self._dialect.stream_type))
        limit = getattr(self._fault, "after_bytes", None)
        if limit is not None and self._sent + len(data) >= limit:
            await self._exchange.send(data[: limit - self._sent])
            raise Severed
        self._sent += len(data)
        await self._exchange.send(data)

    async def _break_off(self, body: bytes) -> None:
        """Promise the body, send a part, and break off."""
        limit = getattr(self._fault, "after_bytes", None)
        part = body[: len(body) // 2 if limit is None else limit]
        length = (b"Content-Length", b"%d" % len(body))
        await self._exchange.start(200, [*self._headers(self._dialect.whole_type), length])
        await self._exchange.send(part)
        raise Severed

    def _headers(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"Content-Type", kind), *(self._dialect.extra if self._streams else ())]
