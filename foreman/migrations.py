"""Bringing a database to this version's schema, each step whole or not at all."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foreman.disk import sync_directory
from foreman.errors import StoreRefused
from foreman.schema import APPLICATION_ID, MIGRATIONS, Migration

if TYPE_CHECKING:
    from sqlite_utils import Database

SET = "foreman"


def create(path: Path) -> None:
    """A new, empty database: made under another name, so that it is never seen half made."""
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm"), Path(f"{draft}-journal")):
        leftover.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # can only be chosen now
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        apply(connection, MIGRATIONS)
    finally:
        connection.close()
    _sync(draft)
    draft.rename(path)
    sync_directory(path.parent)


def migrate(
    connection: sqlite3.Connection, backups: Path, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Apply what is new in `migrations`, after a copy of the database was put into `backups`."""
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    if version == len(migrations):
        return
    _back_up(connection, backups / f"before-schema-{len(migrations)}.db")
    apply(connection, migrations)


def apply(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Run the migrations that this database has not seen, one transaction each."""
    # 200 ms that a start without anything to migrate does not pay
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    steps = Migrations(SET)
    for number, migration in enumerate(migrations, start=1):
        steps(name=migration.name)(_step(migration, number))
    steps.apply(Database(connection, execute_plugins=False, recursive_triggers=False, strict=True))


def unknown(connection: sqlite3.Connection) -> list[str]:
    """Names of applied migrations that this version does not have."""
    known = {migration.name for migration in MIGRATIONS}
    query = "SELECT name FROM _sqlite_migrations WHERE migration_set = ?"
    return [name for (name,) in connection.execute(query, (SET,)).fetchall() if name not in known]


def _step(migration: Migration, number: int) -> "Callable[[Database], None]":
    def run(database: "Database") -> None:
        for statement in statements(migration.script):
            database.conn.execute(statement)
        database.conn.execute(f"PRAGMA user_version = {number}")

    return run


def statements(script: str) -> Iterator[str]:
    """The script one statement at a time: `executescript` would commit the open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _back_up(connection: sqlite3.Connection, copy: Path) -> None:
    draft = copy.with_suffix(".new")
    try:
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        draft.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(draft),))
        draft.chmod(0o600)
        _sync(draft)
        draft.rename(copy)
        sync_directory(copy.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefused(copy, f"no copy could be made before the migration: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
