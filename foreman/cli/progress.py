"""A bar on standard error while something long goes on; nothing where that is no terminal."""

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def counted(items: Iterable[T], doing: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar when there may be more than one of them."""
    if total == 1 or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    shown = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=shown, transient=True) as progress:
        yield from progress.track(items, total=total, description=doing)


class Task:
    """One long piece of work; without a terminal nothing of it is shown."""

    def tell(self, text: str) -> None:
        """What is being done now."""

    def report(self, done: int, total: int) -> None:
        """How far it is."""

    def rest(self) -> None:
        """Called all the time while nothing can be counted."""


@contextmanager
def task(doing: str) -> Generator[Task]:
    """A bar that ends with the block."""
    if not sys.stderr.isatty():
        yield Task()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    class Shown(Task):
        def tell(self, text: str) -> None:
            progress.update(bar, description=text, total=None)

        def report(self, done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(doing, total=None)
        yield Shown()
