"""What the daemon takes to be there: memory, and time to start, also on a long queue."""

import shutil
import socket
from contextlib import ExitStack
from time import perf_counter, sleep

import msgspec

from tests.bench import store_scale
from tests.bench.answers import request
from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import Server, daemon, fast_target

WAITING = request(
    "/api/chat", b'{"model":"held","messages":[{"role":"user","content":"why is the sky blue?"}]}'
)
SETTLED = 1.0  # seconds after which nothing of a start or an arrival is still under way


def measure(bench: Bench) -> list[Figure]:
    """Memory, starts, and the store with very many jobs."""
    with fast_target(bench.cores.others) as target:
        return [*_memory(bench, target), *_starts(bench, target), *_long_queue(bench, target)]


def _memory(bench: Bench, target: Server) -> list[Figure]:
    clients = bench.effort.waiting_clients
    with daemon(bench.directory / "memory", target) as server, ExitStack() as crowd:
        server.wait("/healthz")
        sleep(SETTLED)
        idle = server.rss
        for _ in range(clients):
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(WAITING)
        _until_waiting(server, clients)
        sleep(SETTLED)
        crowded = server.rss
    how = f"{clients} streamed chats on connections of their own, one of them running"
    return [
        Figure("rss_idle", "memory, idle", idle, "MB", "resident, after /healthz", at_most(70)),
        Figure("rss_waiting", "memory, clients waiting", crowded, "MB", how, at_most(120)),
    ]


def _until_waiting(server: Server, clients: int) -> None:
    waiting = 0
    while waiting < clients - 1:
        waiting = len(msgspec.json.decode(server.get("/queue")[1])["calls"])


def _starts(bench: Bench, target: Server) -> list[Figure]:
    seen = [_start(bench, target, f"start{number}") for number in range(bench.effort.starts)]
    first, ready = (quantile(each, 0.5) for each in zip(*seen, strict=True))
    how = f"process spawned to 200 on {{}}, new data folder, median of {len(seen)}"
    return [
        Figure("start", "start to ready", first, "s", how.format("/"), at_most(0.8)),
        Figure("start_readyz", "start to /readyz", ready, "s", how.format("/readyz")),
    ]


def _start(bench: Bench, target: Server, name: str) -> tuple[float, float]:
    """Seconds from the spawn to a 200 on / and on /readyz."""
    began = perf_counter()
    with daemon(bench.directory / name, target) as server:
        return server.wait("/") - began, server.wait("/readyz") - began


def _long_queue(bench: Bench, target: Server) -> list[Figure]:
    directory, jobs = bench.directory / "long", bench.effort.stored_jobs
    store = store_scale.measure(directory, jobs)
    served, _ = _start(bench, target, directory.name)
    shutil.rmtree(directory)
    queue = f"{jobs:,} batch jobs queued, {store.bytes / 1e9:.2g} GB"
    claim = f"{queue}; lane heads {store.lane_heads_ms:.3f} ms, the rest is the commit"
    opened = f"{queue}; spawned to 200 on /, after a clean stop; the store alone"
    return [
        Figure(
            "claim_long",
            "decision and claim, long queue",
            store.decide_and_claim_ms,
            "ms",
            claim,
            at_most(2),
        ),
        Figure(
            "start_long",
            "start, long queue",
            served,
            "s",
            f"{opened} {store.clean_start_ms:.0f} ms",
            at_most(2),
        ),
        Figure(
            "start_long_crashed",
            "opening the store after a crash",
            store.crash_start_ms / 1000,
            "s",
            f"{queue}; with the integrity checks; +10,000 to requeue {store.recover_10k_ms:.0f} ms",
        ),
    ]
