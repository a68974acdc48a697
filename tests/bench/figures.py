"""One figure of the benchmark beside its goal, and all of them as a table and as JSON."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound, in the unit of its figure."""

    limit: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        """Whether the value keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:,g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, how, and whether it is good enough; without a goal it only informs."""

    key: str
    what: str
    value: float
    unit: str
    how: str
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """In the table's words."""
        if self.goal is None:
            return ""
        return "met" if self.goal.met(self.value) else "missed"

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """The row of the table."""
        goal = f"{self.goal} {self.unit}".strip() if self.goal else "-"
        value = f"{self.value:,.0f}" if self.value >= 1000 else f"{self.value:.3g}"
        return self.what, goal, f"{value} {self.unit}".strip(), self.verdict, self.how


HEADINGS = ("figure", "goal", "measured", "", "how")


def at_most(limit: float) -> Goal:
    """Smaller is better."""
    return Goal(limit)


def at_least(limit: float) -> Goal:
    """Larger is better."""
    return Goal(limit, at_most=False)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def show(figures: Sequence[Figure]) -> None:
    """Print the table: drawn on a terminal, else tab-separated lines."""
    if not sys.stdout.isatty():
        for cells in (HEADINGS, *(each.cells for each in figures)):
            print("\t".join(cells))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS)
    colours = {"met": "green", "missed": "red"}
    for each in figures:
        table.add_row(*each.cells, style=colours.get(each.verdict))
    Console().print(table)


def write(path: Path, figures: Sequence[Figure], conditions: dict[str, object]) -> None:
    """Write the figures, and under which conditions they were taken, as JSON."""
    rows = [
        {
            "key": each.key,
            "what": each.what,
            "goal": str(each.goal) if each.goal else None,
            "value": each.value,
            "unit": each.unit,
            "met": each.goal.met(each.value) if each.goal else None,
            "how": each.how,
        }
        for each in figures
    ]
    document = msgspec.json.encode({"conditions": conditions, "figures": rows})
    path.write_bytes(msgspec.json.format(document, indent=2) + b"\n")
