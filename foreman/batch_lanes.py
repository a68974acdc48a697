"""The durable lanes as they were last read from the table: the table is the truth."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from foreman import tables
from foreman.jobs import JobClass, JobId
from foreman.reader import Reader
from foreman.scheduling import Lane, LaneKey
from foreman.tables import JobRef, LaneHead, Microseconds

RECONCILE = 5.0  # seconds after which the table is read although no hint asked for it


@dataclass(slots=True)
class BatchLanes:
    """The lanes with a job that is due, each with its head."""

    now: Callable[[], Microseconds]
    stale: bool = True  # the table may have changed
    _heads: tuple[LaneHead, ...] = ()
    _read_at: float = float("-inf")

    async def refresh(self, reader: Reader) -> None:
        """Read the table where a hint, or the time, says that it may have changed."""
        while self.stale or trio.current_time() >= self._read_at + RECONCILE:
            self.stale = False  # before the read: a hint that comes meanwhile asks for another
            now = self.now()
            heads = await reader.read(partial(tables.lane_heads, now=now))
            self._heads = tuple(head for head in heads if head.is_due(now))
            self._read_at = trio.current_time()

    def lanes(self, served: Mapping[LaneKey, float]) -> list[Lane]:
        """What the scheduler looks at; `served` says when each lane last was."""
        wall, now = self.now(), trio.current_time()

        def arrived(at: Microseconds) -> float:
            return now - max(0, wall - at) / 1e6

        return [
            Lane(
                head.fingerprint,
                JobClass.BATCH,
                head.job_id,
                arrived(head.arrived_at),
                served.get((head.fingerprint, JobClass.BATCH)),
                arrived(head.oldest_at),
            )
            for head in self._heads
        ]

    def ref(self, job: JobId) -> JobRef:
        """The row of the head with this id."""
        return next(head.ref for head in self._heads if head.job_id == job)


def wall_clock() -> Microseconds:
    """The time of day, as rows have it."""
    return time.time_ns() // 1000
