"""The request log's tables.

Times are integers, microseconds since 1970: they sort as they should. What nobody knows is NULL.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from foreman.llm.errors import LLMError

VERSION = 1
APPLICATION_ID = 0x666C6C6D  # "fllm"
BUSY_TIMEOUT = 5.0  # seconds; several programs may log into one file

COLUMNS = {
    "id": str,
    "at": int,
    "asked": str,
    "provider": str,
    "model": str,
    "policy": str,
    "tier": str,
    "score": float,
    "streamed": int,
    "outcome": str,
    "success": int,
    "input": int,
    "cache_read": int,
    "cache_write": int,
    "output": int,
    "cost": float,
    "unit": str,
    "reported_cost": float,
    "latency_ms": float,
    "duration_ms": float,
    "status": int,
    "code": str,
    "error": str,
}
STEPS = {
    "request": str,
    "n": int,
    "target": str,
    "called": int,  # 0: it was passed over
    "reason": str,
    "detail": str,
    "duration_ms": float,
}
INDEXES = (["at"], ["model"], ["provider"])

INSERT_REQUEST = f"INSERT OR REPLACE INTO requests VALUES ({', '.join('?' * len(COLUMNS))})"
INSERT_STEP = f"INSERT INTO steps VALUES ({', '.join('?' * len(STEPS))})"
FORGET = (
    "DELETE FROM steps WHERE request IN (SELECT id FROM requests WHERE rowid <= ?)",
    "DELETE FROM requests WHERE rowid <= ?",
)


class LogUnusable(LLMError):
    """There is no log that could be read here; the text says why."""


def create(path: Path) -> sqlite3.Connection:
    """Open the log for writing; make it first when there is none.

    Raises OSError, and sqlite3.Error, also for a file that is another program's.
    """
    import sqlite_utils

    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT)
    try:
        _refuse_foreign(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database = sqlite_utils.Database(connection)
        required = {"id", "at", "asked", "outcome", "streamed", "success"}
        database.table("requests").create(COLUMNS, pk="id", not_null=required, if_not_exists=True)
        database.table("steps").create(STEPS, pk=("request", "n"), if_not_exists=True)
        for index in INDEXES:
            database.table("requests").create_index(index, if_not_exists=True)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Raises LogUnusable."""
    if not path.exists():
        raise LogUnusable(f"{path}: there is no request log here")
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT)
    try:
        _refuse_foreign(connection)
    except sqlite3.Error as error:
        connection.close()
        raise LogUnusable(f"{path}: cannot be read as a request log: {error}") from error
    connection.row_factory = sqlite3.Row
    return connection


def _refuse_foreign(connection: sqlite3.Connection) -> None:
    """Neither another program's database nor one of a version to come."""
    [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    [(owner,)] = connection.execute("PRAGMA application_id").fetchall()
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    if tables and owner != APPLICATION_ID:
        raise sqlite3.DatabaseError("it belongs to another program")
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it was written by a newer foreman (version {version})")
