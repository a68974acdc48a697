"""Reading what can still be read of a damaged database, with each row's checksum as the judge.

It is read twice over: table by table, in a copy that SQLite may touch, around whatever it cannot
read; then page by page, for what no tree leads to any more, the end of a damaged write-ahead log
included. What has a wrong checksum is left behind.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from foreman.care.pages import records
from foreman.database import open_reader
from foreman.disk import DataDir
from foreman.encoding import COLUMNS, verified
from foreman.errors import StoreError
from foreman.migrations import apply
from foreman.schema import MIGRATIONS

Row = Sequence[Any]
Keys = Sequence[Any]
Tell = Callable[[str], None]
"""Told what is being done, in words."""

KEYS = {
    "jobs": "id",
    "events": "seq",
    "requests": "job",
    "results": "job",
    "artifacts": "job",
    "outbox": "id",
}
"""The tables whose rows have a checksum, and what their rows are found by."""

UNJUDGED = ("endpoints", "deliveries")  # without checksums: only what holds together with the rest

_INDEXED = {
    "id": (
        "SELECT id FROM jobs",
        "SELECT id FROM jobs INDEXED BY jobs_by_state",
        "SELECT id FROM jobs INDEXED BY jobs_by_class",
        "SELECT id FROM jobs INDEXED BY jobs_by_model",
        "SELECT job FROM events INDEXED BY events_of_job",
        "SELECT job FROM labels INDEXED BY labels_of_job",
        "SELECT job FROM requests",
        "SELECT job FROM results",
    ),
    "message": (
        "SELECT id FROM outbox",
        "SELECT id FROM outbox INDEXED BY outbox_of_event",
        "SELECT id FROM outbox INDEXED BY outbox_by_state",
    ),
}
"""Where else a key is written than in the row itself; read forwards and backwards."""


def salvage(directory: DataDir, scratch: Path, tell: Tell = lambda text: None) -> Path:
    """The rows that are sound, in a database of this version's shape that has nothing else in it.

    `scratch` is an empty folder with room for twice the database. Raises OSError.
    """
    damaged, staged = scratch / "damaged.db", scratch / "salvaged.db"
    shutil.copyfile(directory.database, damaged)
    if directory.wal.exists():
        shutil.copyfile(directory.wal, Path(f"{damaged}-wal"))
    with closing(sqlite3.connect(staged, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = OFF").fetchall()
        target.execute("PRAGMA synchronous = OFF")
        apply(target, MIGRATIONS)
        target.execute("BEGIN")
        tell("reading the tables")
        unreadable = StoreError, sqlite3.Error, UnicodeDecodeError  # not even its schema
        with suppress(*unreadable), closing(open_reader(damaged)) as source:
            _read_tables(source, target)
        tell("reading the pages")
        _read_pages(directory.database, directory.wal, target)
        target.execute("COMMIT")
    return staged


def _read_tables(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    jobs = _keys(source, _INDEXED["id"])
    keys: dict[str, Keys] = dict.fromkeys(KEYS, jobs)
    keys["events"] = range(1, _last_event(source) + 1)
    keys["outbox"] = _keys(source, _INDEXED["message"])
    for table, key in KEYS.items():
        for row in _around_damage(source, f"SELECT * FROM {table} WHERE {key}", keys[table]):
            _keep(target, table, row)
    for table in UNJUDGED:
        for row in _until_damage(source, f"SELECT * FROM {table}"):
            _keep_unjudged(target, table, row)


def _keys(source: sqlite3.Connection, queries: Sequence[str]) -> list[str]:
    """Every key that is still written anywhere."""
    found: set[str] = set()
    for query in queries:
        for order in ("", " ORDER BY 1 DESC"):
            found.update(key for (key,) in _until_damage(source, query + order))
    return sorted(key for key in found if key.isascii())


def _last_event(source: sqlite3.Connection) -> int:
    queries = ("SELECT seq FROM store", "SELECT max(seq) FROM events")
    return max(
        (seq or 0 for query in queries for (seq,) in _until_damage(source, query)), default=0
    )


def _until_damage(source: sqlite3.Connection, query: str) -> Iterator[Row]:
    """The rows before the first that cannot be read."""
    with suppress(sqlite3.Error, UnicodeDecodeError):
        yield from source.execute(query)


def _around_damage(source: sqlite3.Connection, query: str, keys: Keys) -> Iterator[Row]:
    """The rows whose key is in this span, without those that cannot be read."""
    if not keys:
        return
    try:
        rows = source.execute(f"{query} BETWEEN ? AND ?", (keys[0], keys[-1])).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        if len(keys) > 1:
            middle = len(keys) // 2
            yield from _around_damage(source, query, keys[:middle])
            yield from _around_damage(source, query, keys[middle:])
        return
    yield from rows


def _read_pages(database: Path, wal: Path, target: sqlite3.Connection) -> None:
    """Every record in every page; its width says which table it may be of."""
    widths = {table: _width(target, table) for table in KEYS}
    for rowid, values in records(database, wal, set(widths.values())):
        for table, wanted in widths.items():
            if len(values) == wanted:
                if table == "events" and values[0] is None:
                    values[0] = rowid  # it is the rowid, which is not stored twice
                elif table == "jobs" and isinstance(values[_LOAD_S], int):
                    values[_LOAD_S] = float(values[_LOAD_S])  # stored so to be shorter
                _keep(target, table, values)


def _width(target: sqlite3.Connection, table: str) -> int:
    return len(target.execute(f"SELECT * FROM pragma_table_info('{table}')").fetchall())


def _keep(target: sqlite3.Connection, table: str, row: Row) -> None:
    """Stage a row that is what was written. Of two states of a job the later one stays."""
    with suppress(StoreError, TypeError):
        verified(row, table)
        if table == "jobs":
            target.execute(_OUTDATED, (row[0], row[_VERSION]))
        _keep_unjudged(target, table, row)


def _keep_unjudged(target: sqlite3.Connection, table: str, row: Row) -> None:
    with suppress(sqlite3.Error, UnicodeEncodeError, OverflowError):
        marks = ", ".join("?" * len(row))
        target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


_LOAD_S = COLUMNS.index("load_s")
_VERSION = COLUMNS.index("version")
_OUTDATED = "DELETE FROM jobs WHERE id = ? AND version < ?"
