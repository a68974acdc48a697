"""Opening the database: refuse what cannot be trusted before anything is written, then claim it.

One process opens it for writing, once (`open_writer`); everyone else reads (`open_reader`) and
cannot checkpoint. SQLite up to 3.51.2 may corrupt a database that two connections checkpoint.
"""

import os
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from foreman.audit import check, quick_check
from foreman.disk import (
    Ballast,
    DataDir,
    Mark,
    check_file,
    free_bytes,
    hold_lock,
    prepare,
    read_mark,
)
from foreman.errors import StoreRefused
from foreman.migrations import create, migrate, unknown
from foreman.recovery import Recovered, recover
from foreman.rows import Microseconds
from foreman.schema import APPLICATION_ID, MINIMUM_SQLITE, USER_VERSION
from foreman.transitions import Transaction

BUSY_TIMEOUT = 5_000  # ms; only a human's sqlite3 shell ever holds the lock

WRITER_PRAGMAS: dict[str, object] = {
    "synchronous": 2,  # FULL: NORMAL loses acknowledged rows at a power cut
    "busy_timeout": BUSY_TIMEOUT,
    "wal_autocheckpoint": 1000,  # pages; the safety net under the store's own checkpoints
    "journal_size_limit": 64 << 20,  # bytes
    "mmap_size": 0,  # with mmap an I/O error is a SIGBUS
    "cache_size": -16384,  # KiB
    "foreign_keys": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "temp_store": 2,  # memory
    "fullfsync": 1,  # macOS: fsync alone does not reach the platter
}
READER_PRAGMAS: dict[str, object] = {
    "query_only": 1,
    "busy_timeout": BUSY_TIMEOUT,
    "mmap_size": 0,
    "cache_size": -4096,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "temp_store": 2,
}


@dataclass(slots=True)
class Database:
    """The open database of the one writing process, and what its opening found and did."""

    directory: DataDir
    connection: sqlite3.Connection
    epoch: int
    mark: Mark
    ballast: Ballast
    lock: int
    recovered: Recovered

    def reopen(self) -> None:
        """A fresh connection after an I/O error: what the old one believes is worth nothing."""
        self.connection.close()
        self.connection = connect(self.directory.database, "rw", WRITER_PRAGMAS)

    def close(self) -> None:
        """End in good order: nothing to check and nothing to replay at the next start."""
        connection = self.connection
        connection.execute("PRAGMA busy_timeout = 0")  # a slow reader must not hold up the stop
        connection.execute("PRAGMA analysis_limit = 400")  # rows of each index, not all of them
        connection.execute("PRAGMA optimize")
        connection.execute("UPDATE store SET dirty = 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the files. Without `close` before, the next start checks and recovers."""
        self.connection.close()
        os.close(self.mark.descriptor)
        os.close(self.lock)


def open_writer(path: Path, *, now: Microseconds, ballast: int) -> Database:
    """Open, check, migrate and recover the database in this directory, or make one.

    `ballast` bytes are held beside it, to be given up when the disk is full.
    Raises StoreRefused, with the file and the reason, for anything that is not certainly ours and
    sound; then nothing was changed. The caller closes the database, as a context manager.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        wanted = ".".join(map(str, MINIMUM_SQLITE))
        raise StoreRefused(path, f"SQLite {sqlite3.sqlite_version} is older than {wanted}")
    directory = DataDir(path)
    try:
        return _open(directory, now, Ballast(directory.ballast, ballast))
    except OSError as error:
        culprit = Path(error.filename or path)
        raise StoreRefused(culprit, f"cannot be used: {error.strerror}") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the driver quotes what is damaged
        raise StoreRefused(directory.database, f"cannot be used: {error}") from error


def _open(directory: DataDir, now: Microseconds, ballast: Ballast) -> Database:
    with ExitStack() as undo:
        prepare(directory)
        lock = hold_lock(directory.lock)
        undo.callback(os.close, lock)
        if free_bytes(directory.path) < ballast.size:
            ballast.release()  # starting takes a little room too
        promised = read_mark(directory.mark)
        if not directory.database.exists():
            _refuse_missing(directory, promised)
            create(directory.database)
        _check_header(directory.database)
        connection = connect(directory.database, "rw", WRITER_PRAGMAS)
        undo.callback(connection.close)
        _check_contents(connection, directory, promised or 0)
        migrate(connection, directory.path / "backups")
        mark = Mark.open(directory.mark)
        undo.callback(os.close, mark.descriptor)
        epoch, recovered = _claim(connection, now)
        ballast.hold()
        undo.pop_all()
    return Database(directory, connection, epoch, mark, ballast, lock, recovered)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection to this database that can neither write nor checkpoint."""
    return connect(path, "ro", READER_PRAGMAS)


def connect(path: Path, mode: str, pragmas: dict[str, object]) -> sqlite3.Connection:
    """Connect to an existing database and see that every setting took.

    Threads may pass the connection on, but must not share it at the same time.
    """
    uri = f"file:{quote(str(path))}?mode={mode}"
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
    except sqlite3.Error as error:
        raise StoreRefused(path, f"cannot be opened: {error}") from error
    connection.text_factory = _text
    try:
        _set(connection, path, {"journal_mode": "wal"} if mode == "rw" else {})
        _set(connection, path, pragmas)
    except BaseException:
        connection.close()
        raise
    return connection


# A flipped bit may leave no UTF-8. It is the row's checksum that says so, naming the row: an error
# of the driver would take every row of the answer with it, and the actor that asked.
_text = partial(str, encoding="utf-8", errors="surrogateescape")


def _set(connection: sqlite3.Connection, path: Path, pragmas: dict[str, object]) -> None:
    for name, value in pragmas.items():
        try:
            connection.execute(f"PRAGMA {name} = {value}").fetchall()
            found = connection.execute(f"PRAGMA {name}").fetchall()
        except sqlite3.Error as error:
            raise StoreRefused(path, f"cannot be used: {error}") from error
        if found != [(value,)]:
            raise StoreRefused(path, f"PRAGMA {name} is {found}, not {value}; network file system?")


def _refuse_missing(directory: DataDir, promised: int | None) -> None:
    if promised is not None:
        raise StoreRefused(
            directory.database,
            "is missing, but there was a database here. Put it back; to start empty on purpose, "
            f"remove {directory.mark}",
        )
    if directory.wal.exists():
        raise StoreRefused(
            directory.wal, "has lost the database it belongs to: put foreman.db back"
        )


def _check_header(path: Path) -> None:
    """Look at the file before SQLite does: opening a foreign database may already change it.

    Must run before the first connection: closing the file would drop SQLite's locks on it.
    """
    check_file(path)
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        raise StoreRefused(path, "is empty: it was truncated")
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise StoreRefused(path, "is not an SQLite database, or its start is damaged")
    application, version = _number(header, 68), _number(header, 60)
    if application != APPLICATION_ID:
        raise StoreRefused(path, f"belongs to another program (application id {application:#x})")
    _check_version(path, version)


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def _check_version(path: Path, version: int) -> None:
    if version > USER_VERSION:
        raise StoreRefused(
            path,
            f"was written by a newer foreman (schema {version}, this one knows {USER_VERSION})",
        )


def _check_contents(connection: sqlite3.Connection, directory: DataDir, promised: int) -> None:
    path = directory.database
    try:
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        _check_version(path, version)
        strangers = unknown(connection)
        [(dirty, seq)] = connection.execute("SELECT dirty, seq FROM store").fetchall()
        problems = _damage(connection) if dirty else []
    except sqlite3.DatabaseError as error:
        raise StoreRefused(path, f"is damaged: {error}") from error
    if strangers:
        raise StoreRefused(path, f"has migrations unknown to this version: {', '.join(strangers)}")
    if problems:
        first, *others = problems
        raise StoreRefused(path, f"is damaged: {first}; {len(others)} more findings like this")
    if seq < promised:
        raise StoreRefused(
            path,
            f"ends at event {seq}, but event {promised} was announced: it is an older copy, or its "
            f"-wal was removed or damaged. To accept the loss, remove {directory.mark}",
        )


def _damage(connection: sqlite3.Connection) -> list[str]:
    found = quick_check(connection)
    return check(connection) if found == ["ok"] else found


def _claim(connection: sqlite3.Connection, now: Microseconds) -> tuple[int, Recovered]:
    """Begin a new epoch and settle what older ones left, in one commit: all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        query = "UPDATE store SET epoch = epoch + 1, dirty = 1 RETURNING epoch"
        [(epoch,)] = connection.execute(query).fetchall()
        recovered = recover(Transaction(connection, now, epoch))
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return epoch, recovered
