"""What the commands print: tables for people, aligned columns for pipes, errors on stderr."""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import typer

from foreman.cli.connection import Unreachable
from foreman.errors import ConfigError, ForemanError

UNREACHABLE = 3
MISCONFIGURED = 4
FAILED = 1

NARROWEST = 20  # columns for what stands last in a row, on a terminal too narrow for the rest

_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")


class Cell(NamedTuple):
    """Text with a rich style, which only a terminal sees."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; without headings, facts and their names."""

    headings: tuple[str, ...]
    rows: Sequence[Sequence[Cell | str]]


@contextmanager
def exit_status() -> Generator[None]:
    """Turn our errors into a line on standard error and the documented exit status."""
    try:
        yield
    except ForemanError as error:
        typer.echo(f"foreman: {error}", err=True)
        raise typer.Exit(_status(error)) from None


def render(*tables: Table) -> None:
    """Print them, in colour on a terminal."""
    if sys.stdout.isatty():
        _render_rich(tables)
    else:
        typer.echo("\n\n".join("\n".join(_aligned(table)) for table in tables))


def duration(seconds: float) -> str:
    """Two units at most: 0.4s, 12s, 3m05s, 2h10m, 4d03h."""
    whole = int(seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if whole < 60:
        return f"{whole}s"
    for size, unit, small, name in ((3600, "m", 60, "s"), (86400, "h", 3600, "m")):
        if whole < size:
            return f"{whole // small}{unit}{whole % small * 60 // small:02d}{name}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _status(error: ForemanError) -> int:
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return MISCONFIGURED if isinstance(error, ConfigError) else FAILED


def _cell(content: Cell | str) -> Cell:
    """Control characters must not reach a terminal: clients choose model names and labels."""
    cell = content if isinstance(content, Cell) else Cell(content)
    return cell._replace(text=cell.text.translate(_CONTROL))


def _aligned(table: Table) -> Iterator[str]:
    widths = _widths(table)
    for line in _lines(table):
        yield "  ".join(map(str.ljust, line, widths)).rstrip()


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(*_lines(table), strict=True)]


def _lines(table: Table) -> list[tuple[str, ...]]:
    headings = [table.headings] if table.headings else []
    return headings + [tuple(_cell(each).text or "-" for each in row) for row in table.rows]


def _render_rich(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    terminal_width = console.width
    for number, table in enumerate(tables):
        *fixed, last = table.headings or ("",) * len(table.rows[0])
        grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        grid.show_header = bool(table.headings)
        for heading, width in zip(fixed, _widths(table), strict=False):
            grid.add_column(heading, no_wrap=True, min_width=width)  # an id in two lines is no use
        grid.add_column(last, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(text, style=style) for text, style in map(_cell, row)))
        if number:
            console.print()
        needed = sum(_widths(table)[:-1]) + 2 * len(fixed) + NARROWEST
        console.width = max(terminal_width, needed)
        console.print(grid)
