"""Choice by waiting time: at home if it starts soon, else the cheapest that is allowed.

    Choice(
        order=by_waiting(40.0, then=cheapest(prices)),
        always=Policy(max_cost=0.05),
        prices=prices,
    )

A foreman is asked for its queue, and the request joins it only if it would start in time. When
time runs out all the same, the request is withdrawn before anybody else is called; a job that has
begun in the meantime keeps it. When nobody else answers it queues again, however long that takes.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, Self, runtime_checkable

import anyio

from foreman.llm.candidates import Candidate
from foreman.llm.capabilities import Capabilities
from foreman.llm.deferred import Deferred
from foreman.llm.errors import LLMError, TimedOut
from foreman.llm.model import Model, whole
from foreman.llm.ordering import Order, as_written
from foreman.llm.request import Request
from foreman.llm.response import Event, Place, Response


class Submission(Protocol):
    """A request in a foreman's queue."""

    def places(self) -> AsyncIterator[Place]:
        """Where it stands now, then each change; ends when it is its turn, or it is over."""
        ...

    async def withdraw(self) -> bool:
        """Take it out, confirmed by the foreman: whether it has not begun and never will.

        A job that has begun is left alone, and `events` gives its answer. Raises CallError.
        """
        ...

    def events(self) -> AsyncIterator[Event]:
        """The answer; asked for once, after `places` ended or `withdraw` came too late."""
        ...


@runtime_checkable
class Queueing(Protocol):
    """What a foreman's model can do beside what every model can."""

    async def estimate(self, request: Request) -> Place:
        """Where the request would stand if it were sent now. Raises CallError."""
        ...

    def submit(self, request: Request) -> AbstractAsyncContextManager[Submission]:
        """Entering puts it into the queue; leaving the block takes it out unless it is over."""
        ...


class StartsTooLate(LLMError):
    """The foreman would not begin in time. `starts_in`: its estimate in seconds, if it has one."""

    def __init__(self, within: float, starts_in: float | None) -> None:
        super().__init__(f"not within {within:.3g} s")
        self.starts_in = starts_in


class Impatient:
    """A foreman's model that is asked only while it can begin within so many seconds.

    Otherwise its calls raise StartsTooLate, and the request is in no queue then.
    """

    def __init__(self, model: Model, queue: Queueing, within: float) -> None:
        self._model = model
        self._queue = queue
        self._within = within

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def capabilities(self) -> Capabilities:
        return self._model.capabilities

    async def complete(self, request: Request) -> Response:
        return await whole(self.stream(request))

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        until = anyio.current_time() + self._within
        starts_in = await self._estimate(request)
        if starts_in is not None and starts_in > self._within:
            raise StartsTooLate(self._within, starts_in)
        async with self._queue.submit(request) as submission:
            yield _Waiting(submission, self._within, until)

    async def _estimate(self, request: Request) -> float | None:
        with anyio.move_on_after(self._within):
            return (await self._queue.estimate(request)).starts_in
        raise TimedOut(f"no word of its queue within {self._within:.3g} s", target=self.name)


class _Waiting:
    """The events of one submission: its places while there is time, then its answer."""

    def __init__(self, submission: Submission, within: float, until: float) -> None:
        self._submission = submission
        self._within = within
        self._until = until
        self._places = submission.places()
        self._answer: AsyncIterator[Event] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._answer is None:
            place = await self._place()
            if place is not None:
                return Event(place=place)
            self._answer = self._submission.events()
        return await anext(self._answer)

    async def _place(self) -> Place | None:
        """The next place that leaves hope; None when the job has begun. Raises StartsTooLate."""
        place: Place | None = None
        with anyio.move_on_after(self._left):
            place = await anext(self._places, None)
            if place is None or place.starts_in is None or place.starts_in <= self._left:
                return place
        if await self._submission.withdraw():
            raise StartsTooLate(self._within, None if place is None else place.starts_in)
        return None

    @property
    def _left(self) -> float:
        return max(0.0, self._until - anyio.current_time())


def by_waiting(within: float, then: Order = as_written, *, wait_at_last: bool = True) -> Order:
    """Foremans first, each if it begins within so many seconds; the others in the order `then`.

    With `wait_at_last` the foremans come once more in the end, and then have all the time.
    """

    def order(request: Request, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        queues = {each.name: _queue(each.model) for each in candidates}
        soon = [
            Candidate(Impatient(each.model, queue, within), each.health)
            for each in candidates
            if (queue := queues[each.name]) is not None
        ]
        others = [each for each in candidates if queues[each.name] is None]
        late = [each for each in candidates if queues[each.name] is not None]
        return [*soon, *then(request, others), *(late if wait_at_last else ())]

    return order


def _queue(model: Model) -> Queueing | None:
    try:
        found = model.resolve() if isinstance(model, Deferred) else model
    except LLMError:
        return None  # its call will say why
    return found if isinstance(found, Queueing) else None
