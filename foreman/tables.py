"""The store's tables in one import: values, changes and questions.

What the rows mean is in `foreman.rows`, how they change in `foreman.transitions`, what can be
asked in `foreman.queries`, what a start after a crash does to them in `foreman.recovery`, what
must hold of them in `foreman.audit`.
"""

from foreman.audit import check
from foreman.folding import fold
from foreman.queries import (
    Lane,
    LaneHead,
    events_of,
    get_job,
    get_request,
    get_result,
    lane_counts,
    lane_heads,
    list_jobs,
    queued_total,
)
from foreman.recovery import Recovered, recover
from foreman.rows import (
    Detail,
    Event,
    Failure,
    Idempotency,
    JobRef,
    JobRow,
    Microseconds,
    NewJob,
    Result,
)
from foreman.transitions import Transaction, claim, fail, finish, requeue, start, submit

__all__ = [
    "Detail",
    "Event",
    "Failure",
    "Idempotency",
    "JobRef",
    "JobRow",
    "Lane",
    "LaneHead",
    "Microseconds",
    "NewJob",
    "Recovered",
    "Result",
    "Transaction",
    "check",
    "claim",
    "events_of",
    "fail",
    "finish",
    "fold",
    "get_job",
    "get_request",
    "get_result",
    "lane_counts",
    "lane_heads",
    "list_jobs",
    "queued_total",
    "recover",
    "requeue",
    "start",
    "submit",
]
