"""Durable jobs: how fast they are taken, how soon one works, and the same beside a peer's queue."""

import os
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.bench import peers
from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_least, at_most, quantile
from tests.bench.processes import Server, daemon, fast_target, run_client

CLIENTS = 64
MAX_QUEUE = 10_000_000  # nothing is to be refused
PAGE = b"\0" * 4096


def measure(bench: Bench) -> list[Figure]:
    """Submissions one by one, from many clients and in bulk; submission to `working`; peers."""
    with fast_target(bench.cores.others) as target:
        name, core = bench.directory / "jobs", bench.cores.daemon
        with daemon(name, target, core, max_queue=MAX_QUEUE) as server:
            server.wait("/readyz")
            works = _working(bench, server)
            one, crowd, bulk = _one(bench, server), _crowd(bench, server), _bulk(bench, server)
    return [one, crowd, bulk, *works, *_beside(bench, crowd.value, bulk.value)]


def _one(bench: Bench, server: Server) -> Figure:
    taken = _client(bench, "submits", port=server.port, count=bench.effort.submits)
    p99 = quantile(taken, 0.99) * 1000
    how = f"{len(taken)} on one connection, back to back; p99 {p99:.3f} ms"
    p50 = quantile(taken, 0.5) * 1000
    return Figure("submit_p50", "POST /jobs, p50", p50, "ms", how, at_most(1.5))


def _crowd(bench: Bench, server: Server) -> Figure:
    rates = _client(
        bench,
        "crowd",
        port=server.port,
        clients=CLIENTS,
        rounds=bench.effort.submit_rounds,
        seconds=bench.effort.submit_seconds,
    )
    how = f"{CLIENTS} keep-alive clients, median of {len(rates)} rounds; on disk when answered"
    rate = quantile(rates, 0.5)
    return Figure("submit_rate", "POST /jobs", rate, "jobs/s", how, at_least(1500))


def _bulk(bench: Bench, server: Server) -> Figure:
    jobs, rounds = bench.effort.bulk_jobs, bench.effort.submit_rounds
    rates = _client(bench, "bulk", port=server.port, jobs=jobs, rounds=rounds)
    how = f"{jobs:,} lines in one request, median of {len(rates)}; on disk when answered"
    rate = quantile(rates, 0.5)
    return Figure("bulk_rate", "POST /jobs/bulk", rate, "jobs/s", how, at_least(15_000))


def _working(bench: Bench, server: Server) -> list[Figure]:
    found = _client(bench, "working", port=server.port, jobs=bench.effort.lone_jobs)
    logged, seen = (quantile(found[name], 0.5) * 1000 for name in ("logged", "seen"))
    runs = f"{len(found['seen'])} jobs on a daemon at rest, the model resident"
    by_log = f"{runs}; by the times of the events"
    by_client = f"{runs}; POST sent to the event read on another connection"
    return [
        Figure("working_p50", "submit to working, p50", logged, "ms", by_log, at_most(5)),
        Figure("working_seen_p50", "... as the client sees it", seen, "ms", by_client, at_most(5)),
    ]


def _beside(bench: Bench, crowd: float, bulk: float) -> list[Figure]:
    """What the disk and other queues do, and how many times that foreman does."""
    seconds = bench.effort.submit_seconds
    synced = fsyncs(bench.directory / "fsync", seconds)
    figures = [
        Figure(
            "fsync_rate", "fsync of this disk", synced, "/s", "4 KiB appended, one after another"
        )
    ]
    for name in peers.installed():
        file = str(bench.directory / f"{name}.db")
        rate = run_client(name, bench.cores.daemon, program="peers", file=file, seconds=seconds)
        how = f"{rate:,.0f}/s into its SQLite store, synchronous=FULL, in its own process"
        figures += [
            Figure(f"than_{name}", f"POST /jobs, of {name}'s rate", crowd / rate, "x", how),
            Figure(f"bulk_than_{name}", f"bulk, of {name}'s rate", bulk / rate, "x", how),
        ]
    return figures


def fsyncs(file: Path, seconds: float) -> float:
    """How often a second this disk makes an appended page safe."""
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        began, count = perf_counter(), 0
        while (spent := perf_counter() - began) < seconds:
            os.write(descriptor, PAGE)
            os.fsync(descriptor)
            count += 1
        return count / spent
    finally:
        os.close(descriptor)


def _client(bench: Bench, scenario: str, **arguments: object) -> Any:
    return run_client(scenario, bench.cores.others, program="job_client", **arguments)
