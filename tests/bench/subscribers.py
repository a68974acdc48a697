"""Subscribers to the events: what thousands that hear nothing cost, how soon a thousand hear."""

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import daemon, fast_target, run_client


def measure(bench: Bench) -> list[Figure]:
    """Memory and latency with websockets on one daemon."""
    effort = bench.effort
    with (
        fast_target(bench.cores.others) as target,
        daemon(
            bench.directory / "subscribers",
            target,
            bench.cores.daemon,
            max_subscribers=effort.subscribers,
            max_connections=effort.subscribers + 64,
        ) as server,
    ):
        server.wait("/readyz")
        found = run_client(
            "crowd",
            bench.cores.others,
            program="subscriber_client",
            port=server.port,
            process=server.process.pid,
            listeners=effort.listeners,
            subscribers=effort.subscribers,
            events=effort.events,
        )
    taken = [seconds for event in found["seconds"] for seconds in event]
    p50, p99 = quantile(taken, 0.5) * 1000, quantile(taken, 0.99) * 1000
    told = f"{effort.events} events to {effort.listeners:,} websockets in one process; p50"
    kept = f"proportional set of the daemon, {effort.subscribers:,} websockets open;"
    return [
        Figure(
            "event_p99",
            "event to 1,000 subscribers, p99",
            p99,
            "ms",
            f"{told} {p50:.0f} ms; from sending the submission that causes it",
            at_most(100),
        ),
        Figure(
            "rss_subscribers",
            "memory, idle subscribers",
            found["idle"],
            "MB",
            f"{kept} {found['listening']:.0f} MB with {effort.listeners:,}",
            at_most(300),
        ),
    ]
