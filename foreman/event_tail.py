"""The end of the event log in memory: what was committed last, for any number of readers.

A reader is a number, the last seq it has seen. Nobody has a queue of his own, so a slow reader
costs nothing; what memory no longer holds is in the database (`foreman.event_log`).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from foreman.jobs import JobId
from foreman.rows import Event

SIZE = 4096  # events, of some 700 bytes each
ABREAST = 32  # readers that are woken at once, each of whom wakes the next


@dataclass(slots=True)
class _Waiters:
    """Those who wait for the same; `resume` is where they read on once they are woken.

    They are woken in the order of their coming, a few at a time: thousands of sends in one turn of
    the event loop would keep everything else waiting.
    """

    resume: int = 0
    lot: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    _due: int = 0  # of those who wait, how many are to be woken
    _waking: int = 0  # woken, but it is not their turn yet

    def wake(self, resume: int) -> None:
        """Wake all who wait now."""
        if not (self._due or self._waking):
            self.resume = resume  # else there are some who wait since before
        self._due = len(self.lot)
        self._wake_next(ABREAST - self._waking)

    async def woken(self) -> int:
        """Wait; where to read on."""
        await self.lot.park()
        self._waking -= 1
        self._wake_next(1)
        return self.resume

    def _wake_next(self, count: int) -> None:
        woken = len(self.lot.unpark(count=min(count, self._due)))
        self._due = min(self._due - woken, len(self.lot))
        self._waking += woken


class EventTail:
    """The last `size` committed events; `head` is the seq of the last event there is."""

    def __init__(self, head: int = 0, size: int = SIZE) -> None:
        self.head = head
        self.closed = False
        self._events = deque[Event](maxlen=size)
        self._encoded: dict[int, bytes] = {}
        self._last_of: dict[JobId, int] = {}
        self._waiting: dict[JobId | None, _Waiters] = {}

    @property
    def oldest(self) -> int:
        """The seq from which on memory is complete; one past the head when it is empty."""
        return self._events[0].seq if self._events else self.head + 1

    def publish(self, events: Sequence[Event]) -> None:
        """Remember committed events, in commit order, and wake those who wait for them."""
        if not events:
            return
        before = self.head
        for event in events:
            self._remember(event)
        # After a gap nobody knows whose events are missing.
        whose = self._waiting if events[0].seq > before + 1 else {event.job for event in events}
        for key in [None, *whose]:
            self._wake(key, before)

    def after(self, seq: int, limit: int) -> Sequence[Event] | None:
        """The events after `seq`, at most `limit`; None when memory does not reach back so far."""
        first = seq + 1 - self.oldest
        if first < 0:
            return None
        events = self._events
        return [events[index] for index in range(first, min(first + limit, len(events)))]

    def json(self, event: Event) -> bytes:
        """`event.to_json()`, encoded once for all readers as long as memory holds the event."""
        found = self._encoded.get(event.seq)
        if found is None:
            found = event.to_json()
            if event.seq >= self.oldest:
                self._encoded[event.seq] = found
        return found

    async def moved(self, seq: int, job: JobId | None = None) -> int | None:
        """Return when there is an event after `seq`, of this job where one is named.

        What is returned is where to read on: at or after `seq`, with nothing of interest between.
        None when there is no such event and the daemon stops. To miss nothing of a job, take
        `head` first, then look at the database, then wait here for what follows that `head`.
        """
        if self._last(job) > seq:
            await trio.lowlevel.checkpoint()
            return seq
        if not self.closed:
            seq = max(seq, await self._woken(job))
        return None if self.closed and self._last(job) <= seq else seq

    def close(self) -> None:
        """The daemon stops: wake everybody. What is published from now on is still remembered."""
        self.closed = True
        for key in self._waiting:
            self._wake(key, self.head)

    def _wake(self, key: JobId | None, resume: int) -> None:
        if waiters := self._waiting.get(key):
            waiters.wake(resume)

    async def _woken(self, job: JobId | None) -> int:
        waiters = self._waiting.setdefault(job, _Waiters())
        try:
            return await waiters.woken()
        finally:
            if not waiters.lot and self._waiting.get(job) is waiters:
                del self._waiting[job]  # the last who waited for this has left

    def _last(self, job: JobId | None) -> int:
        return self.head if job is None else self._last_of.get(job, 0)

    def _remember(self, event: Event) -> None:
        if event.seq != self.head + 1:  # the store crashed between a commit and its publication
            self._forget_all()
        elif len(self._events) == self._events.maxlen:
            self._forget(self._events[0])
        self._events.append(event)
        self._last_of[event.job] = event.seq
        self.head = event.seq

    def _forget(self, event: Event) -> None:
        self._encoded.pop(event.seq, None)
        if self._last_of[event.job] == event.seq:
            del self._last_of[event.job]

    def _forget_all(self) -> None:
        self._events.clear()
        self._encoded.clear()
        self._last_of.clear()
