"""Backups: made beside a daemon at work, checked row by row, kept for a while, found again.

A backup is one SQLite file, `foreman-20260501T033000Z.db`, without a write-ahead log. It has its
name only since it was checked; what was killed on the way there never had it. The files of results
are not in it: they stay where they are.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from foreman import snapshot
from foreman.audit import check, integrity
from foreman.database import open_reader
from foreman.disk import free_bytes, sync_directory
from foreman.errors import BackupFailed, StoreRefused
from foreman.header import read_version
from foreman.rows import Microseconds, moment
from foreman.snapshot import Rest

log = logging.getLogger("foreman.backup")

LATEST = "latest"
DAMAGED = ".damaged"
_NAME = re.compile(r"foreman-(\d{8}T\d{6}Z)\.db")
_NIGHTLY = "foreman-*.db"  # what else lies in their folder is not ours to delete
_STAMP = "%Y%m%dT%H%M%SZ"
_SPACE_EVERY = 256  # rests between two looks at the free space


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was found good when it was made; `size` in bytes."""

    path: Path
    made_at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a database has come: its last event and when that was, its jobs, those not ended."""

    seq: int
    epoch: int
    at: datetime | None
    jobs: int
    live: int


def standing(connection: sqlite3.Connection) -> Standing:
    """Raises sqlite3.DatabaseError where it cannot be read."""
    [(seq, epoch, at, jobs, live)] = connection.execute(_STANDING).fetchall()
    return Standing(seq, epoch, None if at is None else moment(at), jobs, live)


def name(now: Microseconds) -> str:
    """What a backup made now is called."""
    return f"foreman-{moment(now):{_STAMP}}.db"


def made_at(path: Path) -> datetime | None:
    """When the backup of this name was made; None when it is none."""
    match = _NAME.fullmatch(path.name)
    with suppress(ValueError):  # eight digits need not be a day
        return datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC) if match else None
    return None


def backups(folder: Path) -> list[Backup]:
    """The backups in this folder, the newest first."""
    found: list[Backup] = []
    for path in folder.glob(_NIGHTLY):
        at = made_at(path)
        with suppress(FileNotFoundError):  # rotated away meanwhile, or a link to nothing
            if at is not None:
                found.append(Backup(path, at, path.stat().st_size))
    return sorted(found, key=lambda backup: backup.made_at, reverse=True)


def is_due(at: time, newest: datetime | None, now: Microseconds) -> bool:
    """Whether the backup of the last `at` o'clock, by the local clock, is still to be made."""
    here = moment(now).astimezone()
    last = datetime.combine(here.date(), at).astimezone()
    if last > here:
        last = datetime.combine(here.date() - timedelta(days=1), at).astimezone()
    return newest is None or newest < last


def make(
    database: Path,
    copy: Path,
    *,
    keep_free: int,
    rest: Rest = lambda: None,
    check_rest: Rest | None = None,
) -> Backup:
    """Copy the database, while others write it, to `copy`, and check every row of the copy.

    `keep_free` bytes are left free on the disk of the copy. Raises BackupFailed, with what to do;
    then nothing is there under that name. Raises what `rest` raises, with the same result;
    `check_rest` is for the second half, if that is to be different.

    A copy of rows that are damaged in the database itself is kept beside, as `.damaged`: it is no
    backup, but it may be all there is of the rows that are sound.
    """
    rest = _watching(copy.parent, keep_free, rest)
    try:
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        snapshot.remove_drafts(copy.parent, _NIGHTLY)
        with closing(open_reader(database)) as source:
            _see_to_room(source, database, copy.parent, keep_free)
            with snapshot.drafted(copy) as draft:
                _copy(source, draft, rest)
                findings = _checked(draft, check_rest or rest)
                if findings:
                    _keep_damaged(draft, copy)
                    raise BackupFailed(_DAMAGED.format(database, len(findings), findings[0]))
    except BlockingIOError:
        raise BackupFailed(f"{copy}: somebody else is making it right now") from None
    except (OSError, sqlite3.Error, UnicodeDecodeError, StoreRefused) as error:
        raise BackupFailed(f"{copy}: {error}") from error
    return Backup(copy, made_at(copy) or datetime.now(UTC), copy.stat().st_size)


def superseded(found: Iterable[Backup], daily: int, weekly: int) -> list[Backup]:
    """Those to delete, if the last of each of `daily` days and `weekly` weeks is to be kept.

    Days and weeks (from Monday) in UTC, and only those that have a backup.
    """
    newest_first = sorted(found, key=lambda backup: backup.made_at, reverse=True)
    days: dict[object, Backup] = {}
    weeks: dict[object, Backup] = {}
    for backup in newest_first:
        days.setdefault(backup.made_at.date(), backup)
        weeks.setdefault(backup.made_at.isocalendar()[:2], backup)
    kept = {*newest_first[:1], *list(days.values())[:daily], *list(weeks.values())[:weekly]}
    return [backup for backup in newest_first if backup not in kept]


def rotate(folder: Path, daily: int, weekly: int) -> list[Backup]:
    """Delete the backups of this folder that are superseded. Raises OSError."""
    old = superseded(backups(folder), daily, weekly)
    for backup in old:
        backup.path.unlink(missing_ok=True)
    return old


def verify(path: Path, rest: Rest = lambda: None) -> Standing:
    """See that this file is a database of foreman's, of this version or an older one, and sound.

    Raises StoreRefused, with what is wrong.
    """
    read_version(path)
    try:
        with closing(open_reader(path)) as copy, snapshot.resting(copy, rest):
            found = integrity(copy) or check(copy, None)
            if found:
                raise StoreRefused(path, f"is damaged: {found[0]} ({len(found)} findings)")
            return standing(copy)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreRefused(path, f"cannot be read: {error}") from error


def newest_good(folder: Path, rest: Rest = lambda: None) -> Iterator[tuple[Backup, Standing]]:
    """The backups that are still sound, the newest first; the log names those that are not."""
    for backup in backups(folder):
        try:
            yield backup, verify(backup.path, rest)
        except StoreRefused as refused:
            log.warning("not used: %s", refused)


def _copy(source: sqlite3.Connection, draft: Path, rest: Rest) -> None:
    """Raises BackupFailed when rows that were there before and after are not in the copy."""
    with snapshot.resting(source, rest):
        [(seq,)] = source.execute("SELECT seq FROM store").fetchall()
        before = _counts(source, seq)
    snapshot.copy_into(source, draft, rest)
    with snapshot.resting(source, rest):
        after = _counts(source, seq)  # retention may have deleted some meanwhile
    with closing(open_reader(draft)) as copy, snapshot.resting(copy, rest):
        copied = _counts(copy, seq)
    for what, low, found, high in zip(_COUNTED, after, copied, before, strict=True):
        if not low <= found <= high:
            raise BackupFailed(f"{draft}: {found} {what} were copied, of {low} to {high}")


def _counts(connection: sqlite3.Connection, seq: int) -> Sequence[int]:
    """Of the rows up to this event; from then on they can only become fewer."""
    [counts] = connection.execute(_COUNTS, {"seq": seq}).fetchall()
    return tuple(map(int, counts))


def _checked(draft: Path, rest: Rest) -> list[str]:
    """What is wrong with the rows. Raises BackupFailed for a copy that SQLite finds fault with."""
    _forget_cached(draft)
    with closing(open_reader(draft)) as copy, snapshot.resting(copy, rest):
        if problems := integrity(copy):
            raise BackupFailed(f"{draft}: the copy is not sound: {problems[0]}")
        return check(copy, None, rest)


def _forget_cached(path: Path) -> None:
    """So that what is checked is what the disk has, and others keep their part of the cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _keep_damaged(draft: Path, copy: Path) -> None:
    kept = copy.with_name(copy.name + DAMAGED)
    for old in {kept, *copy.parent.glob(_NIGHTLY + DAMAGED)}:
        old.unlink(missing_ok=True)
    os.link(draft, kept)
    sync_directory(copy.parent)


def _see_to_room(source: sqlite3.Connection, database: Path, folder: Path, keep_free: int) -> None:
    [(pages, unused, size)] = source.execute(_SIZES).fetchall()
    needed, free = (pages - unused) * size, free_bytes(folder)
    wal = Path(f"{database}-wal")
    needed += wal.stat().st_size if wal.exists() else 0  # it grows while we read
    if free < needed + keep_free:
        raise BackupFailed(
            f"{folder}: a backup needs {needed >> 20} MiB and FOREMAN_MIN_FREE_DISK beside it, and "
            f"{free >> 20} MiB are free: make room, or put FOREMAN_BACKUP_DIR on another disk"
        )


def _watching(folder: Path, keep_free: int, rest: Rest) -> Rest:
    """The same rest, which now and then sees that the disk does not fill up."""
    rests = 0

    def watch() -> None:
        nonlocal rests
        rests += 1
        if rests % _SPACE_EVERY == 0 and free_bytes(folder) < keep_free:
            raise BackupFailed(f"{folder}: given up: less than FOREMAN_MIN_FREE_DISK is free")
        rest()

    return watch


_DAMAGED = (
    "{}: {} findings, the first: {}. The copy is kept as .damaged and counts as no backup; "
    "`foreman doctor` names all findings, `foreman recover` brings back what a backup still has"
)
_STANDING = """SELECT seq, epoch, (SELECT at FROM events ORDER BY seq DESC LIMIT 1),
    (SELECT count(*) FROM jobs),
    (SELECT count(*) FROM jobs WHERE state IN ('queued', 'loading', 'working')) FROM store"""
_COUNTED = ("events", "jobs")
_COUNTS = """SELECT count(*), count(*) FILTER (WHERE n = 1) FROM events WHERE seq <= :seq"""
_SIZES = "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
