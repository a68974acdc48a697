"""What an event does to a job: the one place that says it.

The writer and the check after a crash use the same function, so log and rows cannot disagree.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from foreman.encoding import LIVED
from foreman.jobs import FailureCode, Requeue, State
from foreman.rows import Detail, Event, Failure, JobRow, microseconds

_BIRTH: dict[str, Any] = dict(zip(LIVED, JobRow.__struct_defaults__, strict=True))


def follow(row: JobRow, event: Event) -> JobRow:
    """The row after this event."""
    return msgspec.structs.replace(
        row,
        state=event.state,
        epoch=event.epoch,
        version=event.n,
        last_seq=event.seq,
        attempt=event.attempt,
        **_CHANGES[event.state](row, event, event.detail),
    )


def fold(row: JobRow, events: Iterable[Event]) -> JobRow:
    """What these events, the job's whole log, make of the job as it was submitted."""
    job = msgspec.structs.replace(row, **_BIRTH)
    for event in events:
        job = follow(job, event)
    return job


def _queued(row: JobRow, _: Event, detail: Detail) -> dict[str, Any]:
    return {
        "reason": detail.reason.value if detail.reason else None,
        "crashes": row.crashes + (detail.reason is Requeue.RESTART),
        "not_before": microseconds(detail.not_before) if detail.not_before else 0,
        "claimed_at": None,
        "working_at": None,
        "resident": None,
        "load_s": None,
    }


def _loading(_: JobRow, event: Event, detail: Detail) -> dict[str, Any]:
    claimed = {"claimed_at": event.at, "resident": detail.resident}
    return claimed | {"reason": None, "not_before": 0}


def _working(_: JobRow, event: Event, detail: Detail) -> dict[str, Any]:
    return {"working_at": event.at, "load_s": detail.load_s}


def _done(_: JobRow, event: Event, detail: Detail) -> dict[str, Any]:
    return {
        "finished_at": event.at,
        "tokens_in": detail.tokens_in,
        "tokens_out": detail.tokens_out,
        "incomplete": detail.incomplete,
    }


def _failed(row: JobRow, event: Event, detail: Detail) -> dict[str, Any]:
    error = detail.error or Failure(FailureCode.INTERRUPTED, "")
    return {
        "finished_at": event.at,
        "crashes": row.crashes + (error.code is FailureCode.CRASH_LOOP),
        "error_code": error.code.value,
        "error_message": error.message,
    }


_CHANGES: dict[State, Callable[[JobRow, Event, Detail], dict[str, Any]]] = {
    State.QUEUED: _queued,
    State.LOADING: _loading,
    State.WORKING: _working,
    State.DONE: _done,
    State.FAILED: _failed,
}
