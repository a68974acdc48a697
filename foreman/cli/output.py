"""`foreman output`: the answers of jobs, live while they run, whole afterwards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

import typer

from foreman.cli.answers import print_records, words
from foreman.cli.connection import Daemon
from foreman.cli.exits import Ended, Exit
from foreman.cli.following import records
from foreman.cli.progress import counted
from foreman.cli.terminal import say


def show(daemon: Daemon, ids: Sequence[str], start: int, *, as_json: bool) -> None:
    """Print the words of one after the other, or with JSON the records.

    Raises Ended (JOB_FAILED) after the last if one had failed, Unreachable and Refused.
    """

    def print_one(job: str) -> None:
        found = records(daemon, job, start, _anew)
        if as_json:
            _echo(found)
        else:
            print_records(found)

    _each(ids, print_one)


def write(daemon: Daemon, ids: Sequence[str], folder: Path) -> None:
    """Write the words of each to FOLDER/JOB.txt, once they are complete, and print the path.

    Raises as `show`.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write_one(job: str) -> None:
        said = StringIO()
        for record in records(daemon, job, 0, on_attempt=lambda: said.truncate(said.seek(0))):
            said.write(words(record))
        path = folder / f"{Path(job).name}.txt"
        path.write_text(said.getvalue() + "\n", encoding="utf-8")
        typer.echo(path)

    _each(counted(ids, "fetching", len(ids)), write_one)


def _each(ids: Iterable[str], do: Callable[[str], None]) -> None:
    """One that has failed is told of, and does not keep the others from being read."""
    failed = 0
    for job in ids:
        try:
            do(job)
        except Ended as error:
            failed += 1
            say(f"foreman: {job} failed: {error}")
    if failed:
        raise Ended(Exit.JOB_FAILED, f"{failed} failed: there is no answer")


def _anew() -> None:
    say("\nforeman: tried anew; the answer restarts")


def _echo(lines: Iterator[bytes]) -> None:
    for line in lines:
        typer.echo(line)
