"""The waiting calls, by lane: who is first, who is how far back, who may go. Plain data, no clock.

The lanes of durable batch jobs live in the database (`foreman.tables.lane_heads`); these are the
calls whose clients hold a connection, bounded by FOREMAN_MAX_WAITING.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from foreman.jobs import Fingerprint, JobId


class Waiting(Protocol):
    """What a lane needs to know of a call."""

    @property
    def job(self) -> JobId: ...

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def arrived(self) -> float:
        """Seconds on the monotonic clock."""
        ...


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class CallLanes(Generic[W]):
    """First in, first out within a fingerprint. A call stays in its place until it is removed."""

    _lanes: dict[Fingerprint, dict[JobId, W]] = field(
        default_factory=dict[Fingerprint, dict[JobId, W]]
    )
    _where: dict[JobId, Fingerprint] = field(default_factory=dict[JobId, Fingerprint])

    def __len__(self) -> int:
        return len(self._where)

    def add(self, call: W) -> None:
        self._lanes.setdefault(call.fingerprint, {})[call.job] = call
        self._where[call.job] = call.fingerprint

    def find(self, job: JobId) -> W | None:
        where = self._where.get(job)
        return None if where is None else self._lanes[where][job]

    def remove(self, job: JobId) -> W | None:
        """Take a call out, wherever it stands; None if it is not here."""
        where = self._where.pop(job, None)
        if where is None:
            return None
        lane = self._lanes[where]
        call = lane.pop(job)
        if not lane:
            del self._lanes[where]
        return call

    def heads(self) -> Iterator[W]:
        """The first call of each lane."""
        return (next(iter(lane.values())) for lane in self._lanes.values())

    def order(self, first: Fingerprint | None) -> list[list[W]]:
        """The lanes in the order they will run if nothing else arrives: `first`, then by head."""
        lanes = [list(lane.values()) for lane in self._lanes.values()]
        lanes.sort(key=lambda lane: (lane[0].fingerprint != first, _age(lane[0])))
        return lanes

    def ahead_of(self, job: JobId, first: Fingerprint | None) -> int:
        """How many calls run before this one, as things stand."""
        own = self._where[job]
        age = _age(next(iter(self._lanes[own].values())))
        ahead = sum(
            len(lane)
            for fingerprint, lane in self._lanes.items()
            if own not in (fingerprint, first)
            and (fingerprint == first or _age(next(iter(lane.values()))) < age)
        )
        return ahead + next(i for i, each in enumerate(self._lanes[own]) if each == job)


def _age(head: Waiting) -> tuple[float, JobId]:
    """What lanes are ordered by, as `foreman.scheduling` orders them."""
    return head.arrived, head.job
