"""The weekly look at every page and every row, while the daemon serves."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from foreman import snapshot
from foreman.audit import check_files, examine
from foreman.database import open_reader
from foreman.disk import DataDir
from foreman.errors import StoreRefused
from foreman.rows import Microseconds
from foreman.snapshot import Pace

EVERY: Microseconds = 7 * 86_400_000_000
PATIENCE: Microseconds = 86_400_000_000  # that it waits for a quiet moment
SHARE = 0.2  # of the time; the rest is for whoever has something to do


def is_due(last: Microseconds | None, now: Microseconds, *, idle: bool) -> bool:
    """Whether to look now, the last time having been `last`, if there was one."""
    if last is None or last > now:  # the clock was set back
        return idle
    return now - last >= (EVERY if idle else EVERY + PATIENCE)


def last_done(directory: DataDir) -> Microseconds | None:
    """When the whole was last looked at."""
    with suppress(OSError, ValueError):
        return int(_note(directory).read_text())
    return None


def last_event(directory: DataDir) -> int:
    """The number of the last event; -1 where it cannot be read."""
    try:
        with closing(open_reader(directory.database)) as connection:
            [(seq,)] = connection.execute("SELECT seq FROM store").fetchall()
            return int(seq)
    except (StoreRefused, sqlite3.Error):
        return -1


def run(directory: DataDir, now: Microseconds, stopped: Callable[[], bool]) -> list[str]:
    """All that is wrong, in words. Raises Stopped, and OSError where that cannot be noted down."""
    rest = Pace(SHARE, stopped)
    try:
        with closing(open_reader(directory.database)) as connection:
            with snapshot.resting(connection, rest):
                connection.execute("BEGIN")  # one moment for all of it
                found = list(examine(connection, pause=rest))
                connection.rollback()
            found += check_files(connection, directory.artifacts, rest)
    except (StoreRefused, sqlite3.Error) as error:
        found = [str(error)]
    _note(directory).write_text(f"{now}\n")
    return found


def _note(directory: DataDir) -> Path:
    return directory.path / "foreman.checked"
