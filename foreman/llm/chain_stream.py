"""A chain's answer as it comes: another model takes over while nothing of it was passed on."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec

from foreman.breaker import Verdict
from foreman.llm.candidates import Candidate
from foreman.llm.errors import StreamBroken
from foreman.llm.request import Request
from foreman.llm.response import Event
from foreman.llm.run import Run


class ChainStream:
    """The block and its events at once. Entering it goes as far as the first event.

    What a call opens is left in the order in which it was opened: with the block, or when
    another candidate takes over.
    """

    def __init__(self, request: Request, start: Callable[[Request], Run]) -> None:
        self._request = request
        self._start = start
        self._block = AsyncExitStack()
        self._call = AsyncExitStack()
        self._first: Event | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        self._run = self._start(self._request)
        async with AsyncExitStack() as block:
            block.enter_context(self._run.deadline())
            self._first = await self._opened()
            block.push_async_exit(self._leave)
            self._block = block.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._over = True
        # What the block holds shields its own closing.
        return bool(await self._block.__aexit__(kind, error, trace))  # noqa: ASYNC102

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._first is not None:
            event, self._first = self._first, None
            return event
        if self._over:
            raise StopAsyncIteration
        try:
            return await self._step()
        except Exception as error:  # noqa: BLE001 - raised below, unless the run survives it
            failed = error
        if not await self._call.__aexit__(type(failed), failed, failed.__traceback__):
            self._over = True
            raise failed
        return await self._opened()

    async def _opened(self) -> Event:
        """The first event of the next candidate that has one. Raises what ends the run."""
        while (candidate := await self._run.next()) is not None:
            async with AsyncExitStack() as call:
                call.enter_context(self._run.recording(candidate))
                event = await self._enter(candidate, call)
                self._call = call.pop_all()
                return event
        self._over = True
        raise self._run.given_up()

    async def _enter(self, candidate: Candidate, call: AsyncExitStack) -> Event:
        permit = candidate.health.permit(self._run.judge, self._run.busy)
        self._permit = await call.enter_async_context(permit)
        self._candidate = candidate
        stream = candidate.model.stream(self._request)
        self._events: AsyncIterator[Event] = await call.enter_async_context(stream)
        return await self._step()

    async def _step(self) -> Event:
        event = await anext(self._events, None)
        if event is None:
            reason = "the stream ended before the answer did"
            raise StreamBroken(reason, target=self._candidate.name)
        if not self._run.begun and event.begins:
            self._run.begin(self._candidate)
        if event.response is None:
            return event
        self._over = True
        self._permit.conclude(Verdict.ALIVE)
        response = self._run.answered(self._candidate, event.response)
        return msgspec.structs.replace(event, response=response)

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """The reader leaves: an error of its own says nothing about the target."""
        self._run.left = True
        if isinstance(error, Exception):
            self._permit.conclude(Verdict.UNDECIDED)
        return bool(await self._call.__aexit__(kind, error, trace))
