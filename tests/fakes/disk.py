"""A connection to a real database on a disk that fails at a chosen statement."""

import sqlite3
from pathlib import Path
from typing import Any

from foreman.database import WRITER_PRAGMAS

MESSAGES = {
    sqlite3.SQLITE_FULL: "database or disk is full",
    sqlite3.SQLITE_IOERR_WRITE: "disk I/O error",
    sqlite3.SQLITE_IOERR_FSYNC: "disk I/O error",
    sqlite3.SQLITE_BUSY: "database is locked",
    sqlite3.SQLITE_CORRUPT: "database disk image is malformed",
}


def failure(code: int) -> sqlite3.OperationalError:
    """The error that Python's module raises for this result code."""
    error = sqlite3.OperationalError(MESSAGES[code])
    error.sqlite_errorcode = code
    return error


class FailingConnection(sqlite3.Connection):
    """Fails its n-th statement from when `fail` was called, rolling back as SQLite does."""

    fired = False
    _left = -1
    _code = 0
    _afterwards = False

    def fail(self, at: int, code: int, *, afterwards: bool = False) -> None:
        """The `at`-th statement gets `code`; `afterwards`: although it was carried out."""
        self.fired = False
        self._left, self._code, self._afterwards = at, code, afterwards

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._left -= 1
        if self._left != 0:
            return super().execute(sql, *values)
        self.fired = True
        if self._afterwards:
            super().execute(sql, *values)
        else:
            self.rollback()
        raise failure(self._code)


def failing_connection(path: Path) -> FailingConnection:
    """Opened as the daemon opens its own."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=FailingConnection
    )
    for name, value in WRITER_PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    assert isinstance(connection, FailingConnection)
    return connection
