"""What the commands print: tables for people, aligned columns for pipes, errors on stderr."""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import typer

from foreman.cli.exits import Exit, status_of
from foreman.errors import ForemanError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NARROWEST = 20  # columns for what stands last in a row, on a terminal too narrow for the rest

_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")
_CONTROL_IN_PROSE = {code: mark for code, mark in _CONTROL.items() if chr(code) not in "\n\t"}


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
def exit_status(interrupted: str = "interrupted") -> Generator[None]:
    """Turn our errors into a line on standard error and the documented exit status.

    `interrupted` is what Ctrl-C says: what goes on without us, and how to come back to it.
    """
    try:
        yield
    except ForemanError as error:
        say(f"foreman: {error}")
        raise typer.Exit(status_of(error)) from None
    except (KeyboardInterrupt, typer.Abort) as end:
        # At a question, typer has one error for Ctrl-C, for the end of the input, and for a no.
        if not isinstance(end.__context__ or end, KeyboardInterrupt):
            say("foreman: nothing was done")
            raise typer.Exit(Exit.REFUSED) from None
        say(f"\nforeman: {interrupted}")
        raise typer.Exit(Exit.INTERRUPTED) from None


def say(text: str) -> None:
    """A message for people: standard error, so that the output stays clean."""
    typer.echo(prose(text), err=True)


def prose(text: str) -> str:
    """Lines of text without what would steer a terminal: models and clients choose what it says."""
    return text.translate(_CONTROL_IN_PROSE)


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


def grid(table: Table) -> "RichTable":
    """The same for rich: ids stay whole, what stands last is folded."""
    from rich.table import Table as RichTable
    from rich.text import Text

    *fixed, last = table.headings or ("",) * len(table.rows[0])
    rich = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    rich.show_header = bool(table.headings)
    for heading, width in zip(fixed, _widths(table), strict=False):
        rich.add_column(heading, no_wrap=True, min_width=width)  # an id in two lines is no use
    rich.add_column(last, overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(text, style=style) for text, style in map(_cell, row)))
    return rich


def _render_rich(tables: Sequence[Table]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    terminal_width = console.width
    for number, table in enumerate(tables):
        if number:
            console.print()
        widths = _widths(table)
        console.width = max(terminal_width, sum(widths[:-1]) + 2 * (len(widths) - 1) + NARROWEST)
        console.print(grid(table))
