"""What a soak looks at, and when that counts as flat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]  # comes without types

SETTLING = 0.35  # of a run: caches fill, retention begins to delete what the start brought
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment; `at` in seconds since the start, sizes in bytes."""

    at: float
    memory: int
    descriptors: int
    threads: int
    database: int  # with its log
    files: int  # of results, their number


def look(pid: int, data_dir: Path, at: float) -> Sample:
    """The process and its data folder as they are now."""
    process = psutil.Process(pid)
    with process.oneshot():
        return Sample(
            at,
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            sum(each.stat().st_size for each in data_dir.glob("foreman.db*")),
            sum(1 for each in (data_dir / "artifacts").rglob("*") if each.is_file()),
        )


@dataclass(frozen=True, slots=True)
class Quantity:
    """One thing that must stay flat: how much it may grow over a run, as a part and at least."""

    name: str
    of: Callable[[Sample], int]
    share: float
    least: float
    unit: str = ""
    scale: float = 1.0


MB = 1e6
QUANTITIES = (
    Quantity("memory", lambda sample: sample.memory, 0.02, 2 * MB, "MB", MB),
    # Clients come and go all the time: a sample sees some more or fewer of them.
    Quantity("descriptors", lambda sample: sample.descriptors, 0.0, 4),
    Quantity("threads", lambda sample: sample.threads, 0.0, 1),
    Quantity("database", lambda sample: sample.database, 0.05, 1 * MB, "MB", MB),
    Quantity("result files", lambda sample: sample.files, 0.10, 5),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a quantity went after the run had settled: its middle, its trend, and the limit of that.

    `grown` is the trend over the time looked at; it may be negative.
    """

    quantity: Quantity
    middle: float
    grown: float
    allowed: float
    seconds: float

    @property
    def flat(self) -> bool:
        """Whether that is no more than chance explains."""
        return self.grown <= self.allowed

    @property
    def a_day(self) -> float:
        """What it would come to in a day."""
        return self.grown / self.seconds * DAY


def growth(quantity: Quantity, samples: Sequence[Sample]) -> Growth:
    """The trend of the samples after SETTLING. Raises ValueError when those are fewer than two."""
    settled = samples[int(len(samples) * SETTLING) :]
    values = [float(quantity.of(each)) for each in settled]
    if len(settled) < 2:
        raise ValueError(f"{len(samples)} samples show no trend")
    seconds = settled[-1].at - settled[0].at
    middle = median(values)
    allowed = max(quantity.share * middle, quantity.least)
    return Growth(quantity, middle, _slope(settled, values) * seconds, allowed, seconds)


def _slope(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """After Theil and Sen: the median over all pairs, which a few odd samples cannot bend."""
    points = list(zip((each.at for each in samples), values, strict=True))
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 > x1]
    return median(slopes)
