"""A job's row as the API shows it."""

from typing import Any

from foreman.rows import JobRow, Microseconds, moment


def job_view(row: JobRow) -> dict[str, Any]:
    """The JSON object of GET /jobs/{id}: times in RFC 3339 UTC, seconds as numbers."""
    failed = row.error_code is not None
    return {
        "id": row.id,
        "state": row.state,
        "class": row.job_class,
        "endpoint": row.endpoint,
        "model": row.model,
        "fingerprint": str(row.fingerprint),
        "priority": row.priority,
        "labels": row.labels,
        "attempt": row.attempt,
        "created_at": _time(row.submitted_at),
        "claimed_at": _time(row.claimed_at),
        "started_at": _time(row.working_at),
        "finished_at": _time(row.finished_at),
        "resident": row.resident,
        "load_s": row.load_s,
        "tokens_in": row.tokens_in,
        "tokens_out": row.tokens_out,
        "incomplete": row.incomplete,
        "error": {"code": row.error_code, "message": row.error_message} if failed else None,
    }


def _time(at: Microseconds | None) -> str | None:
    return None if at is None else moment(at).isoformat().replace("+00:00", "Z")
