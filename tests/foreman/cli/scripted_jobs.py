"""Jobs and queues as the daemon shows them, for tests of what is made of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

JOB = "01JD0A000000000000000000AA"
OTHER = "01JD0A000000000000000000BB"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def job(identifier: str = JOB, **fields: Any) -> dict[str, Any]:
    """GET /jobs/{id}."""
    return {
        "id": identifier,
        "state": "queued",
        "class": "batch",
        "endpoint": "/api/chat",
        "model": "qwen3:8b",
        "fingerprint": "qwen3:8b",
        "attempt": 1,
        "priority": 0,
        "created_at": ago(183_000),
        "labels": {},
        "artifacts": [],
        "error": None,
        "result": None,
        **fields,
    }


def done(identifier: str = JOB, text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    """A job that went well."""
    result = {"message": {"role": "assistant", "content": text}, "done": True}
    times = {"started_at": ago(300), "finished_at": ago(240)}
    return job(identifier, state="done", result=result, **times, **fields)


def failed(identifier: str = JOB, code: str = "gap_timeout") -> dict[str, Any]:
    """A job that did not."""
    return job(identifier, state="failed", error={"code": code, "message": "no sign of life"})


def event(seq: int, state: str, identifier: str = JOB, **fields: Any) -> dict[str, Any]:
    """A line of GET /events."""
    return {
        "seq": seq,
        "n": seq,
        "previous_seq": 0,
        "job": identifier,
        "type": f"job.{state}",
        "state": state,
        "attempt": 1,
        "at": "2026-05-01T06:00:00Z",
        "model": "qwen3:8b",
        "class": "batch",
        "labels": {},
        **fields,
    }
