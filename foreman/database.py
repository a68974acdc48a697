"""Opening the database: refuse what cannot be trusted before anything is written, then claim it.

One process opens it for writing, once (`open_writer`); everyone else reads (`open_reader`) and
cannot checkpoint. SQLite up to 3.51.2 may corrupt a database that two connections checkpoint.
"""

import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from foreman import quarantine
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
from foreman.header import RECOVER, check_version, read_version
from foreman.migrations import create, migrate, unknown
from foreman.recovery import Recovered, recover
from foreman.rows import Microseconds
from foreman.schema import MINIMUM_SQLITE
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
    checkpoints: bool = True

    def reopen(self) -> None:
        """A fresh connection after an I/O error: what the old one believes is worth nothing."""
        self._let_go()
        self.connection = connect_writer(self.directory.database, self.checkpoints)

    def close(self) -> None:
        """End in good order: nothing to check and nothing to replay at the next start."""
        connection = self.connection
        connection.execute("PRAGMA busy_timeout = 0")  # a slow reader must not hold up the stop
        connection.execute("PRAGMA analysis_limit = 400")  # rows of each index, not all of them
        connection.execute("PRAGMA optimize")
        connection.execute("UPDATE store SET dirty = 0")
        if self.checkpoints:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._let_go()

    def _let_go(self) -> None:
        """Close the connection. The last one to be closed copies the log, which may not be ours."""
        with ExitStack() as others:
            if not self.checkpoints:
                with suppress(StoreRefused):
                    others.callback(open_reader(self.directory.database).close)
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the files. Without `close` before, the next start checks and recovers."""
        self._let_go()
        os.close(self.mark.descriptor)
        os.close(self.lock)


def open_writer(
    path: Path, *, now: Microseconds, ballast: int, checkpoints: bool = True
) -> Database:
    """Open, check, migrate and recover the database in this directory, or make one.

    `ballast` bytes are held beside it, to be given up when the disk is full. Without `checkpoints`
    the write-ahead log is never moved into the database: somebody else does that (Litestream).
    Raises StoreRefused, with the file and the reason, for anything that is not certainly ours and
    sound; then nothing was changed. The caller closes the database, as a context manager.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        wanted = ".".join(map(str, MINIMUM_SQLITE))
        raise StoreRefused(path, f"SQLite {sqlite3.sqlite_version} is older than {wanted}")
    directory = DataDir(path)
    try:
        return _open(directory, now, Ballast(directory.ballast, ballast), checkpoints)
    except OSError as error:
        culprit = Path(error.filename or path)
        raise StoreRefused(culprit, f"cannot be used: {error.strerror}") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the driver quotes what is damaged
        raise _unusable(directory.database, error) from error


def _open(directory: DataDir, now: Microseconds, ballast: Ballast, checkpoints: bool) -> Database:
    with ExitStack() as undo:
        prepare(directory)
        lock = hold_lock(directory.lock)
        undo.callback(os.close, lock)
        quarantine.finish(directory)  # a restore that was interrupted
        quarantine.tidy_up(directory)
        if free_bytes(directory.path) < ballast.size:
            ballast.release()  # starting takes a little room too
        promised = read_mark(directory.mark)
        if not directory.database.exists():
            _refuse_missing(directory, promised)
            create(directory.database)
        # Before the first connection: closing the file would drop SQLite's locks on it.
        check_file(directory.database)
        read_version(directory.database)
        logged = _has_log(directory)
        if logged:  # a connection that writes would fold it in, and remove it, as it is closed
            with closing(open_reader(directory.database)) as reader:
                _check_contents(reader, directory, promised or 0)
        connection = connect_writer(directory.database, checkpoints)
        undo.callback(connection.close)
        if not logged:
            _check_contents(connection, directory, promised or 0)
        migrate(connection, directory.backups)
        mark = Mark.open(directory.mark)
        undo.callback(os.close, mark.descriptor)
        epoch, recovered = _claim(connection, now)
        ballast.hold()
        undo.pop_all()
    return Database(directory, connection, epoch, mark, ballast, lock, recovered, checkpoints)


def connect_writer(path: Path, checkpoints: bool = True) -> sqlite3.Connection:
    """The connection that writes."""
    by_itself = {} if checkpoints else {"wal_autocheckpoint": 0}
    return connect(path, "rw", WRITER_PRAGMAS | by_itself)


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
        except (sqlite3.Error, UnicodeDecodeError) as error:  # it quotes what is damaged
            raise _unusable(path, error) from error
        if found != [(value,)]:
            raise StoreRefused(path, f"PRAGMA {name} is {found}, not {value}; network file system?")


def _unusable(path: Path, error: Exception) -> StoreRefused:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return StoreRefused(path, f"cannot be used: {error}" + (f". {RECOVER}" if damaged else ""))


def _has_log(directory: DataDir) -> bool:
    return directory.wal.exists() and directory.wal.stat().st_size > 0


def _refuse_missing(directory: DataDir, promised: int | None) -> None:
    if promised is not None:
        raise StoreRefused(
            directory.database,
            "is missing, but there was a database here. Put it back, or `foreman restore latest`; "
            f"to start empty on purpose, remove {directory.mark}",
        )
    if directory.wal.exists():
        raise StoreRefused(
            directory.wal, "has lost the database it belongs to: put foreman.db back"
        )


def _check_contents(connection: sqlite3.Connection, directory: DataDir, promised: int) -> None:
    path = directory.database
    try:
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        check_version(path, version)
        strangers = unknown(connection)
        [(dirty, seq)] = connection.execute("SELECT dirty, seq FROM store").fetchall()
        problems = _damage(connection) if dirty else []
    except sqlite3.DatabaseError as error:
        raise StoreRefused(path, f"is damaged: {error}. {RECOVER}") from error
    if strangers:
        raise StoreRefused(path, f"has migrations unknown to this version: {', '.join(strangers)}")
    if problems:
        first, *others = problems
        more = f"; {len(others)} more findings like this" if others else ""
        raise StoreRefused(path, f"is damaged: {first}{more}. {RECOVER}")
    if seq < promised:
        raise StoreRefused(
            path,
            f"ends at event {seq}, but event {promised} was announced: it is an older copy, or its "
            f"-wal was removed or damaged. {RECOVER}",
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
