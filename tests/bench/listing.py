"""The list of jobs with very many that have ended: how long the first page takes, by filter."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from foreman import names
from foreman.api.parameters import PAGE
from foreman.database import open_writer
from foreman.disk import DataDir
from foreman.encoding import COLUMNS, checksum, stored
from foreman.jobs import FailureCode, Fingerprint, State
from foreman.rows import JobRow, as_submitted
from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import Server, daemon, fast_target, run_client
from tests.bench.store_scale import new_job, now

FAILED = 100  # every so many-th job has failed
RARE = 10_000  # every so many-th job has the label `rare`
CYCLE = 200  # jobs, after which models, states and common labels repeat
SECOND = 1_000_000  # microseconds
PATHS = {
    "all": "/jobs",
    "state": "/jobs?state=done",
    "rare state": "/jobs?state=failed",
    "empty state": "/jobs?state=working",
    "class": "/jobs?class=batch",
    "empty class": "/jobs?class=interactive",
    "model": "/jobs?model=model3",
    "unknown model": "/jobs?model=nobody",
    "label": "/jobs?label=tenth:3",
    "rare label": "/jobs?label=rare:yes",
    "all four": "/jobs?state=done&class=batch&model=model3&label=tenth:3",
}
DISJOINT = {  # two common things that no job is both of: all of one are looked at
    "state and model": "/jobs?state=failed&model=model3",
    "model and label": "/jobs?model=model3&label=tenth:2",
}


def measure(bench: Bench) -> list[Figure]:
    """The slowest of the first pages."""
    directory, jobs = bench.directory / "listing", bench.effort.finished_jobs
    fill(directory, jobs)
    with (
        fast_target(bench.cores.others) as target,
        daemon(directory, target, bench.cores.daemon) as server,
    ):
        server.wait("/readyz")
        common, disjoint = (_medians(bench, server, paths) for paths in (PATHS, DISJOINT))
    shutil.rmtree(directory)
    how = f"GET /jobs, {PAGE} a page, {jobs:,} jobs have ended; medians of {bench.effort.pages}"
    return [
        Figure(
            "listing", "first page", max(common.values()), "ms", _each(how, common), at_most(20)
        ),
        Figure(
            "listing_none",
            "... where filters exclude each other",
            max(disjoint.values()),
            "ms",
            _each(how, disjoint),
        ),
    ]


def _medians(bench: Bench, server: Server, paths: dict[str, str]) -> dict[str, float]:
    """Milliseconds by filter."""
    taken = run_client(
        "pages",
        bench.cores.others,
        program="job_client",
        port=server.port,
        paths=list(paths.values()),
        times=bench.effort.pages,
    )
    return {name: 1000 * quantile(each, 0.5) for name, each in zip(paths, taken, strict=True)}


def _each(how: str, medians: dict[str, float]) -> str:
    return f"{how}: {', '.join(f'{name} {ms:.1f}' for name, ms in medians.items())}"


def fill(directory: Path, jobs: int) -> None:
    """A store of jobs that have ended, with all that lists of them look at; they have no events."""
    with open_writer(directory, now=now(), ballast=4096) as database:
        database.close()
    with sqlite3.connect(DataDir(directory).database, isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # a crash costs nothing but the benchmark
        connection.execute("PRAGMA cache_size = -262144")  # KiB
        indexes = connection.execute(_INDEXES).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.executemany(_INSERT_JOB, _ended(jobs, now()))
        connection.executemany(_INSERT_LABEL, _labels(jobs))
        for _, index in indexes:  # sorting once is several times faster than keeping in order
            connection.execute(index)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _ended(jobs: int, until: int) -> Iterator[tuple[object, ...]]:
    """Rows of jobs that took a second each, a millisecond apart, the last until now."""
    kinds = [[*stored(_kind(number))] for number in range(CYCLE)]
    rare = [*stored(_kind(0, {"rare": "yes"}))]
    for number in range(jobs):
        values = (kinds[number % CYCLE] if number % RARE else rare).copy()
        at = until - (jobs - number) * 1000 - SECOND
        own = (_id(number), number + 1, at, at, at, at + SECOND)
        for place, value in zip(_OWN, own, strict=True):
            values[place] = value
        yield (*values, checksum(values))


def _kind(number: int, labels: dict[str, str] | None = None) -> JobRow:
    """What the jobs that are this number, modulo CYCLE, have in common."""
    job = new_job(number)
    lane = Fingerprint(names.key(job.model))
    marks = {"tenth": str(number % 10)} | (labels or {})
    failed = number % FAILED == 0
    return msgspec.structs.replace(
        as_submitted(replace(job, fingerprint=lane, labels=marks), 0),
        state=State.FAILED if failed else State.DONE,
        epoch=1,
        version=4,
        error_code=FailureCode.TARGET_ERROR.value if failed else None,
        error_message="the target failed" if failed else None,
    )


def _labels(jobs: int) -> Iterator[tuple[str, str, str]]:
    """In the order of their table, which is kept by it."""
    yield from (("rare", "yes", _id(number)) for number in range(0, jobs, RARE))
    for tenth in range(10):
        yield from (("tenth", str(tenth), _id(number)) for number in range(tenth, jobs, 10))


def _id(number: int) -> str:
    return f"{number:026d}"


_CHANGING = ("id", "last_seq", "submitted_at", "claimed_at", "working_at", "finished_at")
_OWN = [COLUMNS.index(name) for name in _CHANGING]
_INDEXES = """SELECT name, sql FROM sqlite_schema
    WHERE type = 'index' AND tbl_name IN ('jobs', 'labels') AND sql IS NOT NULL"""
_INSERT_JOB = f"INSERT INTO jobs VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
_INSERT_LABEL = "INSERT INTO labels VALUES (?, ?, ?)"
