"""The schema is what was committed, and each step of it happens whole or not at all."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foreman.migrations import apply, create, migrate, statements
from foreman.schema import MIGRATIONS, USER_VERSION, Migration

GOLDEN = Path(__file__).with_name("schema.sql")
NEXT = Migration(
    "0002_next",
    """
    ALTER TABLE jobs ADD COLUMN colour TEXT;
    CREATE TABLE extra (a INTEGER) STRICT;
    INSERT INTO extra SELECT count(*) FROM jobs;
    CREATE INDEX extra_a ON extra (a);
    """,
)


def schema(connection: sqlite3.Connection) -> str:
    query = "SELECT sql || ';' FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    version = f"PRAGMA user_version = {connection.execute('PRAGMA user_version').fetchone()[0]};\n"
    return version + "\n".join(text for (text,) in connection.execute(query)) + "\n"


class Died(Exception):
    """The process, at this statement."""


class Interrupted(sqlite3.Connection):
    """Fails the n-th statement from now, as a process does that dies there."""

    left = -1

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        self.left -= 1
        if self.left == 0:
            raise Died
        return super().execute(sql, *values)  # type: ignore[arg-type]


def database(path: Path) -> Interrupted:
    return sqlite3.connect(path, isolation_level=None, factory=Interrupted)


def test_a_new_database_has_the_committed_schema(tmp_path: Path) -> None:
    """When this fails, a migration is missing, or schema.sql was not renewed with it."""
    create(tmp_path / "foreman.db")
    assert schema(database(tmp_path / "foreman.db")) == GOLDEN.read_text()


def test_a_new_database_is_the_one_that_sqlite_utils_would_make(tmp_path: Path) -> None:
    create(tmp_path / "plain.db")
    applied = database(tmp_path / "applied.db")
    applied.execute("PRAGMA auto_vacuum = INCREMENTAL")
    apply(applied, MIGRATIONS)
    plain = database(tmp_path / "plain.db")
    for what in (
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rootpage, name",
        "SELECT id, migration_set, name, length(applied_at) FROM _sqlite_migrations",
        "SELECT * FROM store",
        "PRAGMA user_version",
    ):
        assert plain.execute(what).fetchall() == applied.execute(what).fetchall()
    [(at,)] = plain.execute("SELECT DISTINCT applied_at FROM _sqlite_migrations").fetchall()
    assert datetime.now(UTC) - datetime.fromisoformat(at) < timedelta(minutes=5)


def test_statements_are_cut_at_their_semicolons_only() -> None:
    script = "CREATE TABLE t (a TEXT DEFAULT ';');  -- one; comment\nINSERT INTO t\nVALUES ('x');\n"
    assert [text.strip()[:6] for text in statements(script)] == ["CREATE", "INSERT"]


@pytest.mark.parametrize("at", range(1, 40))
def test_a_migration_interrupted_anywhere_is_old_or_new_and_then_completes(
    tmp_path: Path, at: int
) -> None:
    path, wanted = tmp_path / "foreman.db", (*MIGRATIONS, NEXT)
    create(path)
    before = schema(database(path))
    connection = database(path)
    connection.left = at
    try:
        migrate(connection, tmp_path / "backups", wanted)
    except Died:
        connection.close()
        assert schema(database(path)) == before
    else:
        assert at > len(list(statements(NEXT.script)))  # every one of them had its turn
    migrate(database(path), tmp_path / "backups", wanted)
    after = schema(database(path))
    assert after.startswith(f"PRAGMA user_version = {USER_VERSION + 1};")
    assert "extra_a" in after and "colour" in after


def test_the_database_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "foreman.db"
    create(path)
    before = schema(database(path))
    migrate(database(path), tmp_path / "backups", (*MIGRATIONS, NEXT))
    [copy] = (tmp_path / "backups").iterdir()
    assert schema(database(copy)) == before
    assert copy.stat().st_mode & 0o777 == 0o600


def test_nothing_new_means_nothing_is_done(tmp_path: Path) -> None:
    create(tmp_path / "foreman.db")
    migrate(database(tmp_path / "foreman.db"), tmp_path / "backups")
    assert not (tmp_path / "backups").exists()
