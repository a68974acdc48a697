"""The headline: a trace over four models, through foreman and straight at a target that thrashes.

The embedded target plays a load of 5 s and a call of 1 s, all of it faster by the same factor, as
are the daemon's own waits. Makespans are reported in the trace's seconds, so what foreman adds to
a call counts that factor times over: a handicap.
"""

import random
from dataclasses import dataclass

import msgspec

from foreman.embedded.script import ModelScript, Script
from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_least, at_most
from tests.bench.processes import Server, daemon, embedded, run_client

MODELS = ("amber", "beryl", "coral", "delft")
LOAD, CALL = 5.0, 1.0  # seconds
SEED = 20260101
MEAN_GAP = 0.5  # seconds between staggered arrivals: twice as many as can be served
MAX_WAIT, LINGER = 600.0, 15.0  # the defaults, to be scaled with everything else


@dataclass(frozen=True, slots=True)
class Trace:
    """Which model each call asks for, and when it arrives (seconds)."""

    models: list[str]
    at: list[float]

    @property
    def bound(self) -> float:
        """No order is faster: every model once loaded, every call, nothing idle."""
        return LOAD * len(set(self.models)) + CALL * len(self.models)


@dataclass(frozen=True, slots=True)
class Run:
    """How long the trace took (its own seconds), and how many loads."""

    makespan: float
    loads: int


def measure(bench: Bench) -> list[Figure]:
    """The trace all at once, and the same calls arriving one by one."""
    count, shuffled = bench.effort.trace_calls, random.Random(SEED)
    models = [MODELS[number % len(MODELS)] for number in range(count)]
    shuffled.shuffle(models)
    gaps = [shuffled.expovariate(1 / MEAN_GAP) for _ in models]
    at_once = Trace(models, [0.0] * count)
    staggered = Trace(models, [sum(gaps[:number]) for number in range(count)])
    return [*_at_once(bench, at_once), *_staggered(bench, staggered)]


def _at_once(bench: Bench, trace: Trace) -> list[Figure]:
    without, through = _both(bench, trace, "at-once")
    how = _how(bench, trace, without, through)
    least = len(set(trace.models))
    times = through.makespan / trace.bound
    return [
        Figure("trace_loads", "trace: loads", through.loads, "", how, at_most(least)),
        Figure("trace_bound", "trace: of the lower bound", 100 * times, "%", how, at_most(110)),
        Figure(
            "trace_gain",
            "trace: shorter than without",
            without.makespan / through.makespan,
            "x",
            how,
            at_least(4),
        ),
    ]


def _staggered(bench: Bench, trace: Trace) -> list[Figure]:
    without, through = _both(bench, trace, "staggered")
    how = f"arriving over {trace.at[-1]:.0f} s; {_how(bench, trace, without, through)}"
    share = 100 * through.makespan / trace.bound
    gain = without.makespan / through.makespan
    return [
        Figure("staggered_loads", "staggered trace: loads", through.loads, "", how),
        Figure("staggered_bound", "staggered trace: of the lower bound", share, "%", how),
        Figure("staggered_gain", "staggered trace: shorter than without", gain, "x", how),
    ]


def _how(bench: Bench, trace: Trace, without: Run, through: Run) -> str:
    return (
        f"{len(trace.models)} calls, {len(set(trace.models))} models, load {LOAD:g} s, call"
        f" {CALL:g} s, {1 / bench.effort.time_scale:g} times faster: {through.makespan:.1f} s and"
        f" {through.loads} loads; without {without.makespan:.1f} s and {without.loads}; lower bound"
        f" {trace.bound:.1f} s"
    )


def _both(bench: Bench, trace: Trace, name: str) -> tuple[Run, Run]:
    scale = bench.effort.time_scale
    script = bench.directory / "script.json"
    script.write_bytes(msgspec.json.encode(_script(scale)))
    with embedded(script) as target:
        without = _run(target, target, trace, scale)
    longest, linger = f"{MAX_WAIT * scale}s", f"{LINGER * scale}s"
    with (
        embedded(script) as target,
        daemon(bench.directory / name, target, max_wait=longest, linger=linger) as server,
    ):
        server.wait("/readyz")
        through = _run(server, target, trace, scale)
    return without, through


def _script(scale: float) -> Script:
    models = tuple(
        ModelScript(name=f"{name}:latest", load_seconds=LOAD, first_token_seconds=CALL, tokens=1)
        for name in MODELS
    )
    return Script(models=models, time_scale=scale)


def _run(server: Server, target: Server, trace: Trace, scale: float) -> Run:
    at = [seconds * scale for seconds in trace.at]
    ended = run_client("trace", None, port=server.port, models=trace.models, at=at)
    loads = msgspec.json.decode(target.get("/_embedded/stats")[1])["loads"]
    return Run(max(ended) / scale, loads)
