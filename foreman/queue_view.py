"""What runs and what waits, as one immutable value for /queue, /metrics and `foreman status`."""

from collections.abc import Sequence

import msgspec

from foreman import names
from foreman.jobs import Fingerprint, JobClass, JobId, State
from foreman.lanes import Waiting
from foreman.queries import Lane
from foreman.rows import Microseconds
from foreman.scheduling import Rule


class RunningJob(msgspec.Struct, frozen=True):
    """The one job that has the slot."""

    id: JobId
    model: str
    fingerprint: str
    job_class: JobClass
    state: State
    seconds: float  # since it was claimed
    rule: Rule | None = None  # by which it was chosen


class WaitingLane(msgspec.Struct, frozen=True):
    """Jobs that wait for the same load, in one class."""

    fingerprint: str
    model: str
    job_class: JobClass
    jobs: int
    oldest_seconds: float


class WaitingCall(msgspec.Struct, frozen=True):
    """One client that waits, and its place: 1 = next."""

    id: JobId
    model: str
    position: int
    seconds: float


class QueueView(msgspec.Struct, frozen=True):
    """A snapshot. `lanes` and `calls` are in the order in which they will run as things stand."""

    running: RunningJob | None
    resident: str | None  # the fingerprint the worker believes is loaded
    lanes: tuple[WaitingLane, ...]
    calls: tuple[WaitingCall, ...]
    loads: int  # since the daemon started
    fcfs_loads: int  # what first come, first served would have cost for the same calls of clients
    target_away: bool


def shown(fingerprint: Fingerprint) -> str:
    """A fingerprint as people write it: without the parts of a name that are the defaults."""
    return str(Fingerprint(names.display(fingerprint.model), fingerprint.runner))


def lanes_of_calls(lanes: Sequence[Sequence[Waiting]], now: float) -> tuple[WaitingLane, ...]:
    """The lanes of the clients that wait; empty ones are left out."""
    return tuple(
        WaitingLane(
            shown(lane[0].fingerprint),
            names.display(lane[0].fingerprint.model),
            JobClass.INTERACTIVE,
            len(lane),
            now - lane[0].arrived,
        )
        for lane in lanes
        if lane
    )


def waiting_calls(lanes: Sequence[Sequence[Waiting]], now: float) -> tuple[WaitingCall, ...]:
    """The clients that wait, lane after lane."""
    calls = [call for lane in lanes for call in lane]
    return tuple(
        WaitingCall(call.job, names.display(call.fingerprint.model), place, now - call.arrived)
        for place, call in enumerate(calls, start=1)
    )


def with_batch(view: QueueView, lanes: Sequence[Lane], now: Microseconds) -> QueueView:
    """The view, with the durable lanes behind the clients': what is loaded first, then by age."""
    waiting = [
        WaitingLane(
            shown(lane.fingerprint),
            names.display(lane.fingerprint.model),
            JobClass.BATCH,
            lane.queued,
            max(0, now - lane.oldest_at) / 1e6,
        )
        for lane in lanes
    ]
    waiting.sort(key=lambda lane: (lane.fingerprint != view.resident, -lane.oldest_seconds))
    return msgspec.structs.replace(view, lanes=(*view.lanes, *waiting))
