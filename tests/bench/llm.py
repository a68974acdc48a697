"""What foreman.llm costs a program: a chain beside a bare httpx call, and its import.

Where litellm is installed, the same call by its library as well.
"""

import os
import subprocess
import sys
from statistics import median
from typing import Any

import msgspec

from tests.bench.effort import Bench
from tests.bench.figures import Figure, at_most
from tests.bench.processes import ROOT, fast_target, run_client

CALLS = 25  # for each round of chats that the effort has
TOGETHER = 20  # streams at a time

OURS = "from foreman.llm import *; import foreman.llm.registry"
LITELLM = "import litellm"
_IMPORT = """
import json, sys, time
began = time.perf_counter()
{statement}
taken = time.perf_counter() - began
print(json.dumps([taken, len({{"anthropic", "openai"}}.intersection(sys.modules))]))
"""

Samples = dict[str, list[float]]


def measure(bench: Bench) -> list[Figure]:
    """Overheads of a call and of an event, the import; the same of litellm where there is one."""
    with fast_target(bench.cores.daemon) as target:

        def client(scenario: str, **arguments: int) -> Samples:
            found: Samples = run_client(
                scenario,
                bench.cores.others,
                program="llm_client",
                port=target.port,
                **arguments,
            )
            return found

        calls = client("calls", count=CALLS * bench.effort.chat_rounds)
        events = client("streams", rounds=3 * bench.effort.paused_rounds, together=TOGETHER)
    imported = _import(OURS, bench.effort.starts)
    figures = _own(calls, events, imported)
    if "litellm" in calls:
        other = _import(LITELLM, bench.effort.starts)
        figures += _beside(calls, events, other[0] / imported[0])
    return figures


def _own(calls: Samples, events: Samples, imported: tuple[float, float]) -> list[Figure]:
    bare, single = 1e6 * median(calls["bare"]), 1e6 * median(events["bare"])
    seconds, vendors = imported
    return [
        Figure(
            "llm_call",
            "foreman.llm: a chain over a bare httpx call",
            _overhead(calls, "chain"),
            "us",
            f"median of {len(calls['chain']):,} whole answers, in turns; bare {bare:.0f} us",
            at_most(150),
        ),
        Figure(
            "llm_event",
            "... for each event of a stream",
            _overhead(events, "chain"),
            "us",
            f"processor time, {TOGETHER} streams at once; bare {single:.1f} us",
            at_most(20),
        ),
        Figure("llm_import", "... its import", 1000 * seconds, "ms", OURS, at_most(150)),
        Figure("llm_vendors", "... vendors' SDKs that come with it", vendors, "", OURS, at_most(0)),
    ]


def _beside(calls: Samples, events: Samples, imports: float) -> list[Figure]:
    """How many times ours litellm's figures are."""
    call = _overhead(calls, "litellm") / _overhead(calls, "chain")
    event = _overhead(events, "litellm") / _overhead(events, "chain")
    return [
        Figure("litellm_call", "litellm's overhead, by ours", call, "x", "acompletion"),
        Figure("litellm_event", "... for each event", event, "x", "acompletion, stream=True"),
        Figure("litellm_import", "litellm's import, by ours", imports, "x", LITELLM),
    ]


def _overhead(samples: Samples, name: str) -> float:
    """Microseconds over the bare call beside it: what slows both down counts for neither."""
    pairs = zip(samples["bare"], samples[name], strict=True)
    return 1e6 * median(took - bare for bare, took in pairs)


def _import(statement: str, times: int) -> tuple[float, float]:
    """Median seconds in new processes, the first of which only warms the disk; vendors' SDKs."""
    found = [_once(statement) for _ in range(times + 1)][1:]
    return median(seconds for seconds, _ in found), max(vendors for _, vendors in found)


def _once(statement: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(statement=statement)],
        cwd=ROOT,
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},  # else it fetches its prices
        capture_output=True,
        check=True,
    )
    found: Any = msgspec.json.decode(done.stdout.splitlines()[-1])
    return found[0], found[1]
