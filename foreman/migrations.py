"""Bringing a database to this version's schema, each step whole or not at all."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from foreman import snapshot
from foreman.errors import StoreRefused
from foreman.schema import APPLICATION_ID, MIGRATIONS, Migration

if TYPE_CHECKING:
    from sqlite_utils import Database

SET = "foreman"

RECORD = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
) STRICT;
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
"""  # as sqlite-utils writes it, word for word: it goes on from there


def create(path: Path) -> None:
    """A new, empty database: made under another name, so that it is never seen half made."""
    with snapshot.drafted(path) as draft:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA page_size = 4096")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # can only be chosen now
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _begin(connection)
        finally:
            connection.close()


def _begin(connection: sqlite3.Connection) -> None:
    """Bring an empty database to this version, exactly as `apply` would.

    In plain SQL: sqlite-utils would cost a first start a quarter of its time, and memory for good.
    """
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements(RECORD):
        connection.execute(statement)
    for number, migration in enumerate(MIGRATIONS, start=1):
        _take_step(connection, migration, number)
        record = (SET, migration.name, str(datetime.now(UTC)))
        columns = "migration_set, name, applied_at"
        connection.execute(f"INSERT INTO _sqlite_migrations ({columns}) VALUES (?, ?, ?)", record)
    connection.execute("COMMIT")


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
    # late: a start without anything to migrate does not pay for it
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
    return lambda database: _take_step(database.conn, migration, number)


def _take_step(connection: sqlite3.Connection, migration: Migration, number: int) -> None:
    for statement in statements(migration.script):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {number}")


def statements(script: str) -> Iterator[str]:
    """The script one statement at a time: `executescript` would commit the open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _back_up(connection: sqlite3.Connection, copy: Path) -> None:
    try:
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        with snapshot.drafted(copy) as draft:
            snapshot.copy_into(connection, draft)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefused(copy, f"no copy could be made before the migration: {error}") from error
