"""What a job is: its class, its states, which transition may follow which, and the drain key.

Pure values. The rows are in `foreman.tables`, the choice of the next job in `foreman.scheduling`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, cast

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
ENDED = frozenset({State.DONE, State.FAILED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LOADING, State.FAILED}),
    State.LOADING: frozenset({State.WORKING, State.QUEUED, State.FAILED}),
    State.WORKING: frozenset({State.DONE, State.QUEUED, State.FAILED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
}


class Requeue(StrEnum):
    """Why a running job went back to the queue. Only RETRY charges an attempt."""

    RESTART = "restart"
    TARGET_LOST = "target_lost"
    SHUTDOWN = "shutdown"
    RETRY = "retry"


class FailureCode(StrEnum):
    """Why a job is `failed`; the `error.code` of its last event."""

    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    TARGET_REFUSED = "target_refused"
    TARGET_ERROR = "target_error"
    TRUNCATED = "truncated"
    GARBLED = "garbled"
    LOAD_TIMEOUT = "load_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    GAP_TIMEOUT = "gap_timeout"
    JOB_TIMEOUT = "job_timeout"
    OUTPUT_TOO_LARGE = "output_too_large"
    CRASH_LOOP = "crash_loop"
    EXPIRED = "expired"
    DAMAGED = "damaged"


MEANINGS: dict[State | Requeue | FailureCode, str] = {
    State.QUEUED: "It waits for its turn.",
    State.LOADING: "It has the slot; its model is being brought in, if it is not there already.",
    State.WORKING: "The target is answering it.",
    State.DONE: "It was answered; `incomplete` if the target never said that it had finished.",
    State.FAILED: "It will not be tried again; the error code says why.",
    Requeue.RESTART: "The daemon died while it ran.",
    Requeue.TARGET_LOST: "The target was unreachable, asleep, or gone before it could answer.",
    Requeue.SHUTDOWN: "The daemon was stopped while it ran.",
    Requeue.RETRY: "The target failed (5xx, a broken or unreadable stream); an attempt is charged.",
    FailureCode.CANCELLED: "Somebody asked for it, or the waiting client hung up.",
    FailureCode.INTERRUPTED: "The daemon stopped while a client waited for it.",
    FailureCode.TARGET_REFUSED: "The target answered 4xx; its own text is kept.",
    FailureCode.TARGET_ERROR: "The target answered 5xx or an error line, and attempts ran out.",
    FailureCode.TRUNCATED: "The stream broke off before the target said it was done.",
    FailureCode.GARBLED: "What came is not what the route promises.",
    FailureCode.LOAD_TIMEOUT: "The model was not in within FOREMAN_LOAD_TIMEOUT.",
    FailureCode.FIRST_BYTE_TIMEOUT: "No first byte came within FOREMAN_FIRST_BYTE_TIMEOUT.",
    FailureCode.GAP_TIMEOUT: "The stream was silent for FOREMAN_GAP_TIMEOUT.",
    FailureCode.JOB_TIMEOUT: "One attempt took longer than FOREMAN_JOB_TIMEOUT.",
    FailureCode.OUTPUT_TOO_LARGE: "The answer exceeds FOREMAN_MAX_OUTPUT.",
    FailureCode.CRASH_LOOP: "The daemon died three times while running it.",
    FailureCode.EXPIRED: "It was not started in the time it was given.",
    FailureCode.DAMAGED: "What was stored of it can no longer be read.",
}
"""One sentence for each, for the reference and for people."""


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


def runner_options(options: object) -> dict[str, object]:
    """Those members of a request's `options` that decide which load it runs on.

    Anything but an object counts as none: the target answers for wrong types, not the queue.
    """
    if not isinstance(options, dict):
        return {}
    given = cast("dict[str, object]", options)
    return {name: given[name] for name in RUNNER_OPTIONS if given.get(name) is not None}


_canonical = msgspec.json.Encoder(order="deterministic")


def fingerprint(model_key: str, options: object = None, shift: object = None) -> Fingerprint:
    """The drain key of a request for `model_key` with these `options` and `shift`."""
    runner = runner_options(options)
    if shift is not None:
        runner["shift"] = shift
    return Fingerprint(model_key, _canonical.encode(runner).decode() if runner else "{}")
