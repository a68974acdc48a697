"""Checks of the database: SQLite itself, the files, what must hold of the rows, the backups."""

import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from foreman.audit import check, check_files, integrity, quick_check
from foreman.care import backup
from foreman.disk import read_mark
from foreman.doctor.context import Context, size
from foreman.doctor.findings import Fine, Kind, Outcome, Severity, Unseen
from foreman.errors import StoreRefused
from foreman.schema import APPLICATION_ID, MINIMUM_SQLITE, USER_VERSION
from foreman.units import format_size

WAL_RESET_FIXED = (3, 51, 3)
MOST = 10  # findings of a kind that are told one by one
LARGE_WAL = 64 << 20  # bytes; the daemon gives back what is above that
DAY = 86400.0
OLD = 2 * DAY  # one a day is made; one may be missed

SQLITE_TOO_OLD = Kind(
    "sqlite-too-old",
    Severity.PROBLEM,
    "SQLite is {version}; foreman needs {oldest}",
    "The daemon refuses to start.",
    "Use a Python that brings a newer SQLite: python -c 'import sqlite3; "
    "print(sqlite3.sqlite_version)'",
)
SQLITE_WAL_RESET = Kind(
    "sqlite-wal-reset",
    Severity.NOTE,
    "SQLite is {version}; before {fixed}, two connections that write could damage a database",
    "It does not strike foreman, which has one connection that writes; it could strike if you "
    "write to foreman.db with another program.",
    "Nothing; only open foreman.db with mode=ro while the daemon runs",
)
DATABASE_MISSING = Kind(
    "database-missing",
    Severity.PROBLEM,
    "{path} is missing, but there was a database here",
    "The daemon refuses to start rather than to start empty.",
    "Put it back, or: foreman restore latest; to start empty on purpose, remove {mark}",
)
DATABASE_REFUSED = Kind(
    "database-refused",
    Severity.PROBLEM,
    "{refusal}",
    "The daemon refuses to start with it, and changes nothing.",
    "foreman recover saves what can be saved, from it and the newest backup",
)
DATABASE_DAMAGED = Kind(
    "database-damaged",
    Severity.PROBLEM,
    "SQLite finds the file damaged: {damage}",
    "Jobs may be lost or come out wrong, and it may get worse with each write.",
    "Stop the daemon, look at the disk (smartctl -a), then: foreman recover",
)
ROWS_DAMAGED = Kind(
    "rows-damaged",
    Severity.PROBLEM,
    "{damage}",
    "Something changed what foreman wrote: a failing disk or memory, or another program.",
    "Stop the daemon, look at the disk (smartctl -a), then: foreman recover; until then the other "
    "jobs are served, and damaged ones set aside",
)
FILES_DAMAGED = Kind(
    "result-files-damaged",
    Severity.PROBLEM,
    "{damage}",
    "Who fetches that result gets an error, or other bytes than the target sent.",
    "Put the file back from a backup of the folder, or submit the job again",
)
WAL_LARGE = Kind(
    "wal-large",
    Severity.WARNING,
    "{path} has grown to {size}",
    "Something keeps a read open, so that the log cannot be worked in: reads become slow, the "
    "disk fills.",
    "Find who has it open with: fuser -v {path}",
)
MARK_AHEAD = Kind(
    "events-lost",
    Severity.PROBLEM,
    "the database ends at event {seq}, but event {mark} was announced",
    "It is an older copy, or its -wal was removed: jobs that were accepted are gone. The daemon "
    "refuses to start.",
    "Put the right files back; to accept the loss: foreman restore {path}",
)
UNCLEAN_END = Kind(
    "unclean-end",
    Severity.NOTE,
    "the daemon did not end in good order: a crash, a kill, or a power cut",
    "Nothing that was accepted is lost; the next start checks the database and queues again "
    "what ran.",
    "Nothing; its last log lines tell why: journalctl -u foreman",
)
NO_BACKUP = Kind(
    "no-backup",
    Severity.WARNING,
    "there is no backup of the database in {path}",
    "A disk that fails takes all jobs and results with it.",
    "foreman backup; a daemon that runs makes one each day at FOREMAN_BACKUP_AT",
)
OLD_BACKUP = Kind(
    "old-backup",
    Severity.WARNING,
    "the newest backup, {path}, is {age} days old",
    "All that came after it would be lost with the disk.",
    "foreman backup; the daemon's log tells why it makes none",
)
BACKUP_BESIDE = Kind(
    "backup-on-same-disk",
    Severity.NOTE,
    "backups go to {path}, on the disk of the database itself",
    "They help against mistakes and damaged rows, not against a disk that fails.",
    "Set FOREMAN_BACKUP_DIR to a folder on another disk",
)


def sqlite(context: Context) -> Iterator[Outcome]:
    """Is SQLite new enough?"""
    version = context.machine.sqlite
    text = _dotted(version)
    if version < MINIMUM_SQLITE:
        yield SQLITE_TOO_OLD(version=text, oldest=_dotted(MINIMUM_SQLITE))
    elif version < WAL_RESET_FIXED:
        yield SQLITE_WAL_RESET(version=text, fixed=_dotted(WAL_RESET_FIXED))
    yield Fine(f"SQLite {text}")


def database(context: Context) -> Iterator[Outcome]:
    """Are the files there, ours, and of one piece?"""
    directory = context.directory
    promised = read_mark(directory.mark)
    if not directory.database.exists() and promised is not None:
        yield DATABASE_MISSING(path=directory.database, mark=directory.mark)
        return
    opened = context.opened
    if isinstance(opened, StoreRefused):
        yield DATABASE_REFUSED(refusal=opened)
        return
    if reason := _foreign(context):
        yield DATABASE_REFUSED(refusal=f"{directory.database} {reason}")
        return
    totals = context.totals
    if (promised or 0) > totals.seq:
        yield MARK_AHEAD(seq=totals.seq, mark=promised, path=directory.database)
    if totals.dirty and context.holder is None:
        yield UNCLEAN_END()
    if size(directory.wal) > LARGE_WAL:
        yield WAL_LARGE(path=directory.wal, size=format_size(size(directory.wal) >> 20 << 20))
    yield Fine(f"{directory.database}: {context.count('SELECT count(*) FROM jobs')} jobs")


def contents(context: Context) -> Iterator[Outcome]:
    """Is every row, page and file what was written?"""
    connection = context.database
    files = context.directory.path / "artifacts"
    with _one_view(connection):
        if context.quick:
            found = [each for each in quick_check(connection) if each != "ok"]
            yield from _told(DATABASE_DAMAGED, found)
            yield from _told(ROWS_DAMAGED, check(connection))
            yield Unseen("rows and files that the newest events do not speak of (--quick)")
            return
        yield from _told(DATABASE_DAMAGED, integrity(connection))
        yield from _told(ROWS_DAMAGED, check(connection, None))
        yield from _told(FILES_DAMAGED, check_files(connection, files))
    yield Fine("every row, page and file is what was written")


def backups(context: Context) -> Iterator[Outcome]:
    """Is there a backup of today, where it helps?"""
    if not context.count("SELECT count(*) FROM jobs"):
        yield Fine("there is nothing to lose yet")
        return
    folder = context.settings.backup_dir or context.directory.backups
    found = backup.backups(folder)
    if not found:
        yield NO_BACKUP(path=folder)
        return
    age = context.machine.wall() - found[0].made_at.timestamp()
    if age > OLD:
        yield OLD_BACKUP(path=found[0].path, age=int(age // DAY))
    if folder.stat().st_dev == context.directory.database.stat().st_dev:
        yield BACKUP_BESIDE(path=folder)
    yield Fine(f"{found[0].path} is {max(age, 0) / 3600:.0f} hours old")


def _foreign(context: Context) -> str | None:
    """Why this is no database of ours."""
    application = context.count("PRAGMA application_id")
    version = context.count("PRAGMA user_version")
    if application != APPLICATION_ID:
        return f"belongs to another program (application id {application:#x})"
    if version > USER_VERSION:
        return f"was written by a newer foreman (schema {version}, this one knows {USER_VERSION})"
    return None


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Generator[None]:
    """All that is read in the block is of the same commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def _told(kind: Kind, texts: Iterable[str]) -> Iterator[Outcome]:
    remaining = iter(texts)
    for text in islice(remaining, MOST):
        yield kind(damage=text)
    if more := sum(1 for _ in remaining):
        yield kind(damage=f"{more} more findings like these")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
