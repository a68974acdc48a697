"""A reader's way along the event log: from its cursor through the database into the live tail.

The tail and the database hold the same events under the same numbers, so a cursor can go from one
to the other and back without a gap and without seeing an event twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from foreman.event_log import EventFilter, Page
from foreman.event_tail import EventTail
from foreman.jobs import LIVE
from foreman.rows import Event

BATCH = 256  # events at a time
SLACK = 1024  # events that a live reader may be behind what memory holds before it is too slow

Read = Callable[[int], Awaitable[Page]]
"""Asks the database for the page after a cursor."""


@dataclass(frozen=True, slots=True)
class Finished:
    """There is nothing more to tell."""


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The daemon stops."""


@dataclass(frozen=True, slots=True)
class TooSlow:
    """The reader was live and fell behind; it may resume after `last_seq`."""

    last_seq: int


@dataclass(frozen=True, slots=True)
class Resync:
    """The log does not continue the cursor: the reader must look at the jobs themselves.

    "ahead": the log has never come so far. "expired": retention took what came after it. The log
    reaches from `first_seq` to `last_seq`.
    """

    reason: Literal["ahead", "expired"]
    after: int
    first_seq: int
    last_seq: int


End = Finished | GoingAway | TooSlow | Resync


class Subscription:
    """Yields the wanted events after `after` in batches, then says in `end` why there are no more.

    With `until` it ends there, else it waits for what is yet to come; a job's own subscription
    (`to_end`) ends after the event that ends the job.
    """

    def __init__(
        self,
        tail: EventTail,
        read: Read,
        wanted: EventFilter,
        after: int,
        *,
        until: int | None = None,
        to_end: bool = False,
    ) -> None:
        self.end: End | None = None
        self._tail = tail
        self._read = read
        self._wanted = wanted
        self._cursor = after
        self._until = until
        self._to_end = to_end
        self._live = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Event]:
        while self.end is None:
            events = await self._more()
            if self._to_end and any(self._is_last(event) for event in events):
                self.end = Finished()
            if wanted := [event for event in events if self._wanted.matches(event)]:
                return wanted
        raise StopAsyncIteration

    async def _more(self) -> Sequence[Event]:
        """The next events, wanted or not; none when it waited, or came to its end."""
        if self._tail.closed:
            return self._stop(GoingAway())
        if self._cursor > self._tail.head and not self._live:
            return await self._replayed()
        if self._until is not None and self._cursor >= self._until:
            return self._stop(Finished())
        events = self._tail.after(self._cursor, BATCH)
        if events is None:
            return await self._replayed()
        if not events:
            return await self._waited()
        self._cursor = events[-1].seq
        return events

    async def _replayed(self) -> Sequence[Event]:
        behind = self._tail.oldest - 1 - self._cursor
        if self._live and self._wanted.job is None and behind > SLACK:
            return self._stop(TooSlow(self._cursor))
        page = await self._read(self._cursor)
        if self._cursor > page.last_seq:
            return self._lost("ahead", page)
        if self._cursor < page.pruned_seq:
            return self._lost("expired", page)
        self._live = self._live or page.upto > self._tail.head
        self._cursor = page.upto
        return page.events

    async def _waited(self) -> Sequence[Event]:
        self._live = True
        moved = await self._tail.moved(self._cursor, self._wanted.job)
        if moved is None:
            return self._stop(GoingAway())
        self._cursor = moved
        return ()

    def _lost(self, reason: Literal["ahead", "expired"], page: Page) -> Sequence[Event]:
        first = min(page.pruned_seq, page.last_seq) + 1
        return self._stop(Resync(reason, self._cursor, first, page.last_seq))

    def _stop(self, end: End) -> Sequence[Event]:
        self.end = end
        return ()

    def _is_last(self, event: Event) -> bool:
        return event.job == self._wanted.job and event.state not in LIVE
