"""What must hold of the database whatever happened, each violation in words.

    check(connection)              after a crash: the totals, and the jobs of the newest events
    check(connection, None)        every row of every table; about a minute for each gigabyte
    integrity(connection)          SQLite's own full check of its pages and indexes
    check_files(connection, path)  the files of results in `DATA_DIR/artifacts`, by their SHA-256
    examine(connection, path)      the last three after one another, as they find it: doctor's

Nothing here writes: a reader will do (`foreman.database.open_reader`). What takes long is called
beside a daemon at work, too, and then rests whenever `pause` does; wrap it in BEGIN and ROLLBACK
there, so that all of it sees the same commit.
"""

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from foreman.artifacts import ArtifactFiles
from foreman.encoding import verified
from foreman.errors import StoreError
from foreman.folding import fold
from foreman.jobs import JobId
from foreman.outbox import messages_of
from foreman.queries import get_job, log_of

log = logging.getLogger("foreman.store")

QUICK_CHECK = 0.7  # seconds of a start after a crash; some 400 MB
NEWEST = 10_000  # events whose jobs are looked at after a crash; the older ones are doctor's
PAGE = 1000  # jobs named in one question
BLOCK = 1 << 20  # bytes of a file read at once

Pause = Callable[[], None]
"""Called between two jobs or blocks; may sleep, or raise to end the check."""


def no_pause() -> None:
    """Do not rest: nobody else is kept waiting."""


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


def check(
    connection: sqlite3.Connection, newest: int | None = NEWEST, pause: Pause = no_pause
) -> list[str]:
    """Every violated invariant in words, empty when the store is sound.

    The totals are always compared; row checksums, gap-free logs and fold(events) = row for the jobs
    of the `newest` events. With None for all jobs, those without events too, and with them their
    requests, results, artifacts and labels; and no row may belong to one that is not there.
    Raises sqlite3.DatabaseError where SQLite itself can no longer read.
    """
    found = list(_wrong_totals(connection))
    if newest is None:
        found += _strays(connection)
        jobs = _all_jobs(connection)
    else:
        jobs = _newest_jobs(connection, newest)
    for job in jobs:
        pause()
        if not job.isascii():  # nor can it be asked for
            found.append(f"the id of job {job!a} is damaged")
            continue
        found += _wrong_job(connection, job)
        if newest is None:
            found += _wrong_beside(connection, job)
    return found


def integrity(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's full check finds, at most 100 findings; empty when all is well."""
    try:
        found = connection.execute("PRAGMA integrity_check").fetchall()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise
        return [f"the database cannot be read: {error}"]
    return [text for (text,) in found if text != "ok"]


def check_files(
    connection: sqlite3.Connection, folder: Path, pause: Pause = no_pause
) -> Iterator[str]:
    """The results kept as files in `folder`: each has to be there, and to be what was written."""
    files = ArtifactFiles(folder)
    query = "SELECT * FROM artifacts WHERE inline = 0 ORDER BY job, name"
    for values in connection.execute(query).fetchall():
        try:
            job, name, attempt, _, size, sha256, *_ = verified(values, "")
        except StoreError:
            continue  # its row is damaged, which `check` tells
        try:
            with files.open(JobId(job), attempt) as file:
                digest, length = hashlib.sha256(), 0
                while block := file.read(BLOCK):
                    pause()
                    digest.update(block)
                    length += len(block)
        except OSError as error:
            yield f"the file of {name} of job {job} cannot be read: {error.strerror}"
            continue
        if (length, digest.digest()) != (size, sha256):
            yield f"the file of {name} of job {job} is damaged: its SHA-256 does not match"


def examine(
    connection: sqlite3.Connection, folder: Path | None = None, pause: Pause = no_pause
) -> Iterator[str]:
    """All that can be found out about a database and, in `folder`, the files of its results.

    Goes on where something cannot be read at all.
    """
    yield from integrity(connection)
    try:
        yield from check(connection, None, pause)
        if folder is not None:
            yield from check_files(connection, folder, pause)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # it quotes what is damaged
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise
        yield f"some of it cannot be read: {error}"


def _wrong_totals(connection: sqlite3.Connection) -> Iterator[str]:
    for problem, query in _TOTALS.items():
        for row in connection.execute(query).fetchall():
            yield problem.format(*row)


def _strays(connection: sqlite3.Connection) -> Iterator[str]:
    found = connection.execute("PRAGMA foreign_key_check").fetchall()
    pairs = [(table, parent) for table, _, parent, _ in found]
    for table, parent in sorted(set(pairs)):
        count = pairs.count((table, parent))
        yield f"{count} rows of {table} belong to no row of {parent}"


def _newest_jobs(connection: sqlite3.Connection, newest: int) -> Iterator[JobId]:
    for (job,) in connection.execute(_NEWEST_JOBS, (newest,)).fetchall():
        yield JobId(job)


def _all_jobs(connection: sqlite3.Connection) -> Iterator[JobId]:
    after = b""  # bytes: of an id that is no text any more, too, the next one is asked for
    while page := connection.execute(_NEXT_JOBS, (after, PAGE)).fetchall():
        for (job,) in page:
            yield JobId(job)
        after = page[-1][0].encode(errors="surrogateescape")


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


def _wrong_beside(connection: sqlite3.Connection, job: JobId) -> Iterator[str]:
    """What only the rows beside a job's own can tell."""
    for table in ("requests", "results", "artifacts"):
        for values in connection.execute(f"SELECT * FROM {table} WHERE job = ?", (job,)).fetchall():
            try:
                verified(values, f"the row of job {job} in {table}")
            except StoreError as damage:
                yield str(damage)
    labels = connection.execute("SELECT name, value FROM labels WHERE job = ?", (job,)).fetchall()
    with suppress(StoreError):  # told already
        row = get_job(connection, job)
        if row is not None and dict(labels) != row.labels:
            yield f"the labels of job {job} are not those of its row"


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
_NEXT_JOBS = """SELECT id FROM jobs WHERE id > CAST(? AS TEXT) AND id < x'' ORDER BY id LIMIT ?"""
