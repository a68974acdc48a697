"""What must hold of the rows whatever happened: asked at the start after a crash, and by doctor."""

import logging
import sqlite3
import threading
from collections.abc import Iterator

from foreman.errors import StoreError
from foreman.folding import fold
from foreman.jobs import JobId
from foreman.outbox import messages_of
from foreman.queries import get_job, log_of

log = logging.getLogger("foreman.store")

QUICK_CHECK = 0.7  # seconds of a start after a crash; some 400 MB
NEWEST = 10_000  # events whose jobs are looked at after a crash; the older ones are doctor's


def quick_check(connection: sqlite3.Connection) -> list[str]:
    """SQLite's findings, or just "ok", as far as it gets in QUICK_CHECK seconds.

    SQLite has survived the crash of a process for twenty years; looking for the rest, a failing
    disk, must not keep a large queue waiting.
    """
    alarm = threading.Timer(QUICK_CHECK, connection.interrupt)
    alarm.start()
    try:
        return [text for (text,) in connection.execute("PRAGMA quick_check(10)").fetchall()]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        log.warning(
            "the database is too large for a full check at the start: its newest jobs were checked"
        )
        return ["ok"]
    finally:
        alarm.cancel()
        alarm.join()  # or it would interrupt what comes next


def check(connection: sqlite3.Connection, newest: int | None = NEWEST) -> list[str]:
    """Every violated invariant in words, empty when the store is sound.

    The totals are always compared; row checksums, gap-free logs and fold(events) = row for the jobs
    of the `newest` events, or for all jobs when None.
    """
    return [*_wrong_totals(connection), *_wrong_jobs(connection, newest)]


def _wrong_totals(connection: sqlite3.Connection) -> Iterator[str]:
    for problem, query in _TOTALS.items():
        for row in connection.execute(query).fetchall():
            yield problem.format(*row)


def _wrong_jobs(connection: sqlite3.Connection, newest: int | None) -> Iterator[str]:
    limit = -1 if newest is None else newest
    for (job,) in connection.execute(_NEWEST_JOBS, (limit,)).fetchall():
        yield from _wrong_job(connection, job)


def _wrong_job(connection: sqlite3.Connection, job: JobId) -> Iterator[str]:
    try:
        row = get_job(connection, job)
        events = [] if row is None else log_of(connection, row)
        messages_of(connection, job)
    except StoreError as damage:
        yield str(damage)
        return
    if row is None:
        return
    if [event.n for event in events] != list(range(1, row.version + 1)):
        yield f"the log of job {job} is not 1..{row.version} without gaps"
    elif [event.previous_seq for event in events] != [0, *(event.seq for event in events[:-1])]:
        yield f"the log of job {job} does not link up"
    elif fold(row, events) != row:
        yield f"the row of job {job} is not what its events made of it"


_TOTALS = {
    "lane {} {} counts {} waiting jobs and has {}": """
        WITH counted AS MATERIALIZED (
            SELECT model_key, runner, count(*) AS jobs FROM jobs INDEXED BY jobs_waiting
            WHERE state = 'queued' AND class = 'batch' GROUP BY model_key, runner
        )
        SELECT model_key, runner, queued, ifnull(jobs, 0) FROM lanes
            LEFT JOIN counted USING (model_key, runner) WHERE queued != ifnull(jobs, 0)
        UNION
        SELECT model_key, runner, ifnull(queued, 0), jobs FROM counted
            LEFT JOIN lanes USING (model_key, runner) WHERE jobs != ifnull(queued, 0)""",
    "the store counts {} waiting jobs, its lanes {}": """
        SELECT * FROM (SELECT queued AS total,
            (SELECT ifnull(sum(queued), 0) FROM lanes) AS in_lanes FROM store)
        WHERE total != in_lanes""",
    "the last event is {}, but only {} were given out": """
        SELECT * FROM (SELECT (SELECT max(seq) FROM events) AS last, seq FROM store)
        WHERE last > seq""",
    "webhook {} is for event {}, which does not exist": """
        SELECT outbox.id, outbox.seq FROM outbox LEFT JOIN events USING (seq)
        WHERE events.seq IS NULL""",
    "endpoint {} counts {} waiting webhooks and has {}": """
        SELECT * FROM (SELECT url, pending, (SELECT count(*) FROM outbox
            WHERE endpoint = url AND state = 'pending') AS found FROM endpoints)
        WHERE pending != found""",
}
_NEWEST_JOBS = "SELECT DISTINCT job FROM (SELECT job FROM events ORDER BY seq DESC LIMIT ?)"
