"""What traces cost a call: two daemons in turn, one of them telling a collector of every call."""

from time import sleep

import psutil  # type: ignore[import-untyped]  # comes without types

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most, quantile
from tests.bench.processes import Server, daemon, fast_target, receiver, run_client

DELIVERED = 1.5  # seconds after which the last spans are delivered, too


def measure(bench: Bench) -> list[Figure]:
    """Latency and CPU of non-streamed chats with traces, as ratios to those without."""
    others, own = bench.cores.others, bench.cores.daemon
    with fast_target(others) as target, receiver(others) as sink:
        wanted = {"traces": f"http://127.0.0.1:{sink.port}"}
        with (
            daemon(bench.directory / "off", target, own) as off,
            daemon(bench.directory / "on", target, own, **wanted) as on,
        ):
            for each in (off, on):
                each.wait("/readyz")
            return _figures(bench, off, on)


def _figures(bench: Bench, off: Server, on: Server) -> list[Figure]:
    before = [_cpu(off), _cpu(on)]
    effort = bench.effort
    without, with_it = run_client(
        "calls",
        bench.cores.others,
        ports=[off.port, on.port],
        rounds=effort.chat_rounds,
        each=effort.chats,
        pause=0.0,
    )
    sleep(DELIVERED)
    spent = [after - first for after, first in zip([_cpu(off), _cpu(on)], before, strict=True)]
    calls = f"{len(with_it)} calls each, {effort.chats} a round, four spans a call"
    figures = [
        _ratio(
            f"traces_p{share * 100:g}",
            f"chat with traces, p{share * 100:g}",
            with_it,
            without,
            share,
            calls,
        )
        for share in (0.5, 0.99)
    ]
    micro = [1e6 * each / len(with_it) for each in spent]
    how = f"{calls}; {micro[1]:.0f} us of CPU a call against {micro[0]:.0f}"
    cpu = Figure("traces_cpu", "... its CPU", _percent(micro[1], micro[0]), "%", how, at_most(5))
    return [*figures, cpu]


def _ratio(
    key: str, what: str, with_it: list[float], without: list[float], share: float, calls: str
) -> Figure:
    one, other = quantile(with_it, share) * 1000, quantile(without, share) * 1000
    how = f"{calls}; {one:.3f} ms against {other:.3f}"
    goal = at_most(5) if share == 0.5 else None
    return Figure(key, what, _percent(one, other), "% more", how, goal)


def _percent(one: float, other: float) -> float:
    return 100 * (one / other - 1)


def _cpu(server: Server) -> float:
    """Seconds of CPU that it has had."""
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)
