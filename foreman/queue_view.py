"""What the worker shows of its queue: the value behind /queue, /metrics and `foreman status`."""

import msgspec

from foreman.jobs import JobClass, JobId, State


class RunningJob(msgspec.Struct, frozen=True):
    """The one job that has the slot."""

    id: JobId
    model: str
    fingerprint: str
    job_class: JobClass
    state: State
    seconds: float  # since it was claimed


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
    fcfs_loads: int  # what first come, first served would have cost for the same arrivals
    target_away: bool
