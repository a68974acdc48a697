"""The store's tables in one import: values, changes and questions.

What the rows mean is in `foreman.rows`, how they change in `foreman.transitions`, what can be
asked in `foreman.queries`, what a start after a crash does to them in `foreman.recovery`, what
must hold of them in `foreman.audit`.
"""

from foreman.audit import check
from foreman.folding import fold
from foreman.queries import (
    DamagedJob,
    Lane,
    LaneHead,
    artifacts_of,
    events_of,
    get_job,
    get_request,
    get_result,
    has_expired,
    jobs_ahead,
    lane_counts,
    lane_heads,
    last_step,
    list_jobs,
    queued_total,
)
from foreman.recovery import Recovered, recover
from foreman.rows import (
    Artifact,
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
from foreman.submitting import Accepted, submit, submit_each, submit_once, submit_running
from foreman.transitions import (
    CANCELLED,
    EXPIRED,
    Transaction,
    cancel,
    claim,
    claim_resident,
    expire,
    fail,
    finish,
    requeue,
    set_aside,
    start,
)

__all__ = [
    "CANCELLED",
    "EXPIRED",
    "Accepted",
    "Artifact",
    "DamagedJob",
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
    "artifacts_of",
    "cancel",
    "check",
    "claim",
    "claim_resident",
    "events_of",
    "expire",
    "fail",
    "finish",
    "fold",
    "get_job",
    "get_request",
    "get_result",
    "has_expired",
    "jobs_ahead",
    "lane_counts",
    "lane_heads",
    "last_step",
    "list_jobs",
    "queued_total",
    "recover",
    "requeue",
    "set_aside",
    "start",
    "submit",
    "submit_each",
    "submit_once",
    "submit_running",
]
