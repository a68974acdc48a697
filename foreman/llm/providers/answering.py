"""One streamed call: bytes come in, events go out, and nothing is left open behind it."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Self

import anyio

from foreman.llm.errors import CallError, InvalidResponse, StreamBroken, TimedOut, Unreachable
from foreman.llm.framing import Framing, TooLong
from foreman.llm.model import CLOSING
from foreman.llm.response import Event

TAIL = 0.25  # seconds that a target has to end its body after the answer's end


class Answer:
    """The events of one call, out of a body's chunks.

    `read` makes events of a frame and raises CallErrors. `errors` is what the HTTP library raises
    when a connection breaks, `timeouts` those of them that mean silence.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        framing: Framing,
        read: Callable[[bytes], Iterable[Event]],
        *,
        target: str,
        errors: type[Exception],
        timeouts: type[Exception],
    ) -> None:
        self._chunks = chunks
        self._framing = framing
        self._read = read
        self._target = target
        self._errors = errors
        self._timeouts = timeouts
        self._frames: deque[bytes] = deque()
        self._ready: deque[Event] = deque()
        self._begun = False
        self._drained = False
        self._complete = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._complete:
                raise StopAsyncIteration
            if self._frames:
                self._ready.extend(self._read(self._frames.popleft()))
            elif self._drained:
                raise StreamBroken("the stream ended before the answer did", target=self._target)
            else:
                self._frames.extend(await self._more())
        event = self._ready.popleft()
        self._begun = self._begun or event.begins
        self._complete = event.response is not None
        return event

    async def _more(self) -> list[bytes]:
        """The frames of the next chunk, or what is left after the last."""
        try:
            async for chunk in self._chunks:
                return self._framing.feed(chunk)
            self._drained = True
            return self._framing.end()
        except self._errors as error:
            raise self._broken(error) from error
        except TooLong as error:
            raise InvalidResponse(str(error), target=self._target) from error

    def _broken(self, error: Exception) -> CallError:
        reason = str(error) or type(error).__name__
        if isinstance(error, self._timeouts):
            return TimedOut(reason, target=self._target)
        return (StreamBroken if self._begun else Unreachable)(reason, target=self._target)

    @asynccontextmanager
    async def until_left(self) -> AsyncGenerator[Self]:
        """Itself, for as long as somebody reads; then its body is read to the end, or cut off."""
        try:
            yield self
        finally:
            with anyio.move_on_after(CLOSING, shield=True):
                await self._leave()

    async def _leave(self) -> None:
        """End the HTTP library's reading, however far it is.

        It reads through a chain of generators; closing the first leaves the others to the garbage
        collector. Cancelled in the middle of a read, all of them end, and so does the connection.
        After a complete answer only the body's end is missing: with it the connection can be used
        again.
        """
        with anyio.move_on_after(TAIL) as scope, suppress(self._errors):
            if not self._complete:
                scope.cancel()
            async for _ in self._chunks:
                pass
