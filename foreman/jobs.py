"""What a job is: its class, its states, which transition may follow which, and the drain key.

Pure values. The rows are in `foreman.tables`, the choice of the next job in `foreman.scheduling`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

import msgspec
from ulid import StrictMonotonicPolicy, ULIDGenerator

JobId = NewType("JobId", str)
"""A ULID: 26 characters, sorts by creation time."""


class JobIds:
    """New ids, each larger than the one before, also when the wall clock (ms) is set back."""

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock = clock
        self._latest = 0
        self._ulids = ULIDGenerator(self._never_back, policy=StrictMonotonicPolicy())

    def new(self) -> JobId:
        return JobId(str(self._ulids.generate()))

    def _never_back(self) -> int:
        self._latest = max(self._latest, self._clock())
        return self._latest


class JobClass(StrEnum):
    """Who waits for the job: a connected client, or nobody."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class State(StrEnum):
    """Where a job stands; see docs/reference/job-states.md."""

    QUEUED = "queued"
    LOADING = "loading"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


LIVE = frozenset({State.QUEUED, State.LOADING, State.WORKING})
TERMINAL = frozenset({State.DONE, State.FAILED})
RUNNING = frozenset({State.LOADING, State.WORKING})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LOADING, State.FAILED}),
    State.LOADING: frozenset({State.WORKING, State.QUEUED, State.FAILED}),
    State.WORKING: frozenset({State.DONE, State.QUEUED, State.FAILED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
}


class Requeue(StrEnum):
    """Why a running job went back to the queue. Only RETRY charges an attempt."""

    RESTART = "restart"  # the daemon died while it ran
    TARGET_LOST = "target_lost"  # unreachable, asleep, or gone before it could answer
    SHUTDOWN = "shutdown"
    RETRY = "retry"  # a 5xx, a truncated or garbled stream


class FailureCode(StrEnum):
    """Why a job is `failed`; the `error.code` of its last event."""

    CANCELLED = "cancelled"  # asked for, or the waiting client hung up
    INTERRUPTED = "interrupted"  # the daemon stopped while a client waited
    TARGET_REFUSED = "target_refused"  # a 4xx: the target's own text is kept
    TARGET_ERROR = "target_error"  # a 5xx or an error line, attempts used up
    TRUNCATED = "truncated"  # the stream ended before the target said it was done
    GARBLED = "garbled"  # what came is not what the route promises
    LOAD_TIMEOUT = "load_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    GAP_TIMEOUT = "gap_timeout"
    JOB_TIMEOUT = "job_timeout"
    OUTPUT_TOO_LARGE = "output_too_large"
    CRASH_LOOP = "crash_loop"  # the daemon died three times while running it
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """The drain key: two jobs with equal fingerprints run on one load of the model.

    `model` is the normalised name (`foreman.names.key`); `runner` is the canonical JSON of those
    runner options the request sets, keys sorted, and of `shift` where it is set. Ollama reloads a
    model when one of them changes, not only when the name does.
    """

    model: str
    runner: str = "{}"

    def __str__(self) -> str:
        return self.model if self.runner == "{}" else f"{self.model} {self.runner}"


RUNNER_OPTIONS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)

_canonical = msgspec.json.Encoder(order="deterministic")


def fingerprint(model_key: str, options: object = None, shift: object = None) -> Fingerprint:
    """The drain key of a request for `model_key` with these `options` and `shift`.

    `options` is whatever the request's JSON held; anything but an object counts as none, because
    the target answers for wrong types, not the queue.
    """
    runner: dict[str, object] = {}
    if isinstance(options, dict):
        runner = {name: options[name] for name in RUNNER_OPTIONS if options.get(name) is not None}
    if shift is not None:
        runner["shift"] = shift
    return Fingerprint(model_key, _canonical.encode(runner).decode() if runner else "{}")
