"""What a job says over time: its end, its output, its events; each survives a lost connection."""

import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

import msgspec

from foreman.cli import connection
from foreman.cli.connection import Daemon, Lost, Refused, Unreachable, decode
from foreman.cli.exits import Ended, Exit
from foreman.cli.outage import Outage
from foreman.cli.views import Event, Job
from foreman.errors import ForemanError
from foreman.jobs import LIVE

STEP = 30.0  # seconds of one long poll
IDLE = 60.0  # seconds of silence after which a stream is asked for anew: its peer may be gone
NEVER = 10**18 - 1  # a number no log reaches: asking for what comes after tells where it ends


def ended(daemon: Daemon, job: str, deadline: float = inf, outage: Outage | None = None) -> bytes:
    """GET /jobs/{id} once the job has ended.

    Raises Ended (TOO_LATE) when it has not by `deadline` (of `time.monotonic`); Unreachable,
    Refused. Who waits for several jobs has one `outage` for all.
    """
    outage = outage or Outage()
    while True:
        step = max(0.0, min(STEP, deadline - time.monotonic()))
        try:
            body = _polled(daemon, job, step)
        except ForemanError as error:
            outage.struck(error)
        else:
            outage.over()
            if decode(body, Job).ended:
                return body
        if time.monotonic() >= deadline:
            raise Ended(Exit.TOO_LATE, f"job {job} has not ended in the time given; it goes on")


def _polled(daemon: Daemon, job: str, step: float) -> bytes:
    asked = {"timeout": f"{step:.3f}"}
    patience = step + connection.PATIENCE
    with daemon.open("GET", f"/jobs/{job}/wait", asked, patience=patience) as answer:
        return answer.read()


def records(
    daemon: Daemon, job: str, start: int, on_attempt: Callable[[], object]
) -> Iterator[bytes]:
    """The records of a job's answer from number `start`, live while it runs.

    A dropped connection is taken up where it broke. `on_attempt` is called when the job is tried
    anew: what came before it is void. Raises Ended (JOB_FAILED), Unreachable, Refused.
    """
    daemon.get(f"/jobs/{job}")  # a job that waits has no output: nothing would come from nobody
    outage, position, attempt = Outage(), start, None
    outage.connected()
    while True:
        asked = {"from": str(position)} | ({"attempt": attempt} if attempt else {})
        try:
            with daemon.open("GET", f"/jobs/{job}/output", asked, patience=IDLE) as answer:
                outage.connected()
                attempt = answer.headers.get("X-Foreman-Attempt")
                for line in answer.lines():
                    outage.over()
                    position += 1
                    yield line
                return
        except Refused as error:
            if error.code == "job_failed":
                raise Ended(Exit.JOB_FAILED, str(error)) from None
            if error.code != "attempt_over":
                outage.struck(error)
                continue
            if position > start:
                on_attempt()
            position, attempt = start, None
        except Unreachable as error:
            outage.struck(error)


def head(daemon: Daemon) -> int | None:
    """The last sequence number of the event log."""
    asked = {"after": str(NEVER), "follow": "0"}
    with daemon.open("GET", "/events", asked) as answer:
        last = [_last_seq(decode(line, dict[str, Any])) for line in answer.lines()]
    return last[-1] if last else None


def events(
    daemon: Daemon,
    job: str | None,
    filters: Mapping[str, str],
    after: int | None,
    warn: Callable[[str], None],
) -> Iterator[tuple[bytes, Event]]:
    """Each event after number `after`, as it came and read; ends with the last one of `job`.

    Resumes by number when the connection drops. `warn` is told when events are missing.
    """
    outage, path = Outage(), f"/jobs/{job}/events" if job else "/events"
    while True:
        asked = dict(filters) | ({} if after is None else {"after": str(after)})
        try:
            with daemon.open("GET", path, asked, patience=IDLE) as answer:
                outage.connected()
                for line in answer.lines():
                    outage.over()
                    if (moved := _moved(line, warn)) is not None:
                        after = moved
                        break
                    event = decode(line, Event)
                    after = event.seq
                    yield line, event
                    if job and event.state not in LIVE:
                        return
                else:
                    if job and decode(daemon.get(f"/jobs/{job}"), Job).ended:
                        return  # its last event is one that the filters leave out
                    raise Lost(f"{daemon.url} has ended the stream")
        except (Refused, Unreachable) as error:
            outage.struck(error)


class _Notice(msgspec.Struct, frozen=True):
    """A line that is no event: where the log is, for a cursor that it cannot serve."""

    type: str
    reason: str = ""
    after: int = 0
    first_seq: int = 0
    last_seq: int = 0


def _moved(line: bytes, warn: Callable[[str], None]) -> int | None:
    """Where to go on instead, if the line says that this stream cannot; None for an event."""
    notice = decode(line, _Notice)
    match notice:
        case _Notice("slow"):
            return notice.last_seq
        case _Notice("resync", "expired"):
            warn(f"events before {notice.first_seq} were deleted; going on from there")
            return max(0, notice.first_seq - 1)
        case _Notice("resync"):
            warn(
                f"the log ends at {notice.last_seq}, before {notice.after}: another database? "
                "Going on from its end"
            )
            return notice.last_seq
        case _:
            return None


def _last_seq(line: dict[str, Any]) -> int | None:
    return line.get("last_seq") if line.get("type") == "resync" else None
