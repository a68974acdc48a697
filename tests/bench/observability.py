"""What metrics cost: two daemons in turn, one of which counts nothing. A function for each row."""

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.jobs import CLIENTS, MAX_QUEUE
from tests.bench.processes import Server, daemon, fast_target, run_client

LIMIT = 5.0  # per cent
COUNTING, UNCOUNTED = "actors", "tests.bench.uncounted"


def measure(bench: Bench) -> list[Figure]:
    """Latency and CPU of a chat and the rate of submissions, with metrics and without."""
    core, place = bench.cores.daemon, bench.directory
    with (
        fast_target(bench.cores.others) as target,
        daemon(place / "counting", target, core, COUNTING, max_queue=MAX_QUEUE) as counting,
        daemon(place / "uncounted", target, core, UNCOUNTED, max_queue=MAX_QUEUE) as uncounted,
    ):
        for each in (counting, uncounted):
            each.wait("/readyz")
        figures = [*_chats(bench, target, counting, uncounted), _jobs(bench, counting, uncounted)]
        if not _counts(counting) or _counts(uncounted):
            raise RuntimeError("one of the two has to count, and the other not")
        return figures


def _counts(server: Server) -> bool:
    _, text = server.get("/metrics")
    return b'foreman_http_requests_total{method="POST",route="/api/chat"' in text


def _chats(bench: Bench, target: Server, counting: Server, uncounted: Server) -> list[Figure]:
    effort, before = bench.effort, [counting.cpu, uncounted.cpu]
    # There and back again: whoever comes after the target, or first, has a better time.
    order = [target, counting, uncounted, target, uncounted, counting]
    there_and_back = run_client(
        "calls",
        bench.cores.others,
        ports=[each.port for each in order],
        rounds=max(1, effort.chat_rounds // 2),
        each=effort.chats,
        pause=0.0,
    )
    direct, with_it, without = _joined(there_and_back, order, [target, counting, uncounted])
    calls = f"{len(with_it)} calls each, {effort.chats} a round"
    alone = quantile(direct, 0.5)
    added = [1000 * (quantile(each, 0.5) - alone) for each in (with_it, without)]
    spent = [counting.cpu - before[0], uncounted.cpu - before[1]]
    micro = [1e6 * each / len(with_it) for each in spent]
    return [
        Figure(
            "metrics_chat",
            "metrics, of what a chat is added, p50",
            _percent(*added),
            "% more",
            f"{calls}; {added[0]:.3f} ms against {added[1]:.3f}",
            at_most(LIMIT),
        ),
        Figure(
            "metrics_cpu",
            "... its CPU",
            _percent(*micro),
            "% more",
            f"{calls}; {micro[0]:.0f} us of CPU a call against {micro[1]:.0f}",
            at_most(LIMIT),
        ),
    ]


def _jobs(bench: Bench, counting: Server, uncounted: Server) -> Figure:
    order = [counting, uncounted, uncounted, counting]
    there_and_back = run_client(
        "crowds",
        bench.cores.others,
        program="job_client",
        ports=[each.port for each in order],
        clients=CLIENTS,
        rounds=bench.effort.submit_rounds,
        seconds=bench.effort.submit_seconds,
    )
    rates = _joined(there_and_back, order, [counting, uncounted])
    with_it, without = (quantile(each, 0.5) for each in rates)
    rounds = f"{CLIENTS} keep-alive clients, median of {len(rates[0])} rounds each"
    how = f"{rounds}; {with_it:,.0f} jobs/s against {without:,.0f}"
    less = _percent(without, with_it)
    return Figure("metrics_jobs", "... time of POST /jobs", less, "% more", how, at_most(LIMIT))


def _joined(
    measured: list[list[float]], order: list[Server], servers: list[Server]
) -> list[list[float]]:
    """What was measured in `order`, by server."""
    by_place = list(zip(order, measured, strict=True))
    return [[x for at, found in by_place if at is each for x in found] for each in servers]


def _percent(one: float, other: float) -> float:
    return 100 * (one / other - 1)
