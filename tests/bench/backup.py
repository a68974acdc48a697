"""The nightly backup of a large database, and what those notice who submit jobs meanwhile."""

import time
from collections.abc import Sequence
from pathlib import Path

from foreman.care import backup
from foreman.database import open_writer
from foreman.jobs import Fingerprint, JobClass, JobIds
from foreman.tables import NewJob, Transaction, submit_each
from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import daemon, fast_target, run_client

BODY = b'{"model":"held","stream":false,"messages":[{"role":"user","content":"%s"}]}'
BODY_SIZE = 8_000  # bytes
RATE = 100  # submissions a second, on four connections
TOGETHER = 1000  # jobs in one transaction of the seed
QUIET_SECONDS = 45.0  # a round without a backup: before it, and after it
SETTLING_SECONDS = 15.0  # of a daemon that has just begun on a file of this size; not counted
LONGEST = 600.0  # seconds that a backup may take


def measure(bench: Bench) -> list[Figure]:
    """POST /jobs at a steady rate, during a backup and without one, before and after it."""
    folder = bench.directory / "backup"
    seed(folder, bench.effort.backup_bytes)
    (folder / "backups").mkdir(mode=0o700)
    (folder / "backups" / backup.name(time.time_ns() // 1000)).touch()  # so that none is due
    (folder / "foreman.checked").write_text(str(time.time_ns() // 1000))  # nor the weekly check
    quiet, busy, seconds = list[float](), list[float](), list[float]()
    with (
        fast_target(bench.cores.others) as target,
        daemon(
            folder,
            target,
            bench.cores.daemon,
            program="tests.bench.hasty_daemon",
            max_queue=10_000_000,
        ) as server,
    ):
        server.wait("/readyz")
        _quiet(bench, server.port, SETTLING_SECONDS)
        quiet += _quiet(bench, server.port, QUIET_SECONDS)
        for _ in range(bench.effort.backup_rounds):
            for old in _made(folder):
                old.unlink()
            began = time.perf_counter()
            busy += _until_made(bench, server.port, folder / "backups")
            seconds.append(time.perf_counter() - began)
            quiet += _quiet(bench, server.port, QUIET_SECONDS)
    size = (folder / "foreman.db").stat().st_size / 1e6
    before, during = (quantile(taken, 0.99) * 1000 for taken in (quiet, busy))
    how = f"{size:,.0f} MB, {RATE} POST /jobs a second, {len(quiet)} without and {len(busy)} with"
    middle = f"p50 {quantile(quiet, 0.5) * 1000:.3g} and {quantile(busy, 0.5) * 1000:.3g} ms"
    worst = f"slowest {max(quiet) * 1000:.0f} and {max(busy) * 1000:.0f} ms"
    return [
        Figure("backup_seconds", "a backup, checked", quantile(seconds, 0.5), "s", how),
        Figure("backup_quiet_p99", "POST /jobs, p99, no backup", before, "ms", how),
        Figure("backup_p99", "... during a backup", during, "ms", f"{middle}; {worst}"),
        Figure("backup_ratio", "... so many times as long", during / before, "x", how, at_most(2)),
    ]


def seed(folder: Path, size: int) -> None:
    """A database of about this many bytes, all of it jobs that wait."""
    folder.mkdir(parents=True, mode=0o700)
    ids, now = JobIds(), time.time_ns() // 1000
    body = BODY % (b"x" * BODY_SIZE)
    fingerprint = Fingerprint("held:latest")

    def some() -> Sequence[NewJob]:
        return [
            NewJob(ids.new(), JobClass.BATCH, "/api/chat", "held", fingerprint, body)
            for _ in range(TOGETHER)
        ]

    with open_writer(folder, now=now, ballast=4096) as database:
        database.connection.execute("PRAGMA synchronous = 0")
        for _ in range(max(1, size // (BODY_SIZE + 1800) // TOGETHER)):
            database.connection.execute("BEGIN")
            submit_each(Transaction(database.connection, now, database.epoch), some())
            database.connection.execute("COMMIT")
        database.close()


def _quiet(bench: Bench, port: int, seconds: float) -> list[float]:
    return _steady(bench, port, seconds * bench.effort.backup_share, None)


def _until_made(bench: Bench, port: int, folder: Path) -> list[float]:
    return _steady(bench, port, LONGEST, str(folder))


def _steady(bench: Bench, port: int, seconds: float, until: str | None) -> list[float]:
    """Seconds of each submission."""
    taken: list[float] = run_client(
        "steady",
        bench.cores.others,
        program="job_client",
        port=port,
        rate=RATE,
        seconds=seconds,
        until=until,
    )
    return taken


def _made(folder: Path) -> list[Path]:
    return list((folder / "backups").glob("*.db"))
