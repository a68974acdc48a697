"""`foreman recover`: a damaged database, as far as it can be had back.

What is there goes to quarantine as it is. In its place comes the newest backup that is sound, or an
empty database where there is none, with everything that was salvaged. Checked as a whole before it
is put there; the next start then settles what had not ended.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from foreman import quarantine
from foreman.audit import examine
from foreman.care.backup import Backup, newest_good
from foreman.care.rebuild import Account, merge
from foreman.care.restore import UNKNOWN_EVENTS, UNKNOWN_STARTS, copy_database, go_on
from foreman.care.salvage import Tell, salvage
from foreman.database import open_reader
from foreman.disk import DataDir, free_bytes, read_mark
from foreman.errors import StoreRefused
from foreman.header import read_version
from foreman.migrations import create, migrate
from foreman.rows import Microseconds
from foreman.schema import USER_VERSION

SPACE = 5  # times the size of the database: its copies while they are read, and the new one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `quarantine` is where the damaged database lies now."""

    account: Account
    backup: Backup | None
    quarantine: Path | None
    findings: list[str]


def find_damage(directory: DataDir, rest: Callable[[], None] = lambda: None) -> list[str]:
    """What is wrong with the database, empty when it is sound. The caller holds the lock."""
    if not directory.database.exists():
        return [f"{directory.database} is missing"]
    try:
        with closing(open_reader(directory.database)) as connection:
            found = list(examine(connection, pause=rest))
            [(seq,)] = connection.execute("SELECT seq FROM store").fetchall()
            if seq < (promised := read_mark(directory.mark) or 0):
                found.append(f"it ends at event {seq}, but event {promised} was announced")
            return found + _wrong_start(directory.database, connection)
    except (StoreRefused, sqlite3.Error, UnicodeDecodeError) as error:
        return [str(error)]


def _wrong_start(path: Path, connection: sqlite3.Connection) -> list[str]:
    """What a daemon's start finds in the first bytes, which SQLite may have read from the log."""
    try:
        read_version(path)
    except StoreRefused as refused:
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        return [str(refused)] if version <= USER_VERSION else []
    return []


def recover_database(
    directory: DataDir,
    backups: Path,
    *,
    now: Microseconds,
    findings: list[str],
    tell: Tell = lambda text: None,
    rest: Callable[[], None] = lambda: None,
) -> Outcome:
    """Put in place of the database whatever can be had of it. The caller holds the lock.

    A kill at any moment leaves the old one or the new one. Raises StoreRefused or OSError; then
    the old one is untouched.
    """
    _see_to_room(directory)
    with tempfile.TemporaryDirectory(prefix=quarantine.SCRATCH, dir=directory.path) as scratch:
        salvaged = Path(scratch) / "salvaged.db"
        if directory.database.exists():
            salvaged = salvage(directory, Path(scratch), tell)
        else:
            create(salvaged)
        tell("checking the backups")
        backup = next((each for each, _ in newest_good(backups, rest)), None)
        draft = quarantine.draft(directory)
        try:
            account = _make(directory, draft, backup, salvaged, now, tell, rest)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return Outcome(account, backup, quarantine.replace(directory), findings)


def _make(
    directory: DataDir,
    draft: Path,
    backup: Backup | None,
    salvaged: Path,
    now: Microseconds,
    tell: Tell,
    rest: Callable[[], None],
) -> Account:
    if backup is None:
        create(draft)
    else:
        copy_database(backup.path, draft)
    with closing(sqlite3.connect(draft, isolation_level=None)) as into:
        into.execute("PRAGMA synchronous = FULL")
        migrate(into, directory.backups)
        tell("putting it together")
        with closing(open_reader(salvaged)) as found:
            after, epoch = _known(directory, into, found)
            account = merge(into, found, after_seq=after, now=now, rest=rest)
        [(last,)] = into.execute("SELECT seq FROM store").fetchall()
    go_on(draft, last, epoch)
    tell("checking every row")
    with closing(open_reader(draft)) as made:
        if problems := list(examine(made, pause=rest)):
            raise StoreRefused(draft, f"what was put together is not sound: {problems[0]}")
    return account


def _known(
    directory: DataDir, into: sqlite3.Connection, found: sqlite3.Connection
) -> tuple[int, int]:
    """Numbers of an event and of a start that no event and no start can have had."""
    seqs, epochs = [read_mark(directory.mark) or 0], [0]
    for connection in (into, found):
        [(seq, epoch)] = connection.execute(_LAST).fetchall()
        seqs.append(seq or 0)
        epochs.append(epoch or 0)
    return max(seqs) + UNKNOWN_EVENTS, max(epochs) + UNKNOWN_STARTS


def _see_to_room(directory: DataDir) -> None:
    size = 0
    with suppress(FileNotFoundError):
        size = directory.database.stat().st_size
    needed = SPACE * size
    if shutil.disk_usage(directory.path).free < needed or free_bytes(directory.path) < needed:
        raise StoreRefused(
            directory.path, f"needs {needed >> 20} MiB of room for this; nothing was changed"
        )


_LAST = """SELECT max(ifnull((SELECT max(seq) FROM events), 0), (SELECT seq FROM store)),
    max(ifnull((SELECT max(epoch) FROM events), 0), (SELECT epoch FROM store))"""
