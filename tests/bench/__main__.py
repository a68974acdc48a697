"""`python -m tests.bench`: what foreman costs and gains, measured on this machine.

Calls straight at a target and calls through foreman alternate in rounds of one run.
"""

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from tests.bench import (
    backup,
    footprint,
    headline,
    jobs,
    listing,
    llm,
    observability,
    relay,
    restart,
    subscribers,
    traces,
    webhooks,
)
from tests.bench.effort import FULL, QUICK, Bench
from tests.bench.figures import Figure, show, write
from tests.bench.processes import ROOT, cores

PARTS = {
    "relay": relay.measure,
    "footprint": footprint.measure,
    "headline": headline.measure,
    "jobs": jobs.measure,
    "subscribers": subscribers.measure,
    "webhooks": webhooks.measure,
    "listing": listing.measure,
    "backup": backup.measure,
    "llm": llm.measure,
    "restart": restart.measure,
    "observability": observability.measure,
    "traces": traces.measure,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, show the table, write the JSON."""
    parsed = _parser().parse_args(arguments)
    began = perf_counter()
    parsed.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parsed.work) as directory:
        bench = Bench(QUICK if parsed.quick else FULL, cores(), Path(directory))
        figures = [each for part in parsed.only or PARTS for each in _part(part, bench)]
    show(figures)
    conditions = _conditions(bench, parsed.quick) | {"seconds": perf_counter() - began}
    for name, value in conditions.items():
        print(f"{name}: {value}")
    write(parsed.json, figures, conditions)
    print(f"written to {parsed.json}")


def _part(name: str, bench: Bench) -> list[Figure]:
    print(f"measuring: {name} ...", flush=True)
    return PARTS[name](bench)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run; its figures mean nothing"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="this part (may be repeated)"
    )
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the JSON goes")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build", help="a folder on a real disk, not in memory"
    )
    return parser


def _conditions(bench: Bench, quick: bool) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load average": os.getloadavg()[0],
        "pinned": f"for calls: {bench.cores}",
        "disk": str(bench.directory.parent),
    }


if __name__ == "__main__":
    main()
