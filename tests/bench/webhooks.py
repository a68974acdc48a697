"""Webhooks: how fast they reach one receiver and several, and what a dead one costs the others."""

from collections.abc import Sequence
from time import perf_counter, sleep

import msgspec

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_least, quantile
from tests.bench.job_client import HELD
from tests.bench.processes import Server, daemon, fast_target, receiver
from tests.bench.receiver import COUNTS, SILENT, Count

ENDPOINTS = 8
DEAD = 4  # endpoints; each holds one of the eight places for as long as an attempt may take
ROUNDS = 3
PATIENCE = 60.0  # seconds for all of them to arrive
LOOK = 0.05  # seconds between two looks


def measure(bench: Bench) -> list[Figure]:
    """Deliveries a second to one endpoint, to several, and to one beside a dead one."""
    core, others, count = bench.cores.daemon, bench.cores.others, bench.effort.deliveries
    with (
        fast_target(others) as target,
        receiver(others) as there,
        daemon(
            bench.directory / "webhooks",
            target,
            core,
            webhook_allow=f"127.0.0.1:{there.port}",
        ) as server,
    ):
        server.wait("/readyz")
        one = _rate(server, there, "one", 1, count)
        several = _rate(server, there, "several", ENDPOINTS, count)
        _submit(server, there, [f"{SILENT}{n}" for n in range(DEAD)], count)
        beside = _rate(server, there, "beside", 1, count)
    how = f"{count:,} jobs, a webhook each, to a receiver on this machine; median of {ROUNDS}"
    dead = f"{count:,} more due at {DEAD} endpoints that never answer; {beside:,.0f}/s"
    return [
        Figure("webhooks_one", "webhooks, one endpoint", one, "/s", how, at_least(300)),
        Figure(
            "webhooks_several",
            f"webhooks, {ENDPOINTS} endpoints",
            several,
            "/s",
            how,
            at_least(300),
        ),
        Figure(
            "webhooks_beside",
            "... of the rate without dead receivers",
            100 * beside / one,
            "%",
            dead,
            at_least(90),
        ),
    ]


def _rate(server: Server, there: Server, name: str, endpoints: int, count: int) -> float:
    """Deliveries a second, from the first to the last of `count`; the median of some rounds."""
    rounds = [[f"/{name}/{turn}/{n}" for n in range(endpoints)] for turn in range(ROUNDS)]
    return quantile([_round(server, there, paths, count) for paths in rounds], 0.5)


def _round(server: Server, there: Server, paths: Sequence[str], count: int) -> float:
    _submit(server, there, paths, count)
    until = perf_counter() + PATIENCE
    while _number(counts := _counts(there, paths)) < count:
        if perf_counter() > until:
            raise TimeoutError(f"{_number(counts)} of {count} webhooks came")
        sleep(LOOK)
    return (count - 1) / (max(each.last for each in counts) - min(each.first for each in counts))


def _number(counts: Sequence[Count]) -> int:
    return sum(each.number for each in counts)


def _counts(there: Server, paths: Sequence[str]) -> list[Count]:
    found = msgspec.json.decode(there.get(COUNTS)[1], type=dict[str, Count])
    return [found[path] for path in paths if path in found]


def _submit(server: Server, there: Server, paths: Sequence[str], count: int) -> None:
    """Jobs that only wait: each has one event, and one webhook of it."""
    lines = [_job(f"http://127.0.0.1:{there.port}{path}") for path in paths]
    body = b"\n".join(lines[number % len(lines)] for number in range(count))
    status, answers = server.post("/jobs/bulk", body)
    if status != 200 or answers.count(b'"status":202') != count:
        raise RuntimeError(f"{status}: {answers[:500]!r}")


def _job(url: str) -> bytes:
    webhook = msgspec.json.encode({"url": url, "events": ["job.queued"]})
    return b'%s,"webhook":%s}' % (HELD[:-1], webhook)
