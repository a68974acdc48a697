"""Going back to a backup, with nothing deleted and no event number given out twice.

Whoever followed the log has seen numbers that the copy has never heard of. So the copy goes on
beyond the largest number that was ever promised, and says that everything before it has gaps: any
cursor from before the restore gets `resync`, never another event under a number it knows. Its epoch
goes on in the same way, so what ran in the lost future is nobody's.

Webhooks that were delivered after the backup was made are due once more, under the same ids.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from foreman import quarantine
from foreman.care.backup import Standing, standing, verify
from foreman.database import open_reader
from foreman.disk import DataDir, free_bytes, read_mark
from foreman.errors import StoreRefused
from foreman.header import read_version

UNKNOWN_EVENTS = 1_000_000  # numbers skipped where the database cannot be asked for its last one
UNKNOWN_STARTS = 1_000
PAGES = 1024  # copied between two reports

Report = Callable[[int, int], None]
"""Told how many of how many bytes are done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do. `present` is None where the database there cannot be read."""

    copy: Path
    kept: Standing
    present: Standing | None
    promised: int  # events that were announced, as far as is known

    @property
    def lost_events(self) -> int:
        """How many events, of those that were given out, the copy does not have; at least."""
        return max(0, self.promised - self.kept.seq)

    @property
    def goes_on_after(self) -> int:
        """The first new event has the number after this one."""
        unknown = 0 if self.present else UNKNOWN_EVENTS
        return max(self.promised, self.kept.seq) + 1 + unknown

    @property
    def epoch(self) -> int:
        """The starts so far, those of the lost future included."""
        if self.present is None:
            return self.kept.epoch + UNKNOWN_STARTS
        return max(self.kept.epoch, self.present.epoch)


def plan(directory: DataDir, copy: Path, rest: Callable[[], None] = lambda: None) -> Plan:
    """Check the copy, and compare it with what is there. The caller holds the lock.

    Raises StoreRefused when the copy is not sound.
    """
    kept = verify(copy, rest)
    present = _present(directory.database)
    promised = max(read_mark(directory.mark) or 0, present.seq if present else 0)
    return Plan(copy, kept, present, promised)


def carry_out(
    directory: DataDir, plan: Plan, report: Report = lambda done, total: None
) -> Path | None:
    """Put a copy of the copy in the database's place; where the old one is now, if there was one.

    A kill at any moment leaves the old database or the new one. The caller holds the lock. Raises
    StoreRefused or OSError; then the old one is untouched.
    """
    size = plan.copy.stat().st_size
    if free_bytes(directory.path) < size:
        raise StoreRefused(directory.path, f"has no room for a copy of {size >> 20} MiB")
    draft = quarantine.draft(directory)
    try:
        copy_database(plan.copy, draft, report)
        go_on(draft, plan.goes_on_after, plan.epoch)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return quarantine.replace(directory)


def copy_database(source: Path, draft: Path, report: Report = lambda done, total: None) -> None:
    """Page by page, with what is still in a write-ahead log of its own. Raises StoreRefused."""
    draft.touch(mode=0o600)
    try:
        with closing(open_reader(source)) as old, closing(sqlite3.connect(draft)) as new:
            [(page,)] = old.execute("PRAGMA page_size").fetchall()

            def progress(_: int, left: int, total: int) -> None:
                report((total - left) * page, total * page)

            old.backup(new, pages=PAGES, progress=progress)
    except sqlite3.Error as error:
        raise StoreRefused(source, f"cannot be copied: {error}") from error


def go_on(database: Path, seq: int, epoch: int) -> None:
    """Have the numbers of a database that is not yet in its place go on after these.

    Raises StoreRefused: who writes needs more of a schema than who only reads, as `verify` does.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()  # all of it in one file
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_GO_ON, {"seq": seq, "epoch": epoch})
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreRefused(
            database, f"cannot be written, so nothing was changed: {error}"
        ) from error


def _present(path: Path) -> Standing | None:
    try:
        read_version(path)
        with closing(open_reader(path)) as connection:
            return standing(connection)
    except (StoreRefused, sqlite3.Error, UnicodeDecodeError):
        return None


_GO_ON = """UPDATE store SET seq = max(seq, :seq), pruned_seq = max(seq, :seq),
    epoch = max(epoch, :epoch), dirty = 1"""
