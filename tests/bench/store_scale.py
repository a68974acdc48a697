"""The store with a long queue: what a million waiting jobs cost at a decision and at a start.

Functions for the benchmark to call; run as a program it prints its figures:
`python -m tests.bench.store_scale [JOBS]`.
"""

import os
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, time_ns

import msgspec

from foreman.commit import Committer
from foreman.database import Database, open_writer
from foreman.disk import DataDir
from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.tables import NewJob, Transaction, claim, lane_heads, start, submit

MODELS = 8
BATCH = 10_000  # jobs a transaction while filling


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds, medians where something was done often."""

    jobs: int
    bytes: int
    submits_a_second: float
    lane_heads_ms: float
    decide_and_claim_ms: float  # lane heads, and the claim on disk
    clean_start_ms: float
    crash_start_ms: float  # with the checks, but nothing to recover
    recover_10k_ms: float  # as crash_start, with 10,000 jobs to requeue


def measure(directory: Path, jobs: int) -> Figures:
    """Fill a new store in `directory` and take every figure."""
    rate = fill(directory, jobs)
    with open_writer(directory, now=now(), ballast=4096) as database:
        heads = median_ms(lambda: lane_heads(database.connection, now()), 200)
        decisions = median_ms(lambda: decide_and_claim(database), 200)
        database.close()
    size = DataDir(directory).database.stat().st_size
    clean, crashed = start_ms(directory, dirty=False), start_ms(directory, dirty=True)
    leave_running(directory, min(jobs // 2, 10_000))
    recovery = start_ms(directory, dirty=True)
    return Figures(jobs, size, rate, heads, decisions, clean, crashed, recovery)


def fill(directory: Path, jobs: int) -> float:
    """Submit batch jobs over MODELS lanes; jobs a second."""
    began = perf_counter()
    with open_writer(directory, now=now(), ballast=4096) as database:
        for first in range(0, jobs, BATCH):
            database.connection.execute("BEGIN IMMEDIATE")
            tx = Transaction(database.connection, now(), database.epoch)
            for number in range(first, min(first + BATCH, jobs)):
                submit(tx, new_job(number))
            database.connection.execute("COMMIT")
        database.close()
    return jobs / (perf_counter() - began)


def new_job(number: int) -> NewJob:
    """A batch job with a body as a short chat has it."""
    model = f"model{number % MODELS}:latest"
    return NewJob(
        JobId(f"{number:026d}"),
        JobClass.BATCH,
        "/api/chat",
        model,
        Fingerprint(model),
        request=b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 200 + b'"}]}',
    )


def decide_and_claim(database: Database) -> None:
    """What the worker pays between two batch jobs, the choice among the heads left out."""
    head = min(lane_heads(database.connection, now()), key=lambda each: each.arrived_at)
    done = Committer(database, 0).commit([lambda tx: claim(tx, head.ref, resident=True)], now())
    done.answers[0].unwrap()


def leave_running(directory: Path, jobs: int) -> None:
    """Die, as it were, with this many jobs in `working`."""
    with open_writer(directory, now=now(), ballast=4096) as database:
        database.connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(database.connection, now(), database.epoch)
        for _ in range(jobs // MODELS):
            for head in lane_heads(database.connection, tx.now):
                start(tx, claim(tx, head.ref, resident=True), load_s=None)
        database.connection.execute("COMMIT")


def start_ms(directory: Path, *, dirty: bool) -> float:
    """How long opening takes, after a clean stop or after a crash."""
    with sqlite3.connect(DataDir(directory).database) as connection:
        connection.execute("UPDATE store SET dirty = ?", (dirty,))
    connection.close()
    began = perf_counter()
    with open_writer(directory, now=now(), ballast=4096) as database:
        took = perf_counter() - began
        database.close()
    return took * 1000


def median_ms(do: Callable[[], object], times: int) -> float:
    """The median of `times` calls."""
    taken: list[float] = []
    for _ in range(times):
        began = perf_counter()
        do()
        taken.append(perf_counter() - began)
    return statistics.median(taken) * 1000


def now() -> int:
    """Microseconds since the epoch."""
    return time_ns() // 1000


def main() -> None:
    """Print the figures as JSON."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        figures = measure(Path(directory) / "data", jobs)
    print(msgspec.json.encode(asdict(figures)).decode())


if __name__ == "__main__":
    main()
